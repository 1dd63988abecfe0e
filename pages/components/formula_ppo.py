"""PPO's formula with one token's numbers put in: reward, advantage, objective and KL, each in the variant that the run has.

``reward_terms``, ``return_terms`` and ``gae_terms`` work from a record of samples.jsonl; the symbols are those of the engine's file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.formula import at, k3, surrogate, surrogate_lines, surrogate_note
from pages.components.i18n import _
from pages.components.latex import TICK, block, result, tex
from pages.components.numbers import number
from rlhf.config import PPOConfig

Config = Mapping[str, Any]


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
class Reward:
    """What a token is paid: −β·``kl`` + ``earned`` + ``final`` (None before the last token), and the ``recorded`` sum."""

    beta: float
    kl: float
    earned: float
    final: float | None
    recorded: float

    @property
    def total(self) -> float:
        return -self.beta * self.kl + self.earned + (self.final or 0.0)


@dataclass(frozen=True)
class Return:
    """``target``: R_t, worked out again; ``recorded``: the engine's; ``value``: V_t, None without a critic; ``line``: how it came about."""

    target: float
    recorded: float
    value: float | None
    line: str

    @property
    def advantage(self) -> float:
        return self.target - (self.value or 0.0)


def setting(config: Config, name: str) -> Any:
    """A run's setting; runs of before it was there have its default."""
    return config.get(name, PPOConfig.model_fields[name].default)


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
    old = at(tokens, "old_logprobs", t, at(tokens, "logprobs", t))
    penalty = beta * (old - at(tokens, "ref_logprobs", t, old))
    return GAE(
        reward=rewards[t], value=values[t], next_value=values[t + 1] if t + 1 < n else 0.0, delta=delta, next_advantage=after,
        advantage=advantage, whitened=at(tokens, "advantages", t, advantage), kl_penalty=penalty,
        final_reward=float(response["reward"]) if t == n - 1 else None,
    )  # fmt: skip


def estimate(d: float, estimator: str) -> float:
    """k1, k2 or k3 of d = log π − log π_ref."""
    return {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) - 1 + d}[estimator]


def reward_terms(response: Mapping[str, Any], t: int, config: Config) -> Reward:
    """r_t of rlhf/algorithms/ppo.py, from its parts."""
    tokens = response["tokens"]
    old = at(tokens, "old_logprobs", t, at(tokens, "logprobs", t))
    d = old - at(tokens, "ref_logprobs", t, old)
    beta = float(setting(config, "beta")) if setting(config, "kl_in") == "reward" else 0.0
    earned = list(tokens.get("earned") or [])
    final = None
    if t == len(tokens["ids"]) - 1:
        final = round(float(response["reward"]) - sum(earned), 4)  # the records are rounded to five places
        final -= 0.0 if response.get("finished", True) else float(setting(config, "missing_eos_penalty"))
    return Reward(beta, estimate(d, setting(config, "kl_estimator")), earned[t] if earned else 0.0, final, at(tokens, "rewards", t))


def return_terms(response: Mapping[str, Any], t: int, config: Config) -> Return:
    """R_t by the run's estimator, from the recorded rewards and values."""
    tokens = response["tokens"]
    rewards, values = list(tokens["rewards"]), list(tokens.get("values") or [])
    gamma, n = float(setting(config, "gamma")), len(rewards)
    kind = setting(config, "advantage_estimator") if values else "monte_carlo"
    value = values[t] if values else None
    if kind == "gae":
        g = gae_terms(response, t, gamma, float(setting(config, "lam")), 0.0)
        target, line = g.advantage + g.value, ""
    else:
        ahead = n - t if kind == "monte_carlo" else min(1 if kind == "td" else int(setting(config, "n_steps")), n - t)
        summed = sum(gamma**k * rewards[t + k] for k in range(ahead))
        after = values[t + ahead] if values and t + ahead < n else 0.0
        target = summed + gamma**ahead * after
        if kind == "monte_carlo":
            line = rf"R_t=\textstyle\sum_{{l\ge0}}\gamma^l r_{{t+l}}={result(target)}"
        else:
            names = rf"\textstyle\sum_{{k<{ahead}}}\gamma^kr_{{t+k}}+\gamma^{{{ahead}}}V_{{t+{ahead}}}"
            names = r"r_t+\gamma V_{t+1}" if ahead == 1 else names
            line = rf"R_t={names}={result(summed)}+{result(gamma**ahead)}\cdot{tex(after)}={result(target)}"
    return Return(target, at(tokens, "returns", t, target), value, line)


def explain(config: Config, response: Mapping[str, Any], t: int) -> None:
    """Draw it."""
    reward, target = reward_terms(response, t, config), return_terms(response, t, config)
    st.caption(_reward_note(config, reward))
    lines = [_reward_line(reward), *_advantage_lines(config, response, t, target)]
    used = at(response["tokens"], "advantages", t, target.advantage)
    symbol = "A_t"
    if not math.isclose(used, target.advantage, rel_tol=1e-3, abs_tol=1e-4):
        lines.append(rf"\hat A_t={result(used)}\qquad\text{{{_('whitened over the batch')}}}")
        symbol = r"\hat A_t"
    if setting(config, "objective") == "penalty":
        _penalty(lines, config, response, t, used, symbol)
    else:
        _clip(lines, config, response, t, symbol)
    if setting(config, "kl_in") == "loss":
        _kl_in_the_loss(config, response, t)
    if target.value is not None:
        words = _("The critic expected {value} here; the return it is trained towards is {target}.")
        st.caption(words.format(value=number(target.value), target=number(target.target)))


def _reward_note(config: Config, reward: Reward) -> str:
    words = [
        _("A token's reward is what it pays for leaving the reference; the last one also gets the reward of the whole response.")
        if reward.beta
        else _("The reward of the whole response comes at its last token.")
    ]
    if reward.earned:
        words.append(_("e is what this token earned itself."))
    if setting(config, "missing_eos_penalty"):
        words.append(_("A response without an end has {penalty} taken off.").format(penalty=number(setting(config, "missing_eos_penalty"))))
    return " ".join(words)


def _same(a: float, b: float) -> str:
    """A tick where what was worked out again is what the engine recorded (rounded to five places)."""
    return TICK if math.isclose(a, b, rel_tol=1e-3, abs_tol=2e-4) else ""


def _reward_line(reward: Reward) -> str:
    names, numbers = [], []
    if reward.beta:
        names.append(r"-\beta D_t")
        numbers.append(rf"-{result(reward.beta)}\cdot{tex(reward.kl)}")
    if reward.earned:
        names.append("e_t")
        numbers.append(tex(reward.earned))
    if reward.final is not None:
        names.append("r(x,y)")
        numbers.append(tex(reward.final))
    if not names:
        return r"r_t=0"
    return rf"r_t={'+'.join(names)}={'+'.join(numbers)}={result(reward.total)}{_same(reward.total, reward.recorded)}"


def _advantage_lines(config: Config, response: Mapping[str, Any], t: int, target: Return) -> list[str]:
    tick = _same(target.target, target.recorded)
    if target.value is None:
        return [rf"A_t={target.line.partition('=')[2]}{tick}"]
    if target.line:
        return [target.line + tick, rf"A_t=R_t-V_t={result(target.target)}-{tex(target.value)}={result(target.advantage)}"]
    gamma, lam = float(setting(config, "gamma")), float(setting(config, "lam"))
    g = gae_terms(response, t, gamma, lam, 0.0)
    delta = rf"{result(g.reward)}+{result(gamma)}\cdot{tex(g.next_value)}-{tex(g.value)}={result(g.delta)}"
    total = rf"{result(g.delta)}+{result(gamma * lam)}\cdot{tex(g.next_advantage)}={result(g.advantage)}"
    return [rf"\delta_t=r_t+\gamma V_{{t+1}}-V_t={delta}", rf"A_t=\delta_t+\gamma\lambda A_{{t+1}}={total}{tick}"]


def _clip(lines: list[str], config: Config, response: Mapping[str, Any], t: int, symbol: str) -> None:
    clip, dual = float(setting(config, "clip_range")), float(setting(config, "dual_clip"))
    s = surrogate(response, t, clip, clip)
    lines += surrogate_lines(s, symbol, False)
    if dual and s.advantage < 0:
        floor = dual * s.advantage
        best = result(max(s.value, floor))
        lines.append(rf"\max\!\big(L_t,\ c\,{symbol}\big)=\max\!\big({result(s.value)},\ {result(floor)}\big)={best}")
        block(*lines)
        cut = floor > s.value
        st.caption(_("The dual clip holds: this token is so far out that it no longer pushes.") if cut else surrogate_note(s))
        return
    block(*lines)
    st.caption(surrogate_note(s))


def _penalty(lines: list[str], config: Config, response: Mapping[str, Any], t: int, used: float, symbol: str) -> None:
    tokens = response["tokens"]
    new = at(tokens, "logprobs", t)
    old = at(tokens, "old_logprobs", t, new)
    ratio, distance = math.exp(new - old), k3(old, new)
    lines += [
        rf"\rho_t=\pi_\theta/\pi_{{\text{{old}}}}=e^{{{result(new)}-{tex(old)}}}={result(ratio)}",
        rf"\text{{KL}}_t=\rho_t-1-\log\rho_t={result(distance)}",
        rf"L_t=\rho_t\,{symbol}-c\,\text{{KL}}_t={result(ratio)}\cdot{tex(used)}-c\cdot{tex(distance)}",
    ]
    block(*lines)
    if setting(config, "penalty_rule") == "adaptive":
        st.caption(_("The coefficient c of this step is in the plot “Penalty coefficient”; every token keeps its gradient."))
    else:
        c = float(setting(config, "penalty_coef"))
        words = _("With c = {c} that is {value}; every token keeps its gradient.")
        st.caption(words.format(c=number(c), value=number(ratio * used - c * distance)))


def _kl_in_the_loss(config: Config, response: Mapping[str, Any], t: int) -> None:
    tokens, estimator = response["tokens"], setting(config, "kl_estimator")
    new = at(tokens, "logprobs", t)
    d, beta = new - at(tokens, "ref_logprobs", t, new), float(setting(config, "beta"))
    kl = estimate(d, estimator)
    names = {"k2": r"\tfrac12d^2", "k3": r"e^{-d}-1+d"}.get(estimator, "d")
    block(
        rf"d=\log\pi_\theta-\log\pi_{{\text{{ref}}}}={result(d)}",
        rf"\beta D_t=\beta\,({names})={result(beta)}\cdot{tex(kl)}={result(beta * kl)}",
    )
    st.caption(_("The pull towards the reference is a term of the loss, added to −L."))
