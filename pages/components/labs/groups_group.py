"""One group of answers with rewards to drag, and what each method makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.drag_bars import bar_values, drag_bars, set_bars
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.latex import TICK, block, result, tex
from pages.components.numbers import number
from rlhf.labs import group_advantages as ga
from rlhf.labs.mdp import Floats

LAB = "grp"
LIMIT = 2.0
SIZES = (2, 16)
METHODS: dict[ga.Method, tuple[str, str]] = {
    "grpo": ("GRPO", theme.BLUE), "dr_grpo": ("Dr. GRPO", theme.ORANGE), "rloo": ("RLOO", theme.GREEN), "batch": ("", theme.PURPLE),
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """``others``: the rewards of another prompt of the batch; ``picked``: the answer whose numbers are put in."""

    rewards: Floats
    others: Floats
    picked: int

    def advantages(self, method: ga.Method) -> Floats:
        return ga.advantages(self.rewards, method, self.others)


def method_name(method: ga.Method) -> str:
    return METHODS[method][0] or _("Scaled by the batch")


def letters(size: int) -> list[str]:
    return [chr(ord("a") + i) for i in range(size)]


def default_rewards(size: int) -> list[float]:
    """Two right ones, the rest wrong."""
    return [1.0, 0.0, 0.0, 1.0, *[0.0] * SIZES[1]][:size]


def current() -> tuple[Floats, int]:
    """The rewards that are set, in whichever part, and the answer whose numbers are shown."""
    size = int(st.session_state.get(setting.key(LAB, "size"), 6))
    chosen = str(st.session_state.get(f"{setting.key(LAB, 'answer')}/chosen", "a"))
    names = letters(size)
    rewards = bar_values(LAB, "rewards", default_rewards(size), low=-LIMIT, high=LIMIT)
    return np.array(rewards), names.index(chosen) if chosen in names else 0


def _default_others(size: int) -> list[float]:
    return [-1.5 if i % 2 else 1.5 for i in range(size)]


def size_slider() -> int:
    return setting.whole(LAB, "size", _("Answers in a group, G"), *SIZES, 6)


def reward_bars(size: int) -> list[float]:
    title = _("Rewards of the answers")
    return drag_bars(
        LAB, "rewards", title, letters(size), default_rewards(size), low=-LIMIT, high=LIMIT, step=0.1, colours=theme.GREY, height=180
    )


def pick(size: int) -> int:
    """The answer whose numbers are shown."""
    names = letters(size)
    return names.index(setting.choice(LAB, "answer", _("Answer"), {name: name for name in names}))


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown(_("Drag the rewards of one prompt's answers. Above the group's mean is pushed up, below is pushed down."))
        size = size_slider()
        with st.container(horizontal=True, gap="small"):
            for name, words in (
                ("equal", _("All equal")), ("outlier", _("One outlier")), ("one", _("One right of many")), ("but", _("All but one right")),
            ):  # fmt: skip
                st.button(words, key=f"grp/preset/{name}", on_click=_preset, args=(name, size))
        rewards = reward_bars(size)
        with st.expander(_("The batch's other prompt"), icon=":material/tune:"):
            title = _("Rewards of the other prompt's answers")
            names = [f"{name}′" for name in letters(size)]
            others = drag_bars(
                LAB, "others", title, names, _default_others(size), low=-LIMIT, high=LIMIT, step=0.1, colours=theme.PURPLE, height=150
            )
            st.caption(_("Only *scaled by the batch* looks at them: it divides by one standard deviation for all prompts."))
    with right:
        picked = pick(size)
        group = Group(np.array(rewards), np.array(others), picked)
        _explain(group)
        live_figure(_bars(group), key="grp/bars")
        _in_numbers(group)
    st.page_link(
        "grpo.py", label=_("Train with Dr. GRPO on a real model"), icon=":material/arrow_outward:", query_params={"grpo.variant": "dr_grpo"}
    )


def _preset(name: str, size: int) -> None:
    rewards = {
        "equal": [0.5] * size,
        "outlier": [round(0.1 * (i % 3), 2) for i in range(size - 1)] + [LIMIT],
        "one": [1.0] + [0.0] * (size - 1),
        "but": [0.0] + [1.0] * (size - 1),
    }[name]
    set_bars(LAB, "rewards", rewards)


def _explain(group: Group) -> None:
    """What a newcomer should notice about this group, in words."""
    size, spread = len(group.rewards), ga.deviation(group.rewards)
    scaled = group.advantages("grpo")
    highest = int(np.abs(scaled).argmax())
    if spread == 0:
        st.warning(
            _(
                "All rewards are equal: every advantage is 0, whichever method. The group gives no gradient, and the answers were "
                "written for nothing. DAPO's dynamic sampling drops such a group and draws other prompts until the batch is full of "
                "groups that differ."
            )
        )
    elif spread < 0.15:
        st.info(
            _(
                "The rewards hardly differ (standard deviation {spread}), yet GRPO divides by that: differences of {range} become "
                "advantages up to {top}. If they are only noise of the reward, noise is what is learned. Dr. GRPO leaves them small."
            ).format(spread=number(spread), range=number(float(np.ptp(group.rewards))), top=number(float(np.abs(scaled).max())))
        )
    elif size > 2 and abs(scaled[highest]) > 0.97 * (size - 1) / np.sqrt(size):
        st.info(
            _(
                "One answer, {name}, stands apart: its advantage is {top}. With G = {size}, no reward, however far away, gets an advantage "
                "beyond ± (G − 1)/√G = ± {most}. Advantages sum to 0, so the others together get {rest}."
            ).format(
                name=letters(size)[highest],
                top=number(float(scaled[highest])),
                size=size,
                most=number((size - 1) / np.sqrt(size)),
                rest=number(float(-scaled[highest])),
            )
        )
    elif size == 2:
        st.info(_("With two answers GRPO only knows which is better: ± 1/√2 = ± 0.707, by whatever margin."))


def _bars(group: Group) -> Plot:
    is_dark, names = theme.dark(), letters(len(group.rewards))
    plot = Plot()
    for method, (_name, colour) in METHODS.items():
        name = method_name(method)
        plot.bar(
            x=names, y=group.advantages(method), name=name, marker={"color": theme.on_ground(colour, is_dark)},
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    plot.band(group.picked - 0.5, group.picked + 0.5)
    plot.level()
    return plot.lay_out(
        height=330, barmode="group", bargap=0.25,
        xaxis={"title": {"text": _("answer")}, "type": "category"}, yaxis={"title": {"text": _("advantage")}},
    )  # fmt: skip


def _in_numbers(group: Group) -> None:
    rewards, i = group.rewards, group.picked
    name, size, mean = letters(len(rewards))[i], len(rewards), float(rewards.mean())
    spread, batch = ga.deviation(rewards), ga.deviation(np.concatenate([rewards, group.others]))
    others = float((rewards.sum() - rewards[i]) / (size - 1))
    found = {method: float(group.advantages(method)[i]) for method in METHODS}
    difference = rf"{tex(rewards[i])}-{tex(mean)}"
    dots = r"+\dots" if size > 3 else ""
    squares = "+".join(rf"({tex(r)}-{tex(mean)})^2" for r in rewards[:2]) + (r"+\dots" if size > 2 else "")
    block(
        rf"\operatorname{{mean}}=\frac{{{'+'.join(tex(r) for r in rewards[:3])}{dots}}}{{{size}}}={result(mean)}",
        r"\operatorname{std}=\sqrt{\frac{\sum_j(r_j-\text{mean})^2}{G-1}}",
        rf"=\sqrt{{\frac{{{squares}}}{{{size - 1}}}}}={result(spread)}",
        rf"\hat A_{{{name}}}^{{\text{{GRPO}}}}=\frac{{r-\text{{mean}}}}{{\text{{std}}+10^{{-4}}}}"
        rf"=\frac{{{difference}}}{{{result(spread)}+10^{{-4}}}}={result(found['grpo'])}",
        rf"\hat A_{{{name}}}^{{\text{{Dr.}}}}=r-\text{{mean}}={difference}={result(found['dr_grpo'])}",
        rf"\hat A_{{{name}}}^{{\text{{RLOO}}}}=r-\text{{mean of the others}}={tex(rewards[i])}-{tex(others)}={result(found['rloo'])}",
        rf"\phantom{{\hat A^R}}=\tfrac{{G}}{{G-1}}\,\hat A_{{{name}}}^{{\text{{Dr.}}}}"
        rf"=\tfrac{{{size}}}{{{size - 1}}}\cdot{tex(found['dr_grpo'])}={result(found['dr_grpo'] * size / (size - 1))}{TICK}",
        rf"\hat A_{{{name}}}^{{\text{{batch}}}}=\frac{{r-\text{{mean}}}}{{\text{{std of the batch}}+10^{{-4}}}}"
        rf"=\frac{{{difference}}}{{{result(batch)}+10^{{-4}}}}={result(found['batch'])}",
    )
