"""``train`` end to end on the sums model: the same numbers twice, exact resumption, and every way in which a run can end badly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rlhf import rewards, runs
from rlhf.algorithms import CONFIGS, DATA, make_config
from rlhf.errors import ConfigError
from rlhf.events import Checkpoint, Failed, Finished, Phase, Sample, Started, Step, Stopped
from rlhf.preferences import Dataset, Demonstration, PreferencePair, Prompt
from rlhf.runs.lineage import origin
from rlhf.train import train
from rlhf.worker import run_one

SUMS = [(a, b) for a in (10, 24, 37, 58) for b in (11, 26, 45, 49)]
PROMPTS = Dataset(
    train=tuple(Prompt(f"{a}+{b}=", f"{a + b:03d}") for a, b in SUMS[:12]),
    heldout=tuple(Prompt(f"{a}+{b}=", f"{a + b:03d}") for a, b in SUMS[12:]),
    kind="prompts",
    source="test",
)
PAIRS = Dataset(
    train=tuple(PreferencePair(f"{a}+{b}=", f"{a + b:03d}", f"{a + b + 1:03d}") for a, b in SUMS[:12]),
    heldout=tuple(PreferencePair(f"{a}+{b}=", f"{a + b:03d}", f"{a + b + 1:03d}") for a, b in SUMS[12:]),
    kind="pairs",
    source="test",
)
ANSWERS = Dataset(
    train=tuple(Demonstration(pair.prompt, pair.chosen) for pair in PAIRS.train if isinstance(pair, PreferencePair)),
    heldout=tuple(Demonstration(pair.prompt, pair.chosen) for pair in PAIRS.heldout if isinstance(pair, PreferencePair)),
    kind="demonstrations",
    source="test",
)
SMALL = {
    "grpo": {"prompts_per_step": 4, "group_size": 4, "epochs": 2, "beta": 0.1},
    "reinforce": {"prompts_per_step": 4, "samples_per_prompt": 2, "beta": 0.1},
    "ppo": {"prompts_per_step": 4, "samples_per_prompt": 2, "minibatches": 2},
    "dpo": {"pairs_per_step": 4},
    "online_dpo": {"prompts_per_step": 6, "group_size": 4, "minibatches": 2},
    "rrhf": {"prompts_per_step": 4, "group_size": 4, "minibatches": 2, "epochs": 2, "microbatch_size": 5},
    "reward_model": {"pairs_per_step": 4, "microbatch_size": 3},
    "sft": {"examples_per_step": 4, "microbatch_size": 3},
}


def configure(algorithm, **fields):
    return make_config(
        algorithm, **{"model": "sums", "device": "cpu", "steps": 4, "eval_every": 2, "checkpoint_every": 2, **SMALL[algorithm], **fields}
    )


def data_for(algorithm):
    return {"prompts": PROMPTS, "pairs": PAIRS, "demonstrations": ANSWERS}[DATA[algorithm]]


def run(config, data=None, folder: Path | None = None, **kwargs):
    """All events; checkpoints are saved as they come, as the worker does."""
    events = []
    for event in train(config, data or data_for(config.algorithm), **kwargs):
        events.append(event)
        if isinstance(event, Checkpoint) and folder is not None:
            event.save(folder / ("last" if event.resumable else f"step-{event.step}"))
    return events


def metrics(events):
    """Step metrics without the clock's."""
    clock = ("time", "speed", "memory", "tokens_per_second")
    return {e.step: {k: v for k, v in e.metrics.items() if not any(c in k for c in clock)} for e in events if isinstance(e, Step)}


@pytest.mark.parametrize("algorithm", list(CONFIGS))
def test_a_run_tells_its_story(algorithm, tmp_path):
    events = run(configure(algorithm), folder=tmp_path)
    kinds = [type(e) for e in events if not isinstance(e, Phase)]
    assert kinds[0] is Started and kinds[-1] is Finished
    steps = [e for e in events if isinstance(e, Step)]
    assert [e.step for e in steps] == [0, 1, 2, 3, 4]
    assert all(k.startswith("eval/") for k in steps[0].metrics)
    assert all(math.isfinite(v) for e in steps for v in e.metrics.values())
    assert any(k.startswith("eval/") for k in steps[2].metrics) and not any(k.startswith("eval/") for k in steps[3].metrics)
    assert (tmp_path / "step-2").is_dir() and (tmp_path / "step-4").is_dir() and (tmp_path / "last").is_dir()
    samples = [e.record for e in events if isinstance(e, Sample)]
    assert {s["split"] for s in samples} == {"train", "heldout"}
    for sample in samples:
        for answer in sample.get("responses") or [sample["chosen"], sample["rejected"]]:
            tokens = answer["tokens"]
            assert {len(v) for v in tokens.values()} == {len(tokens["ids"])}
    if algorithm == "dpo":
        assert steps[0].metrics["eval/rewards/accuracies"] == 0.5 and steps[0].metrics["eval/loss"] == pytest.approx(math.log(2), abs=1e-6)
    elif algorithm == "sft":
        assert steps[0].metrics["eval/perplexity"] == pytest.approx(math.exp(steps[0].metrics["eval/loss"]))
        assert 0 <= steps[0].metrics["eval/mean_token_accuracy"] <= 1
    elif algorithm == "reward_model":
        figures = steps[0].metrics
        assert figures["eval/accuracy/low"] <= figures["eval/accuracy"] <= figures["eval/accuracy/high"]
        margins = steps[2].distributions["eval/margins"]
        assert margins == sorted(margins) and sum(margins) / len(margins) == pytest.approx(steps[2].metrics["eval/margin"], abs=1e-4)
        assert "eval/margins" in steps[0].distributions and "eval/margins" not in steps[3].distributions
        assert figures["eval/margin"] == pytest.approx(figures["eval/scores/chosen"] - figures["eval/scores/rejected"], abs=1e-5)
    else:
        assert steps[0].metrics["eval/kl"] == pytest.approx(0, abs=1e-6)
        assert {"reward", "reward_std", "entropy", "loss", "grad_norm", "step_time"} <= steps[1].metrics.keys()
        own = {"rrhf": {"rank_accuracy", "best_reward", "loss/rank", "loss/sft"}, "online_dpo": {"pairs", "rewards/margins"}}
        assert own.get(algorithm, {"kl", "advantages/std"}) <= {key for step in steps for key in step.metrics}


@pytest.mark.parametrize("algorithm", list(CONFIGS))
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_resumed_equals_uninterrupted(algorithm, tuning, tmp_path):
    config = configure(algorithm, tuning=tuning)
    whole = run(config)
    assert metrics(run(config)) == metrics(whole)  # and nothing of one run reaches the next

    first, polls = [], 0

    def interrupted() -> bool:  # in the middle of the third step
        nonlocal polls
        polls += any(isinstance(e, Step) and e.step == 2 for e in first)
        return polls > 2

    for event in train(config, data_for(algorithm), interrupted=interrupted):
        first.append(event)
        if isinstance(event, Checkpoint) and event.resumable:
            event.save(tmp_path / "last")
    assert isinstance(first[-1], Stopped) and first[-1].step == 2
    rest = run(config, resume=tmp_path / "last")
    assert isinstance(rest[-1], Finished)
    assert metrics(first) | metrics(rest) == metrics(whole)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_reference_that_follows_is_kept_for_the_resumed_run(tuning, tmp_path):
    config = configure("dpo", tuning=tuning, sync_ref_model=True, ref_model_sync_steps=1, ref_model_mixup_alpha=1.0, learning_rate=1e-2)
    whole = run(config)
    margins = [e.metrics["rewards/margins"] for e in whole if isinstance(e, Step) and e.step > 0]
    assert margins == pytest.approx([0.0] * 4, abs=1e-5)  # the reference has just become the policy
    still = run(configure("dpo", tuning=tuning, learning_rate=1e-2))
    assert abs([e for e in still if isinstance(e, Step)][-1].metrics["rewards/margins"]) > 1e-3  # and without that it would not be
    polls = 0

    def interrupted() -> bool:
        nonlocal polls
        polls += any(isinstance(e, Step) and e.step == 2 for e in first)
        return polls > 2

    first = []
    for event in train(config, PAIRS, interrupted=interrupted):
        first.append(event)
        if isinstance(event, Checkpoint) and event.resumable:
            event.save(tmp_path / "last")
    assert isinstance(first[-1], Stopped) and first[-1].step == 2
    rest = run(config, resume=tmp_path / "last")
    assert metrics(first) | metrics(rest) == metrics(whole)


def test_a_loss_without_a_reference_keeps_none():
    from rlhf.policy import Policy, load_pretrained

    assert Policy(load_pretrained("sums", "cpu"), configure("dpo", variant="simpo")).frozen is None


@pytest.mark.parametrize(
    ("algorithm", "fields", "why"),
    [
        ("dpo", {"variant": "exo_pair", "label_smoothing": 0.0}, "must be above 0"),
        ("dpo", {"variant": "hinge", "label_smoothing": 0.1}, "has no effect here"),
        ("dpo", {"variant": "simpo", "sync_ref_model": True}, "has no effect here"),
        ("dpo", {"variant": "aot", "pairs_per_step": 64, "microbatch_size": 32}, "must fit into one microbatch"),
        ("dpo", {"variant": "aot", "use_weighting": True}, "turn use_weighting off"),
        ("dpo", {"sync_ref_model": True, "tuning": "lora"}, "no LoRA adapter"),
        ("grpo", {"variant": "cispo", "epsilon_high": 0.2}, "above 1"),
        ("grpo", {"overlong_buffer": 99}, "longer than a response can be"),
        ("grpo", {"use_bias_correction_kl": True, "beta": 0.0}, "with beta 0 there is none"),
        ("grpo", {"variant": "sapo", "epsilon_low": 0.1}, "has no effect here"),
    ],
)
def test_contradictions_are_refused_with_the_reason(algorithm, fields, why):
    with pytest.raises(ConfigError, match=why):
        make_config(algorithm, model="story", **fields)


def test_an_evaluation_that_was_interrupted_is_made_up_for(tmp_path):
    config = configure("grpo")
    whole = metrics(run(config))
    first, evaluating = [], False

    def interrupted() -> bool:
        return evaluating and any(isinstance(e, Step) and e.step == 1 for e in first)

    for event in train(config, PROMPTS, interrupted=interrupted):
        first.append(event)
        evaluating = isinstance(event, Phase) and event.name == "evaluating"
        if isinstance(event, Checkpoint) and event.resumable:
            event.save(tmp_path / "last")
    assert isinstance(first[-1], Stopped) and first[-1].step == 2
    assert not any(key.startswith("eval/") for key in metrics(first)[2])
    rest = run(config, resume=tmp_path / "last")
    assert metrics(first)[2] | metrics(rest)[2] == whole[2]
    assert {step: values for step, values in metrics(rest).items() if step > 2} == {
        step: values for step, values in whole.items() if step > 2
    }


@pytest.mark.parametrize("algorithm", list(CONFIGS))
def test_microbatches_change_nothing_but_memory(algorithm):
    whole, parts = (metrics(run(configure(algorithm, microbatch_size=size, steps=2))) for size in (64, 4 if algorithm == "rrhf" else 3))
    for key, value in whole[2].items():
        assert parts[2][key] == pytest.approx(value, rel=2e-2, abs=2e-3), key


def test_a_run_can_start_from_another_ones_checkpoint(tmp_path):
    run(configure("grpo"), folder=tmp_path)
    events = run(configure("dpo", steps=1), parents=(tmp_path / "step-4",))
    assert isinstance(events[-1], Finished)
    assert metrics(events)[0]["eval/rewards/accuracies"] == 0.5  # its reference is where it started


def test_three_generations_stand_on_one_another(tmp_path):
    """All weights, an adapter on top of them, and a run that goes on from that adapter: it starts where its parent ended."""
    started = f"{(first := worked('sft', tmp_path, tuning='full', learning_rate=1e-2)).id}/step-2"
    started = f"{(second := worked('grpo', tmp_path, tuning='lora', adapter_from=started)).id}/step-2"
    third = worked("grpo", tmp_path, tuning="lora", adapter_from=started)
    assert origin(third) == (first.checkpoint("step-2"), second.checkpoint("step-2"))
    for key in ("eval/reward", "eval/entropy"):
        assert third.metrics()[0][key] == pytest.approx(second.metrics()[-1][key], rel=1e-5), key


def worked(algorithm, root, **fields):
    """A run of two steps as the worker does it."""
    made = runs.create(configure(algorithm, steps=2, **fields), data_for(algorithm), root, queue=False)
    assert run_one(made) == "finished", made.status.message
    return made


def test_nan_stops_at_the_last_good_weights(tmp_path, monkeypatch):
    from rlhf.algorithms import grpo

    calls = []

    def poisoned(*args, **kwargs):
        calls.append(1)
        loss, stats = real(*args, **kwargs)
        return (loss * torch.nan if len(calls) > 4 else loss), stats

    real = grpo.grpo_loss
    monkeypatch.setattr(grpo, "grpo_loss", poisoned)
    events = run(configure("grpo", epochs=1, eval_every=0), folder=tmp_path)
    failed = events[-1]
    assert not isinstance(failed, Failed)  # four steps, four updates: all good
    calls.clear()
    events = run(configure("grpo", epochs=1, eval_every=0, steps=8), folder=tmp_path / "b")
    failed = events[-1]
    assert isinstance(failed, Failed) and failed.step == 4
    assert "nan" in failed.what and "learning rate" in failed.do
    saved = run(configure("grpo", epochs=1, eval_every=0, steps=5), resume=tmp_path / "b" / "last")
    assert not any(isinstance(e, Step) and not all(map(math.isfinite, e.metrics.values())) for e in saved)


@pytest.mark.parametrize("result", [math.nan, math.inf, "raise"])
def test_a_reward_that_fails_stops_the_run_and_says_which(result, monkeypatch):
    def score(context, options):
        if result == "raise":
            raise KeyError("boom")
        return result

    monkeypatch.setitem(rewards.REWARDS, "bad", rewards.RewardFunction("bad", "always fails", score))
    events = run(configure("grpo", reward="correct:1,bad:0.5"))
    failed = events[-1]
    assert isinstance(failed, Failed) and "bad" in failed.what and failed.do


def test_out_of_memory_says_what_to_lower(monkeypatch):
    from rlhf.policy import Policy

    def logprobs(*args, **kwargs):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(Policy, "logprobs", logprobs)
    failed = run(configure("grpo"))[-1]
    assert isinstance(failed, Failed) and "memory" in failed.what and "microbatch_size" in failed.do


@pytest.mark.parametrize(
    ("algorithm", "data"),
    [("grpo", Dataset((), (), "prompts", "")), ("ppo", Dataset((), (), "prompts", "")), ("dpo", Dataset((), (), "pairs", ""))],
)
def test_empty_data_is_refused(algorithm, data):
    failed = run(configure(algorithm), data=data)[-1]
    assert isinstance(failed, Failed) and failed.do


def test_an_unknown_model_fails_in_words():
    failed = run(configure("grpo", model="no-such-model", tuning="lora", reward="correct", data=""), data=PROMPTS)[-1]
    assert isinstance(failed, Failed) and "no-such-model" in failed.what


def test_without_held_out_data_a_run_still_works():
    for algorithm in CONFIGS:
        data = data_for(algorithm)
        assert isinstance(run(configure(algorithm, steps=1), data=Dataset(data.train, (), data.kind, ""))[-1], Finished)


def test_inner_updates_move_the_ratio_and_one_update_does_not():
    one = metrics(run(configure("grpo", epochs=1, beta=0.0)))
    many = metrics(run(configure("grpo", epochs=4, learning_rate=1e-3)))
    assert one[1]["ratio/mean"] == 1 and one[1]["clip_ratio/region_mean"] == 0
    assert many[1]["ratio/mean"] != 1 and many[1]["clip_ratio/region_mean"] > 0
