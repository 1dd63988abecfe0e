"""The formula of DPO and its family for one pair, with the numbers of its two answers put in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.formula import block, kl_lines, kl_term, result, tex, token_line
from pages.components.i18n import _
from pages.components.numbers import number
from rlhf.bradley_terry import preference_probability
from rlhf.config.dpo import DPO_VARIANTS, REFERENCE_FREE, SORTED


@dataclass(frozen=True)
class Pair:
    """Of one pair: h = Σ(log π − log π_ref) of each answer (Σ log π without a reference), the margin of the implicit rewards, the
    Bradley–Terry probability of it, the loss, and how strongly it pushes each log π(y) up: −∂L/∂log π(y)."""

    chosen: float
    rejected: float
    margin: float
    probability: float
    loss: float
    pull_chosen: float
    pull_rejected: float


def terms(config: Mapping[str, Any], chosen: Mapping[str, Any], rejected: Mapping[str, Any], kl: float = 0.0) -> Pair:
    """From the token log-probabilities of the two answers, as they were recorded. ``kl``: KTO's z."""
    import torch  # not needed for the first paint

    from rlhf.pair_losses import dpo_loss

    variant = config.get("variant", "sigmoid")
    shared, beyond = min(len(answer["tokens"]["ids"]) for answer in (chosen, rejected)), float(config.get("ld_alpha", 1.0))

    def summed(answer: Mapping[str, Any], column: str) -> float:
        return sum(value if t < shared else beyond * value for t, value in enumerate(answer["tokens"][column]))

    ours = [torch.tensor([summed(a, "logprobs")], dtype=torch.float64, requires_grad=True) for a in (chosen, rejected)]
    free = variant in REFERENCE_FREE
    reference = [None if free else torch.tensor([summed(a, "ref_logprobs")], dtype=torch.float64) for a in (chosen, rejected)]
    lengths = [torch.tensor([len(a["tokens"]["ids"])]) for a in (chosen, rejected)]
    names = ("f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "average_log_prob", "simpo_gamma", "cpo_alpha")
    weights = ("desirable_weight", "undesirable_weight")
    loss, stats = dpo_loss(
        ours[0], ours[1], reference[0], reference[1], float(config.get("beta", 0.1)), variant, float(config.get("label_smoothing", 0.0)),
        kl=kl, chosen_lengths=lengths[0], rejected_lengths=lengths[1], **{n: config[n] for n in (*names, *weights) if n in config},
    )  # fmt: skip
    pulls = torch.autograd.grad(loss, ours)
    moved = [float(a.detach() - (b if b is not None else 0.0)) for a, b in zip(ours, reference, strict=True)]
    margin = float(stats["rewards/margins"])
    return Pair(moved[0], moved[1], margin, preference_probability(margin, 0.0), float(loss.detach()), -float(pulls[0]), -float(pulls[1]))


def explain(config: Mapping[str, Any], record: Mapping[str, Any], side: str, t: int | None) -> None:
    """A pair of a data set; ``side``: the answer whose token ``t`` was clicked."""
    pair = terms(config, record["chosen"], record["rejected"], float(record.get("kl", 0.0)))
    _draw(config, pair)
    if t is not None and side in ("chosen", "rejected"):
        token_line(record[side], t)
        _token(config, record[side], t, side, pair)


def explain_group(config: Mapping[str, Any], record: Mapping[str, Any], place: int, t: int) -> None:
    """A response among those to one prompt: the best and the worst are the pair."""
    rewards = [response["reward"] for response in record["responses"]]
    best, worst = rewards.index(max(rewards)), rewards.index(min(rewards))
    if max(rewards) - min(rewards) < 1e-6:  # the precision of the record
        st.caption(_("All responses to this prompt scored the same: it gives no pair, and nothing is learned from it."))
        return
    if place not in (best, worst):
        st.caption(_("Neither the best nor the worst of its prompt: it is in no pair, and nothing is learned from it."))
        return
    side = "chosen" if place == best else "rejected"
    role = (
        _("The best of its prompt, so it is the chosen answer.")
        if side == "chosen"
        else _("The worst of its prompt, so it is the rejected answer.")
    )
    st.markdown(role)
    pair = terms(config, record["responses"][best], record["responses"][worst])
    _draw(config, pair)
    _token(config, record["responses"][place], t, side, pair)


def _draw(config: Mapping[str, Any], pair: Pair) -> None:
    variant, beta = config.get("variant", "sigmoid"), float(config.get("beta", 0.1))
    lines = [_moved_line("w", pair.chosen, variant), _moved_line("l", pair.rejected, variant)]
    if variant == "sigmoid" and config.get("f_divergence_type", "reverse_kl") == "reverse_kl":
        put_in = rf"\sigma\big({result(beta)}\cdot({result(pair.chosen)}-{tex(pair.rejected)})\big)"
        loss = r"-(1-\epsilon)\log p-\epsilon\log(1-p)" if config.get("label_smoothing") else r"-\log p"
        lines += [rf"p=\sigma\big(\beta(h_w-h_l)\big)={put_in}={result(pair.probability)}", rf"\mathcal{{L}}={loss}={result(pair.loss)}"]
        block(*lines)
    else:
        block(*lines)
        formula = DPO_VARIANTS[variant].formula.removeprefix(r"\begin{gathered}").removesuffix(r"\end{gathered}")
        st.latex(rf"\begin{{gathered}}\mathcal{{L}}={formula}\\\mathcal{{L}}={result(pair.loss)}\end{{gathered}}")
    block(
        rf"-\tfrac{{\partial\mathcal{{L}}}}{{\partial\log\pi_\theta(y_w)}}={result(pair.pull_chosen)}",
        rf"-\tfrac{{\partial\mathcal{{L}}}}{{\partial\log\pi_\theta(y_l)}}={result(pair.pull_rejected)}",
    )
    st.caption(
        _(
            "The implicit rewards give the chosen answer a probability of {p} to be preferred. "
            "The last two numbers say how strongly this pair pushes each answer's log-probability up."
        ).format(p=number(pair.probability, "share"))
    )
    if variant in SORTED:
        st.caption(_("In the batch both sides are sorted first; these are the numbers of this pair by itself."))
    if config.get("use_weighting"):
        st.caption(_("WPO multiplies this loss by how likely the policy is to write the two answers itself."))


def _moved_line(letter: str, value: float, variant: str) -> str:
    ours = rf"\log\pi_\theta(y_{letter})"
    left = ours if variant in REFERENCE_FREE else rf"h_{letter}={ours}-\log\pi_{{\text{{ref}}}}(y_{letter})"
    return f"{left}={result(value)}"


def _token(config: Mapping[str, Any], answer: Mapping[str, Any], t: int, side: str, pair: Pair) -> None:
    """The clicked token's share of its answer's log-ratio."""
    if (kl := kl_term(answer, t)) is not None:
        letter, whole = ("w", pair.chosen) if side == "chosen" else ("l", pair.rejected)
        block(kl_lines(kl)[0], rf"h_{letter}=\textstyle\sum_t d_t={result(whole)}")
    if float(config.get("ld_alpha", 1.0)) < 1:
        st.caption(_("Tokens beyond the shorter answer's length count {alpha} (LD-DPO).").format(alpha=number(float(config["ld_alpha"]))))
