"""Advantages from a group of answers to one prompt: GRPO, Dr. GRPO, RLOO; what they do with lengths, difficulty and the group's size.

``rlhf.advantages`` computes the same advantages for batches in training. Sources: GRPO, Shao et al. 2024, §4.1.2,
https://arxiv.org/abs/2402.03300; Dr. GRPO, Liu et al. 2025, §3, https://arxiv.org/abs/2503.20783; RLOO, Ahmadian et al. 2024, eq. 8,
https://arxiv.org/abs/2402.14740; DAPO, Yu et al. 2025, §3, https://arxiv.org/abs/2503.14476.

Rewards are 0 or 1 where a success probability p is spoken of. The policy there has two arms with logit θ, p = σ(θ): ∂J/∂θ = p(1 − p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf.labs.mdp import Floats

EPSILON = 1e-4
"""Added to the standard deviation that GRPO divides by, as in ``rlhf.advantages.group_relative``."""
Method = Literal["grpo", "dr_grpo", "rloo", "batch"]
Baseline = Literal["none", "exact", "rloo", "dr_grpo", "grpo"]
Counts = NDArray[np.int64]
Mean = Literal["grpo", "dr_grpo", "dapo"]


def deviation(rewards: Floats) -> float:
    """Standard deviation, unbiased (divided by G − 1), of (G,) rewards; exactly 0 where all are equal, whatever their mean rounds to."""
    return float(rewards.std(ddof=1)) if np.ptp(rewards) else 0.0


def advantages(rewards: ArrayLike, method: Method, others: ArrayLike = ()) -> Floats:
    """Of one group, (G,) → (G,), G ≥ 2. ``others``: the rewards of the batch's other groups, (M,), which only ``batch`` looks at.

    grpo: (r − mean) / (std + 1e-4), std unbiased; dr_grpo: r − mean; rloo: r − mean of the others of the group; batch: (r − mean) / (std
    of the whole batch + 1e-4). Exactly 0 for equal rewards.
    """
    rewards = np.asarray(rewards, np.float64)
    if len(rewards) < 2:
        raise ValueError("a group needs at least two answers")
    if not np.ptp(rewards):
        return np.zeros(len(rewards))
    centred = rewards - rewards.mean()
    if method == "grpo":
        return centred / (deviation(rewards) + EPSILON)
    if method == "rloo":
        return rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
    if method == "batch":
        return centred / (deviation(np.concatenate([rewards, np.asarray(others, np.float64)])) + EPSILON)
    return centred


def token_weights(lengths: ArrayLike, mean: Mean, longest: int) -> Floats:
    """What each token of an answer counts in the loss, (G,), before it is multiplied with the advantage.

    grpo: 1/(G·|o_i|), so that a long answer's tokens count less; dr_grpo: 1/(G·``longest``), one constant; dapo: 1/Σ|o|, all tokens of
    the group alike (the trainer's is the mean over the tokens of the whole batch).
    """
    lengths = np.asarray(lengths, np.float64)
    if mean == "grpo":
        return 1 / (len(lengths) * lengths)
    return np.full(len(lengths), 1 / (len(lengths) * longest) if mean == "dr_grpo" else 1 / lengths.sum())


# ---------------------------------------------------------------- a prompt that is solved with probability p


def counts(p: float, size: int) -> Floats:
    """P(k of ``size`` answers are right), (size + 1,)."""
    k = np.arange(size + 1)
    return np.array([comb(size, int(i)) for i in k], np.float64) * p**k * (1 - p) ** (size - k)


def no_signal(p: ArrayLike, size: int) -> Floats:
    """The chance p^G + (1 − p)^G that all answers are right or all wrong, so that every advantage is 0."""
    p = np.asarray(p, np.float64)
    return p**size + (1 - p) ** size


def _right_and_wrong(size: int, method: Method) -> tuple[Floats, Floats]:
    """The advantage of a right and of a wrong answer in a group with k right ones, (size + 1,) each."""
    share = np.arange(size + 1) / size
    right, wrong = 1 - share, -share
    if method == "rloo":
        return right * size / (size - 1), wrong * size / (size - 1)
    if method == "grpo":
        std = np.sqrt(share * (1 - share) * size / (size - 1)) + EPSILON
        return right / std, wrong / std
    return right, wrong


def signal(p: ArrayLike, size: int, method: Method) -> Floats:
    """E[|Â|] of an answer, exactly, by counting over the right ones; as the shape of ``p``.

    For large groups 2p(1 − p) without division by the standard deviation (dr_grpo, rloo), 2·√(p(1 − p)) with it (grpo).
    """
    right, wrong = _right_and_wrong(size, method)
    share = np.arange(size + 1) / size
    each = share * np.abs(right) + (1 - share) * np.abs(wrong)
    return np.array([counts(float(one), size) @ each for one in np.ravel(p)]).reshape(np.shape(p))


def scaling(p: ArrayLike, size: int) -> Floats:
    """E[|Â_GRPO|] / E[|Â_Dr. GRPO|], exactly: what dividing by the standard deviation does to a prompt's weight; as the shape of ``p``.

    √G for G = 2 and 3 at every p, as there all groups with a signal have the same standard deviation. For larger ones it rises from
    p = ½ towards 0 and 1, to at most √G; its limit for large groups is 1/√(p(1 − p)). NaN at p = 0 and 1, where nothing is divided.
    """
    scaled, plain = signal(p, size, "grpo"), signal(p, size, "dr_grpo")
    return np.divide(scaled, plain, out=np.full(np.shape(plain), np.nan), where=plain > 0)


def estimates(p: float, size: int, baseline: Baseline) -> Floats:
    """The gradient estimate 1/G·Σ Â_i·∂log π(o_i)/∂θ of a group with k right answers, (size + 1,); the score is r − p.

    ``none``: Â = r; ``exact``: Â = r − p, a critic that knows; else the group's own.
    """
    k = np.arange(size + 1)
    if baseline == "none":
        right, wrong = np.ones(size + 1), np.zeros(size + 1)
    elif baseline == "exact":
        right, wrong = np.full(size + 1, 1 - p), np.full(size + 1, -p)
    else:
        right, wrong = _right_and_wrong(size, baseline)
    return (k * right * (1 - p) - (size - k) * wrong * p) / size


def gradient_moments(p: float, size: int, baseline: Baseline) -> tuple[float, float]:
    """Mean and variance of ``estimates``, exactly."""
    chance, found = counts(p, size), estimates(p, size, baseline)
    mean = float(chance @ found)
    return mean, float(chance @ (found - mean) ** 2)


def gradient_variance(p: float, size: int, baseline: Literal["none", "exact", "rloo"]) -> float:
    """The same variance in closed form. With σ² = p(1 − p) and the fourth central moment μ₄ = σ²(1 − 3σ²):

    none: p(1 − p)³/G; exact: (μ₄ − σ⁴)/G; rloo: (μ₄ − σ⁴·(G − 3)/(G − 1))/G, the variance of the unbiased sample variance, which is what
    RLOO's estimate is here.
    """
    square = p * (1 - p)
    fourth = square * (1 - 3 * square)
    if baseline == "none":
        return p * (1 - p) ** 3 / size
    if baseline == "exact":
        return (fourth - square**2) / size
    return (fourth - square**2 * (size - 3) / (size - 1)) / size


def baseline_error(p: float, size: int) -> float:
    """Standard error √(p(1 − p)/G) of the group's mean, the baseline, around p."""
    return float(np.sqrt(p * (1 - p) / size))


# ---------------------------------------------------------------- lengths that drift


@dataclass(frozen=True)
class Drift:
    """Mean lengths after each step, (steps + 1,) each."""

    right: Floats
    wrong: Floats


def length_drift(p: float, size: int, length: float, mean: Mean, steps: int, rate: float, most: float = 500.0) -> Drift:
    """How lengths change under the exact expected gradient, though the reward does not look at them.

    An answer is right with probability ``p``, for good; then it goes on until it stops, at each token with probability s = σ(θ), one θ
    for right answers and one for wrong ones, so lengths n are geometric with mean 1/s. ``mean`` decides the weight w of each answer, and
    E[Â·w·∂log P(n)/∂θ] = E[Â·∂w/∂θ]: nothing for a constant, ∂E[1/n]/∂θ for GRPO. Advantages are GRPO's (the group's mean and standard
    deviation) for all three, so that only the lengths' weights differ. Mean lengths stay between 1.01 and ``most``.
    """
    right, wrong = _right_and_wrong(size, "grpo")
    chance, k = counts(p, size), np.arange(size + 1)
    theta = np.full(2, -np.log(length - 1))  # of right, of wrong: mean length 1/s = 1 + e^−θ
    low, high = -np.log(most - 1), -np.log(0.01)
    path = [1 + np.exp(-theta)]
    for _ in range(steps):
        if mean == "grpo":
            pull = _inverse_length_slope(theta)
            push = np.array([chance @ (k * right), chance @ ((size - k) * wrong)]) / size * pull
        elif mean == "dapo":
            push = _inverse_total_push(theta, chance, right, wrong)
        else:
            push = np.zeros(2)
        theta = np.clip(theta + rate * push, low, high)
        path.append(1 + np.exp(-theta))
    lengths = np.array(path)
    return Drift(lengths[:, 0], lengths[:, 1])


def _inverse_length_slope(theta: Floats) -> Floats:
    """∂E[1/n]/∂θ with E[1/n] = −s·ln s/(1 − s) and ∂s/∂θ = s(1 − s)."""
    s = 1 / (1 + np.exp(-theta))
    return -s * (np.log(s) + 1 - s) / (1 - s)


_NODES, _AREAS = np.polynomial.legendre.leggauss(80)


def _inverse_total_push(theta: Floats, chance: Floats, right: Floats, wrong: Floats) -> Floats:
    """Σ_k P(k)·(k·Â_right·∂E[1/Σn]/∂θ_right, …): E[1/Σn] = ∫₀¹ Π g_i(z)/z dz with g(z) = sz/(1 − (1 − s)z), the lengths' generating
    function, and ∂g/∂s = z(1 − z)/(1 − (1 − s)z)². The nodes crowd towards z = 1, where long answers are."""
    u = (_NODES + 1) / 2
    z, area = 1 - (1 - u) ** 3, _AREAS / 2 * 3 * (1 - u) ** 2
    s = (1 / (1 + np.exp(-theta)))[:, None]
    below = 1 - (1 - s) * z
    g, slope = s * z / below, s * (1 - s) * z * (1 - z) / below**2
    size = len(chance) - 1
    push = np.zeros(2)
    for k in range(1, size):
        a = area @ (g[0] ** (k - 1) * g[1] ** (size - k) * slope[0] / z)
        b = area @ (g[0] ** k * g[1] ** (size - k - 1) * slope[1] / z)
        push += chance[k] * np.array([k * right[k] * a, (size - k) * wrong[k] * b])
    return push


def measure(p: float, sizes: Sequence[int], groups: int, rng: np.random.Generator) -> dict[int, Counts]:
    """For each size the number of right answers in so many groups, (groups,)."""
    return {size: (rng.random((groups, size)) < p).sum(1) for size in sizes}
