"""Challenges: run folders whose events fulfil or miss each condition narrowly, and folders that hold nothing usable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlhf.algorithms import CONFIGS, make_config
from rlhf.bradley_terry import wilson
from rlhf.events import Finished, Started, Step
from rlhf.labs.challenges import CHALLENGES, Result, judged, most_right
from rlhf.labs.run_record import read, share_as_the_rule_says
from rlhf.overoptimisation import GOLD
from rlhf.preferences import Dataset, PreferencePair
from rlhf.runs import Run, RunWriter, create, list_runs
from tests.canned import canned_data

Rows = Mapping[int, Mapping[str, float]]
BY_ID = {challenge.id: challenge for challenge in CHALLENGES}


def run_of(root: Path, algorithm: str, rows: Rows, *, finished: bool = True, data: Dataset | None = None, **fields: Any) -> Run:
    """A run folder with exactly these figures, written as a run writes them."""
    config = make_config(algorithm, **fields)
    run = create(config, data or canned_data(algorithm, config.model), root)
    with RunWriter(run) as writer:
        writer.begin()
        writer.write(Started(0, config.steps, {}))
        for step, metrics in rows.items():
            writer.write(Step(step, metrics))
        if finished:
            writer.write(Finished(max(rows)))
    return run


def result(name: str, run: Run) -> Result:
    found = dict(judged_ids(name, run.root))
    return found[run.id]


def judged_ids(name: str, root: Path) -> list[tuple[str, Result]]:
    records = [record for record in map(read, list_runs(root)) if record]
    return [(record.id, found) for record, found in judged(BY_ID[name], records)]


def online(*measured: tuple[int, float, float], **more: float) -> Rows:
    """(step, held-out reward, held-out KL) …"""
    return {step: {"eval/reward": reward, "eval/kl": kl, **more} for step, reward, kl in measured}


@pytest.mark.parametrize(
    ("rows", "met", "step"),
    [
        (online((0, -0.5, 0.0), (10, 0.70, 0.299)), True, 10),
        (online((0, -0.5, 0.0), (10, 0.70, 0.3)), False, 10),
        (online((0, -0.5, 0.0), (10, 0.699, 0.1)), False, 10),
        (online((0, -0.5, 0.0), (10, 0.71, 0.25), (20, 0.9, 0.8)), True, 10),  # it counts although the run went further
        (online((0, -0.5, 0.0), (10, 0.2, 0.1), (20, 0.9, 0.8)), False, None),  # each at another measurement
        (online((0, 0.9, 0.0)), False, None),  # the untouched start
    ],
)
def test_frugal(tmp_path, rows, met, step):
    found = result("frugal", run_of(tmp_path, "grpo", rows))
    assert found.met is met
    if step is not None:
        assert {part.step for part in found.parts} == {step}


@pytest.mark.parametrize(
    "fields", [{"reward": "negative:2"}, {"reward": "negative,repetition"}, {"reward": "positive"}, {"eval_prompts": 31}, {"model": "sums"}]
)
def test_frugal_is_about_one_reward_and_enough_prompts(tmp_path, fields):
    run_of(tmp_path, "grpo", online((0, 0, 0), (10, 0.9, 0.1)), **fields)
    run = run_of(tmp_path, "ppo", online((0, 0, 0), (10, 0.9, 0.1)))
    assert [name for name, _ in judged_ids("frugal", tmp_path)] == [run.id]


@pytest.mark.parametrize(
    ("rows", "met"),
    [
        (online((0, 0.38, 0), (40, 0.58, 0)), True),
        (online((0, 0.38, 0), (40, 0.579, 0)), False),
        (online((0, 0.38, 0), (20, 0.58, 0), (40, 0.4, 0)), True),
        (online((0, 0.38, 0), (40, 0.5, 0), (41, 0.9, 0)), False),
        (online((40, 0.9, 0)), False),  # no start was measured
    ],
)
def test_sums(tmp_path, rows, met):
    assert result("sums", run_of(tmp_path, "grpo", rows, model="sums")).met is met


QUIET = {"frac_reward_zero_std": 1.0, "learning_rate": 3e-4, "grad_norm": 0.0}


@pytest.mark.parametrize(
    ("rows", "finished", "fields", "met", "reasons"),
    [
        (online((0, 0.4, 0), (20, 0.42, 0.005), **QUIET), True, {}, True, ["equal", "gradient"]),
        (online((0, 0.4, 0), (20, 0.421, 0.005), **QUIET), True, {}, False, ["equal", "gradient"]),
        (online((0, 0.4, 0), (20, 0.4, 0.0051), learning_rate=1e-3), True, {"beta": 2.0}, False, ["beta"]),
        (online((0, 0.4, 0), (19, 0.4, 0.0), learning_rate=1e-8, grad_norm=1.0), True, {}, False, ["rate"]),
        (online((0, 0.4, 0), (20, 0.4, 0.0)), False, {}, False, []),
        ({**online((0, 0.4, 0), (20, 0.4, 0.0)), 25: {"reward": 0.9}}, True, {}, False, []),  # not measured at the end
    ],
)
def test_nothing(tmp_path, rows, finished, fields, met, reasons):
    found = result("nothing", run_of(tmp_path, "grpo", rows, finished=finished, **fields))
    assert found.met is met and [name for name, _value in found.reasons] == reasons


SAD, GLAD = " He was sad and cried.", " He was happy and loved it."


def votes(right: int, swapped: int) -> Dataset:
    pairs = [PreferencePair(f"Day {i}.", SAD, GLAD) for i in range(right)]
    pairs += [PreferencePair(f"Night {i}.", GLAD, SAD) for i in range(swapped)]
    return Dataset((PreferencePair("x", SAD, GLAD),), tuple(pairs), "pairs", "test")


def measured(a: float, n: int) -> dict[str, float]:
    low, high = wilson(a * n, n)
    return {"eval/accuracy": a, "eval/accuracy/low": low, "eval/accuracy/high": high}


@pytest.mark.parametrize(
    ("data", "a", "met", "lacks"),
    [
        (votes(100, 0), 0.39, True, ""),
        (votes(100, 0), 0.45, False, ""),  # below a half, but within its interval
        (votes(0, 100), 0.61, True, ""),  # the labels are wrong too: the more it agrees the worse
        (votes(0, 100), 0.3, False, ""),
        (votes(50, 50), 0.99, False, ""),  # right on half of them at the most, and the interval leaves room
        (votes(10, 90), 0.99, True, ""),
        (votes(49, 0), 0.0, False, ""),  # too few
        (Dataset((PreferencePair("x", SAD, GLAD),), (), "pairs", "test"), 0.0, False, "labels"),
    ],
)
def test_wrong(tmp_path, data, a, met, lacks):
    found = result("wrong", run_of(tmp_path, "reward_model", {0: {}, 20: measured(a, max(1, len(data.heldout)))}, data=data))
    assert (found.met, found.lacks) == (met, lacks)


def test_the_bound_on_how_often_it_is_right_is_sharp():
    """Every way of agreeing with ``a`` of the labels: the best is 1 − |s − a|."""
    n = 6
    for right in range(n + 1):
        for agreed in range(n + 1):
            best = max(on_right + (n - right) - (agreed - on_right) for on_right in range(right + 1) if 0 <= agreed - on_right <= n - right)
            assert best / n == pytest.approx(most_right(right / n, agreed / n, agreed / n))
    assert most_right(0.5, 0.2, 0.9) == 1 and most_right(0.1, 0.2, 0.9) == pytest.approx(0.9)


def test_labels_by_the_rule():
    assert share_as_the_rule_says(votes(3, 1).heldout) == 0.75  # pyright: ignore[reportArgumentType]
    assert share_as_the_rule_says([PreferencePair("x", "a table", "a chair")]) == 0.5


def hacked(*rows: tuple[float, float]) -> Rows:
    return {2 * i: {"eval/reward": proxy, "eval/gold": gold, "eval/kl": 0.1 * i} for i, (proxy, gold) in enumerate(rows)}


@pytest.mark.parametrize(
    ("rows", "fields", "met"),
    [
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.3), (0.2, 0.3)), {}, True),
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.31), (0.2, 0.2)), {}, False),  # the last but one is too high
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.2)), {}, False),  # a single low value is chance
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.3), (0.199, 0.3)), {}, False),
        (hacked((0.0, 0.0)), {}, False),
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.3), (0.2, 0.3)), {"reward": "positive"}, None),  # nothing is fooled by its opposite
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.3), (0.2, 0.3)), {"gold": "positive"}, None),
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.3), (0.2, 0.3)), {"beta": 0.05}, True),
        (hacked((0.0, 0.0), (0.1, 0.5), (0.2, 0.3), (0.2, 0.3)), {"beta": 0.0}, False),  # as the page Reward hacking stands
    ],
)
def test_hacked(tmp_path, rows, fields, met):
    run_of(tmp_path, "grpo", rows, **{"gold": GOLD, **fields})
    assert [found.met for _, found in judged_ids("hacked", tmp_path)] == ([] if met is None else [met])


def pairs(margin: float, chosen: float, rejected: float) -> Rows:
    start = {"eval/rewards/margins": 0.1, "eval/logps/chosen": -90.0, "eval/logps/rejected": -80.0}
    moved = dict(zip(start, (margin, chosen, rejected), strict=True))
    return {0: start, 10: {key: start[key] + moved[key] for key in start}}


@pytest.mark.parametrize(
    ("margin", "chosen", "rejected", "down", "up"),
    [
        (0.5, -1.0, -9.0, True, False),
        (0.5, -0.99, -9.0, False, False),
        (0.49, -5.0, -9.0, False, False),
        (0.5, 0.0, -2.0, False, True),
        (0.5, -0.01, -9.0, False, False),
        (0.5, 1.0, -0.99, False, False),
    ],
)
def test_down_and_up(tmp_path, margin, chosen, rejected, down, up):
    run = run_of(tmp_path, "dpo", pairs(margin, chosen, rejected))
    assert (result("down", run).met, result("up", run).met) == (down, up)


def test_actor_needs_a_critic_to_be_compared_with(tmp_path):
    actor = run_of(tmp_path, "ppo", online((0, 0.0, 0), (10, 0.5, 0)), critic="none")
    assert result("actor", actor).lacks == "critic" and not result("actor", actor).met
    run_of(tmp_path, "ppo", online((0, 0.0, 0), (10, 0.53, 0)), steps=61)  # other steps
    run_of(tmp_path, "ppo", online((0, 0.0, 0), (10, 0.05, 0)))  # learned nothing
    run_of(tmp_path, "ppo", online((0, 0.0, 0), (10, 0.53, 0)), finished=False)
    assert result("actor", actor).lacks == "critic"
    critic = run_of(tmp_path, "ppo", online((0, 0.0, 0), (10, 0.53, 0)))
    assert result("actor", actor).met and result("actor", actor).other == critic.id
    run_of(tmp_path, "ppo", online((0, 0.0, 0), (10, 0.531, 0)))  # newer, and a little better
    assert not result("actor", actor).met


def test_sooner_is_measured_against_the_defaults(tmp_path):
    mine = run_of(tmp_path, "grpo", online((0, 0.0, 0), (20, 0.4, 0), (30, 0.5, 0)), learning_rate=2e-4)
    assert result("sooner", mine).lacks == "default"
    default = run_of(tmp_path, "grpo", online((0, 0.0, 0), (60, 0.5, 0)), seed=3, eval_every=20)
    found = result("sooner", mine)
    assert found.met and found.other == default.id and found.parts[0].step == 30
    late = run_of(tmp_path, "grpo", online((0, 0.0, 0), (30, 0.499, 0), (31, 0.6, 0)), learning_rate=2e-4)
    assert not result("sooner", late).met
    assert result("sooner", default).lacks == "default"  # never against itself


# ---------------------------------------------------------------- whatever is in the folder


def test_a_run_under_way_is_judged_as_far_as_it_is(tmp_path):
    run = run_of(tmp_path, "grpo", {0: {"eval/reward": -0.5, "eval/kl": 0.0}}, finished=False)
    found = result("frugal", run)
    assert [part.value for part in found.parts] == [None, None] and not found.met


def test_rubbish_in_the_events_fulfils_nothing(tmp_path):
    made = [run_of(tmp_path, algorithm, {0: {}}) for algorithm in CONFIGS] + [run_of(tmp_path, "grpo", {0: {}}, gold=GOLD)]
    for events in (
        b"",
        b"\n\xff\x00{\n[]\n5\n",
        b'{"type": "step"}\n{"type": "step", "step": "x", "metrics": {}}\n',
        b'{"type": "step", "step": 5, "metrics": [1]}\n{"type": "step", "step": 6, "metrics": {"eval/reward": "high", "eval/kl": null}}\n',
        b'{"type": "step", "step": 5, "metrics": {"eval/reward": NaN, "eval/accuracy": true, "eval/gold": Infinity, "eval/kl": {}}}\n',
    ):
        for run in made:
            (run.path / "events.jsonl").write_bytes(events)
        records = [record for record in map(read, made) if record]
        assert len(records) == len(made)
        found = [result for challenge in CHALLENGES for _, result in judged(challenge, records)]
        assert len(found) > len(CHALLENGES) and not any(result.met for result in found)


def test_damaged_folders_are_left_out(tmp_path):
    run = run_of(tmp_path, "grpo", online((0, 0.0, 0)))
    (run.path / "data.jsonl").unlink()
    assert read(run) is not None
    (run.path / "events.jsonl").unlink()
    record = read(run)
    assert record is not None and record.rows == ()
    (run.path / "config.json").write_text('{"algorithm": "grpo", "steps": -1}')
    assert read(run) is None
    (run.path / "status.json").unlink()
    assert read(run) is None


def test_what_is_read_follows_the_files(tmp_path):
    run = run_of(tmp_path, "grpo", online((0, 0.0, 0)), finished=False)
    assert result("frugal", run).parts[0].value is None
    with RunWriter(run) as writer:
        writer.begin()
        writer.write(Step(10, {"eval/reward": 0.8, "eval/kl": 0.1}))
        assert result("frugal", run).met
