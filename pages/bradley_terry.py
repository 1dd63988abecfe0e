"""Bradley–Terry: from scores to preferences and back from votes to strengths."""

from __future__ import annotations

import streamlit as st

from pages.components import bt_curve, bt_votes
from pages.components.i18n import _

st.title("Bradley–Terry", anchor=False)
st.markdown(_("How scores become preferences, and votes become scores. Reward models and DPO are trained on this one curve."))
touch, fit = st.tabs([_("See and touch"), _("Fit votes")])
with touch:
    bt_curve.draw()
with fit:
    bt_votes.draw()
