"""A plotly figure that follows a slider: kept in the browser and redrawn in place, where ``st.plotly_chart`` would make a new one.

With several figures on a page that is the difference between a third of a second and a tenth (benchmarks/lab_latency.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import orjson
import streamlit as st
from streamlit.components.v2 import component

from pages.components.charts import PLOTLY_SCRIPT
from pages.components.i18n import _
from pages.components.labs.plot import Plot

_component = component(
    "rlhf_lab_figure",
    html='<div class="lab-figure"></div>',
    css=".lab-figure { width: 100%; }",
    js=PLOTLY_SCRIPT + (Path(__file__).parent / "live_figure.js").read_text(encoding="utf-8"),
    isolate_styles=False,  # plotly writes its own rules into the page's head
)


def live_figure(plot: Plot, *, key: str, on_click: Callable[[], None] | None = None) -> None:
    """Draw it. ``on_click`` is called when a point is clicked: ``clicked(key)`` says where."""
    missing = _("The plots' script could not be loaded. Reload the page.")
    data = {"figure": orjson.Fragment(plot.to_json()), "clicks": on_click is not None, "missing": missing}
    _component(key=key, data=orjson.dumps(data), on_clicked_change=on_click or _nothing)


def clicked(key: str) -> float | None:
    """The x of the point that was just clicked; None without a click, or where the browser sends anything else."""
    x = (st.session_state.get(key) or {}).get("clicked")
    return float(x) if isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) else None


def _nothing() -> None:
    """For a figure without clicks."""
