"""The forward pass over given responses: what a model says at each of their places.

A prompt that several responses share goes through the model once: its keys and values are computed, with gradient, and handed to all its
responses. For eight responses of twice the prompt's length that is a quarter less work, and the same numbers. Llama-like models are read
without padding (``rlhf.llama``), others through their own ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rlhf import llama, ops
from rlhf.types import Sequences

LEAST_SHARED = 4
"""Responses a prompt must have on average. With two, as pairs have, little is saved; and policy and reference must round in one way."""


class Part(NamedTuple):
    """What the model says at some places of N responses of at most T tokens, and what is there."""

    logits: Tensor  # (N, t, V), of the state before each token; or (K, V), of the real tokens alone
    states: Tensor | None  # (N, t, D) or (K, D), the last hidden state there, where it was asked for
    ids: Tensor  # (N, t) or (K,)
    mask: Tensor | None = None  # (N, T), True at the K places


def logprobs_of(parts: Sequence[Part], temperature: float = 1.0) -> Tensor:
    """(N, T) nats. Padding holds arbitrary finite numbers."""
    return _laid_out(parts, [ops.token_logprobs(part.logits, part.ids, temperature) for part in parts])


def entropies_of(parts: Sequence[Part], temperature: float = 1.0) -> Tensor:
    """(N, T) nats, of the distributions that the tokens came from."""
    return of_logits(parts, lambda logits: ops.entropy(logits, temperature))


def of_logits(parts: Sequence[Part], what: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, T): ``what`` (…, V) → (…) makes of the logits at each place; 0 or anything on padding."""
    return _laid_out(parts, [what(part.logits) for part in parts])


def states_of(parts: Sequence[Part]) -> Tensor:
    """(N, T, D); only of parts that were asked for with their states."""
    return _laid_out(parts, [part.states for part in parts if part.states is not None])


def _laid_out(parts: Sequence[Part], values: Sequence[Tensor]) -> Tensor:
    """Values of all parts as (N, T, …), 0 where there are none."""
    mask = parts[0].mask
    if mask is None:
        return torch.cat(list(values), 1)
    (value,) = values
    return value.new_zeros(*mask.shape, *value.shape[1:]).masked_scatter(mask.view(*mask.shape, *[1] * (value.ndim - 1)), value)


def response_parts(model: Any, sequences: Sequences, states: bool = False) -> list[Part]:
    """The responses' places, in parts that follow one another; with gradient. ``states``: the last hidden states too."""
    decoder = llama.known(model)
    if decoder is not None:
        return [_packed(model, decoder, sequences, states)]
    both = torch.cat([sequences.prompt_ids, sequences.prompt_mask.long()], 1)
    different, place = torch.unique(both, dim=0, return_inverse=True)
    cache = DynamicCache(config=model.config)
    plain = bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)  # every layer looks at all that came before
    if not plain or LEAST_SHARED * len(different) > len(sequences) or sequences.response_ids.shape[1] == 1:
        return [_whole(model, sequences, states)]
    return _shared(model, sequences, different, place, cache, states)


def _packed(model: Any, decoder: Any, sequences: Sequences, states: bool) -> Part:
    """Without padding, and only the places from which a token is predicted are projected to the vocabulary."""
    batch, rows, places = llama.pack(sequences, before=True)
    hidden = llama.hidden_states(decoder, batch).index_select(0, rows)
    logits = model.get_output_embeddings()(hidden)
    return Part(logits, hidden if states else None, sequences.response_ids.flatten()[places], sequences.response_mask)


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
