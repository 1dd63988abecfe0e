"""Runs: all of them with their curves; open, rename, lay over one another, download, import, delete."""

from __future__ import annotations

import streamlit as st

from pages.components import overlay, run_details, run_table
from pages.components.i18n import _
from pages.components.text import plain
from rlhf import runs
from rlhf.errors import PlaygroundError

MOST_OVERLAID = 12
LARGEST_MB = 4096


def bring_in() -> None:
    """A zip that the Runs page made, here or elsewhere."""
    version = st.session_state.setdefault("runs/import-version", 0)
    with st.popover(_("Import"), icon=":material/upload:", key=f"runs/import-popover/{version}"):
        file = st.file_uploader(_("Zip of a run"), type="zip", key=f"runs/import/{version}", max_upload_size=LARGEST_MB)
    if file is None:
        return
    try:
        run_table.select([runs.import_zip(file).id])
    except PlaygroundError as error:
        st.session_state["runs/problem"] = str(error)
    st.session_state["runs/import-version"] = version + 1  # a closed popover with an empty uploader: the next run must not import it again
    st.rerun()


def chosen_runs() -> list[runs.Run]:
    """The selected runs that exist; a link to one that does not says so."""
    found = []
    for run_id in run_table.selected():
        try:
            found.append(runs.open_run(run_id))
        except PlaygroundError as error:
            st.warning(plain(str(error)), icon=":material/search_off:")
    return found


heading, tools = st.columns([3, 1], vertical_alignment="bottom")
heading.title(_("Runs"))
with tools, st.container(horizontal=True, horizontal_alignment="right"):
    bring_in()
run_details.undo_bar()
if not runs.list_runs():
    st.info(_("There are no runs yet."), icon=":material/info:")
    st.page_link("grpo.py", label=_("Start a GRPO run"), icon=":material/groups:")
else:
    run_table.table()
chosen = chosen_runs()
if len(chosen) == 1:
    run_details.details(chosen[0])
elif chosen:
    if len(chosen) > MOST_OVERLAID:
        st.caption(_("The first {n} of the {total} selected runs are drawn.").format(n=MOST_OVERLAID, total=len(chosen)))
    overlay.overlay(chosen[:MOST_OVERLAID])
elif runs.list_runs():
    st.caption(f":material/touch_app: {_('Select a run to open it, or several to lay their curves over one another.')}")
