"""The numbers in the answers of Check yourself, against the engine, brute force and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlhf import advantages, ops
from rlhf.labs import advantage_estimation, group_advantages, interview, kl_estimators
from rlhf.labs.kl_optimum import best_of_n_bound, optimum
from rlhf.labs.softmax_policy import kl, log_softmax, softmax

LUCK = np.random.default_rng(0)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.0), (1.0, 1.0), (0.9, 0.95)])
def test_gae_is_the_engines(gamma, lam):
    rewards, values = LUCK.normal(size=7), LUCK.normal(size=7)
    wanted, _returns = advantages.gae(
        torch.tensor(rewards)[None], torch.tensor(values)[None], torch.ones(1, 7, dtype=torch.bool), gamma, lam
    )
    assert advantage_estimation.gae(rewards, values, 0.0, gamma, lam) == pytest.approx(wanted[0].numpy(), abs=1e-12)


@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.0, 0.0], [1.0] * 4, [0.3, -2.0, 5.0]])
def test_group_advantages_are_the_engines(rewards):
    wanted = advantages.group_relative(torch.tensor(rewards, dtype=torch.float64), len(rewards), "group")
    assert group_advantages.advantages(rewards, "grpo") == pytest.approx(wanted.numpy(), abs=1e-12)


def test_estimates_are_the_engines_and_their_mean_is_the_kl():
    p, q = softmax(LUCK.normal(size=5)), softmax(LUCK.normal(size=5))
    found = kl_estimators.estimates(np.log(p), np.log(q))
    for name in ("k1", "k2", "k3"):
        wanted = ops.kl_estimate(torch.tensor(np.log(p)), torch.tensor(np.log(q)), name)
        assert found[name] == pytest.approx(wanted.numpy(), abs=1e-12)
    assert p @ found["k1"] == pytest.approx(kl(p, q)) and p @ found["k3"] == pytest.approx(kl(p, q))
    assert found["k3"].min() >= 0 > found["k1"].min()


@pytest.mark.parametrize("beta", [2.0, 0.1, 1e-3])
def test_the_optimum_beats_whatever_is_near_it(beta):
    reference, rewards = softmax(LUCK.normal(size=4)), LUCK.normal(size=4)
    found = optimum(reference, rewards, beta)
    best, log_z = found.policy, found.log_z

    def objective(p):
        return p @ rewards - beta * kl(p, reference)

    assert objective(best) == pytest.approx(beta * log_z)  # its value is β·log Z
    for _ in range(50):
        assert objective(softmax(np.log(best + 1e-300) + 0.1 * LUCK.normal(size=4))) <= objective(best) + 1e-12


@pytest.mark.parametrize("n", [1, 4, 64])
def test_best_of_n_by_summing(n):
    answers = 20_000
    order = np.arange(1, answers + 1) / answers
    best = order**n - (order - 1 / answers) ** n
    assert best_of_n_bound(n) == pytest.approx(float(kl(best, np.full(answers, 1 / answers))), abs=1e-3)


def test_ascent_follows_the_gradient():
    start, rewards, beta = LUCK.normal(size=3), LUCK.normal(size=3), 0.3
    reference = softmax(start)

    def objective(theta):
        return softmax(theta) @ rewards - beta * kl(softmax(theta), reference)

    away = start + np.array([0.4, 0.0, -0.2])
    p = softmax(away)
    gain = rewards - beta * (log_softmax(away) - log_softmax(start))
    steps = np.eye(3) * 1e-6
    assert p * (gain - p @ gain) == pytest.approx([(objective(away + d) - objective(away - d)) / 2e-6 for d in steps], abs=1e-8)
    walked = interview.ascent(start, rewards, 3.0, 3000, beta)
    assert walked[-1] == pytest.approx(optimum(reference, rewards, beta).policy, abs=1e-6)


def test_a_step_of_dpo_follows_its_gradient():
    f, logits, rate = LUCK.normal(size=(3, 2)), LUCK.normal(size=3), 0.7
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    policy = torch.log_softmax(torch.tensor(logits) + torch.tensor(f) @ w, 0)
    moved = policy - policy.detach()
    (-torch.nn.functional.logsigmoid(moved[0] - moved[1])).backward()
    assert w.grad is not None
    wanted = log_softmax(logits - f @ (rate * w.grad.numpy()))
    assert interview.dpo_step(0, 1, logits, f, rate) == pytest.approx(wanted, abs=1e-12)


def test_entropy():
    assert interview.entropy([0.25] * 4) == pytest.approx(np.log(4)) and interview.entropy([1.0, 0.0]) == 0
