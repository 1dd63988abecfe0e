"""The numbers in the answers of the page Check yourself: the engine's formulas for one short example each, in numpy and without torch.

Each is tested against the engine (rlhf.advantages, rlhf.ops) or against brute force.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import log_softmax, softmax


def gae(rewards: ArrayLike, values: ArrayLike, gamma: float, lam: float) -> Floats:
    """A_t = Σ_l (γλ)^l·δ_{t+l} with δ_t = r_t + γ·V_{t+1} − V_t and V = 0 after the end, (T,). Schulman et al. 2016, eq. 16,
    https://arxiv.org/abs/1506.02438"""
    rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    deltas = rewards + gamma * np.append(values[1:], 0.0) - values
    advantages = np.zeros_like(deltas)
    carry = 0.0
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = deltas[t] + gamma * lam * carry
    return advantages


def group_advantages(rewards: ArrayLike) -> Floats:
    """(R_i − mean) / (std + 1e-4) with the unbiased std of the group, (G,). Shao et al. 2024, § 4.1.2, https://arxiv.org/abs/2402.03300"""
    rewards = np.asarray(rewards, np.float64)
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)


def optimum(reference: ArrayLike, rewards: ArrayLike, beta: float) -> tuple[Floats, float]:
    """π*(y) = π_ref(y)·e^{r(y)/β} / Z, which maximises E[r] − β·KL(π‖π_ref); → (π* (K,), log Z). Rafailov et al. 2023, eq. 4,
    https://arxiv.org/abs/2305.18290"""
    scores = np.log(np.asarray(reference, np.float64)) + np.asarray(rewards, np.float64) / beta
    top = scores.max()
    return softmax(scores), float(top + np.log(np.exp(scores - top).sum()))


def kl_estimates(policy: ArrayLike, reference: ArrayLike) -> dict[str, Floats]:
    """k1, k2, k3 of each arm, (K,): d, d²/2, e^{−d} − 1 + d with d = log π − log π_ref. http://joschu.net/blog/kl-approx.html"""
    d = np.log(np.asarray(policy, np.float64)) - np.log(np.asarray(reference, np.float64))
    return {"k1": d, "k2": d**2 / 2, "k3": np.exp(-d) - 1 + d}


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1)/n nats: the KL of best-of-n to the policy it samples from, for answers that never tie; else a bound from above
    (Beirami et al. 2024, https://arxiv.org/abs/2401.01879)."""
    return math.log(n) - (n - 1) / n


def entropy(policy: ArrayLike) -> float:
    """−Σ π·log π in nats."""
    p = np.asarray(policy, np.float64)
    return float(-(p * np.log(np.where(p > 0, p, 1.0))).sum())


def ascent(logits: ArrayLike, rewards: ArrayLike, rate: float, steps: int, beta: float = 0.0) -> Floats:
    """The policies of exact gradient ascent on E[r] − β·KL(π‖π_0) over a softmax's logits, (steps + 1, K), the start first.

    The gradient is π·(g − E[g]) with g = r − β·log(π/π_0).
    """
    theta, rewards = np.asarray(logits, np.float64).copy(), np.asarray(rewards, np.float64)
    reference = log_softmax(theta)
    found = [softmax(theta)]
    for _ in range(steps):
        p = found[-1]
        gain = rewards - beta * (log_softmax(theta) - reference)
        theta = theta + rate * p * (gain - p @ gain)
        found.append(softmax(theta))
    return np.array(found)


def dpo_step(chosen: int, rejected: int, logits: ArrayLike, features: ArrayLike, rate: float) -> Floats:
    """Log-probabilities after one gradient step of DPO on a pair, from π = π_ref, (K,) in nats.

    The logits are linear in shared parameters, θ_y = ⟨features_y, w⟩ + logits_y, so that what lifts one answer moves those that are like
    it: ∂loss/∂w = −½·β·(f_w − f_l), and β is part of ``rate``.
    """
    f = np.asarray(features, np.float64)
    w = rate / 2 * (f[chosen] - f[rejected])
    return log_softmax(np.asarray(logits, np.float64) + f @ w)
