"""Settings of the algorithms that sample from the policy while they train it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import field_validator, model_validator

from rlhf.config.base import Config, RewardTerm, parse_reward, setting


class OnlineConfig(Config):
    """Settings of the algorithms that sample from the policy while they train it."""

    reward: tuple[RewardTerm, ...] = setting((RewardTerm(name="negative"),), "Reward functions and their weights.", "few", min_length=1)
    gold: tuple[RewardTerm, ...] = setting(
        (),
        "A second reward that is measured beside the first and never trained on: to see whether the first is being fooled.",
        "logging",
    )
    beta: float = setting(
        0.1,
        "Strength of the pull towards the reference (KL coefficient).",
        "few",
        effect="closer to the reference, smaller reward",
        ge=0,
        le=10,
    )
    prompts_per_step: int = setting(
        8, "Different prompts in a step.", "few", unit="prompts", effect="less noise, slower steps", ge=1, le=4096
    )

    max_new_tokens: int = setting(48, "Longest response.", "sampling", unit="tokens", effect="longer texts, slower steps", ge=1, le=4096)
    temperature: float = setting(
        1.0, "Temperature of sampling; log-probabilities are taken at the same temperature.", "sampling", effect="more variety", gt=0, le=5
    )
    top_p: float = setting(1.0, "Sample from the smallest set of tokens with this much probability; 1: from all.", "sampling", gt=0, le=1)
    top_k: int = setting(0, "Sample from the k most probable tokens; 0: from all.", "sampling", unit="tokens", ge=0, le=100_000)
    stop: tuple[str, ...] = setting((), "A response ends at the first of these strings.", "sampling")

    epochs: int = setting(
        1,
        "Times that a batch is gone through (inner epochs).",
        "optimisation",
        effect="more from each sample, further off-policy",
        ge=1,
        le=64,
    )
    minibatches: int = setting(
        1, "Optimizer updates that each inner epoch is split into.", "optimisation", effect="more, noisier updates", ge=1, le=256
    )

    @field_validator("reward", "gold", mode="before")
    @classmethod
    def _reward(cls, value: Any) -> Any:
        return parse_reward(value)

    @field_validator("stop", mode="before")
    @classmethod
    def _stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) and value else value or ()

    @property
    def responses_per_prompt(self) -> int:
        raise TypeError(f"{type(self).__name__} must say how many responses a prompt gets")

    @property
    def further_passes(self) -> float:
        """Forward passes over a batch (a backward pass is two) beside those of the updates and of the reference; for the estimate."""
        return int(self.epochs * self.minibatches > 1)

    @property
    def further_answers(self) -> float:
        """What is decoded beside the responses that are trained on, as a share of them; for the estimate."""
        return 0.0

    @property
    def further_gradients(self) -> int:
        """Gradients that are held beside the one of the update; for the estimate of memory."""
        return 0

    @model_validator(mode="after")
    def _whole_minibatches(self) -> Self:
        n = self.prompts_per_step * self.responses_per_prompt
        if n % self.minibatches:
            raise ValueError(
                f"a step has {n} responses ({self.prompts_per_step} prompts × {self.responses_per_prompt}), "
                f"which {self.minibatches} minibatches do not divide: choose a divisor of {n}"
            )
        if self.top_p < 1 and self.top_k == 1:
            raise ValueError("top_k = 1 leaves one token to choose, so nothing is explored: raise top_k")
        return self
