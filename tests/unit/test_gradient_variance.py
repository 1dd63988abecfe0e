"""The measured variance of a gradient, against gradients taken one response at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlhf.algorithms import make_config
from rlhf.events import Failed, Step
from rlhf.gradient_variance import GradientMoments, UpdateObserver, compare_estimators, groups_of_prompts
from rlhf.preferences import Dataset, Prompt
from rlhf.train import train

F64 = torch.float64
SUMS = Dataset(tuple(Prompt(f"{a}+{a + 5}=", f"{2 * a + 5:03d}") for a in range(10, 30)), (), "prompts", "test")


def rand(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


class Toy:
    """Log-probabilities (N, T) of N given responses under a small network."""

    def __init__(self, rows: int, tokens: int):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, tokens)).double()
        self.inputs, self.mask = rand(rows, 3, seed=1), torch.arange(tokens)[None] < torch.arange(rows)[:, None] % tokens + 1

    def logprobs(self, rows: torch.Tensor) -> torch.Tensor:
        return -nn.functional.softplus(self.network(self.inputs[rows]))

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def gradients(self, advantages: torch.Tensor) -> torch.Tensor:
        """(N, P): the gradient of each response alone, brute force."""
        found = []
        for i in range(len(self.inputs)):
            row = torch.tensor([i])
            loss = -(advantages[row] * self.logprobs(row) * self.mask[row]).sum()
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.parameters)]))
        return torch.stack(found)


def test_groups_of_one_give_the_sample_variance_of_the_mean():
    """Var(ĝ) = Σᵢ‖gᵢ − ḡ‖² / (N·(N − 1)), from the gradient of each response taken alone."""
    toy, worth = Toy(8, 4), {"one": rand(8, 4, seed=2), "two": rand(8, 4, seed=3)}
    found = compare_estimators(toy.logprobs, worth, toy.mask, toy.parameters, groups_of_prompts(torch.arange(8), 1, 8), 3)
    for name, advantages in worth.items():
        each = toy.gradients(advantages)
        assert found[name] == pytest.approx(float((each - each.mean(0)).square().sum() / (8 * 7)), rel=1e-9)
    assert found["one"] != pytest.approx(found["two"])


def test_groups_of_unequal_size_are_weighted():
    """Seven prompts of two responses in three groups: 6, 4 and 4 rows. Σ n_m‖g_m − ḡ‖² / (n·(M − 1))."""
    toy, advantages = Toy(14, 4), rand(14, 4, seed=4)
    groups = groups_of_prompts(torch.arange(14), 2, 3)
    assert [len(group) for group in groups] == [6, 4, 4] and torch.cat(groups).tolist() == list(range(14))
    each = toy.gradients(advantages)
    expected = sum(len(group) * float((each[group].mean(0) - each.mean(0)).square().sum()) for group in groups) / (14 * 2)
    for at_once in (14, 3):  # however the groups are cut into passes
        found = compare_estimators(toy.logprobs, {"": advantages}, toy.mask, toy.parameters, groups, at_once)
        assert found[""] == pytest.approx(expected, rel=1e-9)


def test_the_estimate_is_unbiased():
    """Gradients of variance 3 in each of 5 directions around a mean of 10: a group of n has 3/n, the batch of 12 rows 15/12 = 1.25."""
    generator = torch.Generator().manual_seed(0)
    sizes, estimates = (2, 4, 6), []
    for _ in range(4000):
        moments = GradientMoments()
        for n in sizes:
            moments.add([10 + torch.randn(5, dtype=F64, generator=generator) * (3 / n) ** 0.5], n)
        estimates.append(moments.variance())
    assert sum(estimates) / len(estimates) == pytest.approx(1.25, rel=0.03)


def test_one_group_says_nothing():
    moments = GradientMoments()
    moments.add([rand(3, seed=0)], 4)
    assert moments.variance() is None


def test_the_observer_reads_the_same_off_an_update():
    toy, advantages = Toy(10, 3), rand(10, 3, seed=5)
    groups = groups_of_prompts(torch.randperm(10, generator=torch.Generator().manual_seed(0)), 2, 4)
    observer = UpdateObserver(toy.parameters, 10)
    for group in groups:
        (-(advantages[group] * toy.logprobs(group) * toy.mask[group]).sum() / 10).backward()
        observer(group)
    expected = compare_estimators(toy.logprobs, {"": advantages}, toy.mask, toy.parameters, groups, 10)[""]
    assert observer.moments.variance() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("baseline", "name"), [("none", "to_go"), ("running_mean", "running_mean"), ("value", "value")])
def test_a_run_measures_its_own_estimator_twice_and_finds_the_same(baseline, name):
    """Off the update on the way, and beside the others on the same responses. With a critic the update's gradient is not the policy's."""
    config = make_config(
        "reinforce", model="sums", device="cpu", baseline=baseline, prompts_per_step=5, steps=2, samples_per_prompt=4, beta=0.1,
        eval_every=1,
    )  # fmt: skip
    steps = [event for event in train(config, SUMS) if isinstance(event, (Step, Failed)) and event.step > 0]
    for event in steps:
        assert isinstance(event, Step), event
        assert event.metrics["grad_variance"] == pytest.approx(event.metrics[f"grad_variance/{name}"], rel=1e-3)
        assert event.metrics["grad_variance"] > 0 and "grad_variance/leave_one_out" in event.metrics
