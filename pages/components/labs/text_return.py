"""The reward on its way back: the return at each position as plot and table, and the formula with the chosen position's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.plot import Plot
from pages.components.labs.text_walk import LAB
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs.mdp import Floats

TABLE = "mdp/table"
VALUE_COLOUR = theme.ORANGE  # PPO's: its critic


@dataclass(frozen=True)
class WayBack:
    """A text position by position, all (T,): its tokens, their log-probabilities (nats), rewards and returns. ``rewards`` and ``returns``
    are empty while it is not over; ``expected``: V(s_0) … V(s_T), (T + 1,), or None without a critic."""

    strings: Sequence[str]
    logprobs: Sequence[float]
    rewards: Sequence[float]
    returns: Floats
    gamma: float
    expected: Floats | None = None


def gamma_slider() -> float:
    words = _("How much of a later reward still counts one token earlier. RLHF nearly always uses 1.")
    return setting.slider(LAB, "gamma", "γ", 0.0, 1.0, 1.0, 0.01, help=words)


def labels(strings: Sequence[str]) -> list[str]:
    """Tokens as they can stand on an axis and in a table: blanks are seen, and nothing is read as markup."""
    seen = [string.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥") or "∅" for string in strings]
    return [(text if len(text) <= 12 else text[:11] + "…").replace("<", "‹").replace("&", "＆") for text in seen]


def figure(way: WayBack, *, height: int = 250, scale: tuple[float, float] | None = None) -> Plot:
    """Bars: what each token is paid; line: the return; dotted: what the critic expected. ``scale``: of the vertical axis."""
    is_dark, plot = theme.dark(), Plot()
    x = list(range(len(way.strings)))
    blue, grey, orange = (theme.on_ground(colour, is_dark) for colour in (theme.BLUE, theme.GREY, VALUE_COLOUR))
    if len(way.rewards):
        plot.bar(x=x, y=way.rewards, name=_("reward r"), marker={"color": grey}, width=0.35, hovertemplate="r = %{y:.3g}")
        plot.scatter(**_line(_("return G"), "G", x, way.returns, blue, "solid"))
    ends = labels(way.strings)
    if way.expected is not None:
        plot.scatter(**_line(_("critic V(s)"), "V", list(range(len(way.expected))), way.expected, orange, "dot"))
        ends += [_("end") if len(way.rewards) else "…"]
    axis = {"tickvals": list(range(len(ends))), "ticktext": ends, "tickangle": 0 if len(ends) <= 10 else -60}
    return plot.lay_out(
        height=height, hovermode="x unified", xaxis={**axis, "range": [-0.5, len(ends) - 0.5]}, yaxis={"range": scale or _scale(way)}
    )


def _line(name: str, symbol: str, x: list[int], y: Floats, colour: str, dash: str) -> dict[str, Any]:
    style = {"mode": "lines+markers", "line": {"color": colour, "width": 2, "dash": dash}, "marker": {"size": 8}}
    return {"name": name, "x": x, "y": y, "hovertemplate": f"{symbol} = %{{y:.3g}}", **style}


def _scale(way: WayBack) -> tuple[float, float]:
    """All that is drawn and 0; where all is 0, up to 1."""
    shown = [0.0, *way.rewards, *way.returns, *([] if way.expected is None else way.expected)]
    low, high = min(shown), max(shown)
    high = high if high > low else 1.0
    return low - 0.12 * (high - low), high + 0.12 * (high - low)


def table(way: WayBack, on_row: Callable[[], None] | None = None) -> None:
    """``on_row`` is called when a row is chosen: ``st.session_state[TABLE]`` says which."""
    rows = range(len(way.strings))
    columns: dict[str, Sequence[object]] = {
        "t": list(rows), _("token"): labels(way.strings), "π(a|s)": [number(math.exp(p), "share") for p in way.logprobs],
        "log π": [number(p) for p in way.logprobs],
    }  # fmt: skip
    if len(way.rewards):
        columns |= {"r": [number(r) for r in way.rewards], "G": [number(g) for g in way.returns]}
    if way.expected is not None:
        columns["V(s)"] = [number(float(way.expected[t])) for t in rows]
        if len(way.rewards):
            columns["G − V"] = [number(float(way.returns[t] - way.expected[t]), sign=True) for t in rows]
    frame = pd.DataFrame(columns)
    height = "content" if len(rows) <= 12 else 420
    if on_row is None:
        st.dataframe(frame, hide_index=True, height=height)
    else:
        st.dataframe(frame, hide_index=True, height=height, key=TABLE, on_select=on_row, selection_mode="single-row")


def formula(way: WayBack, t: int) -> None:
    """The numbers of position ``t``."""
    block(rf"\log\pi(a_{{{t}}}\mid s_{{{t}}})=\log {result(math.exp(way.logprobs[t]))}={result(way.logprobs[t])}")
    lines = []
    if len(way.rewards):
        lines += return_lines(way.rewards, way.returns, way.gamma, t)
        if way.expected is not None:
            g, v = float(way.returns[t]), float(way.expected[t])
            lines.append(rf"G_{{{t}}}-V(s_{{{t}}})={result(g)}-{tex(v)}={result(g - v)}")
    elif way.expected is not None:
        lines.append(rf"V(s_{{{t}}})={result(float(way.expected[t]))}")
    if lines:
        block(*lines)


def return_lines(rewards: Sequence[float], returns: Floats, gamma: float, t: int) -> list[str]:
    """G_t from the one after it, and at one stroke where all is paid at the last token."""
    last = len(rewards) - 1
    after = float(returns[t + 1]) if t < last else 0.0
    put_in = rf"{result(rewards[t])}+{gamma:g}\cdot{tex(after)}={result(float(returns[t]))}"
    lines = [rf"G_{{{t}}}=r_{{{t}}}+\gamma\,G_{{{t + 1}}}={put_in}"]
    if t < last and not np.any(rewards[:-1]):
        at_once = rf"{gamma:g}^{{{last - t}}}\cdot{tex(rewards[-1])}={result(float(returns[t]))}"
        lines.append(rf"G_{{{t}}}=\gamma^{{{last}-{t}}}\,r(x,y)={at_once}")
    return lines
