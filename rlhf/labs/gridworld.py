"""A grid to walk in: free cells, walls, goals and pits, and a floor that may be slippery.

The map is text, one character a cell: ``.`` free, ``S`` start, ``#`` wall, ``G`` goal, ``X`` pit. Goals and pits end the episode.
An action slips with probability ``slip`` to one of the two directions at right angles to it, half each, as in Gymnasium's FrozenLake
(which slips with 2/3, https://gymnasium.farama.org/environments/toy_text/frozen_lake). Who walks into a wall or the edge stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf.errors import ConfigError
from rlhf.labs.mdp import FiniteMDP

FREE, START, WALL, GOAL, PIT = ".S#GX"
ARROWS = "←↓→↑"  # Gymnasium's order of actions
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (row, column)
LARGEST = 12  # cells along a side


@dataclass(frozen=True)
class GridWorld:
    """``cells``: (row, column) of each state, row by row without the walls; ``mdp``: its decision process, states in that order."""

    rows: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]
    mdp: FiniteMDP

    def state(self, row: int, column: int) -> int | None:
        """The state of a cell; None for a wall."""
        return self.cells.index((row, column)) if (row, column) in self.cells else None


def grid_world(
    rows: tuple[str, ...], *, slip: float = 0.0, step_cost: float = 0.04, goal_reward: float = 1.0, pit_reward: float = -1.0
) -> GridWorld:
    """The world of a map. Every action costs ``step_cost``; entering a goal or pit adds its reward. Starts are equally likely; without
    one, every free cell is. ConfigError: a map that is not a rectangle of known characters, is too large, or has no free cell.
    """
    _check(rows)
    cells = tuple((r, c) for r, row in enumerate(rows) for c, kind in enumerate(row) if kind != WALL)
    number = {cell: i for i, cell in enumerate(cells)}
    kinds = np.array([rows[r][c] for r, c in cells])
    terminal = (kinds == GOAL) | (kinds == PIT)
    transition = np.zeros((len(cells), len(MOVES), len(cells)))
    for s, (r, c) in enumerate(cells):
        if terminal[s]:
            continue
        landing = [number.get((r + dr, c + dc), s) for dr, dc in MOVES]
        for a in range(len(MOVES)):
            transition[s, a, landing[a]] += 1.0 - slip
            for aside in ((a - 1) % 4, (a + 1) % 4):
                transition[s, a, landing[aside]] += slip / 2
    on_entering = np.where(kinds == GOAL, goal_reward, np.where(kinds == PIT, pit_reward, 0.0)) - step_cost
    reward = np.broadcast_to(on_entering, transition.shape) * ~terminal[:, None, None]
    starts = kinds == START if (kinds == START).any() else ~terminal
    return GridWorld(rows, cells, FiniteMDP(transition, reward, terminal, starts / starts.sum()))


def _check(rows: tuple[str, ...]) -> None:
    if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
        raise ConfigError("The map is not a rectangle.", "Give every row the same number of cells.")
    if len(rows) > LARGEST or len(rows[0]) > LARGEST:
        raise ConfigError(f"The map has {len(rows)} × {len(rows[0])} cells.", f"Use at most {LARGEST} along a side.")
    if unknown := sorted(set("".join(rows)) - {FREE, START, WALL, GOAL, PIT}):
        raise ConfigError(f"The map has cells that mean nothing: {', '.join(unknown)}.", "Use . S # G and X.")
    if not set("".join(rows)) & {FREE, START}:
        raise ConfigError("The map has no free cell to stand on.", "Paint at least one cell free.")
