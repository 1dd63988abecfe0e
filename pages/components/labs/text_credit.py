"""The experiment: one answer to a sum, paid once at the end (`correct`) and once digit by digit (`digits`), and the returns of both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import streamlit as st

from pages.components import models
from pages.components.i18n import _
from pages.components.labs import question, setting
from pages.components.labs import text_return as way_back
from pages.components.labs.live_figure import live_figure
from pages.components.labs.question import Choice
from pages.components.labs.text_return import WayBack
from pages.components.labs.text_walk import LAB
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.compare import Side
from rlhf.compare import logprobs as logprobs_of
from rlhf.config import RewardTerm
from rlhf.errors import DataError
from rlhf.labs.text_world import TextWorld, returns, right_answer, text_world
from rlhf.preferences import Prompt
from rlhf.rewards import RewardMix

RAN = f"{LAB}/ran"
GAMMA = setting.key(LAB, "gamma")
SUM, ANSWER = setting.key(LAB, "sum"), setting.key(LAB, "answer")
FIRST = ("37+48=", "085")
ASKED = 0.9
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
WANTED = "wanted"
LONGEST = 8
SCALE = (-0.1, 1.15)  # of both plots, so that they can be compared


@dataclass(frozen=True)
class Paid:
    """One answer: its end included, with both rewards."""

    world: TextWorld
    strings: list[str]
    logprobs: list[float]
    at_end: list[float]
    by_token: list[float]

    def way(self, rewards: list[float], gamma: float) -> WayBack:
        return WayBack(self.strings, self.logprobs, rewards, returns(rewards, gamma), gamma)


def draw() -> None:
    st.markdown(_(
        "The model `sums` answers with three digits and its end. PPO can pay for them in two ways: **correct** pays 1 at the last token if "
        "all is right; **digits** pays each digit that is right its share, a third where the answer has three, at the token that wrote it."
    ))  # fmt: skip
    ready = question.guess(_asked(None))
    st.button(
        _("Write the right answer, γ = 0.9"), icon=":material/play_arrow:", type="primary", key="mdp/run", on_click=_run, disabled=not ready
    )
    if st.session_state.get(RAN) == WANTED:
        st.session_state[RAN] = _measure(*FIRST)
    ran = st.session_state.get(RAN)
    if ran is None:
        if not ready:
            st.caption(_("Choose an answer first; then see what happens."))
        return
    question.reveal(_asked(ran))
    _side_by_side()


def _asked(measured: tuple[int, float, float] | None) -> Choice:
    """``measured``: tokens of the answer, and the first token's return of either reward, at γ = 0.9."""
    because = ""
    if measured:
        n, sparse, dense = measured
        because = _(
            "Measured: {value}. The reward of 1 comes with the last of {n} tokens and is passed back {k} times, by 0.9 each time: "
            "0.9{raised} = {value}. Paid digit by digit the first token has {dense}: it does not have to wait for its own part."
        ).format(value=number(sparse), n=n, k=n - 1, raised=str(n - 1).translate(RAISED), dense=number(dense))
    return Choice(
        "mdp/gamma",
        _("A right answer, 0 8 5 and the end, is paid 1 at the last of its four tokens. With γ = 0.9, what is the first token's return?"),
        ["1", "0.9", "0.729", "0.656"], 2, because,
    )  # fmt: skip


def _run() -> None:
    """The right answer to the first sum, at γ = 0.9."""
    st.session_state[SUM], st.session_state[ANSWER] = FIRST
    st.session_state[GAMMA] = ASKED
    st.session_state[RAN] = WANTED


def _measure(prompt: str, answer: str) -> tuple[int, float, float]:
    """Tokens, and the first one's return under either reward."""
    paid = _pay(prompt, answer)
    sparse, dense = (float(returns(rewards, ASKED)[0]) for rewards in (paid.at_end, paid.by_token))
    return len(paid.strings), sparse, dense


def _pay(prompt: str, answer: str) -> Paid:
    """Raises ``DataError`` for what is no sum, or no answer to one."""
    from rlhf.rollout import token_strings

    if right_answer(prompt) is None:
        raise DataError("This is not a sum.", "Write it as 37+48=.")
    if not (answer.isascii() and answer.isdigit() and len(answer) < LONGEST):
        raise DataError("The answer must be digits.", f"Write 1 to {LONGEST - 1} of them, such as 085.")
    frozen = models.wait(Side("sums"))
    with models.computing(frozen) as loaded:
        world = text_world(loaded, Prompt(prompt, right_answer(prompt)), LONGEST)
        tokens = [*loaded.tokenizer(answer, add_special_tokens=False)["input_ids"], min(world.ends)]
        logprobs = logprobs_of(loaded, prompt, tokens)
    at_end = world.rewards(tokens, RewardMix([RewardTerm(name="correct")]))
    by_token = world.rewards(tokens, RewardMix([RewardTerm(name="digits")]), by_token=True)
    return Paid(world, token_strings(loaded.tokenizer, tokens), logprobs, at_end, by_token)


def _side_by_side() -> None:
    st.markdown(f"##### {_('The same answer, paid in two ways')}")
    left, middle, right = st.columns(3, gap="medium", vertical_alignment="bottom")
    with left:
        prompt = st.text_input(_("Sum"), FIRST[0], max_chars=20, key=SUM, bind="query-params", persist_state="session").strip()
    with middle:
        answer = st.text_input(_("Answer"), FIRST[1], max_chars=20, key=ANSWER, bind="query-params", persist_state="session").strip()
    with right:
        gamma = way_back.gamma_slider()
    _presets(prompt)
    paid = _pay(prompt, answer)
    columns = st.columns(2, gap="large")
    for cell, name, rewards in ((columns[0], "correct", paid.at_end), (columns[1], "digits", paid.by_token)):
        way = paid.way(rewards, gamma)
        with cell, st.container(border=True):
            st.markdown(f"**{_('At the end: `correct`') if name == 'correct' else _('Per token: `digits`')}**")
            live_figure(way_back.figure(way, height=220, scale=SCALE), key=f"mdp/{name}")
            way_back.table(way)
            block(*_sum_lines(way))
    st.info(_lesson(paid, right_answer(prompt) or ""), icon=":material/lightbulb:")


def _sum_lines(way: WayBack) -> list[str]:
    """G_0 as a sum, then with the terms that are not 0."""
    terms = [tex(reward) if t == 0 else rf"{way.gamma:g}^{{{t}}}\cdot{tex(reward)}" for t, reward in enumerate(way.rewards) if reward]
    value = result(float(way.returns[0]))
    return [r"G_0=\textstyle\sum_t\gamma^t r_t", f"={'+'.join(terms)}={value}" if terms else "=0"]


def _presets(prompt: str) -> None:
    right = right_answer(prompt)
    if right is None:
        return
    wrong = "".join(str((int(digit) + 1) % 10) for digit in right)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(_("Try this:"), width="content")
        for name, words, answer in (
            ("right", _("right"), right),
            ("first", _("first digit wrong"), wrong[0] + right[1:]),
            ("last", _("last digit wrong"), right[:-1] + wrong[-1]),
            ("wrong", _("all wrong"), wrong),
        ):
            st.button(words, key=f"mdp/try-{name}", on_click=_set_answer, args=(answer,))


def _set_answer(answer: str) -> None:
    st.session_state[ANSWER] = answer


def _lesson(paid: Paid, right: str) -> str:
    """What the two rewards say of the answer. They need not agree: `correct` reads a number, `digits` compares place by place."""
    share, by_token = number(1 / len(right)), sum(paid.by_token)
    complete = math.isclose(by_token, 1.0)
    if paid.at_end[-1] and complete:
        return _(
            "Right: both rewards sum to 1. At the end all of it waits for the last token; per token each digit has its {share} at once."
        ).format(share=share)
    if paid.at_end[-1]:
        return _("The number is right, so `correct` pays 1. `digits` compares place by place with {right}, and pays {paid} in all.").format(
            right=right, paid=number(by_token)
        )
    if complete:
        return _(
            "All digits of {right} are there, so `digits` pays 1 in all; what follows them earns nothing and loses nothing. But the number "
            "is wrong: `correct` pays 0, and all its returns are 0."
        ).format(right=right)
    if by_token:
        return _(
            "Wrong at the end is wrong everywhere: every return is 0, also at the digits that were right. Paid per token, each right "
            "digit earns its {share}, and learning knows which token to blame. The price: somebody must be able to judge single tokens."
        ).format(share=share)
    return _("No digit stands at its place, and both rewards say the same: nothing. Neither can learn from answers like these alone.")
