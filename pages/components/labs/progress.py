"""Which questions and challenges someone has solved: in the session, and in their browser's own storage, so that it outlives the session.

No account and nothing on the server: on one server with forty people, each browser keeps its own.
"""

from __future__ import annotations

import re

import streamlit as st
from streamlit.components.v2 import component

SOLVED = "labs/solved"
FORGET = "labs/forget"
MOST = 500
_ID = re.compile(r"[a-z0-9_/-]{1,60}")

JS = """
const KEY = "rlhf-playground/solved"

export default function ({ data, setStateValue }) {
  let stored = []
  try { stored = JSON.parse(localStorage.getItem(KEY) ?? "[]") } catch { /* unreadable or forbidden: as if empty */ }
  if (!Array.isArray(stored) || data.forget) stored = []
  const all = [...new Set([...stored, ...data.solved])].filter(id => typeof id === "string").sort()
  try { localStorage.setItem(KEY, JSON.stringify(all)) } catch { /* private window: the session alone keeps it */ }
  if (all.length > data.solved.length) setStateValue("solved", all)
}
"""

_component = component("rlhf_progress", js=JS)


def solved() -> set[str]:
    """The ids that are solved."""
    return set(st.session_state.get(SOLVED, ()))


def record(name: str) -> None:
    """This one is solved."""
    st.session_state[SOLVED] = solved() | {name}


def forget() -> None:
    """Start anew, in the browser too."""
    st.session_state[SOLVED] = set()
    st.session_state[FORGET] = True
    for key in [str(key) for key in st.session_state if str(key).startswith("question/")]:
        del st.session_state[key]


def sync() -> None:
    """Exchange what is solved with the browser's storage; drawn once on each page of the labs, invisible."""
    data = {"solved": sorted(solved()), "forget": bool(st.session_state.pop(FORGET, False))}
    _component(key="labs-progress", data=data, on_solved_change=_merge)


def _merge() -> None:
    """What the browser had stored; it is not trusted: strings that look like ids, and not too many."""
    stored = (st.session_state.get("labs-progress") or {}).get("solved")
    if isinstance(stored, list):
        known = {name for name in stored[:MOST] if isinstance(name, str) and _ID.fullmatch(name)}
        st.session_state[SOLVED] = solved() | known
