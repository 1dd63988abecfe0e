"""The labs in their order: for the navigation, and for the way from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

from pages.components.i18n import _


@dataclass(frozen=True)
class Entry:
    """``page``: the file in pages/ without its ending, which is also the address; ``name``: its short name in links and in the ids of its
    questions."""

    page: str
    title: str
    icon: str
    name: str


def entries() -> list[Entry]:
    return [
        Entry("lab_text", _("Text as decisions"), ":material/account_tree:", "mdp"),
        Entry("lab_values", _("Values and Bellman"), ":material/grid_on:", "grid"),
        Entry("lab_policy_gradient", _("Policy gradient"), ":material/scatter_plot:", "pg"),
        Entry("lab_advantages", _("TD, Monte-Carlo, GAE"), ":material/stacked_bar_chart:", "gae"),
        Entry("lab_trust_region", _("Trust regions"), ":material/target:", "tr"),
        Entry("lab_kl", _("KL optimum and DPO"), ":material/vertical_align_center:", "kl"),
        Entry("lab_groups", _("Group advantages"), ":material/groups_2:", "grp"),
        Entry("lab_memory", _("Four models or two?"), ":material/memory:", "mem"),
        Entry("check_yourself", _("Check yourself"), ":material/quiz:", "quiz"),
    ]


def neighbours(page: str) -> tuple[Entry | None, Entry | None]:
    """The lab before this one and the one after it."""
    listed = entries()
    at = next(i for i, entry in enumerate(listed) if entry.page == page)
    return (listed[at - 1] if at else None), (listed[at + 1] if at + 1 < len(listed) else None)
