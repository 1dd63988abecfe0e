"""Trust regions: the questions at the end, with the numbers of the settings in the lab."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.question import Choice, Number, Question
from pages.components.labs.trust_settings import LAB
from pages.components.numbers import number


def questions() -> list[Question]:
    delta, epsilon, beta = _value("delta", 0.05), _value("epsilon", 0.2), _value("beta", 1.0)
    return [_second_order(delta), _scale(delta), _cut(epsilon), _beta(delta, beta)]


def _value(name: str, default: float) -> float:
    return float(st.session_state.get(setting.key(LAB, name), default))


def _second_order(delta: float) -> Question:
    return Choice(
        "tr/second-order",
        _("TRPO scales its step to √(2δ/sᵀFs), so that the KL is δ. Why does it still need a line search?"),
        [
            _("The conjugate gradient is random"),
            _("½·sᵀFs is the KL to second order only, and the surrogate may promise less further out"),
            _("To choose the learning rate of the next epochs"),
        ],
        1,
        _(
            "At this length ½·(θ′−θ)ᵀF(θ′−θ) = δ = {delta} exactly, but the KL itself has higher orders: towards a rare action it is more. "
            "The trials under *Look into one method* show the KL of each length."
        ).format(delta=number(delta)),
    )


def _scale(delta: float) -> Question:
    return Number(
        "tr/scale",
        _("With δ = {delta} and gᵀF⁺g = 0.4: how long is the natural step, in units of F⁺g?").format(delta=number(delta)),
        float(np.sqrt(2 * delta / 0.4)),
        _("√(2δ / gᵀF⁺g) = √(2·{delta}/0.4) = {scale}.").format(delta=number(delta), scale=number(float(np.sqrt(2 * delta / 0.4)))),
    )


def _cut(epsilon: float) -> Question:
    ratio = 1 + 2 * epsilon
    return Choice(
        "tr/cut",
        _("A sample has A = −1, and its ratio has *risen* to ρ = {ratio}, with ε = {epsilon}. What does the clip do?").format(
            ratio=number(ratio), epsilon=number(epsilon)
        ),
        [
            _("Its gradient is cut: ρ is outside 1 ± ε"),
            _("Nothing: the gradient pulls it back, with full weight ρ"),
            _("It sets ρ back to 1 + ε"),
        ],
        1,
        _(
            "min(ρA, clip(ρ)A) = min(−{ratio}, −{edge}) = −{ratio}: the smaller of the two is the one that is not clipped. The clip cuts "
            "only what has gone far in the direction that its advantage asks for."
        ).format(ratio=number(ratio), edge=number(1 + epsilon)),
    )


def _beta(delta: float, beta: float) -> Question:
    return Number(
        "tr/beta",
        _("PPO-penalty had β = {beta}; its update ended at d = {distance} nats, with d_targ = {target}. What is the next β?").format(
            beta=number(beta), distance=number(2 * delta + 0.01), target=number(delta)
        ),
        2 * beta,
        _("d is above 1.5·d_targ = {bound}, so β doubles, to {doubled}.").format(bound=number(1.5 * delta), doubled=number(2 * beta)),
    )
