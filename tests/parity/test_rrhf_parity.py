"""RRHF's loss against a second implementation written from the paper (TRL has none), pair by pair in float64, and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pages.components.formula_rrhf import ranked
from rlhf.algorithms.rrhf import rank_accuracy, rrhf_loss, token_push
from rlhf.config import RRHFConfig

pytestmark = pytest.mark.parity
F64 = torch.float64
LENGTHS = [5, 2, 6, 1, 3, 6, 4, 4]
MASK = torch.arange(6)[None] < torch.tensor(LENGTHS)[:, None]
REWARDS = torch.tensor([0.3, -1.0, 0.3, 2.0, 0.0, 0.0, 1.0, -0.5], dtype=F64)  # two prompts of four answers, with ties


def logprobs(seed: int = 0) -> torch.Tensor:
    return -3 * torch.rand(8, 6, generator=torch.Generator().manual_seed(seed), dtype=F64)


def from_the_paper(rows: torch.Tensor, rewards: list[float], lengths: list[int], sft_weight: float, variant: str, reduction: str):
    """Eqs. 1–4 of arXiv 2304.05302 for one prompt, with loops over answers and tokens."""
    totals = []
    for row, length in zip(rows, lengths, strict=True):
        total = torch.zeros((), dtype=F64)
        for t in range(length):
            total = total + row[t]
        totals.append(total)
    p = [total / length for total, length in zip(totals, lengths, strict=True)]
    rank = torch.zeros((), dtype=F64)
    for i in range(len(p)):
        for j in range(len(p)):
            if rewards[i] < rewards[j] and p[i] > p[j]:
                rank = rank + (p[i] - p[j])
    best = max(range(len(rewards)), key=lambda i: rewards[i])
    ft = -(totals[best] if reduction == "sum" else p[best])
    return ft if variant == "best_of_n" else rank + sft_weight * ft


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("variant", "sft_weight"), [("rrhf", 1.0), ("rrhf", 0.0), ("rrhf", 0.3), ("best_of_n", 1.0)])
def test_loss_and_gradient_equal_the_paper_s(variant, sft_weight, reduction):
    ours, theirs = logprobs().requires_grad_(), logprobs().requires_grad_()
    loss, stats = rrhf_loss(ours, REWARDS, 4, MASK, sft_weight, reduction, variant)
    parts = [
        from_the_paper(theirs[k : k + 4], REWARDS[k : k + 4].tolist(), LENGTHS[k : k + 4], sft_weight, variant, reduction) for k in (0, 4)
    ]
    expected = (parts[0] + parts[1]) / 2
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    assert loss.dtype == F64 and not any(value.requires_grad for value in stats.values())
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    assert ours.grad is not None and (ours.grad[~MASK] == 0).all() and (ours.grad[MASK] != 0).any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("variant", "sft_weight"), [("rrhf", 0.3), ("best_of_n", 1.0)])
def test_the_push_that_is_shown_is_minus_the_gradient(variant, sft_weight, reduction):
    """For each prompt: B times the gradient of the mean. And the page works the same number out from the record."""
    config = RRHFConfig(group_size=4, variant=variant, sft_weight=sft_weight, sft_reduction=reduction)
    leaf = logprobs(1).requires_grad_()
    loss, _ = rrhf_loss(leaf, REWARDS, 4, MASK, sft_weight, reduction, variant)
    (gradient,) = torch.autograd.grad(loss, leaf)
    push = token_push(leaf.detach(), REWARDS, MASK, config)
    torch.testing.assert_close(push, -2 * gradient, rtol=1e-12, atol=1e-12)
    for first in (0, 4):
        record = {
            "responses": [
                {"reward": float(REWARDS[i]), "tokens": {"logprobs": leaf[i, : LENGTHS[i]].tolist()}} for i in range(first, first + 4)
            ]
        }
        for k in range(4):
            assert ranked(config.model_dump(), record, k).push == pytest.approx(float(push[first + k, 0]), abs=1e-12)


def test_by_hand():
    """Two answers of 2 and 1 tokens, probabilities ½·½ and ⅛: p = −ln 2 and −3 ln 2. The second has the better reward, so
    L_rank = p₁ − p₂ = 2 ln 2, L_ft = 3 ln 2, L = 5 ln 2. Gradient: ½ for both tokens of the first, −1 − 1 for the second's."""
    rows = torch.log(torch.tensor([[0.5, 0.5], [0.125, 0.9]], dtype=F64)).requires_grad_()
    mask = torch.tensor([[True, True], [True, False]])
    loss, stats = rrhf_loss(rows, torch.tensor([0.0, 1.0]), 2, mask)
    assert loss.item() == pytest.approx(5 * math.log(2)) and stats["loss/rank"].item() == pytest.approx(2 * math.log(2))
    loss.backward()
    assert rows.grad is not None and rows.grad.tolist() == [[0.5, 0.5], [-2.0, 0.0]]
    # the other way round the order is right: only the imitation of the first is left
    loss, stats = rrhf_loss(rows, torch.tensor([1.0, 0.0]), 2, mask)
    assert loss.item() == pytest.approx(2 * math.log(2)) and stats["loss/rank"].item() == 0


def test_equal_rewards_rank_nothing_and_the_first_is_imitated():
    loss, stats = rrhf_loss(logprobs(), torch.zeros(8, dtype=F64), 4, MASK)
    assert stats["loss/rank"].item() == 0
    assert loss.item() == pytest.approx(-float(logprobs()[0, :5].sum() + logprobs()[4, :3].sum()) / 2)
    assert rank_accuracy(torch.rand(2, 4), torch.zeros(2, 4)) is None


def test_padding_changes_nothing():
    clean, clean_stats = rrhf_loss(logprobs(), REWARDS, 4, MASK)
    for filling in (-1e9, float("nan")):
        leaf = logprobs().masked_fill(~MASK, filling).requires_grad_()
        spoiled, stats = rrhf_loss(leaf, REWARDS, 4, MASK)
        torch.testing.assert_close(spoiled, clean)
        (gradient,) = torch.autograd.grad(spoiled, leaf)
        assert (gradient[~MASK] == 0).all() and torch.isfinite(gradient).all()
        for key, value in clean_stats.items():
            torch.testing.assert_close(stats[key], value)
    wider = torch.cat([logprobs(), torch.full((8, 3), -7.0, dtype=F64)], 1)
    torch.testing.assert_close(rrhf_loss(wider, REWARDS, 4, torch.cat([MASK, torch.zeros(8, 3).bool()], 1))[0], clean)


def test_ranking_accuracy_by_hand():
    """Rewards 3 > 2 > 1 with scores .5, .5, .9: the pairs are a tie (½), wrong, wrong."""
    assert rank_accuracy(torch.tensor([[0.5, 0.5, 0.9]]), torch.tensor([[3.0, 2.0, 1.0]])) == pytest.approx(0.5 / 3)


def test_what_it_cannot_take_is_refused():
    with pytest.raises(ValueError, match="groups of 3"):
        rrhf_loss(logprobs(), REWARDS, 3, MASK)
    with pytest.raises(ValueError, match="variant"):
        rrhf_loss(logprobs(), REWARDS, 4, MASK, variant="worst_of_n")
