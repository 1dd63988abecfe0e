"""Compare: "before" is the untouched base, both sides get the same luck, and the uncertainty is the textbook's."""

from __future__ import annotations

import json
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from rlhf import compare
from rlhf.catalogue import model_path
from rlhf.compare import Side, interval, paired_difference, token_shift
from rlhf.config import RewardTerm
from rlhf.errors import DataError, PlaygroundError, RunError
from rlhf.policy import load_pretrained
from rlhf.preferences import Prompt
from rlhf.rewards import RewardMix
from rlhf.rollout import SamplingConfig, score
from tests.canned import canned_run

SAMPLING = SamplingConfig(max_new_tokens=4)
PROMPTS = [Prompt("37+48=", "085"), Prompt("11+20=", "031"), Prompt("99+99=", "198")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(root):
    """All weights trained (nudged), with checkpoints at steps 10 and 20."""
    return canned_run(root, "grpo", model="sums")


@pytest.fixture(scope="module")
def lora_run(root):
    """A run whose checkpoint is a LoRA adapter that does something."""
    made = canned_run(root, "grpo", model="sums", weights=False, tuning="lora", seed=3)
    write_adapter(made.checkpoints()[-1].path)
    return made


def write_adapter(folder):
    torch.manual_seed(0)
    model = get_peft_model(load_pretrained("sums").model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)


def parameters(loaded):
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def differing(a, b):
    return [name for name in a if not torch.equal(a[name], b[name])]


# ---------------------------------------------------------------- before is before


@pytest.mark.parametrize("kind", ["run", "lora_run"])
def test_before_is_the_untouched_base_bit_by_bit(kind, request):
    """After a checkpoint was loaded over it and both have written and scored, the base equals a fresh load in every bit."""
    run = request.getfixturevalue(kind)
    base = compare.load(compare.untouched(run))
    after = compare.load(compare.tuned(run), base)
    for model in (base, after, base):
        (answer, *_) = compare.answers(model, PROMPTS, SAMPLING, seed=1)
        token_shift(base, after, answer.prompt, answer.ids)
    fresh = parameters(load_pretrained(model_path("sums"), dtype="float32"))
    assert parameters(base).keys() == fresh.keys(), "no adapter was wrapped around the base"
    assert differing(parameters(base), fresh) == []
    assert differing(parameters(after), fresh) != [], "the tuned side is another model"
    assert not {p.data_ptr() for p in base.model.parameters()} & {p.data_ptr() for p in after.model.parameters()}, "no shared memory"


def test_full_checkpoint_is_loaded_bit_by_bit(run):
    info = run.checkpoints()[-1]
    after = parameters(compare.load(compare.tuned(run, info.name)))
    stored = load_file(info.path / "model.safetensors")
    assert stored and differing(stored, after) == []


# ---------------------------------------------------------------- what a side is made of


def test_sides_say_what_they_are(run):
    before, after = compare.untouched(run), compare.tuned(run)
    assert before.is_untouched and before.model == "sums" and before.layers == ()
    assert (after.run_id, after.checkpoint, after.step, after.algorithm) == (run.id, "step-20", 20, "grpo")
    assert compare.tuned(run, "step-10").step == 10


def test_adapter_on_full_weights_needs_them_below(root, run):
    child = canned_run(root, "grpo", model="sums", weights=False, tuning="lora", adapter_from=f"{run.id}/step-10", seed=4)
    write_adapter(child.checkpoints()[-1].path)
    assert compare.tuned(child).layers == (run.checkpoint("step-10"), child.checkpoint("step-20"))
    grandchild = canned_run(root, "grpo", model="sums", weights=False, tuning="lora", adapter_from=f"{child.id}/step-20", seed=5)
    write_adapter(grandchild.checkpoints()[-1].path)
    assert compare.tuned(grandchild).layers == (run.checkpoint("step-10"), grandchild.checkpoint("step-20")), (
        "an adapter contains its parent's"
    )


def test_full_weights_replace_everything_before_them(root, run):
    child = canned_run(root, "grpo", model="sums", adapter_from=f"{run.id}/step-10", seed=6)
    assert compare.tuned(child).layers == (child.checkpoint("step-20"),)


def test_run_without_checkpoint_is_refused(root):
    queued = canned_run(root, "grpo", model="sums", state="queued")
    with pytest.raises(RunError, match="no checkpoint"):
        compare.tuned(queued)


@pytest.mark.parametrize("name", ["step-99", "../step-10", "step-10/..", "/etc"])
def test_unknown_checkpoint_is_refused(run, name):
    with pytest.raises(RunError):
        compare.tuned(run, name)


# ---------------------------------------------------------------- the same conditions


def test_conditions_are_the_runs_own(run):
    assert compare.sampling_of(run)["max_new_tokens"] == 4
    assert [term.name for term in compare.reward_of(run)] == ["correct"]


def test_pairs_are_compared_by_what_they_prefer(root):
    shipped = canned_run(root, "dpo", model="story", weights=False)
    assert [term.name for term in compare.reward_of(shipped)] == ["negative"]
    assert compare.sampling_of(shipped)["max_new_tokens"] == 48, "as the model's online runs"
    own = canned_run(root, "dpo", model="story", weights=False, data="custom", seed=8)
    assert compare.reward_of(own) == ()


def test_heldout_prompts_were_never_trained_on(run):
    trained = {item.prompt for item in run.load_data().train}
    prompts = compare.heldout_prompts(run)
    assert prompts and not trained & {prompt.text for prompt in prompts}


def test_same_seed_gives_the_same_luck(run):
    base = compare.load(compare.untouched(run))
    first, second = (compare.answers(base, PROMPTS, SAMPLING, seed=7, group_size=2) for _ in range(2))
    assert first == second and len(first) == 6
    assert [a.prompt for a in first[:2]] == ["37+48=", "37+48="]
    other = compare.answers(base, PROMPTS * 8, SAMPLING, seed=8)
    assert [a.text for a in other] != [a.text for a in compare.answers(base, PROMPTS * 8, SAMPLING, seed=9)]


def test_answers_are_scored_where_they_can_be(run):
    base = compare.load(compare.untouched(run))
    mix = RewardMix([RewardTerm(name="correct")])
    known, unknown = compare.answers(base, [Prompt("37+48=", "085"), Prompt("37+48=")], SAMPLING, seed=0, mix=mix)
    assert known.scored is not None and known.scored.total in (0.0, 1.0)
    assert unknown.scored is None
    with pytest.raises(DataError, match="right answer"):
        compare.heldout_rewards(base, [Prompt("37+48=")], SAMPLING, mix, seed=0)


# ---------------------------------------------------------------- the shift of each token


def test_shift_is_the_difference_of_two_full_forward_passes(run):
    base = compare.load(compare.untouched(run))
    after = compare.load(compare.tuned(run), base)
    moved = token_shift(base, after, "37+48=", "085")
    before_scores, after_scores = (score(side.model, side.tokenizer, "37+48=", "085").logprobs for side in (base, after))
    assert moved.strings == ["0", "8", "5"]
    assert moved.shift == pytest.approx([b - a for a, b in zip(before_scores, after_scores, strict=True)], abs=1e-5)
    assert any(abs(s) > 1e-3 for s in moved.shift)
    assert token_shift(base, base, "37+48=", "085").shift == [0.0, 0.0, 0.0]
    assert token_shift(base, after, "37+48=", "").shift == []


def test_sampled_tokens_are_scored_as_they_were_sampled(run):
    """The end token counts too: a run may have learned when to stop."""
    base = compare.load(compare.untouched(run))
    (answer,) = compare.answers(base, PROMPTS[:1], SAMPLING, seed=0)
    assert answer.finished and answer.ids[-1] == base.tokenizer.eos_token_id
    assert len(token_shift(base, base, answer.prompt, answer.ids).base) == len(answer.ids)


# ---------------------------------------------------------------- uncertainty


def test_interval_of_a_mean_by_hand():
    """1, 2, 3, 4: mean 2.5, s = √(5/3) = 1.29099, t(0.975, 3) = 3.18245: half width 3.18245 · 1.29099 / 2 = 2.05425."""
    found = interval([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5 and found.n == 4
    assert found.high is not None and found.high - 2.5 == pytest.approx(2.05425, rel=2e-3)
    assert found.low is not None and 2.5 - found.low == pytest.approx(2.05425, rel=2e-3)


@pytest.mark.parametrize(("freedom", "expected"), [(2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227), (255, 1.96931)])
def test_students_quantile_against_the_tables(freedom, expected):
    assert compare.student_t(1.959964, freedom) == pytest.approx(expected, rel=1e-2)


def test_shares_get_wilsons_interval():
    """8 of 10: centre (0.8 + 1.9208/10) / (1 + 0.38415), by hand 0.49016 to 0.94332. All right is not certainty."""
    found = interval([1.0] * 8 + [0.0] * 2)
    assert (found.low, found.high) == (pytest.approx(0.49016, abs=1e-4), pytest.approx(0.94332, abs=1e-4))
    all_right = interval([1.0] * 10)
    assert all_right.high == 1.0 and all_right.low == pytest.approx(0.7225, abs=1e-3)


def test_pairing_takes_out_what_prompts_have_in_common():
    """Rewards that differ wildly between prompts, and by +1 ± 0.1 on each: the paired interval is narrow."""
    before = [0.0, 10.0, -20.0, 5.0]
    after = [1.1, 10.9, -18.9, 5.9]
    found = paired_difference(before, after)
    assert found.mean == pytest.approx(1.0)
    assert found.low is not None and found.low > 0.8
    wide = interval(after)
    assert wide.low is not None and wide.high is not None and wide.high - wide.low > 20


def test_one_value_has_no_interval_and_none_is_refused():
    assert interval([0.5]).low is None
    assert paired_difference([0.0], [1.0]).high is None
    with pytest.raises(DataError):
        interval([])


# ---------------------------------------------------------------- the command line's comparison


def test_compare_two_runs_end_to_end(root, run, lora_run):
    result = compare.compare([run.id, f"{lora_run.id}/step-20"], root, shown=2, heldout=8, seed=5)
    json.dumps(result)
    assert [side["untouched"] for side in result["sides"]] == [True, False, False]
    assert len(result["answers"]) == 2 and all(len(row["sides"]) == 3 for row in result["answers"])
    found = result["heldout"]
    assert found["prompts"] == 2, "as many as the run has"
    assert all(math.isclose(d["mean"], found["sides"][d["side"]]["mean"] - found["sides"][0]["mean"]) for d in found["differences"])
    text = compare.table(result)
    assert "sums, untouched" in text and f"{lora_run.id}/step-20" in text and "95 %" in text


def test_compare_takes_prompts_reward_and_settings(root, run):
    result = compare.compare([run.id], root, prompts=["12+34="], heldout=0, reward="length", sampling={"temperature": 0.5})
    assert result["answers"][0]["prompt"] == "12+34="
    assert result["heldout"] is None
    assert result["sampling"]["temperature"] == 0.5 and result["sampling"]["max_new_tokens"] == 4
    assert result["reward"][0]["name"] == "length"
    assert result["answers"][0]["sides"][0]["reward"] is not None


@pytest.mark.parametrize("runs", [[], ["a", "b", "c"], ["../x"], ["unknown-run"]])
def test_compare_refuses_what_it_cannot_do(root, runs):
    with pytest.raises(PlaygroundError):
        compare.compare(runs, root)


def test_sides_that_cannot_be_loaded_say_so(tmp_path):
    with pytest.raises(PlaygroundError):
        compare.load(Side("sums", (tmp_path / "nothing",)))
