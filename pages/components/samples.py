"""The second pane: the prompts and responses of one step, token by token, coloured by what one asks for; a click leads to the formula."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st

from pages.components import formula
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.state import Feed, Focus, focus
from pages.components.text import plain, shortened
from pages.components.tokens import TokenRow, token_rows

Record = Mapping[str, Any]
K = TypeVar("K", int, str)


@dataclass(frozen=True)
class Colouring:
    """What tokens can be coloured by. ``scale`` as in tokens.py."""

    key: str
    label: str
    scale: Any


def colourings(algorithm: str, record: Record) -> list[Colouring]:
    """Those whose numbers the record has, the most telling first."""
    answers = answers_of(record)
    tokens = answers[0][1]["tokens"] if answers else {}
    found = [
        Colouring("advantages", _("Advantage"), "diverging"),
        Colouring("push", _("Push on the log-probability"), "diverging"),
        Colouring("moved", _("Change of log-probability, policy − reference"), "diverging"),
        Colouring("ratio", _("Ratio − 1"), "diverging"),
        Colouring("k3", _("KL, k3 (nats)"), "sequential"),
        Colouring("scores", _("Score after the token"), "diverging"),
        Colouring("surprise", _("Surprise, −log π (nats)"), "sequential"),
        Colouring("entropies", _("Entropy (nats)"), "sequential"),
        Colouring("values", _("Critic's value"), "diverging"),
        Colouring("rewards", _("Reward of the token"), "diverging"),
    ]
    needs = {"moved": "ref_logprobs", "k3": "ref_logprobs", "surprise": "logprobs"}
    found = [c for c in found if tokens.get(needs.get(c.key, c.key))]
    if algorithm == "dpo":
        return [c for c in found if c.key not in ("k3",)]
    if record.get("split") == "heldout":
        return [c for c in found if c.key not in ("advantages", "ratio")]
    if algorithm in ("grpo", "reinforce") and all(abs(r - 1) < 1e-9 for _place, a in answers for r in a["tokens"].get("ratio", [1.0])):
        return [c for c in found if c.key != "ratio"]  # one update a batch: 1 everywhere
    return found


def token_values(answer: Record, colouring: str) -> list[float]:
    """A number for each token of an answer."""
    tokens = answer["tokens"]
    match colouring:
        case "moved":
            return [p - q for p, q in zip(tokens["logprobs"], tokens["ref_logprobs"], strict=True)]
        case "k3":
            return [formula.k3(p, q) for p, q in zip(tokens["logprobs"], tokens["ref_logprobs"], strict=True)]
        case "ratio":
            return [r - 1 for r in tokens["ratio"]]
        case "surprise":
            return [-p for p in tokens["logprobs"]]
        case _:
            return list(tokens[colouring])


def answers_of(record: Record) -> list[tuple[int | str, Record]]:
    """(place in the record, answer): responses with the best reward first, or the chosen and the rejected answer."""
    if "responses" in record:
        return sorted(enumerate(record["responses"]), key=lambda item: -item[1].get("reward", 0.0))
    return [(side, record[side]) for side in ("chosen", "rejected") if side in record]


def heading(place: int | str, answer: Record) -> str:
    """The line above an answer."""
    if place in ("chosen", "rejected"):
        side = _("Chosen") if place == "chosen" else _("Rejected")
        what = _("score") if "scores" in answer["tokens"] else _("implicit reward")
        return f"{side} · {what} {number(answer['reward'], sign=True)}"
    if "reward" not in answer:  # an answer to imitate
        return _("{count} tokens").format(count=len(answer["tokens"]["ids"]))
    parts = [f"{_('reward')} {number(answer['reward'], sign=True)}"]
    if len(answer.get("reward_parts", {})) > 1:
        parts[0] += " (" + ", ".join(f"{name} {number(value, sign=True)}" for name, value in answer["reward_parts"].items()) + ")"
    if answer.get("advantage") is not None:
        parts.append(f"{_('advantage')} {number(answer['advantage'], sign=True)}")
    parts.append(_("{count} tokens").format(count=len(answer["tokens"]["ids"])))
    if not answer.get("finished", True):
        parts.append(_("cut at the length limit"))
    return " · ".join(parts)


def records_at(feed: Feed, step: int) -> list[Record]:
    """The records of a step, training prompts first; read once for as long as the step does not change."""
    cached = feed.drawn.get("records")
    if cached and cached[0] == (step, feed.version):
        return cached[1]
    records: list[Record] = sorted(feed.run.samples_at(step), key=lambda r: r.get("split") == "heldout")
    feed.drawn["records"] = ((step, feed.version), records)
    return records


def step_picker(feed: Feed, at: Focus, alive: bool) -> int | None:
    """The step that is looked at: the newest while a live run is followed. None before the first samples."""
    steps = feed.run.sample_steps()
    if not steps:
        return None
    newest = steps[-1]
    wanted = newest if at.step is None else at.step
    shown = min(steps, key=lambda step: (abs(step - wanted), -step))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if alive and at.step is None:
            st.markdown(_("The newest: step {step}").format(step=newest), width="content")
            st.button(
                _("Choose a step"),
                icon=":material/linear_scale:",
                key=f"choose:{feed.run.id}",
                type="tertiary",
                on_click=at.move,
                args=(newest,),
            )
            return shown
        # Moved from elsewhere (a click in a plot), it is another slider: the browser's last word on the old one must not move it back.
        key = f"step:{feed.run.id}:{at.moves}"
        last = max(newest, int(feed.run.config.get("steps") or newest))
        if last > steps[0]:
            st.slider(_("Step"), steps[0], last, shown, key=key, on_change=lambda: at.pick(st.session_state[key]), width=420)
        if alive or at.step not in (None, newest):
            label = _("Follow the newest") if alive else _("Last step")
            st.button(label, icon=":material/skip_next:", key=f"follow:{feed.run.id}", on_click=at.move, args=(None,), type="tertiary")
    return shown


def pane(feed: Feed, alive: bool) -> None:
    """Step → prompts and responses → formula, for one run."""
    at = focus(feed.run.id)
    step = step_picker(feed, at, alive)
    if step is None:
        st.caption(_("The first samples come with the first step."))
        return
    records = records_at(feed, step)
    if not records:
        st.caption(_("No samples were kept at this step."))
        return
    algorithm = feed.run.algorithm
    left, right = st.columns([3, 2])
    with left:
        record = _choose_record(feed.run.id, records, moving=alive and at.step is None)
    with right:
        colouring = _choose_colouring(colourings(algorithm, record))
    _prompt(record)
    answers = answers_of(record)
    rows = [_row(place, answer, colouring) for place, answer in answers]
    key = f"tokens:{feed.run.id}"
    clicked = token_rows(rows, key=key, scale=colouring.scale if colouring else "diverging", legend=colouring.label if colouring else "")
    at.hold(step, clicked)
    place, token = (answers[clicked[0]][0], clicked[1]) if clicked else (None, None)
    _formula_pane(algorithm, feed, record, place, token)


def _choose_record(run_id: str, records: Sequence[Record], moving: bool) -> Record:
    """``moving``: the step changes by itself; names that change with it would close the list while one reads it."""

    def name(i: int) -> str:
        kind = _("held-out") if records[i].get("split") == "heldout" else _("trained on")
        return f"{i + 1} · {kind}" if moving else f"{i + 1} · {kind} · {shortened(records[i]['prompt'], 60)}"

    return records[_choose(f"prompt:{run_id}", _("Prompt"), {i: name(i) for i in range(len(records))})]


def _choose_colouring(options: Sequence[Colouring]) -> Colouring | None:
    if not options:
        return None
    chosen = _choose("colour-tokens-by", _("Colour tokens by"), {colouring.key: colouring.label for colouring in options})
    return next(colouring for colouring in options if colouring.key == chosen)


def _choose(name: str, label: str, words: Mapping[K, str]) -> K:
    """A selectbox whose choice outlives a change of its words: with other words it is another widget, or the browser would go on showing
    the old ones. Where nothing was chosen, or that is not among them, the first."""
    key = f"{name}:{zlib.crc32(repr(words).encode()):x}"
    wanted, options = st.session_state.get(name), list(words)

    def keep() -> None:
        st.session_state[name] = st.session_state[key]

    index = options.index(wanted) if wanted in options else 0
    return st.selectbox(label, options, index, format_func=lambda one: words[one], key=key, on_change=keep)


def _prompt(record: Record) -> None:
    answer = record.get("answer")
    note = f" · {_('right answer')}: {plain(str(answer))}" if answer else ""
    label = f" · {plain(record['label'])}" if record.get("label") else ""
    st.markdown(f"{plain(record['prompt'])}  \n:small[:gray[{_('prompt')}{note}{label}]]")


def _row(place: int | str, answer: Record, colouring: Colouring | None) -> TokenRow:
    values = token_values(answer, colouring.key) if colouring else []
    return TokenRow(answer["tokens"]["strings"], values, label=heading(place, answer))


def _formula_pane(algorithm: str, feed: Feed, record: Record, place: int | str | None, token: int | None) -> None:
    if place is None and "chosen" not in record:
        st.caption(f":material/touch_app: {_('Click a token to see the formula with its numbers put in.')}")
        return
    with st.container(border=True, key="token-formula"):
        st.markdown(f"**{_('The formula, with its numbers put in')}**")
        formula.explain(algorithm, feed.run.config, record, place if place is not None else "chosen", token)
        if place is None:
            st.caption(f":material/touch_app: {_('Click a token to see its part.')}")
