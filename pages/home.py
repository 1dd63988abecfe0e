"""Home: what this is, one button that starts a real run, and its answers before and after."""

from __future__ import annotations

import streamlit as st

from pages.components import demo, state
from pages.components.i18n import _
from pages.components.live import live_panel

PAGE = "home"

st.title("RLHF Playground")
st.markdown(
    _(
        "Watch a small language model learn what people prefer.  \n"
        "Everything here is real: real weights, real gradients, real samples, trained on this machine while you look.  \n"
        "Every number can be opened, from the plot to the step, to the token, to the formula."
    )
)

run_id = state.shown_run(PAGE)
demo.start_buttons(PAGE, run_id)

if run_id:
    live_panel(run_id, compact=True)
    demo.before_and_after(run_id)

st.divider()
cards = [
    ("model.py", ":material/psychology:", _("Model"), _("Load a model, let it write, and see the probability of every next token.")),
    ("road.py", ":material/route:", _("From votes to a policy"), _("The classic road in four stages, ending in a blind vote.")),
    ("votes.py", ":material/how_to_vote:", _("Votes"), _("Say which of two answers is better; alone, or forty at once.")),
    ("bradley_terry.py", ":material/balance:", "Bradley–Terry", _("How scores become preferences, and votes become scores.")),
    ("reward_model.py", ":material/scale:", _("Reward model"), _("Votes become a number that a policy can be trained on.")),
    ("sft.py", ":material/edit_note:", "SFT", _("Imitate given answers: the stage before preferences.")),
    ("reinforce.py", ":material/casino:", "REINFORCE", _("The policy gradient itself, and what takes the noise out of it, measured.")),
    ("grpo.py", ":material/groups:", "GRPO", _("Answers compete within a group; the better half is reinforced.")),
    ("ppo.py", ":material/school:", "PPO", _("A critic learns what to expect; what beats it is reinforced.")),
    ("dpo.py", ":material/thumbs_up_down:", "DPO", _("Learn from pairs, a preferred and a rejected answer, without sampling.")),
    ("online_dpo.py", ":material/published_with_changes:", "Online DPO", _("DPO on pairs that the policy writes and a reward judges.")),
    ("rrhf.py", ":material/format_list_numbered:", "RRHF", _("Rank several answers and imitate the best; or the best of n alone.")),
    ("reward_hacking.py", ":material/trending_down:", _("Reward hacking"), _("Fool a reward, and watch what it stood for fall.")),
    ("compare.py", ":material/compare:", _("Compare"), _("The same prompts before and after, side by side, token by token.")),
    ("speed.py", ":material/speed:", _("Speed"), _("Steps a second and memory on this machine, and where the time goes.")),
    ("runs.py", ":material/stacked_line_chart:", _("Runs"), _("All runs: curves over one another, settings, downloads.")),
]
for row in (cards[i : i + 3] for i in range(0, len(cards), 3)):
    for column, (page, icon, title, text) in zip(st.columns(3)[: len(row)], row, strict=True):
        with column.container(border=True, height="stretch"):
            st.page_link(page, label=f"**{title}**", icon=icon)
            st.caption(text)
