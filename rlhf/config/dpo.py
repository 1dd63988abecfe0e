"""Settings of direct preference optimisation; the algorithm is rlhf/algorithms/dpo.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf.config.base import setting
from rlhf.config.offline import PairsConfig


class DPOConfig(PairsConfig):
    """Direct preference optimisation; see rlhf/algorithms/dpo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-pairs", "tuning": "full", "learning_rate": 2e-4, "steps": 40, "append_eos": False},
        "sums": {"data": "sums-pairs", "tuning": "full", "learning_rate": 1e-4},
        "other": {"data": "story-pairs", "learning_rate": 5e-5, "microbatch_size": 8, "pairs_per_step": 8, "eval_prompts": 32},
    }

    algorithm: Literal["dpo"] = "dpo"
    beta: float = setting(
        0.1, "How strongly the implicit reward is tied to the reference.", "few", effect="closer to the reference", gt=0, le=10
    )
    append_eos: bool = setting(True, "Put the end-of-text token after each answer; off where answers are cut off mid-way.", "data")
    variant: Literal["sigmoid"] = setting("sigmoid", "Which form of the loss.", "regularisation")
    label_smoothing: float = setting(
        0.0,
        "Assumed share of pairs that are labelled the wrong way round.",
        "regularisation",
        effect="less trust in the labels",
        ge=0,
        lt=0.5,
    )
