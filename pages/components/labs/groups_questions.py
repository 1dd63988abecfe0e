"""The questions of the lab on group advantages, with the numbers of the group that is set."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import groups_group as groups
from pages.components.labs.question import Choice, Number, Question
from pages.components.numbers import number


def questions() -> list[Question]:
    group = groups.current()
    size, i = len(group.rewards), group.picked
    name, reward = groups.letters(size)[i], float(group.rewards[i])
    others = float((group.rewards.sum() - reward) / (size - 1))
    return [
        Number(
            "grp/rloo",
            _("In your group, answer {name} earned {reward}, the other {rest} on average {others}. What is its RLOO advantage?").format(
                name=name, reward=number(reward), rest=size - 1, others=number(others)
            ),
            round(reward - others, 6),
            f"{number(reward)} − {f'({number(others)})' if others < 0 else number(others)} = {number(reward - others)}",
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
