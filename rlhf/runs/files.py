"""Files that several processes share: JSON written atomically, JSON lines that only grow, file locks, a full disk.

Nothing here knows what a run is.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RESERVE_BYTES = 64 * 1024
"""Kept free in a running run's folder, so that "the disk is full" can still be written down."""

_SETTLED_NS = 50_000_000
"""A file's time stamp has a coarse clock: a file younger than this may change without its signature changing."""


# ---------------------------------------------------------------- JSON


def encode(value: Any) -> bytes:
    """One line of strict JSON with its newline. NaN and infinities, which JSON lacks, become null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_plain)
    return (text + "\n").encode("utf-8", errors="backslashreplace")  # a lone surrogate in a model's text must not end the run


def _plain(value: Any) -> Any:
    """NumPy and torch values, tuples in sets and paths, as JSON."""
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Readers see the old content or the new one, never a part. Raises ``OSError`` (full disk, no permission)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        write_bytes(temporary, encode(value))
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o644)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """``os.write`` may write a part only (and does, when the disk fills up)."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def replace(source: Path, target: Path) -> None:
    """``os.replace``, which on Windows fails for the moment in which a reader has the target open."""
    for attempt in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.01 * (attempt + 1))


_json_cache: dict[str, tuple[tuple[int, int, int], bool, Any]] = {}


def read_json(path: Path | str) -> Any:
    """The content of a small JSON file; unchanged files are not read again. Do not change what it returns.

    Raises ``OSError`` if it cannot be read and ``ValueError`` if it is not JSON.
    """
    key = os.fspath(path)
    stat = os.stat(key)
    signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    cached = _json_cache.get(key)
    if cached and cached[0] == signature and cached[1]:
        return cached[2]
    with open(key, "rb") as file:
        value = json.loads(file.read())
    if len(_json_cache) > 5000:
        _json_cache.clear()
    _json_cache[key] = (signature, time.time_ns() - stat.st_mtime_ns > _SETTLED_NS, value)
    return value


# ---------------------------------------------------------------- JSON lines


class JsonLines:
    """A JSON-lines file open for appending. Every line is written at once and seen by readers at once."""

    def __init__(self, path: Path):
        self.path = path
        _cut_half_line(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        self.size = os.fstat(self._descriptor).st_size

    def append(self, value: Any) -> None:
        """Raises ``OSError``, after taking back the part of the line that was written."""
        line = encode(value)
        try:
            write_all(self._descriptor, line)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(line)

    def close(self) -> None:
        os.close(self._descriptor)


def _cut_half_line(path: Path) -> None:
    """A process that was killed while it wrote leaves half a line; it must not run into the next one."""
    try:
        file = open(path, "r+b")  # noqa: SIM115 - only its absence is handled here
    except FileNotFoundError:
        return
    with file:
        end = file.seek(0, os.SEEK_END)
        for start, line in _lines_backwards(file, end):
            if not line.endswith(b"\n"):
                file.truncate(start)
            break


def last_record(path: Path) -> dict[str, Any] | None:
    """The last complete line of a JSON-lines file that can be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - only its absence is handled here
    except FileNotFoundError:
        return None
    with file:
        for _, line in _lines_backwards(file, file.seek(0, os.SEEK_END)):
            record = parse(line) if line.endswith(b"\n") else None
            if record is not None:
                return record
    return None


def _lines_backwards(file: Any, end: int, block: int = 64 * 1024) -> Iterator[tuple[int, bytes]]:
    """(offset, line) from the last line to the first, read in blocks; only the very last can lack its newline."""
    tail, position = b"", end
    while position > 0:
        size = min(block, position)
        position -= size
        file.seek(position)
        tail = file.read(size) + tail
        while (cut := tail.rfind(b"\n", 0, len(tail) - 1)) >= 0:
            yield position + cut + 1, tail[cut + 1 :]
            tail = tail[: cut + 1]
    if tail:
        yield 0, tail


def parse(line: bytes) -> dict[str, Any] | None:
    """A line as an object; None for one that is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def read_lines(path: Path, offset: int = 0, block: int = 4 * 1024 * 1024) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of each complete line from ``offset`` on; a half-written last line is left for the next time."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - only its absence is handled here
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        rest = b""
        while chunk := file.read(block):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield offset, line
                offset += len(line) + 1


class StepIndex:
    """What a growing JSON-lines file says about each step. A look costs only what was appended since the last one.

    ``take(offset, line)`` is called once for each complete line. Threads may look at the same time.
    """

    def __init__(self, path: Path, take: Callable[[int, bytes], None], reset: Callable[[], None]):
        self.path, self._take, self._reset = path, take, reset
        self._offset = 0
        self._inode = 0
        self.lock = threading.RLock()

    def look(self) -> None:
        with self.lock:
            try:
                stat = os.stat(self.path)
            except FileNotFoundError:
                return
            if stat.st_ino != self._inode or stat.st_size < self._offset:  # another file took its place
                self._inode, self._offset = stat.st_ino, 0
                self._reset()
            if stat.st_size > self._offset:
                for offset, line in read_lines(self.path, self._offset):
                    self._take(offset, line)
                    self._offset = offset + len(line) + 1


# ---------------------------------------------------------------- locks


def hold(path: Path, timeout: float = 0.0) -> FileLock | None:
    """The lock, or None if another holds it for longer than ``timeout`` seconds. The system frees it when the process dies."""
    lock = FileLock(path, thread_local=False)  # a run may be closed by another thread than the one that opened it
    try:
        lock.acquire(timeout=timeout, poll_interval=0.02)
    except Timeout:
        return None
    return lock


def is_held(path: Path) -> bool:
    """Whether some process (this one included) holds the lock. Two that look at the same time do not see each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # not there, or not readable: nobody of this app holds it
        return False
    if fcntl is None:
        os.close(descriptor)
        return _is_held_windows(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_held_windows(path: Path) -> bool:
    """There are no shared locks there; a second look tells a holder from another one that looked."""
    try:
        lock = hold(path, timeout=0.05)
    except OSError:
        return False
    if lock is not None:
        lock.release()
    return lock is None


# ---------------------------------------------------------------- full disk


def reserve(path: Path) -> None:
    """Takes ``RESERVE_BYTES`` of real space (not zeros, which some file systems do not store)."""
    write_bytes(path, os.urandom(RESERVE_BYTES))


def disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error means that the disk is full. safetensors and torch hide the system's error number in their own exceptions."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return True
    text = str(error)
    if any(sign in text for sign in ("No space left", "StorageFull", "os error 28", "unexpected pos")):  # the last one is torch.save's
        return True
    writing = isinstance(error, OSError) or "writ" in text.lower() or type(error).__name__ == "SafetensorError"
    return writing and folder.exists() and shutil.disk_usage(folder).free < RESERVE_BYTES
