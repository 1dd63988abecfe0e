"""What is odd about the world that was painted, in words: no goal, no way to it, no end, steps that pay."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.components.i18n import _
from pages.components.labs.values_world import Here
from pages.components.numbers import number
from rlhf.labs.gridworld import FREE, GOAL, PIT, START
from rlhf.labs.mdp import ends, uniform_policy


def explain(here: Here) -> None:
    """What is odd about this world, in words; below the boards, which must not move while they are painted."""
    if here.lake:
        words = _("This map’s moves and rewards are read from Gymnasium’s own table (`env.unwrapped.P` of FrozenLake-v1, {name}).")
        st.caption(words.format(name=here.lake))
    for remark in remarks(here):
        st.info(remark, icon=":material/lightbulb:")


def remarks(here: Here) -> list[str]:
    """What is odd about this world."""
    rows, rules, mdp = here.rows, here.rules, here.world.mdp
    painted = "".join(rows)
    ending = ends(mdp, uniform_policy(mdp))
    lost = int((~ending).sum())
    found: list[str] = []
    if GOAL not in painted:
        found.append(_("There is no goal: the best that is left is to pay as little as possible. Paint one."))
    elif distance_to_goal(here) is None:
        found.append(_("No way leads from a start to a goal: walls are in between. The start learns nothing of the reward there."))
    if START not in painted:
        found.append(_("There is no start: each episode begins in a free cell by chance. The values do not depend on it."))
    elif FREE not in painted and painted.count(START) > 1:
        found.append(_("Every free cell is a start: episodes begin anywhere (“exploring starts”). The values do not depend on it."))
    if rules.step_cost < 0 and rules.gamma >= 1:
        words = _(
            "A step *pays* {gain}, and with γ = 1 nothing is worth less for being late: who never ends collects without limit. The values "
            "of cells that can avoid the end rise by {gain} each sweep, for ever: they diverge."
        )  # fmt: skip
        found.append(words.format(gain=f"{-rules.step_cost:g}"))
    elif rules.step_cost < 0:
        words = _(
            "A step *pays* {gain}: to walk for ever is worth {gain} / (1 − γ) = {sum}. Where that is more than the goal, the arrows avoid "
            "it."
        )
        found.append(words.format(gain=f"{-rules.step_cost:g}", sum=number(-rules.step_cost / (1 - rules.gamma))))
    elif lost and rules.gamma >= 1 and rules.step_cost > 0:
        words = _(
            "From {lost} cells no end can be reached, and γ = 1: each pays {cost} at every step for ever, so its value falls without limit "
            "and no exact value exists. Set γ below 1, or open a way."
        )  # fmt: skip
        found.append(words.format(lost=lost, cost=f"{rules.step_cost:g}"))
    elif lost and rules.gamma < 1 and rules.step_cost > 0:
        words = _(
            "From {lost} cells no end can be reached. With γ < 1 they still have a value: −{cost} / (1 − γ) = {sum}, the price of walking "
            "for ever."
        )
        found.append(words.format(lost=lost, cost=f"{rules.step_cost:g}", sum=number(-rules.step_cost / (1 - rules.gamma))))
    if rules.gamma == 0:
        found.append(_("γ = 0: only the next reward counts, so that cells further off know nothing of the goal."))
    if rules.pit > rules.goal and PIT in painted and GOAL in painted:
        found.append(_("A pit pays more than a goal here: the best way ends in a pit."))
    return found


def distance_to_goal(here: Here) -> int | None:
    """Steps of the shortest way from a start to a goal; None where there is none."""
    mdp = here.world.mdp
    reached = np.array([here.rows[r][c] == GOAL for r, c in here.world.cells])
    linked = mdp.transition.sum(1) > 0
    for steps in range(mdp.states):
        if reached[mdp.start > 0].any():
            return steps
        reached = reached | (linked @ reached)
    return None
