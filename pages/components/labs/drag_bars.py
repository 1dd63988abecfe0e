"""Numbers as bars that are dragged (or moved with the arrow keys): rewards, values, reference probabilities.

The values live in the session under the widget's name and in the link, as ``?kl.rewards=1,0.5,-2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from pages.components import link, theme
from pages.components.labs.setting import key as setting_key

_HERE = Path(__file__).parent
INTERACTIVE_SCRIPT = (_HERE / "interactive.js").read_text(encoding="utf-8")  # comes before a component's own script
_component = component(
    "rlhf_drag_bars",
    html='<div class="drag-bars"></div>',
    js=INTERACTIVE_SCRIPT + (_HERE / "drag_bars.js").read_text(encoding="utf-8"),
    css=(_HERE / "drag_bars.css").read_text(encoding="utf-8"),
)


def drag_bars(
    lab: str,
    name: str,
    title: str,
    labels: Sequence[str],
    default: Sequence[float],
    *,
    low: float,
    high: float,
    step: float = 0.05,
    colours: Sequence[str] | str = theme.BLUE,
    height: int = 190,
) -> list[float]:
    """One bar for each label; → their values. Where the number of bars changes, the first values stay and ``default`` fills the rest.

    ``colours``: of the palette, one for all or one each. ``set_bars`` moves them from a callback.
    """
    st.caption(title)
    values = bar_values(lab, name, default, low=low, high=high)
    key = setting_key(lab, name)
    st.session_state[f"{key}/values"] = values
    _put_in_link(key, values, default)
    shades = [colours] * len(values) if isinstance(colours, str) else list(colours)
    meta = st.session_state.setdefault(f"{key}/meta", {"seq": 0, "stamp": 0})
    data = {
        "values": values, "labels": list(labels), "title": title, "low": low, "high": high, "step": step, "height": height,
        "colours": [theme.on_ground(colour, theme.dark()) for colour in shades], "ticks": _ticks(low, high),
        "seq": meta["seq"], "stamp": f"{meta['stamp']}:{len(values)}:{low:g}:{high:g}",
    }  # fmt: skip
    _component(key=f"{key}/bars", data=data, on_bars_change=lambda: _take(lab, name, low, high))
    return values


def set_bars(lab: str, name: str, values: Sequence[float]) -> None:
    """Move the bars, as a preset or a reset does; in a callback."""
    key = setting_key(lab, name)
    st.session_state[f"{key}/values"] = [float(value) for value in values]
    meta = st.session_state.setdefault(f"{key}/meta", {"seq": 0, "stamp": 0})
    meta["stamp"] += 1


def bar_values(lab: str, name: str, default: Sequence[float], *, low: float, high: float) -> list[float]:
    """Where the bars stand, also before they are drawn: from the session; else from the link; else the default; as many as the default
    has and within the limits."""
    known = st.session_state.get(f"{setting_key(lab, name)}/values")
    if known is None or link.went_back():
        known = _numbers(str(st.query_params.get(setting_key(lab, name), "")).split(","))
    values = [*known, *default[len(known) :]][: len(default)]
    return [min(high, max(low, float(value))) for value in values]


def _numbers(texts: Sequence[Any]) -> list[float]:
    """As many as are numbers, from the start; the browser and the link are not trusted."""
    found: list[float] = []
    for text in texts[:64]:
        try:
            value = float(text)
        except (TypeError, ValueError):
            break
        if not math.isfinite(value):
            break
        found.append(value)
    return found


def _take(lab: str, name: str, low: float, high: float) -> None:
    """What was dragged in the browser; ignored where it does not fit the bars shown now, or was sent before a preset moved them."""
    key = setting_key(lab, name)
    sent = (st.session_state.get(f"{key}/bars") or {}).get("bars")
    if not isinstance(sent, dict) or not isinstance(sent.get("values"), list) or not isinstance(sent.get("seq"), int):
        return
    meta = st.session_state[f"{key}/meta"]
    if str(sent.get("stamp")).split(":")[0] != str(meta["stamp"]):
        return
    values = _numbers(sent["values"])
    if len(values) == len(st.session_state.get(f"{key}/values", ())):
        st.session_state[f"{key}/values"] = [min(high, max(low, value)) for value in values]
        meta["seq"] = sent["seq"]


def _put_in_link(key: str, values: Sequence[float], default: Sequence[float]) -> None:
    usual = list(values) == [float(value) for value in default]
    link.put(key, "" if usual else ",".join(f"{value:g}" for value in values))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the limits, 0 among them where it lies within."""
    raw = (high - low) / 4
    size = 10 ** math.floor(math.log10(raw))
    gap = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw - 1e-9)
    first = math.ceil(low / gap - 1e-9)
    return [round(i * gap, 6) + 0.0 for i in range(first, math.floor(high / gap + 1e-9) + 1)]
