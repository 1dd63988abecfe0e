"""The branches of a text as a tree from left to right: every state a chip with its token and probability, a click goes there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import text_walk as walks
from pages.components.labs.text_walk import Scene, Tokens, Walk
from pages.components.numbers import number
from rlhf.errors import PlaygroundError

KEY = "mdp-tree"
DRAWN = "mdp/drawn"

_HERE = Path(__file__).parent
_component = component(
    "rlhf_text_tree",
    html='<div class="tree"></div>',
    js=(_HERE / "text_tree.js").read_text(encoding="utf-8"),
    css=(_HERE / "text_tree.css").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Place:
    """Where a state is drawn. ``parent``: its place in the list, −1 for the start; ``row``: that of its first child."""

    state: Tokens
    parent: int
    row: int

    @property
    def column(self) -> int:
        return len(self.state)


def layout(logprobs: Mapping[Tokens, float]) -> list[Place]:
    """Every state, the start first and each before what follows it; a branch gets a row of its own below its siblings'."""
    children: dict[Tokens, list[Tokens]] = {}
    for state in logprobs:
        children.setdefault(state[:-1], []).append(state)
    placed: list[Place] = []
    rows = 0
    pending: list[tuple[Tokens, int, bool]] = [((), -1, True)]  # no recursion: a text can be longer than Python's stack
    while pending:
        state, parent, is_first = pending.pop()
        rows += not is_first
        placed.append(Place(state, parent, rows))
        own = len(placed) - 1
        pending += [(child, own, i == 0) for i, child in reversed(list(enumerate(children.get(state, ()))))]
    return placed


def draw(scene: Scene, here: Walk) -> None:
    places = layout({state: p for state, p in here.logprobs.items() if len(state) <= scene.world.longest})
    strings = _strings(scene, here)
    nodes = []
    for place in places:
        state = place.state
        share = math.exp(here.logprobs[state]) if state else 0.0
        reward, sign = _reward(scene, state)
        nodes.append({
            "parent": place.parent, "column": place.column, "row": place.row, "text": strings[state] if state else _("start"),
            "share": round(share, 4), "words": number(share, "share") if state else "s₀", "here": state == here.at,
            "path": here.at[: len(state)] == state, "reward": reward, "sign": sign,
        })  # fmt: skip
    data = {
        "nodes": nodes, "columns": 1 + max(place.column for place in places), "rows": 1 + max(place.row for place in places),
        "colour": theme.on_ground(theme.ROLE_COLOURS["policy"], theme.dark()), "hint": _("Go to this state"),
    }  # fmt: skip
    stamp = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
    st.session_state[DRAWN] = (stamp, [place.state for place in places])
    _component(key=KEY, data={**data, "stamp": stamp}, on_node_change=_go)


def _go() -> None:
    """To the state that was clicked, if it is of the tree that was drawn last (the browser is not trusted)."""
    sent = (st.session_state.get(KEY) or {}).get("node")
    stamp, states = st.session_state.get(DRAWN, ("", []))
    if isinstance(sent, list) and len(sent) == 2 and sent[0] == stamp and sent[1] in range(len(states)):
        walks.go(states[sent[1]])


def _strings(scene: Scene, here: Walk) -> dict[Tokens, str]:
    from rlhf.rollout import token_strings

    states = list(here.logprobs)
    if not states:  # the tokenizer decodes no tokens to one empty text
        return {}
    return dict(zip(states, token_strings(scene.frozen.loaded.tokenizer, [state[-1] for state in states]), strict=True))


def _reward(scene: Scene, state: Tokens) -> tuple[str, str]:
    """What a text that is over is worth, in words; nothing where it cannot be said."""
    if not state or not scene.world.end(state):
        return "", ""
    try:
        total = scene.world.scored(state, scene.mix).total
    except PlaygroundError:
        return "", ""
    return f"r = {number(total)}", "zero" if total == 0 else ""
