"""RRHF's formula with one answer's numbers put in, worked out again from the record of its prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.i18n import _
from pages.components.latex import TICK, block, result, tex
from pages.components.numbers import number


@dataclass(frozen=True)
class Ranked:
    """One answer among those to its prompt. ``score``: p, nats a token; ``raised``, ``lowered``: wrongly ordered pairs in which it is the
    better, the worse one; ``as_better``, ``as_worse``: what those cost in the ranking loss; ``push``: minus the loss's gradient by the
    log-probability of each of its tokens; ``recorded``: the same, as the run wrote it down."""

    total: float
    length: int
    score: float
    best: bool
    raised: int
    lowered: int
    as_better: float
    as_worse: float
    imitation: float
    push: float
    recorded: float | None


def ranked(config: Mapping[str, Any], record: Mapping[str, Any], place: int) -> Ranked:
    """The terms of answer ``place`` of a record, from the log-probabilities and rewards of all answers in it."""
    responses = record["responses"]
    totals = [sum(response["tokens"]["logprobs"]) for response in responses]
    lengths = [max(1, len(response["tokens"]["logprobs"])) for response in responses]
    rewards = [float(response["reward"]) for response in responses]
    scores = [total / length for total, length in zip(totals, lengths, strict=True)]
    p, r, n = scores[place], rewards[place], lengths[place]
    better = [q - p for q, s in zip(scores, rewards, strict=True) if s < r and q > p]  # worse answers that are likelier
    worse = [p - q for q, s in zip(scores, rewards, strict=True) if s > r and p > q]  # better answers that are less likely
    ranks = config.get("variant", "rrhf") == "rrhf"
    best = rewards.index(max(rewards)) == place
    weight = float(config.get("sft_weight", 1.0)) if ranks else 1.0
    averaged = config.get("sft_reduction", "sum") == "mean"
    push = (len(better) - len(worse)) / n if ranks else 0.0
    push += weight / (n if averaged else 1) if best else 0.0
    recorded = responses[place]["tokens"].get("push")
    return Ranked(
        total=totals[place], length=n, score=p, best=best, raised=len(better), lowered=len(worse), as_better=sum(better),
        as_worse=sum(worse), imitation=-p if averaged else -totals[place], push=push, recorded=float(recorded[0]) if recorded else None,
    )  # fmt: skip


def explain(config: Mapping[str, Any], record: Mapping[str, Any], place: int) -> None:
    """Draw it. All tokens of an answer share their push."""
    a = ranked(config, record, place)
    ranks = config.get("variant", "rrhf") == "rrhf"
    averaged = config.get("sft_reduction", "sum") == "mean"
    weight = float(config.get("sft_weight", 1.0)) if ranks else 1.0
    mean = rf"\tfrac{{1}}{{{a.length}}}\cdot{tex(a.total)}={result(a.score)}"
    lines = [rf"p_i=\tfrac{{1}}{{|y_i|}}\textstyle\sum_t\log\pi_\theta(y_{{i,t}})={mean}"]
    parts = []
    if ranks:
        lines.append(rf"\mathcal{{L}}_i^{{\uparrow}}=\textstyle\sum_{{r_j<r_i}}\max(0,\,p_j-p_i)={result(a.as_better)}")
        lines.append(rf"\mathcal{{L}}_i^{{\downarrow}}=\textstyle\sum_{{r_j>r_i}}\max(0,\,p_i-p_j)={result(a.as_worse)}")
        parts.append(rf"\tfrac{{1}}{{{a.length}}}\big({a.raised}-{a.lowered}\big)")
    if a.best:
        share = rf"\tfrac{{1}}{{{a.length}}}" if averaged else ""
        lines.append(rf"\mathcal{{L}}_{{\mathrm{{ft}}}}=-{share}\textstyle\sum_t\log\pi_\theta(y_{{i,t}})={result(a.imitation)}")
        parts.append(rf"{result(weight)}\cdot\tfrac{{1}}{{{a.length}}}" if averaged else result(weight))
    agrees = a.recorded is not None and math.isclose(a.recorded, a.push, abs_tol=2e-5)
    put_in = "+".join(parts) or "0"
    lines.append(rf"-\frac{{\partial\mathcal{{L}}}}{{\partial\log\pi_\theta(y_{{i,t}})}}={put_in}={result(a.push)}{TICK if agrees else ''}")
    block(*lines)
    if ranks:
        words = _(
            "Wrongly ordered pairs: in {raised} this answer is the better one and is raised, "
            "in {lowered} it is the worse one and is lowered."
        )
        st.caption(words.format(raised=a.raised, lowered=a.lowered))
    if a.best:
        st.caption(_("It has the best reward of its prompt, so it is imitated too."))
    elif not ranks:
        st.caption(_("It is not the best of its prompt, so it is thrown away: nothing is learned from it."))
    st.caption(
        _("The push {push} is the same for all its tokens; it is minus the gradient of this prompt's loss.").format(
            push=number(a.push, sign=True)
        )
    )
