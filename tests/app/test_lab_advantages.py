"""Lab 4: TD, Monte-Carlo, GAE."""

from __future__ import annotations

import numpy as np

from pages.components.labs import drag_bars
from pages.components.latex import result
from pages.components.numbers import number
from rlhf.labs import advantage_estimation as ae
from rlhf.labs import random_walk as rw
from tests.app.opening import open_page, press, texts


def test_the_numbers_of_a_linked_trajectory_then_bad_settings_in_words():
    rewards, critic = [0.0, -1.0, 0.5], [0.3, 0.2, -0.4]
    link = {
        "gae.length": "3",
        "gae.rewards": "0,-1,0.5",
        "gae.values": "0.3,0.2,-0.4",
        "gae.gamma": "0.5",
        "gae.lambda": "0.6",
        "gae.t": "1",
    }
    at = open_page("lab_advantages", **link)
    surprises = ae.deltas(rewards, critic, 0.0, 0.5)
    shown = texts(at)
    assert rf"={result(surprises[1])}" in shown and rf"={result(ae.gae(rewards, critic, 0.0, 0.5, 0.6)[1])}" in shown
    question = next(q for q in at.number_input if q.key == "question/gae/delta")
    question.set_value(round(float(surprises[1]), 3)).run()
    assert any("Right." in str(s.value) for s in at.success)

    press(at, "gae/preset/perfect")
    assert "A perfect critic leaves nothing to learn" in texts(at)
    press(at, "gae/preset/blind")
    at.slider(key="gae.lambda").set_value(0.0).run()
    assert "the step's own reward" in texts(at)
    at.toggle(key="gae.ended").set_value(False).run()
    at.slider(key="gae.gamma").set_value(1.0).run()
    assert "γ = 1 and no end" in texts(at)
    at.slider(key="gae.length").set_value(10).run()
    assert not at.exception and at.session_state["gae.rewards/values"] == [0.0] * 9 + [1.0]


def test_a_cut_trajectory_is_not_taken_for_an_ended_one():
    blind = {"gae.values": "0,0,0,0,0,0", "gae.ended": "false"}
    assert "and nothing else" not in texts(open_page("lab_advantages", **blind, **{"gae.lambda": "0"}))  # A_5 has V_T in it
    shown = texts(open_page("lab_advantages", **blind, **{"gae.lambda": "1"}))
    assert "even λ = 1 is not Monte-Carlo" in shown and "plain return" not in shown and "The last bar is Monte-Carlo's" not in shown


def test_a_guess_counts_only_for_the_critic_it_was_made_for():
    at = open_page("lab_advantages", **{"gae.part": "walk", "gae.states": "5", "gae.walks": "100"})
    at.radio(key="question/gae/walk").set_value(0).run()
    press(at, "gae/walk")
    assert "You guessed: λ = 0" in texts(at)
    at.slider(key="gae.wrong").set_value(0.0).run()  # now it would be right
    assert "You guessed, for other settings: λ = 0" in texts(at) and "You guessed right." not in texts(at)


def test_variance_is_said_to_rise_only_where_it_does():
    for fault, rises in (("flat", True), ("noisy", False)):
        critic = {"gae.part": "walk", "gae.fault": fault, "gae.walks": "100"}
        at = open_page("lab_advantages", **critic)
        at.radio(key="question/gae/walk").set_value(0).run()
        press(at, "gae/walk")
        assert ("variance rises with λ" in texts(at)) == rises and ("From there to λ = 1" in texts(at)) != rises


def test_a_malformed_link_falls_back():
    link = {
        "gae.length": "99",
        "gae.rewards": "a,nan",
        "gae.lambda": "7",
        "gae.t": "12",
        "gae.pieces": "?",
        "gae.ended": "perhaps",
        "gae.part": "x",
    }
    at = open_page("lab_advantages", **link)
    assert at.slider(key="gae.length").value == 6 and at.session_state["gae.rewards/values"] == [0.0] * 5 + [1.0]


def test_walking_measures_what_is_exact_and_says_when_it_is_of_other_settings():
    at = open_page("lab_advantages", **{"gae.part": "walk", "gae.states": "5", "gae.wrong": "0", "gae.walks": "200"})
    assert not any(b.key == "gae/walk" for b in at.button)  # guess first
    at.radio(key="question/gae/walk").set_value(0).run()
    press(at, "gae/walk")
    assert not at.exception and "You guessed right." in texts(at) and "no estimate is biased" in texts(at)
    walk = rw.walk_of(5)
    _mean, variance = rw.exact_moments(walk, walk.values(1.0), 1.0, [0.9], [])
    assert f"{{{result(float(variance.mean()))}}}={result(float(np.sqrt(variance.mean())))}" in texts(at) and "=(0)^2+" in texts(at)
    kept = at.session_state["gae/walked"]
    assert np.all(np.abs(kept.mean[:, 2] - walk.values(1.0)[3]) < 5 * np.sqrt(kept.variance[:, 2] / 200) + 1e-12)
    at.slider(key="gae.wrong").set_value(0.8).run()
    assert "Walk again" in texts(at)


def test_learning_shows_the_u_shape_and_keeps_its_settings():
    at = open_page("lab_advantages", **{"gae.part": "learn", "gae.runs": "10", "gae.episodes": "3"})
    at.radio(key="question/gae/learn").set_value(2).run()
    press(at, "gae/learn")
    settings, errors = at.session_state["gae/learned"]
    assert settings == ("n", 3, 10, 0) and 0 < errors.min(1).argmin() < len(errors) - 1
    assert number(float(errors.min())) in texts(at) and "You guessed" in texts(at)
    at.selectbox(key="gae.learn/chosen").set_value("lambda").run()
    assert "These were learned with" in texts(at)
    press(at, "gae/learn")
    assert at.session_state["gae/learned"][0][0] == "lambda" and not at.exception


def test_what_bars_send_is_checked(monkeypatch):
    state: dict = {"x.r/values": [1.0, 0.0], "x.r/meta": {"seq": 0, "stamp": 3}}
    monkeypatch.setattr(drag_bars.st, "session_state", state)

    def sent(**more):
        state["x.r/bars"] = {"bars": {"values": [0.5, 9.0], "seq": 7, "stamp": "3:2:-2:2", **more}}
        drag_bars._take("x", "r", -2.0, 2.0)
        return state["x.r/values"], state["x.r/meta"]["seq"]

    for bad in ({"stamp": "2:2:-2:2"}, {"values": [1]}, {"values": ["x", 1]}, {"values": [float("nan"), 1]}, {"values": 3}, {"seq": "1"}):
        assert sent(**bad) == ([1.0, 0.0], 0), bad  # the first one was sent before a preset moved the bars
    assert sent() == ([0.5, 2.0], 7)
