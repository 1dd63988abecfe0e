"""Trust regions: what the updates of each method spent and won."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs.trust_settings import COLOURS, SYMBOLS, Setup, names
from rlhf.labs.trust_region import METHODS, Round


def spent_and_won(setup: Setup, last: Round) -> go.Figure:
    """Of one update: the KL of each method beside the limit, and what it promised and won."""
    is_dark, labels = theme.dark(), [names()[method] for method in METHODS]
    made = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.06, subplot_titles=[_("KL spent (nats)"), _("Gain in J")],
        figure=go.Figure(layout={"template": theme.template(is_dark)}),
    )  # fmt: skip
    colours = [theme.on_ground(COLOURS[method], is_dark) for method in METHODS]
    bars = {"y": labels, "orientation": "h", "marker_color": colours, "showlegend": False}
    made.add_bar(x=[last[m].kl for m in METHODS], hovertemplate="%{x:.4f}<extra></extra>", **bars, row=1, col=1)
    made.add_vline(x=setup.settings.delta, line={"dash": "dot", "color": theme.ink(is_dark), "width": 1}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    made.add_bar(
        x=[last[m].won for m in METHODS], hovertemplate=_("won {gain}").format(gain="%{x:.3f}") + "<extra></extra>", **bars, row=1, col=2
    )
    tick = {"symbol": "line-ns-open", "size": 16, "line": {"width": 3, "color": theme.ink(is_dark)}, "color": theme.ink(is_dark)}
    made.add_scatter(
        x=[last[m].promised for m in METHODS], y=labels, mode="markers", marker=tick,
        hovertemplate=_("promised {gain}").format(gain="%{x:.3f}") + "<extra></extra>", row=1, col=2,
    )  # fmt: skip
    made.update_layout(height=230, bargap=0.35, margin={"t": 40}, showlegend=False)
    made.update_yaxes(autorange="reversed")
    made.update_xaxes(rangemode="tozero", nticks=5)
    made.update_annotations(font={"size": 12, "color": theme.muted(is_dark)})
    return made


def over_updates(setup: Setup, done: Sequence[Round]) -> go.Figure:
    """J after each update, and the KL that each spent."""
    is_dark = theme.dark()
    empty = go.Figure(layout={"template": theme.template(is_dark)})
    made = make_subplots(1, 2, horizontal_spacing=0.12, subplot_titles=["J", _("KL spent (nats)")], figure=empty)
    for method in METHODS:
        colour = theme.on_ground(COLOURS[method], is_dark)
        look = {
            "mode": "lines+markers", "name": names()[method], "legendgroup": method, "line": {"color": colour},
            "marker": {"symbol": SYMBOLS[method], "size": 5},
        }  # fmt: skip
        returns = [done[0][method].before, *(round_[method].after for round_ in done)]
        made.add_scatter(x=np.arange(len(returns)), y=returns, **look, row=1, col=1)
        made.add_scatter(x=np.arange(1, len(returns)), y=[r[method].kl for r in done], **look, showlegend=False, row=1, col=2)
    made.add_hline(y=setup.settings.delta, line={"dash": "dot", "color": theme.ink(is_dark), "width": 1}, row=1, col=2)  # pyright: ignore[reportArgumentType]
    made.update_layout(height=260, margin={"t": 60}, hovermode="x unified", legend={"y": 1.12})
    made.update_xaxes(title_text=_("update"))
    made.update_annotations(font={"size": 12, "color": theme.muted(is_dark)})
    return made
