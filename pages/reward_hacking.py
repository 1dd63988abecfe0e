"""Reward hacking: train against a reward that leaves something out, and watch a gold reward that the policy never sees."""

from __future__ import annotations

import streamlit as st

from pages.components import hacking
from pages.components.i18n import _
from pages.components.text import plain
from rlhf import jobs, runs
from rlhf.algorithms import make_config
from rlhf.config import model_reward
from rlhf.errors import PlaygroundError
from rlhf.preferences import load_dataset

RULE = "rule"
GOLD = "negative:1,repetition:1"
STEPS, EVERY = 30, 2


def proxies() -> dict[str, str]:
    """What can be trained on: a rule that leaves something out, or a reward model of this app for the story model."""
    found = {RULE: _("a rule: sad words count, nothing else")}
    trained = [run for run in runs.list_runs() if run.algorithm == "reward_model" and run.model == "story" and run.checkpoints()]
    return found | {run.id: _("the reward model {name}").format(name=run.name) for run in trained}


def start(proxy: str, beta: float, learning_rate: float, steps: int, seed: int) -> None:
    """In a callback. A run that is measured often, so that the peak is seen."""
    reward = "negative" if proxy == RULE else model_reward(proxy)
    try:
        config = make_config(
            "grpo", model="story", reward=reward, gold=GOLD, beta=beta, learning_rate=learning_rate, steps=steps, seed=seed,
            eval_every=EVERY, checkpoint_every=10,
        )  # fmt: skip
        name = _("β {beta:g}, rate {rate:g}, seed {seed}").format(beta=beta, rate=learning_rate, seed=seed)
        run = jobs.submit(config, load_dataset("prompts", "story-prompts"), name=name)
        st.session_state["hacking/shown"] = [run.id, *st.session_state.get("hacking/shown", [])][:4]
    except PlaygroundError as error:
        st.session_state["hacking/problem"] = str(error)


st.title(_("When the reward is fooled"), anchor=False)
st.markdown(
    _(
        "A reward stands for what people want, and leaves something out. Optimise it hard enough, and the policy finds what it leaves out: "
        "the reward still rises, and what it stood for falls. "
        "A weak pull towards the reference (small β) and a high learning rate show it fast."
    )
)
left, right = st.columns([1, 3], gap="medium")
with left:
    names = proxies()
    proxy = st.selectbox(_("Trained on"), list(names), format_func=lambda name: names[name], key="hacking/proxy", persist_state="session")
    st.caption(
        _("**Gold**, measured and never trained on: sad words count, and saying the same again costs (negative + repetition).")
    )
    betas = [0.0, 0.02, 0.05, 0.1, 0.2]
    beta = st.select_slider(_("β, the pull to the reference"), betas, 0.0, key="hacking/beta", persist_state="session")
    rate = st.select_slider(
        _("Learning rate"), [5e-5, 1e-4, 2e-4, 3e-4], 3e-4, format_func=lambda v: f"{v:g}", key="hacking/rate", persist_state="session"
    )
    steps = st.number_input(_("Steps"), 10, 300, STEPS, 10, key="hacking/steps-wanted", persist_state="session")
    seed = st.number_input(_("Seed"), 0, 10_000, 0, key="hacking/seed", persist_state="session")
    st.button(
        _("Start"), icon=":material/play_arrow:", type="primary", width="stretch", key="hacking/start",
        on_click=start, args=(proxy, beta, rate, steps, seed),
    )  # fmt: skip
    if problem := st.session_state.pop("hacking/problem", None):
        st.error(plain(problem), icon=":material/error:")
    st.caption(_("About 30 seconds for 30 steps on two cores. Change β, keep the rest, and start again: the curves lie over one another."))
with right:
    known = {run.id: run.name for run in hacking.watched()}
    if not known:
        with st.container(border=True):
            words = _("**No run yet.** Start one, and see whether the gold reward follows the one that is trained on.")
            st.markdown(words)
    else:
        kept = [run_id for run_id in st.session_state.get("hacking/shown", []) if run_id in known] or list(known)[:1]
        st.session_state["hacking/shown"] = kept
        chosen = st.multiselect(_("Runs"), list(known), format_func=lambda name: known[name], key="hacking/shown")
        if chosen:
            hacking.draw(chosen)
            hacking.samples(chosen[0])
st.caption(
    _("After Gao et al. 2022, [Scaling laws for reward model overoptimization](https://arxiv.org/abs/2210.10760). ")
    + _("A hack is never promised: each verdict is read off its run.")
)
