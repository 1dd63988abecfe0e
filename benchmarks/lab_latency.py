"""How long a lab takes to answer a slider: every slider of every part of every lab, in a real browser.

    python -m benchmarks.lab_latency [--presses 5] [--labs lab_kl,lab_groups]

A slider is focused and moved by the arrow key. The clock runs in the browser, from the key to the last change of the page that follows
it (numbers, formulas, and what plotly has drawn; the page counts as done once nothing has changed for half a second). Streamlit's round
trip is part of it. What only follows a button (samples, training) is not pressed and so not measured.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import Report, parser
from pages.components.labs import contents
from tests.serving import Server, browser, serve

GOAL = 200.0
SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'
MAIN = '[data-testid="stMain"]'

# From the next key on: the milliseconds until the last change of the page, once it has been still for half a second.
WATCH = """() => { window.answered = new Promise(resolve => addEventListener('keydown', () => {
    const begin = performance.now();
    let last = begin;
    // inside a canvas is what a table tells screen readers, a moment after it is painted
    const seen = record => !(record.target.parentElement ?? record.target).closest('canvas');
    const watch = new MutationObserver(records => { if (records.some(seen)) last = performance.now() });
    const all = { subtree: true, childList: true, characterData: true, attributes: true };
    watch.observe(document.querySelector('[data-testid="stMain"]'), all);
    const look = () => {
        if (performance.now() - Math.max(last, begin + 500) < 500) return requestAnimationFrame(look);
        watch.disconnect();
        resolve(last - begin);
    };
    look();
}, { once: true, capture: true })) }"""


def settle(page: Any) -> None:
    page.locator(SETTLED).wait_for(timeout=60_000)
    page.wait_for_timeout(700)


def sliders(page: Any) -> list[tuple[str, Any]]:
    """(name, what takes the keys) of every slider in view."""
    found = page.locator(f'{MAIN} [data-testid="stSlider"]:visible')
    thumbs = [found.nth(i).locator('input[type="range"]').first for i in range(found.count())]
    return [(thumb.get_attribute("aria-label") or found.nth(i).inner_text().split("\n")[0], thumb) for i, thumb in enumerate(thumbs)]


def press(page: Any, thumb: Any) -> float:
    """One step of a slider, to the right where there is room; → milliseconds."""
    thumb.focus()
    room = thumb.evaluate("e => Number(e.value) < Number(e.max)")
    page.evaluate(WATCH)
    page.keyboard.press("ArrowRight" if room else "ArrowLeft")
    return page.evaluate("window.answered")


def measure(chrome: Any, server: Server, lab: contents.Entry, presses: int, report: Report) -> None:
    context = chrome.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(f"{server.url}/{lab.page}")
    page.get_by_text(lab.title).last.wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    settle(page)
    parts = page.locator(f"{MAIN} .st-key-{lab.name}-part button")
    names = parts.all_inner_texts() or [""]
    slowest: dict[str, list[float]] = {}
    for i, name in enumerate(names):
        if name:
            parts.nth(i).click()
            settle(page)
        for label, thumb in sliders(page):
            press(page, thumb)  # the first one warms up
            times = [press(page, thumb) for _ in range(presses)]
            slowest[" · ".join(part for part in (name, label) if part)] = times
    context.close()
    for what, times in slowest.items():
        print(f"    {lab.page} {what}: {statistics.median(times):.0f} ms", flush=True)
    if slowest:
        what, times = max(slowest.items(), key=lambda item: statistics.median(item[1]))
        words = f"answer to a slider, {lab.title}: the slowest of {len(slowest)} ({what})"
        report.check(words, times, "ms", f"< {GOAL:g}", statistics.median(times) < GOAL)
        report.details[lab.page] = {name: [round(t) for t in times] for name, times in slowest.items()}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--presses", type=int, default=5)
    options.add_argument("--labs", default="")
    given = options.parse_args()
    wanted = set(given.labs.split(",")) - {""}
    report = Report("lab_latency")
    with tempfile.TemporaryDirectory() as folder, browser() as chrome, serve(Path(folder)) as server:
        for lab in contents.entries():
            if not wanted or lab.page in wanted:
                measure(chrome, server, lab, given.presses, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
