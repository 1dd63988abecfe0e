"""The third pane: the algorithm's formula with one token's numbers put in.

``grpo_terms``, ``ppo_terms`` and ``dpo_terms`` do the arithmetic on a record of samples.jsonl and are tested by hand; ``explain`` draws it.
The symbols are those of the papers and of the headers of rlhf/algorithms/*.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain


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
        return "both" if math.isclose(self.free, self.clipped, rel_tol=1e-9, abs_tol=1e-12) else "free" if self.free < self.clipped else "clipped"


@dataclass(frozen=True)
class KL:
    """k3 at one token: e^(−d) − 1 + d with d = log π − log π_ref."""

    logprob: float
    ref_logprob: float
    d: float
    k3: float


@dataclass(frozen=True)
class GAE:
    """The advantage of one token: δ = r + γ·V' − V and A = δ + γλ·A'; ``whitened``: what the loss used."""

    reward: float
    value: float
    next_value: float
    delta: float
    next_advantage: float
    advantage: float
    whitened: float
    kl_penalty: float
    final_reward: float | None


@dataclass(frozen=True)
class Pair:
    """DPO's terms: Δ of each answer is Σ(log π − log π_ref) over its tokens."""

    chosen: float
    rejected: float
    margin: float
    probability: float
    loss: float


def _at(tokens: Mapping[str, Sequence[float]], name: str, t: int, default: float | None = None) -> float:
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
    logprob = _at(tokens, "logprobs", t)
    old = _at(tokens, "old_logprobs", t, logprob)
    ratio = _at(tokens, "ratio", t, math.exp(logprob - old))
    advantage = _at(tokens, "advantages", t, float(response.get("advantage") or 0.0))
    cut = min(max(ratio, 1 - low), 1 + high)
    return Surrogate(logprob, old, ratio, advantage, low, high, ratio * advantage, cut * advantage)


def kl_term(response: Mapping[str, Any], t: int) -> KL | None:
    """None where the step did not ask the reference (β = 0 between measurements)."""
    tokens = response["tokens"]
    if not tokens.get("ref_logprobs"):
        return None
    logprob, ref = _at(tokens, "logprobs", t), _at(tokens, "ref_logprobs", t)
    return KL(logprob, ref, logprob - ref, k3(logprob, ref))


def gae_terms(response: Mapping[str, Any], t: int, gamma: float, lam: float, beta: float) -> GAE:
    """Works the advantages out again from the recorded rewards and values, from the last token back."""
    tokens = response["tokens"]
    values, rewards = list(tokens["values"]), list(tokens["rewards"])
    n = len(values)
    advantage = after = delta = 0.0
    for i in range(n - 1, t - 1, -1):
        after = advantage
        delta = rewards[i] + gamma * (values[i + 1] if i + 1 < n else 0.0) - values[i]
        advantage = delta + gamma * lam * after
    old = _at(tokens, "old_logprobs", t, _at(tokens, "logprobs", t))
    penalty = beta * (old - _at(tokens, "ref_logprobs", t, old))
    return GAE(
        rewards[t], values[t], values[t + 1] if t + 1 < n else 0.0, delta, after, advantage, _at(tokens, "advantages", t, advantage), penalty,
        float(response["reward"]) if t == n - 1 else None,
    )  # fmt: skip


def pair_terms(record: Mapping[str, Any], beta: float, label_smoothing: float = 0.0) -> Pair:
    def moved(side: str) -> float:
        tokens = record[side]["tokens"]
        return sum(tokens["logprobs"]) - sum(tokens["ref_logprobs"])

    chosen, rejected = moved("chosen"), moved("rejected")
    margin = beta * (chosen - rejected)
    loss = (1 - label_smoothing) * _softplus(-margin) + label_smoothing * _softplus(margin)
    return Pair(chosen, rejected, margin, math.exp(-_softplus(-margin)), loss)


def _softplus(x: float) -> float:
    """−log σ(−x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# ---------------------------------------------------------------- drawing


def _tex(value: float) -> str:
    """A number inside a formula; negative ones in brackets."""
    text = number(value).replace("−", "-").replace(",", r"{,}")
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = rf"{mantissa}\cdot10^{{{int(exponent)}}}"
    return f"({text})" if text.startswith("-") else text


def _result(value: float) -> str:
    return _tex(value).strip("()")


_TICK = r"\;\textcolor{#009E73}{\checkmark}"


def explain(algorithm: str, config: Mapping[str, Any], record: Mapping[str, Any], place: int | str, t: int | None) -> None:
    """Draw the formula of ``algorithm`` for token ``t`` of the response at ``place`` (an index; "chosen"/"rejected" for a pair)."""
    if algorithm == "dpo":
        _explain_dpo(config, record, str(place), t)
        return
    response = record["responses"][place]
    if t is None:
        return
    _token_line(response, t)
    if record.get("split") == "heldout":
        st.caption(_("A held-out answer: it is measured and not trained on, so it has no advantage and no term in the loss."))
        _explain_kl(response, t, None)
    elif algorithm == "ppo":
        _explain_ppo(config, response, t)
    else:
        _explain_grpo(config, response, t)


def _token_line(response: Mapping[str, Any], t: int) -> None:
    tokens = response["tokens"]
    string = tokens["strings"][t] if t < len(tokens["strings"]) else ""
    probability = math.exp(_at(tokens, "logprobs", t))
    text = _("Token {place} of {count}: “{token}”, which the policy gives a probability of {probability}.")
    st.markdown(text.format(place=t + 1, count=len(tokens["ids"]), token=plain(string).replace("\n", "") or "∅", probability=number(probability, "share")))


def _explain_surrogate(s: Surrogate, symbol: str, one_update: bool) -> None:
    left, right = (_TICK if s.winner in ("free", "both") else ""), (_TICK if s.winner in ("clipped", "both") else "")
    st.latex(
        rf"\rho_t=\frac{{\pi_\theta}}{{\pi_{{\text{{old}}}}}}=e^{{{_result(s.logprob)}-{_tex(s.old_logprob)}}}={_result(s.ratio)}"
        if not one_update
        else rf"\rho_t=\frac{{\pi_\theta}}{{\pi_{{\text{{old}}}}}}={_result(s.ratio)}"
    )
    st.latex(
        rf"\min\!\Big(\underbrace{{\rho_t\,{symbol}}}_{{{_result(s.ratio)}\cdot{_tex(s.advantage)}={_result(s.free)}{left}}},\;"
        rf"\underbrace{{\text{{clip}}(\rho_t,{_result(1 - s.low)},{_result(1 + s.high)})\,{symbol}}}_{{{_result(s.clipped)}{right}}}\Big)={_result(s.value)}"
    )
    if s.winner == "clipped":
        st.caption(_("The clipped branch wins: this token has moved far enough in this batch, and the loss no longer pushes it."))
    elif s.winner == "both" and abs(s.ratio - 1) < 1e-6:
        st.caption(_("Both branches are equal, because π is still π_old at the first update on a batch. The gradient is the advantage times that of log π: not 0."))
    elif s.winner == "both":
        st.caption(_("Both branches are equal: the ratio is inside the clip range."))


def _explain_kl(response: Mapping[str, Any], t: int, beta: float | None) -> float | None:
    kl = kl_term(response, t)
    if kl is None:
        st.caption(_("The reference was not asked at this step (β is 0), so there is no KL term."))
        return None
    st.latex(
        rf"d=\log\pi_\theta-\log\pi_{{\text{{ref}}}}={_result(kl.logprob)}-{_tex(kl.ref_logprob)}={_result(kl.d)},\qquad"
        rf" D_{{\text{{KL}}}}=e^{{-d}}-1+d={_result(kl.k3)}\ \text{{nats}}"
    )
    return kl.k3


def _explain_grpo(config: Mapping[str, Any], response: Mapping[str, Any], t: int) -> None:
    s = surrogate(response, t, float(config.get("epsilon_low", 0.2)), float(config.get("epsilon_high", 0.2)))
    beta = float(config.get("beta", 0.0))
    one_update = int(config.get("epochs", 1)) * int(config.get("minibatches", 1)) == 1
    st.caption(_("The advantage is the response's reward against its own group: (reward − mean) / (spread + 0.0001). All its tokens share it."))
    st.latex(rf"\hat A={_result(s.advantage)}")
    _explain_surrogate(s, r"\hat A", one_update)
    kl = _explain_kl(response, t, beta)
    length = len(response["tokens"]["ids"])
    total = s.value - beta * (kl or 0.0)
    st.latex(
        rf"\text{{{_('this token')}}}=\frac{{1}}{{|o|}}\big(\min(\cdot)-\beta\,D_{{\text{{KL}}}}\big)"
        rf"=\frac{{1}}{{{length}}}\big({_result(s.value)}-{_result(beta)}\cdot{_tex(kl or 0.0)}\big)={_result(total / length)}"
    )
    st.caption(_("The loss is minus the mean of the responses' sums. Advantages of a group sum to 0, so the loss stays near 0 while the gradient does not."))


def _explain_ppo(config: Mapping[str, Any], response: Mapping[str, Any], t: int) -> None:
    gamma, lam, beta = (float(config.get(name, default)) for name, default in (("gamma", 1.0), ("lam", 0.95), ("beta", 0.0)))
    g = gae_terms(response, t, gamma, lam, beta)
    st.caption(_("The reward of a token is what it pays for leaving the reference; the last token also gets the reward of the whole response."))
    if g.final_reward is None:
        st.latex(rf"r_t=-\beta\,(\log\pi_{{\text{{old}}}}-\log\pi_{{\text{{ref}}}})={_result(g.reward)}")
    else:
        st.latex(
            rf"r_t=-\beta\,(\log\pi_{{\text{{old}}}}-\log\pi_{{\text{{ref}}}})+r(x,y)={_result(-g.kl_penalty)}+{_tex(g.final_reward)}={_result(g.reward)}"
        )
    st.latex(rf"\delta_t=r_t+\gamma V_{{t+1}}-V_t={_result(g.reward)}+{_result(gamma)}\cdot{_tex(g.next_value)}-{_tex(g.value)}={_result(g.delta)}")
    st.latex(rf"A_t=\delta_t+\gamma\lambda A_{{t+1}}={_result(g.delta)}+{_result(gamma * lam)}\cdot{_tex(g.next_advantage)}={_result(g.advantage)}")
    if not math.isclose(g.whitened, g.advantage, rel_tol=1e-3, abs_tol=1e-4):
        st.latex(rf"A_t\;\xrightarrow{{\text{{{_('whitened over the batch')}}}}}\;{_result(g.whitened)}")
    clip = float(config.get("clip_range", 0.2))
    _explain_surrogate(surrogate(response, t, clip, clip), "A_t", False)
    st.caption(
        _("The critic expected {value} here; the return it is trained towards is {target}.").format(
            value=number(g.value), target=number(g.advantage + g.value)
        )
    )


def _explain_dpo(config: Mapping[str, Any], record: Mapping[str, Any], side: str, t: int | None) -> None:
    beta = float(config.get("beta", 0.1))
    pair = pair_terms(record, beta, float(config.get("label_smoothing", 0.0)))
    st.latex(
        rf"\Delta_w=\log\frac{{\pi_\theta(y_w)}}{{\pi_{{\text{{ref}}}}(y_w)}}={_result(pair.chosen)},\qquad"
        rf"\Delta_l=\log\frac{{\pi_\theta(y_l)}}{{\pi_{{\text{{ref}}}}(y_l)}}={_result(pair.rejected)}"
    )
    st.latex(
        rf"\sigma\big(\beta(\Delta_w-\Delta_l)\big)=\sigma\big({_result(beta)}\cdot({_result(pair.chosen)}-{_tex(pair.rejected)})\big)"
        rf"=\sigma({_result(pair.margin)})={_result(pair.probability)}"
    )
    st.latex(rf"\mathcal{{L}}=-\log\sigma(\cdot)={_result(pair.loss)}")
    st.caption(
        _("The policy prefers the chosen answer with a probability of {p}. The gradient's weight is the rest, {rest}: a pair that is learned teaches little more.").format(
            p=number(pair.probability, "share"), rest=number(1 - pair.probability, "share")
        )
    )
    if t is None or side not in ("chosen", "rejected"):
        return
    answer = record[side]
    _token_line(answer, t)
    kl = kl_term(answer, t)
    whole = pair.chosen if side == "chosen" else pair.rejected
    if kl is not None:
        letter = "w" if side == "chosen" else "l"
        st.latex(rf"\log\pi_\theta-\log\pi_{{\text{{ref}}}}={_result(kl.logprob)}-{_tex(kl.ref_logprob)}={_result(kl.d)}\quad\text{{{_('of')}}}\quad\Delta_{letter}={_result(whole)}")
