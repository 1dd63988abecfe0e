"""One browser for all these tests, one server for each module; problems in the page are failures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Server, browser, chromium, serve

SHOTS = Path("test-results")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in Path(item.fspath).parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chrome() -> Iterator[Any]:
    if not chromium():
        message = "Chromium is not installed: apt-get install chromium, or set RLHF_CHROMIUM to a browser."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)  # two cores carry browser, server and training
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def server(chrome, tmp_path_factory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("runs")) as started:
        yield started


class Problems(list):
    """What went wrong in the browser itself: exceptions of scripts, and requests that got an error."""

    def watch(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.append(f"script: {error}"))
        page.on("response", self._answered)

    def _answered(self, answer: Any) -> None:
        # At /PAGE Streamlit's browser side first asks for /PAGE/_stcore/… to find out where the server's base path ends.
        if answer.status >= 400 and "/_stcore/" not in answer.url:
            self.append(f"{answer.status} {answer.url}")


@pytest.fixture
def context(chrome) -> Iterator[Any]:
    opened = chrome.new_context(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(30_000)
    opened.set_default_navigation_timeout(60_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context, request) -> Iterator[Any]:
    """A page that fails the test if a script in it did, and leaves a picture behind if the test fails."""
    opened = context.new_page()
    problems = Problems()
    problems.watch(opened)
    failed_before = request.session.testsfailed
    yield opened
    if request.session.testsfailed > failed_before or problems:
        SHOTS.mkdir(exist_ok=True)
        opened.screenshot(path=SHOTS / f"{request.node.name}.png", full_page=True)
    assert not problems, problems
