"""Settings that every algorithm has, and what a setting is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from rlhf.errors import ConfigError

Group = Literal["few", "model", "data", "sampling", "optimisation", "regularisation", "logging"]


class Variant(NamedTuple):
    """One choice of a setting. ``formula``: LaTeX; ``when``: when one would want it; ``source``: (paper and equation, link)."""

    formula: str
    when: str
    source: tuple[str, str]


Only = Mapping[str, tuple[Any, ...]]


def setting(
    default: Any,
    description: str,
    group: Group,
    *,
    unit: str = "",
    effect: str = "",
    only: Only | None = None,
    choices: Mapping[Any, Variant] | None = None,
    **bounds: Any,
) -> Any:
    """A field with what the form needs: description, unit, group, what raising it does, and bounds (``ge``, ``le``, …).

    ``only``: {other field: values} under which the setting has an effect; with any other value it may not be changed and is not shown.
    ``choices``: what each value of a choice means.
    """
    extra = {"unit": unit, "group": group, "effect": effect, "only": only or {}, "choices": choices or {}}
    return Field(default, description=description, json_schema_extra=cast(Any, extra), **bounds)


def extra_of(field: FieldInfo) -> Mapping[str, Any]:
    """What ``setting`` knows of a field beside its type."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def has_effect(field: FieldInfo, values: Mapping[str, Any]) -> bool:
    """Whether a setting has an effect beside the other fields' ``values``."""
    return all(values.get(name) in allowed for name, allowed in extra_of(field).get("only", {}).items())


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


def spelled_reward(terms: Sequence[RewardTerm]) -> str:
    """The text that ``parse_reward`` reads as these terms: JSON only where there are options."""
    if any(term.options for term in terms):
        return json.dumps([term.model_dump() for term in terms], ensure_ascii=False)
    return ",".join(f"{term.name}:{term.weight:g}" for term in terms)


def model_reward(source: str) -> tuple[RewardTerm, ...]:
    """The score of one reward model and nothing else. ``source``: a run's id, ``RUN_ID/step-N``, a folder or a Hub id."""
    return (RewardTerm(name="reward_model", options={"source": source}),)


LORA: Only = {"tuning": ("lora",)}


class Config(BaseModel):
    """Settings that every algorithm has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    # Defaults that depend on the model: {algorithm's own: {model name or "other": {field: value}}}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    # Defaults that a choice brings along, as its paper has them: {field: {value: {other field: its default}}}
    CHOICE_DEFAULTS: ClassVar[dict[str, dict[Any, dict[str, Any]]]] = {}

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
    lora_rank: int = setting(16, "Rank of the LoRA matrices.", "model", effect="more capacity and memory", only=LORA, ge=1, le=256)
    lora_alpha: int = setting(
        32, "LoRA's scale: the update is multiplied by alpha / rank.", "model", effect="stronger adapter", only=LORA, ge=1, le=1024
    )
    lora_targets: str = setting(
        "all-linear", "Layers that get an adapter: 'all-linear', or names separated by commas (q_proj,v_proj).", "model", only=LORA
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
        preset = dict(cls.PRESETS.get(model, cls.PRESETS.get("other", {})))
        for name, brings in cls.CHOICE_DEFAULTS.items():
            preset |= brings.get(given.get(name, preset.get(name, cls.model_fields[name].default)), {})
        return {**preset, **given}

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        """A setting that the others make meaningless must be left alone: whoever changes it expects something of it."""
        values = dict(self)
        preset = self.PRESETS.get(self.model, self.PRESETS.get("other", {}))
        for name, field in type(self).model_fields.items():
            if not has_effect(field, values) and values[name] not in (field.default, preset.get(name, field.default)):
                needs = " and ".join(f"{other} {' or '.join(map(str, allowed))}" for other, allowed in extra_of(field)["only"].items())
                raise ValueError(f"{name} = {values[name]!r} has no effect here: it belongs to {needs}; leave it at {field.default!r}")
        return self

    @property
    def needs_reference(self) -> bool:
        """Whether the model as it was must stay in memory beside the trained one."""
        return True

    @classmethod
    def default_for(cls, model: str, **choices: Any) -> Self:
        """The settings of this algorithm for a model, with nothing chosen but ``choices``."""
        return cls(model=model, **choices)  # pyright: ignore[reportCallIssue]

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Field → (default for this model and these choices, value), for the fields that differ from the defaults."""
        choices = {name: getattr(self, name) for name in self.CHOICE_DEFAULTS}
        default, untouched = self.default_for(self.model, **choices), self.default_for(self.model)
        standard = {name: getattr(untouched if name in choices else default, name) for name in type(self).model_fields}
        return {name: (usual, getattr(self, name)) for name, usual in standard.items() if usual != getattr(self, name)}


def describe_validation(error: ValidationError) -> ConfigError:
    """The first problems of a pydantic error, in words: field, what was given, what is allowed."""
    lines = []
    for item in error.errors()[:4]:
        field = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in {"extra_forbidden", "missing"} or not field else f" (given: {item['input']!r})"
        lines.append(f"{field}: {message}{given}" if field else message)
    return ConfigError("These settings cannot be used: " + "; ".join(lines) + ".", "Change them and start again.")
