"""The trajectory that is set, what follows from it, and what is worth noticing about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import streamlit as st

from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.numbers import number
from rlhf.labs import advantage_estimation as ae
from rlhf.labs.mdp import Floats

LAB = "gae"


@dataclass(frozen=True)
class Trajectory:
    """What is set, and what follows from it."""

    rewards: Floats
    critic: Floats
    bootstrap: float
    ended: bool
    gamma: float
    lam: float

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def deltas(self) -> Floats:
        # to five places: the link keeps six digits of a value, and a perfect critic's surprises are to read 0
        return np.round(ae.deltas(self.rewards, self.critic, self.bootstrap, self.gamma), 5)

    @cached_property
    def n_step(self) -> Floats:
        return ae.n_step(self.deltas, self.gamma)

    @cached_property
    def advantages(self) -> Floats:
        return ae.delta_terms(self.deltas, self.gamma, self.lam).sum(1)

    def next_value(self, t: int) -> float:
        return float(self.critic[t + 1]) if t + 1 < len(self) else self.bootstrap


def current() -> Trajectory:
    """The one that was drawn last; before any was, the one the lab begins with."""
    return st.session_state.get(f"{LAB}/trajectory") or Trajectory(default_rewards(6), default_values(6), 0.0, True, 0.9, 0.8)


def selected(length: int) -> int:
    chosen = str(st.session_state.get(f"{setting.key(LAB, 't')}/chosen", "0"))
    return min(int(chosen), length - 1) if chosen.isdecimal() else 0


def default_rewards(length: int) -> Floats:
    """One, at the end."""
    return np.append(np.zeros(length - 1), 1.0)


def default_values(length: int) -> Floats:
    """A critic that has some idea, and doubts in the middle."""
    return np.round(np.interp(np.linspace(0, 5, length), np.arange(6), (0.3, 0.4, 0.35, 0.6, 0.5, 0.8)), 2)


def explain(made: Trajectory) -> None:
    """Settings that do something a newcomer may not expect, in words."""
    blank = not made.critic.any()
    if not made.ended and made.gamma == 1:
        st.warning(
            _(
                "γ = 1 and no end: the rewards still to come are a sum that need not be finite, and all of it hangs on V_T = {value}. "
                "Here V_T enters A_0 with weight γ(γλ)^{power} = {weight}. Set γ below 1, or let the episode end."
            ).format(value=number(made.bootstrap), power=len(made) - 1, weight=number(made.lam ** (len(made) - 1)))
        )
    elif not made.ended and made.lam == 1 and made.gamma:
        st.info(_("Cut off, so even λ = 1 is not Monte-Carlo: what comes after is still the critic's word, V_T."))
    if blank and not made.rewards.any() and not made.bootstrap:
        st.info(_("No reward, and none expected: every surprise is 0, so nothing is learned here. Drag a reward."))
    elif blank and not made.bootstrap and made.lam == 0:
        st.info(
            _(
                "λ = 0 with a critic that says 0 everywhere: Aₜ is the step's own reward rₜ and nothing else. The steps that led to "
                "a later reward get no credit until the critic has learned to expect it."
            )
        )
    elif blank and made.ended and made.lam == 1:
        st.info(_("λ = 1 with a critic that says 0: Aₜ is the plain return, without a baseline. This is REINFORCE."))
    elif made.gamma == 0:
        st.info(_("γ = 0: nothing after the next reward counts, so Aₜ = rₜ − Vₜ whatever λ is."))
    elif not made.deltas.any():
        st.info(_("Every step went exactly as expected: all δ are 0, so A is 0 for every λ. A perfect critic leaves nothing to learn."))
