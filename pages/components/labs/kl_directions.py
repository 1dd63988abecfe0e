"""Lab 6, part 7: forward and reverse KL, by one bell that is fitted to a target with two."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.kl_estimators import POLICY, shapes
from pages.components.labs.kl_example import LAB
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.latex import block, result
from rlhf.labs import kl_estimators as ke
from rlhf.labs.mdp import Floats

SHOWN = np.abs(ke.WIDE) <= 8


def draw() -> None:
    st.markdown(
        _(
            "KL is not symmetric. One bell q must stand for a target p that has two. Minimising KL(p‖q) puts it at their common mean; "
            "minimising KL(q‖p), as RLHF does with p = π∗, lets a narrow bell pick one bump and leave the other."
        )
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        apart = setting.slider(LAB, "apart", _("Distance of the bumps"), 0, 6, 4, 0.2)
        share = setting.slider(LAB, "share", _("Share of the left one"), 0, 1, 0.6, 0.05)
        width = setting.slider(LAB, "bell", _("Width of the fitted bell"), 0.4, 2.5, 0.8, 0.1)
    target = ke.two_bells(apart, share, 0.6, ke.WIDE)
    fit = ke.fit_bell(target, width)
    lines = {
        "p": (np.exp(target[SHOWN]), theme.GREY),
        _("least KL(p‖q): covers"): (np.exp(ke.bell(fit.best_forward, width, ke.WIDE)[SHOWN]), theme.ORANGE),
        _("least KL(q‖p): seeks a mode"): (np.exp(ke.bell(fit.best_reverse, width, ke.WIDE)[SHOWN]), POLICY),
    }
    with right:
        live_figure(shapes(lines, 280, ke.WIDE[SHOWN]), key="kl/directions/shapes")
        live_figure(_both(fit), key="kl/directions/curves")
    _in_words(fit, target, apart)


def _both(fit: ke.Fit) -> Plot:
    is_dark = theme.dark()
    figure = Plot()
    for values, best, name, colour in (
        (fit.forward, fit.best_forward, "KL(p‖q)", theme.ORANGE),
        (fit.reverse, fit.best_reverse, "KL(q‖p)", POLICY),
    ):
        shade = theme.on_ground(colour, is_dark)
        figure.scatter(
            x=fit.means,
            y=values,
            mode="lines",
            name=name,
            line={"color": shade, "width": 2},
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )
        figure.scatter(
            x=[best],
            y=[values.min()],
            mode="markers",
            marker={"color": shade, "size": 11, "symbol": "star"},
            showlegend=False,
            hoverinfo="skip",
        )
    top = float(min(max(fit.forward.max(), fit.reverse.max()), 4 * max(fit.forward.min(), fit.reverse.min(), 0.5)))
    return figure.lay_out(
        height=230, hovermode="x unified", xaxis={"title": {"text": _("centre of q")}},
        yaxis={"title": {"text": "KL, nats"}, "range": [-0.03 * top, top]},
    )  # fmt: skip


def _in_words(fit: ke.Fit, target: Floats, apart: float) -> None:
    mean = float(np.exp(target) @ ke.WIDE)
    block(
        rf"\arg\min_q\mathrm{{KL}}(p\Vert q)={result(fit.best_forward)}\quad\big(\mathbb E_p[y]={result(mean)}\big),\qquad"
        rf"\mathrm{{KL}}={result(float(fit.forward.min()))}",
        rf"\arg\min_q\mathrm{{KL}}(q\Vert p)={result(fit.best_reverse)},\qquad\mathrm{{KL}}={result(float(fit.reverse.min()))}",
    )
    st.caption(
        _(
            "KL(p‖q) is infinite where q has nothing and p has something: q must cover, and stands at the mean of p. KL(q‖p) counts only "
            "where q is: it may leave a bump out, but must not stand where p has nothing."
        )
    )
    if abs(fit.best_reverse - fit.best_forward) < 0.15 * max(apart, 1.0):
        st.info(
            _("Both stand at nearly the same place here, as where the bumps are close, one has nearly all the weight, or q is wide."),
            icon=":material/balance:",
        )
