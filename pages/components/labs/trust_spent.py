"""Trust regions: what the updates of each method spent and won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs.plot import Plot
from pages.components.labs.trust_settings import COLOURS, SYMBOLS, Setup, names
from rlhf.labs.trust_region import METHODS, Round

Axis = dict[str, Any]


def _two(left: str, right: str, gap: float, across: Axis, down: Axis, down_right: Axis) -> Plot:
    """Two plots side by side under their titles; the axes of the right one are x2 and y2."""
    made, edge = Plot(), 0.5 - gap / 2
    for title, axis, domain, upright in ((left, "", [0, edge], down), (right, "2", [1 - edge, 1], down_right)):
        made.words(
            0.5, 1, title, xref=f"x{axis} domain", yref="paper", yanchor="bottom", font={"size": 12, "color": theme.muted(made.dark)}
        )
        axes = {f"xaxis{axis}": {**across, "domain": domain, "anchor": f"y{axis}"}, f"yaxis{axis}": {**upright, "anchor": f"x{axis}"}}
        made.lay_out(**axes)
    return made


def spent_and_won(setup: Setup, last: Round) -> Plot:
    """Of one update: the KL of each method beside the limit, and what it promised and won."""
    labels = [names()[method] for method in METHODS]
    down = {"autorange": "reversed"}
    made = _two(
        _("KL spent (nats)"), _("Gain in J"), 0.06, {"rangemode": "tozero", "nticks": 5}, down, {**down, "showticklabels": False}
    )  # fmt: skip
    ink = theme.ink(made.dark)
    bars = {
        "y": labels, "orientation": "h", "marker": {"color": [theme.on_ground(COLOURS[method], made.dark) for method in METHODS]},
    }  # fmt: skip
    made.bar(x=[last[m].kl for m in METHODS], hovertemplate="%{x:.4f}<extra></extra>", **bars)
    made.upright(setup.settings.delta, colour=ink)
    right = {"xaxis": "x2", "yaxis": "y2"}
    made.bar(x=[last[m].won for m in METHODS], hovertemplate=_("won {gain}").format(gain="%{x:.3f}") + "<extra></extra>", **bars, **right)
    tick = {"symbol": "line-ns-open", "size": 16, "line": {"width": 3, "color": ink}, "color": ink}
    made.scatter(
        x=[last[m].promised for m in METHODS], y=labels, mode="markers", marker=tick,
        hovertemplate=_("promised {gain}").format(gain="%{x:.3f}") + "<extra></extra>", **right,
    )  # fmt: skip
    return made.lay_out(height=230, bargap=0.35, margin={"t": 40}, showlegend=False)


def over_updates(setup: Setup, done: Sequence[Round]) -> Plot:
    """J after each update, and the KL that each spent."""
    made = _two("J", _("KL spent (nats)"), 0.12, {"title": {"text": _("update")}}, {}, {})
    for method in METHODS:
        look = {
            "mode": "lines+markers", "name": names()[method], "legendgroup": method,
            "line": {"color": theme.on_ground(COLOURS[method], made.dark)}, "marker": {"symbol": SYMBOLS[method], "size": 5},
        }  # fmt: skip
        returns = [done[0][method].before, *(round_[method].after for round_ in done)]
        made.scatter(x=np.arange(len(returns)), y=returns, **look)
        made.scatter(x=np.arange(1, len(returns)), y=[r[method].kl for r in done], **look, showlegend=False, xaxis="x2", yaxis="y2")
    made.level(setup.settings.delta, colour=theme.ink(made.dark), dash="dot", axis="2")
    return made.lay_out(height=260, margin={"t": 60}, hovermode="x unified", legend={"y": 1.12})
