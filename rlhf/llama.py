"""Llama-like decoders run by a forward pass of our own, on the weights of the transformers model: the same numbers with less work.

What it leaves out: padding (all real tokens stand in one row, (M, D), and only attention sees a grid), prompts that several responses
share (computed once, with gradient), and passes over memory (RMSNorm has a backward pass of its own, in half the time).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaModel, MistralModel, Qwen2Model

from rlhf.types import Sequences

KNOWN = (LlamaModel, Qwen2Model, MistralModel)
FIXED_ROTATIONS = {"default", "linear", "llama3", "yarn"}  # the others change with the length


def known(model: Any) -> Any | None:
    """The decoder (``LlamaModel`` or alike) inside a causal language model or scorer, or None where only its own ``forward`` will do."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    decoder: Any = getattr(inner, getattr(inner, "base_model_prefix", ""), None)
    if type(decoder) not in KNOWN:
        return None
    config = decoder.config
    plain = (
        config.hidden_act == "silu"
        and decoder.rotary_emb.rope_type in FIXED_ROTATIONS
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and (type(decoder) is not MistralModel or config.sliding_window is None)
        and not (isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning)
        and not any(hasattr(module, "_hf_hook") for module in decoder.modules())  # weights that live elsewhere
    )
    return decoder if plain else None


class RMSNorm(torch.autograd.Function):
    """y = w·x / √(mean(x²) + ε), (M, D). Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467"""

    @staticmethod
    def scale(x: Tensor, eps: float) -> Tensor:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = RMSNorm.scale(x, eps)
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        normed, scale, weight = ctx.saved_tensors
        (gradient,) = gradients
        by_weight = (gradient * normed).sum(0) if ctx.needs_input_grad[1] else None
        inner = gradient * weight
        along = torch.linalg.vecdot(inner, normed)[:, None].div_(-normed.shape[-1])
        return inner.addcmul_(normed, along).mul_(scale), by_weight, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: each pair (x_j, x_{j+D/2}) of (M, H, D) turned by its angle, as ``rotations`` gives them."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def rotations(decoder: Any, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of positions (M,), each (M, 1, D); the first half of sin is negative, as ``rotate`` wants it."""
    cos, sin = decoder.rotary_emb(like, positions[None])
    half = sin.shape[-1] // 2
    return cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], -1)


def norm(module: Any, x: Tensor) -> Tensor:
    """A layer's RMSNorm; with a gradient or without one it rounds in one way, so that policy and reference agree to the last bit."""
    if x.dtype not in (torch.float32, torch.float64):
        return module(x)  # half precision is lifted there as the model wants it
    if torch.is_grad_enabled():
        return RMSNorm.apply(x, module.weight, module.variance_epsilon)  # pyright: ignore[reportReturnType]
    return (x * RMSNorm.scale(x, module.variance_epsilon)).mul_(module.weight)


@dataclass(frozen=True)
class Grid:
    """Rows of tokens of different lengths: ``mask`` (N, T), True on tokens, which begin at the left."""

    mask: Tensor

    @cached_property
    def places(self) -> Tensor:
        """(M,) where the tokens stand in the flattened grid."""
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def full(self) -> bool:
        return len(self.places) == self.mask.numel()

    def spread(self, rows: Tensor) -> Tensor:
        """(M, H, D) → (N, H, T, D)."""
        if not self.full:
            rows = rows.new_zeros(self.mask.numel(), *rows.shape[1:]).index_copy(0, self.places, rows)
        return rows.view(*self.mask.shape, *rows.shape[1:]).transpose(1, 2)

    def gather(self, grid: Tensor) -> Tensor:
        """(N, H, T, D) → (M, H·D)."""
        rows = grid.transpose(1, 2).reshape(self.mask.numel(), -1)
        return rows if self.full else rows.index_select(0, self.places)


@dataclass(frozen=True)
class Batch:
    """Texts as tokens of prefixes, and of suffixes that each follow one of the prefixes."""

    prefix_ids: Tensor  # (B, P) long
    prefixes: Grid  # (B, P)
    suffix_ids: Tensor | None = None  # (N, T) long
    suffixes: Grid | None = None  # (N, T)
    follows: Tensor | None = None  # (N,) long, the prefix of each suffix

    @cached_property
    def seen(self) -> Tensor | None:
        """What a suffix's token may look at, (N, 1, T, P + T), True where it may."""
        if self.suffixes is None or self.follows is None:
            return None
        n, t = self.suffixes.mask.shape
        before = self.prefixes.mask[self.follows][:, None, None, :].expand(n, 1, t, -1)
        own = torch.ones(t, t, dtype=torch.bool, device=before.device).tril().expand(n, 1, t, t)
        return torch.cat([before, own], -1)


def hidden_states(decoder: Any, batch: Batch, keep: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
    """The last hidden state of each token, (M, D): the prefixes' tokens row by row, then the suffixes'. With gradient.

    ``keep`` is given each layer's keys and values of the prefixes, (B, H_kv, P, D) each.
    """
    prefixes, suffixes, follows = batch.prefixes, batch.suffixes, batch.follows
    ids, positions = _packed(batch.prefix_ids, prefixes, None)
    first = len(ids)
    if batch.suffix_ids is not None and suffixes is not None and follows is not None:
        more, later = _packed(batch.suffix_ids, suffixes, prefixes.mask.sum(1)[follows])
        ids, positions = torch.cat([ids, more]), torch.cat([positions, later])
    x: Tensor = decoder.embed_tokens(ids)
    cos, sin = rotations(decoder, positions, x)
    seen = None
    if batch.seen is not None:  # as a number to add: the kernel would convert it in every layer
        seen = torch.zeros(batch.seen.shape, dtype=x.dtype, device=x.device).masked_fill_(~batch.seen, -torch.inf)
    for layer in decoder.layers[: decoder.config.num_hidden_layers]:
        heads = layer.self_attn
        h = norm(layer.input_layernorm, x)
        q, k, v = (project(h).view(len(h), -1, heads.head_dim) for project in (heads.q_proj, heads.k_proj, heads.v_proj))
        q, k = (rotate(each, cos, sin) for each in (q, k))
        queries, keys, values = (prefixes.spread(each[:first]) for each in (q, k, v))
        if keep is not None:
            keep.append((keys, values))
        mixed = prefixes.gather(_attend(queries, keys, values, heads.scaling, None))
        if suffixes is not None and follows is not None:
            queries, own_keys, own_values = (suffixes.spread(each[first:]) for each in (q, k, v))
            keys = torch.cat([keys.index_select(0, follows), own_keys], 2)
            values = torch.cat([values.index_select(0, follows), own_values], 2)
            mixed = torch.cat([mixed, suffixes.gather(_attend(queries, keys, values, heads.scaling, seen))])
        x = x + heads.o_proj(mixed)
        h = norm(layer.post_attention_layernorm, x)
        x = x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
    return norm(decoder.norm, x)


def _packed(ids: Tensor, grid: Grid, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """The grid's tokens and their positions, (M,) each; ``start`` (N,): the position of each row's first."""
    columns = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    positions = columns if start is None else columns + start[:, None]
    return ids.flatten()[grid.places], positions.flatten()[grid.places]


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Tensor | None) -> Tensor:
    """(N, H, T, D); causal where nothing else says what is ``seen``. Padding stands behind, so that it is seen by padding only."""
    if k.shape[1] != q.shape[1]:
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1) for each in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None, scale=scale)


# ---------------------------------------------------------------- given prompts and responses


def pack(sequences: Sequences, before: bool) -> tuple[Batch, Tensor, Tensor]:
    """→ the batch; for each response token its state's row in ``hidden_states``, (K,), and its place in the flattened (N, T), (K,).

    ``before``: the state from which a token is predicted, and the last token is not read; else the state after a token.
    A prompt that two responses or more have on average is read once.
    """
    lengths, counts = sequences.prompt_mask.sum(1), sequences.response_mask.sum(1)
    given = (counts - int(before)).clamp_(min=0)[:, None]  # tokens of each response that are read
    columns = torch.arange(sequences.response_ids.shape[1], device=lengths.device)
    both = torch.cat([sequences.prompt_ids, sequences.prompt_mask.long()], 1)
    different, follows = torch.unique(both, dim=0, return_inverse=True)
    if 2 * len(different) <= len(sequences):
        prompt_ids, prompt_mask = different.chunk(2, 1)
        once = prompt_mask.sum(1)
        batch = Batch(*from_the_left(prompt_ids, once), sequences.response_ids, Grid(columns < given), follows)
        first = once.sum() + given.squeeze(1).cumsum(0) - given.squeeze(1)  # row of each response's first state
        rows = first[:, None] + columns - int(before)
        if before:
            rows[:, 0] = once.cumsum(0)[follows] - 1
    else:
        total = lengths + given.squeeze(1)
        ids = torch.cat([sequences.prompt_ids, sequences.response_ids], 1)
        batch = Batch(*from_the_left(ids, total, sequences.prompt_ids.shape[1] - lengths))
        rows = (total.cumsum(0) - total + lengths)[:, None] + columns - int(before)
    places = sequences.response_mask.flatten().nonzero().squeeze(1)
    return batch, rows.flatten()[places], places


def from_the_left(ids: Tensor, lengths: Tensor, skipped: Tensor | None = None) -> tuple[Tensor, Grid]:
    """Rows of ``lengths`` tokens moved to the left edge; they begin after ``skipped`` places (default: they end at the right edge)."""
    start = ids.shape[1] - lengths if skipped is None else skipped
    columns = torch.arange(int(lengths.max()), device=ids.device)
    return ids.gather(1, (columns + start[:, None]).clamp_(max=ids.shape[1] - 1)), Grid(columns < lengths[:, None])


def linears(decoder: Any) -> Iterator[nn.Module]:
    """The projections of all layers; under LoRA they are PEFT's wrappers."""
    for layer in decoder.layers:
        yield from (getattr(layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
        yield from (getattr(layer.mlp, name) for name in ("gate_proj", "up_proj", "down_proj"))
