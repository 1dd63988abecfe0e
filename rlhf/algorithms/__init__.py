"""The algorithms, one file each. This module only says which there are; it is free of torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError

from rlhf.config import (
    Config,
    DPOConfig,
    GRPOConfig,
    OnlineDPOConfig,
    PPOConfig,
    ReinforceConfig,
    RewardModelConfig,
    RRHFConfig,
    SFTConfig,
    describe_validation,
)
from rlhf.errors import ConfigError
from rlhf.preferences import Kind

CONFIGS: dict[str, type[Config]] = {
    "sft": SFTConfig,
    "reward_model": RewardModelConfig,
    "reinforce": ReinforceConfig,
    "grpo": GRPOConfig,
    "ppo": PPOConfig,
    "dpo": DPOConfig,
    "online_dpo": OnlineDPOConfig,
    "rrhf": RRHFConfig,
}

# What an algorithm trains on: prompts that it answers itself, pairs of answers, or answers to imitate.
DATA: dict[str, Kind] = {
    "sft": "demonstrations",
    "reward_model": "pairs",
    "reinforce": "prompts",
    "grpo": "prompts",
    "ppo": "prompts",
    "dpo": "pairs",
    "online_dpo": "prompts",
    "rrhf": "prompts",
}

# What it makes: a policy, which writes answers, or a reward model, which scores them.
MAKES: dict[str, Literal["policy", "reward model"]] = {name: "reward model" if name == "reward_model" else "policy" for name in CONFIGS}


ABBREVIATIONS = ("sft", "reinforce", "grpo", "ppo", "dpo", "rrhf")


def title(algorithm: str) -> str:
    """As it is written in a sentence: GRPO, Reward model, Online DPO."""
    words = [word.upper() if word in ABBREVIATIONS else word for word in algorithm.split("_")]
    return " ".join(words)[:1].upper() + " ".join(words)[1:]


def writes(algorithm: str) -> bool:
    """Whether a run of it makes a policy, which answers prompts (also of an algorithm that only a later version knows)."""
    return MAKES.get(algorithm, "policy") == "policy"


def make_config(algorithm: str, **fields: Any) -> Config:
    """A validated config. Raises ``ConfigError`` with a plain message for an unknown algorithm or bad settings."""
    if algorithm not in CONFIGS:
        raise ConfigError(f"There is no algorithm “{algorithm}”.", f"Choose one of {', '.join(CONFIGS)}.")
    try:
        return CONFIGS[algorithm](**{**fields, "algorithm": algorithm})
    except ValidationError as error:
        raise describe_validation(error) from None
