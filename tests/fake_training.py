"""Stands in for ``rlhf.train.train``: the same events and the same manners without a model, in milliseconds and without torch.

python -m tests.fake_training KIND     a worker process on RLHF_RUNS_DIR; KIND: steady | stubborn (heeds no stop)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from rlhf import worker
from rlhf.algorithms import make_config
from rlhf.config import Config
from rlhf.events import Checkpoint, Event, Finished, Phase, Sample, Started, Step, Stopped
from rlhf.preferences import Dataset, Prompt

DATA = Dataset((Prompt("1+1=", "002"), Prompt("2+2=", "004")), (Prompt("3+3=", "006"),), "prompts", "test")
STATE = "training_state.pt"


def settings(**fields: Any) -> Config:
    return make_config("grpo", **{"model": "sums", "steps": 6, "checkpoint_every": 2, "eval_every": 0, **fields})


def steady(
    config: Config,
    data: Dataset,
    *,
    resume: Path | None = None,
    parents: Sequence[Path] = (),
    interrupted: Callable[[], bool] = lambda: False,
    seconds: float = 0.0,
) -> Iterator[Event]:
    """A run whose numbers depend on the seed and the step alone."""
    done = int((resume / STATE).read_text()) if resume else 0

    def checkpoint(resumable: bool) -> Checkpoint:
        return Checkpoint(done, lambda folder: _save(folder, done, resumable), resumable)

    yield Phase(done, "loading")
    yield Started(done, config.steps, {"device": "none"})
    if done == 0:
        yield Step(0, {"eval/reward": 0.0})
    while done < config.steps:
        yield Phase(done + 1, "sampling")
        time.sleep(seconds)
        if interrupted():
            yield checkpoint(resumable=True)
            yield Stopped(done)
            return
        done += 1
        yield Sample(done, {"split": "train", "prompt": "1+1=", "responses": [{"text": f"answer {done}"}]})
        yield Step(done, {"reward": config.seed + done / 10}, {"reward": [float(done)]})
        if done % config.checkpoint_every == 0 and done < config.steps:
            yield checkpoint(resumable=True)
            yield checkpoint(resumable=False)
    yield checkpoint(resumable=False)
    yield Finished(done)


def _save(folder: Path, done: int, resumable: bool) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")
    if resumable:
        (folder / STATE).write_text(str(done))


def slow(config: Config, data: Dataset, **kwargs: Any) -> Iterator[Event]:
    return steady(config, data, seconds=0.1, **kwargs)


def stubborn(config: Config, data: Dataset, **kwargs: Any) -> Iterator[Event]:
    return slow(config, data, **{**kwargs, "interrupted": lambda: False})


KINDS = {"steady": slow, "stubborn": stubborn}


def start_worker(kind: str = "steady") -> subprocess.Popen[bytes]:
    """Ended by the ``runs`` fixture, as every worker of its folder."""
    return subprocess.Popen([sys.executable, "-m", "tests.fake_training", kind], cwd=Path(__file__).parents[1])


def end_workers(root: Path) -> None:
    """Ends the processes that hold a slot of this runs folder."""
    for _ in range(3):  # a worker that was ended may just have been replaced
        found = [_worker(note, root) for note in (root / ".workers").glob("slot-*.json")]
        ended = [process for process in found if process is not None]
        for process in ended:
            process.kill()
        psutil.wait_procs(ended, timeout=5)
        if not ended:
            return


def _worker(note: Path, root: Path) -> psutil.Process | None:
    """The process of a slot's note, if it is still a worker of this folder: a process id may have gone to another."""
    try:
        process = psutil.Process(int(worker.files.read_json(note)["pid"]))
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return None
        ours = str(root) in process.cmdline() or process.environ().get("RLHF_RUNS_DIR") == str(root)
    except (psutil.Error, OSError, ValueError, KeyError, TypeError):
        return None
    return process if ours else None


def wait_for(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Until ``what()`` is true; fails with what it was at last."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, f"still {value!r} after {seconds:.0f} s"
        time.sleep(0.03)


if __name__ == "__main__":
    sys.exit(worker.main(source=KINDS[sys.argv[1]], preload=lambda: None))
