"""Dynamic programming in a finite decision process, sweep by sweep: policy evaluation, policy iteration, value iteration.

Sutton & Barto 2018, chapter 4 (http://incompleteideas.net/book/the-book-2nd.html). A sweep updates all states at once:

    evaluation      V ← Σ_a π(a|s)·Σ_s' p(s'|s, a)·[r + γ·V(s')]      (4.5)
    value iteration V ← max_a      Σ_s' p(s'|s, a)·[r + γ·V(s')]      (4.10)

Both bring any two V closer by the factor γ in the maximum norm, so that the change of sweep k + 1 is at most γ^k times that of the first.
Nothing here needs γ < 1: where no value exists, the sweeps show how it runs away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf.errors import ConfigError
from rlhf.labs.mdp import FiniteMDP, Floats, action_values, state_values, uniform_policy

SETTLED = 1e-9  # a sweep that changes no value by more has settled
TIE = 1e-9  # actions whose values differ by less (relative to 1 or to the larger) are equally good
MOST = 300  # sweeps


@dataclass(frozen=True)
class Frame:
    """A moment of an algorithm. ``values`` (S,): after it; ``policy`` (S, A): the one that is evaluated, or the greedy one, ties shared;
    ``sweep``: sweeps so far; ``residual``: max |V_new − V_old| of the sweep just made, None at the start and after an improvement;
    ``bound``: what the residual cannot exceed, None where nothing is known yet; ``improved``: the policy was just made greedy."""

    values: Floats
    policy: Floats
    sweep: int = 0
    residual: float | None = None
    bound: float | None = None
    improved: bool = False


def greedy(q: Floats) -> Floats:
    """The greedy policy of action values (S, A): the best action, or all of those that tie, alike; (S, A)."""
    best = q.max(1, keepdims=True)
    ties = q >= best - TIE * np.maximum(1.0, np.abs(best))
    return ties / ties.sum(1, keepdims=True)


def policy_evaluation(mdp: FiniteMDP, policy: Floats, gamma: float, most: int = MOST) -> list[Frame]:
    """The values of a policy (S, A) from V = 0, a frame for each sweep, until they settle or ``most`` sweeps are made."""
    frames = [Frame(np.zeros(mdp.states), policy)]
    return frames + _evaluate(mdp, frames[0], gamma, most)


def policy_iteration(mdp: FiniteMDP, gamma: float, sweeps: int | None = None, most: int = MOST) -> list[Frame]:
    """Evaluate, make greedy, and again, from the random policy and V = 0, until the policy stays and its values have settled.

    ``sweeps``: of evaluation before each improvement; None: until the values settle.
    """
    frames = [Frame(np.zeros(mdp.states), uniform_policy(mdp))]
    while frames[-1].sweep < most:
        rest = most - frames[-1].sweep
        frames += _evaluate(mdp, frames[-1], gamma, min(rest, sweeps or rest))
        now = frames[-1]
        better = greedy(action_values(mdp, now.values, gamma))
        settled = now.residual is not None and now.residual <= SETTLED
        if settled and np.array_equal(better, now.policy):
            break
        frames.append(Frame(now.values, better, now.sweep, improved=True))
    return frames


def value_iteration(mdp: FiniteMDP, gamma: float, most: int = MOST, settled: float = SETTLED) -> list[Frame]:
    """From V = 0, a frame for each sweep with the policy that is greedy for its values, until one changes no value by more than
    ``settled`` or ``most`` sweeps are made."""
    ahead = _lookahead(mdp, gamma)
    values = np.zeros(mdp.states)
    q = ahead(values)
    frames = [Frame(values, greedy(q))]
    for k in range(most):
        new = q.max(1)
        residual = float(np.abs(new - values).max())
        bound = gamma**k * (frames[1].residual or 0.0) if k else residual
        values, q = new, ahead(new)
        frames.append(Frame(values, greedy(q), k + 1, residual, bound))
        if residual <= settled:
            break
    return frames


def optimal_values(mdp: FiniteMDP, gamma: float) -> Floats:
    """V*, (S,): for γ < 1 exactly, by policy iteration with linear solves; for γ = 1 by value iteration until a sweep changes < 1e-12.

    ConfigError where the sweeps run away (γ = 1 and a walk without end that costs or pays at every step).
    """
    if gamma < 1:
        return _exact(mdp, gamma)
    ahead, values, earlier = _lookahead(mdp, gamma), np.zeros(mdp.states), np.inf
    for k in range(50_000):
        new = ahead(values).max(1)
        residual = np.abs(new - values).max()
        values = new
        if residual < 1e-12:
            return values
        if k % 500 == 499:
            if residual > 0.99 * earlier:
                break
            earlier = residual
    raise ConfigError(
        "With γ = 1 and a way that never ends and costs or pays at each step, the best return is not finite.",
        "Set γ below 1, or give every cell a way to an end.",
    )


def _exact(mdp: FiniteMDP, gamma: float) -> Floats:
    """Howard 1960: every policy is solved for; a state changes its action only for a better one."""
    ahead, here = _lookahead(mdp, gamma), np.arange(mdp.states)
    actions = value_iteration(mdp, gamma, 30)[-1].policy.argmax(1)
    while True:
        values = state_values(mdp, np.eye(mdp.actions)[actions], gamma)
        q = ahead(values)
        better = q.max(1) > q[here, actions] + 1e-12 * np.maximum(1.0, np.abs(values))
        if not better.any():
            return values
        actions = np.where(better, q.argmax(1), actions)


def _evaluate(mdp: FiniteMDP, begin: Frame, gamma: float, most: int) -> list[Frame]:
    """The sweeps that follow ``begin``."""
    chain = np.einsum("sa,sat->st", begin.policy, mdp.transition)
    gain = np.einsum("sa,sa->s", begin.policy, mdp.expected_reward)
    frames: list[Frame] = []
    values = begin.values
    for k in range(most):
        new = gain + gamma * chain @ values
        residual = float(np.abs(new - values).max())
        bound = gamma**k * (frames[0].residual or 0.0) if k else residual
        frames.append(Frame(new, begin.policy, begin.sweep + k + 1, residual, bound))
        values = new
        if residual <= SETTLED:
            break
    return frames


def _lookahead(mdp: FiniteMDP, gamma: float):
    """``action_values`` of one process and γ, with what does not change computed once."""
    reward, flat = mdp.expected_reward, gamma * mdp.transition.reshape(-1, mdp.states)
    return lambda values: reward + (flat @ values).reshape(reward.shape)
