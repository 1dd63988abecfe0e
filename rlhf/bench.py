"""How fast each algorithm trains on this machine: what is measured, the process that measures, and its results in a file.

Each point (an algorithm, a batch size) is measured in a process of its own (rlhf/measure.py), so that peak memory is the point's own. One
benchmark at a time for a runs folder: two would only measure each other. Its lines go to ``.workers/speed.jsonl`` there, whoever started
it, so that the page and the command line show the same. Nothing here imports torch.

    python -m rlhf bench --algorithm grpo --algorithm dpo --model story --sequences 64 --tokens 48
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from rlhf.algorithms import CONFIGS, make_config
from rlhf.config import Config, OfflineConfig, OnlineConfig, PairsConfig
from rlhf.errors import ConfigError, RunError
from rlhf.estimate import response_tokens, sequences
from rlhf.runs import files, runs_dir
from rlhf.runs.folder import OWN, in_state

PARTS = ("sampling", "reward", "reference", "forward", "backward", "optimizer", "other")
"""Of a step's time. "other" is what is left: data, records, metrics."""
START_SECONDS = 60.0
MOST_SEQUENCES, MOST_TOKENS, MOST_STEPS = 4096, 4096, 1000
PACKAGE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Plan:
    """What to measure. ``batches``: sequences a step, 0 for the algorithm's own default; ``tokens``: longest answer, 0 for its default."""

    algorithms: tuple[str, ...]
    model: str = "story"
    batches: tuple[int, ...] = (0,)
    tokens: int = 0
    steps: int = 5

    def configs(self) -> list[Config]:
        """One for each point, in order. Raises ``ConfigError`` for what cannot be measured."""
        if not self.algorithms:
            raise ConfigError("No algorithm was chosen.", f"Choose one or several of {', '.join(CONFIGS)}.")
        limits = (
            ("sequences", max(self.batches, default=0), MOST_SEQUENCES),
            ("tokens", self.tokens, MOST_TOKENS),
            ("steps", self.steps, MOST_STEPS),
        )
        for name, value, most in limits:
            if value > most or min((*self.batches, self.tokens, self.steps - 1)) < 0:
                raise ConfigError(f"The benchmark's {name} cannot be {value}.", f"Choose a positive number up to {most}.")
        return [point(algorithm, self.model, batch, self.tokens) for batch in self.batches or (0,) for algorithm in self.algorithms]


def point(algorithm: str, model: str, batch: int = 0, tokens: int = 0) -> Config:
    """The algorithm's defaults for a model, with about ``batch`` sequences a step and answers of at most ``tokens`` tokens."""
    standard = make_config(algorithm, model=model)
    fields: dict[str, Any] = {}
    if isinstance(standard, OnlineConfig):
        if batch:
            group = min(standard.responses_per_prompt, batch)
            size = "group_size" if "group_size" in type(standard).model_fields else "samples_per_prompt"
            fields |= {size: group, "prompts_per_step": max(1, batch // group), "minibatches": 1}
        fields |= {"max_new_tokens": tokens} if tokens else {}
    elif isinstance(standard, OfflineConfig):
        if batch:
            pairs = isinstance(standard, PairsConfig)
            fields["pairs_per_step" if pairs else "examples_per_step"] = max(1, batch // 2) if pairs else batch
        fields |= {"max_response_tokens": tokens} if tokens else {}
    return make_config(algorithm, model=model, **fields)


@dataclass(frozen=True)
class Measured:
    """One point. ``seconds`` of a step, the median; ``parts`` of it, scaled to that; ``memory_mib``: peak of the device or the process."""

    algorithm: str
    model: str
    sequences: int
    tokens: int
    steps: int
    seconds: float
    fastest: float
    slowest: float
    tokens_per_second: float
    memory_mib: float
    parts: dict[str, float]
    device: str
    parameters: int

    @property
    def steps_per_second(self) -> float:
        return 1 / self.seconds


@dataclass(frozen=True)
class Failure:
    """A point that could not be measured."""

    algorithm: str
    sequences: int
    what: str
    do: str = ""


@dataclass
class Benchmark:
    """The latest benchmark of a runs folder, as far as it has come. ``current``: the point being measured, as (algorithm, sequences)."""

    model: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    points: int = 0
    measured: list[Measured] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    current: tuple[str, int] | None = None
    running: bool = False
    cancelled: bool = False

    @property
    def cut_short(self) -> bool:
        """Neither running nor done: cancelled, or its process was ended."""
        return not self.running and len(self.measured) + len(self.failed) < self.points


def machine() -> dict[str, Any]:
    """Where and with what the numbers are measured; ``load``: the system's load average before the start, where it has one."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "transformers": metadata.version("transformers"),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


# ---------------------------------------------------------------- the file and the lock


def results(root: Path) -> Path:
    return root / OWN / "speed.jsonl"


def lock(root: Path) -> Path:
    return root / OWN / "speed.lock"


def busy(root: Path) -> bool:
    """Whether something is being measured now."""
    return files.is_held(lock(root))


def runs_under_way(root: Path) -> int:
    """Runs that train now, and would be measured along."""
    return sum(run.status.state == "running" for run, _ in in_state("running", root))


def latest(root: str | Path | None = None) -> Benchmark | None:
    """What the file says; None if nothing was measured yet."""
    root = runs_dir(root)
    running = busy(root)  # before the file is read: what has ended in between is complete in it
    path = results(root)
    if not path.exists():
        return None
    found = Benchmark(running=running)
    for _end, line in files.read_lines(path):
        record = files.parse(line) or {}
        match record.pop("type", ""):
            case "benchmark":
                found.model, found.points, found.machine = record["model"], record["points"], record["machine"]
            case "measuring":
                found.current = (record["algorithm"], record["sequences"])
            case "measured":
                found.measured.append(Measured(**record))
            case "failed":
                found.failed.append(Failure(**record))
            case "cancelled":
                found.cancelled = True
    if not found.machine:  # its first line is not written yet
        return None
    if not running or len(found.measured) + len(found.failed) == found.points:
        found.current = None
    return found


# ---------------------------------------------------------------- measuring


def run(plan: Plan, root: str | Path | None = None, profile: bool = False) -> Iterator[dict[str, Any]]:
    """Measure, point by point; yields each line as it is written. Raises ``RunError`` while another benchmark is under way.

    ``profile``: by operator instead; that is told and not kept, as the profiler slows what it looks at.
    """
    root = runs_dir(root)
    configs = plan.configs()
    (root / OWN).mkdir(parents=True, exist_ok=True)
    held = files.hold(lock(root), timeout=0.2)
    if held is None:
        raise RunError(
            "Another benchmark is being measured on this machine.", "Wait until it has ended: two at once would measure each other."
        )
    try:
        with Path(os.devnull if profile else results(root)).open("wb") as file:

            def told(record: dict[str, Any]) -> dict[str, Any]:
                file.write(files.encode(record))
                file.flush()
                return record

            process = {"pid": os.getpid(), "create_time": psutil.Process().create_time()}
            yield told({"type": "benchmark", "model": plan.model, "points": len(configs), "machine": machine(), **process})
            for config in configs:
                where = {"algorithm": config.algorithm, "sequences": sequences(config)}
                yield told({"type": "measuring", **where})
                yield told(_measure(config, plan.steps, profile, where))
    finally:
        held.release()


def _measure(config: Config, steps: int, profile: bool, where: dict[str, Any]) -> dict[str, Any]:
    """One point, in a process of its own that prints one line of JSON at its end."""
    order = {"config": config.model_dump(mode="json"), "steps": steps, "profile": profile}
    done = subprocess.run(
        [sys.executable, "-m", "rlhf.measure"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        env=_environment(),
        encoding="utf-8",
    )
    last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
    record = files.parse(last[0].encode()) if last else None
    if record is None:
        error = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
        what = (
            "The process was ended by the system, as when memory runs out."
            if done.returncode < 0
            else f"The process failed: {error[0][:300]}"
        )
        return {"type": "failed", **where, "what": what, "do": "Choose a smaller batch or model."}
    if "what" in record:
        return {"type": "failed", **where, **record}
    kind = "profiled" if profile else "measured"
    return {"type": kind, **where, "model": config.model, "tokens": response_tokens(config), **record}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))}


# ---------------------------------------------------------------- from a page

_children: list[subprocess.Popen[str]] = []  # kept to be waited for: an ended child must not stay a zombie


def start(plan: Plan, root: str | Path | None = None) -> None:
    """Measure in a process of its own, as the command line does; returns when it holds the lock. Raises ``RunError``, ``ConfigError``."""
    root = runs_dir(root)
    plan.configs()
    (root / OWN).mkdir(parents=True, exist_ok=True)
    _children[:] = [child for child in _children if child.poll() is None]
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    with (root / OWN / "speed.log").open("w+", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "rlhf", "bench", *arguments(plan), "--runs-dir", str(root)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, text=True, env=_environment(), **detached,
        )  # fmt: skip
        _children.append(child)
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if child.poll() is not None and child.returncode != 0:
                log.seek(0)
                raise RunError(log.read().strip()[-500:] or "The benchmark could not be started.", "")
            holder = _process(root)
            if child.poll() is not None or (holder and child.pid in (holder, psutil.Process(holder).ppid())):
                return
            time.sleep(0.05)
    raise RunError("The benchmark did not start within a minute.", "Try again when the machine is less busy.")


def arguments(plan: Plan) -> list[str]:
    """The plan as the command line takes it."""
    given = [part for name in plan.algorithms for part in ("--algorithm", name)]
    given += [part for batch in plan.batches for part in ("--sequences", str(batch))]
    return [*given, "--model", plan.model, "--tokens", str(plan.tokens), "--steps", str(plan.steps)]


def cancel(root: str | Path | None = None) -> bool:
    """End the benchmark under way, with the process that measures; what was measured stays. Returns whether there was one."""
    root = runs_dir(root)
    pid = _process(root)
    if pid is None or pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=10)
    except psutil.Error:  # gone already, or another user's
        return False
    with results(root).open("ab") as file:
        file.write(files.encode({"type": "cancelled"}))
    return True


def _process(root: Path) -> int | None:
    """The id of the process that measures now. Its creation time guards against another one that got the same id."""
    if not busy(root):
        return None
    try:
        first = next(iter(files.read_lines(results(root))))[1]
        note = files.parse(first) or {}
        process = psutil.Process(int(note["pid"]))
        return process.pid if abs(process.create_time() - float(note["create_time"])) < 1.0 else None
    except (OSError, StopIteration, KeyError, psutil.Error):
        return None


def rows(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The measured points for a table or a CSV file: one row each, a column for each part, the machine at the end."""
    found = []
    for point in benchmark.measured:
        row = {key: value for key, value in asdict(point).items() if key != "parts"} | {"steps_per_second": point.steps_per_second}
        found.append(row | {f"{part}_seconds": point.parts.get(part, 0.0) for part in PARTS} | benchmark.machine)
    return found
