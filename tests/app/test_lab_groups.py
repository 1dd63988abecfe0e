"""Lab 7: group advantages."""

from __future__ import annotations

import numpy as np

from pages.components.latex import result
from pages.components.numbers import number
from rlhf.labs import group_advantages as ga
from tests.app.opening import open_page, press, texts


def test_the_numbers_of_a_linked_group_and_what_presets_say():
    rewards = [1.0, 0.5, -1.0]
    at = open_page("lab_groups", **{"grp.size": "3", "grp.rewards": "1,0.5,-1", "grp.answer": "c"})
    shown = texts(at)
    for method in ("grpo", "dr_grpo", "rloo"):
        assert f"={result(float(ga.advantages(rewards, method)[2]))}" in shown
    at.number_input(key="question/grp/rloo").set_value(-1.75).run()
    assert any("Right." in str(s.value) for s in at.success)
    press(at, "grp/preset/equal")
    assert "every advantage is 0" in texts(at) and "dynamic sampling" in texts(at)
    press(at, "grp/preset/outlier")
    assert f"no reward, however far away, gets an advantage beyond ± (G − 1)/√G = ± {number(2 / 3**0.5)}" in texts(at)
    for name in ("one", "but"):
        press(at, f"grp/preset/{name}")
    assert at.session_state["grp.rewards/values"] == [0.0, 1.0, 1.0]
    at.slider(key="grp.size").set_value(16).run()
    at.slider(key="grp.size").set_value(2).run()  # the answer that was chosen is no longer there
    assert not at.exception and "by whatever margin" in texts(at)


def test_equal_rewards_are_seen_as_equal_whatever_their_mean_rounds_to():
    at = open_page("lab_groups", **{"grp.rewards": ",".join(["0.7"] * 6)})
    assert "every advantage is 0" in texts(at) and "hardly differ" not in texts(at)
    at = open_page("lab_groups", **{"grp.part": "lengths", "grp.rewards": ",".join(["0.7"] * 6)})
    assert "no length changes that" in texts(at)


def test_the_question_is_about_the_bars_on_the_screen_and_right_with_the_printed_numbers():
    at = open_page("lab_groups", **{"grp.part": "lengths", "grp.size": "16", "grp.rewards": ",".join(["1", "1.1", *["1"] * 14])})
    asked = next(q for q in at.number_input if q.key == "question/grp/rloo")
    assert "answer a earned 1, the other 15 on average 1.0067" in asked.label
    asked.set_value(-0.0067).run()
    assert any("Right." in str(s.value) for s in at.success)
    at.number_input(key="question/grp/rloo").set_value(1 - 16.1 / 15 + 1 / 15).run()  # with unrounded numbers
    assert any("Right." in str(s.value) for s in at.success)


def test_on_a_part_without_bars_the_question_is_about_those_of_the_link():
    at = open_page("lab_groups", **{"grp.part": "difficulty", "grp.size": "3", "grp.rewards": "1,0.5,-1"})
    asked = next(q for q in at.number_input if q.key == "question/grp/rloo")
    assert "answer a earned 1, the other 2 on average −0.25" in asked.label


def test_a_guess_counts_only_for_the_settings_it_was_made_for():
    at = open_page("lab_groups", **{"grp.part": "size", "grp.p": "0.5", "grp.size": "2"})
    at.radio(key="question/grp/nothing").set_value(3).run()  # exactly half of them
    press(at, "grp/sample")
    assert "50 % or more" in at.radio(key="question/grp/nothing").options and "You guessed right." in texts(at)
    at.slider(key="grp.p").set_value(0.1).run()
    assert "You guessed, for other settings" in texts(at) and "You guessed right." not in texts(at)


def test_a_malformed_link_falls_back():
    at = open_page("lab_groups", **{"grp.size": "1", "grp.rewards": "1e999,x", "grp.answer": "zz", "grp.part": "?", "grp.lengths": "-5"})
    assert at.slider(key="grp.size").value == 6


def test_lengths_and_their_drift():
    at = open_page(
        "lab_groups", **{"grp.part": "lengths", "grp.size": "2", "grp.lengths": "10,40", "grp.answer": "b", "grp.rewards": "1,0"}
    )
    advantage = float(ga.advantages([1.0, 0.0], "grpo")[1])
    assert f"={result(advantage / 80)}" in texts(at) and f"={result(advantage / 50)}" in texts(at) and f"={result(-0.5 / 200)}" in texts(at)
    at.radio(key="question/grp/drift").set_value(2).run()
    press(at, "grp/drift")
    drift = at.session_state["grp/drifted"][1]
    assert "You guessed right." in texts(at) and number(float(drift["grpo"].wrong[-1])) in texts(at)
    assert f"one part of the sum: {number(float(drift['dapo'].right[-1]))} (right)" in texts(at)
    at.slider(key="grp.p").set_value(1.0).run()
    assert "This is of earlier settings" in texts(at)
    press(at, "grp/drift")
    assert "no advantage, so nothing moves" in texts(at) and not at.exception
    press(at, "grp/lengths/wrong")
    assert at.session_state["grp.lengths/values"] == [15.0, 90.0]


def test_difficulty_then_sampling_groups():
    at = open_page("lab_groups", **{"grp.part": "difficulty", "grp.p": "0.1", "grp.size": "4"})
    assert f"={result(0.1**4 + 0.9**4)}" in texts(at) and number(float(ga.signal(0.1, 4, "grpo"))) in texts(at)
    assert "here 1.95 against" in texts(at) and f"={result(1.9473)}" in texts(at) and "G = 4 the factor stays below √G = 2.00" in texts(at)
    at.slider(key="grp.size").set_value(2).run()
    assert "no difficulty bias" in texts(at) and "lifts prompts" not in texts(at)
    at.slider(key="grp.p").set_value(0.0).run()
    assert "A group without signal is not lifted" not in texts(at)
    assert "teaches nothing" in texts(at) and not at.exception

    at = open_page("lab_groups", **{"grp.part": "size", "grp.p": "0.1", "grp.size": "4", "grp.groups": "400"})
    at.radio(key="question/grp/nothing").set_value(3).run()
    press(at, "grp/sample")
    share = float(np.isin(at.session_state["grp/sampled"][1][4], (0, 4)).mean())
    shown = texts(at)
    assert "You guessed right." in shown and number(share, "share") in shown and number(0.1**4 + 0.9**4, "share") in shown
    assert f"={result(ga.gradient_variance(0.1, 4, 'rloo'))}" in shown
    table = at.dataframe[0].value
    assert table.iloc[2, 2] == number(float(np.sqrt(ga.gradient_variance(0.1, 4, "rloo"))))
    at.slider(key="grp.p").set_value(1.0).run()
    assert "nothing varies" in texts(at) and "Sample again" in texts(at) and not at.exception
