"""The benchmark: what a point's config is, the file that page and command line share, the timers, and a real measurement of each kind."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf import bench, bench_report
from rlhf.__main__ import main
from rlhf.algorithms import CONFIGS
from rlhf.bench import PARTS, Benchmark, Plan
from rlhf.config import OnlineConfig
from rlhf.errors import ConfigError, RunError
from rlhf.estimate import sequences
from rlhf.measure import group, measure, profile
from rlhf.runs import files

TINY = Plan(("dpo",), "sums", (8,), 4, 1)


@pytest.mark.parametrize("algorithm", CONFIGS)
@pytest.mark.parametrize("batch", [4, 32, 256])
def test_a_point_has_the_sequences_that_were_asked_for(algorithm, batch):
    config = bench.point(algorithm, "sums", batch, 8)
    assert sequences(config) == batch and config.model == "sums"
    assert sequences(bench.point(algorithm, "sums")) == sequences(CONFIGS[algorithm].default_for("sums"))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(()), "No algorithm"),
        (Plan(("nothing",)), "no algorithm"),
        (Plan(("grpo",), steps=0), "cannot be"),
        (Plan(("grpo",), batches=(10**6,)), "sequences cannot be 1000000"),
        (Plan(("grpo",), tokens=-1), "cannot be"),
    ],
)
def test_what_cannot_be_measured_is_refused(plan, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        bench.start(plan, tmp_path)
    assert bench.latest(tmp_path) is None and not bench.busy(tmp_path)


@pytest.mark.parametrize("algorithm", CONFIGS)
def test_the_parts_of_a_real_step_add_up(algorithm):
    config = bench.point(algorithm, "sums", 8, 4)
    result = measure(config, 1)
    parts = result["parts"]
    assert set(parts) <= set(PARTS) and all(value >= 0 for value in parts.values())
    assert sum(parts.values()) == pytest.approx(result["seconds"], rel=0.02)
    assert min(parts["forward"], parts["backward"], parts["optimizer"]) > 0
    assert (parts.get("sampling", 0.0) > 0) == isinstance(config, OnlineConfig)
    # with β = 0 the reference is only asked in the fifth step, which is not reached
    assert (parts.get("reference", 0.0) > 0) == bool(getattr(config, "beta", 0.0))
    assert result["fastest"] <= result["seconds"] <= result["slowest"]
    assert result["memory_mib"] > 50 and result["tokens_per_second"] > 0 and result["parameters"] > 1000


def test_operators_are_grouped_and_their_times_are_real():
    assert [group(name) for name in ("aten::addmm", "aten::scaled_dot_product_attention", "ampere_sgemm_128x64_tn", "aten::add_")] == [
        "matrix products", "attention", "matrix products", "rest",
    ]  # fmt: skip
    result = profile(bench.point("grpo", "sums", 8, 4), 1)
    kinds = {kind for _name, kind, _calls, _ms in result["operators"]}
    assert kinds == {"matrix products", "attention", "rest"}
    assert sum(row[3] for row in result["operators"]) > 0 and result["wall"] > 0
    text = bench_report.line({"type": "profiled", "algorithm": "grpo", "sequences": 8, **result})
    assert "matrix products" in text and "aten::" in text


def test_command_line_measures_and_the_page_s_file_has_it(tmp_path, capsys):
    where = ["--runs-dir", str(tmp_path), "--model", "sums", "--sequences", "8", "--tokens", "4", "--steps", "1"]
    assert main(["bench", "--algorithm", "dpo", "--json", *where]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["benchmark", "measuring", "measured"]
    found = bench.latest(tmp_path)
    assert found is not None and not found.running and not found.cut_short and found.machine["torch"]
    (point,) = found.measured
    assert (point.algorithm, point.sequences, point.tokens, point.model) == ("dpo", 8, 4, "sums")
    assert point.steps_per_second == pytest.approx(1 / lines[2]["seconds"])
    (row,) = bench.rows(found)
    assert row["forward_seconds"] == point.parts["forward"] and row["cpu"] == found.machine["cpu"]
    assert "steps/s" in bench_report.line(lines[0]) and "dpo" in bench_report.line(lines[2])


def test_a_point_that_fails_says_why_and_the_others_go_on(tmp_path, capsys):
    where = ["--runs-dir", str(tmp_path), "--sequences", "8", "--steps", "1", "--model", str(tmp_path / "nowhere")]
    assert main(["bench", "--algorithm", "dpo", "--algorithm", "sft", *where]) == 1
    found = bench.latest(tmp_path)
    assert found is not None and [failure.algorithm for failure in found.failed] == ["dpo", "sft"]
    assert "nowhere" in found.failed[0].what and not found.cut_short
    assert capsys.readouterr().out.count("failed:") == 2


def test_one_at_a_time(tmp_path):
    bench.lock(tmp_path).parent.mkdir(parents=True)
    held = files.hold(bench.lock(tmp_path))
    assert held is not None and bench.busy(tmp_path)
    with pytest.raises(RunError, match="Another benchmark"):
        next(bench.run(TINY, tmp_path))
    with pytest.raises(RunError, match="Another benchmark"):
        bench.start(TINY, tmp_path)
    held.release()
    assert not bench.busy(tmp_path)


def test_started_from_a_page_it_runs_beside_it_and_can_be_cancelled(tmp_path):
    bench.start(Plan(tuple(CONFIGS), "sums", (64,), 4, 500), tmp_path)
    found = bench.latest(tmp_path)
    assert found is not None and found.running and found.points == len(CONFIGS) and not found.measured
    assert bench.cancel(tmp_path)
    give_up = time.monotonic() + 20
    while bench.busy(tmp_path) and time.monotonic() < give_up:
        time.sleep(0.05)
    found = bench.latest(tmp_path)
    assert found is not None and found.cancelled and found.cut_short and not found.running and found.current is None
    assert not bench.cancel(tmp_path)


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path):
    assert bench.latest(tmp_path) is None
    path = bench.results(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"type": "bench')
    assert bench.latest(tmp_path) is None
    path.write_bytes(files.encode({"type": "benchmark", "model": "sums", "points": 2, "machine": {"cpu": "x"}}) + b'{"type": "meas')
    found = bench.latest(tmp_path)
    assert found == Benchmark("sums", {"cpu": "x"}, 2) and found.cut_short


def test_the_measuring_process_answers_with_one_line(tmp_path: Path):
    order = {"config": bench.point("sft", "sums", 4, 4).model_dump(mode="json"), "steps": 1, "profile": False}
    done = subprocess.run(
        [sys.executable, "-m", "rlhf.measure"], input=json.dumps(order), capture_output=True, text=True, timeout=120, cwd=bench.PACKAGE_ROOT
    )
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0 and math.isfinite(result["seconds"]) and result["steps"] == 1
