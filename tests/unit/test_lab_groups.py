"""Lab 7: group advantages against the trainer's, and closed forms against enumeration, sampling and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rlhf import advantages as trained
from rlhf.algorithms import grpo
from rlhf.labs import group_advantages as ga

REWARDS, OTHERS = [1.0, 0.2, -0.5, 0.2, 2.0], [0.0, 1.0, 1.0, -1.0, 0.3]


def test_equals_what_training_uses():
    both = torch.tensor([*REWARDS, *OTHERS], dtype=torch.float64)
    assert ga.advantages(REWARDS, "grpo", OTHERS) == pytest.approx(trained.group_relative(both, 5, "group")[:5].numpy(), abs=1e-12)
    assert ga.advantages(REWARDS, "dr_grpo", OTHERS) == pytest.approx(trained.group_relative(both, 5, "none")[:5].numpy(), abs=1e-12)
    assert ga.advantages(REWARDS, "batch", OTHERS) == pytest.approx(trained.group_relative(both, 5, "batch")[:5].numpy(), abs=1e-12)
    assert ga.advantages(REWARDS, "rloo") == pytest.approx(trained.leave_one_out(both, 5)[:5].numpy(), abs=1e-12)
    assert ga.advantages(REWARDS, "rloo") == pytest.approx(5 / 4 * ga.advantages(REWARDS, "dr_grpo"), abs=1e-12)


def test_by_hand_and_the_bounds():
    """(1, 0): mean ½, std 1/√2, so ± 0.707 by whatever margin; one of G far out: (G − 1)/√G."""
    assert ga.advantages([1.0, 0.0], "grpo") == pytest.approx([2**-0.5, -(2**-0.5)], rel=1e-3)
    assert ga.advantages([0.5, 0.0], "dr_grpo") == pytest.approx([0.25, -0.25])
    assert ga.advantages([100.0] + [0.0] * 15, "grpo")[0] == pytest.approx(15 / 4, rel=1e-4)
    for method in ("grpo", "dr_grpo", "rloo", "batch"):
        assert not ga.advantages([0.5] * 4, method, [0.0, 1.0]).any()
    with pytest.raises(ValueError, match="two"):
        ga.advantages([1.0], "grpo")


@pytest.mark.parametrize(("mean", "variant"), [("grpo", "grpo"), ("dr_grpo", "dr_grpo"), ("dapo", "dapo")])
def test_token_weights_are_the_gradients_of_the_trainers_loss(mean, variant):
    """At ratio 1 the gradient of the loss by a token's log-probability is −weight·Â."""
    lengths, longest = [3, 8, 1], 8
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    logprobs = torch.full((3, longest), -1.0, dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64)
    loss = grpo.grpo_loss(
        logprobs, logprobs.detach(), None, advantages, mask, 0.0, variant=variant, max_completion_length=longest
    )  # fmt: skip
    (loss[0] if isinstance(loss, tuple) else loss).backward()
    assert logprobs.grad is not None
    expected = ga.token_weights(lengths, mean, longest) * advantages.numpy()
    assert logprobs.grad[:, 0].numpy() == pytest.approx(-expected, abs=1e-12)


def test_signals_by_writing_out_every_group():
    """p = 0.3, G = 4: all 16 outcomes with their chances."""
    p, size = 0.3, 4
    groups = [np.array(one, float) for one in itertools.product([0, 1], repeat=size)]
    chances = [p ** one.sum() * (1 - p) ** (size - one.sum()) for one in groups]
    for method in ("grpo", "dr_grpo", "rloo"):
        expected = sum(c * np.abs(ga.advantages(one, method)).mean() for c, one in zip(chances, groups, strict=True))
        assert float(ga.signal(p, size, method)) == pytest.approx(expected)
    nothing = sum(c for c, one in zip(chances, groups, strict=True) if one.std() == 0)
    assert float(ga.no_signal(p, size)) == pytest.approx(nothing) == pytest.approx(0.3**4 + 0.7**4)
    for baseline in ("none", "exact", "rloo", "dr_grpo", "grpo"):
        found = [
            (
                ({"none": one, "exact": one - p}[baseline] if baseline in ("none", "exact") else ga.advantages(one, baseline)) * (one - p)
            ).mean()
            for one in groups
        ]
        mean = np.dot(chances, found)
        assert ga.gradient_moments(p, size, baseline) == pytest.approx((mean, np.dot(chances, (found - mean) ** 2)))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("size", [2, 5, 64])
def test_closed_forms_equal_the_enumeration(p, size):
    assert ga.counts(p, size).sum() == pytest.approx(1)
    share = np.arange(size + 1) / size
    assert ga.baseline_error(p, size) ** 2 == pytest.approx(ga.counts(p, size) @ (share - p) ** 2, abs=1e-14)
    for baseline in ("none", "exact", "rloo"):
        mean, variance = ga.gradient_moments(p, size, baseline)
        assert mean == pytest.approx(p * (1 - p), abs=1e-13) and variance == pytest.approx(
            ga.gradient_variance(p, size, baseline), abs=1e-13
        )
    assert ga.gradient_moments(p, size, "dr_grpo")[0] == pytest.approx(p * (1 - p) * (size - 1) / size, abs=1e-13)


def test_large_groups_reach_the_limits():
    p = np.array([0.05, 0.3, 0.5])
    assert ga.signal(p, 1000, "grpo") == pytest.approx(2 * np.sqrt(p * (1 - p)), rel=0.02)
    assert ga.signal(p, 1000, "dr_grpo") == pytest.approx(2 * p * (1 - p), rel=0.02)


def test_equal_rewards_give_exactly_nothing():
    """The mean of six times 0.7 rounds to something else, and 1e-16 over 1e-4 is not 0."""
    equal = np.full(6, 0.7)
    assert equal.std() > 0 and ga.deviation(equal) == 0
    for method in ("grpo", "dr_grpo", "rloo", "batch"):
        assert not ga.advantages(equal, method, equal).any()


def test_dividing_by_the_deviation_lifts_hard_and_easy_prompts_only_from_four_answers_on():
    """One right of G is divided by 1/√G, so √G is the most; two or three answers have no other group with a signal."""
    p = np.array([0.0, 0.01, 0.05, 0.3, 0.5, 0.95, 1.0])
    assert np.isnan(ga.scaling(p, 6)[[0, -1]]).all()
    for size in (2, 3):
        assert ga.scaling(p[1:-1], size) == pytest.approx(size**0.5, rel=1e-3)
    for size in (4, 6, 16):
        factor = ga.scaling(p[1:5], size)
        assert np.all(np.diff(factor) < 0) and factor[0] < size**0.5
        assert float(ga.scaling(0.05, size)) == pytest.approx(float(ga.scaling(0.95, size)))
    assert float(ga.scaling(0.05, 6)) == pytest.approx(2.35, abs=0.005)
    assert ga.scaling(p[2:5], 1000) == pytest.approx(1 / np.sqrt(p * (1 - p))[2:5], rel=0.02)
    assert ga.signal(p, 6, "rloo") == pytest.approx(2 * p * (1 - p)) and ga.signal(p, 6, "dr_grpo") == pytest.approx(5 / 3 * p * (1 - p))


def test_sampled_groups_agree():
    found = ga.measure(0.3, [2, 8], 20_000, np.random.default_rng(0))
    assert np.isin(found[8], (0, 8)).mean() == pytest.approx(float(ga.no_signal(0.3, 8)), abs=0.01)
    assert (found[8] / 8).std() == pytest.approx(ga.baseline_error(0.3, 8), rel=0.03)
    for baseline in ("none", "exact", "rloo", "grpo"):
        drawn = ga.estimates(0.3, 8, baseline)[found[8]]
        mean, variance = ga.gradient_moments(0.3, 8, baseline)
        assert abs(drawn.mean() - mean) < 4.5 * (variance / 20_000) ** 0.5 and drawn.var() == pytest.approx(variance, rel=0.06)


def test_length_slope_is_a_finite_difference():
    n, h = np.arange(1, 6000), 1e-5

    def mean_inverse(theta: float) -> float:
        s = 1 / (1 + np.exp(-theta))
        return float((s * (1 - s) ** (n - 1) / n).sum())

    theta = np.array([0.5, -3.0])
    expected = [(mean_inverse(t + h) - mean_inverse(t - h)) / (2 * h) for t in theta]
    assert ga._inverse_length_slope(theta) == pytest.approx(expected, rel=1e-6)


def test_push_of_the_group_total_is_that_of_sampled_answers():
    """E[Â·∂log P(n)/∂θ / Σn] over right and wrong answers, by sampling."""
    rng, p, size, groups = np.random.default_rng(0), 0.4, 4, 200_000
    theta = np.array([-2.0, -3.0])
    s = 1 / (1 + np.exp(-theta))
    right = rng.random((groups, size)) < p
    stop = np.where(right, s[0], s[1])
    lengths = rng.geometric(stop)
    rewards = right.astype(float)
    advantages = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + ga.EPSILON)
    pull = advantages * (1 - stop - (lengths - 1) * stop) / lengths.sum(1, keepdims=True)
    found = ga._inverse_total_push(theta, ga.counts(p, size), *ga._right_and_wrong(size, "grpo"))
    for i, which in enumerate((right, ~right)):
        sampled = (pull * which).sum(1)
        assert abs(sampled.mean() - found[i]) < 4 * sampled.std() / groups**0.5


def test_lengths_drift_only_where_length_weighs():
    drift = {mean: ga.length_drift(0.3, 6, 20, mean, 50, 1.0) for mean in ("grpo", "dapo", "dr_grpo")}
    assert drift["dr_grpo"].right == pytest.approx(20) and drift["dr_grpo"].wrong == pytest.approx(20)
    for mean, p, size, start, rate in itertools.product(("grpo", "dapo"), (0.05, 0.5, 0.95), (2, 16), (5, 60), (0.1, 2)):
        far = ga.length_drift(p, size, start, mean, 20, rate)
        assert np.all(np.diff(far.wrong) > 0) and np.all(np.diff(far.right) < 0)
    assert drift["dapo"].wrong[-1] < drift["grpo"].wrong[-1]
    for p in (0.0, 1.0):
        assert ga.length_drift(p, 6, 20, "grpo", 5, 2.0).wrong == pytest.approx(20)
    far = ga.length_drift(0.5, 16, 5, "grpo", 3000, 2.0)
    assert far.wrong.max() <= 500 + 1e-9 and far.right.min() >= 1.01 - 1e-9
