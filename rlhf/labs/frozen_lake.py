"""Gymnasium's FrozenLake as a grid world, read from the environment's own table of transitions (``env.unwrapped.P``).

https://gymnasium.farama.org/environments/toy_text/frozen_lake. Its ice is a slip of 2/3, its holes are the pits, and a step costs nothing.
"""

from __future__ import annotations

import numpy as np

from rlhf.labs.gridworld import GOAL, PIT, START, GridWorld
from rlhf.labs.mdp import FiniteMDP

SLIP = 2 / 3
# as in gymnasium, so that the map is known before gymnasium is imported
MAPS = {
    "4x4": ("S...", ".X.X", "...X", "X..G"),
    "8x8": ("S.......", "........", "...X....", ".....X..", "...X....", ".XX...X.", ".X..X.X.", "...X...G"),
}


def frozen_lake(name: str, *, slip: float = SLIP, step_cost: float = 0.0, goal_reward: float = 1.0, pit_reward: float = 0.0) -> GridWorld:
    """The lake called ``name`` in gymnasium ("4x4", "8x8"), with gymnasium's own ``success_rate`` 1 − slip and ``reward_schedule``."""
    import gymnasium

    schedule = (goal_reward - step_cost, pit_reward - step_cost, -step_cost)
    lake = gymnasium.make("FrozenLake-v1", map_name=name, success_rate=1.0 - slip, reward_schedule=schedule).unwrapped
    table, floor = lake.P, lake.desc.astype(str)  # pyright: ignore[reportAttributeAccessIssue]
    rows = tuple("".join(row).replace("F", ".").replace("H", PIT) for row in floor)
    kinds = np.array(list("".join(rows)))
    terminal = (kinds == GOAL) | (kinds == PIT)
    transition = np.zeros((len(kinds), 4, len(kinds)))
    reward = np.zeros_like(transition)
    for state in np.flatnonzero(~terminal):
        for action, outcomes in table[state].items():
            for p, after, gained, _ends in outcomes:
                transition[state, action, after] += p
                reward[state, action, after] = gained
    starts = kinds == START
    cells = tuple((r, c) for r in range(len(rows)) for c in range(len(rows[0])))
    return GridWorld(rows, cells, FiniteMDP(transition, reward, terminal, starts / starts.sum()))
