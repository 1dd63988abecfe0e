"""rlhf.ops and rlhf.advantages against torch, TRL, exact expectations and sums written out, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from rlhf import advantages, ops

pytestmark = pytest.mark.parity
F64 = torch.float64


def rand(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) * scale


def lengths_mask(lengths: list[int], width: int) -> torch.Tensor:
    """(N, T) bool, True on the first ``lengths[i]`` tokens of row i."""
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


# ---------------------------------------------------------------- log-probabilities and entropy


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
def test_token_logprobs_values_and_gradients(temperature):
    ids = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(1))
    ours, theirs = (rand(3, 5, 11, scale=3).requires_grad_() for _ in range(2))
    value = ops.token_logprobs(ours, ids, temperature)
    expected = (theirs / temperature).log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    assert value.shape == (3, 5) and value.dtype == F64
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(value, selective_log_softmax(theirs / temperature, ids), rtol=1e-12, atol=1e-12)
    weights = rand(3, 5, seed=2)
    (value * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_token_logprobs_survive_extreme_logits():
    logits = torch.tensor([[[1e4, -1e4, 0.0]]], dtype=F64)
    assert ops.token_logprobs(logits, torch.tensor([[0]])).item() == 0.0
    assert ops.token_logprobs(logits, torch.tensor([[1]])).item() == -2e4


def test_entropy_is_categorical_entropy():
    logits = rand(2, 4, 9, scale=4).requires_grad_()
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(ops.entropy(logits), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ops.entropy(logits), entropy_from_logits(logits), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(ops.entropy(logits).sum(), logits)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- KL


def test_kl_estimates_by_hand():
    """log π = ln 0.5, log π_ref = ln 0.25: d = ln 2; k1 = 0.6931, k2 = 0.2402, k3 = e^(−ln 2) − 1 + ln 2 = 0.1931."""
    policy, reference = torch.tensor([math.log(0.5)], dtype=F64), torch.tensor([math.log(0.25)], dtype=F64)
    d = math.log(2)
    for estimator, expected in {"k1": d, "k2": d * d / 2, "k3": 0.5 - 1 + d}.items():
        assert ops.kl_estimate(policy, reference, estimator).item() == pytest.approx(expected, abs=1e-14)


def test_k1_and_k3_are_unbiased_and_k3_is_never_negative():
    """Weighted with π over the whole vocabulary, both give the KL of torch.distributions exactly."""
    p, q = (torch.distributions.Categorical(logits=rand(17, seed=s)) for s in (3, 4))
    exact = torch.distributions.kl_divergence(p, q)
    for estimator in ("k1", "k3"):
        expectation = (p.probs * ops.kl_estimate(p.logits, q.logits, estimator)).sum()
        torch.testing.assert_close(expectation, exact, rtol=1e-10, atol=1e-12)
    assert (ops.kl_estimate(p.logits, q.logits, "k3") >= 0).all()


def test_kl_gradients():
    """Per token: k1′ = 1, k2′ = d, k3′ = 1 − e^(−d). (The gradients differ although the values estimate the same thing.)"""
    d = rand(8)
    for estimator, expected in {"k1": torch.ones_like(d), "k2": d, "k3": 1 - torch.exp(-d)}.items():
        logprobs = d.clone().requires_grad_()
        ops.kl_estimate(logprobs, torch.zeros_like(d), estimator).sum().backward()
        torch.testing.assert_close(logprobs.grad, expected, rtol=1e-10, atol=1e-12)


def test_unknown_kl_estimator_is_refused():
    with pytest.raises(ValueError, match="k4"):
        ops.kl_estimate(rand(1), rand(1), "k4")


# ---------------------------------------------------------------- masked mean, whitening


def test_masked_mean_equals_the_mean_of_what_is_kept():
    values, mask = rand(4, 6), lengths_mask([6, 3, 1, 4], 6)
    torch.testing.assert_close(ops.masked_mean(values, mask), values[mask].mean(), rtol=1e-12, atol=1e-12)
    by_row = torch.stack([row[keep].mean() for row, keep in zip(values, mask, strict=True)])
    torch.testing.assert_close(ops.masked_mean(values, mask, dim=1), by_row, rtol=1e-12, atol=1e-12)


def test_masked_mean_never_sees_padding():
    mask = lengths_mask([2, 3], 4)
    values = rand(2, 4)
    spoiled = torch.where(mask, values, torch.nan)
    assert torch.equal(ops.masked_mean(spoiled, mask), ops.masked_mean(values, mask))
    values = spoiled.clone().requires_grad_()
    ops.masked_mean(values, mask).backward()
    expected = mask.to(F64) / mask.sum()
    torch.testing.assert_close(values.grad, expected)


def test_whiten_uses_the_unbiased_variance():
    values, mask = rand(3, 7, scale=5) + 2, lengths_mask([7, 2, 5], 7)
    white = ops.whiten(values, mask)[mask]
    kept = values[mask]
    torch.testing.assert_close(white, (kept - kept.mean()) / (kept.var(unbiased=True) + 1e-8).sqrt(), rtol=1e-10, atol=1e-10)
    assert white.mean().abs() < 1e-12 and white.std(unbiased=True).item() == pytest.approx(1, abs=1e-6)


def test_whiten_can_keep_the_mean():
    """``shift_mean=False`` puts the mean of the *unscaled* values back, as TRL's PPO did for its rewards."""
    values, mask = rand(2, 5) * 3 - 1, lengths_mask([5, 4], 5)
    kept = values[mask]
    expected = (kept - kept.mean()) / (kept.var(unbiased=True) + 1e-8).sqrt() + kept.mean()
    torch.testing.assert_close(ops.whiten(values, mask, shift_mean=False)[mask], expected, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- advantages


def gae_by_definition(rewards, values, mask, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l}, summed forwards for each token of each row (eq. 16), nothing carried over from step to step."""
    rows, width = rewards.shape
    out = torch.zeros(rows, width, dtype=F64)
    for n in range(rows):
        length = int(mask[n].sum())
        v = [*values[n, :length].tolist(), 0.0]
        delta = [rewards[n, t].item() + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            out[n, t] = sum((gamma * lam) ** k * delta[t + k] for k in range(length - t))
    return out


def test_gae_by_hand():
    """γ = 0.9, λ = 0.5; rewards (1, 0, 2), values (0.5, 1, 1.5).

    δ₃ = 2 − 1.5 = 0.5; δ₂ = 0 + 0.9·1.5 − 1 = 0.35; δ₁ = 1 + 0.9·1 − 0.5 = 1.4.
    A₃ = 0.5; A₂ = 0.35 + 0.45·0.5 = 0.575; A₁ = 1.4 + 0.45·0.575 = 1.65875. Returns = A + V.
    """
    rewards, values = torch.tensor([[1.0, 0.0, 2.0]], dtype=F64), torch.tensor([[0.5, 1.0, 1.5]], dtype=F64)
    adv, returns = advantages.gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.9, 0.5)
    expected = torch.tensor([[1.65875, 0.575, 0.5]], dtype=F64)
    torch.testing.assert_close(adv, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(returns, expected + values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 0.97])
@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_gae_equals_its_definition(gamma, lam):
    mask = lengths_mask([6, 1, 4, 3], 6)
    rewards, values = rand(4, 6, seed=5), rand(4, 6, seed=6)
    adv, returns = advantages.gae(rewards, values, mask, gamma, lam)
    expected = gae_by_definition(rewards, values, mask, gamma, lam)
    torch.testing.assert_close(adv, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(returns[mask], (expected + values)[mask], rtol=1e-12, atol=1e-12)
    assert adv.dtype == F64 and (adv[~mask] == 0).all() and (returns[~mask] == 0).all()


def test_gae_with_lambda_1_is_the_return_and_with_lambda_0_the_td_error():
    mask = lengths_mask([5, 3], 5)
    rewards, values = rand(2, 5, seed=7) * mask, rand(2, 5, seed=8) * mask
    to_go = rewards.flip(1).cumsum(1).flip(1)
    adv, returns = advantages.gae(rewards, values, mask, 1.0, 1.0)
    torch.testing.assert_close(returns, to_go * mask, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(adv, (to_go - values) * mask, rtol=1e-12, atol=1e-12)
    following = torch.cat([values[:, 1:], torch.zeros(2, 1, dtype=F64)], 1)
    td, _ = advantages.gae(rewards, values, mask, 0.9, 0.0)
    torch.testing.assert_close(td, (rewards + 0.9 * following - values) * mask, rtol=1e-12, atol=1e-12)


def test_gae_ignores_what_lies_in_the_padding():
    mask = lengths_mask([2, 4], 4)
    rewards, values = rand(2, 4, seed=9), rand(2, 4, seed=10)
    clean = advantages.gae(rewards * mask, values * mask, mask, 0.99, 0.9)
    spoiled = advantages.gae(rewards.masked_fill(~mask, torch.nan), values.masked_fill(~mask, 1e9), mask, 0.99, 0.9)
    for a, b in zip(clean, spoiled, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_group_relative_by_hand():
    """Group (1, 2, 3, 6): mean 3, unbiased variance (4 + 1 + 0 + 9)/3 = 14/3. Group (5, 5, 5, 5): all 0."""
    rewards = torch.tensor([1.0, 2, 3, 6, 5, 5, 5, 5], dtype=F64)
    centred = torch.tensor([-2.0, -1, 0, 3, 0, 0, 0, 0], dtype=F64)
    torch.testing.assert_close(advantages.group_relative(rewards, 4, "none"), centred, rtol=0, atol=1e-14)
    expected = centred / (math.sqrt(14 / 3) + 1e-4)
    torch.testing.assert_close(advantages.group_relative(rewards, 4, "group"), expected, rtol=0, atol=1e-14)
    expected = centred / (rewards.std(unbiased=True) + 1e-4)
    torch.testing.assert_close(advantages.group_relative(rewards, 4, "batch"), expected, rtol=0, atol=1e-14)


def test_group_relative_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="groups of 4"):
        advantages.group_relative(rand(6), 4, "group")


def test_leave_one_out_by_hand():
    """(1, 2, 6): 1 − (2 + 6)/2 = −3; 2 − (1 + 6)/2 = −1.5; 6 − (1 + 2)/2 = 4.5."""
    out = advantages.leave_one_out(torch.tensor([1.0, 2, 6, 0, 0, 3], dtype=F64), 3)
    torch.testing.assert_close(out, torch.tensor([-3.0, -1.5, 4.5, -1.5, -1.5, 3.0], dtype=F64), rtol=0, atol=1e-14)
