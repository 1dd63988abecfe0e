"""Questions with an answer that is checked: several choices or a number, explained with the lab's own numbers once it is answered.

Which questions someone has answered rightly is kept in the session and in their browser (progress.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import progress

STYLE = """
<style>
[class*="st-key-q-"] [data-testid="stAlertContainer"], [class*="st-key-guess-"] [data-testid="stAlertContainer"] {
  padding: 0.5rem 0.75rem; border-left: 3px solid currentColor; border-radius: 2px;
}
[class*="st-key-q-"] [data-testid="stWidgetLabel"] p, [class*="st-key-guess-"] [data-testid="stWidgetLabel"] p { font-weight: 600; }
[class*="st-key-q-"] [role="radiogroup"], [class*="st-key-guess-"] [role="radiogroup"] { gap: 0.35rem; }
[class*="st-key-q-"] [role="radiogroup"] label, [class*="st-key-guess-"] [role="radiogroup"] label { align-items: flex-start; }
[class*="st-key-q-"] [data-testid="stNumberInputContainer"] { max-width: 24rem; }
</style>
"""


@dataclass(frozen=True)
class Choice:
    """``right``: the index in ``options``; ``because``: the explanation (Markdown). ``id`` is ``LAB/NAME`` and never changes."""

    id: str
    text: str
    options: Sequence[str]
    right: int
    because: str


@dataclass(frozen=True)
class Number:
    """A number to compute, right within ``tolerance`` of ``value`` (relative; absolute for 0). It may follow the lab's settings."""

    id: str
    text: str
    value: float
    because: str
    tolerance: float = 0.01


Question = Choice | Number


@dataclass(frozen=True)
class Place:
    """Where a question can be tried: a page of the app, what the link says, and the settings in it."""

    page: str
    words: str
    settings: tuple[tuple[str, str], ...] = ()


def is_right(question: Question, answer: int | float | None) -> bool:
    """Whether an index (Choice) or number (Number) is the answer."""
    if answer is None:
        return False
    if isinstance(question, Choice):
        return answer == question.right
    by_hand = question.tolerance if abs(question.value) < 1e-9 else 0.0  # what should be 0 may be a rounding error
    return math.isclose(answer, question.value, rel_tol=question.tolerance, abs_tol=by_hand)


def ask(question: Question, place: Place | None = None) -> bool | None:
    """Draw a question; whether it is answered rightly. None before an answer, and where the lab's settings have changed since, so that
    another one would be right now."""
    with st.container(border=True, key=f"q-{question.id.replace('/', '-')}"):
        answer = _choose(question, _label(question), _answered) if isinstance(question, Choice) else _compute(question)
        right = None
        if answer is not None and _outdated(question):
            st.info(_("The lab's numbers have changed since you answered. What is it now?"), icon=":material/update:")
        elif answer is not None:
            right = is_right(question, answer)
            _judge(question, right)
        if place:
            st.page_link(f"{place.page}.py", label=place.words, icon=":material/arrow_outward:", query_params=dict(place.settings) or None)
    return right


def _judge(question: Question, right: bool) -> None:
    if right:
        progress.record(question.id)
        st.success(f"{_('Right.')} {question.because}", icon=":material/check:")
        return
    if isinstance(question, Choice):
        words, answer = _("Not this one. Try it out, then answer again."), question.options[question.right]
    else:
        words, answer = _("Not quite. Put the numbers into the formula, and try again."), f"{question.value:.4g}".replace("-", "−")
    st.warning(words, icon=":material/replay:")
    with st.popover(_("Show the answer"), type="tertiary", icon=":material/lightbulb:"):
        st.markdown(f"**{answer}**  \n{question.because}")


def guess(question: Choice, about: Any = None) -> bool:
    """A question to answer *before* the experiment below it is run; whether there is an answer yet.

    It is not judged here, so what is ``right`` need not be known yet; ``reveal`` does that. ``about``: the settings on which the answer
    depends, if it depends on any (compared with ==).
    """
    with st.container(border=True, key=f"guess-{question.id.replace('/', '-')}"):
        st.caption(f":material/help: {_('Before you run it')}")
        return _choose(question, _marked(question, question.id in progress.solved()), _guessed, about) is not None


def reveal(question: Choice, about: Any = None) -> None:
    """After the experiment: what was guessed, whether it came true, and why (``because`` with what was measured).

    A guess that was made ``about`` other settings is not judged by these.
    """
    answer = _kept(question)
    made_about, words = st.session_state.get(f"{_key(question)}/guessed", (about, None))
    if answer is None:
        st.info(question.because, icon=":material/lightbulb:")
    elif made_about != about:
        guessed = _("You guessed, for other settings: {guess}").format(guess=words)
        st.info(f"{guessed}  \n{question.because}", icon=":material/lightbulb:")
    elif is_right(question, answer):
        progress.record(question.id)
        st.success(f"{_('You guessed right.')} {question.because}", icon=":material/check:")
    else:
        guessed = _("You guessed: {guess}").format(guess=question.options[answer])
        st.info(f"{guessed}  \n{question.because}", icon=":material/lightbulb:")


# ---------------------------------------------------------------- the answer


def _key(question: Question) -> str:
    return f"question/{question.id}"


def _kept(question: Choice) -> int | None:
    """The answer in the session, if it still is one of the options."""
    answer = st.session_state.get(_key(question))
    return answer if isinstance(answer, int) and 0 <= answer < len(question.options) else None


def _choose(question: Choice, label: str, chosen: Callable[..., None], *more: Any) -> int | None:
    if _kept(question) is None:
        st.session_state.pop(_key(question), None)
    return st.radio(
        label, range(len(question.options)), index=None, format_func=lambda i: question.options[i], key=_key(question),
        persist_state="session", on_change=chosen, args=(question, *more),
    )  # fmt: skip


def _compute(question: Number) -> float | None:
    return st.number_input(
        _label(question), value=None, format="%.6g", key=_key(question), persist_state="session", placeholder=_("a number, then Enter"),
        on_change=_answered, args=(question,),
    )  # fmt: skip


def _label(question: Question) -> str:
    """With a check mark once it is solved: now, earlier, or in another tab."""
    return _marked(question, question.id in progress.solved() or is_right(question, st.session_state.get(_key(question))))


def _marked(question: Question, solved: bool) -> str:
    return f":green[:material/check_circle:] {question.text}" if solved else question.text


def _truth(question: Question) -> tuple[Any, ...]:
    return (question.right, *question.options) if isinstance(question, Choice) else (float(f"{question.value:.6g}"),)


def _guessed(question: Choice, about: Any) -> None:
    """For which settings, and in which words: those that were on the screen."""
    answer = st.session_state.get(_key(question))
    st.session_state[f"{_key(question)}/guessed"] = (about, None if answer is None else question.options[answer])


def _answered(question: Question) -> None:
    """Recorded before the page is drawn anew, so that what it says of the progress includes this answer; and the numbers it was for."""
    st.session_state[f"{_key(question)}/for"] = _truth(question)
    if is_right(question, st.session_state.get(_key(question))):
        progress.record(question.id)


def _outdated(question: Question) -> bool:
    """Whether an answer was given to other numbers, and is not right by these."""
    return st.session_state.get(f"{_key(question)}/for", _truth(question)) != _truth(question) and not is_right(
        question, st.session_state.get(_key(question))
    )
