"""Settings of proximal policy optimisation with a learned critic; the algorithm is rlhf/algorithms/ppo.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf.config.base import setting
from rlhf.config.online import OnlineConfig


class PPOConfig(OnlineConfig):
    """Proximal policy optimisation with a learned critic; see rlhf/algorithms/ppo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4, "value_learning_rate": 1e-3},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 3e-4,
            "value_learning_rate": 1e-3,
            "prompts_per_step": 256,
            "samples_per_prompt": 2,
            "max_new_tokens": 4,
            "steps": 120,
            "beta": 0.01,
            "microbatch_size": 512,
            "eval_every": 20,
            "eval_prompts": 256,
            "checkpoint_every": 60,
        },
        "other": {
            "data": "story-prompts",
            "reward": "positive",
            "learning_rate": 3e-5,
            "prompts_per_step": 16,
            "samples_per_prompt": 1,
            "max_new_tokens": 64,
            "microbatch_size": 16,
            "beta": 0.05,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["ppo"] = "ppo"
    prompts_per_step: int = setting(
        32, "Different prompts in a step.", "few", unit="prompts", effect="less noise, slower steps", ge=1, le=4096
    )
    samples_per_prompt: int = setting(2, "Responses to each prompt.", "sampling", unit="responses", effect="slower steps", ge=1, le=1024)
    epochs: int = setting(
        2,
        "Times that a batch is gone through (inner epochs).",
        "optimisation",
        effect="more from each sample, further off-policy",
        ge=1,
        le=64,
    )
    clip_range: float = setting(
        0.2, "The probability ratio is clipped to 1 ± this.", "regularisation", effect="larger policy changes", gt=0, lt=1
    )
    value_clip_range: float = setting(
        0.2, "The critic's new estimate is clipped to the old one ± this.", "regularisation", effect="faster critic", gt=0, le=100
    )
    value_coef: float = setting(
        0.5,
        "Weight of the critic's loss.",
        "regularisation",
        effect="faster critic, at the policy's cost where they share weights",
        ge=0,
        le=100,
    )
    value_learning_rate: float = setting(1e-3, "Learning rate of the value head.", "optimisation", effect="faster critic", gt=0, le=1)
    entropy_coef: float = setting(0.0, "Bonus for the entropy of the policy.", "regularisation", effect="more exploration", ge=0, le=10)
    gamma: float = setting(1.0, "Discount of later rewards.", "regularisation", effect="sees further ahead", ge=0, le=1)
    lam: float = setting(
        0.95, "GAE's λ: 0 trusts the critic, 1 the sampled return.", "regularisation", effect="less bias, more variance", ge=0, le=1
    )
    whiten_advantages: bool = setting(True, "Scale the advantages of a batch to mean 0 and deviation 1.", "regularisation")

    @property
    def responses_per_prompt(self) -> int:
        return self.samples_per_prompt
