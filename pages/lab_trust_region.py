"""Lab 5: trust regions, from the plain gradient to PPO."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import frame, setting, trust_cliff, trust_clip, trust_questions, trust_step
from pages.components.labs.trust_settings import LAB

FORMULA = r"""
\begin{gathered}
\max_\theta\;L(\theta)=\mathbb{E}_{\pi_\text{old}}\!\big[\rho\,A\big],
\quad\rho=\frac{\pi_\theta(a|s)}{\pi_\text{old}(a|s)}\\[4pt]
\text{s.t.}\quad\mathbb{E}\big[\mathrm{KL}(\pi_\text{old}\Vert\pi_\theta)\big]\le\delta\\[6pt]
L^\text{clip}(\theta)=\mathbb{E}\Big[\min\!\big(\rho\,A,\;\operatorname{clip}(\rho,1-\varepsilon,1+\varepsilon)\,A\big)\Big]
\end{gathered}
"""


def _body() -> None:
    part = setting.part(LAB, {"step": _("One step"), "clip": _("The clip"), "cliff": _("The cliff")})
    {"step": trust_step.draw, "clip": trust_clip.draw, "cliff": trust_cliff.draw}[part]()


frame.draw(
    frame.Lab(
        page="lab_trust_region",
        name=LAB,
        title=_("Trust regions"),
        lead=_(
            "A batch tells of the policy that made it. How far may one step believe it? Five answers, from the same batch: "
            "set a world, guess, and take the step."
        ),
        formula=FORMULA,
        reading=_(
            "L is the surrogate: the gain that the old policy's samples promise, weighed by the ratio ρ. Far from the old policy the "
            "promise need not hold.  \nTRPO bounds the distance, in KL; PPO takes their gradient from samples that "
            "have gone far enough (ρ beyond 1 ± ε)."
        ),
        papers=(
            ("Kakade 2001", "https://papers.nips.cc/paper/2073-a-natural-policy-gradient"),
            ("Schulman et al. 2015 (TRPO)", "https://arxiv.org/abs/1502.05477"),
            ("Schulman et al. 2017 (PPO)", "https://arxiv.org/abs/1707.06347"),
        ),
        code=("trust_region.py", "surrogate.py", "conjugate_gradient.py"),
        real=(
            ("ppo", _("PPO: the clip, or the adaptive penalty")),
            ("grpo", _("GRPO: the same clip, other advantages")),
            ("reinforce", _("REINFORCE: the plain gradient step")),
        ),
        questions=trust_questions.questions,
    ),
    _body,
)
