"""Lab 6, part 5: REINFORCE, PPO, GRPO and DPO trained from π_ref with exact gradients; how near to π∗ each comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import latex, theme
from pages.components.i18n import _
from pages.components.labs import setting, simplex
from pages.components.labs.kl_example import LAB, Example, Preset, controls, grouped, preset_buttons
from pages.components.labs.live_figure import live_figure
from pages.components.labs.playing import player, start
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.numbers import number
from rlhf.labs import exact_training as et
from rlhf.labs import kl_optimum as ko
from rlhf.labs.mdp import Floats

TITLES = {"reinforce": "REINFORCE", "ppo": "PPO", "grpo": "GRPO", "dpo": "DPO"}
DASHES = {"reinforce": "solid", "ppo": "dash", "grpo": "solid", "dpo": "dot"}  # three of them walk nearly the same way
TOLERANCE = 1e-6
MOST = 1000
SETS = (set(et.ALGORITHMS), {"reinforce", "ppo", "dpo"}, {"reinforce", "ppo"}, {"dpo"})  # as the question has them
TRAINED = "kl/training/trained"


def presets() -> dict[str, Preset]:
    return {
        _("The first example"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.5),
        _("Large β"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 2.0),
        _("Small β"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.1),
        _("Equal rewards"): Preset((0.55, 0.42, 0.03), (1.0, 1.0, 1.0), 0.5),
    }


def kinds() -> dict[str, str]:
    return {
        "paper": _("as in the paper: divided by σ, k3 in the loss"),
        "k3": _("not divided (Dr. GRPO), k3 in the loss"),
        "corrected": _("not divided, the KL's own gradient"),
        "scaled": _("divided by σ, the KL's own gradient"),
    }


def draw() -> None:
    st.markdown(
        _(
            "Four algorithms start at the reference and want the same: reward minus β·KL. Each follows its own *expected* gradient, "
            "summed over all answers, so there is no noise to blame."
        )
    )
    preset_buttons(presets())
    left, right = st.columns([2, 3], gap="large")
    with left:
        example, below, more = controls()
        with below:
            words = _(
                "Its group is so large here that mean and deviation are those of π. In a group of G answers each one stands in its own "
                "mean, which alone makes β into β·G/(G − 1)."
            )
            kind = setting.choice(LAB, "grpo", _("GRPO's form"), kinds(), help=words)
        with more:
            setup = _setup(example.beta, kind)
    with right:
        if example.beta == 0:
            words = _(
                "With β = 0 there is no optimum to arrive at: the policy runs towards the best answer for ever, and DPO's loss is "
                "constant. Move β above 0."
            )
            st.info(words, icon=":material/block:")
            return
        settings = (tuple(example.reference), tuple(example.rewards), setup)
        if not guess(_question(example, kind, None), settings):
            st.caption(_("Answer, then train."))
            return
        if st.button(_("Train all four"), key="kl/training/run", type="primary", icon=":material/play_arrow:"):
            with st.spinner(_("Training")):
                paths = {name: et.train(name, example.reference, example.rewards, setup) for name in et.ALGORITHMS}
            st.session_state[TRAINED] = settings, kind, example, paths
            start(LAB, "training")
        if TRAINED not in st.session_state:
            return
        made_with, made_kind, made_of, paths = st.session_state[TRAINED]
        if made_with != settings:
            st.caption(f":material/history: {_('This was trained with the earlier settings. Train again.')}")
        _show(made_of, made_with, made_kind, paths)


def _setup(beta: float, kind: str) -> et.Setup:
    rate = setting.slider(LAB, "rate", _("Step size η"), 0.05, 1, 0.3, 0.05, help=_("1 is the largest step that suits each algorithm."))
    steps = setting.whole(LAB, "steps", _("Steps"), 50, MOST, 600, 50)
    clip = setting.slider(LAB, "clip", _("PPO's clip ε"), 0.05, 0.5, 0.2, 0.05)
    words = _("The natural gradient divides by π, so that an unlikely answer learns as fast as a likely one. DPO does not need it.")
    natural = setting.toggle(LAB, "natural", _("Natural gradient"), True, help=words)
    return et.Setup(beta, steps, rate, natural, clip, scaled=kind in ("paper", "scaled"), corrected=kind in ("corrected", "scaled"))


def places(steps: int) -> list[int]:
    """The steps that the player shows: every one at first, then ever wider apart."""
    return sorted({0, *(round(step) for step in np.geomspace(1, steps, 22))})


def _show(example: Example, made_with: tuple[Any, ...], kind: str, paths: dict[str, Floats]) -> None:
    setup: et.Setup = made_with[-1]
    best = ko.optimum(example.reference, example.rewards, example.beta)
    shown = places(setup.steps)
    frame = player(LAB, len(shown) - 1, "training")
    step = shown[min(frame, len(shown) - 1)]
    st.caption(_("Step {step} of {steps}").format(step=step, steps=setup.steps))
    if len(example.names) == 3:
        live_figure(_triangle(example, best, paths, step), key="kl/training/simplex")
    else:
        now = {TITLES[name]: (np.exp(path[step]), theme.ALGORITHM_COLOURS[name]) for name, path in paths.items()}
        grouped(example.names, {"π∗": (best.policy, theme.GREY), **now}, "kl/training/bars", height=260)
    live_figure(_curves(best, paths, step), key="kl/training/distance")
    if step == setup.steps:
        _ends(example, setup, best, paths)
        reveal(_question(example, kind, _measured(best, paths)), made_with)


def _triangle(example: Example, best: ko.Optimum, paths: dict[str, Floats], step: int) -> Plot:
    figure = simplex.figure(list(example.names), height=360)
    reference, rewards, beta = example.reference, example.rewards, example.beta

    def worth(p: Floats) -> Floats:
        able = reference > 0
        terms = p[:, able] * (rewards[able] - beta * np.log(p[:, able] / reference[able]))
        return terms.sum(1)

    if (reference > 0).all():
        simplex.shade(figure, worth, colour=theme.GREY)
    simplex.points(figure, reference, "π_ref", theme.GREY, symbol="square")
    simplex.points(figure, best.policy, "π∗", theme.VERMILLION, symbol="star", size=16)
    for name, path in paths.items():
        walked = np.exp(path[: step + 1])
        colour = theme.ALGORITHM_COLOURS[name]
        simplex.path(figure, walked, TITLES[name], colour, dash=DASHES[name])
        simplex.points(figure, walked[-1], TITLES[name], colour, size=9)
        figure.traces[-1]["showlegend"] = False
    return figure


def _curves(best: ko.Optimum, paths: dict[str, Floats], step: int) -> Plot:
    """KL(π‖π∗) over steps on a log axis, down to rounding."""
    is_dark = theme.dark()
    figure = Plot()
    for name, path in paths.items():
        apart = et.distances(path, best.policy)
        figure.scatter(
            x=np.arange(step + 1), y=np.where(apart > 1e-32, apart, np.nan)[: step + 1], mode="lines", name=TITLES[name],
            line={"color": theme.on_ground(theme.ALGORITHM_COLOURS[name], is_dark), "width": 2},
            hovertemplate=f"{TITLES[name]}: %{{y:.2e}}<extra></extra>",
        )  # fmt: skip
    return figure.lay_out(
        height=260, hovermode="x unified",
        xaxis={"title": {"text": _("step")}, "range": [0, max(10, step)]},
        yaxis={"title": {"text": "KL(π‖π∗), nats"}, "type": "log", "range": [-33, 1], "exponentformat": "power", "dtick": 8},
    )  # fmt: skip


def _measured(best: ko.Optimum, paths: dict[str, Floats]) -> dict[str, float]:
    """The largest difference of a probability from π∗'s at the end."""
    return {name: float(np.abs(np.exp(path[-1]) - best.policy).max()) for name, path in paths.items()}


def _ends(example: Example, setup: et.Setup, best: ko.Optimum, paths: dict[str, Floats]) -> None:
    off = _measured(best, paths)
    rows = []
    for name, path in paths.items():
        since = et.arrived(path, best.policy, TOLERANCE)
        rows.append(
            (
                TITLES[name], number(off[name]),
                _("step {step}").format(step=since) if since is not None else _("not within {steps} steps").format(steps=setup.steps),
                *(number(float(p)) for p in np.exp(path[-1])),
            )
        )  # fmt: skip
    rows.append(("π∗", "", "", *(number(float(p)) for p in best.policy)))
    columns = [
        "",
        _("largest difference from π∗"),
        _("within {tolerance}").format(tolerance="1e−6"),
        *(f"π({name})" for name in example.names),
    ]
    st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)
    late = [name for name in paths if name != "grpo" and off[name] > TOLERANCE]
    slow = ", ".join(TITLES[name] for name in late if not et.swings(paths[name]))
    swinging = ", ".join(TITLES[name] for name in late if et.swings(paths[name]))
    if slow:
        st.caption(f"{_('Not there yet: {names}.').format(names=slow)} {_advice(setup)}")
    if swinging:
        st.caption(_("{names} goes to and fro and does not settle: its steps are too large.").format(names=swinging))
    _grpo_end(example, setup, paths["grpo"])


def _advice(setup: et.Setup) -> str:
    """What helps one that is slow, if these settings leave anything."""
    found = [_("More steps bring it nearer.")] if setup.steps < MOST else []
    if setup.rate < 1:
        found.append(_("A larger η is faster."))
    if not setup.natural:
        found.append(_("A plain gradient is slow where an answer is unlikely."))
    return " ".join(found)


def _grpo_end(example: Example, setup: et.Setup, path: Floats) -> None:
    """GRPO's own end, by its closed form, and how near it came to that one."""
    end = np.exp(path[-1])
    sigma = et.spread(end, example.rewards) if setup.scaled else 1.0
    wanted = et.grpo_end(example.reference, example.rewards, example.beta * sigma, setup.corrected)
    gap = float(np.abs(end - wanted).max())
    price = rf"\beta\sigma={latex.tex(example.beta)}\cdot{latex.tex(sigma)}={latex.result(example.beta * sigma)}" if setup.scaled else ""
    fraction = r"\pi=\frac{b\,\pi_\mathrm{ref}}{\lambda-r},\quad\textstyle\sum_y\pi(y)=1"
    form = r"\pi\propto\pi_\mathrm{ref}\,e^{r/b}" if setup.corrected else fraction
    st.caption(_("Where GRPO in this form comes to rest, by its own closed form:"))
    st.latex(form + r",\qquad b=" + (price or rf"\beta={latex.result(example.beta)}"))
    st.caption(_("Trained and closed form differ by {gap}.").format(gap=number(gap)))
    collapses_anyway = et.grpo_end(example.reference, example.rewards, example.beta, setup.corrected).max() > 0.999
    if end.max() > 0.999 and setup.scaled and not collapses_anyway:
        words = _("σ shrinks as the policy sharpens and takes the KL term with it, so this one collapsed onto {name}.")
        st.caption(words.format(name=example.names[int(end.argmax())]))


def _question(example: Example, kind: str, off: dict[str, float] | None) -> Choice:
    """Right is what was measured, once it was."""
    because, right = "", 1
    if off is not None:
        near = ", ".join(f"{TITLES[name]} {number(gap)}" for name, gap in off.items())
        why = {
            "paper": _(
                "GRPO pulls with k3, whose gradient is that of the *other* KL, KL(π_ref‖π), and divides the reward by σ, which makes β "
                "into β·σ. Two changes, another optimum."
            ),
            "k3": _(
                "GRPO pulls with k3, whose gradient is that of the *other* KL, KL(π_ref‖π): it keeps some of every answer, where π∗ all "
                "but drops the bad ones."
            ),
            "corrected": _("With the KL's own gradient and no division GRPO maximises the same objective as the others."),
            "scaled": _("Dividing the reward by σ makes β into β·σ, and σ is whatever it is at the end: another optimum."),
        }[kind]
        there = {name for name, gap in off.items() if gap <= TOLERANCE}
        right = next((i for i, names in enumerate(SETS) if names == there), len(SETS))
        if np.ptp(example.rewards[example.reference > 0]) == 0:
            why = _("The rewards are equal, so the reference is π∗ already and there is nothing to learn.")
        elif kind != "corrected" and "grpo" in there:
            why = _("GRPO in this form has another optimum, but here the two are as good as the same.")
        because = _("Largest difference of a probability from π∗: {near}. {why}").format(near=near, why=why)
    return Choice(
        "kl/training",
        _("All four have the same β. Which of them are at π∗ after the last step, to within 1e−6?"),
        [
            _("All four"),
            _("All but GRPO"),
            _("Only REINFORCE and PPO, which have a reward"),
            _("Only DPO, which was derived from π∗"),
            _("Others than these"),
        ],
        right,
        because,
    )
