"""The updates of Q-learning and SARSA at the clicked cell, with every number put in, and its action values beside the exact ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from pages.components.i18n import _
from pages.components.labs.values_bellman import TEX_ARROWS
from pages.components.labs.values_world import Here
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs.gridworld import ARROWS
from rlhf.labs.mdp import Floats
from rlhf.labs.td_control import SLOWER, Rates

Table = tuple[Floats, NDArray[np.int32]]  # Q and how often each was tried


def draw(here: Here, learned: Mapping[str, Table], rates: Rates, best: Floats | str) -> None:
    """``learned``: of "q_learning" and "sarsa"; ``best``: Q*, or why there is none."""
    row, column = here.selected
    st.markdown(f"##### {_('One update in cell ({row}, {column})').format(row=row + 1, column=column + 1)}")
    state = here.world.state(row, column)
    if state is None or here.world.mdp.terminal[state]:
        st.info(_("Nobody acts in a wall, a goal or a pit. Click a free cell."), icon=":material/block:")
        return
    (q, tries), (sarsa, sarsa_tries) = learned["q_learning"], learned["sarsa"]
    action = int(q[state].argmax())
    after = int(here.world.mdp.transition[state, action].argmax())
    reward = float(here.world.mdp.reward[state, action, after])
    to_row, to_column = here.world.cells[after]
    words = _("Say {arrow} is taken, the reward is {reward}, and one lands in ({row}, {column}).")
    words = words.format(arrow=ARROWS[action], reward=number(reward), row=to_row + 1, column=to_column + 1)
    ends, other = bool(here.world.mdp.terminal[after]), int(sarsa[after].argmin())
    if ends:
        words += " " + _("There the episode ends: nothing lies ahead, and both targets are the reward alone.")
    else:
        words += " " + _("Exploring, the dice then choose a′ = {other}, the worst action there.").format(other=ARROWS[other])
    st.caption(words)
    block(
        _line(
            "Q-learning",
            q[state, action],
            _rate(rates, int(tries[state, action])),
            reward,
            here.rules.gamma,
            r"\max Q(s',\cdot)",
            0.0 if ends else q[after].max(),
        ),
        _line(
            "SARSA",
            sarsa[state, action],
            _rate(rates, int(sarsa_tries[state, action])),
            reward,
            here.rules.gamma,
            rf"Q(s',{TEX_ARROWS[other]})",
            sarsa[after, other],
        ),
    )
    rows = {
        _(
            "Q-learning"
        ): q[state], _("tried by Q-learning"): tries[state], _("SARSA"): sarsa[state], _("tried by SARSA"): sarsa_tries[state],
    }  # fmt: skip
    if not isinstance(best, str):
        rows[_("exact Q*")] = best[state]
    written = {
        name: [str(x) if np.issubdtype(values.dtype, np.integer) else number(float(x)) for x in values] for name, values in rows.items()
    }
    st.dataframe(pd.DataFrame.from_dict(written, orient="index", columns=list(ARROWS)), width="stretch")


def _rate(rates: Rates, tried: int) -> float:
    """α of the next update."""
    exponent = {"constant": 0.0, "visits": 1.0, "power": SLOWER}[rates.schedule]
    return (rates.alpha if rates.schedule == "constant" else 1.0) / (tried + 1) ** exponent


def _line(name: str, q: float, rate: float, reward: float, gamma: float, ahead: str, value: float) -> str:
    """Q + α·[r + γ·ahead − Q]."""
    new = q + rate * (reward + gamma * value - q)
    error = rf"{reward + 0.0:.3g}+{gamma:.3g}\cdot\underbrace{{{tex(float(value))}}}_{{{ahead}}}-{tex(float(q))}"
    return rf"Q_{{\text{{{name}}}}} = {result(float(q))}+{rate:.3g}\,\bigl[{error}\bigr] = {result(float(new))}"
