"""The real thing: a step of a method on an embedded model in a process of its own, and the most memory that it held.

The process is ``rlhf.measure_memory``: started at low priority with one thread, given up after a while, one at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from threading import Lock

from rlhf import estimate, memory
from rlhf.bench import PACKAGE_ROOT
from rlhf.config import Config
from rlhf.errors import RunError

MOST_SECONDS = 180.0
WITHIN = 0.15
"""How far a prediction may be off, as a share of what was measured."""
GIVE_BACK_BYTES = 65_536
"""Blocks from this size on go back to the system at once, so that its peak is the step's and not that of the allocator's stock (glibc)."""
_one_at_a_time = Lock()


@dataclass(frozen=True)
class Trial:
    """Bytes: ``predicted``; ``tensors``: the peak of torch's allocator; ``process``: by how much the process grew, None where unknown."""

    method: str
    predicted: int
    tensors: int
    process: int | None
    tokens: float
    device: str

    @property
    def ratio(self) -> float:
        return self.predicted / self.tensors


def predicted(config: Config, prompt: int, answer: int) -> memory.Moment:
    """The fullest moment of a config's step on its model. Raises ``RunError`` for a model whose sizes are not known."""
    facts = estimate.model_facts(config.model)
    if facts.architecture is None:
        raise RunError(f"The sizes of {config.model} are not known.", "Choose an embedded model.")
    device = estimate.likely_device(config.device)
    return memory.fullest(memory.moments(config, facts.architecture, device, prompt, answer))


def run(method: str, config: Config, prompt: int, answer: int, most_seconds: float = MOST_SECONDS) -> Trial:
    """Measure a step of ``config`` on texts of these lengths. Raises ``RunError`` that says what went wrong."""
    expected = predicted(config, prompt, answer).total
    order = {"config": config.model_dump(mode="json"), "prompt_tokens": prompt, "answer_tokens": answer}
    paths = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    quiet = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(GIVE_BACK_BYTES), "PYTHONPATH": paths}
    if not _one_at_a_time.acquire(timeout=most_seconds):
        raise RunError("Another measurement is under way on this server.", "Try again in a minute.")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rlhf.measure_memory"], input=json.dumps(order), capture_output=True, encoding="utf-8",
            env={**os.environ, **quiet}, timeout=most_seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RunError(
            f"The measurement was not done after {most_seconds:g} s and was ended.", "Choose fewer or shorter answers."
        ) from None
    finally:
        _one_at_a_time.release()
    try:
        told = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        why = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1][:300]
        what = "The process was ended by the system, as when memory runs out." if done.returncode < 0 else f"The process failed: {why}"
        raise RunError(what, "Choose fewer or shorter answers.") from None
    if "what" in told:
        raise RunError(told["what"], told["do"])
    return Trial(method, expected, told["tensors"], told["process"], told["tokens"], told["device"])
