"""Whether the memory that the lab and the estimate predict is what a step really holds: every method, both embedded models, several shapes.

    python -m benchmarks.memory_prediction            # about five minutes on a quiet machine

Each row is a real step in a process of its own, as the lab measures it; the goal is a prediction within 15 %.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from rlhf.labs import memory, memory_trial

SHAPES = {
    "story": (
        memory.Setting(prompts=4, group=8, microbatch=32, prompt=16, answer=48, scored=False),
        memory.Setting(prompts=4, group=8, microbatch=8, prompt=32, answer=64, scored=False),
        memory.Setting(prompts=2, group=8, microbatch=16, prompt=16, answer=24, dtype="bfloat16", scored=False),
    ),
    "sums": (memory.Setting(prompts=8, group=8, microbatch=64, prompt=6, answer=16, scored=False),),
}


def main() -> int:
    print(
        f"{'model':6} {'method':13} {'learns':6} {'format':9} {'shape':>22} {'predicted':>10} {'measured':>9} {'ratio':>6} {'process':>8}"
    )
    worst = 0.0
    for model, settings in SHAPES.items():
        for setting in settings:
            for rank in (0, 16):
                for method in memory.METHODS:
                    worst = max(worst, abs(row(model, method, replace(setting, rank=rank)) - 1))
    print(f"largest error {worst:.1%}, goal {memory_trial.WITHIN:.0%}")
    return int(worst > memory_trial.WITHIN)


def row(model: str, method: str, setting: memory.Setting) -> float:
    """Print one row; predicted / measured."""
    found = memory_trial.run(method, memory.config_of(method, setting, model=model, device="cpu"), setting.prompt, setting.answer)
    shape = f"{setting.sequences}×({setting.prompt}+{setting.answer})/{setting.microbatch}"
    process = "–" if found.process is None else f"{found.process / 1e6:.1f}"
    print(
        f"{model:6} {method:13} {'LoRA' if setting.rank else 'all':6} {setting.dtype:9} {shape:>22} {found.predicted / 1e6:10.1f} "
        f"{found.tensors / 1e6:9.1f} {found.ratio:6.3f} {process:>8}",
        flush=True,
    )
    return found.ratio


if __name__ == "__main__":
    sys.exit(main())
