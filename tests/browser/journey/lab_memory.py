"""What a visitor does in the lab of memory: from four models to one and a bit, a slider by keyboard, the table, and a question."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page) -> None:
    main = page.locator('[data-testid="stMain"]')
    expect(main.get_by_text("3.87 × the weights")).to_be_visible()
    main.get_by_role("button", name="One and a bit").click()
    settle(page)
    expect(main.get_by_text("with the adapter off").first).to_be_visible()
    rank = main.get_by_role("slider", name="Rank of LoRA")
    rank.focus()
    before = rank.get_attribute("aria-valuenow")
    page.keyboard.press("ArrowRight")
    settle(page)
    expect(rank).not_to_have_attribute("aria-valuenow", before)
    expect(page).to_have_url(re.compile(r"mem\.rank="))
    main.get_by_text("The methods compared", exact=True).click()
    settle(page)
    expect(main.get_by_test_id("stDataFrame")).to_be_visible()
    main.get_by_text("The frozen weights with the adapter off are the reference").click()
    settle(page)
    expect(main.get_by_text("Right.").first).to_be_visible()
