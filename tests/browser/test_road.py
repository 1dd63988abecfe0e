"""The classic road in a real browser: votes by hand and by a rule, a reward model, a policy trained against it, a blind vote."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from rlhf import runs, votes
from tests.browser.test_pages import settle
from tests.serving import serve


@pytest.fixture(scope="module")
def road_server(chrome, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("road")) as started:
        yield started


def button(page, name):
    return page.locator('[data-testid="stMain"]').get_by_role("button", name=name)


@pytest.mark.timeout(420)
def test_from_votes_to_a_blind_comparison(road_server, page):
    root = road_server.runs_dir
    # two votes by hand: kept at once, each once
    page.goto(f"{road_server.url}/votes")
    settle(page)
    button(page, "Start").click(timeout=60_000)
    for done in (1, 2):
        expect(button(page, "Left is better")).to_have_count(1, timeout=60_000)  # the ballot before is gone
        page.wait_for_timeout(700)  # as long as anybody needs to read: faster presses are taken for slips
        button(page, "Left is better").click()
        give_up = time.monotonic() + 20
        while len(votes.find(root=root)) < done and time.monotonic() < give_up:
            page.wait_for_timeout(100)
    assert len(votes.find(root=root)) == 2 and not any(vote.simulated for vote in votes.find(root=root))

    # hundreds by a rule, which say so
    page.goto(f"{road_server.url}/road")
    settle(page)
    button(page, re.compile("Let a simulated rater vote")).click()
    expect(button(page, "Go on: 2 · Reward model")).to_be_visible(timeout=120_000)
    simulated = [vote for vote in votes.find(root=root) if vote.simulated]
    assert len(simulated) == 400 and all(vote.rater.startswith("simulated by") for vote in simulated)

    # the reward model agrees with votes that it has not seen
    button(page, "Go on: 2 · Reward model").click()
    button(page, re.compile("Train it on")).click()
    expect(page.get_by_text("On votes that it has not seen it agrees")).to_be_visible(timeout=150_000)
    (trained,) = [run for run in runs.list_runs(root) if run.algorithm == "reward_model"]
    assert trained.metrics()[-1]["eval/accuracy"] > 0.75

    # a policy is trained against it, stopped early and kept; a refresh in between loses nothing
    button(page, "Go on: 3 · Policy").click()
    button(page, "Train the policy").click()
    expect(page.get_by_text(re.compile(r"Step [3-9] of"))).to_be_visible(timeout=120_000)
    page.reload()
    settle(page)
    button(page, "Stop and keep").click()
    expect(button(page, "Go on: 4 · Blind vote")).to_be_visible(timeout=60_000)
    (policy,) = [run for run in runs.list_runs(root) if run.algorithm == "grpo"]
    (term,) = policy.load_config().reward
    assert term.name == "reward_model" and term.options["source"] == trained.id

    # before against after, without knowing which is which
    button(page, "Go on: 4 · Blind vote").click()
    expect(button(page, "Right is better")).to_have_count(1, timeout=60_000)
    assert "step-" not in page.locator('[data-testid="stMain"]').inner_text()
    button(page, "Right is better").click()
    expect(page.get_by_text("People: after wins")).to_be_visible(timeout=60_000)
    (blind,) = [vote for vote in votes.find(root=root) if vote.left_checkpoint != vote.right_checkpoint]
    assert {blind.left_checkpoint, blind.right_checkpoint} == {"", f"{policy.id}/{policy.checkpoints()[-1].name}"}
    assert blind.prompt not in {item.prompt for item in policy.load_data().train}
