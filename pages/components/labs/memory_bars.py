"""Lab 8, first part: the memory of all methods as bars, which networks are in it, and every part as a formula with its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, theme
from pages.components.i18n import _
from pages.components.labs import memory_formula, setting
from pages.components.labs.memory_setting import GIB, LAB, LARGE, METHODS, Now, ask, preset, size_of
from pages.components.numbers import megabytes, number
from pages.components.text import show_error
from rlhf.architecture import Architecture
from rlhf.errors import ConfigError
from rlhf.labs import memory
from rlhf.memory import PARTS, Moment
from rlhf.memory import fullest as most

TITLES = {
    "weights": _("policy"), "reference": _("reference"), "critic": _("critic"), "reward_model": _("reward model"),
    "gradients": _("gradients"), "optimizer": "AdamW", "cache": _("KV cache"), "copies": _("joined copies"),
    "activations": _("activations"), "logits": "logits", "variance": _("variance"),
}  # fmt: skip
MOMENTS = {"sampling": _("sampling"), "reference": _("reference"), "update": _("update"), "optimizer": "AdamW"}
COLOURS = {
    "weights": theme.BLUE, "reference": theme.GREY, "critic": theme.ORANGE, "reward_model": theme.VERMILLION, "gradients": theme.GREEN,
    "optimizer": theme.SKY, "cache": "#8C6D31", "copies": "#B9A27A", "activations": theme.PURPLE, "logits": theme.YELLOW,
    "variance": "#4D4D4D",
}  # fmt: skip


def draw() -> None:
    _presets()
    left, right = st.columns([2, 3], gap="large")
    with left:
        try:
            now = ask()
        except ConfigError as error:
            show_error(error, icon=":material/edit:")
            return
        _context(now)
    with right:
        steps = {name: _moments(name, now) for name in METHODS}
        _bars({METHODS[name]: most(found) for name, found in steps.items()}, now.limit, "mem/bars")
        _fits(steps, now)
    st.divider()
    method = setting.choice(LAB, "method", _("Look into"), {"ppo": METHODS["ppo"], **METHODS})
    left, right = st.columns([2, 3], gap="large")
    with left:
        _networks(method, now)
    with right:
        st.caption(_("The moments of one of its steps. What one moment needs is given back before the next; the fullest is the bar above."))
        found = steps[method]
        _bars({MOMENTS[moment.name]: moment for moment in found}, now.limit, "mem/moments", legend=False)
    memory_formula.draw(method, now, steps[method], TITLES)


def _moments(method: str, now: Now) -> list[Moment]:
    return memory.moments(memory.config_of(method, now.setting), now.model, now.setting, now.textbook, now.device)


def _presets() -> None:
    large = {"model": LARGE, "device": "80", "dtype": "float32", "scored": True}
    tries = {
        _("Four models"): {**large, "textbook": True, "tuning": "full", "method": "ppo"},
        _("Two models"): {**large, "textbook": False, "tuning": "full", "method": "dpo"},
        _("One and a bit"): {**large, "textbook": False, "tuning": "lora", "dtype": "bfloat16", "method": "dpo", "rank": 16},
        _("On your desk"): {
            "model": "Qwen/Qwen2.5-0.5B-Instruct", "device": "8", "textbook": False, "tuning": "lora", "dtype": "bfloat16", "scored": False,
            "method": "grpo", "rank": 16, "microbatch": 2,
        },
    }  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(_("Try this"), width="content")
        for name, values in tries.items():
            st.button(name, key=f"mem/try/{values['method']}/{values['tuning']}", on_click=preset, kwargs=values)


def _context(now: Now) -> None:
    tokens = now.setting.prompt + now.setting.answer
    if now.model.context and tokens > now.model.context:
        words = _("{title} reads at most {most} tokens, and prompt and answer have {tokens}: the figures are of a model that could.")
        st.info(words.format(title=now.title, most=now.model.context, tokens=tokens), icon=":material/straighten:")


# ---------------------------------------------------------------- the bars


def _bars(rows: dict[str, Moment], limit: int, key: str, legend: bool = True) -> None:
    """Stacked bars, one for each moment in ``rows``, and the device's memory as a line."""
    is_dark, names = theme.dark(), list(rows)
    top = max(moment.total for moment in rows.values())
    unit, word = (GIB, "GiB") if top >= GIB else (2**20, "MiB")
    figure = go.Figure()
    for part in PARTS:
        sizes = [moment.parts.get(part, 0) for moment in rows.values()]
        if any(sizes):
            figure.add_bar(
                x=[size / unit for size in sizes], y=names, name=TITLES[part], orientation="h", showlegend=legend,
                marker={"color": theme.on_ground(COLOURS[part], is_dark)}, customdata=[megabytes(size) for size in sizes],
                hovertemplate=f"{TITLES[part]}: %{{customdata}}<extra>%{{y}}</extra>",
            )  # fmt: skip
    for name, moment in rows.items():
        figure.add_annotation(
            x=moment.total / unit, y=name, text=megabytes(moment.total), showarrow=False, xanchor="left", xshift=4,
            font={"color": theme.ink(is_dark) if moment.total <= limit else theme.on_ground(theme.VERMILLION, is_dark)},
        )  # fmt: skip
    edge = max(top * 1.22, min(limit, top * 2) * 1.02) / unit
    if limit / unit <= edge:
        figure.add_vline(x=limit / unit, line={"color": theme.ink(is_dark), "width": 2, "dash": "dash"})
        text = _("the device: {size}").format(size=megabytes(limit))
        beside = "left" if limit / unit < edge * 0.6 else "right"
        figure.add_annotation(x=limit / unit, y=1, yref="paper", yanchor="bottom", xanchor=beside, text=text, showarrow=False)
    figure.update_layout(
        template=theme.template(is_dark), barmode="stack", height=(120 if legend else 60) + 38 * len(rows), bargap=0.3,
        xaxis={"title": {"text": word}, "range": [0, edge]}, yaxis={"autorange": "reversed"}, margin={"l": 90, "r": 10, "t": 24, "b": 30},
        legend={"orientation": "h", "y": -0.16, "yanchor": "top", "traceorder": "normal"},
    )  # fmt: skip
    charts.still(figure, key=key)


def _fits(steps: dict[str, list[Moment]], now: Now) -> None:
    fitting = [METHODS[name] for name, found in steps.items() if most(found).total <= now.limit]
    words = _("{title}, {size} weights. In {memory} there is room for: **{methods}**.")
    st.markdown(
        words.format(
            title=now.title, size=size_of(now.model.parameters), memory=megabytes(now.limit),
            methods=", ".join(fitting) or _("none of them"),
        )
    )  # fmt: skip
    st.caption(
        _(
            "Each bar is the fullest moment of a step: tensors, without the program itself (about 430 MB) and without what an allocator "
            "keeps in stock. The KV cache and the logits of sampling are given back before the update, so they are in a bar only where "
            "sampling is the fullest moment. This app has no gradient checkpointing; with it the activations would shrink, for one more "
            "forward pass."
        )
    )


# ---------------------------------------------------------------- networks


def _networks(method: str, now: Now) -> None:
    """Which networks there are, and how many whole ones they come to."""
    config = memory.config_of(method, now.setting)
    found = memory.networks(config, now.model, now.textbook)
    whole = sum(network.own for network in found)
    words = (
        _("**{method}** needs one network: **{count} × the weights** of the model.")
        if len(found) == 1
        else _("**{method}** has {roles} roles to fill; in memory they are **{count} × the weights** of one network.")
    )
    st.markdown(words.format(method=METHODS[method], roles=len(found), count=number(whole)))
    st.markdown("\n".join(f"- {line}" for line in _roles(found, now.model)))
    if not now.textbook and whole < len(found) - 0.5:
        st.caption(_("This app shares what it can. Turn the textbook on to see every role with a network of its own."))


def _roles(found: Sequence[memory.Network], model: Architecture) -> list[str]:
    titles = {"policy": _("policy"), "reference": _("reference"), "reward_model": _("reward model"), "critic": _("critic")}
    lines = []
    for network in found:
        does = _("learns: weights, gradients, and two moments of AdamW") if network.learns else _("frozen: weights alone")
        if network.own == 0:
            does = _("nothing more: the policy's own weights with the adapter off")
        elif network.role == "critic" and network.own < 0.5:
            does = _("one more output of the policy: {count} weights").format(count=f"{model.hidden + 1:,}")
        lines.append(f"{titles[network.role]} – {does}")
    return lines
