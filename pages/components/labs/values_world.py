"""The grid world of the lab on values: its map and rules, in the session and the link, and presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components import link
from pages.components.i18n import _
from pages.components.labs import grid_board, playing, setting
from rlhf.errors import ConfigError
from rlhf.labs import frozen_lake
from rlhf.labs.gridworld import FREE, LARGEST, START, WALL, GridWorld, grid_world

LAB = "grid"
UNREADABLE = f"{LAB}/unreadable"
SLIPS = ("0", "0.05", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "2/3", "0.8", "1")
CLASSIC = ("...G", ".#.X", "S...")
CLIFF = ("." * 12,) * 3 + ("S" + "X" * 10 + "G",)
DEFAULTS: dict[str, Any] = {"gamma": 0.9, "slip": "0.2", "cost": 0.04, "goal": 1.0, "pit": -1.0}
ICE = {"slip": "2/3", "cost": 0.0, "goal": 1.0, "pit": 0.0, "gamma": 0.99}
PRESETS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "corridor": (("S......G",), {"slip": "0", "cost": 0.0}),
    "classic": (CLASSIC, {"gamma": 1.0}),
    "cliff": (CLIFF, {"slip": "0", "cost": 0.01, "goal": 0.0, "gamma": 1.0}),
    "walled": (("S......", ".......", "....###", "....#G#", "....###"), {"slip": "0"}),
    "lake4": (frozen_lake.MAPS["4x4"], ICE),
    "lake8": (frozen_lake.MAPS["8x8"], ICE),
}
_IN_LINK = str.maketrans({WALL: "w"})  # a "#" would be %23
_FROM_LINK = str.maketrans({"w": WALL})


@dataclass(frozen=True)
class Rules:
    slip: float
    step_cost: float
    goal: float
    pit: float
    gamma: float


@dataclass(frozen=True)
class Here:
    """The world of the moment. ``key``: changes with everything in it; ``lake``: its name in Gymnasium, where its dynamics are read there;
    ``selected``: the cell that was clicked, the first start at first."""

    rows: tuple[str, ...]
    rules: Rules
    world: GridWorld
    lake: str
    selected: grid_board.Place

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.rows, self.rules)


def names() -> dict[str, str]:
    """Of the presets."""
    return {
        "corridor": _("Corridor"), "classic": _("Russell and Norvig’s 4×3"), "cliff": _("Cliff"), "walled": _("Walled-in goal"),
        "lake4": "FrozenLake 4×4", "lake8": "FrozenLake 8×8",
    }  # fmt: skip


def controls() -> Rules:
    """Presets and rules."""
    _tell_unreadable()
    with st.container(horizontal=True, gap="small"):
        for preset, words in names().items():
            st.button(words, key=f"{LAB}/preset/{preset}", on_click=use, args=(preset,))
    left, right = st.columns(2, gap="large")
    with left:
        gamma = setting.slider(LAB, "gamma", _("Discount γ"), 0.0, 1.0, DEFAULTS["gamma"], 0.01)
    with right:
        slip = st.select_slider(
            _("Slip: chance to go aside instead"), SLIPS, DEFAULTS["slip"], key=setting.key(LAB, "slip"), persist_state="session",
            bind="query-params", help=_("Half to each side of the direction that was meant. 2/3 is the ice of FrozenLake."),
        )  # fmt: skip
    with st.expander(_("Rewards and size of the map"), icon=":material/tune:"):
        first, second, third = st.columns(3)
        with first:
            cost = setting.slider(LAB, "cost", _("Cost of a step"), -0.1, 0.5, DEFAULTS["cost"], 0.01)
        with second:
            goal = setting.slider(LAB, "goal", _("Reward of a goal"), -2.0, 5.0, DEFAULTS["goal"], 0.1)
        with third:
            pit = setting.slider(LAB, "pit", _("Reward of a pit"), -5.0, 2.0, DEFAULTS["pit"], 0.1)
        _size()
    over, _sep, under = slip.partition("/")
    return Rules(float(over) / float(under or 1), cost, goal, pit, gamma)


def _size() -> None:
    rows = map_rows()
    first, second, _rest = st.columns(3)
    for column, name, label, now in ((first, "height", _("Rows"), len(rows)), (second, "width", _("Columns"), len(rows[0]))):
        st.session_state[f"{LAB}/{name}"] = now
        column.slider(label, 1, LARGEST, key=f"{LAB}/{name}", on_change=_resize)


def _resize() -> None:
    """Cut off, or add free cells, at the right and at the bottom."""
    height, width = int(st.session_state[f"{LAB}/height"]), int(st.session_state[f"{LAB}/width"])
    rows = [row[:width].ljust(width, FREE) for row in map_rows()[:height]]
    set_map((*rows, *[FREE * width] * (height - len(rows))))


def use(preset: str) -> None:
    """Paint a preset and set its rules; in a callback."""
    rows, rules = PRESETS[preset]
    for name, value in {**DEFAULTS, **rules}.items():
        st.session_state[setting.key(LAB, name)] = value
    set_map(rows)
    playing.reset(LAB, "sweeps")
    playing.reset(LAB, "episodes")


def set_map(rows: tuple[str, ...]) -> None:
    """In a callback; the boards in the browser take it over."""
    st.session_state[f"{LAB}/map"] = rows
    st.session_state.pop(UNREADABLE, None)
    st.session_state[f"{LAB}/stamp"] = st.session_state.get(f"{LAB}/stamp", 0) + 1
    st.session_state[f"{LAB}/selected"] = None


def map_rows() -> tuple[str, ...]:
    """From the session; else from the link, where that is a map; else the classic."""
    if f"{LAB}/map" not in st.session_state or link.went_back():
        linked = str(st.query_params.get(setting.key(LAB, "map"), ""))[: LARGEST * (LARGEST + 1)]
        rows = tuple(linked.translate(_FROM_LINK).split("-"))
        try:
            grid_world(rows)
        except ConfigError:
            st.session_state[UNREADABLE] = bool(linked)
            rows = CLASSIC
        st.session_state[f"{LAB}/map"] = rows
    return st.session_state[f"{LAB}/map"]


def _tell_unreadable() -> None:
    """Says that the map in the link is none and the classic stands in its place, until another is painted."""
    if map_rows() == CLASSIC and st.session_state.get(UNREADABLE):
        words = _(
            "The map in the link cannot be used, so this is Russell and Norvig’s 4×3. A map has rows of one length with “-” between them, "
            "at most {largest} × {largest} cells of the kinds . S w G X, and one cell at least that is free."
        )
        st.info(words.format(largest=LARGEST), icon=":material/link_off:")


def current(rules: Rules) -> Here:
    """The world as it is painted. ConfigError where no free cell is left."""
    rows = map_rows()
    link.put(setting.key(LAB, "map"), "" if rows == CLASSIC else "-".join(rows).translate(_IN_LINK))
    lake = next((name for name, known in frozen_lake.MAPS.items() if known == rows), "")
    amounts = {"slip": rules.slip, "step_cost": rules.step_cost, "goal_reward": rules.goal, "pit_reward": rules.pit}
    world = kept("world", (rows, rules), lambda: frozen_lake.frozen_lake(lake, **amounts) if lake else grid_world(rows, **amounts))
    return Here(rows, rules, world, lake, _selected(rows))


def _selected(rows: tuple[str, ...]) -> grid_board.Place:
    """From the session or the link; else the first start, or the first cell that is free."""
    first = _first(rows)
    state = f"{LAB}/selected"
    known = state in st.session_state and not link.went_back()
    chosen = st.session_state[state] if known else _place(str(st.query_params.get(setting.key(LAB, "cell"), "")))
    if chosen is None or chosen[0] >= len(rows) or chosen[1] >= len(rows[0]):
        chosen = first
    st.session_state[state] = chosen
    link.put(setting.key(LAB, "cell"), "" if chosen == first else f"{chosen[0] + 1}.{chosen[1] + 1}")
    return chosen


def _first(rows: tuple[str, ...]) -> grid_board.Place:
    kind = START if any(START in row for row in rows) else FREE
    return next(((r, row.index(kind)) for r, row in enumerate(rows) if kind in row), (0, 0))


def _place(text: str) -> grid_board.Place | None:
    row, _sep, column = text.partition(".")
    whole = row.isdecimal() and column.isdecimal() and len(text) <= 5 and int(row) and int(column)
    return (int(row) - 1, int(column) - 1) if whole else None


def take(board: str) -> None:
    """What was painted or selected on a board; in its callback."""
    answer = grid_board.answer(board, map_rows())
    if answer is None:
        return
    if answer.rows:
        st.session_state[f"{LAB}/map"] = answer.rows
    if answer.selected:
        st.session_state[f"{LAB}/selected"] = answer.selected


def kept(name: str, key: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` gives, kept in the session until ``key`` changes."""
    held = st.session_state.get(f"{LAB}/kept/{name}")
    if held is None or held[0] != key:
        held = st.session_state[f"{LAB}/kept/{name}"] = (key, make())
    return held[1]


def bare_board() -> None:
    """The map alone, to be painted, where it is no world yet."""
    board = f"{LAB}/board"
    stamp = st.session_state.get(f"{LAB}/stamp", 0)
    grid_board.board(board, map_rows(), {}, title=_("The map"), paint=True, changed=lambda: take(board), stamp=stamp)
