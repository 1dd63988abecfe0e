"""What the algorithms that learn from preference pairs share: which pairs, chosen and rejected answers in one batch, and their records.

A batch of n pairs is 2n sequences: the chosen answers, then the rejected ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.errors import DataError
from rlhf.events import Event, Sample
from rlhf.preferences import Dataset, PreferencePair
from rlhf.rollout import token_strings
from rlhf.types import Sequences


def train_and_heldout(data: Dataset, most_heldout: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """The pairs of a data set. Raises ``DataError`` where there are none to train on."""
    train, heldout = ([item for item in part if isinstance(item, PreferencePair)] for part in (data.train, data.heldout))
    if not train:
        raise DataError("The run has no preference pairs.", "Choose a set of pairs with prompt, chosen and rejected.")
    return train, heldout[:most_heldout]


def texts(pairs: Sequence[PreferencePair]) -> tuple[list[str], list[str]]:
    """Prompts and answers of the 2n sequences."""
    return [pair.prompt for pair in pairs] * 2, [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]


def accuracy(margins: Tensor) -> Tensor:
    """The share of positive margins, scalar; a tie counts as half."""
    return ((margins > 0).to(margins.dtype) + 0.5 * (margins == 0).to(margins.dtype)).mean()


def samples(
    pairs: Sequence[PreferencePair],
    sequences: Sequences,
    tokenizer: PreTrainedTokenizerBase,
    rewards: Tensor,
    step: int,
    part: str,
    more: Mapping[str, Any] | None = None,
    **columns: Tensor,
) -> Iterator[Event]:
    """A record for each of ``pairs``, the first of those in ``sequences``.

    ``rewards`` (2n,); ``columns`` (2n, T) by token; ``more``: what all the records say.
    """
    worth, lengths = rewards.tolist(), sequences.response_mask.sum(1).tolist()
    n = len(worth) // 2

    def side(row: int, text: str) -> dict[str, Any]:
        ids = sequences.response_ids[row, : lengths[row]].tolist()
        tokens = {"ids": ids, "strings": token_strings(tokenizer, ids)}
        tokens |= {name: [round(v, 5) for v in column[row, : lengths[row]].tolist()] for name, column in columns.items()}
        return {"text": text, "reward": round(worth[row], 6), "tokens": tokens}

    for i, pair in enumerate(pairs):
        record = {"split": part, "prompt": pair.prompt, "label": pair.label, "margin": round(worth[i] - worth[i + n], 6), **(more or {})}
        yield Sample(step, record | {"chosen": side(i, pair.chosen), "rejected": side(i + n, pair.rejected)})
