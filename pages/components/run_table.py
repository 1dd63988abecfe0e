"""The list of runs as a table with a small curve each, and the selection in it, which is kept by run and not by row."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import state, theme
from pages.components.i18n import _
from pages.components.live import state_name
from pages.components.numbers import number
from rlhf import runs
from rlhf.algorithms import title
from rlhf.errors import PlaygroundError
from rlhf.metrics import describe
from rlhf.runs import Run

REFRESH_SECONDS = 2.0
CURVE_POINTS = 48
SELECTED = "runs/selected"


def main_metric(algorithm: str) -> str:
    """What a run of this algorithm is about."""
    return {"dpo": "rewards/accuracies", "reward_model": "accuracy", "sft": "mean_token_accuracy"}.get(algorithm, "reward")


def curve(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """At most ``CURVE_POINTS`` means of neighbouring steps."""
    values = [float(row[key]) for row in rows if isinstance(row.get(key), (int, float))]
    size = max(1, -(-len(values) // CURVE_POINTS))
    return [round(sum(part) / len(part), 4) for i in range(0, len(values), size) if (part := values[i : i + size])]


def before_after(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """The first and the last figure on held-out data."""
    unit = describe(key).unit
    values = [number(row[f"eval/{key}"], unit, sign=unit != "share") for row in rows if isinstance(row.get(f"eval/{key}"), (int, float))]
    return f"{values[0]} → {values[-1] if len(values) > 1 else '…'}" if values else ""


def changed_settings(run: Run) -> str:
    """What differs from the model's defaults, in a line."""
    try:
        differences = run.load_config().differences()
    except PlaygroundError:
        return ""
    return ", ".join(f"{name} {_short(value)}" for name, (_default, value) in differences.items() if name not in ("model", "data"))


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(getattr(item, "name", str(item)) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def frame(listed: Sequence[Run]) -> pd.DataFrame:
    """A row for each run, all of it text or numbers that the table shows as they are."""
    rows = []
    for run in listed:
        status, metrics, key = run.status, run.metrics(), main_metric(run.algorithm)
        kl = [row["kl"] for row in metrics if isinstance(row.get("kl"), (int, float))]
        rows.append({
            "name": run.name, "state": state_name(status), "algorithm": _(title(run.algorithm)), "model": run.model,
            "steps": f"{status.step} / {status.steps}" if status.steps else "", "curve": curve(metrics, key),
            "result": before_after(metrics, key), "kl": number(kl[-1]) if kl else "", "settings": _settings(run),
            "created": datetime.datetime.fromtimestamp(run.created),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(columns()))


@st.cache_data(max_entries=2000, show_spinner=False)
def _settings_of(path: str, changed: int) -> str:
    folder = runs.runs_dir(path)
    return changed_settings(Run(folder.name, folder.parent))


def _settings(run: Run) -> str:
    """Kept: a config is written once, and validating it costs a millisecond each."""
    file = run.path / "config.json"
    try:
        return _settings_of(str(run.path), file.stat().st_mtime_ns)
    except OSError:
        return ""


def columns() -> dict[str, Any]:
    column = st.column_config
    return {
        "name": column.TextColumn(_("Name"), width=190),
        "curve": column.LineChartColumn(
            _("Curve"), width="small", color=theme.BLUE, help=_("Reward of the training steps; for runs on pairs the reward accuracy.")
        ),
        "result": column.TextColumn(_("Held-out"), width=130, help=_("Reward (accuracy for runs on pairs) on held-out data: start → end.")),
        "state": column.TextColumn(_("State"), width="small"),
        "algorithm": column.TextColumn(_("Algorithm"), width="small"),
        "model": column.TextColumn(_("Model"), width="small"),
        "steps": column.TextColumn(_("Steps"), width="small"),
        "kl": column.TextColumn(_("KL"), width="small", help=_(describe("kl").definition)),
        "settings": column.TextColumn(_("Changed settings"), width="medium", help=_("What differs from the model's defaults.")),
        "created": column.DatetimeColumn(_("Started"), format="D MMM HH:mm", width="small"),
    }


def selected() -> list[str]:
    """Ids of the chosen runs; those of the link at first."""
    if SELECTED not in st.session_state:
        linked = [*st.query_params.get_all("run"), *st.query_params.get("runs", "").split(",")]
        st.session_state[SELECTED] = list(dict.fromkeys(filter(None, linked)))
    return st.session_state[SELECTED]


def select(ids: Sequence[str]) -> None:
    """Choose runs: in the table, in the link, and for the next time the page is opened."""
    st.session_state[SELECTED] = list(ids)
    wanted = {"run": ids[0] if len(ids) == 1 else "", "runs": ",".join(ids) if len(ids) > 1 else ""}
    for name, value in wanted.items():
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)


def table() -> None:
    """The table. It keeps itself up to date for as long as a run is alive."""
    alive = any(run.status.state in state.LIVE_STATES for run in runs.list_runs())
    st.fragment(_table, run_every=REFRESH_SECONDS if alive else None, key="runs-table")(alive)


def _table(was_alive: bool) -> None:
    listed = runs.list_runs()
    ids = [run.id for run in listed]
    if was_alive and not any(run.status.state in state.LIVE_STATES for run in listed):
        st.rerun()  # the last one has ended: nothing to wait for any more
    # Streamlit keeps a selection by row number. When rows come or go the table becomes a new one, with the same runs selected.
    if st.session_state.get("runs/order") != ids:
        st.session_state["runs/order"] = ids
        st.session_state["runs/version"] = st.session_state.get("runs/version", 0) + 1
    chosen = [ids.index(run_id) for run_id in selected() if run_id in ids]
    event = st.dataframe(
        frame(listed), key=f"runs/table/{st.session_state['runs/version']}", hide_index=True, column_config=columns(),
        on_select="rerun", selection_mode="multi-row", selection_default={"selection": {"rows": chosen}}, placeholder="",
    )  # fmt: skip
    found = [ids[row] for row in event["selection"]["rows"] if row < len(ids)]
    if set(found) != {ids[row] for row in chosen}:
        select(found)
        st.rerun()
