"""Check yourself: the classic interview questions, answered with numbers, and challenges on real runs."""

from __future__ import annotations

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import check_yourself, contents, progress, question
from pages.components.labs.frame import STYLE

st.html(STYLE + question.STYLE)
progress.sync("quiz")
st.title(_("Check yourself"), anchor=False)
st.markdown(
    _(
        "The questions that interviews on RLHF ask, answered with numbers that are computed on the spot; and challenges to reach with a "
        "real run, verified from what the run itself recorded."
    )
)
with st.container(key="lab"):
    st.fragment(check_yourself.body)()
before, _after = contents.neighbours("check_yourself")
if before:
    st.page_link(f"{before.page}.py", label=before.title, icon=":material/arrow_back:")
