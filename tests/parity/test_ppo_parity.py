"""PPO against hand-worked cases and against plain loops written from the papers, in float64, values and gradients.

TRL 1.16 has no PPO any more. Schulman et al. 2017 (https://arxiv.org/abs/1707.06347), Schulman et al. 2016 (GAE,
https://arxiv.org/abs/1506.02438), Ye et al. 2020 (dual clip, https://arxiv.org/abs/1912.09729), Sutton & Barto 2018.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from rlhf import advantages as adv
from rlhf import ops
from rlhf.algorithms.ppo import adapted, is_cut, penalty_loss, policy_loss, token_rewards, value_loss

F64 = torch.float64
LENGTHS = [5, 2, 4, 1]


def rand(*shape, seed, scale=1.0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)) * scale


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def episodes(seed=0):
    """Rewards, values and mask of four responses; padding holds rubbish."""
    mask = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]
    rewards, values = (rand(4, 5, seed=seed + i).masked_fill(~mask, 1e6) for i in (0, 1))
    return rewards, values, mask


# ---------------------------------------------------------------- returns and advantages, from their definitions


def by_definition(rewards, values, gamma, horizon=None, lam=None):
    """R_t − V_t of one response, lists in and out. ``horizon``: n of the n-step return; ``lam``: GAE's sum over all δ (eq. 16)."""
    n = len(rewards)
    value = [*values, *[0.0] * (n + 10)]
    reward = [*rewards, *[0.0] * (n + 10)]
    found = []
    for t in range(n):
        if lam is not None:
            delta = [reward[k] + gamma * value[k + 1] - value[k] for k in range(n)]
            found.append(sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)))
        else:
            ahead = n - t if horizon is None else min(horizon, n - t)
            found.append(sum(gamma**k * reward[t + k] for k in range(ahead)) + gamma**ahead * value[t + ahead] - value[t])
    return found


ESTIMATORS = {
    "td": (lambda r, v, m, g: adv.td(r, v, m, g), {"horizon": 1}),
    "n_step 2": (lambda r, v, m, g: adv.n_step(r, v, m, g, 2), {"horizon": 2}),
    "n_step 3": (lambda r, v, m, g: adv.n_step(r, v, m, g, 3), {"horizon": 3}),
    "n_step 9": (lambda r, v, m, g: adv.n_step(r, v, m, g, 9), {}),
    "monte_carlo": (lambda r, v, m, g: adv.monte_carlo(r, v, m, g), {}),
    "gae": (lambda r, v, m, g: adv.gae(r, v, m, g, 0.7), {"lam": 0.7}),
}


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_its_definition(name, gamma):
    estimator, definition = ESTIMATORS[name]
    rewards, values, mask = episodes()
    advantages, returns = estimator(rewards, values, mask, gamma)
    for i, n in enumerate(LENGTHS):
        expected = by_definition(rewards[i, :n].tolist(), values[i, :n].tolist(), gamma, **definition)
        assert advantages[i, :n].tolist() == pytest.approx(expected, abs=1e-12)
        assert returns[i, :n].tolist() == pytest.approx([a + v for a, v in zip(expected, values[i, :n].tolist(), strict=True)], abs=1e-12)
    assert advantages[~mask].eq(0).all() and returns[~mask].eq(0).all()


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_the_estimators_meet_at_their_ends(gamma):
    """GAE λ = 0 is TD(0) and λ = 1 Monte-Carlo; n = 1 is TD(0) and n = T Monte-Carlo."""
    rewards, values, mask = episodes(3)
    same = [
        (adv.gae(rewards, values, mask, gamma, 0.0), adv.td(rewards, values, mask, gamma)),
        (adv.gae(rewards, values, mask, gamma, 1.0), adv.monte_carlo(rewards, values, mask, gamma)),
        (adv.n_step(rewards, values, mask, gamma, 1), adv.td(rewards, values, mask, gamma)),
        (adv.n_step(rewards, values, mask, gamma, 5), adv.monte_carlo(rewards, values, mask, gamma)),
    ]
    for left, right in same:
        for a, b in zip(left, right, strict=True):
            close(a, b)


def test_estimators_by_hand():
    """The worked examples of the docstrings."""
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]], dtype=F64), torch.tensor([[0.5, 0.6, 0.7]], dtype=F64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    cases = [
        (adv.gae(rewards, values, mask, 1.0, 0.5), [0.225, 0.25, 0.3]),
        (adv.td(rewards, values, mask, 1.0), [0.1, 0.1, 0.3]),
        (adv.n_step(rewards, values, mask, 1.0, 2), [0.2, 0.4, 0.3]),
        (adv.monte_carlo(rewards, values, mask, 0.5), [-0.25, -0.1, 0.3]),
    ]
    for (advantages, _returns), expected in cases:
        assert advantages[0].tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least 1"):
        adv.n_step(rewards, values, mask, 1.0, 0)


def test_whitening_is_the_plain_formula():
    values, mask = rand(4, 5, seed=9), episodes()[2]
    flat = values[mask].tolist()
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in flat) / (len(flat) - 1) + 1e-8)
    close(ops.whiten(values, mask)[mask], torch.tensor([(x - mean) / deviation for x in flat], dtype=F64))


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_each_token_pays_for_leaving_the_reference(estimator):
    logprobs, reference, mask = rand(4, 5, seed=1), rand(4, 5, seed=2), episodes()[2]
    rewards = rand(4, seed=3)
    found = token_rewards(rewards, logprobs.masked_fill(~mask, 99.0), reference.masked_fill(~mask, -99.0), mask, 0.3, estimator)
    for i, n in enumerate(LENGTHS):
        for t in range(5):
            d = float(logprobs[i, t] - reference[i, t])
            price = {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) - 1 + d}[estimator]
            expected = (-0.3 * price + (float(rewards[i]) if t == n - 1 else 0.0)) if t < n else 0.0
            assert float(found[i, t]) == pytest.approx(expected, abs=1e-12)


# ---------------------------------------------------------------- the losses, token by token


def token_loss(p, old, a, clip=0.2, dual=0.0, penalty=None):
    """One token's loss and its derivative by log π, in floats."""
    ratio = math.exp(p - old)
    if penalty is not None:  # −(ρA − c(ρ − 1 − log ρ))
        return -(ratio * a - penalty * (ratio - 1 - (p - old))), -(ratio * a - penalty * (ratio - 1))
    inside = min(max(ratio, 1 - clip), 1 + clip)
    value, slope = min((ratio * a, ratio * a), (inside * a, ratio * a if inside == ratio else 0.0), key=lambda pair: pair[0])
    if dual and a < 0 and dual * a > value:
        value, slope = dual * a, 0.0
    return -value, -slope


LOSSES = {
    "clip": (lambda p, old, a, mask: policy_loss(p, old, a, mask, 0.2), {}),
    "dual": (lambda p, old, a, mask: policy_loss(p, old, a, mask, 0.2, dual_clip=1.5), {"dual": 1.5}),
    "penalty": (lambda p, old, a, mask: penalty_loss(p, old, a, mask, 0.8), {"penalty": 0.8}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_objective_is_the_mean_over_tokens_of_its_formula(name):
    function, definition = LOSSES[name]
    mask = episodes()[2]
    old, advantages = rand(4, 5, seed=40) - 2, rand(4, 5, seed=41)
    logprobs = (old + rand(4, 5, seed=42, scale=0.5)).requires_grad_()
    loss, _ = function(logprobs, old, advantages, mask)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    total, slopes, count = 0.0, torch.zeros(4, 5, dtype=F64), sum(LENGTHS)
    for i, t in itertools.product(range(4), range(5)):
        if t < LENGTHS[i]:
            value, slope = token_loss(float(logprobs[i, t].detach()), float(old[i, t]), float(advantages[i, t]), **definition)
            total += value / count
            slopes[i, t] = slope / count
    assert float(loss) == pytest.approx(total, abs=1e-12)
    close(gradient, slopes)
    assert (slopes[mask] == 0).any() == (name != "penalty")  # the case has tokens that the clip cuts, and the penalty cuts none
    padded = logprobs.detach().masked_fill(~mask, 1e6).requires_grad_()
    spoiled, _ = function(padded, old.masked_fill(~mask, -1e6), advantages.masked_fill(~mask, -7.0), mask)
    close(spoiled.detach(), loss.detach())
    close(torch.autograd.grad(spoiled, padded)[0], gradient)


def test_dual_clip_by_hand():
    """Ye et al., eq. 5, c = 3, ε = 0.2: A < 0 and ρ = 5: max(min(−5, −1.2), −3) = −3, no gradient; ρ = 2: −2, gradient.
    A > 0 is left alone: min(5, 1.2) = 1.2. Loss (3 + 2 − 1.2) / 3."""
    ratio = torch.tensor([[5.0, 2.0, 5.0]], dtype=F64)
    logprobs = ratio.log().requires_grad_()
    advantages, mask = torch.tensor([[-1.0, -1.0, 1.0]], dtype=F64), torch.ones(1, 3, dtype=torch.bool)
    loss, stats = policy_loss(logprobs, torch.zeros(1, 3, dtype=F64), advantages, mask, 0.2, dual_clip=3.0)
    assert loss.item() == pytest.approx(3.8 / 3)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    close(gradient, torch.tensor([[0.0, 2 / 3, 0.0]], dtype=F64))
    assert float(stats["clip_ratio/region_mean"]) == pytest.approx(2 / 3)
    assert is_cut(ratio, advantages, 0.2, 3.0).tolist() == [[True, False, True]]
    assert is_cut(ratio, advantages, 0.2).tolist() == [[False, False, True]]


def test_penalty_by_hand():
    """ρ = 2, A = 3, c = 0.5: KL 2 − 1 − log 2 = 0.306853; loss −(6 − 0.153426) = −5.846574; gradient −(6 − 0.5·(2 − 1)) = −5.5."""
    logprobs = torch.tensor([[math.log(2)]], dtype=F64, requires_grad=True)
    loss, stats = penalty_loss(logprobs, torch.zeros(1, 1, dtype=F64), torch.full((1, 1), 3.0, dtype=F64), torch.ones(1, 1).bool(), 0.5)
    assert loss.item() == pytest.approx(-5.8465736, abs=1e-7)
    assert float(stats["loss/policy"]) == pytest.approx(-6) and float(stats["loss/penalty"]) == pytest.approx(0.1534264, abs=1e-7)
    assert torch.autograd.grad(loss, logprobs)[0].item() == pytest.approx(-5.5)


def test_the_penalty_is_the_kl_of_old_and_new_in_expectation():
    """Over all tokens of a small vocabulary, weighed by π_old: value and gradient by the logits are those of KL[π_old ‖ π]."""
    logits = rand(1, 6, seed=7).requires_grad_()
    old = rand(1, 6, seed=8).log_softmax(-1)
    logprobs = logits.log_softmax(-1)
    sampled = (old.exp() * ops.kl_estimate(old, logprobs, "k3")).sum()
    exact = (old.exp() * (old - logprobs)).sum()
    close(sampled, exact)
    close(*(torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (sampled, exact)))


def test_what_the_kl_estimators_pull_towards_in_the_loss():
    """Fresh samples, all tokens of a small vocabulary: k1's gradient is 0 (it is refused), k2's that of KL(π‖ref), k3's of KL(ref‖π)."""
    logits = rand(1, 6, seed=7).requires_grad_()
    reference = rand(1, 6, seed=8).log_softmax(-1)
    logprobs = logits.log_softmax(-1)
    weights = logprobs.detach().exp()

    def gradient(value):
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    pulled = {name: gradient((weights * ops.kl_estimate(logprobs, reference, name)).sum()) for name in ("k1", "k2", "k3")}
    close(pulled["k1"], torch.zeros(1, 6, dtype=F64))
    close(pulled["k2"], gradient((logprobs.exp() * (logprobs - reference)).sum()))
    close(pulled["k3"], gradient((reference.exp() * (reference - logprobs)).sum()))


def test_the_adaptive_rule_by_hand():
    """Target 0.01: above 0.015 the coefficient doubles, below 0.00667 it halves, between them it stays."""
    distances = [0.02, 0.0151, 0.015, 0.01, 0.00667, 0.0066, 0.0]
    assert [adapted(1.0, d, 0.01) for d in distances] == [2.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_value_loss_is_the_mean_over_tokens_of_its_formula():
    mask = episodes()[2]
    old, returns = rand(4, 5, seed=60), rand(4, 5, seed=61)
    values = (old + rand(4, 5, seed=62, scale=0.4)).requires_grad_()
    loss, _ = value_loss(values, old, returns, mask, 0.2)
    (gradient,) = torch.autograd.grad(loss, values)
    total, slopes = 0.0, torch.zeros(4, 5, dtype=F64)
    for i, t in mask.nonzero().tolist():
        v, v_old, r = (float(x.detach()[i, t]) for x in (values, old, returns))
        inside = min(max(v, v_old - 0.2), v_old + 0.2)
        plain, clipped = (v - r) ** 2, (inside - r) ** 2
        total += max(plain, clipped) / 2 / sum(LENGTHS)
        slopes[i, t] = (v - r) / sum(LENGTHS) if plain >= clipped else 0.0
    assert float(loss) == pytest.approx(total, abs=1e-12)
    close(gradient, slopes)
