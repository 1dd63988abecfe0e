"""The losses push where they should; the arithmetic of each expectation is in the test. Parity with TRL: tests/parity."""

import math

import pytest
import torch

from rlhf.algorithms.dpo import dpo_loss
from rlhf.algorithms.grpo import grpo_loss
from rlhf.algorithms.ppo import explained_variance, policy_loss, token_rewards, value_loss

MASK = torch.tensor([[True, True, False], [True, True, True]])


def leaf(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_grpo_raises_good_and_lowers_bad_tokens_and_nothing_else():
    logprobs = leaf(2, 3)
    loss, _ = grpo_loss(logprobs, logprobs.detach(), None, torch.tensor([1.0, -1.0]).double(), MASK, beta=0.0)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    # ratio 1: the gradient of −ρ·A by log π is −A; mean over the row's tokens, then over the two rows
    assert gradient.tolist() == [[-1 / 4, -1 / 4, 0], [pytest.approx(1 / 6)] * 3]
    assert loss.item() == pytest.approx(0)  # looks broken and is not: advantages sum to 0


def test_grpo_clip_cuts_the_gradient_only_on_the_side_of_the_push():
    old = torch.zeros(1, 4, dtype=torch.float64)
    logprobs = torch.tensor([[1.3, 1.3, 0.7, 0.7]], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    loss, stats = grpo_loss(logprobs, old, None, advantages, torch.ones(1, 4).bool(), 0.0, 0.2, 0.2)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert (gradient[0] != 0).tolist() == [False, True, True, False]
    assert stats["clip_ratio/region_mean"].item() == 0.5
    # min(1.3·1, 1.2·1) = 1.2; min(−1.3, −1.2) = −1.3; min(.7, .8) = .7; min(−.7, −.8) = −.8; minus their mean
    assert loss.item() == pytest.approx(-(1.2 - 1.3 + 0.7 - 0.8) / 4)


def test_grpo_kl_pulls_towards_the_reference():
    logprobs, reference = leaf(2, 3), leaf(2, 3, seed=1).detach()
    loss, stats = grpo_loss(logprobs, logprobs.detach(), reference, torch.zeros(2).double(), MASK, beta=0.5)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    d = (logprobs - reference).detach()
    assert (gradient.sign() == d.sign())[MASK].all()  # d k3 / d log π = 1 − e^(−d), of d's sign
    assert stats["loss/kl"].item() == pytest.approx(loss.item())
    with pytest.raises(ValueError, match="ref_logprobs"):
        grpo_loss(logprobs, logprobs, None, torch.zeros(2), MASK, beta=0.5)
    with pytest.raises(ValueError, match="variant"):
        grpo_loss(logprobs, logprobs, None, torch.zeros(2), MASK, beta=0.0, variant="nope")


def test_dpo_by_hand():
    """β = 0.1, log-ratios +2 and −3: margin 0.5, loss −log σ(0.5) = 0.4741; gradient by log π(chosen) −β·σ(−0.5) = −0.03775."""
    chosen, rejected = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (-10.0, -15.0))
    loss, stats = dpo_loss(chosen, rejected, torch.tensor([-12.0]).double(), torch.tensor([-12.0]).double(), beta=0.1)
    gradients = torch.autograd.grad(loss, (chosen, rejected))
    assert loss.item() == pytest.approx(0.474077, abs=1e-6)
    assert [g.item() for g in gradients] == pytest.approx([-0.0377541, 0.0377541], abs=1e-6)
    assert stats["rewards/margins"].item() == pytest.approx(0.5)
    assert stats["rewards/accuracies"].item() == 1
    smoothed, _ = dpo_loss(chosen, rejected, torch.tensor([-12.0]).double(), torch.tensor([-12.0]).double(), 0.1, label_smoothing=0.25)
    assert smoothed.item() == pytest.approx(0.75 * 0.474077 + 0.25 * 0.974077, abs=1e-6)


def test_dpo_ties_are_half_right_and_start_at_log_2():
    same = torch.zeros(4, dtype=torch.float64)
    loss, stats = dpo_loss(same, same, same, same, beta=0.1)
    assert loss.item() == pytest.approx(math.log(2)) and stats["rewards/accuracies"].item() == 0.5


def test_ppo_value_loss_takes_the_worse_of_plain_and_clipped():
    """V = 1, V_old = 0, clip 0.2 → clipped 0.2; return 0.5: plain .25, clipped .09 → .25/2. Return −1: 4 and 1.44 → 4/2."""
    values = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    loss, _ = value_loss(values, torch.zeros(1, 2).double(), torch.tensor([[0.5, -1.0]]).double(), torch.ones(1, 2).bool(), 0.2)
    assert loss.item() == pytest.approx((0.25 + 4) / 2 / 2)


def test_ppo_policy_loss_averages_over_tokens_not_rows():
    logprobs = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    loss, _ = policy_loss(logprobs, logprobs.detach(), torch.ones(2, 3).double(), MASK, 0.2)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient[MASK].tolist() == pytest.approx([-1 / 5] * 5) and gradient[~MASK].eq(0).all()


def test_ppo_reward_lands_on_the_last_token_and_kl_on_each():
    logprobs, reference = torch.tensor([[-1.0, -1.0, -9.0]] * 2), torch.tensor([[-2.0, -1.0, -1.0]] * 2)
    rewards = token_rewards(torch.tensor([1.0, 2.0]), logprobs, reference, MASK, beta=0.1)
    # k1 = log π − log π_ref = 1, 0, −8; the first row ends at its second token
    assert torch.allclose(rewards, torch.tensor([[-0.1, 1.0, 0.0], [-0.1, 0.0, 2.8]]))


def test_explained_variance_by_hand():
    returns = torch.tensor([[1.0, 2.0, 3.0]])
    mask = torch.ones(1, 3).bool()
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(torch.full((1, 3), 2.0), returns, mask) == 0
    assert explained_variance(-returns, returns, mask) == -3  # errors 2, 4, 6: variance 4 over 1
    assert explained_variance(returns, torch.ones(1, 3), mask) == 0
