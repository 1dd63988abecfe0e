"""Votes: two answers without their source, a vote that is kept at once and once, a rule that says what it is, and the way into training."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.components import models, vote_ballot, vote_rule, vote_writer
from pages.components.vote_writer import Ballot, Candidate
from rlhf import vote_files, votes
from rlhf.config import RewardTerm
from rlhf.preferences import Prompt
from rlhf.raters import SimulatedRater
from rlhf.votes import Filter, Vote
from tests.app.opening import open_page, press, texts

RULE = "simulated by negative, error rate 0.1"


@pytest.fixture(autouse=True)
def fast_reader(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vote_ballot, "LEAST_SECONDS", 0.0)


def page(tab: str = "Vote") -> AppTest:
    return open_page("votes", {"votes/tab": tab})


def cast(left: str = " sad", right: str = " glad", **fields) -> Vote:
    return Vote(**{"prompt": "Once", "left": left, "right": right, "winner": "left", "rater": "Ann", "left_model": "story", **fields})


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> list[Ballot]:
    """Ballots without a model: the page's own work is looked at."""
    made: list[Ballot] = []

    def one(*_args: object) -> Ballot:
        n = len(made)
        answers = (Candidate(f" <b>left</b> {n}", "story", "", f"{n}/1"), Candidate(f" **right** {n}", "story", "", f"{n}/0"))
        made.append(Ballot(votes.new_id(), Prompt(f"Once # {n}"), answers, (("temperature", 1.0),)))
        return made[-1]

    monkeypatch.setattr(models, "wait", lambda side: None)
    monkeypatch.setattr(vote_writer, "one", one)
    return made


# ---------------------------------------------------------------- voting


def test_nothing_is_loaded_before_somebody_starts(monkeypatch: pytest.MonkeyPatch):
    def nobody_asked(*args: object) -> None:
        raise AssertionError("the page loads a model that nobody asked for")

    monkeypatch.setattr(models, "_load_side", nobody_asked)
    at = page()
    assert not at.exception and "Votes: 0 of yours, 0 in all" in texts(at)


def test_a_vote_is_kept_and_the_next_pair_comes(canned: list[Ballot]):
    at = press(page(), "votes/start")
    assert not at.exception and "Once # 0" in texts(at)
    assert "story" not in "\n".join(text.value for text in at.text), "the source is hidden"
    at.text_input(key="votes/rater").set_value("Ann").run()
    at = press(at, "votes/right/")
    assert not at.exception and "Once # 1" in texts(at) and "Kept: right.  Votes: 1 of yours, 1 in all." in texts(at)
    (kept,) = votes.find()
    assert (kept.id, kept.prompt, kept.winner, kept.rater, kept.strength) == (canned[0].id, "Once # 0", "right", "Ann", 1)
    assert (kept.left, kept.left_seed, kept.left_model, kept.sampling) == (" <b>left</b> 0", "0/1", "story", {"temperature": 1.0})


def test_reason_strength_and_own_answer_go_with_the_vote(canned: list[Ballot]):
    at = press(page(), "votes/start")
    ballot = canned[0].id
    at.segmented_control(key=f"votes/strength/{ballot}").set_value(3).run()
    at.text_input(key=f"votes/reason/{ballot}").set_value("shorter").run()
    at.text_area(key=f"votes/better/{ballot}").set_value("upon a time").run()
    press(at, "votes/both_bad/")
    (kept,) = votes.find()
    assert (kept.winner, kept.strength, kept.reason, kept.better) == ("both_bad", 3, "shorter", " upon a time")


def test_a_second_click_on_the_same_ballot_counts_once(canned: list[Ballot]):
    mine = vote_ballot.Booth(ballot=vote_writer.one(None, None))  # type: ignore[arg-type]
    ballot = mine.ballot
    assert ballot
    vote_ballot.cast(mine, ballot, "left")
    vote_ballot.cast(mine, ballot, "right")
    assert [v.winner for v in votes.find()] == ["left"]


def test_a_key_that_was_pressed_for_the_ballot_before_does_not_vote(canned: list[Ballot], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vote_ballot, "LEAST_SECONDS", 60.0)
    press(press(page(), "votes/start"), "votes/left/")
    assert votes.count() == 0


def test_the_last_vote_can_be_taken_back(canned: list[Ballot]):
    at = press(press(press(page(), "votes/start"), "votes/tie/"), "votes/undo")
    assert not at.exception and votes.count() == 0 and votes.count(Filter(deleted=True)) == 1
    assert "Votes: 0 of yours" in texts(at)


def test_markup_of_models_is_shown_as_text(canned: list[Ballot]):
    at = press(page(), "votes/start")
    assert [text.value for text in at.text][:2] == ["<b>left</b> 0", "**right** 0"]
    assert not any("<b>" in str(element.value) or "**right" in str(element.value) for element in (*at.markdown, *at.caption))


def test_what_others_have_judged_can_be_judged_again():
    votes.add(cast())
    at = page()
    at.segmented_control(key="votes/source").set_value("again").run()
    at = press(at, "votes/tie/")
    assert not at.exception and votes.count() == 2 and "no pair that others have judged" in texts(at)


def test_a_ranking_of_three(canned: list[Ballot], monkeypatch: pytest.MonkeyPatch):
    three = Ballot("b", Prompt("Once"), tuple(Candidate(f" {n}", "story", "", f"7/{n}") for n in range(3)))
    monkeypatch.setattr(vote_writer, "one", lambda *_args: three)
    at = press(page(), "votes/start")
    at.multiselect(key="votes/order/b").set_value(["C", "A"]).run()
    at = press(at, "votes/rank/")
    assert not at.exception
    pairs = {(p.chosen, p.rejected) for p in votes.to_pairs(votes.find()).pairs}
    assert pairs == {(" 2", " 0"), (" 2", " 1"), (" 0", " 1")}


def test_the_real_model_writes_two_different_answers():
    models.shelf.clear()
    at = page()
    at.selectbox(key="model-page/model").set_value("sums").run()
    at = press(press(at, "votes/start"), "votes/left/")
    assert not at.exception and not at.error
    (kept,) = votes.find()
    assert kept.left != kept.right and kept.left_model == kept.right_model == "sums"
    seeds = [seed.split("/") for seed in (kept.left_seed, kept.right_seed)]
    assert seeds[0][0] == seeds[1][0] and {seeds[0][1], seeds[1][1]} == {"0", "1"} and kept.sampling["max_new_tokens"] > 0


# ---------------------------------------------------------------- the rule


def test_a_rule_votes_and_says_so():
    at = page("Simulated rater")
    assert RULE in texts(at)
    at.selectbox(key="model-page/model").set_value("sums").run()
    at.number_input(key="votes/rule/count").set_value(40).run()
    at = press(at, "votes/rule/start")
    assert not at.exception and "Votes kept: 40" in texts(at)
    found = votes.find()
    assert len(found) == 40 and all(v.simulated and v.rater.startswith("simulated by ") for v in found)
    again = press(at, "votes/rule/start")
    assert votes.count() == 40 and "There already: 40" in texts(again)


def test_the_rule_sees_the_right_answer():
    ballots = [Ballot(str(i), Prompt("1+1=", "2"), (Candidate("2", "sums"), Candidate("3", "sums"))) for i in range(3)]
    made = vote_rule.judged(ballots, SimulatedRater((RewardTerm(name="correct"),)))
    assert [v.winner for v in made] == ["left"] * 3


# ---------------------------------------------------------------- the list


def test_votes_are_flipped_deleted_and_brought_back():
    def script(what: str, *ids: str) -> None:
        from pages.components import vote_browser
        from rlhf import votes

        if what:
            vote_browser._do(getattr(votes, what), ids)
        vote_browser.draw()

    def done(what: str, *ids: str) -> AppTest:
        return AppTest.from_function(script, args=(what, *ids), default_timeout=60).run()

    votes.add([cast(id="a"), cast(id="b", prompt="Twice", time=1.0)])
    at = done("")
    assert "Votes: 2." in texts(at) and next(button for button in at.button if button.key == "votes/flip").disabled, "none is marked"
    assert list(done("flip", "a").dataframe[0].value["winner"]) == ["right", "left"]
    at = done("delete", "a")
    assert len(at.dataframe[0].value) == 1 and votes.count() == 1
    at = press(at, "votes/undelete")  # runs the script again, which deletes it again: what counts is that the button is there
    assert any(button.key == "votes/undelete" for button in at.button)
    done("undo_delete", "a")
    assert votes.count() == 2


def test_filters_of_the_list():
    votes.add([cast(), cast(rater=RULE, simulated=True), cast(winner="tie", reason="equal")])
    at = page("The votes")
    at.selectbox(key="votes/filter/by").set_value("rules").run()
    assert len(at.dataframe[0].value) == 1 and RULE in texts(at)
    at.selectbox(key="votes/filter/by").set_value("all").run()
    at.text_input(key="votes/filter/text").set_value("equal").run()
    assert list(at.dataframe[0].value["reason"]) == ["equal"] and "nothing to train on" in texts(at)


def test_agreement_and_contradictions_are_told():
    votes.add([cast(id="a"), cast(id="b", rater="Bea", winner="right")])
    votes.add([cast(id="c", prompt="Two"), cast(id="d", prompt="Two", rater="Bea")])
    at = page("The votes")
    assert not at.exception
    assert {metric.label: metric.value for metric in at.metric}["say the same"] == "50.0 %"
    assert "“Once”: “glad” 1 to 1 “sad” (by Ann, Bea)" in texts(at) and "Pairs: 4." in texts(at)
    at.segmented_control(key="votes/contradictory").set_value("leave out").run()
    assert "Pairs: 2." in texts(at)


@pytest.mark.parametrize("algorithm", ["dpo", "reward_model"])
def test_votes_go_to_the_pages_that_train(algorithm: str):
    votes.add([cast(prompt=f"Once {n}", rater=RULE, simulated=True) for n in range(20)])
    at = press(page("The votes"), f"votes/train/{algorithm}")
    assert not at.exception
    assert at.session_state[f"{algorithm}.data"] == "custom"
    dataset = at.session_state[f"{algorithm}/own-data"]
    assert (len(dataset.train), len(dataset.heldout)) == (18, 2) and dataset.source == f"20 {RULE}"
    assert dataset.train[0].label == RULE


# ---------------------------------------------------------------- files


def test_import_names_bad_rows_and_keeps_the_rest():
    at = page("Import and export")
    content = b'{"prompt": "Once", "chosen": " a", "rejected": " b"}\n{"prompt": "Once", "chosen": " a", "rejected": " a"}\n{"pro'
    at.file_uploader(key="votes/upload").upload("v.jsonl", content, "application/jsonl").run()
    assert not at.exception and "v.jsonl, line 2" in texts(at) and "v.jsonl, line 3" in texts(at) and votes.count() == 0
    at = press(at, "votes/import")
    assert "New votes: 1; there already: 0" in texts(at) and votes.count() == 1


@pytest.mark.parametrize("keep", [True, False])
def test_import_names_votes_with_an_empty_answer_and_asks(keep):
    at = page("Import and export")
    content = b'{"prompt": "Once", "chosen": " a", "rejected": " b"}\n{"prompt": "Once", "chosen": " a", "rejected": ""}\n'
    at.file_uploader(key="votes/upload").upload("v.jsonl", content, "application/jsonl").run()
    assert not at.exception and "v.jsonl, line 2: nothing stands" in texts(at) and "line 1" not in texts(at)
    at.checkbox(key="votes/import-empty").set_value(keep).run()
    press(at, "votes/import")
    assert votes.count() == 1 + keep


def test_export_is_what_was_kept():
    votes.add(cast())
    at = page("Import and export")
    assert not at.exception and "Votes: 1." in texts(at)
    rows = vote_files.pair_records(votes.to_pairs(votes.find()).pairs)
    assert rows == [{"prompt": "Once", "chosen": " sad", "rejected": " glad", "label": "Ann"}]


def test_an_empty_page_of_files():
    at = page("Import and export")
    assert not at.exception and "Votes: 0." in texts(at)


def test_a_rule_that_finds_all_equal_ends_with_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vote_rule, "FRUITLESS", 40)
    at = page("Simulated rater")
    at.number_input(key="votes/rule/count").set_value(40).run()
    weight = next(box for box in at.number_input if str(box.key).endswith("/weight"))
    weight.set_value(0.0).run()
    at = press(at, "votes/rule/start")
    assert not at.exception and "Choose another rule" in texts(at)
