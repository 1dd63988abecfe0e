"""The questions at the end of the lab on values, with the settings of the moment."""

from __future__ import annotations

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.question import Choice, Number, Question
from pages.components.labs.values_world import DEFAULTS, LAB
from pages.components.numbers import number

NEXT, SWEEPS = 0.8, 10


def questions() -> list[Question]:
    gamma = float(st.session_state.get(setting.key(LAB, "gamma"), DEFAULTS["gamma"]))
    cost = float(st.session_state.get(setting.key(LAB, "cost"), DEFAULTS["cost"]))
    backup = -cost + gamma * NEXT
    left = gamma**SWEEPS
    return [
        Number(
            "grid/backup",
            _(
                "With your γ = {gamma} and a cost of {cost} a step: an action leads for certain to a free cell with V = {value}. What is Q "
                "of that action?"
            ).format(gamma=f"{gamma:g}", cost=f"{cost:g}", value=NEXT),
            backup,
            _("Q = r + γ·V(s′) = {reward} + {gamma} · {value} = {q}.").format(
                reward=f"{0 - cost:g}".replace("-", "−"), gamma=f"{gamma:g}", value=NEXT, q=number(backup)
            ),
        ),
        Number(
            "grid/contraction",
            _(
                "The first sweep of value iteration changed some value by 1. With your γ = {gamma}: by how much, at most, does a value "
                "change in sweep {sweep}?"
            ).format(gamma=f"{gamma:g}", sweep=SWEEPS + 1),
            left,
            _("Each sweep shrinks the largest change by at least γ: γ^{sweeps} = {left}.").format(sweeps=SWEEPS, left=number(left)),
            tolerance=0.02,
        ),
        Choice(
            "grid/target",
            _("Q-learning and SARSA took the same step and saw the same reward. When do their updates of Q(s, a) differ?"),
            [
                _("When the next action taken is not the best one: SARSA’s target has its value, Q-learning’s the best one’s"),
                _("Always: Q-learning takes the mean over the next actions"),
                _("Only when the episode ends with this step"),
            ],
            0,
            _(
                "Targets: r + γ·max Q(s′, a′) against r + γ·Q(s′, a′) with the action really taken. Q-learning is *off-policy*: it learns "
                "of the best policy while another one acts. With ε → 0 the two become one."
            ),
        ),
        Choice(
            "grid/forever",
            _("A walled-in start, no end in reach, γ = 1, and each step costs 0.04. What does value iteration do there?"),
            [
                _("It settles at −0.04 / (1 − γ)"),
                _("Its value stays 0, as nothing is ever reached"),
                _("Its value falls by 0.04 each sweep, without end"),
            ],
            2,
            _(
                "V ← −0.04 + 1·V: there is no V for which that is an equality. With γ < 1 there is one, −0.04 / (1 − γ). Paint it, or "
                "press *Walled-in goal* and set γ to 1."
            ),
        ),
    ]
