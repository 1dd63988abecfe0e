"""A run as one file, to keep or to send: a zip of the folder, a CSV of its metrics; and a zip back into a run."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import shutil
import time
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from rlhf.errors import RunError
from rlhf.runs import files
from rlhf.runs.folder import Run, cannot_write, runs_dir, sound, valid_id

MAX_BYTES = 8 * 1024**3
MAX_FILES = 10_000

_TOP = ("config.json", "status.json", "control.json", "data.jsonl", "events.jsonl", "samples.jsonl", "name.txt", "error.txt")
_MEMBER = re.compile(r"checkpoints/(?:step-\d{1,9}|last)/[A-Za-z0-9_-][A-Za-z0-9._/-]*")


def metrics_csv(run: Run) -> str:
    """One line a step, one column a metric, in the order in which the metrics first appear. Cells without a value are empty."""
    rows = run.metrics()
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["step", "time"]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def export_zip(run: Run) -> bytes:
    """The run folder without locks; it can be opened elsewhere with ``import_zip`` or by unpacking it into a runs folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(run.path.rglob("*")):
            name = path.relative_to(run.path).as_posix()
            if path.is_file() and _wanted(name):
                stored = path.suffix in (".safetensors", ".pt", ".bin")  # weights do not compress
                kind = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                archive.write(path, f"{run.id}/{name}", compress_type=kind, compresslevel=None if stored else 3)
    return out.getvalue()


def _wanted(name: str) -> bool:
    return name in _TOP or bool(_MEMBER.fullmatch(name) and ".." not in name and "/." not in name)


def import_zip(file: BinaryIO | Path | str, root: str | Path | None = None) -> Run:
    """A run from a zip of ``export_zip``. It gets a new id if there is a run of its id. Raises ``RunError`` for anything else.

    Only files that a run folder has are taken, so that no path can lead out of it.
    """
    root = runs_dir(root)
    draft = root / f".new-{secrets.token_hex(6)}"
    try:
        with zipfile.ZipFile(file) as archive:
            run_id, members = _members(archive)
            draft.mkdir(parents=True)
            for info, name in members:
                target = draft / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink)
        run = Run(run_id, root)
        while run.path.exists():
            run = Run(f"{run_id[:100]}-{secrets.token_hex(2)}", root)
        _settle(draft, run.id)
        os.rename(draft, run.path)
        return run
    except zipfile.BadZipFile:
        raise RunError("This is not a zip file.", "Choose a zip that the Runs page made.") from None
    except (NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error) as error:  # encrypted, damaged, cut short
        raise RunError(f"This zip cannot be unpacked: {error}.", "Choose a zip that the Runs page made.") from error
    except OSError as error:
        raise cannot_write(error, root) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _members(archive: zipfile.ZipFile) -> tuple[str, list[tuple[zipfile.ZipInfo, str]]]:
    """The run's id and its files by name, with or without a folder around them."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    config = min((info.filename for info in infos if Path(info.filename).name == "config.json"), key=len, default=None)
    if config is None:
        raise RunError("This zip holds no run: there is no config.json in it.", "Choose a zip that the Runs page made.")
    prefix = config.removesuffix("config.json")
    members = [(info, info.filename.removeprefix(prefix)) for info in infos if info.filename.startswith(prefix)]
    members = [(info, name) for info, name in members if _wanted(name)]
    if len(members) > MAX_FILES or sum(info.file_size for info, _ in members) > MAX_BYTES:
        raise RunError(
            "This zip is larger than any run of this app.", f"At most {MAX_FILES} files and {MAX_BYTES // 1024**3} GB are unpacked."
        )
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info, _ in members):
        raise NotImplementedError("it is compressed in an unusual way")
    run_id = prefix.strip("/").rpartition("/")[2]
    return (run_id if valid_id(run_id) else f"imported-{secrets.token_hex(2)}"), members


def _settle(folder: Path, run_id: str) -> None:
    """What came from elsewhere is neither running nor in the queue here."""
    try:
        config = files.read_json(folder / "config.json")
        status = files.read_json(folder / "status.json")
        if not isinstance(config, dict) or not isinstance(status, dict) or not sound(status) or "algorithm" not in config:
            raise ValueError("not a run's settings")
    except (OSError, ValueError):
        raise RunError("This zip holds no complete run.", "Its config.json or status.json is missing or damaged.") from None
    files.write_json(folder / "config.json", {**config, "id": run_id})
    if status.get("state") in ("running", "queued"):
        message = "The run was under way when it was packed."
        files.write_json(folder / "status.json", {**status, "state": "interrupted", "message": message, "since": time.time()})
