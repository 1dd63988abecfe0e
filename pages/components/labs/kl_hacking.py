"""Lab 6, part 2: a reward that is wrong. As β falls, the reward that is optimised rises, and the true one falls in the end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs.drag_bars import drag_bars
from pages.components.labs.kl_example import LAB, LIMIT, TRUE, Example, Preset, controls, grouped, preset_buttons
from pages.components.labs.live_figure import live_figure
from pages.components.labs.playing import player, reset
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.numbers import number
from rlhf.labs import kl_optimum as ko
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import kl

FRAMES = np.concatenate([[math.inf], np.geomspace(10, 0.02, 15), [0.0]])
MEASURED, ACTUAL = theme.GREEN, theme.VERMILLION
OF = "kl/hacking/of"


def presets() -> dict[str, Preset]:
    return {
        _("A flatterer"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.5, (0.0, 1.0, -1.0)),
        _("A rare exploit"): Preset((0.6, 0.25, 0.14, 0.01), (0.0, 1.0, 1.4, 3.0), 0.5, (0.0, 1.0, 1.4, -3.0)),
        _("An honest reward"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.5, (0.0, 0.8, 1.2)),
        _("Wrong from the start"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.5, (1.0, 0.0, -1.0)),
    }


def draw() -> None:
    st.markdown(
        _(
            "What is optimised is a *reward model's* score; what people want is something else. As the bars stand at first, answer C "
            "flatters: it scores best and is truly the worst. Lower β step by step and watch both."
        )
    )
    preset_buttons(presets())
    left, right = st.columns([2, 3], gap="large")
    with left:
        example, below, _more = controls(with_beta=False)
        with below:
            true = np.array(
                drag_bars(
                    LAB, "true", _("True reward of each answer: drag the bars"), list(example.names), TRUE[: len(example.names)],
                    low=-LIMIT, high=LIMIT, colours=ACTUAL, height=170,
                )
            )  # fmt: skip
    question = _question(example, true)
    about = tuple(example.reference), tuple(example.rewards), tuple(true)
    _begin_anew(about)
    with right:
        if not guess(question, about):
            st.caption(_("Answer, then lower β with Play."))
            return
        frame = player(LAB, len(FRAMES) - 1, "hacking")
        along = ko.policies(example.reference, example.rewards, FRAMES)
        beta = FRAMES[frame]
        with st.container(horizontal=True, gap="medium"):
            st.metric("β", "∞" if math.isinf(beta) else number(float(beta)), width="content")
            st.metric(_("Measured reward"), number(float(along[frame] @ example.rewards)), width="content")
            st.metric(_("True reward"), number(float(along[frame] @ true)), width="content")
        live_figure(_figure(example, true, frame), key="kl/hacking/curves")
        grouped(example.names, {"π_ref": (example.reference, theme.GREY), "π∗": (along[frame], theme.BLUE)}, "kl/hacking/bars", height=190)
        if frame == len(FRAMES) - 1:
            reveal(question, about)


def _begin_anew(about: Any) -> None:
    """Back to β = ∞ with another example: its end would answer the question."""
    if st.session_state.get(OF, about) != about:
        reset(LAB, "hacking")
    st.session_state[OF] = about


def shape(values: Floats) -> int:
    """How a curve goes: 0 rises, 1 falls, 2 rises and then falls, 3 anything else, such as flat."""
    tolerance = 1e-9 * max(1.0, float(np.abs(values).max()))
    signs = [sign for sign in np.sign(np.where(np.abs(np.diff(values)) < tolerance, 0, np.diff(values))) if sign]
    turns = [sign for i, sign in enumerate(signs) if i == 0 or sign != signs[i - 1]]
    return {(1.0,): 0, (-1.0,): 1, (1.0, -1.0): 2}.get(tuple(turns), 3)


def _question(example: Example, true: Floats) -> Choice:
    line = ko.frontier(example.reference, example.rewards)
    worth = line.policies @ true
    beta, most = ko.best_beta(example.reference, example.rewards, true)
    at = "∞" if math.isinf(beta) else number(beta)
    because = _(
        "The measured reward rises from {measured_start} to {measured_end}. The true one starts at {start}, is largest with {most} at β "
        "= {beta}, and ends at {end}. While β is large, π∗ only leans towards answers with a good score; as β → 0 it stakes everything "
        "on the one that scores best, and every error of the reward with it. The KL term keeps you where the score still means something."
    )
    return Choice(
        "kl/hacking",
        _("β falls from ∞ to 0, and π∗ follows the measured reward. What does the *true* reward do?"),
        [_("It rises all the way"), _("It falls all the way"), _("It rises, then falls"), _("Something else")],
        shape(worth),
        because.format(
            measured_start=number(float(line.rewards[0])), measured_end=number(float(line.rewards[-1])), start=number(float(worth[0])),
            most=number(most), beta=at, end=number(float(worth[-1])),
        ),
    )  # fmt: skip


def _figure(example: Example, true: Floats, frame: int) -> Plot:
    """Both rewards over KL, as far as β has come; at the end the best place is marked."""
    is_dark = theme.dark()
    line = ko.frontier(example.reference, example.rewards)
    seen = line.betas >= FRAMES[frame]
    here = ko.policies(example.reference, example.rewards, FRAMES[[frame]])[0]
    distance = float(kl(here, example.reference))
    figure = Plot()
    both = np.concatenate([line.rewards, line.policies @ true])
    for values, now, name, colour in (
        (line.rewards, here @ example.rewards, _("measured"), MEASURED),
        (line.policies @ true, here @ true, _("true"), ACTUAL),
    ):
        shade = theme.on_ground(colour, is_dark)
        figure.scatter(
            x=[*line.kls[seen], distance], y=[*values[seen], now], mode="lines", name=name, line={"color": shade, "width": 2},
            hovertemplate="KL %{x:.3f}: %{y:.3f}<extra></extra>",
        )  # fmt: skip
        figure.scatter(x=[distance], y=[now], mode="markers", marker={"color": shade, "size": 10}, showlegend=False, hoverinfo="skip")
    if frame == len(FRAMES) - 1:
        beta, most = ko.best_beta(example.reference, example.rewards, true)
        at = float(kl(ko.policies(example.reference, example.rewards, np.array([beta]))[0], example.reference))
        figure.scatter(
            x=[at], y=[most], mode="markers+text", name=_("best"), showlegend=False, textposition="top right",
            text=[_("best: β = {beta}").format(beta="∞" if math.isinf(beta) else number(beta))],
            marker={"symbol": "star", "size": 15, "color": theme.on_ground(ACTUAL, is_dark)}, hoverinfo="skip",
        )  # fmt: skip
    reach, margin = max(float(line.kls[-1]), 0.1), 0.15 * max(float(np.ptp(both)), 0.2)
    return figure.lay_out(
        height=300, hovermode="closest",
        xaxis={"title": {"text": "KL(π∗‖π_ref), nats"}, "range": [-0.03 * reach, 1.05 * reach]},
        yaxis={"title": {"text": "E[r]"}, "range": [float(both.min()) - margin, float(both.max()) + margin]},
    )  # fmt: skip
