"""The frame of every page: title, theme, language, navigation, sidebar."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # Streamlit puts this folder there, not the one above it
    sys.path.insert(0, str(ROOT))

from pages.components import charts, i18n, theme  # noqa: E402
from pages.components.i18n import _  # noqa: E402
from pages.components.labs import contents  # noqa: E402
from pages.components.sidebar import sidebar  # noqa: E402

st.set_page_config("RLHF Playground", page_icon=str(ROOT / "assets" / "icon.png"), layout="wide")
theme.style()

with st.sidebar:
    under_way = st.container()
    i18n.switch()

navigation = {
    _("Start"): [
        st.Page("home.py", title=_("Home"), icon=":material/home:", default=True),
        st.Page("model.py", title=_("Model"), icon=":material/psychology:"),
        st.Page("road.py", title=_("From votes to a policy"), icon=":material/route:"),
    ],
    _("Align"): [
        st.Page("bradley_terry.py", title="Bradley–Terry", icon=":material/balance:"),
        st.Page("votes.py", title=_("Votes"), icon=":material/how_to_vote:"),
        st.Page("sft.py", title="SFT", icon=":material/edit_note:"),
        st.Page("reward_model.py", title=_("Reward model"), icon=":material/scale:"),
        st.Page("reinforce.py", title="REINFORCE", icon=":material/casino:"),
        st.Page("ppo.py", title="PPO", icon=":material/school:"),
        st.Page("grpo.py", title="GRPO", icon=":material/groups:"),
        st.Page("dpo.py", title="DPO", icon=":material/thumbs_up_down:"),
        st.Page("online_dpo.py", title="Online DPO", icon=":material/published_with_changes:"),
        st.Page("rrhf.py", title="RRHF", icon=":material/format_list_numbered:"),
        st.Page("reward_hacking.py", title=_("Reward hacking"), icon=":material/trending_down:"),
    ],
    _("Look"): [
        st.Page("runs.py", title=_("Runs"), icon=":material/stacked_line_chart:"),
        st.Page("compare.py", title=_("Compare"), icon=":material/compare:"),
        st.Page("speed.py", title=_("Speed"), icon=":material/speed:"),
    ],
    _("Learn"): [st.Page(f"{lab.page}.py", title=lab.title, icon=lab.icon) for lab in contents.entries()],
}
page = st.navigation(navigation, expanded=True)
with under_way:
    sidebar()
page.run()
with st.sidebar:
    charts.preload()
