"""The body of the policy gradient lab: the world on the left, one of three parts on the right; and the names of the estimators."""

from __future__ import annotations

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import policy_gradient_cloud, policy_gradient_learning, policy_gradient_trick, policy_gradient_world, setting
from pages.components.labs.policy_gradient_world import LAB, World
from pages.components.labs.question import Choice, Number, Question
from pages.components.numbers import number
from rlhf.labs import policy_gradient

_WORLD = f"{LAB}/world-of-now"


def body() -> None:
    names = {"trick": _("The trick"), "cloud": _("The cloud"), "learning": _("Learning")}
    part = setting.part(LAB, names)
    left, right = st.columns([2, 3], gap="large")
    with left:
        world = policy_gradient_world.choose()
    st.session_state[_WORLD] = world
    parts = {"trick": policy_gradient_trick, "cloud": policy_gradient_cloud, "learning": policy_gradient_learning}
    parts[part].draw(world, left, right)


def questions() -> list[Question]:
    """With the numbers of the world of the moment."""
    world: World = st.session_state[_WORLD]
    state = int(world.task.mdp.start.argmax())
    p = round(float(world.policy[state, 0]), 4)  # as it is shown
    where = _("in {cell}").format(cell=world.state_name(state)) if world.grid else _("of this bandit")
    j = number(float(policy_gradient.returns(world.task, world.policy[None])[0]))
    name, usual = ("few", 2) if st.session_state.get(f"{LAB}/part") == "learning" else ("n", 8)
    n = int(st.session_state.get(setting.key(LAB, name), usual))
    return [
        Number(
            f"{LAB}/score",
            _("The policy {where} takes action {action} with probability {p}, and it was taken. How large is the score ∂ log π/∂θ "
              "of its own logit?").format(where=where, action=world.actions[0], p=f"{p:.4f}"),
            1 - p,
            _("∂ log π(a)/∂θ_a = 1 − π(a) = 1 − {p} = {score}. The surer the policy was, the less it learns from doing it again.").format(
                p=f"{p:.4f}", score=f"{1 - p:.4f}"
            ),
        ),
        Number(
            f"{LAB}/batch",
            _("Say a batch has n = {n} episodes. With how many would the cloud of estimates be half as wide (half the standard "
              "deviation)?").format(n=n),
            4 * n,
            _("The variance falls as 1/n, its root as 1/√n: half the width costs four times the episodes, {n} → {more}. "
              "That is why a better weight is worth more than a larger batch.").format(n=n, more=4 * n),
        ),
        Choice(
            f"{LAB}/baseline",
            _("Here J = {j}. You subtract the baseline b = J from every return. Why is the mean of the estimates unchanged?").format(j=j),
            [
                _("Because b is the mean of the returns, and no other number would do"),
                _("Because the scores have mean 0, so b times the score has mean 0 for any b the action does not change"),
                _("Because b is small"),
                _("It does change, but only a little"),
            ],
            1,
            _("Σ_a π(a)·∇log π(a) = ∇Σ_a π(a) = ∇1 = 0. So E[b·∇log π] = b·0, with b = {j} as with b = 1000: only the variance "
              "differs.").format(j=j),
        ),
        Choice(
            f"{LAB}/critic",
            _("In the grid world, the mean of one estimator is not the exact gradient. Which, and why?"),
            [
                _("Rewards to go: it forgets what was earned before"),
                _("The exact advantage: V(s) is subtracted"),
                _("The learned critic: V̂ of the next state stands for what really follows, and V̂ is not quite right"),
                _("The whole return: it is the noisiest"),
            ],
            2,
            _("As a baseline, V̂ could be as wrong as it likes. But r + γV̂(s′) puts it in the place of the rewards to come, and "
              "its errors into the mean. On a bandit nothing follows, and the critic is unbiased too."),
        ),
    ]  # fmt: skip
