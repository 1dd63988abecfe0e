"""TD, Monte-Carlo, GAE: click a bar, move a reward and λ by keyboard, answer a question, walk."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    body = page.locator(".st-key-lab-body")
    body.locator(".st-key-gae-stack .bars .point path").nth(7).click(force=True)  # δ₁ at t = 1
    expect(page).to_have_url(re.compile(r"gae\.t=1"))
    bar = body.locator('.drag-bars .bar[aria-label^="Rewards"]').nth(1)
    bar.focus()
    page.keyboard.press("PageUp")
    expect(bar).to_have_attribute("aria-valuenow", "0.5")
    expect(page).to_have_url(re.compile(r"gae\.rewards=0%2C0\.5"))  # Streamlit writes a link whole: two changes at once, and one is lost
    body.locator(".st-key-gae-lambda input").focus()
    page.keyboard.press("Home")
    expect(page).to_have_url(re.compile(r"gae\.lambda=0(&|$)"))
    answer = page.locator(".st-key-q-gae-delta input")
    answer.fill(f"{0.5 + 0.9 * 0.35 - 0.4:.3f}")
    answer.press("Enter")
    expect(page.locator(".st-key-q-gae-delta").get_by_text("Right.", exact=False)).to_be_visible()
    body.get_by_text("Bias and variance on a random walk").click()
    body.locator(".st-key-guess-gae-walk label").get_by_text("many steps").click()
    body.get_by_role("button", name="Walk and measure").click()
    expect(body.get_by_text("You guessed right.", exact=False)).to_be_visible()
    settle(page)
