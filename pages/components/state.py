"""What a browser session remembers: which run a page shows, what has been read of each run, and which point is being looked at.

A run's events are read once, by byte offset, and kept as columns: a poll costs what was appended since the last one. Nothing here is
the only copy of anything: a refresh starts from the run folder again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from rlhf import runs

LIVE_STATES = ("queued", "running")
PERCENTILES = (5, 25, 50, 75, 95)
_KEPT_FEEDS = 8  # of the runs looked at last


@dataclass
class Column:
    """One metric over the steps at which it was measured."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def cut(self, step: int) -> None:
        """Drop what was written at ``step`` and after: a resumed run repeats the steps since its checkpoint."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()


@dataclass
class Feed:
    """The metrics of one run so far. ``spread`` holds, per distribution and step, its percentiles; ``heldout``, of the distributions that
    were measured on held-out data (``eval/…``), which are few, all values in ascending order."""

    run: runs.Run
    offset: int = 0
    version: int = 0  # grows with every step read: what is drawn from the feed can be kept until then
    last_step: int = -1
    columns: dict[str, Column] = field(default_factory=dict)
    spread: dict[str, list[tuple[int, tuple[float, ...]]]] = field(default_factory=dict)
    heldout: dict[str, list[tuple[int, tuple[float, ...]]]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    drawn: dict[Any, Any] = field(default_factory=dict)  # small cache of the live panel, see live.py

    def read(self) -> None:
        """Take in what was appended since the last call."""
        records, self.offset = self.run.events(self.offset)
        for record in records:
            if record.get("type") == "step":
                self._take(record)
            elif record.get("type") == "started":
                self.info = record.get("info") or {}

    def _take(self, record: dict[str, Any]) -> None:
        step = int(record["step"])
        if step <= self.last_step:
            for column in self.columns.values():
                column.cut(step)
            for rows in (*self.spread.values(), *self.heldout.values()):
                while rows and rows[-1][0] >= step:
                    rows.pop()
        for key, value in record.get("metrics", {}).items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                column = self.columns.setdefault(key, Column())
                column.steps.append(step)
                column.values.append(float(f"{value:.5g}") if abs(value) > 1e-7 else 0.0)  # rounding errors of what should be 0
        for key, values in (record.get("distributions") or {}).items():
            numbers = sorted(float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v))
            if numbers and key.startswith("eval/"):
                self.heldout.setdefault(key, []).append((step, tuple(numbers)))
            elif numbers:
                self.spread.setdefault(key, []).append((step, tuple(percentile(numbers, p) for p in PERCENTILES)))
        self.last_step = step
        self.version += 1

    def first(self, key: str) -> float | None:
        column = self.columns.get(key)
        return column.values[0] if column and column.values else None

    def heldout_at(self, key: str, step: int | None = None) -> tuple[int, tuple[float, ...]] | None:
        """The step and the values of the newest measurement, or of the newest one at ``step`` or before."""
        rows = self.heldout.get(key, [])
        return next((row for row in reversed(rows) if step is None or row[0] <= step), None)

    def last(self, key: str) -> float | None:
        column = self.columns.get(key)
        return column.values[-1] if column and column.values else None


def percentile(ordered: list[float], p: float) -> float:
    """The p-th percentile (0 to 100) of ascending numbers, linear between neighbours."""
    position = (len(ordered) - 1) * p / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def feed(run_id: str) -> Feed:
    """This session's feed of a run, brought up to date. Raises ``RunError`` if there is no such run."""
    feeds: OrderedDict[str, Feed] = st.session_state.setdefault("feeds", OrderedDict())
    if run_id not in feeds or not feeds[run_id].run.path.exists():
        feeds[run_id] = Feed(runs.open_run(run_id))
    feeds.move_to_end(run_id)
    while len(feeds) > _KEPT_FEEDS:
        feeds.popitem(last=False)
    current = feeds[run_id]
    current.read()
    return current


@dataclass
class Focus:
    """The step that the linked panes look at; None: the newest. ``moves`` counts the changes that did not come from the step slider."""

    step: int | None = None
    moves: int = 0
    token: tuple[Any, ...] | None = None  # the last click on a token, with its step

    def pick(self, step: int) -> None:
        """Chosen on the slider."""
        self.step = step

    def move(self, step: int | None) -> None:
        """Chosen elsewhere: in a plot, or by a button."""
        self.step = step
        self.moves += 1

    def hold(self, step: int, clicked: tuple[int, int] | None) -> None:
        """A newly clicked token holds its step, so that a live run does not take the text away while it is read."""
        token = (step, clicked) if clicked else None
        if token and token != self.token:
            self.step = step
        self.token = token


def focus(run_id: str) -> Focus:
    return st.session_state.setdefault(f"focus:{run_id}", Focus())


def shown_run(page: str) -> str | None:
    """The run that a page shows: the one in the link, else the one that this session showed there last."""
    run_id = st.query_params.get("run") or st.session_state.get(f"shown:{page}")
    if run_id:
        show_run(page, run_id)
    return run_id


def forget_run(page: str) -> None:
    """A page shows no run any more unless the link names one."""
    st.session_state.pop(f"shown:{page}", None)


def show_run(page: str, run_id: str | None) -> None:
    """Let a page show a run (or none), now, after a refresh and in a copied link."""
    if run_id is None:
        forget_run(page)
        st.query_params.pop("run", None)
    else:
        st.session_state[f"shown:{page}"] = run_id
        if st.query_params.get("run") != run_id:
            st.query_params["run"] = run_id
