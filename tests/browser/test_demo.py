"""The newcomer's way: one click on Home starts a real run, it is seen to learn, and nothing that happens to page or server hurts it."""

from __future__ import annotations

import re
import time

import psutil
import pytest
from playwright.sync_api import expect

from rlhf import runs
from tests.browser.test_pages import settle
from tests.serving import POINTS, launch, serve

START = "Make the stories sad"


def wait_for_points(page, more_than: int, seconds: float = 90.0) -> int:
    """The number of points in the plots, once it is larger."""
    page.wait_for_function(f"({POINTS})() > {more_than}", timeout=seconds * 1000)
    return page.evaluate(POINTS)


def the_run(server) -> runs.Run:
    (run,) = runs.list_runs(server.runs_dir)
    return run


@pytest.fixture(scope="module")
def demo_server(chrome, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("demo")) as started:
        yield started


def test_first_paint_needs_no_torch(demo_server, page):
    """Neither torch nor transformers is mapped into the server's process when Home is there. (Its worker has them: another process.)"""
    page.goto(demo_server.url)
    settle(page)
    expect(page.get_by_role("button", name=START)).to_be_visible()
    try:
        files = {mapping.path for mapping in psutil.Process(demo_server.process.pid).memory_maps()}
    except (AttributeError, psutil.AccessDenied):
        pytest.skip("this system does not tell which libraries a process has loaded")
    assert not [path for path in files if re.search(r"/libtorch|/torch/lib/", path)]


@pytest.mark.timeout(600)
def test_one_click_demo_survives_everything(demo_server, page, context):
    page.goto(demo_server.url)
    settle(page)
    page.get_by_role("button", name=START).dblclick()  # hurried hands: one run, not two
    points = wait_for_points(page, 0)
    assert len(runs.list_runs(demo_server.runs_dir)) == 1
    run = the_run(demo_server)
    assert f"run={run.id}" in page.url, "the link must lead back to the run"

    # the plots move by themselves
    points = wait_for_points(page, points)
    assert page.locator('.pg-card[data-metric="reward"] .js-plotly-plot').count() == 1
    assert page.locator('.pg-card[data-metric="kl"] .js-plotly-plot').count() == 1

    # refresh in mid-run: the same run, all its points, and it goes on
    page.reload()
    settle(page)
    points = wait_for_points(page, points)

    # the server ends and starts again in mid-run: the worker goes on, and the page finds the run again
    assert run.status.state == "running"
    step = run.status.step
    demo_server.stop()
    time.sleep(1)
    again = launch(demo_server.runs_dir, port=int(demo_server.url.rpartition(":")[2]))
    try:
        again.wait()
        deadline = time.monotonic() + 120
        while run.status.step <= step and time.monotonic() < deadline:
            time.sleep(0.2)
        assert run.status.step > step, "the run stood still while the server was away"
        page.goto(f"{again.url}/?run={run.id}")
        settle(page)
        wait_for_points(page, points)

        # a second window that closes does not matter either
        other = context.new_page()
        other.goto(f"{again.url}/?run={run.id}")
        settle(other)
        other.close()

        # to the end: before and after side by side, and they differ
        expect(page.get_by_text("Finished").first).to_be_visible(timeout=300_000)
        expect(page.get_by_text(re.compile(r"After: story \+ GRPO, step \d+"))).to_be_visible(timeout=20_000)
        expect(page.get_by_text("Before: story as it ships, step 0")).to_be_visible()
    finally:
        again.stop()
    first, last = (next(r for r in run.samples_at(s) if r["split"] == "heldout") for s in (0, run.status.steps))
    assert first["prompt"] == last["prompt"]
    assert first["responses"][0]["text"] != last["responses"][0]["text"]
    measured = [row["eval/reward"] for row in run.metrics() if "eval/reward" in row]
    assert measured[-1] > measured[0] + 0.5, f"held-out reward {measured[0]:.2f} → {measured[-1]:.2f}: the stories did not become sad"
