"""The whole road of RLHF on one page: votes → reward model → policy → blind vote between before and after."""

from __future__ import annotations

import streamlit as st

from pages.components import road
from pages.components.i18n import _
from pages.components.link import arrived, written
from pages.components.text import show_error
from rlhf.errors import PlaygroundError

st.title(_("From votes to a policy"), anchor=False)
st.markdown(_("The classic road of RLHF, stage by stage, on the story model. Every stage can be gone back to, and done again."))

kept = road.kept_votes()
done = {
    "votes": kept.are_enough,
    "reward": road.trained(road.run_of(road.REWARD)),
    "policy": road.trained(road.run_of(road.POLICY)),
    "blind": False,
}
STAGES = {
    "votes": (_("1 · Votes"), road.stage_votes),
    "reward": (_("2 · Reward model"), road.stage_reward),
    "policy": (_("3 · Policy"), road.stage_policy),
    "blind": (_("4 · Blind vote"), road.stage_blind),
}
first_open = next(name for name, finished in done.items() if not finished)
arrived([first_open, *STAGES], "stage", "road/stage")
stage = st.segmented_control(
    _("Stage"), list(STAGES), required=True, key="road/stage", label_visibility="collapsed",
    format_func=lambda name: STAGES[name][0] + (" :material/check:" if done[name] else ""),
)  # fmt: skip
written("stage", "road/stage", str(stage), first_open)
for message in road.gone():
    st.warning(message, icon=":material/search_off:")
with st.container(border=True):
    try:
        STAGES[str(stage)][1](kept)
    except PlaygroundError as error:
        show_error(error)


def forward(to: str) -> None:
    st.session_state["road/stage"] = to


names = list(STAGES)
place = names.index(str(stage))
if done[str(stage)] and place + 1 < len(names):
    following = names[place + 1]
    st.button(_("Go on: {stage}").format(stage=STAGES[following][0]), type="primary", key="road/next", on_click=forward, args=(following,))
