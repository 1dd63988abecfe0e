"""The settings of a lab: widgets whose values outlive a change of page and stand in the link, as ``?gae.lambda=0.9``.

``lab`` is the short name of the lab in the link (``gae``), ``name`` the setting's (``lambda``). A value in a link that a setting cannot
have is dropped; ``refused`` tells of it. All work by keyboard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.components import link

_KEPT: dict[str, Any] = {"persist_state": "session", "bind": "query-params"}


def key(lab: str, name: str) -> str:
    """The widget's key, which is its name in the link."""
    return f"{lab}.{name}"


def asked(lab: str) -> dict[str, str]:
    """What the link says of a lab, before its settings are drawn."""
    return {name: value for name, value in st.query_params.items() if name.startswith(f"{lab}.")}


def refused(asked: Mapping[str, str]) -> list[str]:
    """After they are drawn: what no setting took, as ``name=value``."""
    return [f"{name}={value}" for name, value in asked.items() if st.query_params.get(name) != value and not _stands(name, value)]


def _stands(name: str, asked: str) -> bool:
    """Whether a setting has this value (a default is left out of the link), or there is none of this name."""
    kept = (name, f"{name}/chosen", f"{name}/values", name.replace(".", "/", 1))
    value = next((st.session_state[key] for key in kept if key in st.session_state), None)
    if isinstance(value, bool):
        return asked.lower() == str(value).lower()
    if isinstance(value, int | float | list):
        try:
            numbers = [float(part) for part in asked.split(",")]
        except ValueError:
            return False
        return numbers == (value if isinstance(value, list) else [value])
    return not isinstance(value, str) or asked == value


def slider(lab: str, name: str, label: str, low: float, high: float, default: float, step: float, **options: Any) -> float:
    """A number on a scale."""
    return float(st.slider(label, float(low), float(high), float(default), float(step), key=key(lab, name), **_KEPT, **options))


def whole(lab: str, name: str, label: str, low: int, high: int, default: int, step: int = 1, **options: Any) -> int:
    """A whole number on a scale."""
    return int(st.slider(label, low, high, default, step, key=key(lab, name), **_KEPT, **options))


def toggle(lab: str, name: str, label: str, default: bool = False, **options: Any) -> bool:
    """On or off."""
    return bool(st.toggle(label, default, key=key(lab, name), **_KEPT, **options))


def choice(lab: str, name: str, label: str, names: Mapping[str, str], **options: Any) -> str:
    """One of ``names`` (id → what it is called); the first is the default, and the id stands in the link."""
    return link.pick(label, names, key(lab, name), f"{key(lab, name)}/chosen", unwritten=next(iter(names)), **options)


def seed(lab: str, **options: Any) -> int:
    """The seed of what a lab samples."""
    number = st.number_input("Seed", 0, 9999, 0, 1, key=key(lab, "seed"), required=True, **_KEPT, **options)
    return int(number or 0)


def part(lab: str, names: Mapping[str, str], name: str = "part") -> str:
    """Which part of a lab is shown (id → title): like tabs, but only the part that is open is computed. In the link as ``?LAB.part=id``;
    ``name`` for a second one, within a part."""
    parameter, state = key(lab, name), f"{lab}/{name}"
    link.arrived(names, parameter, state)
    chosen = st.segmented_control(
        name.capitalize(), list(names), format_func=lambda name: names.get(name, name), key=state, required=True, persist_state="session",
        label_visibility="collapsed", wrap=True,
    )  # fmt: skip
    chosen = str(chosen or next(iter(names)))
    link.written(parameter, state, chosen, unwritten=next(iter(names)))
    return chosen
