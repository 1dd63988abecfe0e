"""The questions of the lab on group advantages, with the numbers of the group that is set."""

from __future__ import annotations

import numpy as np

from pages.components.i18n import _
from pages.components.labs import groups_group as groups
from pages.components.labs.question import Choice, Number, Question


def _written(value: float) -> str:
    """All its digits, with a true minus sign."""
    return f"{value + 0.0:g}".replace("-", "−")


def questions() -> list[Question]:
    rewards, i = groups.current()
    size = len(rewards)
    # to four places, as they are printed: who puts the printed numbers in is right
    reward, others = round(float(rewards[i]), 4), round(float(np.delete(rewards, i).mean()), 4)
    answer = round(reward - others, 4)
    return [
        Number(
            "grp/rloo",
            _("In your group, answer {name} earned {reward}, the other {rest} on average {others}. What is its RLOO advantage?").format(
                name=groups.letters(size)[i], reward=_written(reward), rest=size - 1, others=_written(others)
            ),
            answer,
            f"{_written(reward)} − {f'({_written(others)})' if others < 0 else _written(others)} = {_written(answer)}",
            0.02,
        ),
        Choice(
            "grp/outlier",
            _("One of G = 16 answers is right. Its GRPO advantage is about 3.75. What if its reward were 100 instead of 1?"),
            [_("A hundred times as large"), _("The same"), _("Ten times as large")],
            1,
            _("Dividing by the standard deviation takes the scale away: (16 − 1)/√16 = 3.75. Dr. GRPO's would be a hundred times it."),
        ),
        Choice(
            "grp/critic",
            _("Why does GRPO need no critic?"),
            [
                _("It does not need a baseline"), _("The other answers to the same prompt say what was to be expected"),
                _("The reward model is the critic"),
            ],
            1,
            _("The group's mean is a fresh estimate of the prompt's value, with standard error σ/√G: paid in answers, not in a network."),
        ),
        Choice(
            "grp/length",
            _("Two wrong answers, 10 and 100 tokens long, with the same advantage. Under GRPO, a token of the long one is pushed down …"),
            [_("ten times less"), _("as much"), _("ten times more")],
            0,
            _("1/|o|: 1/100 against 1/10. Each whole answer weighs the same, so length dilutes the blame."),
        ),
    ]  # fmt: skip
