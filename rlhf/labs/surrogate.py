"""What a batch of the old policy says about a new one: the surrogate objective, its gradient, and the distance between the two.

A log-linear policy, logits(s, a) = Σ_p features(s, a, p)·θ_p, in a finite decision process. One parameter for each state and action is the
softmax table of softmax_policy.py (``table``); parameters that all states share make a policy that cannot tell them apart (``shared``).

    L(θ) = Σ_i w_i·ρ_i·A_i,    ρ_i = π(a_i|s_i) / π_old(a_i|s_i),    Σ_i w_i = 1

(Kakade & Langford 2002; Schulman et al. 2015, eqs. 3 and 14, https://arxiv.org/abs/1502.05477). Its gain, times the discounted decisions of
an episode (``steps`` = Σ_t γ^t), is what it promises for the return. A batch is made of episodes, or holds every state and action with its
exact weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf.labs.mdp import FiniteMDP, Floats, action_values, state_values, visits
from rlhf.labs.rounding import total, without_rounding
from rlhf.labs.softmax_policy import expected_return, log_softmax, softmax

LONGEST = 200  # decisions of an episode before it is cut off


@dataclass(frozen=True)
class Problem:
    """``features`` (S, A, P)."""

    mdp: FiniteMDP
    gamma: float
    features: Floats

    @property
    def parameters(self) -> int:
        return self.features.shape[2]

    def logits(self, theta: Floats) -> Floats:
        """(P,) → (S, A)."""
        return self.features @ theta

    def logprobs(self, theta: Floats) -> Floats:
        """log π(a|s), (S, A)."""
        return log_softmax(self.logits(theta))

    def expected_return(self, theta: Floats) -> float:
        """J(θ), exactly."""
        value = expected_return(self.mdp, self.logits(theta), self.gamma)
        return float(without_rounding(value, np.abs(self.mdp.reward).max()))

    def slope(self, by_logprob: Floats, policy: Floats) -> Floats:
        """From ∂L/∂log π(a|s) (S, A) to ∂L/∂θ (P,)."""
        by_logit = by_logprob - policy * by_logprob.sum(1, keepdims=True)
        by_logit = without_rounding(by_logit, np.abs(by_logprob) + policy * np.abs(by_logprob).sum(1, keepdims=True))
        return by_logit.ravel() @ self.features.reshape(-1, self.parameters)


def table(mdp: FiniteMDP, gamma: float, stretch: ArrayLike = 1.0) -> Problem:
    """One parameter for each state and action, which counts ``stretch`` times in its logit (a number, or one for each action)."""
    pairs = mdp.states * mdp.actions
    weights = np.broadcast_to(np.asarray(stretch, np.float64), (mdp.states, mdp.actions)).ravel()
    return Problem(mdp, gamma, np.diag(weights).reshape(mdp.states, mdp.actions, pairs))


def shared(mdp: FiniteMDP, gamma: float) -> Problem:
    """One parameter for each action, the same in all states."""
    return Problem(mdp, gamma, np.broadcast_to(np.eye(mdp.actions), (mdp.states, mdp.actions, mdp.actions)).copy())


def corridor() -> FiniteMDP:
    """Three cells and an end: −1 a step, and in the middle cell left and right are switched. Actions: 0 left, 1 right.

    Sutton & Barto 2018, example 13.1 (http://incompleteideas.net/book/the-book-2nd.html): for a policy that sees no difference between
    the cells, always right and always left never arrive, and the best is to go right with probability 2 − √2 ≈ 0.59 (γ = 1).
    """
    transition = np.zeros((4, 2, 4))
    for s, (left, right) in enumerate(((0, 1), (2, 0), (1, 3))):
        transition[s, 0, left] = transition[s, 1, right] = 1.0
    reward = np.zeros((4, 2, 4))
    reward[:3] = -1.0
    return FiniteMDP(transition, reward, np.arange(4) == 3, np.array([1.0, 0.0, 0.0, 0.0]))


@dataclass(frozen=True)
class Batch:
    """N decisions of the old policy. ``cells`` (N,): s·A + a; ``weights`` (N,), sum 1; ``advantages`` (N,); ``old`` (S, A): log π_old;
    ``state_weights`` (S,): the weights by state; ``steps``: discounted decisions of an episode."""

    cells: NDArray[np.int64]
    weights: Floats
    advantages: Floats
    old: Floats
    state_weights: Floats
    steps: float

    def ratios(self, logprobs: Floats) -> Floats:
        """ρ_i of a policy, (N,)."""
        return np.exp((logprobs - self.old).ravel()[self.cells])

    def surrogate(self, logprobs: Floats) -> float:
        """L less its value for the old policy: what a decision is promised to win."""
        return total(self.weights * (self.ratios(logprobs) - 1) * self.advantages)

    def kl(self, logprobs: Floats) -> float:
        """The mean over the batch's states of KL(π_old ‖ π), in nats."""
        return mean_kl(self.state_weights, self.old, logprobs)

    def by_cell(self, values: Floats) -> Floats:
        """The sum of values (N,) for each state and action, (S, A)."""
        return np.bincount(self.cells, values, minlength=self.old.size).astype(np.float64).reshape(self.old.shape)

    def fisher_product(self, problem: Problem, vector: Floats) -> Floats:
        """F·v (P,) with F = Σ_s w_s·Φ_sᵀ(diag π_old − π_old·π_oldᵀ)Φ_s, never written down."""
        policy = np.exp(self.old)
        moved = policy * (problem.features @ vector)
        return problem.slope(self.state_weights[:, None] * moved, policy)

    def fisher(self, problem: Problem) -> Floats:
        """F, (P, P): the curvature of ``kl`` at the old policy."""
        policy, flat = np.exp(self.old), problem.features.reshape(-1, problem.parameters)
        mean = np.einsum("sa,sap->sp", policy, problem.features)
        weighted = (self.state_weights[:, None] * policy).reshape(-1, 1) * flat
        return flat.T @ weighted - mean.T @ (self.state_weights[:, None] * mean)

    def gradient(self, problem: Problem) -> Floats:
        """∂L/∂θ at the old policy, (P,): the policy gradient, a decision."""
        return problem.slope(self.by_cell(self.weights * self.advantages), np.exp(self.old))


def mean_kl(state_weights: Floats, old: Floats, new: Floats) -> float:
    """Σ_s w_s·KL(π_old(·|s) ‖ π(·|s)) from log-probabilities (S, A), in nats.

    As Σ_a π_old·(ρ − 1 − log ρ), which is the same since both policies sum to 1: no term is negative, so that nothing cancels in the KL
    of a tiny step.
    """
    policy, log_ratio = np.exp(old), new - old
    gained = np.where(log_ratio < 1, policy * np.expm1(np.minimum(log_ratio, 1.0)), np.exp(new) - policy)  # π − π_old
    return float(state_weights @ np.maximum(0.0, gained - policy * log_ratio).sum(1))


def exact_batch(problem: Problem, theta: Floats) -> Batch:
    """Every state and action, weighed by how often the old policy comes there and does it, with its exact advantage: n = ∞."""
    mdp, policy = problem.mdp, softmax(problem.logits(theta))
    values = state_values(mdp, policy, problem.gamma)
    ahead = action_values(mdp, values, problem.gamma)
    better = without_rounding(ahead[:, :, None] - ahead[:, None, :], _largest(mdp, values))
    terms = better * policy[:, None, :]  # Q − V as the mean of Q(a) − Q(b): equal values make exactly 0
    advantages = without_rounding(terms.sum(2), np.abs(terms).sum(2))
    reached = visits(mdp, policy, problem.gamma)
    weights = (reached[:, None] * policy).ravel() / reached.sum()
    cells = np.flatnonzero(weights > 0)
    return Batch(cells, weights[cells], advantages.ravel()[cells], problem.logprobs(theta), reached / reached.sum(), float(reached.sum()))


def sampled_batch(problem: Problem, theta: Floats, episodes: int, rng: np.random.Generator) -> Batch:
    """``episodes`` of the old policy. A_i = r + γ·V_old(s') − V_old(s) with the exact V_old, as of a critic without error; w_i ∝ γ^t."""
    mdp, policy = problem.mdp, softmax(problem.logits(theta))
    values = state_values(mdp, policy, problem.gamma)
    action_cdf, next_cdf = policy.cumsum(1), mdp.transition.cumsum(2)
    here = _draw(np.broadcast_to(mdp.start.cumsum(), (episodes, mdp.states)), rng)
    steps = []
    while here.size and len(steps) < LONGEST:
        action = _draw(action_cdf[here], rng)
        after = _draw(next_cdf[here, action], rng)
        advantage = mdp.reward[here, action, after] + problem.gamma * values[after] - values[here]
        advantage = without_rounding(advantage, _largest(mdp, values))
        steps.append((here, action, advantage, np.full(here.size, problem.gamma ** len(steps))))
        here = after[~mdp.terminal[after]]
    states, actions, advantages, discounts = (np.concatenate(column) for column in zip(*steps, strict=True))
    weights = discounts / discounts.sum()
    visited = np.bincount(states, weights, minlength=mdp.states).astype(np.float64)
    cells = states * mdp.actions + actions
    return Batch(cells, weights, advantages, problem.logprobs(theta), visited, float(discounts.sum() / episodes))


def _largest(mdp: FiniteMDP, values: Floats) -> float:
    """How large the numbers are of which an advantage is the difference."""
    return float(np.abs(mdp.reward).max() + np.abs(values).max())


def _draw(cdf: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """An index from each row of cumulative distributions, (N, K) → (N,)."""
    return (cdf <= rng.random((len(cdf), 1)) * cdf[:, -1:]).sum(1)
