"""DPO: preference pairs, without sampling and without a reward model."""

from __future__ import annotations

from pages.components import algorithm_page
from pages.components.i18n import _
from pages.components.text import plain
from rlhf.config import DPOConfig
from rlhf.preferences import Dataset

FORMULA = r"""
\mathcal{L}(\theta)=-\,\mathbb{E}_{(x,y_w,y_l)}\Big[\log\sigma\Big(
\beta\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}
-\beta\log\frac{\pi_\theta(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)}
\Big)\Big]
"""


def plan(config: DPOConfig, data: Dataset) -> str:
    passes = config.steps * config.pairs_per_step / max(1, len(data.train))
    words = _(
        "**{steps} steps** of **{pairs} pairs** each go {passes} times through the {total} training pairs. "
        "{model}'s probability of the chosen answer is raised against that of the rejected one, "
        "both relative to the untouched model. Nothing is sampled."
    )
    return words.format(
        steps=f"{config.steps:,}", pairs=config.pairs_per_step, passes=f"{passes:,.0f}" if passes >= 10 else f"{passes:.2g}",
        total=f"{len(data.train):,}", model=plain(config.model),
    )  # fmt: skip


algorithm_page.draw(
    algorithm_page.About(
        algorithm="dpo",
        title="DPO",
        lead=_("Learn from pairs of answers, a preferred and a rejected one, directly: no reward model, no sampling."),
        formula=FORMULA,
        reading=_(
            "β times the log-ratio to the reference is the *implicit reward*; the loss is Bradley–Terry on the two rewards of a pair.  \n"
            "It falls when the margin grows. Both log-probabilities may fall meanwhile: only their difference counts."
        ),
        paper=("Direct preference optimization (Rafailov et al. 2023), eq. 7", "https://arxiv.org/abs/2305.18290"),
        plan=plan,
    )
)
