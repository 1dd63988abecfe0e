"""A plotly figure as plain dicts: ``go.Figure`` looks at every property, 5 to 50 ms a figure, and a slider waits for it.

What it would refuse the tests find (tests/app/conftest.py).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Self

import numpy as np
import orjson

from pages.components import theme


class Plot:
    """Collects traces, shapes and words, and a layout that is put over the theme's. What a method does not name goes to plotly as it is."""

    def __init__(self) -> None:
        self.dark = theme.dark()
        self.traces: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {}

    def bar(self, **trace: Any) -> None:
        self.traces.append({"type": "bar", **trace})

    def scatter(self, **trace: Any) -> None:
        self.traces.append({"type": "scatter", **trace})

    def heatmap(self, **trace: Any) -> None:
        self.traces.append({"type": "heatmap", **trace})

    def level(self, y: float = 0.0, *, colour: str = "", dash: str = "solid", axis: str = "") -> None:
        """A thin horizontal line through the whole plot; ``axis``: "2" for that of a second one."""
        line = {"color": colour or theme.muted(self.dark), "width": 1, "dash": dash}
        place = {"xref": f"x{axis} domain", "yref": f"y{axis}", "x0": 0, "x1": 1, "y0": y, "y1": y}
        self.shapes.append({"type": "line", **place, "line": line})

    def upright(self, x: float, *, colour: str = "", dash: str = "dot") -> None:
        """A thin vertical line: where the setting stands."""
        line = {"color": colour or theme.muted(self.dark), "width": 1, "dash": dash}
        self.shapes.append({"type": "line", "yref": "y domain", "y0": 0, "y1": 1, "x0": x, "x1": x, "line": line})

    def band(self, x0: float, x1: float) -> None:
        """A shade from top to bottom, below everything else."""
        place = {"yref": "y domain", "y0": 0, "y1": 1, "x0": x0, "x1": x1}
        self.shapes.append({"type": "rect", **place, "fillcolor": theme.rgba(theme.GREY, 0.16), "line": {"width": 0}, "layer": "below"})

    def box(self, x: float, y: float, side: float, colour: str, **look: Any) -> None:
        """A filled square around (x, y)."""
        place = {"x0": x - side / 2, "x1": x + side / 2, "y0": y - side / 2, "y1": y + side / 2}
        self.shapes.append({"type": "rect", **place, "fillcolor": colour, "line": {"width": 0}, **look})

    def words(self, x: float | str, y: float | str, text: str, **look: Any) -> None:
        """Words at a place; on a log axis its logarithm."""
        font = {"color": theme.muted(self.dark), "size": 11}
        self.annotations.append({"x": x, "y": y, "text": text, "showarrow": False, "font": font, **look})

    def note(self, x: float, y: float, text: str) -> None:
        """Words with an arrow from above."""
        self.words(x, y, text, showarrow=True, arrowcolor=theme.muted(self.dark), ax=0, ay=-34)

    def lay_out(self, **layout: Any) -> Self:
        """More of the layout."""
        self.layout.update(layout)
        return self

    def to_json(self) -> bytes:
        """Data and layout as plotly's script reads them; what is not finite is a gap."""
        layout = {"template": _template(self.dark), "shapes": self.shapes, "annotations": self.annotations, **self.layout}
        return orjson.dumps({"data": self.traces, "layout": layout}, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    """Arrays that orjson does not take: strided ones, words."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a figure")


@lru_cache(maxsize=2)
def _template(dark: bool) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"layout": theme.layout(dark)}))
