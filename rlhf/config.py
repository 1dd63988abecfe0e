"""The settings of a run: one validated, immutable object per algorithm.

It is the single source of the form on the page, the flags of the command line, ``config.json`` and the explanation of every field.
Defaults follow the model: ``GRPOConfig(model="sums")`` differs from ``GRPOConfig(model="story")`` in whatever was not given.
This module is free of torch, so that a page or the command line can show a form at once.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rlhf.errors import ConfigError

Group = Literal["few", "model", "data", "sampling", "optimisation", "regularisation", "logging"]


def setting(default: Any, description: str, group: Group, *, unit: str = "", effect: str = "", **bounds: Any) -> Any:
    """A field with what the form needs: description, unit, group, what raising it does, and bounds (``ge``, ``le``, …)."""
    return Field(default, description=description, json_schema_extra={"unit": unit, "group": group, "effect": effect}, **bounds)


class RewardTerm(BaseModel):
    """One reward function of a mix, with its weight and its own options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str = Field(description="A reward function of rlhf.rewards.REWARDS.")
    weight: float = Field(default=1.0, description="The reward is multiplied by this before the parts are added.", ge=-100, le=100)
    options: dict[str, Any] = Field(default_factory=dict, description="The reward function's own options.")


def parse_reward(value: Any) -> Any:
    """``"negative"``, ``"negative:1,repetition:-0.5"`` or JSON → a list of terms; anything else is left to pydantic."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(("[", "{")):
        try:
            terms = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not valid JSON: {error}") from None
        return [terms] if isinstance(terms, dict) else terms
    terms = []
    for part in filter(None, re.split(r"[,\s]+", text)):
        name, _, weight = part.partition(":")
        terms.append({"name": name, "weight": weight or 1.0})
    return terms


class Config(BaseModel):
    """Settings that every algorithm has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    # Defaults that depend on the model: {algorithm's own: {model name or "other": {field: value}}}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}

    algorithm: str
    model: str = setting("story", "Embedded model, Hub id, or local folder to start from.", "few")
    steps: int = setting(
        60,
        "Training steps; one step is one batch with all its inner updates.",
        "few",
        unit="steps",
        effect="longer training",
        ge=1,
        le=100_000,
    )
    learning_rate: float = setting(
        1e-4, "Size of the optimizer's steps (AdamW).", "few", effect="faster, until the policy breaks", gt=0, le=1.0
    )
    seed: int = setting(0, "Seed of everything random; the same seed on the same machine gives the same run.", "few", ge=0, le=2**31 - 1)

    adapter_from: str | None = setting(
        None, "Checkpoint of another run to start from, as RUN_ID/step-N; empty: the model as it was released.", "model"
    )
    tuning: Literal["full", "lora"] = setting("lora", "Train all weights, or a small LoRA adapter beside frozen ones.", "model")
    lora_rank: int = setting(16, "Rank of the LoRA matrices.", "model", effect="more capacity and memory", ge=1, le=256)
    lora_alpha: int = setting(
        32, "LoRA's scale: the update is multiplied by alpha / rank.", "model", effect="stronger adapter", ge=1, le=1024
    )
    lora_targets: str = setting(
        "all-linear", "Layers that get an adapter: 'all-linear', or names separated by commas (q_proj,v_proj).", "model"
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = setting("auto", "Where to train; auto takes a GPU if there is one.", "model")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Number format; auto is bfloat16 on a CUDA GPU and float32 elsewhere.", "model"
    )

    data: str = setting("", "Name of an embedded data set, or path of a file; 'custom' for data edited in the page.", "data")
    heldout: str = setting("", "File of held-out data; empty: the set's own, or a tenth of the data split off by prompt.", "data")

    warmup_steps: int = setting(0, "Steps over which the learning rate rises from 0.", "optimisation", unit="steps", ge=0, le=10_000)
    learning_rate_schedule: Literal["constant", "linear"] = setting(
        "constant", "Keep the learning rate, or let it fall to 0 at the last step; less noise at the end.", "optimisation"
    )
    max_grad_norm: float = setting(
        1.0, "Gradients are scaled down to this norm.", "optimisation", effect="larger single steps", gt=0, le=1000
    )
    weight_decay: float = setting(0.0, "AdamW's weight decay.", "optimisation", effect="weights pulled to zero", ge=0, le=1)
    microbatch_size: int = setting(
        64,
        "Sequences in one forward and backward pass; gradients are added up over the batch.",
        "optimisation",
        unit="sequences",
        effect="faster, more memory",
        ge=1,
        le=4096,
    )

    eval_every: int = setting(
        10, "Steps between measurements on held-out data; 0: only at the start and the end.", "logging", unit="steps", ge=0, le=10_000
    )
    eval_prompts: int = setting(
        64, "Held-out prompts or pairs that are measured each time.", "logging", effect="less noise, more time", ge=1, le=10_000
    )
    checkpoint_every: int = setting(20, "Steps between checkpoints.", "logging", unit="steps", effect="fewer checkpoints", ge=1, le=10_000)
    sample_prompts: int = setting(
        2,
        "Prompts of each step that are kept with all their responses, token by token.",
        "logging",
        effect="more to look at, larger run folder",
        ge=0,
        le=64,
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_model(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        model = given.get("model") or cls.model_fields["model"].default
        preset = cls.PRESETS.get(model, cls.PRESETS.get("other", {}))
        return {**preset, **given}

    @classmethod
    def default_for(cls, model: str) -> Self:
        """The settings of this algorithm for a model, with nothing chosen."""
        return cls(model=model)  # pyright: ignore[reportCallIssue]

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Field → (default for this model, value), for the fields that differ from the defaults."""
        default = self.default_for(self.model)
        return {
            name: (getattr(default, name), getattr(self, name))
            for name in type(self).model_fields
            if getattr(default, name) != getattr(self, name)
        }


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


class GRPOConfig(OnlineConfig):
    """Group-relative policy optimisation; see rlhf/algorithms/grpo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 3e-4,
            "learning_rate_schedule": "linear",
            "prompts_per_step": 32,
            "group_size": 16,
            "max_new_tokens": 4,
            "steps": 180,
            "beta": 0.0,
            "microbatch_size": 512,
            "eval_every": 20,
            "eval_prompts": 256,
            "checkpoint_every": 60,
        },
        "other": {
            "data": "story-prompts",
            "reward": "positive",
            "learning_rate": 5e-5,
            "prompts_per_step": 4,
            "max_new_tokens": 64,
            "microbatch_size": 16,
            "beta": 0.04,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["grpo"] = "grpo"
    group_size: int = setting(
        8,
        "Responses to each prompt; the group's mean is the baseline.",
        "few",
        unit="responses",
        effect="better baseline, slower steps",
        ge=2,
        le=1024,
    )
    epsilon_low: float = setting(
        0.2, "A probability ratio below 1 − ε is not pushed further down.", "regularisation", effect="larger policy changes", gt=0, lt=1
    )
    epsilon_high: float = setting(
        0.2, "A probability ratio above 1 + ε is not pushed further up.", "regularisation", effect="larger policy changes", gt=0, le=10
    )
    scale_rewards: Literal["group", "batch", "none"] = setting(
        "group", "Divide advantages by the standard deviation of the group, of the batch, or not.", "regularisation"
    )
    variant: Literal["grpo"] = setting("grpo", "Which form of the loss.", "regularisation")

    @property
    def responses_per_prompt(self) -> int:
        return self.group_size


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


class DPOConfig(Config):
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
    pairs_per_step: int = setting(32, "Preference pairs in a step.", "few", unit="pairs", effect="less noise, slower steps", ge=1, le=4096)
    eval_prompts: int = setting(
        200, "Held-out pairs that are measured each time.", "logging", unit="pairs", effect="less noise, more time", ge=1, le=10_000
    )
    max_response_tokens: int = setting(128, "Answers are cut to this length.", "data", unit="tokens", effect="slower steps", ge=1, le=4096)
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


class SFTConfig(Config):
    """Supervised fine-tuning; see rlhf/algorithms/sft.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-pairs", "tuning": "full", "learning_rate": 3e-4, "steps": 40, "append_eos": False},
        "sums": {"data": "sums-pairs", "tuning": "full", "learning_rate": 3e-4, "steps": 120, "examples_per_step": 64},
        "other": {"data": "story-pairs", "learning_rate": 1e-4, "microbatch_size": 8, "examples_per_step": 8, "eval_prompts": 32},
    }

    algorithm: Literal["sft"] = "sft"
    examples_per_step: int = setting(
        32, "Prompts with their answers in a step.", "few", unit="examples", effect="less noise, slower steps", ge=1, le=4096
    )
    eval_prompts: int = setting(
        200, "Held-out examples that are measured each time.", "logging", unit="examples", effect="less noise, more time", ge=1, le=10_000
    )
    max_response_tokens: int = setting(128, "Answers are cut to this length.", "data", unit="tokens", effect="slower steps", ge=1, le=4096)
    append_eos: bool = setting(
        True, "Put the end-of-text token after each answer, so that the model learns to end; off where answers are cut off mid-way.", "data"
    )


class RewardModelConfig(Config):
    """A reward model trained on preference pairs; see rlhf/algorithms/reward_model.py."""

    PRESETS: ClassVar = {
        "story": {
            "data": "story-pairs",
            "tuning": "full",
            "learning_rate": 1e-3,
            "learning_rate_schedule": "linear",
            "steps": 20,
            "eval_every": 5,
        },
        "sums": {"data": "sums-pairs", "tuning": "full", "learning_rate": 1e-3, "steps": 120},
        "other": {"data": "story-pairs", "learning_rate": 1e-4, "microbatch_size": 8, "pairs_per_step": 8, "eval_prompts": 64},
    }

    algorithm: Literal["reward_model"] = "reward_model"
    pairs_per_step: int = setting(32, "Preference pairs in a step.", "few", unit="pairs", effect="less noise, slower steps", ge=1, le=4096)
    eval_prompts: int = setting(
        300, "Held-out pairs that are measured each time.", "logging", unit="pairs", effect="less noise, more time", ge=1, le=10_000
    )
    max_response_tokens: int = setting(128, "Answers are cut to this length.", "data", unit="tokens", effect="slower steps", ge=1, le=4096)
    margin: float = setting(
        0.0,
        "Margin by which the chosen answer's score must lead, times the strength of the preference.",
        "regularisation",
        effect="scores further apart",
        ge=0,
        le=100,
    )
    center_coef: float = setting(
        0.01, "Weight of a term that keeps the scores of a pair around 0.", "regularisation", effect="scores closer to 0", ge=0, le=10
    )


def describe_validation(error: ValidationError) -> ConfigError:
    """The first problems of a pydantic error, in words: field, what was given, what is allowed."""
    lines = []
    for item in error.errors()[:4]:
        field = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in {"extra_forbidden", "missing"} or not field else f" (given: {item['input']!r})"
        lines.append(f"{field}: {message}{given}" if field else message)
    return ConfigError("These settings cannot be used: " + "; ".join(lines) + ".", "Change them and start again.")
