"""Sampling from a causal language model: the hot path of every online algorithm.

What differs from ``model.generate``:

- a prompt is read once for the group's G responses, and the cache is allocated once at its final length (``rlhf.decode``);
- a token is drawn by inverting the cumulative distribution with one uniform number, which is exact and twenty times faster on a
  CPU than ``torch.multinomial`` over the vocabulary;
- rows that have ended are dropped from the batch;
- all uniform numbers are drawn before the first token, so that a row's text does not depend on which other rows are in the
  batch, and two models sampled with the same seed share their luck.

Log-probabilities are those of the policy at the sampling temperature, *before* top-k and top-p, and equal a full forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf import ops
from rlhf.decode import start
from rlhf.errors import DataError
from rlhf.types import Rollout, Sequences


class Interrupted(Exception):
    """Raised inside a long computation when ``interrupted()`` has turned true."""


def never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    max_new_tokens: int = 48
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a prompt: through the chat template as a user's turn where the tokenizer has one, else as plain text."""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": text}]
        encoded: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, enable_thinking=False
        )
        return list(encoded["input_ids"])
    return list(tokenizer(text)["input_ids"])


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: list[str], context: int, room: int) -> list[list[int]]:
    """Encode prompts and make sure that each leaves ``room`` tokens in the model's ``context``. Raises ``DataError``."""
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    for prompt, ids in zip(prompts, encoded, strict=True):
        if not ids:
            raise DataError("A prompt is empty.", "Remove it, or write at least one character.")
        if len(ids) + room > context:
            raise DataError(
                f"The prompt “{prompt[:60]}…” has {len(ids)} tokens; with {room} new ones it exceeds the model's context of {context}.",
                "Shorten the prompt, or lower the number of new tokens.",
            )
    return encoded


def pad_left(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, (B, P), padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows], device=device)
    return ids, mask


def pad_right(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, (N, T), padded on the right; T is at least 1."""
    width = max(1, *map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def encode_answers(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    answers: list[str],
    context: int,
    longest: int,
    end: int,
    append_end: bool,
    device: torch.device,
) -> Sequences:
    """Prompts with given answers, N of each: an answer is followed by ``end`` where wanted, then cut to ``longest`` tokens.

    Raises ``DataError`` for a prompt that is empty or leaves no room in the ``context`` for the longest answer.
    """
    encoded_answers: Any = tokenizer(answers, add_special_tokens=False)["input_ids"]
    rows = [(list(ids) + [end] * append_end)[:longest] for ids in encoded_answers]
    once = list(dict.fromkeys(prompts))
    encoded = dict(zip(once, encode_prompts(tokenizer, once, context, max(map(len, rows))), strict=True))
    prompt_ids, prompt_mask = pad_left([encoded[prompt] for prompt in prompts], end, device)
    return Sequences(prompt_ids, prompt_mask, *pad_right(rows, end, device))


def context_length(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 2048)


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token id that ends a response."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ids = declared if isinstance(declared, list) else [declared]
    return sorted({i for i in (*ids, tokenizer.eos_token_id) if isinstance(i, int)})


def filter_logits(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """(…, V) logits with everything outside the k most probable and outside the nucleus set to −inf (Holtzman et al. 2020)."""
    if 0 < top_k < logits.shape[-1]:
        kth = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # probability of all that is more probable
        outside = (before >= top_p).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(outside, -torch.inf)
    return logits


def draw(logits: Tensor, uniforms: Tensor, sampling: SamplingConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Sample one token a row by inverting the CDF: (R, V), (R,) in [0, 1) → ids, log-probabilities and entropies, each (R,)."""
    logits = logits.float()
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    probabilities = logits.softmax(-1)
    if sampling.top_k or sampling.top_p < 1:
        weights = filter_logits(logits, sampling.top_k, sampling.top_p).softmax(-1)
    else:
        weights = probabilities
    cdf = weights.cumsum(-1)
    # scaled by the last entry, so that rounding of the sum leaves no gap at the top; right=True never picks a token of weight 0
    ids = torch.searchsorted(cdf, (uniforms * cdf[:, -1])[:, None], right=True).squeeze(1).clamp_(max=logits.shape[-1] - 1)
    # one softmax serves for all: log Z is the distance of a drawn token's logit from its log-probability
    drawn = ids[:, None]
    logprobs = probabilities.gather(1, drawn).log_().squeeze(1)
    log_z = logits.gather(1, drawn).squeeze(1) - logprobs
    return ids, logprobs, log_z - torch.linalg.vecdot(probabilities, logits)


def sample(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    group_size: int,
    sampling: SamplingConfig,
    seed: int,
    interrupted: Callable[[], bool] = never,
) -> Rollout:
    """``group_size`` responses to each prompt. The same seed gives the same luck, whatever the model.

    Raises ``DataError`` for an empty prompt or one that does not fit, ``Interrupted`` when ``interrupted()`` turns true.
    """
    device = next(model.parameters()).device
    rows = encode_prompts(tokenizer, prompts, context_length(model), sampling.max_new_tokens)
    ends = end_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else ends[0]
    prompt_ids, prompt_mask = pad_left(rows, pad, device)
    total, steps = len(rows) * group_size, sampling.max_new_tokens
    uniforms = torch.rand((total, steps), generator=torch.Generator().manual_seed(seed)).to(device)
    with torch.inference_mode():
        ids, logprobs, entropies, ended = _decode(
            model, tokenizer, prompt_ids, prompt_mask, group_size, sampling, uniforms, ends, interrupted
        )
    # a token counts as long as no end came before it
    mask = ended.int().cumsum(1) - ended.int() == 0
    width = int(mask.any(0).sum())
    ids, logprobs, entropies, mask = (x[:, :width].clone() for x in (ids, logprobs, entropies, mask))
    finished = (ended[:, :width] & mask).any(1)
    texts = decode_responses(tokenizer, ids, mask, ends, sampling.stop)
    return Rollout(
        prompts=list(prompts),
        prompt_ids=prompt_ids.repeat_interleave(group_size, 0),
        prompt_mask=prompt_mask.repeat_interleave(group_size, 0),
        response_ids=torch.where(mask, ids, pad),
        response_mask=mask,
        logprobs=torch.where(mask, logprobs, 0.0),
        entropies=torch.where(mask, entropies, 0.0),
        finished=finished,
        texts=texts,
        group_size=group_size,
    )


def _decode(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    group_size: int,
    sampling: SamplingConfig,
    uniforms: Tensor,
    ends: list[int],
    interrupted: Callable[[], bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The token loop: → ids, log-probabilities, entropies and "this token ends the response", each (N, max_new_tokens)."""
    total, steps = uniforms.shape
    device = prompt_ids.device
    decoder = start(model, prompt_ids, prompt_mask, group_size, steps)
    end = torch.tensor(ends, device=device)
    ids = prompt_ids.new_full((total, steps), ends[0])
    logprobs, entropies = (torch.zeros((total, steps), device=device) for _ in range(2))
    ended = torch.zeros((total, steps), dtype=torch.bool, device=device)
    live = torch.arange(total, device=device)  # the rows still in the batch
    done = torch.zeros(total, dtype=torch.bool, device=device)
    check_every = 1 if device.type == "cpu" else 8  # a look at ``done`` stalls a GPU
    for step in range(steps):
        token, logprob, entropy = draw(decoder.logits, uniforms[live, step], sampling)
        stops = torch.isin(token, end)
        ids[live, step], logprobs[live, step], entropies[live, step] = token, logprob, entropy
        if sampling.stop:
            texts = tokenizer.batch_decode(ids[live, : step + 1])
            stops |= torch.tensor([any(s in text for s in sampling.stop) for text in texts], device=device)
        ended[live, step] = stops
        done |= stops
        if step + 1 == steps:
            break
        if step % check_every == 0:
            if interrupted():
                raise Interrupted
            running = int((~done).sum())
            if running == 0:
                break
            if running <= 0.8 * len(live):  # copying the cache costs something too: not for every single row
                keep = (~done).nonzero().squeeze(1)
                decoder.keep(keep)
                live, token, done = live[keep], token[keep], done[keep]
        decoder.advance(token)
    return ids, logprobs, entropies, ended


def decode_responses(tokenizer: PreTrainedTokenizerBase, ids: Tensor, mask: Tensor, ends: list[int], stop: tuple[str, ...]) -> list[str]:
    """Texts of (N, T) responses, without their end token; cut before the first stop string."""
    rows = [[i for i, real in zip(row, keep, strict=True) if real] for row, keep in zip(ids.tolist(), mask.tolist(), strict=True)]
    texts = tokenizer.batch_decode([row[:-1] if row and row[-1] in ends else row for row in rows], skip_special_tokens=True)
    for string in stop:
        texts = [text.split(string, 1)[0] for text in texts]
    return texts


# ---------------------------------------------------------------- looking into a model


def token_strings(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """Each token as the text it stands for; bytes that are no character on their own show as �."""
    return tokenizer.batch_decode([[i] for i in ids])


@dataclass(frozen=True, slots=True)
class NextToken:
    """The k most probable next tokens; ``rest`` is the probability of all others, ``entropy`` in nats over the whole vocabulary."""

    ids: list[int]
    strings: list[str]
    probabilities: list[float]
    logprobs: list[float]
    entropy: float
    rest: float


def next_token(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int], k: int = 20, temperature: float = 1.0) -> NextToken:
    """The distribution over the token that follows ``ids``."""
    with torch.inference_mode():
        context = ids[-context_length(model) :]
        logits = model(input_ids=torch.tensor([context], device=next(model.parameters()).device), logits_to_keep=1).logits[0, -1].float()
        logprobs = (logits / temperature).log_softmax(-1)
        top = logprobs.topk(min(k, len(logprobs)))
    probabilities = top.values.exp()
    return NextToken(
        ids=top.indices.tolist(),
        strings=token_strings(tokenizer, top.indices.tolist()),
        probabilities=probabilities.tolist(),
        logprobs=top.values.tolist(),
        entropy=float(ops.entropy(logits, temperature)),
        rest=max(0.0, 1.0 - float(probabilities.sum())),
    )


@dataclass(frozen=True, slots=True)
class TokenScores:
    """A response token by token: log-probability of each and entropy of the distribution it came from, in nats."""

    ids: list[int]
    strings: list[str]
    logprobs: list[float]
    entropies: list[float]


def score(model: Any, tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, temperature: float = 1.0) -> TokenScores:
    """Score a given response under a model. Raises ``DataError`` where prompt and response do not fit into the context."""
    response_ids = list(tokenizer(response, add_special_tokens=False)["input_ids"])
    prompt_ids = encode_prompts(tokenizer, [prompt], context_length(model), len(response_ids))[0]
    if not response_ids:
        return TokenScores([], [], [], [])
    device = next(model.parameters()).device
    with torch.inference_mode():
        ids = torch.tensor([prompt_ids + response_ids], device=device)
        logits = model(input_ids=ids, logits_to_keep=len(response_ids) + 1).logits[:, :-1]
        logprobs = ops.token_logprobs(logits, ids[:, len(prompt_ids) :], temperature)[0]
        entropies = ops.entropy(logits, temperature)[0]
    return TokenScores(response_ids, token_strings(tokenizer, response_ids), logprobs.tolist(), entropies.tolist())
