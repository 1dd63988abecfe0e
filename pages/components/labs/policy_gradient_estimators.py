"""What the cloud and the learning curves share: the estimators' names and colours, and the settings of a batch, a baseline and a critic."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.policy_gradient_world import LAB, World
from pages.components.numbers import number
from rlhf.labs import policy_gradient

COLOURS = {
    "return": theme.VERMILLION, "to_go": theme.ORANGE, "constant": theme.PURPLE, "mean": theme.SKY, "advantage": theme.BLUE,
    "critic": theme.GREEN,
}  # fmt: skip
ROUNDING = 1e-12
LARGE = 5.0  # a baseline this many times farther off than the mean return is worth a word


@dataclass(frozen=True)
class Batch:
    """``n`` episodes a batch, a constant baseline, and the critic's learning rate."""

    n: int
    constant: float
    critic_rate: float
    seed: int


def names() -> dict[str, str]:
    return {
        "return": _("Whole return"),
        "to_go": _("Rewards to go"),
        "constant": _("Constant baseline b"),
        "mean": _("Mean of the others (RLOO)"),
        "advantage": _("Exact advantage"),
        "critic": _("Learned critic"),
    }


def mean_return(world: World) -> float:
    """J of the policy of the moment."""
    return float(policy_gradient.returns(world.task, world.policy[None])[0])


def batch(world: World, name: str, default: int, most: int) -> tuple[Batch, DeltaGenerator]:
    """Its settings, the number of episodes as ``name``, and the expander for a part's own; a baseline that does harm is remarked upon."""
    n = setting.whole(LAB, name, _("Episodes in a batch, n"), 1, most, default)
    constant = _constant(world)
    more = st.expander(_("More about the estimators"), icon=":material/tune:")
    with more:
        rate = setting.slider(LAB, "critic-rate", _("Learning rate of the critic"), 0.05, 1, 0.2, 0.05)
        seed = setting.seed(LAB)
    return Batch(n, constant, rate, seed), more


def _constant(world: World) -> float:
    mean = mean_return(world)
    kinds = {"mean": _("b = J, the mean return"), "own": _("b of my own")}
    best = None
    if world.rewards is not None:
        best = policy_gradient.best_baseline(world.policy[0], world.rewards)
        kinds = {"mean": kinds["mean"], "best": _("b*, of least variance"), "own": kinds["own"]}
    kind = setting.choice(LAB, "b", _("Constant baseline"), kinds)
    if kind == "mean":
        return mean
    if kind == "best" and best is not None:
        return best
    own = setting.slider(LAB, "own", "b", -20, 20, 0, 0.25)
    if world.rewards is not None:
        rewards, noise = world.rewards, world.task.noise
        now, plain = (policy_gradient.bandit_variance(world.policy[0], rewards, noise, 1, b) for b in (own, 0.0))
        if now > LARGE * plain > 0:
            words = _("With b = {b} the variance is {times} times that of no baseline: the mean stays, but it drowns.")
            st.warning(words.format(b=number(own), times=number(now / plain)), icon=":material/warning:")
    elif abs(own - mean) > LARGE:
        words = _("b = {b} is far from what an episode returns (J = {j}): the mean stays, but the variance explodes.")
        st.warning(words.format(b=number(own), j=number(mean)), icon=":material/warning:")
    return own


def two() -> tuple[str, str]:
    """The two estimators that are drawn in full."""
    listed = names()
    left, right = st.columns(2)
    with left:
        first = setting.choice(LAB, "first", _("Show"), listed)
    with right:
        order = ["advantage", *(name for name in listed if name != "advantage")]
        second = setting.choice(LAB, "second", _("beside"), {name: listed[name] for name in order})
    return first, second


def shown(value: float) -> str:
    """A number; 0 where it is no more than rounding."""
    return number(value if abs(value) > ROUNDING else 0.0)


def bias_words(bias: float, name: str) -> str:
    """The exact bias of an estimator, and why it is what it is where that is not plain."""
    if bias > ROUNDING:
        return f"{number(bias)}: {_('V̂ is not V') if name == 'critic' else _('γ^t is left out')}"
    return "0"
