"""In the lab of text as decisions: a token by keyboard, the rest by Play, back in the tree, γ, and a question."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    chips = page.locator(".tree .chip")
    expect(chips).to_have_count(1, timeout=60_000)  # the first model of a server wakes PyTorch
    settle(page)
    page.locator(".bars button.row").first.focus()
    page.keyboard.press("Enter")
    expect(chips).to_have_count(2)
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_text("The text is over")).to_be_visible(timeout=30_000)
    expect(page.locator(".tree .reward")).to_have_count(1)  # the tree is drawn last
    played = chips.count()
    chips.nth(1).click()
    expect(chips.nth(1)).to_have_attribute("aria-current", "true")
    page.locator(".bars button.row").nth(5).click()
    expect(chips).to_have_count(played + 1)
    page.get_by_role("slider", name="γ").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("With γ = 0.99,")).to_be_visible()
    page.locator(".st-key-q-mdp-random").get_by_text("Nothing: it is the old state").click()
    expect(page.locator(".st-key-q-mdp-random").get_by_text("Right.")).to_be_visible()
    settle(page)
