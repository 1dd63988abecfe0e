"""Lab 6, part 6: the estimators k1, k2, k3 against the exact KL."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.kl_example import LAB
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import kl_estimators as ke
from rlhf.labs.mdp import Floats

COLOURS = {"k1": theme.BLUE, "k2": theme.ORANGE, "k3": theme.GREEN}
FORMULAS = {"k1": "k1 = −log r", "k2": "k2 = ½ log² r", "k3": "k3 = r − 1 − log r"}
POLICY, REFERENCE = theme.ROLE_COLOURS["policy"], theme.ROLE_COLOURS["reference"]
DRAWN = "kl/estimators/drawn"


def draw() -> None:
    st.markdown(
        _(
            "Five hundred answers stand in a row; policy and reference each prefer some of them. While training nobody can sum over all "
            "texts, so KL is *estimated* from the answers that the policy wrote, with r = π_ref/π of each."
        )
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        _presets({_("Close"): (0.2, 1.0), _("Far"): (2.0, 1.0), _("Narrow policy"): (0.0, 0.4), _("The same"): (0.0, 1.0)})
        mean = setting.slider(LAB, "mean", _("Centre of the policy"), -2.5, 2.5, 1, 0.1)
        width = setting.slider(LAB, "width", _("Width of the policy"), 0.4, 1.6, 1, 0.1)
        st.caption(_("The reference has its centre at 0 and the width 1."))
        with st.expander(_("More"), icon=":material/tune:"):
            count = setting.whole(LAB, "samples", _("Answers drawn"), 100, 5000, 1000, 100)
            seed = setting.seed(LAB)
    policy, reference = ke.bell(mean, width), ke.bell(0.0, 1.0)
    distance, back = ke.exact_kl(policy, reference), ke.exact_kl(reference, policy)
    exact = ke.exact_moments(policy, reference)
    with right:
        with st.container(horizontal=True, gap="medium"):
            st.metric("KL(π‖π_ref)", f"{number(distance)} nats", width="content", help=_("Exact, by the sum over all answers."))
            st.metric("KL(π_ref‖π)", f"{number(back)} nats", width="content", help=_("The other direction."))
        live_figure(shapes({"π_ref": (np.exp(reference), REFERENCE), "π": (np.exp(policy), POLICY)}, 220), key="kl/estimators/shapes")
    about = mean, width, count
    if not guess(_question(exact, count, None), about):
        st.caption(_("Answer, then draw."))
        return
    settings = (mean, width, count, seed)
    if st.button(_("Draw {count} answers").format(count=count), key="kl/estimators/draw", type="primary", icon=":material/casino:"):
        st.session_state[DRAWN] = settings, ke.draw(policy, count, np.random.default_rng(seed))
    if DRAWN not in st.session_state:
        return
    made_with, drawn = st.session_state[DRAWN]
    if made_with != settings:
        st.caption(f":material/history: {_('Settings have changed: what was measured before is not shown. Draw again.')}")
        _table(exact, None)
        return
    measured = ke.measured_moments(policy, reference, drawn)
    values = ke.estimates(policy[drawn], reference[drawn])
    for column, name in zip(st.columns(3, gap="medium"), ke.NAMES, strict=True):
        with column:
            live_figure(_histogram(name, values[name], distance, measured[name].mean), key=f"kl/estimators/{name}")
    st.caption(_("What lies beyond the 99th percentile is counted in the last bar."))
    _table(exact, measured)
    _one(policy, reference, drawn)
    _in_words(exact, measured, count)
    reveal(_question(exact, count, measured), about)


def _presets(presets: dict[str, tuple[float, float]]) -> None:
    def apply(mean: float, width: float) -> None:
        st.session_state[setting.key(LAB, "mean")] = mean
        st.session_state[setting.key(LAB, "width")] = width

    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(_("Try:"), width="content")
        for name, values in presets.items():
            st.button(name, key=f"kl/preset/{name}", on_click=apply, args=values, type="tertiary")


def shapes(lines: dict[str, tuple[Floats, str]], height: int, places: Floats = ke.PLACES) -> Plot:
    """Distributions over a row of answers, (K,). ``lines``: name → (probabilities (K,), colour)."""
    is_dark = theme.dark()
    figure = Plot()
    for name, (values, colour) in lines.items():
        shade = theme.on_ground(colour, is_dark)
        figure.scatter(
            x=places, y=values, mode="lines", name=name, line={"color": shade, "width": 2}, fill="tozeroy",
            fillcolor=theme.rgba(shade, 0.12), hovertemplate=f"{name}: %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    return figure.lay_out(
        height=height, hovermode="x unified", xaxis={"title": {"text": _("answers, in a row")}},
        yaxis={"title": {"text": _("probability")}, "rangemode": "tozero"},
    )  # fmt: skip


def _histogram(name: str, values: Floats, exact: float, mean: float) -> Plot:
    """Of one estimate; what lies beyond the 99th percentile is counted in the last bar."""
    is_dark = theme.dark()
    low, high = float(min(values.min(), 0.0)), float(max(np.quantile(values, 0.99), 1e-9))
    counts, edges = np.histogram(np.minimum(values, high), bins=30, range=(low, high))
    figure = Plot()
    figure.bar(
        x=(edges[:-1] + edges[1:]) / 2, y=counts, width=edges[1] - edges[0], hovertemplate="%{x:.3f}: %{y}<extra></extra>",
        marker={"color": theme.on_ground(COLOURS[name], is_dark), "line": {"width": 0}}, showlegend=False,
    )  # fmt: skip
    top = float(counts.max()) * 1.1
    for at, dash, label in ((exact, "solid", _("exact KL")), (mean, "dot", _("measured mean"))):
        figure.scatter(
            x=[at, at], y=[0, top], mode="lines", name=label, line={"color": theme.ink(is_dark), "width": 2, "dash": dash}, hoverinfo="skip"
        )
    return figure.lay_out(
        height=230, bargap=0.05, hovermode="closest", xaxis={"title": {"text": FORMULAS[name]}},
        yaxis={"range": [0, top]},
    )  # fmt: skip


def _table(exact: dict[str, ke.Moments], measured: dict[str, ke.Moments] | None) -> None:
    rows = []
    for name in ke.NAMES:
        row = {"": FORMULAS[name], _("mean, exact"): number(exact[name].mean), _("bias, exact"): number(_tidy(exact[name].bias), sign=True)}
        row[_("std, exact")] = number(exact[name].deviation)
        if measured:
            row[_("mean, measured")] = number(measured[name].mean)
            row[_("std, measured")] = number(measured[name].deviation)
        row[_("negative, exact")] = number(exact[name].negative, "share")
        if measured:
            row[_("negative, measured")] = number(measured[name].negative, "share")
        rows.append(row)
    st.dataframe(pd.DataFrame(rows), hide_index=True)


def _tidy(bias: float) -> float:
    return 0.0 if abs(bias) < 1e-12 else bias


def _one(policy: Floats, reference: Floats, drawn: np.ndarray) -> None:
    """The first answer that was drawn, with its numbers put in."""
    p, q = math.exp(policy[drawn[0]]), math.exp(reference[drawn[0]])
    r = q / p
    st.caption(_("The first answer that was drawn, with the numbers put in:"))
    block(
        rf"r=\frac{{\pi_\mathrm{{ref}}}}{{\pi}}=\frac{{{tex(q)}}}{{{tex(p)}}}={result(r)}",
        rf"k_1=-\log r={result(-math.log(r))}",
        rf"k_2=\tfrac12\log^2r={result(math.log(r) ** 2 / 2)}",
        rf"k_3=r-1-\log r={result(r - 1 - math.log(r))}",
    )


def _in_words(exact: dict[str, ke.Moments], measured: dict[str, ke.Moments], count: int) -> None:
    if measured["k1"].negative:
        negative = _(
            "k1 is negative in {share} of the answers drawn, and that is no mistake: those are answers that the reference likes better "
            "than the policy does. Only the mean over all of them is KL, which is never negative."
        )
        st.caption(negative.format(share=number(measured["k1"].negative, "share")))
    if exact["k3"].deviation > 5 * max(exact["k1"].deviation, 1e-9):
        heavy = _(
            "k3 has a heavy tail here: the reference covers answers that the policy hardly ever writes, where r is huge. Its true "
            "standard deviation is {true}; {count} samples saw {seen}. The answers that make it so large are hardly ever drawn: unbiased, "
            "and yet of little use."
        )
        seen = number(measured["k3"].deviation)
        st.warning(heavy.format(true=number(exact["k3"].deviation), count=count, seen=seen), icon=":material/warning:")


def error(moments: ke.Moments, count: int) -> float:
    """Root mean square error of the mean of ``count`` samples: √(bias² + variance/n)."""
    return math.hypot(moments.bias, moments.deviation / math.sqrt(count))


def _question(exact: dict[str, ke.Moments], count: int, measured: dict[str, ke.Moments] | None) -> Choice:
    errors = {name: error(exact[name], count) for name in ke.NAMES}
    spreads = {name: exact[name].deviation for name in ke.NAMES}
    same, because = max(errors.values()) < 1e-12, ""
    if measured and same:
        because = _("Policy and reference are the same here: each estimate is 0 for every answer.")
    elif measured:
        because = _(
            "The expected error of a mean of {count}, √(bias² + variance/n): {errors}. This time they missed by {missed}. k1 and k3 have "
            "no bias, k2 has {bias}; here {least} has the smallest spread and {most} the largest."
        ).format(
            count=count, bias=number(exact["k2"].bias, sign=True), least=min(spreads, key=spreads.__getitem__),
            most=max(spreads, key=spreads.__getitem__), errors=", ".join(f"{name} {number(value)}" for name, value in errors.items()),
            missed=", ".join(f"{name} {number(abs(_tidy(measured[name].bias)))}" for name in ke.NAMES),
        )  # fmt: skip
    return Choice(
        "kl/estimators",
        _("From {count} answers, whose mean should come nearest to the exact KL with these settings?").format(count=count),
        ["k1", "k2", "k3", _("All the same")],
        3 if same else min(range(3), key=list(errors.values()).__getitem__),
        because,
    )
