"""From the click on Start to the first point in the plot, with the engine preloaded.

    python -m benchmarks.start_latency [--runs 5]

The worker that the server starts has imported the engine and waits (its log says so, or it has already done a run); Home is open in
Chromium. The clock runs in the browser, from the click to the first data point that plotly has drawn. Runs are stopped and deleted in
between, and the page is loaded anew.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import Report, parser
from rlhf import jobs, runs
from tests.serving import POINTS, Server, browser, serve

START = "Make the stories sad"
GOAL = 2.0

# Clicks the button, and resolves with the milliseconds until plotly holds a point and two frames have been painted since.
CLICK_TO_POINT = f"""button => new Promise((resolve, reject) => {{
    const points = {POINTS};
    const begin = performance.now();
    button.click();
    const look = () => {{
        const now = performance.now();
        if (points() > 0) requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - begin)));
        else if (now - begin > 60000) reject(new Error('no point within a minute'));
        else requestAnimationFrame(look);
    }};
    look();
}})"""


def stop_all(server: Server) -> None:
    """End every run and wait until the worker is idle again."""
    for run in runs.list_runs(server.runs_dir):
        jobs.stop(run, keep=False)
    give_up = time.monotonic() + 60
    while jobs.active(server.runs_dir):
        if time.monotonic() > give_up:
            raise RuntimeError("a run does not stop")
        time.sleep(0.1)
    for run in runs.list_runs(server.runs_dir):
        runs.delete(run)
    time.sleep(2)


def once(chrome: Any, server: Server) -> float:
    context = chrome.new_context(viewport={"width": 1400, "height": 1000})
    try:
        page = context.new_page()
        page.goto(server.url)
        button = page.get_by_role("button", name=START)
        button.wait_for()
        page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        time.sleep(2)  # a person reads before clicking; the page's own scripts have been fetched then
        return button.evaluate(CLICK_TO_POINT) / 1000
    finally:
        context.close()
        stop_all(server)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    report = Report("start_latency")
    with tempfile.TemporaryDirectory() as folder, browser() as chrome, serve(Path(folder)) as server:
        first = once(chrome, server)  # here the worker may still be importing: not counted
        seconds = [once(chrome, server) for _ in range(given.runs)]
    report.check("click to first point", seconds, "s", f"≤ {GOAL:g}", max(seconds) <= GOAL)
    report.details["first, engine not yet preloaded"] = first
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
