"""SFT: supervised fine-tuning on answers to imitate, stage 1 of RLHF. Ouyang et al. 2022, §3.1, https://arxiv.org/abs/2203.02155

Minimise the cross-entropy of the answer's tokens, given the prompt and the tokens before,

    L = − 1/M Σᵢ Σₜ log π_θ(yᵢₜ | xᵢ, yᵢ,<ₜ),   M = Σᵢ |yᵢ|

over the response only: the prompt is read, not learned. Perplexity is e^L.

Deviations: none. The mean is over all response tokens of a batch, so that a long answer counts more than a short one (as in TRL).

    python -m rlhf train sft --model story --data story-pairs
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf import ops
from rlhf.config import SFTConfig as Config
from rlhf.errors import DataError
from rlhf.events import Event, Phase, Sample, Step
from rlhf.optimisation import Updater, batch_indices
from rlhf.policy import Policy
from rlhf.preferences import Dataset, Demonstration
from rlhf.rollout import Interrupted, encode_answers, end_ids, token_strings
from rlhf.types import Sequences, Stats


def sft_loss(logprobs: Tensor, mask: Tensor) -> tuple[Tensor, Stats]:
    """Cross-entropy from log-probabilities (N, T) in nats, mask (N, T) True on response tokens.

    Returns the scalar loss and detached stats.
    """
    loss = -ops.masked_mean(ops.keep(logprobs, mask), mask)
    return loss, {"loss": loss.detach()}


class SFT:
    """Takes batches of demonstrations in turn."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.interrupted = interrupted
        self.train = [item for item in data.train if isinstance(item, Demonstration)]
        self.heldout = [item for item in data.heldout if isinstance(item, Demonstration)][: config.eval_prompts]
        if not self.train:
            raise DataError("The run has no answers to imitate.", "Choose a set with prompt and response, or preference pairs.")
        self.end = end_ids(policy.model, policy.tokenizer)[0]
        self.updater = Updater([{"params": policy.trainable(), "lr": config.learning_rate}], config, interrupted)

    def _encode(self, items: Sequence[Demonstration]) -> Sequences:
        config = self.config
        return encode_answers(
            self.policy.tokenizer,
            [item.prompt for item in items],
            [item.response for item in items],
            self.policy.context,
            config.max_response_tokens,
            self.end,
            config.append_eos,
            self.policy.device,
        )

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        items = [self.train[i] for i in batch_indices(len(self.train), config.examples_per_step, step, config.seed)]
        sequences = self._encode(items)
        mask = sequences.response_mask
        latest, right = torch.zeros_like(mask, dtype=torch.float32), torch.zeros_like(mask)
        yield Phase(step, "updating")

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            part = sequences.rows(rows)
            logprobs, best = self.policy.logprobs_and_best(part)
            latest[rows], right[rows] = logprobs.detach(), best == part.response_ids
            return sft_loss(logprobs, part.response_mask)

        # the loss is a mean over tokens, so that a microbatch weighs as many as it has
        tokens = mask.sum()
        self.updater.update(torch.arange(len(items), device=mask.device), step, loss, lambda rows: float(mask[rows].sum() / tokens))
        stats = self.updater.take_stats()
        metrics = stats | {"perplexity": perplexity(stats["loss"]), "tokens": float(tokens)}
        metrics["mean_token_accuracy"] = float(ops.masked_mean(right.float(), mask))
        yield from self._samples(items, sequences, latest, step, "train")
        yield Step(step, metrics)

    def _samples(self, items: Sequence[Demonstration], sequences: Sequences, logprobs: Tensor, step: int, part: str) -> Iterator[Event]:
        for i, item in enumerate(items[: self.config.sample_prompts]):
            n = int(sequences.response_mask[i].sum())
            ids = sequences.response_ids[i, :n].tolist()
            tokens = {
                "ids": ids,
                "strings": token_strings(self.policy.tokenizer, ids),
                "logprobs": [round(v, 5) for v in logprobs[i, :n].tolist()],
            }
            record: dict[str, Any] = {"split": part, "prompt": item.prompt, "label": item.label}
            yield Sample(step, record | {"responses": [{"text": item.response, "tokens": tokens}]})

    @torch.no_grad()
    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        """Loss, perplexity and token accuracy on held-out examples."""
        if not self.heldout:
            return {}
        yield Phase(step, "evaluating")
        loss = right = count = 0.0
        for start in range(0, len(self.heldout), self.config.microbatch_size):
            if self.interrupted():
                raise Interrupted
            items = self.heldout[start : start + self.config.microbatch_size]
            sequences = self._encode(items)
            mask = sequences.response_mask
            logprobs, best = self.policy.logprobs_and_best(sequences)
            if start == 0:
                yield from self._samples(items, sequences, logprobs, step, "heldout")
            loss -= float(logprobs[mask].double().sum())
            right += float((best == sequences.response_ids)[mask].sum())
            count += float(mask.sum())
        mean = loss / count
        return {"eval/loss": mean, "eval/perplexity": perplexity(mean), "eval/mean_token_accuracy": right / count}

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])


def perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
