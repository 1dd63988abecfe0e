"""The optimizer's side of a step: random numbers, mini- and microbatches, warm-up, clipping, and the refusal of NaN."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.config import Config, OnlineConfig
from rlhf.errors import NonFiniteError
from rlhf.rollout import Interrupted, never
from rlhf.types import Stats


def derive_seed(seed: int, *purpose: object) -> int:
    """A seed for one purpose at one step. Nothing random depends on what was drawn before, so a resumed run needs no random state."""
    return random.Random(f"{seed}/{'/'.join(map(str, purpose))}").getrandbits(63)


def batch_indices(count: int, size: int, step: int, seed: int) -> list[int]:
    """The items of batch ``step`` (from 1): epochs over ``count`` items, each in an order of its own, cut into batches of ``size``."""
    positions = range((step - 1) * size, step * size)
    orders: dict[int, list[int]] = {}
    for epoch in {position // count for position in positions}:
        orders[epoch] = random.Random(derive_seed(seed, "order", epoch)).sample(range(count), count)
    return [orders[position // count][position % count] for position in positions]


def minibatches(count: int, config: OnlineConfig, step: int, epoch: int, shuffled: bool) -> tuple[Tensor, ...]:
    """The rows of each update of an inner epoch: ``count`` rows in at most ``config.minibatches`` parts, in an order of the epoch's own
    where ``shuffled``."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "minibatches", step, epoch))
    order = torch.randperm(count, generator=generator) if shuffled else torch.arange(count)
    return order.chunk(config.minibatches)


def split(order: Tensor, size: int) -> Iterator[Tensor]:
    """Consecutive parts of ``order`` of at most ``size`` entries."""
    yield from order.split(size)


class Updater:
    """AdamW with warm-up and gradient clipping. Gathers the statistics of all updates of a step."""

    def __init__(self, groups: list[dict[str, Any]], config: Config, interrupted: Callable[[], bool] = never):
        self.interrupted = interrupted
        self.config = config
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        # fused: one kernel for all parameters, on the CPU too; it is a third of the step's small operators
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._stats: dict[str, list[tuple[float, Tensor]]] = defaultdict(list)
        self.clock = time.perf_counter  # a benchmark puts one here that waits for the GPU
        self.times: dict[str, float] = defaultdict(float)  # seconds in forward, backward, optimizer; for whoever clears them

    def update(
        self,
        order: Tensor,
        step: int,
        loss: Callable[[Tensor], tuple[Tensor, Stats]],
        weight: Callable[[Tensor], float] | None = None,
        at_once: int | None = None,
        groups: Sequence[Tensor] | None = None,
        observe: Callable[[Tensor], None] | None = None,
    ) -> None:
        """One optimizer update on the rows ``order``, gradients added up over microbatches.

        ``loss(rows)`` → (mean loss over the rows, stats); ``weight(rows)``: the rows' share of the whole mean (default: their number
        over all rows); ``at_once``: rows in a microbatch, where it is not ``microbatch_size``. ``groups``: the same rows in parts, after
        each of which ``observe(part)`` is called, while the parameters hold the gradient so far. Raises ``NonFiniteError`` before the
        weights are touched, and ``Interrupted`` only before the step's first update, so that a step is done whole or not at all.
        """
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self._schedule(step)
        for part in groups or (order,):
            for rows in split(part, at_once or self.config.microbatch_size):
                if not self._stats["grad_norm"] and self.interrupted():
                    self.optimizer.zero_grad(set_to_none=True)
                    self._stats.clear()
                    raise Interrupted
                self._backward(rows, loss, weight(rows) if weight else len(rows) / len(order))
            if observe:
                observe(part)
        began = self.clock()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        if not bool(torch.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteError(
                f"The gradient became {float(norm)} at step {step}; the weights are those of the last good update.",
                f"Lower the learning rate (now {self.config.learning_rate:g}) or max_grad_norm (now {self.config.max_grad_norm:g}).",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.times["optimizer"] += self.clock() - began
        self._stats["grad_norm"].append((1.0, norm.detach()))

    def _backward(self, rows: Tensor, loss: Callable[[Tensor], tuple[Tensor, Stats]], share: float) -> None:
        """Add the gradient of one microbatch, which is ``share`` of the whole."""
        began = self.clock()
        value, stats = loss(rows)
        computed = self.clock()
        (value * share).backward()
        self.times["forward"] += computed - began
        self.times["backward"] += self.clock() - computed
        for key, stat in stats.items():
            self._stats[key].append((share, stat.detach()))

    def _schedule(self, step: int) -> float:
        """The share of the learning rate at a step (from 1): up over the warm-up, then constant, or in a line to 0 after the last step."""
        warmup = min(1.0, step / self.config.warmup_steps) if self.config.warmup_steps else 1.0
        return warmup * (1 - (step - 1) / self.config.steps) if self.config.learning_rate_schedule == "linear" else warmup

    def take_stats(self) -> dict[str, float]:
        """Means over the updates since the last call, and the learning rate."""
        means = {}
        for key, entries in self._stats.items():
            weights = sum(share for share, _ in entries)
            means[key] = float(sum(share * value.double() for share, value in entries)) / weights  # pyright: ignore[reportArgumentType]
        self._stats.clear()
        return {**means, "learning_rate": float(self.optimizer.param_groups[0]["lr"])}

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(dict(state))
