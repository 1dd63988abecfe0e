"""DPO's family against TRL 1.16's own code (unbound methods on a stand-in that carries their settings): values and gradients.

In float64, except where TRL cannot (its α-divergence looks its clamp up by dtype, ORPO casts to float32). Known differences of the
reference: its ``ipo`` is averaged over tokens (ours on request), its ``sigmoid`` ignores label smoothing (ours is conservative DPO), and
ORPO's likelihood there runs over the prompt too (ours over the answer).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl import DPOTrainer, KTOTrainer

from rlhf.algorithms.dpo import length_weights, on_policy_weights
from rlhf.config.dpo import DPO_VARIANTS, WITH_DIVERGENCE
from rlhf.pair_losses import DIVERGENCES, LOSSES, dpo_loss
from tests.parity.one_process import OneProcess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TRL says that its experimental parts may change
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

pytestmark = pytest.mark.parity
F64 = torch.float64
N, T = 7, 9
LENGTHS = torch.tensor([9, 3, 5, 1, 8, 9, 2, 4, 6, 9, 2, 7, 1, 5])  # of the chosen, then of the rejected answers
MASK = torch.arange(T)[None] < LENGTHS[:, None]
IN_TRL = [name for name in LOSSES if name not in ("kto", "simpo", "orpo", "cpo")]


def rand(*shape: int, seed: int, scale: float = 1.0, dtype=F64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * scale


def case(dtype=F64) -> tuple[torch.Tensor, torch.Tensor]:
    """Token log-probabilities (2N, T) of policy and reference, 0 on padding as TRL has them."""
    policy = -rand(2 * N, T, seed=1, dtype=dtype).abs() - 0.1
    reference = policy + rand(2 * N, T, seed=2, scale=0.4, dtype=dtype)
    return torch.where(MASK, policy, 0.0), torch.where(MASK, reference, 0.0)


def trl_dpo(policy, reference, variant, beta, collisions=None, **settings):
    """TRL's DPO loss for given token log-probabilities."""
    n = len(policy)
    output = SimpleNamespace(
        log_probs=policy,
        entropy=torch.zeros_like(policy),
        mean_logits=torch.zeros_like(policy),
        is_top1=torch.zeros_like(MASK),
        log_sum_sq_probs=collisions,
    )
    metrics = defaultdict(list)
    known = {"label_smoothing": 0.0, "ld_alpha": None, "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5} | settings
    ref = reference
    if known["ld_alpha"] is not None:
        ref = reference * length_weights(MASK, known["ld_alpha"])
    stand_in = SimpleNamespace(
        accelerator=OneProcess(),
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(discopop_tau=known.pop("discopop_tau", 0.05)),
        beta=beta,
        loss_types=[variant],
        loss_weights=[1.0],
        precompute_ref_logps=True,
        use_weighting=collisions is not None,
        aux_loss_enabled=False,
        _total_train_tokens=0,
        _tp_size=1,
        _metrics={"train": metrics, "eval": metrics},
        **known,
    )
    completion = torch.cat([torch.zeros(n, 1, dtype=torch.long), MASK.long()], 1)
    ref_chosen, ref_rejected = ref.sum(1).chunk(2)
    batch = {
        "input_ids": torch.zeros(n, T + 1, dtype=torch.long),
        "attention_mask": torch.ones(n, T + 1, dtype=torch.long),
        "completion_mask": completion,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    return DPOTrainer._compute_loss(stand_in, lambda **_: output, batch, False)  # pyright: ignore[reportArgumentType]


def ours(policy, reference, variant, beta, ld_alpha=1.0, collisions=None, **settings):
    weights = length_weights(MASK, ld_alpha).to(policy.dtype)
    chosen, rejected = (policy * weights).sum(1).chunk(2)
    ref_chosen, ref_rejected = (reference * weights).sum(1).chunk(2)
    chosen_lengths, rejected_lengths = LENGTHS.chunk(2)
    factor = None if collisions is None else on_policy_weights(policy, collisions, MASK)
    return dpo_loss(
        chosen, rejected, ref_chosen, ref_rejected, beta, variant, chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths,
        weights=factor, **settings,
    )[0]  # fmt: skip


def same(mine, theirs, case_args, rtol=1e-10, **settings):
    """Both losses and their gradients for the policy's log-probabilities."""
    policies = [case_args[0].clone().requires_grad_() for _ in range(2)]
    losses = [mine(policies[0], case_args[1], **settings), theirs(policies[1], case_args[1], **settings)]
    torch.testing.assert_close(losses[0], losses[1], rtol=rtol, atol=1e-12, check_dtype=False)
    # TRL's padding is 0 by construction and not masked, so only real tokens can be compared
    gradients = [torch.autograd.grad(loss, policy)[0] * MASK for loss, policy in zip(losses, policies, strict=True)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=rtol, atol=1e-12, check_dtype=False)
    assert gradients[0].abs().sum() > 0


def rtol_of(variant: str) -> float:
    return 1e-6 if variant == "exo_pair" else 1e-10  # TRL takes exo_pair's ε in float32


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("variant", IN_TRL)
def test_every_loss_equals_trl(variant, beta):
    smoothing = {"label_smoothing": 0.2} if variant in ("robust", "exo_pair", "aot", "aot_unpaired") else {}
    # TRL counts the answers' tokens on the unshifted mask, which is theirs: the prompt has none
    extra = {"average_log_prob": True} if variant == "ipo" else {}
    same(
        lambda p, r, **s: ours(p, r, variant, beta, **smoothing, **extra),
        lambda p, r, **s: trl_dpo(p, r, variant, beta, **smoothing),
        case(),
        rtol=rtol_of(variant),
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("variant", WITH_DIVERGENCE["variant"])
def test_every_divergence_equals_trl(variant, divergence):
    settings = {"f_divergence_type": divergence} | ({"label_smoothing": 0.1} if variant in ("robust", "exo_pair") else {})
    extra = {"average_log_prob": True} if variant == "ipo" else {}
    dtype, rtol = (torch.float32, 2e-5) if divergence == "alpha_divergence" else (F64, rtol_of(variant))
    same(
        lambda p, r: ours(p, r, variant, 0.3, **settings, **extra),
        lambda p, r: trl_dpo(p, r, variant, 0.3, **settings),
        case(dtype),
        rtol=rtol,
    )


@pytest.mark.parametrize("variant", ["sigmoid", "apo_zero", "discopop"])
def test_ld_dpo_and_wpo_equal_trl(variant):
    same(lambda p, r: ours(p, r, variant, 0.3, ld_alpha=0.5), lambda p, r: trl_dpo(p, r, variant, 0.3, ld_alpha=0.5), case())
    collisions = -rand(2 * N, T, seed=3).abs()
    same(lambda p, r: ours(p, r, variant, 0.3, collisions=collisions), lambda p, r: trl_dpo(p, r, variant, 0.3, collisions), case())


def test_ipo_of_the_paper_is_summed():
    chosen, rejected, zero = torch.tensor([-3.0], dtype=F64), torch.tensor([-4.0], dtype=F64), torch.zeros(1, dtype=F64)
    assert dpo_loss(chosen, rejected, zero, zero, 0.25, "ipo")[0].item() == pytest.approx((1 - 2) ** 2)


def test_the_alpha_divergence_has_its_limits():
    """α → 1 is the reverse KL, α = 0 the forward KL."""
    policy, reference = case()
    for alpha, limit in ((1.0, "reverse_kl"), (0.0, "forward_kl")):
        mine = ours(policy, reference, "sigmoid", 0.3, f_divergence_type="alpha_divergence", f_alpha_divergence_coef=alpha)
        torch.testing.assert_close(mine, ours(policy, reference, "sigmoid", 0.3, f_divergence_type=limit))


# ---------------------------------------------------------------- without a reference


def trl_cpo(loss_type, chosen, rejected, beta, gamma, smoothing):
    stand_in = SimpleNamespace(
        alpha=0.0, accelerator=OneProcess(), loss_type=loss_type, beta=beta, simpo_gamma=gamma, label_smoothing=smoothing
    )
    return CPOTrainer.cpo_loss(stand_in, chosen, rejected)[0].mean()  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_simpo_and_cpo_equal_trl(smoothing):
    lengths = LENGTHS.chunk(2)

    def simpo(p, r):
        return ours(p, r, "simpo", 2.0, simpo_gamma=1.2, label_smoothing=smoothing)

    def their_simpo(p, r):
        chosen, rejected = (p.sum(1) / LENGTHS).chunk(2)
        return trl_cpo("simpo", chosen, rejected, 2.0, 1.2, smoothing)

    def their_cpo(p, r):
        chosen, rejected = p.sum(1).chunk(2)
        likelihood = -chosen.sum() / lengths[0].sum()  # TRL: the cross-entropy over the chosen answers' tokens
        return trl_cpo("sigmoid", chosen, rejected, 0.2, 0.0, smoothing) + 0.7 * likelihood

    same(simpo, their_simpo, case())
    same(lambda p, r: ours(p, r, "cpo", 0.2, cpo_alpha=0.7, label_smoothing=smoothing), their_cpo, case())


def test_orpo_equals_trl():
    stand_in = SimpleNamespace(beta=0.3, accelerator=OneProcess())

    def theirs(p, r):
        chosen, rejected = (p.sum(1) / LENGTHS).chunk(2)
        odds = ORPOTrainer.odds_ratio_loss(stand_in, chosen, rejected)[0]  # pyright: ignore[reportArgumentType]
        return -p[:N].sum() / LENGTHS[:N].sum() - odds.mean()

    same(lambda p, r: ours(p, r, "orpo", 0.3), theirs, case(torch.float32), rtol=1e-4)


def test_orpo_survives_certainty():
    """An answer of probability 1 has infinite odds; loss and gradient stay finite."""
    sure = torch.zeros(1, requires_grad=True)
    one = torch.ones(1, dtype=torch.long)
    loss, _ = dpo_loss(sure, torch.tensor([-2.0]), None, None, 0.1, "orpo", chosen_lengths=one, rejected_lengths=one)
    loss.backward()
    assert loss.isfinite() and sure.grad is not None and sure.grad.isfinite().all()


# ---------------------------------------------------------------- KTO


@pytest.mark.parametrize("kl", [0.0, 0.8])
def test_kto_equals_trl(kl):
    policy_case = case()
    answers = torch.cat([torch.zeros(2 * N, 1, dtype=torch.long), MASK.long()], 1)

    def theirs(p, r):
        output = SimpleNamespace(log_probs=p, entropy=torch.zeros_like(p), mean_logits=torch.zeros_like(p), is_top1=torch.zeros_like(MASK))
        metrics = defaultdict(list)
        stand_in = SimpleNamespace(
            accelerator=OneProcess(),
            model=SimpleNamespace(training=True),
            beta=0.3,
            loss_type="kto",
            calculate_KL=True,
            precompute_ref_logps=True,
            desirable_weight=1.3,
            undesirable_weight=0.6,
            aux_loss_enabled=False,
            _compute_kl_logps=lambda *_: torch.full((2 * N,), kl, dtype=F64),
            _total_train_tokens=0,
            _tp_size=1,
            _metrics={"train": metrics, "eval": metrics},
        )
        batch = {
            "input_ids": torch.zeros(2 * N, T + 1, dtype=torch.long),
            "attention_mask": torch.ones(2 * N, T + 1, dtype=torch.long),
            "completion_mask": answers,
            "label": torch.tensor([True] * N + [False] * N),
            "ref_logps": r.sum(1),
            "ref_KL_logps": torch.zeros(2 * N, dtype=F64),
        }
        return KTOTrainer._compute_loss(stand_in, lambda **_: output, batch, False)  # pyright: ignore[reportArgumentType]

    same(lambda p, r: ours(p, r, "kto", 0.3, kl=kl, desirable_weight=1.3, undesirable_weight=0.6), theirs, policy_case)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("variant", LOSSES)
def test_every_loss_pulls_the_answers_apart_from_where_they_start(variant):
    """Where policy and reference agree, the chosen answer's log-probability is pushed up more than the rejected one's."""
    start = torch.full((4,), -6.0, dtype=F64)
    chosen, rejected = (start.clone().requires_grad_() for _ in range(2))
    tokens = torch.full((4,), 3)
    smoothing = 0.1 if variant == "exo_pair" else 0.0
    tau = 0.2  # DiscoPOP at its own 0.05 has a bump at 0: (1/4τ)(1 − ln 2) > 3/4, so that it starts uphill below τ = 0.102
    loss, stats = dpo_loss(
        chosen, rejected, start, start, 0.2, variant, smoothing, chosen_lengths=tokens, rejected_lengths=tokens, discopop_tau=tau
    )
    loss.backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert (chosen.grad < rejected.grad).all()
    assert not any(value.requires_grad for value in stats.values())


def test_the_table_the_choices_and_their_formulas_agree():
    assert list(DPO_VARIANTS) == list(LOSSES)
    assert all(choice.formula and choice.when and choice.source[1].startswith("https://") for choice in DPO_VARIANTS.values())


def test_what_is_missing_is_named():
    x = torch.zeros(2, dtype=F64)
    with pytest.raises(ValueError, match="needs ref_chosen_logps"):
        dpo_loss(x, x, None, None, 0.1)
    with pytest.raises(ValueError, match="needs chosen_lengths"):
        dpo_loss(x, x, None, None, 0.1, "simpo")
    with pytest.raises(ValueError, match="no-such"):
        dpo_loss(x, x, x, x, 0.1, f_divergence_type="no-such")
    with pytest.raises(ValueError, match="label_smoothing must be above 0"):
        dpo_loss(x, x, x, x, 0.1, "exo_pair")
