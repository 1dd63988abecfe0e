"""Learning the values of the random walk with each estimate as the target: the U-shapes of Sutton and Barto, figures 7.2 and 12.3."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import question, setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import random_walk as rw
from rlhf.labs.mdp import Floats

LAB = "gae"
NS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
LAMBDAS = (0.0, 0.4, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
ALPHAS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def draw() -> None:
    st.markdown(
        _(
            "So far the critic stood still. Now it learns: from zeros, each state that is visited is moved by α towards its estimate. "
            "**Which estimate teaches the values fastest?**"
        )
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds = {"n": _("n-step returns"), "lambda": _("λ-returns (as GAE's)")}
        kind = setting.choice(LAB, "learn", _("Targets"), kinds, width=230)
        episodes = setting.whole(LAB, "episodes", _("Episodes"), 1, 30, 10)
        runs = setting.whole(LAB, "runs", _("Runs averaged"), 10, 200, 50, 10)
        seed = setting.seed(LAB, width=120)
    if not question.guess(_question(kind, None), (kind, episodes)):
        st.caption(_("Guess first: then the experiment can run."))
        return
    settings = (kind, episodes, runs, seed)
    if st.button(_("Learn the values"), icon=":material/play_arrow:", type="primary", key="gae/learn"):
        st.session_state["gae/learned"] = (settings, _run(*settings))
    kept = st.session_state.get("gae/learned")
    if not kept:
        return
    if kept[0] != settings:
        words = _("These were learned with {kind}, {episodes} episodes, {runs} runs, seed {seed}. Run again for the settings above.")
        st.info(words.format(kind=kinds[kept[0][0]], episodes=kept[0][1], runs=kept[0][2], seed=kept[0][3]))
    kind, errors = kept[0][0], kept[1]
    _results(kind, errors, kept[0][1])
    question.reveal(_question(kind, errors), kept[0][:2])


def _run(kind: str, episodes: int, runs: int, seed: int) -> Floats:
    bar = st.progress(0.0)

    def done(share: float) -> None:
        bar.progress(share)

    rng = np.random.default_rng(seed)
    if kind == "n":
        errors = rw.n_step_errors(rw.walk_of(19), NS, ALPHAS, episodes, runs, rng, done)
    else:
        errors = rw.lambda_errors(rw.walk_of(19), LAMBDAS, ALPHAS, episodes, runs, rng, done)
    bar.empty()
    return errors


def _names(kind: str) -> list[str]:
    return [f"n = {n}" for n in NS] if kind == "n" else [f"λ = {lam:g}" for lam in LAMBDAS]


def _question(kind: str, errors: Floats | None) -> Choice:
    """Its answer is what was measured; before that there is none to give away."""
    text = _("Each with its best α: which learns the values with the smallest error?")
    options = [_("One step: TD(0)"), _("Something between"), _("The whole episode: Monte-Carlo")]
    if errors is None:
        return Choice(f"{LAB}/learn", text, options, 1, "")
    best = errors.min(1)
    at = int(best.argmin())
    because = _(
        "Smallest: {name} with α = {alpha}, error {error}; TD(0) at best {td}, Monte-Carlo {mc}. "
        "One step is too slow (news travels one state each time), the whole episode too noisy."
    ).format(
        name=_names(kind)[at], alpha=number(ALPHAS[int(errors[at].argmin())]), error=number(float(best[at])), td=number(float(best[0])),
        mc=number(float(best[-1])),
    )  # fmt: skip
    return Choice(f"{LAB}/learn", text, options, 0 if at == 0 else 2 if at == len(best) - 1 else 1, because)


def _results(kind: str, errors: Floats, episodes: int) -> None:
    names = _names(kind)
    left, right = st.columns([3, 2], gap="large")
    plot = Plot()
    for i, name in enumerate(names):
        share = i / (len(names) - 1)
        plot.scatter(
            x=ALPHAS, y=errors[i], name=name, mode="lines", hovertemplate=f"{name}, α = %{{x}}: %{{y:.3f}}<extra></extra>",
            line={"color": _between(theme.ORANGE, theme.BLUE, share), "width": 2},
        )  # fmt: skip
    figure = plot.lay_out(
        height=360, hovermode="closest", xaxis={"title": {"text": _("step size α")}},
        yaxis={"title": {"text": _("error of the values")}, "range": [0.2 if errors.min() > 0.2 else 0, 0.6]},
    )  # fmt: skip
    with left:
        st.markdown(f"##### {_('Over the step size')}")
        live_figure(figure, key="gae/over-alpha")
    best = errors.min(1)
    over = Plot()
    over.scatter(
        x=[name.split("= ")[1] for name in names], y=best, mode="lines+markers", line={"color": theme.on_ground(theme.BLUE, over.dark)},
        marker={"size": 8}, hovertemplate="%{x}: %{y:.3f}<extra></extra>",
    )  # fmt: skip
    axis = {"title": {"text": "n" if kind == "n" else "λ"}, "type": "category"}
    with right:
        st.markdown(f"##### {_('Each with its best α')}")
        live_figure(over.lay_out(height=360, xaxis=axis, yaxis={"rangemode": "tozero"}), key="gae/best-alpha")
    at, alpha = (int(i) for i in np.unravel_index(errors.argmin(), errors.shape))
    st.caption(
        _(
            "Error: root mean square over the 19 states, averaged over the first {episodes} episodes and all runs. All see the same walks. "
            "Smallest: {name}, α = {alpha}: {error}."
        ).format(episodes=episodes, name=names[at], alpha=number(ALPHAS[alpha]), error=number(float(errors[at, alpha])))
    )
    old, target, size = 0.0, 1.0, ALPHAS[alpha]
    st.caption(_("One update with that α, on a step that leaves at the right end, from a state whose value is still 0:"))
    block(rf"V\leftarrow V+\alpha\,(G-V)={tex(old)}+{tex(size)}\cdot({tex(target)}-{tex(old)})={result(old + size * (target - old))}")


def _between(first: str, last: str, share: float) -> str:
    """A colour on the way from one to the other, for the theme's ground."""
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (first, last)]
    mixed = "#" + "".join(f"{round(a + share * (b - a)):02X}" for a, b in zip(*ends, strict=True))
    return theme.on_ground(mixed, theme.dark())
