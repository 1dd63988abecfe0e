"""One journey through all labs, by the links at their ends, as a workshop would go."""

from __future__ import annotations

import importlib
import re

import pytest
from playwright.sync_api import expect

from pages.components.labs import contents
from tests.browser.test_pages import settle


@pytest.mark.timeout(600)
def test_journey_through_all_labs(server, page):
    labs = contents.entries()
    page.goto(f"{server.url}/{labs[0].page}")
    for here, after in zip(labs, [*labs[1:], None], strict=True):
        settle(page)
        importlib.import_module(f"tests.browser.journey.{here.page}").visit(page)
        settle(page)
        if after:
            page.locator('[data-testid="stMain"]').get_by_role("link", name=after.title, exact=False).last.click()
            expect(page).to_have_url(re.compile(f"/{after.page}"))
