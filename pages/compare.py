"""Compare: a run (or two) beside the untouched model, on the same prompts, with the same seed and the same settings."""

from __future__ import annotations

import streamlit as st

from pages.components import comparison, conditions
from pages.components.comparison import Conditions
from pages.components.conditions import NONE, ask
from pages.components.i18n import _
from pages.components.text import plain, show_error
from rlhf import compare, runs
from rlhf.algorithms import writes
from rlhf.compare import Side
from rlhf.errors import PlaygroundError
from rlhf.estimate import model_facts
from rlhf.preferences import Prompt
from rlhf.rewards import RewardMix

AT_ONCE = 20_000_000  # parameters up to which answers are written without being asked for
LISTED = 200


def draw() -> None:
    available = [run for run in runs.list_runs()[:LISTED] if writes(run.algorithm) and (run.checkpoints() or run.last is not None)]
    _check_link({run.id for run in available})
    if not available:
        st.info(_("There is no trained model yet. Start a run, and compare it here."), icon=":material/info:")
        st.page_link("grpo.py", label=_("Start a GRPO run"), icon=":material/groups:")
        return
    names = {run.id: conditions.run_label(run) for run in available}
    left, right = st.columns(2, gap="medium")
    with left:
        first = conditions.choose_side(_("Run"), names)
    with right:
        second = conditions.choose_side(_("Beside a second run"), {NONE: _("none"), **names}, "2")
    assert first is not None
    after = [first, *([second] if second and second != first else [])]
    models = dict.fromkeys(side.model for side in after)
    sides = tuple(side for model in models for side in (Side(model), *(s for s in after if s.model == model)))
    run = runs.open_run(first.run_id)
    space = st.container(horizontal=True, vertical_alignment="center")
    with space:
        chosen = conditions.choose_conditions(run)
        heldout = compare.heldout_prompts(run, bool(chosen.terms) and RewardMix(chosen.terms).needs_answer)
        kind = conditions.choose_kind(heldout)
        prompts = conditions.choose_heldout(heldout, chosen.shown) if kind == "heldout" else []
    if kind == "own":
        prompts = conditions.write_own(run, heldout)
    elif not heldout:
        st.caption(_("This run has no held-out prompts."))
    wanted = Conditions(sides, tuple(prompts), tuple(chosen.sampling.items()), chosen.seed, chosen.terms)
    with space:
        buttons(wanted, heldout)
    work(wanted, heldout[: chosen.measured])


def _check_link(known: set[str]) -> None:
    """A link to a run that is gone, or that has no checkpoint yet, says so; the page shows another one then."""
    linked = st.query_params.get("run")
    if linked and linked not in known:
        try:
            compare.tuned(runs.open_run(linked))
        except PlaygroundError as error:
            st.warning(plain(str(error)), icon=":material/search_off:")


def buttons(wanted: Conditions, heldout: list[Prompt]) -> None:
    label, icon = _("Write answers"), ":material/edit:"
    st.button(label, icon=icon, type="primary", key="compare/write", on_click=ask, args=("write",), disabled=not wanted.prompts)
    label, icon = _("Measure on held-out prompts"), ":material/straighten:"
    can = bool(wanted.terms and heldout)
    st.button(label, icon=icon, key="compare/measure", on_click=ask, args=("measure",), disabled=not can)


def work(wanted: Conditions, heldout: list[Prompt]) -> None:
    """Do what was asked for, and show it: each is kept until it is made anew, with the conditions that it was made under.

    A click while something is being made interrupts this script; what was asked for stays asked for until it is done.
    """
    small = all(0 < (model_facts(side.model).parameters or 0) <= AT_ONCE for side in wanted.sides)
    asked: set[str] = st.session_state.setdefault("compare/asked", set())
    try:
        if wanted.prompts and ("write" in asked or ("show" in asked and small)):
            st.session_state["comparison"] = comparison.write(wanted)
        asked -= {"write", "show"}
        if "measure" in asked and heldout:
            together = Conditions(wanted.sides, tuple(heldout), wanted.sampling, wanted.seed, wanted.terms)
            st.session_state["measured"] = comparison.measure(together)
        asked.clear()
    except PlaygroundError as error:
        asked.clear()
        show_error(error)
    measured: comparison.Measured | None = st.session_state.get("measured")
    if measured and measured.conditions.sides == wanted.sides:
        comparison.show_measured(measured)
    done: comparison.Comparison | None = st.session_state.get("comparison")
    if done and done.conditions.sides == wanted.sides:
        if done.conditions != wanted:
            st.caption(f":material/history: {_('These answers were written under other conditions than those chosen now.')}")
        comparison.show(done)


st.title(_("Compare"))
st.markdown(_("The untouched model and what a run made of it, side by side: same prompts, same settings, same luck."))
try:
    draw()
except PlaygroundError as error:
    show_error(error)
