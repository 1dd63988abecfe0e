"""Trust regions: where updates land, in the picture of their world, and what they spent and won."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import simplex
from pages.components.labs.trust_settings import ARMS, COLOURS, SYMBOLS, Setup, names
from rlhf.labs import trust_region
from rlhf.labs.gridworld import GOAL, MOVES, PIT
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import kl
from rlhf.labs.trust_region import METHODS, Round, Update

BETWEEN = 12  # points of a straight step, which is a curve among the policies


def where(setup: Setup, done: Sequence[Round], looked_at: str) -> go.Figure:
    """The picture of the world after the updates ``done``."""
    if setup.world == "arms":
        return _triangle(setup, done)
    if setup.world == "corridor":
        return _corridor(setup, done)
    return _grid(setup, done[-1][looked_at].path[-1] if done else None, looked_at)


def way(update: Update) -> Floats:
    """θ from the start to the end of an update, (N, P): every epoch of PPO, and points between for one straight step."""
    if len(update.path) != 2:
        return np.array(update.path)
    share = np.linspace(0, 1, BETWEEN)[:, None]
    return (1 - share) * update.path[0] + share * update.path[1]


def _triangle(setup: Setup, done: Sequence[Round]) -> go.Figure:
    made = simplex.figure([f"{arm}  ({reward:.2g})" for arm, reward in zip(ARMS, setup.rewards, strict=True)], height=430)
    rewards = np.array(setup.rewards)
    if np.ptp(rewards) > 0:
        simplex.shade(made, lambda p: p @ rewards, colour=theme.GREY)
    start = setup.policy()[0]
    if len(done) <= 1 and setup.settings.delta > 0:
        simplex.path(made, trust_region.ring(start, setup.settings.delta), _("KL = δ"), theme.GREY, dash="dot")
    for method in METHODS:
        if done:
            _trail(made, setup, [round_[method] for round_ in done])
    simplex.points(made, start, "π_old", theme.GREY, symbol="x", size=9)
    return made


def _trail(made: go.Figure, setup: Setup, updates: Sequence[Update]) -> None:
    """The way of one method through the triangle: its steps, PPO's epochs as dots, TRPO's refused trials as crosses."""
    method, name = updates[0].method, names()[updates[0].method]
    policies = np.vstack([_first_state(setup, way(update)) for update in updates])
    simplex.path(made, policies, name, COLOURS[method])
    made.data[-1].update(showlegend=False)
    small = np.vstack([_first_state(setup, np.array(update.path))[1:-1] for update in updates])
    small = np.vstack([small, *(_first_state(setup, update.path[-1][None]) for update in updates[:-1])])
    if len(small):
        simplex.points(made, small, name, COLOURS[method], symbol=SYMBOLS[method], size=5)
        made.data[-1].update(showlegend=False)
    refused = [trial.theta for trial in updates[-1].trials if not trial.accepted]
    if refused:
        simplex.points(
            made, _first_state(setup, np.array(refused)), _("TRPO, refused trial"), COLOURS[method], symbol="x-thin-open", size=8
        )
    simplex.points(
        made, _first_state(setup, updates[-1].path[-1][None]), name, COLOURS[method], symbol=SYMBOLS[method],
        size=15 if method == "natural" else 11,
    )  # fmt: skip


def _first_state(setup: Setup, thetas: Floats) -> Floats:
    """π(·|first state) of several θ (N, P), (N, A)."""
    logits = thetas @ setup.problem.features[0].T
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def _corridor(setup: Setup, done: Sequence[Round]) -> go.Figure:
    """J over the one number that this policy has, with every landing on it."""
    is_dark, problem = theme.dark(), setup.problem
    lines = np.linspace(-7, 7, 141)
    right = 1 / (1 + np.exp(-lines))
    made = go.Figure(
        go.Scatter(
            x=right, y=[problem.expected_return(np.array([0.0, x])) for x in lines], mode="lines", name="J", showlegend=False,
            line={"color": theme.muted(is_dark), "width": 2}, hovertemplate="π(→) %{x:.3f}: J %{y:.2f}<extra></extra>",
        )
    )  # fmt: skip
    start = float(setup.policy()[0, 1])
    if len(done) <= 1 and setup.settings.delta > 0:
        edges = _limits(setup)
        made.add_vrect(
            x0=edges[0], x1=edges[1], fillcolor=theme.GREY, opacity=0.18, line_width=0, annotation_text="KL ≤ δ",
            annotation_position="bottom left", annotation_font_color=theme.muted(is_dark),
        )  # fmt: skip
    here = {"x": [start], "y": [problem.expected_return(setup.theta)]}
    made.add_scatter(**here, mode="markers", name="π_old", marker={"symbol": "x", "size": 9, "color": theme.on_ground(theme.GREY, is_dark)})
    for method in METHODS if done else ():
        last, colour = done[-1][method], theme.on_ground(COLOURS[method], is_dark)
        path = np.array(last.path)
        epochs = np.array([problem.expected_return(theta) for theta in path])
        sizes = [5] * (len(path) - 1) + [15 if method == "natural" else 11]
        made.add_scatter(
            x=_first_state(setup, path)[1:, 1], y=epochs[1:], mode="markers", name=names()[method],
            marker={"symbol": SYMBOLS[method], "size": sizes[1:], "color": colour}, hovertemplate="π(→) %{x:.3f}: J %{y:.2f}",
        )  # fmt: skip
    made.update_layout(
        template=theme.template(is_dark), height=400, hovermode="closest",
        xaxis={"title": {"text": _("π(→), the same in every cell")}, "range": [-0.02, 1.02]}, yaxis={"title": {"text": "J"}},
    )  # fmt: skip
    return made


def _limits(setup: Setup) -> list[float]:
    """Between which π(→) the mean KL stays within δ."""
    weights = setup.draw(setup.theta, 0).state_weights
    edges = []
    for sign in (-1.0, 1.0):
        direction = np.array([0.0, sign])
        length = min(trust_region.reach(setup.problem, setup.theta, direction, weights, setup.settings.delta), 50.0)
        edges.append(float(_first_state(setup, (setup.theta + length * direction)[None])[0, 1]))
    return edges


def _grid(setup: Setup, theta: Floats | None, method: str) -> go.Figure:
    """In each cell a star whose rays are as long as the probabilities, old and new; the darker a cell, the more KL was spent there."""
    assert setup.grid is not None
    is_dark, grid, old = theme.dark(), setup.grid, setup.policy()
    high, wide = len(grid.rows), len(grid.rows[0])
    new = old if theta is None else setup.policy(theta)
    spent = np.full((high, wide), np.nan)
    labels = {GOAL: "G", PIT: "X"}
    made = go.Figure()
    live = [s for s in range(grid.mdp.states) if not grid.mdp.terminal[s]]
    for s in live:
        spent[grid.cells[s]] = kl(old[s], new[s])
    top = float(np.nanmax(spent))
    made.add_heatmap(
        z=spent, x=np.arange(wide), y=np.arange(high), zmin=0, zmax=top or 1.0, xgap=2, ygap=2, showscale=False,
        colorscale=[[0, theme.rgba(theme.GREY, 0.1)], [1, theme.rgba(COLOURS[method], 0.55)]],
        hovertemplate=_("row %{y}, column %{x}: KL %{z:.3f} nats") + "<extra></extra>",
    )  # fmt: skip
    shown = [(old, "π_old", theme.muted(is_dark), 7.0)] + (
        [(new, names()[method], theme.on_ground(COLOURS[method], is_dark), 3.0)] * (theta is not None)
    )
    for policy, name, colour, width in shown:
        x: list[float | None] = []
        y: list[float | None] = []
        for s in live:
            row, column = grid.cells[s]
            for share, (down, right) in zip(policy[s], MOVES, strict=True):
                x += [column, column + 0.48 * right * share, None]
                y += [row, row + 0.48 * down * share, None]
        made.add_scatter(
            x=x, y=y, mode="lines", name=name, line={"color": colour, "width": width}, opacity=0.45 if width > 5 else 1, hoverinfo="skip"
        )
    for row, line in enumerate(grid.rows):
        for column, kind in enumerate(line):
            if kind in labels:
                made.add_annotation(x=column, y=row, text=labels[kind], showarrow=False, font={"size": 20})
            elif kind == "#":
                made.add_shape(
                    type="rect",
                    x0=column - 0.48,
                    x1=column + 0.48,
                    y0=row - 0.48,
                    y1=row + 0.48,
                    line_width=0,
                    fillcolor=theme.muted(is_dark),
                )
            elif kind == "S":
                made.add_annotation(x=column - 0.38, y=row - 0.36, text="S", showarrow=False, font={"color": theme.muted(is_dark)})
    hidden = {"visible": False, "fixedrange": True}
    made.update_layout(
        template=theme.template(is_dark), height=370, xaxis={**hidden, "range": [-0.55, wide - 0.45]},
        yaxis={**hidden, "range": [high - 0.45, -0.55], "scaleanchor": "x"},
    )  # fmt: skip
    return made


def spent_and_won(setup: Setup, last: Round) -> go.Figure:
    """Of one update: the KL of each method beside the limit, and what it promised and won."""
    is_dark, labels = theme.dark(), [names()[method] for method in METHODS]
    made = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=[_("KL spent (nats)"), _("Gain in J")])
    colours = [theme.on_ground(COLOURS[method], is_dark) for method in METHODS]
    made.add_bar(
        x=[last[m].kl for m in METHODS],
        y=labels,
        orientation="h",
        marker_color=colours,
        showlegend=False,
        hovertemplate="%{x:.4f}<extra></extra>",
    )
    made.add_vline(x=setup.settings.delta, line={"dash": "dot", "color": theme.ink(is_dark), "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    made.add_bar(
        x=[last[m].won for m in METHODS], y=labels, orientation="h", marker_color=colours, name=_("won"), showlegend=False,
        hovertemplate=_("won %{x:.3f}") + "<extra></extra>", row=1, col=2,
    )  # fmt: skip
    made.add_scatter(
        x=[last[m].promised for m in METHODS], y=labels, mode="markers", name=_("promised by the batch"), hovertemplate="%{x:.3f}",
        marker={"symbol": "line-ns-open", "size": 16, "line": {"width": 3, "color": theme.ink(is_dark)}, "color": theme.ink(is_dark)}, row=1, col=2,
    )  # fmt: skip
    made.update_layout(template=theme.template(is_dark), height=230, bargap=0.35, margin={"t": 40}, showlegend=False)
    made.update_yaxes(autorange="reversed")
    made.update_xaxes(rangemode="tozero", nticks=5)
    made.update_annotations(font={"size": 12, "color": theme.muted(is_dark)})
    return made


def over_updates(setup: Setup, done: Sequence[Round]) -> go.Figure:
    """J after each update, and the KL that each spent."""
    is_dark = theme.dark()
    made = make_subplots(1, 2, horizontal_spacing=0.12, subplot_titles=["J", _("KL spent (nats)")])
    for method in METHODS:
        look = {
            "mode": "lines+markers",
            "name": names()[method],
            "legendgroup": method,
            "line": {"color": theme.on_ground(COLOURS[method], is_dark)},
        }
        look["marker"] = {"symbol": SYMBOLS[method], "size": 5}
        returns = [done[0][method].before, *(round_[method].after for round_ in done)]
        made.add_scatter(x=np.arange(len(returns)), y=returns, **look, row=1, col=1)
        made.add_scatter(x=np.arange(1, len(returns)), y=[r[method].kl for r in done], **look, showlegend=False, row=1, col=2)
    made.add_hline(y=setup.settings.delta, line={"dash": "dot", "color": theme.ink(is_dark), "width": 1}, row=1, col=2)  # pyright: ignore[reportArgumentType]
    made.update_layout(template=theme.template(is_dark), height=260, margin={"t": 60}, hovermode="x unified", legend={"y": 1.12})
    made.update_xaxes(title_text=_("update"))
    made.update_annotations(font={"size": 12, "color": theme.muted(is_dark)})
    return made
