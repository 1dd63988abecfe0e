"""How many answers? The group's mean as a baseline is itself noisy: by how much, and what that does to the gradient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import groups_group as groups
from pages.components.labs import question, setting
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import group_advantages as ga

LAB = "grp"
SIZES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
BASELINES: tuple[tuple[ga.Baseline, str], ...] = (
    ("none", theme.GREY), ("exact", theme.PURPLE), ("rloo", theme.GREEN), ("dr_grpo", theme.ORANGE), ("grpo", theme.BLUE),
)  # fmt: skip


def draw() -> None:
    st.markdown(
        _(
            "A critic would know the prompt's mean reward p. GRPO guesses it from the group itself. **How large must a group be for that "
            "guess to do?**"
        )
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        p = setting.slider(LAB, "p", _("Chance p of a right answer"), 0, 1, 0.3, 0.05)
        size = groups.size_slider()
    with st.expander(_("More"), icon=":material/tune:"), st.container(horizontal=True, vertical_alignment="bottom"):
        many = setting.whole(LAB, "groups", _("Groups sampled"), 200, 10000, 2000, 200)
        seed = setting.seed(LAB, width=140)
    asked = _question(p, size)
    if not question.guess(asked, (p, size)):
        st.caption(_("Guess first: then the experiment can run."))
        return
    kept = _sampled(p, many, seed)
    if kept is None:
        return
    same = kept[0] == (p, many, seed)
    if not same:
        st.info(_("The lines follow your settings. The dots are gone: they were sampled with other ones. Sample again."))
    found = kept[1] if same else {}
    if p in (0, 1):
        st.warning(_("With p = {p} all answers earn the same: the gradient is 0, and nothing varies.").format(p=number(p)))
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"##### {_('The noise of the baseline')}")
        live_figure(_baseline(p, size, found), key="grp/baseline")
        error = ga.baseline_error(p, size)
        block(
            rf"\frac{{\sigma}}{{\sqrt{{G}}}}=\sqrt{{\frac{{p(1-p)}}{{G}}}}"
            rf"=\sqrt{{\frac{{{tex(p)}\cdot{tex(1 - p)}}}{{{size}}}}}={result(error)}"
        )
        st.caption(_("Four times as many answers for half the noise. Dots: the spread of the sampled groups' means."))
    with right:
        st.markdown(f"##### {_('The noise of the gradient')}")
        live_figure(_gradient(p, size, found), key="grp/gradient")
        st.caption(
            _(
                "Standard deviation of one group's gradient, in units of its mean, so that methods of different scale compare. Lower is "
                "better."
            )
        )
    question.reveal(_question(p, size), (p, size))
    _in_numbers(p, size, found)


def _question(p: float, size: int) -> Choice:
    nothing = float(ga.no_signal(p, size))
    text = _("p = {p}, groups of {size}. In how many groups are all answers right or all wrong, so that nothing is learned?")
    options = [_("under 5 %"), _("5 % to under 20 %"), _("20 % to under 50 %"), _("50 % or more")]
    because = _("Exactly, pᴳ + (1 − p)ᴳ = {nothing}. ").format(nothing=number(nothing, "share"))
    kept = st.session_state.get("grp/sampled")
    if kept and kept[0][0] == p and size in kept[1]:
        share = float(np.isin(kept[1][size], (0, size)).mean())
        because += _("Of the {count} sampled groups it was {share}. ").format(count=len(kept[1][size]), share=number(share, "share"))
    excess = _excess(p, size)
    if excess is not None:
        because += _("And a baseline from so few answers makes the gradient {excess} times as noisy as one that knows p.").format(
            excess=number(excess)
        )
    right = int(np.searchsorted([0.05, 0.2, 0.5], nothing, side="right"))
    return Choice("grp/nothing", text.format(p=number(p), size=size), options, right, because)


def _excess(p: float, size: int) -> float | None:
    """RLOO's standard deviation over that with the exact baseline; None where the latter is 0, at p = 0, ½ and 1."""
    exact = ga.gradient_variance(p, size, "exact")
    return float(np.sqrt(ga.gradient_variance(p, size, "rloo") / exact)) if exact > 1e-12 else None


def _sampled(p: float, many: int, seed: int) -> tuple[tuple[float, int, int], dict[int, ga.Counts]] | None:
    if st.button(_("Sample groups"), icon=":material/casino:", type="primary", key="grp/sample"):
        bar, rng = st.progress(0.0), np.random.default_rng(seed)
        every = sorted({*SIZES, *range(groups.SIZES[0], groups.SIZES[1] + 1)})
        found: dict[int, ga.Counts] = {}
        for i, size in enumerate(every):
            found |= ga.measure(p, [size], many, rng)
            bar.progress((i + 1) / len(every))
        bar.empty()
        st.session_state["grp/sampled"] = ((p, many, seed), found)
    return st.session_state.get("grp/sampled")


def _names() -> dict[ga.Baseline, str]:
    return {
        "none": _("no baseline"), "exact": _("exact mean p"), "rloo": "RLOO", "dr_grpo": "Dr. GRPO", "grpo": "GRPO",
    }  # fmt: skip


def _finished(plot: Plot, size: int, top: float, title: str) -> Plot:
    plot.upright(size)
    return plot.lay_out(
        height=320, hovermode="closest", yaxis={"title": {"text": title}, "range": [-0.02 * top, top]},
        xaxis={"title": {"text": "G"}, "type": "log", "tickvals": [2, 4, 8, 16, 32, 64], "range": [np.log10(1.85), np.log10(70)]},
    )  # fmt: skip


def _dots(plot: Plot, y: list[float], colour: str, name: str) -> None:
    plot.scatter(
        x=SIZES, y=y, mode="markers", showlegend=False, hovertemplate=_("{name}, measured").format(name=name) + ": %{y:.3f}<extra></extra>",
        marker={"color": colour, "size": 7, "line": {"color": "#11151a" if plot.dark else "#fff", "width": 1}},
    )  # fmt: skip


def _baseline(p: float, size: int, found: dict[int, ga.Counts]) -> Plot:
    shade = theme.on_ground(theme.BLUE, theme.dark())
    plot = Plot()
    exact = [ga.baseline_error(p, count) for count in SIZES]
    name = _("group's mean around p")
    plot.scatter(
        x=SIZES, y=exact, mode="lines", name=name, line={"color": shade, "width": 2}, hovertemplate="G = %{x}: %{y:.3f}<extra></extra>"
    )
    if found:
        _dots(plot, [float((found[count] / count).std()) for count in SIZES], shade, name)
    return _finished(plot, size, 0.4, _("standard error of the mean"))


def _gradient(p: float, size: int, found: dict[int, ga.Counts]) -> Plot:
    plot = Plot()
    for baseline, colour in BASELINES:
        if baseline == "dr_grpo":
            continue  # RLOO's times (G − 1)/G: in units of its mean the same
        shade, name = theme.on_ground(colour, theme.dark()), _names()[baseline]
        if baseline == "rloo":
            name = "RLOO, Dr. GRPO"
        exact = [_relative(*ga.gradient_moments(p, count, baseline)) for count in SIZES]
        plot.scatter(
            x=SIZES,
            y=exact,
            mode="lines",
            name=name,
            line={"color": shade, "width": 2},
            hovertemplate=f"{name}, G = %{{x}}: %{{y:.3f}}<extra></extra>",
        )
        if found:
            drawn = [ga.estimates(p, count, baseline)[found[count]] for count in SIZES]
            _dots(plot, [_relative(float(one.mean()), float(one.var())) for one in drawn], shade, name)
    return _finished(plot, size, 3.0, _("standard deviation / mean"))


def _relative(mean: float, variance: float) -> float:
    return float(np.sqrt(max(variance, 0.0)) / mean) if mean > 1e-12 else float("nan")


def _in_numbers(p: float, size: int, found: dict[int, ga.Counts]) -> None:
    """The closed form for this G, and a table of exact against measured."""
    square = p * (1 - p)
    fourth = square * (1 - 3 * square)
    exact, estimated = ga.gradient_variance(p, size, "exact"), ga.gradient_variance(p, size, "rloo")
    st.markdown(f"##### {_('One group of {size}, in numbers').format(size=size)}")
    st.caption(
        _("Two answers to choose from, right and wrong, p = σ(θ). An answer's score is ∂log π/∂θ = r − p, the true gradient p(1 − p).")
    )
    block(
        rf"\sigma^2=p(1-p)={result(square)},\qquad\mu_4=\sigma^2(1-3\sigma^2)={result(fourth)}",
        rf"\operatorname{{Var}}_{{\text{{exact}}}}=\frac{{\mu_4-\sigma^4}}{{G}}=\frac{{{result(fourth)}-{result(square**2)}}}{{{size}}}={result(exact)}",
        rf"\operatorname{{Var}}_{{\text{{RLOO}}}}=\frac1G\Big(\mu_4-\frac{{G-3}}{{G-1}}\,\sigma^4\Big)"
        rf"=\frac1{{{size}}}\Big({result(fourth)}-\frac{{{size - 3}}}{{{size - 1}}}\cdot{result(square**2)}\Big)={result(estimated)}",
    )
    rows = []
    for baseline, _colour in BASELINES:
        mean, variance = ga.gradient_moments(p, size, baseline)
        row = {_("Baseline"): _names()[baseline], _("mean, exact"): number(mean), _("std, exact"): number(float(np.sqrt(variance)))}
        if found:
            drawn = ga.estimates(p, size, baseline)[found[size]]
            row |= {_("mean, measured"): number(float(drawn.mean())), _("std, measured"): number(float(drawn.std()))}
        rows.append(row)
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.caption(
        _(
            "Unbiased are no baseline, the exact mean and RLOO: their mean is p(1 − p) = {true}. Dr. GRPO's is smaller by (G − 1)/G, as "
            "each answer's reward is part of its own baseline. GRPO's is a group's √(share right · share wrong), and a square root "
            "varies half as much in proportion: hence its low line. At p = ½ the exact mean has no noise at all: right and wrong answers "
            "push θ alike."
        ).format(true=number(square))
    )
