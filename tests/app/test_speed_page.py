"""The Speed page: empty at first, starts a benchmark in another process, shows its figures, and lets nobody start a second one."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.components import speed
from rlhf import bench
from rlhf.errors import RunError
from rlhf.runs import files
from tests.app.opening import open_page, texts

MACHINE = {
    "cpu": "A processor", "cores": 2, "memory_gib": 16.0, "python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "load": 0.1,
    "time": "2026-01-02 03:04",
}  # fmt: skip
POINT = {
    "algorithm": "grpo", "model": "story", "sequences": 64, "tokens": 48, "steps": 5, "seconds": 0.5, "fastest": 0.45, "slowest": 0.6,
    "tokens_per_second": 5000.0, "memory_mib": 700.0, "device": "cpu, 2 threads", "parameters": 1_566_880,
    "parts": {"sampling": 0.2, "reward": 0.01, "forward": 0.1, "backward": 0.15, "optimizer": 0.02, "other": 0.02},
}  # fmt: skip


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    bench.results(tmp_path).parent.mkdir(parents=True)
    return tmp_path


def write(root: Path, *lines: dict[str, Any], points: int = 1) -> None:
    header = {"type": "benchmark", "model": "story", "points": points, "machine": MACHINE}
    bench.results(root).write_bytes(b"".join(map(files.encode, (header, *lines))))


def speed_page() -> AppTest:
    return open_page("speed")


def test_nothing_was_measured_yet():
    at = speed_page()
    assert "Nothing has been measured" in texts(at) and not at.dataframe and not at.button(key="speed/measure").disabled


def test_measure_starts_what_was_chosen(monkeypatch):
    asked: list[bench.Plan] = []
    monkeypatch.setattr(bench, "start", lambda plan, root=None: asked.append(plan))
    at = speed_page()
    at.multiselect(key="speed/algorithms").set_value(["rrhf", "dpo"])
    at.multiselect(key="speed/batches").set_value([128, 16])
    at.number_input(key="speed/tokens").set_value(12)
    at.run()
    at.button(key="speed/measure").click().run()
    assert not at.exception and asked == [bench.Plan(("rrhf", "dpo"), "story", (16, 128), 12, 5)]


def test_what_keeps_it_from_starting_is_said(monkeypatch):
    def refused(plan, root=None):
        raise RunError("Another benchmark is being measured.", "Wait.")

    monkeypatch.setattr(bench, "start", refused)
    at = speed_page()
    at.button(key="speed/measure").click().run()
    assert any("Another benchmark" in element.value for element in at.error)
    at.multiselect(key="speed/algorithms").set_value([]).run()
    assert at.button(key="speed/measure").disabled


def test_figures_machine_and_failures_are_shown(root):
    failure = {
        "type": "failed",
        "algorithm": "ppo",
        "sequences": 64,
        "what": "The device ran out of *memory*.",
        "do": "Choose a smaller batch.",
    }
    write(root, {"type": "measured", **POINT}, failure, points=2)
    at = speed_page()
    (frame,) = at.dataframe
    assert frame.value["Steps/s"].tolist() == ["2.00"] and frame.value["Peak memory"].tolist() == ["700 MiB"]
    assert frame.value["sampling (ms)"].tolist() == ["200"] and frame.value["reference (ms)"].tolist() == ["0"]
    assert "A processor" in texts(at) and "2.13.0" in texts(at) and "busy" not in texts(at)
    assert any(r"\*memory\*" in element.value for element in at.error)


def test_while_one_is_measured_a_second_user_waits(root, monkeypatch):
    held = files.hold(bench.lock(root))
    assert held is not None
    try:
        write(root, {"type": "measured", **POINT}, {"type": "measuring", "algorithm": "dpo", "sequences": 64}, points=3)
        at = speed_page()
        assert at.button(key="speed/measure").disabled and "Wait until it has ended" in texts(at)
        cancelled: list[bool] = []
        monkeypatch.setattr(bench, "cancel", lambda root=None: cancelled.append(True))
        at.button(key="speed/cancel").click().run()
        assert cancelled and len(at.dataframe) == 1
    finally:
        held.release()
    at = speed_page()
    assert "cut short" in texts(at) and not at.button(key="speed/measure").disabled


def test_bars_and_csv_hold_the_measured_numbers(root):
    write(root, {"type": "measured", **POINT})
    found = bench.latest(root)
    assert found is not None
    figure = speed.bars(found.measured, is_dark=False)
    drawn = {trace.name: trace.x[0] for trace in figure.data}
    assert drawn == {name: value for name, value in POINT["parts"].items() if value}
    assert set(speed.COLOURS) == set(bench.PARTS) == set(speed.part_names())
    (row,) = csv.DictReader(io.StringIO(speed.csv_text(found)))
    assert float(row["seconds"]) == 0.5 and float(row["backward_seconds"]) == 0.15 and row["cpu"] == "A processor"
