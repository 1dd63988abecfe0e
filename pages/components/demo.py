"""The demo of Home: one click starts a real GRPO run on the story model; its held-out answers stand before and after, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.components import state
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.state import Feed
from pages.components.text import plain
from rlhf import jobs, runs
from rlhf.algorithms import make_config, title
from rlhf.errors import PlaygroundError
from rlhf.preferences import load_dataset

STEPS = 50
SHOWN_PROMPTS = 3
REFRESH_SECONDS = 2.0


def start(page: str, reward: str, name: str) -> None:
    """Submit the demo and show it. A second click while one is under way in this session shows that one again."""
    # A dict of our own: a second click may end this callback at the next touch of the session state, after the run was submitted.
    demo = st.session_state.setdefault("demo", {"run": None, "problem": ""})
    demo["problem"] = ""
    if demo["run"] and _alive(demo["run"]):
        state.show_run(page, demo["run"])
        return
    try:
        config = make_config("grpo", model="story", reward=reward, steps=STEPS, seed=0)
        demo["run"] = jobs.submit(config, load_dataset("prompts", "story-prompts"), name=name).id
    except PlaygroundError as error:
        demo["problem"] = str(error)
        return
    state.show_run(page, demo["run"])


def _alive(run_id: str) -> bool:
    try:
        return runs.open_run(run_id).status.state in state.LIVE_STATES
    except PlaygroundError:
        return False


def start_buttons(page: str, run_id: str | None) -> None:
    busy = run_id is not None and _alive(run_id)
    with st.container(horizontal=True, vertical_alignment="center", key="demo-start"):
        st.button(
            _("Make the stories sad"), icon=":material/play_arrow:", type="primary", disabled=busy, key="demo-sad",
            on_click=start, args=(page, "negative", _("make the stories sad")),
        )  # fmt: skip
        st.button(
            _("Make them happy"), icon=":material/play_arrow:", disabled=busy, key="demo-happy",
            on_click=start, args=(page, "positive", _("make the stories happy")),
        )  # fmt: skip
        if run_id is None:
            st.caption(
                _("Trains the story model that comes with the app (1.6 million parameters) with GRPO: about a minute on two cores."),
                width="content",
            )
    if problem := st.session_state.get("demo", {}).get("problem"):
        st.error(plain(problem), icon=":material/error:")


def before_and_after(run_id: str) -> None:
    """Held-out answers of the untouched model and of the newest measurement: same prompts, same settings, same seed."""
    try:
        alive = runs.open_run(run_id).status.state in state.LIVE_STATES
    except PlaygroundError:
        return  # the panel above says so
    st.fragment(_before_and_after, run_every=REFRESH_SECONDS if alive else None, key="before-after")(run_id)


def _before_and_after(run_id: str) -> None:
    feed = state.feed(run_id)
    measured = feed.columns.get("eval/reward", state.Column()).steps
    if not measured:
        return
    before, after = heldout(feed, 0), heldout(feed, measured[-1]) if len(measured) > 1 else {}
    shown = [prompt for prompt in before if prompt in after or not after][:SHOWN_PROMPTS]
    if not shown:
        return
    finished = feed.run.status.state == "finished"
    st.markdown(f"##### {_('The same held-out prompts, before and after')}")
    if len(measured) > 1:
        means = {"before": number(feed.first("eval/reward"), sign=True), "after": number(feed.last("eval/reward"), sign=True)}
        count = feed.run.config.get("eval_prompts", 0)
        st.markdown(_("Mean reward on held-out prompts ({count} at most): **{before}** → **{after}**").format(count=count, **means))
    left, right = st.columns(2)
    model, algorithm = plain(feed.run.model), plain(_(title(feed.run.algorithm)))
    with left:
        st.badge(_("Before: {model} as it ships, step 0").format(model=model), icon=":material/lock:", color="gray")
    with right:
        word = _("After: {model} + {algorithm}, step {step}") if finished else _("Now: {model} + {algorithm}, step {step}")
        if after:
            st.badge(word.format(model=model, algorithm=algorithm, step=measured[-1]), icon=":material/trending_up:", color="blue")
        else:
            st.badge(_("The first measurement comes at step {step}.").format(step=feed.run.config.get("eval_every", 10)), color="gray")
    sides = ((_("before"), before), (_("after") if finished else _("now"), after))
    for prompt in shown:
        for column, (side, answers) in zip(st.columns(2), sides, strict=True):
            with column:
                _answer(prompt, answers.get(prompt), side)
    st.caption(_("Sampled with the same settings and the same seed on both sides; none of these prompts is trained on."))
    if finished:
        with st.container(horizontal=True, gap="medium"):
            query = {"run": run_id}
            st.page_link("grpo.py", label=_("Open this run: every plot, step and token"), icon=":material/zoom_in:", query_params=query)
            st.page_link("compare.py", label=_("Try both models on prompts of your own"), icon=":material/compare:", query_params=query)


def heldout(feed: Feed, step: int) -> dict[str, Mapping[str, Any]]:
    """Prompt → its first response, of the held-out samples of a step; read once."""
    cache = feed.drawn.setdefault("heldout", {})
    if step not in cache:
        records = [r for r in feed.run.samples_at(step) if r.get("split") == "heldout" and r.get("responses")]
        if not records:
            return {}
        cache[step] = {record["prompt"]: record["responses"][0] for record in records}
    return cache[step]


def _answer(prompt: str, response: Mapping[str, Any] | None, side: str) -> None:
    with st.container(border=True, height="stretch"):
        if response is None:
            st.caption("…")
            return
        text, reward = response["text"], response["reward"]
        # bold text that ends in a point needs a space after it to end for Markdown, too
        space = " " if text[:1].isspace() or not prompt[-1:].isalnum() else ""
        st.markdown(f"**{plain(prompt)}**{space}{plain(text)}")
        colour = "green" if reward > 0 else "gray"
        st.caption(f"{side} · :{colour}[{_('reward')} {number(reward, sign=True)}]")
