"""The KL optimum, and DPO: a bar moved by the arrow keys, a search, and a question."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.test_pages import settle


def visit(page: Page) -> None:
    main = page.locator('[data-testid="stMain"]')
    worth = main.get_by_test_id("stMetricValue").first
    before = worth.inner_text()
    bar = main.get_by_role("slider", name="Reward r of each answer: drag the bars, B")
    bar.focus()
    for _ in range(4):
        page.keyboard.press("ArrowUp")
    expect(bar).to_have_attribute("aria-valuenow", "1.2")
    expect(worth).not_to_have_text(before)
    main.get_by_text("How the loss falls", exact=True).first.click()
    main.locator(".st-key-guess-kl-falls label").filter(has_text="It may fall too").click()
    main.get_by_role("button", name="Search 1000 models").click()
    expect(main.get_by_text("You guessed right.")).to_be_visible()
    settle(page)
    main.locator(".st-key-q-kl-z label").filter(has_text="cancels in their difference").click()
    expect(main.locator(".st-key-q-kl-z").get_by_text("Right.")).to_be_visible()
