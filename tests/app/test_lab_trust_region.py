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
