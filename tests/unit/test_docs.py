"""docs/algorithms.md says of every algorithm and of every choice what it is and where it comes from."""

import re
from pathlib import Path

import pytest

from rlhf.algorithms import CONFIGS, title
from rlhf.config import extra_of

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("algorithm", CONFIGS)
def test_every_algorithm_has_its_section(algorithm):
    assert f"\n## {title(algorithm)}\n" in DOCS
    assert f"rlhf/algorithms/{algorithm}.py" in DOCS


@pytest.mark.parametrize("algorithm", CONFIGS)
def test_every_choice_is_documented_with_its_source(algorithm):
    for name, field in CONFIGS[algorithm].model_fields.items():
        for choice, variant in extra_of(field).get("choices", {}).items():
            assert re.search(rf"\b{choice}\b", DOCS), (name, choice)
            assert variant.source[1] in DOCS, (name, choice, variant.source)
