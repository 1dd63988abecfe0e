"""Votes from files and into files.

In: pairs (prompt, chosen, rejected; texts or conversations), votes (prompt, left, right, winner), or scored answers (a question and a
list of answers with upvotes, as in StackLLaMA). A row that cannot be used is named with its place and the reason; the rest is kept, also
of a file that breaks off in the middle.

Out: pairs as TRL and ``datasets`` read them, plain or conversational, or the votes with everything that is known about them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, islice
from typing import Any, Literal

from rlhf.errors import DataError
from rlhf.preferences import PreferencePair, parse_pairs
from rlhf.tables import MAX_ROWS, missing, usable_rows
from rlhf.votes import COLUMNS, SIMULATED, Vote, Winner, checked

Format = Literal["jsonl", "csv", "parquet"]
Form = Literal["pairs", "conversational", "votes"]
PAIRS_PER_PROMPT = 10  # as StackLLaMA

WINNER_SPELLINGS: dict[str, Winner] = {
    **dict.fromkeys(("left", "a", "model_a"), "left"),
    **dict.fromkeys(("right", "b", "model_b"), "right"),
    **dict.fromkeys(("tie", "draw", "equal", "both"), "tie"),
    **dict.fromkeys(("both_bad", "both bad", "neither", "tie (bothbad)"), "both_bad"),
}
UPVOTES = ("upvotes", "votes", "score", "ups")
ACCEPTED = ("accepted", "is_accepted", "selected")
TEXTS = ("text", "answer", "body", "content", "response")
QUESTIONS = ("prompt", "question", "title", "instruction")


@dataclass(frozen=True)
class Imported:
    """The votes of a file, and what is wrong with the rows that are none, a line for each that names the row.

    ``empty``: such lines for votes that are kept although nothing stands in one of their answers.
    """

    votes: tuple[Vote, ...]
    problems: tuple[str, ...]
    empty: tuple[str, ...] = ()


# ---------------------------------------------------------------- in


def read_votes(content: bytes | str, filename: str, rater: str = "", per_prompt: int = PAIRS_PER_PROMPT) -> Imported:
    """The votes of a .jsonl, .json, .csv, .tsv or .parquet file; what each row is, its columns tell.

    The ids are made of what the rows say, so that the same file counts once however often it is read.

    Args:
        rater: who gets the votes that name nobody; "" : "imported from FILE".
        per_prompt: of a row with scored answers, at most so many pairs are made.

    Raises:
        DataError: the file cannot be read at all, or no row of it is a vote; names the first problem.
    """
    if filename.lower().endswith(".txt"):
        raise DataError(f"{filename}: a text file cannot hold votes.", 'Use JSONL: {"prompt": …, "chosen": …, "rejected": …}.')
    problems: list[str] = []
    empty: list[str] = []
    votes: list[Vote] = []
    name = rater or f"imported from {filename}"[:100]
    times: Counter[str] = Counter()
    for row in usable_rows(content, filename, problems):
        if len(votes) >= MAX_ROWS:
            problems.append(f"{filename}, {row.where}: after {MAX_ROWS:,} votes the rest is left out.")
            break
        try:
            for vote in _row_votes(row.value, filename, name, per_prompt):
                votes.append(checked(replace(vote, id=vote.id or _id(vote, times))))
                if has_empty_answer(vote):
                    empty.append(f"{filename}, {row.where}: nothing stands in one of the answers.")
        except DataError as error:
            problems.append(f"{filename}, {row.where}: {error.what}")
    if not votes:
        first = problems[0] if problems else ""
        raise DataError(
            f"{filename} holds no votes. {first}".strip(),
            "Give it the columns prompt, chosen and rejected, or prompt, left, right and winner, or question and answers.",
        )
    return Imported(tuple(votes), tuple(problems), tuple(empty))


def has_empty_answer(vote: Vote) -> bool:
    """Models do write nothing at times, so this is a vote; but it may be a gap in a file, too."""
    return not (vote.left.strip() and vote.right.strip())


def _id(vote: Vote, times: Counter[str]) -> str:
    """The same row twice in a file is two votes; the same file twice is not."""
    told = json.dumps([vote.prompt, vote.left, vote.right, vote.winner, vote.rater, vote.better], ensure_ascii=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:32]
    times[digest] += 1
    return f"imported-{digest}-{times[digest]}"


def _reason(error: DataError, prefix: str) -> str:
    return error.what.removeprefix(prefix).removeprefix(": ")


def _row_votes(value: Any, filename: str, rater: str, per_prompt: int) -> list[Vote]:
    if not isinstance(value, Mapping):
        raise DataError(f"an object was expected, found {str(value)[:40]}.")
    row = {str(column).strip().lower(): cell for column, cell in value.items()}
    if "winner" in row and "left" in row and "right" in row:
        return [_full(row, rater)]
    answers = row.get("answers")
    if isinstance(answers, str) and answers.lstrip().startswith("["):  # as a CSV file has to write it
        try:
            answers = json.loads(answers)
        except ValueError as error:
            raise DataError(f"“answers” is not a list: {error}.") from None
    if isinstance(answers, list) and "chosen" not in row:
        return scored_votes(_first_of(row, QUESTIONS, "question"), answers, rater, per_prompt)
    if isinstance(row.get("strength"), str):
        row["strength"] = _number(row["strength"], "strength") if row["strength"].strip() else None
    try:
        pair = parse_pairs(json.dumps(row, default=str), "row.jsonl")[0]
    except DataError as error:
        raise DataError(_reason(error, "row.jsonl, line 1"), error.do) from None
    who = str(row.get("rater") or "") or (pair.label if pair.label.startswith(SIMULATED) else "") or rater
    strength = min(3, max(1, round(pair.strength)))
    common = {"strength": strength, "rater": who, "simulated": who.startswith(SIMULATED), "reason": _given(row, "reason")}
    # which side the better one stood on is not known; left it is
    return [Vote(pair.prompt, pair.chosen, pair.rejected, "left", **common)]


def _full(row: Mapping[str, Any], rater: str) -> Vote:
    """A row of our own export, or any with prompt, left, right and winner."""
    spelled = str(row["winner"]).strip()
    winner = WINNER_SPELLINGS.get(spelled.casefold())
    if winner is None:
        raise DataError(f"the winner is “{spelled[:60]}”, which is neither left, right, tie nor both_bad.")
    known = {name: cell for name, cell in row.items() if name in COLUMNS and not missing(cell)}
    texts: dict[str, Any] = {name: str(cell) for name, cell in known.items()}
    sampling = known.get("sampling") or {}
    if isinstance(sampling, str):
        try:
            sampling = json.loads(sampling)
        except ValueError:
            raise DataError(f"“sampling” is not JSON: {sampling[:40]}.") from None
    if not isinstance(sampling, Mapping):
        raise DataError(f"“sampling” is not an object but {str(sampling)[:40]}.")
    who = texts.get("rater", "") or rater
    numbers = {name: _number(known[name], name) for name in ("time", "deleted") if known.get(name) not in (None, "")}
    strength = int(_number(known["strength"], "strength")) if known.get("strength") not in (None, "") else 1
    for name in ("prompt", "left", "right"):
        if name not in texts:
            raise DataError(f"there is no “{name}”.")
    elsewhere = ("winner", "sampling", "rater", "strength", "simulated", "time", "deleted")
    common = {name: text for name, text in texts.items() if name not in elsewhere}
    simulated = who.startswith(SIMULATED)
    return Vote(**{**common, **numbers, "winner": winner, "strength": strength, "sampling": sampling, "rater": who, "simulated": simulated})


# ---------------------------------------------------------------- scored answers


def answer_score(upvotes: float, accepted: bool = False) -> int:
    """round(log2(1 + upvotes)), 1 more if the asker accepted it; −1 for negative votes, accepted or not.

    Askell et al. 2021 (https://arxiv.org/abs/2112.00861, appendix C.3), as StackLLaMA has it: 0 → 0, 1 → 1, 4 → 2, 4 and accepted → 3.
    """
    return -1 if upvotes < 0 else round(math.log2(1 + upvotes)) + int(accepted)


def scored_votes(prompt: str, answers: Sequence[Any], rater: str = "", most: int = PAIRS_PER_PROMPT) -> list[Vote]:
    """All pairs of answers of unequal score, the best answer's pairs first, at most ``most`` of them.

    An answer is an object with a text and upvotes (or a finished ``pm_score``), and whether it was accepted.

    Raises:
        DataError: names the answer that cannot be read; or there are no two of unequal score.
    """
    scored: list[tuple[int, str]] = []
    for number, answer in enumerate(answers, 1):
        if not isinstance(answer, Mapping):
            raise DataError(f"answer {number} is not an object but {str(answer)[:40]}.")
        text = _first_of(answer, TEXTS, f"text” in “answer {number}")
        if not missing(answer.get("pm_score")):
            scored.append((int(_number(answer["pm_score"], "pm_score")), text))
            continue
        column = next((name for name in UPVOTES if not missing(answer.get(name))), None)
        if column is None:
            raise DataError(f"answer {number} has no upvotes (looked for: {', '.join(UPVOTES)}, pm_score).")
        accepted = any(_true(answer.get(name)) for name in ACCEPTED)
        scored.append((answer_score(_number(answer[column], column), accepted), text))
    ordered = sorted(scored, key=lambda item: -item[0])
    unequal = ((one, other) for one, other in combinations(ordered, 2) if one[0] != other[0] and one[1] != other[1])
    votes = [
        Vote(prompt, good, bad, "left", rater=rater, reason=f"score {better} against {worse}")
        for (better, good), (worse, bad) in islice(unequal, max(0, most))
    ]
    if not votes:
        raise DataError(f"of its {len(answers)} answers no two have unequal scores.")
    return votes


def _first_of(row: Mapping[str, Any], names: Sequence[str], wanted: str) -> str:
    for name in names:
        if isinstance(row.get(name), str) and row[name].strip():
            return row[name]
    raise DataError(f"there is no “{wanted}” (looked for: {', '.join(names)}).")


def _given(row: Mapping[str, Any], name: str) -> str:
    return "" if missing(row.get(name)) else str(row[name])


def _true(value: Any) -> bool:
    return value.strip().casefold() in ("true", "1", "yes") if isinstance(value, str) else bool(value) and not missing(value)


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DataError(f"“{name}” is not a number but “{str(value)[:40]}”.") from None
    if not math.isfinite(number):
        raise DataError(f"“{name}” is {number}.")
    return number


# ---------------------------------------------------------------- out


def pair_records(pairs: Sequence[PreferencePair], conversational: bool = False) -> list[dict[str, Any]]:
    """Rows with prompt, chosen and rejected, as TRL and ``datasets`` read them; a conversation is a list of {"role", "content"}.

    ``label`` says who preferred it; ``strength`` is there only where somebody said how strongly.
    """
    strong = any(pair.strength != 1 for pair in pairs)
    rows = []
    for pair in pairs:
        row: dict[str, Any] = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        if conversational:
            row = {name: [{"role": "user" if name == "prompt" else "assistant", "content": text}] for name, text in row.items()}
        rows.append(row | {"label": pair.label} | ({"strength": pair.strength} if strong else {}))
    return rows


def vote_records(votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """Everything about each vote; ``sampling`` as JSON text, so that the columns are the same whatever was sampled with."""
    return [asdict(vote) | {"sampling": json.dumps(dict(vote.sampling), ensure_ascii=False, default=str)} for vote in votes]


def write_rows(rows: Sequence[Mapping[str, Any]], kind: Format) -> bytes:
    """The bytes of a file. Raises ``DataError`` for no rows, and for conversations in a CSV file, which has no lists."""
    if not rows:
        raise DataError("There is nothing to export.", "Ties prefer nothing: vote for one side, or export the votes themselves.")
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == "csv":
        if any(isinstance(value, list) for value in rows[0].values()):
            raise DataError("A CSV file cannot hold conversations.", "Choose JSONL or Parquet.")
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().encode()
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), sink)
    return sink.getvalue()
