"""Where each algorithm ends, on a policy so small that the answer can be written down.

A bandit: K answers of one token, log π = log_softmax(θ), a reference and rewards that are given. Expectations are sums over all answers (or
all groups of answers) weighed by their probability, in float64, so nothing is random. The optimum of E[r] − β·KL(π‖π_ref) is

    π* ∝ π_ref·exp(r/β)                                                     (Rafailov et al. 2023, eq. 4)

and what is shown for each algorithm is the zero of *its* expected gradient, which is π* for most and something else for some:

    REINFORCE, PPO        r − β·log(π/π_ref) as reward                      π*
    GRPO, corrected KL    π/π_old·k3 in the loss, no scaling                π*
    GRPO, groups of G     its baseline holds the answer itself              π* of β·G/(G − 1)
    GRPO, scale "group"   rewards divided by their deviation σ              π* of β·σ, σ at the end itself; small β: none
    GRPO, plain KL        k3 in the loss pulls along KL(π_ref‖π)            π_ref·β/(λ − r), not π*
    DPO                   pairs drawn by Bradley–Terry                      π*

The way there is natural-gradient descent: on a softmax it divides the k-th component of the gradient by π_k (Kakade 2001). It has the zeros
of plain descent, along which an unlikely answer would need thousands of steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf import advantages as adv
from rlhf import ops
from rlhf.algorithms.dpo import dpo_loss
from rlhf.algorithms.grpo import grpo_loss
from rlhf.algorithms.ppo import is_cut, policy_loss, token_rewards
from rlhf.algorithms.reinforce import reinforce_loss

pytestmark = pytest.mark.parity
F64 = torch.float64
TOLERANCE = 1e-7  # of every probability
BETAS = pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
REFERENCE = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64).log()
REWARDS = torch.tensor([-0.5, 1.0, 0.2, 1.5], dtype=F64)
MASK = torch.ones(1, 1, dtype=torch.bool)
Loss = Callable[..., tuple[Tensor, object]]


def optimum(beta: float) -> Tensor:
    """π*, (K,)."""
    return (REFERENCE + REWARDS / beta).softmax(0)


def expected(weights: Tensor, loss: Loss, *batches: Tensor) -> Tensor:
    """Σ_i w_i·loss(batch i), scalar: a loss is the mean of one batch. ``weights`` (draws,), ``batches`` (draws, N, T) or (draws, N)."""
    return (weights * torch.vmap(lambda *batch: loss(*batch)[0])(*batches)).sum()


def column(values: Tensor) -> Tensor:
    """(K,) → (K, 1, 1): each answer as a batch of its own."""
    return values[:, None, None]


def settle(gradient: Callable[[Tensor], Tensor], rate: float) -> Tensor:
    """Natural-gradient descent from the reference until nothing moves any more; → π, (K,)."""
    logprobs = REFERENCE
    for _ in range(500):
        move = rate * gradient(logprobs.clone().requires_grad_()) / logprobs.exp()
        logprobs = (logprobs - move).log_softmax(0)
        if move.abs().max() < TOLERANCE / 100:
            return logprobs.exp()
    raise AssertionError(f"it has not settled: the last move was {move.tolist()}")


def on_policy(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gradient of ``loss(log π, log π_old)`` with fresh samples: π_old = π, held fixed."""

    def gradient(logits: Tensor) -> Tensor:
        logprobs = logits.log_softmax(0)
        return torch.autograd.grad(loss(logprobs, logprobs.detach()), logits)[0]

    return gradient


def same(policy: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(policy, wanted, rtol=0, atol=TOLERANCE)


def kl_in_reward(old: Tensor, beta: float) -> Tensor:
    """r − β·log(π_old/π_ref) of each answer, (K,), by the function that PPO has for it."""
    mask = MASK.expand(len(old), 1)
    return token_rewards(REWARDS, old[:, None], REFERENCE[:, None], mask, beta)[:, 0]


def policy_gradient(by: str) -> Loss:
    """REINFORCE's −A·log π, summed over the tokens and averaged over the answers."""
    if by == "reinforce_loss":
        return lambda logprobs, advantages: reinforce_loss(logprobs, None, advantages, MASK)
    return lambda logprobs, advantages: (-(advantages * logprobs).sum(1).mean(), {})


# ---------------------------------------------------------------- where each ends


@BETAS
@pytest.mark.parametrize("baseline", ["none", "constant", "value"])
@pytest.mark.parametrize("by", ["its formula", "reinforce_loss"])
def test_reinforce_ends_at_the_optimum(beta, baseline, by):
    """Its gradient is E[∇log π·(r − β·log(π/π_ref) − b)] = ∇(E[r] − β·KL), whatever the constant b: zero only at π*."""
    surrogate = policy_gradient(by)

    def loss(logprobs, old):
        worth = kl_in_reward(old, beta)
        b = {"none": 0.0, "constant": 3.0, "value": (old.exp() * worth).sum()}[baseline]
        return expected(old.exp(), surrogate, column(logprobs), column(worth - b))

    same(settle(on_policy(loss), 0.5 / beta), optimum(beta))


@BETAS
def test_ppo_ends_at_the_optimum(beta):
    """Clipped, several epochs a batch, KL in the reward of the policy that sampled, a critic that is right.

    The advantage r − β·log(π_old/π_ref) − V vanishes for every answer at π* only; the clip slows the way and is idle at its end.
    """
    old, clip, cut, rate = REFERENCE, 0.2, [], 0.3 / beta
    for _ in range(60):
        worth = kl_in_reward(old, beta)[:, None]
        value = (old.exp()[:, None] * worth).sum().expand_as(worth)
        advantages, _returns = adv.gae(worth, value, MASK.expand_as(worth), 1.0, 0.95)
        logits = old.clone()
        for _epoch in range(3):
            logits.requires_grad_()
            logprobs = logits.log_softmax(0)
            batches = (column(logprobs), column(old), advantages[:, None])
            loss = expected(old.exp(), lambda new, was, a: policy_loss(new, was, a, MASK, clip), *batches)
            logits = logits.detach() - rate * torch.autograd.grad(loss, logits)[0] / old.exp()
        cut.append(bool(is_cut((logprobs - old).exp(), advantages[:, 0], clip).any()))
        old = logits.log_softmax(0)
    assert cut[0] and not cut[-1]
    assert advantages.abs().max() < TOLERANCE
    same(old.exp(), optimum(beta))


@BETAS
@pytest.mark.parametrize("estimator", ["in the reward", "corrected k3", "k2"])
def test_grpo_without_scaling_ends_at_the_optimum(beta, estimator):
    """Advantages r − E[r] (a group of all answers). Three ways to the KL's own gradient E[log(π/π_ref)·∇log π]:

    subtract k1 from the reward; ρ·k3, for ∇(ρ·k3) = (k3 + 1 − e^(−d))·∇log π = d·∇log π; k2, for ∇k2 = d·∇log π.
    """

    def loss(logprobs, old):
        reward = kl_in_reward(old, beta) if estimator == "in the reward" else REWARDS
        advantages = reward - (old.exp() * reward).sum()
        given = column(logprobs), column(old), column(REFERENCE.expand_as(old)), advantages[:, None]
        coefficient = beta if estimator == "corrected k3" else 0.0
        total = expected(old.exp(), lambda n, o, r, a: grpo_loss(n, o, r, a, MASK, coefficient, use_bias_correction_kl=True), *given)
        return total + (beta * (old.exp() * ops.kl_estimate(logprobs, REFERENCE, "k2")).sum() if estimator == "k2" else 0.0)

    same(settle(on_policy(loss), 0.5 / beta), optimum(beta))


@BETAS
def test_grpo_with_the_papers_kl_ends_elsewhere(beta):
    """k3 in the loss has the gradient E[(1 − π_ref/π)·∇log π] = −Σ π_ref·∇log π = ∇KL(π_ref‖π): the other KL's.

    So the paper's eq. 3 with fresh samples maximises E[r] − β·KL(π_ref‖π). Its k-th component by θ is π_k·(r_k − E[r]) − β·(π_k − π_ref,k);
    zero where π_k = β·π_ref,k/(λ − r_k) with λ = β + E[r], the one λ > max r that makes it sum to 1
    (Vojnović & Yun 2025, https://arxiv.org/abs/2502.18548). It keeps more of everything than π* does: a rational tail, no exponential one.
    """

    def loss(logprobs, old):
        advantages = (REWARDS - (old.exp() * REWARDS).sum())[:, None]
        given = column(logprobs), column(old), column(REFERENCE.expand_as(old)), advantages
        return expected(old.exp(), lambda n, o, r, a: grpo_loss(n, o, r, a, MASK, beta), *given)

    policy = settle(on_policy(loss), 1 / (beta + 2))
    level = beta + (policy * REWARDS).sum()
    assert level > REWARDS.max()
    same(policy, beta * REFERENCE.exp() / (level - REWARDS))
    assert (policy - optimum(beta)).abs().max() > 0.01


def groups_of(size: int) -> Tensor:
    """All ordered groups of ``size`` answers, (K^size, size)."""
    return torch.tensor(list(itertools.product(range(len(REWARDS)), repeat=size)))


@BETAS
@pytest.mark.parametrize(("size", "leave_one_out"), [(2, False), (3, False), (3, True)])
def test_small_groups_strengthen_the_kl(beta, size, leave_one_out):
    """All K^G groups. Each answer stands in its own group's mean, so E[Â·∇log π] is (G − 1)/G of E[r·∇log π], while the KL's term is whole:

    the end is π* of β·G/(G − 1). Leaving the answer itself out of the mean (RLOO) gives β back.
    """
    members = groups_of(size)
    rewards = REWARDS[members].flatten()
    advantages = adv.leave_one_out(rewards, size) if leave_one_out else adv.group_relative(rewards, size, "none")

    def loss(logprobs, old):
        given = logprobs[members][..., None], old[members][..., None], REFERENCE[members][..., None], advantages.view_as(members)
        mask = MASK.expand(size, 1)
        weights = old[members].sum(1).exp()
        return expected(weights, lambda n, o, r, a: grpo_loss(n, o, r, a, mask, beta, use_bias_correction_kl=True), *given)

    effective = beta if leave_one_out else beta * size / (size - 1)
    same(settle(on_policy(loss), 0.5 / beta), optimum(effective))


def spread(policy: Tensor) -> Tensor:
    """What the rewards are divided by: their deviation under π, + 1e-4."""
    return (policy * (REWARDS - (policy * REWARDS).sum()).square()).sum().sqrt() + 1e-4


def scaled_grpo(beta: float) -> Callable[[Tensor], Tensor]:
    """The gradient of GRPO with corrected KL and advantages (r − E[r])/σ: a group of all answers, weighed by π."""

    def loss(logprobs: Tensor, old: Tensor) -> Tensor:
        advantages = ((REWARDS - (old.exp() * REWARDS).sum()) / spread(old.exp()))[:, None]
        given = column(logprobs), column(old), column(REFERENCE.expand_as(old)), advantages
        return expected(old.exp(), lambda n, o, r, a: grpo_loss(n, o, r, a, MASK, beta, use_bias_correction_kl=True), *given)

    return on_policy(loss)


@pytest.mark.parametrize("beta", [1.0, 2.0, 4.0])
def test_group_scaling_changes_beta(beta):
    """The KL that counts is β·σ: the end is π* of that, with σ as it is at the end. Each prompt gets a β of its own."""
    policy = settle(scaled_grpo(beta), 0.3 / beta)
    same(policy, optimum(float(beta * spread(policy))))


def test_group_scaling_can_undo_the_kl():
    """σ shrinks as π sharpens and takes the KL with it. With β = 0.5 no σ of a spread-out policy agrees with its own π*, and π collapses.

    Without scaling the best answer ends at 0.43 with this β, not at 1.
    """
    beta, best = 0.5, REWARDS.argmax()
    sigmas = torch.linspace(0.01, 1, 500, dtype=F64).tolist()
    assert all(spread(optimum(beta * sigma)) < sigma for sigma in sigmas)
    logprobs, gradient = REFERENCE, scaled_grpo(beta)
    for _ in range(200):
        if logprobs[best].exp() > 0.999:
            break
        logprobs = (logprobs - 0.1 * gradient(logprobs.clone().requires_grad_()) / logprobs.exp()).log_softmax(0)
    assert logprobs[best].exp() > 0.999
    assert optimum(beta)[best].item() == pytest.approx(0.43, abs=0.001)


@BETAS
@pytest.mark.parametrize("drawn", ["uniform", "reference"])
def test_dpo_ends_at_the_optimum_from_bradley_terry_pairs(beta, drawn):
    """All ordered pairs, each as often as it is drawn (evenly, or both answers from π_ref) and preferred: P = σ(r_w − r_l).

    The expected loss is a cross-entropy between P and σ(β·(h_w − h_l)), least where they agree: β·h = r + constant, which is π*.
    Which pairs are drawn changes the way and not the end, as long as they connect all answers.
    """
    chosen, rejected = torch.tensor(list(itertools.permutations(range(len(REWARDS)), 2))).T
    often = torch.ones(len(chosen), dtype=F64) if drawn == "uniform" else (REFERENCE[chosen] + REFERENCE[rejected]).exp()
    weights = often / often.mean() * (REWARDS[chosen] - REWARDS[rejected]).sigmoid()

    def loss(logits: Tensor) -> Tensor:
        logprobs = logits.log_softmax(0)
        return dpo_loss(logprobs[chosen], logprobs[rejected], REFERENCE[chosen], REFERENCE[rejected], beta, weights=weights)[0]

    logits = REFERENCE.clone().requires_grad_()
    for _ in range(8):  # Newton's steps, as this one is a convex function; the ones only fix the constant that logits may have
        slope, curvature = torch.autograd.grad(loss(logits), logits)[0], torch.autograd.functional.hessian(loss, logits)
        logits = (logits - torch.linalg.solve(curvature + 1, slope)).detach().requires_grad_()
    assert slope.abs().max() < TOLERANCE
    same(logits.softmax(0).detach(), optimum(beta))
