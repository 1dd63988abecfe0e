"""RRHF's settings, and what a step of it does beside the loss: whole prompts in a microbatch, and only the best answers in best-of-n."""

import pytest

from rlhf import estimate, memory
from rlhf.algorithms import make_config
from rlhf.errors import ConfigError
from rlhf.events import Sample, Step
from rlhf.policy import Policy
from rlhf.preferences import load_dataset
from rlhf.train import train


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"beta": 0.1}, "no KL term"),
        ({"group_size": 1}, "group_size"),
        ({"prompts_per_step": 6, "minibatches": 4}, "takes whole prompts"),
        ({"group_size": 16, "microbatch_size": 8}, "raise microbatch_size to 16"),
        ({"variant": "best_of_n", "sft_weight": 2.0}, "belongs to variant rrhf"),
    ],
)
def test_contradictions_are_refused_with_the_reason(fields, words):
    with pytest.raises(ConfigError, match=words):
        make_config("rrhf", **fields)


def test_best_of_n_may_have_small_microbatches():
    assert make_config("rrhf", variant="best_of_n", group_size=16, microbatch_size=8).trained_per_step == 8


def test_estimate_knows_that_only_the_best_are_trained_on():
    """64 answers of 48 tokens to prompts of 16: sampling 64·3·48 = 9216; trained on all 64·3·64 = 12 288, on the 8 best 1536."""
    assert estimate.work(make_config("rrhf"), 16) == 9216 + 12_288
    assert estimate.work(make_config("rrhf", variant="best_of_n"), 16) == 9216 + 1536
    sizes = estimate.model_facts("story").sizes
    every, best = (
        {moment.name: moment.parts for moment in memory.moments(make_config("rrhf", variant=v), sizes, "cpu", 16, 48)}
        for v in ("rrhf", "best_of_n")
    )
    assert best["update"]["logits"] * 8 == every["update"]["logits"] and best["sampling"] == every["sampling"]


SMALL = {"model": "sums", "device": "cpu", "prompts_per_step": 3, "group_size": 4, "eval_every": 0, "eval_prompts": 2, "steps": 1}


def short_run(**fields) -> tuple[list[Sample], Step, list[int]]:
    """The training samples and the step of a short run, and the rows of each forward pass with gradient."""
    config = make_config("rrhf", **{**SMALL, **fields})
    rows: list[int] = []
    real = Policy.logprobs

    def counted(self, sequences, temperature=1.0):
        rows.append(len(sequences))
        return real(self, sequences, temperature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "logprobs", counted)
        events = list(train(config, load_dataset("prompts", config.data)))
    samples = [e for e in events if isinstance(e, Sample) and e.record["split"] == "train"]
    return samples, next(e for e in events if isinstance(e, Step) and e.step == 1), rows


def test_microbatches_hold_whole_prompts_and_change_nothing():
    _, whole, rows = short_run(microbatch_size=64)
    _, parts, rows_of_parts = short_run(microbatch_size=7)
    assert rows == [12] and rows_of_parts == [4, 4, 4]
    for key in ("loss", "loss/rank", "loss/sft", "grad_norm"):
        assert parts.metrics[key] == pytest.approx(whole.metrics[key], rel=1e-4), key


def test_best_of_n_trains_on_the_best_alone():
    samples, step, rows = short_run(variant="best_of_n")
    assert rows == [3] and "loss/rank" not in step.metrics
    for sample in samples:
        responses = sample.record["responses"]
        rewards = [response["reward"] for response in responses]
        pushed = [any(response["tokens"]["push"]) for response in responses]
        assert pushed == [i == rewards.index(max(rewards)) for i in range(len(rewards))]
        assert "advantage" not in responses[0]


def test_the_reference_is_only_measured():
    config = make_config("rrhf", **{**SMALL, "steps": 5})
    steps = [e for e in train(config, load_dataset("prompts", config.data)) if isinstance(e, Step)]
    assert [step.step for step in steps if "kl" in step.metrics] == [5]
    assert not any("advantages/std" in step.metrics for step in steps)
