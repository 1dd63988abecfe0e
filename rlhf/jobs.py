"""What a user does with runs: submit, pause, resume, stop; the queue, its slots, and the workers that empty it.

Everything goes through the run folder, so that any process can ask and any process can answer; a closed browser or a restarted
server changes nothing. A worker holds one slot for as long as it lives. There is one slot for each GPU, or one on a machine without;
``RLHF_SLOTS`` sets more for each device.
"""

from __future__ import annotations

import heapq
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from rlhf.config import Config
from rlhf.errors import RunError
from rlhf.preferences import Dataset
from rlhf.runs import Run, RunWriter, create, files, list_runs, queued, runs_dir
from rlhf.runs.folder import OWN, in_state, queue_lock

START_SECONDS = 60.0
"""A worker that was started counts as there for this long, while it imports."""
START_ATTEMPTS = 3
WAKE = "wake"
PACKAGE_ROOT = Path(__file__).resolve().parent.parent

TEND_SECONDS = 1.0

_children: list[subprocess.Popen[Any]] = []  # kept to be waited for: an ended child must not stay a zombie
_tenders: dict[Path, threading.Thread] = {}  # one thread for each runs folder in which something waits
_tenders_lock = threading.Lock()


def grace_seconds() -> float:
    """How long a run has to heed a stop or pause before its process is killed."""
    return float(os.environ.get("RLHF_STOP_GRACE", "20"))


# ---------------------------------------------------------------- what a user asks for


def submit(config: Config, dataset: Dataset, root: str | Path | None = None, parent: str | None = None, name: str = "") -> Run:
    """Puts a new run into the queue and sees to a worker. Raises ``RunError``."""
    run = create(config, dataset, root, parent, name)
    wake(run.root)
    ensure_worker(run.root)
    return run


def pause(run: Run) -> None:
    """The run writes a checkpoint and frees its slot. One that is not under way stays as it is."""
    with queue_lock(run.root):
        state = run.status.state
        if state == "running":
            run.ask("pause")
        elif state == "queued":
            with RunWriter(run) as writer:
                run.ask("pause")
                writer.end_as_asked()
            return
        else:
            return
    _watch(run)


def resume(run: Run) -> None:
    """Queues the run again; it continues exactly from its last checkpoint, or begins if it has none.

    Raises ``RunError`` for a run that has finished, is damaged, or whose checkpoints were discarded.
    """
    with queue_lock(run.root):
        status = run.status
        if status.state == "running":
            run.ask("run")  # a pause that was not heeded yet is taken back
            return
        if status.state == "queued":
            return
        if run.problem:
            raise RunError(run.problem, "Delete it, or start a new run.")
        if status.state == "finished":
            raise RunError(f"The run {run.name} has finished.", "Start a new run, from its last checkpoint if you want more steps.")
        if status.discarded:
            raise RunError(f"The checkpoints of {run.name} were discarded.", "Start a new run with the same settings.")
        with RunWriter(run) as writer:
            run.ask("run")
            writer.requeue()
    wake(run.root)
    ensure_worker(run.root)


def stop(run: Run, keep: bool = True) -> None:
    """``keep``: the model is written first; else all its checkpoints are deleted. A finished run stays as it is.

    A run that is under way ends within a second or so; if it has not after ``grace_seconds``, its process is killed.
    """
    with queue_lock(run.root):
        status = run.status
        if status.state == "running":
            run.ask("stop_keep" if keep else "stop_discard")
        elif status.state in ("queued", "paused", "interrupted") or (
            status.state in ("stopped", "failed") and not keep and not run.problem
        ):
            with RunWriter(run) as writer:
                run.ask("stop_keep" if keep else "stop_discard")
                writer.end_as_asked()
            return
        else:
            return
    _watch(run)


def _watch(run: Run) -> None:
    """In the background, so that the click returns. If this process ends first, ``tend`` of another one does it."""

    def later() -> None:
        give_up = time.time() + 30 * grace_seconds()
        while time.time() < give_up and run.path.is_dir() and run.status.state == "running" and run.request[0] != "run":
            enforce(run)
            time.sleep(0.5)

    threading.Thread(target=later, name=f"stop {run.id}", daemon=True).start()


def enforce(run: Run) -> bool:
    """Kills the process of a run that has not heeded a stop or pause for ``grace_seconds``; returns whether it did.

    While it is saving it has six times as long: a checkpoint of a large model takes its time.
    """
    request, since = run.request
    status = run.status
    if request == "run" or status.state != "running":
        return False
    grace = grace_seconds() * (6 if status.phase == "saving" else 1)
    if time.time() - since < grace:
        return False
    process = _process_of(run)
    if process is None or process.pid == os.getpid() or not run.alive:
        return False
    try:
        process.kill()
        if (lock := files.hold(run.path / "run.lock", timeout=10)) is None:
            return False
        lock.release()
        with queue_lock(run.root), RunWriter(run) as writer:
            if (run.raw_status() or {}).get("state") != "running":  # it ended by itself in this moment
                return False
            writer.end_by_force(grace)
    except (psutil.Error, RunError):  # gone already, another user's, or taken up again: what its folder says holds
        return False
    ensure_worker(run.root)
    return True


def _process_of(run: Run) -> psutil.Process | None:
    """Whom to kill. The creation time guards against another process that got the same id."""
    try:
        note = files.read_json(run.path / "run.pid")
        process = psutil.Process(int(note["pid"]))
        return process if abs(process.create_time() - float(note["create_time"])) < 1.0 else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


# ---------------------------------------------------------------- the queue


def queue(root: str | Path | None = None) -> list[Run]:
    """The runs that wait, the next one first."""
    return queued(root)


def active(root: str | Path | None = None) -> list[Run]:
    """The runs under way, then those that wait in their order."""
    root = runs_dir(root)
    running = [run for run, _ in in_state("running", root) if run.status.state == "running"]
    return sorted(running, key=lambda run: (run.created, run.id)) + queued(root)


def expected_wait(run: Run) -> float | None:
    """Seconds until a waiting run begins, if what is ahead of it goes as such runs went before; None if that is not known."""
    line = queued(run.root)
    ids = [other.id for other in line]
    if run.id not in ids:
        return None
    rates = _rates(run.root)
    under_way = [(other, other.status) for other, _ in in_state("running", run.root)]
    left = [
        _seconds(other, status.steps - status.step, status.eta_seconds, rates) for other, status in under_way if status.state == "running"
    ]
    ahead = [(other, other.raw_status() or {}) for other in line[: ids.index(run.id)]]
    waiting = [_seconds(other, raw.get("steps", 0) - raw.get("step", 0), None, rates) for other, raw in ahead]
    if None in left or None in waiting:
        return None
    slots = [value for value in left if value is not None]
    slots += [0.0] * (slot_count() - len(slots))
    heapq.heapify(slots)
    for seconds in waiting:
        heapq.heapreplace(slots, slots[0] + (seconds or 0.0))
    return slots[0]


def _rates(root: Path) -> dict[tuple[str, str], float]:
    """Steps a second of earlier runs: the median for each algorithm and model."""
    found: dict[tuple[str, str], list[float]] = {}
    for run in list_runs(root)[:100]:
        rate = (run.raw_status() or {}).get("steps_per_second")
        if rate:
            found.setdefault((run.algorithm, run.model), []).append(rate)
    return {key: statistics.median(values) for key, values in found.items()}


def _seconds(run: Run, steps: int, known: float | None, rates: dict[tuple[str, str], float]) -> float | None:
    if known is not None:
        return known
    rate = rates.get((run.algorithm, run.model))
    return steps / rate if rate else None


# ---------------------------------------------------------------- slots and workers


@cache
def devices() -> tuple[str, ...]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; empty without. Does not import torch."""
    if "+cpu" in _torch_version():
        return ()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(part.strip() for part in chosen.split(",") if part.strip() and part.strip() != "-1")
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(index) for index in range(sum(line.startswith("GPU ") for line in listing.splitlines())))


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "missing+cpu"


def slot_count() -> int:
    """Runs that can be under way at once. Raises ``RunError`` if RLHF_SLOTS is no positive number."""
    given = os.environ.get("RLHF_SLOTS", "1")
    try:
        each = int(given)
        if not 1 <= each <= 64:
            raise ValueError
    except ValueError:
        raise RunError(f"RLHF_SLOTS is “{given}”.", "Set it to the number of runs for each device, 1 to 64, or leave it out.") from None
    return each * max(1, len(devices()))


def slot_device(slot: int) -> str | None:
    """The GPU of a slot, for CUDA_VISIBLE_DEVICES; None where there is none."""
    return devices()[slot % len(devices())] if devices() else None


def slot_lock(root: Path, slot: int) -> Path:
    return root / OWN / f"slot-{slot}.lock"


def slot_note(root: Path, slot: int) -> Path:
    """``{"pid", "run", "failed"}``: what the worker of a slot is doing. A hint, the lock decides."""
    return root / OWN / f"slot-{slot}.json"


def wake(root: Path) -> None:
    """Idle workers look at this file's time stamp many times a second, and only then at the queue."""
    folder = root / OWN
    folder.mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / WAKE, str(time.time()).encode())


def tend(root: str | Path | None = None) -> None:
    """A worker for what waits, an end for what does not heed a stop. Cheap; ``ensure_worker`` sees to it that it is called."""
    root = runs_dir(root)
    for run, _ in in_state("running", root):
        if run.request[0] != "run":
            enforce(run)
    if queued(root):
        _ensure_worker(root)


def ensure_worker(root: str | Path | None = None) -> None:
    """Starts a worker if there is none, or if more runs wait than workers are idle and a slot is free.

    As long as runs wait, a thread of this process goes on looking: a worker that dies is replaced. Raises ``RunError`` if workers
    end again and again before they are ready; the runs that wait for one have failed then.
    """
    root = runs_dir(root)
    _ensure_worker(root)
    with _tenders_lock:
        if root not in _tenders and _wants_tending(root):
            _tenders[root] = threading.Thread(target=_tend_on, args=(root,), name=f"tend {root}", daemon=True)
            _tenders[root].start()


def _tend_on(root: Path) -> None:
    while True:
        time.sleep(TEND_SECONDS)
        with _tenders_lock:
            if root not in _tenders or not _wants_tending(root):
                _tenders.pop(root, None)
                return
        try:
            tend(root)
        except RunError as error:  # the runs say so, too, where that is possible
            logging.getLogger(__name__).warning("%s", error)


def _wants_tending(root: Path) -> bool:
    return root.is_dir() and (bool(queued(root)) or any(run.request[0] != "run" for run, _ in in_state("running", root)))


def stop_tending(root: str | Path | None = None) -> None:
    """Returns when no thread of this process looks after this runs folder any more."""
    with _tenders_lock:
        thread = _tenders.pop(runs_dir(root), None)
    if thread is not None:
        thread.join()


def _ensure_worker(root: Path) -> None:
    for child in _children[:]:
        if child.poll() is not None:
            _children.remove(child)
    with queue_lock(root):
        idle, free, alive = 0, [], 0
        for slot in range(slot_count()):
            note = _note(root, slot)
            if files.is_held(slot_lock(root, slot)) or _starting(note):
                alive += 1
                idle += not note.get("run")
            else:
                free.append((slot, note))
        wanted = max(len(queued(root)) - idle, 1 if alive == 0 else 0)
        for slot, note in free[:wanted]:
            try:
                _spawn(root, slot, note)
            except RunError as error:
                if alive == 0:
                    _give_up(root, error)
                raise


def _give_up(root: Path, error: RunError) -> None:
    """Nobody will take the runs that wait: better that they say why than that they wait for ever."""
    for run in queued(root):
        with RunWriter(run) as writer:
            writer.end("failed", error.what, error.do)


def _note(root: Path, slot: int) -> dict[str, Any]:
    try:
        return dict(files.read_json(slot_note(root, slot)))
    except (OSError, ValueError, TypeError):
        return {}


def _starting(note: dict[str, Any]) -> bool:
    """A worker that was just started does not hold its slot yet."""
    if time.time() - note.get("started", 0.0) > START_SECONDS:
        return False
    try:
        return psutil.Process(note["pid"]).status() != psutil.STATUS_ZOMBIE
    except (KeyError, psutil.Error):
        return False


def _spawn(root: Path, slot: int, note: dict[str, Any]) -> None:
    failed = note.get("failed", 0) + 1 if "started" in note else 0
    log = root / f"worker-{slot}.log"
    if failed >= START_ATTEMPTS:
        files.write_json(slot_note(root, slot), {})  # the next call may try again
        raise RunError("The worker process ends before it is ready.", f"See the end of {log}, and run: python -m rlhf doctor")
    if log.exists() and log.stat().st_size > 5_000_000:
        files.replace(log, log.with_suffix(".old.log"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))}
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "rlhf", "worker", "--runs-dir", str(root), "--slot", str(slot)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, **detached,
        )  # fmt: skip
    _children.append(child)
    files.write_json(slot_note(root, slot), {"pid": child.pid, "started": time.time(), "failed": failed})
