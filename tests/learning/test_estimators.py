"""Which gradient estimates are unbiased, and by how much the others are not: every sample enumerated, in float64.

A world of three tokens, of which 0 ends an answer, and of two places: seven answers of one or two tokens, with rewards at both. The
gradient of J = E[Σ_t r_t] is known, as J is a sum over the answers; the mean of an estimate is the sum of what it is at every answer, or
at every group of answers, weighed by probability. Further down the KL estimators k1, k2 and k3 in the same way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from rlhf import advantages as adv
from rlhf import ops
from rlhf.algorithms.grpo import grpo_loss
from rlhf.algorithms.ppo import policy_loss
from rlhf.algorithms.reinforce import reinforce_loss

pytestmark = pytest.mark.parity
F64 = torch.float64
PLACES = 2
ANSWERS = torch.tensor([[0, 0], *itertools.product((1, 2), range(3))])  # the first ends at once; what follows is padding
MASK = torch.tensor([[True, False]] + [[True, True]] * 6)
LOGITS = torch.tensor([[0.3, -0.2, 0.1], [0.5, -0.4, 0.0], [-0.6, 0.2, 0.7]], dtype=F64)  # at the start, after 1, after 2
REWARDS = torch.tensor([[0.5, 0], [2, 1], [2, -1], [2, 0], [-1, 0], [-1, 3], [-1, 1]], dtype=F64)  # r_t of each answer
TOTALS = REWARDS.sum(1)


def token_logprobs(logits: Tensor, answers: Tensor) -> Tensor:
    """(3, 3), (…, 2) → (…, 2)."""
    table = logits.log_softmax(-1)
    return torch.stack([table[0, answers[..., 0]], table[answers[..., 0], answers[..., 1]]], -1)


def probabilities(logits: Tensor) -> Tensor:
    """Of the seven answers."""
    return ops.keep(token_logprobs(logits, ANSWERS), MASK).sum(1).exp()


def objective(logits: Tensor) -> Tensor:
    return probabilities(logits) @ TOTALS


def state_values(logits: Tensor) -> Tensor:
    """V(s_t), (7, 2): the expected rewards from each place of each answer on."""
    table = logits.softmax(-1)
    after = torch.stack([torch.zeros((), dtype=F64), table[1] @ REWARDS[1:4, 1], table[2] @ REWARDS[4:, 1]])
    start = table[0] @ (torch.tensor([0.5, 2, -1], dtype=F64) + after)
    return torch.stack([start.expand(7), after[ANSWERS[:, 0]]], 1)


TRUE = grad(objective)(LOGITS)


def summed(logprobs: Tensor, advantages: Tensor, mask: Tensor, variant: str = "dr_grpo") -> Tensor:
    """Our loss on one update a batch. Dr. GRPO's, times its constant, is the policy gradient's: a sum over tokens, a mean over answers."""
    loss, _ = grpo_loss(logprobs, logprobs.detach(), None, advantages, mask, 0.0, variant=variant, max_completion_length=PLACES)
    return loss * PLACES


def estimates(answers: Tensor, advantages: Tensor, loss: Callable[..., Tensor] = summed) -> Tensor:
    """The gradient as each draw has it, (draws, 9). ``answers`` (draws, N), of the seven; ``advantages`` (draws, N) or (draws, N, 2)."""

    def of_one(logits: Tensor, chosen: Tensor, worth: Tensor) -> Tensor:
        return -loss(token_logprobs(logits, ANSWERS[chosen]), worth, MASK[chosen])

    return vmap(grad(of_one), (None, 0, 0))(LOGITS, answers, advantages).flatten(1)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def cosine(a: Tensor, b: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a, b, dim=0).item()


EACH = torch.arange(7)[:, None]
P = probabilities(LOGITS)
NOTHING = torch.zeros_like(REWARDS)
RIGHT = state_values(LOGITS)
WRONG = torch.stack([torch.full((7,), 1.3, dtype=F64), torch.tensor([0.0, -0.7, 0.4], dtype=F64)[ANSWERS[:, 0]]], 1)  # V of the state only

UNBIASED = {
    "whole return": TOTALS[:, None].expand(7, 2),
    "whole return, constant baseline": (TOTALS - 5)[:, None].expand(7, 2),
    "rewards to go": adv.monte_carlo(REWARDS, NOTHING, MASK, 1.0)[0],
    "rewards to go, constant baseline": adv.monte_carlo(REWARDS, NOTHING, MASK, 1.0)[0] - 5,
    "rewards to go, wrong critic": adv.monte_carlo(REWARDS, WRONG, MASK, 1.0)[0],
    "rewards to go, right critic": adv.monte_carlo(REWARDS, RIGHT, MASK, 1.0)[0],
    "λ = 1, wrong critic": adv.gae(REWARDS, WRONG, MASK, 1.0, 1.0)[0],
    "λ = 0.5, right critic": adv.gae(REWARDS, RIGHT, MASK, 1.0, 0.5)[0],
    "TD(0), right critic": adv.td(REWARDS, RIGHT, MASK, 1.0)[0],
}
BIASED = {
    "λ = 0.5, wrong critic": adv.gae(REWARDS, WRONG, MASK, 1.0, 0.5)[0],
    "TD(0), wrong critic": adv.td(REWARDS, WRONG, MASK, 1.0)[0],
    "discounted": adv.monte_carlo(REWARDS, NOTHING, MASK, 0.5)[0],
}


# ---------------------------------------------------------------- one answer at a time


def test_the_world_is_what_it_says():
    close(P.sum(), torch.tensor(1.0, dtype=F64))
    close(state_values(LOGITS)[0, 0], objective(LOGITS))


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_advantages(name):
    """E[Σ_t ∇log π(a_t|s_t)·A_t] = ∇J: what came before an action, and what depends on the state alone, has the mean 0."""
    close(P @ estimates(EACH, UNBIASED[name][:, None]), TRUE.flatten())


@pytest.mark.parametrize("name", BIASED)
def test_biased_advantages(name):
    """Bootstrapping believes the critic; discounting (γ = 0.5) forgets what J counts."""
    assert (P @ estimates(EACH, BIASED[name][:, None]) - TRUE.flatten()).norm() > 0.05 * TRUE.norm()


def test_each_refinement_lowers_the_variance():
    """The same mean, ever less noise: whole return > rewards to go > minus a right critic > TD(0) with it. A bad baseline adds some."""

    def variance(name: str) -> float:
        return (P @ (estimates(EACH, UNBIASED[name][:, None]) - TRUE.flatten()).square()).sum().item()

    ladder = ["whole return", "rewards to go", "rewards to go, right critic", "TD(0), right critic"]
    measured = [variance(name) for name in ladder]
    assert measured == sorted(measured, reverse=True) and measured[-1] < 0.9 * measured[-2] < 0.9 * 0.9 * measured[0]
    assert variance("rewards to go, constant baseline") > variance("rewards to go")


def test_a_mean_over_each_answers_own_tokens_is_biased():
    """GRPO's 1/|o| gives short answers more weight: not ∇J, nor along it. Dr. GRPO's constant is what makes the others here exact."""
    mean = P @ estimates(EACH, UNBIASED["rewards to go"][:, None], lambda n, a, m: summed(n, a, m, "grpo"))
    assert cosine(mean, TRUE.flatten()) < 0.99


def test_reinforce_is_this_sum():
    """REINFORCE's own loss gives the same estimates, answer by answer."""
    for advantages in UNBIASED.values():
        ours = estimates(EACH, advantages[:, None], lambda n, a, m: reinforce_loss(n, None, a, m)[0])
        close(ours, estimates(EACH, advantages[:, None]))


# ---------------------------------------------------------------- groups


def groups(size: int) -> tuple[Tensor, Tensor]:
    """All ordered groups of answers, (7^size, size), and how probable each is."""
    members = torch.tensor(list(itertools.product(range(7), repeat=size)))
    return members, P[members].prod(1)


@pytest.mark.parametrize("size", [2, 3])
def test_leave_one_out_is_unbiased_and_the_groups_mean_shrinks(size):
    """An answer in its own baseline takes 1/G of its gradient away: E = (G − 1)/G·∇J, answer by answer the same factor from RLOO's."""
    members, weights = groups(size)
    rewards = TOTALS[members].flatten()
    left_out, centred = adv.leave_one_out(rewards, size), adv.group_relative(rewards, size, "none")
    close(left_out, size / (size - 1) * centred)
    close(weights @ estimates(members, left_out.view_as(members)), TRUE.flatten())
    close(weights @ estimates(members, centred.view_as(members)), (size - 1) / size * TRUE.flatten())


def test_dividing_by_the_groups_deviation_turns_the_gradient():
    """GRPO's scaling is no constant: groups that agree count as much as groups that differ. Uphill still, but not along ∇J."""
    members, weights = groups(3)
    scaled = adv.group_relative(TOTALS[members].flatten(), 3, "group").view_as(members)
    assert 0 < cosine(weights @ estimates(members, scaled), TRUE.flatten()) < 0.999


SAMPLED = 5_000


@pytest.mark.parametrize(("name", "factor"), [("leave one out", 1.0), ("group mean", 2 / 3), ("no baseline", 1.0)])
def test_sampled_groups_agree_with_the_enumerated_ones(name, factor):
    """5 000 seeded groups of three in one batch: the gradient of our loss is within 4.5 standard errors of what the enumeration says."""
    advantages_of = {
        "leave one out": lambda rewards: adv.leave_one_out(rewards, 3),
        "group mean": lambda rewards: adv.group_relative(rewards, 3, "none"),
        "no baseline": lambda rewards: rewards,
    }[name]
    members, weights = groups(3)
    exact = estimates(members, advantages_of(TOTALS[members].flatten()).view_as(members))
    mean = weights @ exact
    close(mean, factor * TRUE.flatten())
    error = ((weights @ (exact - mean).square()) / SAMPLED).sqrt()
    drawn = torch.multinomial(P, 3 * SAMPLED, replacement=True, generator=torch.Generator().manual_seed(1))
    sampled = estimates(drawn[None], advantages_of(TOTALS[drawn])[None])[0]
    assert ((sampled - mean).abs() <= 4.5 * error).all()
    if factor != 1:
        assert ((sampled - TRUE.flatten()).abs() > 4.5 * error).any()  # so many samples would have told


# ---------------------------------------------------------------- samples of another policy


def test_the_ratio_corrects_samples_of_an_older_policy():
    """One-token answers from π_old: E_old[ρ·A] has the gradient of J at π itself; where the clip cuts, a part of it is gone."""
    rewards = torch.tensor([-1.0, 1.0, 0.5], dtype=F64)
    old = (LOGITS[0] + torch.tensor([0.8, -0.5, 0.0], dtype=F64)).log_softmax(0)

    def loss(logits: Tensor, clip: float) -> Tensor:
        each = vmap(lambda n, o, a: policy_loss(n, o, a, torch.ones(1, 1, dtype=torch.bool), clip)[0])
        return old.exp() @ each(logits.log_softmax(0)[:, None, None], old[:, None, None], rewards[:, None, None])

    true = grad(lambda logits: logits.softmax(0) @ rewards)(LOGITS[0])
    close(-grad(loss)(LOGITS[0], 100.0), true)
    assert (-grad(loss)(LOGITS[0], 0.2) - true).norm() > 0.05 * true.norm()


def test_a_ratio_of_the_whole_answer_is_exact_and_one_of_each_token_is_not():
    """Answers of two tokens from π_old: E_old[ρ(y)·R] = J at any π, while Σ_t ρ_t·R leaves out how π came to the second token's state.

    Unclipped. At π = π_old the two have the same gradient, which is why the ratio of each token serves for small steps.
    """
    shift = torch.tensor([[0.6, -0.4, 0.1], [-0.3, 0.2, 0.5], [0.1, 0.4, -0.6]], dtype=F64)

    def off_by(level: str, old: Tensor) -> float:
        was = token_logprobs(old, ANSWERS)

        def loss(logits: Tensor) -> Tensor:
            each = vmap(lambda n, o, a, m: reinforce_loss(n[None], o[None], a[None], m[None], 1e9, 1e9, level)[0])
            return probabilities(old) @ each(token_logprobs(logits, ANSWERS), was, TOTALS, MASK)

        return ((-grad(loss)(LOGITS) - TRUE).norm() / TRUE.norm()).item()

    assert off_by("sequence", LOGITS + shift) < 1e-12
    assert off_by("token", LOGITS + shift) > 0.05
    assert off_by("token", LOGITS) < 1e-12


# ---------------------------------------------------------------- k1, k2, k3

ESTIMATORS: tuple[ops.KLEstimator, ...] = ("k1", "k2", "k3")


def moments(logprobs: Tensor, reference: Tensor, weights: Tensor) -> dict[str, tuple[float, float, float]]:
    """Of each estimator: mean, variance, and bias against KL(π‖π_ref)."""
    kl = weights @ (logprobs - reference)
    out = {}
    for name in ESTIMATORS:
        values = ops.kl_estimate(logprobs, reference, name)
        mean = weights @ values
        out[name] = (mean.item(), (weights @ (values - mean).square()).item(), (mean - kl).item())
    return out


@pytest.mark.parametrize("mu", [0.1, 1.0, 2.0])
def test_kl_estimates_of_two_normal_distributions(mu):
    """Schulman's example, π = N(0, 1) and π_ref = N(μ, 1), by quadrature. d is N(μ²/2, μ²), so that all is known, in units of KL = μ²/2:

        bias:                k1 0,    k2 μ²/4,       k3 0
        standard deviation:  k1 2/μ,  k2 √(2 + μ²),  k3 2·√(e^(μ²) − 1 − μ²)/μ²

    μ = 0.1: bias of k2 0.0025 (0.002 there), deviations 20, 1.42, 1.42. μ = 1: bias 0.25, deviations 2, 1.73, 1.7. As in his tables
    k3 has the least noise; it loses that where the policies are far apart (μ = 2: 1, 2.4, 3.5), for π_ref/π then has a heavy tail.
    """
    x = torch.linspace(-14, 14, 20_001, dtype=F64)
    log_density = torch.distributions.Normal(0.0, 1.0).log_prob(x)
    found = moments(log_density, torch.distributions.Normal(mu, 1.0).log_prob(x), log_density.exp() * (x[1] - x[0]))
    kl = mu**2 / 2
    bias = {"k1": 0.0, "k2": mu**2 / 4, "k3": 0.0}
    deviation = {"k1": 2 / mu, "k2": math.sqrt(2 + mu**2), "k3": 2 * math.sqrt(math.exp(mu**2) - 1 - mu**2) / mu**2}
    for name in ESTIMATORS:
        assert found[name][2] / kl == pytest.approx(bias[name], abs=1e-6)
        assert math.sqrt(found[name][1]) / kl == pytest.approx(deviation[name], rel=1e-6)
    order = sorted(ESTIMATORS, key=lambda name: found[name][1])
    assert order == (["k1", "k2", "k3"] if mu == 2 else ["k3", "k2", "k1"])


def near(epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """log π and log π_ref ∝ π·e^(ε·u) over six tokens; u has mean 0 and variance 1 under π."""
    logprobs = torch.randn(6, generator=torch.Generator().manual_seed(3), dtype=F64).log_softmax(0)
    u = torch.tensor([-1.0, -0.5, 0.0, 0.2, 0.6, 2.5], dtype=F64)
    u = u - logprobs.exp() @ u
    u = u / (logprobs.exp() @ u.square()).sqrt()
    return logprobs, (logprobs + epsilon * u).log_softmax(0), u


def test_kl_estimates_near_the_reference():
    """log E_π[e^(εu)] is KL(π‖π_ref) = ε²/2 + ε³κ/6 + …, κ = E_π[u³], and E[k2] = ε²/2 + O(ε⁴): a bias of −ε³κ/6, one order below the KL.

    The variance of k1 is ε², those of k2 and k3 are ε⁴·Var(u²)/4: the nearer the policies, the more of k1 is noise.
    """
    epsilon = 1e-3
    logprobs, reference, u = near(epsilon)
    weights = logprobs.exp()
    found = moments(logprobs, reference, weights)
    skewness = (weights @ u**3).item()
    assert abs(skewness) > 0.1
    assert found["k1"][0] == pytest.approx(epsilon**2 / 2, rel=0.01)
    assert found["k2"][2] == pytest.approx(-(epsilon**3) * skewness / 6, rel=0.01)
    assert abs(found["k1"][2]) < 1e-15 and abs(found["k3"][2]) < 1e-15
    quartic = epsilon**4 * ((weights @ u**4).item() - 1) / 4
    assert found["k1"][1] == pytest.approx(epsilon**2, rel=0.01)
    assert found["k2"][1] == pytest.approx(quartic, rel=0.01) and found["k3"][1] == pytest.approx(quartic, rel=0.01)


def pulls(epsilon: float) -> dict[str, Tensor]:
    """Expected gradients by the logits: of the two KLs, of each estimator in the loss (E[∇k]) and in the reward (E[k·∇log π])."""
    start, reference, _u = near(epsilon)
    logits = start.clone().requires_grad_()
    logprobs = logits.log_softmax(0)
    weights = logprobs.detach().exp()
    values = {"KL(π‖ref)": logprobs.exp() @ (logprobs - reference), "KL(ref‖π)": reference.exp() @ (reference - logprobs)}
    for name in ESTIMATORS:
        estimate = ops.kl_estimate(logprobs, reference, name)
        values[f"{name} in the loss"] = weights @ estimate
        values[f"{name} in the reward"] = weights @ (estimate.detach() * logprobs)
    return {name: torch.autograd.grad(value, logits, retain_graph=True)[0] for name, value in values.items()}


def test_what_each_kl_estimate_pulls_towards():
    """A good estimate of the KL's value need not have its gradient, and the other way round. With fresh samples:

              in the loss       in the reward
        k1    0                 ∇KL(π‖ref)
        k2    ∇KL(π‖ref)        of second order
        k3    ∇KL(ref‖π)        ∇KL(π‖ref) − ∇KL(ref‖π), of second order

    Both columns together are the gradient of E_π[k], so for k1 and k3 they add up to ∇KL(π‖ref). "Of second order": 10 times nearer to the
    reference the pull is 100 times weaker, the KL's own only 10 times, so that in the reward k2 and k3 hold the policy hardly at all.
    """
    found = pulls(0.3)
    close(found["k1 in the loss"], torch.zeros(6, dtype=F64))
    close(found["k1 in the reward"], found["KL(π‖ref)"])
    close(found["k2 in the loss"], found["KL(π‖ref)"])
    close(found["k3 in the loss"], found["KL(ref‖π)"])
    close(found["k3 in the reward"], found["KL(π‖ref)"] - found["KL(ref‖π)"])
    far, close_by = pulls(1e-2), pulls(1e-3)
    assert (far["KL(π‖ref)"].norm() / close_by["KL(π‖ref)"].norm()).item() == pytest.approx(10, rel=0.05)
    for name in ("k2 in the reward", "k3 in the reward"):
        assert (far[name].norm() / close_by[name].norm()).item() == pytest.approx(100, rel=0.05)
