"""One run on the Runs page: rename, download, delete, its settings and its live panel."""

from __future__ import annotations

import datetime
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import run_table
from pages.components.i18n import _
from pages.components.live import live_panel
from pages.components.text import plain
from rlhf import runs
from rlhf.errors import PlaygroundError
from rlhf.runs import Run
from rlhf.runs.lineage import is_adapter

DELETED = "runs/deleted"


def details(run: Run) -> None:
    """Everything that can be done with one run."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        _rename(run)
        with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
            _downloads(run)
            if run.checkpoints():
                st.page_link("compare.py", label=_("Compare"), icon=":material/compare:", query_params={"run": run.id})
            delete_button([run])
    names = {"panel": _("Curves and samples"), "settings": _("Settings")}
    shown = st.segmented_control(
        _("Show"), list(names), default="panel", required=True, format_func=names.__getitem__, key="runs/part", label_visibility="collapsed"
    )
    if run.problem:
        st.warning(plain(run.problem), icon=":material/broken_image:")
    elif shown == "settings":
        settings(run)
    else:
        live_panel(run.id, listed=True)


def _rename(run: Run) -> None:
    key = f"runs/name/{run.id}"

    def rename() -> None:
        try:
            run.rename(st.session_state[key] or "")
        except OSError as error:
            st.session_state["runs/problem"] = _("The run cannot be renamed: {reason}").format(reason=error.strerror or error)

    shown = "" if run.name == run.id else run.name
    st.text_input(_("Name"), shown, key=key, placeholder=run.id, on_change=rename, max_chars=120, width=320)


def _downloads(run: Run) -> None:
    """Made when they are asked for, not when the page is drawn."""
    with st.popover(_("Download"), icon=":material/download:"):
        common: dict[str, Any] = {"on_click": "ignore", "width": "stretch"}
        st.download_button(
            _("The run (zip)"), lambda: runs.export_zip(run), f"{run.id}.zip", "application/zip", icon=":material/folder_zip:",
            help=_("The whole run folder. It can be opened here or elsewhere with Import."), key=f"runs/zip/{run.id}", **common,
        )  # fmt: skip
        st.download_button(
            _("Metrics (CSV)"), lambda: runs.metrics_csv(run).encode(), f"{run.id}.csv", "text/csv", icon=":material/table_view:",
            key=f"runs/csv/{run.id}", **common,
        )  # fmt: skip
        found = {info.name: info for info in reversed(run.checkpoints())}
        if not found:
            st.caption(_("There is no checkpoint yet."))
            return
        name = st.selectbox(_("Checkpoint"), list(found), key=f"runs/checkpoint/{run.id}")
        info = found[name]
        adapter = is_adapter(info.path)
        label = _("PEFT adapter (zip)") if adapter else _("Model (zip, safetensors)")
        use = _("For PeftModel.from_pretrained.") if adapter else _("For AutoModelForCausalLM.from_pretrained.")
        st.download_button(
            label, lambda: zip_folder(info.path), f"{run.id}-{name}.zip", "application/zip", icon=":material/deployed_code:", help=use,
            key=f"runs/weights/{run.id}/{name}", **common,
        )  # fmt: skip


def zip_folder(folder: Path) -> bytes:
    """A checkpoint's files, ready to be unpacked and loaded; weights do not compress, so nothing is."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return out.getvalue()


def delete_button(chosen: list[Run]) -> None:
    label = _("Delete") if len(chosen) == 1 else _("Delete {n} runs").format(n=len(chosen))
    st.button(label, icon=":material/delete:", type="tertiary", key="runs/delete", on_click=_delete, args=(chosen,))


def _delete(chosen: list[Run]) -> None:
    """Into the trash; ``undo_bar`` brings them back."""
    tokens: list[tuple[str, str]] = []
    for run in chosen:
        name = run.name
        try:
            tokens.append((runs.delete(run), name))
        except PlaygroundError as error:
            st.session_state["runs/problem"] = str(error)
    if tokens:
        st.session_state[DELETED] = tokens
    run_table.select([run_id for run_id in run_table.selected() if run_id not in {token.partition("~")[0] for token, _name in tokens}])


def undo_bar() -> None:
    """What was deleted last, and the button that undoes it."""
    if problem := st.session_state.pop("runs/problem", None):
        st.error(plain(problem), icon=":material/error:")
    deleted: list[tuple[str, str]] = st.session_state.get(DELETED, [])
    if not deleted:
        return
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        one = len(deleted) == 1
        words = _("Deleted {name}.").format(name=deleted[0][1]) if one else _("Deleted {n} runs.").format(n=len(deleted))
        st.markdown(plain(words), width="content")
        st.button(_("Undo"), icon=":material/undo:", key="runs/undo", on_click=_undo)
        close = {"on_click": st.session_state.pop, "args": (DELETED, None)}
        st.button(_("Close"), icon=":material/close:", type="tertiary", key="runs/close", **close)


def _undo() -> None:
    back = []
    for token, _name in st.session_state.pop(DELETED, []):
        try:
            back.append(runs.undo_delete(token).id)
        except PlaygroundError as error:
            st.session_state["runs/problem"] = str(error)
    run_table.select(back)


# ---------------------------------------------------------------- settings


def settings(run: Run) -> None:
    """The settings as the run was started with them, against the defaults."""
    only = st.toggle(_("Only what differs from the defaults"), True, key="runs/diff", persist_state="session")
    try:
        config = run.load_config()
        default = config.default_for(config.model).model_dump(mode="json")
        differing = set(config.differences())
    except PlaygroundError as error:
        st.warning(plain(error.what), icon=":material/info:")
        default, differing = {}, set(run.config)
    rows = [
        {"setting": name, "value": written(value), "default": written(default.get(name))}
        for name, value in run.config.items()
        if not only or name in differing
    ]
    _grid(rows, {"setting": _("Setting"), "value": _("Value"), "default": _("Default for this model")})
    if only and not rows:
        st.caption(_("All settings are this model's defaults."))
    st.caption(plain(_origin(run)))


def _origin(run: Run) -> str:
    """Where and when it was started, from what, with which versions."""
    parts = [datetime.datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M"), str(run.path)]
    if run.parent:
        parts.append(_("started from {run}").format(run=f"{run.parent} {run.info.get('parent_checkpoint') or ''}".strip()))
    versions = run.info.get("versions")
    if isinstance(versions, dict):
        parts += [f"{name} {version}" for name, version in versions.items()]
    return " · ".join(parts)


def written(value: Any) -> str:
    """A setting's value as text; a reward mix as it is written on the command line."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, dict) and "name" in item for item in value):
        return ", ".join(f"{item['name']}:{item.get('weight', 1.0):g}" for item in value)
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _grid(rows: list[dict[str, str]], labels: dict[str, str]) -> None:
    if rows:
        table = pd.DataFrame(rows, columns=list(labels))
        st.dataframe(table, hide_index=True, column_config={key: st.column_config.TextColumn(label) for key, label in labels.items()})
