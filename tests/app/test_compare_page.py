"""Compare: what each side is, the same conditions for all, and that a change of conditions does not relabel what was written before."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.components import comparison, models
from pages.components.comparison import counterpart
from rlhf.compare import Side
from rlhf.config import RewardTerm
from rlhf.runs import Run
from tests.app.opening import open_page, press, texts
from tests.canned import canned_run

page = partial(open_page, "compare")


@pytest.fixture(autouse=True)
def empty_shelf(root: Path) -> None:
    models.shelf.clear()


@pytest.fixture
def run(root: Path) -> Run:
    return canned_run(root, "grpo", model="sums", steps=4, name="first")


def written(at: AppTest) -> comparison.Comparison:
    return at.session_state["comparison"]


def test_nothing_to_compare():
    at = page()
    assert not at.exception and "no trained model" in texts(at)


def test_nothing_is_loaded_before_somebody_chooses(run: Run, monkeypatch: pytest.MonkeyPatch):
    def nobody_asked(*args: object) -> None:
        raise AssertionError("the page loads a model that nobody asked for")

    monkeypatch.setattr(models, "_load_side", nobody_asked)
    at = page()
    assert not at.exception and "comparison" not in at.session_state


def test_a_link_shows_both_sides_with_what_they_are(run: Run):
    at = page(run=run.id)
    assert not at.exception
    found = written(at)
    assert [side.is_untouched for side in found.conditions.sides] == [True, False]
    assert "Before: sums, untouched" in texts(at) and "After: sums + GRPO, step 4" in texts(at) and "first / step-4" in texts(at)
    assert "Same prompts, settings and seed on every side: seed 0" in texts(at)
    before, after = found.answers
    assert [answer.prompt for answer in before] == [answer.prompt for answer in after]
    trained = {item.prompt for item in run.load_data().train}
    assert not trained & {answer.prompt for answer in before}, "held-out prompts by default"
    assert all(answer.scored is not None for answer in (*before, *after))
    assert all(shift is not None and len(shift.shift) == len(answer.ids) for shift, answer in zip(found.shifts[1], after, strict=True))


def test_checkpoint_of_the_link(run: Run):
    at = page(run=run.id, checkpoint="step-2")
    assert "After: sums + GRPO, step 2" in texts(at)


def test_two_runs_share_one_before(root: Path, run: Run):
    other = canned_run(root, "ppo", model="sums", steps=4, seed=1)
    at = page(run=run.id, run2=other.id)
    assert not at.exception
    assert [(side.algorithm, side.is_untouched) for side in written(at).conditions.sides] == [("", True), ("grpo", False), ("ppo", False)]


def test_two_models_have_a_before_each(root: Path, run: Run):
    other = canned_run(root, "grpo", model="story", steps=4, seed=1)
    at = page(run=run.id, run2=other.id)
    assert not at.exception
    assert [(side.model, side.is_untouched) for side in written(at).conditions.sides] == [
        ("sums", True), ("sums", False), ("story", True), ("story", False),
    ]  # fmt: skip


def test_measure_on_heldout_prompts(run: Run):
    at = press(page(run=run.id), "compare/measure")
    assert not at.exception
    measured = at.session_state["measured"]
    assert len(measured.rewards) == 2 and len(measured.rewards[0]) == len(run.load_data().heldout)
    assert "95 % confidence interval" in texts(at) and "Scored with the reward “correct”" in texts(at)
    assert {metric.label for metric in at.metric} == {"sums, untouched", "sums + GRPO, step 4"}


def test_answers_keep_the_conditions_they_were_written_under(run: Run):
    at = page(run=run.id)
    next(widget for widget in at.number_input if widget.key == "compare/seed").set_value(7).run()
    assert "other conditions" in texts(at) and "seed 0, temperature" in texts(at)
    at = press(at, "compare/write")
    assert "other conditions" not in texts(at) and "seed 7, temperature" in texts(at)


def test_another_run_does_not_show_the_first_ones_answers(root: Path, run: Run):
    other = canned_run(root, "grpo", model="sums", steps=4, seed=1, name="second")
    at = page(run=run.id)
    next(widget for widget in at.selectbox if widget.key == "compare/run").set_value(other.id).run()
    assert not at.exception
    assert "second / step-4" in texts(at) and "first / step-4" not in texts(at)


def test_own_prompts(run: Run):
    at = page(run=run.id)
    at.segmented_control(key="compare/kind").set_value("own").run()
    at.text_area[0].set_value("12+34=\n\n  \n56+78=\n12+34=").run()
    at = press(at, "compare/write")
    assert not at.exception
    assert [answer.prompt for answer in written(at).answers[0]] == ["12+34=", "56+78="]
    assert all(answer.scored is None for answer in written(at).answers[0]), "no right answer is known"


def test_prompt_that_does_not_fit_is_told(run: Run):
    at = page(run=run.id)
    at.segmented_control(key="compare/kind").set_value("own").run()
    at.text_area[0].set_value("1+1=" * 30).run()
    at = press(at, "compare/write")
    assert not at.exception and "context" in at.error[0].value


def test_markup_is_shown_as_text(run: Run):
    run.rename("<b>bold</b> **stars** [link](http://x)")
    at = page(run=run.id)
    assert not at.exception
    assert not any("**stars**" in str(element.value) for element in (*at.markdown, *at.caption))


@pytest.mark.parametrize("link", ["..", "no-such-run", "a/b", "%00"])
def test_bad_link_is_told(run: Run, link: str):
    at = page(run=link)
    assert not at.exception and at.warning


def test_run_without_checkpoint_is_told(root: Path, run: Run):
    queued = canned_run(root, "grpo", model="sums", state="queued")
    at = page(run=queued.id)
    assert not at.exception and "no checkpoint" in texts(at)


def test_pairs_that_are_ones_own_have_no_reward_to_measure(root: Path):
    run = canned_run(root, "dpo", model="sums", steps=4, data="custom")
    at = page(run=run.id)
    assert not at.exception
    assert next(button for button in at.button if button.key == "compare/measure").disabled
    assert all(answer.scored is None for answer in written(at).answers[0])


def test_tokens_are_held_against_the_right_model(tmp_path: Path):
    base, one, two = Side("m"), Side("m", (tmp_path / "a",), "r1"), Side("m", (tmp_path / "b",), "r2")
    sides = (base, one, two)
    assert counterpart(sides, two) == base and counterpart(sides, one) == base and counterpart(sides, base) == one
    assert counterpart((Side("other"), *sides), Side("other")) is None


def test_reward_in_words():
    terms = [RewardTerm(name="negative", weight=1.0), RewardTerm(name="length", weight=0.5)]
    assert comparison.reward_name(terms) == "negative + 0.500 × length"
