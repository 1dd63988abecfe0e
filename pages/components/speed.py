"""What the Speed page draws: the choice of what to measure, a benchmark under way, its bars and its table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, theme
from pages.components.i18n import _
from pages.components.link import pick, wanted
from pages.components.numbers import megabytes, number
from pages.components.text import plain
from rlhf import bench
from rlhf.algorithms import CONFIGS, title
from rlhf.bench import Benchmark, Plan
from rlhf.catalogue import CATALOGUE
from rlhf.estimate import model_folder

BATCHES = (8, 16, 32, 64, 128, 256)
STANDARD = ("sft", "reward_model", "grpo", "ppo", "dpo")
COLOURS = {
    "sampling": theme.SKY,
    "reward": theme.YELLOW,
    "reference": theme.PURPLE,
    "forward": theme.BLUE,
    "backward": theme.ORANGE,
    "optimizer": theme.GREEN,
    "other": theme.GREY,
}


def part_names() -> dict[str, str]:
    """Part of a step's time → what it is called."""
    return {
        "sampling": _("sampling"), "reward": _("reward"), "reference": _("reference"), "forward": _("forward"),
        "backward": _("backward"), "optimizer": _("optimizer"), "other": _("other"),
    }  # fmt: skip


def choose(disabled: bool) -> Plan:
    """Model, algorithms, batch sizes, length, steps."""
    names = {name: entry.title for name, entry in CATALOGUE.items() if model_folder(name)}
    if (asked := wanted("model", "speed/model")) and asked not in names:
        names[asked] = asked  # a Hub id or folder, typed or from the link
    left, right = st.columns([1, 2], gap="medium")
    with left:
        words = _("An embedded model, one that is on this machine, or the Hub id of one that is then downloaded.")
        model = pick(_("Model"), names, "model", "speed/model", accept_new_options=True, help=words, disabled=disabled)
    with right:
        algorithms = st.multiselect(
            _("Algorithms"), list(CONFIGS), default=[name for name in STANDARD if name in CONFIGS], key="speed/algorithms",
            format_func=lambda name: _(title(name)), persist_state="session", disabled=disabled,
        )  # fmt: skip
    columns = st.columns([2, 1, 1], gap="medium")
    with columns[0]:
        words = _("Sequences in a step: sampled responses, or both answers of each pair. With several, each algorithm is measured at each.")
        batches = st.multiselect(
            _("Batch sizes"), BATCHES, default=[64], key="speed/batches", persist_state="session", help=words, disabled=disabled
        )
    with columns[1]:
        words = _("Longest answer that is sampled or read. 0: as long as the algorithm's settings for this model say.")
        tokens = st.number_input(_("Tokens"), 0, bench.MOST_TOKENS, 0, key="speed/tokens", help=words, disabled=disabled)
    with columns[2]:
        words = _(
            "Steps that are measured, after two to warm up; fewer where they take longer than 20 seconds together. The median counts."
        )
        steps = st.number_input(_("Steps"), 1, 50, 5, key="speed/steps", help=words, disabled=disabled)
    return Plan(tuple(algorithms), model, tuple(sorted(batches)) or (0,), int(tokens), int(steps))


def progress(found: Benchmark) -> None:
    """How far a benchmark under way has come, and the button that ends it."""
    done = len(found.measured) + len(found.failed)
    text = _("{done} of {points} measured").format(done=done, points=found.points)
    if found.current:
        words = _("{algorithm}, {sequences} sequences").format(algorithm=_(title(found.current[0])), sequences=found.current[1])
        text = f"{text} · {words}"
    st.progress(done / max(1, found.points), text=plain(text))


def results(found: Benchmark) -> None:
    """The machine, the bars, the table, the download; what failed, and why."""
    st.caption(machine_line(found))
    if found.measured:
        charts.still(bars(found.measured, theme.dark()), key="speed/bars")
        st.caption(
            _(
                "Seconds a step, by what they went into. *Other* is data, records and metrics. "
                "On a GPU every part waits for the GPU to finish."
            )
        )
        named = st.column_config.TextColumn(pinned=True, width=116)  # "Reward model" whole, and in view beside the last columns
        st.dataframe(table(found.measured), hide_index=True, column_config={_("Algorithm"): named})
        name = f"speed-{found.machine.get('time', '').replace(' ', '-').replace(':', '')}.csv"
        st.download_button(_("Download as CSV"), csv_text(found), name, "text/csv", icon=":material/download:", key="speed/csv")
    for failure in found.failed:
        where = _("{algorithm}, {sequences} sequences").format(algorithm=_(title(failure.algorithm)), sequences=failure.sequences)
        st.error(f"{plain(where)}: {plain(failure.what)}  \n{plain(failure.do)}", icon=":material/error:")
    if found.cut_short:
        words = _("The benchmark was cancelled.") if found.cancelled else _("The benchmark was cut short: its process has ended.")
        st.caption(f":material/info: {words} " + _("What was measured until then is shown."))


def machine_line(found: Benchmark) -> str:
    """Hardware, versions, when, and how busy it was."""
    where = found.machine
    machine = _("{cores} cores of {cpu}, {memory} GiB").format(
        cores=where["cores"], cpu=plain(str(where["cpu"])), memory=number(where["memory_gib"])
    )
    versions = f"torch {plain(where['torch'])}, transformers {plain(where['transformers'])}"
    words = " · ".join([
        _("Model {model}").format(model=plain(found.model)), *({plain(point.device) for point in found.measured}), machine, versions,
        plain(where["time"]),
    ])  # fmt: skip
    if where["load"] is not None and where["load"] > 0.5:
        words += " · " + _("the machine was busy (load {load}), so it can do better").format(load=number(where["load"]))
    return words


def bars(points: Sequence[bench.Measured], is_dark: bool) -> go.Figure:
    """A horizontal bar for each point, from its parts; the steps a second stand at its end."""
    names = [f"{_(title(point.algorithm))} · {point.sequences}" for point in points]
    figure = go.Figure()
    for part, name in part_names().items():
        values = [point.parts.get(part, 0.0) for point in points]
        if any(values):
            figure.add_bar(
                y=names, x=values, name=name, orientation="h", marker={"color": theme.on_ground(COLOURS[part], is_dark)},
                hovertemplate=f"{name}: %{{x:.3g}} s<extra>%{{y}}</extra>",
            )  # fmt: skip
    longest = max(sum(point.parts.values()) for point in points)
    for name, point in zip(names, points, strict=True):
        words = _("{rate} steps/s").format(rate=number(point.steps_per_second))
        figure.add_annotation(y=name, x=sum(point.parts.values()), text=words, showarrow=False, xanchor="left", xshift=6)
    figure.update_layout(
        template=theme.template(is_dark), barmode="stack", height=110 + 34 * len(points), legend={"traceorder": "normal"},
        xaxis={"title": {"text": _("seconds a step")}, "range": [0, 1.4 * longest]}, yaxis={"autorange": "reversed", "showgrid": False},
    )  # fmt: skip
    return figure


def table(points: Sequence[bench.Measured]) -> pd.DataFrame:
    """The same in numbers."""
    parts = part_names()
    rows = [
        {
            _("Algorithm"): _(title(point.algorithm)),
            _("Sequences"): point.sequences,
            _("Steps/s"): number(point.steps_per_second),
            _("Tokens/s"): number(point.tokens_per_second),
            _("Peak memory"): megabytes(point.memory_mib * 2**20),
            _(
                "ms a step (fastest … slowest)"
            ): f"{number(point.seconds * 1e3)} ({number(point.fastest * 1e3)} … {number(point.slowest * 1e3)})",
            **{f"{name} (ms)": number(point.parts.get(part, 0.0) * 1e3) for part, name in parts.items()},
        }
        for point in points
    ]
    return pd.DataFrame(rows)


def csv_text(found: Benchmark) -> str:
    """Full precision, one line a point, with the machine in each."""
    rows = bench.rows(found)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
