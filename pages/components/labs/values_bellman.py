"""The Bellman equations of the clicked cell, with every number put in."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.components.i18n import _
from pages.components.labs.values_world import Here
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs.dynamic_programming import greedy
from rlhf.labs.gridworld import ARROWS, GOAL, PIT, WALL
from rlhf.labs.mdp import Floats, action_values

TEX_ARROWS = (r"\leftarrow", r"\downarrow", r"\rightarrow", r"\uparrow")


def draw(here: Here, values: Floats, policy: Floats, policy_name: str) -> None:
    """``values`` (S,): what stands on the board; ``policy`` (S, A): of the expectation, called ``policy_name``."""
    row, column = here.selected
    kind = here.rows[row][column]
    st.markdown(f"##### {_('The Bellman equation of cell ({row}, {column})').format(row=row + 1, column=column + 1)}")
    if kind == WALL:
        st.info(_("A wall is no state: nobody ever stands there. Click another cell."), icon=":material/block:")
        return
    if kind in (GOAL, PIT):
        paid = number(here.rules.goal if kind == GOAL else here.rules.pit, sign=True)
        words = _(
            "The episode ends here, so V = 0: nothing comes after it. The reward of {paid} is paid on the way in; click a neighbour to see "
            "it."
        )
        st.info(words.format(paid=paid), icon=":material/flag:")
        return
    state = here.world.cells.index((row, column))
    q = action_values(here.world.mdp, values, here.rules.gamma)[state]
    st.caption(
        _(
            "Cells are (row, column). Each term is p · (r + γ·V(s′)): the chance to land there, its reward, and what the board says it is "
            "worth."
        )
    )
    block(*[_action_value(here, values, state, action, float(q[action])) for action in range(len(q))])
    weighted = "+".join(rf"{p:.3g}\cdot{tex(float(x))}" for p, x in zip(policy[state], q, strict=True) if p > 0)
    best = np.flatnonzero(greedy(q[None])[0])
    listed = r",\;".join(result(float(x)) for x in q)
    arrows = r",\,".join(TEX_ARROWS[a] for a in best)
    block(
        rf"\textstyle\sum_a \pi(a|s)\,Q(s,a) = {weighted} = {result(float(policy[state] @ q))}",
        rf"\max_a Q(s,a) = \max\{{{listed}\}} = {result(float(q.max()))}",
        rf"\arg\max_a Q(s,a) = \{{{arrows}\}}",
    )
    words = _(
        "First the expectation, for π = {policy}; then the optimality equation, which takes the best action instead. The board says V = "
        "{value}."
    )
    st.caption(words.format(policy=policy_name, value=number(float(values[state]))))
    if len(best) > 1:
        st.caption(_("{arrows} tie: they are worth the same, so each of them is greedy.").format(arrows=" ".join(ARROWS[a] for a in best)))


def _action_value(here: Here, values: Floats, state: int, action: int, q: float) -> str:
    """Q(s, a) = Σ p·(r + γ·V(s')) with its numbers."""
    mdp = here.world.mdp
    terms = []
    for after in np.flatnonzero(mdp.transition[state, action]):
        p, reward = float(mdp.transition[state, action, after]), float(mdp.reward[state, action, after])
        r, c = here.world.cells[after]
        ahead = rf"{reward + 0.0:.3g}+{here.rules.gamma:.3g}\cdot {tex(float(values[after]))}"
        terms.append(rf"\underbrace{{{p:.3g}\,({ahead})}}_{{({r + 1},{c + 1})}}")
    return rf"Q(s,{TEX_ARROWS[action]}) = {'+'.join(terms)} = {result(q)}"
