"""Which questions and challenges someone has solved: in the session, and in their browser's own storage, so that it outlives the session.

No account and nothing on the server: on one server with forty people, each browser keeps its own. Tabs of one browser share it.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

SOLVED = "labs/solved"
SINCE = "labs/since"
FRESH = "labs/fresh"
TOLD = "labs/told"  # what the browser was told last
MOST = 500
LATEST = 10**14  # of ``since``, in ms
_ID = re.compile(r"[a-z0-9_/-]{1,60}")
_component = component("rlhf_progress", js=(Path(__file__).parent / "progress.js").read_text(encoding="utf-8"))


def solved() -> set[str]:
    """The ids that are solved."""
    return set(st.session_state.get(SOLVED, ()))


def fresh() -> set[str]:
    """Of these, what was solved here since ``settle``: its explanation may still be read."""
    return set(st.session_state.get(FRESH, ()))


def settle() -> None:
    st.session_state[FRESH] = set()


def record(name: str) -> None:
    """This one is solved."""
    if name not in solved():
        st.session_state[SOLVED] = solved() | {name}
        st.session_state[FRESH] = fresh() | {name}


def forget() -> None:
    """Start anew: in this session, in the browser and in its other tabs."""
    st.session_state[SINCE] = max(int(time.time() * 1000), st.session_state.get(SINCE, 0) + 1)
    _clear()


def sync(page: str) -> None:
    """Exchange what is solved with the browser's storage; drawn once on each page of the labs, invisible, and before the lab's fragment:
    in it every slider would wait for it. ``tell`` is for what is solved in the fragment."""
    key = f"labs-progress-{page}"
    st.session_state[TOLD] = known = _known()
    _component(key=key, data=known, on_progress_change=lambda: take((st.session_state.get(key) or {}).get("progress")))


def tell() -> None:
    """At the end of the fragment: run the whole page, with ``sync`` in it, if something was solved since the browser was told."""
    if _known() != st.session_state.get(TOLD):
        st.rerun()


def _known() -> dict[str, Any]:
    return {"solved": sorted(solved())[:MOST], "since": st.session_state.get(SINCE, 0)}


def take(sent: Any) -> None:
    """What the browser has. It is not trusted: names that look like ids, and not too many, and a plausible time."""
    if not isinstance(sent, dict) or not isinstance(sent.get("solved"), list):
        return
    since, mine = sent.get("since"), st.session_state.get(SINCE, 0)
    if isinstance(since, bool) or not isinstance(since, int | float) or not mine <= since < LATEST:
        return
    if since > mine:  # started anew in another tab; or this session has only begun, and has nothing to lose
        begun = mine == 0 and not solved()
        st.session_state[SINCE] = int(since)
        if not begun:
            _clear()
    known = {name for name in sent["solved"][:MOST] if isinstance(name, str) and _ID.fullmatch(name)}
    st.session_state[SOLVED] = solved() | known


def _clear() -> None:
    st.session_state[SOLVED] = set()
    settle()
    for key in [str(key) for key in st.session_state if str(key).startswith("question/")]:
        del st.session_state[key]
