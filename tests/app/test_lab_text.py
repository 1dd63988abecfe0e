"""The lab of text as decisions: numbers on the page are the world's, links are followed as far as they can be, the experiment runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pages.components import models
from pages.components.labs import text_code, text_walk
from pages.components.labs.text_tree import layout
from pages.components.labs.text_walk import Walk
from rlhf.compare import Side, tuned
from rlhf.labs.text_world import VALUE_HEAD, state_values, text_world
from rlhf.preferences import Prompt
from tests.app.opening import open_page, press, texts
from tests.canned import canned_run

RIGHT = {"mdp.tokens": "1,9,6,0", "mdp.gamma": "0.9"}


@pytest.fixture(autouse=True)
def no_runs(root: Path) -> None:
    """Runs of the test's own; the models stay loaded from one test to the next."""


def table(at, column: str) -> list[str]:
    return list(at.dataframe[0].value[column])


def test_a_right_answer_from_the_link():
    at = open_page("lab_text", **RIGHT)
    assert {metric.label: metric.value for metric in at.metric}["Reward r(x, y), by correct"] == "1.00"
    assert table(at, "r") == ["0", "0", "0", "1.00"] and table(at, "G") == ["0.729", "0.810", "0.900", "1.00"]
    shown = texts(at)
    assert "0.9^{3}cdot1.00=0.729" in shown and "The answer is 085" in shown and "No PPO run of this model has a critic" in shown
    at.slider(key="mdp.gamma").set_value(0.5).run()
    assert table(at, "G") == ["0.125", "0.250", "0.500", "1.00"]
    at.number_input(key="question/mdp/first").set_value(0.125).run()
    assert "Right." in texts(at) and "0.5³ = 0.125" in texts(at)
    at.slider(key="mdp.longest.sums").set_value(2).run()
    assert not at.exception and at.query_params["mdp.tokens"] == "1,9", "what no longer fits is cut"


def test_sampling_back_and_branches():
    at = open_page("lab_text")
    assert "Nothing has been paid yet" in texts(at)
    for _ in range(2):
        at = press(at, "mdp/sample")
    first = str(at.query_params["mdp.tokens"])
    at = press(press(at, "mdp/back"), "mdp/back")
    assert "mdp.tokens" not in at.query_params
    at.session_state[text_walk.WISH] = (2, 3)
    at.run()
    (walk,) = at.session_state[text_walk.WALKS].values()
    assert walk.at == (2, 3) and {tuple(map(int, first.split(","))), (2, 3)} == set(walk.leaves())
    at = press(at, "mdp/play")  # it samples on with each run of the fragment
    for _ in range(4):
        at.run()
    (walk,) = at.session_state[text_walk.WALKS].values()
    assert not at.exception and len(walk.at) > 2 and "The text is over" in texts(at) and text_walk.PLAYING not in at.session_state
    at.text_input(key="mdp.prompt.sums").set_value("12+30=").run()
    assert "mdp.tokens" not in at.query_params, "another prompt is another tree"
    at.text_input(key="mdp.prompt.sums").set_value("37+48=").run()
    assert at.session_state[text_walk.WALKS][("sums", "37+48=")] == walk
    at = press(at, "mdp/clear")
    assert not at.exception and "mdp.tokens" not in at.query_params


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ({"mdp.tokens": "1,99999,3"}, "3 tokens; 1 of them can be followed"),
        ({"mdp.tokens": "x,-1"}, "2 tokens; 0 of them"),
        ({"mdp.tokens": "1," * 5000}, "5001 tokens; 4 of them"),
        ({"mdp.model": "no/thing"}, "is not loaded"),
        ({"mdp.model": "gone-run/step-3"}, "gone-run"),
        ({"mdp.prompt.sums": "hi <b>"}, "cannot read some of the prompt"),
        ({"mdp.prompt.sums": "1+1=" * 20}, "context"),
        ({"mdp.prompt.sums": "12+=", **RIGHT}, "right answer, and the prompt has none"),
        ({"mdp.critic": "gone", "mdp.gamma": "seven", "mdp.k": "9999", "mdp.part": "?"}, "The run gone is not here"),
        ({"mdp.part": "pay", "mdp.sum": "x", "mdp.answer": "y"}, "Choose an answer first"),
    ],
    ids=["unknown token", "no numbers", "too long", "model", "run", "characters", "prompt", "no sum", "settings", "pay"],
)
def test_links_that_cannot_be_followed(link, told):
    assert told in texts(open_page("lab_text", **link))


def test_stories_and_other_rewards():
    at = open_page("lab_text", **{"mdp.model": "story", "mdp.longest.story": "3", "mdp.reward.story": "length"})
    for _ in range(3):
        at = press(at, "mdp/sample")
    expected = np.exp(-0.5 * ((3 - 24) / 8) ** 2)
    assert float(at.metric[0].value) == pytest.approx(expected, rel=1e-2) and "cut at the length limit" in texts(at)
    assert table(at, "G") == [at.metric[0].value] * 3, "γ = 1: all the same"


def test_the_critic_of_a_run(root: Path):
    run = canned_run(root, "ppo", model="sums", steps=2, name="critical", gamma=0.95)
    head = np.random.default_rng(0).normal(size=(1, 96)).astype(np.float32)
    for info in run.checkpoints():
        save_file({"weight": head, "bias": np.zeros(1, np.float32)}, info.path / VALUE_HEAD)
    at = open_page("lab_text", **RIGHT)
    side = tuned(run)
    loaded = models.wait(side).loaded
    values = state_values(text_world(loaded, Prompt("37+48="), 4), (1, 9, 6, 0), loaded, side.layers[-1])
    assert [float(v.replace("−", "-")) for v in table(at, "V(s)")] == pytest.approx(values[:4], rel=6e-3)
    shown = texts(at)
    assert "critical" in shown and "γ = 0.95" in shown and "more than the critic's error" in shown
    at = press(at, "mdp/act")
    assert at.query_params["mdp.model"] == f"{run.id}/step-2" and not at.exception
    assert at.session_state[text_walk.WALKS].keys() >= {(f"{run.id}/step-2", "37+48=")}
    assert models.shelf().ready(Side("sums")), "the released model is still there"


def test_paid_at_the_end_and_by_token():
    at = open_page("lab_text", **{"mdp.part": "pay"})
    assert at.button(key="mdp/run").disabled
    at.radio(key="question/mdp/gamma").set_value(1).run()
    at = press(at, "mdp/run")
    shown = texts(at)
    assert "Measured: 0.729" in shown and "0.9³ = 0.729" in shown and "You guessed: 0.9" in shown
    assert "the first token has 0.903" in shown, "(1 + 0.9 + 0.81) / 3"
    at = press(at, "mdp/try-first")
    assert at.text_input(key="mdp.answer").value == "185"
    sparse, dense = (list(frame.value["G"]) for frame in at.dataframe)
    assert sparse == ["0"] * 4 and dense == ["0.570", "0.633", "0.333", "0"]
    assert "which token to blame" in texts(at)
    at.text_input(key="mdp.answer").set_value("<b>").run()
    assert "must be digits" in texts(at)
    at.text_input(key="mdp.answer").set_value("085").run()
    at.text_input(key="mdp.sum").set_value("**").run()
    assert "This is not a sum" in texts(at) and not at.exception


@pytest.mark.parametrize(
    ("prompt", "answer", "told"),
    [
        ("37+48=", "085", "each digit has its 0.333 at once"),
        ("37+48=", "85", "compares place by place with 085, and pays 0 in all"),
        ("37+48=", "0085", "and pays 0.333 in all"),
        ("1+1=", "2", "place by place with 002, and pays 0 in all"),
        ("37+48=", "0850", "`digits` pays 1 in all; what follows them earns nothing"),
        ("500+600=", "1100", "each digit has its 0.250 at once"),
        ("500+600=", "1101", "each right digit earns its 0.250"),
        ("37+48=", "850", "No digit stands at its place"),
    ],
)
def test_the_lesson_is_what_the_rewards_say(prompt, answer, told):
    state = {"mdp/ran": (4, 0.729, 0.903), "question/mdp/gamma": 2}
    assert told in texts(open_page("lab_text", state, **{"mdp.part": "pay", "mdp.sum": prompt, "mdp.answer": answer}))


def test_the_environment_is_shown_and_run():
    at = press(open_page("lab_text", **{"mdp.part": "code"}), "mdp/example-run")
    assert not at.exception and [code.value for code in at.code][1].startswith("37+48=|")
    assert text_code.run("print(1, 'a')\nprint(2)") == "1 a\n2"


def test_the_tree_is_laid_out_without_two_states_in_one_place():
    states = {(1,): 0.0, (1, 2): 0.0, (1, 2, 3): 0.0, (5,): 0.0, (1, 4): 0.0, (5, 6): 0.0, (1, 4, 4): 0.0}
    placed = layout(states)
    assert {place.state for place in placed} == {(), *states} and len({(p.column, p.row) for p in placed}) == len(placed)
    assert all(placed[p.parent].state == p.state[:-1] for p in placed[1:]) and placed[0].parent == -1
    assert {p.state: p.row for p in placed if p.state in ((1, 2, 3), (1, 4, 4), (5, 6))} == {(1, 2, 3): 0, (1, 4, 4): 1, (5, 6): 2}


def test_old_branches_give_way_to_new_ones():
    walk = Walk(at=(9, 1), logprobs={(9,): 0.0, (9, 1): 0.0, (3,): 0.0, (3, 3): 0.0, (4,): 0.0})
    text_walk._drop(walk, (3, 3))
    assert set(walk.logprobs) == {(9,), (9, 1), (4,)}
    text_walk._drop(walk, (9, 1))
    assert (9, 1) in walk.logprobs, "where one is stays"
