"""Runs whose reward is watched by a gold reward: both curves, the peak, and what was written before, at and after it."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, demo, state, theme
from pages.components.i18n import _
from pages.components.live import state_name
from pages.components.numbers import number
from pages.components.text import plain
from rlhf.errors import PlaygroundError
from rlhf.overoptimisation import Measurement, Verdict, judge, measurements
from rlhf.runs import Run, list_runs, open_run

LISTED = 60
SHOWN_PROMPTS = 2
REFRESH_SECONDS = 2.0


def watched() -> list[Run]:
    """The newest runs that measure a gold reward."""
    return [run for run in list_runs()[:LISTED] if run.config.get("gold")]


def draw(chosen: Sequence[str]) -> None:
    """Their curves; polls while one of them is alive."""
    alive = any(_alive(run_id) for run_id in chosen)
    st.fragment(_curves, run_every=REFRESH_SECONDS if alive else None, key="hacking-curves")(tuple(chosen), alive)


def _alive(run_id: str) -> bool:
    try:
        return open_run(run_id).status.state in state.LIVE_STATES
    except PlaygroundError:
        return False


def _curves(chosen: Sequence[str], alive: bool) -> None:
    if alive and not any(_alive(run_id) for run_id in chosen):
        st.rerun()
    runs = []
    for run_id in chosen:
        try:
            runs.append(open_run(run_id))
        except PlaygroundError as error:
            st.warning(plain(str(error)), icon=":material/search_off:")
    found = {run: measurements(run.metrics()) for run in runs}
    left, right = st.columns(2, gap="medium")
    with left:
        charts.still(_figure(found, "step", _("step")), key="hacking/steps")
    with right:
        axis = _("√KL to the reference (√nats a token)")
        charts.still(_figure(found, "root_kl", axis), key="hacking/kl")
    st.caption(
        _("Solid: the reward that is trained on. Dashed: the gold reward, which the policy never sees. Diamond: the gold reward's peak.")
        + " "
        + _("Both are measured on held-out prompts.")
    )
    for run, rows in found.items():
        _verdict(run, judge(rows))


def _figure(found: dict[Run, list[Measurement]], across: str, axis: str) -> go.Figure:
    is_dark = theme.dark()
    figure = go.Figure()
    for i, (run, rows) in enumerate(found.items()):
        colour = theme.on_ground(theme.SERIES_COLOURS[i % len(theme.SERIES_COLOURS)], is_dark)
        name = html.escape(run.name)
        x = [getattr(m, across) for m in rows]
        hover = "%{y:.3f}<extra></extra>"
        for y, dash, what in (
            ([m.proxy for m in rows], "solid", _("trained on")),
            ([m.gold for m in rows], "dash", _("gold")),
        ):
            figure.add_scatter(x=x, y=y, name=f"{name}: {what}", mode="lines", line={"color": colour, "dash": dash}, hovertemplate=hover)
        if verdict := judge(rows):
            marker = {"color": colour, "size": 11, "symbol": "diamond"}
            peak = [getattr(verdict.peak, across)]
            figure.add_scatter(x=peak, y=[verdict.peak.gold], mode="markers", marker=marker, showlegend=False, hovertemplate=hover)
    layout = {"xaxis": {"title": {"text": axis}, "rangemode": "tozero"}, "yaxis": {"title": {"text": _("reward")}}}
    figure.update_layout(template=theme.template(is_dark), height=340, **layout)
    return figure


def _verdict(run: Run, verdict: Verdict | None) -> None:
    status = run.status
    name = f"**{plain(run.name)}**"
    if status.state in state.LIVE_STATES:
        where = _("{state}, step {step} of {steps}").format(state=state_name(status), step=status.step, steps=status.steps)
        st.markdown(f"{name}: {where}")
        return
    if verdict is None:
        st.markdown(f"{name}: {_('too few measurements to say anything.')}")
        return
    figures = {
        "start": number(verdict.start.gold, sign=True), "peak": number(verdict.peak.gold, sign=True), "step": verdict.peak.step,
        "end": number(verdict.end.gold, sign=True), "proxy": number(verdict.end.proxy, sign=True),
    }  # fmt: skip
    if verdict.fooled:
        words = _(
            "the reward was fooled. The gold reward rose from {start} to {peak} at step {step}, then fell to {end}, "
            "while the reward that is trained on ended at {proxy}."
        )
        st.error(f"{name}: {words.format(**figures)}", icon=":material/trending_down:")
    else:
        words = _(
            "no hack in this run. The gold reward went from {start} to {end} (its best: {peak}, at step {step}); "
            "the reward that is trained on ended at {proxy}."
        )
        st.success(f"{name}: {words.format(**figures)}", icon=":material/check:")


def samples(run_id: str) -> None:
    """Held-out answers of one run before, at and after the gold reward's peak."""
    try:
        feed = state.feed(run_id)
    except PlaygroundError:
        return
    verdict = judge(measurements(feed.run.metrics()))
    if verdict is None:
        return
    steps = {_("Before"): verdict.start.step, _("At the peak of gold"): verdict.peak.step, _("At the end"): verdict.end.step}
    answers = {title: demo.heldout(feed, step) for title, step in steps.items()}
    prompts = [prompt for prompt in next(iter(answers.values())) if all(prompt in found for found in answers.values())]
    if not prompts:
        return
    st.markdown(f"##### {_('What was written')}")
    for column, (title, step) in zip(st.columns(3), steps.items(), strict=True):
        column.badge(f"{title}: {_('step {step}').format(step=step)}", color="gray")
    for prompt in prompts[:SHOWN_PROMPTS]:
        for column, found in zip(st.columns(3), answers.values(), strict=True):
            response = found[prompt]
            with column.container(border=True, height="stretch"):
                st.markdown(f"**{plain(prompt)}** {plain(response['text'])}")
                gold = number(response.get("gold"), sign=True)
                st.caption(_("reward {reward}, gold {gold}").format(reward=number(response["reward"], sign=True), gold=gold))
