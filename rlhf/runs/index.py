"""What events.jsonl and samples.jsonl say about each step, kept in memory and brought up to date from the last byte seen.

A run that was interrupted repeats the steps after its last checkpoint. The files are only ever appended to, so a later record of
a step replaces the earlier one, and a ``started`` event says from which step the run went on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rlhf.runs.files import StepIndex, parse

_STEP = re.compile(rb'\{"step": ?(\d+)\b')


class Steps:
    """One flat row of metrics a step, and where each step's distributions are."""

    def __init__(self, path: Path):
        self._index = StepIndex(path, self._take, self._reset)
        self._reset()

    def _reset(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}
        self._where: dict[int, tuple[int, int]] = {}
        self.restarts: list[tuple[int, int]] = []  # (step, bytes of samples.jsonl that came before)

    def _take(self, offset: int, line: bytes) -> None:
        record = parse(line)
        if record is None or not isinstance(step := record.get("step"), int):
            return
        if record.get("type") == "started":
            for later in [known for known in self._rows if known > step]:
                del self._rows[later]
                self._where.pop(later, None)
            self.restarts.append((step, record.get("samples_offset", 0)))
        elif record.get("type") == "step":
            metrics = record.get("metrics")
            row = {"step": step, "time": record.get("time"), **(metrics if isinstance(metrics, dict) else {})}
            self._rows[step] = {**self._rows.get(step, {}), **row}
            if record.get("distributions"):
                self._where[step] = (offset, len(line))

    def rows(self) -> list[dict[str, Any]]:
        with self._index.lock:
            self._index.look()
            return [self._rows[step] for step in sorted(self._rows)]

    def distributions(self, step: int) -> dict[str, list[float]]:
        with self._index.lock:
            self._index.look()
            where = self._where.get(step)
        records = _read(self._index.path, [where]) if where else []
        return records[0].get("distributions", {}) if records else {}

    def look(self) -> list[tuple[int, int]]:
        with self._index.lock:
            self._index.look()
            return list(self.restarts)


class SampleIndex:
    """Where the samples of each step are. Samples are read only when asked for: a line can have 100 kB."""

    def __init__(self, path: Path, steps: Steps):
        self._index = StepIndex(path, self._take, self._reset)
        self._steps = steps
        self._reset()

    def _reset(self) -> None:
        self._where: dict[int, list[tuple[int, int]]] = {}

    def _take(self, offset: int, line: bytes) -> None:
        match = _STEP.match(line)
        step = int(match[1]) if match else (parse(line) or {}).get("step")
        if isinstance(step, int):
            self._where.setdefault(step, []).append((offset, len(line)))

    def _current(self) -> dict[int, list[tuple[int, int]]]:
        """Without the samples of steps that were done again."""
        restarts = self._steps.look()
        with self._index.lock:
            self._index.look()
            where = {step: list(places) for step, places in self._where.items()}
        for start, before in restarts:
            for step in [step for step in where if step > start]:
                where[step] = [place for place in where[step] if place[0] >= before]
        return {step: places for step, places in where.items() if places}

    def steps(self) -> list[int]:
        return sorted(self._current())

    def at(self, step: int) -> list[dict[str, Any]]:
        return _read(self._index.path, self._current().get(step, []))


def _read(path: Path, places: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The records at these (offset, length)."""
    records = []
    try:
        with open(path, "rb") as file:
            for offset, length in places:
                file.seek(offset)
                if (record := parse(file.read(length))) is not None:
                    records.append(record)
    except OSError:  # the run was deleted in this moment
        return []
    return records
