"""When a reward is fooled: the reward that is trained on (the proxy) against a gold reward that the policy never sees.

Gao et al. 2022, https://arxiv.org/abs/2210.10760, plot both against √KL: the proxy goes on rising where the gold one turns. This module
reads that off a run's held-out measurements; it is free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlhf.algorithms import make_config
from rlhf.config import Config

RULE = "negative"
GOLD = "negative:1,repetition:1"
STEPS, EVERY = 30, 2
"""The preset of the page Reward hacking: a rule that counts sad words and nothing else, and what it leaves out."""

DROP = 0.1
"""How far below its peak the gold reward must end, and for a proxy that did not fall, before this is called a hack: held-out means
of 64 answers wander by themselves. The last two measurements must be that low, or a single one twice as low: the peak is the highest of
many, and one low value after it is chance."""


@dataclass(frozen=True)
class Measurement:
    """One measurement on held-out prompts; ``root_kl`` is √KL, in √nats a token."""

    step: int
    proxy: float
    gold: float
    root_kl: float


@dataclass(frozen=True)
class Verdict:
    """``peak``: where the gold reward was highest; ``late``: the last two measurements, of those after the peak."""

    start: Measurement
    peak: Measurement
    end: Measurement
    late: tuple[Measurement, ...] = ()

    @property
    def drop(self) -> float:
        """How far below its peak the gold reward ended."""
        return self.peak.gold - self.end.gold

    @property
    def fooled(self) -> bool:
        """The gold reward fell, and stayed down, while the proxy did not fall."""
        needed = DROP if len(self.late) > 1 else 2 * DROP
        fell = bool(self.late) and all(self.peak.gold - one.gold >= needed for one in self.late)
        return fell and self.end.proxy >= self.peak.proxy - DROP / 2


def measurements(rows: Iterable[Mapping[str, Any]]) -> list[Measurement]:
    """Of the rows of ``Run.metrics()``, those at which everything was measured."""
    keys = ("eval/reward", "eval/gold", "eval/kl")
    return [
        Measurement(int(row["step"]), row["eval/reward"], row["eval/gold"], math.sqrt(max(row["eval/kl"], 0.0)))
        for row in rows
        if all(isinstance(row.get(key), int | float) for key in keys)
    ]


def judge(found: list[Measurement]) -> Verdict | None:
    """None with fewer than two measurements."""
    if len(found) < 2:
        return None
    peak = max(found, key=lambda m: m.gold)
    return Verdict(found[0], peak, found[-1], tuple(found[found.index(peak) + 1 :][-2:]))


def watched_config(reward: Any = RULE, beta: float = 0.0, learning_rate: float = 3e-4, steps: int = STEPS, seed: int = 0) -> Config:
    """A GRPO run of the story model with the gold reward beside it, measured often, so that the peak is seen.

    Its defaults are the preset of the page Reward hacking: a rule that counts sad words and nothing else, and no pull to the reference.
    Raises ``ConfigError``.
    """
    return make_config(
        "grpo", model="story", reward=reward, gold=GOLD, beta=beta, learning_rate=learning_rate, steps=steps, seed=seed,
        eval_every=EVERY, checkpoint_every=10,
    )  # fmt: skip
