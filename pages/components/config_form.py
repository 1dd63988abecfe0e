"""The form of a config, made from the class itself: a widget for each field (setting_widget.py), what is wrong, and its defaults.

A field's widget has the key ``"grpo.steps"``; the key is also its name in the link, so a link holds exactly what differs from the model's
defaults. Widgets have no bounds of their own: whatever is typed goes through the config's validation, and what it refuses is said below
the field. So the numbers on the screen are always those that would be used, or refused.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from streamlit.delta_generator import DeltaGenerator

from pages.components import choice
from pages.components.i18n import _
from pages.components.setting_widget import bound_in_words, explanation, field_widget, kind_of, label, show, widget_value
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
        bounds = {part: bound_in_words(value) for part, value in item.get("ctx", {}).items()}
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
