"""Settings of the algorithms that learn from given answers."""

from __future__ import annotations

from rlhf.config.base import Config, setting


class OfflineConfig(Config):
    """Settings of the algorithms that learn from given answers."""

    eval_prompts: int = setting(
        200, "Held-out items that are measured each time.", "logging", effect="less noise, more time", ge=1, le=10_000
    )
    max_response_tokens: int = setting(128, "Answers are cut to this length.", "data", unit="tokens", effect="slower steps", ge=1, le=4096)

    @property
    def items_per_step(self) -> int:
        raise TypeError(f"{type(self).__name__} must say how many items a step takes")


class PairsConfig(OfflineConfig):
    """Settings of the algorithms that learn from pairs of a chosen and a rejected answer."""

    pairs_per_step: int = setting(32, "Preference pairs in a step.", "few", unit="pairs", effect="less noise, slower steps", ge=1, le=4096)

    @property
    def items_per_step(self) -> int:
        return self.pairs_per_step
