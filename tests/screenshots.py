"""The pictures of the README, of real runs on this machine: ``python -m tests.screenshots`` writes docs/images/*.png (eight minutes)."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from rlhf import jobs, runs
from rlhf.algorithms import DATA, make_config
from rlhf.config import Config
from rlhf.overoptimisation import watched_config
from rlhf.preferences import load_dataset
from rlhf.runs import Run
from tests.serving import ROOT, Server, browser, serve

IMAGES = ROOT / "docs" / "images"
TOKENS = ".rows.clickable .token"


def train(server: Server, algorithm: str, name: str, **fields: Any) -> Run:
    """A run to its end, in the server's worker."""
    return finished(server, make_config(algorithm, **fields), name)


def finished(server: Server, config: Config, name: str) -> Run:
    run = jobs.submit(config, load_dataset(DATA[config.algorithm], config.data), root=server.runs_dir, name=name)
    while run.status.state in ("queued", "running"):
        time.sleep(0.5)
    if run.status.state != "finished":
        raise SystemExit(f"{run.id}: {run.status.state}: {run.status.message}")
    return run


class Camera:
    def __init__(self, page: Any, url: str):
        self.page, self.url = page, url

    def open(self, path: str) -> Any:
        self.page.goto(f"{self.url}/{path}")
        self.settle()
        return self.page.locator('[data-testid="stMain"]')

    def settle(self, seconds: float = 2.0) -> None:
        self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        time.sleep(seconds)  # fonts, plots
        self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()

    def take(self, name: str, height: int = 1000, **part: Any) -> None:
        self.page.set_viewport_size({"width": 1400, "height": height})
        self.settle(1.0)
        self.page.screenshot(path=IMAGES / f"{name}.png", **part)
        self.page.set_viewport_size({"width": 1400, "height": 1000})


def road(camera: Camera) -> None:
    """The guided road at its second stage: votes of the rule, and the reward model that learned them."""
    main_area = camera.open("road?stage=votes")
    main_area.get_by_role("button", name="Let a simulated rater vote 400 times").click()
    main_area.get_by_role("button", name="Go on").wait_for(timeout=300_000)
    main_area.get_by_role("button", name="Go on").click()
    main_area.get_by_role("button", name="Train it on").click()
    main_area.get_by_text("On votes that it has not seen").wait_for(timeout=300_000)
    camera.take("road", 800)


def hacking(camera: Camera, server: Server) -> None:
    """The preset with and without a pull to the reference."""
    watched = [finished(server, watched_config(beta=beta), f"β {beta:g}, seed 0") for beta in (0.0, 0.2)]
    camera.open(f"reward_hacking?runs={','.join(run.id for run in watched)}")
    camera.take("hacking", 1350)


def labs(camera: Camera) -> None:
    """A world that was painted, ten sweeps on; and five steps from one batch."""
    main_area = camera.open("lab_values?grid.part=planning")
    for _ in range(10):
        main_area.get_by_role("button", name="Step").click()
        camera.settle(0.3)
    main_area.get_by_role("button", name="Step").scroll_into_view_if_needed()
    camera.take("lab_values", 1250)
    main_area = camera.open("lab_trust_region")
    main_area.get_by_text("TRPO", exact=True).first.click()
    main_area.get_by_role("button", name="Step").click()
    camera.settle(1.0)
    camera.take("lab_trust_region", 1480)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as chrome, serve(Path(folder)) as server:
        page = chrome.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(120_000)
        camera = Camera(page, server.url)
        main_area = camera.open("")
        main_area.get_by_role("button", name="Make the stories sad").click()
        page.wait_for_url("**run=*")
        (demo,) = runs.list_runs(server.runs_dir)
        main_area.get_by_text("After: story").wait_for(timeout=500_000)
        camera.take("home", 1150)
        ppo = train(server, "ppo", "sad, with a critic", model="story", reward="negative", steps=30)
        dpo = train(server, "dpo", "sad, from pairs", model="story")

        main_area = camera.open(f"grpo?run={demo.id}")
        main_area.locator(TOKENS).nth(20).click()
        page.locator(".st-key-token-formula .katex").first.wait_for()
        main_area.locator(".rows").first.scroll_into_view_if_needed()
        camera.take("formula", 1300, clip={"x": 740, "y": 60, "width": 605, "height": 1240})

        main_area = camera.open(f"compare?run={demo.id}")
        main_area.get_by_role("button", name="Measure on held-out prompts").click()
        camera.settle(8.0)
        camera.take("compare", 1150)

        main_area = camera.open("model?model=story")
        load = main_area.get_by_role("button", name="Load", exact=True)
        if load.count():  # Compare has it in memory already
            load.click()
        main_area.get_by_role("button", name="Write", exact=True).click()
        main_area.get_by_text("What could come next").wait_for()
        main_area.locator(TOKENS).nth(14).click()
        camera.take("model", 1150)

        camera.open(f"runs?runs={demo.id},{ppo.id}")
        camera.take("runs", 1000)
        camera.open(f"dpo?run={dpo.id}")
        camera.take("dpo", 1300)
        road(camera)
        hacking(camera, server)
        labs(camera)


if __name__ == "__main__":
    main()
