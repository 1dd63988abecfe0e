"""Several metrics of one step side by side, as bars: a card of the live plots (see charts.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.state import Column
from rlhf.metrics import describe


def card(series: Sequence[str], columns: Mapping[str, Column], selected: int | None, colour: str, log: bool) -> dict[str, Any]:
    """The card, but for key and title: each of ``series`` as it was last measured, up to the selected step."""
    measured = [step for key in series if key in columns for step in columns[key].steps]
    step = max((step for step in measured if selected is None or step <= selected), default=None)
    found = [(describe(key), dict(zip(columns[key].steps, columns[key].values, strict=True))) for key in series if key in columns]
    shown = [(metric, values[step]) for metric, values in found if step in values]
    data = [{
        "type": "bar", "orientation": "h", "x": [value for _m, value in shown], "y": [_(metric.label) for metric, _v in shown],
        "text": [number(value) for _m, value in shown], "textposition": "auto", "insidetextanchor": "start", "cliponaxis": False,
        "marker": {"color": colour}, "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
    }] if shown else []  # fmt: skip
    layout = {
        "uirevision": f"{series[0]}:{log}", "hovermode": "closest", "bargap": 0.35,
        "xaxis": {"rangemode": "tozero", **({"type": "log", "nticks": 4} if log and all(v > 0 for _m, v in shown) else {})},
        "yaxis": {"autorange": "reversed", "showgrid": False},
    }  # fmt: skip
    return {
        "values": [] if step is None else [{"text": _("step {step}").format(step=step), "name": _("measured at")}],
        "several": False, "still": True,
        "definition": _("What the variance of the step's gradient is under each estimator, from the plainest on."),
        "reading": _("All bars are of the same responses. The shorter, the less luck is in a step of the same size."),
        "not_broken": " ".join(f"{_(metric.label)}: {_(metric.not_broken)}" for metric, _v in shown if metric.not_broken),
        "linear": "", "data": data, "layout": layout,
    }  # fmt: skip
