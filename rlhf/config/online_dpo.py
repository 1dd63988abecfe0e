"""Settings of DPO on pairs that are sampled and judged while training; the algorithm is rlhf/algorithms/online_dpo.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf.config.base import setting
from rlhf.config.dpo import DPO_VARIANTS
from rlhf.config.online import OnlineConfig

ONLINE_VARIANTS = {name: DPO_VARIANTS[name] for name in ("sigmoid", "hinge", "ipo")}


class OnlineDPOConfig(OnlineConfig):
    """DPO on pairs that are sampled and judged while training; see rlhf/algorithms/online_dpo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 1e-4,
            "prompts_per_step": 64,
            "group_size": 8,
            "max_new_tokens": 4,
            "steps": 120,
            "beta": 0.1,
            "microbatch_size": 512,
            "eval_every": 20,
            "eval_prompts": 256,
            "checkpoint_every": 60,
        },
        "other": {
            "data": "story-prompts",
            "reward": "positive",
            "learning_rate": 5e-5,
            "prompts_per_step": 8,
            "max_new_tokens": 64,
            "microbatch_size": 8,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["online_dpo"] = "online_dpo"
    variant: Literal["sigmoid", "hinge", "ipo"] = setting("sigmoid", "Which loss.", "few", choices=ONLINE_VARIANTS)
    beta: float = setting(
        0.1, "How strongly the implicit reward is tied to the reference.", "few", effect="closer to the reference", gt=0, le=100
    )
    prompts_per_step: int = setting(
        16, "Different prompts in a step; each gives one pair.", "few", unit="prompts", effect="less noise, slower steps", ge=1, le=4096
    )
    group_size: int = setting(
        4,
        "Responses to each prompt; the one with the highest reward is chosen, the one with the lowest rejected.",
        "few",
        unit="responses",
        effect="clearer pairs, slower steps",
        ge=2,
        le=1024,
    )

    @property
    def responses_per_prompt(self) -> int:
        return self.group_size
