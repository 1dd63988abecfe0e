"""One point of a benchmark, in a process of its own: a config comes in as JSON, times and peak memory go out as one line of JSON.

The algorithm takes real steps on its real data. The parts of a step come from the timers of ``Collector`` and ``Updater``, and from the
policy's passes without gradient; on a GPU every reading of the clock waits for it, which costs a little speed.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rlhf.algorithms import DATA, make_config
from rlhf.config import Config
from rlhf.errors import PlaygroundError
from rlhf.events import Step
from rlhf.preferences import load_dataset
from rlhf.rollout import never
from rlhf.train import Algorithm, Network, out_of_memory, prepare

WARM_UP = 2  # steps that are not counted: threads, caches and the allocator come to rest
MOST_SECONDS = 20.0  # of counted steps: where steps are slow, fewer of them say as much
GROUPS = ("matrix products", "attention", "rest")
_MATRIX = ("mm", "addmm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "mv", "addmv", "dot", "_scaled_mm", "mkldnn_linear", "gemm")
_ATTENTION = ("scaled_dot_product", "flash_attention", "efficient_attention", "flash_attn", "fmha", "_flex_attention")


def main() -> int:
    """Reads the order from standard input; the last line of standard output is the result, or what went wrong."""
    order = json.load(sys.stdin)
    try:
        config = make_config(**order["config"])
        result = profile(config, order["steps"]) if order["profile"] else measure(config, order["steps"])
    except PlaygroundError as error:
        result = {"what": error.what, "do": error.do}
    except (torch.OutOfMemoryError, MemoryError) as error:
        told = out_of_memory(config, str(error))
        result = {"what": told.what, "do": told.do}
    print(json.dumps(result))
    return 0


class Watch:
    """Adds up where the time goes, from the outside: the passes without gradient are timed where they are called."""

    def __init__(self, network: Network, algorithm: Algorithm):
        self.cuda = network.device.type == "cuda"
        self.updater: Any = getattr(algorithm, "updater")  # noqa: B009 - a protocol's class need not have one; all of ours do
        self.updater.clock = self.now
        self.passes: dict[str, float] = defaultdict(float)
        for name in ("reference_logprobs", "logprobs", "logprobs_and_best", "logprobs_and_values"):
            if hasattr(network, name):
                setattr(network, name, self._timed(getattr(network, name), "reference" if name == "reference_logprobs" else "forward"))

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if part == "forward" and torch.is_grad_enabled():  # the updater times it
                return call(*args, **kwargs)
            began = self.now()
            try:
                return call(*args, **kwargs)
            finally:
                self.passes[part] += self.now() - began

        return timed

    def parts(self, told: dict[str, float], seconds: float) -> dict[str, float]:
        """Of the last step, which took ``seconds``; ``told``: its metrics. The counters begin again."""
        found = {"sampling": told.get("time/sampling", 0.0), **self.passes}
        for part, value in self.updater.times.items():
            found[part] = found.get(part, 0.0) + value
        in_scoring = found.get("reference", 0.0) if "time/scoring" in told else 0.0
        found["reward"] = max(0.0, told.get("time/scoring", 0.0) - in_scoring)
        self.passes.clear()
        self.updater.times.clear()
        return found | {"other": max(0.0, seconds - sum(found.values()))}


def measure(config: Config, steps: int) -> dict[str, Any]:
    """Seconds a step (median), its parts (their share of the whole, of that median), tokens a second, peak memory."""
    network, algorithm, watch = _prepared(config)
    seconds, tokens, parts = [], 0.0, defaultdict(float)
    for step in range(1, WARM_UP + steps + 1):
        if sum(seconds) > MOST_SECONDS:
            break
        began = watch.now()
        told = take_step(algorithm, step)
        taken = watch.now() - began
        found = watch.parts(told, taken)
        if step > WARM_UP:
            seconds.append(taken)
            tokens += told.get("tokens", 0.0)
            for part, value in found.items():
                parts[part] += value
    middle, total = statistics.median(seconds), sum(seconds)
    return {
        "steps": len(seconds),
        "seconds": middle,
        "fastest": min(seconds),
        "slowest": max(seconds),
        "tokens_per_second": tokens / total,
        "memory_mib": peak_memory_mib(network.device),
        "parts": {part: value / total * middle for part, value in parts.items()},
        "device": torch.cuda.get_device_name(network.device) if watch.cuda else f"{network.device.type}, {torch.get_num_threads()} threads",
        "parameters": sum(p.numel() for p in network.model.parameters()),
    }


def _prepared(config: Config) -> tuple[Network, Algorithm, Watch]:
    data = load_dataset(DATA[config.algorithm], config.data, config.heldout)
    network, algorithm = prepare(config, data, (), never)
    return network, algorithm, Watch(network, algorithm)


def take_step(algorithm: Algorithm, step: int) -> dict[str, float]:
    """One step of training to its end; → its metrics."""
    return next(dict(event.metrics) for event in [*algorithm.step(step)] if isinstance(event, Step))


def peak_memory_mib(device: torch.device) -> float:
    """The most that the device's allocator (GPU) or this process (CPU) has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# ---------------------------------------------------------------- by operator


def group(operator: str) -> str:
    """One of ``GROUPS``, by the name that torch's profiler gives it (``aten::addmm``, a kernel's name on a GPU)."""
    name = operator.removeprefix("aten::").lower()
    if any(part in name for part in _ATTENTION):
        return "attention"
    bare = name.removesuffix("_backward").removesuffix("_")
    return "matrix products" if bare in _MATRIX or "gemm" in name or "cutlass" in name else "rest"


def profile(config: Config, steps: int) -> dict[str, Any]:
    """Operators by the time that they take themselves: {"operators": [(name, group, calls, ms a step)], "wall": ms a step, "steps"}."""
    from torch.profiler import ProfilerActivity

    _network, algorithm, watch = _prepared(config)
    for step in range(1, WARM_UP + 1):
        take_step(algorithm, step)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if watch.cuda else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        began = watch.now()
        for step in range(WARM_UP + 1, WARM_UP + steps + 1):
            take_step(algorithm, step)
        wall = watch.now() - began
    operators = []
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if watch.cuda else event.self_cpu_time_total
        if microseconds > 0:
            operators.append((event.key, group(event.key), event.count, microseconds / 1e3 / steps))
    operators.sort(key=lambda row: -row[3])
    return {"operators": operators, "wall": wall * 1e3 / steps, "steps": steps}


if __name__ == "__main__":
    sys.exit(main())
