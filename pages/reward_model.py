"""The reward model: a scalar head on a language model, trained on preference pairs; and a place to try it."""

from __future__ import annotations

from pages.components import algorithm_page, reward_trial
from pages.components.i18n import _

FORMULA = r"""
\begin{aligned}
\mathcal{L}(\theta)=&-\mathbb{E}_{(x,y_w,y_l)}\big[\log\sigma\big(r_\theta(x,y_w)-r_\theta(x,y_l)-m\big)\big]\\
&+c\,\mathbb{E}\big[\big(r_\theta(x,y_w)+r_\theta(x,y_l)\big)^2\big]
\end{aligned}
"""


algorithm_page.draw(
    algorithm_page.About(
        algorithm="reward_model",
        lead=_("Votes become a number: a language model with one output learns to score preferred answers higher."),
        formula=FORMULA,
        reading=_(
            "σ of the difference of two scores is the Bradley–Terry probability that the first answer is preferred.  \n"
            "Only differences count, so a small term keeps the scores around 0. Held-out pairs have other prompts than those trained on."
        ),
        paper=("InstructGPT (Ouyang et al. 2022), eq. 1", "https://arxiv.org/abs/2203.02155"),
        plan=_(
            "**{steps} steps** of **{pairs} pairs** each go {passes} times through the {total} training pairs. "
            "{model} gets a head with one output, and learns to score the chosen answer above the rejected one."
        ),
        after=reward_trial.draw,
    )
)
