"""Questions with an answer that is checked: several choices or a number, explained with the lab's own numbers once it is answered.

Which questions someone has answered rightly is kept in the session and in their browser (progress.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import progress


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


def is_right(question: Question, answer: int | float | None) -> bool:
    """Whether an index (Choice) or number (Number) is the answer."""
    if answer is None:
        return False
    if isinstance(question, Choice):
        return answer == question.right
    return math.isclose(answer, question.value, rel_tol=question.tolerance, abs_tol=question.tolerance if question.value == 0 else 0.0)


def ask(question: Question) -> bool | None:
    """Draw a question; whether it is answered rightly, None before an answer."""
    state = f"question/{question.id}"
    with st.container(border=True, key=f"q-{question.id.replace('/', '-')}"):
        if isinstance(question, Choice):
            answer = st.radio(
                question.text, range(len(question.options)), index=None, format_func=lambda i: question.options[i], key=state,
                persist_state="session",
            )  # fmt: skip
        else:
            answer = st.number_input(
                question.text, value=None, format="%.4g", key=state, persist_state="session", placeholder=_("a number")
            )
        if answer is None:
            return None
        right = is_right(question, answer)
        if right:
            progress.record(question.id)
            st.success(f"{_('Right.')} {question.because}", icon=":material/check:")
        elif isinstance(question, Choice):
            st.warning(_("Not this one. Try it in the lab, then answer again."), icon=":material/replay:")
        else:
            st.warning(_("Not quite. Put the lab's numbers into the formula, and try again."), icon=":material/replay:")
        return right


def guess(question: Choice) -> bool:
    """A question to answer *before* the experiment below it is run; whether there is an answer yet. It is explained by ``reveal``."""
    with st.container(border=True, key=f"guess-{question.id.replace('/', '-')}"):
        st.caption(f":material/help: {_('Before you run it')}")
        answer = st.radio(
            question.text, range(len(question.options)), index=None, format_func=lambda i: question.options[i],
            key=f"question/{question.id}", persist_state="session",
        )  # fmt: skip
    return answer is not None


def reveal(question: Choice) -> None:
    """After the experiment: what was guessed, whether it came true, and why (``because`` with what was measured)."""
    answer = st.session_state.get(f"question/{question.id}")
    right = is_right(question, answer)
    if right:
        progress.record(question.id)
        st.success(f"{_('You guessed right.')} {question.because}", icon=":material/check:")
    elif answer is None:
        st.info(question.because, icon=":material/lightbulb:")
    else:
        guessed = _("You guessed: {guess}").format(guess=question.options[answer])
        st.info(f"{guessed}  \n{question.because}", icon=":material/lightbulb:")
