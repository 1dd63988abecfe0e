"""What all labs share for checking oneself: questions whose answer may follow the settings, guesses, and what is kept of it."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.components.labs import progress
from pages.components.labs.question import Choice, Number, is_right

CHOICE = Choice("t/one", "Which?", ["a", "b", "c"], 1, "It is b.")


def script() -> None:
    import streamlit as st

    from pages.components.labs import progress
    from pages.components.labs.question import Choice, Number, ask, guess, reveal

    x = st.slider("x", 1, 5, 2, key="x")
    ask(Choice("t/one", "Which?", ["a", f"b of {x}", "c"][: 5 - x + 1], 1, f"It is b of {x}."))
    ask(Number("t/two", "2x?", 2.0 * x, f"It is {2 * x}."))
    guessed = Choice("t/guess", "Up or down?", ["up", "down"], 0, "It went up.")
    if guess(guessed, x) and st.toggle("Run", key="run"):
        reveal(guessed, x)
    st.button("Anew", key="anew", on_click=progress.forget)
    progress.sync("test")


@pytest.fixture
def at() -> AppTest:
    return AppTest.from_function(script).run()


def said(at: AppTest, kind: str) -> list[str]:
    return [element.value for element in getattr(at, kind)]


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        (CHOICE, 1, True),
        (CHOICE, 0, False),
        (CHOICE, None, False),
        (Number("t/n", "", 0.5, ""), 0.5049, True),
        (Number("t/n", "", 0.5, ""), 0.506, False),
        (Number("t/n", "", -2.0, ""), 2.0, False),
        (Number("t/n", "", 0.0, ""), 0.009, True),
        (Number("t/n", "", 1e-17, ""), 0.0, True),  # a rounding error in the place of 0
        (Number("t/n", "", 1e-4, ""), 0.0, False),
        (Number("t/n", "", 3.0, ""), float("nan"), False),
    ],
)
def test_is_right(question, answer, right):
    assert is_right(question, answer) is right


def test_answers_are_judged_explained_and_kept(at):
    at.radio[0].set_value(0).run()
    assert said(at, "warning")[0].startswith("Not this one") and "It is b of 2." in said(at, "markdown")[0]
    assert progress.SOLVED not in at.session_state
    at.radio[0].set_value(1).run()
    at.number_input[0].set_value(4.0).run()
    assert said(at, "success") == ["Right. It is b of 2.", "Right. It is 4."]
    assert at.session_state[progress.SOLVED] == {"t/one", "t/two"}
    assert at.radio[0].label.startswith(":green") and at.number_input[0].label.startswith(":green")


def test_an_answer_belongs_to_the_settings_it_was_given_for(at):
    at.number_input[0].set_value(4.0).run()
    at.slider[0].set_value(3).run()
    assert not said(at, "success") and not said(at, "warning") and "have changed" in said(at, "info")[0]
    assert at.session_state[progress.SOLVED] == {"t/two"}  # what was solved stays solved
    at.number_input[0].set_value(7.0).run()
    assert said(at, "warning") and not said(at, "info")
    at.slider[0].set_value(2).run()  # wrong then, and wrong now, but for other numbers
    assert not said(at, "warning")
    at.radio[0].set_value(2).run()
    at.slider[0].set_value(4).run()  # fewer options than the answer's place
    assert not at.exception and at.radio[0].value is None
    at.radio[0].set_value(1).run()
    at.slider[0].set_value(1).run()  # the words of the options follow the settings, the right one is the same
    assert said(at, "success") == ["Right. It is b of 1."]


def test_guesses(at):
    at.radio[1].set_value(0).run()
    assert at.radio[1].label == "Up or down?" and progress.SOLVED not in at.session_state  # not judged before it is run
    at.toggle[0].set_value(True).run()
    assert said(at, "success") == ["You guessed right. It went up."] and at.session_state[progress.SOLVED] == {"t/guess"}
    at.radio[1].set_value(1).run()
    assert said(at, "info") == ["You guessed: down  \nIt went up."] and not said(at, "success")


def test_a_guess_for_other_settings_is_not_judged(at):
    at.radio[1].set_value(1).run()
    at.toggle[0].set_value(True).run()
    at.slider[0].set_value(3).run()
    assert said(at, "info")[-1] == "You guessed, for other settings: down  \nIt went up."
    at.slider[0].set_value(2).run()
    assert said(at, "info")[-1] == "You guessed: down  \nIt went up."
    at.slider[0].set_value(3).run()
    at.radio[1].set_value(0).run()
    assert said(at, "success") == ["You guessed right. It went up."]


def test_start_anew(at):
    at.radio[0].set_value(1).run()
    at.session_state[progress.SINCE] = 5
    at.button(key="anew").click().run()
    assert at.session_state[progress.SOLVED] == set() and at.session_state[progress.SINCE] > 5
    assert at.radio[0].value is None and not said(at, "success")


@pytest.mark.parametrize(
    "sent",
    [None, 5, [], "x", {}, {"solved": 5}, {"solved": ["a/b"]}, {"solved": ["a/b"], "since": "1"}, {"solved": ["a/b"], "since": True},
     {"solved": ["a/b"], "since": float("nan")}, {"solved": ["a/b"], "since": -1}, {"solved": ["a/b"], "since": 1e300}],
)  # fmt: skip
def test_rubbish_from_the_browser_is_ignored(monkeypatch, sent):
    state = {progress.SOLVED: {"own/one"}}
    monkeypatch.setattr(progress.st, "session_state", state)
    progress.take(sent)
    assert state == {progress.SOLVED: {"own/one"}}


def test_progress_of_the_browser(monkeypatch):
    state = {progress.SOLVED: {"own/one"}, "question/own/one": 1}
    monkeypatch.setattr(progress.st, "session_state", state)
    progress.take({"since": 0, "solved": ["a/b", "<b>", 5, None, "x" * 61, "A/B"]})
    assert state[progress.SOLVED] == {"own/one", "a/b"}
    progress.take({"since": 7, "solved": ["c/d"]})  # another tab started anew
    assert state[progress.SOLVED] == {"c/d"} and "question/own/one" not in state
    progress.take({"since": 6, "solved": ["old/one"]})  # what is older than that counts no more
    assert state[progress.SOLVED] == {"c/d"}
    progress.take({"since": 7, "solved": [f"n/{i}" for i in range(900)]})
    assert len(state[progress.SOLVED]) == 1 + progress.MOST
