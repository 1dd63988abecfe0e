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
METHODS: tuple[ga.Method, ...] = ("grpo", "dr_grpo", "rloo")
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
                "nothing: choose easier or harder ones. The factor has no value here."
            )
        )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"##### {_('The factor from dividing by the standard deviation')}")
        live_figure(_factor(p, size), key="grp/factor")
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
    if p in (0, 1):
        block(*lines)
        return
    exact = {method: float(ga.signal(p, size, method)) for method in METHODS}
    factor, put_in = float(ga.scaling(p, size)), rf"{tex(p)}\cdot{tex(1 - p)}"
    block(
        *lines,
        rf"\mathbb{{E}}|\hat A^{{\text{{RLOO}}}}|=2p(1-p)=2\cdot{put_in}={result(exact['rloo'])}",
        rf"\mathbb{{E}}|\hat A^{{\text{{Dr.}}}}|=\tfrac{{G-1}}{{G}}\,2p(1-p)=\tfrac{{{size - 1}}}{{{size}}}\cdot{tex(exact['rloo'])}"
        rf"={result(exact['dr_grpo'])}",
        rf"\mathbb{{E}}|\hat A^{{\text{{GRPO}}}}|=\textstyle\sum_k P(k\text{{ right}})\,2\sqrt{{\tfrac{{k(G-k)(G-1)}}{{G^3}}}}"
        rf"\approx{result(exact['grpo'])}",
        rf"\text{{factor}}=\frac{{\mathbb{{E}}|\hat A^{{\text{{GRPO}}}}|}}{{\mathbb{{E}}|\hat A^{{\text{{Dr.}}}}|}}={result(factor)}",
        rf"\lim_{{G\to\infty}}=\frac{{1}}{{\sqrt{{p(1-p)}}}}=\frac{{1}}{{\sqrt{{{put_in}}}}}={result(1 / np.sqrt(p * (1 - p)))}",
    )
    if size < 4:
        words = _(
            "In groups of two or three, all groups with a signal have the same standard deviation. So the factor is the same for every "
            "p, √G = {most}: no difficulty bias."
        )
    else:
        words = _(
            "Dividing by the standard deviation lifts prompts that are nearly always or nearly never solved: here {factor} against "
            "{middle} at p = ½. Dr. GRPO's authors call it the difficulty bias. With G = {size} the factor stays below √G = {most}."
        )
    st.caption(
        words.format(factor=number(factor), middle=number(float(ga.scaling(0.5, size))), size=size, most=number(np.sqrt(size)))
        + " "
        + _("A group without signal is not lifted.")
    )


def _axes(plot: Plot, p: float, yaxis: dict[str, Any]) -> Plot:
    plot.upright(p)
    return plot.lay_out(height=260, hovermode="closest", xaxis={"title": {"text": "p"}, "range": [0, 1]}, yaxis=yaxis)


def _line(plot: Plot, y: object, name: str, colour: str, **line: object) -> None:
    plot.scatter(
        x=P, y=y, name=name, mode="lines", line={"color": theme.on_ground(colour, plot.dark), "width": 2} | line,
        hovertemplate=f"{name}, p = %{{x}}: %{{y:.3f}}<extra></extra>",
    )  # fmt: skip


def _factor(p: float, size: int) -> Plot:
    plot = Plot()
    with np.errstate(divide="ignore"):
        limit = 1 / np.sqrt(P * (1 - P))
    _line(plot, ga.scaling(P, size), f"GRPO, G = {size}", theme.BLUE)
    _line(plot, limit, "GRPO, G → ∞: 1/√(p(1 − p))", theme.BLUE, width=1, dash="dot")
    _line(plot, np.ones(len(P)), "Dr. GRPO: 1", theme.ORANGE)
    return _axes(plot, p, yaxis={"range": [0, 8]})


def _signal(p: float, size: int) -> Plot:
    plot = Plot()
    for method in METHODS:
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
