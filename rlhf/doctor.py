"""``python -m rlhf doctor``: what this machine has, what is wrong with it, and how to mend it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from rlhf import runs
from rlhf.catalogue import CATALOGUE, model_path
from rlhf.errors import PlaygroundError
from rlhf.preferences import EMBEDDED, load_dataset
from rlhf.runs import files

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
LITTLE_DISK = 2 * 2**30
LITTLE_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """Something that was looked at. ``problem``: what is wrong, empty if nothing; ``do``: how to mend it."""

    what: str
    value: str
    problem: str = ""
    do: str = ""


def examine(runs_dir: str | None = None) -> list[Finding]:
    """Everything that a run needs. Imports torch, and loads the embedded models."""
    return [*_versions(), *_devices(), *_models(), *_data(), *_room(runs_dir)]


def report(findings: list[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{'!!' if finding.problem else 'ok'}  {finding.what:<22} {finding.value}".rstrip())
        if finding.problem:
            lines += [f"      {finding.problem}", f"      {finding.do}"]
    wrong = sum(bool(finding.problem) for finding in findings)
    lines.append("Everything is in order." if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend.")
    return "\n".join(lines)


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Finding("Python", python, "Python 3.11 or newer is needed." if old else "", "Install a newer Python." if old else "")
    wanted = re.findall(r"^([A-Za-z0-9_-]+)==([^\s;]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.M) if REQUIREMENTS.exists() else []
    for name, version in wanted:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "missing", f"{name} is not installed.", "Run: pip install -r requirements.txt")
            continue
        plain = found.partition("+")[0]
        problem = "" if plain == version else f"The app was tested with {version}."
        yield Finding(name, found, problem, "Run: pip install -r requirements.txt" if problem else "")


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield Finding(
                f"GPU {i}", f"{torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / 2**30:.1f} GiB"
            )
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "Apple (mps)")
    else:
        yield Finding("GPU", "none; the embedded models do not need one")
        if shutil.which("nvidia-smi"):
            yield Finding(
                "CUDA",
                "not usable",
                "There is an NVIDIA driver, but this torch cannot use it.",
                "Install the CUDA build of torch for your driver.",
            )
    yield Finding("CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")


def _models() -> Iterator[Finding]:
    from rlhf.policy import load_pretrained

    for name, entry in CATALOGUE.items():
        if entry.embedded:
            try:
                loaded = load_pretrained(name, device="cpu")
            except PlaygroundError as error:
                yield Finding(f"model {name}", model_path(name), error.what, error.do)
            else:
                yield Finding(f"model {name}", f"{loaded.parameters:,} parameters")


def _data() -> Iterator[Finding]:
    for name, embedded in EMBEDDED.items():
        try:
            data = load_dataset(embedded.kind, name)
        except PlaygroundError as error:
            yield Finding(f"data {name}", "", error.what, error.do)
        else:
            yield Finding(f"data {name}", f"{len(data.train)} to train on, {len(data.heldout)} held out")


def _room(runs_dir: str | None) -> Iterator[Finding]:
    folder = runs.runs_dir(runs_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        yield Finding(
            "runs folder", str(folder), f"It cannot be written: {error.strerror}.", "Set RLHF_RUNS_DIR to a folder that can be written."
        )
        return
    yield _locks(folder)
    free = shutil.disk_usage(folder).free
    scarce = free < LITTLE_DISK
    yield Finding("runs folder", str(folder))
    yield Finding(
        "free disk",
        f"{free / 2**30:.1f} GiB",
        "Runs may fail to save." if scarce else "",
        "Delete runs, or set RLHF_RUNS_DIR." if scarce else "",
    )
    available = psutil.virtual_memory().available
    scarce = available < LITTLE_MEMORY
    yield Finding(
        "free memory",
        f"{available / 2**30:.1f} GiB",
        "Runs may run out of memory." if scarce else "",
        "Close other programs." if scarce else "",
    )


def _locks(folder: Path) -> Finding:
    """Locks say who is alive; some network file systems grant them to everybody."""
    lock = folder / f".doctor-{os.getpid()}.lock"
    try:
        held = files.hold(lock)
        seen = files.is_held(lock)
    except OSError:
        held, seen = None, False
    finally:
        if held is not None:
            held.release()
        lock.unlink(missing_ok=True)
    if seen:
        return Finding("file locks", "work")
    return Finding("file locks", "do not work", "Runs cannot tell who is alive here.", "Set RLHF_RUNS_DIR to a folder on a local disk.")
