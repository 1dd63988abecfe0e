"""The policy gradient lab's page: its numbers are the mathematics', its experiments run, and bad settings are explained."""

from __future__ import annotations

import numpy as np
import pytest

from pages.components.numbers import number
from rlhf.labs import policy_gradient as pg
from rlhf.labs import softmax_policy as sp
from tests.app.opening import open_page, press, texts

PAGE = "lab_policy_gradient"
REWARDS, LOGITS = np.array([1.0, 0.5, 2.0]), np.array([0.0, 1.0, -0.5])


def table(at, index: int = 0):
    return at.dataframe[index].value


def test_the_trick_and_the_cloud_of_a_bandit_from_the_link():
    link = {"pg.arms": "3", "pg.rewards": "1,0.5,2", "pg.logits": "0,1,-0.5", "pg.noise": "0.5", "pg.arm": "c", "pg.h": "-3", "pg.n": "4"}
    at = open_page(PAGE, **link)
    p = sp.softmax(LOGITS)
    slope = float(p[2] * (2.0 - p @ REWARDS))
    terms = table(at)
    assert terms["Product"].iloc[-1] == number(slope, sign=True) and list(terms["r(a)"][:3]) == ["1.00", "0.500", "2.00"]
    assert rf"={slope:.3f}" in "\n".join(str(e.value) for e in at.latex)

    at.segmented_control(key="pg/part").set_value("cloud").run()
    assert at.button(key="pg/draw").disabled  # guess first
    at.radio(key="question/pg/cloud").set_value(0).run()
    press(at, "pg/draw")
    assert not at.exception and "You guessed: Its middle moves" in texts(at)
    measured = table(at)
    exact = pg.bandit_variance(p, REWARDS, 0.5, 4, float(p @ REWARDS))
    assert measured["Variance, exactly"][2] == number(exact) and measured["Variance, exactly"][0] == measured["Variance, exactly"][1]
    assert (
        list(measured["is it chance?"]) == ["may be"] * 6 and measured["Bias, exactly"][5] == "0" and "no more than a baseline" in texts(at)
    )

    at.slider(key="pg.n").set_value(16).run()  # drawn anew at once
    assert table(at)["Variance, exactly"][2] == number(exact / 4)
    at.selectbox(key="pg.b/chosen").set_value("own").run()
    at.slider(key="pg.own").set_value(20.0).run()
    assert "it drowns" in texts(at)
    at.slider(key="pg.n").set_value(1).run()
    assert "there are no others" in texts(at) and not at.exception


def test_the_critic_is_called_biased_and_gamma_t_too():
    at = open_page(
        PAGE,
        {"question/pg/cloud": 1, "pg/cloud/on": True},
        **{"pg.part": "cloud", "pg.world": "grid", "pg.plain": "true", "pg.gamma": "0.8"},
    )
    assert "You guessed right." in texts(at)
    said = list(table(at)["Bias, exactly"])
    assert said[0] == "0" and all("left out" in words for words in said[1:5]) and "V̂ is not V" in said[5]
    at.toggle(key="pg.plain").set_value(False).run()
    said, chance = list(table(at)["Bias, exactly"]), list(table(at)["is it chance?"])
    assert said[:5] == ["0"] * 5 and "V̂ is not V" in said[5] and chance == ["may be"] * 5 + ["no"]
    assert len(table(at, 1)) >= 2  # one episode, number by number


@pytest.mark.parametrize("world", ["bandit", "grid"])
def test_learning_runs_and_says_when_it_is_of_earlier_settings(world):
    link = {"pg.part": "learning", "pg.world": world, "pg.updates": "20", "pg.seeds": "3"}
    at = open_page(PAGE, {"question/pg/learning": 4}, **link)
    press(at, "pg/learn")
    rows = table(at)
    assert len(rows) == 6 and "the exact gradient has" in texts(at) and not at.exception
    assert (rows.iloc[0, 1:] == rows.iloc[1, 1:]).all() == (world == "bandit")
    press(at, "pg/learning/hasty")
    assert at.slider(key="pg.rate").value == 4 and "of the earlier settings" in texts(at)


def test_bad_settings_are_explained():
    at = open_page(PAGE, **{"pg.rewards": "1,1,1,1", "pg.part": "nonsense", "pg.h": "seven", "pg.world": "moon"})
    assert "Every arm pays the same" in texts(at)
    press(at, "pg/preset/sure")
    assert "all but sure" in texts(at) and "the gradient is exactly 0" not in texts(at)
    at.selectbox(key="pg.world/chosen").set_value("grid").run()
    at.selectbox(key="pg.map/chosen").set_value("walled").run()
    at.slider(key="pg.gamma").set_value(1.0).run()
    assert "No way leads to an end" in texts(at) and "without end" in texts(at)
    at.segmented_control(key="pg/part").set_value("cloud").run()
    at.radio(key="question/pg/cloud").set_value(1).run()
    press(at, "pg/draw")
    assert not at.exception
    at.segmented_control(key="pg/part").set_value("learning").run()
    at.slider(key="pg.updates").set_value(20).run()
    at.radio(key="question/pg/learning").set_value(1).run()
    press(at, "pg/learn")
    assert not at.exception and "nothing to learn" in texts(at)


CLOUD = {"question/pg/cloud": 1, "pg/cloud/on": True}


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"pg.world": "grid", "pg.map": "cliff", "pg.skill": "5"}, ["to go 189 % (194 %)", "baseline b 118 %", "squares are larger"]),
        ({"pg.world": "grid", "pg.gamma": "0.5", "pg.skill": "5"}, ["RLOO) 3,000 %", "Exact advantage 2", "one number for all steps"]),
        ({"pg.b": "own", "pg.own": "3", "pg.noise": "1", "pg.n": "3"}, ["Constant baseline b 1"]),
    ],
)  # fmt: skip
def test_a_refinement_that_raises_the_variance_is_named(link, said):
    shown = texts(open_page(PAGE, CLOUD, **{"pg.part": "cloud", **link}))
    assert all(words in shown for words in ["A refinement may also raise the variance", *said])


def test_nothing_is_said_of_a_higher_variance_where_there_is_none():
    assert "may also raise" not in texts(open_page(PAGE, CLOUD, **{"pg.part": "cloud", "pg.world": "grid"}))


def test_why_there_is_no_gradient():
    far = {"pg.world": "grid", "pg.map": "corridor", "pg.horizon": "3", "pg.slip": "0"}
    for skill in ("0", "10"):
        shown = texts(open_page(PAGE, **far, **{"pg.skill": skill}))
        assert "No end lies within T = 3 actions" in shown and "favourite action" not in shown
    sure = {"pg.world": "grid", "pg.map": "corridor", "pg.skill": "10", "pg.gamma": "1", "pg.slip": "0"}
    assert "favourite action" in texts(open_page(PAGE, **sure))


def test_the_batch_that_is_asked_about_is_the_one_of_the_part():
    assert "a batch has n = 5 episodes" in texts_of_questions(open_page(PAGE, **{"pg.part": "learning", "pg.few": "5", "pg.n": "7"}))
    assert "a batch has n = 7 episodes" in texts_of_questions(open_page(PAGE, **{"pg.part": "cloud", "pg.few": "5", "pg.n": "7"}))


def texts_of_questions(at) -> str:
    return "\n".join(field.label for field in at.number_input)


def test_a_guess_about_other_settings_is_not_judged():
    at = open_page(PAGE, {"question/pg/learning": None}, **{"pg.part": "learning", "pg.updates": "20", "pg.seeds": "3"})
    at.radio(key="question/pg/learning").set_value(4).run()
    at.slider(key="pg.few").set_value(9).run()
    press(at, "pg/learn")
    assert "You guessed, for other settings: Exact advantage" in texts(at)
    at.radio(key="question/pg/learning").set_value(0).run()
    assert "for other settings" not in texts(at)


def test_the_sum_of_the_trick_is_written_on_several_lines():
    at = open_page(PAGE, **{"pg.arms": "6"})
    formula = next(str(e.value) for e in at.latex if "sum_a" in str(e.value))
    assert formula.count(r"\\[0.4em]") == 6 and max(line.count("+") for line in formula.split(r"\\")[1:3]) <= 3
