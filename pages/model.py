"""Model: choose one, load it, let it write, and see the probability of every next token."""

from __future__ import annotations

import streamlit as st

from pages.components import explorer, model_choice
from pages.components.i18n import _

st.title(_("Model"))
st.markdown(
    _("A language model gives every possible next token a probability. Load one, let it write, and see what else it could have said.")
)
side = model_choice.choose()
if side is not None:
    frozen = model_choice.load(side)
    if frozen is not None:
        explorer.explore(frozen)
