"""Votes on pairs of answers: kept in SQLite, and turned into preference pairs.

A vote says which of two answers to a prompt was better, by whom, how strongly, why, and where both answers came from. All votes stand in
``votes.sqlite`` beside the run folders: one table, one row a vote, in WAL mode, so that readers and writers (other processes too) do not
block one another. Nothing is ever written twice: the id of a vote is made where it is cast, and a second vote with the same id is the
same vote (a double click, a retry). Deleted votes are marked, so that deleting can be undone.

Who votes by a rule, and how well raters agree, is in ``rlhf.raters``; files in and out are in ``rlhf.vote_files``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from rlhf.errors import DataError
from rlhf.preferences import MAX_TEXT, PreferencePair
from rlhf.runs import runs_dir
from rlhf.runs.files import hold

Winner = Literal["left", "right", "tie", "both_bad"]
Contradictory = Literal["keep", "majority", "leave out"]
WINNERS: tuple[Winner, ...] = get_args(Winner)
STRENGTHS = (1, 2, 3)  # slightly, clearly, much better
FILE = "votes.sqlite"
VERSION = 1
BUSY_SECONDS = 10.0
MAX_SHORT = 2000  # characters of a reason
MAX_NAME = 120  # characters of a rater's name
SIMULATED = "simulated by "  # how the rater of every simulated vote begins


@dataclass(frozen=True)
class Vote:
    """One judgement. ``better``: what the rater would rather have read ("" : nothing was written).

    ``sampling``: fields of ``SamplingConfig``, the same for both sides. ``left_seed``, ``right_seed``: ``SEED/ROW``, the seed of the call
    of ``rlhf.rollout.sample`` and the row in it. ``left_checkpoint``: ``RUN_ID/step-N``, or "" for the model as it was released.
    ``time`` and ``deleted``: POSIX seconds; 0 for a time means now, None for deleted that it stands.
    """

    prompt: str
    left: str
    right: str
    winner: Winner
    rater: str = ""
    strength: int = 1
    reason: str = ""
    better: str = ""
    left_model: str = ""
    left_checkpoint: str = ""
    right_model: str = ""
    right_checkpoint: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    left_seed: str = ""
    right_seed: str = ""
    simulated: bool = False
    id: str = ""
    time: float = 0.0
    deleted: float | None = None


COLUMNS = tuple(item.name for item in fields(Vote))
_TYPES = {"strength": "INTEGER", "simulated": "INTEGER", "time": "REAL", "deleted": "REAL"}
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS votes (
  {", ".join(f'"{name}" {_TYPES.get(name, "TEXT")}{"" if name == "deleted" else " NOT NULL"}' for name in COLUMNS)},
  PRIMARY KEY (id), CHECK (winner IN ('left', 'right', 'tie', 'both_bad')), CHECK (strength BETWEEN 1 AND 3)
);
CREATE INDEX IF NOT EXISTS votes_by_time ON votes (time);
"""


def new_id() -> str:
    """The id of a vote that is yet to be cast."""
    return uuid.uuid4().hex


def checked(vote: Vote) -> Vote:
    """The vote with an id and a time, its names trimmed. Raises ``DataError`` for a vote that says nothing, or cannot be kept."""
    if vote.winner not in WINNERS:
        raise DataError(f"The winner is “{str(vote.winner)[:60]}”.", "It must be left, right, tie or both_bad.")
    if vote.strength not in STRENGTHS:
        raise DataError(f"The strength is {str(vote.strength)[:60]}.", "Write 1 (slightly), 2 (clearly) or 3 (much better).")
    for name, most in (("prompt", MAX_TEXT), ("left", MAX_TEXT), ("right", MAX_TEXT), ("better", MAX_TEXT), ("reason", MAX_SHORT)):
        _check_text(getattr(vote, name), name, most)
    _check_text(vote.rater, "rater", MAX_NAME)
    if not vote.prompt.strip():
        raise DataError("The prompt is empty.", "Write what the answers answer.")
    if vote.left == vote.right and vote.winner in ("left", "right"):
        raise DataError("Both answers are the same, so neither can be better.", "Vote for a tie, or leave the row out.")
    rater = " ".join(vote.rater.split())
    if vote.simulated != rater.startswith(SIMULATED):
        raise DataError(
            f"A simulated vote, and only such a one, is by a rater “{SIMULATED}…”; this one is by “{rater}”.", "Name the rater so."
        )
    return replace(vote, rater=rater, id=vote.id or new_id(), time=vote.time or time.time())


def _check_text(text: Any, name: str, most: int) -> None:
    if not isinstance(text, str):
        raise DataError(f"“{name}” is not a text but {str(text)[:60]}.", "Write it as a text.")
    if len(text) > most:
        raise DataError(f"“{name}” has {len(text):,} characters; at most {most:,} are kept.", "Shorten it.")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"“{name}” holds a null byte or half of a character.", "Write it as UTF-8 text.")


# ---------------------------------------------------------------- the database


@dataclass
class _Open:
    """A database that this process has open; one statement at a time goes through it."""

    connection: sqlite3.Connection
    inode: int
    lock: threading.RLock = field(default_factory=threading.RLock)


_open: dict[tuple[int, Path], _Open] = {}  # by process, since a connection must not be used across a fork
_opening = threading.Lock()


def database(root: str | Path | None = None) -> Path:
    """Where the votes stand; it need not exist yet."""
    return runs_dir(root) / FILE


@contextmanager
def _connected(root: str | Path | None) -> Iterator[sqlite3.Connection]:
    """The process's connection, for as long as its lock is held. Raises ``DataError`` for a file that cannot be used."""
    path = database(root)
    try:
        found = _connection(path)
        with found.lock:
            yield found.connection
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"The votes in {path} cannot be used: {error}.", _advice(error)) from error


def _advice(error: Exception) -> str:
    text = str(error)
    if "locked" in text:
        return "Another process has held them for longer than ten seconds: try again."
    if "full" in text or "No space" in text:
        return "The disk is full: delete what you do not need, then vote again."
    if "not a database" in text or "malformed" in text:
        return f"The file is damaged. Move {FILE} out of the way (the runs stay as they are), and import your last export."
    return "Check that the folder exists and that the app may write there."


def _connection(path: Path) -> _Open:
    key = (os.getpid(), path)
    with _opening:
        known = _open.get(key)
        if known and path.exists() and path.stat().st_ino == known.inode:
            return known
        if known:  # somebody has removed or replaced the file
            _open.pop(key).connection.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        _open[key] = _Open(connection, path.stat().st_ino)
        return _open[key]


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Settings of the connection and, once for a file, the table."""
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = FULL")  # a vote that was counted is on the disk, whatever happens to the machine
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise sqlite3.DatabaseError(f"it was written by a later version of this app ({version})")
    if version == VERSION:
        return
    # going over to WAL needs the file alone and does not wait for it, so newcomers go through this door one by one
    lock = hold(path.with_name(f"{FILE}.lock"), timeout=BUSY_SECONDS)
    if lock is None:
        raise sqlite3.OperationalError("database is locked")
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
    finally:
        lock.release()


@contextmanager
def _writing(root: str | Path | None) -> Iterator[sqlite3.Connection]:
    """All or nothing. The write lock is taken at once: a reader that turns into a writer could find the file changed."""
    with _connected(root) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk may have ended it already
                connection.execute("ROLLBACK")
            raise


# ---------------------------------------------------------------- votes in and out


def add(votes: Vote | Iterable[Vote], root: str | Path | None = None) -> int:
    """Keep votes, all or none of them; how many of them were new. One whose id is there already is not counted again, nor changed.

    Raises:
        DataError: a vote that says nothing (see ``checked``), or a database that cannot be written.
    """
    rows = [_row(checked(vote)) for vote in ([votes] if isinstance(votes, Vote) else votes)]
    marks = ", ".join("?" * len(COLUMNS))
    with _writing(root) as connection:
        before = connection.total_changes
        connection.executemany(f"INSERT OR IGNORE INTO votes ({_names()}) VALUES ({marks})", rows)
        return connection.total_changes - before


def _names() -> str:
    return ", ".join(f'"{name}"' for name in COLUMNS)


def _row(vote: Vote) -> tuple[Any, ...]:
    values = {name: getattr(vote, name) for name in COLUMNS}
    values |= {"sampling": json.dumps(dict(vote.sampling), ensure_ascii=False, default=str), "simulated": int(vote.simulated)}
    return tuple(values.values())


def _vote(row: sqlite3.Row) -> Vote:
    values = dict(row)
    return Vote(**{**values, "sampling": json.loads(values["sampling"]), "simulated": bool(values["simulated"])})


@dataclass(frozen=True)
class Filter:
    """Which votes: None and "" ask for nothing. ``text`` is looked for in the prompt, both answers and the reason."""

    rater: str | None = None
    winner: Winner | None = None
    simulated: bool | None = None
    model: str = ""
    text: str = ""
    deleted: bool = False

    def sql(self) -> tuple[str, list[Any]]:
        conditions, values = ["deleted IS NOT NULL" if self.deleted else "deleted IS NULL"], []
        for column in ("rater", "winner", "simulated"):
            if getattr(self, column) is not None:
                conditions.append(f"{column} = ?")
                values.append(getattr(self, column))
        if self.model:
            conditions.append("(left_model = ? OR right_model = ?)")
            values += [self.model] * 2
        if self.text:
            columns = ("prompt", '"left"', '"right"', "reason", "better")
            # LIKE knows no difference between a and A; the marks of LIKE itself are meant as they are written
            sought = "%" + self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            conditions.append("(" + " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns) + ")")
            values += [sought] * len(columns)
        return " AND ".join(conditions), values


def find(wanted: Filter | None = None, limit: int | None = None, root: str | Path | None = None) -> list[Vote]:
    """Votes, the newest first. Without a database there are none."""
    if not database(root).exists():
        return []
    condition, values = (wanted or Filter()).sql()
    query = f"SELECT {_names()} FROM votes WHERE {condition} ORDER BY time DESC, id LIMIT ?"
    with _connected(root) as connection:
        return [_vote(row) for row in connection.execute(query, [*values, -1 if limit is None else limit])]


def count(wanted: Filter | None = None, root: str | Path | None = None) -> int:
    """How many votes there are."""
    if not database(root).exists():
        return 0
    condition, values = (wanted or Filter()).sql()
    with _connected(root) as connection:
        return connection.execute(f"SELECT count(*) FROM votes WHERE {condition}", values).fetchone()[0]


def raters(root: str | Path | None = None) -> dict[str, int]:
    """Rater → votes that stand, the busiest first."""
    if not database(root).exists():
        return {}
    query = "SELECT rater, count(*) FROM votes WHERE deleted IS NULL GROUP BY rater ORDER BY count(*) DESC, rater"
    with _connected(root) as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def flip(ids: Sequence[str], root: str | Path | None = None) -> int:
    """Left becomes right, and right becomes left; a tie has no other side. How many were turned."""
    change = "winner = CASE winner WHEN 'left' THEN 'right' ELSE 'left' END"
    return _update(change, "winner IN ('left', 'right')", [], ids, root)


def delete(ids: Sequence[str], root: str | Path | None = None) -> int:
    """Mark as deleted; how many were."""
    return _update("deleted = ?", "deleted IS NULL", [time.time()], ids, root)


def undo_delete(ids: Sequence[str], root: str | Path | None = None) -> int:
    """How many came back."""
    return _update("deleted = NULL", "deleted IS NOT NULL", [], ids, root)


def _update(change: str, condition: str, values: list[Any], ids: Sequence[str], root: str | Path | None) -> int:
    statement = f"UPDATE votes SET {change} WHERE id = ? AND {condition}"
    with _writing(root) as connection:
        return sum(connection.execute(statement, [*values, one]).rowcount for one in dict.fromkeys(ids))


def edit(
    vote_id: str,
    *,
    winner: Winner | None = None,
    strength: int | None = None,
    reason: str | None = None,
    better: str | None = None,
    root: str | Path | None = None,
) -> Vote:
    """Change what was judged, never what was judged about. Returns the vote as it is now; raises ``DataError``."""
    given = {"winner": winner, "strength": strength, "reason": reason, "better": better}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with _writing(root) as connection:
        row = connection.execute(f"SELECT {_names()} FROM votes WHERE id = ?", [vote_id]).fetchone()
        if row is None:
            raise DataError(f"There is no vote {vote_id[:60]}.", "It may have been removed: load the list again.")
        changed = checked(replace(_vote(row), **changes))
        for name, value in changes.items():
            connection.execute(f"UPDATE votes SET {name} = ? WHERE id = ?", [value, vote_id])
    return changed


# ---------------------------------------------------------------- votes to pairs


@dataclass(frozen=True)
class Contradiction:
    """The same two answers to the same prompt, voted both ways. ``votes`` for each of them, by text in order of the alphabet."""

    prompt: str
    answers: tuple[str, str]
    votes: tuple[int, int]
    raters: tuple[str, ...]
    ids: tuple[str, ...]

    def __str__(self) -> str:
        who = ", ".join(rater or "somebody" for rater in self.raters)
        first, second = (f"“{_short(text)}”" for text in self.answers)
        return f"“{_short(self.prompt)}”: {first} against {second} was voted {self.votes[0]} to {self.votes[1]} (by {who})."


@dataclass(frozen=True)
class Pairs:
    """Pairs to train on; the contradictions that were found; how many votes prefer nothing (ties and both bad)."""

    pairs: tuple[PreferencePair, ...]
    contradictions: tuple[Contradiction, ...]
    without_preference: int


def _short(text: str, length: int = 40) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def question(vote: Vote) -> tuple[str, str, str]:
    """What was judged, whichever side each answer stood on: the prompt, and both answers in order of the alphabet."""
    return (vote.prompt, *sorted((vote.left, vote.right)))  # type: ignore[return-value]  # two answers, always


def contradictions(votes: Sequence[Vote]) -> list[Contradiction]:
    """The pairs of answers that were voted both ways."""
    by_question: dict[tuple[str, str, str], list[Vote]] = {}
    for vote in votes:
        if vote.winner in ("left", "right"):
            by_question.setdefault(question(vote), []).append(vote)
    found = []
    for (prompt, first, second), given in by_question.items():
        chosen = Counter(_chosen(vote) for vote in given)
        if len(chosen) == 2:
            who = tuple(sorted({vote.rater for vote in given}))
            found.append(Contradiction(prompt, (first, second), (chosen[first], chosen[second]), who, tuple(vote.id for vote in given)))
    return found


def _chosen(vote: Vote) -> str:
    return vote.left if vote.winner == "left" else vote.right


def to_pairs(votes: Sequence[Vote], contradictory: Contradictory = "keep") -> Pairs:
    """Preference pairs, each labelled with who voted.

    Ties and "both bad" prefer nothing and are left out; a better answer that the rater wrote is chosen over both, with any winner.
    ``contradictory``: what becomes of pairs of answers that were voted both ways: ``keep`` all votes (a model learns the share),
    keep those of the ``majority`` (none, if there is none), or ``leave out`` them all.
    """
    against: dict[tuple[str, str, str], str | None] = {}  # question → the only answer that may be chosen; None: neither
    found = contradictions(votes)
    if contradictory != "keep":
        for item in found:
            first, second = item.votes
            most = item.answers[0 if first > second else 1] if first != second and contradictory == "majority" else None
            against[(item.prompt, *item.answers)] = most
    pairs: list[PreferencePair] = []
    for vote in votes:
        if vote.winner in ("left", "right") and against.get(question(vote), _chosen(vote)) == _chosen(vote):
            rejected = vote.right if vote.winner == "left" else vote.left
            pairs.append(PreferencePair(vote.prompt, _chosen(vote), rejected, vote.rater, float(vote.strength)))
        if vote.better.strip():
            label = f"{vote.rater}, own answer" if vote.rater else "own answer"
            worse = dict.fromkeys(text for text in (vote.left, vote.right) if text != vote.better)
            pairs += [PreferencePair(vote.prompt, vote.better, text, label, float(vote.strength)) for text in worse]
    return Pairs(tuple(pairs), tuple(found), sum(vote.winner in ("tie", "both_bad") for vote in votes))


def described(votes: Sequence[Vote]) -> str:
    """Whose votes these are, in words: "12 votes by Ann, Bea; 200 simulated by negative, error rate 0.1"."""
    people = [vote for vote in votes if not vote.simulated]
    names = list(dict.fromkeys(vote.rater or "somebody" for vote in people))
    amount = f"{len(people)} vote{'s' if len(people) > 1 else ''}"
    parts = [f"{amount} by {', '.join(names[:3])}" + (" and others" if len(names) > 3 else "")] if people else []
    by_rule = Counter(vote.rater for vote in votes if vote.simulated)
    return "; ".join(parts + [f"{n} {rule}" for rule, n in by_rule.items()])


def from_ranking(prompt: str, answers: Sequence[str], ranks: Sequence[int], **common: Any) -> list[Vote]:
    """A ranking of K answers as K (K − 1) / 2 votes: of each two, the one of the lower rank wins; equal ranks are ties.

    ``ranks``: (K,), 1 is the best. ``common``: fields of all votes (rater, id, sampling …); with an ``id`` each vote's is ``ID/i-j``, so
    that a ranking that is sent twice counts once. ``models``, ``checkpoints``, ``seeds``: one for each answer, (K,).
    Answers with the same text are not set against one another.

    Raises:
        DataError: fewer than two answers, or not one rank for each.
    """
    if len(answers) < 2 or len(ranks) != len(answers):
        raise DataError(f"{len(answers)} answers and {len(ranks)} ranks are no ranking.", "Give two answers or more, and a rank to each.")
    own = common.pop("id", "") or new_id()
    origin = {name: common.pop(f"{name}s", [""] * len(answers)) for name in ("model", "checkpoint", "seed")}
    votes = []
    for i, j in combinations(range(len(answers)), 2):
        if answers[i] == answers[j]:
            continue
        winner: Winner = "tie" if ranks[i] == ranks[j] else "left" if ranks[i] < ranks[j] else "right"
        sides = {f"{side}_{name}": values[at] for name, values in origin.items() for side, at in (("left", i), ("right", j))}
        votes.append(Vote(prompt, answers[i], answers[j], winner, id=f"{own}/{i}-{j}", **sides, **common))
    return votes


def waiting_for(rater: str, votes: Sequence[Vote], limit: int = 50) -> list[Vote]:
    """Votes on pairs that others have judged and ``rater`` has not, one for each pair, those with the fewest judges first."""
    judges: dict[tuple[str, str, str], set[str]] = {}
    example: dict[tuple[str, str, str], Vote] = {}
    for vote in votes:
        judges.setdefault(question(vote), set()).add(vote.rater)
        example.setdefault(question(vote), vote)
    open_ones = [key for key, who in judges.items() if rater not in who]
    return [example[key] for key in sorted(open_ones, key=lambda key: len(judges[key]))[:limit]]
