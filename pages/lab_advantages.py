"""Lab 4: TD, Monte-Carlo and GAE on a trajectory to drag, and their bias and variance on a chain with known values."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import advantages_learning, advantages_trajectory, advantages_walk, frame, setting
from pages.components.labs.advantages_questions import questions

FORMULA = r"""
\begin{aligned}
\delta_t&=r_t+\gamma V_{t+1}-V_t\\[2pt]
\hat A_t&=\sum_{l\ge 0}(\gamma\lambda)^l\,\delta_{t+l}=(1-\lambda)\sum_{n\ge 1}\lambda^{n-1}\hat A_t^{(n)}
\end{aligned}
"""


def body() -> None:
    shown = setting.part(
        "gae", {"one": _("A trajectory"), "walk": _("Bias and variance on a random walk"), "learn": _("Learning the values")}
    )
    {"one": advantages_trajectory.draw, "walk": advantages_walk.draw, "learn": advantages_learning.draw}[shown]()


frame.draw(
    frame.Lab(
        page="lab_advantages",
        name="gae",
        title=_("TD, Monte-Carlo, GAE"),
        lead=_("Was that step better than expected? Ask the critic at once, wait for the end, or mix the two with λ."),
        formula=FORMULA,
        reading=_(
            "δ is the critic's surprise at one step. GAE adds up the surprises that follow, each step ahead worth γλ less.  \n"
            "The same number is a weighted mean of all n-step advantages: λ = 0 is TD(0), λ = 1 Monte-Carlo."
        ),
        papers=(
            ("Schulman et al. 2016, eq. 9–16", "https://arxiv.org/abs/1506.02438"),
            ("Sutton & Barto 2018, ch. 6, 7, 12", "http://incompleteideas.net/book/the-book-2nd.html"),
        ),
        code=("advantage_estimation.py", "random_walk.py"),
        real=(
            ("ppo", _("PPO with GAE, TD, n-step or Monte-Carlo")),
            ("reinforce", _("REINFORCE, with a critic or without")),
        ),
        questions=questions,
    ),
    body,
)
