"""Home: what is on it, the one click, before and after; the frame around every page; and that torch stays out of the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.components import demo, i18n
from rlhf import runs
from rlhf.events import Finished, Sample, Step
from rlhf.runs import Run, RunWriter
from tests.app.opening import open_page
from tests.canned import canned_run, canned_writer

ROOT = Path(__file__).parents[2]


def home(run: Run | str = "", **query: str) -> AppTest:
    run_id = run if isinstance(run, str) else run.id
    return open_page("home", **({"run": run_id} if run_id else {}), **query)


def test_home_says_what_this_is_and_offers_one_primary_button(root: Path):
    at = home()
    assert not at.exception and at.title[0].value == "RLHF Playground"
    assert at.button(key="demo-sad").label == "Make the stories sad" and at.button(key="demo-happy").label == "Make them happy"
    assert not runs.list_runs()


def test_one_click_starts_one_run(root: Path):
    at = home()
    at.button(key="demo-sad").click().run()
    assert not at.exception
    (run,) = runs.list_runs()
    config = run.load_config()
    assert (config.algorithm, config.model, config.steps, config.seed) == ("grpo", "story", demo.STEPS, 0)
    assert [term.name for term in config.reward] == ["negative"]  # type: ignore[attr-defined]
    assert at.query_params["run"] in (run.id, [run.id])
    assert at.button(key="demo-sad").disabled and at.button(key="demo-happy").disabled


def _double_click() -> None:
    from pages.components import demo

    demo.start("home", "negative", "sad")
    demo.start("home", "negative", "sad")
    demo.start("home", "positive", "happy")


def test_a_double_click_starts_one_run(root: Path):
    at = AppTest.from_function(_double_click, default_timeout=60).run()
    assert not at.exception and len(runs.list_runs()) == 1
    assert at.query_params["run"] in (runs.list_runs()[0].id, [runs.list_runs()[0].id])


def test_happy_is_the_other_reward(root: Path):
    at = home()
    at.button(key="demo-happy").click().run()
    (run,) = runs.list_runs()
    assert [term.name for term in run.load_config().reward] == ["positive"]  # type: ignore[attr-defined]


def test_a_copied_link_shows_the_same_run(root: Path):
    with canned_writer(root, steps=20, done=5, weights=False) as writer:
        at = home(writer.run)
        assert not at.exception
        assert any("Step 5 of 20" in str(p.proto.text) for p in at.get("progress"))


def test_a_failed_start_is_told(root: Path, monkeypatch: pytest.MonkeyPatch):
    (root / "file").write_text("")
    monkeypatch.setenv("RLHF_RUNS_DIR", str(root / "file"))
    at = home()
    at.button(key="demo-sad").click().run()
    assert not at.exception and at.error


@pytest.mark.parametrize("run_id", ["..", "gone", "%2e%2e%2f"])
def test_bad_links(root: Path, run_id: str):
    at = home(run_id)
    assert not at.exception and at.warning


def heldout_sample(step: int, text: str, reward: float) -> Sample:
    tokens = {"ids": [1], "strings": [text], "logprobs": [-1.0], "old_logprobs": [-1.0], "ref_logprobs": [-1.0], "entropies": [1.0]}
    answer = {"text": text, "reward": reward, "reward_parts": {"negative": reward}, "finished": True, "tokens": tokens}
    return Sample(step, {"split": "heldout", "prompt": "Sam had a kite.", "answer": None, "responses": [answer]})


def test_before_is_the_untouched_start_and_after_the_last_measurement(root: Path):
    writer: RunWriter = canned_writer(root, steps=4, done=0, weights=False)
    for step, text, reward in ((0, "He smiled *a lot*.", -0.7), (2, "He frowned.", 0.2), (4, "He cried.", 0.8)):
        writer.write(heldout_sample(step, text, reward))
        writer.write(Step(step, {"eval/reward": reward}))
    writer.write(Finished(4))
    writer.close()
    at = home(writer.run)
    assert not at.exception
    shown = "\n".join(str(m.value) for m in at.markdown)
    assert r"He smiled \*a lot\*\." in shown and r"He cried\." in shown and "frowned" not in shown
    assert "Before: story as it ships, step 0" in shown and "After: story + GRPO, step 4" in shown


@pytest.mark.parametrize("page", ["home", "model", "reinforce", "grpo", "ppo", "dpo", "compare", "runs"])
@pytest.mark.parametrize("language", list(i18n.LANGUAGES))
def test_every_page_in_every_language(root: Path, page: str, language: str):
    canned_run(root, steps=4, weights=False)
    at = open_page(page, lang=language)
    assert not at.exception and (at.title or at.header or at.markdown)


def test_the_language_switch(root: Path):
    at = home()
    at.selectbox(key="lang").set_value("zh_CN").run()
    assert not at.exception
    assert at.button(key="demo-sad").label != "Make the stories sad"
    assert home(lang="zh_CN").button(key="demo-sad").label == at.button(key="demo-sad").label
    assert home(lang="<script>").button(key="demo-sad").label == "Make the stories sad"


def test_the_sidebar_lists_what_is_under_way(root: Path):
    with canned_writer(root, steps=20, done=5, weights=False):
        at = home()
        assert any("5 / 20" in str(p.proto.text) for p in at.get("progress"))


def test_a_damaged_run_under_way_breaks_no_page(root: Path):
    with canned_writer(root, steps=20, done=5, weights=False) as writer:
        (writer.run.path / "config.json").write_text("{")
        assert not home().exception
        assert not home(writer.run).exception


COLD = """
import sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file("pages/index.py", default_timeout=60).run()
assert not at.exception, at.exception
heavy = {"torch", "transformers", "peft", "tokenizers", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_first_page_imports_no_torch(tmp_path: Path):
    environment = {**os.environ, "RLHF_RUNS_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", COLD], cwd=ROOT, env=environment, check=True, timeout=120)


def test_the_server_app_imports_no_torch(tmp_path: Path):
    code = "import sys, app; assert not {'torch', 'transformers'} & set(sys.modules); assert app.PLOTLY.is_file()"
    environment = {**os.environ, "RLHF_RUNS_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)
