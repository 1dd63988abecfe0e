"""State values and action values on boards: the numbers, colours and arrows of their cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pages.components.labs.grid_board import Cell, Place
from pages.components.labs.values_world import Here
from rlhf.labs.gridworld import GOAL
from rlhf.labs.mdp import Floats


def scale(*tables: Floats) -> float:
    """The largest value, which gets the full colour."""
    finite = [np.abs(table[np.isfinite(table)]).max(initial=0.0) for table in tables]
    return float(max([*finite, 1e-12]))


def short(value: float, largest: float) -> str:
    """A value in a cell: two decimals, three where all are small, none where they are large; 0 as 0."""
    if value == 0:
        return "0"
    decimals = 3 if largest < 0.1 else 2 if largest < 100 else 0
    text = f"{abs(value):.{decimals}f}" if largest < 1e5 else f"{abs(value):.0e}"
    return f"−{text}" if value < 0 and float(text) else text


def value_cells(here: Here, values: Floats, policy: Floats, largest: float) -> dict[Place, Cell]:
    """V as colour and number, the actions of ``policy`` as arrows; in goals and pits their reward."""
    made = {}
    for state, (place, value) in enumerate(zip(here.world.cells, values.tolist(), strict=True)):
        if here.world.mdp.terminal[state]:
            made[place] = _end(here, place)
        else:
            made[place] = Cell(short(value, largest), value / largest, np.flatnonzero(policy[state]).tolist())
    return made


def action_cells(here: Here, q: Floats, policy: Floats, largest: float) -> dict[Place, Cell]:
    """Q as four triangles, the actions of ``policy`` as arrows."""
    made = {}
    for state, (place, row) in enumerate(zip(here.world.cells, q.tolist(), strict=True)):
        if here.world.mdp.terminal[state]:
            made[place] = _end(here, place)
        else:
            quarters = [(short(value, largest), value / largest) for value in row]
            made[place] = Cell(arrows=np.flatnonzero(policy[state]).tolist(), quarters=quarters)
    return made


def count_cells(here: Here, counts: ArrayLike) -> dict[Place, Cell]:
    """How often each state was visited, (S,), on a scale of its square root, so that rare ones show."""
    counts = np.asarray(counts)
    most = max(1, int(counts.max(initial=0)))
    return {place: Cell(_thousands(int(n)), float(np.sqrt(n / most))) for place, n in zip(here.world.cells, counts, strict=True)}


def _thousands(n: int) -> str:
    return str(n) if n < 10_000 else f"{n / 1000:.0f}k"


def _end(here: Here, place: Place) -> Cell:
    row, column = place
    reward = here.rules.goal if here.rows[row][column] == GOAL else here.rules.pit
    return Cell(f"{reward:+.1f}".removesuffix(".0").replace("-", "−") if reward else "0")
