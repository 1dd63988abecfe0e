"""Several runs on the Runs page: their curves over one another, and the settings in which they differ."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.components import charts, run_table, theme
from pages.components.i18n import _
from pages.components.run_details import delete_button, written
from pages.components.text import plain, told_apart
from rlhf.metrics import METRICS, describe
from rlhf.runs import Run


def overlay(chosen: Sequence[Run]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(chosen) == 2:
            pair = {"run": chosen[0].id, "run2": chosen[1].id}
            st.page_link("compare.py", label=_("Compare their answers"), icon=":material/compare:", query_params=pair)
        delete_button(list(chosen))
    runs = named(chosen)
    rows = {name: run.metrics() for name, run in runs.items()}
    keys = shared_first([{key for row in table for key in row} for table in rows.values()])
    if not keys:
        st.caption(_("These runs have no curves yet."))
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        first = run_table.main_metric(chosen[0].algorithm)
        key = st.selectbox(
            _("Metric"), keys, index=keys.index(first) if first in keys else 0, format_func=lambda name: _(describe(name).label),
            key="runs/metric", persist_state="session", width=320,
        )  # fmt: skip
        smooth = st.slider(_("Smoothing"), 0.0, 0.95, 0.0, 0.05, key="runs/smooth", persist_state="session", width=170)
        log = st.toggle(_("Log scale"), key="runs/log", persist_state="session")
    algorithms = [run.algorithm for run in chosen]
    distinct = len(set(algorithms)) == len(algorithms)  # then an algorithm's colour says which curve is which
    colours = {name: theme.ALGORITHM_COLOURS.get(run.algorithm, theme.GREY) for name, run in runs.items()} if distinct else None
    figure = charts.metric_figure(rows, key, smooth, log, colours=colours)
    charts.still(figure, key="runs/overlay", tools=True)
    if without := [html.unescape(name) for name, table in rows.items() if not any(key in row for row in table)]:
        st.caption(plain(_("Not measured in {runs}.").format(runs=", ".join(without))))
    metric = describe(key)
    st.caption(" ".join(filter(None, [_(metric.definition), _(metric.reading)])))
    _differences(chosen)


def named(chosen: Sequence[Run]) -> dict[str, Run]:
    """Runs by a name of their own; escaped, because plotly reads markup in names."""
    names = told_apart({run.id: run.name for run in chosen})
    return {html.escape(names[run.id]): run for run in chosen}


def shared_first(keys: Sequence[set[str]]) -> list[str]:
    """Metrics that all runs have, then the others, each in the order of the table of metrics; ``eval/`` ones come with their metric."""
    every = set().union(*keys) - {"step", "time"}
    order = {key: i for i, key in enumerate(METRICS)}
    shown = {key for key in every if not key.startswith("eval/") or key.removeprefix("eval/") not in every}
    return sorted(shown, key=lambda key: (not all(key in one for one in keys), order.get(key, len(order)), key))


def _differences(chosen: Sequence[Run]) -> None:
    only = st.toggle(_("Only settings that differ"), True, key="runs/only", persist_state="session")
    configs = [run.config for run in chosen]
    fields = list(dict.fromkeys(field for config in configs for field in config))
    values = {field: [written(config[field]) if field in config else "" for config in configs] for field in fields}
    shown = {field: row for field, row in values.items() if not only or len(set(row)) > 1}
    if not shown:
        st.caption(_("Their settings are the same."))
        return
    names = [html.unescape(name) for name in named(chosen)]
    table = pd.DataFrame([[field, *row] for field, row in shown.items()], columns=[_("Setting"), *names])
    st.dataframe(table, hide_index=True)
