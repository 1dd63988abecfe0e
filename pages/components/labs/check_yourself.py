"""The page Check yourself as a whole: how far one is, the interview questions, the challenges."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import challenge_list, contents, interview, progress, setting


def body() -> None:
    listed = interview.topics()
    _progress(interview.ids(listed))
    part = setting.part("quiz", {"questions": _("Interview questions"), "challenges": _("Challenges on real runs")})
    if part == "questions":
        interview.draw(listed)
    else:
        challenge_list.draw()
    progress.tell()


def _progress(questions: set[str]) -> None:
    """Of the questions and challenges here a share; of the labs a count, as their questions follow their settings."""
    solved = progress.solved()
    done, met = len(solved & questions), len(solved & challenge_list.ids())
    total = len(questions) + len(challenge_list.ids())
    words = _("{done} of {questions} questions, {met} of {challenges} challenges")
    text = words.format(done=done, questions=len(questions), met=met, challenges=len(challenge_list.ids()))
    st.progress((done + met) / total, text=text)
    by_lab = Counter(name.partition("/")[0] for name in solved)
    with st.expander(_("Solved in the labs, and starting anew"), icon=":material/checklist:"):
        st.caption(_("Kept in this browser alone, for all its tabs: no account, and nothing on the server."))
        labs = [entry for entry in contents.entries() if entry.page != "check_yourself"]
        cells = st.grid(4, min_column_width=190, gap=("small", "small")) if labs else None
        for entry in labs:
            n = by_lab[entry.name]
            label = f"{entry.title} · {n}" if n else entry.title
            assert cells is not None
            cells.cell().page_link(f"{entry.page}.py", label=label, icon=":material/check_circle:" if n else entry.icon)
        with st.popover(_("Start anew"), icon=":material/restart_alt:", type="tertiary"):
            st.markdown(_("All that is solved, here and in the labs, is forgotten in this browser. Runs stay as they are."))
            st.button(_("Forget it"), key="quiz/forget", on_click=progress.forget, disabled=not solved)
