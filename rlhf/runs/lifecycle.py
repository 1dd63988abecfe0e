"""Run folders come and go: create one, delete one, take that back."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import time
from functools import cache
from importlib import metadata
from pathlib import Path

import rlhf
from rlhf.config import Config
from rlhf.errors import RunError
from rlhf.preferences import Dataset, write_data
from rlhf.runs import files
from rlhf.runs.folder import Run, cannot_write, existing, find_checkpoint, forget, open_run, queue_lock, runs_dir, valid_id

TRASH = ".trash"
SCARCE_BYTES = 64 * 2**20
_TOKEN = re.compile(r"(?P<id>[A-Za-z0-9][A-Za-z0-9._-]*)~[0-9a-f]{8}")


@cache
def versions() -> dict[str, str]:
    """What the run was started with, without importing it."""
    found = {"rlhf": rlhf.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "transformers", "peft"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def create(
    config: Config,
    dataset: Dataset,
    root: str | Path | None = None,
    parent: str | None = None,
    name: str = "",
    *,
    queue: bool = True,
) -> Run:
    """A new run folder, complete when it appears. ``queue=False``: the caller runs it itself; no worker takes it.

    ``parent``: the run whose settings or weights this one starts from; with ``config.adapter_from`` it is taken from there.
    Raises ``RunError`` if the folder cannot be written or the checkpoint to start from does not exist.
    """
    root = runs_dir(root)
    parent_checkpoint = None
    if config.adapter_from:
        parent_run, parent_checkpoint = find_checkpoint(config.adapter_from, root)
        parent = parent or parent_run.id
    now = time.time()
    model = re.sub(r"[^a-z0-9]+", "-", Path(config.model).name.lower()).strip("-")[:24] or "model"
    stem = f"{config.algorithm}-{model}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}"
    draft = root / f".new-{secrets.token_hex(6)}"
    make_room(root)
    try:
        draft.mkdir(parents=True)
        write_data(draft / "data.jsonl", dataset)
        status = {"state": "queued" if queue else "running", "since": now, "updated": now, "step": 0, "steps": config.steps}
        files.write_json(draft / "status.json", status)
        files.write_json(draft / "control.json", {"request": "run", "time": now})
        while True:
            run = Run(f"{stem}-{secrets.token_hex(2)}", root)
            extras = {
                "id": run.id,
                "created": now,
                "parent": parent,
                "parent_checkpoint": parent_checkpoint.name if parent_checkpoint else None,
                "versions": versions(),
            }
            files.write_json(draft / "config.json", {**config.model_dump(mode="json"), **extras})
            if not run.path.exists():
                os.rename(draft, run.path)
                break
        if name:
            run.rename(name)
        return run
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise cannot_write(error, root) from error


def delete(run: Run) -> str:
    """Moves the run into the trash and returns the token that ``undo_delete`` takes. Raises ``RunError`` while it is running."""
    with queue_lock(run.root):
        open_run(run.id, run.root)
        held = files.hold(run.path / "run.lock", timeout=0.0 if run.status.state == "running" else 2.0)
        if held is None:
            raise RunError(f"The run {run.name} is running.", "Stop it, then delete it.")
        held.release()  # no worker can claim it before the queue's lock is free, and Windows does not rename what is open
        trash = run.root / TRASH
        trash.mkdir(exist_ok=True)
        token = f"{run.id}~{secrets.token_hex(4)}"
        try:
            os.rename(run.path, trash / token)
            os.utime(trash / token)
        except OSError as error:
            raise cannot_write(error, run.root) from error
    forget(run)
    empty_trash(run.root)
    return token


def undo_delete(token: str, root: str | Path | None = None) -> Run:
    """Puts a deleted run back. Raises ``RunError`` if it is no longer in the trash."""
    root = runs_dir(root)
    match = _TOKEN.fullmatch(token)
    if not match or not valid_id(match["id"]) or not (root / TRASH / token).is_dir():
        raise RunError("This run is no longer in the trash.", "Deleted runs are kept for a day, or until the disk is full.")
    run = Run(match["id"], root)
    if run.path.exists():
        raise RunError(f"There is a run {run.id} again.", "Delete or rename its folder first.")
    os.rename(root / TRASH / token, run.path)
    return run


def empty_trash(root: Path, older_than: float = 86_400.0) -> bool:
    """Removes for good what was deleted more than ``older_than`` seconds ago; whether there was any."""
    old = [entry for entry in (root / TRASH).glob("*~*") if time.time() - entry.stat().st_mtime >= older_than]
    for entry in old:
        shutil.rmtree(entry, ignore_errors=True)
    return bool(old)


def make_room(root: Path) -> bool:
    """Where the disk is nearly full, deleted runs go at once: a user who deletes them to go on must find the space free."""
    return shutil.disk_usage(existing(root)).free < SCARCE_BYTES and empty_trash(root, older_than=0.0)
