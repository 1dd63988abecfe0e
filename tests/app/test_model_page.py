"""Model: nothing heavy before it is asked for; loading, writing and what goes wrong; the shelf of models; the token view's arithmetic."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pages.components import model_choice, models, tokens
from pages.components.models import Shelf
from rlhf.compare import Side
from rlhf.errors import ModelError, OutOfMemoryError
from tests.app.opening import open_page, press, texts
from tests.canned import canned_run

page = partial(open_page, "model")


@pytest.fixture(autouse=True)
def empty_shelf(root: Path) -> None:
    models.shelf.clear()


def test_facts_are_there_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch):
    def nobody_asked(*args: Any) -> None:
        raise AssertionError("the page loads a model that nobody asked for")

    monkeypatch.setattr(models, "_load_side", nobody_asked)
    at = page(model="sums")
    assert not at.exception
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures["Layers"] == "3" and figures["Vocabulary"] == "13" and figures["Context"] == "32 tokens"
    assert [button.key for button in at.button if button.key == "load-model"]


def test_load_write_and_look():
    at = press(page(model="sums"), "load-model")
    assert not at.exception and "Device" in {metric.label for metric in at.metric}
    at = press(at, "write")
    assert not at.exception
    written = at.session_state["written"]
    assert len(written.texts) == 3 and "".join(written.texts[0].strings).startswith("37+48=")
    assert "What could come next" in texts(at) and "equally likely tokens" in texts(at)


def test_same_seed_same_answers():
    at = press(press(page(model="sums"), "load-model"), "write")
    first = at.session_state["written"].texts
    assert press(at, "write").session_state["written"].texts == first


def test_prompt_that_does_not_fit_is_told_not_raised():
    at = press(page(model="sums"), "load-model")
    at.text_area[0].set_value("1+1=" * 20).run()
    at = press(at, "write")
    assert not at.exception and "context" in at.error[0].value


def test_checkpoint_of_a_run_can_be_looked_into(root: Path):
    run = canned_run(root, "grpo", model="sums", steps=4, name="mine")
    at = page(model="sums", weights=f"{run.id}/step-4")
    assert "trained by mine, step 4" in texts(at)
    at = press(press(at, "load-model"), "write")
    assert not at.exception and at.session_state["written"].side.step == 4


@pytest.mark.parametrize("model", ["no-such-model", "/nowhere/at/all", "../../etc"])
def test_unknown_model_says_what_to_do(model: str):
    at = press(page(model=model), "load-model")
    assert not at.exception
    assert at.error and "Choose" in at.error[0].value


def test_link_to_a_checkpoint_that_is_gone():
    at = page(model="sums", weights="no-such-run/step-3")
    assert not at.exception and "no-such-run" in texts(at)


def test_link_of_another_models_checkpoint_falls_back(root: Path):
    run = canned_run(root, "grpo", model="sums", steps=4)
    at = page(model="story", weights=f"{run.id}/step-4")
    assert not at.exception and [button.key for button in at.button if button.key == "load-model"]


def test_parameters_are_counted_in_words():
    assert model_choice._count(1_600_000) == "1.60 million"
    assert model_choice._count(1_240_000_000) == "1.24 billion"


# ---------------------------------------------------------------- the shelf of models


def fake_shelf(size: int = 1, most: float = 100.0, device: str = "cpu") -> tuple[Shelf, list[str]]:
    asked: list[str] = []

    def load(side: Side, base: Any, progress: Any) -> Any:
        asked.append(side.model if side.is_untouched else f"{side.model}+")
        if side.model == "bad":
            raise ModelError("There is no model “bad”.", "Choose another.")
        return SimpleNamespace(memory_bytes=size, parameters=1, device=SimpleNamespace(type=device))

    return Shelf(cast(Any, load), most), asked


def test_a_model_is_loaded_once_however_many_ask():
    shelf, asked = fake_shelf()
    loads = [shelf.fetch(Side("sums")) for _ in range(5)]
    assert len({id(load.future.result(timeout=60)) for load in loads}) == 1
    assert asked == ["sums"]


def test_what_was_used_longest_ago_goes_first():
    shelf, _asked = fake_shelf(size=40, most=100.0)
    for model in ("a", "b"):
        shelf.fetch(Side(model)).future.result(timeout=60)
    assert shelf.ready(Side("a"))  # used again
    shelf.fetch(Side("c")).future.result(timeout=60)
    assert shelf.ready(Side("a")) and shelf.ready(Side("c")) and not shelf.ready(Side("b"))


def test_a_model_larger_than_the_shelf_is_kept_alone():
    shelf, _asked = fake_shelf(size=500, most=100.0)
    for model in ("a", "b"):
        shelf.fetch(Side(model)).future.result(timeout=60)
    assert shelf.ready(Side("b")) and not shelf.ready(Side("a"))


def test_on_a_gpu_its_memory_is_the_bound(monkeypatch: pytest.MonkeyPatch):
    given_back: list[bool] = []
    monkeypatch.setattr(models, "gpu_bytes", lambda: 200)
    monkeypatch.setattr(models, "give_back_gpu_memory", lambda: given_back.append(True))
    shelf, _asked = fake_shelf(size=40, most=1000.0, device="cuda")
    for model in ("a", "b"):
        shelf.fetch(Side(model)).future.result(timeout=60)
    assert shelf.ready(Side("b")) and not shelf.ready(Side("a")), "40 + 40 is more than a quarter of 200"
    assert given_back


def test_a_failed_load_is_told_and_may_be_tried_again():
    shelf, asked = fake_shelf()
    for _ in range(2):
        with pytest.raises(ModelError):
            shelf.fetch(Side("bad")).future.result(timeout=60)
    assert asked == ["bad", "bad"]


def test_a_tuned_model_brings_its_base(root: Path):
    shelf, asked = fake_shelf()
    layer = root / "step-1"
    layer.mkdir()
    shelf.fetch(Side("sums", (layer,), "run")).future.result(timeout=60)
    assert asked == ["sums", "sums+"] and shelf.ready(Side("sums"))


def test_lack_of_memory_is_told():
    frozen = models.Frozen(Side("sums"), cast(Any, SimpleNamespace(parameters=1)), threading.Lock())
    with pytest.raises(OutOfMemoryError), models.computing(frozen):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes")
    with pytest.raises(RuntimeError, match="shape"), models.computing(frozen):
        raise RuntimeError("shape mismatch")
    assert not frozen.lock.locked()


# ---------------------------------------------------------------- the token view


def test_colours_are_clamped_and_symmetric():
    """101 values from −1 to 1 and an outlier: the 98th percentile is full colour; a value and its opposite are as strong."""
    values = [i / 50 - 1 for i in range(101)] + [1000.0]
    limit = tokens.colour_limit(values)
    assert 0.9 < limit < 1.1
    assert tokens.levels([limit, -limit, 1000.0, -1000.0, 0.0], limit) == [1.0, -1.0, 1.0, -1.0, 0.0]
    assert tokens.levels([None, float("nan"), 0.5 * limit], limit) == [None, None, 0.5]


def test_sequential_colours_start_at_zero():
    assert tokens.levels([-1.0, 0.0, 1.0, 2.0], 2.0, "sequential") == [0.0, 0.0, 0.5, 1.0]


def test_nothing_to_colour():
    assert tokens.colour_limit([]) == 0.0
    assert tokens.colour_limit([None, float("inf")]) == 0.0
    assert tokens.levels([0.0, 0.0], 0.0) == [None, None]


CONTENT = [{"strings": ["a", "b"]}, {"strings": ["c"]}]


@pytest.mark.parametrize(
    ("clicked", "expected"),
    [
        (["now", 0, 1], (0, 1)),
        (["now", 1, 0], (1, 0)),
        (["before", 0, 1], None),  # on texts that are no longer shown
        (["now", None, 1], None),  # unselected
        (["now", 1, 1], None),
        (["now", -1, 0], None),
        (["now", "0", 0], None),
        ("now", None),
        (None, None),
    ],
)
def test_a_click_counts_only_where_it_belongs(clicked: Any, expected: tuple[int, int] | None):
    assert tokens._position(clicked, "now", CONTENT) == expected
