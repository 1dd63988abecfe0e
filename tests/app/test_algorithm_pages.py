"""The pages of the algorithms as Streamlit draws them: settings, the card, Start. No worker is started and nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf import jobs, runs
from rlhf.errors import RunError
from rlhf.preferences import Dataset, Prompt
from tests.app.opening import open_page, texts
from tests.canned import canned_run

PAGES = ("reinforce", "grpo", "ppo", "dpo", "online_dpo", "rrhf")


@pytest.fixture(autouse=True)
def runs_dir(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def submitted(monkeypatch, tmp_path) -> list[tuple[Any, Any]]:
    """What the Start button asked for; the run folder is made, no worker is."""
    asked: list[tuple[Any, Any]] = []

    def submit(config, dataset, root=None, parent=None, name=""):
        asked.append((config, dataset))
        return runs.create(config, dataset, root, parent, name)

    monkeypatch.setattr(jobs, "submit", submit)
    monkeypatch.setattr(jobs, "ensure_worker", lambda root=None: None)
    return asked


def number(at: AppTest, key: str) -> Any:
    return at.number_input(key=key)


def start_button(at: AppTest, name: str, n: int = 0) -> Any:
    return at.button(key=f"{name}/start-{n}")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_ready_to_start_as_it_comes(name):
    at = open_page(name)
    assert not at.error, [element.value for element in at.error]
    assert not start_button(at, name).disabled
    assert "All settings are this model's defaults" in texts(at)
    assert {"Time", "Memory"} <= {metric.label for metric in at.metric}


@pytest.mark.parametrize("name", PAGES)
def test_start_starts_one_run_and_shows_it(name, submitted):
    at = open_page(name)
    start_button(at, name).click().run()
    assert not at.exception
    assert len(submitted) == 1 and submitted[0][0].algorithm == name
    assert at.query_params["run"] == [runs.list_runs()[0].id] or at.query_params["run"] == runs.list_runs()[0].id


def test_a_second_click_at_once_starts_no_second_run(submitted):
    at = open_page("grpo")
    start_button(at, "grpo").click().run()
    start_button(at, "grpo", 1).click().run()
    assert len(submitted) == 1


def test_the_run_gets_what_the_form_shows(submitted):
    at = open_page("grpo")
    number(at, "grpo.steps").set_value(7)
    number(at, "grpo.learning_rate").set_value(2e-4)
    at.run()
    assert "2 settings differ" in texts(at)
    start_button(at, "grpo").click().run()
    config, dataset = submitted[0]
    assert (config.steps, config.learning_rate, config.data) == (7, 2e-4, "story-prompts")
    assert dataset.source == "story-prompts" and len(dataset.heldout) > 0


def test_a_failed_start_says_why(monkeypatch):
    def full(*args, **kwargs):
        raise RunError("The disk is full.", "Delete runs.")

    monkeypatch.setattr(jobs, "submit", full)
    at = open_page("grpo")
    start_button(at, "grpo").click().run()
    assert not at.exception
    assert any("disk is full" in element.value for element in at.error)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("grpo.group_size", 1, "must be at least 2"),
        ("grpo.steps", -5, "must be at least 1"),
        ("grpo.learning_rate", -1e-4, "must be more than 0"),
        ("grpo.beta", 11.0, "must be at most 10"),
        ("grpo.minibatches", 7, "choose a divisor of 64"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(key, value, words):
    at = open_page("grpo")
    number(at, key).set_value(value).run()
    assert not at.exception
    assert start_button(at, "grpo").disabled
    assert any(words in element.value.replace("\\", "") for element in at.error), [element.value for element in at.error]
    number(at, key).set_value({"grpo.group_size": 8, "grpo.steps": 5, "grpo.minibatches": 4}.get(key, 0.01)).run()
    assert not start_button(at, "grpo").disabled


def test_an_emptied_number_goes_back_to_its_default():
    at = open_page("grpo", **{"grpo.steps": "12"})
    number(at, "grpo.steps").set_value(None).run()
    assert not at.exception and number(at, "grpo.steps").value == 60 and not start_button(at, "grpo").disabled


def test_another_model_brings_its_defaults_and_keeps_what_was_set():
    at = open_page("grpo")
    number(at, "grpo.steps").set_value(33).run()
    at.selectbox(key="grpo.model").set_value("sums").run()
    assert number(at, "grpo.steps").value == 33  # the user's
    assert number(at, "grpo.group_size").value == 16  # the model's
    assert at.selectbox(key="grpo.data").value == "sums-prompts"
    assert at.selectbox(key="grpo/reward/2/name").value == "correct"
    at.selectbox(key="grpo.model").set_value("story").run()
    assert number(at, "grpo.steps").value == 33 and number(at, "grpo.group_size").value == 8
    assert not start_button(at, "grpo").disabled


def test_a_link_reproduces_the_settings(submitted):
    link = {"grpo.model": "sums", "grpo.steps": "9", "grpo.seed": "3", "grpo.learning_rate": "0.0002"}
    link["grpo.reward"] = "correct:1,length:0.5"
    at = open_page("grpo", **link)
    start_button(at, "grpo").click().run()
    config = submitted[0][0]
    assert (config.model, config.steps, config.seed, config.learning_rate) == ("sums", 9, 3, 2e-4)
    assert [(term.name, term.weight) for term in config.reward] == [("correct", 1.0), ("length", 0.5)]
    assert config.group_size == 16


@pytest.mark.parametrize("reward", ["", "nonsense:x", "[{", '{"name": 3}', "negative:" + "9" * 5000])
def test_a_broken_reward_in_a_link_shows_the_default_or_says_so(reward):
    at = open_page("grpo", **{"grpo.reward": reward})
    assert at.selectbox(key="grpo/reward/1/name").value == "negative"


def test_an_unknown_reward_in_a_link_is_refused_by_name():
    at = open_page("grpo", **{"grpo.reward": "kindness"})
    assert start_button(at, "grpo").disabled
    assert "kindness" in "\n".join(element.value for element in at.error)


def test_a_hub_id_and_an_unknown_one_are_taken(submitted):
    at = open_page("grpo", **{"grpo.model": "somebody/unheard-of"})
    assert not at.exception
    assert at.selectbox(key="grpo.model").value == "somebody/unheard-of"
    assert "not on this machine" in texts(at)
    start_button(at, "grpo").click().run()
    assert submitted[0][0].model == "somebody/unheard-of"


def test_the_collapse_preset_is_offered_with_its_warning_and_is_no_default():
    at = open_page("grpo")
    assert number(at, "grpo.beta").value == 0.1
    at.button_group(key="grpo/preset").set_value("Collapse (what reward hacking looks like)").run()
    assert (number(at, "grpo.learning_rate").value, number(at, "grpo.beta").value) == (3e-4, 0.02)
    assert any("fall apart" in element.value for element in at.info)
    at.button_group(key="grpo/preset").set_value("Sensible").run()
    assert (number(at, "grpo.learning_rate").value, number(at, "grpo.beta").value) == (1e-4, 0.1)
    at.selectbox(key="grpo.model").set_value("sums").run()
    assert "Collapse" not in str(at.button_group(key="grpo/preset").options)


def test_a_reward_that_needs_answers_refuses_prompts_without():
    at = open_page("grpo")
    at.selectbox(key="grpo/reward/1/name").set_value("correct").run()
    assert start_button(at, "grpo").disabled
    assert any("right answer" in element.value for element in at.error)


def test_a_checkpoint_of_the_same_model_can_be_gone_on_from(submitted, runs_dir):
    run = canned_run(runs_dir, "dpo", steps=4, weights=False)
    canned_run(runs_dir, "grpo", model="sums", steps=4, weights=False)
    at = open_page("grpo")
    options = at.selectbox(key="grpo.adapter_from").options
    assert options[1:] == [f"{run.id}/step-4", f"{run.id}/step-2"]
    at.selectbox(key="grpo.adapter_from").set_value(f"{run.id}/step-4").run()
    start_button(at, "grpo").click().run()
    assert submitted[0][0].adapter_from == f"{run.id}/step-4"


def test_settings_of_one_algorithm_are_not_those_of_another():
    at = open_page("ppo", **{"grpo.steps": "7"})
    assert number(at, "ppo.steps").value != 7


def test_earlier_runs_are_offered_where_none_is_shown(runs_dir):
    run = canned_run(runs_dir, "ppo", steps=4, weights=False)
    at = open_page("ppo")
    assert any(button.key == f"show:{run.id}" for button in at.button)
    assert not any(button.key == f"show:{run.id}" for button in open_page("grpo").button)


def test_a_lora_checkpoint_wants_lora(runs_dir):
    run = canned_run(runs_dir, "grpo", steps=4, weights=False, tuning="lora")
    at = open_page("grpo", **{"grpo.adapter_from": f"{run.id}/step-4"})
    assert start_button(at, "grpo").disabled
    assert any("LoRA adapter" in element.value for element in at.error)
    at.selectbox(key="grpo.tuning").set_value("lora").run()
    assert not start_button(at, "grpo").disabled


def test_a_run_s_settings_can_be_taken_over(runs_dir, submitted):
    """Its own data too: a run on "custom" data gives that data back."""
    run = canned_run(runs_dir, "grpo", model="sums", steps=6, weights=False, data="custom", reward="correct:2,length", learning_rate=1e-3)
    at = open_page("grpo", run=run.id)
    at.button(key="take-over").click().run()
    assert not at.exception, at.exception
    start_button(at, "grpo").click().run()
    config, dataset = submitted[0]
    assert (config.model, config.steps, config.learning_rate, config.data) == ("sums", 6, 1e-3, "custom")
    assert [(term.name, term.weight) for term in config.reward] == [("correct", 2.0), ("length", 1.0)]
    assert dataset == run.load_data()


def test_prompts_that_do_not_fit_can_be_left_out(submitted):
    mine = Dataset((Prompt("1+1=", "2"), Prompt("1" * 500, "2")), (Prompt("2+2=", "4"),), "prompts", "mine.csv")
    at = open_page("grpo", {"grpo/own-data": mine, "grpo.data": "custom", "grpo.model": "sums"})
    assert start_button(at, "grpo").disabled and any("1 of 3 prompts do not fit" in element.value for element in at.error)
    at.button(key="leave-out").click().run()
    assert not start_button(at, "grpo").disabled
    start_button(at, "grpo").click().run()
    assert len(submitted[0][1].train) == 1


def test_a_variant_brings_its_settings_shows_its_formula_and_hides_what_it_does_not_use():
    page = open_page("dpo").run()
    assert page.number_input(key="dpo.beta").value == 0.1 and "dpo.simpo_gamma" not in [field.key for field in page.number_input]
    page.selectbox(key="dpo.variant").select("simpo").run()
    assert not page.exception
    assert page.number_input(key="dpo.beta").value == 2.0
    assert page.number_input(key="dpo.simpo_gamma").value == 0.5
    assert any("SimPO" in caption.value for caption in page.caption) and any(r"\gamma" in formula.value for formula in page.latex)
    page.number_input(key="dpo.beta").set_value(3.0).run()
    page.selectbox(key="dpo.variant").select("ipo").run()
    assert page.number_input(key="dpo.beta").value == 3.0  # what the user set stays


def linked(at: AppTest, name: str) -> str:
    value = at.query_params.get(name, "")
    return value[0] if isinstance(value, list) else value


def test_a_choice_stands_in_the_link_by_its_value_unless_it_is_the_default():
    at = open_page("reinforce")
    assert not linked(at, "reinforce.baseline")
    at.selectbox(key="reinforce.baseline").select("leave_one_out").run()
    assert at.selectbox(key="reinforce.baseline").value == "leave_one_out"
    assert linked(at, "reinforce.baseline") == "leave_one_out"
    assert "Running mean → **Leave one out" in texts(at)
    at.selectbox(key="reinforce.baseline").select("running_mean").run()
    assert not linked(at, "reinforce.baseline") and "All settings are this model's defaults" in texts(at)


def test_a_link_chooses_and_one_that_names_no_value_is_ignored():
    at = open_page("grpo", **{"grpo.variant": "gspo"})
    assert at.selectbox(key="grpo.variant").value == "gspo" and number(at, "grpo.epsilon_high").value == 4e-4
    at = open_page("grpo", **{"grpo.variant": "foo"})
    assert not at.exception and at.selectbox(key="grpo.variant").value == "grpo" and not linked(at, "grpo.variant")


def test_a_preset_of_a_variant_is_lit_and_sensible_leads_back(submitted):
    at = open_page("grpo")
    at.button_group(key="grpo/preset").set_value("DAPO").run()
    assert at.session_state["grpo/preset"] == "DAPO" and number(at, "grpo.epsilon_high").value == 0.28
    at.button_group(key="grpo/preset").set_value("Sensible").run()
    assert at.session_state["grpo/preset"] == "Sensible" and number(at, "grpo.epsilon_high").value == 0.2
    start_button(at, "grpo").click().run()
    assert submitted[0][0].variant == "grpo" and not submitted[0][0].differences()
