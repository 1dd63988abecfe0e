"""Settings of supervised fine-tuning; the algorithm is rlhf/algorithms/sft.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf.config.base import setting
from rlhf.config.offline import OfflineConfig


class SFTConfig(OfflineConfig):
    """Supervised fine-tuning; see rlhf/algorithms/sft.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-pairs", "tuning": "full", "learning_rate": 5e-5, "steps": 40, "append_eos": False},
        "sums": {"data": "sums-pairs", "tuning": "full", "learning_rate": 3e-4, "steps": 120, "examples_per_step": 64},
        "other": {"data": "story-pairs", "learning_rate": 1e-4, "microbatch_size": 8, "examples_per_step": 8, "eval_prompts": 32},
    }

    algorithm: Literal["sft"] = "sft"
    examples_per_step: int = setting(
        32, "Prompts with their answers in a step.", "few", unit="examples", effect="less noise, slower steps", ge=1, le=4096
    )
    append_eos: bool = setting(
        True, "Put the end-of-text token after each answer, so that the model learns to end; off where answers are cut off mid-way.", "data"
    )

    @property
    def items_per_step(self) -> int:
        return self.examples_per_step

    @property
    def needs_reference(self) -> bool:
        return False
