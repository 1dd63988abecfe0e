"""Trust regions: a reward moved, a guess, one update by five methods, another method's numbers, a question."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    main = page.locator('[data-testid="stMain"]')
    bar = main.locator(".drag-bars .bar").nth(1)  # the reward of b
    bar.focus()
    page.keyboard.press("ArrowUp")
    expect(main.get_by_text("b (0.55)")).to_be_visible()
    settle(page)
    main.locator('.st-key-guess-tr-furthest [data-testid="stRadioOption"]', has_text="Plain gradient").click()
    main.get_by_role("button", name="Step", exact=True).click()
    expect(main.get_by_text("You guessed right.")).to_be_visible()
    expect(main.get_by_text("The numbers of TRPO")).to_be_visible()
    settle(page)
    main.locator(".st-key-q-tr-cut").get_by_text("the gradient pulls it back").click()
    expect(main.locator(".st-key-q-tr-cut").get_by_text("Right.")).to_be_visible()
