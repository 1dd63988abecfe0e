"""Bradley–Terry, SFT and the reward model as Streamlit draws them. Nothing is trained; runs are canned."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.components import bt_votes, models, reward_trial
from pages.components.numbers import number
from rlhf import jobs, runs, votes
from rlhf.bradley_terry import wilson
from rlhf.preferences import Dataset, Demonstration, PreferencePair
from rlhf.reward_network import RewardNetwork
from tests.app.opening import open_page, press, texts
from tests.canned import canned_run


@pytest.fixture(autouse=True)
def empty_shelf(root: Path) -> None:
    models.shelf.clear()


def page_of(run: runs.Run) -> AppTest:
    return open_page(run.algorithm, run=run.id)


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


# ---------------------------------------------------------------- Bradley–Terry: to touch


def test_the_curve_follows_its_two_scores():
    at = open_page("bradley_terry")
    assert metrics(at)["P(a ≻ b)"] == "81.8 %"  # σ(1.5)
    at.slider(key="bt.a").set_value(-1.0).run()
    at.slider(key="bt.b").set_value(1.0).run()
    assert not at.exception
    found = metrics(at)  # σ(−2) = 0.1192, −log σ(−2) = 2.1269, σ(−2) − 1 = −0.8808
    assert found["P(a ≻ b)"] == "11.9 %" and found["Loss"] == "2.13 nats" and found["Gradient"] == "−0.881"
    relatives = next(frame.value for frame in at.dataframe if "Formula" in frame.value.columns)
    assert list(relatives["Here"]) == ["0.135 : 1", "−2.00 nats", "0.368 / (0.368 + 2.72) = 0.119", "D = −347 points"]
    for a, b in ((5.0, -5.0), (-5.0, 5.0)):
        at.slider(key="bt.a").set_value(a)
        at.slider(key="bt.b").set_value(b).run()
        assert not at.exception and "nan" not in texts(at) and "inf" not in str(metrics(at))


# ---------------------------------------------------------------- Bradley–Terry: to fit


def board(at: AppTest) -> list[str]:
    """Items, the strongest first; none where nothing could be fitted."""
    return next((list(frame.value["item"]) for frame in at.dataframe if "Elo" in frame.value.columns), [])


def example(name: str) -> AppTest:
    at = open_page("bradley_terry")
    return at.selectbox(key="bt/example").set_value(name).run()


def test_an_example_that_fits():
    at = example("a small club")
    assert not at.exception and not at.error
    assert board(at) == ["Ann", "Bea", "Cem", "Dan"]
    assert "65 votes, 4 items" in texts(at) and "from standard errors" in texts(at) and "Ties (Davidson)" in texts(at)
    assert "No circle" in texts(at)
    at.toggle(key="bt/bootstrap").set_value(True).run()
    assert not at.exception and "from the bootstrap" in texts(at) and board(at)[0] == "Ann"


def test_an_example_that_goes_round_in_a_circle():
    at = example("stone, paper, scissors")
    assert not at.exception and not at.error and len(board(at)) == 3
    assert "stone ≻ scissors ≻ paper ≻ stone" in texts(at) or "paper ≻ stone ≻ scissors ≻ paper" in texts(at)


def test_an_example_that_needs_a_prior():
    at = example("unbeaten")
    assert not at.exception and not board(at)
    (error,) = (element.value.replace("\\", "") for element in at.error)
    assert "only won or only lost" in error and "• Ann" in error and "• Bea, Cem" in error and "prior" in error
    at.toggle(key="bt/prior").set_value(True).run()
    assert not at.exception and not at.error and board(at)[0] == "Ann"


def test_every_example_has_votes():
    assert all(bt_votes.example(name) for name in bt_votes.EXAMPLES)


def paste(text: str) -> AppTest:
    at = open_page("bradley_terry")
    at.segmented_control(key="bt/way").set_value("paste").run()
    return at.text_area(key="bt/pasted").set_value(text).run()


def test_pasted_votes_with_bad_rows():
    rows = ["Ann,Bea,left", "Bea,Ann,left", "Ann,Ann,left", "Ann,Bea,maybe **not**", "Ann,Bea", "Bea,Ann,tie"]
    at = paste("left,right,winner\n" + "\n".join(rows))
    assert not at.exception and not at.error
    (warning,) = (element.value for element in at.warning)
    assert "3 rows are left out" in warning and "line 4" in warning and "line 5" in warning and "line 6" in warning
    assert "**not**" not in warning
    assert sorted(board(at)) == ["Ann", "Bea"] and "3 votes, 2 items" in texts(at)


def test_pasted_votes_that_cannot_be_fitted():
    at = paste("left,right,winner")
    for text, words in (
        ("left,right,winner", "holds no votes"),
        ("left,right\nAnn,Bea", "no column “winner”"),
        ("left,right,winner\nAnn,Ann,left", "compared with itself"),
        ("left,right,winner\nAnn,Bea,left\nCem,Dan,left\nBea,Ann,left\nDan,Cem,left", "2 groups with no vote between them"),
    ):
        at.text_area(key="bt/pasted").set_value(text).run()
        assert not at.exception and not board(at)
        assert any(words in element.value.replace("\\", "") for element in at.error), text
    at.text_area(key="bt/pasted").set_value("  ").run()
    assert not at.exception and not at.error and not board(at)


def test_names_are_shown_as_text():
    at = paste("left,right,winner\n**bold**,<b>x</b>,left\n<b>x</b>,**bold**,left\n")
    assert not at.exception and len(board(at)) == 2
    shown = "\n".join(str(element.value) for element in (*at.markdown, *at.caption))
    assert "**bold**" not in shown and "<b>x</b>" not in shown


def test_the_votes_that_were_fitted_are_not_the_ones_that_are_predicted():
    at = example("a small club")
    assert "Cross-validated: each vote is predicted by a fit to the votes of the other 9 of 10 parts" in texts(at)
    assert "a weak prior (deviation 10) stands in" in texts(at)
    at.toggle(key="bt/prior").set_value(True).run()
    assert not at.exception and "stands in" not in texts(at)


def test_a_fit_that_fails_names_the_items():
    at = paste("left,right,winner\nZoe,Yan,left\nYan,Zoe,left\nXia,Wen,left\nWen,Xia,left")
    assert any("“Yan” is not in the largest" in element.value.replace("\\", "") for element in at.error)


# ---------------------------------------------------------------- Bradley–Terry: the model's own preferences


def own(**link: str) -> AppTest:
    """The third tab."""
    return open_page("bradley_terry", {"bt/tab": "The model's own preferences"}, **link)


def shares(at: AppTest) -> list[pd.DataFrame]:
    return [frame.value for frame in at.dataframe if "prefers the chosen" in frame.value.columns]


def test_without_a_policy_the_page_says_what_to_do(root: Path):
    canned_run(root, "reward_model", steps=4, weights=False)  # which writes no answers
    at = own()
    assert "No policy has been trained yet" in texts(at) and not any(button.key == "bt/policy/go" for button in at.button)


def test_a_policys_preferences_held_out_and_trained_on(root: Path):
    run = canned_run(root, "dpo", steps=4, beta=0.25)
    at = press(own(policy=run.id), "bt/policy/go")
    assert not at.exception and not at.error
    conditions, measured = at.session_state["bt/policy/measured"]
    assert conditions.after.step == 4 and conditions.reference.is_untouched and conditions.encoding.beta == 0.25
    data = run.load_data()
    assert [p.pair for p in measured.heldout.preferences] == list(data.heldout)
    assert [p.pair for p in measured.trained.preferences] == list(data.train)
    assert "Held out: 2 pairs" in texts(at) and "Seen in training: 6 pairs" in texts(at) and "σ(0) = ½" in texts(at)
    heldout, trained = shares(at)
    assert list(heldout["who"]) == ["policy, before", "policy, step 4"] and heldout["prefers the chosen"][0] == "50.0 %"
    right = sum(p.log_ratio > 0 for p in measured.trained.preferences)
    assert trained["prefers the chosen"][1] == number(right / 6, "share")
    low, high = wilson(right, 6)
    assert trained["95 % interval"][1] == f"{number(low, 'share')} to {number(high, 'share')}"

    (table,) = (frame.value for frame in at.dataframe if "log π(w)" in frame.value.columns)
    least = min(measured.heldout.preferences, key=lambda p: p.log_ratio)  # the first row, and open
    row = table.iloc[0]
    assert (row["prompt"], row["chosen"], row["rejected"]) == (least.pair.prompt, least.pair.chosen, least.pair.rejected)
    delta = row["log π(w)"] - row["log π_ref(w)"] - row["log π(l)"] + row["log π_ref(l)"]
    assert row["β·Δ"] == pytest.approx(0.25 * delta) and row["P"] == pytest.approx(1 / (1 + math.exp(-0.25 * delta)))
    assert any(r"h_w" in str(element.value) for element in at.latex)

    at.slider(key=f"bt/policy/beta/{run.id}").set_value(0.5).run()
    assert not at.exception
    (sharper,) = (frame.value for frame in at.dataframe if "log π(w)" in frame.value.columns)
    assert sharper["β·Δ"][0] == pytest.approx(0.5 * delta)
    assert list(shares(at)[0]["prefers the chosen"]) == list(heldout["prefers the chosen"])
    at.selectbox(key=f"bt/policy/checkpoint/{run.id}").set_value("step-2").run()
    assert "measured under other conditions" in texts(at)


def test_the_same_pairs_under_a_reward_model(root: Path, rewards: runs.Run):
    run = canned_run(root, "dpo", steps=2)
    at = press(own(policy=run.id), "bt/policy/go")
    assert not at.exception and not at.error
    _conditions, measured = at.session_state["bt/policy/measured"]
    assert [s.pair for s in measured.trained.scored] == [p.pair for p in measured.trained.preferences]
    heldout, _trained = shares(at)
    assert list(heldout["who"]) == ["policy, before", "policy, step 2", "reward model"]
    (table,) = (frame.value for frame in at.dataframe if "log π(w)" in frame.value.columns)
    chances = {s.pair.prompt: s.probability for s in measured.heldout.scored}
    assert list(table["P, reward model"]) == pytest.approx([chances[prompt] for prompt in table["prompt"]])
    assert "Under the reward model" in texts(at)
    at.selectbox(key="bt/policy/scorer").set_value("none").run()
    press(at, "bt/policy/go")
    assert not at.exception and list(shares(at)[0]["who"]) == ["policy, before", "policy, step 2"]


def test_votes_and_shipped_pairs_can_be_measured(root: Path):
    kite = votes.Vote("Sam had a kite.", " It broke.", " It flew.", "left", rater="Ann")
    votes.add([kite, votes.Vote("Hm.", "a", "b", "tie", rater="Ann")])
    run = canned_run(root, "grpo", steps=2)
    at = own()
    source = at.selectbox(key=f"bt/policy/source/{run.id}")
    assert [source.options[0], source.options[-1]] == ["story-pairs", "the votes of this app (2)"]
    source.set_value("votes").run()
    press(at, "bt/policy/go")
    _conditions, measured = at.session_state["bt/policy/measured"]
    assert not at.exception and [p.pair.chosen for p in measured.heldout.preferences] == [" It broke."] and not measured.trained.preferences
    assert len(shares(at)) == 1


# ---------------------------------------------------------------- SFT and the reward model


@pytest.mark.parametrize(("name", "measured"), [("sft", {"Perplexity", "Token accuracy"}), ("reward_model", {"Accuracy"})])
def test_a_finished_run_is_shown(root: Path, name: str, measured: set[str]):
    run = canned_run(root, name, steps=4, name="first **of all**", weights=False)
    at = page_of(run)
    assert "first **of all**" in texts(at) and not any("first **of" in str(element.value) for element in (*at.markdown, *at.caption))
    assert "Finished" in texts(at) and "What changed, on held-out data" in texts(at)
    assert measured <= {metric.label for metric in at.metric}
    assert any(button.key == "take-over" for button in at.button)


@pytest.mark.parametrize("name", ["sft", "reward_model"])
def test_start_queues_one_run(monkeypatch: pytest.MonkeyPatch, name: str):
    asked: list[tuple] = []

    def submit(config, dataset, root=None, parent=None, name=""):
        asked.append((config, dataset))
        return runs.create(config, dataset, root, parent, name)

    monkeypatch.setattr(jobs, "submit", submit)
    at = open_page(name)
    at.button(key=f"{name}/start-0").click().run()
    assert not at.exception and len(asked) == 1
    config, dataset = asked[0]
    assert config.algorithm == name
    assert all(isinstance(item, Demonstration if name == "sft" else PreferencePair) for item in dataset.train)


@pytest.fixture
def rewards(root: Path) -> runs.Run:
    """A finished run whose last checkpoint is a reward model that can be loaded (untrained)."""
    from rlhf.policy import load_pretrained

    run = canned_run(root, "reward_model", steps=4, name="first", weights=False)
    RewardNetwork(load_pretrained("story", device="cpu"), run.load_config()).save(run.checkpoint("step-4"))
    return run


def test_a_text_is_scored_token_by_token(rewards: runs.Run):
    at = page_of(rewards)
    at.text_area(key=f"trial/answer/{rewards.id}").set_value(" He was sad.").run()
    at.button(key=f"trial/go/{rewards.id}").click().run()
    assert not at.exception and not at.error
    prompt, answer, strings, scores, *_ = at.session_state[f"trial/result/{rewards.id}"]
    assert answer == "".join(strings) == " He was sad." and len(scores) == len(strings)
    assert "Score" in metrics(at) and prompt == rewards.load_data().heldout[0].prompt
    at.text_area(key=f"trial/answer/{rewards.id}").set_value("").run()
    assert "before your last change" in texts(at)
    at.button(key=f"trial/go/{rewards.id}").click().run()
    assert not at.exception and not at.error and len(at.session_state[f"trial/result/{rewards.id}"][3]) == 1
    assert "The answer is empty: what is scored is that the text ends here" in texts(at)
    at.text_area(key=f"trial/answer/{rewards.id}").set_value(" a dog" * 300).run()
    at.button(key=f"trial/go/{rewards.id}").click().run()
    assert not at.exception and any("reads 256 tokens" in element.value for element in at.error)


def test_the_pairs_that_it_gets_wrong(rewards: runs.Run):
    at = page_of(rewards)
    next(button for button in at.button if (button.key or "").startswith("trial/worst")).click().run()
    assert not at.exception and not at.error
    assert "of 2 held-out pairs are ordered the wrong way round" in texts(at)


def test_surgery_trains_again_on_changed_votes(monkeypatch: pytest.MonkeyPatch, rewards: runs.Run):
    asked: list[tuple] = []

    def submit(config, dataset, root=None, parent=None, name=""):
        asked.append((config, dataset, name))
        return runs.create(config, dataset, root, parent, name)

    monkeypatch.setattr(jobs, "submit", submit)
    at = page_of(rewards)
    at.slider(key="trial/flip").set_value(50).run()
    at.button(key=f"trial/operate/{rewards.id}").click().run()
    assert not at.exception
    ((config, dataset, name),) = asked
    before = rewards.load_data()
    assert name == "50 % flipped, 100 % kept" and config.data == "custom" and config.steps == rewards.load_config().steps
    assert dataset.heldout == before.heldout and sum(pair.label == "flipped" for pair in dataset.train) == len(before.train) // 2
    assert runs.list_runs()[0].id in str(at.query_params["run"])


# ---------------------------------------------------------------- surgery: the votes themselves

VOTES = Dataset(
    tuple(PreferencePair(f"p{i}", f"good {i}", f"bad {i}", "canned", 1.0 + i) for i in range(100)),
    tuple(PreferencePair(f"q{i}", "good", "bad") for i in range(7)),
    "pairs",
    "canned",
)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1.0), (0.2, 1.0), (0.5, 1.0), (0.2, 0.5), (0.5, 0.05), (0.2, 0.001)])
def test_the_right_share_is_flipped_and_heldout_votes_stay(share: float, kept: float):
    changed = reward_trial.with_noise(VOTES, share, kept, seed=3)
    assert changed.heldout == VOTES.heldout and changed.kind == "pairs"
    assert len(changed.train) == max(1, round(100 * kept))
    known = {pair.prompt: pair for pair in VOTES.train}
    flipped = [pair for pair in changed.train if pair != known[pair.prompt]]
    assert len(flipped) == round(share * len(changed.train)) == sum(pair.label == "flipped" for pair in changed.train)
    for pair in flipped:
        was = known[pair.prompt]
        assert (pair.chosen, pair.rejected, pair.strength) == (was.rejected, was.chosen, was.strength)
    assert len({pair.prompt for pair in changed.train}) == len(changed.train)


def test_the_same_seed_flips_the_same_votes():
    first, again, other = (reward_trial.with_noise(VOTES, 0.3, 0.8, seed) for seed in (0, 0, 1))
    assert first == again and first.train != other.train
