"""The forward pass over given responses: what a model says at each of their places.

A prompt that several responses share goes through the model once: its keys and values are computed, with gradient, and handed to all its
responses. For eight responses of twice the prompt's length that is a quarter less work, and the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rlhf import ops
from rlhf.types import Sequences

LEAST_SHARED = 4
"""Responses a prompt must have on average. With two, as pairs have, little is saved; and policy and reference must round in one way."""


class Part(NamedTuple):
    """Some places of N responses: what the model says there, and what is there."""

    logits: Tensor  # (N, t, V), of the state before each token
    states: Tensor | None  # (N, t, D), the last hidden state there, where it was asked for
    ids: Tensor  # (N, t)


def logprobs_of(parts: Sequence[Part], temperature: float = 1.0) -> Tensor:
    """(N, T) nats. Padding holds arbitrary finite numbers."""
    return torch.cat([ops.token_logprobs(part.logits, part.ids, temperature) for part in parts], 1)


def states_of(parts: Sequence[Part]) -> Tensor:
    """(N, T, D); only of parts that were asked for with their states."""
    return torch.cat([part.states for part in parts if part.states is not None], 1)


def response_parts(model: Any, sequences: Sequences, states: bool = False) -> list[Part]:
    """The responses' places, in parts that follow one another; with gradient. ``states``: the last hidden states too."""
    both = torch.cat([sequences.prompt_ids, sequences.prompt_mask.long()], 1)
    different, place = torch.unique(both, dim=0, return_inverse=True)
    cache = DynamicCache(config=model.config)
    plain = bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)  # every layer looks at all that came before
    if not plain or LEAST_SHARED * len(different) > len(sequences) or sequences.response_ids.shape[1] == 1:
        return [_whole(model, sequences, states)]
    return _shared(model, sequences, different, place, cache, states)


def _whole(model: Any, sequences: Sequences, states: bool) -> Part:
    """Prompt and response in one piece."""
    ids = torch.cat([sequences.prompt_ids, sequences.response_ids], 1)
    count = sequences.response_ids.shape[1]
    inputs: dict[str, Any] = {}
    if not bool(sequences.prompt_mask.all()):  # padding on the right needs no mask: nothing looks at it
        mask = torch.cat([sequences.prompt_mask, torch.ones_like(sequences.response_mask)], 1).long()
        inputs = {"attention_mask": mask, "position_ids": _positions(mask)}
    out = model(input_ids=ids, logits_to_keep=count + 1, use_cache=False, output_hidden_states=states, **inputs)
    return Part(out.logits[:, -count - 1 : -1], out.hidden_states[-1][:, -count - 1 : -1] if states else None, sequences.response_ids)


def _shared(model: Any, sequences: Sequences, different: Tensor, place: Tensor, cache: DynamicCache, states: bool) -> list[Part]:
    """``different``: (B, 2P) the prompts' ids and masks; ``place`` (N,): which of them each response follows."""
    prompt_ids, prompt_mask = different.chunk(2, 1)
    first = model(
        input_ids=prompt_ids, attention_mask=prompt_mask, position_ids=_positions(prompt_mask), past_key_values=cache, use_cache=True,
        logits_to_keep=1, output_hidden_states=states,
    )  # fmt: skip
    for layer in cache.layers:
        assert type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None
        layer.keys, layer.values = layer.keys[place], layer.values[place]
    given = sequences.response_ids[:, :-1]  # the last token is predicted and never read
    mask = torch.cat([prompt_mask[place], torch.ones_like(given)], 1)
    rest = model(
        input_ids=given, attention_mask=mask, position_ids=_positions(mask)[:, prompt_ids.shape[1] :], past_key_values=cache,
        use_cache=True, output_hidden_states=states,
    )  # fmt: skip
    return [
        Part(first.logits[:, -1:][place], first.hidden_states[-1][:, -1:][place] if states else None, sequences.response_ids[:, :1]),
        Part(rest.logits, rest.hidden_states[-1] if states else None, sequences.response_ids[:, 1:]),
    ]


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)
