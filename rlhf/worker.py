"""The process that trains: it imports the engine once, holds a slot, claims the oldest queued run, runs it, and goes for the next.

``run_one`` is what the worker and the command line's ``train`` share: events in, run folder out, and a clear state at the end
whatever happens. One run sees nothing of the one before it.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psutil
from filelock import FileLock

from rlhf import jobs
from rlhf.algorithms import CONFIGS, make_config
from rlhf.errors import PlaygroundError, RunError
from rlhf.events import Event, Failed, Stopped
from rlhf.preferences import Dataset, Prompt
from rlhf.runs import Run, RunWriter, files, queued, runs_dir
from rlhf.runs.folder import OWN, State, queue_lock
from rlhf.runs.lineage import origin

IDLE_SECONDS = 600.0
NICE = 5
"""The web server on the same cores goes first; with nothing else to do the run has them all."""


class Source(Protocol):
    """``rlhf.train.train``, or what a test puts in its place."""

    def __call__(
        self, config: Any, data: Any, *, resume: Path | None, parents: Sequence[Path], interrupted: Callable[[], bool]
    ) -> Iterator[Event]: ...


# ---------------------------------------------------------------- one run


def run_one(
    run: Run | RunWriter,
    *,
    source: Source | None = None,
    leaving: Callable[[], str] = lambda: "",
    on_event: Callable[[Event], None] = lambda event: None,
) -> State:
    """Trains a run, from ``checkpoints/last`` if it has one, and returns the state it ended in.

    ``leaving``: why the process must end, if it must; the run is then interrupted after a checkpoint. ``on_event`` sees each
    event after it was written. Raises ``RunError`` only if another process holds the run.
    """
    writer = run if isinstance(run, RunWriter) else RunWriter(run)
    with writer:
        try:
            _train(writer, source, leaving, on_event)
        except PlaygroundError as error:
            _fail(writer, error.what, error.do)
        except Exception as error:  # noqa: BLE001 - written down: state, words, error.txt
            _fail(writer, *_explain(error, writer.run))
        if writer.state is None:
            _fail(writer, "The training ended without saying how.", "This is a fault of the app; please report it.")
        return writer.state or "interrupted"


def _train(writer: RunWriter, source: Source | None, leaving: Callable[[], str], on_event: Callable[[Event], None]) -> None:
    run = writer.run
    if not writer.begun:  # a worker has done this when it claimed the run
        writer.begin()
    config, data = run.load_config(), run.load_data()

    asked = False

    def interrupted() -> bool:
        nonlocal asked
        writer.leaving = leaving()
        asked = asked or run.request[0] != "run"
        return bool(writer.leaving) or asked

    if source is None:
        from rlhf.train import train as source  # imports torch
    again = True
    while again:
        again = asked = False
        steps = source(config, data, resume=run.last, parents=origin(run), interrupted=interrupted)
        with isolated(config.seed), closing(steps) as events:  # pyright: ignore[reportArgumentType]
            for event in events:
                if isinstance(event, Stopped) and asked and not writer.leaving and run.request[0] == "run":
                    again = True  # the pause was taken back while its checkpoint was written: the run goes on from there
                    break
                writer.write(event)
                on_event(event)


def _fail(writer: RunWriter, what: str, do: str) -> None:
    """Unless the writer has said how the run ended (a full disk), and even if the disk is full."""
    if writer.state is None:
        try:
            writer.end("failed", what, do)
        except OSError:
            print(f"{writer.run.id}: {what} {do} (this could not be written to its folder)", file=sys.stderr)


def _explain(error: Exception, run: Run) -> tuple[str, str]:
    """An exception that is no ``PlaygroundError``, in words; its traceback goes to error.txt."""
    try:
        files.write_bytes(run.path / "error.txt", "".join(traceback.format_exception(error)).encode("utf-8", errors="replace"))
    except OSError:
        traceback.print_exception(error)
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "The device ran out of memory.", "Lower microbatch_size or max_new_tokens, train with LoRA, or choose a smaller model."
    if files.disk_full(error, run.path):
        return "The disk is full.", "Delete runs that you no longer need, or free space in another way, then resume."
    first = text.strip().splitlines()[0][:300] if text.strip() else "no details"
    return f"{type(error).__name__}: {first}", f"This is a fault of the app. {run.path / 'error.txt'} says where; please report it."


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """What one run may change for the whole process is as at the start for the next one."""
    folder, environment, python_state = Path.cwd(), dict(os.environ), random.getstate()
    restore = _torch_settings()
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        restore()
        random.setstate(python_state)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        gc.collect()
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def _torch_settings() -> Callable[[], None]:
    """Remembers torch's global settings and returns what puts them back."""
    torch = sys.modules.get("torch")
    if torch is None:
        return lambda: None
    dtype, threads, grad = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    deterministic, precision = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()

    def restore() -> None:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_float32_matmul_precision(precision)

    return restore


# ---------------------------------------------------------------- the worker


def main(
    root: str | Path | None = None,
    slot: int | None = None,
    idle_seconds: float | None = None,
    source: Source | None = None,
    preload: Callable[[], None] | None = None,
) -> int:
    """Works until nothing was queued for ``idle_seconds`` (RLHF_WORKER_IDLE, else ten minutes), or a signal asks it to end."""
    root = runs_dir(root)
    root.mkdir(parents=True, exist_ok=True)
    held = _take_slot(root, slot)
    if held is None:
        _log("all slots are taken by other workers")
        return 0
    slot, lock = held
    environment = dict(os.environ)
    if idle_seconds is None:
        idle_seconds = float(os.environ.get("RLHF_WORKER_IDLE", IDLE_SECONDS))
    leave = ""

    def asked_to_end(number: int, frame: object) -> None:
        nonlocal leave
        leave = "The worker was asked to end, as when a machine shuts down."

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), asked_to_end)
    try:
        _yield_to_others()
        if (device := jobs.slot_device(slot)) is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device  # before torch is imported
        clock = time.perf_counter()
        (preload or partial(_preload, root))()
        _log(f"slot {slot} ready after {time.perf_counter() - clock:.1f} s")
        _note(root, slot, None)
        _work(root, slot, lock, idle_seconds, source, lambda: leave)
    finally:
        if lock.is_locked:
            lock.release()
    if root.is_dir() and queued(root) and not leave:
        os.environ.update(environment)  # the next worker chooses among all GPUs again
        jobs.ensure_worker(root)  # this one left for another reason than idleness
    return 0


def _work(root: Path, slot: int, lock: FileLock, idle_seconds: float, source: Source | None, leaving: Callable[[], str]) -> None:
    idle_since = time.monotonic()
    while root.is_dir() and not leaving():
        seen = _wake_time(root)
        writer = _claim(root)
        if writer is None:
            if time.monotonic() - idle_since > idle_seconds:
                with queue_lock(root):  # whoever queues a run now finds the slot free afterwards
                    if not queued(root):
                        lock.release()
                        _log(f"slot {slot} leaves after {idle_seconds:.0f} idle seconds")
                        return
            _wait(root, seen, leaving)
            continue
        run = writer.run
        _note(root, slot, run.id)
        _log(f"{run.id} begins")
        state = run_one(writer, source=source, leaving=leaving)
        _log(f"{run.id} {state}")
        if not root.is_dir():
            return
        _note(root, slot, None)
        idle_since = time.monotonic()
        if state == "failed" and _on_gpu():
            _log("a new process starts over with a clean GPU")
            return


def _claim(root: Path) -> RunWriter | None:
    """The oldest queued run, held and marked running."""
    with queue_lock(root):
        for run in queued(root):
            try:
                writer = RunWriter(run)
            except RunError as error:  # held by another process, or its folder cannot be written
                _log(f"{run.id}: {error}")
                continue
            try:
                writer.begin()
                return writer
            except RunError as error:
                _log(f"{run.id}: {error}")
                writer.close()
    return None


def _wait(root: Path, seen: int, leaving: Callable[[], str], longest: float = 2.0) -> None:
    """Until something is queued. Looks at one time stamp twenty times a second, at the whole queue every two seconds."""
    end = time.monotonic() + longest
    while time.monotonic() < end and _wake_time(root) == seen and not leaving():
        time.sleep(0.05)


def _wake_time(root: Path) -> int:
    try:
        return os.stat(root / OWN / jobs.WAKE).st_mtime_ns
    except OSError:
        return 0


def _take_slot(root: Path, slot: int | None) -> tuple[int, FileLock] | None:
    (root / OWN).mkdir(parents=True, exist_ok=True)
    for candidate in range(jobs.slot_count()) if slot is None else [slot]:
        # a moment's patience: whoever looks whether the slot is taken holds its lock for an instant
        if (lock := files.hold(jobs.slot_lock(root, candidate), timeout=0.5)) is not None:
            return candidate, lock
    return None


def _note(root: Path, slot: int, run_id: str | None) -> None:
    try:
        files.write_json(jobs.slot_note(root, slot), {"pid": os.getpid(), "run": run_id})
    except OSError as error:  # only a hint for others: a full disk must not end the worker
        _log(f"slot note: {error}")


def _yield_to_others() -> None:
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        process.nice(max(process.nice(), NICE))


def _on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _preload(root: Path) -> None:
    """All imports and first-time costs of a run, so that a click on Start shows a point in less than two seconds."""
    for module in ("torch", "peft", "rlhf.train", *(f"rlhf.algorithms.{name}" for name in CONFIGS)):
        importlib.import_module(module)
    from rlhf.train import train

    # One small step of the demo's kind wakes up what is lazy: imports inside transformers, thread pools, kernels.
    # A waiting run is not held up.
    config = make_config("grpo", model="story", steps=1, prompts_per_step=2, group_size=2, max_new_tokens=4, eval_every=0, sample_prompts=1)
    data = Dataset((Prompt("One day"),), (Prompt("Once upon a time"),), "prompts", "warm-up")
    with isolated(0):
        for event in train(config, data, interrupted=lambda: bool(queued(root))):
            if isinstance(event, Failed):  # the run that needs it will say so where the user sees it
                _log(f"warm-up: {event.what} {event.do}")


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)
