"""REINFORCE's formula with one token's numbers put in, for each choice of returns and baseline.

``worth`` does the arithmetic on a record of samples.jsonl, from the tokens' rewards up, and is tested against the engine; ``explain``
draws it and marks where what was worked out again is what the loss used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.formula import at, surrogate, surrogate_lines, surrogate_note
from pages.components.formula_ppo import gae_terms
from pages.components.i18n import _
from pages.components.latex import TICK, block, result, tex
from pages.components.numbers import number


@dataclass(frozen=True)
class Worth:
    """What one token is worth. ``recorded``: the advantage that the loss used; ``advantage``: the same, worked out again.

    ``scale``: the deviation of the batch by which it is divided, 1 without. ``others``: how many responses the baseline is a mean of.
    """

    reward: float
    earned: float
    baseline: float
    scale: float
    others: int
    advantage: float
    recorded: float

    @property
    def agrees(self) -> bool:
        """Whether both are equal up to the five decimals that are kept of each number."""
        return math.isclose(self.advantage, self.recorded, rel_tol=2e-3, abs_tol=2e-3)


def worth(config: Mapping[str, Any], record: Mapping[str, Any], place: int, t: int) -> Worth:
    """The advantage of token ``t`` of the response at ``place``, from the rewards of its tokens and of the other responses' tokens."""
    responses = record["responses"]
    tokens = responses[place]["tokens"]
    rewards, recorded = list(tokens["rewards"]), at(tokens, "advantages", t)
    gamma, baseline = float(config.get("gamma", 1.0)), config.get("baseline", "none")
    earned = _earned(config, rewards, t)
    expected, scale, others = at(tokens, "baselines", t, 0.0), 1.0, 0
    if baseline == "value":
        found = gae_terms(responses[place], t, gamma, float(config.get("lam", 1.0)), float(config.get("beta", 0.0)))
        earned, expected = found.advantage + found.value, found.value
    elif baseline == "leave_one_out":
        theirs = [_earned(config, list(other["tokens"]["rewards"]), t) for i, other in enumerate(responses) if i != place]
        expected, others = sum(theirs) / len(theirs), len(theirs)
    elif baseline == "batch":
        scale = at(tokens, "scales", t, 1.0) or 1.0
    return Worth(rewards[t], earned, expected, scale, others, (earned - expected) / scale, recorded)


def _earned(config: Mapping[str, Any], rewards: Sequence[float], t: int) -> float:
    """The return at token ``t``, or at the last token of a response that is shorter."""
    if config.get("returns") == "trajectory":
        return sum(rewards)
    rest = rewards[min(t, len(rewards) - 1) :]
    return sum(float(config.get("gamma", 1.0)) ** after * reward for after, reward in enumerate(rest))


def explain(config: Mapping[str, Any], record: Mapping[str, Any], place: int, t: int) -> None:
    """Draw it: reward, return, baseline, advantage, and the token's term of the loss."""
    response, w = record["responses"][place], worth(config, record, place, t)
    tokens: Mapping[str, Sequence[float]] = response["tokens"]
    last = t == len(tokens["ids"]) - 1
    st.caption(
        _(
            "A token's reward is what it pays for leaving the reference; the last one also gets the reward of the whole response. "
            "Its advantage is what it earned beyond what was to be expected."
        )
    )
    earned = bool(tokens.get("earned")) and at(tokens, "earned", t) != 0  # on the way, where the reward says so
    at_the_end = last and abs(float(response["reward"]) - sum(tokens.get("earned") or ())) > 1e-4
    reward = ("+e_t" if earned else "") + ("+r(x,y)" if at_the_end else "")
    block(
        rf"r_t=-\beta\,(\log\pi_{{\text{{old}}}}-\log\pi_{{\text{{ref}}}}){reward}={result(w.reward)}",
        *_return_lines(config, response, t, w),
        *_advantage_lines(config, w),
        *_loss_lines(config, response, t, w),
    )
    if int(config.get("epochs", 1)) * int(config.get("minibatches", 1)) > 1:
        st.caption(surrogate_note(surrogate(response, t, float(config.get("epsilon_low", 0.2)), float(config.get("epsilon_high", 0.2)))))
    push = _("likelier") if w.recorded > 0 else _("less likely")
    if w.recorded:
        words = _("The step makes this token {push}, with a weight of {weight}. The loss sums over a response's tokens.")
        st.caption(words.format(push=push, weight=number(abs(w.recorded))))
    else:
        st.caption(_("The advantage is 0: the step does not ask anything of this token."))


def _return_lines(config: Mapping[str, Any], response: Mapping[str, Any], t: int, w: Worth) -> list[str]:
    if config.get("baseline") == "value":
        g = gae_terms(response, t, float(config.get("gamma", 1.0)), float(config.get("lam", 1.0)), float(config.get("beta", 0.0)))
        discount = float(config.get("gamma", 1.0))
        total = rf"{result(g.delta)}+{result(discount * float(config.get('lam', 1.0)))}\cdot{tex(g.next_advantage)}={result(g.advantage)}"
        delta = rf"{result(g.reward)}+{result(discount)}\cdot{tex(g.next_value)}-{tex(g.value)}={result(g.delta)}"
        return [
            rf"\delta_t=r_t+\gamma V_{{t+1}}-V_t={delta}",
            rf"A_t=\delta_t+\gamma\lambda A_{{t+1}}={total}",
        ]
    if config.get("returns") == "trajectory":
        return [rf"R=\textstyle\sum_t r_t={result(w.earned)}"]
    discount = "" if float(config.get("gamma", 1.0)) == 1.0 else rf"{result(float(config['gamma']))}^{{\,l}}\,"
    return [rf"G_t=\textstyle\sum_{{l\ge0}} {discount}r_{{t+l}}={result(w.earned)}"]


_BASELINES = {
    "running_mean": r"b=\bar G_{\text{past}}",
    "leave_one_out": r"b_i=\tfrac{1}{K-1}\textstyle\sum_{j\ne i}X_j",
    "greedy": r"b=r(x,\bar y)",
    "batch": r"\mu=\operatorname{mean}_{\text{batch}}(G)",
}


def _advantage_lines(config: Mapping[str, Any], w: Worth) -> list[str]:
    baseline, tick = str(config.get("baseline", "none")), TICK if w.agrees else ""
    if baseline == "value":
        return [rf"\hat A_t=R_t-V_t={result(w.earned)}-{tex(w.baseline)}={result(w.recorded)}{tick}"]
    if baseline == "none":
        return [rf"A_t={result(w.recorded)}{tick}"]
    symbol = "R_j" if config.get("returns") == "trajectory" else "G_{j,t}"
    formula = _BASELINES[baseline].replace("K-1", str(w.others)).replace("X_j", symbol)
    difference = rf"{result(w.earned)}-{tex(w.baseline)}"
    if baseline == "batch":
        scaled = rf"\tfrac{{{difference}}}{{{result(w.scale)}}}"
        return [rf"{formula}={result(w.baseline)},\quad \sigma={result(w.scale)}", rf"\hat A_t={scaled}={result(w.recorded)}{tick}"]
    return [rf"{formula}={result(w.baseline)}", rf"A_t={difference}={result(w.recorded)}{tick}"]


def _loss_lines(config: Mapping[str, Any], response: Mapping[str, Any], t: int, w: Worth) -> list[str]:
    if int(config.get("epochs", 1)) * int(config.get("minibatches", 1)) > 1:
        s = surrogate(response, t, float(config.get("epsilon_low", 0.2)), float(config.get("epsilon_high", 0.2)))
        whole = config.get("importance_sampling_level") == "sequence"
        return surrogate_lines(s, r"\hat A", one_update=whole)  # a sequence's ratio is not that of this token's log-probabilities
    logprob = at(response["tokens"], "logprobs", t)
    return [rf"\ell_t=-A_t\,\log\pi_\theta(a_t\mid s_t)=-{tex(w.recorded)}\cdot{tex(logprob)}={result(-w.recorded * logprob)}"]
