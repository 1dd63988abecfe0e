"""The real server, as a user starts it, and a real browser before it: for tests/browser and for the benchmarks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]

# No sandbox: tests may run as root. No network of its own: only the server is to be asked.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

# The points of all plots in view, of the live grid and of st.plotly_chart alike: plotly keeps its data on the element.
POINTS = """() => Array.from(document.querySelectorAll('.js-plotly-plot'))
    .flatMap(plot => (plot.data || []).map(trace => (trace.x || []).length))
    .reduce((sum, n) => sum + n, 0)"""


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]
    runs_dir: Path
    log: Path

    def ready(self) -> bool:
        """Whether it answers at all."""
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def wait(self, seconds: float = 60.0) -> None:
        give_up = time.monotonic() + seconds
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"The server did not come up:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)

    def workers(self) -> list[psutil.Process]:
        """The worker processes of this server's runs folder, and of no other."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if "worker" in command and str(self.runs_dir) in command:
                found.append(process)
        return found

    def stop(self) -> None:
        """End the server alone: its workers and their runs go on, as when a user restarts it."""
        end([psutil.Process(self.process.pid)] if self.process.poll() is None else [])
        self.process.wait()


def end(processes: list[psutil.Process], seconds: float = 5.0) -> None:
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, stubborn = psutil.wait_procs(processes, timeout=seconds)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=seconds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(runs_dir: Path, port: int | None = None, **environment: str) -> Server:
    """Start the server and return at once; ``Server.wait`` waits until it answers."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    log = runs_dir / "server.log"
    command = [sys.executable, "-m", "streamlit", "run", "app.py"]
    command += ["--server.headless=true", "--server.address=127.0.0.1", f"--server.port={port}"]
    with open(log, "ab") as output:
        environment = {**os.environ, "RLHF_RUNS_DIR": str(runs_dir), **environment}
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    return Server(f"http://127.0.0.1:{port}", process, runs_dir, log)


@contextmanager
def serve(runs_dir: Path, port: int | None = None, **environment: str) -> Iterator[Server]:
    """A server that answers; it and its workers are ended at the end."""
    server = launch(runs_dir, port, **environment)
    try:
        server.wait()
        yield server
    finally:
        server.stop()
        end(server.workers())


def chromium() -> str | None:
    """The system's browser: RLHF_CHROMIUM, or the first one on the PATH."""
    return os.environ.get("RLHF_CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium under Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        try:
            yield started
        finally:
            started.close()
