"""Lab 6, part 1: the optimum π∗ in numbers, the frontier of reward against KL, and best-of-n beside it."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from pages.components import latex, theme
from pages.components.i18n import _
from pages.components.labs import setting, simplex
from pages.components.labs.kl_example import LAB, Example, Preset, controls, grouped, preset_buttons
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.numbers import number
from rlhf.labs import kl_optimum as ko
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import kl

NS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256)
BEST_OF, STAR = theme.ORANGE, theme.ROLE_COLOURS["policy"]


def presets() -> dict[str, Preset]:
    return {
        _("A tempting rare answer"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.5),
        _("β = 0"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.0),
        _("A tie"): Preset((0.6, 0.3, 0.1), (0.0, 1.0, 1.0), 0.0),
        _("Equal rewards"): Preset((0.55, 0.42, 0.03), (1.0, 1.0, 1.0), 0.5),
        _("Never written"): Preset((0.6, 0.4, 0.0), (0.0, 1.0, 3.0), 0.5),
    }


def draw() -> None:
    preset_buttons(presets())
    left, right = st.columns([2, 3], gap="large")
    with left:
        example, below, _more = controls()
        with below:
            n = int(
                st.select_slider(
                    _("Best of n answers"), NS, 8, key=setting.key(LAB, "n"), persist_state="session", bind="query-params",
                    help=_("Draw n answers from the reference and keep the one with the highest reward: no training at all."),
                )
            )  # fmt: skip
    best = ko.optimum(example.reference, example.rewards, example.beta)
    picked = ko.best_of_n(example.reference, example.rewards, n)
    with right:
        _numbers(best)
        best_of = _("best of {n}").format(n=n)
        grouped(
            example.names,
            {"π_ref": (example.reference, theme.GREY), "π∗": (best.policy, STAR), best_of: (picked, BEST_OF)},
            "kl/optimum/bars",
        )
        _in_words(example, best)
        live_figure(_frontier(example, best, n, picked), key="kl/optimum/frontier")
        st.caption(
            _(
                "No policy lies above the blue curve. Its slope at the dot is β; the dotted tangent meets the axis at J = β log Z. Small "
                "orange dots: best of n for other n."
            )
        )
        _best_of_n(example, n, picked)
    if len(example.names) != 3:
        _put_in(example, best)
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        _put_in(example, best)
    with right:
        _on_the_simplex(example, best, n, picked)


def _numbers(best: ko.Optimum) -> None:
    with st.container(horizontal=True, gap="medium"):
        st.metric("E[r]", number(best.reward), width="content", help=_("The reward that π∗ earns on average."))
        st.metric("KL(π∗‖π_ref)", f"{number(best.kl)} nats", width="content", help=_("How far π∗ is from the reference."))
        st.metric("J = E[r] − β·KL", number(best.objective), width="content", help=_("What π∗ maximises. No policy has more."))
        z = number(math.exp(best.log_z)) if abs(best.log_z) < 9 else f"e^{number(best.log_z)}"
        st.metric("Z", z if best.beta else "–", width="content", help=_("Z = Σ π_ref·e^(r/β), the number that makes π∗ sum to 1."))


def _in_words(example: Example, best: ko.Optimum) -> None:
    """What is special about this setting, if anything is."""
    able = example.reference > 0
    rewards, top = example.rewards[able], example.rewards[able].max()
    tied = [name for name, reward, can in zip(example.names, example.rewards, able, strict=True) if can and reward == top]
    if np.ptp(rewards) == 0:
        st.info(_("All rewards are equal, so there is nothing to gain: π∗ is the reference for every β."), icon=":material/balance:")
    elif example.beta == 0 and len(tied) > 1:
        words = _("β = 0: distance is free, so only the best answers are left. {names} are tied and keep the reference's proportions.")
        st.info(words.format(names=", ".join(tied)), icon=":material/vertical_align_top:")
    elif example.beta == 0:
        words = _(
            "β = 0: distance is free and π∗ always gives {name}, the answer with the highest reward. Z has no value here: r/0 is "
            "infinite. What is shown is the limit for β → 0."
        )
        st.info(words.format(name=tied[0]), icon=":material/vertical_align_top:")
    elif best.policy.max() > 0.999:
        words = _("β is so small against the differences of reward that π∗ is all but the arg max: lower β changes nothing any more.")
        st.info(words, icon=":material/vertical_align_top:")
    if not able.all():
        never = ", ".join(name for name, can in zip(example.names, able, strict=True) if not can)
        words = _(
            "The reference never writes {names}, so π∗ does not either, whatever the reward: 0·e^(r/β) = 0, and any share would cost "
            "infinite KL."
        )
        st.info(words.format(names=never), icon=":material/block:")


def _frontier(example: Example, best: ko.Optimum, n: int, picked: Floats) -> Plot:
    is_dark = theme.dark()
    star, orange, muted = theme.on_ground(STAR, is_dark), theme.on_ground(BEST_OF, is_dark), theme.muted(is_dark)
    line = ko.frontier(example.reference, example.rewards)
    figure = Plot()
    figure.scatter(
        x=line.kls, y=line.rewards, mode="lines", name="π∗ " + _("over β"), line={"color": star, "width": 2}, customdata=line.betas,
        hovertemplate="β %{customdata:.3g}<br>KL %{x:.3f}, E[r] %{y:.3f}<extra></extra>",
    )  # fmt: skip
    others = np.array([ko.best_of_n(example.reference, example.rewards, m) for m in NS])
    figure.scatter(
        x=kl(others, example.reference), y=others @ example.rewards, mode="markers+lines", name=_("best of n"), customdata=NS,
        line={"color": orange, "width": 1, "dash": "dot"}, marker={"color": orange, "size": 5},
        hovertemplate="n %{customdata}<br>KL %{x:.3f}, E[r] %{y:.3f}<extra></extra>",
    )  # fmt: skip
    mine, bound, earned = float(kl(picked, example.reference)), ko.best_of_n_bound(n), float(picked @ example.rewards)
    figure.scatter(
        x=[mine, bound], y=[earned, earned], mode="lines+markers", name=_("its bound"), line={"color": muted, "width": 1},
        marker={"color": [orange, muted], "size": [10, 10], "symbol": ["circle", "line-ns-open"]},
        hovertemplate="KL %{x:.3f}<extra></extra>",
    )  # fmt: skip
    reach = max(float(line.kls[-1]), bound, 0.1)
    across = np.array([0.0, min(reach, 2 * best.kl + 0.15 * reach)])
    figure.scatter(
        x=across, y=best.objective + example.beta * across, mode="lines", name=_("slope β"), hoverinfo="skip",
        line={"color": muted, "width": 1, "dash": "dot"},
    )  # fmt: skip
    figure.scatter(
        x=[best.kl], y=[best.reward], mode="markers", showlegend=False, marker={"color": star, "size": 12},
        hovertemplate="β %{text}<br>KL %{x:.3f}, E[r] %{y:.3f}<extra></extra>", text=[f"{example.beta:g}"],
    )  # fmt: skip
    low, high = float(line.rewards[0]), float(line.rewards[-1])
    margin = 0.12 * max(high - low, 0.2)
    return figure.lay_out(
        height=300, hovermode="closest",
        xaxis={"title": {"text": "KL(π‖π_ref), nats"}, "range": [-0.03 * reach, 1.05 * reach]},
        yaxis={"title": {"text": "E[r]"}, "range": [low - margin, high + margin]},
    )  # fmt: skip


def _best_of_n(example: Example, n: int, picked: Floats) -> None:
    words = _("Best of {n}: E[r] = {reward}, KL = {kl} nats, at most log n − (n−1)/n = {bound}.")
    distance = float(kl(picked, example.reference))
    known = words.format(n=n, reward=number(float(picked @ example.rewards)), kl=number(distance), bound=number(ko.best_of_n_bound(n)))
    why = _("One draw is the reference itself.") if n == 1 else ""
    if distance < 0.5 * ko.best_of_n_bound(n):
        why = _("Here it is well below that bound: the draws often hold the same answer, or answers of the same reward.")
    st.caption(f"{known} {why}")


def power(exponent: float) -> str:
    """e^exponent in LaTeX: as a number where that is readable."""
    return latex.tex(math.exp(exponent)) if abs(exponent) < 9 else rf"e^{{{latex.result(exponent)}}}"


def _put_in(example: Example, best: ko.Optimum) -> None:
    st.markdown(f"##### {_('With the numbers put in')}")
    if example.beta == 0:
        st.caption(_("For β = 0 the formula would divide by 0. Move β above it."))
        return
    name = setting.choice(LAB, "answer", _("For the answer"), {name: name for name in example.names}, width=140)
    i = example.names.index(name)
    p, r, beta = float(example.reference[i]), float(example.rewards[i]), example.beta
    terms = "+".join(
        rf"{latex.tex(float(q))}\,e^{{{latex.result(float(s) / beta)}}}" for q, s in zip(example.reference, example.rewards, strict=True)
    )
    by_definition = ko.objective(best.policy, example.reference, example.rewards, beta)
    latex.block(
        r"Z=\sum_y\pi_\mathrm{ref}(y)\,e^{r(y)/\beta}",
        rf"={terms}={power(best.log_z)}",
        rf"\pi^*({name})=\frac{{\pi_\mathrm{{ref}}({name})\,e^{{r({name})/\beta}}}}{{Z}}="
        rf"\frac{{{latex.tex(p)}\cdot e^{{{latex.tex(r)}/{latex.tex(beta)}}}}}{{{power(best.log_z)}}}"
        rf"={latex.result(float(best.policy[i]))}",
        rf"J(\pi^*)=\mathbb E[r]-\beta\,\mathrm{{KL}}={latex.tex(best.reward)}-{latex.tex(beta)}\cdot{latex.tex(best.kl)}"
        rf"={latex.result(by_definition)}",
        rf"\beta\log Z={latex.tex(beta)}\cdot{latex.tex(best.log_z)}={latex.result(best.objective)}{latex.TICK}",
    )
    st.caption(
        _("The last two are the same number; in floating point they differ by {gap}.").format(
            gap=number(abs(by_definition - best.objective))
        )
    )


def _on_the_simplex(example: Example, best: ko.Optimum, n: int, picked: Floats) -> None:
    st.markdown(f"##### {_('On the simplex')}")
    line = ko.frontier(example.reference, example.rewards, 80)
    figure = simplex.figure(list(example.names), height=330)
    simplex.path(figure, line.policies, _("π∗ over β"), STAR)
    simplex.path(figure, [ko.best_of_n(example.reference, example.rewards, m) for m in NS], _("best of n"), BEST_OF, dash="dot")
    simplex.points(figure, example.reference, "π_ref", theme.GREY, symbol="square")
    simplex.points(figure, picked, _("best of {n}").format(n=n), BEST_OF)
    simplex.points(figure, best.policy, "π∗", STAR, symbol="star", size=15)
    live_figure(figure, key="kl/optimum/simplex")
    st.caption(f"{_('Each corner is a policy that always gives one answer.')} {_way(example)}")


def _way(example: Example) -> str:
    """Where π∗ goes as β falls: to the best of the answers that the reference writes."""
    able = example.reference > 0
    top = example.rewards[able].max()
    best = [name for name, reward, can in zip(example.names, example.rewards, able, strict=True) if can and reward == top]
    if np.ptp(example.rewards[able]) == 0:
        return _("π∗ stays at the reference for every β.")
    if len(best) == 1:
        return _("As β falls, π∗ walks from the reference to the corner {name}.").format(name=best[0])
    return _("As β falls, π∗ walks from the reference to the edge between {names}.").format(names=", ".join(best))
