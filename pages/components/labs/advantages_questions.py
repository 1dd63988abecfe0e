"""The questions of the lab on advantages, with the numbers of the trajectory that is set."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import advantages_made as trajectory
from pages.components.labs.question import Choice, Number, Question
from pages.components.numbers import number


def questions() -> list[Question]:
    made = trajectory.current()
    t = trajectory.selected(len(made))
    reward, value, after = float(made.rewards[t]), float(made.critic[t]), made.next_value(t)
    delta, lam = float(made.deltas[t]), made.lam
    weight = (1 - lam) * lam**2
    return [
        Number(
            "gae/delta",
            _("In the trajectory at t = {t}: r = {r}, V = {v}, the next value {after}, γ = {gamma}. What is δ_{t}?").format(
                t=t, r=number(reward), v=number(value), after=number(after), gamma=number(made.gamma)
            ),
            delta,
            f"δ = {number(reward)} + {number(made.gamma)} · {number(after)} − {number(value)} = {number(delta)}".replace("− −", "+ "),
            0.02,
        ),
        Number(
            "gae/weight",
            _("In a long episode, which weight does GAE give the 3-step advantage, with λ = {lam}?").format(lam=number(lam)),
            weight,
            f"(1 − λ)·λ² = {number(1 - lam)} · {number(lam**2)} = {number(weight)}",
            0.02,
        ),
        Choice(
            "gae/bias",
            _("The critic is wrong. Which estimate of the return is still unbiased?"),
            [_("TD(0)"), _("GAE with λ = 0.95"), _("Monte-Carlo of an episode that ended")],
            2,
            _("Only it never asks the critic about the future. Â subtracts V(s) too, but the same V(s) whatever is done next: no bias."),
        ),
        Choice(
            "gae/language",
            _("An answer earns one reward, at its end; γ = 1 and λ = 1. What is a token's advantage?"),
            [_("The reward, for all tokens alike"), _("The reward less the critic's value at that token"), _("0 but for the last token")],
            1,
            _("The sum of δ telescopes: A_t = R − V_t. With λ < 1, what the critic learns between t and the end counts less."),
        ),
    ]
