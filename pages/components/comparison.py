"""Before and after on the Compare page: the work (answers, token shifts, held-out rewards) and how it is drawn.

A comparison keeps the conditions it was made under; what is drawn is always labelled with those, never with what the widgets say now.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import charts, models, theme
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain
from pages.components.tokens import TokenRow, colour_limit, token_rows
from rlhf import compare
from rlhf.algorithms import title
from rlhf.compare import Answer, Interval, Side, TokenShift
from rlhf.config import RewardTerm
from rlhf.preferences import Prompt
from rlhf.rewards import RewardMix


@dataclass(frozen=True)
class Conditions:
    """What both sides share."""

    sides: tuple[Side, ...]
    prompts: tuple[Prompt, ...]
    sampling: tuple[tuple[str, Any], ...]  # fields of SamplingConfig
    seed: int
    terms: tuple[RewardTerm, ...]


@dataclass
class Comparison:
    """``answers`` and ``shifts``: for each side, for each prompt. A shift is None for a side that has nothing to be held against."""

    conditions: Conditions
    answers: list[list[Answer]] = field(default_factory=list)
    shifts: list[list[TokenShift | None]] = field(default_factory=list)


@dataclass
class Measured:
    """Rewards on the same held-out prompts, for each side."""

    conditions: Conditions
    rewards: list[list[float]] = field(default_factory=list)


def base_of(sides: Sequence[Side], side: Side) -> Side:
    return next(other for other in sides if other.is_untouched and other.model == side.model)


def counterpart(sides: Sequence[Side], side: Side) -> Side | None:
    """The other model that a side's tokens are scored by: its own untouched model, or for that one the first run's."""
    if not side.is_untouched:
        return base_of(sides, side)
    return next((other for other in sides if not other.is_untouched and other.model == side.model), None)


# ---------------------------------------------------------------- the work


def write(conditions: Conditions) -> Comparison:
    """Answers of every side, with a progress bar. Raises ``PlaygroundError``."""
    from rlhf.rollout import SamplingConfig

    frozen = [models.wait(side) for side in conditions.sides]
    sampling = SamplingConfig(**dict(conditions.sampling))
    mix = RewardMix(conditions.terms) if conditions.terms else None
    done = Comparison(conditions)
    with _progress(_("Writing")) as bar:
        for i, one in enumerate(frozen):
            bar.progress(i / len(frozen), text=_("Writing: {side}").format(side=plain(name(one.side))))
            with models.computing(one) as model:
                done.answers.append(compare.answers(model, conditions.prompts, sampling, conditions.seed, mix=mix))
        by_side = {one.side: one for one in frozen}
        for one, answers in zip(frozen, done.answers, strict=True):
            other = counterpart(conditions.sides, one.side)
            if other is None:
                done.shifts.append([None] * len(answers))
                continue
            base, tuned = sorted((one, by_side[other]), key=lambda f: not f.side.is_untouched)
            with ExitStack() as locks:
                before, after = (locks.enter_context(models.computing(side)) for side in (base, tuned))
                done.shifts.append([compare.token_shift(before, after, answer.prompt, answer.ids) for answer in answers])
    return done


def measure(conditions: Conditions) -> Measured:
    """The reward of one answer of every side to each of the prompts, with a progress bar. Raises ``PlaygroundError``."""
    from rlhf.rollout import SamplingConfig

    frozen = [models.wait(side) for side in conditions.sides]
    sampling = SamplingConfig(**dict(conditions.sampling))
    done = Measured(conditions)
    mix = RewardMix(conditions.terms)
    with _progress() as bar:
        for i, one in enumerate(frozen):
            words = _("Answering {n} held-out prompts: {side}").format(n=len(conditions.prompts), side=plain(name(one.side)))

            def progress(_what: str, share: float, i: int = i, words: str = words) -> None:
                bar.progress((i + share) / len(frozen), text=words)

            with models.computing(one) as model:
                done.rewards.append(compare.heldout_rewards(model, conditions.prompts, sampling, mix, conditions.seed, progress))
    return done


@contextmanager
def _progress(text: str = "") -> Iterator[DeltaGenerator]:
    """A bar that is gone at the end, also where an error is it."""
    bar = st.progress(0.0, text=text or None)
    try:
        yield bar
    finally:
        bar.empty()


# ---------------------------------------------------------------- how it is drawn


def name(side: Side) -> str:
    """A side in words, exactly: model, and run and step where it is not the untouched model."""
    if side.is_untouched:
        return _("{model}, untouched").format(model=side.model)
    return _("{model} + {algorithm}, step {step}").format(model=side.model, algorithm=_(title(side.algorithm)), step=side.step)


def badge(side: Side, colour: Literal["blue", "violet"] = "blue") -> None:
    """What a column is: model, algorithm and step, and below it the run and checkpoint by name."""
    if side.is_untouched:
        st.badge(f"{_('Before')}: {plain(name(side))}", icon=":material/lock:", color="gray")
        st.caption(_("the model as it was released"))
    else:
        st.badge(f"{_('After')}: {plain(name(side))}", icon=":material/trending_up:", color=colour)
        st.caption(plain(f"{side.run_name} / {side.checkpoint}"))


def show(comparison: Comparison) -> None:
    """Side by side, prompt by prompt; all texts on one colour scale."""
    conditions = comparison.conditions
    limit = colour_limit([value for column in comparison.shifts for shift in column if shift for value in shift.shift])
    tuned = [side for side in conditions.sides if not side.is_untouched]
    for column, side in zip(st.columns(len(conditions.sides)), conditions.sides, strict=True):
        with column:
            badge(side, "violet" if side == conditions.sides[-1] and len(tuned) > 1 else "blue")
    for i, prompt in enumerate(conditions.prompts):
        with st.container(border=True):
            answer = f" :small[:gray[{_('right answer')}: {plain(prompt.answer)}]]" if prompt.answer else ""
            st.markdown(f"**{plain(prompt.text)}**{answer}")
            for j, column in enumerate(st.columns(len(conditions.sides))):
                with column:
                    _answer(comparison, j, i, limit)
    settings = dict(conditions.sampling)
    st.caption(
        _("Same prompts, settings and seed on every side: seed {seed}, temperature {temperature}, at most {tokens} new tokens.").format(
            seed=conditions.seed, temperature=number(settings["temperature"]), tokens=settings["max_new_tokens"]
        )
    )
    if limit:
        st.caption(_("Colour: how far training moved the log-probability of each token here, in nats. Blue: likelier than before."))


def _answer(comparison: Comparison, j: int, i: int, limit: float) -> None:
    answer, shift = comparison.answers[j][i], comparison.shifts[j][i]
    side = comparison.conditions.sides[j]
    label = []
    if len(comparison.conditions.sides) > 1:
        if not side.is_untouched and len({one.algorithm for one in comparison.conditions.sides if not one.is_untouched}) > 1:
            label.append(_(title(side.algorithm)))
        label.append(_("before") if side.is_untouched else _("step {step}").format(step=side.step))
    if answer.scored:
        label.append(f"{_('reward')} {number(answer.scored.total, sign=True)}")
        if len(answer.scored.parts) > 1:
            label += [f"{part} {number(value, sign=True)}" for part, value in answer.scored.parts.items()]
    label.append(_("{count} tokens").format(count=len(answer.ids)))
    if not answer.finished:
        label.append(_("cut at the length limit"))
    key = f"answer:{j}:{i}"
    if shift is None:
        st.caption(plain(" · ".join(label)))
        st.text(answer.text)
        return
    tips = [_tip(b, a) for b, a in zip(shift.base, shift.tuned, strict=True)]
    row = TokenRow(shift.strings, shift.shift, tips, " · ".join(label))
    last = (j, i) == (len(comparison.conditions.sides) - 1, len(comparison.conditions.prompts) - 1)
    token_rows([row], key=key, limit=limit, clickable=False, legend=_("nats") if last else "", show_scale=last)


def _tip(before: float, after: float) -> str:
    words = _("probability {before} → {after}  \nlog-probability {shift}")
    return words.format(before=_share(before), after=_share(after), shift=number(after - before, "nats", sign=True)).replace("  \n", "\n")


def _share(logprob: float) -> str:
    return number(math.exp(logprob), "share")


def show_measured(measured: Measured) -> None:
    """Mean rewards with their intervals, the paired difference to the untouched model, and both as a picture."""
    sides, rewards = measured.conditions.sides, measured.rewards
    intervals = [compare.interval(values) for values in rewards]
    st.markdown(f"##### {_('Mean reward on {n} held-out prompts').format(n=len(measured.conditions.prompts))}")
    for column, side, values, found in zip(st.columns(len(sides)), sides, rewards, intervals, strict=True):
        with column:
            if side.is_untouched:
                st.metric(name(side), number(found.mean, sign=True))
                st.caption(_("95 % confidence interval {span}").format(span=_span(found)))
            else:
                _change(side, found, compare.paired_difference(rewards[sides.index(base_of(sides, side))], values))
    charts.still(_picture(sides, intervals), key="heldout-picture")
    words = _("Scored with the reward “{reward}”. The difference is paired, prompt by prompt: what a prompt gives both sides cancels out.")
    st.caption(words.format(reward=plain(reward_name(measured.conditions.terms))))


def _change(side: Side, found: Interval, difference: Interval) -> None:
    """A tuned side's mean, and how far it is from before; in colour only where the interval of the difference leaves out 0."""
    clear = difference.low is not None and difference.high is not None and (difference.low > 0 or difference.high < 0)
    up = difference.mean >= 0
    st.metric(
        name(side), number(found.mean, sign=True), number(difference.mean, sign=True), delta_arrow="up" if up else "down",
        delta_color=("green" if up else "red") if clear else "gray", delta_description=_("against before"),
    )  # fmt: skip
    spans = _("95 % confidence intervals: mean {span}; difference {difference}")
    st.caption(spans.format(span=_span(found), difference=_span(difference)))


def _span(found: Interval) -> str:
    if found.low is None or found.high is None:
        return "–"
    return _("{low} to {high}").format(low=number(found.low, sign=True), high=number(found.high, sign=True))


def _picture(sides: Sequence[Side], intervals: Sequence[Interval]) -> Any:
    import plotly.graph_objects as go

    is_dark = theme.dark()
    figure = go.Figure(layout={"template": theme.template(is_dark), "height": 60 + 34 * len(sides), "showlegend": False})
    for side, found in reversed(list(zip(sides, intervals, strict=True))):
        colour = theme.ROLE_COLOURS["reference"] if side.is_untouched else theme.ALGORITHM_COLOURS.get(side.algorithm, theme.BLUE)
        half = (found.high - found.mean) if found.high is not None else 0.0
        below = (found.mean - found.low) if found.low is not None else 0.0
        figure.add_scatter(
            x=[found.mean], y=[f"{sides.index(side)}"], mode="markers", marker={"size": 10, "color": colour},
            error_x={"type": "data", "array": [half], "arrayminus": [below], "color": colour, "thickness": 2, "width": 6},
            hovertemplate="%{x:.3f}<extra></extra>",
        )  # fmt: skip
    # plotly reads markup in tick labels; these are made of an algorithm's name and numbers only
    labels = [_("before") if s.is_untouched else f"{_(title(s.algorithm))} {_('step {step}').format(step=s.step)}" for s in sides]
    figure.update_yaxes(type="category", tickvals=[str(i) for i in range(len(sides))], ticktext=labels)
    figure.update_xaxes(title_text=_("reward"))
    return figure


def reward_name(terms: Sequence[RewardTerm]) -> str:
    return " + ".join(term.name if term.weight == 1 else f"{number(term.weight)} × {term.name}" for term in terms)
