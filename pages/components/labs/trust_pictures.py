"""Trust regions: where updates land, in the picture of their world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import simplex, trust_grid
from pages.components.labs.plot import Plot
from pages.components.labs.trust_settings import ARMS, COLOURS, SYMBOLS, Setup, names
from rlhf.labs import trust_region
from rlhf.labs.mdp import Floats
from rlhf.labs.trust_region import METHODS, Round, Update

BETWEEN = 12  # points of a straight step, which is a curve among the policies


def where(setup: Setup, done: Sequence[Round], looked_at: str) -> Plot:
    """The picture of the world after the updates ``done``."""
    if setup.world == "arms":
        return _triangle(setup, done)
    if setup.world == "corridor":
        return _corridor(setup, done)
    return trust_grid.figure(setup, done[-1][looked_at].path[-1] if done else None, looked_at)


def way(update: Update) -> Floats:
    """θ from the start to the end of an update, (N, P): every epoch of PPO, and points between for one straight step."""
    if len(update.path) != 2:
        return np.array(update.path)
    share = np.linspace(0, 1, BETWEEN)[:, None]
    return (1 - share) * update.path[0] + share * update.path[1]


def _triangle(setup: Setup, done: Sequence[Round]) -> Plot:
    made = simplex.figure([f"{arm}  ({reward:.2g})" for arm, reward in zip(ARMS, setup.rewards, strict=True)], height=520)
    rewards = np.array(setup.rewards)
    if np.ptp(rewards) > 0:
        simplex.shade(made, lambda p: p @ rewards, colour=theme.GREY)
    start = setup.policy()[0]
    if len(done) <= 1 and setup.settings.delta > 0:
        simplex.path(made, trust_region.ring(start, setup.settings.delta), _("KL = δ"), theme.GREY, dash="dot")
        made.traces[-1]["showlegend"] = False
    for method in METHODS:
        if done:
            _trail(made, setup, [round_[method] for round_ in done])
    simplex.points(made, start, "π_old", theme.GREY, symbol="x", size=9)
    return made


def _trail(made: Plot, setup: Setup, updates: Sequence[Update]) -> None:
    """The way of one method through the triangle: its steps, PPO's epochs as dots, TRPO's refused trials as crosses."""
    method, name = updates[0].method, names()[updates[0].method]
    policies = np.vstack([_first_state(setup, way(update)) for update in updates])
    simplex.path(made, policies, name, COLOURS[method])
    made.traces[-1]["showlegend"] = False
    small = np.vstack([_first_state(setup, np.array(update.path))[1:-1] for update in updates])
    small = np.vstack([small, *(_first_state(setup, update.path[-1][None]) for update in updates[:-1])])
    if len(small):
        simplex.points(made, small, name, COLOURS[method], symbol=SYMBOLS[method], size=5)
        made.traces[-1]["showlegend"] = False
    refused = [trial.theta for trial in updates[-1].trials if not trial.accepted]
    if refused:
        words = _("{method}, refused trial").format(method=name)
        simplex.points(made, _first_state(setup, np.array(refused)), words, COLOURS[method], symbol="x-thin-open", size=8)
        made.traces[-1]["showlegend"] = False
    simplex.points(
        made, _first_state(setup, updates[-1].path[-1][None]), name, COLOURS[method], symbol=SYMBOLS[method],
        size=15 if method == "natural" else 11,
    )  # fmt: skip


def _first_state(setup: Setup, thetas: Floats) -> Floats:
    """π(·|first state) of several θ (N, P), (N, A)."""
    logits = thetas @ setup.problem.features[0].T
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def _corridor(setup: Setup, done: Sequence[Round]) -> Plot:
    """J over the one number that this policy has, with every landing on it."""
    is_dark, problem = theme.dark(), setup.problem
    lines = np.linspace(-7, 7, 141)
    right = 1 / (1 + np.exp(-lines))
    made = Plot()
    made.scatter(
        x=right, y=[problem.expected_return(np.array([0.0, x])) for x in lines], mode="lines", name="J", showlegend=False,
        line={"color": theme.muted(is_dark), "width": 2}, hovertemplate="π(→) %{x:.3f}: J %{y:.2f}<extra></extra>",
    )  # fmt: skip
    start = float(setup.policy()[0, 1])
    if len(done) <= 1 and setup.settings.delta > 0:
        edges = _limits(setup)
        made.band(*edges)
        made.words(edges[0], 0, "KL ≤ δ", yref="y domain", xanchor="left", yanchor="bottom")
    here = {"x": [start], "y": [problem.expected_return(setup.theta)]}
    made.scatter(**here, mode="markers", name="π_old", marker={"symbol": "x", "size": 9, "color": theme.on_ground(theme.GREY, is_dark)})
    for method in METHODS if done else ():
        last, colour = done[-1][method], theme.on_ground(COLOURS[method], is_dark)
        path = np.array(last.path)
        epochs = np.array([problem.expected_return(theta) for theta in path])
        sizes = [5] * (len(path) - 1) + [15 if method == "natural" else 11]
        made.scatter(
            x=_first_state(setup, path)[1:, 1], y=epochs[1:], mode="markers", name=names()[method],
            marker={"symbol": SYMBOLS[method], "size": sizes[1:], "color": colour, "opacity": 1}, hovertemplate="π(→) %{x:.3f}: J %{y:.2f}",
        )  # fmt: skip
    return made.lay_out(
        height=400, hovermode="closest",
        xaxis={"title": {"text": _("π(→), the same in every cell")}, "range": [-0.02, 1.02]}, yaxis={"title": {"text": "J"}},
    )  # fmt: skip


def _limits(setup: Setup) -> list[float]:
    """Between which π(→) the mean KL stays within δ."""
    weights = setup.draw(setup.theta, 0).state_weights
    edges = []
    for sign in (-1.0, 1.0):
        direction = np.array([0.0, sign])
        length = min(trust_region.reach(setup.problem, setup.theta, direction, weights, setup.settings.delta), 50.0)
        edges.append(float(_first_state(setup, (setup.theta + length * direction)[None])[0, 1]))
    return edges
