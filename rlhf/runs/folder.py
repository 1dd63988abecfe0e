"""One run folder as an object, and the runs directory: open, list, the queue. What makes and removes folders is in lifecycle.py.

Reading is cheap enough to be done every second by every page: small files are read again only when they changed, growing
ones from where the last look ended.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from rlhf.algorithms import make_config
from rlhf.config import Config
from rlhf.errors import RunError
from rlhf.preferences import Dataset, read_data
from rlhf.runs import files
from rlhf.runs.index import SampleIndex, Steps

State = Literal["queued", "running", "paused", "finished", "stopped", "interrupted", "failed"]
Request = Literal["run", "pause", "stop_keep", "stop_discard"]

STATES: tuple[State, ...] = ("queued", "running", "paused", "finished", "stopped", "interrupted", "failed")
OWN = ".workers"  # locks and notes of the workers and of the queue

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,127}")
_CHECKPOINT = re.compile(r"step-(\d{1,9})|last")
_EXTRAS = ("id", "created", "parent", "parent_checkpoint", "versions", "resolved")  # config.json beside the config's own fields


@dataclass(frozen=True, slots=True)
class Status:
    """``since``: POSIX seconds; ``eta_seconds``: to the end of the run; ``queue_place``: 1 is next; ``do``: what the user can do."""

    state: State
    since: float = 0.0
    message: str = ""
    do: str = ""
    step: int = 0
    steps: int = 0
    phase: str = ""
    eta_seconds: float | None = None
    steps_per_second: float | None = None
    memory_bytes: int | None = None
    queue_place: int | None = None
    discarded: bool = False  # its checkpoints were thrown away on request
    updated: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint that a model can be loaded from; ``name`` is "step-40"."""

    name: str
    step: int
    path: Path


@dataclass(frozen=True)
class Run:
    """A run folder. Properties read the folder each time, so that they are as fresh as the disk."""

    id: str
    root: Path

    @property
    def path(self) -> Path:
        return self.root / self.id

    # -- what it is

    @property
    def problem(self) -> str:
        """Why the folder cannot be used, in words; empty if it can."""
        for name in ("config.json", "status.json"):
            try:
                if not isinstance(files.read_json(self.path / name), dict):
                    return f"The run folder {self.id} is damaged: {name} holds no settings."
            except FileNotFoundError:
                return f"The run folder {self.id} is damaged: {name} is missing."
            except (OSError, ValueError):
                return f"The run folder {self.id} is damaged: {name} cannot be read."
        return ""

    @property
    def info(self) -> Mapping[str, Any]:
        """The whole of config.json: the config as started, and versions, parent run and checkpoint, the device that was found."""
        try:
            value = files.read_json(self.path / "config.json")
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def config(self) -> dict[str, Any]:
        """The settings as they were started."""
        return {key: value for key, value in self.info.items() if key not in _EXTRAS}

    def load_config(self) -> Config:
        """Raises ``ConfigError`` if another version of the app wrote settings that this one does not know."""
        return make_config(**{"algorithm": "", **self.config})

    def load_data(self) -> Dataset:
        return read_data(self.path / "data.jsonl")

    @property
    def algorithm(self) -> str:
        return str(self.info.get("algorithm", ""))

    @property
    def model(self) -> str:
        return str(self.info.get("model", ""))

    @property
    def created(self) -> float:
        """POSIX seconds."""
        created = self.info.get("created")
        if isinstance(created, (int, float)):
            return float(created)
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    @property
    def parent(self) -> str | None:
        return self.info.get("parent")

    @property
    def name(self) -> str:
        """The user's name for it, else its id."""
        try:
            return (self.path / "name.txt").read_text(encoding="utf-8").strip() or self.id
        except (OSError, UnicodeDecodeError):
            return self.id

    def rename(self, name: str) -> None:
        """An empty name takes the user's name away. Raises ``RunError`` if the folder cannot be written."""
        name = " ".join(name.split())[:120]
        target = self.path / "name.txt"
        temporary = target.with_name(f".name.{os.getpid()}")
        try:
            if not name:
                target.unlink(missing_ok=True)
                return
            files.write_bytes(temporary, name.encode("utf-8", errors="replace"))
            files.replace(temporary, target)
        except OSError as error:
            raise cannot_write(error, self.path) from error

    # -- how it is

    @property
    def status(self) -> Status:
        raw = self.raw_status()
        if raw is None:
            return Status("failed", message=self.problem or "The run no longer exists.", do="Delete it, or start a new run.")
        state = raw["state"]
        if state == "running" and not self.alive:
            raw = self.raw_status() or raw  # it may have ended between the two looks
            if raw["state"] == "running":
                return self._interrupted(raw)
        status = Status(**{key: value for key, value in raw.items() if key in Status.__dataclass_fields__})
        if status.state == "queued":
            return replace(status, queue_place=_place(self))
        if status.state == "running" and status.eta_seconds is not None:
            return replace(status, eta_seconds=max(0.0, status.eta_seconds - max(0.0, time.time() - status.updated)))
        return status

    def raw_status(self) -> dict[str, Any] | None:
        """status.json as it is written, which does not know whether its process still lives; None if it is damaged."""
        try:
            raw = files.read_json(self.path / "status.json")
        except (OSError, ValueError):
            return None
        return raw if isinstance(raw, dict) and sound(raw) else None

    def _interrupted(self, raw: Mapping[str, Any]) -> Status:
        step, steps = int(raw.get("step", 0)), int(raw.get("steps", 0))
        return Status(
            "interrupted",
            since=float(raw.get("updated", raw.get("since", 0.0))),
            message=f"The process that trained it ended at step {step} of {steps} without a word: killed, out of memory, or "
            "the machine restarted.",
            do=self.resume_hint(),
            step=step,
            steps=steps,
            steps_per_second=raw.get("steps_per_second"),
        )

    @property
    def alive(self) -> bool:
        """Whether a process holds the run."""
        return files.is_held(self.path / "run.lock")

    @property
    def request(self) -> tuple[Request, float]:
        """What the user asked for last, and when (POSIX seconds)."""
        try:
            raw = files.read_json(self.path / "control.json")
            return raw["request"], float(raw["time"])
        except (OSError, ValueError, KeyError, TypeError):
            return "run", 0.0

    def ask(self, request: Request) -> None:
        files.write_json(self.path / "control.json", {"request": request, "time": time.time()})

    # -- what it has

    def checkpoint(self, name: str) -> Path:
        """The folder of ``"step-40"`` or ``"last"``. Raises ``RunError`` if there is none of that name."""
        path = self.path / "checkpoints" / name
        if not _CHECKPOINT.fullmatch(name) or not path.is_dir():
            have = ", ".join(info.name for info in self.checkpoints()) or "none"
            raise RunError(f"The run {self.id} has no checkpoint “{name[:40]}”.", f"It has: {have}.")
        return path

    def checkpoints(self) -> list[CheckpointInfo]:
        """In the order of their steps; ``last`` is not among them."""
        found = []
        try:
            names = os.listdir(self.path / "checkpoints")
        except OSError:
            return []
        for name in names:
            match = _CHECKPOINT.fullmatch(name)
            if match and match[1]:
                found.append(CheckpointInfo(name, int(match[1]), self.path / "checkpoints" / name))
        return sorted(found, key=lambda info: info.step)

    @property
    def last(self) -> Path | None:
        """From here the run resumes. The second name is what a process that was killed while renaming leaves."""
        for name in ("last", ".last-old"):
            path = self.path / "checkpoints" / name
            if path.is_dir():
                return path
        return None

    def resume_hint(self) -> str:
        if self.last is None:
            return "There is no checkpoint yet: Resume starts it from the beginning."
        return f"Resume continues from step {self.last_step}."

    @property
    def last_step(self) -> int | None:
        last = self.last
        try:
            return int(files.read_json(last / "checkpoint.json")["step"]) if last else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def metrics(self) -> list[dict[str, Any]]:
        """One flat dict a step, ``{"step", "time", **metrics}``, in order; a step that was done again after a resume counts once."""
        return _steps(self).rows()

    def distributions_at(self, step: int) -> dict[str, list[float]]:
        """Metric → values (at most 256) of one step; empty if there are none."""
        return _steps(self).distributions(step)

    def samples_at(self, step: int) -> list[dict[str, Any]]:
        """The records of samples.jsonl of one step."""
        return _samples(self).at(step)

    def sample_steps(self) -> list[int]:
        """The steps that have samples, in order."""
        return _samples(self).steps()

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from a byte offset on, and the offset for the next call. A half-written last line is left for that."""
        return _records(self.path / "events.jsonl", offset)

    def samples(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        return _records(self.path / "samples.jsonl", offset)


def sound(raw: Mapping[str, Any]) -> bool:
    """A status.json may come from elsewhere, in a zip: pages and the queue reckon with its numbers."""
    numbers = all(isinstance(raw.get(key, 0), (int, float)) for key in ("since", "updated", "step", "steps"))
    measured = all(isinstance(raw.get(key), (int, float, NoneType)) for key in ("eta_seconds", "steps_per_second", "memory_bytes"))
    words = all(isinstance(raw.get(key, ""), str) for key in ("message", "do", "phase"))
    return raw.get("state") in STATES and numbers and measured and words


def _records(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    records = []
    for start, line in files.read_lines(path, offset):
        offset = start + len(line) + 1
        if (record := files.parse(line)) is not None:
            records.append(record)
    return records, offset


_indexes: OrderedDict[Path, tuple[Steps, SampleIndex]] = OrderedDict()


def _index(run: Run) -> tuple[Steps, SampleIndex]:
    found = _indexes.pop(run.path, None)
    if found is None:
        steps = Steps(run.path / "events.jsonl")
        found = (steps, SampleIndex(run.path / "samples.jsonl", steps))
    _indexes[run.path] = found
    while len(_indexes) > 256:
        _indexes.popitem(last=False)
    return found


def forget(run: Run) -> None:
    """What is remembered of its files, which are no longer there."""
    _indexes.pop(run.path, None)


def _steps(run: Run) -> Steps:
    return _index(run)[0]


def _samples(run: Run) -> SampleIndex:
    return _index(run)[1]


# ---------------------------------------------------------------- the runs directory


def runs_dir(explicit: str | Path | None = None) -> Path:
    """The given folder, else RLHF_RUNS_DIR, else ./runs; absolute. It need not exist yet."""
    return Path(explicit or os.environ.get("RLHF_RUNS_DIR") or "runs").expanduser().absolute()


def valid_id(run_id: str) -> bool:
    return bool(_ID.fullmatch(run_id)) and not run_id.endswith(".")


def open_run(run_id: str, root: str | Path | None = None) -> Run:
    """Raises ``RunError`` for an id that is malformed (``..``, ``/``) or unknown."""
    root = runs_dir(root)
    if not isinstance(run_id, str) or not valid_id(run_id):
        raise RunError(
            f"“{str(run_id)[:80]}” is not the id of a run.", "An id has letters, digits, dots and dashes, as in the list of runs."
        )
    run = Run(run_id, root)
    if not run.path.is_dir():
        raise RunError(f"There is no run {run_id} in {root}.", "It may have been deleted; see the list of runs.")
    return run


def find_checkpoint(reference: str, root: str | Path | None = None) -> tuple[Run, Path]:
    """``"RUN_ID/step-40"`` → the run and the checkpoint's folder. Raises ``RunError``."""
    run_id, _, name = reference.partition("/")
    run = open_run(run_id, root)
    return run, run.checkpoint(name)


def list_runs(root: str | Path | None = None) -> list[Run]:
    """All runs, newest first. Damaged folders are among them; their ``status`` says what is wrong."""
    return sorted(_scan(runs_dir(root)), key=lambda run: (run.created, run.id), reverse=True)


def _scan(root: Path) -> Iterator[Run]:
    try:
        entries = list(os.scandir(root))
    except OSError:
        return
    for entry in entries:
        if valid_id(entry.name) and entry.is_dir():
            folder = entry.path
            if any(os.path.exists(os.path.join(folder, name)) for name in ("config.json", "status.json", "events.jsonl")):
                yield Run(entry.name, root)


def queued(root: str | Path | None = None) -> list[Run]:
    """The runs that wait, the next one first."""
    waiting = [(raw.get("since", 0.0), run.id, run) for run, raw in in_state("queued", root) if not run.problem]
    return [run for _, _, run in sorted(waiting, key=lambda item: item[:2])]


def in_state(state: State, root: str | Path | None = None) -> Iterator[tuple[Run, dict[str, Any]]]:
    """The runs whose status.json says ``state``, with its content, in no order.

    Asked for every waiting run on every page, so it looks at nothing but that one file of each run, and reads it only if it changed.
    """
    root = runs_dir(root)
    try:
        entries = list(os.scandir(root))
    except OSError:
        return
    for entry in entries:
        try:
            raw = files.read_json(f"{entry.path}/status.json")
        except (OSError, ValueError):
            continue
        if isinstance(raw, dict) and raw.get("state") == state and sound(raw) and valid_id(entry.name):
            yield Run(entry.name, root), raw


def _place(run: Run) -> int | None:
    ids = [other.id for other in queued(run.root)]
    return ids.index(run.id) + 1 if run.id in ids else None


@contextmanager
def queue_lock(root: Path) -> Iterator[None]:
    """Held for the moment in which a run is claimed, deleted or queued, or a worker starts or ends.

    Raises ``RunError``, also for whatever could not be written in that moment.
    """
    folder = root / OWN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = files.hold(folder / "queue.lock", timeout=10)
    except OSError as error:
        raise cannot_write(error, root) from error
    if lock is None:
        raise RunError(
            f"The queue in {root} has been locked for ten seconds.", "Try again; if it lasts, end the process that holds queue.lock."
        )
    try:
        yield
    except OSError as error:
        raise cannot_write(error, root) from error
    finally:
        lock.release()


def cannot_write(error: OSError, folder: Path) -> RunError:
    """What an ``OSError`` in a run folder means for the user."""
    if files.disk_full(error, existing(folder)):
        return RunError(
            f"The disk that holds {folder} is full.", "Delete runs that you no longer need, or free space in another way, and try again."
        )
    return RunError(
        f"{folder} cannot be written: {error.strerror or error}.",
        "Give the app the right to write there, or choose another folder with RLHF_RUNS_DIR.",
    )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path.cwd())
