"""What models and users write is shown as it is written, never as markup."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.test_pages import settle
from tests.canned import canned_run


def test_markup_in_prompts_and_answers_is_text(server, page):
    run = canned_run(server.runs_dir, "grpo", steps=4, name="<img src=x onerror=window.hacked=1> **bold**")
    page.goto(f"{server.url}/grpo?run={run.id}")
    settle(page)
    expect(page.get_by_text("<img src=x onerror=window.hacked=1> **bold**").first).to_be_visible()
    expect(page.get_by_text("<b>window</b>").first).to_be_visible(timeout=20_000)
    assert page.evaluate("window.hacked") is None
    assert page.locator('[data-testid="stMain"] b', has_text="window").count() == 0
