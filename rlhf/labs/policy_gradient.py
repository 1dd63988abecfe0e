"""The policy gradient, exactly: of any finite decision process, of the bandit in closed form, and as a finite difference.

An episode is cut after T actions, and J is the return of those T: so J and its gradient are finite and exact for every policy and γ, also
one that never ends. With the softmax policy π of ``softmax_policy`` (one logit for each state and action, the same at all times),

    J(θ) = E[Σ_{t<T} γ^t·r_t],   ∇J = Σ_t γ^t Σ_s P(s_t = s) Σ_a π(a|s)·∇log π(a|s)·Q_t(s, a).

Sutton et al. 2000 (the theorem),
https://papers.nips.cc/paper/1713-policy-gradient-methods-for-reinforcement-learning-with-function-approximation; Thomas 2014,
https://proceedings.mlr.press/v32/thomas14.html (the bias without γ^t). What is estimated from samples: gradient_estimators.py.

Shapes: S states, A actions, T the horizon, B policies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf.labs.mdp import FiniteMDP, Floats
from rlhf.labs.softmax_policy import softmax


@dataclass(frozen=True)
class Task:
    """A world and what its return is. ``noise``: standard deviation of what is added to every reward."""

    mdp: FiniteMDP
    gamma: float
    horizon: int
    noise: float = 0.0


def values(task: Task, policies: Floats) -> Floats:
    """V_t(s) with T − t actions left, of policies (B, S, A): (T + 1, B, S), 0 at T and in terminal states."""
    mdp = task.mdp
    chain = np.einsum("bsa,sat->bst", policies, mdp.transition)
    gain = np.einsum("bsa,sa->bs", policies, mdp.expected_reward)
    found = np.zeros((task.horizon + 1, *gain.shape))
    for t in range(task.horizon - 1, -1, -1):
        found[t] = gain + task.gamma * np.einsum("bst,bt->bs", chain, found[t + 1])
    return found


def returns(task: Task, policies: Floats) -> Floats:
    """J of policies (B, S, A), (B,)."""
    return values(task, policies)[0] @ task.mdp.start


def visits(task: Task, policy: Floats, *, discounted: bool = True) -> Floats:
    """γ^t·P(s_t = s) for t < T, (T, S), 0 in terminal states; without γ^t where not ``discounted``."""
    chain = np.einsum("sa,sat->st", policy, task.mdp.transition) * (task.gamma if discounted else 1.0)
    found = np.empty((task.horizon + 1, task.mdp.states))
    found[0] = task.mdp.start
    for t in range(task.horizon):
        found[t + 1] = found[t] @ chain
    return np.where(task.mdp.terminal, 0.0, found)[:-1]


def share_cut(task: Task, policy: Floats) -> float:
    """The probability that an episode has not ended when it is cut."""
    return float(visits(Task(task.mdp, 1.0, task.horizon + 1), policy)[-1].sum())


def weighted_values(task: Task, policy: Floats, ahead: Floats | None = None, *, discounted: bool = True) -> Floats:
    """Σ_t γ^t·P(s_t = s)·Q_t(s, a), (S, A): what multiplies π(a|s)·∇log π(a|s) in the gradient. On a bandit these are the rewards.

    ``ahead`` (T, S): what stands for V_{t+1}; the exact ones if left out. Without γ^t where not ``discounted``.
    """
    mdp, seen = task.mdp, visits(task, policy, discounted=discounted)
    ahead = values(task, policy[None])[1:, 0] if ahead is None else ahead
    return seen.sum(0)[:, None] * mdp.expected_reward + task.gamma * np.einsum("sat,st->sa", mdp.transition, seen.T @ ahead)


def gradient(task: Task, policy: Floats) -> Floats:
    """∇J(θ), (S, A), by the policy gradient theorem."""
    return _times_scores(policy, weighted_values(task, policy))


def mean_estimate(name: str, task: Task, policy: Floats, critic: Floats, *, discounted: bool = True) -> Floats:
    """The exact mean of the estimates of one of ``ESTIMATORS``, (S, A), with a fixed critic V̂ (S,): less ∇J, it is the bias.

    For all but ``critic`` it is ∇J, unless γ^t is left out; that of ``critic`` has V̂ in the place of the values ahead.
    """
    ahead = None
    if name == "critic":
        ahead = np.repeat(critic[None], task.horizon, 0)
        ahead[-1] = 0.0  # the last action before the cut looks at nothing
    return _times_scores(policy, weighted_values(task, policy, ahead, discounted=discounted or name == "return"))


def _times_scores(policy: Floats, weighted: Floats) -> Floats:
    """Σ_a π(a|s)·weighted(s, a)·∇log π(a|s), (S, A)."""
    return policy * (weighted - (policy * weighted).sum(1, keepdims=True))


def optimum(task: Task) -> tuple[float, Floats]:
    """(J*, Q* of the first action (S, A)): the most that any policy can get, one that looks at the clock included."""
    best = np.zeros(task.mdp.states)
    ahead = np.zeros((task.mdp.states, task.mdp.actions))
    for _t in range(task.horizon):
        ahead = task.mdp.expected_reward + task.gamma * task.mdp.transition @ best
        best = ahead.max(1)
    return float(task.mdp.start @ best), ahead


# --- the bandit in closed form -----------------------------------------------------------------------------------------------------------


def _squared_scores(policy: Floats) -> Floats:
    """‖∇log π(a)‖² = 1 − 2·π_a + Σ π², (K,)."""
    return 1 - 2 * policy + (policy**2).sum()


def bandit_variance(policy: Floats, rewards: Floats, noise: float, n: int, baseline: float = 0.0) -> float:
    """E‖g − ∇J‖² for n pulls with (r − b)·∇log π: (Σ_a π_a·((r_a − b)² + σ²)·‖∇log π_a‖² − ‖∇J‖²) / n."""
    slope = policy * (rewards - policy @ rewards)
    return float((policy * ((rewards - baseline) ** 2 + noise**2) * _squared_scores(policy)).sum() - slope @ slope) / n


def bandit_mean_variance(policy: Floats, rewards: Floats, noise: float, n: int) -> float:
    """The same with the mean of the n − 1 other pulls as the baseline (0 for n = 1).

    The estimate is the U-statistic with the kernel h = ½·(r_i − r_j)·(∇log π_i − ∇log π_j), so its variance is
    (4·(n − 2)·ζ₁ + 2·ζ₂) / (n·(n − 1)), ζ₁ = ¼·Var((r − J)·∇log π), ζ₂ = Var(h) (Hoeffding 1948, https://doi.org/10.1214/aoms/1177730196).
    """
    if n == 1:
        return bandit_variance(policy, rewards, noise, 1)
    slope = policy * (rewards - policy @ rewards)
    one = bandit_variance(policy, rewards, noise, 1, float(policy @ rewards)) / 4
    apart = (rewards[:, None] - rewards) ** 2 + 2 * noise**2
    both = 0.5 * float((np.outer(policy, policy) * apart * (1 - np.eye(len(policy)))).sum() - 2 * slope @ slope)
    return (4 * (n - 2) * one + 2 * both) / (n * (n - 1))


def best_baseline(policy: Floats, rewards: Floats) -> float:
    """The constant of least variance: Σ π_a·‖∇log π_a‖²·r_a / Σ π_a·‖∇log π_a‖² (Weaver and Tao 2001, https://arxiv.org/abs/1301.2315)."""
    share = policy * _squared_scores(policy)
    return float(share @ rewards / share.sum()) if share.sum() > 0 else float(policy @ rewards)


# --- the trick ---------------------------------------------------------------------------------------------------------------------------


def differences(task: Task, logits: Floats, state: int, action: int, steps: Floats) -> Floats:
    """(J(θ + h) − J(θ − h)) / 2h along one logit, for each h of ``steps`` (H,)."""
    moved = np.repeat(logits[None], 2 * len(steps), 0)
    moved[:, state, action] += np.concatenate([steps, -steps])
    up, down = np.split(returns(task, softmax(moved)), 2)
    return (up - down) / (2 * steps)
