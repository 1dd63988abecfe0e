"""Lab 7: advantages from a group of answers, and what scaling, lengths, difficulty and the group's size do to them."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import frame, groups_difficulty, groups_group, groups_lengths, groups_size, setting
from pages.components.labs.groups_questions import questions

FORMULA = r"""
\begin{aligned}
\hat A_i^{\text{GRPO}}&=\frac{r_i-\operatorname{mean}(r)}{\operatorname{std}(r)}\\
\hat A_i^{\text{Dr. GRPO}}&=r_i-\operatorname{mean}(r)\\
\hat A_i^{\text{RLOO}}&=r_i-\frac{1}{G-1}\sum_{j\ne i}r_j
\end{aligned}
"""


def body() -> None:
    parts = {
        "group": _("A group"), "lengths": _("Lengths"), "difficulty": _("Hard and easy prompts"), "size": _("How many answers?"),
    }  # fmt: skip
    shown = setting.part("grp", parts)
    {
        "group": groups_group.draw, "lengths": groups_lengths.draw, "difficulty": groups_difficulty.draw, "size": groups_size.draw,
    }[shown]()  # fmt: skip


frame.draw(
    frame.Lab(
        page="lab_groups",
        name="grp",
        title=_("Group advantages"),
        lead=_("Several answers to one prompt, each judged against the others. No critic: the group says what was to be expected."),
        formula=FORMULA,
        reading=_(
            "The mean of the group is the baseline. GRPO also divides by the group's standard deviation; Dr. GRPO does not.  \n"
            "RLOO leaves an answer out of its own baseline, which is Dr. GRPO times G/(G − 1)."
        ),
        papers=(
            ("GRPO (Shao et al. 2024)", "https://arxiv.org/abs/2402.03300"),
            ("Dr. GRPO (Liu et al. 2025)", "https://arxiv.org/abs/2503.20783"),
            ("RLOO (Ahmadian et al. 2024)", "https://arxiv.org/abs/2402.14740"),
            ("DAPO (Yu et al. 2025)", "https://arxiv.org/abs/2503.14476"),
        ),
        code=("group_advantages.py",),
        real=(
            ("grpo", _("GRPO, Dr. GRPO and DAPO: click a token")),
            ("reinforce", _("REINFORCE with leave-one-out (RLOO)")),
        ),
        questions=questions,
    ),
    body,
)
