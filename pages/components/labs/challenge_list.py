"""Challenges on real runs: the list, the exact condition of the chosen one, and how far each run of this server is, part by part.

Looking at a run solves nothing: on a server with many people the runs are everybody's. Who says that a run is theirs counts it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import link, theme
from pages.components.i18n import _
from pages.components.labs import progress
from pages.components.labs.challenge_words import SYMBOLS, Words, parts, shown_as_share, words
from pages.components.latex import result as tex_number
from pages.components.live import state_name
from pages.components.numbers import number
from pages.components.state import LIVE_STATES
from pages.components.text import plain
from rlhf import runs
from rlhf.algorithms import title
from rlhf.labs.challenges import CHALLENGES, Challenge, Part, Result, judged
from rlhf.labs.run_record import Record, read
from rlhf.metrics import describe
from rlhf.runs import Run

CHOSEN = "quiz.challenge"
LISTED = 60  # runs, the newest
REFRESH_SECONDS = 2.0


def ids() -> set[str]:
    return {_id(challenge) for challenge in CHALLENGES}


def _id(challenge: Challenge) -> str:
    return f"challenge/{challenge.id}"


def draw() -> None:
    known = words()
    left, right = st.columns([2, 5], gap="large")
    with left:
        challenge = _choose(known)
    with right:
        alive = any(run.algorithm in challenge.algorithms and run.status.state in LIVE_STATES for run in _listed(challenge))
        every = REFRESH_SECONDS if alive else None
        st.fragment(_challenge, run_every=every, key=f"challenge-{challenge.id}")(challenge, known[challenge.id], alive)


def _choose(known: Mapping[str, Words]) -> Challenge:
    """The list; the choice stands in the link."""
    by_id = {challenge.id: challenge for challenge in CHALLENGES}
    link.arrived(by_id, CHOSEN, CHOSEN)
    solved = progress.solved()

    def name(one: str) -> str:
        return (":green[:material/check_circle:] " if f"challenge/{one}" in solved else "") + known[one].title

    chosen = str(st.radio(_("Challenge"), list(by_id), format_func=name, key=CHOSEN, persist_state="session"))
    link.written(CHOSEN, CHOSEN, chosen, unwritten=CHALLENGES[0].id)
    return by_id[chosen]


def _listed(challenge: Challenge) -> list[Run]:
    return [run for run in runs.list_runs() if run.algorithm in challenge.algorithms][:LISTED]


def _challenge(challenge: Challenge, said: Words, was_alive: bool) -> None:
    listed = _listed(challenge)
    if was_alive and not any(run.status.state in LIVE_STATES for run in listed):
        st.rerun()  # the last one has ended: nothing to wait for any more
    with st.container(border=True, key="challenge"):
        mark = ":green[:material/check_circle:] " if _id(challenge) in progress.solved() else ""
        st.markdown(f"##### {mark}{said.title}")
        st.markdown(said.statement)
        st.latex(said.formula)
        with st.container(horizontal=True):
            for place in said.start:
                settings = dict(place.settings) or None
                st.page_link(f"{place.page}.py", label=place.words, icon=":material/play_arrow:", query_params=settings)
        st.caption(_("These are settings to begin from; they do not fulfil it by themselves."))
    records = [record for record in map(read, listed) if record]
    found = judged(challenge, records)
    if not found:
        st.info(_("No run on this server can be judged by it yet. Start one: it appears here, and its numbers while it trains."))
        return
    _table(found, {run.id: run for run in listed})
    _open(challenge, said, found, {run.id: run for run in listed})


def _table(found: Sequence[tuple[Record, Result]], by_id: Mapping[str, Run]) -> None:
    """A row for each run, newest first, with each part of the condition."""
    names, rows = parts(), []
    for record, result in found:
        run = by_id[record.id]
        row: dict[str, Any] = {
            "met": "✔" if result.met else "", "name": run.name, "state": state_name(run.status), "algorithm": _(title(run.algorithm)),
        }  # fmt: skip
        rows.append(row | {part.key: _cell(part) for part in result.parts})
    columns = {"met": st.column_config.TextColumn("", width=30), "name": _("Run"), "state": _("State"), "algorithm": _("Algorithm")}
    for part in found[0][1].parts:
        columns[part.key] = st.column_config.TextColumn(f"{names[part.key]} {_bound(part)}")
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns, height="content" if len(rows) < 9 else 320)


def _cell(part: Part) -> str:
    return "…" if part.value is None else f"{'✔' if part.met else '✗'} {_value(part)}"


def _value(part: Part) -> str:
    if part.key == "finished":
        return _("yes") if part.met else _("not yet")
    if part.value is not None and part.key in ("steps", "pairs"):
        return f"{part.value:.0f}"
    return number(part.value, "share" if shown_as_share(part) else "")


def _bound(part: Part) -> str:
    if part.key == "finished":
        return ""
    return f"{part.relation} {100 * part.needed:g} %" if shown_as_share(part) else f"{part.relation} {part.needed:g}".replace("-", "−")


def _open(challenge: Challenge, said: Words, found: Sequence[tuple[Record, Result]], by_id: Mapping[str, Run]) -> None:
    """One run: its numbers in the condition, what the events say, every measurement, and the button that counts it."""
    names = {record.id: f"{'✔ ' if result.met else ''}{by_id[record.id].name} · {_when(by_id[record.id])}" for record, result in found}
    chosen = link.pick(_("Open a run"), names, "quiz.run", f"quiz/run/{challenge.id}")
    record, result = next((one for one in found if one[0].id == chosen), found[0])
    run = by_id[record.id]
    with st.container(border=True, key="challenge-run"):
        colour, icon = theme.STATE_BADGES[run.status.state]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(run.name)}**", width="content")
            st.badge(state_name(run.status), icon=icon, color=colour)
        st.latex(r"\begin{aligned}" + r"\\[0.3em] ".join(_line(part) for part in result.parts if part.key != "finished") + r"\end{aligned}")
        for line in (*_lacking(result), *_told(challenge, result, by_id), *_why(result)):
            st.markdown(line)
        _count(challenge, result, run.id)
        _measurements(record, said.keys)
        st.page_link(f"{run.algorithm}.py", label=_("Open the run, down to its tokens"), icon=":material/arrow_outward:",
                     query_params={"run": run.id})  # fmt: skip


def _when(run: Run) -> str:
    return f"{datetime.datetime.fromtimestamp(run.created):%Y-%m-%d %H:%M}"


def _line(part: Part) -> str:
    """``r_S − r_0 = 0.184 [≥ 0.2] × (step 40)``."""
    value = r"\text{–}" if part.value is None else f"{part.value:.0f}" if part.key in ("steps", "pairs") else tex_number(part.value)
    sign = {"≥": r"\ge", "≤": r"\le", "<": "<", ">": ">"}[part.relation]
    mark = r"\textcolor{#009E73}{\checkmark}" if part.met else r"\textcolor{#D55E00}{\times}"
    at = rf"\ (\text{{{_('step {step}').format(step=part.step)}}})" if part.step is not None else ""
    return rf"{SYMBOLS[part.key]}&={value}\ \ [{sign} {part.needed:g}]\ {mark}{at}"


def _lacking(result: Result) -> list[str]:
    return {
        "": [],
        "labels": [_("This run has no held-out pairs that could be compared with the rule.")],
        "critic": [_("To be compared, it needs a finished PPO run with a critic on the same task, with as many steps and samples.")],
        "default": [_("To be compared, it needs another run: finished, with the default settings of this algorithm, on the same task.")],
    }[result.lacks]


def _told(challenge: Challenge, result: Result, by_id: Mapping[str, Run]) -> list[str]:
    """What the parts were computed from."""
    f = result.figures
    other = plain(by_id[result.other].name) if result.other in by_id else ""
    if challenge.id == "wrong" and {"a", "low", "high", "s"} <= set(f):
        text = _("Of the held-out labels {s} are true, and the model agrees with {a} of the labels (95 % interval {low} to {high}).")
        return [text.format(**{key: number(f[key], "share") for key in ("s", "a", "low", "high")})]
    if challenge.id == "hacked" and "peak" in f:
        text = _("The gold reward was highest at step {step} with {peak}, and ended at {end}.")
        return [text.format(step=round(f["peak step"]), peak=number(f["peak"]), end=number(f["end"]))]
    if challenge.id == "sums" and "start" in f:
        return [_("Untouched, {start} of its answers were right.").format(start=number(f["start"], "share"))]
    if challenge.id == "actor" and other:
        return [_("Compared with {name}, which ended at {end}.").format(name=other, end=number(f["other"]))]
    if challenge.id == "sooner" and other:
        text = _("Compared with {name}, which ended at {end} after {steps} steps.")
        return [text.format(name=other, end=number(f["other"]), steps=round(f["other steps"]))]
    return []


def _why(result: Result) -> list[str]:
    """Why nothing was learned, as the events tell."""
    texts = {
        "equal": _("On average {value} of the groups had equal rewards: advantages of 0, so no gradient."),
        "rate": _("The learning rate never was above {value}: the steps were too small to see."),
        "gradient": _("The gradient's norm never was above {value}."),
        "beta": _("β is {value}: the pull to the reference outweighs the reward."),
    }
    found = [texts[key].format(value=number(value, "share" if key == "equal" else "")) for key, value in result.reasons]
    return [f"{_('Why, by its events:')} {' '.join(found)}"] if found else []


def _count(challenge: Challenge, result: Result, run_id: str) -> None:
    if _id(challenge) in progress.solved():
        st.success(_("You have solved this challenge."), icon=":material/check_circle:")
    else:
        if result.met and st.button(
            _("It is my run: count it"), icon=":material/flag:", type="primary", key=f"challenge/count/{challenge.id}/{run_id}"
        ):
            progress.record(_id(challenge))
            st.rerun()
        st.caption(_("Everybody on this server sees the same runs, so looking at one solves nothing. Only you know whether it is yours."))


def _measurements(record: Record, keys: Sequence[str]) -> None:
    """Every held-out measurement, so that each number above can be found again."""
    rows = [{"step": row["step"], **{key: number(row[key], _unit(key)) for key in keys if key in row}} for row in record.measured]
    with st.expander(_("Every measurement of this run"), icon=":material/table_rows:"):
        if not rows:
            st.caption(_("Nothing was measured yet."))
            return
        present = [key for key in keys if any(key in row for row in rows)]
        columns = {"step": _("Step")} | {key: _(describe(key).label) for key in present}
        st.dataframe(pd.DataFrame(rows, columns=["step", *present]), hide_index=True, column_config=columns)
        st.caption(_("From events.jsonl of the run {name}.").format(name=f"`{record.id}`"))


def _unit(key: str) -> str:
    return "share" if describe(key.removeprefix("eval/")).unit == "share" else ""
