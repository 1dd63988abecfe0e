"""The command line as a user types it: exit codes, the last line of JSON, errors without a stack trace."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf import doctor, runs
from rlhf.__main__ import latest, main

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "--model",
    "sums",
    "--device",
    "cpu",
    "--prompts-per-step",
    "2",
    "--group-size",
    "2",
    "--steps",
    "2",
    "--eval-prompts",
    "4",
    "--eval-every",
    "0",
]


def test_train_finishes_shows_and_compares(tmp_path, capsys):
    runs_dir = ["--runs-dir", str(tmp_path)]
    assert main(["train", "grpo", *QUICK, "--seed", "3", "--name", "my run", "--json", *runs_dir]) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["state"] == "finished" and result["step"] == 2 and Path(result["folder"]).is_dir()
    assert {"reward", "eval/reward", "kl"} & result["metrics"].keys() >= {"reward", "eval/reward"}

    assert main(["runs", "list", "--json", *runs_dir]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "my run" and row["state"] == "finished"
    assert main(["runs", "show", row["id"], *runs_dir]) == 0
    assert "steps: 2 (default" in capsys.readouterr().out
    assert main(["compare", row["id"], "--prompt", "12+34=", "--heldout", "8", "--json", *runs_dir]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert [side["untouched"] for side in compared["sides"]] == [True, False]
    assert main(["train", "grpo", *QUICK, "--adapter-from", f"{row['id']}/step-2", *runs_dir]) == 0
    capsys.readouterr()
    assert main(["runs", "delete", row["id"], *runs_dir]) == 0
    assert main(["runs", "show", row["id"], *runs_dir]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["train", "grpo", "--group-size", "1"], 2, "group_size"),
        (["train", "grpo", "--minibatches", "7"], 2, "divisor"),
        (["train", "ppo", "--learning-rate", "fast"], 2, "learning_rate"),
        (["train", "dpo", "--data", "/no/such/file.csv"], 2, "neither"),
        (["train", "grpo", "--reward", "nonsense"], 1, "nonsense"),
        (["train", "grpo", "--model", "no-such-model", "--data", "sums-prompts"], 1, "no-such-model"),
        (["runs", "show", "../etc"], 1, "not the id"),
        (["compare", "nothing"], 1, "nothing"),
    ],
)
def test_errors_say_what_and_what_to_do(arguments, code, told, tmp_path, capsys):
    assert main([*arguments, "--runs-dir", str(tmp_path)]) == code
    shown = capsys.readouterr()
    assert told in shown.err and "Traceback" not in shown.err + shown.out
    assert len(shown.err.strip().splitlines()) >= 2


def test_unknown_flags_and_commands_are_usage_errors(capsys):
    for arguments in (["train", "grpo", "--no-such-flag", "1"], ["train", "nothing"], ["dance"], []):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
    capsys.readouterr()


def test_the_module_runs_in_a_process_of_its_own(tmp_path):
    environment = {**os.environ, "RLHF_RUNS_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "rlhf", "runs", "list"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and "no runs" in done.stdout


def test_latest_keeps_the_last_value_of_each_metric():
    rows = [{"step": 0, "time": 1.0, "eval/reward": 0.1}, {"step": 1, "time": 2.0, "reward": 0.5}]
    assert latest(rows) == {"eval/reward": 0.1, "reward": 0.5}


def test_doctor_finds_a_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    findings = doctor.examine(str(blocked))
    assert [f.what for f in findings if f.problem] == ["runs folder"]
    assert "to mend" in doctor.report(findings) and "ok  model story" in doctor.report(findings)


@pytest.mark.parametrize(("signals", "code", "state"), [(["SIGINT"], 130, "stopped"), (["SIGTERM"], 1, "interrupted")])
def test_a_signal_keeps_the_model(tmp_path, signals, code, state):
    command = [sys.executable, "-m", "rlhf", "train", "grpo", *QUICK, "--steps", "5000", "--json", "--runs-dir", str(tmp_path)]
    # tests that run in a shell's background have inherited a SIGINT that is ignored, and so would the process: as with nohup
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heeded)
    try:
        deadline = time.monotonic() + 90
        while not any(run.status.step >= 2 for run in runs.list_runs(tmp_path)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        for name in signals:
            process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["state"] == state
    (run,) = runs.list_runs(tmp_path)
    assert run.status.state == state and run.last_step == run.status.step and f"step-{run.last_step}" in [c.name for c in run.checkpoints()]
