"""Words that pages show: names that are told apart, and settings that have a name to translate."""

from __future__ import annotations

import pytest

from pages.components.bt_curve import _chance
from pages.components.config_form import ELSEWHERE
from pages.components.setting_widget import LABELS
from pages.components.text import told_apart
from rlhf.algorithms import DATA, make_config


def test_names_that_several_have_get_the_end_of_their_id():
    assert told_apart({"x-1111": "β 0", "x-2222": "β 0", "x-3333": "β 1"}) == {
        "x-1111": "β 0 (1111)", "x-2222": "β 0 (2222)", "x-3333": "β 1",
    }  # fmt: skip
    assert told_apart({"x-1111/step-4": "a, step 4", "x-2222/step-4": "a, step 4"})["x-2222/step-4"] == "a, step 4 (2222)"


@pytest.mark.parametrize("algorithm", sorted(DATA))
def test_every_setting_has_a_name(algorithm: str):
    assert set(type(make_config(algorithm)).model_fields) - set(ELSEWHERE) <= set(LABELS)


@pytest.mark.parametrize(("p", "text"), [(0.5, "0.500"), (1.0, "1.00"), (0.9994, "0.999"), (0.99966, "0.99966"), (1 - 4.54e-5, "0.999955")])
def test_a_probability_below_1_is_never_written_as_1(p: float, text: str):
    assert _chance(p) == text
