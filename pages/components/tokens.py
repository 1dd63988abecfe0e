"""Text token by token, coloured by a number and clickable: log-probability shifts, advantages, entropies …

Tokens go to the browser as JSON and into the page as text nodes, so HTML or Markdown that a model or a user wrote stays text.
Colours are Okabe–Ito's: blue above zero, vermilion below, clamped at the 2nd and 98th percentile so that one outlier
does not bleach the rest, and symmetric about zero. Arrow keys move between tokens, Enter selects.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from pages.components.numbers import number

Scale = Literal["diverging", "sequential"]

CSS = """
:host { display: block; }
.rows { position: relative; display: grid; gap: 0.75rem; font-family: var(--st-font); color: var(--st-text-color); font-size: 0.95rem; }
.label { font-size: 0.8rem; opacity: 0.72; margin-bottom: 0.15rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.text { line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere; outline: none; }
.token { border-radius: 3px; padding: 0.12em 0; margin-right: 1px; box-decoration-break: clone; -webkit-box-decoration-break: clone; }
.clickable .token { cursor: pointer; }
.clickable .token:hover { box-shadow: 0 0 0 1px var(--st-border-color); }
.token:focus-visible, .token.selected { outline: 2px solid var(--st-primary-color); outline-offset: 0; }
.sign { opacity: 0.42; font-size: 0.85em; user-select: none; }
.scale { display: flex; flex-wrap: wrap; align-items: center; gap: 0.15rem 0.6rem; font-size: 0.78rem; opacity: 0.8; margin-top: -0.2rem; }
.scale .ends { display: flex; align-items: center; gap: 0.4rem; font-variant-numeric: tabular-nums; }
.scale .bar { width: 5.5rem; height: 0.5rem; border-radius: 3px; }
.tip { position: absolute; z-index: 5; max-width: min(20rem, 95%); padding: 0.35rem 0.55rem; border-radius: 0.4rem; pointer-events: none;
  background: var(--st-text-color); color: var(--st-background-color); font-size: 0.78rem; line-height: 1.4; white-space: pre-wrap;
  overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.tip[hidden] { display: none; }
"""

JS = """
// Okabe–Ito, darker pair on light ground, lighter pair on dark ground; the text keeps the theme's colour on either.
const HUES = { light: { up: "0,114,178", down: "213,94,0", strength: 0.5 }, dark: { up: "86,180,233", down: "230,159,0", strength: 0.5 } }

function ground(element) {
  const probe = document.createElement("span")
  probe.style.color = "var(--st-background-color)"
  element.append(probe)
  const [r, g, b] = (getComputedStyle(probe).color.match(/[0-9.]+/g) ?? [255, 255, 255]).map(Number)
  probe.remove()
  return 0.299 * r + 0.587 * g + 0.114 * b < 128 ? HUES.dark : HUES.light
}

function paint(hues, level) {
  if (level === null || Math.abs(level) < 0.02) return ""
  return `rgba(${level > 0 ? hues.up : hues.down},${(Math.abs(level) * hues.strength).toFixed(3)})`
}

function make(tag, className, text) {
  const element = document.createElement(tag)
  if (className) element.className = className
  if (text !== undefined) element.textContent = text
  return element
}

// A token's text, with signs (not part of the copied text) for what cannot be seen: line ends, tabs, lone spaces, nothing.
function fill(span, text) {
  if (text === "") return span.append(make("span", "sign", "∅"))
  if (/^ +$/.test(text)) return span.append(make("span", "sign", "·".repeat(text.length)))
  for (const part of text.split(/([\\n\\t])/)) {
    if (part === "\\n") span.append(make("span", "sign", "↵"), document.createTextNode("\\n"))
    else if (part === "\\t") span.append(make("span", "sign", "⇥"), document.createTextNode("\\t"))
    else if (part) span.append(document.createTextNode(part))
  }
}

function build(root, data) {
  root.replaceChildren()
  root.classList.toggle("clickable", data.clickable)
  data.rows.forEach((row, r) => {
    const block = make("div")
    if (row.label) block.append(make("div", "label", row.label))
    const text = make("div", "text")
    text.setAttribute("role", "listbox")
    text.setAttribute("aria-orientation", "horizontal")
    text.setAttribute("aria-label", row.label || data.legend || "tokens")
    row.strings.forEach((string, i) => {
      const span = make("span", "token")
      fill(span, string)
      span.setAttribute("role", "option")
      span.setAttribute("aria-label", [JSON.stringify(string), row.tips[i]].filter(Boolean).join(", "))
      span.dataset.row = r
      span.dataset.index = i
      span.tabIndex = r === 0 && i === 0 ? 0 : -1
      text.append(span)
    })
    block.append(text)
    root.append(block)
  })
  if (data.ends) {
    const scale = make("div", "scale")
    const ends = make("span", "ends")
    ends.append(make("span", "", data.ends[0]), make("span", "bar"), make("span", "", data.ends[1]))
    scale.append(ends)
    if (data.legend) scale.append(make("span", "", data.legend))
    root.append(scale)
  }
  const tip = make("div", "tip")
  tip.hidden = true
  tip.setAttribute("role", "presentation")
  root.append(tip)
}

export default function (component) {
  const { data, parentElement, setStateValue } = component
  const root = parentElement.querySelector(".rows")
  if (!root || !data) return
  if (root.dataset.stamp !== data.stamp) {
    build(root, data)
    root.dataset.stamp = data.stamp
  }
  const hues = ground(root)
  const spans = [...root.querySelectorAll(".token")]
  const tip = root.querySelector(".tip")
  const tokenOf = event => event.target.closest?.(".token")
  const hide = () => { tip.hidden = true }
  const show = span => {
    const text = data.rows[span.dataset.row].tips[span.dataset.index]
    if (!text) return hide()
    tip.textContent = text
    tip.hidden = false
    const box = root.getBoundingClientRect()
    const first = span.getClientRects()[0] ?? span.getBoundingClientRect()
    tip.style.left = `${Math.max(0, Math.min(first.left - box.left, box.width - tip.offsetWidth))}px`
    const above = first.top - box.top - tip.offsetHeight - 6
    tip.style.top = `${first.top - tip.offsetHeight - 6 < 70 ? first.bottom - box.top + 6 : above}px`
  }
  const chosen = data.selected ? spans.find(s => +s.dataset.row === data.selected[0] && +s.dataset.index === data.selected[1]) : undefined
  for (const span of spans) {
    span.style.backgroundColor = paint(hues, data.rows[span.dataset.row].levels[span.dataset.index])
    span.classList.toggle("selected", span === chosen)
    span.setAttribute("aria-selected", String(span === chosen))
    span.onfocus = () => { if (span.matches(":focus-visible")) show(span) }
    span.onblur = hide
  }
  const bar = root.querySelector(".bar")
  const middle = data.diverging ? `${paint(hues, -1)}, transparent 50%` : "transparent"
  if (bar) bar.style.background = `linear-gradient(to right, ${middle}, ${paint(hues, 1)})`

  const choose = span => {
    if (!data.clickable) return
    setStateValue("clicked", [data.stamp, span === chosen ? null : +span.dataset.row, +span.dataset.index])
  }
  // The token that is nearest on the line above or below, as a text cursor would move.
  const vertical = (span, direction) => {
    const from = span.getBoundingClientRect()
    let best, bestScore = Infinity
    for (const other of spans) {
      const to = other.getBoundingClientRect()
      const down = (to.top - from.top) * direction
      if (down < from.height / 2) continue
      const score = down * 1000 + Math.abs(to.left - from.left)
      if (score < bestScore) [best, bestScore] = [other, score]
    }
    return best
  }
  root.onclick = event => { const span = tokenOf(event); if (span) choose(span) }
  root.onmouseover = event => { const span = tokenOf(event); if (span) show(span); else hide() }
  root.onmouseleave = hide
  root.onkeydown = event => {
    const span = tokenOf(event)
    if (!span) return
    if (event.key === "Escape") return hide()
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); return choose(span) }
    const at = spans.indexOf(span)
    const next = { ArrowRight: spans[at + 1], ArrowLeft: spans[at - 1], Home: spans[0], End: spans.at(-1),
      ArrowDown: vertical(span, 1), ArrowUp: vertical(span, -1) }[event.key]
    if (!next) return
    event.preventDefault()
    span.tabIndex = -1
    next.tabIndex = 0
    next.focus()
  }
}
"""

_component = component("rlhf_tokens", html='<div class="rows"></div>', css=CSS, js=JS)


@dataclass(frozen=True)
class TokenRow:
    """One text: its tokens, a number for each (None: no colour), a tooltip for each (default: the number), a label above."""

    strings: Sequence[str]
    values: Sequence[float | None] = ()
    tooltips: Sequence[str] | None = None
    label: str = ""


def colour_limit(values: Sequence[float | None], scale: Scale = "diverging") -> float:
    """The value at which the colour is full: the 2nd or 98th percentile, whichever is farther from 0; 0: nothing to colour."""
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return 0.0
    low, high = np.percentile(finite, [2, 98])
    return float(max(abs(low), abs(high)) if scale == "diverging" else max(high, 0.0))


def levels(values: Sequence[float | None], limit: float, scale: Scale = "diverging") -> list[float | None]:
    """Each value as a strength of colour in [−1, 1] (diverging) or [0, 1] (sequential); None where there is none."""
    low = -1.0 if scale == "diverging" else 0.0
    return [
        None if v is None or math.isnan(v) or limit <= 0 else round(min(1.0, max(low, v / limit)), 3)
        for v in values
    ]  # fmt: skip


def token_rows(
    rows: Sequence[TokenRow],
    *,
    key: str,
    scale: Scale = "diverging",
    limit: float | None = None,
    selected: tuple[int, int] | None = None,
    legend: str = "",
    clickable: bool = True,
    show_scale: bool = True,
) -> tuple[int, int] | None:
    """Several texts on one colour scale. Returns (row, token) of the token that was clicked last in exactly these texts.

    ``limit``: the value of full colour, where it must be the same as in another view. ``selected``: (row, token) that is marked as long as
    none was clicked. A second click on a token unselects it.
    """
    if limit is None:
        limit = colour_limit([v for row in rows for v in row.values], scale)
    content = [
        {
            "label": row.label,
            "strings": list(row.strings),
            "levels": levels(row.values or [None] * len(row.strings), limit, scale),
            "tips": list(row.tooltips) if row.tooltips is not None else ["" if v is None else number(v, sign=True) for v in row.values],
        }
        for row in rows
    ]
    data: dict[str, Any] = {"rows": content, "diverging": scale == "diverging", "legend": legend, "clickable": clickable}
    signed = scale == "diverging"
    data["ends"] = [number(-limit if signed else 0.0, sign=True), number(limit, sign=signed)] if limit and show_scale else None
    # a click counts only for the texts it was made on
    data["stamp"] = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
    clicked = (st.session_state.get(key) or {}).get("clicked")
    position = _position(clicked, data["stamp"], content)
    _component(key=key, data={**data, "selected": position or selected}, on_clicked_change=lambda: None)
    return position


def token_view(
    strings: Sequence[str],
    values: Sequence[float | None] = (),
    *,
    key: str,
    scale: Scale = "diverging",
    tooltips: Sequence[str] | None = None,
    selected: int | None = None,
    legend: str = "",
    limit: float | None = None,
    clickable: bool = True,
) -> int | None:
    """One text as coloured tokens. Returns the index of the token that was clicked last in exactly this text, else None.

    ``values`` may be empty: the tokens are then clickable and not coloured. ``selected`` is marked as long as none was clicked.
    """
    clicked = token_rows(
        [TokenRow(strings, values, tooltips)],
        key=key,
        scale=scale,
        limit=limit,
        selected=None if selected is None else (0, selected),
        legend=legend,
        clickable=clickable,
    )
    return clicked[1] if clicked else None


def _position(clicked: Any, stamp: str, content: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The click as the browser reported it, if it belongs to these texts and is in range (the browser is not trusted)."""
    if not (isinstance(clicked, list) and len(clicked) == 3 and clicked[0] == stamp):
        return None
    row, index = clicked[1:]
    if isinstance(row, int) and isinstance(index, int) and 0 <= row < len(content) and 0 <= index < len(content[row]["strings"]):
        return row, index
    return None
