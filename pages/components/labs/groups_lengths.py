"""Lengths to drag: what a token of a long and of a short answer counts, and how lengths drift from that alone."""

from __future__ import annotations

from typing import get_args

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import groups_group as groups
from pages.components.labs import question, setting
from pages.components.labs.drag_bars import drag_bars, set_bars
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import group_advantages as ga
from rlhf.labs.mdp import Floats

LAB = "grp"
LONGEST = 100
LENGTHS = (20.0, 80.0, 10.0, 40.0, 30.0, 60.0, 25.0, 50.0)
MEANS: dict[ga.Mean, tuple[str, str]] = {
    "grpo": ("GRPO", theme.BLUE), "dapo": ("DAPO", theme.GREEN), "dr_grpo": ("Dr. GRPO", theme.ORANGE),
}  # fmt: skip
STEPS = 200


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown(_("An answer's advantage is spread over its tokens. Drag the lengths: which tokens are pushed hardest?"))
        size = groups.size_slider()
        rewards = np.array(groups.reward_bars(size))
        with st.container(horizontal=True, gap="small"):
            for name, words in (("wrong", _("Wrong ones are long")), ("right", _("Right ones are long")), ("same", _("All alike"))):
                st.button(words, key=f"grp/lengths/{name}", on_click=_preset, args=(name, rewards.tolist()))
        default = [LENGTHS[i % len(LENGTHS)] for i in range(size)]
        title = _("Lengths in tokens")
        lengths = np.array(
            drag_bars(LAB, "lengths", title, groups.letters(size), default, low=1, high=LONGEST, step=1, colours=theme.YELLOW, height=180)
        )
    with right:
        picked = groups.pick(size)
        if not np.ptp(rewards):
            st.warning(_("All rewards are equal, so every advantage is 0, and no length changes that. Drag a reward."))
        live_figure(_tokens(rewards, lengths, picked), key="grp/tokens")
        _in_numbers(rewards, lengths, picked)
    live_figure(_curve(rewards, lengths, picked), key="grp/length-curve")
    st.caption(
        _(
            "The push on one token of answer {name}, by its length, with the advantage of the best answer (solid) and of the worst "
            "(dashed). GRPO divides by |o|: a long answer below the mean is punished less per token, a short one above it rewarded more. "
            "Dr. GRPO divides by a constant, DAPO by the sum of all lengths, which this one is part of."
        ).format(name=groups.letters(size)[picked])
    )
    _experiment()


def _preset(name: str, rewards: list[float]) -> None:
    good = np.array(rewards) > np.mean(rewards)
    long = good if name == "right" else ~good
    set_bars(LAB, "lengths", [40.0] * len(rewards) if name == "same" else [float(90 if one else 15) for one in long])


def _advantages(rewards: Floats, mean: ga.Mean) -> Floats:
    return ga.advantages(rewards, "dr_grpo" if mean == "dr_grpo" else "grpo")


def _pushes(rewards: Floats, lengths: Floats, mean: ga.Mean) -> Floats:
    """The weight of one token's gradient, of each answer."""
    return _advantages(rewards, mean) * ga.token_weights(lengths, mean, LONGEST)


def _tokens(rewards: Floats, lengths: Floats, picked: int) -> Plot:
    is_dark, names = theme.dark(), groups.letters(len(rewards))
    plot = Plot()
    for mean, (name, colour) in MEANS.items():
        plot.bar(
            x=names, y=1000 * _pushes(rewards, lengths, mean), name=name, marker={"color": theme.on_ground(colour, is_dark)},
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    plot.band(picked - 0.5, picked + 0.5)
    plot.level()
    return plot.lay_out(
        height=300, barmode="group", bargap=0.25,
        xaxis={"title": {"text": _("answer")}, "type": "category"}, yaxis={"title": {"text": _("push of one token, × 1000")}},
    )  # fmt: skip


def _in_numbers(rewards: Floats, lengths: Floats, i: int) -> None:
    size, name, total = len(rewards), groups.letters(len(rewards))[i], float(lengths.sum())
    scaled, centred = float(_advantages(rewards, "grpo")[i]), float(_advantages(rewards, "dr_grpo")[i])
    found = {mean: float(_pushes(rewards, lengths, mean)[i]) for mean in MEANS}
    block(
        rf"\text{{GRPO}}:\;\frac{{\hat A_{{{name}}}}}{{G\,|o_{{{name}}}|}}=\frac{{{result(scaled)}}}{{{size}\cdot{lengths[i]:g}}}"
        rf"={result(found['grpo'])}",
        rf"\text{{DAPO}}:\;\frac{{\hat A_{{{name}}}}}{{\sum_j|o_j|}}=\frac{{{result(scaled)}}}{{{total:g}}}={result(found['dapo'])}",
        rf"\text{{Dr. GRPO}}:\;\frac{{r-\text{{mean}}}}{{G\,L_{{\max}}}}=\frac{{{result(centred)}}}{{{size}\cdot{LONGEST}}}"
        rf"={result(found['dr_grpo'])}",
        rf"\text{{all }}{lengths[i]:g}\text{{ tokens}}:\;={lengths[i]:g}\cdot{tex(found['grpo'])}={result(found['grpo'] * lengths[i])}"
        r"\;\text{(GRPO)}\\&\quad"
        rf"{result(found['dapo'] * lengths[i])}\;\text{{(DAPO)}},\quad{result(found['dr_grpo'] * lengths[i])}\;\text{{(Dr. GRPO)}}",
    )


def _curve(rewards: Floats, lengths: Floats, picked: int) -> Plot:
    is_dark, at = theme.dark(), np.arange(2, LONGEST + 1)
    plot = Plot()
    weights: dict[ga.Mean, Floats] = {}
    for mean in MEANS:
        tried = np.tile(lengths, (len(at), 1))
        tried[:, picked] = at
        weights[mean] = np.array([ga.token_weights(row, mean, LONGEST)[picked] for row in tried])
    for good in (True, False):
        for mean, (name, colour) in MEANS.items():
            values = _advantages(rewards, mean)
            plot.scatter(
                x=at, y=1000 * weights[mean] * float(values.max() if good else values.min()), mode="lines", showlegend=good, name=name,
                line={"color": theme.on_ground(colour, is_dark), "width": 2, "dash": "solid" if good else "dash"},
                hovertemplate=f"{name}, %{{x}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    plot.level()
    plot.upright(float(lengths[picked]))
    top = 1000 * 1.1 * float(np.abs([_pushes(rewards, np.full(len(rewards), 9.0), "grpo")]).max()) or 1.0
    return plot.lay_out(
        height=300, hovermode="closest", xaxis={"title": {"text": _("length of the answer, |o|")}},
        yaxis={"title": {"text": _("push of one token, × 1000")}, "range": [-top, top]},
    )  # fmt: skip


# ---------------------------------------------------------------- what comes of it


def _experiment() -> None:
    st.markdown(f"##### {_('Let the lengths drift')}")
    st.markdown(
        _(
            "A policy whose answers are right or wrong by chance, and whose **reward does not look at the length at all**. It can only "
            "choose, at each token, to stop or to go on. {steps} steps along the exact expected gradient: where do the lengths go?"
        ).format(steps=STEPS)
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        p = setting.slider(LAB, "p", _("Chance p of a right answer"), 0, 1, 0.3, 0.05)
        length = setting.whole(LAB, "start", _("Mean length at the start"), 5, 60, 20)
        rate = setting.slider(LAB, "rate", _("Learning rate"), 0.1, 2, 1, 0.1)
    size = int(st.session_state[setting.key(LAB, "size")])
    if not question.guess(_question(), _about(p)):
        st.caption(_("Guess first: then the experiment can run."))
        return
    settings = (p, size, length, rate)
    if st.button(_("Let them drift"), icon=":material/play_arrow:", type="primary", key="grp/drift"):
        bar = st.progress(0.0)
        found: dict[ga.Mean, ga.Drift] = {}
        for i, mean in enumerate(get_args(ga.Mean)):
            found[mean] = ga.length_drift(p, size, length, mean, STEPS, rate)
            bar.progress((i + 1) / 3)
        bar.empty()
        st.session_state["grp/drifted"] = (settings, found)
    kept = st.session_state.get("grp/drifted")
    if not kept:
        return
    if kept[0] != settings:
        words = _("This is of earlier settings: p = {p}, G = {size}, {length} tokens, learning rate {rate}. Let them drift again.")
        st.info(words.format(p=number(kept[0][0]), size=kept[0][1], length=kept[0][2], rate=number(kept[0][3])))
    live_figure(_drift(kept[1]), key="grp/drift-curve")
    question.reveal(_question(kept[1]), _about(kept[0][0]))


def _about(p: float) -> bool:
    """Of all settings, whether answers can differ is what decides which way the lengths go."""
    return 0 < p < 1


def _question(found: dict[ga.Mean, ga.Drift] | None = None) -> Choice:
    text = _("GRPO divides each answer's loss by its length. What becomes of the lengths?")
    options = [
        _("Nothing: the reward does not look at them"), _("All answers become longer"),
        _("Wrong answers become longer, right ones shorter"),
        _("Right answers become longer, wrong ones shorter"),
    ]  # fmt: skip
    if found is None:
        return Choice("grp/drift", text, options, 2, "")
    grpo, dapo = found["grpo"], found["dapo"]
    if grpo.wrong[-1] == grpo.wrong[0]:
        because = _("With p at 0 or 1 all answers of a group are equal: no advantage, so nothing moves. Set p between.")
        return Choice("grp/drift", text, options, 0, because)
    because = _(
        "Mean lengths went from {start} to {right} (right) and {wrong} (wrong). A long wrong answer spreads its punishment over more "
        "tokens, so being long pays when wrong; a short right one gathers its reward. Dr. GRPO's constant leaves both where they were. "
        "With DAPO's 1/Σ|o| an answer's own length is one part of the sum: {dapo_right} (right) and {dapo_wrong} (wrong)."
    ).format(
        start=number(float(grpo.wrong[0])), right=number(float(grpo.right[-1])), wrong=number(float(grpo.wrong[-1])),
        dapo_right=number(float(dapo.right[-1])), dapo_wrong=number(float(dapo.wrong[-1])),
    )  # fmt: skip
    return Choice("grp/drift", text, options, 2, because)


def _drift(found: dict[ga.Mean, ga.Drift]) -> Plot:
    is_dark = theme.dark()
    plot = Plot()
    for mean, (name, colour) in MEANS.items():
        for path, kind, dash in ((found[mean].wrong, _("wrong"), "dash"), (found[mean].right, _("right"), "solid")):
            plot.scatter(
                y=path, mode="lines", name=f"{name}, {kind}", line={"color": theme.on_ground(colour, is_dark), "width": 2, "dash": dash},
                hovertemplate=f"{name}, {kind}: %{{y:.1f}}<extra></extra>",
            )  # fmt: skip
    return plot.lay_out(
        height=320, hovermode="closest", xaxis={"title": {"text": _("step")}},
        yaxis={"title": {"text": _("mean length in tokens")}, "type": "log", "tickvals": [1, 2, 5, 10, 20, 50, 100, 200, 500]},
    )  # fmt: skip
