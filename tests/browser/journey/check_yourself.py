"""Check yourself: answer by keyboard, find the progress in another tab, start anew there, and open a challenge."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from tests.browser.test_pages import settle


def visit(page: Any) -> None:
    stages = page.locator(".st-key-q-quiz-stages")
    stages.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    while stages.get_by_text("Right.").count() == 0:
        page.keyboard.press("ArrowDown")
        settle(page)
    expect(page.get_by_text("1 of 24 questions")).to_be_visible()
    number = page.locator(".st-key-q-quiz-exposure input")
    number.fill("0.526")
    number.press("Enter")
    expect(page.get_by_text("2 of 24 questions")).to_be_visible()

    other = page.context.new_page()
    other.goto(page.url)  # a session of its own: what it knows is what the browser kept
    expect(other.get_by_text("2 of 24 questions")).to_be_visible()
    other.get_by_text("Solved in the labs, and starting anew").click()
    other.get_by_role("button", name="Start anew").click()
    other.get_by_role("button", name="Forget it").click()
    expect(page.get_by_text("0 of 24 questions")).to_be_visible()
    other.close()
    settle(page)

    page.get_by_role("radio", name="Challenges on real runs").or_(page.get_by_role("button", name="Challenges on real runs")).click()
    expect(page.get_by_text("No run on this server")).to_be_visible()
    page.locator(".st-key-quiz-challenge").get_by_text("Make GRPO learn nothing").click()
    expect(page.get_by_role("heading", name="Make GRPO learn nothing")).to_be_visible()
