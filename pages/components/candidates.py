"""The next-token distribution as bars that can be clicked: a token, its probability, and a button that goes on with it.

As in ``tokens``, text reaches the page as text nodes only. A plotly bar chart would read ``<b>`` in a token as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
from streamlit.components.v2 import component

from pages.components import theme
from pages.components.i18n import _
from pages.components.numbers import number

CSS = """
:host { display: block; }
.bars { display: grid; gap: 1px; font-family: var(--st-font); color: var(--st-text-color); font-size: 0.88rem;
  font-variant-numeric: tabular-nums; }
.row { display: grid; grid-template-columns: minmax(4.5rem, 9rem) 1fr 4rem; align-items: center; gap: 0.6rem; padding: 0.1rem 0.35rem;
  box-sizing: border-box; width: 100%; border: 0; border-radius: 4px; background: none; color: inherit; font: inherit; text-align: left; }
button.row { cursor: pointer; }
button.row:hover { background: var(--st-secondary-background-color); }
button.row:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
.token { white-space: pre; overflow: hidden; text-overflow: ellipsis; }
.sign { opacity: 0.45; }
.track { height: 0.7rem; }
.fill { height: 100%; border-radius: 2px; min-width: 1px; }
.share { text-align: right; opacity: 0.85; }
.written .token, .written .share { font-weight: 700; opacity: 1; }
.written .token::after { content: " ✓"; font-weight: 400; opacity: 0.7; }
.rest { opacity: 0.7; }
"""

JS = """
function make(tag, className, text) {
  const element = document.createElement(tag)
  element.className = className
  if (text !== undefined) element.textContent = text
  return element
}

// Spaces and line ends as faint signs: "dog" and " dog" are two tokens.
function fill(span, text) {
  if (text === "") span.append(make("span", "sign", "∅"))
  for (const part of text.split(/([ \\n\\t])/)) {
    const sign = { " ": "·", "\\n": "↵", "\\t": "⇥" }[part]
    if (sign) span.append(make("span", "sign", sign))
    else if (part) span.append(document.createTextNode(part))
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".bars")
  if (!root || !data) return
  const focused = root.contains(root.getRootNode().activeElement) // going on by keyboard: the new bars take the focus over
  root.replaceChildren()
  const most = Math.max(data.rest, ...data.shares, 1e-9)
  const row = (tag, share, words, colour, className) => {
    const element = make(tag, `row ${className}`)
    const track = make("span", "track")
    const bar = make("span", "fill")
    bar.style.cssText = `display:block;width:${(100 * share / most).toFixed(2)}%;background:${colour}`
    track.append(bar)
    element.append(make("span", "token"), track, make("span", "share", words))
    root.append(element)
    return element
  }
  data.strings.forEach((string, i) => {
    const element = row("button", data.shares[i], data.words[i], data.colour, i === data.written ? "written" : "")
    element.type = "button"
    element.title = data.hint
    element.setAttribute("aria-label", `${JSON.stringify(string)} ${data.words[i]}`)
    fill(element.querySelector(".token"), string)
    element.onclick = () => setTriggerValue("picked", [data.place, i])
  })
  const rest = row("div", data.rest, data.restWords, data.grey, "rest")
  rest.querySelector(".token").textContent = data.restName
  if (focused) root.querySelector("button")?.focus({ preventScroll: true })
}
"""

_component = component("rlhf_candidates", html='<div class="bars"></div>', css=CSS, js=JS)


def bars(
    strings: Sequence[str],
    shares: Sequence[float],
    rest: float,
    *,
    written: int | None,
    place: str,
    key: str,
    on_pick: Callable[[], None] | None = None,
) -> int | None:
    """The most probable tokens with their ``shares``, and all others summed up in ``rest``. Returns the index of the one just clicked.

    ``written``: which of them the text has; ``place``: what the bars belong to, so that a late click on older bars is not taken for these.
    ``on_pick`` is called before the page is drawn again: ``picked`` says what was clicked.
    """
    data = {
        "strings": list(strings),
        "shares": list(shares),
        "words": [number(share, "share") for share in shares],
        "rest": rest,
        "restWords": number(rest, "share"),
        "restName": _("all others"),
        "written": written,
        "place": place,
        "hint": _("Go on with this token"),
        "colour": theme.ROLE_COLOURS["policy"],
        "grey": theme.GREY,
    }
    result = _component(key=key, data=data, on_picked_change=on_pick or (lambda: None))
    return _index(getattr(result, "picked", None), place, len(strings))


def picked(key: str, place: str, count: int) -> int | None:
    """For ``on_pick``: the index of the one of ``count`` bars at ``place`` that was clicked."""
    return _index((st.session_state.get(key) or {}).get("picked"), place, count)


def _index(sent: object, place: str, count: int) -> int | None:
    """What the browser sent, if it belongs to these bars and is in range (it is not trusted)."""
    if not (isinstance(sent, list) and len(sent) == 2 and sent[0] == place and isinstance(sent[1], int)):
        return None
    return sent[1] if sent[1] in range(count) else None
