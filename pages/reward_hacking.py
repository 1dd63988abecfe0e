"""Reward hacking: train against a reward that leaves something out, and watch a gold reward that the policy never sees."""

from __future__ import annotations

import streamlit as st

from pages.components import hacking, hacking_study
from pages.components.hacking_study import SHOWN, Settings
from pages.components.i18n import _
from pages.components.link import put
from pages.components.text import plain, told_apart
from rlhf import runs
from rlhf.overoptimisation import RULE, STEPS


def proxies() -> dict[str, str]:
    """What can be trained on: a rule that leaves something out, or a reward model of this app for the story model."""
    found = {RULE: _("a rule: sad words count")}
    trained = [run for run in runs.list_runs() if run.algorithm == "reward_model" and run.model == "story" and run.checkpoints()]
    return found | told_apart({run.id: _("the reward model {name}").format(name=run.name) for run in trained})


st.title(_("When the reward is fooled"), anchor=False)
st.markdown(
    _(
        "A reward stands for what people want, and leaves something out. Optimise it hard enough, and the policy finds what it leaves out: "
        "the reward still rises, and what it stood for falls. A weak pull towards the reference (small β) and a high learning rate show it "
        "fast."
    )
)
left, right = st.columns([1, 3], gap="medium")
with left:
    names = proxies()
    proxy = st.selectbox(_("Trained on"), list(names), format_func=lambda name: names[name], key="hacking/proxy", persist_state="session")
    st.caption(_("**Gold**, measured and never trained on: sad words count, and saying the same again costs (negative + repetition)."))
    betas = [0.0, 0.02, 0.05, 0.1, 0.2]
    beta = st.select_slider(_("β, the pull to the reference"), betas, 0.0, key="hacking/beta", persist_state="session")
    rate = st.select_slider(
        _("Learning rate"), [5e-5, 1e-4, 2e-4, 3e-4], 3e-4, format_func=lambda v: f"{v:g}", key="hacking/rate", persist_state="session"
    )
    steps = st.slider(_("Steps"), 10, 300, STEPS, 10, key="hacking/steps-wanted", persist_state="session")
    seed = st.number_input(_("Seed"), 0, 10_000, 0, key="hacking/seed", persist_state="session")
    settings = Settings(str(proxy), float(beta), float(rate), int(steps), int(seed))
    name = _("β {beta:g}, rate {rate:g}, seed {seed}").format(beta=beta, rate=rate, seed=seed)
    st.button(
        _("Start"), icon=":material/play_arrow:", type="primary", width="stretch", key="hacking/start",
        on_click=hacking_study.start, args=([(name, settings)],),
    )  # fmt: skip
    if problem := st.session_state.pop("hacking/problem", None):
        st.error(plain(problem), icon=":material/error:")
    st.caption(_("Under a minute for 30 steps on two cores. Change β, keep the rest, and start again: the curves lie over one another."))
with right:
    with st.expander(_("Compare several runs: what does a hack depend on?"), icon=":material/stacked_line_chart:"):
        hacking_study.draw(settings, names[settings.proxy])
    known = told_apart({run.id: run.name for run in hacking.watched()})
    if not known:
        with st.container(border=True):
            words = _("**No run yet.** Start one, and see whether the gold reward follows the one that is trained on.")
            st.markdown(words)
    else:
        wanted = st.session_state.get(SHOWN, (st.query_params.get("runs") or "").split(","))
        if wanted:  # an empty choice is one, too
            st.session_state[SHOWN] = [run_id for run_id in wanted if run_id in known] or list(known)[:1]
        chosen = st.multiselect(_("Runs"), list(known), format_func=lambda name: known[name], key=SHOWN, persist_state="session")
        put("runs", ",".join(chosen))
        if chosen:
            hacking.draw({run_id: known[run_id] for run_id in chosen})
st.caption(
    _("After Gao et al. 2022, [Scaling laws for reward model overoptimization](https://arxiv.org/abs/2210.10760). ")
    + _("A hack is never promised: each verdict is read off its run.")
)
