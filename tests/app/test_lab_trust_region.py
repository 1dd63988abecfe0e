"""The lab of trust regions: its parts, its numbers against the mathematics, its link, and settings that lead nowhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pages.components.labs import trust_settings as settings
from pages.components.numbers import number
from rlhf.labs import surrogate, trust_region
from rlhf.labs.softmax_policy import bandit
from tests.app.opening import open_page, press, texts

PAGE = "lab_trust_region"


def answer(at, question: str, option: int):
    return next(r for r in at.radio if r.key == f"question/tr/{question}").set_value(option).run()


def expected(**changed) -> trust_region.Round:
    """The first round of updates that the page should show with its defaults."""
    problem = surrogate.table(bandit(settings.REWARDS), 1.0)
    theta = np.array([*settings.LOGITS, 0.0, 0.0, 0.0])
    chosen = trust_region.Settings(**{"step": 4.0, "delta": 0.05, "rate": 1.0, "epochs": 8, **changed})
    batch = surrogate.sampled_batch(problem, theta, 20, np.random.default_rng([0, 0]))
    return {method: trust_region.update(method, problem, theta, batch, chosen) for method in trust_region.METHODS}


def test_one_step():
    at = open_page(PAGE)
    assert not any(b.key == "tr/play/step" for b in at.button) and not at.dataframe  # first the guess
    at = press(answer(at, "furthest", 0), "tr/play/step")
    assert not at.exception and "You guessed right." in texts(at)
    made, shown = expected(), at.dataframe[0].value
    assert list(shown["KL"]) == [number(made[method].kl) for method in trust_region.METHODS]
    assert list(shown["Won"]) == [number(made[method].won, sign=True) for method in trust_region.METHODS]
    assert list(at.dataframe[1].value["KL"]) == [number(trial.kl) for trial in made["trpo"].trials]
    # each method's own numbers, and the settings live
    next(s for s in at.selectbox if s.key == "tr.method/chosen").set_value("ppo_kl").run()
    assert f"={number(made['ppo_kl'].next_beta)}" in texts(at)
    for method in ("plain", "natural", "ppo_clip"):
        next(s for s in at.selectbox if s.key == "tr.method/chosen").set_value(method).run()
        assert not at.exception
    next(s for s in at.slider if s.key == "tr.delta").set_value(0.2).run()
    assert at.dataframe[0].value["KL"][2] == number(expected(delta=0.2)["trpo"].kl)
    # step again: the table grows
    press(press(at, "tr/play/step"), "tr/play/step")
    assert len(at.dataframe[0].value) == 15 and not at.exception
    at = press(at, "tr/preset/equal")
    assert "All rewards are equal" in texts(at) and not at.exception


def test_the_clip_and_the_cliff_by_their_links():
    at = open_page(PAGE, **{"tr.part": "clip", "tr.rate": "2.0", "tr.optimizer": "adam"})
    at = answer(at, "outside", 1)
    at = press(press(at, "tr/epochs/step"), "tr/epochs/step")
    cut = expected(rate=2.0, adam=True)["ppo_clip"].cut[2]
    assert next(m for m in at.metric if m.label == "Without gradient").value == number(cut, "share")
    assert "You guessed right." in texts(at) and not at.exception
    next(c for c in at.button_group if c.key == "tr/part").set_value("cliff").run()
    at = answer(press(at, "tr/preset/cliff"), "cliff", 2)
    assert not at.exception
    assert "You guessed right." in texts(at) and "−15.0 to −47.9" in texts(at)
    assert at.query_params["tr.part"] == "cliff" and at.query_params["tr.world"] == "corridor"
    at = press(at, "tr/preset/plateau")
    assert next(r for r in at.radio if r.key == "question/tr/cliff").value is None  # another question now


def test_a_tie_is_not_judged():
    """Nothing moves (equal rewards), or two methods take the same step: no guess is right, none is wrong."""
    for link, words in (
        ({"tr.rewards": "0.7,0.7,0.7"}, "None moves here"),
        ({"tr.step": "4", "tr.rate": "4", "tr.epochs": "1"}, "spent by Plain gradient, PPO-clip, PPO-penalty:"),
    ):
        at = open_page(PAGE, {"tr/play": 1, "question/tr/furthest": 0}, **link)
        shown = texts(at)
        assert words in shown and "You guessed" not in shown and "10^{-" not in shown and not at.exception
    assert "Dotted: all policies" in shown
    assert "Dotted: all policies" not in texts(press(at, "tr/play/step"))


@pytest.mark.parametrize(
    ("link", "right", "words"),
    [
        ({}, 0, "promised the plain step +0.199; it won +0.208"),
        ({"tr.exact": "true", "tr.step": "50"}, 0, "promised the plain step +0.391; it won +0.391"),
        ({"tr.exact": "true", "tr.step": "0"}, 3, "it won 0"),
        ({"tr.exact": "true", "tr.step": "0.5"}, 1, "within δ this one could be longer"),
        ({"tr.world": "corridor", "tr.exact": "true", "tr.step": "8"}, 2, "its promise was worth little"),
    ],
)
def test_the_cliff_tells_nothing_before_a_guess_and_the_truth_after(link, right, words):
    at = open_page(PAGE, **{"tr.part": "cliff", **link})
    assert "J(text{TRPO})" not in texts(at) and "alpha_delta" not in texts(at)
    for option in range(4):
        at = answer(at, "cliff", option)
        shown = texts(at)
        assert ("You guessed right." in shown) == (option == right) and words in shown and "J(text{TRPO})" in shown
        assert ("worth little" in shown) == (right == 2)


def test_the_clip_counts_every_epoch():
    bars = {"tr.rewards": "-0.5,0.8,0.55", "tr.logits": "-1.8,-1.8,0"}
    link = {**bars, "tr.n": "7", "tr.seed": "4", "tr.epochs": "6", "tr.optimizer": "adam"}
    at = open_page(PAGE, {"question/tr/outside": 1, "tr/epochs": 1}, **{"tr.part": "clip", **link})
    assert "You guessed right." in texts(at) and "stay inside" not in texts(at)
    at = open_page(PAGE, {"question/tr/outside": 1, "tr/epochs": 1}, **{"tr.part": "clip", "tr.rewards": "0.5,0.5,0.5"})
    assert "With these settings all stay inside." in texts(at) and "You guessed right." in texts(at)


def test_the_formulas_of_the_natural_gradient_hold_for_a_stretched_parameter():
    link = {"tr.stretch": "2", "tr.exact": "true", "tr.method": "natural"}
    at = open_page(PAGE, {"tr/play": 1, "question/tr/furthest": 0}, **link)
    shown = texts(at)
    assert "F=D,(operatorname{diag}pi-pipi^top),D=begin{pmatrix}0.185" in shown
    assert "big(0.567,;0.0667,;-0.633big)" in shown and "in proportion to the advantages" in shown


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({"tr.delta": "0.0"}, "δ = 0"),
        ({"tr.logits": "-6,-6,6", "tr.exact": "true"}, "nearly certain"),
        ({"tr.n": "1", "tr.seed": "3"}, "Not sampled in this batch"),
        ({"tr.part": "cliff", "tr.rewards": "0.5,0.5,0.5"}, "The gradient is 0 here"),
        ({"tr.world": "grid", "tr.products": "1", "tr.n": "2"}, "Conjugate gradient stopped"),
        ({"tr.world": "moon", "tr.delta": "nan", "tr.n": "-4", "tr.rewards": "x,1e999", "tr.part": "?", "tr.seed": "1e9"}, "Three arms"),
    ],
)
def test_settings_that_lead_nowhere(link, words):
    at = open_page(PAGE, {"tr/play": 1, "question/tr/furthest": 0}, **link)
    shown = texts(at) + json.dumps([s.options for s in at.selectbox], ensure_ascii=False)
    assert words in shown and not at.exception
