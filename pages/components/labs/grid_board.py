"""A grid world as a board: cells with their values as colour and number, arrows, a selected cell; and, where wanted, brushes to paint it.

Click or tap, or Tab, arrow keys and Space. What comes back is read with ``answer`` in the callback; the caller keeps map and selection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs.drag_bars import INTERACTIVE_SCRIPT
from rlhf.labs.gridworld import FREE, GOAL, PIT, START, WALL

_HERE = Path(__file__).parent
_component = component(
    "rlhf_grid_board",
    html='<div class="grid-board"></div>',
    js=INTERACTIVE_SCRIPT + (_HERE / "grid_board.js").read_text(encoding="utf-8"),
    css=(_HERE / "grid_board.css").read_text(encoding="utf-8"),
)
Place = tuple[int, int]  # (row, column)


@dataclass(frozen=True)
class Cell:
    """What is shown in a cell. ``text``: in its middle; ``heat``: −1 … 1, its colour; ``arrows``: actions (0…3, Gymnasium's order ← ↓ → ↑);
    ``quarters``: text and heat of each action, as four triangles, in place of text and heat."""

    text: str = ""
    heat: float = 0.0
    arrows: Sequence[int] = ()
    quarters: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Answer:
    """What was done on a board: the map (only of a board that is painted) and the selected cell as they are now."""

    rows: tuple[str, ...] | None
    selected: Place | None


def board(
    key: str,
    rows: Sequence[str],
    cells: Mapping[Place, Cell],
    *,
    title: str,
    changed: Callable[[], None],
    selected: Place | None = None,
    paint: bool = False,
    walk: Sequence[Place] = (),
    stamp: int = 0,
    largest: int = 104,
) -> None:
    """Draw a map (as in rlhf/labs/gridworld.py). ``changed``: called when a cell was selected or painted; it reads ``answer(key, rows)``.

    ``walk``: cells joined by a line. ``stamp``: another number whenever the map was changed by anything but this board (a preset), or a
    late message from the browser would undo it. ``largest``: pixels along a cell at most.
    """
    is_dark = theme.dark()
    names = {FREE: _("Free"), WALL: _("Wall"), GOAL: _("Goal"), PIT: _("Pit"), START: _("Start")}
    st.session_state[f"{key}/stamp"] = stamp
    shown = [cells.get((r, c)) for r, row in enumerate(rows) for c in range(len(row))]
    data: dict[str, Any] = {
        "rows": list(rows), "cells": [None if cell is None else _plain(cell) for cell in shown], "title": title, "selected": selected,
        "paint": paint, "walk": list(walk), "largest": largest, "names": names, "seq": st.session_state.get(f"{key}/seq", 0),
        "words": {"look": _("Look"), "brush": _("Brush"), "row": _("row"), "column": _("column"), "best": _("best"),
                  "click": _("The cells are too small for numbers: click one, and they stand below.")},
        "stamp": f"{stamp}:{len(rows)}:{len(rows[0])}:{is_dark}",
        "colours": {
            "above": theme.on_ground(theme.BLUE, is_dark), "below": theme.on_ground(theme.VERMILLION, is_dark),
            "goal": theme.on_ground(theme.GREEN, is_dark), "pit": theme.on_ground(theme.PURPLE, is_dark),
            "walk": theme.on_ground(theme.ORANGE, is_dark),
        },
    }  # fmt: skip
    _component(key=key, data=data, on_board_change=changed)


def answer(key: str, rows: Sequence[str]) -> Answer | None:
    """What the browser last sent for a board that shows ``rows``; None where it does not fit them (it is not trusted, and may be late)."""
    sent = (st.session_state.get(key) or {}).get("board")
    if not isinstance(sent, dict) or not isinstance(sent.get("seq"), int) or str(sent.get("stamp")).split(":")[0] != _stamp(key):
        return None
    st.session_state[f"{key}/seq"] = sent["seq"]
    painted = sent.get("rows")
    if painted is not None:
        fits = isinstance(painted, list) and len(painted) == len(rows) and all(isinstance(row, str) for row in painted)
        if not fits or any(len(row) != len(rows[0]) or set(row) - {FREE, WALL, GOAL, PIT, START} for row in painted):
            return None
    return Answer(tuple(painted) if painted else None, _place(sent.get("selected"), rows))


def _stamp(key: str) -> str:
    return str(st.session_state.get(f"{key}/stamp", 0))


def _place(sent: Any, rows: Sequence[str]) -> Place | None:
    if not isinstance(sent, list) or len(sent) != 2 or not all(isinstance(i, int) for i in sent):
        return None
    row, column = sent
    return (row, column) if 0 <= row < len(rows) and 0 <= column < len(rows[0]) else None


def _plain(cell: Cell) -> dict[str, Any]:
    quarters = [[text, round(heat, 3)] for text, heat in cell.quarters]
    return {"text": cell.text, "heat": round(cell.heat, 3), "arrows": list(cell.arrows), "quarters": quarters}
