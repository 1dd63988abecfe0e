"""The third pane: the algorithm's formula with one token's numbers put in.

``surrogate`` and ``kl_term`` do the arithmetic on a record of samples.jsonl and are tested by hand; ``explain`` draws it. What belongs
to one algorithm alone stands in formula_NAME.py.
The symbols are those of the papers and of the headers of rlhf/algorithms/*.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components import formula_rrhf
from pages.components.i18n import _
from pages.components.latex import TICK, block, result, tex
from pages.components.numbers import number
from pages.components.text import plain
from rlhf.bradley_terry import preference_loss, preference_probability


@dataclass(frozen=True)
class Surrogate:
    """The clipped surrogate at one token. ``winner``: which branch of the min is taken; ``clip_cuts``: the token's gradient is 0."""

    logprob: float
    old_logprob: float
    ratio: float
    advantage: float
    low: float
    high: float
    free: float
    clipped: float

    @property
    def value(self) -> float:
        return min(self.free, self.clipped)

    @property
    def winner(self) -> str:
        return (
            "both"
            if math.isclose(self.free, self.clipped, rel_tol=1e-9, abs_tol=1e-12)
            else "free"
            if self.free < self.clipped
            else "clipped"
        )


@dataclass(frozen=True)
class KL:
    """k3 at one token: e^(−d) − 1 + d with d = log π − log π_ref."""

    logprob: float
    ref_logprob: float
    d: float
    k3: float


def at(tokens: Mapping[str, Sequence[float]], name: str, t: int, default: float | None = None) -> float:
    column = tokens.get(name)
    if column is None or t >= len(column):
        if default is None:
            raise KeyError(name)
        return default
    return float(column[t])


def k3(logprob: float, ref_logprob: float) -> float:
    d = logprob - ref_logprob
    return math.exp(-d) - 1 + d


def surrogate(response: Mapping[str, Any], t: int, low: float, high: float) -> Surrogate:
    tokens = response["tokens"]
    logprob = at(tokens, "logprobs", t)
    old = at(tokens, "old_logprobs", t, logprob)
    ratio = at(tokens, "ratio", t, math.exp(logprob - old))
    advantage = at(tokens, "advantages", t, float(response.get("advantage") or 0.0))
    cut = min(max(ratio, 1 - low), 1 + high)
    return Surrogate(logprob, old, ratio, advantage, low, high, ratio * advantage, cut * advantage)


def kl_term(response: Mapping[str, Any], t: int) -> KL | None:
    """None where the step did not ask the reference (β = 0 between measurements)."""
    tokens = response["tokens"]
    if not tokens.get("ref_logprobs"):
        return None
    logprob, ref = at(tokens, "logprobs", t), at(tokens, "ref_logprobs", t)
    return KL(logprob, ref, logprob - ref, k3(logprob, ref))


# ---------------------------------------------------------------- drawing


def explain(algorithm: str, config: Mapping[str, Any], record: Mapping[str, Any], place: int | str, t: int | None) -> None:
    """Draw the formula of ``algorithm`` for token ``t`` of the response at ``place`` (an index; "chosen"/"rejected" for a pair)."""
    from pages.components import (  # which are written with the words of this module
        formula_grpo,
        formula_pairs,
        formula_ppo,
        formula_reinforce,
    )

    if algorithm == "dpo":
        formula_pairs.explain(config, record, str(place), t)
        return
    if algorithm == "reward_model":
        _explain_reward_model(config, record, str(place), t)
        return
    response = record["responses"][place]
    if t is None:
        return
    token_line(response, t)
    if algorithm == "sft":
        _explain_sft(response, t)
        return
    if record.get("split") == "heldout":
        st.caption(_("A held-out answer: it is measured and not trained on, so it has no advantage and no term in the loss."))
        if (kl := kl_term(response, t)) is not None:
            block(*kl_lines(kl))
    elif algorithm == "online_dpo":
        formula_pairs.explain_group(config, record, int(place), t)
    elif algorithm == "ppo":
        formula_ppo.explain(config, response, t)
    elif algorithm == "rrhf":
        formula_rrhf.explain(config, record, int(place))
    elif algorithm == "reinforce":
        formula_reinforce.explain(config, record, int(place), t)
    else:
        formula_grpo.explain(config, response, t)


def _explain_sft(response: Mapping[str, Any], t: int) -> None:
    logprobs = response["tokens"]["logprobs"]
    loss = -at(response["tokens"], "logprobs", t)
    mean = -sum(logprobs) / len(logprobs)
    block(
        rf"-\log\pi_\theta(y_t\mid x,y_{{<t}})=-\log {tex(math.exp(-loss))}={result(loss)}",
        rf"\tfrac{{1}}{{|y|}}\textstyle\sum_t-\log\pi_\theta(y_t\mid x,y_{{<t}})={result(mean)}",
    )
    st.caption(
        _(
            "The gradient raises this token's probability, the more the less likely it was: "
            "its weight on the token's own logit is 1 − π, here {rest}."
        ).format(rest=number(1 - math.exp(-loss), "share"))
    )


def _explain_reward_model(config: Mapping[str, Any], record: Mapping[str, Any], side: str, t: int | None) -> None:
    chosen, rejected = float(record["chosen"]["reward"]), float(record["rejected"]["reward"])
    probability = preference_probability(chosen, rejected)
    margin = float(config.get("margin", 0.0))
    loss = preference_loss(chosen - rejected - margin)
    moved = rf"-{result(margin)}" if margin else ""
    block(
        rf"P(y_w\succ y_l)=\sigma\big(r_w-r_l\big)=\sigma\big({result(chosen)}-{tex(rejected)}\big)={result(probability)}",
        rf"\mathcal{{L}}=-\log\sigma\big(r_w-r_l{'-m' if margin else ''}\big)"
        rf"=-\log\sigma\big({result(chosen)}-{tex(rejected)}{moved}\big)={result(loss)}",
    )
    st.caption(
        _(
            "The reward model gives the chosen answer a probability of {p} to be preferred. The gradient's weight is the rest, {rest}."
        ).format(p=number(probability, "share"), rest=number(1 - probability, "share"))
    )
    if t is None or side not in ("chosen", "rejected"):
        return
    tokens = record[side]["tokens"]
    score, before = at(tokens, "scores", t), at(tokens, "scores", t - 1) if t else None
    words = _("Token {place} of {count}: “{token}”. Score after it: {score}.").format(
        place=t + 1, count=len(tokens["ids"]), token=plain(tokens["strings"][t]).replace("\n", "") or "∅", score=number(score, sign=True)
    )
    if before is not None:
        words += " " + _("It moved the score by {change}.").format(change=number(score - before, sign=True))
    st.markdown(words)
    st.caption(_("Only the score after the last token enters the loss; those before show what the model reacts to."))


def token_line(response: Mapping[str, Any], t: int) -> None:
    tokens = response["tokens"]
    string = tokens["strings"][t] if t < len(tokens["strings"]) else ""
    probability = math.exp(at(tokens, "logprobs", t))
    text = _("Token {place} of {count}: “{token}”, which the policy gives a probability of {probability}.")
    st.markdown(
        text.format(
            place=t + 1, count=len(tokens["ids"]), token=plain(string).replace("\n", "") or "∅", probability=number(probability, "share")
        )
    )


def ratio_text(s: Surrogate, ratio: float) -> str:
    """A ratio with as many digits as its clip range needs: GSPO's is 1 − 0.0003 to 1 + 0.0004."""
    return result(ratio) if min(s.low, s.high) >= 0.01 else f"{ratio:.5f}"


def surrogate_lines(s: Surrogate, symbol: str, one_update: bool) -> list[str]:
    free, cut = (TICK if s.winner in ("free", "both") else ""), (TICK if s.winner in ("clipped", "both") else "")
    steps = "" if one_update else rf"e^{{{result(s.logprob)}-{tex(s.old_logprob)}}}="
    clipped_ratio = min(max(s.ratio, 1 - s.low), 1 + s.high)
    left = rf"\underbrace{{{ratio_text(s, s.ratio)}\cdot{tex(s.advantage)}}}_{{{result(s.free)}{free}}}"
    right = rf"\underbrace{{{ratio_text(s, clipped_ratio)}\cdot{tex(s.advantage)}}}_{{{result(s.clipped)}{cut}}}"
    return [
        rf"\rho_t=\pi_\theta/\pi_{{\text{{old}}}}={steps}{ratio_text(s, s.ratio)}",
        rf"L_t=\min\!\big(\rho_t\,{symbol},\ \text{{clip}}(\rho_t,{ratio_text(s, 1 - s.low)},{ratio_text(s, 1 + s.high)})\,{symbol}\big)",
        rf"\phantom{{L_t}}=\min\!\big({left},\ {right}\big)={result(s.value)}",
    ]


def surrogate_note(s: Surrogate) -> str:
    if s.winner == "clipped":
        return _("The clipped branch wins: this token has moved far enough in this batch, and the loss no longer pushes it.")
    if s.winner == "free":
        return _("The free branch wins: outside the clip range on the side that makes it worse, so the loss still pulls it back.")
    if abs(s.ratio - 1) < 1e-6:
        return _(
            "Both branches are equal, because π is still π_old at the first update on a batch. "
            "The gradient, advantage times that of log π, is not 0."
        )
    return _("Both branches are equal: the ratio is inside the clip range.")


def kl_lines(kl: KL) -> list[str]:
    return [
        rf"d=\log\pi_\theta-\log\pi_{{\text{{ref}}}}={result(kl.logprob)}-{tex(kl.ref_logprob)}={result(kl.d)}",
        rf"D_{{\text{{KL}}}}=e^{{-d}}-1+d={result(kl.k3)}\ \text{{nats}}",
    ]
