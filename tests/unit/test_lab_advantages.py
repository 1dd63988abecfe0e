"""Lab 4: a trajectory's pieces against the trainer's advantages, and the random walk's exact moments against sampling and the book."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlhf import advantages as trained
from rlhf.labs import advantage_estimation as ae
from rlhf.labs import random_walk as rw
from rlhf.labs.mdp import uniform_policy

REWARDS, CRITIC = [0.2, -1.0, 0.0, 0.5, 1.0], [0.3, 0.4, -0.2, 0.6, 0.8]
LAMBDAS, NS = (0.0, 0.5, 0.9, 1.0), (1, 3, rw.MONTE_CARLO)


def test_by_hand():
    """γ = ½, λ = ½, rewards (0, 1), values (.4, .6), then 2: δ = (−.1, 1.4); A = (−.1 + .35, 1.4)."""
    surprises = ae.deltas([0, 1], [0.4, 0.6], 2.0, 0.5)
    assert surprises == pytest.approx([-0.1, 1.4])
    assert ae.gae([0, 1], [0.4, 0.6], 2.0, 0.5, 0.5) == pytest.approx([-0.1 + 0.25 * 1.4, 1.4])
    assert ae.n_step(surprises, 0.5)[0] == pytest.approx([-0.1, 0.5 * 1 + 0.25 * 2 - 0.4])
    assert ae.n_step_weights(3, 0.5) == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize("bootstrap", [0.0, 0.7])
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.0), (0.9, 1.0), (0.5, 0.5), (0.0, 1.0)])
def test_equals_what_training_uses(bootstrap, gamma, lam):
    paid = np.array(REWARDS)
    paid[-1] += gamma * bootstrap  # the trainer's episodes end: what comes after is a part of the last reward
    rewards, values = torch.tensor(paid)[None], torch.tensor(CRITIC, dtype=torch.float64)[None]
    mask = torch.ones(1, 5, dtype=torch.bool)
    surprises = ae.deltas(REWARDS, CRITIC, bootstrap, gamma)
    assert surprises == pytest.approx(trained.td(rewards, values, mask, gamma)[0][0].numpy(), abs=1e-12)
    expected = trained.gae(rewards, values, mask, gamma, lam)[0][0].numpy()
    assert ae.gae(REWARDS, CRITIC, bootstrap, gamma, lam) == pytest.approx(expected, abs=1e-12)
    assert ae.monte_carlo(surprises, gamma) == pytest.approx(trained.monte_carlo(rewards, values, mask, gamma)[0][0].numpy(), abs=1e-12)
    table = ae.n_step(surprises, gamma)
    for n in (1, 2, 4):
        wanted = trained.n_step(rewards, values, mask, gamma, n)[0][0].numpy()
        assert [table[t, min(n, 5 - t) - 1] for t in range(5)] == pytest.approx(wanted, abs=1e-12)
    mixed = [ae.n_step_weights(5 - t, lam) @ table[t, : 5 - t] for t in range(5)]
    assert mixed == pytest.approx(expected, abs=1e-12)
    assert np.isnan(table).sum() == 10


def test_values_of_the_walk_are_the_books():
    assert rw.walk_of(5).values(1.0)[1:-1] == pytest.approx(np.arange(1, 6) / 6)
    assert rw.walk_of(19).values(1.0)[1:-1] == pytest.approx(np.arange(-9, 10) / 10)


def test_an_exact_critic_is_never_biased_and_td_varies_least():
    walk = rw.walk_of(19)
    true = walk.values(0.95)
    quality = rw.quality(*rw.exact_moments(walk, true, 0.95, LAMBDAS, NS), true[1:-1])
    assert quality.bias == pytest.approx(0, abs=1e-12)
    assert list(quality.spread[:4]) == sorted(quality.spread[:4]) and quality.spread[0] == pytest.approx(quality.spread[4])


def test_monte_carlo_is_unbiased_whatever_the_critic_says():
    """Its variance is known: with ends −1 and 1 and γ = 1, 1 − V²."""
    walk = rw.walk_of(19)
    true = walk.values(1.0)[1:-1]
    mean, variance = rw.exact_moments(walk, rw.faulty_critic(walk, 1.0, "noisy", 0.7, 3), 1.0, [1.0], [rw.MONTE_CARLO, 3000])
    for row in range(3):
        assert mean[row] == pytest.approx(true, abs=1e-9) and variance[row] == pytest.approx(1 - true**2, abs=1e-9)


def test_td_by_hand():
    """One state from the left end of the 5-state walk: 0 or V̂(2), half each."""
    walk = rw.walk_of(5)
    critic = rw.faulty_critic(walk, 1.0, "high", 0.2, 0)
    mean, variance = rw.exact_moments(walk, critic, 0.9, [0.0], [1])
    assert mean[:, 0] == pytest.approx(0.9 * critic[2] / 2) and variance[:, 0] == pytest.approx((0.9 * critic[2] / 2) ** 2)


@pytest.mark.parametrize("states", [5, 19])
def test_measured_agrees_with_exact(states):
    walk, walks = rw.walk_of(states), 2000
    critic = rw.faulty_critic(walk, 0.98, "noisy", 0.3, 1)
    samples = rw.sample_returns(walk, critic, 0.98, LAMBDAS, NS, walks, np.random.default_rng(0))
    mean, variance = rw.exact_moments(walk, critic, 0.98, LAMBDAS, NS)
    assert np.all(np.abs(samples.mean(2) - mean) < 4.5 * np.sqrt(variance / walks) + 1e-9)
    assert samples.var(2).mean(1) == pytest.approx(variance.mean(1), rel=0.05)
    true = walk.values(0.98)[1:-1]
    exact, measured = rw.quality(mean, variance, true), rw.quality(samples.mean(2), samples.var(2, ddof=1), true, 1, walks)
    assert measured.error == pytest.approx(exact.error, rel=0.04) and measured.bias == pytest.approx(exact.bias, abs=0.02)


def test_error_over_lambda_is_a_u_for_a_critic_that_has_learned_little():
    walk, lambdas = rw.walk_of(19), [*np.linspace(0, 0.9, 10), 0.95, 0.99, 1.0]
    mean, variance = rw.exact_moments(walk, rw.faulty_critic(walk, 1.0, "flat", 0.8, 0), 1.0, lambdas, [])
    true = walk.values(1.0)[1:-1]
    quality = rw.quality(mean, variance, true)
    assert np.all(np.diff(quality.bias) < 0) and np.all(np.diff(quality.spread) > 0)
    lowest = int(quality.error.argmin())
    assert 0 < lowest < 12 and np.all(np.diff(quality.error[: lowest + 1]) < 0) and np.all(np.diff(quality.error[lowest:]) > 0)
    averaged = rw.quality(mean, variance, true, batch=64)
    assert averaged.error.argmin() > lowest and averaged.spread == pytest.approx(quality.spread / 8)


def test_learning_reproduces_the_books_figures():
    """Figure 7.2: n = 4 near α = 0.4 is best, at about 0.27; n = 512 and n = 1 are worse. Figure 12.3: the same between λ = 0 and 1."""
    walk, alphas = rw.walk_of(19), (0.2, 0.4, 0.8)
    shares = []
    errors = rw.n_step_errors(walk, (1, 4, 512), alphas, 10, 40, np.random.default_rng(0), shares.append)
    assert errors[1, 1] == errors.min() == pytest.approx(0.265, abs=0.02) and shares[-1] == 1
    assert errors[0].min() > errors[1].min() + 0.05 and errors[2].min() > errors[1].min() + 0.2
    off_line = rw.lambda_errors(walk, (0.0, 0.8, 1.0), alphas, 10, 40, np.random.default_rng(0))
    assert off_line[1].min() < off_line[0].min() - 0.05 and off_line[1].min() < off_line[2].min() - 0.2
    assert off_line[2] == pytest.approx(errors[2], rel=0.01)  # λ = 1 and n = 512 are both Monte-Carlo, on the same walks


def test_lambda_returns_learn_as_by_hand():
    """One run, one episode: at its end each visit is moved towards Ĝ^λ, counted with the values before it."""
    walk, lam, alpha = rw.walk_of(5), 0.5, 0.3
    path = rw._episode(walk, 1, np.random.default_rng(4)).path[:, 0]
    before = np.array([0, *[0.5] * 5, 0])
    values, carry, targets = before.copy(), 0.0, []
    for t in reversed(range(len(path) - 1)):
        ended = path[t + 1] in (0, 6)
        carry = float(path[t + 1] == 6) if ended else (1 - lam) * before[path[t + 1]] + lam * carry
        targets.insert(0, carry)
    for state, target in zip(path[:-1], targets, strict=True):
        values[state] += alpha * (target - values[state])
    expected = np.sqrt(((values - walk.values(1.0))[1:-1] ** 2).mean())
    assert rw.lambda_errors(walk, [lam], [alpha], 1, 1, np.random.default_rng(4)) == pytest.approx(expected)


def test_moments_are_those_of_any_decision_process():
    """λ-moments at γ = 0 are those of the next reward alone."""
    walk = rw.walk_of(5)
    mean, variance = rw.lambda_moments(walk.mdp, uniform_policy(walk.mdp), np.ones(7), 0.0, 0.7)
    assert mean == pytest.approx([0, 0, 0, 0, 0, 0.5, 0]) and variance == pytest.approx([0, 0, 0, 0, 0, 0.25, 0])
