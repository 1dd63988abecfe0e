"""Finite Markov decision processes, and the values of a policy in them by a linear solve.

Notation of Sutton & Barto 2018, chapters 3 and 4 (http://incompleteideas.net/book/the-book-2nd.html): S states, A actions,

    Q(s, a) = Σ_s' p(s'|s, a)·[r(s, a, s') + γ·V(s')],   V(s) = Σ_a π(a|s)·Q(s, a),   V = 0 in terminal states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.errors import ConfigError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FiniteMDP:
    """``transition`` (S, A, S): p(s'|s, a), rows sum to 1 and are all 0 in terminal states; ``reward`` (S, A, S): r(s, a, s');
    ``terminal`` (S,) bool; ``start`` (S,): the distribution of the first state."""

    transition: Floats
    reward: Floats
    terminal: NDArray[np.bool_]
    start: Floats

    @property
    def states(self) -> int:
        return self.transition.shape[0]

    @property
    def actions(self) -> int:
        return self.transition.shape[1]

    @property
    def expected_reward(self) -> Floats:
        """E[r | s, a], (S, A)."""
        return np.einsum("sat,sat->sa", self.transition, self.reward)


@dataclass(frozen=True)
class Trajectory:
    """``states`` (T + 1,), ``actions`` (T,), ``rewards`` (T,); ``ended``: the last state is terminal (else it was cut off)."""

    states: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: Floats
    ended: bool


def uniform_policy(mdp: FiniteMDP) -> Floats:
    """Every action alike: (S, A) of 1/A."""
    return np.full((mdp.states, mdp.actions), 1.0 / mdp.actions)


def action_values(mdp: FiniteMDP, values: Floats, gamma: float) -> Floats:
    """One look ahead: Q (S, A) from V (S,)."""
    return mdp.expected_reward + gamma * mdp.transition @ values


def state_values(mdp: FiniteMDP, policy: Floats, gamma: float) -> Floats:
    """V of a policy (S, A), exactly: (I − γ·P_π)·V = r_π; → (S,).

    ConfigError where it is not finite: γ = 1 and a state from which the policy never ends.
    """
    live = ~mdp.terminal
    if gamma >= 1 and not np.all(ends(mdp, policy)[live]):
        raise ConfigError(
            "With γ = 1 and a state from which no end is reached, the return is a sum without end, so no value exists.",
            "Set γ below 1, or give every state a way to a terminal state.",
        )
    chain = np.einsum("sa,sat->st", policy, mdp.transition)
    gain = np.einsum("sa,sa->s", policy, mdp.expected_reward)
    return np.linalg.solve(np.eye(mdp.states) - gamma * chain, np.where(live, gain, 0.0))


def ends(mdp: FiniteMDP, policy: Floats) -> NDArray[np.bool_]:
    """From which states the policy reaches a terminal state with some probability, (S,)."""
    chain = np.einsum("sa,sat->st", policy, mdp.transition) > 0
    reached = mdp.terminal.copy()
    while True:
        wider = reached | (chain @ reached)
        if np.array_equal(wider, reached):
            return reached
        reached = wider


def visits(mdp: FiniteMDP, policy: Floats, gamma: float) -> Floats:
    """Discounted expected visits of each state from the start, Σ_t γ^t·P(s_t = s), (S,); 0 in terminal states."""
    chain = np.einsum("sa,sat->st", policy, mdp.transition)
    counted = np.linalg.solve(np.eye(mdp.states) - gamma * chain.T, mdp.start)
    return np.where(mdp.terminal, 0.0, counted)


def rollout(mdp: FiniteMDP, policy: Floats, rng: np.random.Generator, most: int = 100) -> Trajectory:
    """One episode of at most ``most`` actions."""
    action_cdf, next_cdf = policy.cumsum(1), mdp.transition.cumsum(2)
    state = _draw(mdp.start.cumsum(), rng)
    states, actions, rewards = [state], [], []
    while not mdp.terminal[state] and len(actions) < most:
        action = _draw(action_cdf[state], rng)
        after = _draw(next_cdf[state, action], rng)
        actions.append(action)
        rewards.append(float(mdp.reward[state, action, after]))
        states.append(after)
        state = after
    return Trajectory(np.array(states), np.array(actions, np.int64), np.array(rewards, np.float64), bool(mdp.terminal[state]))


def _draw(cdf: Floats, rng: np.random.Generator) -> int:
    """An index from a cumulative distribution; never one of probability 0, whatever the last sum rounds to."""
    return int(np.searchsorted(cdf, rng.random() * cdf[-1], side="right"))
