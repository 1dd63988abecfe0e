"""A softmax policy with one logit for each state and action, π(a|s) ∝ e^θ(s,a): its return, gradient and Fisher matrix, exactly.

A bandit is the decision process with one state whose every action ends it (``bandit``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf.labs.mdp import FiniteMDP, Floats, action_values, state_values, visits


def softmax(logits: ArrayLike) -> Floats:
    """Along the last axis, without overflow."""
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def log_softmax(logits: ArrayLike) -> Floats:
    """log softmax along the last axis, without overflow."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def bandit(rewards: ArrayLike) -> FiniteMDP:
    """K arms with the rewards given (K,): state 0 is the choice, state 1 the end."""
    rewards = np.asarray(rewards, np.float64)
    transition, reward = np.zeros((2, len(rewards), 2)), np.zeros((2, len(rewards), 2))
    transition[0, :, 1], reward[0, :, 1] = 1.0, rewards
    return FiniteMDP(transition, reward, np.array([False, True]), np.array([1.0, 0.0]))


def expected_return(mdp: FiniteMDP, logits: Floats, gamma: float) -> float:
    """J(θ) = E[Σ γ^t·r_t] from the start, exactly."""
    return float(mdp.start @ state_values(mdp, softmax(logits), gamma))


def exact_gradient(mdp: FiniteMDP, logits: Floats, gamma: float) -> Floats:
    """∂J/∂θ(s,a) = d(s)·π(a|s)·A(s,a) with the discounted visits d, (S, A).

    The policy gradient theorem for the softmax: Sutton et al. 2000,
    https://papers.nips.cc/paper/1713-policy-gradient-methods-for-reinforcement-learning-with-function-approximation
    """
    policy = softmax(logits)
    values = state_values(mdp, policy, gamma)
    advantages = action_values(mdp, values, gamma) - values[:, None]
    return visits(mdp, policy, gamma)[:, None] * policy * advantages


def score(policy: Floats, state: int, action: int) -> Floats:
    """∇_θ log π(a|s), (S, A): [s]·(1_a − π(·|s))."""
    gradient = np.zeros_like(policy)
    gradient[state] = -policy[state]
    gradient[state, action] += 1.0
    return gradient


def fisher(mdp: FiniteMDP, logits: Floats, gamma: float) -> Floats:
    """Σ_s d(s)·(diag π(·|s) − π(·|s)·π(·|s)ᵀ) in blocks, (S·A, S·A), with d the discounted visits, normalised to sum 1.

    It is singular: adding a constant to the logits of a state changes nothing (Kakade 2001, https://papers.nips.cc/paper/2073-a-natural-policy-gradient).
    """
    policy = softmax(logits)
    weights = visits(mdp, policy, gamma)
    weights = weights / weights.sum()
    states, actions = policy.shape
    matrix = np.zeros((states, actions, states, actions))
    for s in range(states):
        matrix[s, :, s, :] = weights[s] * (np.diag(policy[s]) - np.outer(policy[s], policy[s]))
    return matrix.reshape(states * actions, states * actions)


def kl(p: Floats, q: Floats) -> Floats:
    """KL(p‖q) along the last axis in nats; 0·log 0 = 0, and inf where q is 0 and p is not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)
    return terms.sum(-1)
