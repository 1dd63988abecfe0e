"""How DPO's loss falls out of the KL-regularised optimum, each step checked in numbers; and the ways in which that loss can fall.

    J(π) = β·log Z − β·KL(π‖π*)   →   π* = π_ref·e^(r/β)/Z   →   r = β·log(π*/π_ref) + β·log Z
      →   P(w ≻ l) = σ(r_w − r_l), where Z cancels   →   −log σ(β·log(π_θ(w)/π_ref(w)) − β·log(π_θ(l)/π_ref(l)))

Rafailov et al. 2023, eqs. 3 to 7, https://arxiv.org/abs/2305.18290.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlhf.labs.kl_optimum import Optimum, objective, optimum
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import log_softmax


def sigmoid(x: ArrayLike) -> Floats:
    """σ(x), without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(x, np.float64)))


def implicit_rewards(policy: Floats, reference: Floats, beta: float) -> Floats:
    """β·log(π/π_ref), (K,): the reward that a policy is the optimum of, up to a constant. NaN where the reference is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return beta * np.where(reference > 0, np.log(policy) - np.log(reference), np.nan)


def pair_loss(margin: ArrayLike) -> Floats:
    """−log σ(margin)."""
    return np.logaddexp(0.0, -np.asarray(margin, np.float64))


@dataclass(frozen=True)
class Derivation:
    """The five steps in numbers, for the pair (w, l). ``gaps``: how far the two sides of each step's identity lie apart, 0 but for
    rounding. ``implicit``: β·log(π*/π_ref) (K,), ``constant``: β·log Z, ``preference``: P(w ≻ l); ``margin`` and ``loss`` are π_θ's."""

    best: Optimum
    reference_objective: float
    reference_kl: float
    implicit: Floats
    constant: float
    preference: float
    preference_without_z: float
    margin: float
    loss: float
    gaps: tuple[float, float, float, float, float]


def derive(reference: Floats, rewards: Floats, beta: float, pair: tuple[int, int], trained: float) -> Derivation:
    """The steps for β > 0 and a pair of answers that the reference can give.

    ``trained``: how far the policy π_θ of the last step is on its way, π_θ ∝ π_ref^(1−t)·π*^t: 0 is π_ref, 1 is π*.
    Its margin is t·(r_w − r_l).
    """
    winner, loser = pair
    best = optimum(reference, rewards, beta)
    able = reference > 0
    log_reference = np.log(reference[able])
    log_best = log_reference + rewards[able] / beta - best.log_z
    implicit = np.full(len(reference), np.nan)
    implicit[able] = beta * (log_best - log_reference)
    constant = beta * best.log_z
    at_reference = objective(reference, reference, rewards, beta)
    distance = float((reference[able] * (log_reference - log_best)).sum())
    preference = float(sigmoid(rewards[winner] - rewards[loser]))
    without_z = float(sigmoid(implicit[winner] - implicit[loser]))
    log_policy = log_softmax((1 - trained) * log_reference + trained * log_best)
    place = np.cumsum(able) - 1
    ratios = beta * (log_policy - log_reference)
    margin = float(ratios[place[winner]] - ratios[place[loser]])
    gaps = (
        abs(at_reference - (constant - beta * distance)),
        abs(best.policy.sum() - 1) + abs(objective(best.policy, reference, rewards, beta) - best.objective),
        float(np.abs(implicit[able] + constant - rewards[able]).max()),
        abs(preference - without_z),
        abs(float(pair_loss(margin)) - float(pair_loss(trained * (rewards[winner] - rewards[loser])))),
    )
    return Derivation(
        best, at_reference, distance, implicit, constant, preference, without_z, margin, float(pair_loss(margin)), gaps
    )  # fmt: skip


def expected_loss(logits: Floats, reference: Floats, rewards: Floats, beta: float) -> tuple[float, Floats]:
    """DPO's loss over all pairs, evenly drawn, each preferred as Bradley–Terry has it; → (loss, its gradient by the logits (K,)).

    A cross-entropy between P = σ(r_i − r_j) and σ(β(h_i − h_j)), h = log π − log π_ref: least at π*. All of ``reference`` must be above 0.
    """
    pairs = len(reference) * (len(reference) - 1)
    ratios = log_softmax(logits) - np.log(reference)
    margins = beta * (ratios[:, None] - ratios[None])
    wanted = sigmoid(rewards[:, None] - rewards[None])
    off = ~np.eye(len(reference), dtype=bool)
    loss = float((wanted * pair_loss(margins))[off].sum()) / pairs
    return loss, beta * (sigmoid(margins) - wanted).sum(1) / pairs  # the diagonal is σ(0) − σ(0) = 0


# ---------------------------------------------------------------- the ways in which the loss of one pair falls

APART, BOTH_DOWN, BOTH_UP, AGAINST = range(4)
"""Chosen up and rejected down; both down; both up; chosen down and rejected up, which would raise the loss."""
CHOSEN, REJECTED = 0, 1


@dataclass(frozen=True)
class Models:
    """N small language models over K answers whose logits share d features: π = softmax(Φθ). ``features`` (N, K, d), ``start`` (N, d)."""

    features: Floats
    start: Floats


def draw_models(rng: np.random.Generator, count: int, answers: int, features: int) -> Models:
    """Features and first weights from normal distributions; ``features`` 0: none are shared, each answer has a logit of its own."""
    if features == 0:
        own = np.broadcast_to(np.eye(answers), (count, answers, answers))
        return Models(own, rng.normal(size=(count, answers)))
    return Models(rng.normal(size=(count, answers, features)) / math.sqrt(features), rng.normal(size=(count, features)))


def descend(models: Models, beta: float, rate: float, steps: int) -> Floats:
    """Exact gradient descent on DPO's loss of one pair (answer 0 chosen, 1 rejected) from π_ref; → log π, (steps + 1, N, K).

    The gradient by θ is −β·σ(−margin)·(φ_w − φ_l): the normaliser of the softmax cancels like Z, so all that is not in the pair
    is moved only through the features it shares (Razin et al. 2024, https://arxiv.org/abs/2410.08847).
    """
    apart = models.features[:, CHOSEN] - models.features[:, REJECTED]
    weights = models.start.copy()
    path = [log_softmax((models.features @ weights[..., None])[..., 0])]
    lead = path[0][:, CHOSEN] - path[0][:, REJECTED]
    for _ in range(steps):
        margin = beta * (path[-1][:, CHOSEN] - path[-1][:, REJECTED] - lead)
        weights = weights + rate * beta * sigmoid(-margin)[:, None] * apart
        path.append(log_softmax((models.features @ weights[..., None])[..., 0]))
    return np.stack(path)


def ways(path: Floats) -> np.ndarray:
    """Which way each model's loss fell, (N,) of the four above, from the first to the last log π of ``path`` (T, N, K)."""
    chosen = path[-1, :, CHOSEN] > path[0, :, CHOSEN]
    rejected = path[-1, :, REJECTED] > path[0, :, REJECTED]
    return np.where(chosen, np.where(rejected, BOTH_UP, APART), np.where(rejected, AGAINST, BOTH_DOWN))


def clearest(path: Floats, way: int) -> int | None:
    """The model that went this way most clearly: the smaller of the pair's two changes of probability is largest. None: no model did."""
    change = np.abs(np.exp(path[-1, :, :2]) - np.exp(path[0, :, :2])).min(1)
    found = np.flatnonzero(ways(path) == way)
    return int(found[change[found].argmax()]) if len(found) else None
