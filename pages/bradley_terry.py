"""Bradley–Terry: from scores to preferences, back from votes to strengths, and what a model prefers without being asked."""

from __future__ import annotations

import streamlit as st

from pages.components import bt_curve, bt_policy, bt_votes
from pages.components.i18n import _

st.title("Bradley–Terry", anchor=False)
st.markdown(_("How scores become preferences, and votes become scores. Reward models and DPO are trained on this one curve."))
titles = [_("See and touch"), _("Fit votes"), _("The model's own preferences")]
linked = st.query_params.get("policy")
if linked and ("bt/tab" not in st.session_state or linked != st.session_state.get(f"{bt_policy.RUN_KEY}/linked")):
    st.session_state["bt/tab"] = titles[2]  # a link to a policy, just opened
touch, fit, own = st.tabs(titles, key="bt/tab", on_change="rerun")
with touch:
    bt_curve.draw()
with fit:
    bt_votes.draw()
if own.open:  # it looks through the runs
    with own:
        bt_policy.draw()
