"""Lab 2, values and Bellman: its numbers are the mathematics', its link is read, odd worlds are explained, its experiments run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pages.components.labs import grid_board, values_experiments, values_learning
from pages.components.labs.values_experiments import walks
from pages.components.numbers import number
from rlhf.labs import dynamic_programming as dp
from rlhf.labs import td_control as td
from rlhf.labs.gridworld import grid_world
from rlhf.labs.mdp import action_values
from tests.app.opening import open_page, press, texts

CLASSIC = ("...G", ".#.X", "S...")


def metric(at, label: str) -> str:
    return next(m.value for m in at.metric if m.label == label)


def test_the_numbers_are_those_of_value_iteration():
    at = open_page("lab_values", **{"grid.slip": "0.1", "grid.gamma": "0.8", "grid.cell": "1.3", "grid.stride": "5"})
    world = grid_world(CLASSIC, slip=0.1)
    frames = dp.value_iteration(world.mdp, 0.8, 500)
    for place, frame in ((0, frames[0]), (1, frames[5])):
        if place:
            press(at, "grid/sweeps/step")
        assert metric(at, "Sweep") == str(frame.sweep) and metric(at, "Largest change") == number(frame.residual)
        assert metric(at, "V at the start") == number(float(world.mdp.start @ frame.values))
        away = np.abs(frame.values - dp.optimal_values(world.mdp, 0.8)).max()
        assert metric(at, "Distance to the exact values") == number(float(away))
        q = action_values(world.mdp, frame.values, 0.8)[world.state(0, 2)]
        shown = texts(at)
        assert "cell (1, 3)" in shown and r"max_a Q(s,a) &= max" in shown and f"= {number(float(q.max()))}" in shown
        assert all(number(float(x)).replace("−", "-") in shown for x in q)
    press(at, "grid/preset/lake4")  # rewards, slip and γ come with it, and the cell is its start
    assert "env.unwrapped.P" in texts(at) and "cell (1, 1)" in texts(at)
    assert at.query_params["grid.map"] == "S...-.X.X-...X-X..G" and at.query_params["grid.slip"] == "2/3"
    press(at, "grid/sweeps/start")
    assert not at.exception


def test_policy_iteration_and_the_wave_through_a_corridor():
    at = open_page("lab_values", **{"grid.map": "S...G", "grid.slip": "0", "grid.method": "policy", "grid.evaluate": "3"})
    for _ in range(4):
        press(at, "grid/sweeps/step")
    assert metric(at, "Improvements") == "1" and "Improvement" in texts(at)
    at.radio(key="question/grid/wave").set_value(0).run()
    press(at, "grid/wave/run")
    assert "You guessed: In the first" in texts(at) and "first differs in sweep 4" in texts(at)
    at.radio(key="question/grid/wave").set_value(1).run()
    assert "You guessed right" in texts(at) and not at.exception


@pytest.mark.parametrize(
    "link",
    [
        {"grid.map": "S.w-..-", "grid.cell": "99.99", "grid.slip": "7", "grid.gamma": "much", "grid.method": "?", "grid.part": "?"},
        {
            "grid.map": "....-" * 40,
            "grid.cell": "-1.x",
            "grid.part": "learning",
            "grid.batch": "0",
            "grid.epsilon": "5",
            "grid.schedule": "",
        },
    ],
)
def test_a_broken_link_opens_the_classic_map(link):
    at = open_page("lab_values", **link)
    assert "grid.map" not in at.query_params and at.session_state["grid/map"] == CLASSIC and at.session_state["grid.gamma"] == 0.9


@pytest.mark.parametrize("rows", ["abc", "S.G-S", "GGG", "..........................G"])
def test_a_map_that_is_none_is_told_until_another_is_chosen(rows):
    at = open_page("lab_values", **{"grid.map": rows})
    assert "The map in the link cannot be used" in texts(at) and "cannot be used" in texts(at.run())
    assert "cannot be used" not in texts(press(at, "grid/preset/classic")) and not at.exception
    assert "cannot be used" not in texts(open_page("lab_values", **{"grid.map": "S.G"}))


def test_the_wave_is_only_asked_about_where_it_can_be_measured():
    link = {"grid.map": "S......G", "grid.slip": "0", "grid.cost": "0"}
    for gamma in ("0", "0.01"):
        at = open_page("lab_values", **link, **{"grid.gamma": gamma})
        assert "too little of its reward arrives in sweep 7" in texts(at) and not [r for r in at.radio if r.key == "question/grid/wave"]
    at = open_page("lab_values", **link, **{"grid.gamma": "0.04", "grid.goal": "0.1"})  # sweep 6 changes no value by more than 1e-9
    at.radio(key="question/grid/wave").set_value(1).run()
    press(at, "grid/wave/run")
    assert "You guessed right" in texts(at) and "first differs in sweep 7" in texts(at)
    at.slider(key="grid.goal").set_value(-1.0).run()
    press(at, "grid/wave/run")
    shown = texts(at)
    assert "sweeps it did not" in shown and "a goal of −1 and" in shown and "You guessed, for other settings: In sweep 7" in shown


def test_policy_iteration_promises_a_shrinking_change_between_improvements_only():
    at = open_page("lab_values", **{"grid.method": "policy", "grid.evaluate": "3"})
    assert "Between two improvements" in texts(at)
    course = at.session_state["grid/kept/course"][1]
    changes = [frame.residual for frame in course.frames if frame.residual is not None]
    assert any(after > before for before, after in itertools.pairwise(changes))


def test_returns_of_cut_episodes_may_lie_above_the_best_value():
    at = open_page("lab_values", **{"grid.part": "learning", "grid.map": "S.wG", "grid.gamma": "0.99", "grid.slip": "0"})
    assert "Dotted: V*" not in texts(at)  # nothing is drawn yet
    press(at, "grid/episodes/step")
    course = at.session_state["grid/kept/learning"][1]
    assert course.latest["sarsa"].returns.mean() > -0.04 / (1 - 0.99) and "cut off counts only what it was paid" in texts(at)


def test_the_ticks_of_the_distance_can_be_read():
    ticks = values_learning._ticks(0.45, 11.0)
    assert ticks["ticktext"][:4] == ["0.1", "0.2", "0.5", "1"] and values_learning._ticks(1e-12, 1.0)["tickvals"][0] == 1e-12
    for low in (0.8, 0.55, 0.3, 0.1, 0.01, 1e-4, 1e-12):
        assert 2 <= sum(low * 0.9 <= place <= 1.1 for place in values_learning._ticks(low, 1.0)["tickvals"]) <= 12, low


def test_odd_worlds_are_explained():
    at = open_page("lab_values", **{"grid.map": "S.w.-..wG-..ww", "grid.gamma": "1", "grid.slip": "0"})
    shown = texts(at)
    assert "No way leads from a start to a goal" in shown and "From 6 cells no end can be reached" in shown and "not finite" in shown
    assert metric(at, "Distance to the exact values") == "–"
    at.slider(key="grid.gamma").set_value(0.9).run()
    assert "(1 − γ) = −0.400" in texts(at)
    at.slider(key="grid.cost").set_value(-0.1).run()
    assert "A step *pays* 0.1: to walk for ever is worth 0.1 / (1 − γ) = 1.00" in texts(at)
    at.slider(key="grid.gamma").set_value(1.0).run()
    assert "they diverge" in texts(at)
    for rows, words in ((("..",), "no goal"), (("SS", "SG"), "Every free cell is a start"), ((".G",), "There is no start")):
        at.session_state["grid/map"] = rows
        assert words in texts(at.run())
    for method in ("random", "greedy", "policy"):
        at.selectbox(key="grid.method/chosen").set_value(method).run()
        assert not at.exception
    at.session_state["grid/map"] = ("#G", "X#")
    assert "no free cell" in texts(at.run()) and not at.exception


def test_learning_steps_and_begins_anew_where_the_world_changes(monkeypatch):
    monkeypatch.setattr(values_experiments, "RUNS", 2)
    at = open_page("lab_values", **{"grid.part": "learning", "grid.slip": "0", "grid.seed": "4", "grid.epsilon": "0.2"})
    for _ in range(2):
        press(at, "grid/episodes/step")
    world = grid_world(CLASSIC)
    learned = td.learn(world.mdp, "sarsa", td.beginning(world.mdp), 20, td.Rates(epsilon=0.2), 0.9, seed=4)
    course = at.session_state["grid/kept/learning"][1]
    assert np.array_equal(course.q["sarsa"][2], learned.q) and metric(at, "Episodes of each") == "20"
    live = ~world.mdp.terminal
    assert metric(at, "SARSA: never tried") == f"{(learned.tries[live] == 0).sum()} / {live.sum() * 4}"
    press(at, "grid/episodes/back")
    assert metric(at, "Episodes of each") == "10"
    for shown in ("actions", "visits"):
        at.selectbox(key="grid.shown/chosen").set_value(shown).run()
        assert not at.exception
    at.slider(key="grid.gamma").set_value(1.0).run()
    assert metric(at, "Episodes of each") == "0"
    at.session_state["grid/map"] = ("S#G",)
    at.run()
    press(at, "grid/episodes/step")
    assert "found no end" in texts(at) and "no Q* to measure" in texts(at)
    at.radio(key="question/grid/cliff").set_value(0).run()
    press(at, "grid/cliff/run")
    assert "You guessed right" in texts(at) and "in 2 of 2 runs (13 steps)" in texts(at) and not at.exception


def test_the_walks_differ_as_the_book_says():
    found = walks()
    assert found.edge["q_learning"] == 1 and found.edge["sarsa"] <= 0.2 and found.steps["q_learning"] == 13 < found.steps["sarsa"]
    assert found.earned["sarsa"] > found.earned["q_learning"] and found.fell["q_learning"] > 2 * found.fell["sarsa"]


def test_what_a_board_sends_is_checked(monkeypatch):
    state: dict = {"b/stamp": 3}
    monkeypatch.setattr(grid_board.st, "session_state", state)
    rows = ("S.", "#G")

    def sent(**more):
        state["b"] = {"board": {"rows": None, "selected": None, "seq": 1, "stamp": "3:2:2:False", **more}}
        return grid_board.answer("b", rows)

    assert sent(rows=["SX", "#G"], selected=[1, 0]) == grid_board.Answer(("SX", "#G"), (1, 0)) and state["b/seq"] == 1
    assert sent(stamp="2:2:2:False") is None  # of a map that is gone
    for bad in (["S."], ["S.", "#"], ["S.", "#?"], "S.", [1, 2]):
        assert sent(rows=bad) is None
    for bad in ([2, 0], [0, -1], [0], "00", [0.5, 0], None):
        assert sent(selected=bad) == grid_board.Answer(None, None)
    state["b"] = {"board": {"seq": "x"}}
    assert grid_board.answer("b", rows) is None
