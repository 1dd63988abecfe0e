"""The settings of a run: one validated, immutable object per algorithm, one file each.

It is the single source of the form on the page, the flags of the command line, ``config.json`` and the explanation of every field.
Defaults follow the model: ``GRPOConfig(model="sums")`` differs from ``GRPOConfig(model="story")`` in whatever was not given.
Nothing here imports torch.
"""

from rlhf.config.base import (
    Config,
    RewardTerm,
    Variant,
    describe_validation,
    extra_of,
    has_effect,
    model_reward,
    parse_reward,
    setting,
    spelled_reward,
)
from rlhf.config.dpo import DPOConfig
from rlhf.config.grpo import GRPOConfig
from rlhf.config.offline import OfflineConfig, PairsConfig
from rlhf.config.online import OnlineConfig
from rlhf.config.online_dpo import OnlineDPOConfig
from rlhf.config.ppo import PPOConfig
from rlhf.config.reinforce import ReinforceConfig
from rlhf.config.reward_model import RewardModelConfig
from rlhf.config.rrhf import RRHFConfig
from rlhf.config.sft import SFTConfig

__all__ = [
    "Config",
    "DPOConfig",
    "GRPOConfig",
    "OfflineConfig",
    "OnlineConfig",
    "OnlineDPOConfig",
    "PPOConfig",
    "PairsConfig",
    "RRHFConfig",
    "ReinforceConfig",
    "RewardModelConfig",
    "RewardTerm",
    "SFTConfig",
    "Variant",
    "describe_validation",
    "extra_of",
    "has_effect",
    "model_reward",
    "parse_reward",
    "setting",
    "spelled_reward",
]
