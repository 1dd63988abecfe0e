"""The questions at the end of lab 6, with the numbers of the example as it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import streamlit as st

from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.kl_example import BETA, LAB, REFERENCE, REWARDS, answers
from pages.components.labs.question import Choice, Number, Question
from pages.components.numbers import number
from rlhf.labs import kl_optimum as ko


def questions() -> Sequence[Question]:
    return [_odds(), _why_z(), _temperature(), _dpo()]


def _bars(name: str, default: Sequence[float]) -> np.ndarray:
    return np.array(st.session_state.get(f"{setting.key(LAB, name)}/values", default)[: answers()], np.float64)


def _odds() -> Question:
    """How much likelier π∗ makes B against A than the reference did: e^((r_B − r_A)/β)."""
    rewards = _bars("rewards", REWARDS)
    beta = float(st.session_state.get(setting.key(LAB, "beta"), BETA)) or BETA
    gain = float(rewards[1] - rewards[0])
    if abs(gain) / beta > 12:
        beta = abs(gain) / 2
    value = math.exp(gain / beta)
    text = _("r(A) = {a}, r(B) = {b}, β = {beta}. By what factor are the odds π(B)/π(A) larger under π∗ than under π_ref?")
    because = _(
        "Z cancels in the ratio: π∗(B)/π∗(A) = π_ref(B)/π_ref(A) · e^((r(B) − r(A))/β), and e^({gain}/{beta}) = {value}. The reference "
        "does not matter."
    )
    numbers = {"a": f"{rewards[0]:g}", "b": f"{rewards[1]:g}", "beta": f"{beta:g}"}
    return Number("kl/odds", text.format(**numbers), value, because.format(gain=f"{gain:g}", beta=f"{beta:g}", value=number(value)))


def _why_z() -> Question:
    return Choice(
        "kl/z",
        _("Why can DPO do without Z(x)?"),
        [
            _("It is 1 for a language model, whose probabilities sum to 1"),
            _("It belongs to the prompt, so it is the same for both answers of a pair and cancels in their difference"),
            _("It is estimated from the pairs"),
            _("It is so large that it does not matter"),
        ],
        1,
        _("β log Z(x) is added to the reward of every answer to x. Bradley–Terry sees only the difference of two rewards to the same x."),
    )


def _temperature() -> Question:
    weights, rewards = _bars("reference", REFERENCE), _bars("rewards", REWARDS)
    because = _(
        "Both reach for the best of the reference. Best-of-n costs n samples an answer, and its KL is bounded by log n − (n−1)/n: for n "
        "= 8 that is {bound} nats."
    )
    numbers = because.format(bound=number(ko.best_of_n_bound(8)))
    if weights.sum() > 0:
        reference = ko.normalised(weights)
        picked = ko.best_of_n(reference, rewards, 8)
        exact = float(picked[picked > 0] @ np.log(picked[picked > 0] / reference[picked > 0]))
        numbers += " " + _("With the bars as they are, it is exactly {exact}.").format(exact=number(exact))
    return Choice(
        "kl/bon",
        _("Best-of-n with n → ∞ gives the same policy as π∗ with …"),
        [_("β → ∞"), _("β = 1"), _("β → 0"), _("no β at all")],
        2,
        numbers,
    )


def _dpo() -> Question:
    return Choice(
        "kl/displaced",
        _("In a DPO run the loss falls, and so do the log-probabilities of both the chosen and the rejected answers. What is going on?"),
        [
            _("A bug: the chosen one must rise"),
            _("The margin grows all the same; the probability goes to answers outside the pairs"),
            _("The learning rate is too small"),
            _("Chosen and rejected were swapped"),
        ],
        1,
        _(
            "The loss sees the margin alone. The part *How the loss falls* finds such models by search, and shows where the probability "
            "went."
        ),
    )
