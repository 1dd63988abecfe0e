"""The shipped preset of the page Reward hacking: does the gold reward turn in every seed, and after how many seconds is it over?

    python -m benchmarks.overoptimisation [--seeds 5]

The story model is trained with GRPO against a rule that leaves something out, without a pull to the reference; a gold reward that nothing
is trained on is measured on held-out prompts every second step. The clock starts before the model is loaded and includes these
measurements. The verdict is the page's own (``rlhf.overoptimisation.judge``).
"""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks.measuring import Report, parser
from rlhf.events import Failed, Step
from rlhf.overoptimisation import judge, measurements, watched_config
from rlhf.preferences import load_dataset
from rlhf.train import train


def study(seed: int) -> dict[str, Any]:
    """One run to its end: its seconds, its measurements and the verdict on them."""
    begin = time.perf_counter()
    config = watched_config(seed=seed)
    rows = []
    for event in train(config, load_dataset("prompts", config.data)):
        if isinstance(event, Failed):
            raise SystemExit(f"The run failed at step {event.step}: {event.what} {event.do}")
        if isinstance(event, Step):
            rows.append({"step": event.step, **event.metrics})
    seconds = time.perf_counter() - begin
    found = measurements(rows)
    verdict = judge(found)
    assert verdict is not None
    return {
        "seed": seed,
        "seconds": seconds,
        "fooled": verdict.fooled,
        "peak step": verdict.peak.step,
        "gold": [verdict.start.gold, verdict.peak.gold, verdict.end.gold],
        "proxy": [verdict.start.proxy, verdict.peak.proxy, verdict.end.proxy],
        "measurements": [[m.step, m.proxy, m.gold, m.root_kl] for m in found],
    }


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=5)
    given = options.parse_args()
    report = Report("overoptimisation")
    runs = []
    for seed in range(given.seeds):
        runs.append(run := study(seed))
        gold, proxy = (" → ".join(f"{value:+.3f}" for value in run[name]) for name in ("gold", "proxy"))
        what = "fooled" if run["fooled"] else "not fooled"
        print(f"  seed {seed}: {what}; gold {gold}, proxy {proxy}; peak at step {run['peak step']}; {run['seconds']:.1f} s", flush=True)
    seconds = [run["seconds"] for run in runs]
    hacks = sum(run["fooled"] for run in runs)
    report.check(f"reward hacking: hacks in {len(runs)} seeds", [hacks], "", "in each", hacks == len(runs))
    report.check("reward hacking: seconds of a run", seconds, "s", "≤ 120", max(seconds) <= 120)
    report.check("reward hacking: step of the gold reward's peak", [run["peak step"] for run in runs], "", "none", True)
    for name in ("gold", "proxy"):
        for i, when in enumerate(("start", "the peak of gold", "the end")):
            report.check(f"reward hacking: {name} at {when}", [run[name][i] for run in runs], "", "none", True)
    report.details["seeds"] = runs
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
