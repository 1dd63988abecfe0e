"""Settings of a reward model trained on preference pairs; the algorithm is rlhf/algorithms/reward_model.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf.config.base import setting
from rlhf.config.offline import PairsConfig


class RewardModelConfig(PairsConfig):
    """A reward model trained on preference pairs; see rlhf/algorithms/reward_model.py."""

    PRESETS: ClassVar = {
        "story": {
            "data": "story-pairs",
            "tuning": "full",
            "learning_rate": 1e-3,
            "learning_rate_schedule": "linear",
            "steps": 20,
            "eval_every": 5,
        },
        "sums": {"data": "sums-pairs", "tuning": "full", "learning_rate": 1e-3, "steps": 120},
        "other": {"data": "story-pairs", "learning_rate": 1e-4, "microbatch_size": 8, "pairs_per_step": 8, "eval_prompts": 64},
    }

    algorithm: Literal["reward_model"] = "reward_model"
    eval_prompts: int = setting(
        300, "Held-out items that are measured each time.", "logging", effect="less noise, more time", ge=1, le=10_000
    )
    margin: float = setting(
        0.0,
        "Margin by which the chosen answer's score must lead, times the strength of the preference.",
        "regularisation",
        effect="scores further apart",
        ge=0,
        le=100,
    )
    center_coef: float = setting(
        0.01, "Weight of a term that keeps the scores of a pair around 0.", "regularisation", effect="scores closer to 0", ge=0, le=10
    )

    @property
    def needs_reference(self) -> bool:
        return False
