"""The best policy that stays near a reference, over K answers: in closed form, with its frontier, and best-of-n beside it.

    max_π  J(π) = E_π[r] − β·KL(π‖π_ref)      →      π*(y) = π_ref(y)·e^(r(y)/β) / Z,   J(π*) = β·log Z

(Rafailov et al. 2023, eq. 4, https://arxiv.org/abs/2305.18290). All distributions are (K,) and sum to 1; KL in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlhf.errors import ConfigError
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import kl


@dataclass(frozen=True)
class Optimum:
    """π* and what it is worth. ``log_z`` is NaN for β = 0, where Z has no value; ``objective`` is J(π*)."""

    beta: float
    policy: Floats
    log_z: float
    reward: float
    kl: float
    objective: float


def normalised(weights: ArrayLike) -> Floats:
    """Weights (K,) ≥ 0 → a distribution. ConfigError: a negative or infinite weight, or nothing above 0."""
    weights = np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ConfigError("A reference probability is negative or not a number.", "Give each answer a share of 0 or more.")
    if weights.sum() <= 0:
        raise ConfigError(
            "The reference gives no answer any probability, so there is nothing to stay near to.", "Drag at least one of its bars above 0."
        )
    return weights / weights.sum()


def optimum(reference: Floats, rewards: ArrayLike, beta: float) -> Optimum:
    """π* for β ≥ 0. For β = 0 it is the limit β → 0: π_ref on the best answers among those that it can give.

    An answer of reference probability 0 has probability 0, whatever its reward. ConfigError: β below 0 or not finite.
    """
    rewards = np.asarray(rewards, np.float64)
    if not math.isfinite(beta) or beta < 0:
        raise ConfigError(f"β = {beta:g} is not a price for distance.", "Choose β of 0 or more.")
    policy = policies(reference, rewards, np.array([beta]))[0]
    reward = float(policy @ rewards)
    best = float(rewards[reference > 0].max())
    if beta == 0:
        return Optimum(beta, policy, math.nan, reward, float(kl(policy, reference)), best)
    log_z = best / beta + math.log(float(reference @ np.exp(np.minimum(rewards - best, 0) / beta)))
    return Optimum(beta, policy, log_z, reward, float(kl(policy, reference)), beta * log_z)


def policies(reference: Floats, rewards: ArrayLike, betas: Floats) -> Floats:
    """π* for each β, (B, K); β = 0 and β = inf are their limits."""
    rewards = np.asarray(rewards, np.float64)
    betas = np.asarray(betas, np.float64)[:, None]
    behind = np.minimum(rewards[None] - rewards[reference > 0].max(), 0.0)  # answers that π_ref cannot give may be better
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        weights = np.exp(np.where(behind == 0, 0.0, behind / betas)) * reference
    return weights / weights.sum(1, keepdims=True)


def objective(policy: Floats, reference: Floats, rewards: ArrayLike, beta: float) -> float:
    """J(π) = E[r] − β·KL, by its definition."""
    distance = float(kl(policy, reference))
    return float(policy @ np.asarray(rewards, np.float64)) - (beta * distance if beta else 0.0)


@dataclass(frozen=True)
class Frontier:
    """The optima over β, from large to small: ``betas`` (B,), ``policies`` (B, K), ``rewards`` and ``kls`` (B,).

    No policy wins more reward for the same KL. Its slope dE[r]/dKL is β.
    """

    betas: Floats
    policies: Floats
    rewards: Floats
    kls: Floats


def frontier(reference: Floats, rewards: ArrayLike, points: int = 120) -> Frontier:
    """From π_ref (β = inf) to the best answers (β = 0), with β between on a log scale as wide as the rewards ask for."""
    rewards = np.asarray(rewards, np.float64)
    width = float(np.ptp(rewards[reference > 0])) or 1.0
    betas = np.concatenate([[math.inf], width * np.geomspace(50, 0.004, points), [0.0]])
    along = policies(reference, rewards, betas)
    return Frontier(betas, along, along @ rewards, kl(along, reference))


def best_beta(reference: Floats, rewards: ArrayLike, true: ArrayLike) -> tuple[float, float]:
    """(β, E[true reward]) where the true reward is largest along the frontier of ``rewards``: a grid, then golden section.

    β is inf where going nowhere is best, 0 where going all the way is.
    """
    true = np.asarray(true, np.float64)
    line = frontier(reference, rewards, 400)
    worth = line.policies @ true
    at = int(worth.argmax())
    if at == 0 or worth[at] <= worth[0] + 1e-12:
        return math.inf, float(worth[0])
    if at == len(worth) - 1 or worth[at] <= worth[-1] + 1e-12:
        return 0.0, float(worth[-1])
    high = math.log(line.betas[max(1, at - 1)])
    low = math.log(line.betas[min(len(worth) - 2, at + 1)])

    def lost(log_beta: float) -> float:
        return -float(policies(reference, rewards, np.array([math.exp(log_beta)]))[0] @ true)

    best = golden(lost, low, high)
    return math.exp(best), -lost(best)


def golden(function: Callable[[float], float], low: float, high: float, steps: int = 60) -> float:
    """Where a function with one minimum between ``low`` and ``high`` is least, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def best_of_n(reference: Floats, rewards: ArrayLike, n: int) -> Floats:
    """The distribution of the best of n answers drawn from π_ref, (K,), exactly; equal rewards: the first that was drawn.

    P(y) = (F(r_y)^n − F(<r_y)^n)·π_ref(y)/π_ref(answers of this reward), F the distribution function of the reward.
    """
    levels, level = np.unique(np.asarray(rewards, np.float64), return_inverse=True)
    mass = np.bincount(level, reference, len(levels))
    up_to = np.minimum(np.cumsum(mass), 1.0)
    up_to[np.flatnonzero(mass)[-1] :] = 1.0
    below = np.concatenate([[0.0], up_to[:-1]])
    share = np.divide(up_to**n - below**n, mass, out=np.zeros_like(mass), where=mass > 0)
    return share[level] * reference


def best_of_n_bound(n: int) -> float:
    """log n − (n − 1)/n, in nats: an upper bound on KL(best-of-n‖π_ref), near it only where every answer is rare and no two tie.

    Beirami et al. 2024, theorem 1, https://arxiv.org/abs/2401.01879 (it was long taken for the exact value).
    """
    return math.log(n) - (n - 1) / n
