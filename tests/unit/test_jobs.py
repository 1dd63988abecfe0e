"""The queue, what a user can do with a run, and the worker: with a stand-in for the training, and once with the real one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from rlhf import jobs, worker
from rlhf.algorithms import make_config
from rlhf.errors import ModelError, RunError
from rlhf.events import Checkpoint, Started, Step
from rlhf.preferences import Dataset, Prompt
from rlhf.runs import Run, RunWriter, create, delete, files, list_runs
from tests.fake_training import DATA, settings, start_worker, steady, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder for which nothing starts a worker of its own."""
    monkeypatch.setattr(jobs, "ensure_worker", lambda root=None: None)
    return runs_root


def state(run: Run) -> str:
    return run.status.state


def steps(run: Run) -> list[int]:
    return [row["step"] for row in run.metrics()]


def asks(run: Run, at: int, what):
    """An ``on_event`` that does something when a step is done."""
    return lambda event: what(run) if isinstance(event, Step) and event.step == at else None


# ---------------------------------------------------------------- the queue


def test_the_queue_is_in_order_and_everyone_knows_the_place(root):
    runs = [jobs.submit(settings(seed=i), DATA, name=f"run {i}") for i in range(4)]
    assert jobs.queue() == runs == jobs.active() and [run.status.queue_place for run in runs] == [1, 2, 3, 4]
    jobs.stop(runs[0], keep=True)
    jobs.pause(runs[2])
    assert [run.status.queue_place for run in runs] == [None, 1, None, 2] and state(runs[2]) == "paused"
    jobs.resume(runs[2])  # at the end again
    assert jobs.queue() == [runs[1], runs[3], runs[2]]
    delete(runs[3])
    assert runs[2].status.queue_place == 2
    claimed = worker._claim(root)
    assert claimed is not None and claimed.run == runs[1] and state(runs[1]) == "running" and jobs.queue() == [runs[2]]
    assert jobs.active() == [runs[1], runs[2]]
    claimed.close()


def test_the_expected_wait_follows_earlier_runs(root):
    first, second, third = (jobs.submit(settings(), DATA) for _ in range(3))
    assert jobs.expected_wait(first) == 0.0 and jobs.expected_wait(second) is None  # nothing is known of such runs yet
    writer = RunWriter(first)
    writer.begin()
    status = first.raw_status() or {}
    files.write_json(first.path / "status.json", {**status, "eta_seconds": 30.0, "steps_per_second": 2.0, "updated": time.time()})
    assert jobs.expected_wait(second) == pytest.approx(30, abs=1) and jobs.expected_wait(third) == pytest.approx(33, abs=1)
    assert jobs.expected_wait(first) is None  # it does not wait
    writer.close()


def test_two_slots_wait_less(root, monkeypatch):
    monkeypatch.setenv("RLHF_SLOTS", "2")
    runs = [jobs.submit(settings(), DATA) for _ in range(4)]
    done = create(settings(), DATA, queue=False)
    with RunWriter(done) as writer:
        writer.begin()
        writer.end("finished", steps_per_second=2.0)
    files.write_json(done.path / "status.json", {**(done.raw_status() or {}), "steps_per_second": 2.0})
    assert [jobs.expected_wait(run) for run in runs] == [0.0, 0.0, 3.0, 3.0]


@pytest.mark.parametrize("slots", ["0", "-1", "many", "1000", ""])
def test_a_number_of_slots_that_is_none_is_refused(monkeypatch, slots):
    monkeypatch.setenv("RLHF_SLOTS", slots)
    with pytest.raises(RunError, match="RLHF_SLOTS"):
        jobs.slot_count()


def test_two_submits_at_once_from_threads_and_processes(root):
    code = "from rlhf import jobs; from tests.fake_training import DATA, settings\njobs.ensure_worker = print\n"
    code += "for _ in range(5): print(jobs.submit(settings(), DATA).id)"
    children = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        ids = [run.id for run in pool.map(lambda _: jobs.submit(settings(), DATA), range(12))]
    for child in children:
        output, _ = child.communicate(timeout=60)
        ids += [line for line in output.splitlines() if line.startswith("grpo-")]
    assert len(ids) == len(set(ids)) == 22
    queue = jobs.queue()
    assert {run.id for run in queue} == set(ids)
    assert sorted(run.status.queue_place or 0 for run in queue) == list(range(1, 23))


def test_a_run_is_claimed_once(root):
    for _ in range(6):
        jobs.submit(settings(), DATA)
    with ThreadPoolExecutor(4) as pool:
        claimed = [writer for writer in pool.map(lambda _: worker._claim(root), range(8)) if writer]
    assert len({writer.run.id for writer in claimed}) == len(claimed) == 6
    for writer in claimed:
        writer.close()


# ---------------------------------------------------------------- pause, resume, stop


def test_a_run_in_this_process(root):
    run = jobs.submit(settings(), DATA)
    seen = []
    assert worker.run_one(run, source=steady, on_event=seen.append) == "finished" == state(run)
    assert steps(run) == [0, 1, 2, 3, 4, 5, 6] and len(seen) > 10 and not run.alive
    for call in (jobs.pause, jobs.stop, partial(jobs.stop, keep=False)):
        call(run)  # too late: nothing happens
        assert state(run) == "finished" and run.checkpoints()
    with pytest.raises(RunError, match="finished"):
        jobs.resume(run)


def test_pause_and_resume_of_a_run_under_way(root):
    run = jobs.submit(settings(seed=2), DATA)
    assert worker.run_one(run, source=steady, on_event=asks(run, 3, jobs.pause)) == "paused"
    status = run.status
    assert (status.state, status.step) == ("paused", 3) and "step 3 of 6" in status.message and run.last_step == 3
    jobs.pause(run)
    assert state(run) == "paused"
    jobs.resume(run)
    jobs.resume(run)
    assert (status := run.status).state == "queued" and status.step == 3 and run.request[0] == "run"
    assert worker.run_one(run, source=steady) == "finished"
    assert [(row["step"], row.get("reward")) for row in run.metrics()] == [(0, None), *((i, 2 + i / 10) for i in range(1, 7))]
    starts = [record["step"] for record in run.events()[0] if record["type"] == "started"]
    assert starts == [0, 3]


def test_stop_and_keep_then_resume(root):
    run = jobs.submit(settings(), DATA)
    assert worker.run_one(run, source=steady, on_event=asks(run, 3, partial(jobs.stop, keep=True))) == "stopped"
    assert "kept" in run.status.message and [info.step for info in run.checkpoints()] == [2, 3]
    jobs.resume(run)
    assert worker.run_one(run, source=steady) == "finished" and steps(run) == [0, 1, 2, 3, 4, 5, 6]


def test_stop_and_discard(root):
    run = jobs.submit(settings(), DATA)
    assert worker.run_one(run, source=steady, on_event=asks(run, 3, partial(jobs.stop, keep=False))) == "stopped"
    assert run.checkpoints() == [] and run.last is None and steps(run) == [0, 1, 2, 3] and run.status.discarded
    with pytest.raises(RunError, match="discarded"):
        jobs.resume(run)


@pytest.mark.parametrize("before", ["queued", "paused", "stopped", "interrupted", "failed"])
@pytest.mark.parametrize("keep", [True, False])
def test_stop_of_a_run_that_is_not_under_way(root, before, keep):
    run = jobs.submit(settings(), DATA)
    if before != "queued":
        with RunWriter(run) as writer:
            writer.begin()
            writer.write(Started(0, 6, {}))
            writer.write(Checkpoint(2, lambda folder: None, True))
            if before != "interrupted":
                writer.end(before, "as it was")
    jobs.stop(run, keep=keep)
    status = run.status
    assert status.state == ("failed" if before == "failed" and keep else "stopped") and jobs.queue() == []
    assert status.discarded is not keep and (run.last is not None) == (keep and before != "queued")


def test_a_pause_that_is_taken_back_in_time_changes_nothing(root):
    """Between the request and the end of its checkpoint the user may click Resume: the run must not stay stopped."""
    run = jobs.submit(settings(), DATA)

    def clicks(event):
        if isinstance(event, Step) and event.step == 3 and not clicked:
            jobs.pause(run)
        elif isinstance(event, Checkpoint) and run.request[0] == "pause":
            clicked.append(event)
            jobs.resume(run)

    clicked = []
    assert worker.run_one(run, source=steady, on_event=clicks) == "finished"
    assert clicked and steps(run) == [0, 1, 2, 3, 4, 5, 6] and [info.step for info in run.checkpoints()] == [2, 4, 6]


def test_a_worker_that_must_leave_leaves_an_interrupted_run(root):
    run = jobs.submit(settings(), DATA)
    assert worker.run_one(run, source=steady, leaving=lambda: "The machine shuts down." if len(steps(run)) > 3 else "") == "interrupted"
    assert run.status.message == "The machine shuts down." and run.last_step == 3
    jobs.resume(run)
    assert worker.run_one(run, source=steady) == "finished" and steps(run) == [0, 1, 2, 3, 4, 5, 6]


def test_a_run_whose_lock_is_free_is_interrupted_and_resumes(root):
    run = jobs.submit(settings(), DATA)
    with RunWriter(run) as writer:
        writer.begin()
        for event in steady(settings(), DATA):
            writer.write(event)
            if isinstance(event, Step) and event.step == 3:
                break
    assert (run.raw_status() or {})["state"] == "running" and state(run) == "interrupted" and "step 2" in run.status.do
    assert jobs.active() == []
    jobs.resume(run)
    assert worker.run_one(run, source=steady) == "finished"
    assert steps(run) == [0, 1, 2, 3, 4, 5, 6] and all(len(run.samples_at(i)) == 1 for i in range(1, 7))


def test_a_damaged_run_is_not_resumed(root):
    run = jobs.submit(settings(), DATA)
    (run.path / "config.json").write_text("{")
    jobs.stop(run, keep=False)
    with pytest.raises(RunError):
        jobs.resume(run)


def test_what_cannot_be_written_is_said(root, monkeypatch):
    import errno

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = jobs.submit(settings(), DATA)
    monkeypatch.setattr(files, "write_all", full)
    for call in (partial(jobs.pause, run), partial(jobs.stop, run), partial(run.rename, "x"), partial(jobs.submit, settings(), DATA)):
        with pytest.raises(RunError, match="full"):
            call()


# ---------------------------------------------------------------- training that goes wrong


def failing(error: BaseException):
    def source(config, data, **kwargs):
        for event in steady(config, data, **kwargs):
            yield event
            if isinstance(event, Step) and event.step == 3:
                raise error

    return source


FAULTS = [
    (MemoryError(), "out of memory", "microbatch_size"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
        "out of memory",
        "microbatch_size",
    ),
    (ModelError("The model is gone.", "Get it again."), "The model is gone.", "Get it again."),
    (OSError(28, "No space left on device"), "disk is full", "Delete runs"),
    (KeyError("fault"), "KeyError", "error.txt"),
    (ValueError(""), "ValueError: no details", "error.txt"),
]


@pytest.mark.parametrize(("error", "what", "do"), FAULTS, ids=[type(fault[0]).__name__ for fault in FAULTS])
def test_a_fault_ends_in_words_and_can_be_resumed(root, error, what, do):
    run = jobs.submit(settings(), DATA)
    assert worker.run_one(run, source=failing(error)) == "failed"
    status = run.status
    assert status.state == "failed" and status.step == 3 and what in status.message and do in status.do
    assert (run.path / "error.txt").exists() == (not isinstance(error, ModelError)) and not run.alive
    jobs.resume(run)
    assert worker.run_one(run, source=steady) == "finished" and steps(run) == [0, 1, 2, 3, 4, 5, 6]
    assert run.status.message == ""


def test_training_that_ends_without_a_word_has_failed(root):
    run = jobs.submit(settings(), DATA)
    assert worker.run_one(run, source=lambda config, data, **kwargs: iter_of(Started(0, 6, {}))) == "failed"
    assert "without saying how" in run.status.message


def iter_of(*events):
    yield from events


def test_a_run_without_its_data_or_with_unknown_settings_fails_in_words(root):
    one, two = jobs.submit(settings(), DATA), jobs.submit(settings(), DATA)
    (one.path / "data.jsonl").unlink()
    files.write_json(two.path / "config.json", {**two.info, "learning_rate": "fast"})
    for run, word in ((one, "data"), (two, "learning_rate")):
        assert worker.run_one(run, source=steady) == "failed" and word in run.status.message


def test_a_folder_that_vanishes_does_not_end_the_worker(root):
    import shutil

    run = jobs.submit(settings(), DATA)
    worker.run_one(run, source=steady, on_event=asks(run, 2, lambda run: shutil.rmtree(run.path)))
    assert not run.path.exists() and list_runs() == []
    assert worker.run_one(jobs.submit(settings(), DATA), source=steady) == "finished"


def test_one_run_leaves_nothing_for_the_next(root, tmp_path):
    def untidy(config, data, **kwargs):
        os.environ["LEFT_BEHIND"] = "1"
        os.chdir(tmp_path)
        random.seed(99)
        draws.append(before)
        yield from steady(config, data, **kwargs)

    draws: list[float] = []
    random.seed(5)
    before = random.Random(5).random()
    folder = Path.cwd()
    worker.run_one(jobs.submit(settings(), DATA), source=untidy)
    assert "LEFT_BEHIND" not in os.environ and Path.cwd() == folder and random.random() == before


# ---------------------------------------------------------------- worker processes, without a model


def test_a_worker_is_killed_and_another_goes_on(root):
    run = jobs.submit(settings(steps=30), DATA)
    first = start_worker()
    wait_for(lambda: run.status.step >= 5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert state(run) == "interrupted" and "step" in run.status.message
    jobs.resume(run)
    second = start_worker()
    wait_for(lambda: state(run) == "finished")
    assert steps(run) == list(range(31)) and [row["reward"] for row in run.metrics()[1:]] == [i / 10 for i in range(1, 31)]
    assert all(len(run.samples_at(i)) == 1 for i in range(1, 31))
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == 0


def test_a_pause_frees_the_slot_for_the_next_run(root):
    first, second = jobs.submit(settings(steps=60), DATA), jobs.submit(settings(steps=2), DATA)
    start_worker()
    wait_for(lambda: first.status.step >= 2)
    assert second.status.queue_place == 1
    jobs.pause(first)
    wait_for(lambda: state(first) == "paused", 5)
    wait_for(lambda: state(second) == "finished", 10)
    step = first.status.step
    jobs.resume(first)
    wait_for(lambda: first.status.step > step, 10)
    clock = time.monotonic()
    jobs.stop(first, keep=False)
    wait_for(lambda: state(first) == "stopped", 5)
    assert time.monotonic() - clock < 3 and first.checkpoints() == []
    assert steps(first) == list(range(first.status.step + 1))


def test_a_worker_that_is_asked_to_end_keeps_the_run(root):
    run = jobs.submit(settings(steps=60), DATA)
    process = start_worker()
    wait_for(lambda: run.status.step >= 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert state(run) == "interrupted" and "asked to end" in run.status.message and run.last_step == run.status.step


@pytest.mark.parametrize(("ask", "end"), [("keep", "stopped"), ("discard", "stopped"), ("pause", "interrupted")])
def test_a_stop_that_is_not_heeded_is_enforced(root, monkeypatch, ask, end):
    monkeypatch.setenv("RLHF_STOP_GRACE", "0.5")
    run = jobs.submit(settings(steps=500), DATA)
    process = start_worker("stubborn")
    wait_for(lambda: run.last_step)
    jobs.pause(run) if ask == "pause" else jobs.stop(run, keep=ask == "keep")
    wait_for(lambda: (run.raw_status() or {})["state"] == end, 15)
    assert process.wait(5) == -signal.SIGKILL and "by force" in run.status.message
    assert (run.last is None) == (ask == "discard")
    wait_for(lambda: not run.alive, 5)  # who ended it lets go right after having said so


def test_another_process_enforces_what_this_one_cannot(root, monkeypatch):
    """The server that was asked to stop a run may be gone: whoever serves pages now sees to it."""
    monkeypatch.setenv("RLHF_STOP_GRACE", "0.5")
    run = jobs.submit(settings(steps=500), DATA)
    process = start_worker("stubborn")
    wait_for(lambda: run.status.step >= 1)
    jobs.tend()
    run.ask("stop_keep")  # without the watch of ``stop``
    jobs.tend()
    assert process.poll() is None
    wait_for(lambda: jobs.tend() or state(run) == "stopped", 10)
    assert process.wait(5) == -signal.SIGKILL


def test_a_process_never_kills_itself(root, monkeypatch):
    monkeypatch.setenv("RLHF_STOP_GRACE", "0")
    with RunWriter(jobs.submit(settings(), DATA)) as writer:
        writer.begin()
        writer.run.ask("stop_keep")
        assert jobs.enforce(writer.run) is False


def test_an_idle_worker_leaves_and_its_slot_is_free(root, monkeypatch):
    monkeypatch.setenv("RLHF_WORKER_IDLE", "0.2")
    process = start_worker()
    rival = start_worker()
    assert process.wait(20) == 0 and rival.wait(20) == 0
    assert not files.is_held(jobs.slot_lock(root, 0))


def test_a_worker_that_never_gets_ready_is_reported(runs_root, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    runs_root.mkdir()
    run = create(settings(), DATA)

    def try_until_told():
        for _ in range(10):
            jobs.ensure_worker()
            for child in jobs._children:
                child.wait()

    with pytest.raises(RunError, match="before it is ready") as caught:
        try_until_told()
    assert "worker-0.log" in caught.value.do
    assert state(run) == "failed" and "before it is ready" in run.status.message and "worker-0.log" in run.status.do


def test_a_worker_that_dies_is_replaced_while_runs_wait(runs_root, monkeypatch):
    """Nobody clicks: the process that queued the runs goes on looking."""
    started = []

    def spawn(root, slot, note):
        started.append(start_worker())
        files.write_json(jobs.slot_note(root, slot), {"pid": started[-1].pid, "started": time.time()})

    monkeypatch.setattr(jobs, "_spawn", spawn)
    monkeypatch.setattr(jobs, "TEND_SECONDS", 0.1)
    first, second = (jobs.submit(settings(steps=steps), DATA) for steps in (500, 2))
    wait_for(lambda: first.status.step >= 1)
    started[0].kill()
    started[0].wait()
    wait_for(lambda: state(second) == "finished")
    assert state(first) == "interrupted" and len(started) == 2
    wait_for(lambda: runs_root not in jobs._tenders, 5)


# ---------------------------------------------------------------- the real thing

SUMS = Dataset(
    train=tuple(Prompt(f"{a}+{b}=", f"{a + b:03d}") for a in (10, 24, 37, 58) for b in (11, 26, 45)),
    heldout=(Prompt("49+10=", "059"), Prompt("49+24=", "073")),
    kind="prompts",
    source="test",
)
CLOCK = ("time", "tokens_per_second", "memory")


def sums(**fields):
    small = {"steps": 4, "eval_every": 2, "checkpoint_every": 2, "prompts_per_step": 4, "group_size": 4, "sample_prompts": 2}
    return make_config("grpo", **{"model": "sums", "device": "cpu", **small, **fields})


def numbers(run: Run) -> list[dict[str, float]]:
    """The metrics without the clock's."""
    return [{key: value for key, value in row.items() if not any(word in key for word in CLOCK)} for row in run.metrics()]


@pytest.mark.timeout(170)
def test_real_training_in_real_workers(runs_root, monkeypatch):
    """Two equal runs in one worker give equal numbers; so does a third that is paused, killed and resumed, each step once."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one, two = jobs.submit(sums(), SUMS), jobs.submit(sums(), SUMS)
    threading.Thread(target=jobs.ensure_worker).start()  # no second worker for the one slot
    wait_for(lambda: state(one) in ("finished", "failed") and state(two) in ("finished", "failed"), 100)
    assert (state(one), state(two)) == ("finished", "finished"), (one.status.message, two.status.message)
    assert numbers(one) == numbers(two) and steps(one) == [0, 1, 2, 3, 4]
    log = (runs_root / "worker-0.log").read_text()
    assert log.count("ready") == 1 and "warm-up:" not in log

    long = sums(steps=40, eval_every=0)
    whole, parts = jobs.submit(long, SUMS), jobs.submit(long, SUMS)
    wait_for(lambda: state(whole) == "finished", 60)
    wait_for(lambda: parts.status.step >= 5)
    jobs.pause(parts)
    wait_for(lambda: state(parts) == "paused", 10)
    jobs.resume(parts)
    before = parts.status.step
    wait_for(lambda: parts.status.step > before + 3)
    psutil.Process(int(files.read_json(parts.path / "run.pid")["pid"])).kill()
    wait_for(lambda: state(parts) == "interrupted", 5)
    jobs.resume(parts)
    wait_for(lambda: state(parts) in ("finished", "failed"), 60)
    assert state(parts) == "finished", parts.status.message
    assert steps(parts) == list(range(41)) and numbers(parts) == numbers(whole)
    starts = [record["step"] for record in parts.events()[0] if record["type"] == "started"]
    assert len(starts) == 3 and starts[0] == 0 < starts[1] < starts[2]
