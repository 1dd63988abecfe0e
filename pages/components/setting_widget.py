"""One setting: its widget by its type, what it is called, and its explanation in words.

Widgets have no bounds of their own: whatever is typed goes through the config's validation (config_form.py).
"""

from __future__ import annotations

import math
import types
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from pages.components import choice
from pages.components.i18n import _
from pages.components.text import plain
from rlhf.config import extra_of

LABELS = {
    "beta": "Beta (KL weight)",
    "lam": "GAE lambda",
    "gamma": "Discount gamma",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_targets": "LoRA layers",
    "variant": "Loss",
    "dtype": "Number format",
    "top_p": "Top-p",
    "top_k": "Top-k",
    "stop": "Stop strings",
    "epsilon_low": "Clip below (epsilon low)",
    "epsilon_high": "Clip above (epsilon high)",
    "max_grad_norm": "Gradient norm at most",
    "max_new_tokens": "New tokens at most",
    "max_response_tokens": "Answer tokens at most",
    "value_coef": "Value loss weight",
    "entropy_coef": "Entropy bonus",
    "importance_sampling_level": "Ratio of",
    "baseline_decay": "Baseline's memory",
    "variance_groups": "Groups for the variance",
    "epochs": "Inner epochs",
    "microbatch_size": "Microbatch",
    "eval_every": "Measure every … steps",
    "eval_prompts": "Held-out items measured",
    "checkpoint_every": "Checkpoint every … steps",
    "sample_prompts": "Prompts kept per step",
    "sft_weight": "Imitation weight",
    "sft_reduction": "Imitation over tokens",
    "n": "Words in a sequence",
    "kl_in": "KL in",
    "kl_estimator": "KL estimator",
    "target_kl": "Stop epochs at KL",
    "missing_eos_penalty": "Missing-end penalty",
    "reward_at": "Reward paid",
    "n_steps": "Rewards before the critic",
    "penalty_coef": "Penalty coefficient",
    "penalty_target": "Penalty target (KL)",
    "append_eos": "Add end of text",
    "use_bias_correction_kl": "Unbiased KL",
    "mask_truncated_completions": "Skip cut answers",
    "top_entropy_quantile": "Share of unsure tokens",
    "overlong_buffer": "Length penalty zone",
    "sapo_temperature_pos": "Gate tau, better",
    "sapo_temperature_neg": "Gate tau, worse",
    "f_divergence_type": "Divergence",
    "f_alpha_divergence_coef": "Divergence alpha",
    "average_log_prob": "Mean over tokens",
    "discopop_tau": "DiscoPOP tau",
    "simpo_gamma": "Margin gamma",
    "cpo_alpha": "Imitation weight",
    "desirable_weight": "Weight of chosen",
    "undesirable_weight": "Weight of rejected",
    "ld_alpha": "Weight of extra length",
    "use_weighting": "Weigh pairs (WPO)",
    "sync_ref_model": "Moving reference",
    "ref_model_sync_steps": "Renew every … steps",
    "ref_model_mixup_alpha": "Policy in reference",
    "advantage_estimator": "Advantage estimator",
    "baseline": "Baseline",
    "center_coef": "Centering weight",
    "clip_range": "Clip range",
    "critic": "Critic",
    "device": "Device",
    "dual_clip": "Dual clip",
    "dynamic_sampling": "Dynamic sampling",
    "examples_per_step": "Examples per step",
    "finished": "Ends by itself",
    "group_size": "Group size",
    "label_smoothing": "Label smoothing",
    "learning_rate": "Learning rate",
    "learning_rate_schedule": "Learning rate schedule",
    "margin": "Margin",
    "minibatches": "Minibatches",
    "normalise": "Normalise",
    "objective": "Objective",
    "pairs_per_step": "Pairs per step",
    "pattern": "Pattern",
    "penalty_rule": "Penalty rule",
    "preset": "Preset",
    "prompts_per_step": "Prompts per step",
    "returns": "Returns",
    "samples_per_prompt": "Samples per prompt",
    "scale_rewards": "Scale rewards",
    "seed": "Seed",
    "source": "Source",
    "steps": "Steps",
    "target": "Target",
    "temperature": "Temperature",
    "tuning": "Tuning",
    "unwanted": "Unwanted words",
    "value_clip_range": "Value clip range",
    "value_learning_rate": "Value learning rate",
    "wanted": "Wanted words",
    "warmup_steps": "Warmup steps",
    "weight_decay": "Weight decay",
    "whiten_advantages": "Whiten advantages",
    "width": "Width",
}


def label(field: str) -> str:
    return _(LABELS.get(field) or field.replace("_", " ").capitalize())


def field_widget(field: FieldInfo, *, name: str, title: str, default: Any, bound: bool = True) -> Any:
    """The widget for one field; ``name`` is its key. Returns the value as the config takes it."""
    if isinstance(default, tuple):
        default = list(default)
    kind, options, optional = kind_of(field.annotation)
    common: dict[str, Any] = {
        "key": name,
        "help": explanation(field, default),
        "bind": "query-params" if bound else None,
        "persist_state": "session",
    }
    if options:
        choices = [None, *options] if optional else list(options)
        return st.selectbox(
            title,
            choices,
            index=choices.index(default),
            format_func=lambda choice: _("as the model says") if choice is None else str(choice),
            **common,
        )
    if kind is bool:
        if optional:
            words = {None: _("automatic"), True: _("yes"), False: _("no")}
            return st.selectbox(title, list(words), index=list(words).index(default), format_func=words.__getitem__, **common)
        return st.toggle(title, value=default, **common)
    if kind is int:
        return st.number_input(title, value=default, step=max(1, _nice_step(default)), **common)
    if kind is float:
        value = None if default is None else float(default)
        return st.number_input(title, value=value, step=float(_nice_step(value, whole=False)), format="%g", **common)
    if kind is tuple:
        return tuple(st.multiselect(title, default, default=default, accept_new_options=True, placeholder=_("Type, then Enter"), **common))
    return st.text_input(title, value=default or "", **common) or (None if optional else "")


def kind_of(annotation: Any) -> tuple[type | None, tuple[Any, ...], bool]:
    """(type, the options of a Literal, whether None is allowed)."""
    if hasattr(annotation, "__metadata__"):  # Annotated[...]: the type without what is attached to it
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        kind, options, _none = kind_of(inner[0])
        return kind, options, len(inner) < len(get_args(annotation))
    if get_origin(annotation) is Literal:
        return str, get_args(annotation), False
    return get_origin(annotation) or annotation, (), False


def _nice_step(value: float | None, whole: bool = True) -> float:
    """What + and − change: a tenth to a half of the value, as 1 or 5 times a power of ten."""
    if not value:
        return 1 if whole else 0.01
    power = 10.0 ** math.floor(math.log10(abs(value)))
    step = power / 2 if abs(value) / power < 5 else power
    step = step / 5 if whole else step
    return round(step) if whole else float(f"{step:.1g}")


def explanation(field: FieldInfo, default: Any) -> str:
    """The tooltip: what it is, what raising it does, its range and its default."""
    extra = extra_of(field)
    lines = [_(field.description or "")]
    if extra.get("effect"):
        lines.append(_("Raising it: {effect}.").format(effect=_(str(extra["effect"]))))
    bounds, unit = bounds_in_words(field), _(str(extra.get("unit") or ""))
    if bounds:
        lines.append(_("Range: {bounds} {unit}").format(bounds=bounds, unit=unit).strip() + ".")
    shown = show(default)
    if shown:
        lines.append(_("Default for this model: {value}.").format(value=plain(shown)))
    return "\n\n".join(line for line in lines if line)


def bounds_in_words(field: FieldInfo) -> str:
    """ "2 to 1,024": what the field's own validation asks for, exactly."""
    bound: dict[str, str] = {}
    for item in field.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if (value := getattr(item, name, None)) is not None:
                bound[name] = bound_in_words(value)
    low = bound.get("ge") or ("gt" in bound and _("more than {value}").format(value=bound["gt"])) or ""
    high = bound.get("le") or ("lt" in bound and _("less than {value}").format(value=bound["lt"])) or ""
    if low and high:
        return _("{low} to {high}").format(low=low, high=high)
    if low and "gt" not in bound:
        return _("{low} or more").format(low=low)
    return low or (high if "lt" in bound or not high else _("{high} or less").format(high=high))


def bound_in_words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def show(value: Any, field: str = "") -> str:
    """A setting's value in few letters, or by the name that it has as a value of ``field``."""
    if name := choice.named(field, value):
        return name
    if value is None or value == "" or value == () or value == []:
        return ""
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{v.name}:{v.weight:g}" if hasattr(v, "weight") else str(v) for v in value)
    return str(value)


def widget_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
