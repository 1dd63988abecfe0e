"""What a visitor does in the lab of the policy gradient."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect


def visit(page: Page) -> None:
    main = page.locator('[data-testid="stMain"]')
    bar = main.locator(".drag-bars .bar").nth(3)
    bar.focus()
    for _press in range(3):
        page.keyboard.press("ArrowUp")
    expect(bar).to_have_attribute("aria-valuenow", "0.8")
    expect(page).to_have_url(re.compile(r"pg\.rewards=2"))

    main.get_by_text("The cloud", exact=True).click()
    main.locator(".st-key-guess-pg-cloud label").filter(has_text="its middle stays").click()
    main.get_by_role("button", name="Draw the cloud").click()
    expect(main.get_by_text("You guessed right.")).to_be_visible()
    expect(main.locator(".js-plotly-plot").first).to_be_visible()

    question = main.locator(".st-key-q-pg-baseline")
    question.locator("label").filter(has_text="the scores have mean 0").click()
    expect(question.get_by_text("Right.")).to_be_visible()
