"""The run folder: what it keeps, what it refuses, and what it looks like after everything that can go wrong while it is written."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rlhf.errors import RunError
from rlhf.events import Checkpoint, Failed, Finished, Phase, Sample, Started, Step, Stopped
from rlhf.runs import (
    Run,
    RunWriter,
    create,
    delete,
    export_zip,
    files,
    import_zip,
    list_runs,
    metrics_csv,
    open_run,
    queued,
    runs_dir,
    undo_delete,
)
from tests.fake_training import DATA, settings, steady


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def finished(root: Path, **fields) -> Run:
    run = create(settings(**fields), DATA, root, queue=False)
    with RunWriter(run) as writer:
        writer.begin()
        for event in steady(settings(**fields), DATA):
            writer.write(event)
    return run


def append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize(
    "run_id", ["..", "../runs", "a/b", "/etc", "", ".", ".trash", "a..b", "a\\b", "a\0b", "a\n", "~", "x" * 200, "no-such-run"]
)
def test_ids_that_are_none_are_refused(root, run_id):
    create(settings(), DATA, root)
    with pytest.raises(RunError) as caught:
        open_run(run_id, root)
    assert caught.value.what and caught.value.do


def test_a_new_run_is_complete_and_waits(root):
    run = create(settings(seed=5), DATA, root, name="  My \n first ")
    again = open_run(run.id, root)
    assert run.id.startswith("grpo-sums-") and again.status.state == "queued" and again.status.steps == 6
    assert again.name == "My first" and again.load_config() == settings(seed=5) and again.load_data() == DATA
    assert set(again.config) == set(settings().model_dump()) and {"versions", "created", "parent"} <= again.info.keys()
    assert abs(again.created - time.time()) < 60 and again.problem == "" and again.last is None and again.metrics() == []
    assert again.request[0] == "run" and not list(root.glob(".new-*"))


def test_the_folder_comes_from_the_argument_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path / "there"))
    assert runs_dir() == tmp_path / "there" and runs_dir(tmp_path) == tmp_path
    monkeypatch.delenv("RLHF_RUNS_DIR")
    assert runs_dir() == Path.cwd() / "runs"


def test_two_hundred_runs_are_listed_fast_and_broken_ones_with_them(root):
    model = create(settings(), DATA, root)
    config = json.loads((model.path / "config.json").read_text())
    for i in range(200):
        folder = root / f"grpo-sums-{i:03d}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**config, "created": i}))
        (folder / "status.json").write_text(json.dumps({"state": "finished", "step": 1, "steps": 1}))
    broken = {
        "no-config": {"status.json": "{}"},
        "no-status": {"config.json": "{}"},
        "half": {"config.json": '{"algo', "status.json": "{}"},
    }
    broken |= {"list": {"config.json": "[]", "status.json": "[]"}, "binary": {"config.json": "\udcff\udcfe", "status.json": "\udcff"}}
    broken |= {"state": {"config.json": "{}", "status.json": '{"state": "flying"}'}}
    broken |= {"types": {"config.json": '{"created": "x"}', "status.json": '{"state": "queued", "since": "x", "step": []}'}}
    for name, contents in broken.items():
        (root / name).mkdir()
        for file, text in contents.items():
            (root / name / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    (root / "empty").mkdir()
    (root / "a file").write_text("")
    (root / "no-status" / "events.jsonl").write_bytes(b"\xff\n[]\n{}\n")

    clock = time.perf_counter()
    runs = list_runs(root)
    states = [run.status.state for run in runs]
    first = time.perf_counter() - clock
    clock = time.perf_counter()
    assert [run.status.state for run in list_runs(root)] == states
    assert first < 0.6 and time.perf_counter() - clock < 0.3
    assert len(runs) == 201 + len(broken) and states.count("finished") == 200
    regular = [run.id for run in runs if run.id not in broken]
    assert regular == [model.id, *(f"grpo-sums-{i:03d}" for i in reversed(range(200)))]
    for run in runs:
        if run.id in broken:
            assert run.status.state == "failed" and run.status.message and run.metrics() == [] and run.name == run.id
    assert queued(root) == [model]


def test_no_folder_yet_means_no_runs(root):
    assert list_runs(root) == [] and queued(root) == []


# ---------------------------------------------------------------- reading while it is written


def test_a_run_from_the_first_event_to_the_last(root):
    run = finished(root, seed=3)
    status = run.status
    assert (status.state, status.step, status.steps, status.phase, status.eta_seconds) == ("finished", 6, 6, "", None)
    assert [(row["step"], row.get("reward")) for row in run.metrics()] == [(0, None), *((i, 3 + i / 10) for i in range(1, 7))]
    assert run.distributions_at(4) == {"reward": [4.0]} and run.distributions_at(0) == {} and run.distributions_at(99) == {}
    assert run.sample_steps() == [1, 2, 3, 4, 5, 6] and run.samples_at(99) == []
    assert run.samples_at(2) == [{"step": 2, "split": "train", "prompt": "1+1=", "responses": [{"text": "answer 2"}]}]
    assert [info.name for info in run.checkpoints()] == ["step-2", "step-4", "step-6"] and run.last_step == 4
    assert run.checkpoint("step-2").is_dir() and run.info["resolved"] == {"device": "none"}
    seqs = [record["seq"] for record in run.events()[0]]
    assert seqs == list(range(len(seqs)))
    assert not (run.path / ".reserve").exists() and not run.alive
    for name in ("step-3", "../step-2", "last/..", ""):
        with pytest.raises(RunError, match="step-2, step-4, step-6"):
            run.checkpoint(name)


def test_reading_goes_on_from_an_offset_and_leaves_half_a_line(root):
    run = finished(root)
    records, offset = run.events()
    assert run.events(offset) == ([], offset)
    append(run.path / "events.jsonl", b'{"type": "step", "step": 7, "metr')
    assert run.events(offset) == ([], offset) and len(run.metrics()) == 7
    append(run.path / "events.jsonl", b'ics": {"reward": 9.0}}\n')
    (record,), end = run.events(offset)
    assert record["step"] == 7 and end > offset and run.metrics()[-1]["reward"] == 9.0
    append(run.path / "events.jsonl", b'garbage\n\xff\xfe\n[1]\n{"step": 8}\n')
    assert run.events(end)[0] == [{"step": 8}] and run.metrics()[-1]["step"] == 7
    assert run.events()[0][: len(records)] == records
    parts, offset = [], 0
    while (got := run.samples(offset))[0]:
        parts += got[0]
        offset = got[1]
    assert [part["step"] for part in parts] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("half", [b'{"type": "st', b'{"type": "step"}', b"\xe2\x82"])
def test_half_a_line_is_cut_when_the_run_goes_on(root, half):
    run = finished(root)
    before = len(run.events()[0])
    for name in ("events.jsonl", "samples.jsonl"):
        append(run.path / name, half)
    with RunWriter(run) as writer:
        writer.begin()
        writer.write(Started(4, 6, {}))
        writer.write(Sample(5, {"prompt": "new"}))
        writer.write(Step(5, {"reward": -1.0}))
    records, _ = run.events()
    assert len(records) == before + 2 and [r["seq"] for r in records] == list(range(before + 2))
    assert [row["step"] for row in run.metrics()] == [0, 1, 2, 3, 4, 5] and run.metrics()[-1]["reward"] == -1.0
    assert [r["prompt"] for r in run.samples_at(5)] == ["new"] and run.samples_at(6) == []  # done again: the old ones are gone


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a", b"a\n", b"a\nb", b"\n\nb", b"x" * 200_000, b"a\n" + b"x" * 200_000, b"a\n" * 90_000 + b"b"]
)
def test_cutting_leaves_whole_lines(tmp_path, content):
    path = tmp_path / "lines"
    path.write_bytes(content)
    files.JsonLines(path).close()
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_strange_values_become_strict_json(tmp_path):
    lines = files.JsonLines(tmp_path / "lines")
    lines.append(
        {"nan": float("nan"), "deep": [{"inf": (float("inf"), 1.0)}], "text": "a\ud800\u2028\nb", "path": Path("x"), "set": {2, 1}}
    )
    lines.close()
    ((_, line),) = files.read_lines(tmp_path / "lines")
    record = json.loads(line)
    assert record["nan"] is None and record["deep"] == [{"inf": [None, 1.0]}] and record["set"] == [1, 2] and "\u2028\nb" in record["text"]


def test_json_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"v": 1})
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full_disk)
        with pytest.raises(OSError):
            files.write_json(path, {"v": 2})
    assert files.read_json(path) == {"v": 1} and os.listdir(tmp_path) == ["a.json"]
    for value in range(50):  # written again within one tick of the file system's clock
        files.write_json(path, {"v": value})
        assert files.read_json(path) == {"v": value}


def test_the_process_that_holds_a_run_is_the_only_one(root):
    run = create(settings(), DATA, root, queue=False)
    with RunWriter(run) as writer:
        writer.begin()
        assert run.alive and run.status.state == "running" and run.status.phase == "loading"
        with pytest.raises(RunError, match="already running"):
            RunWriter(run)
        with pytest.raises(RunError, match="running"):
            delete(run)
        writer.write(Started(0, 6, {}))
        writer.write(Step(1, {}))
        writer.write(Phase(2, "sampling"))
        assert (run.status.step, run.status.phase) == (1, "sampling") and run.status.memory_bytes
        writer.write(Step(2, {}))
        assert run.status.eta_seconds is not None and run.status.steps_per_second
    status = run.status  # nobody said how it ended
    assert (status.state, status.step) == ("interrupted", 2) and "beginning" in status.do and status.message


def test_many_who_look_do_not_see_each_other(tmp_path):
    path = tmp_path / "lock"
    lock = files.hold(path)
    assert lock and files.is_held(path) and files.hold(path) is None
    lock.release()
    import fcntl

    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # another reader's look
        assert not files.is_held(path)
    assert not files.is_held(tmp_path / "none")


# ---------------------------------------------------------------- checkpoints


def test_last_is_complete_or_the_one_before(root):
    run = create(settings(), DATA, root, queue=False)

    def save(text, fail=False):
        def into(folder):
            (folder / "model").write_text(text)
            if fail:
                raise ValueError("in the middle of a save")

        return into

    with RunWriter(run) as writer:
        writer.begin()
        writer.write(Started(0, 6, {}))
        writer.write(Checkpoint(1, save("one"), True))
        with pytest.raises(ValueError, match="middle"):
            writer.write(Checkpoint(2, save("two", fail=True), True))
        assert run.last and (run.last / "model").read_text() == "one" and run.last_step == 1
        writer.write(Checkpoint(3, save("three"), True))
        assert run.last and (run.last / "model").read_text() == "three" and run.last_step == 3
        assert os.listdir(run.path / "checkpoints") == ["last"]
    folder = run.path / "checkpoints"
    os.rename(folder / "last", folder / ".last-old")  # killed between the two renames
    (folder / ".last-new").mkdir()
    assert run.last_step == 3
    RunWriter(run).close()
    assert os.listdir(folder) == ["last"]


def test_a_run_that_ends_early_keeps_its_model_as_a_checkpoint(root):
    run = create(settings(), DATA, root, queue=False)
    with RunWriter(run) as writer:
        writer.begin()
        for event in steady(settings(), DATA, interrupted=lambda: run.metrics()[-1]["step"] == 3):
            run.ask("stop_keep") if isinstance(event, Stopped) else None
            writer.write(event)
    assert run.status.state == "stopped" and [info.name for info in run.checkpoints()] == ["step-2", "step-3"]
    assert os.listdir(run.checkpoint("step-3")).count("training_state.pt") == 0


# ---------------------------------------------------------------- full disk


def full_disk(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_run_is_made_on_a_full_disk(root, monkeypatch):
    monkeypatch.setattr(files, "write_all", full_disk)
    with pytest.raises(RunError, match="is full") as caught:
        create(settings(), DATA, root)
    assert "Delete runs" in caught.value.do and list_runs(root) == [] and os.listdir(root) == []


@pytest.mark.parametrize("what", ["events.jsonl", "samples.jsonl", "checkpoint"])
def test_a_disk_that_fills_up_ends_the_run_in_words(root, monkeypatch, what):
    run = create(settings(), DATA, root, queue=False)
    really = os.write

    def write(descriptor, view):
        if what in os.readlink(f"/proc/self/fd/{descriptor}"):
            if len(view) > 40:
                return really(descriptor, bytes(view[:20]))  # a part fits
            full_disk()
        return really(descriptor, view)

    def save(folder):
        if what == "checkpoint":
            raise RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)")
        (folder / "training_state.pt").write_text("2")

    with RunWriter(run) as writer:
        writer.begin()
        for event in (Started(0, 6, {}), Sample(1, {"prompt": "p" * 100}), Step(1, {"reward": 1.0})):
            writer.write(event)
        before = {name: (run.path / name).read_bytes() for name in ("events.jsonl", "samples.jsonl", "config.json")}
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(RunError, match="disk is full"):
            for event in (Sample(2, {"prompt": "p" * 100}), Step(2, {"reward": 2.0}), Checkpoint(2, save, True)):
                writer.write(event)
        assert writer.state == "failed"
    monkeypatch.undo()
    status = run.status
    assert status.state == "failed" and "disk is full" in status.message and "Delete runs" in status.do
    for name, content in before.items():
        now = (run.path / name).read_bytes()
        assert now.startswith(content) and (not now or now.endswith(b"\n"))
        assert all(files.parse(line) for line in now.splitlines())
    assert run.metrics()[0]["reward"] == 1.0 and run.last is None and not list((run.path / "checkpoints").iterdir())
    with RunWriter(run) as writer:  # there is space again
        writer.begin()
        for event in steady(settings(), DATA):
            writer.write(event)
    assert run.status.state == "finished" and len(run.metrics()) == 7


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if not mounted or mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_a_real_disk_that_fills_up(small_disk, library):
    """With the libraries' own words for it, which differ from the system's."""
    run = create(settings(), DATA, small_disk / "runs", queue=False)

    def save(folder):
        if library == "torch":
            import torch

            torch.save({"weights": torch.zeros(1_000_000)}, folder / "training_state.pt")
        else:
            from safetensors.numpy import save_file

            save_file({"weights": np.zeros(1_000_000, np.float32)}, folder / "model.safetensors")

    with RunWriter(run) as writer:
        writer.begin()
        for event in (Started(0, 6, {}), Step(1, {"reward": 1.0})):
            writer.write(event)
        with pytest.raises(RunError, match="disk is full"):
            writer.write(Checkpoint(1, save, True))
    assert run.status.state == "failed" and "disk is full" in run.status.message and len(run.metrics()) == 1

    gone = finished(small_disk / "runs")
    (gone.path / "events.jsonl").write_bytes(b"x" * 1_000_000)
    delete(gone)  # what was deleted makes room at once

    def fits(folder):
        (folder / "weights").write_bytes(b"x" * 1_500_000)

    with RunWriter(run) as writer:
        writer.begin()
        writer.write(Checkpoint(1, fits, True))
    assert run.last_step == 1 and not list((small_disk / "runs" / ".trash").iterdir())

    (small_disk / "rest").write_bytes(b"")
    with RunWriter(run) as writer, open(small_disk / "rest", "wb", buffering=0) as rest:
        writer.begin()
        with pytest.raises(OSError, match="No space"):
            while rest.write(b"x" * 4096):
                pass
        with pytest.raises(RunError, match="disk is full"):
            for step in range(2, 200):
                writer.write(Step(step, {"reward": 1.0}, {"reward": [0.0] * 256}))
    assert run.status.state == "failed" and "disk is full" in run.status.message and run.problem == ""
    records, offset = run.events()
    assert offset == (run.path / "events.jsonl").stat().st_size and [r["seq"] for r in records] == list(range(len(records)))


def test_a_disk_without_even_the_reserve_leaves_an_interrupted_run(root, monkeypatch):
    run = create(settings(), DATA, root, queue=False)
    with RunWriter(run) as writer:
        writer.begin()
        writer.write(Started(0, 6, {}))
        monkeypatch.setattr(os, "write", full_disk)
        with pytest.raises(RunError, match="disk is full"):
            writer.write(Step(1, {"reward": 1.0}))
    monkeypatch.undo()
    assert run.status.state == "interrupted" and run.metrics() == [] and run.problem == ""


def test_a_folder_that_was_removed_under_a_run(root):
    import shutil

    run = create(settings(), DATA, root, queue=False)
    with RunWriter(run) as writer:
        writer.begin()
        shutil.rmtree(run.path)
        with pytest.raises(RunError, match="cannot be written"):
            writer.write(Started(0, 6, {}))
    assert not run.path.exists()
    with pytest.raises(RunError, match="no run"):
        RunWriter(run)
    assert not run.path.exists() and run.status.state == "failed"
    with pytest.raises(RunError):
        run.rename("gone")


# ---------------------------------------------------------------- names, trash


def test_rename(root):
    run = finished(root)
    run.rename("Größer <b> \t than\nlife ")
    assert run.name == "Größer <b> than life" and open_run(run.id, root).name == run.name
    run.rename("x" * 500)
    assert len(run.name) == 120
    run.rename("  ")
    assert run.name == run.id and not (run.path / "name.txt").exists()


def test_delete_and_undo(root):
    run, other = finished(root), finished(root)
    metrics = run.metrics()
    token = delete(run)
    assert list_runs(root) == [other] and run.status.state == "failed" and run.metrics() == []
    with pytest.raises(RunError):
        delete(run)
    assert undo_delete(token, root) == run and run.metrics() == metrics and run.status.state == "finished"
    for bad in (token, "..", f"../{token}", "a~00000000", ""):
        with pytest.raises(RunError, match="trash"):
            undo_delete(bad, root)


def test_the_trash_is_emptied_after_a_day(root):
    old, new = finished(root), finished(root)
    token = delete(old)
    os.utime(root / ".trash" / token, (time.time() - 90_000, time.time() - 90_000))
    assert delete(new) and len(os.listdir(root / ".trash")) == 1
    with pytest.raises(RunError, match="trash"):
        undo_delete(token, root)


# ---------------------------------------------------------------- zip and csv


def test_metrics_as_csv(root):
    lines = metrics_csv(finished(root)).splitlines()
    assert lines[0] == "step,time,eval/reward,reward" and len(lines) == 8 and lines[1].endswith(",0.0,") and lines[7].endswith(",,0.6")
    assert metrics_csv(create(settings(), DATA, root)) == "step,time\n"


def test_zip_there_and_back(root, tmp_path):
    run = finished(root)
    run.rename("Packed")
    packed = export_zip(run)
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert f"{run.id}/checkpoints/step-2/model.safetensors" in names and not any("lock" in name or "/." in name for name in names)

    there = import_zip(io.BytesIO(packed), tmp_path / "elsewhere")
    assert there.id == run.id and there.name == "Packed" and there.metrics() == run.metrics() and there.status == run.status
    assert there.load_config() == run.load_config() and there.samples_at(3) == run.samples_at(3) and there.load_data() == DATA
    assert (there.checkpoint("last") / "training_state.pt").read_text() == "4"
    twin = import_zip(io.BytesIO(packed), root)
    assert twin.id != run.id and twin.info["id"] == twin.id and len(list_runs(root)) == 2

    flat = io.BytesIO()  # the folder's content without the folder
    with zipfile.ZipFile(io.BytesIO(packed)) as source, zipfile.ZipFile(flat, "w") as sink:
        for name in source.namelist():
            sink.writestr(name.removeprefix(f"{run.id}/"), source.read(name))
    assert import_zip(flat, root).metrics() == run.metrics()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_an_unpacked_run_neither_runs_nor_waits(root, state):
    run = create(settings(), DATA, root, queue=state == "queued")
    there = import_zip(io.BytesIO(export_zip(run)), root)
    assert there.status.state == "interrupted" and there not in queued(root)


def packed(**members: bytes | str) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


RUN = {"run/config.json": '{"algorithm": "grpo"}', "run/status.json": '{"state": "finished"}'}


def damaged() -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in RUN.items():
            archive.writestr(name, content + " " * 5000)
    content = bytearray(out.getvalue())
    content[45:60] = b"\xff" * 15  # inside the first member's compressed bytes
    return io.BytesIO(bytes(content))


def encrypted() -> io.BytesIO:
    content = bytearray(packed(**RUN).getvalue())
    for start in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[start] |= 1
    return io.BytesIO(bytes(content))


def bzipped() -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in RUN.items():
            archive.writestr(name, content)
    return out


HOSTILE = {
    "no zip": lambda: io.BytesIO(b"hello"),
    "empty": lambda: io.BytesIO(b""),
    "cut": lambda: io.BytesIO(packed(**RUN).getvalue()[:-30]),
    "damaged": damaged,
    "encrypted": encrypted,
    "bzip2": bzipped,
    "no run": lambda: packed(**{"readme.txt": "hello"}),
    "no members": packed,
    "no status": lambda: packed(**{"run/config.json": '{"algorithm": "grpo"}'}),
    "damaged status": lambda: packed(**{**RUN, "run/status.json": "{"}),
    "status of wrong types": lambda: packed(**{**RUN, "run/status.json": '{"state": "finished", "step": "<b>", "since": {}}'}),
    "a model": lambda: packed(**{"config.json": '{"architectures": ["Llama"]}', "model.safetensors": b"x"}),
    "file where a folder is": lambda: packed(**{**RUN, "run/checkpoints/last/a": "x", "run/checkpoints/last/a/b": "x"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_zips_that_hold_no_run_leave_nothing(root, kind):
    with pytest.raises(RunError) as caught:
        import_zip(HOSTILE[kind](), root)
    assert caught.value.what and caught.value.do
    assert list_runs(root) == [] and not (root.exists() and os.listdir(root))


def test_no_path_of_a_zip_leads_out_of_the_run(root, tmp_path):
    bad = ["../evil", "run/../../evil", "/evil", "run/.hidden", "run/run.lock", "run/evil.py", "C:\\evil"]
    bad += [f"run/checkpoints/{name}" for name in ("step-1/../../../evil", "last/.x", "../evil", "evil", "last/a\\..\\evil")]
    run = import_zip(packed(**RUN, **dict.fromkeys(bad, "evil"), **{"run/checkpoints/step-1/model": "good"}), root)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(f"runs/run/{name}" for name in ("checkpoints/step-1/model", "config.json", "status.json"))
    assert run.id == "run"
    for prefix in ("../../", "/", "../", "a/../.trash/"):
        made = import_zip(packed(**{f"{prefix}{name.partition('/')[2]}": content for name, content in RUN.items()}), root)
        assert made.path.parent == root and made.path.is_dir() and made.id not in ("..", ".trash")


def test_a_zip_that_is_too_large_is_refused_before_it_is_unpacked(root, monkeypatch):
    from rlhf.runs import archive

    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(RunError, match="larger"):
        import_zip(packed(**RUN, **{"run/events.jsonl": " " * 2000}), root)
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    with pytest.raises(RunError, match="larger"):
        import_zip(packed(**RUN), root)
    assert not root.exists()


def test_ends_are_told(root):
    for event, state in ((Finished(1), "finished"), (Failed(1, "what", "do"), "failed"), (Stopped(1), "stopped")):
        run = create(settings(), DATA, root, queue=False)
        with RunWriter(run) as writer:
            writer.begin()
            writer.write(Started(0, 6, {}))
            writer.write(event)
        assert run.status.state == state == writer.state
