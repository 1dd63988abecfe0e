"""Online DPO: the pairs are sampled from the policy and judged while it trains. Guo et al. 2024, https://arxiv.org/abs/2402.04792

For each prompt, sample G responses from the policy of now, let the reward judge them, and take the best as y_w and the worst as y_l
(algorithm 1; two responses there). Then minimise DPO's loss (Rafailov et al. 2023, eq. 7, https://arxiv.org/abs/2305.18290)

    L = −E[ log σ( β·log π_θ(y_w|x)/π_ref(y_w|x) − β·log π_θ(y_l|x)/π_ref(y_l|x) ) ]

or another loss of the family. Unlike with fixed pairs, the data follow the policy, so that what it has already learned is judged again.

Deviations: a reward function or reward model judges in the place of a language model; best and worst of G ≥ 2 instead of two; a prompt
whose responses all scored the same gives no pair.

    python -m rlhf train online_dpo --model story --reward negative --steps 40
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf import ops
from rlhf.config import OnlineDPOConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import Collector, Experience, online_metrics, spread
from rlhf.optimisation import Updater, minibatches
from rlhf.pair_losses import dpo_loss
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats


def best_and_worst(rewards: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Rows of the best and the worst response of each group that has both, (P,) and (P,), from rewards (N,)."""
    grouped = rewards.view(-1, group_size)
    start = torch.arange(len(grouped), device=rewards.device) * group_size
    apart = grouped.amax(1) - grouped.amin(1) >= 1e-8
    return (start + grouped.argmax(1))[apart], (start + grouped.argmin(1))[apart]


class OnlineDPO:
    """Samples groups, makes a pair of each, and takes a step of DPO."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        self.updater = Updater([{"params": policy.trainable(), "lr": config.learning_rate}], config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        experience = yield from self.collector.batch(step, with_reference=True)
        chosen, rejected = best_and_worst(experience.rewards, self.config.group_size)
        yield Phase(step, "updating")
        logprobs = self._update(experience, chosen, rejected, step)
        stats = self.updater.take_stats()
        metrics = online_metrics(experience) | stats | {"pairs": float(len(chosen))}
        pulls = self._pulls(logprobs, experience, chosen, rejected)
        yield from self.collector.samples(experience, step, "train", pulls, self.config.sample_prompts, logprobs=logprobs)
        margins = experience.rewards[chosen] - experience.rewards[rejected]
        yield Step(step, metrics, {"reward": spread(experience.rewards), "rewards/margins": spread(margins)})

    def _loss(self, logprobs: Tensor, experience: Experience, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Stats]:
        """DPO's loss of pairs given by rows; ``logprobs`` (2n, T) of the chosen rows, then the rejected ones."""
        rows = torch.cat([chosen, rejected])
        assert experience.ref_logprobs is not None
        mask = experience.mask[rows]
        ours, reference = (ops.keep(x, mask).sum(1).chunk(2) for x in (logprobs, experience.ref_logprobs[rows]))
        return dpo_loss(ours[0], ours[1], reference[0], reference[1], self.config.beta, self.config.variant)

    def _update(self, experience: Experience, chosen: Tensor, rejected: Tensor, step: int) -> Tensor:
        """All inner updates; → the log-probabilities (N, T) of the last pass, where there was one."""
        config, latest = self.config, experience.rollout.logprobs.clone()

        def loss(pairs: Tensor) -> tuple[Tensor, Stats]:
            rows = torch.cat([chosen[pairs], rejected[pairs]])
            logprobs = self.policy.logprobs(experience.sequences.rows(rows), config.temperature)
            latest[rows] = logprobs.detach()
            return self._loss(logprobs, experience, chosen[pairs], rejected[pairs])

        for epoch in range(config.epochs):
            for part in minibatches(len(chosen), config, step, epoch, shuffled=True):
                if len(part):
                    self.updater.update(part.to(chosen.device), step, loss)
        return latest

    def _pulls(self, logprobs: Tensor, experience: Experience, chosen: Tensor, rejected: Tensor) -> Tensor:
        """How strongly the loss pushes each response's log-probability up, (N,): −n·∂L/∂log π(y|x). 0 for those that are in no pair."""
        pulls = torch.zeros_like(experience.rewards)
        if len(chosen):
            rows = torch.cat([chosen, rejected])
            leaf = logprobs[rows].detach().requires_grad_()
            loss, _ = self._loss(leaf, experience, chosen, rejected)
            (gradient,) = torch.autograd.grad(loss, leaf)
            pulls[rows] = -len(chosen) * gradient[:, 0]  # the same at every token of a response, and each has a first
        return pulls

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
