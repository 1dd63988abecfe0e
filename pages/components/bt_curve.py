"""Bradley–Terry to touch: the curve with a point to drag by two scores, and its relatives (odds, Elo, softmax, Plackett–Luce)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, theme
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain
from rlhf import bradley_terry as bt

RANGE = 5.0


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        a = _score(_("Score of answer a"), 1.5, "a")
        b = _score(_("Score of answer b"), 0.0, "b")
        difference = a - b
        p, loss = bt.preference_probability(a, b), bt.preference_loss(difference)
        with st.container(horizontal=True, gap="medium"):
            st.metric("P(a ≻ b)", _chance(p, 100) + " %", width="content", help=_("Probability that a is preferred to b."))
            st.metric(_("Loss"), f"{number(loss)} nats", width="content", help=_("−log σ(Δ), if a is the one that was chosen."))
            slope = _("Its derivative by Δ: σ(Δ) − 1. The surer the model is of a right vote, the less it learns from it.")
            st.metric(_("Gradient"), number(p - 1), width="content", help=slope)
        put_in = rf"\sigma({number(a)}-{_bracketed(b)})\\&=\frac{{1}}{{1+e^{{{number(-difference)}}}}}={_chance(p)}".replace("−", "-")
        st.latex(rf"\begin{{aligned}}P(a\succ b)&=\sigma(r_a-r_b)\\&={put_in}\end{{aligned}}")
    with right:
        charts.still(_curve(difference), key="bt/curve")
        st.caption(_("Only the difference of the scores counts: move both by the same amount, and nothing changes."))
    _relatives(a, b, p)
    _many()


def _chance(p: float, scale: int = 1) -> str:
    """``scale`` · p; a probability that is all but 1 with as many digits as tell it from 1."""
    if not 0.9995 <= p < 1:
        return number(scale * p)
    return f"{scale * p:.{max(0, 1 - math.floor(math.log10(scale * (1 - p))))}f}"


def _bracketed(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def _score(label: str, default: float, name: str) -> float:
    return st.slider(label, -RANGE, RANGE, default, 0.05, key=f"bt.{name}", persist_state="session", bind="query-params")


def _curve(difference: float) -> go.Figure:
    """σ(Δ) and −log σ(Δ), with the point and its tangents."""
    is_dark = theme.dark()
    x = np.linspace(-2 * RANGE, 2 * RANGE, 201)
    chance, loss = 1 / (1 + np.exp(-x)), np.logaddexp(0, -x)
    p, loss_here = bt.preference_probability(difference, 0.0), bt.preference_loss(difference)
    figure = go.Figure()
    for y, at, name, colour in ((chance, p, "P = σ(Δ)", theme.BLUE), (loss, loss_here, "−log σ(Δ)", theme.VERMILLION)):
        line = theme.on_ground(colour, is_dark)
        figure.add_scatter(x=x, y=y, name=name, mode="lines", line={"color": line, "width": 2}, hovertemplate="Δ %{x:.2f}: %{y:.3f}")
        figure.add_scatter(
            x=[difference], y=[at], mode="markers", marker={"color": line, "size": 11}, showlegend=False, hovertemplate="%{y:.3f}"
        )
    around = np.array([-1.5, 1.5])
    tangent = {"mode": "lines", "line": {"color": theme.muted(is_dark), "width": 1, "dash": "dot"}, "hoverinfo": "skip"}
    figure.add_scatter(x=difference + around, y=loss_here + (p - 1) * around, name=_("gradient of the loss"), **tangent)
    figure.update_layout(
        template=theme.template(is_dark), height=300, hovermode="closest",
        xaxis={"title": {"text": "Δ = r_a − r_b"}, "range": [-2 * RANGE, 2 * RANGE]}, yaxis={"range": [-0.1, 3.2]},
    )  # fmt: skip
    return figure


def _relatives(a: float, b: float, p: float) -> None:
    first, second = math.exp(a), math.exp(b)
    shares = f"{number(first)} / ({number(first)} + {number(second)}) = {_chance(p)}"
    rows = [
        (_("Odds"), "P/(1−P) = e^Δ", f"{number(math.exp(a - b))} : 1"),
        (_("Log-odds"), "log P/(1−P) = Δ", f"{number(a - b, sign=True)} nats"),
        (_("Strengths p = e^r (Bradley and Terry 1952)"), "p_a / (p_a + p_b)", shares),
        (_("Elo"), "1 / (1 + 10^(−D/400))", _("D = {points} points").format(points=number(bt.ELO_PER_NAT * (a - b), sign=True))),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=[_("The same probability as"), _("Formula"), _("Here")])
    st.markdown(f"##### {_('The same thing under other names')}")
    st.dataframe(frame, hide_index=True)


def _many() -> None:
    """K answers: softmax for the best of all, Plackett–Luce for a ranking."""
    st.markdown(f"##### {_('More than two answers')}")
    st.caption(
        _("Change the scores, or add answers. The best of all K is a softmax; a whole ranking is the best, then the best of the rest …")
    )
    start = pd.DataFrame({"answer": ["a", "b", "c", "d"], "score": [1.5, 0.0, 0.5, -1.0]})
    left, right = st.columns([2, 3], gap="large")
    with left:
        edited = st.data_editor(
            start, num_rows="dynamic", hide_index=True, key="bt/many",
            column_config={
                "answer": st.column_config.TextColumn(_("Answer"), required=True, max_chars=40),
                "score": st.column_config.NumberColumn(_("Score"), required=True, min_value=-50.0, max_value=50.0, step=0.1),
            },
        )  # fmt: skip
    rows = edited.dropna()
    names, scores = [str(name) for name in rows["answer"]], rows["score"].to_numpy(float)
    if len(names) < 2:
        right.caption(_("Give at least two answers with a score."))
        return
    best = bt.best_of(scores)
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    with right:
        is_dark = theme.dark()
        figure = go.Figure(
            go.Bar(
                x=best[order], y=[f"{place + 1}. {names[i][:40]}".replace("<", "‹") for place, i in enumerate(order)], orientation="h",
                marker={"color": theme.on_ground(theme.BLUE, is_dark)}, text=[number(float(best[i]), "share") for i in order],
                hovertemplate="%{x:.3f}<extra></extra>",
            )
        )  # fmt: skip
        height = 60 + 30 * len(names)
        figure.update_layout(template=theme.template(is_dark), height=height, yaxis={"autorange": "reversed"}, xaxis={"tickformat": ".0%"})
        charts.still(figure, key="bt/best")
        chance = math.exp(bt.ranking_logprob(scores, order))
        words = _("The ranking {ranking} has a probability of {p} (Plackett–Luce); it is the likeliest of {count} rankings.")
        ranking = plain(" ≻ ".join(names[i] for i in order))
        st.caption(words.format(ranking=ranking, p=number(chance, "share"), count=f"{math.factorial(min(len(names), 20)):,}"))
