"""Looking: the model page token by token, from a plot's point to the formula, before and after, and the list of runs."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rlhf import runs
from tests.browser.test_controls import panel, press
from tests.browser.test_pages import settle
from tests.canned import canned_run


@pytest.fixture(scope="module")
def finished(server):
    return canned_run(server.runs_dir, "grpo", steps=6, name="canned one"), canned_run(server.runs_dir, "ppo", steps=6, name="canned two")


@pytest.mark.timeout(300)
def test_model_page_writes_and_branches(server, page):
    page.goto(f"{server.url}/model?model=story")
    settle(page)
    press(page, "Load")
    panel(page).get_by_role("button", name="Write", exact=True).click(timeout=90_000)
    expect(panel(page).get_by_text("What could come next")).to_be_visible(timeout=60_000)
    answers = panel(page).get_by_text("Answer ")
    expect(answers.first).to_be_visible()
    # a click on an alternative writes on from there: another text, which says what it is
    unwritten = page.locator(".bars button.row:not(.written)").first
    unwritten.click()
    expect(panel(page).get_by_text("but with").first).to_be_visible(timeout=60_000)


@pytest.mark.timeout(300)
def test_from_the_token_to_the_formula(server, page, finished):
    """The three linked panes: a token of a response that is clicked stands in the formula with its numbers."""
    run, _ = finished
    page.goto(f"{server.url}/grpo?run={run.id}")
    settle(page)
    tokens = panel(page).locator(".rows.clickable .token")
    expect(tokens.first).to_be_visible(timeout=60_000)
    tokens.nth(3).click()
    formula = page.locator(".st-key-token-formula .katex").filter(visible=True).first
    expect(formula).to_be_visible(timeout=60_000)
    record = run.samples_at(6)[0]
    assert any(f"{response['advantage']:.2f}"[:4] in formula.inner_text() for response in record["responses"]), "whose numbers are these?"


@pytest.mark.timeout(300)
def test_compare_says_what_each_side_is(server, page, finished):
    run, _ = finished
    page.goto(f"{server.url}/compare?run={run.id}")
    settle(page)
    expect(panel(page).get_by_text("Before: story, untouched")).to_be_visible(timeout=90_000)
    expect(panel(page).get_by_text("After: story + GRPO, step 6")).to_be_visible()
    expect(panel(page).get_by_text("Same prompts, settings and seed on every side", exact=False)).to_be_visible()


@pytest.mark.timeout(300)
def test_runs_overlay_download_delete_and_undo(server, page, finished):
    one, two = finished
    page.goto(f"{server.url}/runs?runs={one.id},{two.id}")
    settle(page)
    expect(panel(page).locator(".js-plotly-plot").first).to_be_visible()  # the curves of both
    page.goto(f"{server.url}/runs?run={two.id}")
    settle(page)
    # what is downloaded is the run
    press(page, "Download")
    with page.expect_download() as download:
        page.get_by_role("button", name="The run (zip)").click()
    assert f"{two.id}/events.jsonl" in zipfile.ZipFile(Path(download.value.path())).namelist()
    with page.expect_download() as download:
        page.get_by_role("button", name="Metrics (CSV)").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert [int(row["step"]) for row in rows] == [row["step"] for row in two.metrics()]
    page.keyboard.press("Escape")
    # deleting can be taken back
    panel(page).get_by_role("button", name="Delete").first.click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert two.id not in [run.id for run in runs.list_runs(server.runs_dir)]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    expect(panel(page).get_by_text("canned two").first).to_be_visible()
    assert two.id in [run.id for run in runs.list_runs(server.runs_dir)]
