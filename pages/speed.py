"""Speed: how fast each algorithm trains on this machine, and where the time of a step goes."""

from __future__ import annotations

import streamlit as st

from pages.components import speed
from pages.components.i18n import _
from pages.components.text import plain
from rlhf import bench, runs
from rlhf.errors import PlaygroundError

REFRESH_SECONDS = 1.0
PROBLEM = "speed/problem"


def start(plan: bench.Plan) -> None:
    """Measure; what keeps it from starting is shown by the next run of the page."""
    st.session_state[PROBLEM] = ""
    try:
        with st.spinner(_("Starting…")):
            bench.start(plan)
    except PlaygroundError as error:
        st.session_state[PROBLEM] = str(error)


def cancel() -> None:
    bench.cancel()


def under_way(shown_running: bool) -> None:
    """The latest benchmark; polled for as long as it runs, whoever started it."""
    found = bench.latest()
    running = found is not None and found.running
    if running != shown_running:
        st.rerun()  # the form above is locked while something is measured
    if found is None:
        st.info(_("Nothing has been measured on this machine yet. Choose what to measure, and press Measure."), icon=":material/speed:")
        return
    if running:
        speed.progress(found)
        st.button(_("Cancel"), icon=":material/stop:", key="speed/cancel", on_click=cancel)
    speed.results(found)


st.title(_("Speed"))
st.markdown(
    _(
        "How fast each algorithm trains **on this machine**, and where the time of a step goes. "
        "Nothing is estimated: real steps are taken and timed, each point in a process of its own."
    )
)
root = runs.runs_dir()
running = bench.busy(root)
plan = speed.choose(disabled=running)
with st.container(horizontal=True, vertical_alignment="center"):
    pressed = st.button(_("Measure"), icon=":material/timer:", type="primary", key="speed/measure", disabled=running or not plan.algorithms)
    if running:
        st.caption(_("A benchmark is under way, yours or another user's. Wait until it has ended: two at once would measure each other."))
    elif training := bench.runs_under_way(root):
        words = _("1 run is training, which slows what is measured.") if training == 1 else _("{n} runs are training, which slows it.")
        st.caption(f":material/warning: {words.format(n=training)}")
    elif not plan.algorithms:
        st.caption(_("Choose at least one algorithm."))
    else:
        points = len(plan.algorithms) * len(plan.batches)
        st.caption(
            _("{points} points; on a small model some seconds each, most of which is loading.").format(points=points), width="content"
        )
if pressed:
    start(plan)
    st.rerun()
if problem := st.session_state.get(PROBLEM):
    st.error(plain(problem), icon=":material/error:")
st.fragment(under_way, run_every=REFRESH_SECONDS if running else None, key="speed-latest")(running)
