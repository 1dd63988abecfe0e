"""Votes: which of two answers is better; by people, or by a stated rule; kept, looked through, and turned into pairs to train on."""

from __future__ import annotations

import streamlit as st

from pages.components import vote_ballot, vote_browser, vote_exchange, vote_rule
from pages.components.i18n import _
from pages.components.text import show_error
from rlhf.errors import PlaygroundError

st.title(_("Votes"), anchor=False)
st.markdown(_("The model answers twice, you say which answer is better. Votes are what a reward model and DPO learn from."))

PARTS = {
    "vote": (_("Vote"), vote_ballot.draw),
    "rule": (_("Simulated rater"), vote_rule.draw),
    "browse": (_("The votes"), vote_browser.draw),
    "files": (_("Import and export"), vote_exchange.draw),
}
# only the open part is drawn: the others would read all the votes again at every click
tabs = st.tabs([title for title, _draw in PARTS.values()], key="votes/tab", on_change=vote_browser.reload)
for tab, (_title, draw) in zip(tabs, PARTS.values(), strict=True):
    if tab.open:
        with tab:
            try:
                draw()
            except PlaygroundError as error:
                show_error(error)
