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
        reward=rewards[t], value=values[t], next_value=values[t + 1] if t + 1 < n else 0.0, delta=delta, next_advantage=after,
        advantage=advantage, whitened=_at(tokens, "advantages", t, advantage), kl_penalty=penalty,
        final_reward=float(response["reward"]) if t == n - 1 else None,
    )  # fmt: skip


def pair_terms(record: Mapping[str, Any], beta: float, label_smoothing: float = 0.0) -> Pair:
    def moved(side: str) -> float:
        tokens = record[side]["tokens"]
        return sum(tokens["logprobs"]) - sum(tokens["ref_logprobs"])

    chosen, rejected = moved("chosen"), moved("rejected")
    margin = beta * (chosen - rejected)
    loss = (1 - label_smoothing) * preference_loss(margin) + label_smoothing * preference_loss(-margin)
    return Pair(chosen, rejected, margin, preference_probability(margin, 0.0), loss)


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
    if algorithm == "reward_model":
        _explain_reward_model(config, record, str(place), t)
        return
    response = record["responses"][place]
    if t is None:
        return
    _token_line(response, t)
    if algorithm == "sft":
        _explain_sft(response, t)
        return
    if record.get("split") == "heldout":
        st.caption(_("A held-out answer: it is measured and not trained on, so it has no advantage and no term in the loss."))
        if (kl := kl_term(response, t)) is not None:
            _block(*_kl_lines(kl))
    elif algorithm == "ppo":
        _explain_ppo(config, response, t)
    else:
        _explain_grpo(config, response, t)


def _explain_sft(response: Mapping[str, Any], t: int) -> None:
    logprobs = response["tokens"]["logprobs"]
    loss = -_at(response["tokens"], "logprobs", t)
    mean = -sum(logprobs) / len(logprobs)
    _block(
        rf"-\log\pi_\theta(y_t\mid x,y_{{<t}})=-\log {_tex(math.exp(-loss))}={_result(loss)}",
        rf"\tfrac{{1}}{{|y|}}\textstyle\sum_t-\log\pi_\theta(y_t\mid x,y_{{<t}})={_result(mean)}",
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
    moved = rf"-{_result(margin)}" if margin else ""
    _block(
        rf"P(y_w\succ y_l)=\sigma\big(r_w-r_l\big)=\sigma\big({_result(chosen)}-{_tex(rejected)}\big)={_result(probability)}",
        rf"\mathcal{{L}}=-\log\sigma\big(r_w-r_l{'-m' if margin else ''}\big)"
        rf"=-\log\sigma\big({_result(chosen)}-{_tex(rejected)}{moved}\big)={_result(loss)}",
    )
    st.caption(
        _(
            "The reward model gives the chosen answer a probability of {p} to be preferred. The gradient's weight is the rest, {rest}."
        ).format(p=number(probability, "share"), rest=number(1 - probability, "share"))
    )
    if t is None or side not in ("chosen", "rejected"):
        return
    tokens = record[side]["tokens"]
    score, before = _at(tokens, "scores", t), _at(tokens, "scores", t - 1) if t else None
    words = _("Token {place} of {count}: “{token}”. Score after it: {score}.").format(
        place=t + 1, count=len(tokens["ids"]), token=plain(tokens["strings"][t]).replace("\n", "") or "∅", score=number(score, sign=True)
    )
    if before is not None:
        words += " " + _("It moved the score by {change}.").format(change=number(score - before, sign=True))
    st.markdown(words)
    st.caption(_("Only the score after the last token enters the loss; those before show what the model reacts to."))


def _token_line(response: Mapping[str, Any], t: int) -> None:
    tokens = response["tokens"]
    string = tokens["strings"][t] if t < len(tokens["strings"]) else ""
    probability = math.exp(_at(tokens, "logprobs", t))
    text = _("Token {place} of {count}: “{token}”, which the policy gives a probability of {probability}.")
    st.markdown(
        text.format(
            place=t + 1, count=len(tokens["ids"]), token=plain(string).replace("\n", "") or "∅", probability=number(probability, "share")
        )
    )


def _block(*lines: str) -> None:
    """Formulas under one another, aligned at their first sign of equality."""
    aligned = [line.replace("=", "&=", 1) for line in lines]
    st.latex(r"\begin{aligned}" + r"\\[0.4em] ".join(aligned) + r"\end{aligned}")


def _surrogate_lines(s: Surrogate, symbol: str, one_update: bool) -> list[str]:
    free, cut = (_TICK if s.winner in ("free", "both") else ""), (_TICK if s.winner in ("clipped", "both") else "")
    steps = "" if one_update else rf"e^{{{_result(s.logprob)}-{_tex(s.old_logprob)}}}="
    clipped_ratio = min(max(s.ratio, 1 - s.low), 1 + s.high)
    left = rf"\underbrace{{{_result(s.ratio)}\cdot{_tex(s.advantage)}}}_{{{_result(s.free)}{free}}}"
    right = rf"\underbrace{{{_result(clipped_ratio)}\cdot{_tex(s.advantage)}}}_{{{_result(s.clipped)}{cut}}}"
    return [
        rf"\rho_t=\pi_\theta/\pi_{{\text{{old}}}}={steps}{_result(s.ratio)}",
        rf"L_t=\min\!\big(\rho_t\,{symbol},\ \text{{clip}}(\rho_t,{_result(1 - s.low)},{_result(1 + s.high)})\,{symbol}\big)",
        rf"\phantom{{L_t}}=\min\!\big({left},\ {right}\big)={_result(s.value)}",
    ]


def _surrogate_note(s: Surrogate) -> str:
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


def _kl_lines(kl: KL) -> list[str]:
    return [
        rf"d=\log\pi_\theta-\log\pi_{{\text{{ref}}}}={_result(kl.logprob)}-{_tex(kl.ref_logprob)}={_result(kl.d)}",
        rf"D_{{\text{{KL}}}}=e^{{-d}}-1+d={_result(kl.k3)}\ \text{{nats}}",
    ]


def _explain_grpo(config: Mapping[str, Any], response: Mapping[str, Any], t: int) -> None:
    s = surrogate(response, t, float(config.get("epsilon_low", 0.2)), float(config.get("epsilon_high", 0.2)))
    beta = float(config.get("beta", 0.0))
    one_update = int(config.get("epochs", 1)) * int(config.get("minibatches", 1)) == 1
    kl = kl_term(response, t)
    length = len(response["tokens"]["ids"])
    k3_value = kl.k3 if kl else 0.0
    put_in = rf"\tfrac{{1}}{{{length}}}\,\big({_result(s.value)}-{_result(beta)}\cdot{_tex(k3_value)}\big)"
    st.caption(_("Â is the response's reward against its own group: (reward − mean) / (spread + 0.0001). All its tokens share it."))
    _block(
        rf"\hat A={_result(s.advantage)}",
        *_surrogate_lines(s, r"\hat A", one_update),
        *(_kl_lines(kl) if kl else []),
        rf"J_t=\tfrac{{1}}{{|o|}}\,(L_t-\beta D_{{\text{{KL}}}})={put_in}={_result((s.value - beta * k3_value) / length)}",
    )
    st.caption(_surrogate_note(s))
    if kl is None:
        st.caption(_("The reference was not asked at this step (β is 0), so there is no KL term."))
    st.caption(
        _(
            "The loss is minus the mean over responses of the sum of J over their tokens. "
            "The advantages of a group sum to 0, so it stays near 0 while its gradient does not."
        )
    )


def _explain_ppo(config: Mapping[str, Any], response: Mapping[str, Any], t: int) -> None:
    gamma, lam, beta = (float(config.get(name, default)) for name, default in (("gamma", 1.0), ("lam", 0.95), ("beta", 0.0)))
    g = gae_terms(response, t, gamma, lam, beta)
    clip = float(config.get("clip_range", 0.2))
    s = surrogate(response, t, clip, clip)
    st.caption(
        _(
            "A token's reward is what it pays for leaving the reference; the last one also gets the reward of the whole response. "
            "V is the critic's estimate."
        )
    )
    if g.final_reward is None:
        rest = rf"={_result(g.reward)}"
    else:
        rest = rf"+r(x,y)={_result(-g.kl_penalty)}+{_tex(g.final_reward)}={_result(g.reward)}"
    delta = rf"{_result(g.reward)}+{_result(gamma)}\cdot{_tex(g.next_value)}-{_tex(g.value)}={_result(g.delta)}"
    total = rf"{_result(g.delta)}+{_result(gamma * lam)}\cdot{_tex(g.next_advantage)}={_result(g.advantage)}"
    lines = [
        rf"r_t=-\beta\,(\log\pi_{{\text{{old}}}}-\log\pi_{{\text{{ref}}}}){rest}",
        rf"\delta_t=r_t+\gamma V_{{t+1}}-V_t={delta}",
        rf"A_t=\delta_t+\gamma\lambda A_{{t+1}}={total}",
    ]
    if not math.isclose(g.whitened, g.advantage, rel_tol=1e-3, abs_tol=1e-4):
        lines.append(rf"\hat A_t={_result(g.whitened)}\qquad\text{{{_('whitened over the batch')}}}")
        symbol = r"\hat A_t"
    else:
        symbol = "A_t"
    _block(*lines, *_surrogate_lines(s, symbol, False))
    st.caption(_surrogate_note(s))
    st.caption(
        _("The critic expected {value} here; the return it is trained towards is {target}.").format(
            value=number(g.value), target=number(g.advantage + g.value)
        )
    )


def _explain_dpo(config: Mapping[str, Any], record: Mapping[str, Any], side: str, t: int | None) -> None:
    beta = float(config.get("beta", 0.1))
    smoothing = float(config.get("label_smoothing", 0.0))
    pair = pair_terms(record, beta, smoothing)
    put_in = rf"\sigma\big({_result(beta)}\cdot({_result(pair.chosen)}-{_tex(pair.rejected)})\big)"
    loss = r"-(1-\varepsilon)\log p-\varepsilon\log(1-p)" if smoothing else r"-\log p"
    _block(
        rf"\Delta_w=\log\pi_\theta(y_w)-\log\pi_{{\text{{ref}}}}(y_w)={_result(pair.chosen)}",
        rf"\Delta_l=\log\pi_\theta(y_l)-\log\pi_{{\text{{ref}}}}(y_l)={_result(pair.rejected)}",
        rf"p=\sigma\big(\beta(\Delta_w-\Delta_l)\big)={put_in}={_result(pair.probability)}",
        rf"\mathcal{{L}}={loss}={_result(pair.loss)}",
    )
    st.caption(
        _(
            "The policy prefers the chosen answer with a probability of {p}. "
            "The gradient's weight is the rest, {rest}: a pair that is learned teaches little more."
        ).format(p=number(pair.probability, "share"), rest=number(1 - pair.probability, "share"))
    )
    if t is None or side not in ("chosen", "rejected"):
        return
    answer = record[side]
    _token_line(answer, t)
    if (kl := kl_term(answer, t)) is not None:
        letter, whole = ("w", pair.chosen) if side == "chosen" else ("l", pair.rejected)
        _block(_kl_lines(kl)[0], rf"\Delta_{letter}=\textstyle\sum_t d_t={_result(whole)}")
