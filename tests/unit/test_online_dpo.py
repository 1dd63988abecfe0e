"""Pairs from groups, and how strongly each response is pushed."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf.algorithms import make_config, title
from rlhf.algorithms.online_dpo import best_and_worst
from rlhf.events import Failed, Sample, Step
from rlhf.preferences import load_dataset
from rlhf.train import train


def test_the_best_and_the_worst_of_each_group_that_has_both():
    rewards = torch.tensor([0.1, 0.9, 0.5, 0.3, 0.3, 0.3, -1.0, 0.0, 2.0])
    chosen, rejected = best_and_worst(rewards, 3)
    assert chosen.tolist() == [1, 8] and rejected.tolist() == [0, 6]  # the middle group is all equal


def test_a_step_pushes_the_chosen_up_and_the_rejected_down_and_no_other():
    config = make_config("online_dpo", model="sums", prompts_per_step=12, group_size=5, steps=1, eval_every=0, eval_prompts=4)
    config = config.model_copy(update={"sample_prompts": 12})
    events = list(train(config, load_dataset("prompts", config.data)))
    assert not any(isinstance(event, Failed) for event in events)
    step = next(event for event in events if isinstance(event, Step) and event.step == 1)
    pairs = 0
    for event in events:
        if isinstance(event, Sample) and event.step == 1 and event.record["split"] == "train":
            rewards = [r["reward"] for r in event.record["responses"]]
            pulls = [r["advantage"] for r in event.record["responses"]]
            if max(rewards) == min(rewards):
                assert pulls == [0] * 5
                continue
            pairs += 1
            # at the start policy and reference agree: σ(0) = ½, so the pull is ± β/2
            assert pulls[rewards.index(max(rewards))] == pytest.approx(config.beta / 2, abs=1e-3)
            assert pulls[rewards.index(min(rewards))] == pytest.approx(-config.beta / 2, abs=1e-3)
            assert sorted(pulls)[1:-1] == [0] * 3
    assert pairs == step.metrics["pairs"] > 0
    assert step.metrics["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_where_every_answer_scores_the_same_nothing_is_learned_and_nothing_breaks():
    config = make_config("online_dpo", model="sums", reward="length", max_new_tokens=1, steps=2, eval_every=0)
    events = list(train(config, load_dataset("prompts", config.data)))
    assert not any(isinstance(event, Failed) for event in events)
    last = [event for event in events if isinstance(event, Step)][-1]
    assert last.metrics["pairs"] == 0 and "loss" not in last.metrics


def test_titles():
    assert [title(name) for name in ("online_dpo", "reward_model", "grpo")] == ["Online DPO", "Reward model", "GRPO"]
