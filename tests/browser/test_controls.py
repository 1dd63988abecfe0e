"""Start, pause, resume, stop from the algorithm pages; a killed worker; two people at once. On the small ``sums`` model, for speed."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from rlhf import runs
from tests.browser.test_demo import wait_for_points
from tests.browser.test_pages import settle
from tests.serving import POINTS


def panel(page):
    return page.locator('[data-testid="stMain"]')


def state(page, word: str, seconds: float = 60.0) -> None:
    """Wait until the panel's badge says ``word``."""
    expect(panel(page).locator(".stMarkdownBadge", has_text=re.compile(rf"{word}$")).first).to_be_visible(timeout=seconds * 1000)


def press(page, name: str) -> None:
    panel(page).get_by_role("button", name=name, exact=True).first.click()


def open_form(server, page, algorithm: str) -> None:
    """The form by a link that sets it: the small model, and more steps than any test waits for."""
    page.goto(f"{server.url}/{algorithm}?{algorithm}.model=sums&{algorithm}.steps=5000")
    settle(page)


def start(server, page, algorithm: str) -> runs.Run:
    """Press Start and wait for the first points; → the run that the link names."""
    open_form(server, page, algorithm)
    press(page, "Start")
    page.wait_for_url(re.compile("run="), timeout=30_000)
    wait_for_points(page, 0)
    run_id = re.search(r"run=([\w.-]+)", page.url)
    assert run_id
    return runs.open_run(run_id[1], server.runs_dir)


def discard(page) -> None:
    press(page, "Stop and discard")
    page.get_by_role("dialog").get_by_role("button", name="Discard the model").click()
    state(page, "Stopped")


@pytest.mark.parametrize("algorithm", ["grpo", "ppo", "dpo"])
def test_start_and_stop(server, page, algorithm):
    run = start(server, page, algorithm)
    assert run.algorithm == algorithm and run.model == "sums" and run.config["steps"] == 5000
    wait_for_points(page, page.evaluate(POINTS))
    discard(page)
    assert run.status.state == "stopped" and not run.checkpoints() and run.last is None


@pytest.mark.timeout(300)
def test_pause_resume_keep(server, page):
    run = start(server, page, "grpo")
    press(page, "Pause")
    state(page, "Paused")
    step = run.status.step
    time.sleep(2)
    assert run.status.step == step, "a paused run goes on"
    press(page, "Resume")
    state(page, "Running")
    deadline = time.monotonic() + 60
    while run.status.step <= step and time.monotonic() < deadline:
        time.sleep(0.2)
    assert run.status.step > step
    press(page, "Stop and keep")
    state(page, "Stopped")
    assert run.last is not None and run.checkpoints()
    steps = [row["step"] for row in run.metrics()]
    assert steps == sorted(set(steps)), "pausing lost or doubled a step"


@pytest.mark.timeout(300)
def test_killed_worker_and_resume(server, page):
    start(server, page, "grpo")
    press(page, "Pause")
    state(page, "Paused")  # now there is a checkpoint
    press(page, "Resume")
    state(page, "Running")
    (worker,) = server.workers()
    worker.kill()
    state(page, "Interrupted")
    press(page, "Resume")
    state(page, "Running", 90)
    discard(page)


@pytest.mark.timeout(300)
def test_two_people_at_once(server, page, chrome):
    """One slot: the second run waits, says so, and begins when the first one ends."""
    first = start(server, page, "grpo")
    context = chrome.new_context()
    try:
        other = context.new_page()
        open_form(server, other, "ppo")
        press(other, "Start")
        state(other, "Queued")
        (waiting,) = [run for run in runs.list_runs(server.runs_dir) if run.status.state == "queued"]
        assert waiting.id != first.id and waiting.status.queue_place == 1
        discard(page)
        state(other, "Running", 90)
        discard(other)
    finally:
        context.close()
