"""The losses against TRL's own code and against the papers' formulas written out, in float64: values and gradients.

TRL's losses are methods of its trainers. They are called here unbound, on a stand-in that carries the settings they read and
whose "model" returns the log-probabilities of the test: so it is TRL's code that computes the expected numbers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl import DPOTrainer, GRPOTrainer, RewardTrainer

from rlhf.algorithms.dpo import dpo_loss
from rlhf.algorithms.grpo import grpo_loss
from rlhf.algorithms.ppo import policy_loss, value_loss
from rlhf.algorithms.reward_model import bradley_terry_loss
from rlhf.algorithms.sft import sft_loss
from rlhf.ops import kl_estimate, masked_mean, token_logprobs
from tests.parity.one_process import OneProcess

pytestmark = pytest.mark.parity
F64 = torch.float64


def rand(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) * scale


def lengths_mask(lengths: list[int], width: int) -> torch.Tensor:
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13, check_dtype=False)


# ---------------------------------------------------------------- GRPO

MASK = lengths_mask([6, 2, 4, 1, 5, 6], 6)


def trl_grpo(logprobs, old, ref, advantages, mask, beta, low, high):
    """TRL 1.16's GRPO loss and metrics for given token log-probabilities."""
    metrics = defaultdict(list)
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprobs, torch.zeros_like(logprobs), None),
        accelerator=OneProcess(),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        beta=beta,
        epsilon_low=low,
        epsilon_high=high,
        loss_type="grpo",
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": metrics, "eval": metrics},
    )
    batch = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
    }
    loss = GRPOTrainer._compute_loss(stand_in, None, batch)
    return loss, {key: values[-1] for key, values in metrics.items()}


@pytest.mark.parametrize("advantage_shape", ["one a sequence", "one a token"])
@pytest.mark.parametrize(("beta", "low", "high"), [(0.0, 0.2, 0.2), (0.04, 0.2, 0.28), (0.5, 0.05, 0.1)])
def test_grpo_loss_equals_trl(beta, low, high, advantage_shape):
    start = rand(6, 6, seed=1) - 2
    old, ref = start + rand(6, 6, seed=2, scale=0.3), start + rand(6, 6, seed=3, scale=0.5)
    adv = rand(6, seed=4) if advantage_shape == "one a sequence" else rand(6, 6, seed=4)
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    loss, stats = grpo_loss(ours, old, None if beta == 0 else ref, adv, MASK, beta=beta, epsilon_low=low, epsilon_high=high, variant="grpo")
    expected, metrics = trl_grpo(theirs, old, ref, adv, MASK, beta, low, high)
    assert loss.ndim == 0 and loss.dtype == F64
    close(loss.detach(), expected.detach())
    loss.backward()
    expected.backward()
    close(ours.grad, theirs.grad)
    assert (ours.grad[~MASK] == 0).all()
    assert float(stats["clip_ratio/region_mean"]) == pytest.approx(metrics["clip_ratio/region_mean"], abs=1e-6)
    assert metrics["clip_ratio/region_mean"] > 0, "the case must reach the clipped region to say anything"
    if beta:
        assert float(masked_mean(kl_estimate(start, ref, "k3"), MASK)) == pytest.approx(metrics["kl"], abs=1e-6)
    assert not any(value.requires_grad for value in stats.values())


def test_grpo_loss_by_hand():
    """One sequence of two tokens, A = 1, ε = 0.2, β = 0: ratios 1.5 (clipped to 1.2) and 0.5 (the min keeps 0.5): −(1.2 + 0.5)/2."""
    old = torch.log(torch.tensor([[0.4, 0.6]], dtype=F64))
    logprobs = torch.log(torch.tensor([[0.6, 0.3]], dtype=F64)).requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss, stats = grpo_loss(logprobs, old, None, torch.tensor([1.0], dtype=F64), mask, 0.0, 0.2, 0.2, "grpo")
    assert loss.item() == pytest.approx(-0.85, abs=1e-12)
    loss.backward()
    # the clipped token gets no gradient, the other −A·ratio/2
    close(logprobs.grad, torch.tensor([[0.0, -0.25]], dtype=F64))
    assert float(stats["clip_ratio/region_mean"]) == pytest.approx(0.5)


def test_grpo_gives_every_sequence_the_same_weight_whatever_its_length():
    """1/|o_i| Σ_t inside the mean over sequences: lengths 1 and 4 with advantages +1 and −1 at ratio 1 cancel."""
    mask = lengths_mask([1, 4], 4)
    logprobs = rand(2, 4, seed=5) - 2
    loss, _ = grpo_loss(logprobs, logprobs.clone(), None, torch.tensor([1.0, -1.0], dtype=F64), mask, 0.0, 0.2, 0.2, "grpo")
    assert loss.item() == pytest.approx(0.0, abs=1e-14)


def test_grpo_padding_changes_nothing():
    mask = lengths_mask([3, 2], 5)
    args = [rand(2, 5, seed=s, scale=0.3) - 2 for s in (6, 7, 8)]
    adv = rand(2, seed=9)
    clean, clean_stats = grpo_loss(*args, adv, mask, 0.1, 0.2, 0.2, "grpo")
    spoiled, stats = grpo_loss(*(x.masked_fill(~mask, -1e9) for x in args), adv, mask, 0.1, 0.2, 0.2, "grpo")
    narrow, _ = grpo_loss(*(x[:, :3] for x in args), adv, mask[:, :3], 0.1, 0.2, 0.2, "grpo")
    close(spoiled, clean)
    close(narrow, clean)
    for key, value in clean_stats.items():
        close(stats[key], value)


def test_grpo_padding_of_any_size_has_no_gradient():
    """A policy's own log-probability of a padding token is arbitrary; exp of it must not turn 0 · ∞ into NaN."""
    mask = lengths_mask([3, 2], 5)
    logprobs, old, ref = (rand(2, 5, seed=s, scale=0.3) - 2 for s in (6, 7, 8))
    for wild in (-1e4, 1e4, math.nan):
        values = logprobs.masked_fill(~mask, wild).requires_grad_()
        loss, _ = grpo_loss(values, old, ref, rand(2, seed=9), mask, 0.1, 0.2, 0.2, "grpo")
        loss.backward()
        assert loss.isfinite() and values.grad.isfinite().all() and (values.grad[~mask] == 0).all()


def test_grpo_pushes_up_what_was_better_than_its_group():
    logprobs = (rand(2, 3, seed=10) - 2).requires_grad_()
    loss, _ = grpo_loss(
        logprobs, logprobs.detach(), None, torch.tensor([1.0, -1.0], dtype=F64), torch.ones(2, 3, dtype=torch.bool), 0.0, 0.2, 0.2, "grpo"
    )
    loss.backward()
    assert (logprobs.grad[0] < 0).all() and (logprobs.grad[1] > 0).all()


def test_unknown_grpo_variant_is_refused():
    x = rand(1, 2, seed=0)
    with pytest.raises(ValueError, match="no-such"):
        grpo_loss(x, x, None, rand(1, seed=1), torch.ones(1, 2, dtype=torch.bool), 0.0, 0.2, 0.2, "no-such")


# ---------------------------------------------------------------- DPO


def trl_dpo(chosen, rejected, ref_chosen, ref_rejected, beta):
    """TRL 1.16's sigmoid loss and metrics for given summed log-probabilities (each response is one token long here)."""
    logps = torch.cat([chosen, rejected])[:, None]
    n = len(logps)
    output = SimpleNamespace(
        log_probs=logps,
        entropy=torch.zeros(n, 1, dtype=F64),
        mean_logits=torch.zeros(n, 1, dtype=F64),
        is_top1=torch.zeros(n, 1, dtype=torch.bool),
    )
    metrics = defaultdict(list)
    stand_in = SimpleNamespace(
        accelerator=OneProcess(),
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(),
        beta=beta,
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        label_smoothing=0.0,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        precompute_ref_logps=True,
        use_weighting=False,
        aux_loss_enabled=False,
        _total_train_tokens=0,
        _tp_size=1,
        _metrics={"train": metrics, "eval": metrics},
    )
    batch = {
        "input_ids": torch.zeros(n, 2, dtype=torch.long),
        "attention_mask": torch.ones(n, 2, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 1]] * n),
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    loss = DPOTrainer._compute_loss(stand_in, lambda **_: output, batch, False)
    return loss, {key: values[-1] for key, values in metrics.items() if isinstance(values, list)}


def dpo_case(seed: int = 0) -> list[torch.Tensor]:
    return [rand(9, seed=seed + i, scale=8) - 40 for i in range(4)]


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.7])
def test_dpo_loss_equals_trl(beta):
    chosen, rejected, ref_chosen, ref_rejected = dpo_case()
    ours = [chosen.clone().requires_grad_(), rejected.clone().requires_grad_()]
    theirs = [chosen.clone().requires_grad_(), rejected.clone().requires_grad_()]
    loss, stats = dpo_loss(*ours, ref_chosen, ref_rejected, beta=beta, variant="sigmoid", label_smoothing=0.0)
    expected, metrics = trl_dpo(*theirs, ref_chosen, ref_rejected, beta)
    assert loss.ndim == 0 and loss.dtype == F64
    close(loss.detach(), expected.detach())
    loss.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        close(a.grad, b.grad)
    for key in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"):
        assert float(stats[key]) == pytest.approx(metrics[key], rel=1e-6), key
        assert not stats[key].requires_grad


def test_dpo_loss_by_hand():
    """β = 0.5, log ratios +2 and −1: margin 0.5·3 = 1.5; loss −ln σ(1.5) = 0.2014; gradient −β·σ(−1.5) on the chosen one."""
    chosen = torch.tensor([-3.0], dtype=F64, requires_grad=True)
    rejected = torch.tensor([-6.0], dtype=F64, requires_grad=True)
    ref = torch.tensor([-5.0], dtype=F64)
    loss, stats = dpo_loss(chosen, rejected, ref, ref, 0.5, "sigmoid", 0.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.5)), abs=1e-12)
    loss.backward()
    pull = 0.5 / (1 + math.exp(1.5))
    assert chosen.grad.item() == pytest.approx(-pull, abs=1e-12)
    assert rejected.grad.item() == pytest.approx(pull, abs=1e-12)
    assert float(stats["rewards/chosen"]) == pytest.approx(1.0) and float(stats["rewards/rejected"]) == pytest.approx(-0.5)


def test_dpo_loss_of_the_untouched_reference_is_ln_2():
    chosen, rejected, *_ = dpo_case(20)
    loss, stats = dpo_loss(chosen, rejected, chosen, rejected, 0.1, "sigmoid", 0.0)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    assert float(stats["rewards/margins"]) == 0.0


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_dpo_label_smoothing_is_conservative_dpo(smoothing):
    """−(1 − ε)·ln σ(βΔ) − ε·ln σ(−βΔ): Mitchell 2023, https://ericmitchell.ai/cdpo.pdf, eq. 3. (TRL's sigmoid ignores ε.)"""
    chosen, rejected, ref_chosen, ref_rejected = dpo_case(30)
    loss, _ = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.1, "sigmoid", smoothing)
    delta = 0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(delta, torch.full_like(delta, 1 - smoothing))
    close(loss, expected)


def test_dpo_survives_extreme_margins():
    zero = torch.zeros(1, dtype=F64)
    far = torch.tensor([1e5], dtype=F64)
    assert dpo_loss(-far, far, zero, zero, 0.1, "sigmoid", 0.0)[0].item() == pytest.approx(2e4)
    assert dpo_loss(far, -far, zero, zero, 0.1, "sigmoid", 0.0)[0].item() == 0.0


def test_unknown_dpo_variant_is_refused():
    with pytest.raises(ValueError, match="no-such"):
        dpo_loss(*dpo_case(), 0.1, "no-such", 0.0)


# ---------------------------------------------------------------- PPO


def test_ppo_policy_loss_by_hand():
    """Four tokens, ε = 0.2, token-mean of −min(r·A, clip(r)·A):

    r = 1.5, A = +1 → min(1.5, 1.2) = 1.2, clipped;  r = 0.5, A = +1 → min(0.5, 0.8) = 0.5;
    r = 1.5, A = −1 → min(−1.5, −1.2) = −1.5;        r = 0.5, A = −1 → min(−0.5, −0.8) = −0.8, clipped.
    Sum −0.6, loss 0.15; gradients −A·r/4 on the two that are not clipped.
    """
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5]], dtype=F64)
    old = torch.full_like(ratio, -1.0)
    logprobs = (old + ratio.log()).requires_grad_()
    adv = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=F64)
    loss, stats = policy_loss(logprobs, old, adv, torch.ones(1, 4, dtype=torch.bool), 0.2)
    assert loss.item() == pytest.approx(0.15, abs=1e-12)
    loss.backward()
    close(logprobs.grad, torch.tensor([[0.0, -0.125, 0.375, 0.0]], dtype=F64))
    assert float(stats["clip_ratio/region_mean"]) == pytest.approx(0.5)


def test_ppo_policy_loss_equals_the_masked_mean_of_eq_7():
    """Schulman et al. 2017, eq. 7, as a plain loop over tokens."""
    mask = lengths_mask([5, 2, 4], 5)
    old, adv = rand(3, 5, seed=40) - 2, rand(3, 5, seed=41)
    logprobs = (old + rand(3, 5, seed=42, scale=0.4)).requires_grad_()
    loss, _ = policy_loss(logprobs, old, adv, mask, 0.2)
    reference = logprobs.detach().clone().requires_grad_()
    terms = []
    for n, t in mask.nonzero().tolist():
        r = torch.exp(reference[n, t] - old[n, t])
        terms.append(-torch.minimum(r * adv[n, t], r.clamp(0.8, 1.2) * adv[n, t]))
    expected = torch.stack(terms).mean()
    close(loss.detach(), expected.detach())
    loss.backward()
    expected.backward()
    close(logprobs.grad, reference.grad)


def test_ppo_value_loss_by_hand():
    """½ · mean of max((V − R)², (clip(V, V_old ± ε) − R)²), ε = 0.2.

    V = 1, V_old = 0, R = 0: clipped V 0.2; max(1, 0.04) = 1.      V = 1, V_old = 0, R = 2: max(1, 1.8² = 3.24) = 3.24, clipped.
    V = 0.1, V_old = 0, R = 1: not clipped, 0.81.                   Mean (1 + 3.24 + 0.81)/3 = 1.68333, half of it 0.841667.
    """
    values = torch.tensor([[1.0, 1.0, 0.1]], dtype=F64, requires_grad=True)
    returns = torch.tensor([[0.0, 2.0, 1.0]], dtype=F64)
    loss, _ = value_loss(values, torch.zeros(1, 3, dtype=F64), returns, torch.ones(1, 3, dtype=torch.bool), 0.2)
    assert loss.item() == pytest.approx(5.05 / 6, abs=1e-12)
    loss.backward()
    # d/dV of ½(V − R)²/3; nothing where the clipped branch is the larger one
    close(values.grad, torch.tensor([[1 / 3, 0.0, -0.3]], dtype=F64))


def test_ppo_losses_keep_padding_out():
    mask = lengths_mask([3, 1], 4)
    a, b, c = (rand(2, 4, seed=s, scale=0.3) for s in (50, 51, 52))
    for function in (policy_loss, value_loss):
        clean, _ = function(a, b, c, mask, 0.2)
        values = a.masked_fill(~mask, 1e6).requires_grad_()
        spoiled, _ = function(values, b.masked_fill(~mask, -1e6), c.masked_fill(~mask, 7.0), mask, 0.2)
        close(spoiled.detach(), clean)
        spoiled.backward()
        assert (values.grad[~mask] == 0).all() and values.grad.isfinite().all()


# ---------------------------------------------------------------- reward model


@pytest.mark.parametrize("center", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("with_margin", [False, True])
def test_reward_loss_as_trl(with_margin, center):
    chosen, rejected = rand(7, seed=1, scale=3).requires_grad_(), rand(7, seed=2, scale=3).requires_grad_()
    margin = rand(7, seed=3).abs() if with_margin else None
    loss, stats = bradley_terry_loss(chosen, rejected, margin, center)
    ours = torch.autograd.grad(loss, (chosen, rejected))

    stand_in = SimpleNamespace(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(center_rewards_coefficient=center or None),
        accelerator=OneProcess(),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {"attention_mask": torch.ones(14, 3, dtype=torch.long)} | ({"margin": margin} if with_margin else {})
    theirs = RewardTrainer.compute_loss(
        stand_in,  # pyright: ignore[reportArgumentType]
        lambda **_: SimpleNamespace(logits=torch.cat([chosen, rejected])[:, None]),
        inputs,
    )
    close(loss, theirs)
    for mine, expected in zip(ours, torch.autograd.grad(theirs, (chosen, rejected)), strict=True):
        close(mine, expected)
    metrics = stand_in._metrics["train"]
    assert float(stats["accuracy"]) == pytest.approx(metrics["accuracy"][0])
    assert float(stats["margin"]) == pytest.approx(metrics["margin"][0])


def test_sft_loss_is_torchs_cross_entropy_over_the_response():
    logits, ids = rand(3, 5, 11, seed=4).requires_grad_(), torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(0))
    mask = lengths_mask([5, 2, 3], 5)
    loss, _ = sft_loss(token_logprobs(logits, ids), mask)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.masked_fill(~mask, -100).flatten())
    close(loss, expected)
    close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))
