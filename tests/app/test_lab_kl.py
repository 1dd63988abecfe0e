"""Lab 6, the KL optimum and DPO: its pages show the numbers of the mathematics, and bad settings are explained."""

from __future__ import annotations

import numpy as np
import pytest

from pages.components.numbers import number
from rlhf.labs import dpo_derivation as dd
from rlhf.labs import kl_estimators as ke
from rlhf.labs import kl_optimum as ko
from tests.app.opening import open_page, press, texts

PARTS = ("optimum", "hacking", "derivation", "falls", "training", "estimators", "directions")


def answer(at, question: str, index: int):
    return at.radio(key=f"question/kl/{question}").set_value(index).run()


def go(at, part: str):
    at.session_state["kl/part"] = part
    at.run()
    assert not at.exception, (part, at.exception)
    return at


@pytest.fixture(scope="module")
def shown():
    """One visitor who has opened the lab by a link; the tests below go on from where the one before left it."""
    return open_page("lab_kl", **{"kl.beta": "0.2", "kl.rewards": "0,1,-2", "kl.reference": "0.2,0.2,0.1", "kl.n": "4"})


def test_the_optimum_of_a_link(shown):
    reference, rewards = np.array([0.4, 0.4, 0.2]), np.array([0.0, 1.0, -2.0])
    best = ko.optimum(reference, rewards, 0.2)
    metrics = {metric.label: metric.value for metric in shown.metric}
    assert metrics["E[r]"] == number(best.reward) and metrics["J = E[r] − β·KL"] == number(best.objective)
    assert metrics["KL(π∗‖π_ref)"] == f"{number(best.kl)} nats" and metrics["Z"] == number(float(np.exp(best.log_z)))
    words = texts(shown)
    four = float(ko.best_of_n(reference, rewards, 4) @ rewards)
    assert f"Best of 4: E[r] = {number(four)}" in words and number(ko.best_of_n_bound(4)) in words


def test_beta_0_ties_and_equal_rewards_are_explained(shown):
    shown.select_slider(key="kl.beta").set_value(0.0).run()
    assert "β = 0: distance is free" in texts(shown) and "would divide by 0" in texts(shown)
    press(shown, "kl/preset/A tie")
    assert "B, C are tied" in texts(shown)
    press(shown, "kl/preset/Equal rewards")
    assert "nothing to gain" in texts(shown)
    press(shown, "kl/preset/Never written")
    assert "never writes C" in texts(shown) and "to the corner B." in texts(shown) and not shown.exception


@pytest.mark.parametrize(("n", "below"), [("2", False), ("256", True)])
def test_best_of_n_is_called_below_its_bound_only_where_it_is(n, below):
    six = {"kl.answers": "6", "kl.reference": "1,1,1,1,1,1", "kl.rewards": "-1,-0.5,0,0.5,1,1.5", "kl.n": n}
    assert ("well below that bound" in texts(open_page("lab_kl", None, **six))) is below


def test_a_wrong_reward_is_overoptimised(shown):
    go(shown, "hacking")
    press(shown, "kl/preset/A flatterer")
    answer(shown, "hacking", 2)
    press(shown, "kl/hacking/step")
    assert "largest with" not in texts(shown)  # not before the end
    shown.session_state["kl/hacking"] = 16
    shown.run()
    _beta, most = ko.best_beta(ko.normalised([0.55, 0.42, 0.03]), [0.0, 1.0, 1.3], [0.0, 1.0, -1.0])
    assert "You guessed right" in texts(shown) and f"largest with {number(most)}" in texts(shown)
    press(shown, "kl/preset/An honest reward")
    assert shown.session_state["kl/hacking"] == 0 and "largest with" not in texts(shown)  # the end of another example would tell
    shown.session_state["kl/hacking"] = 16
    shown.run()
    assert "You guessed, for other settings" in texts(shown)


def test_the_derivation_in_numbers(shown):
    press(go(shown, "derivation"), "kl/preset/The first example")
    found = dd.derive(ko.normalised([0.55, 0.42, 0.03]), np.array([0.0, 1.0, 1.3]), 0.5, (1, 0), 0.5)
    words = texts(shown)
    assert f"={number(found.preference)}" in words and f"={number(found.loss)}" in words
    assert sum(":material/check:" in str(element.value) for element in shown.markdown) >= 5
    answer(shown, "shift", 0)
    shown.slider(key="kl.shift").set_value(2.0).run()
    assert "took the whole of c" in texts(shown)
    press(shown, "kl/preset/A pair without difference")
    assert "sigma(1.00-1.00)" in texts(shown) and "logsigma(0)=0.693" in texts(shown)
    shown.select_slider(key="kl.beta").set_value(0.0).run()
    assert "stops at its second step" in texts(shown)


def test_the_three_ways_are_found(shown):
    go(shown, "falls")
    answer(shown, "falls", 1)
    shown.select_slider(key="kl.beta").set_value(0.5).run()
    press(shown, "kl/falls/search")
    path = dd.descend(dd.draw_models(np.random.default_rng(0), 1000, 4, 2), 0.5, 1.0, 20)
    counts = np.bincount(dd.ways(path), minlength=4)
    metrics = {metric.label: metric.value for metric in shown.metric}
    assert metrics["both down"] == f"{counts[dd.BOTH_DOWN]} of 1000" and metrics["both up"] == f"{counts[dd.BOTH_UP]} of 1000"
    assert "You guessed right" in texts(shown) and "earlier settings" not in texts(shown)
    shown.slider(key="kl.features").set_value(0).run()
    assert "earlier settings" in texts(shown)
    press(shown, "kl/falls/search")
    assert "Without shared features none can" in texts(shown) and "You guessed, for other settings" in texts(shown)
    answer(shown, "falls", 0)
    assert "You guessed right" in texts(shown) and "Another seed" not in texts(shown)


def test_the_answer_that_is_named_moved_as_is_said():
    at = answer(open_page("lab_kl", None, **{"kl.part": "falls", "kl.features": "1", "kl.among": "5", "kl.beta": "0.1"}), "falls", 1)
    press(at, "kl/falls/search")
    assert "The pair lost 3.75 % of probability to the other answers, of which E gained most." in texts(at)


def test_training_ends_where_it_should(shown):
    press(go(shown, "training"), "kl/preset/The first example")
    answer(shown, "training", 1)
    press(shown, "kl/training/run")
    shown.session_state["kl/training"] = 1000
    shown.run()
    assert not shown.exception and "You guessed right" in texts(shown)
    table = shown.dataframe[0].value.set_index("")
    assert float(table.loc["DPO", "largest difference from π∗"]) < 1e-10 < 0.1 < float(table.loc["GRPO", "largest difference from π∗"])
    shown.selectbox(key="kl.grpo/chosen").set_value("corrected").run()
    assert "earlier settings" in texts(shown)
    press(shown, "kl/training/run")
    shown.session_state["kl/training"] = 1000
    shown.run()
    assert float(shown.dataframe[0].value.set_index("").loc["GRPO", "largest difference from π∗"]) < 1e-10


@pytest.mark.parametrize(
    ("settings", "guessed"),
    [
        ({"kl.beta": "0.01", "kl.grpo": "scaled"}, 0),  # GRPO's other optimum is the same one here
        ({"kl.natural": "false", "kl.rate": "0.05", "kl.steps": "50"}, 4),
    ],
)
def test_training_is_judged_by_what_was_measured(settings, guessed):
    at = answer(open_page("lab_kl", None, **{"kl.part": "training", **settings}), "training", guessed)
    press(at, "kl/training/run")
    at.session_state["kl/training"] = 1000
    at.run()
    assert "You guessed right" in texts(at)
    assert ("Not there yet" in texts(at)) == (guessed == 4) and "to and fro" not in texts(at)


def test_estimators_from_samples(shown):
    go(shown, "estimators")
    answer(shown, "estimators", 2)
    press(shown, "kl/estimators/draw")
    policy, reference = ke.bell(1, 1), ke.bell(0, 1)
    measured = ke.measured_moments(policy, reference, ke.draw(policy, 1000, np.random.default_rng(0)))
    table = shown.dataframe[0].value.set_index("")
    assert table.loc["k1 = −log r", "mean, measured"] == number(measured["k1"].mean) and "k1 is negative in" in texts(shown)
    press(shown, "kl/preset/Narrow policy")
    assert "the smallest spread" not in texts(shown)
    press(shown, "kl/estimators/draw")
    assert "heavy tail" in texts(shown) and "You guessed, for other settings" in texts(shown)
    shown.slider(key="kl.width").set_value(1.0)
    shown.slider(key="kl.mean").set_value(2.5).run()
    press(shown, "kl/estimators/draw")
    assert "k1 has the smallest spread and k3 the largest" in texts(shown)
    go(shown, "directions")


def test_nothing_breaks_by_malformed_links_and_empty_references():
    broken = {
        "kl.beta": "x", "kl.rewards": "1,nan,9e99", "kl.reference": "0,0,0", "kl.answers": "99", "kl.n": "-3", "kl.part": "no",
        "kl.mean": "far", "kl.answer": "Q", "kl.chosen": "Z", "kl.true": ",,", "kl.seed": "-1",
    }  # fmt: skip
    at = open_page("lab_kl", **broken)
    assert "gives no answer any probability" in texts(at)
    for part in ("hacking", "derivation", "training"):
        assert "gives no answer any probability" in texts(go(at, part))
    at = open_page("lab_kl", **{"kl.reference": "0,1,0", "kl.beta": "0.01", "kl.answers": "6"})
    at.session_state["kl.reference/values"] = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    for part in PARTS:
        go(at, part)
    assert "two answers" in texts(go(at, "derivation"))
    answer(go(at, "training"), "training", 0)
    press(at, "kl/training/run")
    answer(go(at, "hacking"), "hacking", 0)
    assert not at.exception
