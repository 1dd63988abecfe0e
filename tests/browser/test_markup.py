"""What models and users write is shown as it is written, never as markup: names, prompts, responses, single tokens."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.browser.test_pages import settle
from tests.canned import canned_run

MARKUP = "<img src=x onerror=window.hacked=1> **bold** <b>window</b> $x^2$"


@pytest.fixture(scope="module")
def run(server):
    made = canned_run(server.runs_dir, "grpo", steps=4, name=MARKUP)
    samples = made.path / "samples.jsonl"
    records = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for record in records:
        record["prompt"] = MARKUP
        for response in record["responses"]:
            response["text"] = MARKUP
            response["tokens"]["strings"][0] = "<b>token</b>"
    samples.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return made


@pytest.mark.parametrize("path", ["grpo?run={}", "?run={}", "runs", "compare?run={}"])
def test_markup_is_shown_as_text(server, page, run, path):
    page.goto(f"{server.url}/{path.format(run.id)}")
    settle(page)
    main = page.locator('[data-testid="stMain"]')
    if path != "runs" and not path.startswith("compare"):
        expect(main.get_by_text(MARKUP).filter(visible=True).first).to_be_visible()
    if path.startswith("grpo"):
        expect(main.get_by_text("<b>token</b>").filter(visible=True).first).to_be_visible()
    page.wait_for_timeout(1500)  # an image that fails to load would have run its script by now
    assert page.evaluate("window.hacked") is None
    assert main.locator("b, strong, em", has_text="bold").count() == 0
    assert main.locator("b", has_text="window").count() == 0
    assert main.locator("b", has_text="token").count() == 0
    assert main.locator('img[src="x"]').count() == 0
