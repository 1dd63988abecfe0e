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

# Presses the key, and resolves with the milliseconds until the last change of the page, once it has been still for half a second.
KEY_TO_LAST_CHANGE = """thumb => new Promise(resolve => {
    const right = Number(thumb.getAttribute('aria-valuenow')) < Number(thumb.getAttribute('aria-valuemax'));
    const main = document.querySelector('[data-testid="stMain"]');
    let last = performance.now();
    const watch = new MutationObserver(() => { last = performance.now() });
    watch.observe(main, { subtree: true, childList: true, characterData: true, attributes: true });
    const begin = last;
    const key = right ? 'ArrowRight' : 'ArrowLeft';
    thumb.dispatchEvent(new KeyboardEvent('keydown', { key, code: key, keyCode: right ? 39 : 37, bubbles: true }));
    const look = () => {
        if (performance.now() - Math.max(last, begin + 300) < 500) return requestAnimationFrame(look);
        watch.disconnect();
        resolve(last - begin);
    };
    look();
})"""


def settle(page: Any) -> None:
    page.locator(SETTLED).wait_for(timeout=60_000)
    page.wait_for_timeout(700)


def sliders(page: Any) -> list[tuple[str, Any]]:
    """(name, thumb) of every slider in view."""
    thumbs = page.locator(f'{MAIN} [data-testid="stSlider"] [role="slider"]:visible')
    return [(thumbs.nth(i).get_attribute("aria-label") or f"slider {i + 1}", thumbs.nth(i)) for i in range(thumbs.count())]


def measure(chrome: Any, server: Server, lab: contents.Entry, presses: int, report: Report) -> None:
    context = chrome.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(f"{server.url}/{lab.page}")
    settle(page)
    parts = page.locator(f'{MAIN} [class*="st-key-"][class*="/part"] button, {MAIN} [class*="st-key-"][class*="-part"] button')
    names = parts.all_inner_texts() or [""]
    slowest: dict[str, list[float]] = {}
    for i, name in enumerate(names):
        if name:
            parts.nth(i).click()
            settle(page)
        for label, thumb in sliders(page):
            thumb.evaluate(KEY_TO_LAST_CHANGE)  # the first one warms up
            times = [thumb.evaluate(KEY_TO_LAST_CHANGE) for _ in range(presses)]
            slowest[" · ".join(part for part in (name, label) if part)] = times
    context.close()
    for what, times in slowest.items():
        print(f"    {lab.page} {what}: {statistics.median(times):.0f} ms", flush=True)
    if slowest:
        what, times = max(slowest.items(), key=lambda item: statistics.median(item[1]))
        words = f"{lab.title}: the slowest of {len(slowest)} sliders ({what})"
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
