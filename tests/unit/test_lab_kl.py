"""Lab 6: the KL-regularised optimum, best-of-n, DPO's derivation, exact training and KL's estimators, by brute force and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from rlhf.algorithms.dpo import dpo_loss
from rlhf.errors import ConfigError
from rlhf.labs import dpo_derivation as dd
from rlhf.labs import exact_training as et
from rlhf.labs import kl_estimators as ke
from rlhf.labs import kl_optimum as ko
from rlhf.labs.softmax_policy import kl, log_softmax, softmax
from rlhf.ops import kl_estimate

REFERENCE = np.array([0.4, 0.3, 0.2, 0.1])
REWARDS = np.array([-0.5, 1.0, 0.2, 1.5])
EXACT = 1e-10
BETAS = pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])


def random_examples(count: int):
    """(reference, rewards, β) of 2 to 6 answers."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        answers = int(rng.integers(2, 7))
        yield rng.dirichlet(np.ones(answers)), rng.uniform(-3, 3, answers), float(np.exp(rng.uniform(-4, 2)))


# ---------------------------------------------------------------- the optimum


def test_the_optimum_by_hand():
    """π_ref = (½, ½), r = (0, log 3), β = 1: weights ½ and 3/2, Z = 2, π* = (¼, ¾), J = log 2."""
    best = ko.optimum(np.array([0.5, 0.5]), [0.0, math.log(3)], 1.0)
    assert best.policy == pytest.approx([0.25, 0.75])
    assert best.log_z == pytest.approx(math.log(2)) and best.objective == pytest.approx(math.log(2))
    assert best.kl == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_no_policy_is_better_and_j_is_beta_log_z():
    """J(π) = β·log Z − β·KL(π‖π*) for any π, so π* is the maximum; against policies drawn near and far."""
    rng = np.random.default_rng(1)
    for reference, rewards, beta in random_examples(40):
        best = ko.optimum(reference, rewards, beta)
        assert ko.objective(best.policy, reference, rewards, beta) == pytest.approx(best.objective, abs=EXACT)
        assert best.objective == pytest.approx(beta * best.log_z, abs=EXACT)
        for other in (rng.dirichlet(np.ones(len(reference))), softmax(np.log(best.policy + 1e-12) + rng.normal(0, 0.05, len(reference)))):
            worth = ko.objective(other, reference, rewards, beta)
            assert worth <= best.objective + EXACT
            log_best = np.log(reference) + rewards / beta - best.log_z
            assert worth == pytest.approx(best.objective - beta * float(other @ (np.log(other) - log_best)), abs=1e-9)


def test_the_optimum_by_numerical_ascent():
    """Plain gradient ascent on J by finite differences, from a uniform policy, ends where the closed form says."""
    logits, beta, step = np.zeros(4), 0.7, 1e-5
    for _ in range(400):
        nudged = logits + step * np.concatenate([np.eye(4), -np.eye(4)])
        values = [ko.objective(softmax(row), REFERENCE, REWARDS, beta) for row in nudged]
        logits = logits + 2 * (np.array(values[:4]) - values[4:]) / (2 * step)
    assert softmax(logits) == pytest.approx(ko.optimum(REFERENCE, REWARDS, beta).policy, abs=1e-4)


def test_limits_ties_and_what_the_reference_never_writes():
    tied = ko.optimum(np.array([0.6, 0.3, 0.1]), [0.0, 1.0, 1.0], 0.0)
    assert tied.policy == pytest.approx([0, 0.75, 0.25]) and tied.objective == 1.0 and math.isnan(tied.log_z)
    assert tied.kl == pytest.approx(-math.log(0.4))
    nearly = ko.optimum(np.array([0.6, 0.3, 0.1]), [0.0, 1.0, 1.0], 1e-4)
    assert nearly.policy == pytest.approx(tied.policy) and nearly.objective == pytest.approx(1.0, abs=1e-3)
    never = ko.optimum(np.array([0.5, 0.5, 0.0]), [0.0, 1.0, 9.0], 0.5)
    assert never.policy[2] == 0 and never.policy == pytest.approx([*ko.optimum(np.array([0.5, 0.5]), [0.0, 1.0], 0.5).policy, 0])
    assert ko.optimum(np.array([0.5, 0.5, 0.0]), [0.0, 1.0, 9.0], 0.0).policy == pytest.approx([0, 1, 0])
    equal = ko.optimum(REFERENCE, np.full(4, 2.0), 0.3)
    assert equal.policy == pytest.approx(REFERENCE) and equal.objective == pytest.approx(2.0) and equal.kl == pytest.approx(0, abs=1e-15)
    assert ko.optimum(np.array([1.0]), [3.0], 0.5).policy == pytest.approx([1.0])
    for beta in (1e-300, 1e300):
        assert np.isfinite(ko.optimum(REFERENCE, REWARDS, beta).policy).all()


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [math.nan, 1], [math.inf, 1]])
def test_a_bad_reference_is_explained(weights):
    with pytest.raises(ConfigError):
        ko.normalised(weights)


@pytest.mark.parametrize("beta", [-0.1, math.inf, math.nan])
def test_a_bad_beta_is_explained(beta):
    with pytest.raises(ConfigError):
        ko.optimum(REFERENCE, REWARDS, beta)


def test_the_frontiers_slope_is_beta():
    line = ko.frontier(REFERENCE, REWARDS, 400)
    assert (np.diff(line.rewards) >= -1e-12).all() and (np.diff(line.kls) >= -1e-12).all()
    middle = slice(50, 350)
    slope = np.gradient(line.rewards[middle]) / np.gradient(line.kls[middle])
    assert slope[1:-1] == pytest.approx(line.betas[middle][1:-1], rel=0.01)
    assert line.policies[0] == pytest.approx(REFERENCE) and line.policies[-1] == pytest.approx([0, 0, 0, 1])


def test_the_true_reward_is_largest_where_it_is_said_to_be():
    reference, measured, true = np.array([0.55, 0.42, 0.03]), np.array([0, 1, 1.3]), np.array([0, 1, -1.0])
    beta, most = ko.best_beta(reference, measured, true)
    betas = np.geomspace(0.01, 100, 20001)
    along = ko.policies(reference, measured, betas) @ true
    assert most == pytest.approx(along.max(), abs=1e-8) and beta == pytest.approx(betas[along.argmax()], rel=1e-3)
    assert most > max(reference @ true, -1.0) + 0.2
    assert ko.best_beta(reference, measured, measured) == (0.0, pytest.approx(1.3))
    assert ko.best_beta(reference, measured, -measured)[0] == math.inf


# ---------------------------------------------------------------- best of n


@pytest.mark.parametrize("rewards", [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_best_of_n_against_all_draws(rewards, n):
    """Every sequence of n draws; the first of the best is kept."""
    reference = np.array([0.5, 0.3, 0.2])
    counted = np.zeros(3)
    for drawn in itertools.product(range(3), repeat=n):
        counted[max(drawn, key=lambda y: rewards[y])] += reference[list(drawn)].prod()
    assert ko.best_of_n(reference, rewards, n) == pytest.approx(counted, abs=1e-12)


def test_the_bound_on_best_of_n_holds_and_is_near_for_many_answers():
    for reference, rewards, _beta in random_examples(40):
        for n in (1, 2, 8, 256):
            assert kl(ko.best_of_n(reference, rewards, n), reference) <= ko.best_of_n_bound(n) + EXACT
    many = np.full(5000, 1 / 5000)
    assert kl(ko.best_of_n(many, np.arange(5000), 8), many) == pytest.approx(ko.best_of_n_bound(8), abs=0.002)
    assert ko.best_of_n(np.array([0.5, 0.5, 0.0]), [0.0, 1.0, 9.0], 10**6) == pytest.approx([0, 1, 0])


# ---------------------------------------------------------------- DPO


def test_each_step_of_the_derivation_holds():
    for reference, rewards, beta in random_examples(60):
        found = dd.derive(reference, rewards, beta, (0, 1), 0.3)
        assert max(found.gaps) < EXACT
        assert found.margin == pytest.approx(0.3 * (rewards[0] - rewards[1]), abs=EXACT)
    small = dd.derive(REFERENCE, REWARDS, 0.01, (3, 0), 1.0)
    assert max(small.gaps) < EXACT and small.loss == pytest.approx(math.log1p(math.exp(-2.0)))


def test_a_constant_added_to_all_rewards_moves_z_alone():
    before, after = (dd.derive(REFERENCE, REWARDS + c, 0.5, (1, 0), 0.5) for c in (0.0, 3.0))
    assert after.best.log_z - before.best.log_z == pytest.approx(3.0 / 0.5)
    assert after.best.policy == pytest.approx(before.best.policy) and after.loss == pytest.approx(before.loss)


@BETAS
def test_expected_dpo_loss_against_the_loss_that_trains_models(beta):
    """All ordered pairs weighted by Bradley–Terry through ``rlhf.algorithms.dpo.dpo_loss`` and autograd: value and gradient."""
    logits = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    chosen, rejected = torch.tensor(list(itertools.permutations(range(4), 2))).T
    reference, rewards = torch.tensor(REFERENCE).log(), torch.tensor(REWARDS)
    logprobs = logits.log_softmax(0)
    weights = (rewards[chosen] - rewards[rejected]).sigmoid()
    loss, _stats = dpo_loss(logprobs[chosen], logprobs[rejected], reference[chosen], reference[rejected], beta, weights=weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    mine, slope = dd.expected_loss(logits.detach().numpy(), REFERENCE, REWARDS, beta)
    assert mine == pytest.approx(loss.item(), abs=EXACT) and slope == pytest.approx(gradient.numpy(), abs=EXACT)
    at_best = np.log(ko.optimum(REFERENCE, REWARDS, beta).policy)
    assert np.abs(dd.expected_loss(at_best, REFERENCE, REWARDS, beta)[1]).max() < 1e-12


def test_descent_on_a_pair_follows_the_loss_that_trains_models():
    """One step of ``descend`` is one step of autograd through softmax(Φθ) and ``dpo_loss``."""
    models = dd.draw_models(np.random.default_rng(3), 1, 5, 2)
    moved = dd.descend(models, 0.5, 0.7, 2)[:, 0]
    features, weights = torch.tensor(models.features[0]), torch.tensor(models.start[0])
    reference = (features @ weights).log_softmax(0)
    for _ in range(2):
        weights.requires_grad_()
        logprobs = (features @ weights).log_softmax(0)
        loss = dpo_loss(logprobs[:1], logprobs[1:2], reference[:1], reference[1:2], 0.5)[0]
        weights = (weights - 0.7 * torch.autograd.grad(loss, weights)[0]).detach()
    assert moved[-1] == pytest.approx((features @ weights).log_softmax(0).numpy(), abs=EXACT)


def test_the_loss_always_falls_in_one_of_three_ways():
    path = dd.descend(dd.draw_models(np.random.default_rng(0), 1000, 4, 2), 0.5, 1.0, 20)
    h = path - path[0]
    losses = dd.pair_loss(0.5 * (h[..., dd.CHOSEN] - h[..., dd.REJECTED]))
    assert (np.diff(losses, axis=0) < 0).all()
    counts = np.bincount(dd.ways(path), minlength=4)
    assert counts[dd.AGAINST] == 0 and (counts[:3] > 0).all()
    up = dd.clearest(path, dd.BOTH_UP)
    assert up is not None and (h[-1, up, :2] > 0).all()
    down = dd.clearest(path, dd.BOTH_DOWN)
    assert down is not None and (h[-1, down, :2] < 0).all() and np.exp(path[-1, down, 2:]).sum() > np.exp(path[0, down, 2:]).sum()


def test_without_shared_features_the_chosen_answer_always_rises():
    path = dd.descend(dd.draw_models(np.random.default_rng(0), 300, 4, 0), 0.5, 1.0, 20)
    assert (dd.ways(path) == dd.APART).all() and dd.clearest(path, dd.BOTH_UP) is None


# ---------------------------------------------------------------- training


@BETAS
@pytest.mark.parametrize("algorithm", ["reinforce", "ppo", "dpo"])
def test_training_ends_at_the_optimum(algorithm, beta):
    best = ko.optimum(REFERENCE, REWARDS, beta).policy
    path = et.train(algorithm, REFERENCE, REWARDS, et.Setup(beta, steps=300, rate=0.3))
    assert np.exp(path[0]) == pytest.approx(REFERENCE)
    assert np.abs(np.exp(path[-1]) - best).max() < EXACT
    apart = et.distances(path, best)
    assert apart[0] == pytest.approx(kl(REFERENCE, best)) and apart[-1] < 1e-20
    at = et.arrived(path, best, 1e-6)
    assert at is not None and np.abs(np.exp(path[at]) - best).max() <= 1e-6 < np.abs(np.exp(path[at - 1]) - best).max()


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_plain_gradients_end_there_too(algorithm):
    path = et.train(algorithm, REFERENCE, REWARDS, et.Setup(1.0, steps=400, rate=1.0, natural=False))
    assert np.abs(np.exp(path[-1]) - ko.optimum(REFERENCE, REWARDS, 1.0).policy).max() < 1e-6


def test_natural_reinforce_mixes_the_log_probabilities():
    """Its way is known: log π_t ∝ (1 − η)^t·log π_ref + (1 − (1 − η)^t)·log π*."""
    path = et.train("reinforce", REFERENCE, REWARDS, et.Setup(0.5, steps=7, rate=0.2))
    left = 0.8**7
    wanted = log_softmax(left * np.log(REFERENCE) + (1 - left) * np.log(ko.optimum(REFERENCE, REWARDS, 0.5).policy))
    assert path[-1] == pytest.approx(wanted, abs=EXACT)


def test_reinforces_step_is_the_gradient():
    """A plain step against finite differences of J."""
    setup = et.Setup(0.5, steps=1, rate=1e-6, natural=False)
    moved = np.diff(et.train("reinforce", REFERENCE, REWARDS, setup), axis=0)[0]
    start, step = np.log(REFERENCE), 1e-6
    slope = [
        (ko.objective(softmax(start + e), REFERENCE, REWARDS, 0.5) - ko.objective(softmax(start - e), REFERENCE, REWARDS, 0.5)) / (2 * step)
        for e in step * np.eye(4)
    ]
    wanted = log_softmax(start + 1e-6 * 2 / (0.5 + np.ptp(REWARDS)) * np.array(slope)) - start
    assert moved == pytest.approx(wanted, abs=1e-14)


@BETAS
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
def test_grpo_ends_at_its_own_closed_form(beta, scaled, corrected):
    path = et.train("grpo", REFERENCE, REWARDS, et.Setup(beta, steps=1000, rate=0.5, scaled=scaled, corrected=corrected))
    end, best = np.exp(path[-1]), ko.optimum(REFERENCE, REWARDS, beta).policy
    price = beta * et.spread(end, REWARDS) if scaled else beta
    assert np.abs(end - et.grpo_end(REFERENCE, REWARDS, price, corrected)).max() < 1e-6
    elsewhere = np.abs(end - best).max()
    if corrected and not scaled:
        assert elsewhere < EXACT
    elif beta > 0.05:
        assert elsewhere > 1e-3


@BETAS
def test_grpos_end_is_where_its_gradient_vanishes(beta):
    end = et.grpo_end(REFERENCE, REWARDS, beta, corrected=False)
    assert np.abs(end * (REWARDS - end @ REWARDS) - beta * (end - REFERENCE)).max() < EXACT


@pytest.mark.parametrize(
    ("reference", "rewards", "beta", "rate", "clip"),
    [((0.41, 0.59), (1.9, 2.0), 5.0, 1.0, 0.2), ((0.72, 0.28), (0.3, 0.5), 1.0, 1.0, 0.05), ((0.2, 0.8), (-1.0, 1.0), 2.0, 1.0, 0.5)],
)
def test_ppos_plain_steps_do_not_overshoot(reference, rewards, beta, rate, clip):
    reference, rewards = np.array(reference), np.array(rewards)
    path = et.train("ppo", reference, rewards, et.Setup(beta, 600, rate, natural=False, clip=clip))
    assert np.abs(np.exp(path[-1]) - ko.optimum(reference, rewards, beta).policy).max() < 1e-6


def test_going_to_and_fro_is_told_from_being_slow():
    slow, cycle = 0.5 + 0.4 * 0.999 ** np.arange(400), 0.5 + 0.1 * (-1.0) ** np.arange(400)
    assert [et.swings(np.log(np.stack([p, 1 - p], 1))) for p in (slow, cycle)] == [False, True]


def test_an_answer_that_is_never_written_is_never_learned():
    reference = np.array([0.5, 0.3, 0.2, 0.0])
    for algorithm in et.ALGORITHMS:
        path = et.train(algorithm, reference, REWARDS, et.Setup(0.5, steps=20))
        assert (np.exp(path[:, 3]) == 0).all() and np.exp(path).sum(1) == pytest.approx(1)
    only = np.array([0.0, 1.0, 0.0, 0.0])
    assert all(np.exp(et.train(a, only, REWARDS, et.Setup(0.5, steps=3))[-1]) == pytest.approx(only) for a in et.ALGORITHMS)


def test_equal_rewards_teach_nothing_and_beta_0_is_explained():
    for algorithm in et.ALGORITHMS:
        path = et.train(algorithm, REFERENCE, np.ones(4), et.Setup(0.5, steps=5))
        assert np.exp(path[-1]) == pytest.approx(REFERENCE)
    with pytest.raises(ConfigError, match="no optimum"):
        et.train("dpo", REFERENCE, REWARDS, et.Setup(0.0))


# ---------------------------------------------------------------- KL and its estimators


def test_estimates_are_those_of_the_engine():
    rng = np.random.default_rng(0)
    logprobs, reference = np.log(rng.dirichlet(np.ones(9))), np.log(rng.dirichlet(np.ones(9)))
    mine = ke.estimates(logprobs, reference)
    for name in ke.NAMES:
        theirs = kl_estimate(torch.tensor(logprobs), torch.tensor(reference), name).numpy()
        assert mine[name] == pytest.approx(theirs, abs=EXACT)


@pytest.mark.parametrize(("mean", "width"), [(1.0, 1.0), (0.3, 0.8), (-0.5, 1.2)])
def test_kl_of_bells_is_that_of_normal_distributions(mean, width):
    """KL(N(μ, σ)‖N(0, 1)) = −log σ + (σ² + μ² − 1)/2, but for the cut at ±5."""
    assert ke.exact_kl(ke.bell(mean, width), ke.bell(0, 1)) == pytest.approx(-math.log(width) + (width**2 + mean**2 - 1) / 2, abs=2e-3)


def test_bias_and_deviation_are_exact():
    """By Schulman's example N(1, 1) against N(0, 1): KL ½, k1's deviation 1, k2 0.625 ± √3/2, k3's variance e − 2; then by samples."""
    policy, reference = ke.bell(1, 1), ke.bell(0, 1)
    exact = ke.exact_moments(policy, reference)
    assert exact["k1"].bias == pytest.approx(0, abs=1e-12) and exact["k3"].bias == pytest.approx(0, abs=1e-12)
    assert exact["k1"].deviation == pytest.approx(1, abs=1e-3) and exact["k1"].negative == pytest.approx(
        0.5 * math.erfc(0.5 / math.sqrt(2)), abs=0.01
    )
    assert exact["k2"].bias == pytest.approx(0.125, abs=1e-3) and exact["k2"].deviation == pytest.approx(math.sqrt(3) / 2, abs=2e-3)
    assert exact["k3"].deviation == pytest.approx(math.sqrt(math.e - 2), abs=2e-3)
    measured = ke.measured_moments(policy, reference, ke.draw(policy, 20000, np.random.default_rng(0)))
    for name in ke.NAMES:
        assert measured[name].mean == pytest.approx(exact[name].mean, abs=4 * exact[name].deviation / math.sqrt(20000))
        assert (exact[name].negative == 0) == (name != "k1")


def test_k3_has_a_heavy_tail_and_then_a_bias_where_supports_differ():
    narrow = ke.exact_moments(ke.bell(0, 0.4), ke.bell(0, 1))
    assert narrow["k3"].bias == pytest.approx(0, abs=1e-9) and narrow["k3"].deviation > 1e6 > 1 > narrow["k1"].deviation
    with np.errstate(divide="ignore"):
        half = np.log(np.array([1.0, 0.0])), np.log(np.array([0.5, 0.5]))
    moments = ke.exact_moments(*half)
    assert moments["k1"].mean == pytest.approx(math.log(2)) and moments["k3"].bias == pytest.approx(-0.5)  # the mass that π never sees
    assert ke.exact_kl(half[1], half[0]) == math.inf and ke.exact_moments(half[1], half[0])["k1"].mean == math.inf


def test_forward_kl_covers_and_reverse_kl_seeks_a_mode():
    target = ke.two_bells(4, 0.6, 0.6, ke.WIDE)
    fit = ke.fit_bell(target, 0.6)
    assert fit.best_reverse == pytest.approx(-2, abs=0.01)
    fine = np.linspace(-2.2, -1.8, 401)
    brute = [float(kl(np.exp(ke.bell(m, 0.6, ke.WIDE)), np.exp(target))) for m in fine]
    assert fine[int(np.argmin(brute))] == pytest.approx(fit.best_reverse, abs=1e-3)
    assert fit.reverse.min() == pytest.approx(min(brute), abs=1e-4)
    one = ke.fit_bell(ke.two_bells(4, 1.0, 0.6, ke.WIDE), 0.6)
    assert one.best_forward == pytest.approx(-2, abs=1e-3) and one.best_reverse == pytest.approx(-2, abs=1e-3)


@pytest.mark.parametrize("width", [0.4, 0.8, 2.5])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("apart", [0.0, 2.0, 6.0])
def test_at_every_setting_forward_kl_stands_at_the_mean_and_reverse_kl_between_the_bumps(apart, share, width):
    target = ke.two_bells(apart, share, 0.6, ke.WIDE)
    fit = ke.fit_bell(target, width)
    assert fit.best_forward == pytest.approx((0.5 - share) * apart, abs=1e-3)
    assert float(np.exp(target) @ ke.WIDE) == pytest.approx((0.5 - share) * apart, abs=1e-9)
    assert abs(fit.best_reverse) <= apart / 2 + 1e-3
