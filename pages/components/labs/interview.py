"""The classic interview questions by topic, and how they are drawn: what is solved, what is left, and where each can be tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import interview_policy, interview_preferences, interview_road, progress, setting
from pages.components.labs.interview_item import Item
from pages.components.labs.question import ask


@dataclass(frozen=True)
class Topic:
    """``id`` stands in the link."""

    id: str
    title: str
    items: Sequence[Item]


def topics() -> list[Topic]:
    return [
        Topic("road", _("The road and SFT"), interview_road.road()),
        Topic("reward", _("Rewards"), interview_preferences.reward()),
        Topic("policy", _("Policy gradient and PPO"), interview_policy.policy()),
        Topic("group", _("Groups and memory"), interview_policy.groups()),
        Topic("dpo", _("KL optimum and DPO"), interview_preferences.dpo()),
    ]


def ids(listed: Sequence[Topic]) -> set[str]:
    return {item.question.id for topic in listed for item in topic.items}


def draw(listed: Sequence[Topic]) -> None:
    """The questions of one topic or of all; those solved before can be left out."""
    solved = progress.solved()
    names = {topic.id: f"{topic.title} {_count(topic, solved)}" for topic in listed} | {"all": _("All")}
    chosen = setting.part("quiz", names, "topic")
    unsolved = setting.toggle("quiz", "unsolved", _("Unsolved only"), on_change=progress.settle)
    hidden = solved - progress.fresh() if unsolved else set()
    shown = False
    for topic in listed:
        items = [item for item in topic.items if item.question.id not in hidden]
        if chosen not in ("all", topic.id) or not items:
            continue
        shown = True
        if chosen == "all":
            st.markdown(f"##### {topic.title}")
        for item in items:
            ask(item.question, item.place)
    if not shown:
        st.success(_("All of these are solved."), icon=":material/check:")


def _count(topic: Topic, solved: set[str]) -> str:
    done = sum(item.question.id in solved for item in topic.items)
    return ":green[:material/check:]" if done == len(topic.items) else f":small[:gray[{done}/{len(topic.items)}]]"
