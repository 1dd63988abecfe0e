"""Every page by a cold link, on a wide and on a narrow screen."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.serving import ROOT

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem not in ("index", "__init__"))


def address(server, name: str) -> str:
    return server.url if name == "home" else f"{server.url}/{name}"


def settle(page) -> None:
    """Wait until the script has run to its end and what it wrote is there; no exception may be among it."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for(timeout=60_000)
    expect(page.locator('[data-testid="stMain"] h1').first).to_be_visible()
    expect(page.locator('[data-testid="stException"]')).to_have_count(0)


@pytest.mark.parametrize("name", PAGES)
def test_cold_link(server, page, name):
    """A link straight to a page, in a browser that has seen no other page before: the frame is there, and the page itself."""
    page.goto(address(server, name))
    settle(page)
    expect(page.get_by_text("Page not found")).to_have_count(0)
    sidebar = page.locator('[data-testid="stSidebarNav"]')
    expect(sidebar.get_by_role("link")).to_have_count(len(PAGES))
    here = "/" if name == "home" else f"/{name}"
    assert page.evaluate("location.pathname") == here


@pytest.mark.parametrize("name", PAGES)
def test_narrow_screen(server, chrome, name):
    """On a telephone nothing sticks out at the side, and there is something to read."""
    context = chrome.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True)
    try:
        page = context.new_page()
        page.goto(address(server, name))
        settle(page)
        width = page.evaluate("document.documentElement.clientWidth")
        # what a container scrolls by itself (tables, code) may be wider than the screen
        over = page.evaluate(
            """width => Array.from(document.querySelectorAll('[data-testid="stMain"] [data-testid="stVerticalBlock"] > *'))
                .filter(e => e.offsetParent && e.getBoundingClientRect().right > width + 1)
                .map(e => `${e.className}: ${Math.round(e.getBoundingClientRect().right)} px`).slice(0, 5)""",
            width,
        )
        assert not over, f"wider than {width} px: {over}"
    finally:
        context.close()


def test_every_page_by_its_link_in_the_sidebar(server, page):
    page.goto(server.url)
    settle(page)
    for i in range(len(PAGES)):
        page.locator('[data-testid="stSidebarNav"]').get_by_role("link").nth(i).click()
        settle(page)
