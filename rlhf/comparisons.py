"""Votes between named items (models, answers, players): read from a table, count, and say what is wrong with a row.

A row has a left item, a right item and who won. The counts go to ``rlhf.bradley_terry.fit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlhf.bradley_terry import Floats
from rlhf.errors import DataError
from rlhf.tables import MAX_ROWS, Row, find_column, missing, usable_rows

Winner = Literal["left", "right", "tie"]
LEFT = ("left", "modela", "a", "itema", "player1", "first")
RIGHT = ("right", "modelb", "b", "itemb", "player2", "second")
WINNER = ("winner", "result", "vote", "label", "preference", "outcome")
SPELLINGS: dict[str, Winner] = {
    **dict.fromkeys(("left", "a", "model_a", "modela", "1", "first"), "left"),
    **dict.fromkeys(("right", "b", "model_b", "modelb", "2", "second"), "right"),
    **dict.fromkeys(("tie", "draw", "equal", "both", "both bad", "tie (bothbad)", "0.5", "0"), "tie"),
}
MAX_ITEMS = 300
MAX_NAME = 200


@dataclass(frozen=True)
class Comparison:
    """One vote."""

    left: str
    right: str
    winner: Winner


@dataclass(frozen=True)
class Counted:
    """Votes by pair of items: ``wins`` (K, K) row beat column, ``ties`` (K, K) in both places."""

    items: tuple[str, ...]
    wins: Floats
    ties: Floats

    @property
    def votes(self) -> int:
        return round(float(self.wins.sum() + self.ties.sum() / 2))


def parse_comparisons(content: bytes | str, filename: str) -> tuple[list[Comparison], list[str]]:
    """The votes of a .csv, .tsv, .jsonl, .json or .parquet file, and what is wrong with the rows that are none, a line for each.

    Of a file that breaks off in the middle the rows before are kept.

    Columns: left, right (or model_a, model_b), winner: left, right, tie, or the name of one of the two.

    Raises:
        DataError: the file cannot be read, or no row of it is a vote.
    """
    votes: list[Comparison] = []
    problems: list[str] = []
    for row in usable_rows(content, filename, problems):
        if len(votes) == MAX_ROWS:
            problems.append(f"{filename}, {row.where}: after {MAX_ROWS:,} votes the rest is left out.")
            break
        try:
            votes.append(_comparison(row))
        except DataError as error:
            problems.append(f"{filename}, {row.where}: {error.what}")
    if not votes:
        first = problems[0] if problems else ""
        raise DataError(f"{filename} holds no votes. {first}".strip(), "Give it the columns left, right and winner.")
    return votes, problems


def _comparison(row: Row) -> Comparison:
    if not isinstance(row.value, Mapping):
        raise DataError("a vote needs the columns left, right and winner.")
    left, right = _name(row.value, LEFT, "left"), _name(row.value, RIGHT, "right")
    if left == right:
        raise DataError(f"“{left}” is compared with itself.")
    text = _cell(row.value, WINNER, "winner")
    if not text:
        raise DataError("“winner” is empty.")
    if text in (left, right):
        return Comparison(left, right, "left" if text == left else "right")
    if text.casefold() not in SPELLINGS:
        raise DataError(f"the winner is “{text[:60]}”, which is neither left, right, tie nor one of the two names.")
    return Comparison(left, right, SPELLINGS[text.casefold()])


def _name(value: Mapping[str, Any], names: Sequence[str], wanted: str) -> str:
    text = _cell(value, names, wanted)
    if not text:
        raise DataError(f"“{wanted}” is empty.")
    if len(text) > MAX_NAME:
        raise DataError(f"the name in “{wanted}” has {len(text):,} characters; at most {MAX_NAME} are read.")
    return text


def _cell(row: Mapping[str, Any], names: Sequence[str], wanted: str) -> str:
    _, value = find_column(row, names, wanted)
    return "" if missing(value) else str(value).strip()


def count(votes: Sequence[Comparison]) -> Counted:
    """Raises ``DataError`` for no votes, and for more items than a table can show."""
    items = tuple(sorted({name for vote in votes for name in (vote.left, vote.right)}))
    if not items:
        raise DataError("There are no votes.", "Collect, paste or upload at least one.")
    if len(items) > MAX_ITEMS:
        raise DataError(f"There are {len(items)} items; at most {MAX_ITEMS} can be ranked here.", "Leave out the rarest ones.")
    place = {name: i for i, name in enumerate(items)}
    wins, ties = np.zeros((len(items), len(items))), np.zeros((len(items), len(items)))
    for vote in votes:
        a, b = place[vote.left], place[vote.right]
        if vote.winner == "tie":
            ties[a, b] += 1
            ties[b, a] += 1
        else:
            wins[(a, b) if vote.winner == "left" else (b, a)] += 1
    return Counted(items, wins, ties)
