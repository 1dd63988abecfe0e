"""What of a run folder the challenges judge: settings, state, measurements and, of a reward model, its held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlhf.config import Config, RewardModelConfig
from rlhf.errors import PlaygroundError
from rlhf.preferences import PreferencePair
from rlhf.rewards import sentiment
from rlhf.runs import Run

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What of a run is judged. ``rows``: ``Run.metrics()`` with finite numbers alone; ``pairs``: held-out pairs that are measured, and
    ``labels``: of these the share that is labelled as the rule of the story votes says (the sadder answer is chosen), None without."""

    id: str
    config: Config
    state: str
    rows: tuple[Row, ...]
    pairs: int = 0
    labels: float | None = None

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows with held-out figures."""
        return tuple(row for row in self.rows if any(key.startswith("eval/") for key in row))

    def first(self, key: str) -> float | None:
        """The untouched start: a figure of step 0."""
        return next((row[key] for row in self.rows if row["step"] == 0 and key in row), None)

    def last(self, key: str) -> float | None:
        """The newest figure after step 0."""
        return next((row[key] for row in reversed(self.rows) if row["step"] > 0 and key in row), None)

    def last_step(self, key: str) -> int | None:
        return next((row["step"] for row in reversed(self.rows) if row["step"] > 0 and key in row), None)

    def change(self, key: str) -> float | None:
        start, end = self.first(key), self.last(key)
        return None if start is None or end is None else end - start

    def over(self, key: str) -> list[float]:
        """A figure at every step that has it."""
        return [row[key] for row in self.rows if key in row]


def read(run: Run) -> Record | None:
    """None for a folder that is damaged or whose settings this version does not know. What has not changed is not read again."""
    if run.problem:
        return None
    try:
        config = _config(run, (run.path / "config.json").stat().st_mtime_ns)
        events = run.path / "events.jsonl"
        rows = _rows(run, events.stat().st_size) if events.exists() else ()
    except (PlaygroundError, OSError):
        return None
    pairs = _heldout(run, config.eval_prompts) if isinstance(config, RewardModelConfig) and config.model == "story" else (0, None)
    return Record(run.id, config, run.status.state, rows, *pairs)


@lru_cache(maxsize=256)
def _config(run: Run, changed: int) -> Config:
    return run.load_config()


@lru_cache(maxsize=256)
def _rows(run: Run, size: int) -> tuple[Row, ...]:
    return tuple(_finite(row) for row in run.metrics())


def _finite(row: Row) -> Row:
    kept = {key: float(v) for key, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)}
    return {**kept, "step": int(row["step"])}


def _heldout(run: Run, measured: int) -> tuple[int, float | None]:
    try:
        return _labelled(run, (run.path / "data.jsonl").stat().st_mtime_ns, measured)
    except (OSError, PlaygroundError):
        return 0, None


@lru_cache(maxsize=64)
def _labelled(run: Run, changed: int, measured: int) -> tuple[int, float | None]:
    """``changed``: the file's time stamp, so that another file is read anew."""
    pairs = [item for item in run.load_data().heldout if isinstance(item, PreferencePair)][:measured]
    return len(pairs), share_as_the_rule_says(pairs) if pairs else None


def share_as_the_rule_says(pairs: Sequence[PreferencePair]) -> float:
    """Of the pairs, the share whose chosen answer is the sadder one (VADER); a tie counts as half."""
    leads = [sentiment(pair.rejected) - sentiment(pair.chosen) for pair in pairs]
    return sum(0.5 if lead == 0 else float(lead > 0) for lead in leads) / len(leads)
