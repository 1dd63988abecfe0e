"""A selectbox whose choice stands in the link by its id.

Streamlit's own ``bind="query-params"`` writes what the option is *called* into the link: a run's name, in the language of the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.components.text import told_apart


def pick(
    label: str, names: Mapping[str, str], param: str, key: str, *, unwritten: str = "", chosen: Callable[[], None] | None = None,
    **options: Any,
) -> str:  # fmt: skip
    """A choice among ``names`` (id → what it is called), kept in the session and in the link as ``?param=id``, but for ``unwritten``.

    The first is the default. A link that was just opened wins over an older choice. ``chosen`` is called when the link or the user
    chooses; ``options`` are the selectbox's own.
    """
    names = told_apart(names)
    if arrived(names, param, key) and chosen:
        chosen()
    options = {"format_func": lambda name: names.get(name, name), "key": key, "persist_state": "session", "on_change": chosen, **options}
    value = str(st.selectbox(label, list(names), **options) or next(iter(names))).strip()
    written(param, key, value, unwritten)
    return value


def arrived(names: Collection[str], param: str, key: str) -> bool:
    """Before a widget is drawn: give it what a link that was just opened names, else what it had, else the first; whether the link did."""
    first, linked = next(iter(names)), st.query_params.get(param)
    if linked is None and went_back():
        linked = first
    new = linked in names and st.session_state.get(f"{key}/linked") != linked
    if new:
        st.session_state[key] = linked
    if st.session_state.get(key) not in names:
        st.session_state[key] = first
    return new


def went_back() -> bool:
    """Whether the browser's Back or Forward led here. Then the link alone counts, also with what it leaves out: who wrote it anew instead
    would hold the user on the page."""
    context = get_script_run_ctx(suppress_warning=True)
    return context is not None and context.is_history_navigation


def written(param: str, key: str, value: str, unwritten: str = "") -> None:
    """After it is drawn: put its value into the link; ``unwritten`` is left out."""
    st.session_state[f"{key}/linked"] = value
    put(param, "" if value == unwritten else value)


def put(param: str, value: str) -> None:
    """A value into the link; "" takes the parameter out. Nothing is sent where it stands there already: each writing is an entry in the
    browser's history."""
    if not value:
        st.query_params.pop(param, None)
    elif st.query_params.get(param) != value:
        st.query_params[param] = value


def wanted(param: str, key: str) -> str:
    """What the link or the session asks for, known or not."""
    linked = st.query_params.get(param)
    if linked and st.session_state.get(f"{key}/linked") != linked:
        return linked
    return str(st.session_state.get(key) or "")
