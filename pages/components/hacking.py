"""Runs whose reward is watched by a gold reward: both curves, the peak, and what was written before, at and after it."""

from __future__ import annotations

import html
from collections.abc import Mapping

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from pages.components import charts, demo, state, theme
from pages.components.i18n import _
from pages.components.live import how_far
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


def draw(chosen: Mapping[str, str]) -> None:
    """Curves, verdicts and samples of runs, by their names; polls while one of them is alive."""
    alive = any(_alive(run_id) for run_id in chosen)
    st.fragment(_watch, run_every=REFRESH_SECONDS if alive else None, key="hacking-curves")(chosen, alive)


def _alive(run_id: str) -> bool:
    try:
        return open_run(run_id).status.state in state.LIVE_STATES
    except PlaygroundError:
        return False


def _watch(chosen: Mapping[str, str], alive: bool) -> None:
    if alive and not any(_alive(run_id) for run_id in chosen):
        st.rerun()
    runs = []
    for run_id in chosen:
        try:
            runs.append(open_run(run_id))
        except PlaygroundError as error:
            st.warning(plain(str(error)), icon=":material/search_off:")
    found = {run: measurements(run.metrics()) for run in runs}
    if any(found.values()):
        _plots(found, chosen)
    verdicts = {run: judge(rows) for run, rows in found.items()}
    for run, verdict in verdicts.items():
        _verdict(run, chosen[run.id], verdict)
    _samples({run.id: verdict for run, verdict in verdicts.items() if verdict}, chosen)


def _plots(found: dict[Run, list[Measurement]], names: Mapping[str, str]) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        charts.still(_figure(found, names, "step", _("step")), key="hacking/steps")
    with right:
        axis = _("√KL to the reference (√nats a token)")
        charts.still(_figure(found, names, "root_kl", axis), key="hacking/kl")
    st.caption(
        _("Solid: the reward that is trained on. Dashed: the gold reward, which the policy never sees. Diamond: the gold reward's peak.")
        + " "
        + _("Both are measured on held-out prompts.")
    )


def _figure(found: dict[Run, list[Measurement]], names: Mapping[str, str], across: str, axis: str) -> go.Figure:
    """One colour a run. Proxies that are reward models have scales of their own: they get a panel of their own, under the gold reward."""
    is_dark = theme.dark()
    apart = any(term["name"] == "reward_model" for run in found for term in run.config.get("reward", []))
    figure = make_subplots(rows=2 if apart else 1, shared_xaxes=True, vertical_spacing=0.06)
    several = len(found) > 1
    for i, (run, rows) in enumerate(found.items()):
        colour = theme.on_ground(theme.SERIES_COLOURS[i % len(theme.SERIES_COLOURS)], is_dark)
        name = html.escape(names[run.id])
        x = [getattr(m, across) for m in rows]
        hover = "%{y:.3f}"
        for y, dash, what, row in (
            ([m.proxy for m in rows], "solid", _("trained on"), 2 if apart else 1),
            ([m.gold for m in rows], "dash", _("gold"), 1),
        ):
            figure.add_scatter(
                x=x, y=y, name=f"{name}: {what}", mode="lines", line={"color": colour, "dash": dash}, hovertemplate=hover,
                legendgroup=run.id if several else None, showlegend=not several, row=row, col=1,
            )  # fmt: skip
        if several:  # the line styles are explained below the plots; the legend names the runs
            figure.add_scatter(x=[None], y=[None], name=name, mode="lines", line={"color": colour}, legendgroup=run.id, row=1, col=1)
        if verdict := judge(rows):
            marker = {"color": colour, "size": 11, "symbol": "diamond"}
            peak = [getattr(verdict.peak, across)]
            figure.add_scatter(
                x=peak, y=[verdict.peak.gold], mode="markers", marker=marker, showlegend=False, legendgroup=run.id if several else None,
                name=f"{name}: {_('gold')}", hovertemplate=hover, row=1, col=1,
            )  # fmt: skip
    legend = 18 * len(found) if several else 0  # its lines
    figure.update_layout(template=theme.template(is_dark), height=(480 if apart else 340) + legend)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text=axis, row=2 if apart else 1)
    figure.update_yaxes(title_text=_("gold") if apart else _("reward"), row=1)
    if apart:
        figure.update_yaxes(title_text=_("trained on"), row=2)
    return figure


def _verdict(run: Run, called: str, verdict: Verdict | None) -> None:
    status = run.status
    name = f"**{plain(called)}**"
    if status.state in state.LIVE_STATES:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{name}: {how_far(status)}", width="content")
            st.page_link("grpo.py", label=_("Pause or stop it"), icon=":material/arrow_outward:", query_params={"run": run.id})
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


def _samples(verdicts: Mapping[str, Verdict], names: Mapping[str, str]) -> None:
    """Held-out answers of one of the runs before, at and after the gold reward's peak."""
    if not verdicts:
        return
    st.markdown(f"##### {_('What was written')}")
    run_id = next(iter(verdicts))
    if len(verdicts) > 1:
        run_id = st.selectbox(
            _("Run"), list(verdicts), format_func=lambda one: names[one], key="hacking/samples", label_visibility="collapsed"
        )
    feed, verdict = state.feed(run_id), verdicts[run_id]
    last = _("The newest") if feed.run.status.state in state.LIVE_STATES else _("At the end")
    steps = {_("Before"): verdict.start.step, _("At the peak of gold"): verdict.peak.step, last: verdict.end.step}
    answers = {title: demo.heldout(feed, step) for title, step in steps.items()}
    prompts = [prompt for prompt in next(iter(answers.values())) if all(prompt in found for found in answers.values())]
    if not prompts:
        return
    for prompt in prompts[:SHOWN_PROMPTS]:
        for column, (title, step) in zip(st.columns(3), steps.items(), strict=True):
            response = answers[title][prompt]
            with column.container(border=True, height="stretch"):
                st.badge(f"{title}: {_('step {step}').format(step=step)}", color="gray")  # in each card: columns stack on a phone
                st.markdown(f"**{plain(prompt)}** {plain(response['text'])}")
                gold = number(response.get("gold"), sign=True)
                st.caption(_("reward {reward}, gold {gold}").format(reward=number(response["reward"], sign=True), gold=gold))
