"""The random walk with a critic that is wrong by as much as is set: bias, variance and error of each estimate, exact and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import question, setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice
from pages.components.latex import block, result
from pages.components.numbers import number
from rlhf.labs import random_walk as rw
from rlhf.labs.mdp import Floats

LAB = "gae"
LAMBDAS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
FINE = (*np.round(np.linspace(0, 0.94, 24), 3), *np.round(np.linspace(0.95, 1, 11), 3))
NS = (1, 2, 4, 8, 16, 32, 64, rw.MONTE_CARLO)
CHUNKS = 10
GAMMA = 1.0


@dataclass(frozen=True)
class Critic:
    """The settings of this part."""

    states: int
    fault: rw.Fault
    size: float
    seed: int

    @property
    def walk(self) -> rw.RandomWalk:
        return rw.walk_of(self.states)

    @property
    def values(self) -> Floats:
        return rw.faulty_critic(self.walk, GAMMA, self.fault, self.size, self.seed)


def draw() -> None:
    st.markdown(
        _(
            "A walker starts in the middle and steps left or right by chance until it falls off an end. "
            "Its true values are known, so every estimate can be checked. **How wrong is the critic, and which λ suits it?**"
        )
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        critic, batch, walks = _controls()
    with right:
        live_figure(_chain(critic), key="gae/chain")
        st.caption(_("Dotted: the true values. Bars: what the critic believes. The estimates start from these beliefs."))
    asked = _question(critic, batch)
    if not question.guess(asked, _about(critic, batch)):
        st.caption(_("Guess first: then the experiment can run."))
        return
    kept = _experiment(critic, walks)
    if kept is not None:
        _results(critic, batch, walks, kept, asked)


def _controls() -> tuple[Critic, int, int]:
    states = int(setting.choice(LAB, "states", _("Chain"), {"19": _("19 states, ends pay −1 and 1"), "5": _("5 states, ends pay 0 and 1")}))
    faults = {
        "flat": _("has learned only part of the way"), "noisy": _("each value wrong by chance"), "high": _("too hopeful everywhere"),
    }  # fmt: skip
    fault = setting.choice(LAB, "fault", _("The critic"), faults)
    size = setting.slider(LAB, "wrong", _("How wrong it is"), 0, 1, 0.8, 0.05, help=_("0: the exact values."))
    with st.expander(_("More"), icon=":material/tune:"):
        batch = setting.whole(
            LAB, "batch", _("Estimates averaged in one update"), 1, 64, 1,
            help=_("Averaging divides the variance, and leaves the bias: with many estimates a larger λ pays."),
        )  # fmt: skip
        walks = setting.whole(LAB, "walks", _("Walks from each state"), 100, 3000, 500, 100)
        seed = setting.seed(LAB)
    return Critic(states, cast(rw.Fault, fault), size, seed), batch, walks


def _chain(critic: Critic) -> Plot:
    is_dark, true = theme.dark(), critic.walk.values(GAMMA)[1:-1]
    places = np.arange(1, critic.states + 1)
    plot = Plot()
    plot.bar(x=places, y=critic.values[1:-1], name=_("the critic"), marker={"color": theme.on_ground(theme.GREY, is_dark)})
    plot.scatter(
        x=places, y=true, name=_("true value"), mode="lines+markers", marker={"size": 5},
        line={"color": theme.on_ground(theme.GREEN, is_dark), "dash": "dot", "width": 2},
    )  # fmt: skip
    plot.level()
    return plot.lay_out(
        height=250, bargap=0.3,
        xaxis={"title": {"text": _("state")}, "dtick": 1 if critic.states == 5 else 3, "tick0": 1}, yaxis={"title": {"text": "V"}},
    )  # fmt: skip


def _about(critic: Critic, batch: int) -> tuple[float, ...]:
    """What decides the best λ: a seed that changes no value of the critic does not."""
    return batch, *critic.values.tolist()


def _question(critic: Critic, batch: int) -> Choice:
    exact = _exact(critic, batch)
    at = int(exact.error[: len(FINE)].argmin())
    best, last = float(FINE[at]), len(FINE) - 1
    options = [
        _("λ = 0: TD(0), trust the critic at once"), _("λ up to 0.7: a few steps"), _("λ above 0.7, but not 1: many steps"),
        _("λ = 1: Monte-Carlo, no critic"),
    ]  # fmt: skip
    because = _(
        "Of {count} λ, exactly computed, the error is smallest at λ = {best} ({error}); TD(0) has {td} and Monte-Carlo {mc}. "
    ).format(
        count=len(FINE), best=number(best), error=number(exact.error[at]), td=number(exact.error[0]), mc=number(exact.error[last])
    )  # fmt: skip
    if critic.size == 0:
        because += _("The critic is exact, so no estimate is biased, and the one that waits least varies least.")
    elif best == 0:
        because += _("At every larger one bias² and variance add up to more.")
    elif best == 1:
        because += _("Monte-Carlo alone has no bias, and with N = {batch} no smaller λ of these has as small an error.").format(batch=batch)
    elif np.all(np.diff(exact.bias[: last + 1]) <= 0) and np.all(np.diff(exact.spread[: last + 1]) >= 0):
        because += _("Bias falls and variance rises with λ; their sum is smallest between.")
    else:  # variance may fall at first: errors of neighbouring states average out
        because += _(
            "From there to λ = 1 the bias goes from {bias} to {last_bias}, the standard deviation from {spread} to {last_spread}; at "
            "λ = 0 they are {first_bias} and {first_spread}."
        ).format(
            bias=number(exact.bias[at]), last_bias=number(round(float(exact.bias[last]), 9)), first_bias=number(exact.bias[0]),
            spread=number(exact.spread[at]), last_spread=number(exact.spread[last]), first_spread=number(exact.spread[0]),
        )  # fmt: skip
    text = _("Which λ estimates the return of a state with the smallest error, for this critic?")
    return Choice(f"{LAB}/walk", text, options, 0 if best == 0 else 1 if best <= 0.7 else 2 if best < 1 else 3, because)


def _exact(critic: Critic, batch: int) -> rw.Quality:
    walk = critic.walk
    mean, variance = rw.exact_moments(walk, critic.values, GAMMA, FINE, NS)
    return rw.quality(mean, variance, walk.values(GAMMA)[1:-1], batch)


@dataclass(frozen=True)
class Kept:
    """What was measured, (estimates, states) each, and with which settings."""

    critic: Critic
    walks: int
    mean: Floats
    variance: Floats


def _experiment(critic: Critic, walks: int) -> Kept | None:
    if st.button(_("Walk and measure"), icon=":material/directions_walk:", type="primary", key="gae/walk"):
        bar = st.progress(0.0)
        rng = np.random.default_rng(critic.seed)
        found = []
        for chunk in range(CHUNKS):
            found.append(rw.sample_returns(critic.walk, critic.values, GAMMA, LAMBDAS, NS, walks // CHUNKS, rng))
            bar.progress((chunk + 1) / CHUNKS)
        bar.empty()
        samples = np.concatenate(found, axis=2)
        st.session_state["gae/walked"] = Kept(critic, walks, samples.mean(2), samples.var(2, ddof=1))
    return st.session_state.get("gae/walked")


def _results(critic: Critic, batch: int, walks: int, kept: Kept, asked: Choice) -> None:
    same = kept.critic == critic and kept.walks == walks
    if not same:
        st.info(_("The lines follow your settings. The dots are gone: they were measured with other ones. Walk again to measure these."))
    exact = _exact(critic, batch)
    measured = rw.quality(kept.mean, kept.variance, kept.critic.walk.values(GAMMA)[1:-1], batch, kept.walks) if same else None
    left, right = st.columns(2, gap="large")
    top = 1.08 * float(max(exact.error.max(), 0.05))
    cut, here = len(FINE), len(LAMBDAS)
    with left:
        st.markdown(f"##### {_('GAE over λ')}")
        title = _("λ (the scale is stretched towards 1)")
        names = [f"{lam:g}" for lam in LAMBDAS]
        live_figure(_curves(FINE, LAMBDAS, exact, slice(0, cut), measured, slice(0, here), top, title, names), key="gae/over-lambda")
        st.caption(_("Left end: TD(0). Right end: Monte-Carlo."))
    with right:
        st.markdown(f"##### {_('n-step over n')}")
        names = [*(str(n) for n in NS[:-1]), "∞"]
        live_figure(_curves(NS, NS, exact, slice(cut, None), measured, slice(here, None), top, "n", names), key="gae/over-n")
        st.caption(_("n = 1 is TD(0), n = ∞ Monte-Carlo."))
    question.reveal(asked, _about(critic, batch))
    _in_numbers(critic, batch, kept if same else None)


def _curves(
    x: Sequence[float], ticks: Sequence[float], exact: rw.Quality, which: slice, measured: rw.Quality | None, dots: slice, top: float,
    title: str, names: list[str],
) -> Plot:  # fmt: skip
    """Bias, spread and error as lines (exact) over ``x`` and dots (measured) at ``ticks``, which stand at equal distances."""
    is_dark = theme.dark()
    places = np.interp(x, ticks, np.arange(len(ticks)))
    plot = Plot()
    for name, key, colour in (
        (_("bias"), "bias", theme.ORANGE), (_("standard deviation"), "spread", theme.GREEN), (_("error"), "error", theme.BLUE),
    ):  # fmt: skip
        shade = theme.on_ground(colour, is_dark)
        plot.scatter(
            x=places, y=getattr(exact, key)[which], name=name, mode="lines", hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
            line={"color": shade, "width": 3 if key == "error" else 2},
        )  # fmt: skip
        if measured is not None:
            plot.scatter(
                x=np.arange(len(ticks)), y=getattr(measured, key)[dots], mode="markers", showlegend=False,
                marker={"color": shade, "size": 8, "line": {"color": "#11151a" if is_dark else "#fff", "width": 1}},
                hovertemplate=_("{name}, measured").format(name=name) + ": %{y:.3f}<extra></extra>",
            )  # fmt: skip
    lowest = int(exact.error[which].argmin())
    plot.note(float(places[lowest]), float(exact.error[which][lowest]), _("smallest error"))
    return plot.lay_out(
        height=320, hovermode="closest", yaxis={"range": [-0.02 * top, top]},
        xaxis={"title": {"text": title}, "tickvals": list(range(len(ticks))), "ticktext": names},
    )  # fmt: skip


def _in_numbers(critic: Critic, batch: int, kept: Kept | None) -> None:
    """The decomposition at one λ with its numbers, state by state, exact against measured."""
    st.markdown(f"##### {_('One λ, state by state')}")
    lam = float(setting.choice(LAB, "at", "λ", {f"{lam:g}": f"λ = {lam:g}" for lam in (0.9, *(lam for lam in LAMBDAS if lam != 0.9))}))
    true = critic.walk.values(GAMMA)[1:-1]
    mean, variance = rw.exact_moments(critic.walk, critic.values, GAMMA, [lam], [])
    one = rw.quality(mean, variance, true, batch)
    bias, error = round(float(one.bias[0]), 9), float(one.error[0])  # an exact critic's is to read 0
    block(
        r"\text{error}^2=\text{bias}^2+\frac{\text{variance}}{N}"
        rf"=({result(bias)})^2+\frac{{{result(float(variance.mean()))}}}{{{batch}}}={result(error**2)}",
        rf"\text{{error}}=\sqrt{{{result(error**2)}}}={result(error)}",
    )
    live_figure(_by_state(critic, mean[0], kept, LAMBDAS.index(lam)), key="gae/by-state")
    st.caption(
        _(
            "The return estimated from a state is Ĝ = V̂(s) + Â: the advantage with the critic's value put back, which is also the "
            "critic's target in PPO. In one state V̂(s) is a fixed number, so Â varies just as much. "
            "Bias², variance and error² are averaged over the states."
        )
    )
    if kept is not None:
        exact = rw.exact_moments(critic.walk, critic.values, GAMMA, LAMBDAS, NS)
        errors = np.sqrt(np.maximum(exact[1], 1e-300) / kept.walks)
        known = exact[1] > 1e-12
        off = np.abs(kept.mean - exact[0])[known] / errors[known]
        st.caption(
            _("Measured against exact: of {count} means, the farthest is {far} standard errors off; {share} lie within two.").format(
                count=off.size, far=number(float(off.max())), share=number(float((off < 2).mean()), "share")
            )
        )


def _by_state(critic: Critic, mean: Floats, kept: Kept | None, row: int) -> Plot:
    is_dark, places = theme.dark(), np.arange(1, critic.states + 1)
    plot = Plot()
    for name, values, colour, dash in (
        (_("true value"), critic.walk.values(GAMMA)[1:-1], theme.GREEN, "dot"), (_("the critic"), critic.values[1:-1], theme.GREY, "dash"),
        (_("mean estimate, exact"), mean, theme.BLUE, "solid"),
    ):  # fmt: skip
        plot.scatter(
            x=places, y=values, name=name, mode="lines", line={"color": theme.on_ground(colour, is_dark), "width": 2, "dash": dash}
        )
    if kept is not None:
        spread = 2 * np.sqrt(kept.variance[row] / kept.walks)
        plot.scatter(
            x=places, y=kept.mean[row], name=_("measured, ± 2 standard errors"), mode="markers",
            marker={"color": theme.on_ground(theme.BLUE, is_dark), "size": 7}, error_y={"array": spread, "thickness": 1.5, "width": 3},
        )  # fmt: skip
    return plot.lay_out(
        height=300, yaxis={"title": {"text": _("return")}},
        xaxis={"title": {"text": _("state")}, "dtick": 1 if critic.states == 5 else 3, "tick0": 1},
    )  # fmt: skip
