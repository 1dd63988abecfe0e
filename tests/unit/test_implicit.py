"""A policy's own preferences: by hand, against DPO's own figures, and which pairs count as held out."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf import implicit, jobs
from rlhf.algorithms import make_config
from rlhf.algorithms.dpo import DPO
from rlhf.errors import RunError
from rlhf.implicit import Answer, Encoding, Preference
from rlhf.policy import Policy, load_pretrained
from rlhf.preferences import Dataset, PreferencePair, load_dataset
from rlhf.runs import create
from tests.canned import canned_run

PAIR = PreferencePair("Once", " a dog", " a cat")


def test_by_hand():
    """Δ_w = (−1 − 2) − (−2 − 2.5) = 1.5, Δ_l = −3 − (−2.5) = −0.5; σ(0.1 · 2) = 0.5498, σ(1 · 2) = 0.8808."""
    seen = Preference(PAIR, Answer((1, 2), ("a", "b"), (-1.0, -2.0), (-2.0, -2.5)), Answer((3,), ("c",), (-3.0,), (-2.5,)))
    assert (seen.chosen.log_ratio, seen.rejected.log_ratio, seen.log_ratio) == (1.5, -0.5, 2.0)
    assert seen.margin(0.1) == pytest.approx(0.2) and seen.probability(0.1) == pytest.approx(0.549834)
    assert seen.probability(1.0) == pytest.approx(0.880797)
    record = seen.record(0.1)
    assert record["chosen"]["reward"] == pytest.approx(0.15) and record["rejected"]["reward"] == pytest.approx(-0.05)
    assert record["margin"] == pytest.approx(0.2) and record["rejected"]["tokens"]["logprobs"] == [-3.0]


@pytest.fixture(scope="module")
def models():
    """The story model, and a copy of it whose weights were moved a little."""
    reference, moved = load_pretrained("story", device="cpu"), load_pretrained("story", device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in moved.model.parameters():
            weight += 0.05 * weight.std() * torch.randn_like(weight)
    return reference, moved


def heldout(count: int) -> list[PreferencePair]:
    return [item for item in load_dataset("pairs", "story-pairs").heldout if isinstance(item, PreferencePair)][:count]


def test_a_policy_that_has_not_moved_prefers_nothing(models):
    found = implicit.preferences(models[0], models[0], heldout(12), Encoding(0.1, False, 128))
    assert len(found) == 12 and all(p is not None and p.log_ratio == 0 and p.probability(0.7) == 0.5 for p in found)


@pytest.mark.parametrize("append_eos", [False, True])
def test_the_same_figures_as_dpo(models, append_eos):
    """Margins, accuracy and log-probabilities of DPO's own measurement, which encodes, pads and batches by itself."""
    reference, moved = models
    pairs = heldout(40)
    config = make_config("dpo", model="story", append_eos=append_eos, max_response_tokens=20, beta=0.3, microbatch_size=7, eval_prompts=40)
    data = Dataset(tuple(pairs[:1]), tuple(pairs), "pairs", "test")
    policy = Policy(replace(reference, model=copy.deepcopy(reference.model)), config)
    policy.model = moved.model
    algorithm, metrics = DPO(policy, config, data, lambda: False).evaluate(0), {}
    while True:
        try:
            next(algorithm)
        except StopIteration as done:
            metrics = done.value
            break
    told: list[float] = []
    found = implicit.preferences(moved, reference, pairs, Encoding(0.3, append_eos, 20), told.append)
    assert all(p is not None and p.pair == pair for p, pair in zip(found, pairs, strict=True))
    known = [p for p in found if p is not None]
    n = len(known)
    assert sum(p.margin(0.3) for p in known) / n == pytest.approx(metrics["eval/rewards/margins"], abs=1e-4)
    assert sum(p.log_ratio > 0 for p in known) / n == pytest.approx(metrics["eval/rewards/accuracies"])
    assert sum(sum(p.chosen.logprobs) for p in known) / n == pytest.approx(metrics["eval/logps/chosen"], abs=1e-3)
    assert sum(-math.log(p.probability(0.3)) for p in known) / n == pytest.approx(metrics["eval/loss"], abs=1e-4)
    assert told and all(0 <= share < 1 for share in told) and max(len(p.chosen.ids) for p in known) <= 20


def test_what_cannot_be_read_is_none_and_the_rest_is_kept(models):
    pairs = [PreferencePair("", " a", " b"), PAIR, PreferencePair("Once", " a dog" * 300, " b"), PreferencePair("Once", "", " b")]
    found = implicit.preferences(models[1], models[0], pairs, Encoding(0.1, False, 2000))
    assert [p is None for p in found] == [True, False, True, False]
    assert found[3] is not None and found[3].chosen.ids == () and found[3].chosen.log_ratio == 0
    assert implicit.preferences(models[0], models[0], [], Encoding(0.1, False, 9)) == []


def test_batches_hold_their_bounds():
    assert list(implicit._batches(range(70), [3] * 70, 100)) == [list(range(32)), list(range(32, 64)), list(range(64, 70))]
    assert [len(batch) for batch in implicit._batches(range(4), [127] * 4, 2**17)] == [2, 2]  # 2 · 2 · 128 · 2^17 = 2^26
    assert [len(batch) for batch in implicit._batches(range(2), [10_000] * 2, 2**20)] == [1, 1]


def test_held_out_is_by_prompt_and_each_pair_comes_once():
    pairs = [PreferencePair(f"p{i % 6}", f"a{i}", "b") for i in range(12)]
    heldout, seen = implicit.parted([*pairs, pairs[0]], {"p0", "p1"}, 100)
    assert len(seen) == 4 and len(heldout) == 8 and {pair.prompt for pair in seen} == {"p0", "p1"}
    fewer, _seen = implicit.parted(pairs, {"p0", "p1"}, 3)
    assert len(fewer) == 3 and fewer == implicit.parted(pairs, {"p0", "p1"}, 3)[0] and set(fewer) <= set(heldout)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *args, **kwargs: None)
    return tmp_path


def test_a_run_is_measured_against_where_it_began(root: Path):
    first = canned_run(root, "sft", steps=4, weights=False)
    assert implicit.reference_of(first) == implicit.Side("story")
    config = make_config("dpo", model="story", adapter_from=f"{first.id}/step-2")
    other = Dataset((PreferencePair("another prompt", "a", "b"),), (), "pairs", "test")
    child = create(config, other, root)
    began = implicit.reference_of(child)
    assert (began.run_id, began.checkpoint, began.step, began.layers) == (first.id, "step-2", 2, (first.checkpoint("step-2"),))
    assert implicit.trained_prompts(child) == {"another prompt"} | {item.prompt for item in first.load_data().train}
    shutil.rmtree(first.path)
    with pytest.raises(RunError, match="no run"):
        implicit.reference_of(child)


def test_pairs_are_read_as_the_run_reads_them(root: Path):
    own = canned_run(root, "dpo", steps=2, weights=False, beta=0.3, append_eos=True, max_response_tokens=50)
    assert implicit.encoding_of(own) == Encoding(0.3, True, 50)
    usual = make_config("dpo", model="story")
    other = canned_run(root, "grpo", steps=2, weights=False)  # its β is 0, for which nothing would be preferred
    assert implicit.encoding_of(other) == Encoding(usual.beta, usual.append_eos, usual.max_response_tokens)  # type: ignore[attr-defined]
