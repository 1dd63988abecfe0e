"""Settings of group-relative policy optimisation; the algorithm is rlhf/algorithms/grpo.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf.config.base import setting
from rlhf.config.online import OnlineConfig


class GRPOConfig(OnlineConfig):
    """Group-relative policy optimisation; see rlhf/algorithms/grpo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 3e-4,
            "learning_rate_schedule": "linear",
            "prompts_per_step": 32,
            "group_size": 16,
            "max_new_tokens": 4,
            "steps": 180,
            "beta": 0.0,
            "microbatch_size": 512,
            "eval_every": 20,
            "eval_prompts": 256,
            "checkpoint_every": 60,
        },
        "other": {
            "data": "story-prompts",
            "reward": "positive",
            "learning_rate": 5e-5,
            "prompts_per_step": 4,
            "max_new_tokens": 64,
            "microbatch_size": 16,
            "beta": 0.04,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["grpo"] = "grpo"
    group_size: int = setting(
        8,
        "Responses to each prompt; the group's mean is the baseline.",
        "few",
        unit="responses",
        effect="better baseline, slower steps",
        ge=2,
        le=1024,
    )
    epsilon_low: float = setting(
        0.2, "A probability ratio below 1 − ε is not pushed further down.", "regularisation", effect="larger policy changes", gt=0, lt=1
    )
    epsilon_high: float = setting(
        0.2, "A probability ratio above 1 + ε is not pushed further up.", "regularisation", effect="larger policy changes", gt=0, le=10
    )
    scale_rewards: Literal["group", "batch", "none"] = setting(
        "group", "Divide advantages by the standard deviation of the group, of the batch, or not.", "regularisation"
    )
    variant: Literal["grpo"] = setting("grpo", "Which form of the loss.", "regularisation")

    @property
    def responses_per_prompt(self) -> int:
        return self.group_size
