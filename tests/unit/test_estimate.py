"""Estimates before a run: hand arithmetic on configs, the embedded models' files, and the clock of earlier runs."""

from __future__ import annotations

import json

import pytest

from rlhf import estimate as e
from rlhf.algorithms import make_config
from rlhf.catalogue import CATALOGUE
from rlhf.preferences import Dataset, PreferencePair, Prompt
from rlhf.runs import list_runs
from tests.canned import canned_run


def prompts(*texts: str) -> Dataset:
    return Dataset(train=tuple(Prompt(text) for text in texts), heldout=(), kind="prompts", source="test")


# ---------------------------------------------------------------- the model's files


@pytest.mark.parametrize("model", ["story", "sums"])
def test_embedded_models_are_counted_from_their_files(model):
    """What the catalogue says by hand is what the headers of the weights add up to."""
    facts = e.model_facts(model)
    assert facts.local and facts.parameters == CATALOGUE[model].parameters
    config = json.loads((e.model_folder(model) / "config.json").read_text())  # pyright: ignore[reportOptionalOperand]
    assert (facts.layers, facts.context, facts.vocabulary) == (
        config["num_hidden_layers"],
        config["max_position_embeddings"],
        config["vocab_size"],
    )


def test_a_model_that_is_not_here_is_known_from_the_catalogue_or_not_at_all(monkeypatch):
    monkeypatch.setattr(e, "model_folder", lambda model: None)
    known = e.model_facts("Qwen/Qwen3-0.6B")
    assert known.parameters == CATALOGUE["Qwen/Qwen3-0.6B"].parameters and not known.local and known.download_mb > 0
    assert e.model_facts("somebody/unheard-of").parameters is None


@pytest.mark.parametrize("name", ["not a / valid id", "../../etc", "/nowhere", "~/nothing", "a/b/c", ""])
def test_odd_names_are_no_folders(name):
    assert e.model_folder(name) is None


def test_tokens_are_counted_with_the_model_s_own_tokenizer():
    """The sums model has one token for each character; a model without a tokenizer here gets four characters a token."""
    assert e.token_counts("sums", ["37+48=", "1"]) == ([6, 1], True)
    assert e.token_counts("/nowhere", ["x" * 40]) == ([10], False)


def test_prompts_that_do_not_fit_are_found():
    context = e.model_facts("sums").context
    config = make_config("grpo", model="sums", max_new_tokens=4)
    fit = e.fit(config, prompts("1+1=", "1" * (context - 4), "1" * (context - 3)))
    assert fit.exact and fit.too_long == (2,) and fit.longest == context - 3


def test_pairs_fit_with_their_longest_answer():
    """Answers of 3 and 9 characters, one token each, and the end: the prompt must leave 10; never more than max_response_tokens."""
    context = e.model_facts("sums").context
    pairs = Dataset((PreferencePair("1" * (context - 10), "123", "123456789"),), (), "pairs", "test")
    assert e.fit(make_config("dpo", model="sums"), pairs).too_long == ()
    longer = Dataset((PreferencePair("1" * (context - 9), "123", "123456789"),), (), "pairs", "test")
    assert e.fit(make_config("dpo", model="sums"), longer).too_long == (0,)
    assert e.fit(make_config("dpo", model="sums", max_response_tokens=5), longer).too_long == ()


# ---------------------------------------------------------------- work


def test_work_of_a_grpo_step_by_hand():
    """64 sequences of 16 + 48 tokens, one update: sampling 3 · 48, forward and backward 3 · 64, reference 64 → 64 · 400 = 25 600."""
    assert e.work(make_config("grpo", model="story"), prompt_tokens=16) == 25_600
    without_reference = make_config("grpo", model="story", beta=0.0)
    assert e.work(without_reference, prompt_tokens=16) == 25_600 - 64 * 64


def test_work_of_a_reinforce_step_by_hand():
    """64 sequences of 16 + 48 tokens: 25 600 as GRPO's; comparing four estimators every 10 steps is (1 + 2·4)/10 · 64 · 64 = 3 686.4.

    A greedy answer to each of the 16 prompts is 16 · 3 · 48 = 2 304 more, and a fifth estimator 2/10 · 64 · 64 = 819.2.
    """
    assert e.work(make_config("reinforce", model="story", variance_groups=0), prompt_tokens=16) == 25_600
    assert e.work(make_config("reinforce", model="story"), prompt_tokens=16) == pytest.approx(25_600 + 3_686.4)
    greedy = make_config("reinforce", model="story", baseline="greedy")
    assert e.work(greedy, prompt_tokens=16) == pytest.approx(25_600 + 3_686.4 + 2_304 + 819.2)


def test_more_of_anything_is_more_work():
    base = e.work(make_config("ppo", model="story"))
    for change in ({"epochs": 3}, {"prompts_per_step": 64}, {"samples_per_prompt": 4}, {"max_new_tokens": 96}):
        assert e.work(make_config("ppo", model="story", **change)) > base, change


def test_an_unknown_model_gets_no_figure(monkeypatch):
    monkeypatch.setattr(e, "model_folder", lambda model: None)
    found = e.estimate(make_config("grpo", model="somebody/unheard-of"))
    assert found.seconds is None and found.memory_bytes is None and found.timed_by == "unknown"


# ---------------------------------------------------------------- memory


def test_lora_needs_no_copy_for_the_reference_and_less_for_the_optimizer():
    facts = e.ModelFacts(parameters=100_000_000, layers=10, hidden=500, vocabulary=1000, context=1024, kv_width=1000, local=True)
    full = e.memory_parts(make_config("grpo", model="x/y", tuning="full"), facts, "cpu")
    lora = e.memory_parts(make_config("grpo", model="x/y", tuning="lora"), facts, "cpu")
    assert full and lora
    assert full["weights"] == full["reference"] == full["gradients"] == 400_000_000  # two microbatches of 16 add up
    assert full["optimizer"] == 2 * 400_000_000
    assert "reference" not in lora and lora["optimizer"] < full["optimizer"] / 20
    assert lora["weights"] == 400_000_000 + lora["optimizer"] // 2  # the adapter


def test_on_a_gpu_lora_keeps_the_weights_in_half_precision():
    facts = e.ModelFacts(parameters=100_000_000)
    parts = e.memory_parts(make_config("grpo", model="x/y", tuning="lora"), facts, "cuda")
    assert parts and parts["weights"] == 200_000_000 + parts["optimizer"] // 2 and parts["process"] == 0


def test_a_larger_microbatch_takes_more_memory_only_up_to_the_batch():
    facts = e.model_facts("story")

    def activations(**fields) -> int:
        parts = e.memory_parts(make_config("grpo", model="story", **fields), facts, "cpu")
        assert parts
        return parts["activations"]

    assert activations(microbatch_size=32) == activations(microbatch_size=64) / 2
    assert activations(microbatch_size=64) == activations(microbatch_size=512)  # a step has 64 sequences


# ---------------------------------------------------------------- time from earlier runs


def with_clock(run, seconds_per_step: float, pause_at: int | None = None) -> None:
    """Rewrite the times of a canned run's events: one step every so many seconds, with a long pause before one of them."""
    path = run.path / "events.jsonl"
    lines, clock = [], 1_790_000_000.0
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "step" and record["step"] > 0:
            clock += seconds_per_step + (600 if record["step"] == pause_at else 0)
        lines.append(json.dumps({**record, "time": clock}))
    path.write_text("\n".join(lines) + "\n")


def test_an_earlier_run_tells_the_time(tmp_path):
    """2 s a step then, so 60 steps are about two minutes; twice the group is twice the work; the pause does not count."""
    run = canned_run(tmp_path, "grpo", steps=10, weights=False)
    with_clock(run, 2.0, pause_at=5)
    found = e.estimate(make_config("grpo", model="story"), list_runs(tmp_path), prompts("Once"))
    assert found.timed_by == "runs" and found.timed_runs == 1
    assert found.seconds_per_step == pytest.approx(2.0)
    assert found.seconds == pytest.approx(120, abs=3)
    assert found.measured_memory and found.memory_bytes == 610 * 2**20  # the canned run's
    twice = e.estimate(make_config("grpo", model="story", group_size=16), list_runs(tmp_path), prompts("Once"))
    assert twice.seconds_per_step == pytest.approx(4.0)
    assert not twice.measured_memory  # another size


def test_runs_of_another_model_or_algorithm_tell_nothing(tmp_path):
    with_clock(canned_run(tmp_path, "grpo", model="sums", steps=10, weights=False), 2.0)
    with_clock(canned_run(tmp_path, "ppo", steps=10, weights=False), 2.0)
    assert e.estimate(make_config("grpo", model="story"), list_runs(tmp_path)).timed_by == "rough"


def test_broken_and_foreign_runs_are_passed_over(tmp_path):
    run = canned_run(tmp_path, "grpo", steps=10, weights=False)
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "group_size": "many"}))
    broken = canned_run(tmp_path, "grpo", steps=10, weights=False)
    (broken.path / "config.json").write_text("{")
    assert e.estimate(make_config("grpo", model="story"), list_runs(tmp_path)).timed_by == "rough"
