"""Hard and easy prompts: what a prompt weighs by its chance of success, and how many of its groups teach nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import groups_group as groups
from pages.components.labs import setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import group_advantages as ga

LAB = "grp"
P = np.round(np.linspace(0, 1, 101), 2)
METHODS: dict[str, ga.Method] = {"grpo": "grpo", "dr": "dr_grpo", "rloo": "rloo"}
SIZES = ((2, theme.SKY), (4, theme.GREEN), (8, theme.ORANGE), (16, theme.PURPLE))


def draw() -> None:
    st.markdown(_("Answers are right with probability p and earn 1, else 0. Move p from hopeless to trivial: how much is learned?"))
    with st.container(horizontal=True):
        p = setting.slider(LAB, "p", _("Chance p of a right answer"), 0, 1, 0.3, 0.05)
        size = groups.size_slider()
    if p in (0, 1):
        st.warning(
            _(
                "Every answer earns the same, so no group of any size has a signal. A prompt that is never or always solved teaches "
                "nothing: choose easier or harder ones. The factor 1/√(p(1 − p)) has no value here."
            )
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"##### {_('The factor from dividing by the standard deviation')}")
        live_figure(_factor(p), key="grp/factor")
    with right:
        st.markdown(f"##### {_('The chance that a group teaches nothing')}")
        live_figure(_nothing(p, size), key="grp/nothing")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"##### {_('What a group teaches: the mean size of Â')}")
        live_figure(_signal(p, size), key="grp/signal")
        st.caption(_("Lines: exact for G = {size}, counted over all outcomes. Dotted: very large groups.").format(size=size))
    with right:
        _in_numbers(p, size)
    st.page_link(
        "grpo.py",
        label=_("Train with DAPO and its dynamic sampling"),
        icon=":material/arrow_outward:",
        query_params={"grpo.variant": "dapo"},
    )


def _in_numbers(p: float, size: int) -> None:
    lines = [
        r"P(\text{no signal})=p^G+(1-p)^G",
        rf"={tex(p)}^{{{size}}}+{tex(1 - p)}^{{{size}}}={result(float(ga.no_signal(p, size)))}",
    ]
    square = p * (1 - p)
    if 0 < p < 1:
        lines += [
            rf"\frac{{1}}{{\sqrt{{p(1-p)}}}}=\frac{{1}}{{\sqrt{{{tex(p)}\cdot{tex(1 - p)}}}}}={result(1 / np.sqrt(square))}",
            rf"\mathbb{{E}}|\hat A^{{\text{{Dr.}}}}|=2p(1-p)=2\cdot{tex(p)}\cdot{tex(1 - p)}={result(2 * square)}",
            rf"\mathbb{{E}}|\hat A^{{\text{{GRPO}}}}|=2\sqrt{{p(1-p)}}={result(2 * np.sqrt(square))}",
        ]
    block(*lines)
    exact = {name: number(float(ga.signal(p, size, method))) for name, method in METHODS.items()}
    st.caption(
        _(
            "The last two are for large groups. In groups of {size}, exactly: {grpo} (GRPO), {dr} (Dr. GRPO), {rloo} (RLOO). Dividing by "
            "the standard deviation lifts prompts that are nearly always or nearly never solved: Dr. GRPO's authors call it the "
            "difficulty bias. What is not lifted is a group without signal."
        ).format(size=size, **exact)
    )


def _axes(plot: Plot, p: float, yaxis: dict[str, Any]) -> Plot:
    plot.upright(p)
    return plot.lay_out(height=260, hovermode="closest", xaxis={"title": {"text": "p"}, "range": [0, 1]}, yaxis=yaxis)


def _line(plot: Plot, y: object, name: str, colour: str, **line: object) -> None:
    plot.scatter(
        x=P, y=y, name=name, mode="lines", line={"color": theme.on_ground(colour, plot.dark), "width": 2, **line},
        hovertemplate=f"{name}, p = %{{x}}: %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def _factor(p: float) -> Plot:
    plot = Plot()
    with np.errstate(divide="ignore"):
        factor = 1 / np.sqrt(P * (1 - P))
    _line(plot, np.where(np.isfinite(factor), factor, np.nan), "GRPO: 1/√(p(1 − p))", theme.BLUE)
    _line(plot, np.ones(len(P)), "Dr. GRPO, RLOO: 1", theme.ORANGE)
    return _axes(plot, p, yaxis={"range": [0, 8]})


def _signal(p: float, size: int) -> Plot:
    plot = Plot()
    for method in METHODS.values():
        _line(plot, ga.signal(P, size, method), groups.method_name(method), groups.METHODS[method][1])
    for limit, colour in ((2 * np.sqrt(P * (1 - P)), theme.BLUE), (2 * P * (1 - P), theme.ORANGE)):
        plot.scatter(
            x=P, y=limit, mode="lines", showlegend=False, hoverinfo="skip",
            line={"color": theme.on_ground(colour, plot.dark), "width": 1, "dash": "dot"},
        )  # fmt: skip
    return _axes(plot, p, yaxis={"range": [0, 1.1], "title": {"text": "E|Â|"}})


def _nothing(p: float, size: int) -> Plot:
    plot = Plot()
    for count, colour in SIZES:
        if count != size:
            _line(plot, ga.no_signal(P, count), f"G = {count}", colour, width=1.5)
    _line(plot, ga.no_signal(P, size), _("G = {size}, yours").format(size=size), theme.BLUE, width=3)
    return _axes(plot, p, yaxis={"range": [0, 1.02], "tickformat": ".0%"})
