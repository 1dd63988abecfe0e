"""How noisy the estimate of a gradient is, measured and not guessed.

A batch of n responses is split into M groups of whole prompts, which were drawn independently of one another. From the groups' mean
gradients g_m, of n_m responses each, and ḡ = Σ n_m·g_m / n, the gradient of the whole batch,

    Var(ĝ) = ( Σ n_m·‖g_m‖² − n·‖ḡ‖² ) / ( n·(M − 1) )

is an unbiased estimate of E‖ĝ − E ĝ‖², the variance of the batch's gradient summed over all parameters (the variance of a weighted mean,
with each group's own variance taken as σ²/n_m). With equal groups it is (Σ‖g_m‖² − M‖ḡ‖²) / (M·(M − 1)). No gradient but a running sum
is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rlhf import ops


class GradientMoments:
    """Takes the gradients of the groups, one after the other; ``variance`` is the estimate above."""

    def __init__(self) -> None:
        self.rows = self.groups = 0
        self._total: list[Tensor] = []  # Σ n_m·g_m
        self._squares = 0.0  # Σ n_m·‖g_m‖²

    def add(self, gradients: Sequence[Tensor], rows: int) -> None:
        """The mean gradient of a group of ``rows`` responses, one tensor a parameter."""
        self.rows, self.groups = self.rows + rows, self.groups + 1
        self._squares += rows * squared_norm(gradients)
        if not self._total:
            self._total = [gradient * rows for gradient in gradients]
        else:
            torch._foreach_add_(self._total, list(gradients), alpha=rows)

    def variance(self) -> float | None:
        """None with fewer than two groups, of which none can be told."""
        if self.groups < 2:
            return None
        between = self._squares - squared_norm(self._total) / self.rows  # n·‖ḡ‖² = ‖Σ n_m·g_m‖² / n
        return max(0.0, between) / (self.rows * (self.groups - 1))


class UpdateObserver:
    """Reads the groups' gradients off the parameters while an update adds them up, for the price of one copy of the gradient."""

    def __init__(self, parameters: Sequence[nn.Parameter], rows: int):
        self.moments = GradientMoments()
        self._parameters, self._rows = parameters, rows
        self._before: list[Tensor] = []

    def __call__(self, group: Tensor) -> None:
        now = [_or_zero(p.grad, p).detach().clone() for p in self._parameters]
        added = [a - b for a, b in zip(now, self._before, strict=True)] if self._before else now
        self.moments.add([gradient * (self._rows / len(group)) for gradient in added], len(group))
        self._before = now


def groups_of_prompts(rows: Tensor, responses_per_prompt: int, most: int) -> list[Tensor]:
    """``rows`` of a batch, in which a prompt's responses stand together, in at most ``most`` parts of whole prompts."""
    prompts = rows // responses_per_prompt
    different = prompts.unique()
    return [rows[torch.isin(prompts, part)] for part in different.tensor_split(min(most, len(different)))]


def compare_estimators(
    logprobs_of: Callable[[Tensor], Tensor],
    advantages: Mapping[str, Tensor],
    mask: Tensor,
    parameters: Sequence[nn.Parameter],
    groups: Sequence[Tensor],
    rows_at_once: int,
) -> dict[str, float]:
    """The variance of the gradient of −mean Σ_t A_t·log π_t under each estimator of the advantages, (N, T), on the very same responses.

    ``logprobs_of(rows)`` → (rows, T) nats with gradient: one forward pass serves all estimators, each of which costs a backward pass.
    """
    moments = {name: GradientMoments() for name in advantages}
    for group in groups:
        sums: dict[str, list[Tensor]] = {}
        for rows in group.split(rows_at_once):
            logprobs = ops.keep(logprobs_of(rows), mask[rows])
            for i, (name, worth) in enumerate(advantages.items()):
                loss = -(ops.keep(worth[rows], mask[rows]) * logprobs).sum() / len(group)
                found = torch.autograd.grad(loss, parameters, retain_graph=i + 1 < len(advantages), allow_unused=True)
                gradients = [_or_zero(gradient, p) for gradient, p in zip(found, parameters, strict=True)]
                sums[name] = [a + b for a, b in zip(sums[name], gradients, strict=True)] if name in sums else gradients
        for name, gradients in sums.items():
            moments[name].add(gradients, len(group))
    return {name: variance for name, moment in moments.items() if (variance := moment.variance()) is not None}


def squared_norm(gradients: Sequence[Tensor]) -> float:
    """‖g‖² over all parameters."""
    return float(torch.stack([gradient.float().square().sum().double() if gradient.dtype != torch.float64 else gradient.square().sum()
                              for gradient in gradients]).sum())  # fmt: skip


def _or_zero(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient
