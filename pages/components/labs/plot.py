"""A plotly figure that is made at once, as dicts: ``add_…`` and ``update_layout`` look through the whole figure again each time, which
takes some 50 ms for one of six traces instead of 3, and a slider waits for it."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from pages.components import theme


class Plot:
    """Collects traces, lines and notes; ``figure`` makes the figure, with the theme's template."""

    def __init__(self) -> None:
        self.dark = theme.dark()
        self.traces: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []

    def bar(self, **trace: Any) -> None:
        self.traces.append({"type": "bar", **trace})

    def scatter(self, **trace: Any) -> None:
        self.traces.append({"type": "scatter", **trace})

    def level(self, y: float = 0.0) -> None:
        """A thin horizontal line."""
        line = {"color": theme.muted(self.dark), "width": 1}
        self.shapes.append({"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line})

    def upright(self, x: float) -> None:
        """A dotted vertical line: where the setting stands."""
        line = {"color": theme.muted(self.dark), "width": 1, "dash": "dot"}
        self.shapes.append({"type": "line", "yref": "y domain", "y0": 0, "y1": 1, "x0": x, "x1": x, "line": line})

    def band(self, x: float) -> None:
        """A shade behind the bars at ``x``: what is selected."""
        place = {"yref": "y domain", "y0": 0, "y1": 1, "x0": x - 0.5, "x1": x + 0.5}
        self.shapes.append({"type": "rect", **place, "fillcolor": theme.rgba(theme.GREY, 0.16), "line": {"width": 0}, "layer": "below"})

    def note(self, x: float, y: float, text: str) -> None:
        """Words with an arrow from above."""
        colour = theme.muted(self.dark)
        look = {"arrowcolor": colour, "font": {"color": colour, "size": 11}, "showarrow": True, "ax": 0, "ay": -34}
        self.notes.append({"x": x, "y": y, "text": text, **look})

    def figure(self, **layout: Any) -> go.Figure:
        layout = {"template": theme.template(self.dark), "shapes": self.shapes, "annotations": self.notes, **layout}
        return go.Figure(data=self.traces, layout=layout)
