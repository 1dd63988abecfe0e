"""Online DPO: pairs that the policy writes itself, judged while it trains."""

from __future__ import annotations

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\begin{gathered}
y_1,\dots,y_G\sim\pi_\theta(\cdot\mid x)\\[2pt]
y_w=\arg\max_i r(x,y_i),\quad y_l=\arg\min_i r(x,y_i)\\[6pt]
\mathcal{L}(\theta)=-\,\mathbb{E}\big[\log\sigma\big(\beta\,(h_w-h_l)\big)\big],
\quad
h=\log\frac{\pi_\theta(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}
\end{gathered}
"""

algorithm_page.draw(
    algorithm_page.About(
        algorithm="online_dpo",
        lead=_("DPO's loss, on pairs that the policy of now writes and a reward judges: between DPO and GRPO."),
        formula=FORMULA,
        reading=_(
            "Fixed pairs go stale: what the policy has learned to avoid is never shown to it again, and what it learns to write is never "
            "judged.  \nHere each step's best answer is *chosen* and its worst *rejected*; "
            "a prompt whose answers all score the same gives no pair."
        ),
        paper=("Direct language model alignment from online AI feedback (Guo et al. 2024)", "https://arxiv.org/abs/2402.04792"),
        plan=_(
            "In each of **{steps} steps**, {model} writes **{group} responses** to each of **{prompts} prompts**, at most {tokens} tokens "
            "long. Of each prompt the best becomes the chosen answer, the worst the rejected one."
        ),
    )
)
