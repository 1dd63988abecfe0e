"""The form, the reward mix and the data editor, piece by piece: every field has a widget, and bad data is refused with its place."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.components import choice, config_form, data_editor, reward_editor, setting_widget
from rlhf.algorithms import CONFIGS
from rlhf.config import RewardTerm, extra_of, has_effect
from rlhf.errors import DataError
from rlhf.preferences import PreferencePair, Prompt
from rlhf.rewards import REWARDS

# ---------------------------------------------------------------- fields


@pytest.mark.parametrize("model", ["story", "somebody/model"])
@pytest.mark.parametrize("algorithm", CONFIGS)
def test_every_field_is_shown_once_or_without_effect_or_has_an_editor_of_its_own(algorithm, model):
    shown = [name for group in ("few", *config_form.GROUPS) for name in config_form.fields_of(algorithm, model, group)]
    fields, now = CONFIGS[algorithm].model_fields, vars(config_form.defaults(algorithm, model))
    without_choice = {name for name, field in fields.items() if len(setting_widget.kind_of(field.annotation)[1]) == 1}
    without_effect = {name for name, field in fields.items() if not has_effect(field, now)}
    assert len(shown) == len(set(shown)) and not set(shown) & without_effect
    assert set(shown) | set(config_form.ELSEWHERE) | without_choice | without_effect >= set(fields)


def test_what_has_no_effect_may_not_be_changed():
    _config, wrong = config_form.build("grpo", {"model": "story", "tuning": "full", "lora_rank": 4})
    assert "lora_rank = 4 has no effect here: it belongs to tuning lora" in wrong[""]
    assert config_form.build("grpo", {"model": "story", "tuning": "lora", "lora_rank": 4})[0] is not None


@pytest.mark.parametrize("algorithm", CONFIGS)
def test_every_field_is_explained(algorithm):
    for name, field in CONFIGS[algorithm].model_fields.items():
        if name not in config_form.ELSEWHERE:
            words = setting_widget.explanation(field, field.default)
            assert field.description and field.description in words, name


def test_the_explanation_has_effect_range_and_default():
    words = setting_widget.explanation(CONFIGS["grpo"].model_fields["group_size"], 8)
    assert "better baseline" in words and "Range: 2 to 1,024 responses" in words and "Default for this model: 8" in words


@pytest.mark.parametrize("model", ["story", "sums", "somebody/model"])
@pytest.mark.parametrize("algorithm", CONFIGS)
def test_the_untouched_form_is_the_default_config(algorithm, model):
    config, wrong = config_form.build(algorithm, {"model": model, **vars(config_form.defaults(algorithm, model))})
    assert not wrong and config == config_form.defaults(algorithm, model)


def test_problems_name_the_bound():
    _config, wrong = config_form.build("grpo", {"group_size": 1, "temperature": 0.0, "steps": 2.5})
    assert wrong["group_size"].startswith("must be at least 2")
    assert wrong["temperature"] == "must be more than 0"
    assert wrong["steps"] == "must be a whole number"


def test_a_contradiction_of_several_fields_is_told_as_such():
    _config, wrong = config_form.build("grpo", {"prompts_per_step": 5, "group_size": 3, "minibatches": 2})
    assert list(wrong) == [""] and "15 responses" in wrong[""]


@pytest.mark.parametrize("reward", REWARDS)
def test_every_option_of_every_reward_has_a_widget(reward):
    def script(name: str) -> None:
        from pages.components import setting_widget
        from rlhf.rewards import REWARDS

        for option, field in REWARDS[name].options.model_fields.items():
            setting_widget.field_widget(field, name=option, title=option, default=field.get_default(call_default_factory=True), bound=False)

    at = AppTest.from_function(script, args=(reward,)).run(timeout=60)
    assert not at.exception
    assert len(at.main.children) >= len(REWARDS[reward].options.model_fields)


# ---------------------------------------------------------------- rewards


def mix(default: str = "negative") -> AppTest:
    def script(name: str) -> None:
        import streamlit as st

        from pages.components import reward_editor
        from rlhf.config import RewardTerm

        terms, problem = reward_editor.editor("grpo", "story", (RewardTerm(name=name, weight=1.0),))
        st.session_state["result"] = (terms, problem)

    return AppTest.from_function(script, args=(default,), default_timeout=60).run()


def terms(at: AppTest) -> list[tuple[str, float, dict]]:
    return [(term.name, term.weight, term.options) for term in at.session_state["result"][0]]


def test_rewards_are_added_weighted_and_removed():
    at = mix()
    at.button(key="grpo/reward-add").click().run()
    at.number_input(key="grpo/reward/2/weight").set_value(0.5).run()
    assert terms(at) == [("negative", 1.0, {}), ("repetition", 0.5, {})]
    assert at.query_params["grpo.reward"] in ("negative:1,repetition:0.5", ["negative:1,repetition:0.5"])
    at.button(key="grpo/reward/1/remove").click().run()
    assert terms(at) == [("repetition", 0.5, {})]


def test_options_go_into_the_mix_and_into_the_link():
    at = mix("length")
    at.number_input(key="grpo/reward/1/length/target").set_value(10).run()
    assert terms(at) == [("length", 1.0, {"target": 10})]
    assert '"target": 10' in str(at.query_params["grpo.reward"])


def test_options_that_contradict_are_refused():
    at = mix("words")
    at.multiselect(key="grpo/reward/1/words/wanted").set_value([]).run()
    assert not at.exception
    assert "at least one wanted or unwanted word" in at.session_state["result"][1]


def test_a_text_can_be_tried():
    at = mix()
    assert at.metric[0].label == "Reward" and float(at.metric[0].value) > 0  # the example is sad
    at.text_area(key="grpo/try-text").set_value("A happy, wonderful, lovely day!").run()
    assert at.metric[0].value.startswith("−")


def test_the_link_is_read_back():
    assert reward_editor._from_link("negative:1,repetition:-0.5") == (
        RewardTerm(name="negative", weight=1.0),
        RewardTerm(name="repetition", weight=-0.5),
    )
    assert reward_editor._from_link("not json [") == () or reward_editor._from_link("{broken") == ()


# ---------------------------------------------------------------- data


def table(kind, rows):
    return pd.DataFrame(rows, columns=[*data_editor.COLUMNS[kind], data_editor.HELD])


def test_rows_become_prompts():
    rows = [("37+48=", "85", False), ("Once", None, True), (None, None, None)]
    train, heldout = data_editor.rows_to_items("prompts", table("prompts", rows))
    assert train == [Prompt("37+48=", "85")] and heldout == [Prompt("Once")]


def test_rows_become_pairs():
    train, heldout = data_editor.rows_to_items("pairs", table("pairs", [("Once", " sad", " glad", False)]))
    assert train == [PreferencePair("Once", " sad", " glad")] and not heldout


@pytest.mark.parametrize(
    ("kind", "rows", "words"),
    [
        ("prompts", [("a", "", False), (" ", "85", False)], "Row 2"),
        ("prompts", [], "empty"),
        ("prompts", [(None, None, False)], "empty"),
        ("pairs", [("p", "same", "same", False)], "the same"),
        ("prompts", [("x" * 60_000, "", False)], "60,000"),
    ],
)
def test_bad_rows_are_refused_with_their_number(kind, rows, words):
    with pytest.raises(DataError) as raised:
        data_editor.rows_to_items(kind, table(kind, rows))
    assert words in str(raised.value)


def test_markup_in_names_is_escaped():
    from pages.components.text import plain

    assert plain("<b>**x**</b>") == r"\<b\>\*\*x\*\*\<\/b\>"


# ---------------------------------------------------------------- choices with names of their own

FORMULAS = [
    (algorithm, name, value, variant.formula)
    for algorithm, config in CONFIGS.items()
    for name, field in config.model_fields.items()
    for value, variant in extra_of(field).get("choices", {}).items()
]
_COMMANDS = (
    "alpha arg bar begin beta Big big delta Delta end epsilon eta frac gamma ge hat lambda leftarrow log mathbb mathcal mathrm max mid min "
    "ne operatorname pi pm qquad quad rho sigma sum tau text textstyle tfrac theta varepsilon"
)


@pytest.mark.parametrize(("algorithm", "name", "value", "formula"), FORMULAS, ids=lambda part: str(part)[:20])
def test_a_formula_is_latex_that_katex_reads(algorithm, name, value, formula):
    """Two slips it shows in red on the page: a command run together with the next letter, and an operator as a bare subscript."""
    assert formula.count("{") == formula.count("}"), formula
    unknown = set(re.findall(r"\\([a-zA-Z]+)", formula.replace("\\\\", " "))) - set(_COMMANDS.split())  # without the ends of lines
    assert not unknown, unknown
    assert not re.search(r"[_^]\\(max|min|log|exp|operatorname)", formula), formula


@pytest.mark.parametrize("algorithm", CONFIGS)
def test_names_are_those_of_values_and_no_two_are_the_same(algorithm):
    for name, field in CONFIGS[algorithm].model_fields.items():
        options = setting_widget.kind_of(field.annotation)[1]
        if name in choice.NAMES:
            assert set(options) <= set(choice.NAMES[name]), name
            assert len({choice.named(name, option) for option in options}) == len(options)
