"""What a training run tells the world. ``rlhf.train.train`` yields these; ``rlhf.runs.RunWriter`` appends them to the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Started:
    """The model is loaded and the first step comes next. ``info``: parameters, trainable, device, dtype, versions …"""

    step: int
    steps: int
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Phase:
    """What the run is busy with; passing, kept in status.json only."""

    step: int
    name: str  # loading | sampling | scoring | updating | evaluating | saving


@dataclass(frozen=True, slots=True)
class Step:
    """One batch with all its inner updates. Step 0 comes before any update and holds ``eval/…`` only: the untouched start.

    ``metrics``: see ``rlhf.metrics``; ``distributions``: at most 256 values each, for histograms; those of held-out data (``eval/…``)
    at most 1,000, sorted.
    """

    step: int
    metrics: Mapping[str, float]
    distributions: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt of a step with all its responses, down to the token: a line of samples.jsonl."""

    step: int
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights as they are after ``step`` steps. Whoever receives the event calls ``save(folder)`` at once, or not at all.

    Two kinds come, one event each: not ``resumable`` is small (adapter or weights) and is kept as ``checkpoints/step-N``;
    ``resumable`` also holds the optimizer and the value head, so that the run continues exactly, and replaces ``checkpoints/last``.
    """

    step: int
    save: Callable[[Path], None]
    resumable: bool


@dataclass(frozen=True, slots=True)
class Finished:
    step: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was interrupted on request, after a resumable checkpoint."""

    step: int


@dataclass(frozen=True, slots=True)
class Failed:
    step: int
    what: str
    do: str


Event = Started | Phase | Step | Sample | Checkpoint | Finished | Stopped | Failed


def to_record(event: Event) -> dict[str, Any]:
    """The JSON object of an event, without ``seq`` and ``time``, which the writer adds."""
    match event:
        case Started(step, steps, info):
            return {"type": "started", "step": step, "steps": steps, "info": dict(info)}
        case Phase(step, name):
            return {"type": "phase", "step": step, "name": name}
        case Step(step, metrics, distributions):
            return {"type": "step", "step": step, "metrics": dict(metrics), "distributions": dict(distributions)}
        case Sample(step, record):
            return {"type": "sample", "step": step, **record}
        case Checkpoint(step, _, resumable):
            return {"type": "checkpoint", "step": step, "resumable": resumable}
        case Finished(step):
            return {"type": "finished", "step": step}
        case Stopped(step):
            return {"type": "stopped", "step": step}
        case Failed(step, what, do):
            return {"type": "failed", "step": step, "what": what, "do": do}
