"""Trust regions: the policy of the grid world, before and after an update."""

from __future__ import annotations

import numpy as np

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs.plot import Plot
from pages.components.labs.trust_settings import COLOURS, Setup, names
from rlhf.labs.gridworld import GOAL, MOVES, PIT, START, WALL
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import kl


def figure(setup: Setup, theta: Floats | None, method: str) -> Plot:
    """In each cell a star whose rays are as long as the probabilities, old and new; the stronger its shade, the more KL was spent there."""
    assert setup.grid is not None
    is_dark, grid, old = theme.dark(), setup.grid, setup.policy()
    high, wide = len(grid.rows), len(grid.rows[0])
    new = old if theta is None else setup.policy(theta)
    spent = np.full((high, wide), np.nan)
    made = Plot()
    live = [s for s in range(grid.mdp.states) if not grid.mdp.terminal[s]]
    for s in live:
        spent[grid.cells[s]] = kl(old[s], new[s])
    top = float(np.nanmax(spent))
    made.heatmap(
        z=spent, x=np.arange(wide) + 1, y=np.arange(high) + 1, zmin=0, zmax=top or 1.0, xgap=2, ygap=2, showscale=False,
        colorscale=[[0, theme.rgba(theme.GREY, 0.1)], [1, theme.rgba(COLOURS[method], 0.55)]],
        hovertemplate=_("row %{y}, column %{x}: KL %{z:.3f} nats") + "<extra></extra>",
    )  # fmt: skip
    shown = [(old, "π_old", theme.muted(is_dark), 7.0)]
    if theta is not None:
        shown.append((new, names()[method], theme.on_ground(COLOURS[method], is_dark), 3.0))
    for policy, name, colour, width in shown:
        x: list[float | None] = []
        y: list[float | None] = []
        for s in live:
            row, column = grid.cells[s][0] + 1, grid.cells[s][1] + 1
            for share, (down, right) in zip(policy[s], MOVES, strict=True):
                x += [column, column + 0.48 * right * share, None]
                y += [row, row + 0.48 * down * share, None]
        made.scatter(
            x=x, y=y, mode="lines", name=name, line={"color": colour, "width": width}, opacity=0.45 if width > 5 else 1, hoverinfo="skip"
        )
    for row, line in enumerate(grid.rows, 1):
        for column, kind in enumerate(line, 1):
            _mark(made, row, column, kind, is_dark)
    hidden = {"visible": False, "fixedrange": True}
    return made.lay_out(
        height=370, xaxis={**hidden, "range": [0.45, wide + 0.55]},
        yaxis={**hidden, "range": [high + 0.55, 0.45], "scaleanchor": "x"},
    )  # fmt: skip


def _mark(made: Plot, row: int, column: int, kind: str, is_dark: bool) -> None:
    """A wall, a goal, a pit or the start."""
    fills = {WALL: theme.muted(is_dark), GOAL: theme.rgba(theme.GREEN, 0.25), PIT: theme.rgba(theme.VERMILLION, 0.25)}
    if kind in fills:
        made.box(column, row, 0.98, fills[kind])
    if kind in (GOAL, PIT):
        made.words(column, row, kind, font={"size": 20})
    elif kind == START:
        made.words(column - 0.38, row - 0.36, kind, font={"size": 12, "color": theme.muted(is_dark)})
