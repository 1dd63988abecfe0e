"""One token after another: decoders that keep the keys and values of what was read, and take the next token of each row.

``start`` gives a decoder with the prompts read. Llama-like models have one of their own: its cost is the matrix products, where the
transformers model takes three times as long on small ones. Any other model goes through its own ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rlhf import llama

MOST_COPIED = 20_000_000
"""Weights of the layers that are copied into larger matrices for one call; those of a larger model gain little by it."""


class Decoder(Protocol):
    """``logits`` (R, V): what the model says of each row's next token."""

    logits: Tensor

    def advance(self, tokens: Tensor) -> None:
        """Take the next token of each row, (R,)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, (K,) in ascending order."""
        ...


def start(model: Any, prompt_ids: Tensor, prompt_mask: Tensor, group_size: int, steps: int) -> Decoder:
    """Read B prompts, (B, P) padded on the left, for ``group_size`` responses of at most ``steps`` tokens to each: R = B·G rows."""
    if llama.known(model) is not None:
        return LlamaDecoder(model, prompt_ids, prompt_mask, group_size, steps)
    return ModelDecoder(model, prompt_ids, prompt_mask, group_size, steps)


# ---------------------------------------------------------------- Llama and alike


class LlamaDecoder:
    """The prompts' keys and values are shared by their groups: all rows of a group are queries of one product."""

    def __init__(self, model: Any, prompt_ids: Tensor, prompt_mask: Tensor, group_size: int, steps: int):
        self.decoder: Any = llama.known(model)
        base = self.decoder.config
        self.head: Any = model.get_output_embeddings()
        self.lengths = prompt_mask.sum(1)
        ids, grid = llama.from_the_left(prompt_ids, self.lengths)
        prompts: list[tuple[Tensor, Tensor]] = []
        hidden = llama.hidden_states(self.decoder, llama.Batch(ids, grid), prompts)
        self.logits = self.head(hidden[self.lengths.cumsum(0) - 1]).repeat_interleave(group_size, 0)

        self.layers = [_Layer(layer, _few(self.decoder)) for layer in self.decoder.layers[: base.num_hidden_layers]]
        heads = self.layers[0].kv_heads
        # (B·H, P, D): one batch of products over prompts and heads
        self.prompts = [tuple(part.reshape(-1, *part.shape[2:]).contiguous() for part in both) for both in prompts]
        self.padded, self.nothing = not grid.full, hidden.new_zeros(1)
        hole = hidden.new_zeros(grid.mask.shape).masked_fill_(~grid.mask, -torch.inf)
        self.unseen = hole.repeat_interleave(heads, 0)[:, None]  # (B·H, 1, P), −∞ on padding
        total = len(ids) * group_size
        self.own = [hidden.new_empty(2, total, heads, steps, self.layers[0].head_dim) for _ in self.layers]
        self.used = 0  # tokens of the responses in the cache
        self.prompt_of = torch.arange(len(ids), device=ids.device).repeat_interleave(group_size)
        self._group(group_size)
        places = torch.arange(int(prompt_ids.shape[1]) + steps, device=ids.device)
        self.rotations = llama.rotations(self.decoder, places, hidden)

    def _group(self, size: int | None) -> None:
        """Which rows are queries to which prompt: ``slots`` (B·S,) row of each query place, ``inverse`` (R,) place of each row."""
        prompts = len(self.lengths)
        self.slots: Tensor | None = None
        if size is not None:  # all groups are whole
            self.size = size
            return
        counts = torch.bincount(self.prompt_of, minlength=prompts)
        self.size = int(counts.max())
        first = counts.cumsum(0) - counts
        rows = torch.arange(len(self.prompt_of), device=counts.device)
        self.inverse = self.prompt_of * self.size + rows - first[self.prompt_of]
        self.slots = torch.zeros(prompts * self.size, dtype=torch.long, device=counts.device).index_copy_(0, self.inverse, rows)

    def keep(self, rows: Tensor) -> None:
        self.prompt_of = self.prompt_of[rows]
        left, self.prompt_of = self.prompt_of.unique(return_inverse=True)
        if len(left) < len(self.lengths):
            heads = self.layers[0].kv_heads
            of_heads = (left[:, None] * heads + torch.arange(heads, device=left.device)).flatten()
            self.prompts = [tuple(part[of_heads] for part in both) for both in self.prompts]
            self.lengths = self.lengths[left]
            self.unseen = self.unseen[of_heads]
        for i, cache in enumerate(self.own):  # only what is in use is copied, one layer after another
            kept = cache.new_empty(2, len(rows), *cache.shape[2:])
            kept[:, :, :, : self.used] = cache[:, rows, :, : self.used]
            self.own[i] = kept
        self._group(None)

    def advance(self, tokens: Tensor) -> None:
        x = self.decoder.embed_tokens(tokens)
        place = self.lengths[self.prompt_of] + self.used
        cos, sin = (table.index_select(0, place) for table in self.rotations)
        self.used += 1
        for layer, prompt, own in zip(self.layers, self.prompts, self.own, strict=True):
            qkv = layer.qkv(layer.before(x)).view(len(x), -1, layer.head_dim)
            turned = llama.rotate(qkv[:, : -layer.kv_heads], cos, sin)
            queries, keys = turned.split([layer.heads, layer.kv_heads], 1)
            own[0, :, :, self.used - 1], own[1, :, :, self.used - 1] = keys, qkv[:, -layer.kv_heads :]
            x = x + layer.out(self._attend(layer, queries, prompt, own[:, :, :, : self.used]))
            gate, up = layer.gate_up(layer.between(x)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        self.logits = self.head(llama.norm(self.decoder.norm, x))

    def _attend(self, layer: _Layer, queries: Tensor, prompt: tuple[Tensor, ...], own: Tensor) -> Tensor:
        """(R, H, D) queries, a prompt's keys and values (B·H_kv, P, D) and the responses' own (2, R, H_kv, t, D) → (R, H·D)."""
        rows, kv, repeats, width = len(queries), layer.kv_heads, layer.heads // layer.kv_heads, layer.head_dim
        prompts, prompt_length = len(self.lengths), prompt[0].shape[1]
        asked = queries if self.slots is None else queries.index_select(0, self.slots)
        by_prompt = asked.reshape(prompts, self.size, kv, repeats, width).transpose(1, 2).reshape(prompts * kv, -1, width)
        before = torch.baddbmm(self.unseen, by_prompt, prompt[0].transpose(1, 2), beta=int(self.padded), alpha=layer.scale)
        before = self._by_row(before, prompts, kv, repeats)
        mine = queries.reshape(rows * kv, repeats, width)
        after = torch.baddbmm(self.nothing, mine, own[0].flatten(0, 1).transpose(1, 2), beta=0, alpha=layer.scale)
        weights = torch.cat([before.view(rows * kv, repeats, -1), after], -1).softmax(-1, dtype=torch.float32).to(queries.dtype)
        on_prompt, on_own = weights.split([prompt_length, own.shape[3]], -1)
        on_prompt = on_prompt.reshape(rows, -1)
        if self.slots is not None:
            on_prompt = on_prompt.index_select(0, self.slots)
        on_prompt = on_prompt.view(prompts, self.size, kv, repeats, -1).transpose(1, 2).reshape(prompts * kv, -1, prompt_length)
        mixed = self._by_row(torch.bmm(on_prompt, prompt[1]), prompts, kv, repeats).view(rows * kv, repeats, width)
        return mixed.baddbmm_(on_own, own[1].flatten(0, 1)).view(rows, -1)

    def _by_row(self, grouped: Tensor, prompts: int, kv: int, repeats: int) -> Tensor:
        """(B·H_kv, S·repeats, X) → (R, H_kv·repeats·X)."""
        rows = grouped.view(prompts, kv, self.size, repeats, -1).transpose(1, 2).reshape(prompts * self.size, -1)
        return rows if self.slots is None else rows.index_select(0, self.inverse)


class _Layer:
    """A layer's projections, those of the same input in one matrix where the model is ``small``."""

    def __init__(self, layer: Any, small: bool):
        attention = layer.self_attn
        self.head_dim, self.scale = attention.head_dim, attention.scaling
        config = attention.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.qkv = _joined(small, attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = _joined(small, attention.o_proj)
        self.gate_up = _joined(small, layer.mlp.gate_proj, layer.mlp.up_proj)
        self.down = _joined(small, layer.mlp.down_proj)
        self.before: Callable[[Tensor], Tensor] = lambda x: llama.norm(layer.input_layernorm, x)
        self.between: Callable[[Tensor], Tensor] = lambda x: llama.norm(layer.post_attention_layernorm, x)


def _few(decoder: Any) -> bool:
    return sum(p.numel() for linear in llama.linears(decoder) for p in linear.parameters()) <= MOST_COPIED


def _joined(copy: bool, *modules: nn.Module) -> Callable[[Tensor], Tensor]:
    """One projection onto the outputs of all ``modules``; where ``copy``, by one matrix, into which adapters are merged."""
    merged = [_merged(module) if copy else None for module in modules]
    if all(each is not None for each in merged):
        weight = torch.cat([weight for weight, _ in cast(Any, merged)])
        bias = torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in cast(Any, merged)])
        with_bias = any(b is not None for _, b in cast(Any, merged))
        return lambda x: F.linear(x, weight, bias if with_bias else None)
    return modules[0] if len(modules) == 1 else lambda x: torch.cat([module(x) for module in modules], -1)


def _merged(module: Any) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of a projection with its active adapters, or None where that is not all there is to it."""
    if type(module) is nn.Linear:
        return module.weight, module.bias
    if type(module) is not LoraLinear or type(module.base_layer) is not nn.Linear:
        return None
    if module.merged or module.lora_variant or any(module.lora_bias.values()):
        return None
    weight = module.base_layer.weight
    if not module.disable_adapters:
        for name in module.active_adapters:
            if name in module.lora_A:
                weight = weight + module.get_delta_weight(name).to(weight.dtype)
    return weight, module.base_layer.bias


# ---------------------------------------------------------------- any other model


class PreallocatedLayer(DynamicLayer):
    """A layer's keys and values, (N, heads, capacity, D), written in place; ``keys`` and ``values`` are views of the part in use."""

    def __init__(self, prefilled: DynamicLayer, repeats: int, capacity: int):
        super().__init__()
        assert prefilled.keys is not None and prefilled.values is not None
        rows, heads, length, _ = prefilled.keys.shape
        self.dtype, self.device = prefilled.keys.dtype, prefilled.keys.device
        self.length = length
        self.buffers = []
        for source in (prefilled.keys, prefilled.values):
            buffer = source.new_empty(rows * repeats, heads, capacity, source.shape[-1])
            buffer[:, :, :length] = source.repeat_interleave(repeats, 0)
            self.buffers.append(buffer)
        self.is_initialized = True
        self._view()

    def _view(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        self.buffers[0][:, :, self.length : end] = key_states
        self.buffers[1][:, :, self.length : end] = value_states
        self.length = end
        self._view()
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._view()


class ModelDecoder:
    """Through the model's own ``forward``: a prompt is read once, its cache is expanded over its group."""

    def __init__(self, model: Any, prompt_ids: Tensor, prompt_mask: Tensor, group_size: int, steps: int):
        self.model = model
        self.padded = not bool(prompt_mask.all())
        positions = (prompt_mask.long().cumsum(1) - 1).clamp_(min=0)
        self.cache = DynamicCache(config=model.config)
        out = model(
            input_ids=prompt_ids,
            attention_mask=prompt_mask.long() if self.padded else None,
            position_ids=positions if self.padded else None,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.used = prompt_ids.shape[1]
        self.plain = all(type(layer) is DynamicLayer for layer in self.cache.layers)
        if self.plain:
            layers: Any = [PreallocatedLayer(cast(DynamicLayer, layer), group_size, self.used + steps) for layer in self.cache.layers]
            self.cache.layers = layers
        else:  # sliding windows and the like keep the library's own layers
            self.cache.batch_repeat_interleave(group_size)
        self.logits = out.logits[:, -1].repeat_interleave(group_size, 0)
        self.positions = positions[:, -1:].repeat_interleave(group_size, 0)
        mask = prompt_mask.repeat_interleave(group_size, 0)
        self.attention = torch.cat([mask, mask.new_ones(len(mask), steps)], 1)

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.positions, self.attention = self.positions[rows], self.attention[rows]

    def advance(self, tokens: Tensor) -> None:
        self.positions = self.positions + 1
        self.used += 1
        mask = self.attention[:, : self.used]
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=(mask[:, None, None] if self.plain else mask.long()) if self.padded or not self.plain else None,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = out.logits[:, -1]
