"""Is a predicted preference right as often as it says? For pairs that are always written (chosen, rejected).

A model gives the chosen answer the probability σ(m), m its margin over the rejected one. Held against "the chosen one was chosen", which
is true of every pair, no diagram could ever lie on its diagonal. So each pair is seen from its favourite's side, the answer that the
model gives at least ½: the prediction is σ(|m|), and it came true where m > 0. That is what any orientation drawn without a look at the
label says (its diagram is the same one and its mirror image through (½, ½)), without the luck of the draw, and with each pair counted once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlhf.bradley_terry import Bin, Floats, calibration, wilson

EVEN = 1e-9  # a prediction this close to ½ has no favourite


@dataclass(frozen=True)
class Reliability:
    """``bins`` of predictions from ½ to 1; how often the favourite was predicted (``confidence``) and seen (``accuracy``) to be preferred.

    ``low``, ``high``: Wilson's 95 % interval of the accuracy. ``pairs``: how many there were.
    """

    bins: tuple[Bin, ...]
    confidence: float
    accuracy: float
    low: float
    high: float
    pairs: int


def folded(chance: ArrayLike, outcome: ArrayLike) -> tuple[Floats, Floats]:
    """Predictions in [0, 1] and what happened (1 won, ½ tied, 0 lost), both from the favourite's side.

    Where neither is the favourite (a prediction of ½) which one won says nothing about the prediction, and counts as half.
    """
    chance, outcome = np.asarray(chance, np.float64), np.asarray(outcome, np.float64)
    turned = np.where(chance < 0.5, 1 - outcome, outcome)
    return np.maximum(chance, 1 - chance), np.where(np.abs(chance - 0.5) <= EVEN, 0.5, turned)


def reliability(margins: ArrayLike, bins: int = 10) -> Reliability:
    """Of pairs with these margins (log-odds that the chosen one is preferred, N ≥ 1); ``bins`` of equal width over [0, 1]."""
    lead = np.asarray(margins, np.float64).ravel()
    odds = np.exp(-np.abs(lead))  # never above 1, so that it cannot overflow
    chance = np.where(lead >= 0, 1.0, odds) / (1 + odds)
    predicted, came_true = folded(chance, np.ones_like(chance))
    right = float(came_true.sum())
    found = calibration(predicted, came_true, bins=bins)
    return Reliability(tuple(found), float(predicted.mean()), right / len(lead), *wilson(right, len(lead)), len(lead))
