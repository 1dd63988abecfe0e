"""KL in both directions, and its estimators k1, k2, k3 from samples: values, exact bias and deviation by finite sums.

With r = π_ref(y)/π(y) of an answer y that the policy π wrote: k1 = −log r, k2 = ½·log² r, k3 = r − 1 − log r
(Schulman 2020, http://joschu.net/blog/kl-approx.html). The world is a row of answers with a bell-shaped probability over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlhf.labs.kl_optimum import golden
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import log_softmax

NAMES = ("k1", "k2", "k3")
PLACES = np.linspace(-5, 5, 501)
WIDE = np.linspace(-15, 15, 601)
"""So wide that the cut moves no bell of the part on both directions: width 2.5 at ±3 stays 4.8 widths away from it."""


def bell(mean: float, width: float, places: Floats = PLACES) -> Floats:
    """log probabilities, (K,), of a normal distribution's shape over the places."""
    return log_softmax(-0.5 * ((places - mean) / width) ** 2)


def two_bells(distance: float, share: float, width: float, places: Floats = PLACES) -> Floats:
    """log probabilities, (K,), of two bells ``distance`` apart around 0; the left one has ``share`` of the whole."""
    with np.errstate(divide="ignore"):
        left = np.log(share) + bell(-distance / 2, width, places)
        right = np.log(1 - share) + bell(distance / 2, width, places)
    return np.logaddexp(left, right)


def estimates(logprobs: Floats, ref_logprobs: Floats) -> dict[str, Floats]:
    """k1, k2, k3 of each answer from its log probabilities, (K,) or samples (n,)."""
    d = logprobs - ref_logprobs
    with np.errstate(over="ignore", invalid="ignore"):
        k3 = np.where(np.isposinf(d), np.inf, np.expm1(-d) + d)
    return {"k1": d, "k2": d**2 / 2, "k3": k3}


@dataclass(frozen=True)
class Moments:
    """Of one estimate: its mean, that mean minus KL(π‖π_ref), its standard deviation, and how often it is negative."""

    mean: float
    bias: float
    deviation: float
    negative: float


def exact_moments(logprobs: Floats, ref_logprobs: Floats) -> dict[str, Moments]:
    """By sums over all answers that the policy can give."""
    able = logprobs > -np.inf
    policy, distance = np.exp(logprobs[able]), exact_kl(logprobs, ref_logprobs)
    return {
        name: _moments(values, policy, distance) for name, values in estimates(logprobs[able], ref_logprobs[able]).items()
    }  # fmt: skip


def measured_moments(logprobs: Floats, ref_logprobs: Floats, drawn: np.ndarray) -> dict[str, Moments]:
    """From the answers that were drawn, (n,) of indices; the deviation is unbiased (n − 1)."""
    n, distance = len(drawn), exact_kl(logprobs, ref_logprobs)
    found = {}
    for name, values in estimates(logprobs[drawn], ref_logprobs[drawn]).items():
        plain = _moments(values, np.full(n, 1 / n), distance)
        found[name] = Moments(plain.mean, plain.bias, plain.deviation * np.sqrt(n / max(1, n - 1)), plain.negative)
    return found


def _moments(values: Floats, weights: Floats, distance: float) -> Moments:
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(weights @ values)
        deviation = float(np.sqrt(weights @ (values - mean) ** 2)) if np.isfinite(mean) else np.inf
        return Moments(mean, mean - distance, deviation, float(weights[values < 0].sum()))


def exact_kl(logprobs: Floats, ref_logprobs: Floats) -> float:
    """KL(π‖π_ref) in nats from log probabilities; inf where the reference has 0 and the policy has not."""
    able = logprobs > -np.inf
    return float(np.exp(logprobs[able]) @ (logprobs[able] - ref_logprobs[able]))


def draw(logprobs: Floats, count: int, rng: np.random.Generator) -> np.ndarray:
    """Answers that the policy writes: indices (count,)."""
    return rng.choice(len(logprobs), size=count, p=np.exp(logprobs) / np.exp(logprobs).sum())


@dataclass(frozen=True)
class Fit:
    """One bell fitted to a target. ``forward``: KL(target‖bell) and ``reverse``: KL(bell‖target) for each of ``means``;
    ``best_…``: where each is least."""

    means: Floats
    forward: Floats
    reverse: Floats
    best_forward: float
    best_reverse: float


def fit_bell(target: Floats, width: float, places: Floats = WIDE) -> Fit:
    """Where a bell of this width should stand, for both KLs: every mean from −4 to 4 on a fine grid, then golden section around the best.

    ``target``: log probabilities over ``places``, with its mass between −4 and 4.
    """
    means = np.linspace(-4, 4, 161)
    bells = log_softmax(-0.5 * ((places[None] - means[:, None]) / width) ** 2)
    p = np.exp(target)
    forward = (p * (target - bells)).sum(1)
    reverse = (np.exp(bells) * (bells - target)).sum(1)
    gap = means[1] - means[0]

    def refined(values: Floats, loss: Callable[[float], float]) -> float:
        middle = means[values.argmin()]
        return golden(loss, middle - gap, middle + gap)

    return Fit(
        means, forward, reverse,
        refined(forward, lambda m: float((p * (target - bell(m, width, places))).sum())),
        refined(reverse, lambda m: exact_kl(bell(m, width, places), target)),
    )  # fmt: skip
