"""RRHF: rank responses to align with human feedback. Yuan et al. 2023, https://arxiv.org/abs/2304.05302

For a prompt x take K scored answers y₁…y_K with rewards r₁…r_K, and let the policy score each by its mean log-probability (eq. 1)

    pᵢ = Σₜ log π_θ(yᵢₜ | x, yᵢ,<ₜ) / |yᵢ|

A worse answer should not be likelier than a better one, and the best, b = argmax r, is imitated. Minimise (eqs. 2, 3, 4)

    L = L_rank + w·L_ft,   L_rank = Σ_{rᵢ<rⱼ} max(0, pᵢ − pⱼ),   L_ft = − Σₜ log π_θ(y_bₜ | x, y_b,<ₜ),   w = 1

No reference, no critic, no importance ratio. ``variant="best_of_n"`` leaves the ranking out: rejection-sampling fine-tuning on the best of
n samples (RAFT, Dong et al. 2023, algorithm 1, https://arxiv.org/abs/2304.06767; Llama 2, §3.2.3, https://arxiv.org/abs/2307.09288).

Deviations: the answers are fresh samples of the current policy, scored by the reward (the paper's main runs take fixed answers of several
sources; sampling online is one of its ablations), so each batch is used once by default. ``sft_reduction="mean"`` divides L_ft by |y_b|,
as the authors' program does. The loss is averaged over the prompts of a batch. Of several best answers the first is imitated. The KL to
the reference is measured, not used.

    python -m rlhf train rrhf --model story --reward negative --steps 60
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf import ops
from rlhf.config import RRHFConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import KL_EVERY, Collector, Experience, online_metrics, spread
from rlhf.optimisation import Updater, minibatches
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats


def wrongly_ordered(scores: Tensor, rewards: Tensor) -> Tensor:
    """(B, K, K) bool: answer i is worse than j and yet likelier, for the scores p and the rewards, both (B, K)."""
    return (rewards[:, :, None] < rewards[:, None, :]) & (scores[:, :, None] > scores[:, None, :])


def rank_loss(scores: Tensor, rewards: Tensor) -> Tensor:
    """Eq. 2, (B,), for the scores p and the rewards, both (B, K). A tie in the rewards says nothing."""
    return torch.where(wrongly_ordered(scores, rewards), scores[:, :, None] - scores[:, None, :], 0.0).sum((1, 2))


def rrhf_loss(
    logprobs: Tensor,
    rewards: Tensor,
    group_size: int,
    mask: Tensor,
    sft_weight: float = 1.0,
    sft_reduction: str = "sum",
    variant: str = "rrhf",
) -> tuple[Tensor, Stats]:
    """The loss above, averaged over prompts. Log-probabilities (N, T) nats, rewards (N,), mask (N, T) True on response tokens.

    The K = ``group_size`` answers to a prompt stand in consecutive rows. Returns the scalar loss and detached stats. Raises ``ValueError``
    for rows that make no whole groups and for an unknown variant or reduction.
    """
    if len(logprobs) % group_size:
        raise ValueError(f"{len(logprobs)} rows do not split into groups of {group_size}")
    if variant not in ("rrhf", "best_of_n") or sft_reduction not in ("sum", "mean"):
        raise ValueError(f"unknown variant {variant!r} or reduction {sft_reduction!r}: choose rrhf or best_of_n, sum or mean")
    means = ops.masked_mean(logprobs, mask, dim=1).view(-1, group_size)
    grouped = rewards.view(-1, group_size)
    best = grouped.argmax(1, keepdim=True)
    imitated = means if sft_reduction == "mean" else ops.keep(logprobs, mask).sum(1).view_as(means)
    sft = -imitated.gather(1, best).mean()
    if variant == "best_of_n":
        return sft, {"loss": sft.detach(), "loss/sft": sft.detach()}
    rank = rank_loss(means, grouped).mean()
    loss = rank + sft_weight * sft
    return loss, {"loss": loss.detach(), "loss/rank": rank.detach(), "loss/sft": sft.detach()}


def token_push(logprobs: Tensor, rewards: Tensor, mask: Tensor, config: Config) -> Tensor:
    """(N, T): minus the gradient of the prompt's own loss by each token's log-probability; what advantages are to other algorithms.

    A pair in the wrong order pushes the tokens of its better answer by 1/|y| and those of its worse one by −1/|y|; the best answer's are
    pushed by w more (w/|y| where the imitation is averaged).
    """
    groups, lengths = rewards.view(-1, config.group_size), mask.sum(1)
    push = torch.zeros_like(groups)
    if config.variant == "rrhf":
        wrong = wrongly_ordered(ops.masked_mean(logprobs, mask, dim=1).view_as(groups), groups).to(push.dtype)
        push = (wrong.sum(1) - wrong.sum(2)) / lengths.view_as(groups)
    best = groups.argmax(1, keepdim=True)
    imitation = torch.full_like(push, config.sft_weight if config.variant == "rrhf" else 1.0)
    if config.sft_reduction == "mean":
        imitation = imitation / lengths.view_as(groups)
    push = push.scatter_add(1, best, imitation.gather(1, best))
    return push.flatten()[:, None] * mask


def rank_accuracy(scores: Tensor, rewards: Tensor) -> float | None:
    """Share of the pairs with different rewards whose better answer has the higher score, both (B, K); None where there is no such pair."""
    better = rewards[:, :, None] > rewards[:, None, :]
    if not bool(better.any()):
        return None
    ahead = scores[:, :, None] - scores[:, None, :]
    return float(((ahead > 0).float() + 0.5 * (ahead == 0).float())[better].mean())


class RRHF:
    """Collects K answers to each prompt and takes a step."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Any):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        self.updater = Updater([{"params": policy.trainable(), "lr": config.learning_rate}], config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        experience = yield from self.collector.batch(step, with_reference=step % KL_EVERY == 0)
        yield Phase(step, "updating")
        logprobs = self._update(experience, step)
        push = token_push(logprobs, experience.rewards, experience.mask, config)
        metrics = online_metrics(experience) | self._ranking(experience) | self.updater.take_stats()
        yield from self.collector.samples(experience, step, "train", None, config.sample_prompts, logprobs=logprobs, push=push)
        yield Step(step, metrics, {"reward": spread(experience.rewards)})

    def _ranking(self, experience: Experience) -> dict[str, float]:
        """How good the best answers are, and how well the policy that wrote the answers ranks them."""
        rewards = experience.rewards.view(-1, self.config.group_size)
        scores = ops.masked_mean(experience.rollout.logprobs, experience.mask, dim=1).view_as(rewards)
        accuracy = rank_accuracy(scores, rewards)
        return {"best_reward": float(rewards.amax(1).mean()), **({} if accuracy is None else {"rank_accuracy": accuracy})}

    def _update(self, experience: Experience, step: int) -> Tensor:
        """All inner updates, whole prompts at a time; → the log-probabilities (N, T) of the last pass, those of the sampling elsewhere."""
        config, mask = self.config, experience.mask
        groups = experience.rewards.view(-1, config.group_size)
        first = torch.arange(len(groups), device=mask.device)[:, None] * config.group_size  # each prompt's first row
        inside = torch.arange(config.group_size, device=mask.device)[None]
        trained = first + (inside if config.variant == "rrhf" else groups.argmax(1, keepdim=True))  # (B, K) or (B, 1)
        latest = experience.rollout.logprobs.clone()

        def loss(chosen: Tensor) -> tuple[Tensor, Stats]:
            rows = trained[chosen].flatten()
            logprobs = self.policy.logprobs(experience.sequences.rows(rows), config.temperature)
            latest[rows] = logprobs.detach()
            return rrhf_loss(
                logprobs, experience.rewards[rows], trained.shape[1], mask[rows], config.sft_weight, config.sft_reduction, config.variant
            )

        at_once = max(1, config.microbatch_size // trained.shape[1])
        for epoch in range(config.epochs):
            for part in minibatches(len(groups), config, step, epoch, shuffled=config.minibatches > 1):
                self.updater.update(part.to(mask.device), step, loss, at_once=at_once)
        return latest

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
