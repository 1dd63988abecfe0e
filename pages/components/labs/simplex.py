"""The probability simplex of three arms or answers as a triangle: each corner puts all probability on one of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pages.components import theme
from pages.components.labs.plot import Plot
from rlhf.labs.mdp import Floats

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def xy(p: ArrayLike) -> Floats:
    """Places in the triangle, (…, 2), of distributions over three, (…, 3)."""
    return np.asarray(p, np.float64) @ CORNERS


def figure(names: Sequence[str], *, height: int = 380) -> Plot:
    """The empty triangle with its corners named; traces are added with ``points`` and ``path``."""
    made = Plot()
    edge = np.vstack([CORNERS, CORNERS[:1]])
    look = {"line": {"color": theme.muted(made.dark), "width": 1}, "hoverinfo": "skip", "showlegend": False}
    made.scatter(x=edge[:, 0], y=edge[:, 1], mode="lines", **look)
    for name, (x, y), anchor in zip(names, CORNERS, ("top", "top", "bottom"), strict=True):
        made.words(x, y, name.replace("<", "‹"), yanchor=anchor, font={"color": theme.ink(made.dark), "size": 12})
    hidden = {"visible": False, "fixedrange": True}
    return made.lay_out(
        height=height, hovermode="closest",
        xaxis={**hidden, "range": [-0.08, 1.08]}, yaxis={**hidden, "range": [-0.09, 0.96], "scaleanchor": "x"},
    )  # fmt: skip


def shade(made: Plot, value: Callable[[Floats], Floats], *, colour: str = theme.BLUE, fineness: int = 60) -> None:
    """Colour the triangle by a function of distributions ((N, 3) → (N,)): the stronger, the larger. Drawn below everything else.

    A picture of 4·``fineness`` points along the edge, whose opacity is the value between its smallest and largest finite one.
    """
    wide = 4 * fineness
    high = round(wide * CORNERS[2, 1])
    x, y = np.meshgrid((np.arange(wide) + 0.5) / wide, CORNERS[2, 1] * (high - np.arange(high) - 0.5) / high)
    top = y / CORNERS[2, 1]
    p = np.stack([1 - x - top / 2, x - top / 2, top], axis=-1)
    inside = np.clip(0.5 + wide * CORNERS[2, 1] * p.min(-1), 0, 1)  # the share of a point that lies within the edge
    shown = inside > 0
    p = np.clip(p[shown], 1e-6, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = value(p / p.sum(-1, keepdims=True))
    finite = values[np.isfinite(values)]
    low, spread = (finite.min(), np.ptp(finite)) if finite.size else (0.0, 0.0)
    strength = (
        np.clip(np.nan_to_num((values - low) / spread, nan=0.0, posinf=1.0, neginf=0.0), 0, 1) if spread > 0 else np.zeros_like(values)
    )
    opacity = np.zeros((high, wide), np.uint8)
    opacity[shown] = np.rint(255 * inside[shown] * (0.03 + 0.47 * strength))
    picture = {
        "source": _png(opacity, theme.on_ground(colour, made.dark)), "xref": "x", "yref": "y", "x": 0, "y": CORNERS[2, 1],
        "sizex": 1, "sizey": CORNERS[2, 1], "sizing": "stretch", "layer": "below",
    }  # fmt: skip
    made.lay_out(images=[picture])


def _png(opacity: NDArray[np.uint8], colour: str) -> str:
    """A picture in one colour, as a data URI: one byte a point, which is its opacity."""
    picture, written = Image.fromarray(opacity, "P"), io.BytesIO()
    picture.putpalette([int(colour[i : i + 2], 16) for i in (1, 3, 5)] * 256)
    picture.save(written, "PNG", transparency=bytes(range(256)))
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def points(made: Plot, p: ArrayLike, name: str, colour: str, *, symbol: str = "circle", size: int = 11) -> None:
    """Mark distributions, (N, 3) or (3,)."""
    p = np.atleast_2d(np.asarray(p, np.float64))
    places = xy(p)
    made.scatter(
        x=places[:, 0], y=places[:, 1], mode="markers", name=name, customdata=p, hovertemplate=f"{name}: {_HOVER}",
        marker={"color": theme.on_ground(colour, made.dark), "size": size, "symbol": symbol},
    )  # fmt: skip


def path(made: Plot, p: ArrayLike, name: str, colour: str, *, dash: str = "solid") -> None:
    """The way of a distribution over time, (T, 3)."""
    p = np.asarray(p, np.float64)
    places = xy(p)
    made.scatter(
        x=places[:, 0], y=places[:, 1], mode="lines", name=name, customdata=p, hovertemplate=f"{name}: {_HOVER}",
        line={"color": theme.on_ground(colour, made.dark), "width": 2, "dash": dash},
    )  # fmt: skip


_HOVER = "%{customdata[0]:.3f}, %{customdata[1]:.3f}, %{customdata[2]:.3f}<extra></extra>"
