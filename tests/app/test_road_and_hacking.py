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
    assert "no trained policy yet" in texts(at)


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


def test_start_trains_on_the_rule_and_watches_gold(runs_root):
    at = open_page("reward_hacking")
    at.button(key="hacking/start").click().run()
    assert not at.exception
    (run,) = runs.list_runs()
    config = run.load_config()
    assert [term.name for term in config.reward] == ["negative"] and [term.name for term in config.gold] == ["negative", "repetition"]
    assert config.beta == 0 and config.eval_every == 2
