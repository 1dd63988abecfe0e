"""A selectbox whose choice stands in the link by its id.

Streamlit's own ``bind="query-params"`` writes what the option is *called* into the link: a run's name, in the language of the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st


def pick(
    label: str, names: Mapping[str, str], param: str, key: str, *, unwritten: str = "", chosen: Callable[[], None] | None = None,
    **options: Any,
) -> str:  # fmt: skip
    """A choice among ``names`` (id → what it is called), kept in the session and in the link as ``?param=id``, but for ``unwritten``.

    The first is the default. A link that was just opened wins over an older choice. ``chosen`` is called when the link or the user
    chooses; ``options`` are the selectbox's own.
    """
    if arrived(names, param, key) and chosen:
        chosen()
    options = {"format_func": lambda name: names.get(name, name), "key": key, "persist_state": "session", "on_change": chosen, **options}
    value = str(st.selectbox(label, list(names), **options) or next(iter(names))).strip()
    written(param, key, value, unwritten)
    return value


def arrived(names: Mapping[str, str], param: str, key: str) -> bool:
    """Before a widget is drawn: give it what a link that was just opened names, else what it had, else the first; whether the link did."""
    linked = st.query_params.get(param)
    new = linked in names and st.session_state.get(f"{key}/linked") != linked
    if new:
        st.session_state[key] = linked
    if st.session_state.get(key) not in names:
        st.session_state[key] = next(iter(names))
    return new


def written(param: str, key: str, value: str, unwritten: str = "") -> None:
    """After it is drawn: put its value into the link; ``unwritten`` is left out."""
    st.session_state[f"{key}/linked"] = value
    if value == unwritten:
        st.query_params.pop(param, None)
    elif st.query_params.get(param) != value:
        st.query_params[param] = value


def wanted(param: str, key: str) -> str:
    """What the link or the session asks for, known or not."""
    linked = st.query_params.get(param)
    if linked and st.session_state.get(f"{key}/linked") != linked:
        return linked
    return str(st.session_state.get(key) or "")
