"""Looking into a model token by token: what it writes, how sure it was of each token, and how it goes on from a token of one's own choice.

Everything works on token ids, prompt and answer in one list, so that what is shown is exactly what the model read and wrote. The
distribution at a position is ``rlhf.rollout.next_token``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import DynamicCache

from rlhf import ops
from rlhf.errors import DataError
from rlhf.policy import LoadedModel
from rlhf.rollout import SamplingConfig, draw, encode_prompt, end_ids, sample, token_strings


@dataclass(frozen=True)
class Text:
    """A prompt and what was written after it. ``start``: where the answer begins; ``finished``: it ended by itself.

    ``logprobs`` and ``entropies``, in nats at temperature 1: of each token given all before it, and of the distribution it was taken
    from; the first token has nothing before it (None).
    """

    ids: tuple[int, ...]
    strings: tuple[str, ...]
    start: int
    finished: bool
    logprobs: tuple[float | None, ...]
    entropies: tuple[float | None, ...]


def write(loaded: LoadedModel, prompt: str, sampling: SamplingConfig, seed: int, count: int = 1) -> list[Text]:
    """``count`` answers to a prompt. Raises ``DataError`` for a prompt that is empty or does not fit into the context."""
    before = encode_prompt(loaded.tokenizer, prompt)
    rollout = sample(loaded.model, loaded.tokenizer, [prompt], count, sampling, seed)
    lengths = rollout.response_mask.sum(1).tolist()
    answers = [row[:n] for row, n in zip(rollout.response_ids.tolist(), lengths, strict=True)]
    return [read(loaded, [*before, *ids], len(before), end) for ids, end in zip(answers, rollout.finished.tolist(), strict=True)]


def go_on(loaded: LoadedModel, ids: list[int], start: int, sampling: SamplingConfig, seed: int) -> Text:
    """Write on from the tokens given, until the end or the length limit. Raises ``DataError`` where the context is full."""
    room = min(sampling.max_new_tokens, loaded.context - len(ids))
    ends = end_ids(loaded.model, loaded.tokenizer)
    if ids[-1] in ends and len(ids) > start:
        return read(loaded, ids, start, True)
    if room < 1:
        raise DataError(f"The text has {len(ids)} tokens: the model's context of {loaded.context} is full.", "Go on from an earlier token.")
    uniforms = torch.rand(room, generator=torch.Generator().manual_seed(seed)).to(loaded.device)
    cache = DynamicCache(config=loaded.model.config)
    written, unread, finished = [*ids], ids, False
    with torch.inference_mode():
        for i in range(room):
            inputs = torch.tensor([unread], device=loaded.device)
            logits = loaded.model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            token = int(draw(logits, uniforms[i : i + 1], sampling)[0])
            written.append(token)
            unread = [token]
            text = loaded.tokenizer.decode(written[start:]) if sampling.stop else ""
            if token in ends or any(string in text for string in sampling.stop):
                finished = True
                break
    return read(loaded, written, start, finished)


def read(loaded: LoadedModel, ids: list[int], start: int, finished: bool) -> Text:
    """A text as the model reads it: every token's log-probability and the entropy it was taken from, in one forward pass."""
    sequence = torch.tensor([ids], device=loaded.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=sequence).logits[:, :-1]
        logprobs = ops.token_logprobs(logits, sequence[:, 1:])[0].tolist()
        entropies = ops.entropy(logits)[0].tolist()
    strings = token_strings(loaded.tokenizer, ids)
    return Text(tuple(ids), tuple(strings), start, finished, (None, *logprobs), (None, *entropies))
