"""The frame of every lab: what it is about, its formula, its body, questions, the page where the same happens on a real language model.

A lab gives its words (`Lab`) and a function that draws its body; the body runs as a fragment, so that a slider redraws it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from pages.components.i18n import _
from pages.components.labs import contents, playing, progress, setting
from pages.components.labs.question import STYLE as QUESTION_STYLE
from pages.components.labs.question import Question, ask
from pages.components.text import plain

STYLE = """
<style>
[class*="st-key-labs-progress-"] { display: none; }
.st-key-lab .katex-display { overflow-x: auto; overflow-y: hidden; margin: 0.3em 0; padding-block: 0.25rem; }
@media (max-width: 640px) { .st-key-lab .katex-display > .katex { font-size: 0.95em; } }
@media (max-width: 1000px) {
  .st-key-lab-body [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) { flex-direction: column; }
  .st-key-lab-body [data-testid="stHorizontalBlock"] > [data-testid="stColumn"] { width: 100%; flex: 1 1 auto; min-width: 0; }
}
</style>
"""


@dataclass(frozen=True)
class Lab:
    """A lab in words. ``page``: its file in pages/, ``name``: its short name in links; ``formula``: LaTeX, ``reading``: two lines on it;
    ``papers``: (title, link); ``code``: its files below rlhf/labs; ``real``: (page, words) where the same happens on a real language model;
    ``questions``: drawn below the body, with the lab's numbers of the moment."""

    page: str
    name: str
    title: str
    lead: str
    formula: str
    reading: str
    papers: Sequence[tuple[str, str]]
    code: Sequence[str]
    real: Sequence[tuple[str, str]]
    questions: Callable[[], Sequence[Question]]


def draw(lab: Lab, body: Callable[[], None]) -> None:
    """The whole page."""
    st.html(STYLE + QUESTION_STYLE)
    progress.sync(lab.name)
    st.title(lab.title, anchor=False)
    st.markdown(lab.lead)
    with st.container(key="lab"):
        with st.expander(_("The formula"), icon=":material/function:", expanded=True):
            st.latex(lab.formula)
            st.markdown(lab.reading)
            papers = " · ".join(f"[{title}]({link})" for title, link in lab.papers)
            st.caption(
                _("Papers: {papers}. The code: {files}.").format(papers=papers, files=", ".join(f"`rlhf/labs/{f}`" for f in lab.code))
            )
        asked, told = setting.asked(lab.name), st.container()
        st.fragment(_with_questions, run_every=playing.pace(lab.name))(lab, body)
        if refused := setting.refused(asked):
            words = _("The link asks for what cannot be set here, so the usual settings stand: {asked}")
            told.info(words.format(asked=plain(", ".join(refused)[:200])), icon=":material/link_off:")
    _where_to_go(lab)


def _with_questions(lab: Lab, body: Callable[[], None]) -> None:
    with st.container(key="lab-body"):
        body()
    playing.leave(lab.name)
    if questions := lab.questions():
        st.markdown(f"##### {_('Check yourself')}")
        for question in questions:
            ask(question)
    progress.tell()


def _where_to_go(lab: Lab) -> None:
    st.markdown(f"##### {_('On a real language model')}")
    for page, words in lab.real:
        st.page_link(f"{page}.py", label=words, icon=":material/arrow_outward:")
    before, after = contents.neighbours(lab.page)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if before:
            st.page_link(f"{before.page}.py", label=before.title, icon=":material/arrow_back:")
        if after:
            st.page_link(f"{after.page}.py", label=after.title, icon=":material/arrow_forward:", icon_position="right")
