"""The log-derivative trick: the sum over actions of π·r·∇log π is the slope that one measures by moving a logit a little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.policy_gradient_world import LAB, World
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import policy_gradient, softmax_policy
from rlhf.labs.mdp import Floats

STEPS = np.logspace(-12, 0, 49)


def draw(world: World, left: DeltaGenerator, right: DeltaGenerator) -> None:
    with left:
        state, action = _logit(world)
        power = setting.slider(LAB, "h", _("Size of the nudge: log₁₀ h"), -12, 0, -1, 0.25)
    h = 10.0**power
    policy, weighted = world.policy, policy_gradient.weighted_values(world.task, world.policy)
    scores = np.array([softmax_policy.score(policy, state, a)[state, action] for a in range(len(world.actions))])
    terms = policy[state] * weighted[state] * scores
    slope = float(terms.sum())
    measured = policy_gradient.differences(world.task, world.logits, state, action, np.array([h]))[0]
    with right:
        st.markdown(_("**Nudge one logit, and see how much J changes. Or ask each action what it would have said: the same number.**"))
        _numbers(world, state, action, h, terms, float(measured))
        _terms(world, state, weighted[state], scores, terms)
        st.markdown(f"**{_('How good the nudge is, by its size')}**")
        live_figure(_errors(world, state, action, h, slope), key=f"{LAB}/errors")
        st.caption(
            _(
                "From the right: the curve is not straight, and the error falls with h². From the left: J has 16 digits, the difference "
                "of two nearly equal numbers has few, and the error grows as 1/h. The sum has neither problem, and, unlike the nudge, it "
                "can be *sampled*: draw a from π, and take r·∇log π."
            )
        )


def _logit(world: World) -> tuple[int, int]:
    """Which logit is moved: (state, action)."""
    if world.grid is None:
        names = {arm: arm for arm in world.actions}
        return 0, list(names).index(setting.choice(LAB, "arm", _("Which logit"), names))
    live = np.flatnonzero(~world.task.mdp.terminal)
    cells = {f"{r + 1}-{c + 1}": s for s in live for r, c in [world.grid.cells[s]]}
    start = int(world.task.mdp.start.argmax())
    ordered = sorted(cells, key=lambda name: cells[name] != start)
    cell = setting.choice(LAB, "cell", _("Cell"), {name: world.state_name(int(cells[name])) for name in ordered})
    directions = {"right": "→", "down": "↓", "left": "←", "up": "↑"}
    direction = setting.choice(LAB, "direction", _("Which logit"), directions)
    return int(cells[cell]), world.actions.index(directions[direction])


def _numbers(world: World, state: int, action: int, h: float, terms: Floats, measured: float) -> None:
    moved = np.repeat(world.logits[None], 2, 0)
    moved[:, state, action] += (h, -h)
    up, down = (float(j) for j in policy_gradient.returns(world.task, softmax_policy.softmax(moved)))
    slope = float(terms.sum())
    theta = world.logit_name(state, action) if world.grid is None else r"\theta"
    worth = "r(a)" if world.grid is None else "M(a)"
    digits = 6 if h >= 1e-4 else 12
    rise = rf"{up:.{digits}f}-{_bracketed(down, digits)}"
    if world.grid is not None:
        st.latex(rf"\theta={world.logit_name(state, action)},\qquad M(a)=\textstyle\sum_t\gamma^t\,P(s_t=s)\,Q_t(s,a)")
    block(
        rf"\frac{{\partial J}}{{\partial {theta}}}=\sum_a\pi(a)\,{worth}\,\frac{{\partial\log\pi(a)}}{{\partial {theta}}}",
        *_sum(terms),
        rf"\phantom{{x}}={result(slope)}",
        rf"\frac{{J({theta}+h)-J({theta}-h)}}{{2h}}=\frac{{{rise}}}{{2\cdot {tex(h)}}}",
        rf"\phantom{{x}}={result(measured)}",
        rf"\text{{{_('difference')}}}={result(abs(measured - slope))}",
    )


def _sum(terms: Floats) -> list[str]:
    """A sum on as many lines as it needs, to be aligned at its sign of equality."""
    written = [tex(float(term)) for term in terms]
    fit = 2 if any("10^" in term for term in written) else 3
    lines = ["+".join(written[i : i + fit]) for i in range(0, len(written), fit)]
    return [rf"\phantom{{x}}={lines[0]}", *(rf"&\quad{{}}+{line}" for line in lines[1:])]


def _bracketed(value: float, digits: int) -> str:
    return f"({value:.{digits}f})" if value < 0 else f"{value:.{digits}f}"


def _terms(world: World, state: int, weighted: Floats, scores: Floats, terms: Floats) -> None:
    worth = "r(a)" if world.grid is None else "M(a)"
    rows = [
        (name, number(float(p)), number(float(w)), number(float(s), sign=True), number(float(x), sign=True))
        for name, p, w, s, x in zip(world.actions, world.policy[state], weighted, scores, terms, strict=True)
    ]
    rows.append((_("sum"), number(1.0), "", "", number(float(terms.sum()), sign=True)))
    st.dataframe(pd.DataFrame(rows, columns=[_("Action"), "π(a)", worth, "∂log π(a)/∂θ", _("Product")]), hide_index=True)


def _errors(world: World, state: int, action: int, h: float, slope: float) -> Plot:
    is_dark = theme.dark()
    found = np.abs(policy_gradient.differences(world.task, world.logits, state, action, STEPS) - slope)
    here = abs(float(policy_gradient.differences(world.task, world.logits, state, action, np.array([h]))[0]) - slope)
    floor = 1e-17  # a difference of exactly 0 has no place on a log axis
    line = theme.on_ground(theme.BLUE, is_dark)
    figure = Plot()
    figure.scatter(
        x=STEPS, y=np.maximum(found, floor), mode="lines+markers", line={"color": line, "width": 2}, marker={"size": 4}, showlegend=False,
        hovertemplate="h = %{x:.1e}: %{y:.2e}<extra></extra>",
    )  # fmt: skip
    figure.scatter(
        x=[h], y=[max(here, floor)], mode="markers", showlegend=False, hovertemplate="h = %{x:.1e}: %{y:.2e}<extra></extra>",
        marker={"color": theme.on_ground(theme.VERMILLION, is_dark), "size": 12},
    )  # fmt: skip
    figure.words(-10.4, 0.06, _("rounding"), yref="paper")
    figure.words(-1.2, 0.06, _("truncation"), yref="paper")
    axis = {"type": "log", "exponentformat": "power", "dtick": 3}
    return figure.lay_out(height=280, xaxis={**axis, "title": {"text": "h"}}, yaxis={**axis, "title": {"text": _("error")}})
