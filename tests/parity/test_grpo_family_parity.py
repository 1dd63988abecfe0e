"""GRPO's family against TRL 1.16's own loss, masks, normalisers and advantages, in float64: values and gradients."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOTrainer
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.utils import nanstd

from rlhf.advantages import group_relative
from rlhf.algorithms.grpo import VARIANTS, grpo_loss, most_uncertain, overlong_penalty
from rlhf.config.grpo import GRPO_VARIANTS
from tests.parity.one_process import OneProcess

pytestmark = pytest.mark.parity
F64 = torch.float64
LENGTHS = [6, 2, 4, 1, 5, 6]
MASK = torch.arange(6)[None] < torch.tensor(LENGTHS)[:, None]
LONGEST = 8
# gspo is TRL's sequence-level ratio with the loss type grpo
TRL_NAMES = {name: name for name in VARIANTS} | {"gspo": "grpo"}
CLIPS = {"cispo": (0.2, 1.5), "gspo": (0.03, 0.04)}


def rand(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) * scale


def trl_grpo(logprobs, old, ref, advantages, mask, beta, variant, *, entropies=None, quantile=1.0, correction=False):
    metrics = defaultdict(list)
    low, high = CLIPS.get(variant, (0.2, 0.28))
    shown = torch.zeros_like(logprobs) if entropies is None else entropies
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprobs, shown, None),
        accelerator=OneProcess(),
        args=SimpleNamespace(
            delta=None, use_bias_correction_kl=correction, steps_per_generation=1, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05
        ),
        model=SimpleNamespace(training=True),
        beta=beta,
        epsilon_low=low,
        epsilon_high=high,
        loss_type=TRL_NAMES[variant],
        max_completion_length=LONGEST,
        importance_sampling_level="sequence" if variant == "gspo" else "token",
        top_entropy_quantile=quantile,
        off_policy_mask_threshold=None,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": metrics, "eval": metrics},
    )
    stand_in.get_high_entropy_mask = lambda *a: GRPOTrainer.get_high_entropy_mask(stand_in, *a)  # pyright: ignore[reportArgumentType]
    batch = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(stand_in, None, batch)  # pyright: ignore[reportArgumentType]
    return loss, {key: values[-1] for key, values in metrics.items()}


def both(variant, beta=0.3, mask=MASK, advantages=None, ours=None, theirs=None):
    """Our loss and TRL's for the same numbers, their gradients and statistics."""
    start = rand(6, 6, seed=1) - 2
    old, ref = start + rand(6, 6, seed=2, scale=0.3), start + rand(6, 6, seed=3, scale=0.5)
    adv = rand(6, seed=4) if advantages is None else advantages
    low, high = CLIPS.get(variant, (0.2, 0.28))
    left, right = (start.clone().requires_grad_() for _ in range(2))
    loss, stats = grpo_loss(left, old, ref, adv, mask, beta, low, high, variant, max_completion_length=LONGEST, **(ours or {}))
    expected, metrics = trl_grpo(right, old, ref, adv, mask, beta, variant, **(theirs or {}))
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-13)
    mine, other = torch.autograd.grad(loss, left)[0], torch.autograd.grad(expected, right)[0]
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)
    assert (mine[~mask] == 0).all() and mine.abs().sum() > 0
    return stats, metrics


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("advantage", ["one a sequence", "one a token"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_trl(variant, advantage, beta):
    stats, metrics = both(variant, beta, advantages=rand(6, seed=4) if advantage == "one a sequence" else rand(6, 6, seed=4))
    theirs = metrics.get("clip_ratio/region_mean", metrics.get("cispo_clip_ratio"))
    if theirs is not None and variant != "gspo":  # TRL's mean is over sequences there, ours over tokens
        assert float(stats["clip_ratio/region_mean"]) == pytest.approx(theirs, abs=1e-6)
        assert theirs > 0, "the case must reach the clipped region to say anything"


@pytest.mark.parametrize("variant", VARIANTS)
def test_kl_with_importance_correction(variant):
    both(variant, ours={"use_bias_correction_kl": True}, theirs={"correction": True})


@pytest.mark.parametrize("variant", VARIANTS)
def test_truncated_completions_masked(variant):
    """TRL zeroes the mask of a truncated completion; the means treat it as empty."""
    mask = MASK.clone()
    mask[[0, 5]] = False
    both(variant, mask=mask)


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("variant", ["grpo", "dapo", "gspo"])
def test_top_entropy_tokens_only(variant, share):
    entropies = rand(6, 6, seed=7).abs()
    chosen = most_uncertain(entropies, MASK, share)
    assert chosen is not None and 0 < int(chosen.sum()) < int(MASK.sum()) and not bool(chosen[~MASK].any())
    both(variant, ours={"entropy_mask": chosen}, theirs={"entropies": entropies, "quantile": share})


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_with_unscorable_responses_equal_trl(scale):
    """NaN: TRL's nanmean and nanstd, then 0 for what could not be scored (one group has a single number left, one none)."""
    rewards = rand(16, seed=8)
    rewards[[1, 5, 6, 7, 12, 13, 14, 15]] = torch.nan
    grouped = rewards.view(-1, 4)
    std = nanstd(rewards).expand_as(rewards) if scale == "batch" else nanstd(grouped, dim=1).repeat_interleave(4)
    expected = rewards - grouped.nanmean(1).repeat_interleave(4)
    if scale != "none":
        expected = expected / (std + 1e-4)
    # TRL takes n/(n − 1) in float32
    torch.testing.assert_close(group_relative(rewards, 4, scale), expected.nan_to_num(nan=0.0), rtol=1e-6, atol=1e-7)


def test_the_overlong_penalty_is_trls():
    lengths = torch.arange(0, 49)
    theirs = get_soft_overlong_punishment(48, 16)([[1] * n for n in lengths.tolist()])
    torch.testing.assert_close(overlong_penalty(lengths, 48, 16), torch.tensor(theirs, dtype=torch.float32))
    assert overlong_penalty(lengths, 48, 0).abs().sum() == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_of_any_size_changes_nothing(variant):
    logprobs, old, ref = (rand(6, 6, seed=s, scale=0.3) - 2 for s in (6, 7, 8))
    clean, _ = grpo_loss(logprobs, old, ref, rand(6, seed=9), MASK, 0.1, 0.2, 5.0, variant, max_completion_length=LONGEST)
    for wild in (-1e4, 1e4, torch.nan):
        values = logprobs.masked_fill(~MASK, wild).requires_grad_()
        loss, _ = grpo_loss(values, old, ref, rand(6, seed=9), MASK, 0.1, 0.2, 5.0, variant, max_completion_length=LONGEST)
        loss.backward()
        torch.testing.assert_close(loss.detach(), clean)
        assert values.grad is not None and values.grad.isfinite().all() and (values.grad[~MASK] == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_the_old_policy_every_variant_is_reinforce(variant):
    """At ρ = 1 the gradient of each token is −Â times its weight in the mean: none of the variants clips there."""
    logprobs = (rand(6, 6, seed=10) - 2).requires_grad_()
    adv = rand(6, seed=11)
    loss, _ = grpo_loss(logprobs, logprobs.detach(), None, adv, MASK, 0.0, 0.2, 5.0, variant, max_completion_length=LONGEST)
    loss.backward()
    tokens = MASK.sum(1, keepdim=True)
    weight = {
        "bnpo": 1 / tokens.sum(), "dapo": 1 / tokens.sum(), "cispo": 1 / tokens.sum(), "dr_grpo": torch.tensor(1 / (6 * LONGEST))
    }.get(variant, 1 / (6 * tokens))  # fmt: skip
    torch.testing.assert_close(logprobs.grad, torch.where(MASK, -adv[:, None] * weight, 0.0))


def test_the_table_and_the_choices_agree():
    assert list(VARIANTS) == list(GRPO_VARIANTS)
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="max_completion_length"):
        grpo_loss(x, x, None, torch.ones(1), torch.ones(1, 2, dtype=torch.bool), 0.0, variant="dr_grpo")
