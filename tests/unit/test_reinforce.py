"""REINFORCE: each estimator by hand, all of them unbiased by exact enumeration, what settings are refused, and an exact resume."""

from __future__ import annotations

import itertools

import pytest
import torch

from rlhf import advantages as adv
from rlhf.algorithms import make_config
from rlhf.algorithms.reinforce import BASELINES, RETURNS, Facts, critic_loss, estimate, ladder, reinforce_loss
from rlhf.config import ReinforceConfig
from rlhf.errors import ConfigError

F64 = torch.float64
MASK = torch.tensor([[True, True, False], [True, True, True]])


def rand(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- by hand


def test_the_loss_sums_over_tokens_and_averages_over_responses():
    """Two responses of 2 and 3 tokens, A = 1 and −2, log π = −1 everywhere: −(1·(−2) + (−2)·(−3)) / 2 = −2; gradient −A/2 a token."""
    logprobs = torch.full((2, 3), -1.0, dtype=F64).requires_grad_()
    loss, _ = reinforce_loss(logprobs, None, torch.tensor([1.0, -2.0], dtype=F64), MASK)
    assert loss.item() == pytest.approx(-2.0)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient.tolist() == [[-0.5, -0.5, 0.0], [1.0, 1.0, 1.0]]


def test_clipping_by_token_and_by_sequence_by_hand():
    """Ratios 1.5 and 0.5, A = 1, ε = 0.2. By token min(1.5, 1.2) + min(0.5, 0.8) = 1.7. The sequence's is 0.75, kept: 0.75."""
    logprobs = torch.tensor([[1.5, 0.5]], dtype=F64).log().requires_grad_()
    old, worth, mask = torch.zeros(1, 2, dtype=F64), torch.ones(1, dtype=F64), torch.ones(1, 2, dtype=torch.bool)
    by_token, stats = reinforce_loss(logprobs, old, worth, mask)
    assert by_token.item() == pytest.approx(-1.7) and stats["clip_ratio/region_mean"].item() == 0.5
    assert torch.autograd.grad(by_token, logprobs)[0].tolist() == [[0.0, pytest.approx(-0.5)]]
    by_sequence, stats = reinforce_loss(logprobs, old, worth, mask, importance_sampling_level="sequence")
    assert by_sequence.item() == pytest.approx(-0.75) and stats["clip_ratio/region_mean"].item() == 0
    assert torch.autograd.grad(by_sequence, logprobs)[0].tolist() == [[pytest.approx(-0.75)] * 2]


def test_the_critics_loss_by_hand():
    """Errors 1, 2 | 0, 0, 3: ½·((1 + 4) + 9) / 2 = 3.5."""
    values = torch.tensor([[1.0, 2.0, 50.0], [0.0, 0.0, 3.0]], dtype=F64)
    assert critic_loss(values, torch.zeros_like(values), MASK).item() == pytest.approx(3.5)


@pytest.mark.parametrize("level", ["token", "sequence", None])
def test_padding_changes_nothing(level):
    logprobs, old, worth = rand(2, 3, seed=1) - 2, rand(2, 3, seed=2) - 2, rand(2, seed=3)
    clean = logprobs.clone().requires_grad_()
    spoiled = logprobs.masked_fill(~MASK, float("nan")).requires_grad_()
    olds = (None, None) if level is None else (old, old.masked_fill(~MASK, 1e9))
    pairs = zip((clean, spoiled), olds, strict=True)
    losses = [reinforce_loss(x, o, worth, MASK, importance_sampling_level=level or "token")[0] for x, o in pairs]
    assert losses[0].item() == losses[1].item()
    gradients = [torch.autograd.grad(loss, x)[0] for loss, x in zip(losses, (clean, spoiled), strict=True)]
    assert torch.equal(*gradients) and (gradients[1][~MASK] == 0).all()


def test_returns_and_baselines_by_hand():
    """Rewards (1, 2) and (0, 1, 3), totals 3 and 4. γ = ½ to go: (1 + ½·2, 2) = (2, 2) and (0 + ½·2.5, 1 + ½·3, 3) = (1.25, 2.5, 3)."""
    rewards = torch.tensor([[1.0, 2.0, 9.0], [0.0, 1.0, 3.0]], dtype=F64)
    facts = Facts(rewards, MASK, 2, past=0.5, greedy=torch.tensor([2.5], dtype=F64), gamma=0.5)
    assert estimate(facts, "trajectory", "none")[2].tolist() == [[3, 3, 0], [4, 4, 4]]
    assert estimate(facts, "to_go", "none")[2].tolist() == [[2, 2, 0], [1.25, 2.5, 3]]
    assert estimate(facts, "to_go", "running_mean")[2].tolist() == [[1.5, 1.5, 0], [0.75, 2, 2.5]]
    assert estimate(facts, "trajectory", "leave_one_out")[2].tolist() == [[-1, -1, 0], [1, 1, 1]]
    # to go, the others from the same place on: (2, 2) against (1.25, 2.5); the shorter one's last, 2, against the third token's 3
    assert estimate(facts, "to_go", "leave_one_out")[2].tolist() == [[0.75, -0.5, 0], [-0.75, 0.5, 1]]
    assert estimate(facts, "trajectory", "greedy")[2].tolist() == [[0.5, 0.5, 0], [1.5, 1.5, 1.5]]
    earned, mean, scaled = estimate(facts, "trajectory", "batch")
    assert mean[0, 0].item() == pytest.approx(3.6)  # (2·3 + 3·4) / 5 tokens
    assert scaled[MASK].mean().item() == pytest.approx(0) and scaled[MASK].std().item() == pytest.approx(1)
    assert earned[1, 0].item() == 4 and (scaled[~MASK] == 0).all()


def test_the_critics_advantages_are_gae():
    rewards, values = rand(2, 3, seed=4), rand(2, 3, seed=5)
    facts = Facts(rewards, MASK, 1, values=values, gamma=0.9, lam=0.7)
    expected, returns = adv.gae(rewards, values, MASK, 0.9, 0.7)
    earned, baseline, worth = estimate(facts, "to_go", "value")
    assert torch.allclose(worth, expected) and torch.allclose(earned, returns) and torch.equal(baseline, values)


# ---------------------------------------------------------------- unbiased, by exact enumeration

TOKENS, LENGTH, BETA = 3, 2, 0.4


def answers() -> torch.Tensor:
    """All nine answers of two tokens out of three."""
    return torch.tensor(list(itertools.product(range(TOKENS), repeat=LENGTH)))


def logprobs_of(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """(n, 2): the first token from ``logits[3]``, the second from the row of the first."""
    states = torch.stack([torch.full_like(ids[:, 0], TOKENS), ids[:, 0]], 1)
    return torch.log_softmax(logits, -1)[states].gather(2, ids[:, :, None]).squeeze(2)


@pytest.mark.parametrize("name", ["trajectory", "to_go", "running_mean", "leave_one_out", "greedy", "value"])
def test_the_expected_gradient_is_the_gradient_of_the_objective(name):
    """J = Σ_y π(y)·(r(y) − β·log π(y)/π_ref(y)). Over all pairs of answers, weighted by their probability, the loss has −∇J."""
    logits, reference, score = rand(4, TOKENS, seed=6).requires_grad_(), rand(4, TOKENS, seed=7), rand(9, seed=8)
    ids = answers()
    each = logprobs_of(logits, ids)
    ref = logprobs_of(reference, ids)
    whole = each.sum(1)
    objective = (whole.exp() * (score - BETA * (whole - ref.sum(1)))).sum()
    exact = torch.autograd.grad(objective, logits, retain_graph=True)[0]

    pairs = torch.tensor(list(itertools.product(range(9), repeat=2)))  # two responses to one prompt
    rows, mask = pairs.flatten(), torch.ones(162, LENGTH, dtype=torch.bool)
    rewards = adv.token_rewards(score[rows], each.detach()[rows], ref[rows], mask, BETA)
    state_values = rand(4, seed=9)  # any critic leaves the mean alone, also a wrong one
    values = torch.stack([state_values[3].expand(162), state_values[ids[rows, 0]]], 1)
    greedy = torch.full((81,), 0.7, dtype=F64)
    worth = ladder(Facts(rewards, mask, 2, past=0.3, values=values, greedy=greedy))[name]
    chances = whole.detach().exp()[pairs].prod(1)
    found = torch.zeros_like(logits)
    for i, chance in enumerate(chances):
        two = slice(2 * i, 2 * i + 2)
        loss, _ = reinforce_loss(logprobs_of(logits, ids[rows[two]]), None, worth[two], mask[two])
        found += chance * torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(-found, exact, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"baseline": "leave_one_out", "samples_per_prompt": 1}, "samples_per_prompt"),
        ({"baseline": "value", "returns": "trajectory"}, "to_go"),
        ({"importance_sampling_level": "sequence", "returns": "trajectory"}, "epochs"),
        ({"importance_sampling_level": "sequence", "epochs": 2}, "trajectory"),
        ({"variance_groups": 1}, "variance_groups"),
        ({"value_coef": 0.1}, "value_coef"),
        ({"gamma": 0.9, "returns": "trajectory"}, "gamma"),
        ({"baseline_decay": 0.5, "baseline": "none"}, "baseline_decay"),
        ({"lam": 0.5}, "lam"),
    ],
)
def test_contradictions_are_refused_with_what_to_do(fields, word):
    with pytest.raises(ConfigError, match=word):
        make_config("reinforce", model="sums", **fields)


def test_every_choice_has_its_function_and_its_explanation():
    fields = ReinforceConfig.model_fields
    for name, table in (("returns", RETURNS), ("baseline", BASELINES)):
        choices = fields[name].json_schema_extra["choices"]  # pyright: ignore[reportOptionalSubscript, reportArgumentType]
        assert set(choices) == set(table)  # pyright: ignore[reportArgumentType]


def test_unknown_level_and_a_sequence_ratio_of_many_advantages_are_refused():
    x = rand(2, 3, seed=0)
    with pytest.raises(ValueError, match="no-such"):
        reinforce_loss(x, x, rand(2, seed=1), MASK, importance_sampling_level="no-such")
    with pytest.raises(ValueError, match="one advantage a sequence"):
        reinforce_loss(x, x, x, MASK, importance_sampling_level="sequence")
