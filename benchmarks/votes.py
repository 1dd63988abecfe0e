"""Forty writers voting at once through SQLite: no vote lost, none twice, and how long one vote takes to be on the disk.

    python -m benchmarks.votes [--writers 40] [--votes 25]

Twice: forty threads of one process, as forty browsers of one server are, and forty processes with a database connection each. All begin
at the same moment and vote without a pause, which people do not; each sends every vote two times, as a double click does.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import Report, parser
from rlhf import votes

GOAL_MS = 100.0
ANSWER = " a small answer of a small model, about as long as those that are voted on." * 3


def write(root: Path, writer: int, count: int, ready: Callable[[], Any]) -> list[float]:
    """Milliseconds of each ``add``, also of those that say the same again."""
    took = []
    ready()
    for i in range(count):
        cast = votes.Vote("Once upon a time", ANSWER, ANSWER[:-1], "left", rater=f"rater {writer}", id=f"{writer}-{i}")
        for _again in range(2):
            begin = time.perf_counter()
            votes.add(cast, root)
            took.append(1000 * (time.perf_counter() - begin))
    return took


def _process(root: Path, writer: int, count: int, barrier: Any, results: Any) -> None:
    results.put(write(root, writer, count, barrier.wait))


def processes(root: Path, writers: int, count: int) -> list[float]:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(writers), context.Queue()
    started = [context.Process(target=_process, args=(root, n, count, barrier, results)) for n in range(writers)]
    for process in started:
        process.start()
    took = [ms for _process in started for ms in results.get(timeout=300)]
    for process in started:
        process.join()
    return took


def threads(root: Path, writers: int, count: int) -> list[float]:
    barrier, took = threading.Barrier(writers), []
    started = [threading.Thread(target=lambda n=n: took.extend(write(root, n, count, barrier.wait))) for n in range(writers)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return took


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--writers", type=int, default=40)
    options.add_argument("--votes", type=int, default=25)
    given = options.parse_args()
    report = Report("votes")
    for name, run in (("threads", threads), ("processes", processes)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            took = run(root, given.writers, given.votes)
            ids = [vote.id for vote in votes.find(root=root)]
        cast = given.writers * given.votes
        what = f"{given.writers} {name} voting at once"
        report.check(f"{what}: votes lost", [cast - len(set(ids))], "", "0", len(set(ids)) == cast)
        report.check(f"{what}: votes counted twice", [len(ids) - len(set(ids))], "", "0", len(ids) == len(set(ids)))
        p95 = statistics.quantiles(took, n=20)[-1]
        report.check(f"{what}: 95 % of the votes are kept within", [p95], "ms", f"< {GOAL_MS:g}", p95 < GOAL_MS)
        report.details[name] = {"milliseconds": {"median": statistics.median(took), "p95": p95, "longest": max(took)}}
        print(f"    median {statistics.median(took):.2f} ms, longest {max(took):.1f} ms", flush=True)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
