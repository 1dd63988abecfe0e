"""Reliability diagrams: predicted preferences against how often they came true, from the favourite's side (see ``rlhf.reliability``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pages.components import theme
from pages.components.i18n import _
from pages.components.numbers import number
from rlhf.bradley_terry import Bin
from rlhf.reliability import Reliability, reliability

if TYPE_CHECKING:
    import plotly.graph_objects as go


def points(bins: Sequence[Bin], name: str, colour: str) -> dict[str, Any]:
    """A point for each bin, as large as it has votes, with its 95 % interval; a plotly trace as a plain dict."""
    most = max((b.votes for b in bins), default=1.0)
    return {
        "type": "scatter", "mode": "markers", "cliponaxis": False, "name": name,
        "x": [b.predicted for b in bins], "y": [b.observed for b in bins],
        "marker": {"color": colour, "size": [7 + 9 * (b.votes / most) ** 0.5 for b in bins]},
        "error_y": {
            "type": "data", "array": [b.high - b.observed for b in bins], "arrayminus": [b.observed - b.low for b in bins],
            "thickness": 1, "width": 4, "color": colour,
        },
        "customdata": [[b.votes] for b in bins],
        "hovertemplate": "%{x:.1%} → %{y:.1%} (%{customdata[0]:.0f})<extra></extra>",
    }  # fmt: skip


def diagonal(is_dark: bool) -> dict[str, Any]:
    line = {"color": theme.muted(is_dark), "dash": "dot", "width": 1}
    ends = [0.5, 1.0]
    return {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": line, "name": _("perfect"), "hoverinfo": "skip"}


def layout(x_title: str = "") -> dict[str, Any]:
    return {
        "hovermode": "closest",
        "xaxis": {"title": {"text": x_title or _("predicted share of the favourite")}, "tickformat": ".0%", "range": [0.48, 1.02]},
        "yaxis": {"title": {"text": _("observed")}, "tickformat": ".0%", "range": [-0.04, 1.06]},
    }


def figure(series: Mapping[str, tuple[Sequence[Bin], str]], is_dark: bool, height: int = 300) -> go.Figure:
    """name → (bins, colour), over one another; names are the app's own words."""
    import plotly.graph_objects as go

    shown = [points(bins, name, theme.on_ground(colour, is_dark)) for name, (bins, colour) in series.items()]
    drawn = go.Figure(data=[diagonal(is_dark), *shown], layout={"template": theme.template(is_dark), "height": height})
    return drawn.update_layout(**layout())


def card(measured: tuple[int, Sequence[float]] | None, colour: str, is_dark: bool) -> dict[str, Any]:
    """For the live grid (``charts.card``): the margins of one measurement on held-out pairs, and the step it was made at."""
    found: Reliability | None = reliability(measured[1]) if measured else None
    values: list[dict[str, Any]] = []
    data: list[dict[str, Any]] = []
    x_title = ""
    if found and measured:
        data = [{**diagonal(is_dark), "showlegend": False}, {**points(found.bins, _("held-out"), colour), "showlegend": False}]
        x_title = _("predicted share of the favourite, step {step}").format(step=measured[0])
        values = [
            {"text": number(found.confidence, "share"), "name": _("predicted")},
            {"text": number(found.accuracy, "share"), "name": _("observed"), "colour": colour},
        ]
    return {
        "title": _("Reliability"), "values": values, "several": True, "still": True, "linear": "", "data": data,
        "layout": {"uirevision": "reliability", **layout(x_title)},
        "definition": _(
            "Held-out pairs in bins by σ(margin), the probability that the model gives the answer it prefers; "
            "upwards, how often that answer is the chosen one. Bars: 95 % intervals (Wilson). Large points: many pairs."
        ),
        "reading": _(
            "On the dotted line the model is right as often as it says. Below it, it is too sure of itself. A pair has no natural left and "
            "right, so each is seen from the side of the model's favourite; seen from the chosen one, every pair would have come true."
        ),
        "not_broken": _("At step 0 predictions are close to 50 %: a head that was just drawn at random knows nothing."),
    }  # fmt: skip
