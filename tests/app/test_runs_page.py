"""Runs: the table, the selection by run, rename, delete and undo, settings, overlays, import; and that it stays quick with 200 runs."""

from __future__ import annotations

import io
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest

from pages.components import overlay, run_details, run_table
from rlhf import runs
from rlhf.runs import Run
from tests.app.opening import open_page, press, texts
from tests.canned import canned_run, canned_runs, canned_writer

page = partial(open_page, "runs")
pytestmark = pytest.mark.usefixtures("root")


def quick(root: Path, algorithm: str = "grpo", **fields: object) -> Run:
    return canned_run(root, algorithm, steps=4, weights=False, **fields)  # pyright: ignore[reportArgumentType]


def test_no_runs_yet():
    at = page()
    assert not at.exception and "no runs yet" in texts(at)


def test_every_state_and_algorithm_has_a_row(root: Path):
    made = canned_runs(root)
    at = page()
    assert not at.exception
    frame = at.dataframe[0].value
    assert set(frame["name"]) == {run.name for run in made}
    assert {"Finished", "Paused", "Stopped", "Interrupted", "Failed", "Queued"} <= set(frame["state"])
    assert all(len(curve) <= run_table.CURVE_POINTS for curve in frame["curve"])


def test_damaged_folder_does_not_hide_the_others(root: Path):
    run = quick(root)
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{ not json")
    at = page()
    assert not at.exception and set(at.dataframe[0].value["name"]) == {run.id, "broken"}
    assert "damaged" in texts(page(run="broken"))


def test_link_opens_a_run(root: Path):
    run = quick(root, name="mine")
    at = page(run=run.id)
    assert not at.exception
    assert [widget.value for widget in at.text_input if widget.key == f"runs/name/{run.id}"] == ["mine"]


@pytest.mark.parametrize("link", ["..", "no-such-run", "a/b"])
def test_bad_link_is_told(root: Path, link: str):
    quick(root)
    at = page(run=link)
    assert not at.exception and at.warning


def test_rename(root: Path):
    run = quick(root)
    at = page(run=run.id)
    next(widget for widget in at.text_input if widget.key == f"runs/name/{run.id}").set_value("  a <b>better</b>\nname ").run()
    assert not at.exception and run.name == "a <b>better</b> name"
    assert "a <b>better</b> name" in set(at.dataframe[0].value["name"])


def test_delete_and_undo(root: Path):
    run, other = quick(root, name="one"), quick(root, name="two")
    at = press(page(run=run.id), "runs/delete")
    assert not at.exception and "Deleted one" in texts(at)
    assert [r.id for r in runs.list_runs(root)] == [other.id]
    at = press(at, "runs/undo")
    assert not at.exception and {r.id for r in runs.list_runs(root)} == {run.id, other.id}
    assert at.session_state[run_table.SELECTED] == [run.id]


def test_delete_several_and_undo(root: Path):
    made = [quick(root, name=name) for name in ("one", "two", "three")]
    at = press(page(runs=",".join(run.id for run in made[:2])), "runs/delete")
    assert "Deleted 2 runs" in texts(at) and [r.id for r in runs.list_runs(root)] == [made[2].id]
    at = press(at, "runs/undo")
    assert not at.exception and len(runs.list_runs(root)) == 3


def test_a_run_under_way_is_not_deleted(root: Path):
    with canned_writer(root, "grpo", steps=4, weights=False) as writer:
        at = press(page(run=writer.run.id), "runs/delete")
        assert not at.exception and "Stop it" in texts(at) and writer.run.path.is_dir()


def test_settings_show_what_differs(root: Path):
    run = quick(root, learning_rate=3e-5)
    at = page(run=run.id)
    at.segmented_control(key="runs/part").set_value("settings").run()
    assert not at.exception
    frame = at.dataframe[1].value.set_index("setting")
    assert frame.loc["learning_rate", "value"] == "3e-05" and frame.loc["learning_rate", "default"] == "0.0001"
    assert "temperature" not in frame.index
    at.toggle(key="runs/diff").set_value(False).run()
    assert "temperature" in at.dataframe[1].value["setting"].tolist()


def test_overlay_of_runs_with_the_settings_that_differ(root: Path):
    one, two = quick(root, seed=1, name="one"), quick(root, seed=2, name="two")
    at = page(runs=f"{one.id},{two.id}")
    assert not at.exception
    frame = at.dataframe[1].value
    assert frame.iloc[:, 0].tolist() == ["seed"] and frame["one"].tolist() == ["1"] and frame["two"].tolist() == ["2"]
    at.selectbox(key="runs/metric").set_value("kl").run()
    at.toggle(key="runs/log").set_value(True).run()
    assert not at.exception and "log π_ref" in texts(at)


def test_overlay_of_different_algorithms(root: Path):
    made = [quick(root, "grpo"), quick(root, "dpo")]
    at = page(runs=",".join(run.id for run in made))
    assert not at.exception


def test_same_names_stay_apart(root: Path):
    made = [quick(root, name="<b>twin</b>"), quick(root, name="<b>twin</b>")]
    named = overlay.named(made)
    assert len(named) == 2 and all("<" not in name for name in named)


def test_metrics_that_all_have_come_first():
    keys = overlay.shared_first([{"step", "reward", "kl", "eval/reward"}, {"step", "reward", "loss"}])
    assert keys == ["reward", "kl", "loss"]


def test_curve_is_short_and_ends_where_the_run_did():
    rows = [{"step": i, "reward": float(i)} for i in range(1000)]
    found = run_table.curve(rows, "reward")
    assert len(found) <= run_table.CURVE_POINTS and found[0] < found[-1] and found[-1] > 950
    assert run_table.curve([{"step": 0, "eval/reward": 1.0}], "reward") == []


def test_heldout_figures_before_and_after():
    rows = [{"step": 0, "eval/reward": -0.6}, {"step": 1, "reward": 0.1}, {"step": 2, "reward": 0.3, "eval/reward": 0.5}]
    assert run_table.before_after(rows, "reward") == "−0.600 → +0.500"
    assert run_table.before_after(rows[:2], "reward") == "−0.600 → …", "figures of training do not stand in for held-out ones"
    assert run_table.before_after([], "reward") == ""


def test_checkpoint_zip_holds_what_loads(root: Path):
    run = canned_run(root, "grpo", model="sums", steps=4)
    names = zipfile.ZipFile(io.BytesIO(run_details.zip_folder(run.checkpoint("step-4")))).namelist()
    assert {"step-4/model.safetensors", "step-4/config.json", "step-4/tokenizer.json"} <= set(names)


def test_reward_mix_is_written_as_on_the_command_line():
    assert run_details.written([{"name": "negative", "weight": 1.0}, {"name": "length", "weight": 0.5}]) == "negative:1, length:0.5"
    assert run_details.written(None) == "–" and run_details.written("<b>") == "<b>" and run_details.written([]) == "[]"


def test_two_hundred_runs_are_listed_quickly(root: Path):
    """The first look reads every run's events; after that a poll must not be felt."""
    first = quick(root)
    for i in range(199):
        copy = root / f"{first.id}-{i}"
        copy.mkdir()
        for name in ("config.json", "status.json", "events.jsonl", "data.jsonl"):
            (copy / name).write_bytes((first.path / name).read_bytes())
    assert len(run_table.frame(runs.list_runs(root))) == 200
    began = time.process_time()
    run_table.frame(runs.list_runs(root))
    assert time.process_time() - began < 1.0
