"""What the answers of the page Check yourself compute beside the labs' own mathematics: in numpy and without torch.

Each is tested against autograd, finite differences or by hand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import log_softmax, softmax


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
