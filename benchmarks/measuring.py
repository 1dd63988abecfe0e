"""What the benchmarks share: the machine in words, medians with their spread, and a result file beside what is printed.

Every benchmark is run alone on a quiet machine, from the repository's root: ``python -m benchmarks.NAME``. It prints a table with the
goal in the last column, writes ``benchmarks/results/NAME.json``, and exits with 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """Where and with what the numbers were measured; ``load`` is the system's load average before the start."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in ("torch", "transformers", "streamlit")},
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def spread(values: Sequence[float], digits: int = 3) -> str:
    """``median (lowest … highest)``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}g} ({low:.{digits}g} … {high:.{digits}g})" if len(values) > 1 else f"{middle:.{digits}g}"


@dataclass
class Report:
    """Collects rows; ``check`` decides whether a goal was met."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    started: dict[str, Any] = field(default_factory=machine)

    def __post_init__(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an ended benchmark ends its server and workers too
        where = self.started
        print(f"{self.name}: {where['cores']} cores, {where['cpu']}, torch {where['versions']['torch']}, load {where['load']}", flush=True)
        if where["load"] and where["load"][0] > 0.5:
            print("The machine is busy: expect these numbers to be worse than they are on a quiet one.", flush=True)

    def check(self, what: str, values: Sequence[float], unit: str, goal: str, met: bool) -> None:
        self.rows.append({"what": what, "values": [round(v, 5) for v in values], "unit": unit, "goal": goal, "met": met})
        print(f"  {what}: {spread(values)} {unit}   goal {goal}: {'met' if met else 'MISSED'}", flush=True)

    def finish(self) -> int:
        """Write the result file; the exit code."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps({"machine": self.started, "rows": self.rows, "details": self.details}, indent=1) + "\n")
        missed = [row["what"] for row in self.rows if not row["met"]]
        print(f"{len(self.rows) - len(missed)} of {len(self.rows)} goals met; {path}")
        return 1 if missed else 0


def parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
