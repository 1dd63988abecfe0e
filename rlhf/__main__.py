"""The command line: ``python -m rlhf train|runs|compare|bench|worker|pretrain|make-data|doctor``.

``train`` runs in this process, with the same run folder and locks as a worker's run, so that every page shows it too.
Exit codes: 0 done; 1 it went wrong (a run that did not finish, too); 2 bad arguments or settings; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rlhf import __version__, doctor, runs
from rlhf.algorithms import CONFIGS, DATA, make_config
from rlhf.config import Config
from rlhf.errors import ConfigError, DataError, PlaygroundError
from rlhf.events import Event, Phase, Step


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code. Errors a user can cause are printed as what happened and what to do."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["pretrain"]:  # these two read their own arguments
        from rlhf import pretrain

        return pretrain.main(arguments[1:])
    if arguments[:1] == ["make-data"]:
        from rlhf import make_data

        return make_data.main(arguments[1:])
    args = _parser().parse_args(arguments)
    if getattr(args, "runs_dir", None):  # also for what finds a run by its id alone: a reward model
        os.environ["RLHF_RUNS_DIR"] = str(args.runs_dir)
    try:
        return args.command(args)
    except PlaygroundError as error:
        print(f"{error.what}\n{error.do}".strip(), file=sys.stderr)
        return 2 if isinstance(error, ConfigError | DataError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output, as `head` does, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rlhf", description="Train and look at small language models with RLHF.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a model in this terminal")
    algorithms = train.add_subparsers(required=True, metavar="ALGORITHM")
    for name, config in CONFIGS.items():
        _train_parser(algorithms.add_parser(name, help=_first_line(config)), name, config)

    listing = commands.add_parser("runs", help="list, show or delete runs")
    actions = listing.add_subparsers(required=True, metavar="ACTION")
    for name, act in (("list", list_runs), ("show", show_run), ("delete", delete_run)):
        action = actions.add_parser(name)
        if name != "list":
            action.add_argument("run", help="id of the run")
        _common(action, act)

    compare = commands.add_parser("compare", help="answers before and after, and mean rewards on held-out prompts")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="one or two runs, as RUN_ID or RUN_ID/step-40")
    compare.add_argument("--prompt", action="append", default=[], help="a prompt of your own (may be repeated)")
    compare.add_argument("--heldout", type=int, default=64, help="held-out prompts to measure rewards on (default: 64)")
    compare.add_argument("--seed", type=int, default=0)
    _common(compare, compare_runs)

    bench = commands.add_parser("bench", help="how fast each algorithm trains on this machine, and where the time goes")
    names = {"choices": list(CONFIGS), "metavar": "NAME", "action": "append", "default": []}
    bench.add_argument("--algorithm", **names, help=f"one of {', '.join(CONFIGS)} (may be repeated; default: all)")
    bench.add_argument("--model", default="story", help="embedded model, Hub id, or folder (default: story)")
    bench.add_argument("--sequences", type=int, action="append", default=[], help="sequences a step (may be repeated; default: its own)")
    bench.add_argument("--tokens", type=int, default=0, help="longest answer (default: the algorithm's own for the model)")
    bench.add_argument("--steps", type=int, default=5, help="steps that are measured, after two to warm up, 20 s at most (default: 5)")
    bench.add_argument("--profile", action="store_true", help="time by operator: matrix products, attention, and the rest")
    _common(bench, run_bench)

    worker = commands.add_parser("worker", help="train what the pages have queued; started by the server")
    worker.add_argument("--slot", type=int, help="which slot to take (default: the first free one)")
    worker.add_argument("--idle", type=float, metavar="SECONDS", help="leave after so long without work (default: 600)")
    _common(worker, run_worker)

    commands.add_parser("pretrain", help="train an embedded model again, from random weights (see pretrain --help)", add_help=False)
    commands.add_parser("make-data", help="make the shipped data sets again (see make-data --help)", add_help=False)
    _common(commands.add_parser("doctor", help="versions, devices, what is wrong and how to mend it"), run_doctor)
    return parser


def _common(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--runs-dir", default=None, metavar="DIR", help="where run folders are (default: RLHF_RUNS_DIR, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=command)


def _first_line(config: type[Config]) -> str:
    return (config.__doc__ or "").partition(";")[0].strip()


# ---------------------------------------------------------------- train


def _train_parser(parser: argparse.ArgumentParser, name: str, config: type[Config]) -> None:
    """A flag for every field of the config; its text is checked by the config itself, as a form's is."""
    default = config.default_for("story")
    for field, info in config.model_fields.items():
        if field == "algorithm":
            continue
        signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
        bounds = ", ".join(f"{signs[key]} {value}" for bound in info.metadata for key, value in vars_of(bound).items() if key in signs)
        text = f"{info.description} [{bounds}]" if bounds else str(info.description)
        if field != "reward":
            text += f" Default for story: {getattr(default, field)!r}"
        parser.add_argument(f"--{field.replace('_', '-')}", default=argparse.SUPPRESS, metavar="VALUE", help=text.replace("%", "%%"))
    parser.add_argument("--name", default="", help="a name for the run")
    parser.set_defaults(algorithm=name)
    _common(parser, train)


def vars_of(bound: object) -> dict[str, Any]:
    """``Ge(ge=1)`` → ``{"ge": 1}``: the bounds of annotated_types are small dataclasses."""
    return {name: getattr(bound, name) for name in getattr(bound, "__slots__", ()) or getattr(bound, "__dataclass_fields__", ())}


def train(args: argparse.Namespace) -> int:
    """Trains in this process. Ctrl-C stops and keeps the model."""
    from rlhf.preferences import load_dataset
    from rlhf.runs.folder import queue_lock
    from rlhf.worker import run_one

    given = {field: getattr(args, field) for field in CONFIGS[args.algorithm].model_fields if field != "algorithm" and hasattr(args, field)}
    config = make_config(args.algorithm, **given)
    if not config.data:
        raise ConfigError("No data was named.", "Give --data the name of an embedded set, or a file.")
    data = load_dataset(DATA[args.algorithm], config.data, config.heldout)
    root = runs.runs_dir(args.runs_dir)
    with queue_lock(root):  # no worker may take it between the two
        run = runs.create(config, data, root, name=args.name)
        writer = runs.RunWriter(run)
        writer.begin()
    asked, leave = False, ""

    def must_leave(number: int, frame: object) -> None:
        nonlocal leave
        leave = "The process was asked to end, as when a terminal is closed or a machine shuts down."

    def stop(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        run.ask("stop_keep")
        print("\nStopping; the model is kept. Press Ctrl-C again to leave at once.", file=sys.stderr)

    handlers = {"SIGINT": stop, "SIGTERM": must_leave, "SIGHUP": must_leave, "SIGBREAK": must_leave}
    handlers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {  # what is ignored stays ignored: that is how nohup works
        number: signal.signal(number, handler) for number, handler in handlers.items() if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        with _Progress(config.steps) as progress:
            state = run_one(writer, leaving=lambda: leave, on_event=progress.show)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    status = run.status
    metrics = run.metrics()
    result = {"id": run.id, "folder": str(run.path), "state": state, "step": status.step, "metrics": latest(metrics)}
    if state != "finished":
        print(f"{status.message}\n{status.do}".strip(), file=sys.stderr)
    if args.json:
        print(json.dumps(result | ({} if state == "finished" else {"message": status.message, "do": status.do})))
    else:
        print(f"{run.id} {state} in {run.path}")
        _print_metrics(result["metrics"])
    return 0 if state == "finished" else 130 if asked else 1


def latest(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The last value of every metric: held-out figures do not come at every step."""
    found: dict[str, float] = {}
    for row in rows:
        found.update({key: value for key, value in row.items() if key not in ("step", "time")})
    return found


class _Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, steps: int):
        from tqdm import tqdm

        self.bar = tqdm(total=steps, unit="step", disable=None, file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *details: object) -> None:
        self.bar.close()

    def show(self, event: Event) -> None:
        if isinstance(event, Phase):
            self.bar.set_description(event.name, refresh=False)
        elif isinstance(event, Step):
            self.bar.n = event.step
            shown = ("reward", "kl", "loss", "rewards/accuracies", "eval/reward", "eval/rewards/accuracies")
            self.bar.set_postfix({key: f"{event.metrics[key]:.3g}" for key in shown if key in event.metrics}, refresh=False)
            self.bar.refresh()


def _print_metrics(metrics: dict[str, float]) -> None:
    from rlhf.metrics import describe

    for key, value in metrics.items():
        unit = describe(key).unit
        print(f"  {key:<28} {value:10.4g} {'' if unit == 'share' else unit}".rstrip())


# ---------------------------------------------------------------- runs


def list_runs(args: argparse.Namespace) -> int:
    found = runs.list_runs(args.runs_dir)
    rows = [
        {"id": run.id, "name": run.name, "state": run.status.state, "step": run.status.step, "steps": run.status.steps} for run in found
    ]
    if args.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"There are no runs in {runs.runs_dir(args.runs_dir)}.")
    for row, run in zip([] if args.json else rows, found, strict=False):
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
        name = "" if row["name"] == row["id"] else f"  {row['name']}"
        print(f"{row['id']}  {day}  {row['state']:<11} {row['step']:>5} / {row['steps']}{name}")
    return 0


def show_run(args: argparse.Namespace) -> int:
    run = runs.open_run(args.run, args.runs_dir)
    status, metrics = run.status, latest(run.metrics())
    checkpoints = [info.name for info in run.checkpoints()]
    if args.json:
        shown = {"id": run.id, "folder": str(run.path), "state": status.state, "message": status.message, "step": status.step}
        print(json.dumps(shown | {"config": run.config, "checkpoints": checkpoints, "metrics": metrics}))
        return 0
    print(f"{run.name}\n{status.state}, step {status.step} of {status.steps}. {status.message} {status.do}".rstrip())
    print(f"folder: {run.path}\ncheckpoints: {', '.join(checkpoints) or 'none'}\nsettings that differ from the defaults:")
    differences = run.load_config().differences()
    for field, (default, value) in differences.items():
        print(f"  {field}: {value} (default {default})")
    if not differences:
        print("  none")
    print("latest metrics:")
    _print_metrics(metrics)
    return 0


def delete_run(args: argparse.Namespace) -> int:
    run = runs.open_run(args.run, args.runs_dir)
    token = runs.delete(run)
    print(json.dumps({"deleted": run.id, "token": token}) if args.json else f"{run.id} is in {run.root / '.trash'}; move it back to undo.")
    return 0


def compare_runs(args: argparse.Namespace) -> int:
    from rlhf import compare

    result = compare.compare(args.runs, args.runs_dir, prompts=args.prompt, heldout=args.heldout, seed=args.seed)
    print(json.dumps(result) if args.json else compare.table(result))
    return 0


# ---------------------------------------------------------------- bench, worker, doctor


def run_bench(args: argparse.Namespace) -> int:
    """Lines as they come: a table, or with --json one object a line."""
    from rlhf import bench, bench_report

    plan = bench.Plan(tuple(args.algorithm or CONFIGS), args.model, tuple(args.sequences or [0]), args.tokens, args.steps)
    failed = 0
    for record in bench.run(plan, args.runs_dir, args.profile):
        failed += record["type"] == "failed"
        text = json.dumps(record) if args.json else bench_report.line(record)
        if text:
            print(text, flush=True)
    return 1 if failed else 0


def run_worker(args: argparse.Namespace) -> int:
    from rlhf import worker

    return worker.main(args.runs_dir, args.slot, args.idle)


def run_doctor(args: argparse.Namespace) -> int:
    findings = doctor.examine(args.runs_dir)
    if args.json:
        print(json.dumps([finding.__dict__ for finding in findings]))
    else:
        print(doctor.report(findings))
    return 1 if any(finding.problem for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
