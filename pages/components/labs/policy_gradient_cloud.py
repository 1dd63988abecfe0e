"""The cloud: many estimates of one gradient, by each estimator from the same episodes, around the exact one; their bias and variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components.i18n import _
from pages.components.labs import policy_gradient_estimators as estimators
from pages.components.labs import policy_gradient_figures as figures
from pages.components.labs import question, setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.policy_gradient_estimators import Batch
from pages.components.labs.policy_gradient_world import LAB, World
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import gradient_estimators, policy_gradient

QUICK = 300_000  # actions, at most, that are drawn without being asked for
_FOUND = f"{LAB}/cloud"


def draw(world: World, left: DeltaGenerator, right: DeltaGenerator) -> None:
    with left:
        batch, more = estimators.batch(world, "n", 8, 64)
    with more:
        batches = setting.whole(LAB, "batches", _("Batches in the cloud"), 50, 1000, 300, 50)
        updates = setting.whole(LAB, "critic-updates", _("Batches the critic has learned from"), 0, 200, 30, 5)
    with right:
        _formula(world, batch)
        answered = question.guess(_question())
        pressed = st.button(_("Draw the cloud"), type="primary", icon=":material/scatter_plot:", disabled=not answered, key=f"{LAB}/draw")
        if pressed:
            st.session_state[f"{_FOUND}/on"] = True
        if not answered:
            st.caption(_("Guess first: there is nothing to lose."))
        if not st.session_state.get(f"{_FOUND}/on"):
            if world.rewards is not None:
                figures.against_baseline(world, batch)
            return
        drawn = _sampled(world, batch, batches, updates, pressed=pressed)
        world, batch, found = drawn.world, drawn.batch, drawn.found
        first, second = estimators.two()
        live_figure(figures.scatter(world, found, (first, second)), key=f"{LAB}/scatter")
        words = _(
            "Each dot is the gradient estimated from one batch of {n} episodes; all estimators saw the same ones. The cross is the exact "
            "gradient, a diamond the middle of a cloud. {axes}"
        )
        st.caption(words.format(n=batch.n, axes=_axes_in_words(world)))
        _reveal(world, batch, found)
    st.markdown(f"##### {_('Bias and variance, measured')}")
    _table(world, batch, found)
    beside, one = st.columns(2, gap="large")
    with beside:
        st.markdown(f"**{_('Variance of each estimator')}**")
        live_figure(figures.bars(world, batch, found), key=f"{LAB}/bars")
    with one:
        if world.rewards is not None:
            figures.against_baseline(world, batch)
        else:
            figures.critic(world, found)
    with st.expander(_("One episode, number by number"), icon=":material/format_list_numbered:"):
        _episode(world, batch, found)


def _formula(world: World, batch: Batch) -> None:
    """The exact gradient and, on a bandit, the exact variance, with their numbers."""
    exact = policy_gradient.gradient(world.task, world.policy)
    if world.rewards is None:
        size = result(length) if (length := float(np.linalg.norm(exact))) > estimators.ROUNDING else "0"
        block(
            rf"J(\theta)={result(estimators.mean_return(world))}",
            rf"\lVert\nabla J\rVert={size}\quad\text{{({_('exact')}, {exact.size} {_('logits')})}}",
        )
        return
    policy, rewards, noise = world.policy[0], world.rewards, world.task.noise
    best = int(np.abs(exact[0]).argmax())
    arm, j = world.actions[best], float(policy @ rewards)
    square = float(exact[0] @ exact[0])
    variance = policy_gradient.bandit_variance(policy, rewards, noise, batch.n, batch.constant)
    block(
        rf"\partial "
        rf""
        rf"J/\partial\theta_{{{arm}}}=\pi_{{{arm}}}\,(r_{{{arm}}}-J)={tex(float(policy[best]))}\,({result(float(rewards[best]))}-{tex(j)})"
        rf"={result(float(exact[0, best]))}",
        r"\operatorname{Var}(\hat g_b)=\tfrac1n\Big(\textstyle\sum_a\pi_a\big((r_a-b)^2+\sigma^2\big)\lVert\nabla\log\pi_a\rVert^2"
        r"-\lVert\nabla J\rVert^2\Big)",
        rf"\phantom{{x}}=\tfrac1{{{batch.n}}}\big({result(variance * batch.n + square)}-{tex(square)}\big)={result(variance)}"
        rf"\quad\text{{({_('with')} }}b={result(batch.constant)})",
    )


def _question(because: str = "") -> question.Choice:
    return question.Choice(
        f"{LAB}/cloud",
        _("You subtract a baseline from every return. What becomes of the cloud of estimates?"),
        [
            _("Its middle moves closer to the exact gradient"),
            _("Its width changes, its middle stays"),
            _("Both change"),
            _("Nothing, a constant has no gradient"),
        ],
        1,
        because,
    )


@dataclass(frozen=True)
class Drawn:
    """A cloud, with the settings it was drawn with."""

    world: World
    batch: Batch
    found: gradient_estimators.Cloud
    made_with: tuple[object, ...]


def _sampled(world: World, batch: Batch, batches: int, updates: int, *, pressed: bool) -> Drawn:
    """Drawn anew whenever a setting changed, where that is quick; else when the button is pressed, and what is shown says so."""
    task = world.task
    made_with = (
        task.mdp.transition.tobytes(), task.mdp.reward.tobytes(), task.gamma, task.horizon, task.noise, world.logits.tobytes(),
        world.discounted, batch, batches, updates,
    )  # fmt: skip
    known: Drawn | None = st.session_state.get(_FOUND)
    if known is not None and known.made_with == made_with:
        return known
    if known is not None and not pressed and batches * batch.n * task.horizon > QUICK:
        st.info(_("So many episodes take a moment. This cloud is of the earlier settings: draw it again."), icon=":material/history:")
        return known
    found = gradient_estimators.cloud(
        task, world.policy, batches=batches, n=batch.n, constant=batch.constant, critic_updates=updates, critic_rate=batch.critic_rate,
        seed=batch.seed, discounted=world.discounted,
    )  # fmt: skip
    st.session_state[_FOUND] = drawn = Drawn(world, batch, found, made_with)
    return drawn


def _axes_in_words(world: World) -> str:
    if world.rewards is None:
        return _("To the right is uphill; a dot left of 0 would lower the return.")
    return _("The axes are the two logits with the largest gradients.")


def _reveal(world: World, batch: Batch, found: gradient_estimators.Cloud) -> None:
    plain, shifted, best = (found.measured[name] for name in ("to_go", "constant", "advantage"))
    listed = estimators.names()
    tightest = min(found.measured, key=lambda name: found.measured[name].variance)
    words = _(
        "Measured here: without a baseline the middle is {plain} from the exact gradient, with b = {b} it is {shifted}, where chance "
        "alone would give about {chance}. The variance went from {before} to {after}, and with the exact V(s) to {best}. Tightest of "
        "all: {tightest}{remark}."
    )
    remark = _(", which is not in the right place") if not found.measured[tightest].within_chance else ""
    because = words.format(
        plain=estimators.shown(plain.bias), b=number(batch.constant), shifted=estimators.shown(shifted.bias),
        chance=estimators.shown(shifted.bias_error), before=estimators.shown(plain.variance), after=estimators.shown(shifted.variance),
        best=estimators.shown(best.variance), tightest=listed[tightest], remark=remark,
    )  # fmt: skip
    if not world.discounted and world.task.gamma < 1:
        because += " " + _("All but the whole return are off their place, with or without a baseline, because γ^t is left out.")
    question.reveal(_question(because))


def _exact_biases(world: World, found: gradient_estimators.Cloud) -> dict[str, float]:
    means = {
        name: policy_gradient.mean_estimate(name, world.task, world.policy, found.critic, discounted=world.discounted)
        for name in gradient_estimators.ESTIMATORS
    }
    return {name: float(np.linalg.norm(mean - found.exact)) for name, mean in means.items()}


def _table(world: World, batch: Batch, found: gradient_estimators.Cloud) -> None:
    exact = _exact_biases(world, found)
    closed = figures.closed_forms(world, batch, found.critic) if world.rewards is not None else {}
    plain = found.measured["return"].variance
    rows: list[dict[str, Any]] = []
    for name, words in estimators.names().items():
        m = found.measured[name]
        row = {
            _("Estimator"): words,
            _("Bias, exactly"): estimators.bias_words(exact[name], name),
            _("Bias, measured"): f"{estimators.shown(m.bias)} ± {estimators.shown(m.bias_error)}",
            _("is it chance?"): _("may be") if m.within_chance else _("no"),
            _("Variance"): f"{estimators.shown(m.variance)} ± {estimators.shown(m.variance_error)}",
        }
        if closed:
            row[_("Variance, exactly")] = estimators.shown(closed[name])
        row[_("relative")] = number(m.variance / plain if m.variance > estimators.ROUNDING else 0.0, "share") if plain > 0 else "–"
        row[_("Typical error")] = estimators.shown(math.sqrt(m.bias**2 + m.variance))
        row[_("Uphill")] = number(m.uphill, "share") if np.linalg.norm(found.exact) > estimators.ROUNDING else "–"
        rows.append(row)
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.caption(
        _(
            "Bias: the distance of the cloud's middle from ∇J. With {count} batches it is never exactly 0; after ± stands what chance "
            "alone makes of it on average. No chance: an unbiased estimator lands so far off only once in a thousand clouds. Variance: "
            "of one batch, summed over all logits, ± standard error; relative to the whole return's. Typical error: √(bias² + variance). "
            "Uphill: the share of batches whose step would raise J."
        ).format(count=len(found.estimates["return"]))
    )
    if world.rewards is not None:
        st.caption(_("On a bandit the learned critic is unbiased too: nothing follows the reward, so V̂ is no more than a baseline."))
    if words := _more_variance(world, found):
        st.info(words, icon=":material/trending_up:")
    if batch.n == 1:
        st.info(_("With one episode a batch there are no others: their mean is taken as 0, and it is the same as rewards to go."))


def _more_variance(world: World, found: gradient_estimators.Cloud) -> str:
    """Which refinements measurably raise the variance here, and what of it is measured: larger terms, or terms that cancel less."""
    plain, squares = found.measured["return"], found.squared
    errors = {name: math.hypot(m.variance_error, plain.variance_error) for name, m in found.measured.items()}
    worse = [name for name, m in found.measured.items() if m.variance > plain.variance + 2 * errors[name]]
    if not worse or plain.variance < estimators.ROUNDING:
        return ""
    listed = estimators.names()
    entries = [
        f"{listed[name]} {number(found.measured[name].variance / plain.variance, 'share')} "
        f"({number(squares[name] / squares['return'], 'share')})"
        for name in worse
    ]  # fmt: skip
    words = _(
        "A refinement may also raise the variance. Here, in per cent of the whole return’s (in brackets the same of Σ‖w·∇log π‖², the "
        "squares of the single terms): {list}."
    ).format(list=", ".join(entries))
    if any(squares[name] > squares["return"] for name in worse):
        words += " " + _("Where the squares are larger, the refinement takes the weights w away from 0 on the whole.")
    if any(squares[name] <= squares["return"] for name in worse):
        words += " " + _("Where the squares are not larger, the terms cancel less.")
    if world.grid is not None and {"constant", "mean"} & set(worse):
        words += " " + _("b, and the mean of the others, is one number for all steps of an episode, whatever return a step can expect.")
    return words


def _episode(world: World, batch: Batch, found: gradient_estimators.Cloud) -> None:
    """The first episode of the first batch: how its weights come about."""
    one = found.first
    ahead = policy_gradient.values(world.task, world.policy[None])
    known = gradient_estimators.Baselines(batch.constant, ahead, found.critic[None])
    weighed = {
        name: gradient_estimators.weights(name, world.task, one, known, discounted=world.discounted)[0, 0]
        for name in gradient_estimators.ESTIMATORS
    }
    to_go = gradient_estimators.rewards_to_go(world.task, one)[0, 0]
    rows = []
    for t in range(int(one.live[0, 0].sum())):
        state, after = int(one.states[0, 0, t]), int(one.states[0, 0, t + 1])
        row = {"t": t, _("Cell"): world.state_name(state), _("Action"): world.actions[one.actions[0, 0, t]]}
        row |= {"r": number(float(one.rewards[0, 0, t])), "G": number(float(to_go[t])), "V(s)": number(float(ahead[t, 0, state]))}
        row |= {
            "V̂(s)": number(float(found.critic[state])),
            "V̂(s′)": number(float(found.critic[after]) if t + 1 < world.task.horizon else 0.0),
        }
        row |= {f"w: {words}": number(float(weighed[name][t]), sign=True) for name, words in estimators.names().items()}
        rows.append(row)
    frame = pd.DataFrame(rows)
    if world.rewards is not None:
        frame = frame.drop(columns=["t", _("Cell")])
    st.caption(
        _(
            "The first episode of the first batch. The estimate of a batch is the mean over its episodes of Σ w·∇log π(a|s), with these "
            "weights w."
        )
    )
    st.dataframe(frame, hide_index=True)
