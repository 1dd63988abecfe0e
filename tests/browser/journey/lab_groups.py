"""Group advantages: move a reward by keyboard, answer a question, make all equal, sample groups."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    body = page.locator(".st-key-lab-body")
    bar = body.locator('.drag-bars .bar[aria-label^="Rewards of the answers"]').nth(1)
    bar.focus()
    page.keyboard.press("PageUp")
    expect(bar).to_have_attribute("aria-valuenow", "1")
    question = page.locator(".st-key-q-grp-rloo")
    expect(question.get_by_text("on average 0.4. ", exact=False)).to_be_visible()
    question.locator("input").fill("0.6")  # 1 less the mean of the others, (1 + 0 + 1 + 0 + 0) / 5
    question.locator("input").press("Enter")
    expect(question.get_by_text("Right.", exact=False)).to_be_visible()
    body.get_by_role("button", name="All equal").click()
    expect(body.get_by_text("All rewards are equal", exact=False)).to_be_visible()
    body.get_by_text("How many answers?").click()
    body.locator(".st-key-guess-grp-nothing label").get_by_text("5 % to under 20 %").click()
    body.get_by_role("button", name="Sample groups").click()
    expect(body.get_by_text("You guessed right.", exact=False)).to_be_visible()
    settle(page)
