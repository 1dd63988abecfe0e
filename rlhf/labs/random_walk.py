"""The random walk of Sutton & Barto, examples 6.2 (5 states) and 7.1 (19 states): a chain to compare estimates on.

From the middle, one step left or right with probability ½ each, until it leaves at an end; the rewards are 0 but for the two ends.
Its values are known, so the bias and variance of every estimate of a return can be computed exactly, and measured.
http://incompleteideas.net/book/the-book-2nd.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlhf.labs.mdp import FiniteMDP, Floats, state_values, uniform_policy

MONTE_CARLO = 10**6  # as an n: longer than any walk
Fault = Literal["flat", "noisy", "high"]


@dataclass(frozen=True)
class RandomWalk:
    """``states`` (odd) between two ends, which pay ``left`` and ``right``. Positions: 0 the left end, 1 … states, states + 1 the right."""

    states: int = 19
    left: float = -1.0
    right: float = 1.0

    @cached_property
    def mdp(self) -> FiniteMDP:
        """States are the positions, actions left and right."""
        size = self.states + 2
        transition, reward = np.zeros((size, 2, size)), np.zeros((size, 2, size))
        inner = np.arange(1, size - 1)
        transition[inner, 0, inner - 1] = transition[inner, 1, inner + 1] = 1.0
        reward[1, 0, 0], reward[-2, 1, -1] = self.left, self.right
        terminal = np.zeros(size, np.bool_)
        terminal[[0, -1]] = True
        start = np.zeros(size)
        start[size // 2] = 1.0
        return FiniteMDP(transition, reward, terminal, start)

    def values(self, gamma: float) -> Floats:
        """The true V of each position, (states + 2,), 0 at the ends. With γ = 1 a straight line between the ends' rewards."""
        return state_values(self.mdp, uniform_policy(self.mdp), gamma)


def walk_of(states: int) -> RandomWalk:
    """The two of the book: with 5 states the left end pays 0, with more −1."""
    return RandomWalk(states, 0.0 if states == 5 else -1.0)


def faulty_critic(walk: RandomWalk, gamma: float, fault: Fault, size: float, seed: int) -> Floats:
    """The true values with a fault of ``size`` (0: none), (states + 2,), 0 at the ends.

    ``flat``: only the share 1 − size of the way from one value for all states (the middle of the ends' rewards, where learning begins)
    to the true ones; ``noisy``: each wrong by a normal number, of standard deviation ``size``; ``high``: each too high by ``size``.
    """
    true = walk.values(gamma)
    if fault == "flat":
        wrong = size * ((walk.left + walk.right) / 2 - true)
    elif fault == "noisy":
        wrong = size * np.random.default_rng(seed).standard_normal(len(true))
    else:
        wrong = np.full(len(true), size)
    return np.where(walk.mdp.terminal, 0.0, true + wrong)


def lambda_moments(mdp: FiniteMDP, policy: Floats, critic: Floats, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """Mean and variance, exactly, of the λ-return from each state, (S,) each: of Ĝ_t = Â_t + V̂(s_t) with GAE's Â_t.

    Ĝ_t = c + γλ·Ĝ_{t+1} with c = r_t + γ(1−λ)·V̂(s_{t+1}) (Sutton & Barto 2018, §12.1), so the first two moments are linear systems.
    """
    step, carry = policy[:, :, None] * mdp.transition, gamma * lam
    chain, c = step.sum(1), mdp.reward + gamma * (1 - lam) * critic
    mean = np.linalg.solve(np.eye(mdp.states) - carry * chain, (step * c).sum((1, 2)))
    known = (step * (c * c + 2 * carry * c * mean)).sum((1, 2))
    square = np.linalg.solve(np.eye(mdp.states) - carry**2 * chain, known)
    return mean, np.maximum(square - mean**2, 0.0)


def n_step_moments(mdp: FiniteMDP, policy: Floats, critic: Floats, gamma: float, n: int) -> tuple[Floats, Floats]:
    """Mean and variance, exactly, of the n-step return r_t + … + γ^n·V̂(s_{t+n}) from each state, (S,) each."""
    if n >= MONTE_CARLO:
        return lambda_moments(mdp, policy, critic, gamma, 1.0)
    step = policy[:, :, None] * mdp.transition
    mean, square = np.where(mdp.terminal, 0.0, critic), np.where(mdp.terminal, 0.0, critic) ** 2
    for _ in range(n):
        square = (step * (mdp.reward**2 + 2 * gamma * mdp.reward * mean + gamma**2 * square)).sum((1, 2))
        mean = (step * (mdp.reward + gamma * mean)).sum((1, 2))
    return mean, np.maximum(square - mean**2, 0.0)


@dataclass(frozen=True)
class Quality:
    """Of estimates of the return (E of them), root mean squares over the states, (E,) each: ``bias``, ``spread`` (of the mean of ``batch``
    estimates), ``error`` = √(bias² + spread²)."""

    bias: Floats
    spread: Floats
    error: Floats


def quality(mean: Floats, variance: Floats, true: Floats, batch: int = 1, measured_from: int | None = None) -> Quality:
    """From means and variances (E, states). Where they were measured from that many samples each, the mean's own squared error,
    variance / samples, is taken off the squared bias, which it would make too large."""
    square = ((mean - true) ** 2).mean(1)
    if measured_from:
        square = np.maximum(square - variance.mean(1) / measured_from, 0.0)
    noise = variance.mean(1) / batch
    return Quality(np.sqrt(square), np.sqrt(noise), np.sqrt(square + noise))


def exact_moments(walk: RandomWalk, critic: Floats, gamma: float, lambdas: Sequence[float], ns: Sequence[int]) -> tuple[Floats, Floats]:
    """Means and variances for each λ, then for each n, of each state without the ends, (λs + ns, states) each."""
    policy = uniform_policy(walk.mdp)
    found = [lambda_moments(walk.mdp, policy, critic, gamma, lam) for lam in lambdas]
    found += [n_step_moments(walk.mdp, policy, critic, gamma, n) for n in ns]
    return np.array([mean[1:-1] for mean, _v in found]), np.array([variance[1:-1] for _m, variance in found])


def sample_returns(
    walk: RandomWalk, critic: Floats, gamma: float, lambdas: Sequence[float], ns: Sequence[int], walks: int, rng: np.random.Generator
) -> Floats:
    """Estimates of the return from ``walks`` walks from each state, (λs + ns, states, walks). All estimates see the same walks.

    Ĝ^λ = V̂(s_0) + Σ_t (γλ)^t·δ_t, and the n-step return with the same sum of γ^t·δ_t over t < n.
    """
    at = np.repeat(np.arange(1, walk.states + 1), walks)
    found = np.tile(critic[at], (len(lambdas) + len(ns), 1))
    going = np.arange(len(at))
    decays = np.concatenate([gamma * np.asarray(lambdas), np.full(len(ns), gamma)])
    limits = np.concatenate([np.full(len(lambdas), np.inf), np.asarray(ns, np.float64)])
    t = 0
    while len(going):
        after = at + rng.integers(0, 2, len(at)) * 2 - 1
        reward = np.where(after == 0, walk.left, np.where(after > walk.states, walk.right, 0.0))
        surprise = reward + gamma * critic[after] - critic[at]
        found[:, going] += np.where(t < limits, decays**t, 0.0)[:, None] * surprise
        inside = (after > 0) & (after <= walk.states)
        going, at, t = going[inside], after[inside], t + 1
    return found.reshape(len(found), walk.states, walks)


def n_step_errors(
    walk: RandomWalk, ns: Sequence[int], alphas: Sequence[float], episodes: int, runs: int, rng: np.random.Generator,
    done: Callable[[float], None] = lambda share: None,
) -> Floats:  # fmt: skip
    """Error of the values that n-step TD has learned, over n and step size α: Sutton & Barto 2018, figure 7.2; → (ns, alphas).

    γ = 1; values begin at the middle of the ends' rewards; V(s_τ) ← V(s_τ) + α·[G_τ:τ+n − V(s_τ)] online. The root mean square over
    the states, averaged over the first ``episodes`` episodes and ``runs`` runs, all of which see the same walks. ``done``: the share.
    """
    counts, steps = np.asarray(ns), np.asarray(alphas, np.float64)
    each = np.arange(len(counts))

    def learn(values: Floats, episode: _Episode) -> None:
        for tau, (rows, here) in enumerate(episode.steps()):
            lengths = episode.lengths[: len(rows), None]
            ahead = np.minimum(tau + counts[None, :], lengths)
            there = episode.path[ahead, np.arange(len(rows))[:, None]]
            paid = np.where(ahead == lengths, episode.ends[: len(rows), None], 0.0)  # the ends' own values are 0
            target = paid[:, :, None] + values[rows[:, None], there, each[None, :]]
            values[rows, here] += steps * (target - values[rows, here])

    return _learned(walk, (len(counts), len(steps)), learn, episodes, runs, rng, done)


def lambda_errors(
    walk: RandomWalk, lambdas: Sequence[float], alphas: Sequence[float], episodes: int, runs: int, rng: np.random.Generator,
    done: Callable[[float], None] = lambda share: None,
) -> Floats:  # fmt: skip
    """The same for the off-line λ-return, whose targets are GAE's returns: Sutton & Barto 2018, figure 12.3; → (lambdas, alphas).

    Ĝ^λ is computed with the values that an episode began with; at its end, its steps are learned from one after the other.
    """
    lam, steps = np.asarray(lambdas, np.float64)[:, None], np.asarray(alphas, np.float64)

    def learn(values: Floats, episode: _Episode) -> None:
        moves = list(episode.steps())
        carry = np.broadcast_to(episode.ends[:, None, None], (len(episode.ends), *values.shape[2:])).copy()
        targets = []
        for tau in reversed(range(len(moves))):
            rows, _here = moves[tau]
            inside = episode.lengths[: len(rows)] > tau + 1  # who goes on; of the others, carry is the end's reward
            there = values[rows, episode.path[tau + 1, : len(rows)]]
            carry[: len(rows)] = np.where(inside[:, None, None], (1 - lam) * there + lam * carry[: len(rows)], carry[: len(rows)])
            targets.append(carry[: len(rows)].copy())
        for (rows, here), target in zip(moves, reversed(targets), strict=True):
            values[rows, here] += steps * (target - values[rows, here])

    return _learned(walk, (len(lam), len(steps)), learn, episodes, runs, rng, done)


@dataclass(frozen=True)
class _Episode:
    """Of R runs, the longest walk first: ``order`` (R,) of runs, ``path`` (longest + 1, R) positions, ``lengths`` (R,), ``ends`` (R,)."""

    order: NDArray[np.int64]
    path: NDArray[np.int64]
    lengths: NDArray[np.int64]
    ends: Floats

    def steps(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each step, which runs are still going, and where they stand."""
        for tau in range(int(self.lengths[0])):
            going = int((self.lengths > tau).sum())
            yield self.order[:going], self.path[tau, :going]


def _learned(
    walk: RandomWalk, shape: tuple[int, int], learn: Callable[[Floats, _Episode], None], episodes: int, runs: int,
    rng: np.random.Generator, done: Callable[[float], None],
) -> Floats:  # fmt: skip
    """Error over the settings of ``shape``, with ``learn`` changing values (runs, positions, *shape) after each episode."""
    true = walk.values(1.0)[1:-1, None, None]
    values = np.full((runs, walk.states + 2, *shape), (walk.left + walk.right) / 2)
    values[:, [0, -1]] = 0.0
    total = np.zeros(shape)
    for number in range(episodes):
        learn(values, _episode(walk, runs, rng))
        total += np.sqrt(((values[:, 1:-1] - true) ** 2).mean(1)).mean(0)
        done((number + 1) / episodes)
    return total / episodes


def _episode(walk: RandomWalk, runs: int, rng: np.random.Generator) -> _Episode:
    at = np.full(runs, (walk.states + 1) // 2)
    path, lengths = [at], np.zeros(runs, np.int64)
    while (inside := (at > 0) & (at <= walk.states)).any():
        at = np.where(inside, at + rng.integers(0, 2, runs) * 2 - 1, at)
        lengths += inside
        path.append(at)
    order = np.argsort(-lengths, kind="stable")
    return _Episode(order, np.array(path)[:, order], lengths[order], np.where(at == 0, walk.left, walk.right)[order])
