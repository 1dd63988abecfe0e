"""The page Check yourself: the questions with their live numbers, what is left of them, and challenges on canned runs."""

from __future__ import annotations

import json
import re

import numpy as np

from pages.components import config_form
from pages.components.labs import challenge_list, contents, interview, progress
from pages.components.labs.challenge_words import SYMBOLS, parts, words
from pages.components.labs.interview_item import Item
from pages.components.labs.question import Choice, is_right
from pages.components.numbers import number
from rlhf.algorithms import CONFIGS
from rlhf.config import Config
from rlhf.events import Finished, Step
from rlhf.labs.challenges import CHALLENGES
from rlhf.overoptimisation import GOLD
from tests.app.opening import open_page, press, texts
from tests.canned import canned_run, canned_writer

ITEMS: list[Item] = [item for topic in interview.topics() for item in topic.items]


def ids() -> set[str]:
    return {item.question.id for item in ITEMS}


def test_the_questions_are_sound():
    assert len(ids()) == len(ITEMS) >= 20
    for item in ITEMS:
        question = item.question
        assert re.fullmatch(r"quiz/[a-z0-9-]+", question.id)
        assert question.because and "{" not in re.sub(r"\$.*?\$", "", question.because)  # every number is filled in
        assert item.place is not None
        if isinstance(question, Choice):
            assert 3 <= len(set(question.options)) == len(question.options) <= 4
            assert is_right(question, question.right)
    rights = [item.question.right for item in ITEMS if isinstance(item.question, Choice)]
    assert len(set(rights)) == 4 and max(map(rights.count, range(4))) <= len(rights) // 2  # the place gives nothing away


def test_numbers_in_the_answers_by_hand():
    """The answers quote what their formulas give."""
    by_id = {item.question.id: item.question for item in ITEMS}
    quoted = {
        "quiz/exposure": 0.99**64, "quiz/objective": -np.log(1 / (1 + np.exp(-0.8))), "quiz/gamma": 0.95**63, "quiz/collapse": 1.2**20,
        "quiz/k1": 0.5 * np.log(5 / 3) + 0.2 * np.log(0.5), "quiz/scaled": -3.75, "quiz/implicit": 1 / (1 + np.exp(-0.3)),
        "quiz/normaliser": 0.5 * np.log(0.3 * np.exp(2) + 0.5 * np.exp(0.4) + 0.2 * np.exp(-1)), "quiz/best-of-n": np.log(64) - 63 / 64,
        "quiz/hacking": (0.38 * np.exp(0.8) * 0.8 - 0.02 * np.exp(1)) / (0.02 * np.exp(1) + 0.38 * np.exp(0.8) + 0.6),
    }  # fmt: skip
    for name, value in quoted.items():
        assert number(float(value)) in by_id[name].because, name


def test_answers_progress_and_what_is_left(root):
    at = open_page("check_yourself", {progress.SOLVED: {"quiz/stages", "kl/one", "kl/two"}})
    assert texts(at).count("0 of") == 0 and f"1 of {len(ITEMS)} questions" in at.main.get("progress")[0].proto.text
    assert next(r for r in at.radio if "stages" in r.label).label.startswith(":green")
    assert any("· 2" in link.proto.label for link in at.get("page_link")) == (len(contents.entries()) > 1)
    exposure = next(n for n in at.number_input if "Exposure" in n.label)
    exposure.set_value(0.9).run()
    assert "Not quite" in texts(at)
    next(n for n in at.number_input if "Exposure" in n.label).set_value(0.526).run()
    assert "Right." in texts(at) and "0.526" in texts(at)
    assert f"2 of {len(ITEMS)} questions" in at.main.get("progress")[0].proto.text
    at.toggle(key="quiz.unsolved").set_value(True).run()
    assert not any("stages" in r.label for r in at.radio) and not any("Exposure" in n.label for n in at.number_input)
    at.radio[0].set_value(
        next(i.question.right for i in ITEMS if isinstance(i.question, Choice) and i.question.text in at.radio[0].label)
    ).run()
    assert "Right." in texts(at)  # stays until the filter is set anew, so that it can be read
    press(at, "quiz/forget")
    assert at.session_state[progress.SOLVED] == set() and "Right." not in texts(at)


def test_links_and_all_solved(root):
    at = open_page("check_yourself", {progress.SOLVED: ids()}, **{"quiz.topic": "dpo", "quiz.unsolved": "true"})
    assert "All of these are solved." in texts(at) and not at.radio
    at = open_page("check_yourself", **{"quiz.topic": "all", "quiz.unsolved": "x", "quiz.part": "nowhere", "quiz.challenge": "<b>"})
    assert len(at.radio) + len(at.number_input) == len(ITEMS)


def test_every_challenge_has_its_words(root):
    assert list(words()) == [challenge.id for challenge in CHALLENGES] and len(challenge_list.ids()) == len(CHALLENGES)
    assert set(SYMBOLS) | {"finished"} == set(parts())
    for said in words().values():
        for place in said.start:  # the settings exist, and can be used
            fields = {name.partition(".")[2]: value for name, value in place.settings}
            if place.page in CONFIGS:
                made: Config = CONFIGS[place.page](**fields)
                assert all(str(getattr(made, name)) == value for name, value in fields.items())
                assert all(name == config_form.key(place.page, name.partition(".")[2]) for name, _value in place.settings)


def test_without_runs(root):
    at = open_page("check_yourself", **{"quiz.part": "challenges"})
    assert "No run on this server" in texts(at)
    at.radio(key="quiz.challenge").set_value("sooner").run()
    assert "seed and measuring aside" in texts(at) and at.query_params["quiz.challenge"] == "sooner"


def test_a_run_is_judged_and_counted(root):
    near = canned_run(root, "grpo", steps=5, weights=False, name="near **miss**")
    hit = canned_run(root, "grpo", steps=5, weights=False, name="hit", learning_rate=2e-4)
    for run, reward in ((near, 0.69), (hit, 0.71)):
        lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
        for record in lines:
            if record["type"] == "step" and record["step"]:
                record["metrics"] |= {"eval/reward": reward, "eval/kl": 0.29}
        (run.path / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    at = open_page("check_yourself", **{"quiz.part": "challenges", "quiz.challenge": "frugal", "quiz.run": near.id})
    table = at.dataframe[0].value
    assert list(table["name"]) == ["hit", "near **miss**"] and list(table["met"]) == ["✔", ""]
    assert list(table["reward"]) == ["✔ 0.710", "✗ 0.690"]
    assert "r_s&=0.690" in at.latex[1].value
    assert not [b for b in at.button if b.key and b.key.startswith("challenge/count/")]
    at.selectbox(key="quiz/run/frugal").set_value(hit.id).run()
    assert progress.SOLVED not in at.session_state  # looking at it solves nothing
    press(at, f"challenge/count/frugal/{hit.id}")
    assert at.session_state[progress.SOLVED] == {"challenge/frugal"} and "You have solved" in texts(at)
    assert "eval/reward" in at.dataframe[1].value.columns


def test_a_run_under_way_shows_how_far_it_is(root):
    writer = canned_writer(root, "grpo", model="sums", steps=40, done=0)
    start = writer.run.metrics()[0]["eval/reward"]
    writer.write(Step(5, {"eval/reward": start + 0.15}))
    at = open_page("check_yourself", **{"quiz.part": "challenges", "quiz.challenge": "sums"})
    assert at.dataframe[0].value["state"][0] == "Running" and at.dataframe[0].value["gain"][0] == "✗ 15.0 %"
    writer.write(Step(6, {"eval/reward": start + 0.25}))
    at.run()
    assert at.dataframe[0].value["gain"][0] == "✔ 25.0 %"
    writer.write(Finished(6))
    writer.close()
    at.run()
    assert at.dataframe[0].value["state"][0] == "Finished" and "It is my run" in str([b.label for b in at.button])


def test_every_challenge_draws_every_kind_of_run(root):
    for algorithm, fields in (
        ("grpo", {"gold": GOLD}), ("grpo", {"model": "sums"}), ("ppo", {"critic": "none"}), ("dpo", {}), ("reward_model", {}),
    ):  # fmt: skip
        for state in ("finished", "failed", "queued"):
            canned_run(root, algorithm, steps=4, state=state, weights=False, **fields)
        run = canned_run(root, algorithm, steps=1, weights=False, **fields)
        (run.path / "events.jsonl").write_bytes(b"{]\n\xff")
    at = open_page("check_yourself", **{"quiz.part": "challenges"})
    for challenge in CHALLENGES:
        at.radio(key="quiz.challenge").set_value(challenge.id).run()
        assert not at.exception and len(at.dataframe[0].value) >= 4
