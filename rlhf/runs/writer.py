"""Turns the events of a training run into its folder. Who has a ``RunWriter`` holds the run; nobody else writes there."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

import psutil

from rlhf import events
from rlhf.errors import RunError
from rlhf.runs import files
from rlhf.runs.folder import Run, State, cannot_write
from rlhf.runs.lifecycle import make_room

DISK_FULL = "The disk is full: step {step} could not be written."
DISK_FULL_DO = "Delete runs that you no longer need, or free space in another way, then resume: the run continues from its last checkpoint."


class RunWriter:
    """Holds ``run.lock`` from its creation to ``close``. Raises ``RunError`` if another process holds the run.

    ``write`` takes every event; the last one (finished, stopped, failed) also sets the state. If the disk is full the run is
    marked failed with the space that was kept for that, and ``RunError`` is raised.
    """

    def __init__(self, run: Run):
        self.run = run
        self.state: State | None = None  # of the end, once there is one
        self.leaving = ""  # why the process has to end, if it is that and not the user that stops the run
        self.begun = False
        if not run.path.is_dir():  # a lock would make the folder anew
            raise RunError(f"There is no run {run.id} in {run.root}.", "It may have been deleted; see the list of runs.")
        lock = files.hold(run.path / "run.lock", timeout=2.0)
        if lock is None:
            raise RunError(f"The run {run.name} is already running.", "Stop it first, or wait until it ends.")
        self._lock = lock
        try:
            self._open()
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise cannot_write(error, run.path) from error
            raise

    def _open(self) -> None:
        folder = self.run.path
        before = self.run.raw_status() or {}
        self._status: dict[str, Any] = {
            "state": before.get("state", "running"),
            "since": before.get("since", time.time()),
            "message": before.get("message", ""),
            "do": before.get("do", ""),
            "step": before.get("step", 0),
            "steps": before.get("steps", 0),
            "phase": "",
            "steps_per_second": before.get("steps_per_second"),
            "discarded": before.get("discarded", False),
        }
        self._checkpoints = folder / "checkpoints"
        self._checkpoints.mkdir(exist_ok=True)
        self._mend_checkpoints()
        self._events = files.JsonLines(folder / "events.jsonl")
        self._samples = files.JsonLines(folder / "samples.jsonl")
        last = files.last_record(folder / "events.jsonl") or {}
        self._seq = int(last.get("seq", -1)) + 1
        self._times: deque[tuple[float, int]] = deque(maxlen=21)  # (POSIX seconds, step) of the latest steps
        self._process = psutil.Process()

    def _mend_checkpoints(self) -> None:
        """What a process that was killed while it saved has left behind."""
        last, old = self._checkpoints / "last", self._checkpoints / ".last-old"
        if old.is_dir() and not last.is_dir():
            os.rename(old, last)
        for entry in self._checkpoints.glob(".*"):
            shutil.rmtree(entry, ignore_errors=True)

    # -- events

    def begin(self, message: str = "") -> None:
        """The run is taken up: running, in the phase of loading. Raises ``RunError``."""
        make_room(self.run.root)
        try:
            files.write_json(self.run.path / "run.pid", {"pid": self._process.pid, "create_time": self._process.create_time()})
            files.reserve(self.run.path / ".reserve")
            self._put(state="running", since=time.time(), phase="loading", message=message, do="", discarded=False)
            self.begun = True
        except OSError as error:
            raise self._disk_failed(error, self._status["step"]) from error

    def requeue(self) -> None:
        """The run waits for a worker to take it up again."""
        self._put(state="queued", since=time.time(), phase="", message="", do="")

    def write(self, event: events.Event) -> None:
        try:
            try:
                self._write(event)
            except OSError as error:
                if not (files.disk_full(error, self.run.path) and make_room(self.run.root)):
                    raise
                self._write(event)  # if a part of it is in the files already, readers take the later one
        except OSError as error:
            raise self._disk_failed(error, event.step) from error

    def _write(self, event: events.Event) -> None:
        match event:
            case events.Started(step, steps, info):
                self._append(event, samples_offset=self._samples.size)
                self._resolved(dict(info))
                self._times.clear()
                self._times.append((time.time(), step))
                self._put(state="running", step=step, steps=steps, phase="")
            case events.Phase(step, name):
                self._put(phase=name)
            case events.Step(step, _, _):
                self._append(event)
                if step == 0:
                    self._times.clear()  # the evaluation before the first step says nothing about the speed of steps
                self._times.append((time.time(), step))
                self._put(step=step, phase="")
            case events.Sample(step, record):
                self._samples.append({"step": step, **record})
            case events.Checkpoint(step, _, resumable):
                if self.run.request[0] == "stop_discard":
                    return  # it would be deleted at once
                self._put(phase="saving")
                self._save(event)
                self._append(event, name="last" if resumable else f"step-{step}")
                self._put(phase="")
            case events.Finished(step):
                self._append(event)
                self.end("finished", step=step)
            case events.Stopped(step):
                self._append(event)
                self.end_as_asked()
            case events.Failed(step, what, do):
                self._append(event)
                self.end("failed", what, do, step=step)

    def _append(self, event: events.Event, **more: Any) -> None:
        self._events.append({"seq": self._seq, "time": time.time(), **events.to_record(event), **more})
        self._seq += 1

    def _resolved(self, info: dict[str, Any]) -> None:
        """What only the process that trains can know (which device "auto" is) is added to config.json."""
        target = self.run.path / "config.json"
        files.write_json(target, {**files.read_json(target), "resolved": info})

    def _save(self, event: events.Checkpoint) -> None:
        """Into a folder of another name first, so that a checkpoint is complete or not there."""
        name = "last" if event.resumable else f"step-{event.step}"
        draft, target, old = self._checkpoints / f".{name}-new", self._checkpoints / name, self._checkpoints / f".{name}-old"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            event.save(draft)
            files.write_json(draft / "checkpoint.json", {"step": event.step, "time": time.time()})
        except BaseException as error:
            full = files.disk_full(error, self._checkpoints)  # asked before what was written of it is taken away
            shutil.rmtree(draft, ignore_errors=True)
            if full and not isinstance(error, OSError):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise
        if target.is_dir():
            os.rename(target, old)  # killed here, Run.last finds the old one
        os.rename(draft, target)
        shutil.rmtree(old, ignore_errors=True)

    # -- status

    def _put(self, **fields: Any) -> None:
        now = time.time()
        self._status.update(fields, updated=now)
        rate = self._rate() or self._status["steps_per_second"]
        left = self._status["steps"] - self._status["step"]
        running = self._status["state"] == "running"
        self._status.update(
            steps_per_second=rate,
            eta_seconds=left / rate if rate and running else None,
            memory_bytes=self._memory() if running else None,
        )
        files.write_json(self.run.path / "status.json", self._status)

    def _rate(self) -> float | None:
        """Steps a second over the latest twenty, evaluations and checkpoints among them; None before the first."""
        if len(self._times) < 2:
            return None
        (start, first), (end, last) = self._times[0], self._times[-1]
        return (last - first) / (end - start) if last > first and end > start else None

    def _memory(self) -> int:
        """Bytes that the process has allocated on its GPU, else its resident memory."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            return int(torch.cuda.memory_reserved())
        return int(self._process.memory_info().rss)

    def end(self, state: State, message: str = "", do: str = "", **fields: Any) -> None:
        """The last word. The run can be taken up again later by another writer."""
        self.state = state
        (self.run.path / ".reserve").unlink(missing_ok=True)
        if state in ("stopped", "failed", "interrupted"):
            self._keep_last()
        self._put(state=state, since=time.time(), message=message, do=do, phase="", **fields)

    def _keep_last(self) -> None:
        """The model that a run ended with becomes an ordinary checkpoint too, which can be compared and started from."""
        last, step = self.run.last, self.run.last_step
        if last is None or not step or (target := self._checkpoints / f"step-{step}").exists():
            return
        draft = self._checkpoints / f".step-{step}-new"
        try:
            shutil.copytree(last, draft, ignore=shutil.ignore_patterns("*.pt"))  # without what only a resume needs
            os.rename(draft, target)
        except OSError:  # a full disk: the model is in `last` all the same
            shutil.rmtree(draft, ignore_errors=True)

    def end_as_asked(self) -> None:
        """Paused or stopped, by what the user asked for; stopped and kept if nobody asked (Ctrl-C on the command line)."""
        request, _ = self.run.request
        if request == "run" and self.leaving:
            self.end("interrupted", self.leaving, self.run.resume_hint())
            return
        at = f"at step {self._status['step']} of {self._status['steps']}"
        if request == "pause":
            self.end("paused", f"Paused {at}.", "Resume continues exactly from here.")
        elif request == "stop_discard":
            self.discard(f"Stopped {at}.")
        elif self.run.last is None:
            self.end("stopped", f"Stopped {at}, before the first checkpoint.", "Resume starts it from the beginning.")
        else:
            self.end("stopped", f"Stopped {at}; the model is kept.", "Compare it with the start, or resume it.")

    def end_by_force(self, seconds: float) -> None:
        """For who killed the process that held the run before."""
        request, _ = self.run.request
        asked = "pause" if request == "pause" else "stop"
        message = (
            f"It did not {asked} within {seconds:.0f} s and was ended by force at step {self._status['step']} of {self._status['steps']}."
        )
        if request == "stop_discard":
            self.discard(message)
        else:
            self.end("interrupted" if request == "pause" else "stopped", message, self.run.resume_hint())

    def discard(self, message: str) -> None:
        """Deletes the checkpoints and says so."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)
        self.end(
            "stopped",
            f"{message} Its checkpoints were discarded; curves and samples remain.",
            "Start a new run with the same settings.",
            discarded=True,
        )

    def _disk_failed(self, error: OSError, step: int) -> RunError:
        if not files.disk_full(error, self.run.path):
            failure = cannot_write(error, self.run.path)
        else:
            failure = RunError(DISK_FULL.format(step=step), DISK_FULL_DO)
        try:
            self.end("failed", failure.what, failure.do)
        except OSError:
            # Not even the reserve helped. The status still says "running"; once the lock is free, readers see "interrupted".
            self.state = "interrupted"
        return failure

    # -- the hold on the run

    def close(self) -> None:
        """Lets go of the run. Without an end before, readers see it as interrupted."""
        if not self._lock.is_locked:
            return
        self._events.close()
        self._samples.close()
        for name in (".reserve", "run.pid"):
            (self.run.path / name).unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
