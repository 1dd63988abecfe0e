"""Votes between items: edit, paste or upload them; their strengths with intervals, and where the model does not fit."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, reliability, theme
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain, show_error
from rlhf import bradley_terry as bt
from rlhf.comparisons import Comparison, Counted, count, parse_comparisons
from rlhf.errors import DataError
from rlhf.reliability import folded

EXAMPLES = ("a small club", "stone, paper, scissors", "unbeaten")
EDITABLE = 2000
MATRIX = 40  # items in the heat maps
BOOTSTRAPS = 200
FOLDS = 10


def example(name: str) -> list[Comparison]:
    """Tables small enough to read: one that fits well, one that no strengths can fit, one that needs a prior."""
    if name == "stone, paper, scissors":
        circle = [("stone", "scissors"), ("scissors", "paper"), ("paper", "stone")]
        return [Comparison(*pair, "left") for pair in circle for _i in range(5)] + [Comparison(b, a, "left") for a, b in circle]
    if name == "unbeaten":
        return [Comparison("Ann", name, "left") for name in ("Bea", "Cem") for _i in range(3)] + [
            Comparison("Bea", "Cem", "left"),
            Comparison("Cem", "Bea", "left"),
        ]
    table = {
        ("Ann", "Bea"): (7, 3, 2),
        ("Ann", "Cem"): (8, 2, 1),
        ("Ann", "Dan"): (9, 1, 0),
        ("Bea", "Cem"): (5, 4, 3),
        ("Bea", "Dan"): (6, 2, 2),
    }
    table[("Cem", "Dan")] = (5, 4, 1)
    return [
        Comparison(a, b, winner)
        for (a, b), counts in table.items()
        for winner, times in zip(("left", "right", "tie"), counts, strict=True)
        for _i in range(times)
    ]


@dataclass(frozen=True)
class Fitted:
    counted: Counted
    fit: bt.Fit
    prior: float | None


def draw() -> None:
    votes, problems = _votes()
    if problems:
        st.warning(_("{n} rows are left out:").format(n=len(problems)) + "  \n" + "  \n".join(plain(p) for p in problems[:5]))
    if not votes:
        return
    try:
        fitted = _fit(tuple(votes))
    except DataError as error:
        show_error(error, icon=":material/block:")
        return
    if fitted is None:
        return
    board, matrices, fits, more = st.tabs([_("Leader board"), _("Who beats whom"), _("Does it fit?"), _("The next vote")])
    with board:
        _board(fitted)
    with matrices:
        _matrices(fitted)
    with fits:
        _fit_check(fitted, tuple(votes))
    with more:
        _next_vote(fitted)


# ---------------------------------------------------------------- the votes


def _votes() -> tuple[list[Comparison], list[str]]:
    ways = {"example": _("An example"), "paste": _("Paste"), "upload": _("Upload a file")}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        way = st.segmented_control(
            _("Votes from"), list(ways), default="example", format_func=ways.__getitem__, required=True, key="bt/way"
        )
        if way == "example":
            names = {name: _(name).capitalize() for name in EXAMPLES}
            chosen = st.selectbox(_("Example"), list(names), format_func=names.__getitem__, key="bt/example", width=280)
    try:
        if way == "paste":
            text = st.text_area(
                _("Three columns with a header: left, right, winner (left, right or tie)."), key="bt/pasted", persist_state="session",
                placeholder="left,right,winner\nAnn,Bea,left\nBea,Cem,tie", height=180,
            )  # fmt: skip
            return parse_comparisons(text, f"{_('pasted')}.csv") if text.strip() else ([], [])
        if way == "upload":
            file = st.file_uploader(_("Columns: left, right, winner."), type=["csv", "tsv", "jsonl", "json", "parquet"], key="bt/upload")
            return parse_comparisons(file.getvalue(), file.name) if file else ([], [])
        return _edited(example(str(chosen)), str(chosen))
    except DataError as error:
        show_error(error, icon=":material/block:")
        return [], []


def _edited(votes: list[Comparison], name: str) -> tuple[list[Comparison], list[str]]:
    """The example as a table that can be changed; what is no vote is left out and named."""
    with st.expander(_("The votes: change them, add some"), icon=":material/edit_note:"):
        frame = pd.DataFrame([vars_of(vote) for vote in votes[:EDITABLE]], columns=["left", "right", "winner"])
        edited = st.data_editor(
            frame, num_rows="dynamic", hide_index=True, height=260, key=f"bt/table/{name}",
            column_config={
                "left": st.column_config.TextColumn(_("left"), max_chars=200),
                "right": st.column_config.TextColumn(_("right"), max_chars=200),
                "winner": st.column_config.SelectboxColumn(_("winner"), options=["left", "right", "tie"]),
            },
        )  # fmt: skip
    rows = edited.fillna("").astype(str)
    filled = rows[(rows != "").any(axis=1)]
    return parse_comparisons(filled.to_csv(index=False), "table.csv") if len(filled) else ([], [])


def vars_of(vote: Comparison) -> dict[str, str]:
    return {"left": vote.left, "right": vote.right, "winner": vote.winner}


# ---------------------------------------------------------------- the fit


@st.cache_data(show_spinner=False, max_entries=20)
def _fitted(votes: tuple[Comparison, ...], prior: float | None) -> Fitted:
    counted = count(votes)
    return Fitted(counted, bt.fit(counted.wins, counted.ties, prior, counted.items), prior)


def _fit(votes: tuple[Comparison, ...]) -> Fitted | None:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        use = st.toggle(
            _("Prior"), key="bt/prior", persist_state="session",
            help=_("A normal prior on each strength keeps items finite that never lost, or were never compared with the others."),
        )  # fmt: skip
        width = (
            st.slider(_("Its deviation"), 0.2, 5.0, 1.5, 0.1, key="bt/prior-deviation", persist_state="session", width=220) if use else None
        )
    try:
        return _fitted(votes, width)
    except DataError as error:
        counted = count(votes)
        weak, strong = bt.groups(counted.wins, counted.ties)
        lines = [plain(error.what)]
        for group in (weak if len(weak) > 1 else strong)[:6]:
            lines.append("• " + plain(", ".join(counted.items[i] for i in group[:12])))
        st.error("  \n".join([*lines, plain(error.do)]), icon=":material/block:")
        return None


def _board(fitted: Fitted) -> None:
    fit, items = fitted.fit, fitted.counted.items
    order = np.argsort(-fit.strengths, kind="stable")
    low, high = fit.strengths - 1.96 * fit.standard_errors, fit.strengths + 1.96 * fit.standard_errors
    source = _("standard errors")
    if st.toggle(
        _("Bootstrap intervals"),
        key="bt/bootstrap",
        persist_state="session",
        help=_("Strengths of 200 sets of as many votes, drawn with replacement."),
    ):
        with st.spinner(_("Drawing"), show_time=True):
            drawn = bt.bootstrap(fit, BOOTSTRAPS, prior_deviation=fitted.prior)
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        source = _("the bootstrap")
    is_dark = theme.dark()
    names = [html.escape(items[i]) for i in order]
    figure = go.Figure(
        go.Scatter(
            x=fit.strengths[order], y=names, mode="markers", marker={"color": theme.on_ground(theme.BLUE, is_dark), "size": 9},
            error_x={"type": "data", "array": (high - fit.strengths)[order], "arrayminus": (fit.strengths - low)[order], "thickness": 1.5},
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )  # fmt: skip
    height = max(180, 24 * len(items) + 70)
    figure.update_layout(
        template=theme.template(is_dark), height=height, yaxis={"autorange": "reversed"}, xaxis={"title": {"text": _("strength (nats)")}}
    )
    charts.still(figure, key="bt/board")
    words = _(
        "{votes} votes, {items} items. Intervals: 95 %, from {source}. Elo is the same strength on a scale where 400 points are odds of "
        "ten to one."
    )
    st.caption(words.format(votes=f"{fitted.counted.votes:,}", items=len(items), source=source))
    ratings = bt.elo(fit.strengths)
    frame = pd.DataFrame(
        {
            _("item"): [items[i] for i in order],
            _("strength"): fit.strengths[order],
            _("from"): low[order],
            _("to"): high[order],
            "Elo": ratings[order],
            _("votes"): (fit.wins + fit.wins.T + fit.ties).sum(1)[order].astype(int),
        }
    )
    shown = {name: st.column_config.NumberColumn(format="%.2f") for name in (_("strength"), _("from"), _("to"))}
    st.dataframe(frame, hide_index=True, column_config={**shown, "Elo": st.column_config.NumberColumn(format="%.0f")})
    if fit.nu:
        even = fit.nu / (2 + fit.nu)
        st.caption(
            _("Ties (Davidson): ν = {nu}; equally strong items tie {share} of the time.").format(
                nu=number(fit.nu), share=number(even, "share")
            )
        )


def _matrices(fitted: Fitted) -> None:
    fit, items = fitted.fit, fitted.counted.items
    order = np.argsort(-fit.strengths, kind="stable")[:MATRIX]
    if len(items) > MATRIX:
        st.caption(_("The {n} strongest items.").format(n=MATRIX))
    votes = fit.wins + fit.wins.T + fit.ties
    observed = np.divide(fit.wins + fit.ties / 2, votes, out=np.full_like(votes, np.nan), where=votes > 0)
    for column, (title, values) in zip(st.columns(2), ((_("Predicted"), fit.expected_score()), (_("Observed"), observed)), strict=True):
        with column:
            st.markdown(f"**{title}**")
            shown = values[np.ix_(order, order)].copy()
            np.fill_diagonal(shown, np.nan)
            _heat(shown, [html.escape(items[i]) for i in order], f"bt/heat/{title}")
    st.caption(_("Share of the votes that the row wins against the column; a tie counts as half. Empty: never compared."))


def _heat(values: np.ndarray, names: list[str], key: str) -> None:
    is_dark = theme.dark()
    scale = [[0, theme.VERMILLION], [0.5, "#1a2027" if is_dark else "#ffffff"], [1, theme.BLUE]]
    small = len(names) <= 12
    figure = go.Figure(
        go.Heatmap(
            z=values, x=names, y=names, zmin=0, zmax=1, colorscale=scale, showscale=False, xgap=1, ygap=1, hoverongaps=False,
            texttemplate="%{z:.0%}" if small else None, hovertemplate="%{y} ≻ %{x}: %{z:.1%}<extra></extra>",
        )
    )  # fmt: skip
    layout = {"yaxis": {"autorange": "reversed"}, "height": max(220, 26 * len(names) + 80)}
    figure.update_layout(template=theme.template(is_dark), **layout)
    charts.still(figure, key=key)


@st.cache_data(show_spinner=False, max_entries=20)
def _checked(votes: tuple[Comparison, ...], prior: float | None) -> list[bt.Bin]:
    """Each vote as the fit to the others predicts it."""
    counted = count(votes)
    chance, outcome = folded(*bt.cross_validated(bt.fit(counted.wins, counted.ties, prior), FOLDS, prior_deviation=prior))
    return bt.calibration(chance, outcome)


def _fit_check(fitted: Fitted, votes: tuple[Comparison, ...]) -> None:
    fit, items = fitted.fit, fitted.counted.items
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**{_('Calibration')}**")
        figure = reliability.figure({_("votes"): (_checked(votes, fitted.prior), theme.BLUE)}, theme.dark())
        charts.still(figure, key="bt/calibration")
        st.caption(
            _(
                "Cross-validated: each vote is predicted by a fit to the votes of the other {folds} of {all} parts. "
                "Each is seen from its favourite's side; a tie counts as half. Bars: 95 % intervals."
            ).format(folds=FOLDS - 1, all=FOLDS)
        )
        if fitted.prior is None:
            st.caption(
                _("Where the other votes have no finite fit, a weak prior (deviation {n}) stands in.").format(n=f"{bt.WEAK_PRIOR:g}")
            )
    with right:
        st.markdown(f"**{_('Circles')}**")
        circles = bt.intransitive(fit.wins, fit.ties)
        if not circles:
            st.caption(_("No circle: nowhere does a majority prefer a to b, b to c, and c to a."))
            return
        st.caption(
            _("A majority prefers each to the next, and the last to the first. No strengths can say that: a single number cannot go round.")
        )
        for a, b, c in circles[:10]:
            st.markdown(plain(f"{items[a]} ≻ {items[b]} ≻ {items[c]} ≻ {items[a]}"))


def _next_vote(fitted: Fitted) -> None:
    items = fitted.counted.items
    st.caption(_("Where one more vote tells most: strengths that are close, and whose difference is poorly known."))
    rows = [
        {
            _("pair"): f"{items[a]}  –  {items[b]}",
            _("predicted"): float(fitted.fit.expected_score()[a, b]),
            _("gain (nats)"): gain,
        }
        for a, b, gain in bt.most_informative(fitted.fit, 8)
    ]
    columns = {
        _("predicted"): st.column_config.NumberColumn(format="percent"),
        _("gain (nats)"): st.column_config.NumberColumn(format="%.4f"),
    }
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns)
