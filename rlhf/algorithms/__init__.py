"""The algorithms, one file each. This module only says which there are; it is free of torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError

from rlhf.config import Config, DPOConfig, GRPOConfig, PPOConfig, describe_validation
from rlhf.errors import ConfigError

CONFIGS: dict[str, type[Config]] = {"grpo": GRPOConfig, "ppo": PPOConfig, "dpo": DPOConfig}

# What an algorithm trains on: prompts that it answers itself ("online"), or pairs of answers ("preference").
KIND: dict[str, Literal["online", "preference"]] = {"grpo": "online", "ppo": "online", "dpo": "preference"}


def make_config(algorithm: str, **fields: Any) -> Config:
    """A validated config. Raises ``ConfigError`` with a plain message for an unknown algorithm or bad settings."""
    if algorithm not in CONFIGS:
        raise ConfigError(f"There is no algorithm “{algorithm}”.", f"Choose one of {', '.join(CONFIGS)}.")
    try:
        return CONFIGS[algorithm](**{**fields, "algorithm": algorithm})
    except ValidationError as error:
        raise describe_validation(error) from None
