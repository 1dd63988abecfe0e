"""GRPO: group-relative policy optimisation. Shao et al. 2024, https://arxiv.org/abs/2402.03300

For each prompt q, sample a group of G responses o₁…o_G from the old policy, score them, and let each response's advantage be its
reward against its own group, so that no critic is needed (§4.1.2):

    Âᵢ = (rᵢ − mean(r)) / (std(r) + 1e-4)

Maximise (eq. 3)

    J = E[ 1/G Σᵢ 1/|oᵢ| Σₜ { min( ρᵢₜ·Âᵢ, clip(ρᵢₜ, 1−ε, 1+ε)·Âᵢ ) − β·D_KL } ],   ρᵢₜ = π_θ(oᵢₜ|q,oᵢ,<ₜ) / π_old(oᵢₜ|q,oᵢ,<ₜ)

with the unbiased, never negative estimate (eq. 4)   D_KL = π_ref/π_θ − log(π_ref/π_θ) − 1   (k3).

Deviations: the clip range may differ below and above (DAPO, https://arxiv.org/abs/2503.14476, eq. 10), 0.2 both by default; with one
update a batch the old policy is the policy itself, so ρ = 1 in value and only its gradient matters; no outer loop that renews π_ref.

    python -m rlhf train grpo --model story --reward negative --steps 60
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf import advantages as adv
from rlhf import ops
from rlhf.config import GRPOConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import Collector, Experience, advantage_metrics, online_metrics, spread
from rlhf.optimisation import Updater, derive_seed
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats

KL_EVERY = 5  # with β = 0 nothing needs the reference, but its distance is still worth knowing


def _sequence_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    """1/N Σᵢ 1/|oᵢ| Σₜ: every response counts the same, long or short."""
    return ops.masked_mean(per_token, mask, dim=1).mean()


NORMALISERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"grpo": _sequence_mean}


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    beta: float,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    variant: str = "grpo",
) -> tuple[Tensor, Stats]:
    """Minus the objective above. Log-probabilities (N, T) nats, advantages (N,) or (N, T), mask (N, T) True on response tokens.

    ``ref_logprobs`` may be None when ``beta`` is 0. Returns the scalar loss and detached stats. Raises ``ValueError`` for an unknown
    variant or a missing reference.
    """
    if variant not in NORMALISERS:
        raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(NORMALISERS)}")
    mean = NORMALISERS[variant]
    if advantages.ndim == 1:
        advantages = advantages[:, None]
    logprobs, old_logprobs = ops.keep(logprobs, mask), ops.keep(old_logprobs, mask)  # exp of padding may overflow
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    policy_loss = mean(-torch.minimum(ratio * advantages, clipped * advantages), mask)
    cut = ops.is_clipped(ratio, advantages, epsilon_low, epsilon_high)
    stats = {
        "loss/policy": policy_loss.detach(),
        "clip_ratio/region_mean": ops.masked_mean(cut.to(logprobs.dtype), mask).detach(),
        "ratio/mean": ops.masked_mean(ratio, mask).detach(),
    }
    loss = policy_loss
    if beta:
        if ref_logprobs is None:
            raise ValueError("beta is not 0, so the loss needs ref_logprobs")
        kl_loss = beta * mean(ops.kl_estimate(logprobs, ops.keep(ref_logprobs, mask), "k3"), mask)
        stats["loss/kl"] = kl_loss.detach()
        loss = policy_loss + kl_loss
    return loss, {"loss": loss.detach(), **stats}


class GRPO:
    """Collects a batch of groups and takes a step."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        self.updater = Updater([{"params": policy.trainable(), "lr": config.learning_rate}], config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        experience = yield from self.collector.batch(step, with_reference=config.beta > 0 or step % KL_EVERY == 0)
        advantages = adv.group_relative(experience.rewards, config.group_size, config.scale_rewards)
        yield Phase(step, "updating")
        logprobs = self._update(experience, advantages, step)
        ratio = (logprobs - experience.rollout.logprobs).exp() if self._several_updates else torch.ones_like(logprobs)
        per_token = advantages[:, None].expand_as(ratio)
        clipped = ops.is_clipped(ratio, per_token, config.epsilon_low, config.epsilon_high)
        metrics = online_metrics(experience) | advantage_metrics(per_token, experience.mask) | self.updater.take_stats()
        yield from self.collector.samples(
            experience,
            step,
            "train",
            advantages,
            config.sample_prompts,
            logprobs=logprobs,
            ratio=ratio,
            clipped=clipped,
            advantages=per_token,
        )
        yield Step(step, metrics, {"advantages": spread(advantages), "reward": spread(experience.rewards)})

    @property
    def _several_updates(self) -> bool:
        return self.config.epochs * self.config.minibatches > 1

    def _update(self, experience: Experience, advantages: Tensor, step: int) -> Tensor:
        """All inner updates; → the log-probabilities (N, T) of the last pass, for the ratio that is shown."""
        config, sequences, mask = self.config, experience.sequences, experience.mask
        n = len(sequences)
        latest = torch.zeros_like(experience.rollout.logprobs)

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            logprobs = self.policy.logprobs(sequences.rows(rows), config.temperature)
            latest[rows] = logprobs.detach()
            old = experience.rollout.logprobs[rows] if self._several_updates else logprobs.detach()
            reference = experience.ref_logprobs[rows] if experience.ref_logprobs is not None else None
            return grpo_loss(
                logprobs, old, reference, advantages[rows], mask[rows], config.beta, config.epsilon_low, config.epsilon_high, config.variant
            )

        for epoch in range(config.epochs):
            generator = torch.Generator().manual_seed(derive_seed(config.seed, "minibatches", step, epoch))
            order = torch.randperm(n, generator=generator) if config.minibatches > 1 else torch.arange(n)
            for part in order.to(self.policy.device).chunk(config.minibatches):
                self.updater.update(part, step, loss)
        return latest

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
