"""DPO: preference pairs, without sampling and without a reward model."""

from __future__ import annotations

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\begin{gathered}
\mathcal{L}(\theta)=-\,\mathbb{E}_{(x,y_w,y_l)}\big[\log\sigma\big(\beta\,(h_w-h_l)\big)\big]\\[6pt]
h_w=\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)},
\quad
h_l=\log\frac{\pi_\theta(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)}
\end{gathered}
"""


algorithm_page.draw(
    algorithm_page.About(
        algorithm="dpo",
        lead=_("Learn from pairs of answers, a preferred and a rejected one, directly: no reward model, no sampling."),
        formula=FORMULA,
        reading=_(
            "β times the log-ratio *h* to the reference is the *implicit reward*; "
            "the loss is Bradley–Terry on the two rewards of a pair.  \n"
            "It falls when the margin grows. Both log-probabilities may fall meanwhile: only their difference counts."
        ),
        paper=("Direct preference optimization (Rafailov et al. 2023), eq. 7", "https://arxiv.org/abs/2305.18290"),
        plan=_(
            "**{steps} steps** of **{pairs} pairs** each go {passes} times through the {total} training pairs. "
            "{model}'s probability of the chosen answer is raised against that of the rejected one. Nothing is sampled."
        ),
        presets=(
            algorithm_page.Preset("IPO", {"variant": "ipo"}),
            algorithm_page.Preset("SimPO", {"variant": "simpo"}),
            algorithm_page.Preset("KTO", {"variant": "kto"}),
        ),
    )
)
