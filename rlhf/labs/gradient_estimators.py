"""The policy gradient from samples: REINFORCE and its refinements, their bias and variance, and learning with them.

An estimate from n episodes is the mean over episodes of Σ_t ∇log π(a_t|s_t)·w_t. The estimators differ in w_t (``weights``). As J is the
return of T actions (policy_gradient.py), an unbiased estimate is unbiased to the last digit.

Williams 1992, https://doi.org/10.1007/BF00992696 (REINFORCE); Greensmith, Bartlett and Baxter 2004,
https://jmlr.org/papers/v5/greensmith04a.html (baselines); Kool et al. 2019, https://openreview.net/forum?id=r1lgTGL5DE (leave one out).

Shapes: S states, A actions, T the horizon, B batches (each may have its own policy), n episodes a batch, L ≤ T the longest episode drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.labs.mdp import Floats
from rlhf.labs.policy_gradient import Task, gradient, optimum, returns, values
from rlhf.labs.softmax_policy import softmax

ESTIMATORS = ("return", "to_go", "constant", "mean", "advantage", "critic")
CHANCE = 3.09  # standard deviations of a normal variable that chance exceeds once in a thousand


@dataclass(frozen=True)
class Episodes:
    """``states`` (B, n, L + 1), ``actions`` and ``rewards`` (B, n, L), ``live`` (B, n, L): before the end; rewards are 0 after it."""

    states: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: Floats
    live: NDArray[np.bool_]


def sample(task: Task, policies: Floats, n: int, rng: np.random.Generator, *, alike: int = 1) -> Episodes:
    """n episodes of each of the policies (B, S, A), all at once.

    ``alike`` > 1: B is that many times a number of policies which all have the same luck, so that what differs is theirs.
    """
    mdp, batches = task.mdp, len(policies)
    action_cdf, next_cdf = policies.cumsum(2), mdp.transition.cumsum(2)
    batch = np.repeat(np.arange(batches), n)
    luck = batches * n // alike
    first = np.tile(rng.random(luck), alike)
    state = _draw(np.broadcast_to(mdp.start.cumsum(), (batches * n, mdp.states)), first)
    states = np.repeat(state[:, None], task.horizon + 1, 1)
    actions = np.zeros((batches * n, task.horizon), np.int64)
    rewards, live = np.zeros(actions.shape), np.zeros(actions.shape, bool)
    length = 0
    while length < task.horizon and len(rows := np.flatnonzero(~mdp.terminal[states[:, length]])):
        here = states[rows, length]
        chance = np.tile(rng.random((2, luck)), alike)[:, rows]
        action = _draw(action_cdf[batch[rows], here], chance[0])
        after = _draw(next_cdf[here, action], chance[1])
        actions[rows, length], live[rows, length] = action, True
        rewards[rows, length] = mdp.reward[here, action, after]
        if task.noise:
            rewards[rows, length] += task.noise * np.tile(rng.standard_normal(luck), alike)[rows]
        states[rows, length + 1 :] = after[:, None]
        length += 1
    shape = (batches, n, length)
    return Episodes(
        states[:, : length + 1].reshape(batches, n, length + 1), actions[:, :length].reshape(shape),
        rewards[:, :length].reshape(shape), live[:, :length].reshape(shape),
    )  # fmt: skip


def _some(episodes: Episodes, batches: slice, which: slice = slice(None)) -> Episodes:
    """Some of them, as copies: a view would keep all the others in memory."""
    part = (batches, which)
    return Episodes(episodes.states[part].copy(), episodes.actions[part].copy(), episodes.rewards[part].copy(), episodes.live[part].copy())


def _draw(cdf: Floats, chance: Floats) -> NDArray[np.int64]:
    """An index for each row of cumulative distributions; never one of probability 0, whatever the last sum rounds to."""
    return (cdf <= (chance * cdf[:, -1])[:, None]).sum(1)


@dataclass(frozen=True)
class Baselines:
    """What the weights subtract: a constant b; V_t(s) (T + 1, B, S); a critic V̂ (B, S), 0 in terminal states. B may be 1 for all alike."""

    constant: float
    values: Floats
    critic: Floats


def weights(name: str, task: Task, episodes: Episodes, known: Baselines, *, discounted: bool = True) -> Floats:
    """w_t of one of ``ESTIMATORS``, (B, n, L); 0 after the end.

        return     Σ_k γ^k·r_k, the same for all t
        to_go      γ^t·G_t with G_t = Σ_{k≥t} γ^(k−t)·r_k
        constant   γ^t·(G_t − b)
        mean       γ^t·(G_t − the mean of all G of the batch's other episodes); b = 0 if there are none
        advantage  γ^t·(G_t − V_t(s_t))
        critic     γ^t·(r_t + γ·V̂(s_{t+1}) − V̂(s_t)), where the last action before the cut has no V̂ ahead

    ``discounted`` False leaves out γ^t, as most code does. All but ``critic`` are unbiased, then only with γ = 1.
    """
    ahead = rewards_to_go(task, episodes)
    if name == "return":
        return np.where(episodes.live, ahead[..., :1], 0.0)
    factor = task.gamma ** np.arange(ahead.shape[2]) if discounted else np.ones(ahead.shape[2])
    if name == "to_go":
        worth = ahead
    elif name == "constant":
        worth = ahead - known.constant
    elif name == "mean":
        worth = ahead - _mean_of_others(ahead, episodes.live)[..., None]
    elif name == "advantage":
        worth = ahead - _of_states(known.values, episodes)
    elif name == "critic":
        worth = td_errors(task, episodes, known.critic)
    else:
        raise ValueError(f"no estimator {name!r}")
    return np.where(episodes.live, factor * worth, 0.0)


def rewards_to_go(task: Task, episodes: Episodes) -> Floats:
    """G_t, (B, n, L)."""
    ahead = episodes.rewards.copy()
    for t in range(ahead.shape[2] - 2, -1, -1):
        ahead[..., t] += task.gamma * ahead[..., t + 1]
    return ahead


def td_errors(task: Task, episodes: Episodes, critic: Floats) -> Floats:
    """δ_t = r_t + γ·V̂(s_{t+1}) − V̂(s_t), (B, n, L), 0 after the end; with a critic (B or 1, S)."""
    here = _looked_up(np.broadcast_to(critic, (len(episodes.states), critic.shape[1])), episodes.states)
    after = here[..., 1:].copy()
    after[..., task.horizon - 1 :] = 0.0
    return np.where(episodes.live, episodes.rewards + task.gamma * after - here[..., :-1], 0.0)


def _of_states(known: Floats, episodes: Episodes) -> Floats:
    """V_t(s_t), (B, n, L), of values (T + 1, B or 1, S)."""
    batches, _n, length = episodes.actions.shape
    known = np.broadcast_to(known, (known.shape[0], batches, known.shape[2]))
    return known[np.arange(length)[None, None], np.arange(batches)[:, None, None], episodes.states[..., :-1]]


def _looked_up(table: Floats, states: NDArray[np.int64]) -> Floats:
    return table[np.arange(len(table))[:, None, None], states]


def _mean_of_others(ahead: Floats, live: NDArray[np.bool_]) -> Floats:
    total, count = np.where(live, ahead, 0.0).sum(2), live.sum(2)
    others = count.sum(1, keepdims=True) - count
    return np.where(others > 0, (total.sum(1, keepdims=True) - total) / np.maximum(others, 1), 0.0)


def estimates(policies: Floats, episodes: Episodes, weighed: Floats) -> Floats:
    """One estimate of the gradient a batch, (B, S, A): the mean over its episodes of Σ_t w_t·∇log π(a_t|s_t)."""
    batches, n, _length = episodes.actions.shape
    _b, states, actions = policies.shape
    cell = (np.arange(batches)[:, None, None] * states + episodes.states[..., :-1]) * actions + episodes.actions
    taken = np.bincount(cell.ravel(), weighed.ravel(), batches * states * actions).reshape(policies.shape)
    return (taken - taken.sum(2, keepdims=True) * policies) / n


def squared_terms(policies: Floats, episodes: Episodes, weighed: Floats) -> float:
    """E‖g‖² of an estimate whose terms w_t·∇log π neither added up nor cancelled: Σ over a batch of ‖w_t·∇log π(a_t|s_t)‖² / n², mean
    over the batches. With ‖∇log π(a)‖² = 1 − 2·π(a) + Σ π²."""
    batches, n, _length = episodes.actions.shape
    lengths = 1 - 2 * policies + np.square(policies).sum(2, keepdims=True)
    taken = lengths[np.arange(batches)[:, None, None], episodes.states[..., :-1], episodes.actions]
    return float((weighed**2 * taken).sum()) / (batches * n**2)


def critic_step(task: Task, critic: Floats, episodes: Episodes, rate: float) -> Floats:
    """TD(0): each state's V̂ (B, S) moved by ``rate`` times the mean TD error of its visits in the batch's episodes."""
    batches, states = critic.shape
    cell = (np.arange(batches)[:, None, None] * states + episodes.states[..., :-1])[episodes.live]
    errors = td_errors(task, episodes, critic)[episodes.live]
    total, count = (np.bincount(cell, by, batches * states).reshape(critic.shape) for by in (errors, None))
    return critic + rate * total / np.maximum(count, 1)


def learned_critic(task: Task, policy: Floats, n: int, updates: int, rate: float, rng: np.random.Generator) -> Floats:
    """V̂ (S,), from 0 by ``updates`` TD(0) updates, each on n new episodes of the policy (S, A)."""
    critic = np.zeros((1, task.mdp.states))
    if not updates:
        return critic[0]
    drawn = sample(task, np.repeat(policy[None], updates, 0), n, rng)
    for i in range(updates):
        critic = critic_step(task, critic, _some(drawn, slice(i, i + 1)), rate)
    return critic[0]


# --- the cloud ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Of a cloud of B estimates with mean ḡ: ``bias`` ‖ḡ − ∇J‖; ``bias_error``, the root mean square that chance alone gives it;
    ``bias_limit``, what chance exceeds once in a thousand clouds; ``variance`` E‖g − E g‖² and its standard error; ``uphill``, the share of
    the estimates along which J rises (g·∇J > 0)."""

    mean: Floats
    bias: float
    bias_error: float
    bias_limit: float
    variance: float
    variance_error: float
    uphill: float

    @property
    def within_chance(self) -> bool:
        return self.bias <= self.bias_limit


def measure(drawn: Floats, exact: Floats) -> Measured:
    """Bias and variance of estimates (B, …) of a gradient; B ≥ 2.

    B·bias²/variance is, without bias, close to χ²/k with k = (tr Σ)²/tr Σ² degrees of freedom (Satterthwaite 1946,
    https://doi.org/10.2307/3002019), whose quantile is Wilson and Hilferty's (1931, https://doi.org/10.1073/pnas.17.12.684).
    """
    flat, target = drawn.reshape(len(drawn), -1), exact.ravel()
    mean = flat.mean(0)
    centred = flat - mean
    squares = (centred**2).sum(1) * len(flat) / (len(flat) - 1)
    variance = float(squares.mean())
    error = math.sqrt(variance / len(flat))
    spread = float((np.square(centred.T @ centred / (len(flat) - 1))).sum())
    freedom = variance**2 / spread if spread > 1e-300 else 1.0
    quantile = (1 - 2 / (9 * freedom) + CHANCE * math.sqrt(2 / (9 * freedom))) ** 3
    rounding = 1e-12 * (1 + float(np.abs(target).max()))
    return Measured(
        mean.reshape(exact.shape), float(np.linalg.norm(mean - target)), error, error * math.sqrt(quantile) + rounding, variance,
        float(squares.std(ddof=1)) / math.sqrt(len(flat)), float((flat @ target > 0).mean()),
    )  # fmt: skip


@dataclass(frozen=True)
class Cloud:
    """``estimates``: by estimator, (B, S, A), all from the same episodes, of which ``first`` is the first; ``squared``: their
    ``squared_terms``; ``critic`` (S,): the V̂ used."""

    exact: Floats
    estimates: Mapping[str, Floats]
    measured: Mapping[str, Measured]
    squared: Mapping[str, float]
    critic: Floats
    first: Episodes


def cloud(
    task: Task, policy: Floats, *, batches: int, n: int, constant: float, critic_updates: int, critic_rate: float, seed: int,
    discounted: bool = True,
) -> Cloud:  # fmt: skip
    """``batches`` batches of n episodes of the policy (S, A), and what each estimator makes of them.

    The critic has learned before, from other episodes.
    """
    rng = np.random.default_rng(seed)
    critic = learned_critic(task, policy, n, critic_updates, critic_rate, rng)
    policies = np.repeat(policy[None], batches, 0)
    episodes = sample(task, policies, n, rng)
    known = Baselines(constant, values(task, policy[None]), critic[None])
    exact = gradient(task, policy)
    drawn, squared = {}, {}
    for name in ESTIMATORS:
        weighed = weights(name, task, episodes, known, discounted=discounted)
        drawn[name], squared[name] = estimates(policies, episodes, weighed), squared_terms(policies, episodes, weighed)
    first = _some(episodes, slice(1), slice(1))
    return Cloud(exact, drawn, {name: measure(g, exact) for name, g in drawn.items()}, squared, critic, first)


def plane(found: Cloud) -> Floats:
    """Two directions to look along, (2, S·A), orthonormal: the exact gradient's, and that in which the plain estimates scatter most.

    Where the gradient is 0, the two directions of most scatter.
    """
    flat = found.estimates["return"].reshape(len(found.estimates["return"]), -1)
    exact = found.exact.ravel()
    first = exact / np.linalg.norm(exact) if np.linalg.norm(exact) > 1e-9 else _widest(flat - flat.mean(0))
    centred = flat - flat.mean(0)
    return np.stack([first, _widest(centred - np.outer(centred @ first, first))])


def _widest(centred: Floats) -> Floats:
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    return direction * np.sign(direction[np.abs(direction).argmax()])


# --- learning ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """``curves``: by estimator, the exact J after each update, (updates + 1, seeds); ``exact``: of gradient ascent without samples
    (updates + 1,); ``best``: J*; ``policies``: by estimator, where each seed ended, (seeds, S, A);
    ``start``: the likeliest first state."""

    curves: Mapping[str, Floats]
    exact: Floats
    best: float
    policies: Mapping[str, Floats]
    start: int


def learn(
    task: Task, logits: Floats, *, seeds: int, updates: int, n: int, rate: float, constant: float, critic_rate: float, seed: int,
    discounted: bool = True, progress: Callable[[float], object] | None = None,
) -> Learning:  # fmt: skip
    """Gradient ascent θ += rate·g from the same logits (S, A) with each estimator, ``seeds`` runs each, all at once.

    All estimators have the same luck: on a bandit, where ``return`` and ``to_go`` are one, their curves are too.

    V for ``advantage`` is exact for each run's policy of the moment; V̂ for ``critic`` starts at 0 and learns by TD(0) from the same
    episodes, after they were used.
    """
    rng = np.random.default_rng(seed)
    runs = {name: slice(i * seeds, (i + 1) * seeds) for i, name in enumerate(ESTIMATORS)}
    theta = np.repeat(logits[None], len(ESTIMATORS) * seeds, 0)
    ascent = logits.copy()
    critic = np.zeros((seeds, task.mdp.states))
    found, exact = np.empty((updates + 1, len(theta))), np.empty(updates + 1)
    for i in range(updates + 1):
        policies, steady = softmax(theta), softmax(ascent)
        ahead = values(task, policies)
        found[i] = ahead[0] @ task.mdp.start
        exact[i] = returns(task, steady[None])[0]
        if i == updates:
            break
        episodes = sample(task, policies, n, rng, alike=len(ESTIMATORS))
        for name, run in runs.items():
            own = _some(episodes, run)
            known = Baselines(constant, ahead[:, run], critic)
            theta[run] += rate * estimates(policies[run], own, weights(name, task, own, known, discounted=discounted))
            if name == "critic":
                critic = critic_step(task, critic, own, critic_rate)
        ascent = ascent + rate * gradient(task, steady)
        if progress:
            progress((i + 1) / updates)
    ended = softmax(theta)
    return Learning(
        {name: found[:, run] for name, run in runs.items()}, exact, optimum(task)[0], {name: ended[run] for name, run in runs.items()},
        int(task.mdp.start.argmax()),
    )  # fmt: skip
