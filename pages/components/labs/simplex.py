"""The probability simplex of three arms or answers as a triangle: each corner puts all probability on one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from pages.components import theme
from rlhf.labs.mdp import Floats

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def xy(p: ArrayLike) -> Floats:
    """Places in the triangle, (…, 2), of distributions over three, (…, 3)."""
    return np.asarray(p, np.float64) @ CORNERS


def figure(names: Sequence[str], *, height: int = 380) -> go.Figure:
    """The empty triangle with its corners named; traces are added with ``points`` and ``path``."""
    is_dark = theme.dark()
    edge = np.vstack([CORNERS, CORNERS[:1]])
    made = go.Figure(
        go.Scatter(
            x=edge[:, 0], y=edge[:, 1], mode="lines", line={"color": theme.muted(is_dark), "width": 1}, hoverinfo="skip", showlegend=False
        )
    )
    for name, (x, y), anchor in zip(names, CORNERS, ("top", "top", "bottom"), strict=True):
        made.add_annotation(x=x, y=y, text=name.replace("<", "‹"), showarrow=False, yanchor=anchor, font={"color": theme.ink(is_dark)})
    hidden = {"visible": False, "fixedrange": True}
    made.update_layout(
        template=theme.template(is_dark), height=height, hovermode="closest", xaxis={**hidden, "range": [-0.08, 1.08]},
        yaxis={**hidden, "range": [-0.09, 0.96], "scaleanchor": "x"},
    )  # fmt: skip
    return made


def shade(made: go.Figure, value: Callable[[Floats], Floats], *, colour: str = theme.BLUE, fineness: int = 60) -> None:
    """Colour the triangle by a function of distributions ((N, 3) → (N,)): the darker, the larger. Drawn below what is added later."""
    grid = [(i, j, fineness - i - j) for i in range(fineness + 1) for j in range(fineness + 1 - i)]
    p = (np.array(grid, np.float64) + 1 / 3) / (fineness + 1)
    places, is_dark = xy(p), theme.dark()
    made.add_scatter(
        x=places[:, 0], y=places[:, 1], mode="markers", hoverinfo="skip", showlegend=False,
        marker={
            "color": value(p), "size": 7, "symbol": "circle", "showscale": False,
            "colorscale": [[0, theme.rgba(colour, 0.02)], [1, theme.rgba(theme.on_ground(colour, is_dark), 0.4)]],
        },
    )  # fmt: skip


def points(made: go.Figure, p: ArrayLike, name: str, colour: str, *, symbol: str = "circle", size: int = 11) -> None:
    """Mark distributions, (N, 3) or (3,)."""
    p = np.atleast_2d(np.asarray(p, np.float64))
    places = xy(p)
    made.add_scatter(
        x=places[:, 0], y=places[:, 1], mode="markers", name=name, customdata=p, hovertemplate=f"{name}: {_HOVER}",
        marker={"color": theme.on_ground(colour, theme.dark()), "size": size, "symbol": symbol},
    )  # fmt: skip


def path(made: go.Figure, p: ArrayLike, name: str, colour: str, *, dash: str = "solid") -> None:
    """The way of a distribution over time, (T, 3)."""
    p = np.asarray(p, np.float64)
    places = xy(p)
    made.add_scatter(
        x=places[:, 0], y=places[:, 1], mode="lines", name=name, customdata=p, hovertemplate=f"{name}: {_HOVER}",
        line={"color": theme.on_ground(colour, theme.dark()), "width": 2, "dash": dash},
    )  # fmt: skip


_HOVER = "%{customdata[0]:.3f}, %{customdata[1]:.3f}, %{customdata[2]:.3f}<extra></extra>"
