"""Group advantages: move a reward by keyboard, make all equal, drift lengths, sample groups."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    body = page.locator(".st-key-lab-body")
    bar = body.locator('.drag-bars .bar[aria-label^="Rewards of the answers"]').nth(1)
    bar.focus()
    page.keyboard.press("PageUp")
    expect(bar).to_have_attribute("aria-valuenow", "1")
    settle(page)
    answer = body.get_by_label("What is its RLOO advantage?", exact=False)
    answer.fill("0.6")  # 1 less the mean of the others, (0 + 0 + 0 + 1 + 1) / 5
    answer.press("Enter")
    expect(body.get_by_text("Right.", exact=False).first).to_be_visible()
    body.get_by_role("button", name="All equal").click()
    expect(body.get_by_text("All rewards are equal", exact=False)).to_be_visible()
    body.get_by_text("How many answers?").click()
    settle(page)
    body.locator(".st-key-guess-grp-nothing label").get_by_text("5 to 20 %").click()
    body.get_by_role("button", name="Sample groups").click()
    expect(body.get_by_text("You guessed right.", exact=False)).to_be_visible()
