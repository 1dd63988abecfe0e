"""Plots of metrics. What is drawn together is in ``CHARTS``; labels, units and explanations come from ``rlhf.metrics`` and nowhere else.

Two ways to show them:

- ``still(figure)``: any plotly figure, such as ``metric_figure(…)``, on pages that stand still (Runs, Compare, Bradley–Terry).
- ``grid(…)``: the live plots. ``st.plotly_chart`` gives a chart a new identity whenever its data changes, so that the browser throws it
  away and builds another one each second: tooltips vanish, zoom is lost, clicks fall into the gap. The grid is a small component
  (plot_grid.js) that keeps the charts and hands plotly the new data (``Plotly.react``); a click on a point comes back as its step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.components.v2 import component

from pages.components import bars, reliability, theme
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.state import Column, Feed
from rlhf.metrics import describe

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Chart:
    """``series``: metric keys drawn together, the first names the chart. ``band``: key of a spread around the first series.
    ``distribution``: a distribution of the step's event whose percentiles are drawn instead of lines.
    ``reliability``: margins on held-out pairs (``eval/…``) that are drawn as a reliability diagram, of one measurement at a time.
    ``optional``: of a variant; drawn for runs that measure it. ``bars``: the series side by side as they were last measured (at the
    selected step or before it), under this title."""

    series: tuple[str, ...]
    band: str = ""
    distribution: str = ""
    reliability: str = ""
    optional: bool = False
    bars: str = ""

    @property
    def key(self) -> str:
        return self.reliability or self.distribution or (f"bars:{self.series[0]}" if self.bars else self.series[0])


_ONLINE = (
    Chart(("reward",), band="reward_std"),
    Chart(("kl",)),
    Chart(("advantages/std",), distribution="advantages"),
    Chart(("entropy",)),
    Chart(("clip_ratio/region_mean",)),
    Chart(("loss", "loss/policy", "loss/kl")),
    Chart(("completions/mean_length",)),
)
_LADDER = tuple(f"grad_variance/{name}" for name in ("trajectory", "to_go", "running_mean", "leave_one_out", "greedy", "value"))
CHARTS: dict[str, tuple[Chart, ...]] = {
    "reinforce": (
        *_ONLINE[:2],
        Chart(("grad_variance",), optional=True),
        Chart(_LADDER, bars="Variance of the gradient, by estimator", optional=True),
        *_ONLINE[2:4],
        Chart(("loss", "loss/value")),
        Chart(("completions/mean_length",)),
        Chart(("values/explained_variance",), optional=True),
        Chart(("clip_ratio/region_mean",), optional=True),
    ),
    "grpo": (*_ONLINE, Chart(("frac_reward_zero_std",))),
    "ppo": (
        *_ONLINE,
        Chart(("loss/value",), optional=True),
        Chart(("values/explained_variance",), optional=True),
        Chart(("policy/approxkl",)),
        Chart(("policy/approxkl_after",), optional=True),
        Chart(("policy/penalty_coef",), optional=True),
        Chart(("epochs",), optional=True),
    ),
    "dpo": (
        Chart(("rewards/margins",)),
        Chart(("rewards/accuracies",)),
        Chart(("rewards/chosen", "rewards/rejected")),
        Chart(("logps/chosen", "logps/rejected")),
        Chart(("loss",)),
        Chart(("grad_norm",)),
    ),
    "online_dpo": (
        *_ONLINE[:2],
        Chart(("rewards/margins",)),
        Chart(("rewards/chosen", "rewards/rejected")),
        Chart(("pairs",)),
        Chart(("entropy",)),
        Chart(("loss",)),
        Chart(("completions/mean_length",)),
    ),
    "rrhf": (
        *_ONLINE[:2],
        Chart(("best_reward",)),
        Chart(("rank_accuracy",)),
        Chart(("loss", "loss/rank", "loss/sft")),
        Chart(("entropy",)),
        Chart(("completions/mean_length",)),
        Chart(("frac_reward_zero_std",)),
    ),
    "sft": (Chart(("loss",)), Chart(("mean_token_accuracy",)), Chart(("perplexity",)), Chart(("grad_norm",))),
    "reward_model": (
        Chart(("accuracy",)),
        Chart(("loss",)),
        Chart(("scores/chosen", "scores/rejected")),
        Chart(("margin",), distribution="margin"),
        Chart(("grad_norm",)),
    ),
}
COMPACT: dict[str, tuple[Chart, ...]] = {
    **dict.fromkeys(("reinforce", "grpo", "ppo", "online_dpo", "rrhf"), _ONLINE[:2]),
    **{name: CHARTS[name][:2] for name in ("dpo", "sft", "reward_model")},
}
MARGINS = "eval/margins"
_ROLES = {"chosen": theme.ROLE_COLOURS["chosen"], "rejected": theme.ROLE_COLOURS["rejected"]}
_PARTS = (theme.GREEN, theme.PURPLE, theme.SKY)


def charts_of(feed: Feed, algorithm: str) -> tuple[Chart, ...]:
    """The charts of a run: its algorithm's and its variant's, and the parts of the reward where it is a mix."""
    charts = tuple(chart for chart in CHARTS.get(algorithm, ()) if not chart.optional or chart.series[0] in feed.columns)
    parts = tuple(sorted(key for key in feed.columns if key.startswith("reward/")))
    more = ((Chart(("gold",)),) if "gold" in feed.columns else ()) + ((Chart(parts),) if len(parts) > 1 else ())
    if MARGINS in feed.heldout:
        more = (*more, Chart(("accuracy",), reliability=MARGINS))
    return (*charts[:1], *more, *charts[1:])


def extra_keys(feed: Feed, algorithm: str) -> list[str]:
    """Metrics that a run has and that no chart of its own shows: offered as further plots."""
    shown = {key for chart in charts_of(feed, algorithm) for key in (*chart.series, chart.band)}
    return sorted(key for key in feed.columns if key not in shown and not key.startswith("eval/"))


def smoothed(values: Sequence[float], amount: float) -> list[float]:
    """Exponential moving average with its start corrected for (as TensorBoard does it); ``amount`` 0 changes nothing, 0.99 smooths most."""
    if amount <= 0:
        return list(values)
    out: list[float] = []
    average = weight = 0.0
    for value in values:
        average = amount * average + (1 - amount) * value
        weight = amount * weight + (1 - amount)
        out.append(round(average / weight, 6))
    return out


def _line(column: Column, name: str, colour: str, smooth: float, unit: str) -> list[dict[str, Any]]:
    """The raw curve, and over it the smoothed one if there is any smoothing."""
    hover = f"%{{y:.3g}}{' ' + unit if unit and unit != 'share' else ''}"
    raw = {
        "type": "scatter", "x": column.steps, "y": column.values, "name": name,
        "mode": "lines+markers" if len(column.steps) < 3 else "lines",
        "line": {"color": colour, "width": 2}, "marker": {"size": 5}, "hovertemplate": hover + "<extra></extra>", "showlegend": False,
    }  # fmt: skip
    if smooth <= 0:
        return [raw]
    raw |= {"opacity": 0.3, "line": {"color": colour, "width": 1}}
    return [
        raw,
        {
            **raw,
            "y": smoothed(column.values, smooth),
            "opacity": 1,
            "line": {"color": colour, "width": 2},
            "hoverinfo": "skip",
            "hovertemplate": None,
        },
    ]


def _area(steps: list[int], low: list[float], high: list[float], colour: str, alpha: float) -> list[dict[str, Any]]:
    edge = {"type": "scatter", "mode": "lines", "x": steps, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return [{**edge, "y": low}, {**edge, "y": high, "fill": "tonexty", "fillcolor": theme.rgba(colour, alpha)}]


def traces(chart: Chart, feed: Feed, colour: str, smooth: float, is_dark: bool) -> list[dict[str, Any]]:
    """The plotly traces of one chart, as plain dicts: a tenth of the cost of ``go.Figure``, which counts once a second."""
    if chart.distribution:
        rows = feed.spread.get(chart.distribution, [])
        steps = [step for step, _p in rows]
        low, quarter, middle, three_quarters, high = ([p[i] for _s, p in rows] for i in range(5))
        median = Column(steps, middle)
        return [
            *_area(steps, low, high, colour, 0.14),
            *_area(steps, quarter, three_quarters, colour, 0.26),
            *_line(median, _("median"), colour, 0.0, ""),
        ]
    out: list[dict[str, Any]] = []
    main = feed.columns.get(chart.series[0])
    spread = feed.columns.get(chart.band)
    if main and spread:
        width = dict(zip(spread.steps, smoothed(spread.values, smooth), strict=True))
        pairs = [(s, v, width[s]) for s, v in zip(main.steps, smoothed(main.values, smooth), strict=True) if s in width]
        out += _area([s for s, _v, _w in pairs], [v - w for _s, v, w in pairs], [v + w for _s, v, w in pairs], colour, 0.15)
    for i, key in enumerate(chart.series):
        metric = describe(key)
        tint = _tint(key, i, colour, is_dark)
        if column := feed.columns.get(key):
            out += _line(column, _(metric.label), tint, smooth, metric.unit)
        if held := feed.columns.get(f"eval/{key}"):
            out += _interval(feed, f"eval/{key}", tint)
            size, fill = 8 if len(held.steps) <= 12 else 5, tint if len(chart.series) > 1 else theme.ink(is_dark)
            edge = {"width": 1, "color": "#11151a" if is_dark else "#ffffff"}
            out.append({
                "type": "scatter", "mode": "markers", "x": held.steps, "y": held.values, "name": _("held-out"), "showlegend": False,
                "marker": {"symbol": "diamond", "size": size, "color": fill, "line": edge},
                "hovertemplate": _("held-out") + " %{y:.3g}<extra></extra>",
            })  # fmt: skip
    return out


def _interval(feed: Feed, key: str, colour: str) -> list[dict[str, Any]]:
    """The band between KEY/low and KEY/high, where a held-out figure was measured with its interval."""
    low, high = feed.columns.get(f"{key}/low"), feed.columns.get(f"{key}/high")
    if not low or not high or low.steps != high.steps:
        return []
    return _area(low.steps, low.values, high.values, colour, 0.14)


WHOLE_AXIS = 300


def card(
    chart: Chart, feed: Feed, *, algorithm: str, steps: int, smooth: float, log: bool, selected: int | None, is_dark: bool
) -> dict[str, Any]:
    """One chart of the grid: heading, latest values, explanation and plotly's ``data`` and ``layout``; JSON throughout.

    Up to ``WHOLE_AXIS`` steps the axis shows the whole run from the start, so that curves grow into it and nothing is rescaled.
    """
    colour = theme.on_ground(theme.ALGORITHM_COLOURS.get(algorithm, theme.BLUE), is_dark)
    if chart.reliability:
        return {"key": chart.key, **reliability.card(feed.heldout_at(chart.reliability, selected), colour, is_dark)}
    if chart.bars:
        return {"key": chart.key, "title": _(chart.bars), **bars.card(chart.series, feed.columns, selected, colour, log)}
    metric = describe(chart.series[0])
    data = traces(chart, feed, colour, smooth, is_dark)
    numbers = [v for trace in data for v in trace["y"]]
    can_log = min(numbers, default=0) >= 0 and max(numbers, default=0) > 0  # zeros (KL at the start) are left out of a log axis
    layout = {
        "uirevision": f"{chart.key}:{log}",
        "hovermode": "x",
        "xaxis": {"title": {"text": _("step")}, "tickformat": "d", "rangemode": "tozero"},
        "yaxis": {"title": {"text": _(metric.unit) if metric.unit not in ("", "share") else ""}},
    }
    if steps <= WHOLE_AXIS:
        layout["xaxis"] |= {"range": [-0.02 * steps, 1.02 * steps]}
    if metric.unit == "share":
        layout["yaxis"] |= {"tickformat": ".2~%"}
    if numbers and not any(numbers):
        layout["yaxis"] |= {"range": [0, 0.1 if metric.unit == "share" else 1]}  # plotly would centre a line of zeros between −1 and 1
    if log and can_log:
        layout["yaxis"] |= {"type": "log", "nticks": 4}
    if selected is not None:
        layout["shapes"] = [{
            "type": "line", "x0": selected, "x1": selected, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": theme.muted(is_dark), "width": 1, "dash": "dot"},
        }]  # fmt: skip
    if chart.distribution and chart.distribution != "advantages":
        title, values = _(metric.label), []
        definition = _("Lines from the bottom: 5th, 25th, 50th (median), 75th and 95th percentile over the step.")
        reading = _(metric.definition)
    elif chart.distribution:
        title = _("Advantages")
        values = []
        note = _("Lines from the bottom: 5th, 25th, 50th (median), 75th and 95th percentile of the advantages of the step's responses.")
        definition, reading = (
            note,
            _("Half of the responses lie in the dark band. As wide at the end as at the start: there is still something to learn."),
        )
    else:
        title = _(metric.label)
        definition, reading = _(metric.definition), _(metric.reading)
        values = [_latest(key, feed, _tint(key, i, colour, is_dark)) for i, key in enumerate(chart.series) if key in feed.columns]
        if f"eval/{chart.series[0]}" in feed.columns and len(chart.series) == 1:
            held = feed.last(f"eval/{chart.series[0]}")
            values.append({"text": number(held, "share" if metric.unit == "share" else ""), "name": _("held-out"), "diamond": True})
    parts = []
    for key in chart.series:
        other = describe(key)
        if other.not_broken:
            parts.append(f"{_(other.label)}: {_(other.not_broken)}" if len(chart.series) > 1 else _(other.not_broken))
    negative = min(numbers, default=0) < 0
    return {
        "key": chart.key, "title": title, "values": values, "several": len(chart.series) > 1 and not chart.distribution,
        "definition": definition, "reading": reading, "not_broken": " ".join(parts),
        "linear": _("Linear: it has negative values.") if log and negative else "", "data": data, "layout": layout,
    }  # fmt: skip


def _tint(key: str, i: int, colour: str, is_dark: bool) -> str:
    """The colour of the i-th series of a chart: a role's own, the algorithm's for the first, else one of the palette."""
    name = key.rpartition("/")[2]
    if name in _ROLES or i > 0:
        return theme.on_ground(_ROLES.get(name) or _PARTS[(i - 1) % len(_PARTS)], is_dark)
    return colour


def _latest(key: str, feed: Feed, tint: str) -> dict[str, Any]:
    metric = describe(key)
    return {"text": number(feed.last(key), "share" if metric.unit == "share" else ""), "name": _(metric.label), "colour": tint}


_HERE = Path(__file__).parent
PLOTLY_SCRIPT = (_HERE / "plotly_script.js").read_text(encoding="utf-8")  # comes before a component's own script
_grid = component(
    "plot_grid",
    js=PLOTLY_SCRIPT + (_HERE / "plot_grid.js").read_text(encoding="utf-8"),
    css=(_HERE / "plot_grid.css").read_text(encoding="utf-8"),
    isolate_styles=False,  # plotly writes its own rules into the page's head
)


def payload(cards: Sequence[Mapping[str, Any]], *, is_dark: bool = False, compact: bool = False) -> bytes:
    """What the browser gets. Bytes are passed on as they are; a dict would be searched for data frames and written out twice."""
    content = {
        "cards": cards, "template": {"layout": theme.layout(is_dark)}, "compact": compact,
        "words": {
            "about": _("What this is"), "reading": _("How to read it"), "not_broken": _("Looks broken, but is not"),
            "waiting": _("The first step comes next."), "linear": _("linear"),
            "missing": _("The plots' script could not be loaded. Reload the page."),
        },
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")).encode()


def grid(content: bytes, *, key: str, on_step: Callable[[], None] | None = None) -> None:
    """Show a ``payload`` as a grid of live plots. ``on_step`` is called when a point is clicked: ``clicked_step(key)`` says which."""
    _grid(key=key, data=content, on_step_change=on_step or _nothing)


def clicked_step(key: str) -> int | None:
    """The step whose point was just clicked in a grid; None if there was no click, or none on a step (the browser is not trusted)."""
    step = (st.session_state.get(key) or {}).get("step")
    return step if isinstance(step, int) and step >= 0 else None


def preload() -> None:
    """Let the browser fetch plotly's script while nothing else is going on, so that the first plot of a run is there at once."""
    _grid(key="plot-grid-preload", data=json.dumps({"cards": [], "preload": True}).encode(), on_step_change=_nothing)


def _nothing() -> None:
    """For a grid without clicks."""


def still(figure: go.Figure, *, key: str, tools: bool = False) -> None:
    """Draw a figure as all of them are. ``tools``: with plotly's buttons, to zoom and to save it as a picture."""
    st.plotly_chart(figure, theme=None, config={"displaylogo": False} if tools else {"displayModeBar": False}, key=key)


def metric_figure(
    runs_metrics: Mapping[str, Sequence[Mapping[str, float]]],
    key: str,
    smooth: float = 0.0,
    log: bool = False,
    *,
    colours: Mapping[str, str] | None = None,
    is_dark: bool | None = None,
) -> go.Figure:
    """One metric of one or several runs (name → rows with ``step``) in a plotly figure, held-out points as diamonds."""
    import plotly.graph_objects as go  # not needed by Home, so not on the way to the first page

    is_dark = theme.dark() if is_dark is None else is_dark
    metric = describe(key)
    data: list[dict[str, Any]] = []
    for i, (name, rows) in enumerate(runs_metrics.items()):
        colour = theme.on_ground((colours or {}).get(name) or theme.SERIES_COLOURS[i % len(theme.SERIES_COLOURS)], is_dark)
        one = [row for row in rows if row.get(key) is not None]
        lines = _line(Column([int(r["step"]) for r in one], [r[key] for r in one]), name, colour, smooth, metric.unit)
        lines[-1]["showlegend"] = len(runs_metrics) > 1
        data += lines
        held = [row for row in rows if row.get(f"eval/{key}") is not None]
        if held:
            data.append({
                "type": "scatter", "mode": "markers", "x": [r["step"] for r in held], "y": [r[f"eval/{key}"] for r in held],
                "name": f"{name} · {_('held-out')}", "showlegend": False, "marker": {"symbol": "diamond", "size": 8, "color": colour},
                "hovertemplate": f"{name} · {_('held-out')} %{{y:.3g}}<extra></extra>",
            })  # fmt: skip
    figure = go.Figure(data=data, layout={"template": theme.template(is_dark), "height": 320, "hovermode": "x unified"})
    figure.update_xaxes(title_text=_("step"))
    figure.update_yaxes(
        title_text=f"{_(metric.label)} ({_(metric.unit)})" if metric.unit else _(metric.label), type="log" if log else "linear"
    )
    if metric.unit == "share":
        figure.update_yaxes(tickformat=".2~%")
    return figure
