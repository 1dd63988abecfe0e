"""What a policy prefers, without being asked: the preferences that are implicit in how far it has moved from its reference.

An answer's implicit reward is β·log π(y|x)/π_ref(y|x) up to a term of the prompt (Rafailov et al. 2023, eq. 5,
https://arxiv.org/abs/2305.18290), so that of two answers to one prompt the first is preferred with

    P(y_w ≻ y_l) = σ(β·Δ),   Δ = [log π(y_w|x) − log π_ref(y_w|x)] − [log π(y_l|x) − log π_ref(y_l|x)]

with log π(y|x) in nats, summed over the answer's tokens at temperature 1. A policy that has not moved prefers nothing: Δ is 0, P is ½.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlhf.algorithms import make_config
from rlhf.bradley_terry import preference_probability
from rlhf.compare import Side
from rlhf.preferences import PreferencePair
from rlhf.runs import Run, open_run
from rlhf.runs.folder import find_checkpoint
from rlhf.runs.lineage import lineage

if TYPE_CHECKING:  # torch: only where something is computed
    from torch import Tensor

    from rlhf.policy import LoadedModel
    from rlhf.types import Sequences

Progress = Callable[[float], Any]
MOST_LOGITS = 2**26  # of one batch: 256 MiB in float32
MOST_PAIRS = 32  # in one batch; more pads more


@dataclass(frozen=True)
class Encoding:
    """How DPO reads a pair: ``end`` token after each answer or not, answers cut to ``longest`` tokens. ``beta`` of the run."""

    beta: float
    append_eos: bool
    longest: int


@dataclass(frozen=True)
class Answer:
    """An answer's tokens with their log-probabilities (nats) under policy and reference."""

    ids: tuple[int, ...]
    strings: tuple[str, ...]
    logprobs: tuple[float, ...]
    ref_logprobs: tuple[float, ...]

    @property
    def log_ratio(self) -> float:
        return sum(self.logprobs) - sum(self.ref_logprobs)


@dataclass(frozen=True)
class Preference:
    """A pair as a policy sees it."""

    pair: PreferencePair
    chosen: Answer
    rejected: Answer

    @property
    def log_ratio(self) -> float:
        """Δ in nats."""
        return self.chosen.log_ratio - self.rejected.log_ratio

    def margin(self, beta: float) -> float:
        """β·Δ, the log-odds that the chosen answer is preferred."""
        return beta * self.log_ratio

    def probability(self, beta: float) -> float:
        return preference_probability(self.margin(beta), 0.0)

    def record(self, beta: float) -> dict[str, Any]:
        """In the form of a DPO run's samples.jsonl (``rlhf.pairs.samples``)."""

        def side(text: str, answer: Answer) -> dict[str, Any]:
            columns = {"ids": answer.ids, "strings": answer.strings, "logprobs": answer.logprobs, "ref_logprobs": answer.ref_logprobs}
            tokens = {name: list(column) for name, column in columns.items()}
            return {"text": text, "reward": beta * answer.log_ratio, "tokens": tokens}

        pair = self.pair
        both = {"chosen": side(pair.chosen, self.chosen), "rejected": side(pair.rejected, self.rejected)}
        return {"prompt": pair.prompt, "label": pair.label, "margin": self.margin(beta), **both}


# ---------------------------------------------------------------- what a run is measured against


def reference_of(run: Run) -> Side:
    """The model as the run found it, which its KL and its log-ratios are measured from: the released one, or its parent's checkpoint."""
    started_from = run.config.get("adapter_from")
    if not started_from:
        return Side(run.model)
    parent, folder = find_checkpoint(str(started_from), run.root)
    name = str(started_from).partition("/")[2]
    step = next((info.step for info in parent.checkpoints() if info.name == name), 0)
    return Side(run.model, lineage(parent, folder), parent.id, parent.name, name, step, parent.algorithm)


def encoding_of(run: Run) -> Encoding:
    """As the run reads its pairs, if it is one of DPO; else as DPO would with this model, with the run's own β where it has one."""
    config, usual = run.load_config(), make_config("dpo", model=run.model)
    found = {name: getattr(config, name, getattr(usual, name)) for name in ("beta", "append_eos", "max_response_tokens")}
    return Encoding(found["beta"] or getattr(usual, "beta"), found["append_eos"], found["max_response_tokens"])  # noqa: B009


def trained_prompts(run: Run) -> set[str]:
    """The prompts that a run was trained on, and those of the runs that it grew out of."""
    found: set[str] = set()
    known: set[str] = set()
    while run.id not in known:
        known.add(run.id)
        found |= {item.prompt for item in run.load_data().train}
        if started_from := run.config.get("adapter_from"):
            run = open_run(str(started_from).partition("/")[0], run.root)
    return found


def parted(pairs: Sequence[PreferencePair], trained: set[str], most: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(held out, trained on): by whether the prompt is among ``trained``; each pair once, ``most`` of each part drawn by a fixed seed."""
    once = list(dict.fromkeys(pairs))
    parts = [pair for pair in once if pair.prompt not in trained], [pair for pair in once if pair.prompt in trained]
    drawn = [random.Random(0).sample(range(len(part)), min(most, len(part))) for part in parts]
    heldout, seen = ([part[i] for i in sorted(places)] for part, places in zip(parts, drawn, strict=True))
    return heldout, seen


# ---------------------------------------------------------------- the work


def preferences(
    policy: LoadedModel,
    reference: LoadedModel,
    pairs: Sequence[PreferencePair],
    encoding: Encoding,
    progress: Progress | None = None,
) -> list[Preference | None]:
    """What the policy prefers, pair by pair; None for a pair whose prompt is empty or that is longer than the model's context.

    Both models must have one tokenizer. Pairs of about the same length go through both together.
    """
    import torch

    from rlhf.forward import logprobs_of, response_parts
    from rlhf.rollout import end_ids, token_strings

    end = end_ids(policy.model, policy.tokenizer)[0]
    rows = [_encode(policy, pair, encoding, end) for pair in pairs]
    usable = sorted((i for i, row in enumerate(rows) if row is not None), key=lambda i: sum(map(len, rows[i] or ())))
    found: list[Preference | None] = [None] * len(pairs)
    done = 0
    for places in _batches(usable, [max(map(len, row[1:])) if row else 0 for row in rows], policy.vocabulary):
        if progress:
            progress(done / max(1, len(usable)))
        batch = [row for i in places if (row := rows[i])]
        sequences = _pad(batch, end, policy)
        with torch.inference_mode():
            both = [logprobs_of(response_parts(loaded.model, sequences)).float().tolist() for loaded in (policy, reference)]
        n = len(batch)
        for k, i in enumerate(places):
            answers = [
                Answer(tuple(ids), tuple(token_strings(policy.tokenizer, ids)), *(tuple(side[k + half * n][: len(ids)]) for side in both))
                for half, ids in enumerate(batch[k][1:])
            ]
            found[i] = Preference(pairs[i], *answers)
        done += n
    return found


Row = tuple[list[int], list[int], list[int]]  # ids of prompt, chosen and rejected answer


def _encode(loaded: LoadedModel, pair: PreferencePair, encoding: Encoding, end: int) -> Row | None:
    from rlhf.rollout import encode_prompt

    prompt = encode_prompt(loaded.tokenizer, pair.prompt)
    encoded: Any = loaded.tokenizer([pair.chosen, pair.rejected], add_special_tokens=False)["input_ids"]
    chosen, rejected = ((list(ids) + [end] * encoding.append_eos)[: encoding.longest] for ids in encoded)
    fits = prompt and len(prompt) + max(len(chosen), len(rejected)) <= loaded.context
    return (prompt, chosen, rejected) if fits else None


def _batches(places: Sequence[int], lengths: Sequence[int], vocabulary: int) -> Iterator[list[int]]:
    """``places``, the shortest first, in batches whose logits fit into ``MOST_LOGITS``."""
    batch: list[int] = []
    for i in places:
        if batch and (len(batch) == MOST_PAIRS or 2 * (len(batch) + 1) * (lengths[i] + 1) * vocabulary > MOST_LOGITS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _pad(batch: Sequence[Row], pad: int, loaded: LoadedModel) -> Sequences:
    """n pairs as 2n sequences: the chosen answers, then the rejected ones."""
    from rlhf.rollout import pad_left, pad_right
    from rlhf.types import Sequences

    prompts: tuple[Tensor, Tensor] = pad_left([row[0] for row in batch] * 2, pad, loaded.device)
    return Sequences(*prompts, *pad_right([row[1] for row in batch] + [row[2] for row in batch], pad, loaded.device))
