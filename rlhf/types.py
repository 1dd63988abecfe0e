"""What the rooms of the engine hand to one another.

Letters: B prompts, G responses of a prompt, N = B·G sequences, P prompt and T response tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Stats = Mapping[str, Tensor]
"""Metric key → detached scalar."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Responses sampled from a policy; the G responses of a prompt stand in consecutive rows."""

    prompts: list[str]  # B
    prompt_ids: Tensor  # (N, P) long, padded on the left
    prompt_mask: Tensor  # (N, P) bool, True on the prompt's tokens
    response_ids: Tensor  # (N, T) long, padded on the right
    response_mask: Tensor  # (N, T) bool, True on the response's tokens, its EOS among them
    logprobs: Tensor  # (N, T) nats, of the policy at the sampling temperature, before top-k and top-p; 0 on padding
    entropies: Tensor  # (N, T) nats, of the same distribution; 0 on padding
    finished: Tensor  # (N,) bool, ended by EOS or a stop string rather than by the length limit
    texts: list[str]  # N
    group_size: int  # G

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Prompts and responses as token ids: what a policy scores."""

    prompt_ids: Tensor  # (N, P) long, padded on the left
    prompt_mask: Tensor  # (N, P) bool
    response_ids: Tensor  # (N, T) long, padded on the right
    response_mask: Tensor  # (N, T) bool

    def __len__(self) -> int:
        return self.response_ids.shape[0]

    def rows(self, index: Tensor | slice) -> Sequences:
        return Sequences(self.prompt_ids[index], self.prompt_mask[index], self.response_ids[index], self.response_mask[index])
