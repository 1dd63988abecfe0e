"""Which networks a method keeps in memory, in this app and as the textbook draws it; and its memory, moment by moment.

What this app does is counted by ``rlhf.memory``, which the estimate before a run uses too. The textbook's setting is made of the same
terms with a network of its own for each role: policy, frozen reference, reward model, critic (Ouyang et al. 2022, §3.5,
https://arxiv.org/abs/2203.02155; "four models", Zheng et al. 2023, figure 2, https://arxiv.org/abs/2307.04964).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from rlhf import memory
from rlhf.algorithms import make_config
from rlhf.architecture import Architecture
from rlhf.config import Config, OnlineConfig, PairsConfig, RewardModelConfig, model_reward
from rlhf.memory import Moment

Role = Literal["policy", "reference", "reward_model", "critic"]

METHODS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sft": {"algorithm": "sft"},
        "reward_model": {"algorithm": "reward_model"},
        "ppo": {"algorithm": "ppo"},
        "dpo": {"algorithm": "dpo"},
        "grpo": {"algorithm": "grpo"},
        # the gradient's variance, which this app measures beside, is left out: it is no part of the method
        "rloo": {"algorithm": "reinforce", "baseline": "leave_one_out", "returns": "trajectory", "variance_groups": 0},
    }
)
"""The lab's methods: what is set in the config to get them."""


@dataclass(frozen=True)
class Setting:
    """``prompts``·``group`` responses a step, ``microbatch`` of them in one pass; tokens of ``prompt`` and ``answer``; ``rank`` of LoRA, 0:
    all weights; ``dtype`` of the numbers; ``scored``: whether a reward model gives the rewards (or a rule, which is no network);
    ``critic``: whether PPO has one; ``reference``: whether DPO has one (SimPO has none)."""

    prompts: int = 8
    group: int = 8
    microbatch: int = 8
    prompt: int = 128
    answer: int = 256
    rank: int = 0
    dtype: str = "float32"
    scored: bool = True
    critic: bool = True
    reference: bool = True

    @property
    def sequences(self) -> int:
        return self.prompts * self.group


def config_of(method: str, setting: Setting, **fields: Any) -> Config:
    """The app's own config for a method with this setting; every method goes through as many sequences. Raises ``ConfigError``."""
    fields = {**METHODS[method], "tuning": "lora" if setting.rank else "full", "dtype": setting.dtype, **fields}
    if setting.rank:
        fields["lora_rank"] = setting.rank
    kind = type(make_config(fields["algorithm"]))
    if issubclass(kind, OnlineConfig):
        size = "group_size" if "group_size" in kind.model_fields else "samples_per_prompt"
        fields |= {"prompts_per_step": setting.prompts, size: setting.group, "max_new_tokens": setting.answer, "minibatches": 1}
        fields |= {"microbatch_size": setting.microbatch}
        if setting.scored:
            fields["reward"] = model_reward("a-run")
    else:
        pairs = issubclass(kind, PairsConfig)
        each = 2 if pairs else 1
        fields["pairs_per_step" if pairs else "examples_per_step"] = max(1, setting.sequences // each)
        fields |= {"microbatch_size": max(1, setting.microbatch // each), "max_response_tokens": setting.answer}
    if method == "ppo" and not setting.critic:
        fields["critic"] = "none"
    if method == "dpo" and not setting.reference:
        fields["variant"] = "simpo"
    return make_config(**fields)


# ---------------------------------------------------------------- networks


@dataclass(frozen=True)
class Network:
    """``own``: the share of a whole network's weights that this role adds (0: nothing, it is there for another role already)."""

    role: Role
    learns: bool
    own: float


def networks(config: Config, model: Architecture, textbook: bool = False) -> list[Network]:
    """The networks that a method asks for, from what its config says of itself; a reward model is one only where a network scores."""
    whole, rank = model.parameters, config.lora_rank if config.tuning == "lora" else 0
    scorer = model.scorer_parameters / whole
    adapter = model.lora_parameters(rank) / whole if rank else 0.0
    found = [Network("policy", True, (scorer if isinstance(config, RewardModelConfig) else 1) + adapter)]
    if config.needs_reference:
        found.append(Network("reference", False, 1.0 if textbook or not rank else 0.0))
    if memory.scores_by_network(config):
        found.append(Network("reward_model", False, scorer))
    if memory.has_critic(config):
        found.append(Network("critic", True, scorer + adapter if textbook else (model.hidden + 1) / whole))
    return found


# ---------------------------------------------------------------- memory


def moments(config: Config, model: Architecture, setting: Setting, textbook: bool = False, device: str = "cpu") -> list[Moment]:
    """A step's moments with bytes by part, as in this app or with separate networks."""
    as_built = memory.moments(config, model, device, setting.prompt, setting.answer)
    return [_separate(moment, config, model, setting, device) for moment in as_built] if textbook else as_built


def _separate(moment: Moment, config: Config, model: Architecture, setting: Setting, device: str) -> Moment:
    """The same moment where every role has a network of its own, and nothing is copied to sample faster."""
    numbers = memory.numbers_of(config, device)
    parts = {part: size for part, size in moment.parts.items() if part not in ("copies", "critic")}
    if config.needs_reference:
        parts["reference"] = model.parameters * numbers.bytes
    if memory.scores_by_network(config):
        parts["reward_model"] = model.scorer_parameters * numbers.bytes
    if memory.has_critic(config):
        whole = model.scorer_parameters
        learn = memory.trained(model, whole, numbers)
        parts["critic"] = whole * numbers.bytes + (learn * numbers.adapter if numbers.rank else 0)
        parts["optimizer"] += 2 * (learn * numbers.adapter - moment.parts["critic"])
        if "gradients" in parts:
            parts["gradients"] += learn * numbers.adapter
        if moment.name == "update":
            shape = memory.shape_of(config, setting.prompt, setting.answer)
            parts["activations"] += memory.activations(model, shape, numbers)
    return Moment(moment.name, {part: parts[part] for part in memory.PARTS if parts.get(part)})


def fullest(method: str, model: Architecture, setting: Setting, textbook: bool = False, device: str = "cpu") -> Moment:
    """The moment at which a method needs most. Raises ``ConfigError`` for a setting that the app's config refuses."""
    return memory.fullest(moments(config_of(method, setting), model, setting, textbook, device))
