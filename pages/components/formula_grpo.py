"""GRPO's formula for one token, for each variant of the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.components.formula import (
    Surrogate,
    block,
    kl_lines,
    kl_term,
    ratio_text,
    result,
    surrogate,
    surrogate_lines,
    surrogate_note,
    tex,
)  # fmt: skip
from pages.components.i18n import _

SCALED = {
    "group": "Â is the response's reward against its own group: (reward − mean) / (spread + 0.0001). All its tokens share it.",
    "batch": "Â is the response's reward against its own group, in deviations of the whole batch. All its tokens share it.",
    "none": "Â is the response's reward minus the mean of its group. All its tokens share it.",
}


def objective(config: Mapping[str, Any], s: Surrogate) -> tuple[float, list[str]]:
    """What the variant maximises at a token, before the mean and the KL term, and the lines that show it."""
    variant, a = config.get("variant", "grpo"), r"\hat A"
    one_update = int(config.get("epochs", 1)) * int(config.get("minibatches", 1)) == 1
    if variant == "cispo":
        weight = min(s.ratio, s.high)
        value = weight * s.advantage * s.logprob
        put_in = rf"{result(weight)}\cdot{tex(s.advantage)}\cdot{tex(s.logprob)}"
        return value, [
            rf"\rho_t=\pi_\theta/\pi_{{\text{{old}}}}={result(s.ratio)}",
            rf"L_t=\min(\rho_t,{result(s.high)})\,{a}\,\log\pi_\theta={put_in}={result(value)}",
        ]
    if variant == "sapo":
        temperature = float(config.get("sapo_temperature_pos" if s.advantage > 0 else "sapo_temperature_neg", 1.0))
        gate = 4 / temperature / (1 + math.exp(-temperature * (s.ratio - 1)))
        put_in = (
            rf"\tfrac{{4}}{{{result(temperature)}}}\,\sigma\big({result(temperature)}\cdot({result(s.ratio)}-1)\big)\cdot{tex(s.advantage)}"
        )
        return gate * s.advantage, [
            rf"\rho_t=\pi_\theta/\pi_{{\text{{old}}}}={result(s.ratio)}",
            rf"L_t=\tfrac{{4}}{{\tau}}\,\sigma\big(\tau(\rho_t-1)\big)\,{a}={put_in}={result(gate * s.advantage)}",
        ]
    lines = surrogate_lines(s, a, one_update)
    if variant == "gspo":
        lines = [
            rf"s=\big(\pi_\theta(o)/\pi_{{\text{{old}}}}(o)\big)^{{1/|o|}}={ratio_text(s, s.ratio)}",
            *(x.replace(r"\rho_t", "s") for x in lines[1:]),
        ]
    return s.value, lines


def mean_weight(config: Mapping[str, Any], length: int) -> tuple[str, float | None]:
    """The token's weight in the mean over tokens: LaTeX, and its value where one response alone gives it."""
    match config.get("variant", "grpo"):
        case "dr_grpo":
            longest = int(config.get("max_new_tokens", length))
            return rf"\tfrac{{1}}{{L_{{\max}}}}=\tfrac{{1}}{{{longest}}}", 1 / longest
        case "bnpo" | "dapo" | "cispo":
            return r"\tfrac{1}{\sum_i|o_i|}", None  # of the whole batch
        case _:
            return rf"\tfrac{{1}}{{|o|}}=\tfrac{{1}}{{{length}}}", 1 / length


def explain(config: Mapping[str, Any], response: Mapping[str, Any], t: int) -> None:
    low, high = float(config.get("epsilon_low", 0.2)), float(config.get("epsilon_high", 0.2))
    s = surrogate(response, t, low, high)
    beta, kl = float(config.get("beta", 0.0)), kl_term(response, t)
    value, lines = objective(config, s)
    symbol, weight = mean_weight(config, len(response["tokens"]["ids"]))
    st.caption(_(SCALED[config.get("scale_rewards", "group")]))
    block(
        rf"\hat A={result(s.advantage)}",
        *lines,
        *(kl_lines(kl) if kl else []),
        _whole(config, value, beta, kl.k3 if kl else 0.0, s.ratio, symbol, weight),
    )
    if config.get("variant", "grpo") not in ("cispo", "sapo"):
        st.caption(surrogate_note(s))
    if kl is None:
        st.caption(_("The reference was not asked at this step (β is 0), so there is no KL term."))
    if config.get("mask_truncated_completions") and not response.get("finished", True):
        st.caption(_("This response hit the length limit and is masked: its tokens have no term in the loss."))
    elif float(config.get("top_entropy_quantile", 1.0)) < 1:
        st.caption(_("Only the most uncertain tokens of the batch have the term L; the others have the KL term alone."))
    st.caption(
        _(
            "The loss is minus the mean over responses of the sum of J over their tokens. "
            "The advantages of a group sum to 0, so it stays near 0 while its gradient does not."
        )
    )


def _whole(config: Mapping[str, Any], value: float, beta: float, k3: float, ratio: float, symbol: str, weight: float | None) -> str:
    corrected = bool(config.get("use_bias_correction_kl"))
    pull = beta * k3 * (ratio if corrected else 1.0)
    kl = r"\beta\,\rho_t D_{\text{KL}}" if corrected else r"\beta D_{\text{KL}}"
    inside = rf"{result(value)}-{tex(pull)}"
    name = symbol.split("=")[0]
    if weight is None:
        return rf"J_t={name}\,(L_t-{kl})={name}\,({inside})={name}\cdot{tex(value - pull)}"
    return rf"J_t={name}\,(L_t-{kl})={symbol.split('=')[1]}\,({inside})={result((value - pull) * weight)}"
