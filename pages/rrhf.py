"""RRHF: several answers to one prompt, ranked; and the best of n."""

from __future__ import annotations

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\begin{gathered}
\mathcal{L}(\theta)=\underbrace{\sum_{r_i<r_j}\max(0,\;p_i-p_j)}_{\mathcal{L}_{\mathrm{rank}}}
\;+\;w\,\underbrace{\Big(-\sum_{t}\log\pi_\theta(y_{b,t}\mid x,y_{b,<t})\Big)}_{\mathcal{L}_{\mathrm{ft}}}\\[6pt]
p_i=\frac{1}{|y_i|}\sum_{t}\log\pi_\theta(y_{i,t}\mid x,y_{i,<t}),
\quad
b=\arg\max_i\,r_i
\end{gathered}
"""


algorithm_page.draw(
    algorithm_page.About(
        algorithm="rrhf",
        lead=_("Sample several answers, rank them by reward, and make the better ones likelier. No critic, no reference, no ratio."),
        formula=FORMULA,
        reading=_(
            "*p* is an answer's mean log-probability. Each pair in which the worse answer *i* is likelier than the better one *j* "
            "costs the difference.  \n"
            "The second term imitates the best answer *b*. Alone, it is *best-of-n* (rejection sampling) fine-tuning."
        ),
        paper=("RRHF (Yuan et al. 2023), eq. 1–4", "https://arxiv.org/abs/2304.05302"),
        plan=_(
            "In each of **{steps} steps**, {model} writes **{group} responses** to each of **{prompts} prompts**, at most {tokens} tokens "
            "long. The best one of each prompt is imitated; where answers are ranked, a worse one that is likelier than a better one is "
            "pushed down."
        ),
        presets=(
            algorithm_page.Preset(
                _("Best of n"),
                {"variant": "best_of_n"},
                _(
                    "No ranking: sample, keep the best answer to each prompt, imitate it. "
                    "A step is cheaper, as only the best are trained on."
                ),
            ),
        ),
    )
)
