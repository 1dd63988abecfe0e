"""The pages From votes to a policy and Reward hacking, on run folders and votes of the test's own."""

from __future__ import annotations

import pytest

from rlhf import events, jobs, runs, votes
from rlhf.algorithms import make_config
from rlhf.preferences import load_dataset
from rlhf.votes import Vote
from tests.app.opening import open_page, texts
from tests.canned import canned_run


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda *_: None)


def some_votes(n):
    prompts = [prompt.prompt for prompt in load_dataset("prompts", "story-prompts").train[:n]]
    return [Vote(prompt, "He was sad.", "He was glad.", "left", rater="Ann", left_model="story", right_model="story", id=f"v{i}")
            for i, prompt in enumerate(prompts)]  # fmt: skip


def stage(at, name):
    at.session_state["road/stage"] = name
    at.run()
    assert not at.exception
    return at


def test_the_road_opens_stage_by_stage(runs_root):
    at = open_page("road")
    assert "0" in [metric.value for metric in at.metric] and "The next stage opens with 20 pairs" in texts(at)
    for name, words in (("reward", "too few votes"), ("policy", "no reward model yet"), ("blind", "no trained policy yet")):
        assert words in texts(stage(at, name))
    votes.add(some_votes(30))
    at = open_page("road")
    assert at.session_state["road/stage"] == "reward"
    (button,) = [b for b in at.button if "Train it on 30 pairs" in b.label]
    button.click().run()
    (run,) = runs.list_runs()
    data = run.load_data()
    assert run.algorithm == "reward_model" and len(data.train) + len(data.heldout) == 30 and run.id in at.query_params["rm"]


def test_dpo_needs_no_reward_model(runs_root):
    votes.add(some_votes(30))
    at = stage(open_page("road"), "policy")
    at.session_state["road/way"] = "dpo"
    at.run()
    (button,) = [b for b in at.button if b.label == "Train the policy"]
    button.click().run()
    assert [run.algorithm for run in runs.list_runs()] == ["dpo"]


def test_a_link_to_a_run_that_is_gone_opens_the_stage_again(runs_root):
    votes.add(some_votes(30))
    at = open_page("road", rm="gone", policy="gone", stage="blind")
    assert "no trained policy yet" in texts(at) and texts(at).count("There is no run gone") == 2


def test_the_road_says_how_far_a_stage_is(runs_root):
    run = runs.create(make_config("reward_model", model="story"), load_dataset("pairs", "story-pairs"), runs_root, name="mine", queue=True)
    at = open_page("road", rm=run.id, stage="policy")
    assert "mine: Queued, step 0" in texts(at) and "no reward model yet" not in texts(at)


def watched(root, gold):
    """A finished run whose held-out gold reward takes these values."""
    config = make_config("grpo", model="story", steps=len(gold) - 1, gold="negative", eval_every=1)
    run = runs.create(config, load_dataset("prompts", "story-prompts"), root, name="watched", queue=False)
    with runs.RunWriter(run) as writer:
        writer.begin()
        for step, value in enumerate(gold):
            metrics = {"eval/reward": 0.1 * step, "eval/gold": value, "eval/kl": 0.1 * step}
            writer.write(events.Step(step, metrics))
        writer.write(events.Finished(len(gold) - 1))
    return run


def test_the_verdict_is_read_off_the_run(runs_root):
    assert "No run yet" in texts(open_page("reward_hacking"))
    canned_run(runs_root, "grpo", seed=0)  # it has no gold reward and is not offered
    watched(runs_root, [-0.5, 0.6, 0.1])
    assert "the reward was fooled" in texts(open_page("reward_hacking"))


def test_no_hack_is_said_too(runs_root):
    watched(runs_root, [-0.5, 0.2, 0.6])
    assert "no hack in this run" in texts(open_page("reward_hacking"))


def test_runs_of_one_name_are_told_apart_and_none_may_be_shown(runs_root):
    first, second = watched(runs_root, [-0.5, 0.2, 0.6]), watched(runs_root, [-0.5, 0.6, 0.1])
    at = open_page("reward_hacking", runs=f"{first.id},{second.id}")
    chosen = at.multiselect(key="hacking/shown")
    assert {f"watched ({run.id[-4:]})" for run in (first, second)} == set(chosen.options)
    chosen.set_value([second.id]).run()
    assert "the reward was fooled" in texts(at) and "no hack in this run" not in texts(at)
    at.multiselect(key="hacking/shown").set_value([]).run()
    assert "the reward was fooled" not in texts(at) and at.multiselect(key="hacking/shown").value == []


def test_start_trains_on_the_rule_and_watches_gold(runs_root):
    at = open_page("reward_hacking")
    at.button(key="hacking/start").click().run()
    assert not at.exception
    (run,) = runs.list_runs()
    config = run.load_config()
    assert [term.name for term in config.reward] == ["negative"] and [term.name for term in config.gold] == ["negative", "repetition"]
    assert config.beta == 0 and config.eval_every == 2


def queued_names():
    return [run.name for run in reversed(runs.list_runs())]


def test_one_click_queues_the_runs_over_beta_and_lays_them_over_one_another(runs_root):
    at = open_page("reward_hacking")
    at.number_input(key="hacking/seed").set_value(3).run()
    assert "3 runs with β 0, 0.05 and 0.2" in texts(at) and "Together about" in texts(at)
    at.button(key="hacking/queue").click().run()
    assert not at.exception
    found = [run.load_config() for run in runs.list_runs()]
    assert sorted(config.beta for config in found) == [0, 0.05, 0.2] and {config.seed for config in found} == {3}
    assert {tuple(term.name for term in config.reward) for config in found} == {("negative",)}
    assert set(at.session_state["hacking/shown"]) == {run.id for run in runs.list_runs()} and "β 0.05, seed 3" in queued_names()


def finished_reward_model(run, accuracy):
    with runs.RunWriter(run) as writer:
        writer.begin()
        writer.write(events.Step(1, {"eval/accuracy": accuracy}))
        writer.write(events.Checkpoint(1, lambda folder: None, resumable=False))
        writer.write(events.Finished(1))


@pytest.mark.parametrize(("study", "sizes", "flipped"), [("votes", [25, 100, 400], [0, 0, 0]), ("noise", [400] * 3, [0, 80, 160])])
def test_votes_and_noise_have_two_stages(runs_root, study, sizes, flipped):
    at = open_page("reward_hacking")
    at.session_state["hacking/study"] = study
    at.run()
    assert "opens when the reward models are trained" in texts(at) and not [b for b in at.button if b.key == "hacking/queue"]
    at.button(key=f"hacking/models/{study}/start").click().run()
    assert not at.exception
    trained = sorted(runs.list_runs(), key=lambda run: "".join(at.query_params[study]).split(",").index(run.id))
    data = [run.load_data() for run in trained]
    assert [len(one.train) for one in data] == sizes
    assert [sum(pair.label == "flipped" for pair in one.train) for one in data] == flipped
    assert len({one.heldout for one in data}) == 1 and not any(pair.label == "flipped" for pair in data[0].heldout)
    assert "opens when the reward models are trained" in texts(at)  # they wait
    for run, accuracy in zip(trained, (0.7, 0.8, 0.9), strict=True):
        finished_reward_model(run, accuracy)
    at.run()
    assert "held-out accuracy 90.0 %" in texts(at)
    at.button(key="hacking/queue").click().run()
    assert not at.exception
    policies = [run for run in runs.list_runs() if run.algorithm == "grpo"]
    assert {run.load_config().reward[0].options["source"] for run in policies} == {run.id for run in trained}
    assert sorted(run.name for run in policies) == sorted(f"against {run.name}" for run in trained)
    assert set(at.session_state["hacking/shown"]) == {run.id for run in policies}


def test_a_reward_model_that_failed_says_why_and_the_others_are_used(runs_root):
    at = open_page("reward_hacking")
    at.session_state["hacking/study"] = "votes"
    at.run()
    at.button(key="hacking/models/votes/start").click().run()
    first, *others = runs.list_runs()
    with runs.RunWriter(first) as writer:
        writer.begin()
        writer.write(events.Failed(0, "The disk is full.", "Make room."))
    for run in others:
        finished_reward_model(run, 0.8)
    at.run()
    assert "The disk is full" in texts(at) and "Queue 2 runs" in [b.label for b in at.button]
