"""The body of the lab: writing a text as a decision process, the two ways of paying for it, and the same world in code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import candidates
from pages.components.i18n import _
from pages.components.labs import setting, text_code, text_credit, text_critic, text_scene, text_tree
from pages.components.labs import text_return as way_back
from pages.components.labs import text_walk as walks
from pages.components.labs.live_figure import live_figure
from pages.components.labs.question import Choice, Number, Question
from pages.components.labs.text_return import WayBack
from pages.components.labs.text_walk import LAB, Scene, Walk
from pages.components.numbers import number
from pages.components.text import plain, show_error
from pages.components.tokens import TokenRow, token_rows
from rlhf.errors import PlaygroundError
from rlhf.labs.text_world import returns
from rlhf.rewards import REWARDS

POSITION, CLICKED = f"{LAB}/position", f"{LAB}/clicked"
LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
LAST = f"{LAB}/last"  # what the questions ask about: rewards and γ of the text that was shown last


def body() -> None:
    part = setting.part(LAB, {"write": _("Write a text"), "pay": _("At the end, or per token?"), "code": _("As an environment")})
    if part != "write":
        walks.pause()
    try:
        {"write": _write, "pay": text_credit.draw, "code": text_code.draw}[part]()
    except PlaygroundError as error:
        walks.pause()
        show_error(error)


def _write() -> None:
    left, right = st.columns([3, 2], gap="large")
    with left:
        scene = text_scene.scene()
        here = walks.walk(scene)
        walks.move(scene, here)
        walks.remember(scene, here)
        state = st.container()
        _buttons(scene, here)
    with right:
        _actions(scene, here)
    _tree(scene, here)
    st.markdown(f"##### {_('The reward is carried back')}")
    _carry_back(scene, here, state)


def _buttons(scene: Scene, here: Walk) -> None:
    over = bool(scene.world.end(here.at))
    with st.container(horizontal=True, gap="small"):
        st.button(_("Start"), icon=":material/restart_alt:", key="mdp/start", on_click=walks.go, args=((),), disabled=not here.at)
        st.button(_("Back"), icon=":material/undo:", key="mdp/back", on_click=walks.go, args=(here.at[:-1],), disabled=not here.at)
        words = _("Draw one token, each as often as its probability says.")
        st.button(_("Sample"), icon=":material/casino:", key="mdp/sample", on_click=walks.sample, disabled=over, help=words)
        if st.session_state.get(walks.PLAYING):
            st.button(_("Pause"), icon=":material/pause:", key="mdp/pause", on_click=walks.pause)
        else:
            start = () if over else here.at
            st.button(_("Play"), icon=":material/play_arrow:", key="mdp/play", on_click=walks.play, args=(start,), type="primary")


def _tree(scene: Scene, here: Walk) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{_('Every branch so far')}**", width="content")
        if here.logprobs:
            st.button(_("Clear"), icon=":material/delete_sweep:", key="mdp/clear", on_click=walks.forget, type="tertiary")
    text_tree.draw(scene, here)
    words = _("A chip is a state, the darker the likelier its token was. Click one to go there. At most {n} branches are kept.")
    st.caption(words.format(n=walks.MOST_LEAVES))


def _actions(scene: Scene, here: Walk) -> None:
    """The vocabulary as bars, or the end."""
    end = scene.world.end(here.at)
    with st.container(border=True):
        if end:
            _landed(scene, here, end)
            return
        found = walks.actions(scene, here.at)
        st.markdown(f"**{_('Actions: which token next?')}**")
        tried = here.children(here.at)
        written = found.ids.index(tried[-1][-1]) if tried and tried[-1][-1] in found.ids else None
        place = f"{walks.identity(scene.frozen)}|{scene.world.prompt_ids}|{here.at}|{scene.k}"
        st.session_state[walks.SHOWN] = (place, here.at, found.ids)
        candidates.bars(found.strings, found.probabilities, found.rest, written=written, place=place, key=walks.BARS, on_pick=walks.take)
        words = _("{count} actions: the vocabulary. Entropy {entropy}: as unsure as between {n} equally likely tokens.")
        st.caption(words.format(count=f"{scene.world.actions:,}", entropy=number(found.entropy, "nats"), n=number(math.exp(found.entropy))))


def _landed(scene: Scene, here: Walk, end: str) -> None:
    why = _("The model's end token was chosen.") if end == "end" else _("The text was cut at the length limit.")
    st.markdown(f"**{_('The text is over')}**  \n{why}")
    name = scene.mix.names[0]
    try:
        scored = scene.world.scored(here.at, scene.mix)
    except PlaygroundError as error:
        show_error(error)
        return
    st.metric(_("Reward r(x, y), by {name}").format(name=name), number(scored.total))
    answer = scene.world.prompt.answer
    told = _(REWARDS[name].explanation)
    if scene.mix.needs_answer and answer is not None:
        told += " " + _("The answer is {answer}.").format(answer=answer)
    st.caption(plain(told))
    st.caption(_("Go back, or to a state of the tree, and try another branch."))


def _carry_back(scene: Scene, here: Walk, state: DeltaGenerator) -> None:
    """γ, the critic, and what is known at each position; also draws the text above, coloured by the return."""
    left, right = st.columns(2, gap="large")
    with left:
        gamma = way_back.gamma_slider()
        values = text_critic.values(scene, here.at, text_critic.choose(scene), gamma)
    text, start = walks.read(scene, here.at), len(scene.world.prompt_ids)
    rewards: list[float] = []
    if scene.world.end(here.at):
        with suppress(PlaygroundError):  # told where the reward lands
            rewards = scene.world.rewards(here.at, scene.mix, by_token=True)
    logprobs = [float(p or 0.0) for p in text.logprobs[start:]]
    way = WayBack(text.strings[start:], logprobs, rewards, returns(rewards, gamma), gamma, values)
    st.session_state[LAST] = (tuple(rewards), gamma)
    with state:
        t = _state(text.strings[:start], way)
    with left:
        if here.at:
            _numbers(way, t)
    with right:
        if not rewards:
            st.caption(_("Nothing has been paid yet: every reward before the end is 0. Write on until the text is over."))
        if rewards or values is not None:
            live_figure(way_back.figure(way), key="mdp/way-back")
        if here.at:
            way_back.table(way, _pick_row)


def _state(prompt: Sequence[str], way: WayBack) -> int:
    """The state as tokens, coloured by their returns; → the position that is chosen, there or in the table."""
    n = len(way.strings)
    label = _("State s{n}: the prompt").format(n=str(n).translate(LOWERED))
    chosen = {0: _("and no token yet"), 1: _("and one chosen token")}.get(n) or _("and {n} chosen tokens").format(n=n)
    returned = [float(g) for g in way.returns]
    rows = [TokenRow(prompt, label=label), TokenRow(way.strings, returned, _tips(way), chosen)]
    at = min(st.session_state.get(POSITION, 0), n - 1)
    clicked = token_rows(
        rows, key="mdp-state", selected=(1, at), legend=_("return G") if returned else "", limit=max(map(abs, returned), default=0.0)
    )
    if clicked and clicked[0] == 1 and st.session_state.get(CLICKED) != clicked:
        at = st.session_state[POSITION] = clicked[1]
    st.session_state[CLICKED] = clicked
    return at


def _tips(way: WayBack) -> list[str]:
    tips = [f"t = {t}\n{_('probability')} {number(math.exp(p), 'share')}" for t, p in enumerate(way.logprobs)]
    return [f"{tip}\nG {number(float(way.returns[t]))}" if len(way.returns) else tip for t, tip in enumerate(tips)]


def _pick_row() -> None:
    rows = st.session_state[way_back.TABLE]["selection"]["rows"]
    if rows:
        st.session_state[POSITION] = rows[0]


def _numbers(way: WayBack, t: int) -> None:
    words = _("At position t = {t}. Click another token, or a row of the table, for its numbers.")
    st.caption(words.format(t=t))
    way_back.formula(way, t)


def questions() -> list[Question]:
    rewards, gamma = st.session_state.get(LAST, ((), 1.0))
    length = len(rewards) if len(rewards) > 1 else 4
    gamma = gamma if 0 < gamma < 1 else 0.9
    value = gamma ** (length - 1)
    return [
        Choice(
            "mdp/random", _("You choose the token “8” in some state. What decides which state comes next?"),
            [_("The policy: it samples the next state"), _("Nothing: it is the old state with “8” after it"), _("The reward function")], 1,
            _("The transition is deterministic: all chance is in the choice of the token. So the policy's log-probabilities alone say how "
              "likely a text is, and no model of the world is needed."),
        ),
        Number(
            "mdp/first", _("A text of {n} tokens gets a reward of 1 at its last one. With γ = {gamma}, what is the return of the first?")
            .format(n=length, gamma=f"{gamma:g}"), value,
            _("The reward is passed back {k} times: {gamma}{raised} = {value}. With γ = 1 it would be 1 for every token.")
            .format(k=length - 1, raised=str(length - 1).translate(text_credit.RAISED), gamma=f"{gamma:g}", value=number(value)),
        ),
        Choice(
            "mdp/blame", _("γ = 1, and the one reward comes at the end. One digit is wrong. Which token gets the smallest return?"),
            [_("The wrong digit"), _("The last token"), _("None: all have the same return")], 2,
            _("With γ = 1 the one reward is the return of every token. What tells tokens apart is a critic, by G − V(s), a reward for each "
              "token, or many samples that share the good tokens and not the bad one."),
        ),
    ]  # fmt: skip
