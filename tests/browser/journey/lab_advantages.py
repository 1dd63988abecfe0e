"""TD, Monte-Carlo, GAE: move a reward and λ by keyboard, click a bar, walk, answer a question."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    body = page.locator(".st-key-lab-body")
    bar = body.locator('.drag-bars .bar[aria-label^="Rewards"]').nth(1)
    bar.focus()
    page.keyboard.press("PageUp")
    expect(bar).to_have_attribute("aria-valuenow", "0.5")
    settle(page)
    body.locator(".st-key-gae-lambda input").focus()
    page.keyboard.press("Home")
    settle(page)
    expect(page).to_have_url(lambda url: "gae.lambda=0" in url and "gae.rewards=0%2C0.5" in url)
    body.locator(".st-key-gae-stack .bars .point path").nth(1).click(force=True)
    settle(page)
    expect(page).to_have_url(lambda url: "gae.t=1" in url)
    delta = 0.5 + 0.9 * 0.35 - 0.4
    answer = body.get_by_label("What is δ_1?", exact=False)
    answer.fill(f"{delta:.3f}")
    answer.press("Enter")
    expect(body.get_by_text("Right.", exact=False).first).to_be_visible()
    body.get_by_text("Bias and variance on a random walk").click()
    settle(page)
    body.locator(".st-key-guess-gae-walk label").get_by_text("many steps").click()
    body.get_by_role("button", name="Walk and measure").click()
    expect(body.get_by_text("You guessed right.", exact=False)).to_be_visible()
