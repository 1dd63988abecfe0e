"""Prompts and preference pairs: embedded sets, files that people bring, and the copy that a run keeps.

Files are read tolerantly (several formats, encodings and column names) and refused clearly: every `DataError` names the line or row,
what is wrong there, and what to do. `rlhf.tables` turns a file into rows; this module turns rows into prompts and pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from rlhf.catalogue import ASSETS
from rlhf.errors import DataError
from rlhf.tables import Row, find_column, missing, read_file, read_rows

Kind = Literal["prompts", "pairs", "demonstrations"]
MAX_TEXT = 50_000  # characters of one prompt or answer; more does not fit into any context that is trained here
MAX_HELDOUT = 500  # split off at most this many, however large the file


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the ``answer`` that the reward ``correct`` compares with (if there is one)."""

    text: str
    answer: str | None = None

    @property
    def prompt(self) -> str:
        return self.text


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one prompt, of which ``chosen`` was preferred; ``label`` says by whom or by which rule.

    ``strength`` is how strongly, 1 where nobody said: a reward model's margin is multiplied by it.
    """

    prompt: str
    chosen: str
    rejected: str
    label: str = ""
    strength: float = 1.0


@dataclass(frozen=True)
class Demonstration:
    """A prompt with an answer to imitate."""

    prompt: str
    response: str
    label: str = ""


Item = Prompt | PreferencePair | Demonstration


@dataclass(frozen=True)
class Dataset:
    """What a run trains on and what it is measured on; no prompt is in both. ``heldout`` is empty if there is only one prompt."""

    train: tuple[Item, ...]
    heldout: tuple[Item, ...]
    kind: Kind
    source: str


@dataclass(frozen=True)
class EmbeddedSet:
    """A data set that ships with the app, and the embedded ``model`` it was made for."""

    name: str
    kind: Kind
    model: str
    train_path: Path
    heldout_path: Path
    description: str


def _embedded(name: str, kind: Kind, description: str) -> EmbeddedSet:
    folder = ASSETS / "data"
    return EmbeddedSet(name, kind, name.split("-")[0], folder / f"{name}-train.jsonl", folder / f"{name}-heldout.jsonl", description)


EMBEDDED: dict[str, EmbeddedSet] = {
    item.name: item
    for item in (
        _embedded("story-prompts", "prompts", "First words of very short stories, written by a grammar."),
        _embedded("sums-prompts", "prompts", "Two-digit additions with their answers; the held-out ones were never in pretraining."),
        _embedded("story-pairs", "pairs", "Two continuations by the story model; the sadder one is preferred."),
        _embedded("sums-pairs", "pairs", "A right and a wrong answer by the sums model; the right one is preferred."),
    )
}

# ---------------------------------------------------------------- rows to prompts and pairs

# Column names that data sets in the wild use, the likeliest first; compared without case, spaces, - and _.
PROMPT_COLUMNS = ("prompt", "question", "text", "instruction", "input", "query", "problem", "messages", "conversations", "conversation")
ANSWER_COLUMNS = ("answer", "target", "solution", "finalanswer", "groundtruth", "expected")
CHOSEN_COLUMNS = ("chosen", "preferred", "better", "winner", "chosenresponse", "responsechosen", "accepted")
REJECTED_COLUMNS = ("rejected", "dispreferred", "worse", "loser", "rejectedresponse", "responserejected")
LABEL_COLUMNS = ("label", "rule")

RESPONSE_COLUMNS = ("response", "completion", "output", "answer", "answers", "target", "solution", "assistant", *CHOSEN_COLUMNS)
STRENGTH_COLUMNS = ("strength",)

Parsed = TypeVar("Parsed", Prompt, PreferencePair, Demonstration)


def parse_prompts(content: bytes | str, filename: str) -> list[Prompt]:
    """Prompts of a .txt (one a line), .jsonl, .json, .csv, .tsv or .parquet file.

    Args:
        content: the file's bytes, or text that was pasted (read as its name's ending says).
        filename: its name; the ending tells the format.

    Raises:
        DataError: names the file, the line or row, the reason, and what to do.
    """
    return _parse(content, filename, _prompt)


def parse_pairs(content: bytes | str, filename: str) -> list[PreferencePair]:
    """Preference pairs of a .jsonl, .json, .csv, .tsv or .parquet file; answers may be texts or conversations.

    A conversation is a list of ``{"role", "content"}`` (or ``{"from", "value"}``). Without a prompt column, the turns that both
    conversations begin with are the prompt; so is what both texts share up to their last ``Assistant:``.

    Raises:
        DataError: names the file, the line or row, the reason, and what to do.
    """
    if filename.lower().endswith(".txt"):
        raise DataError(f"{filename}: a text file cannot hold preference pairs.", 'Use JSONL: {"prompt": …, "chosen": …, "rejected": …}.')
    return _parse(content, filename, _pair)


def parse_demonstrations(content: bytes | str, filename: str) -> list[Demonstration]:
    """Prompts with the answer to imitate, of a .jsonl, .json, .csv, .tsv or .parquet file; also whole conversations, which end on the
    answer.

    Of a file of preference pairs the chosen answers are taken.

    Raises:
        DataError: names the file, the line or row, the reason, and what to do.
    """
    if filename.lower().endswith(".txt"):
        raise DataError(f"{filename}: a text file cannot hold answers to prompts.", 'Use JSONL: {"prompt": …, "response": …}.')
    return _parse(content, filename, _demonstration)


def _parse(content: bytes | str, filename: str, convert: Callable[[Row], Parsed]) -> list[Parsed]:
    items = []
    for row in read_rows(content, filename):
        try:
            items.append(convert(row))
        except DataError as error:
            raise DataError(f"{filename}, {row.where}: {error.what}", error.do) from None
    if not items:
        raise DataError(f"{filename} holds no data.", "Give it at least one row.")
    return items


def _prompt(row: Row) -> Prompt:
    if isinstance(row.value, str):
        return Prompt(_text(row.value, "prompt"))
    column, value = find_column(row.value, PROMPT_COLUMNS, "prompt")
    text = _conversation(value, until_answer=True) if isinstance(value, list) else _with_input(row.value, column, value)
    _, answer = find_column(row.value, ANSWER_COLUMNS)
    answer = None if missing(answer) else _text(answer, "answer", empty=True)
    if answer is not None and "####" in answer:  # GSM8K keeps the working before the mark
        answer = answer.rpartition("####")[2].strip()
    return Prompt(_text(text, column), answer or None)


def _with_input(row: Mapping[str, Any], column: str, text: Any) -> Any:
    """Alpaca keeps what an instruction is about in a column of its own."""
    about = row.get("input")
    return f"{text}\n\n{about}" if column.lower() == "instruction" and isinstance(about, str) and about.strip() else text


def _pair(row: Row) -> PreferencePair:
    if not isinstance(row.value, Mapping):
        raise DataError("a pair must be an object with prompt, chosen and rejected.", f"Found: {_short(row.value)}.")
    _, chosen = find_column(row.value, CHOSEN_COLUMNS, "chosen")
    _, rejected = find_column(row.value, REJECTED_COLUMNS, "rejected")
    column, prompt = find_column(row.value, PROMPT_COLUMNS)
    if isinstance(prompt, list):
        prompt = _conversation(prompt, until_answer=True)
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        if missing(prompt) and shared:
            column, prompt = "prompt", _conversation(chosen[:shared])
        chosen, rejected = _conversation(chosen[shared:]), _conversation(rejected[shared:])
    elif isinstance(chosen, list) or isinstance(rejected, list):
        raise DataError("one answer is a conversation and the other a text.", "Write both in the same way.")
    elif not column and isinstance(chosen, str) and isinstance(rejected, str):
        prompt, chosen, rejected = _split_dialogue(chosen, rejected)
    if not column and not prompt:
        find_column(row.value, PROMPT_COLUMNS, "prompt")  # raises, naming the columns
    pair = PreferencePair(
        _text(prompt, "prompt"),
        _text(chosen, "chosen", empty=True),
        _text(rejected, "rejected", empty=True),
        _label(row.value),
        _strength(row.value),
    )
    if pair.chosen == pair.rejected:
        raise DataError(f"chosen and rejected are the same: {_short(pair.chosen)}.", "Remove the row: it prefers nothing.")
    return pair


def _demonstration(row: Row) -> Demonstration:
    if not isinstance(row.value, Mapping):
        raise DataError("a demonstration must be an object with prompt and response.", f"Found: {_short(row.value)}.")
    if not find_column(row.value, PROMPT_COLUMNS)[0] and find_column(row.value, REJECTED_COLUMNS)[0]:
        pair = _pair(row)  # which finds the prompt in what the two answers share
        return Demonstration(pair.prompt, _text(pair.chosen, "chosen"), pair.label)
    column, prompt = find_column(row.value, PROMPT_COLUMNS, "prompt")
    prompt = _with_input(row.value, column, prompt)
    known, response = find_column(row.value, RESPONSE_COLUMNS)
    if isinstance(prompt, list) and not known:  # one conversation, the last turn of which is the answer
        last = prompt[-1] if prompt else None
        if len(prompt) < 2 or not isinstance(last, Mapping) or last.get("role", last.get("from")) not in ("assistant", "gpt"):
            raise DataError("the conversation has no answer.", "It must end on a turn of the assistant.")
        prompt, response = _conversation(prompt[:-1]), _conversation(prompt[-1:])
    elif not known:
        find_column(row.value, RESPONSE_COLUMNS, "response")  # raises, naming the columns
    if isinstance(prompt, list):
        prompt = _conversation(prompt, until_answer=True)
    if isinstance(response, list):
        response = _conversation(response[-1:])
    return Demonstration(_text(prompt, column), _text(response, known or "response"), _label(row.value))


def _strength(value: Mapping[str, Any]) -> float:
    column, strength = find_column(value, STRENGTH_COLUMNS)
    if missing(strength) or strength == "":
        return 1.0
    if isinstance(strength, str):  # as a CSV file has to write it
        try:
            strength = float(strength)
        except ValueError:
            raise DataError(f"“{column}” is {_short(strength)}.", "Write a number above 0; 1 is an ordinary preference.") from None
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength <= 100:
        raise DataError(f"“{column}” is {_short(strength)}.", "Write a number above 0; 1 is an ordinary preference.")
    return float(strength)


def _label(value: Mapping[str, Any]) -> str:
    _, label = find_column(value, LABEL_COLUMNS)
    return "" if missing(label) else _text(label, "label", empty=True)


def _text(value: Any, column: str, empty: bool = False) -> str:
    """The text of a cell, checked: numbers become text, everything else that is not text is refused."""
    if missing(value):
        value = ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"“{column}” is not a text but {_short(value)}.", "Write it in quotes.")
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not empty and not text.strip():
        raise DataError(f"“{column}” is empty.", "Fill it in, or remove the row.")
    if len(text) > MAX_TEXT:
        raise DataError(f"“{column}” has {len(text):,} characters; at most {MAX_TEXT:,} are read.", "Shorten it.")
    if "\0" in text:
        raise DataError(f"“{column}” holds a null byte.", "Save the file as UTF-8 text.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"“{column}” holds half of a character (a lone surrogate).", "Write emoji and rare characters as UTF-8.")
    return text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _conversation(turns: list[Any], until_answer: bool = False) -> str:
    """The text of a list of turns: its content alone for a single turn, else ``Role: content`` in paragraphs.

    ``until_answer``: leave out the assistant's last turn, for prompts that come with an answer.
    """
    read = []
    for turn in turns:
        role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        content = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(f"a turn of a conversation must have “role” and “content”, but reads {_short(turn)}.", "Write both as text.")
        read.append(({"human": "user", "gpt": "assistant"}.get(role.lower(), role.lower()), content))
    if until_answer and len(read) > 1 and read[-1][0] == "assistant":
        read = read[:-1]
    if len(read) == 1:
        return read[0][1]
    return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in read)


def _split_dialogue(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt and two answers of texts in the form ``Human: … Assistant: …``; an empty prompt if they are not."""
    mark = "Assistant:"
    at = chosen.rfind(mark) + len(mark)
    if mark not in chosen or chosen[:at] != rejected[:at]:
        return "", chosen, rejected
    return chosen[:at], chosen[at:], rejected[at:]


# ---------------------------------------------------------------- data sets


def kind_of(items: Sequence[Item]) -> Kind:
    """By the first item; nothing is prompts."""
    kinds: dict[type, Kind] = {PreferencePair: "pairs", Demonstration: "demonstrations"}
    return kinds.get(type(items[0]), "prompts") if items else "prompts"


def split(items: Sequence[Item], source: str, share: float = 0.1) -> Dataset:
    """Hold out a tenth of the prompts, chosen by a hash of their text: the same file is always split the same way.

    All rows of a prompt go to the same side. One prompt alone is not split: nothing is held out.
    """
    prompts = sorted({item.prompt for item in items}, key=lambda text: hashlib.sha256(text.encode()).digest())
    count = min(max(1, round(share * len(prompts))), MAX_HELDOUT) if len(prompts) > 1 else 0
    kept = set(prompts[:count])
    train = tuple(item for item in items if item.prompt not in kept)
    return Dataset(train, tuple(item for item in items if item.prompt in kept), kind_of(items), source)


def load_dataset(kind: Kind, source: str, heldout: str = "") -> Dataset:
    """An embedded set by its name, or a file; held-out data from ``heldout`` (a name or a file), the set's own, or split off.

    Raises:
        DataError: unknown name or file, the wrong kind, unreadable rows, or prompts that are in both parts.
    """
    known = EMBEDDED.get(source)
    train = _items(kind, source, held=False)
    if heldout:
        held = _items(kind, heldout, held=True)
    elif known:
        held = _items(kind, source, held=True)
    else:
        return split(train, source)
    both = {item.prompt for item in train} & {item.prompt for item in held}
    if both:
        raise DataError(
            f"{len(both)} of the held-out prompts are also in the training data, for example {_short(min(both))}.",
            "Measure on other prompts than you train on: remove them from one of the two, or give no held-out file.",
        )
    return Dataset(tuple(train), tuple(held), kind, source)


PARSERS: dict[Kind, Callable[[bytes | str, str], Sequence[Item]]] = {
    "prompts": parse_prompts,
    "pairs": parse_pairs,
    "demonstrations": parse_demonstrations,
}


def fits(kind: Kind, item: EmbeddedSet) -> bool:
    """Whether an embedded set can be read as ``kind``: the better answers of preference pairs are demonstrations."""
    return item.kind == kind or (kind, item.kind) == ("demonstrations", "pairs")


def _items(kind: Kind, source: str, held: bool) -> Sequence[Item]:
    known = EMBEDDED.get(source)
    if known and not fits(kind, known):
        names = ", ".join(name for name, item in EMBEDDED.items() if fits(kind, item))
        raise DataError(f"“{source}” holds {known.kind}, but this algorithm needs {kind}.", f"Choose {names}, or a file of {kind}.")
    path = (known.heldout_path if held else known.train_path) if known else Path(source).expanduser()
    if not source or not (known or path.is_file()):
        reason = "is a folder" if source and path.is_dir() else "is neither an embedded data set nor a file"
        raise DataError(f"“{source}” {reason}.", f"Choose one of {', '.join(EMBEDDED)}, or give the path of a file.")
    return PARSERS[kind](read_file(path), path.name)


def to_record(item: Item) -> dict[str, Any]:
    """The JSON object of a prompt, pair or demonstration, as in the embedded files; what is empty, or says nothing, is left out."""
    if isinstance(item, Prompt):
        return {"prompt": item.text} | ({"answer": item.answer} if item.answer is not None else {})
    silent = {"label": "", "strength": 1.0}
    return {key: value for key, value in asdict(item).items() if key not in silent or value != silent[key]}


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write a JSONL file, one item a line."""
    lines = (json.dumps(to_record(item), ensure_ascii=False) + "\n" for item in items)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_data(path: Path, dataset: Dataset) -> None:
    """Write the ``data.jsonl`` of a run: one item a line with its ``split`` and ``source``."""
    parts = (("train", dataset.train), ("heldout", dataset.heldout))
    lines = [
        json.dumps({"split": part, "source": dataset.source} | to_record(item), ensure_ascii=False)
        for part, items in parts
        for item in items
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def read_data(path: Path) -> Dataset:
    """Read what `write_data` wrote.

    Raises:
        DataError: the file is missing or was changed into something else.
    """
    parts: dict[str, list[Item]] = {"train": [], "heldout": []}
    source = ""
    try:
        for line in path.read_text(encoding="utf-8").split("\n"):  # splitlines would also cut at U+2028 within a text
            if not line:
                continue
            record = json.loads(line)
            part, source = record.pop("split"), record.pop("source", "")
            if "chosen" in record:
                parts[part].append(PreferencePair(**record))
            elif "response" in record:
                parts[part].append(Demonstration(**record))
            else:
                parts[part].append(Prompt(record["prompt"], record.get("answer")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"The run's data, {path.name}, cannot be read: {error}.", "Start a new run with its settings.") from None
    return Dataset(tuple(parts["train"]), tuple(parts["heldout"]), kind_of(parts["train"] or parts["heldout"]), source)
