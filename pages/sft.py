"""SFT: imitate given answers; the first stage of RLHF."""

from __future__ import annotations

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\mathcal{L}(\theta)=-\frac{1}{\sum_i|y_i|}\sum_i\sum_{t=1}^{|y_i|}\log\pi_\theta(y_{i,t}\mid x_i,y_{i,<t})
"""


algorithm_page.draw(
    algorithm_page.About(
        algorithm="sft",
        lead=_("Supervised fine-tuning: imitate given answers. The first stage of RLHF; preferences come after it."),
        formula=FORMULA,
        reading=_(
            "Cross-entropy over the answers' tokens alone. e to its power is the perplexity: among how many equally likely tokens "
            "the policy seems to choose.  \n"
            "It says what to write and never what not to write: that is what preferences add."
        ),
        paper=("InstructGPT (Ouyang et al. 2022), §3.1", "https://arxiv.org/abs/2203.02155"),
        plan=_(
            "**{steps} steps** of **{examples} answers** each go {passes} times through the {total} training examples. "
            "{model} learns to continue each prompt with its answer; the prompt itself is read and not learned."
        ),
    )
)
