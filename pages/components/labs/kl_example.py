"""The example that most parts of lab 6 share: K answers with a reference, rewards and β, set with bars that are dragged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.drag_bars import drag_bars, set_bars
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from rlhf.labs.kl_optimum import normalised
from rlhf.labs.mdp import Floats

LAB = "kl"
LETTERS = "ABCDEF"
REFERENCE = (0.55, 0.42, 0.03, 0.2, 0.1, 0.05)
REWARDS = (0.0, 1.0, 1.3, -0.5, 0.5, -1.0)
TRUE = (0.0, 1.0, -1.0, 0.3, 0.4, -0.5)
LIMIT = 3.0
BETAS = (0.0, *(round(m * 10.0**e, 6) for e in (-2, -1, 0) for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)), 10.0)
BETA = 0.5


@dataclass(frozen=True)
class Example:
    """``names``: of the K answers; ``reference`` (K,) sums to 1; ``rewards`` (K,); ``beta`` ≥ 0."""

    names: Sequence[str]
    reference: Floats
    rewards: Floats
    beta: float


@dataclass(frozen=True)
class Preset:
    """Where the bars and β go. ``rewards`` has as many answers as there will be; ``pair``: the chosen and the rejected one."""

    reference: Sequence[float]
    rewards: Sequence[float]
    beta: float
    true: Sequence[float] = ()
    pair: tuple[str, str] | None = None


def answers() -> int:
    """How many answers there are, as the slider under *More* has it."""
    return int(st.session_state.get(setting.key(LAB, "answers"), 3))


def beta_slider(label: str = "β") -> float:
    words = _("The price of a nat of KL. Large: stay at the reference. 0: only the reward counts.")
    chosen = st.select_slider(
        label, BETAS, BETA, format_func=lambda beta: f"{beta:g}", key=setting.key(LAB, "beta"), help=words,
        persist_state="session", bind="query-params",
    )  # fmt: skip
    return float(chosen)  # pyright: ignore[reportArgumentType]


def controls(*, with_beta: bool = True) -> tuple[Example, DeltaGenerator, DeltaGenerator]:
    """β and the bars, the place below them for what a part adds, and *More*, which says how many answers there are.

    ConfigError where the reference is 0 for all answers.
    """
    top, place, below, more = st.container(), st.container(), st.container(), st.expander(_("More"), icon=":material/tune:")
    with top:
        beta = beta_slider() if with_beta else BETA
    with more:
        count = setting.whole(LAB, "answers", _("Answers"), 2, 6, 3)
    names = LETTERS[:count]
    with place:
        weights = drag_bars(
            LAB, "reference", _("Reference π_ref: drag the bars (shares are made to sum to 1)"), list(names), REFERENCE[:count],
            low=0.0, high=1.0, step=0.01, colours=theme.ROLE_COLOURS["reference"], height=150,
        )  # fmt: skip
        rewards = drag_bars(
            LAB, "rewards", _("Reward r of each answer: drag the bars"), list(names), REWARDS[:count],
            low=-LIMIT, high=LIMIT, colours=theme.GREEN, height=170,
        )  # fmt: skip
    return Example(names, normalised(weights), np.array(rewards), beta), below, more


def preset_buttons(presets: Mapping[str, Preset]) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(_("Try:"), width="content")
        for name, preset in presets.items():
            st.button(name, key=f"{LAB}/preset/{name}", on_click=_apply, args=(preset,), type="tertiary")


def _apply(preset: Preset) -> None:
    st.session_state[setting.key(LAB, "answers")] = len(preset.rewards)
    st.session_state[setting.key(LAB, "beta")] = preset.beta
    set_bars(LAB, "reference", preset.reference)
    set_bars(LAB, "rewards", preset.rewards)
    if preset.true:
        set_bars(LAB, "true", preset.true)
    if preset.pair:
        for name, answer in zip(("chosen", "rejected"), preset.pair, strict=True):
            st.session_state[f"{setting.key(LAB, name)}/chosen"] = answer


def grouped(names: Sequence[str], groups: Mapping[str, tuple[Floats, str]], key: str, *, height: int = 230, labelled: bool = True) -> None:
    """Probabilities of the answers side by side. ``groups``: label → (probabilities (K,), colour); ``labelled``: with numbers."""
    plot = Plot()
    for label, (values, colour) in groups.items():
        plot.bar(
            x=list(names), y=values, name=label, marker={"color": theme.on_ground(colour, plot.dark)}, cliponaxis=False,
            text=[f"{value:.0%}" for value in values] if labelled and len(groups) * len(names) <= 12 else None,
            textposition="outside", hovertemplate=f"{label}: %{{y:.4f}}<extra>%{{x}}</extra>",
        )  # fmt: skip
    top = max(float(np.max(values)) for values, _colour in groups.values())
    plot.lay_out(
        height=height, barmode="group", bargap=0.25, hovermode="closest", yaxis={"tickformat": ".0%", "range": [0, max(0.25, top * 1.15)]}
    )
    live_figure(plot, key=key)
