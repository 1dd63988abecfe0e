"""From the start of the server to the painted Home page in the browser, and that torch is not imported on the way.

    python -m benchmarks.cold_start [--runs 5]

Each time a new server process with an empty runs folder, and a new browser context (empty cache) of a Chromium that is already open, as
a user's browser is. The clock starts before the server's process and stops when the title and the start button of Home have been painted
(two animation frames after they are visible). The browser knocks every 50 ms until the port is open.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measuring import Report, parser
from tests.serving import browser, end, launch

START = "Make the stories sad"
GOAL = 5.0


def libraries(pid: int) -> set[str]:
    """Which of torch and transformers are loaded in a process: shared libraries by the memory map, so Linux only."""
    paths = {mapping.path for mapping in psutil.Process(pid).memory_maps()}
    return {"torch"} if any(re.search(r"/libtorch|/torch/lib/", path) for path in paths) else set()


def once(chrome: Any, folder: Path) -> tuple[float, float, set[str]]:
    """Seconds until the server answers, seconds until Home is painted, heavy libraries in the server then."""
    context = chrome.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    begin = time.perf_counter()
    server = launch(folder)
    try:
        server.wait()
        answered = time.perf_counter() - begin
        page.goto(server.url, wait_until="commit")
        page.get_by_role("heading", name="RLHF Playground").first.wait_for()
        page.get_by_role("button", name=START).wait_for()
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return answered, time.perf_counter() - begin, libraries(server.process.pid)
    finally:
        context.close()
        server.stop()
        end(server.workers())


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    report = Report("cold_start")
    with browser() as chrome, tempfile.TemporaryDirectory() as folder:
        measured = [once(chrome, Path(folder) / str(i)) for i in range(given.runs)]
    answered, painted, heavy = zip(*measured, strict=True)
    report.check("server answers", answered, "s", "none", True)
    report.check("Home is painted", painted, "s", f"≤ {GOAL:g}", max(painted) <= GOAL)
    report.check("servers with torch in them", [sum(map(bool, heavy))], "", "0", not any(heavy))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
