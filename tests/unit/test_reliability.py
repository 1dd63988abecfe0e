"""Reliability of predicted preferences: by hand, and on pairs whose probabilities are known to be right or wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf import bradley_terry as bt
from rlhf.errors import DataError
from rlhf.reliability import folded, reliability


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_four_pairs_by_hand():
    """Favourites at 80 %, 60 %, 60 % and a pair without one; the second is wrong: right (1 + 0 + 1 + ½) / 4, said (0.8+0.6+0.6+0.5) / 4."""
    found = reliability([logit(0.8), -logit(0.6), logit(0.6), 0.0])
    assert found.pairs == 4 and found.accuracy == pytest.approx(0.625) and found.confidence == pytest.approx(0.625)
    assert (found.low, found.high) == bt.wilson(2.5, 4)
    assert [(b.predicted, b.observed, b.votes) for b in found.bins] == [
        (pytest.approx(0.5), 0.5, 1), (pytest.approx(0.6), 0.5, 2), (pytest.approx(0.8), 1.0, 1)
    ]  # fmt: skip


def test_far_margins_do_not_overflow():
    found = reliability([1e4, -1e4])
    assert found.confidence == 1.0 and found.accuracy == 0.5


def test_a_mirrored_vote_says_the_same():
    chance, outcome = folded([0.3, 0.7, 0.5, 0.5], [0.0, 1.0, 1.0, 0.0])
    assert chance == pytest.approx([0.7, 0.7, 0.5, 0.5]) and list(outcome) == [1.0, 1.0, 0.5, 0.5]


def test_calibrated_predictions_lie_on_the_diagonal_and_overconfident_ones_below():
    """The chosen answer is drawn with the true probability; the margin is the log-odds of the one that was chosen."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 20_000)
    lead = np.where(rng.random(20_000) < 1 / (1 + np.exp(-odds)), odds, -odds)
    right = reliability(lead)
    assert all(b.low - 0.01 <= b.predicted <= b.high + 0.01 for b in right.bins) and len(right.bins) == 5
    too_sure = reliability(3 * lead)
    assert too_sure.accuracy == right.accuracy and too_sure.confidence > right.confidence + 0.08
    assert all(b.observed < b.predicted for b in too_sure.bins if b.predicted > 0.6)


# ---------------------------------------------------------------- cross-validated votes


def votes(strengths: list[float], each: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wins = np.zeros((len(strengths), len(strengths)))
    for a in range(len(strengths)):
        for b in range(a):
            won = rng.binomial(each, 1 / (1 + math.exp(strengths[b] - strengths[a])))
            wins[a, b], wins[b, a] = won, each - won
    return wins


def test_every_vote_is_predicted_once_and_by_the_others_only():
    """Two items, 3 : 1, each vote its own part. Without a win 2 : 1 is left, P = ⅔; without the loss 3 : 0, with a weak prior."""
    chance, outcome = bt.cross_validated(bt.fit([[0, 3], [1, 0]]), folds=4)
    assert list(outcome) == [1.0] * 4  # from the winner's side
    assert chance[:3] == pytest.approx([2 / 3] * 3) and chance[3] < 0.05
    tied, score = bt.cross_validated(bt.fit([[0, 3], [2, 0]], [[0, 2], [2, 0]]), folds=3)
    assert len(tied) == 7 and list(score) == [1.0] * 5 + [0.5] * 2


def test_with_a_prior_the_prior_is_the_fits_own():
    """The one vote is left out: nothing is known, ½."""
    chance, outcome = bt.cross_validated(bt.fit([[0, 1], [0, 0]], prior_deviation=1.5), prior_deviation=1.5)
    assert chance == pytest.approx([0.5]) and list(folded(chance, outcome)[1]) == [0.5]


def test_cross_validation_does_not_flatter():
    """Eight items that are all alike, four votes a pair: the fit to its own votes seems to know who wins, the others' fit does not."""
    fitted = bt.fit(votes([0.0] * 8, 4, seed=1), prior_deviation=3.0)
    own = folded(fitted.expected_score()[np.nonzero(fitted.wins)], np.ones(np.count_nonzero(fitted.wins)))
    weights = fitted.wins[np.nonzero(fitted.wins)]
    chance, right = folded(*bt.cross_validated(fitted, prior_deviation=3.0))
    assert float((own[1] * weights).sum() / weights.sum()) > 0.55
    assert right.mean() < 0.55 and chance.mean() > right.mean() + 0.03


def test_errors_name_the_items():
    names = ["Ann", "Bea", "Cem", "Dan"]
    for wins, words in (
        ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], "“Cem” is not in the largest"),
        ([[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]], "for example “Ann”"),
        ([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], "“Ann” is compared with itself"),
    ):
        with pytest.raises(DataError, match=words):
            bt.fit(wins, names=names)
    with pytest.raises(DataError, match="Item 0 is compared with itself"):
        bt.fit([[1, 1], [1, 0]])
