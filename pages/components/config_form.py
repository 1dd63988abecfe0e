"""Widgets for a config, made from the class itself: one for each field by its type, with its description, range and effect.

A field's widget has the key ``"grpo.steps"``; the key is also its name in the link, so a link holds exactly what differs from the model's
defaults. Widgets have no bounds of their own: whatever is typed goes through the config's validation, and what it refuses is said below
the field. So the numbers on the screen are always those that would be used, or refused.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from streamlit.delta_generator import DeltaGenerator

from pages.components import choice
from pages.components.i18n import _
from pages.components.text import plain
from rlhf.algorithms import CONFIGS
from rlhf.config import Config, Variant, extra_of, has_effect

# These have editors of their own on the page, or nothing to choose.
ELSEWHERE = ("algorithm", "model", "adapter_from", "data", "heldout", "reward", "gold")
GROUPS = {
    "model": "Weights and device",
    "data": "Data",
    "sampling": "Sampling",
    "optimisation": "Optimisation",
    "regularisation": "Loss and regularisation",
    "logging": "Measuring and saving",
}
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
}
_BOUND_WORDS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "too_short": "must not be empty",
    "string_too_long": "is too long",
}
# Why a bound is where it is, where the number alone does not say.
_REASONS = {"group_size": "one response alone has no group to be compared with"}


def key(algorithm: str, field: str) -> str:
    """The widget's key, and its name in the link."""
    return f"{algorithm}.{field}"


def label(field: str) -> str:
    return _(LABELS.get(field) or field.replace("_", " ").capitalize())


Choices = tuple[tuple[str, Any], ...]


@functools.lru_cache(maxsize=256)
def _defaults(algorithm: str, model: str, chosen: Choices) -> Config:
    return CONFIGS[algorithm].default_for(model, **dict(chosen))


def defaults(algorithm: str, model: str, settings: Mapping[str, Any] | None = None) -> Config:
    """The settings for a model with nothing changed but the choices that bring defaults along: those of ``settings``, or the form's."""
    return _defaults(algorithm, model, _chosen(algorithm, settings))


def _unchosen(algorithm: str, model: str, field: str) -> Any:
    """What a field is for a model before any choice: of a choice that brings defaults along, its own default."""
    return getattr(_defaults(algorithm, model, ()) if field in CONFIGS[algorithm].CHOICE_DEFAULTS else defaults(algorithm, model), field)


def _chosen(algorithm: str, settings: Mapping[str, Any] | None = None) -> Choices:
    cls = CONFIGS[algorithm]
    form = st.session_state
    wanted = {name: form.get(key(algorithm, name)) if settings is None else settings.get(name) for name in cls.CHOICE_DEFAULTS}
    # a link can name anything
    return tuple((name, value) for name, value in wanted.items() if value in kind_of(cls.model_fields[name].annotation)[1])


# ---------------------------------------------------------------- a field's widget


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
                bound[name] = _bound(value)
    low = bound.get("ge") or ("gt" in bound and _("more than {value}").format(value=bound["gt"])) or ""
    high = bound.get("le") or ("lt" in bound and _("less than {value}").format(value=bound["lt"])) or ""
    if low and high:
        return _("{low} to {high}").format(low=low, high=high)
    if low and "gt" not in bound:
        return _("{low} or more").format(low=low)
    return low or (high if "lt" in bound or not high else _("{high} or less").format(high=high))


def _bound(value: Any) -> str:
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


# ---------------------------------------------------------------- the form


def fields_of(algorithm: str, model: str, group: str) -> list[str]:
    """The fields of a group that have something to choose beside the form's other values, in the order of the class."""
    now = values(algorithm, model)

    def worth_showing(name: str, field: FieldInfo) -> bool:
        in_group = name not in ELSEWHERE and extra_of(field).get("group") == group
        return in_group and len(kind_of(field.annotation)[1]) != 1 and has_effect(field, now)

    return [name for name, field in CONFIGS[algorithm].model_fields.items() if worth_showing(name, field)]


def fields(algorithm: str, model: str, names: Iterable[str]) -> dict[str, DeltaGenerator]:
    """Draw the widgets of some fields in a grid; returns the cell of each, where a problem can be written later."""
    cls = CONFIGS[algorithm]
    cells: dict[str, DeltaGenerator] = {}
    grid = st.grid(4, min_column_width=132, gap=("xsmall", "small"))
    for name in names:
        cells[name] = grid.cell()
        with cells[name]:
            field, standard, widget = cls.model_fields[name], _unchosen(algorithm, model, name), key(algorithm, name)
            if name in choice.NAMES:
                choice.select(label(name), kind_of(field.annotation)[1], standard, name, widget, explanation(field, show(standard, name)))
            else:
                field_widget(field, name=widget, title=label(name), default=standard)
    return cells


def more(algorithm: str, model: str) -> dict[str, DeltaGenerator]:
    """All the other settings, group by group."""
    cells: dict[str, DeltaGenerator] = {}
    for group, title in GROUPS.items():
        names = fields_of(algorithm, model, group)
        if names:
            st.markdown(f"**{_(title)}**")
            cells |= fields(algorithm, model, names)
            choices(algorithm, model, names, quiet=True)
    return cells


def choices(algorithm: str, model: str, names: Iterable[str], quiet: bool = False) -> None:
    """What the choices that were made mean: the formula, when one would want it, and where it comes from.

    ``quiet``: those that are the model's defaults behind a button.
    """
    now, fields_by_name = values(algorithm, model), CONFIGS[algorithm].model_fields
    offered: dict[str, Mapping[Any, Variant]] = {name: extra_of(fields_by_name[name]).get("choices") or {} for name in names}
    meanings = {name: choices_of[now[name]] for name, choices_of in offered.items() if choices_of and now[name] in choices_of}
    usual = [name for name in meanings if quiet and now[name] == _unchosen(algorithm, model, name)]
    for name, meaning in meanings.items():
        if name not in usual:
            _meaning(algorithm, name, now[name], meaning)
    if usual:
        with st.popover(_("These choices as formulas"), icon=":material/function:", type="tertiary"):
            for name in usual:
                _meaning(algorithm, name, now[name], meanings[name])


def _meaning(algorithm: str, name: str, value: Any, variant: Variant) -> None:
    title, link = variant.source
    with st.container(gap="xsmall", key=f"choice-{algorithm}-{name}"):
        st.latex(variant.formula)
        words = _("**{field}: {choice}.** {when} ([{title}]({link}))")
        called = plain(show(value, name))
        st.caption(words.format(field=label(name), choice=called, when=_(variant.when), title=title, link=link))


def values(algorithm: str, model: str) -> dict[str, Any]:
    """The fields' values as they stand in the session, or the model's defaults; a field that the others hide has its default."""
    standard, known = defaults(algorithm, model), CONFIGS[algorithm].model_fields
    now = {name: st.session_state.get(key(algorithm, name), getattr(standard, name)) for name in known if name not in ELSEWHERE}
    for name in now:
        if not has_effect(known[name], now):
            now[name] = getattr(standard, name)
    return now


def read_from_link(algorithm: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the widgets that were drawn between two looks at the values have brought others along, for the first time."""
    new = before != after and st.session_state.get(f"{algorithm}/read-from-link") != after
    if new:
        st.session_state[f"{algorithm}/read-from-link"] = dict(after)
    return new


def build(algorithm: str, given: Mapping[str, Any]) -> tuple[Config | None, dict[str, str]]:
    """The config, or what is wrong by field ("" : the combination) in words that name the field."""
    try:
        return CONFIGS[algorithm](**{**given, "algorithm": algorithm}), {}
    except ValidationError as error:
        return None, problems(error, CONFIGS[algorithm])


def problems(error: ValidationError, cls: type[BaseModel]) -> dict[str, str]:
    """Field → why its value is refused, in a few words ("must be at least 2"); "" is the key of what concerns several fields."""
    found: dict[str, str] = {}
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] and str(item["loc"][0]) in cls.model_fields else ""
        words = _BOUND_WORDS.get(item["type"])
        bounds = {part: _bound(value) for part, value in item.get("ctx", {}).items()}
        message = _(words).format(**bounds) if words else _(item["msg"].removeprefix("Value error, "))
        if name in _REASONS:
            message = f"{message}: {_(_REASONS[name])}"
        found.setdefault(name, message)
    return found


def sentences(wrong: Mapping[str, str]) -> list[str]:
    """Each problem with the name of its field."""
    words = [f"{label(name)} {message}." if name else f"{message[:1].upper()}{message[1:]}." for name, message in wrong.items()]
    return [text.replace("..", ".") for text in words]


def mark(cells: Mapping[str, DeltaGenerator], wrong: Mapping[str, str]) -> None:
    """Write each problem below its field."""
    for name, message in wrong.items():
        if name in cells:
            cells[name].markdown(f":small[:red[{plain(message)}]]")


# ---------------------------------------------------------------- defaults that follow the model, presets


def follow(algorithm: str, before: str, now: str) -> None:
    """Another model: fields that still had the old model's default get the new one's; what the user set stays.

    To be called before the widgets are drawn.
    """
    _follow(algorithm, defaults(algorithm, before), defaults(algorithm, now))


def follow_choices(algorithm: str, model: str) -> None:
    """Another choice that brings defaults along: they come in as another model's do. To be called before the widgets are drawn."""
    for name, field in CONFIGS[algorithm].model_fields.items():
        if name in choice.NAMES:
            choice.follow_link(key(algorithm, name), kind_of(field.annotation)[1])
    now = _chosen(algorithm)
    before = st.session_state.setdefault(f"{algorithm}/choices-before", now)
    if before != now:
        st.session_state[f"{algorithm}/choices-before"] = now
        _follow(algorithm, _defaults(algorithm, model, before), _defaults(algorithm, model, now))


def _follow(algorithm: str, old: Config, new: Config) -> None:
    for name in CONFIGS[algorithm].model_fields:
        if name in ELSEWHERE or name in new.CHOICE_DEFAULTS:
            continue
        if st.session_state.get(key(algorithm, name), getattr(old, name)) == widget_value(getattr(old, name)):
            st.session_state[key(algorithm, name)] = widget_value(getattr(new, name))


def fill(algorithm: str, settings: Mapping[str, Any]) -> None:
    """Set the form's fields; in a callback, or before the widgets are drawn."""
    for name, value in settings.items():
        if name in CONFIGS[algorithm].model_fields and name not in ELSEWHERE:
            st.session_state[key(algorithm, name)] = widget_value(value)
    st.session_state[f"{algorithm}/choices-before"] = _chosen(algorithm)  # these settings need no defaults of their own


def widget_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
