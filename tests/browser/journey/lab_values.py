"""In the lab on values: step, look at a cell, paint by keyboard and by mouse, learn from episodes, answer a question."""

from __future__ import annotations

import re

from playwright.sync_api import expect


def visit(page) -> None:
    page.get_by_role("button", name="Corridor").click()
    expect(page).to_have_url(re.compile(r"grid\.map=S\.{6}G"))
    page.locator(".st-key-grid-sweeps-step button").click()
    board = page.locator(".grid-board").first
    expect(board.locator('[data-cell="0,6"]')).to_contain_text("1.00")  # the goal's neighbour, after one sweep

    board.locator('[data-cell="0,5"]').click()
    expect(page.get_by_text("The Bellman equation of cell (1, 6)")).to_be_visible()

    board.get_by_role("button", name="Pit").press("Enter")
    board.locator('[data-cell="0,5"]').press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile(r"grid\.map=S\.{6}G"))
    expect(page.get_by_text("No way leads from a start to a goal")).to_be_visible()
    board.get_by_role("button", name="Free").click()
    box = board.locator('[data-cell="0,4"]').bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 1.5, box["y"] + box["height"] / 2)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"grid\.map=S\.{6}G"))

    page.get_by_text("Learn them from samples").click()
    page.locator(".st-key-grid-episodes-step button").click()
    expect(page.get_by_test_id("stMetric").filter(has_text="Episodes of each")).to_contain_text("10")
    page.locator(".st-key-q-grid-target label").filter(has_text="When the next action").click()
    expect(page.get_by_text("off-policy")).to_be_visible()
