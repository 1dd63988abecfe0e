"""Strengths from votes: by hand, against likelihoods worked out pair by pair, against simulated votes, and against `choix` and Elo."""

from __future__ import annotations

import math
import time

import choix
import numpy as np
import pytest

from rlhf import bradley_terry as bt
from rlhf.errors import DataError


def simulate(strengths, votes, nu=0.0, seed=0):
    """Wins and ties of ``votes`` comparisons of each pair."""
    rng = np.random.default_rng(seed)
    k = len(strengths)
    wins, ties = np.zeros((k, k)), np.zeros((k, k))
    for a in range(k):
        for b in range(a):
            odds = np.array([math.exp(strengths[a]), math.exp(strengths[b]), nu * math.exp((strengths[a] + strengths[b]) / 2)])
            won, lost, tied = rng.multinomial(votes, odds / odds.sum())
            wins[a, b], wins[b, a], ties[a, b], ties[b, a] = won, lost, tied, tied
    return wins, ties


def log_likelihood(wins, ties, strengths, nu):
    """Pair by pair, straight from Davidson's probabilities."""
    total = 0.0
    for a in range(len(wins)):
        for b in range(a):
            odds = [math.exp(strengths[a]), math.exp(strengths[b]), nu * math.exp((strengths[a] + strengths[b]) / 2)]
            for count, odd in zip((wins[a, b], wins[b, a], ties[a, b]), odds, strict=True):
                total += count * math.log(odd / sum(odds)) if count else 0.0
    return total


def test_two_items_by_hand():
    """3 : 1 is a difference of log 3. Its variance is 1 / (4 · ¾ · ¼) = 4/3, and half the difference is each strength: sd √(4/3)/2."""
    fit = bt.fit([[0, 3], [1, 0]])
    assert fit.strengths == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
    assert fit.standard_errors == pytest.approx([math.sqrt(4 / 3) / 2] * 2)
    assert fit.nu == 0 and fit.log_likelihood == pytest.approx(3 * math.log(0.75) + math.log(0.25))


def test_two_items_with_ties_by_hand():
    """4 : 1 with 4 ties: the observed shares are matched, so e^Δ = 4 and ν = (4/9) / √(4/9 · 1/9) = 2."""
    fit = bt.fit([[0, 4], [1, 0]], [[0, 4], [4, 0]])
    assert fit.strengths[0] - fit.strengths[1] == pytest.approx(math.log(4)) and fit.nu == pytest.approx(2)
    better, tie = fit.probabilities()
    assert better[0, 1] == pytest.approx(4 / 9) and tie[0, 1] == pytest.approx(4 / 9) and fit.expected_score()[0, 1] == pytest.approx(6 / 9)


@pytest.mark.parametrize("nu", [0.0, 0.8])
def test_no_neighbour_is_likelier(nu):
    truth = np.array([1.0, 0.3, 0.0, -0.4, -0.9])
    wins, ties = simulate(truth, 40, nu)
    fit = bt.fit(wins, ties)
    best = log_likelihood(wins, ties, fit.strengths, fit.nu)
    assert fit.log_likelihood == pytest.approx(best) and fit.strengths.mean() == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(50):
        other = fit.strengths + 0.05 * rng.normal(size=5)
        assert log_likelihood(wins, ties, other, fit.nu * math.exp(0.05 * rng.normal()) if nu else 0.0) < best


def test_the_standard_errors_are_the_spread_of_repeated_votes():
    truth = np.array([0.8, 0.0, -0.8])
    fits = [bt.fit(*simulate(truth, 200, 0.5, seed)) for seed in range(300)]
    spread = np.std([fit.strengths for fit in fits], axis=0, ddof=1)
    assert np.mean([fit.standard_errors for fit in fits], axis=0) == pytest.approx(spread, rel=0.15)
    inside = [np.abs(fit.strengths - truth) < 1.96 * fit.standard_errors for fit in fits]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_the_bootstrap_agrees_with_the_standard_errors():
    fit = bt.fit(*simulate(np.array([0.6, 0.1, -0.2, -0.5]), 150, 0.4))
    assert bt.bootstrap(fit, 300).std(0, ddof=1) == pytest.approx(fit.standard_errors, rel=0.2)
    assert (bt.bootstrap(fit, 5, seed=3) == bt.bootstrap(fit, 5, seed=3)).all()


def test_as_choix_finds_it():
    wins, _ = simulate(np.array([1.2, 0.4, 0.0, -0.5, -1.1]), 60)
    pairs = [(a, b) for a in range(5) for b in range(5) for _ in range(int(wins[a, b]))]
    assert bt.fit(wins).strengths == pytest.approx(choix.ilsr_pairwise(5, pairs), abs=1e-5)


def test_as_elo_orders_simulated_votes():
    truth = np.array([1.0, 0.2, -0.3, -0.9])
    wins, _ = simulate(truth, 400)
    ratings = np.full(4, 1000.0)
    votes = [(a, b) for a in range(4) for b in range(4) for _ in range(int(wins[a, b]))]
    for _ in range(5):
        np.random.default_rng(0).shuffle(votes)
        for a, b in votes:
            expected = 1 / (1 + 10 ** ((ratings[b] - ratings[a]) / 400))
            ratings[a] += 4 * (1 - expected)
            ratings[b] -= 4 * (1 - expected)
    assert bt.elo(bt.fit(wins).strengths) == pytest.approx(ratings, abs=60)
    assert bt.elo([math.log(10), 0])[0] - bt.elo([math.log(10), 0])[1] == pytest.approx(400)


def test_many_items_are_quick():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=59)
    wins, ties = simulate(truth, 5, 0.7)
    begin = time.perf_counter()
    fit = bt.fit(wins, ties)
    assert time.perf_counter() - begin < 1 and np.corrcoef(fit.strengths, truth)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("wins", "ties", "words"),
    [
        ([[0, 5], [0, 0]], None, "only won"),
        ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], None, "no vote between"),
        ([[0]], None, "one item"),
        ([[0, 0], [0, 0]], None, "no votes"),
        ([[1, 1], [1, 0]], None, "with itself"),
        ([[0, -1], [1, 0]], None, "negative"),
        ([[0, math.nan], [1, 0]], None, "not finite"),
        ([[0, 1, 1]], None, "square"),
        ([[0, 1], [1, 0]], [[0, 2], [1, 0]], "not symmetric"),
    ],
)
def test_what_cannot_be_fitted_is_said(wins, ties, words):
    with pytest.raises(DataError, match=words):
        bt.fit(wins, ties)


def test_a_prior_makes_everything_finite():
    unbeaten = bt.fit([[0, 5], [0, 0]], prior_deviation=2.0)
    assert 0 < unbeaten.strengths[0] < 5 and unbeaten.strengths[0] == pytest.approx(-unbeaten.strengths[1])
    apart = bt.fit([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 3], [0, 0, 1, 0]], prior_deviation=2.0)
    assert np.isfinite(apart.strengths).all() and apart.strengths[2] > apart.strengths[3]
    assert apart.standard_errors[2] > 0.5  # nothing ties the two groups together but the prior
    strong, weak = (bt.fit([[0, 30], [10, 0]], prior_deviation=d) for d in (0.1, 100.0))
    assert strong.strengths[0] < weak.strengths[0] == pytest.approx(math.log(3) / 2, abs=1e-3)


def test_groups_are_named():
    weak, strong = bt.groups([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert weak == [[0, 1], [2]] and strong == [[0, 1], [2]]


def test_softmax_and_plackett_luce():
    """With p = e^s = 4, 2, 1: best of all 4/7, then of the rest 2/3."""
    strengths = np.log([4, 2, 1])
    assert bt.best_of(strengths) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert bt.ranking_logprob(strengths, [0, 1, 2]) == pytest.approx(math.log(4 / 7 * 2 / 3))
    assert bt.ranking_logprob(strengths, [0, 2]) == pytest.approx(math.log(4 / 5))
    with pytest.raises(ValueError, match="ranking"):
        bt.ranking_logprob(strengths, [0, 0])


def test_wilson_by_hand():
    """8 of 10 at z = 2: centre (0.8 + 0.2) / 1.4, half width 2/1.4 · √(0.16/10 + 4/400)."""
    low, high = bt.wilson(8, 10, z=2)
    half = 2 / 1.4 * math.sqrt(0.016 + 0.01)
    assert (low, high) == pytest.approx((1 / 1.4 - half, 1 / 1.4 + half))
    assert bt.wilson(0, 0) == (0.0, 1.0) and bt.wilson(5, 5)[1] == pytest.approx(1.0)


def test_calibration_counts_by_weight():
    (low, high) = bt.calibration([0.1, 0.15, 0.8], [0, 1, 1], [3, 1, 2], bins=2)
    assert (low.votes, low.observed, low.predicted) == pytest.approx((4, 0.25, 0.1125)) and (high.votes, high.observed) == (2, 1)


def test_a_circle_is_found():
    wins = np.zeros((4, 4))
    wins[0, 1], wins[1, 2], wins[2, 0] = 3, 3, 3
    wins[0, 3] = wins[1, 3] = wins[2, 3] = 5
    assert bt.intransitive(wins) == [(0, 1, 2)]


def test_one_more_vote_helps_most_where_nothing_is_known():
    wins = np.array([[0, 50, 50], [50, 0, 0], [50, 0, 0]], float)
    assert bt.most_informative(bt.fit(wins))[0][:2] == (1, 2)
