"""The live panel of a run: state, controls, plots, and the way from a plot's point to the formula behind it.

``live_panel(run_id)`` is drawn by every page that has a run. While the run is alive it polls every second and a half, in fragments, so
that the rest of the page stands still; what a poll costs is what was appended to the run's events since the last one. Once the run has
ended nothing polls any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components import charts, samples, state, theme
from pages.components.i18n import _, language
from pages.components.numbers import duration, megabytes, number
from pages.components.state import Feed
from pages.components.text import plain
from rlhf import jobs
from rlhf.algorithms import title, writes
from rlhf.config import model_reward, spelled_reward
from rlhf.errors import PlaygroundError
from rlhf.metrics import describe
from rlhf.runs import Run, Status

POLL_SECONDS = 1.5  # each poll takes the training some 20 ms of a core
QUEUED_SECONDS = 0.5  # the first point should be there soon after the click
SAMPLES_SECONDS = 3.0
WAITING_SECONDS = 3.0  # a paused run may be resumed from another window

_BOARD, _SAMPLES = "live-board", "live-samples"


def live_panel(run_id: str, *, compact: bool = False, listed: bool = False) -> None:
    """Everything about one run. ``compact``: state, two plots and no samples, for Home; ``listed``: on the page of all runs."""
    try:
        feed = state.feed(run_id)
    except PlaygroundError as error:
        st.warning(plain(str(error)), icon=":material/search_off:")
        return
    seen = feed.run.status.state
    every = {"queued": QUEUED_SECONDS, "running": POLL_SECONDS, "paused": WAITING_SECONDS}.get(seen)
    st.fragment(_board, run_every=every, key=_BOARD)(run_id, seen, compact, listed)
    if not compact:
        alive = seen in state.LIVE_STATES
        st.fragment(_samples, run_every=SAMPLES_SECONDS if alive else None, key=_SAMPLES)(run_id, alive)


def _board(run_id: str, seen: str, compact: bool, listed: bool) -> None:
    """State, controls and plots: what changes every second."""
    try:
        feed = state.feed(run_id)
    except PlaygroundError as error:  # deleted meanwhile
        st.warning(plain(str(error)), icon=":material/search_off:")
        return
    status = feed.run.status
    if status.state != seen:
        st.rerun()  # begun or ended: the page around the panel changes, and so does the polling
    with st.container(key=f"live-{'compact' if compact else 'full'}"):
        _head(feed, status)
        _message(feed, status)
        _plots(feed, status, compact)
        if status.state in ("finished", "stopped") and not compact:
            _afterwards(feed, status, listed)


# ---------------------------------------------------------------- state and controls


def state_name(status: Status) -> str:
    return {
        "queued": _("Queued"), "running": _("Running"), "paused": _("Paused"), "finished": _("Finished"), "stopped": _("Stopped"),
        "interrupted": _("Interrupted"), "failed": _("Failed"),
    }[status.state]  # fmt: skip


def how_far(status: Status) -> str:
    """State and step in a line."""
    return _("{state}, step {step} of {steps}").format(state=state_name(status), step=status.step, steps=status.steps)


def phase_name(phase: str) -> str:
    return {
        "loading": _("loading the model"), "sampling": _("writing answers"), "scoring": _("scoring answers"),
        "updating": _("updating the policy"), "evaluating": _("measuring on held-out data"), "saving": _("saving"),
    }.get(phase, phase)  # fmt: skip


def _head(feed: Feed, status: Status) -> None:
    run = feed.run
    colour, icon = theme.STATE_BADGES[status.state]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(state_name(status), icon=icon, color=colour)
        words = f"**{plain(_(title(run.algorithm)))}** · {plain(run.model)} · {_('seed')} {run.config.get('seed', 0)}"
        st.markdown(words if run.name == run.id else f"{words} · {plain(run.name)}", width="content")
    if status.steps and status.state != "queued":
        st.progress(min(1.0, status.step / status.steps), text=_progress(feed, status))
    with st.container(horizontal=True, gap="small"):
        _controls(run, status)


def _progress(feed: Feed, status: Status) -> str:
    """Where the run is, in one line."""
    parts = [_("Step {step} of {steps}").format(step=status.step, steps=status.steps)]
    if status.state == "running":
        asked = feed.run.request[0]
        if asked != "run":
            parts.append(_("pausing") if asked == "pause" else _("stopping"))
        elif status.phase:
            parts.append(phase_name(status.phase))
        if status.eta_seconds is not None:
            parts.append(_("{time} left").format(time=duration(status.eta_seconds)))
    if status.steps_per_second:
        parts.append(f"{number(status.steps_per_second)} {_('steps/s')}")
    if (tokens := feed.last("tokens_per_second")) is not None:
        parts.append(f"{number(tokens)} {_('tokens/s')}")
    if status.state == "running" and status.memory_bytes:
        parts.append(megabytes(status.memory_bytes))
    return " · ".join(parts)


def _controls(run: Run, status: Status) -> None:
    def button(label: str, icon: str, act: Callable[[], None], name: str, help: str, primary: bool = False) -> None:
        st.button(
            label, icon=f":material/{icon}:", key=f"{name}:{run.id}", help=help, on_click=_attempt, args=(act,),
            type="primary" if primary else "secondary",
        )  # fmt: skip

    if status.state == "running":
        pausing = run.request[0] == "pause"
        if pausing:
            button(_("Resume"), "play_arrow", lambda: jobs.resume(run), "resume", _("Take the pause back."))
        else:
            button(
                _("Pause"),
                "pause",
                lambda: jobs.pause(run),
                "pause",
                _("Writes a checkpoint and frees the device; Resume continues exactly from there."),
            )
    elif status.state in ("paused", "interrupted", "failed") or (status.state == "stopped" and not status.discarded):
        button(_("Resume"), "play_arrow", lambda: jobs.resume(run), "resume", run.resume_hint(), primary=status.state != "stopped")
    if status.state in ("running", "paused", "queued", "interrupted"):
        if status.state != "queued":
            button(
                _("Stop and keep"), "save", lambda: jobs.stop(run, keep=True), "keep",
                _("Keeps the model as it is now, to compare or to go on from; the curves and samples stay too."),
            )  # fmt: skip
        if st.button(_("Stop and discard"), icon=":material/delete:", key=f"discard:{run.id}", type="tertiary"):
            _confirm_discard(run.id)


def _attempt(act: Callable[[], None]) -> None:
    """What a button asks for; what went wrong is told in the panel, not as a traceback."""
    st.session_state.pop("live-problem", None)
    try:
        act()
    except PlaygroundError as error:
        st.session_state["live-problem"] = str(error)


def _confirm_discard(run_id: str) -> None:
    @st.dialog(_("Stop and discard this run?"), icon=":material/delete:")
    def confirm() -> None:
        run = state.feed(run_id).run
        step = run.status.step
        st.markdown(
            _(
                "The trained model is lost: all its checkpoints, up to step {step}, are deleted and the run cannot be resumed. "
                "Its curves and samples stay in Runs."
            ).format(step=step)
        )
        with st.container(horizontal=True):
            sure = st.button(
                _("Discard the model"), type="primary", icon=":material/delete:", key="discard-yes",
                on_click=_attempt, args=(lambda: jobs.stop(run, keep=False),),
            )  # fmt: skip
            if sure:
                st.rerun()
            if st.button(_("Keep running"), key="discard-no"):
                st.rerun()

    confirm()


def _message(feed: Feed, status: Status) -> None:
    """What a state means and what can be done about it."""
    if problem := st.session_state.pop("live-problem", None):
        st.error(plain(problem), icon=":material/error:")
    text = plain(status.message)
    if status.do:
        text += f"  \n{plain(status.do)}" if text else plain(status.do)
    match status.state:
        case "queued":
            st.info(_waiting(feed.run, status), icon=":material/schedule:")
        case "failed":
            st.error(text, icon=":material/error:")
        case "interrupted":
            st.warning(text, icon=":material/power_off:")
        case "paused" | "stopped" if text:
            st.caption(text)


def _waiting(run: Run, status: Status) -> str:
    if status.queue_place is None or status.queue_place == 1:
        under_way = [other for other in jobs.active(run.root) if other.id != run.id and other.status.state == "running"]
        if not under_way:
            waited = time.time() - status.since
            text = _("Starting: a worker takes the run in a moment.")
            return (
                text if waited < 8 else text + " " + _("The first one after the server's start imports PyTorch, which takes some seconds.")
            )
        text = _("Next in the queue.")
    else:
        text = _("Waiting in the queue: place {place}.").format(place=status.queue_place)
    wait = jobs.expected_wait(run)
    return text if wait is None else text + " " + _("It starts in about {time}.").format(time=duration(wait))


# ---------------------------------------------------------------- plots


def _plots(feed: Feed, status: Status, compact: bool) -> None:
    if status.state != "running" and not feed.columns:
        return
    run = feed.run
    at = state.focus(run.id)
    chosen = charts.COMPACT.get(run.algorithm, ()) if compact else charts.charts_of(feed, run.algorithm)
    smooth, log = 0.0, False
    if not compact:
        smooth, log, more = _plot_settings(feed)
        chosen = (*chosen, *(charts.Chart((key,)) for key in more))
    content = _content(feed, status, (chosen, smooth, log, at.step, compact))
    grid_key = f"plots:{run.id}"

    def clicked() -> None:
        step = charts.clicked_step(grid_key)
        if step is not None and not compact:
            at.move(step)
            st.rerun([_BOARD, _SAMPLES])

    charts.grid(content, key=grid_key, on_step=clicked)


Settings = tuple[tuple[charts.Chart, ...], float, bool, int | None, bool]


def _content(feed: Feed, status: Status, settings: Settings) -> bytes:
    """The plots as the browser gets them; made again when a setting has changed, or when there are new steps.

    For new steps of a long run not at every poll, so that making them takes a twentieth of a core at the most.
    """
    chosen, smooth, log, step, compact = settings
    is_dark = theme.dark()
    made: _Made | None = feed.drawn.get("plots")
    now = time.monotonic()
    if made and made.settings == (settings, is_dark, language()):
        soon = status.state == "running" and now - made.at < 20 * made.seconds
        if made.version == feed.version or soon:
            return made.content
    given: dict[str, Any] = {"algorithm": feed.run.algorithm, "steps": max(status.steps, 1), "smooth": smooth, "log": log}
    cards = [charts.card(chart, feed, selected=step, is_dark=is_dark, **given) for chart in chosen]
    content = charts.payload(cards, is_dark=is_dark, compact=compact)
    feed.drawn["plots"] = _Made((settings, is_dark, language()), feed.version, content, now, time.monotonic() - now)
    return content


@dataclass(frozen=True)
class _Made:
    """Plots that were made: from which settings (with theme and language) and version of the feed, when, and in how many seconds."""

    settings: tuple[Settings, bool, str]
    version: int
    content: bytes
    at: float
    seconds: float


def _plot_settings(feed: Feed) -> tuple[float, bool, list[str]]:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        smooth = st.slider(
            _("Smoothing"), 0.0, 0.95, 0.0, 0.05, key="smooth", width=170, persist_state="session", bind="query-params",
            help=_("Exponential moving average; the raw curve stays visible behind it. 0 shows the raw curve alone."),
        )  # fmt: skip
        log = st.toggle(_("Log scale"), key="log", persist_state="session", bind="query-params")
        extra = charts.extra_keys(feed, feed.run.algorithm)
        key = f"more-plots:{feed.run.algorithm}"
        if not set(st.session_state.get(key, ())) <= set(extra):  # chosen for another run, which had more
            st.session_state[key] = [name for name in st.session_state[key] if name in extra]
        with st.popover(_("More plots"), icon=":material/add_chart:", type="tertiary"):
            more = st.multiselect(
                _("More plots"), extra, format_func=lambda name: _(describe(name).label), key=key, persist_state="session"
            )
    return smooth, log, more


# ---------------------------------------------------------------- samples, and what comes after


def _samples(run_id: str, alive: bool) -> None:
    try:
        feed = state.feed(run_id)
    except PlaygroundError:
        return  # the board says so
    if feed.run.status.state != "running" and not feed.columns:
        return
    with st.container(key="live-samples-pane"):
        st.markdown(f"##### {_('Prompts and responses')}")
        st.caption(_("Click a point in a plot, or move the slider, to see what was written at that step."))
        samples.pane(feed, alive)


_CHANGES = (
    "eval/reward", "eval/kl", "eval/rewards/accuracies", "eval/rewards/margins", "eval/accuracy", "eval/margin", "eval/perplexity",
    "eval/mean_token_accuracy", "eval/completions/mean_length", "eval/entropy",
)  # fmt: skip


def changes(feed: Feed) -> list[tuple[str, float, float]]:
    """(metric key, at the start, at the end) of the held-out figures that were measured at least twice."""
    found = []
    for key in _CHANGES:
        column = feed.columns.get(key)
        if column and len(column.values) > 1:
            found.append((key, column.values[0], column.values[-1]))
    return found


def _change(before: float, after: float, unit: str) -> str:
    """For ``st.metric``, which reads the direction of its arrow from a plain minus sign."""
    difference = number(after - before, sign=True)
    if unit == "share":
        difference = _("{n} points").format(n=number(100 * (after - before), sign=True))
    return f"{difference.replace('−', '-')} · {_('from')} {number(before, 'share' if unit == 'share' else '')}"


def _afterwards(feed: Feed, status: Status, listed: bool) -> None:
    """What the run has changed, and the next thing to try."""
    rows = changes(feed)
    with st.container(border=True, key="afterwards"):
        st.markdown(f"**{_('What changed, on held-out data')}**")
        if rows:
            with st.container(horizontal=True, gap="medium"):
                for key, before, after in rows:
                    metric = describe(key.removeprefix("eval/"))
                    st.metric(
                        _(metric.label), number(after, metric.unit), _change(before, after, metric.unit),
                        delta_color="normal" if metric.better == "up" else "inverse" if metric.better == "down" else "off", width="content",
                        help=_(metric.definition),
                    )  # fmt: skip
        else:
            st.caption(_("The run ended before its held-out data was measured a second time."))
        st.markdown(f"**{_('Next')}**")
        with st.container(horizontal=True, gap="medium"):
            if not writes(feed.run.algorithm):
                _use_as_reward(feed.run, status)
            elif not status.discarded:
                st.page_link(
                    "compare.py",
                    label=_("Compare its answers with the untouched model's"),
                    icon=":material/compare:",
                    query_params={"run": feed.run.id},
                )
                if feed.run.algorithm == "dpo":
                    label, query = _("What it prefers, pair by pair"), {"policy": feed.run.id}
                    st.page_link("bradley_terry.py", label=label, icon=":material/balance:", query_params=query)
            if not listed:
                st.page_link("runs.py", label=_("All runs, their curves side by side"), icon=":material/stacked_line_chart:")


def _use_as_reward(run: Run, status: Status) -> None:
    """A trained reward model: to the pages on which a policy is trained against it."""
    if status.discarded:
        return
    for page, label, icon in (("grpo", "GRPO", "groups"), ("reinforce", "REINFORCE", "casino"), ("ppo", "PPO", "school")):
        words = _("Train a policy against it: {algorithm}").format(algorithm=label)
        query = {f"{page}.model": run.model, f"{page}.reward": spelled_reward(model_reward(run.id))}
        st.page_link(f"{page}.py", label=words, icon=f":material/{icon}:", query_params=query)
