"""Lab: text generation as a Markov decision process."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import frame, text_lab

FORMULA = r"""
\begin{gathered}
s_t=(x,\,y_0\dots y_{t-1}),\qquad a_t=y_t\sim\pi(\cdot\mid s_t),\qquad s_{t+1}=s_t\circ a_t\\[4pt]
r_t=[\,t=T-1\,]\;r(x,y),\qquad G_t=\sum_{l\ge0}\gamma^l\,r_{t+l}=r_t+\gamma\,G_{t+1}
\end{gathered}
"""

frame.draw(
    frame.Lab(
        page="lab_text",
        name="mdp",
        title=_("Text generation as a decision process"),
        lead=_("Writing is a game of one player: each move is a token, and the score comes at the end. Click a token, or press **Play**."),
        formula=FORMULA,
        reading=_(
            "The state is the prompt x and the tokens so far; the action is the next token; the new state is the old one with that token "
            "at its end, with certainty.  \nThe reward r(x, y) comes with the last token. A token is credited with its return G: all that "
            "is paid from it on, later rewards weighed down by γ."
        ),
        papers=(
            ("Ouyang et al. 2022, § 3.5", "https://arxiv.org/abs/2203.02155"),
            ("Sutton & Barto 2018, ch. 3", "http://incompleteideas.net/book/the-book-2nd.html"),
        ),
        code=("text_world.py", "text_generation.py"),
        real=(
            ("model", _("Model: let any model write, and look at every token's alternatives")),
            ("reinforce", _("REINFORCE: returns of sampled texts make the gradient")),
            ("ppo", _("PPO: a critic learns V(s); the reward digits is paid per token")),
        ),
        questions=text_lab.questions,
    ),
    text_lab.body,
)
