"""Losses of direct preference learning: each a function of a pair's summed log-probabilities, in one table.

With h = log π_θ(y|x) − log π_ref(y|x) of the chosen answer (h_w) and the rejected one (h_l), DPO (Rafailov et al. 2023, eq. 7,
https://arxiv.org/abs/2305.18290) minimises −log σ(β·(h_w − h_l)). The others change the link function (hinge, IPO, …), treat the two
answers apart (NCA, BCO, APO, SPPO, KTO), compare whole batches (AOT), measure another divergence than the reverse KL (f-DPO), or leave
the reference out (SimPO, ORPO, CPO). Names and arguments are TRL's. The papers stand beside each choice in ``rlhf/config/dpo.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf.config.dpo import REFERENCE_FREE
from rlhf.pairs import accuracy
from rlhf.types import Stats

LARGEST_EXPONENT = 80.0  # e^80 still fits float32


@dataclass(frozen=True, slots=True)
class Pairs:
    """N pairs and what the losses may ask for. All tensors (N,), in nats or tokens."""

    chosen: Tensor  # h_w; log π_θ(y_w|x) where there is no reference
    rejected: Tensor
    chosen_score: Tensor  # f'(π_θ/π_ref): h_w itself for the reverse KL
    rejected_score: Tensor
    model_lead: Tensor  # log π_θ(y_w|x) − log π_θ(y_l|x)
    reference_lead: Tensor | None
    chosen_lengths: Tensor | None
    rejected_lengths: Tensor | None
    beta: float
    label_smoothing: float
    discopop_tau: float
    average_log_prob: bool
    simpo_gamma: float
    cpo_alpha: float
    desirable_weight: float
    undesirable_weight: float
    kl: Tensor | float

    @property
    def delta(self) -> Tensor:
        return self.chosen_score - self.rejected_score

    @property
    def average_delta(self) -> Tensor:
        """The difference of the means over the answers' tokens."""
        return self.chosen_score / self.tokens[0] - self.rejected_score / self.tokens[1]

    @property
    def tokens(self) -> tuple[Tensor, Tensor]:
        if self.chosen_lengths is None or self.rejected_lengths is None:
            raise ValueError("this loss is averaged over tokens, so it needs chosen_lengths and rejected_lengths")
        return self.chosen_lengths.clamp(min=1), self.rejected_lengths.clamp(min=1)

    def smoothed(self, logits: Tensor) -> Tensor:
        """−(1 − ε)·log σ(z) − ε·log σ(−z)."""
        return -(1 - self.label_smoothing) * logsigmoid(logits) - self.label_smoothing * logsigmoid(-logits)

    def likelihood(self) -> Tensor:
        """Mean negative log-likelihood of the chosen answers' tokens, scalar; for losses whose ``chosen`` is log π_θ."""
        return -self.chosen.sum() / self.tokens[0].sum()


def _sigmoid(p: Pairs) -> Tensor:
    return p.smoothed(p.beta * p.delta)


def _hinge(p: Pairs) -> Tensor:
    return torch.relu(1 - p.beta * p.delta)


def _ipo(p: Pairs) -> Tensor:
    return ((p.average_delta if p.average_log_prob else p.delta) - 1 / (2 * p.beta)).square()


def _robust(p: Pairs) -> Tensor:
    z, e = p.beta * p.delta, p.label_smoothing
    return (-(1 - e) * logsigmoid(z) + e * logsigmoid(-z)) / (1 - 2 * e)


def _exo_pair(p: Pairs) -> Tensor:
    if not p.label_smoothing:
        raise ValueError(
            "exo_pair compares with the labels' distribution (1 − ε, ε), so label_smoothing must be above 0 (1e-3 in the paper)"
        )
    z, e = p.beta * p.delta, p.label_smoothing
    return z.sigmoid() * (logsigmoid(z) - math.log1p(-e)) + (-z).sigmoid() * (logsigmoid(-z) - math.log(e))


def _nca_pair(p: Pairs) -> Tensor:
    chosen, rejected = p.beta * p.chosen, p.beta * p.rejected
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def _bco_pair(p: Pairs) -> Tensor:
    return -logsigmoid(p.beta * p.chosen) - logsigmoid(-p.beta * p.rejected)


def _sppo_hard(p: Pairs) -> Tensor:
    return (p.chosen - 0.5 / p.beta).square() + (p.rejected + 0.5 / p.beta).square()


def _aot(p: Pairs) -> Tensor:
    assert p.reference_lead is not None
    return p.smoothed(p.beta * (p.model_lead.sort().values - p.reference_lead.sort().values))


def _aot_unpaired(p: Pairs) -> Tensor:
    return p.smoothed(p.beta * (p.chosen.sort().values - p.rejected.sort().values))


def _apo_zero(p: Pairs) -> Tensor:
    return (-p.beta * p.chosen).sigmoid() + (p.beta * p.rejected).sigmoid()


def _apo_down(p: Pairs) -> Tensor:
    return (p.beta * p.chosen).sigmoid() + (-p.beta * (p.chosen - p.rejected)).sigmoid()


def _discopop(p: Pairs) -> Tensor:
    z = p.beta * p.delta
    modulation = (z / p.discopop_tau).sigmoid()
    return -logsigmoid(z) * (1 - modulation) + (-z).exp() * modulation


def _sigmoid_norm(p: Pairs) -> Tensor:
    return -logsigmoid(p.beta * p.average_delta)


def _kto(p: Pairs) -> Tensor:
    chosen, rejected = (p.beta * (p.kl - p.chosen)).sigmoid(), (p.beta * (p.rejected - p.kl)).sigmoid()
    return (p.desirable_weight * chosen + p.undesirable_weight * rejected) / 2


def _simpo(p: Pairs) -> Tensor:
    return p.smoothed(p.beta * p.average_delta - p.simpo_gamma)


def _cpo(p: Pairs) -> Tensor:
    return p.smoothed(p.beta * p.delta) + p.cpo_alpha * p.likelihood()


def _orpo(p: Pairs) -> Tensor:
    chosen, rejected = p.chosen / p.tokens[0], p.rejected / p.tokens[1]
    log_odds = chosen - rejected - (_log1mexp(chosen) - _log1mexp(rejected))
    return p.likelihood() - p.beta * logsigmoid(log_odds)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 − e^x) for x < 0, without cancellation (Mächler 2012, https://cran.r-project.org/package=Rmpfr/vignettes/log1mexp-note.pdf)."""
    x = x.clamp(max=-1e-7)  # an answer that is already certain
    far = x < -math.log(2)
    return torch.where(far, torch.log1p(-torch.where(far, x, -1.0).exp()), torch.log(-torch.expm1(torch.where(far, -0.1, x))))


LOSSES: dict[str, Callable[[Pairs], Tensor]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "robust": _robust,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "aot": _aot,
    "aot_unpaired": _aot_unpaired,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sigmoid_norm": _sigmoid_norm,
    "kto": _kto,
    "simpo": _simpo,
    "orpo": _orpo,
    "cpo": _cpo,
}


def _alpha_score(log_ratio: Tensor, alpha: float) -> Tensor:
    """f'(t) = (t^(α−1) − 1)/(α − 1) at t = e^h; log t in the limit α → 1."""
    if abs(alpha - 1) < 1e-6:
        return log_ratio
    return (((alpha - 1) * log_ratio).clamp(max=LARGEST_EXPONENT).exp() - 1) / (alpha - 1)


DIVERGENCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "reverse_kl": lambda h, alpha: h,  # f'(t) = log t + 1; constants cancel in a difference
    "forward_kl": lambda h, alpha: 1 - (-h).exp(),  # f'(t) = −1/t
    "js_divergence": lambda h, alpha: math.log(2) + logsigmoid(h),  # f'(t) = log 2t/(t + 1)
    "alpha_divergence": _alpha_score,
}
"""f-DPO (Wang et al. 2024, eq. 8, https://arxiv.org/abs/2309.16240): log-ratios (N,) and α → f'(π_θ/π_ref), (N,)."""


def dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor | None,
    ref_rejected_logps: Tensor | None,
    beta: float,
    variant: str = "sigmoid",
    label_smoothing: float = 0.0,
    *,
    f_divergence_type: str = "reverse_kl",
    f_alpha_divergence_coef: float = 0.5,
    discopop_tau: float = 0.05,
    average_log_prob: bool = False,
    simpo_gamma: float = 0.5,
    cpo_alpha: float = 1.0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    kl: Tensor | float = 0.0,
    chosen_lengths: Tensor | None = None,
    rejected_lengths: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Stats]:
    """A loss of the table from log-probabilities summed over the answer, each (N,), in nats.

    ``ref_…``: may be None for simpo, orpo and cpo, and are not used by them. ``…_lengths``: tokens of the answers, (N,), for losses that
    average (ipo with ``average_log_prob``, sigmoid_norm, simpo, orpo; cpo for its likelihood). ``kl``: KTO's z_ref, a scalar ≥ 0.
    ``weights``: a factor for each pair's loss, (N,), as WPO's. Returns the scalar loss and detached stats. Raises ``ValueError`` for an
    unknown variant or divergence, or a missing reference or length.
    """
    if variant not in LOSSES:
        raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(LOSSES)}")
    if f_divergence_type not in DIVERGENCES:
        raise ValueError(f"unknown divergence {f_divergence_type!r}: choose one of {', '.join(DIVERGENCES)}")
    chosen, rejected, reference_lead = chosen_logps, rejected_logps, None
    if variant not in REFERENCE_FREE:
        if ref_chosen_logps is None or ref_rejected_logps is None:
            raise ValueError(f"{variant} compares with the reference, so it needs ref_chosen_logps and ref_rejected_logps")
        chosen, rejected = chosen_logps - ref_chosen_logps, rejected_logps - ref_rejected_logps
        reference_lead = ref_chosen_logps - ref_rejected_logps
    score = DIVERGENCES[f_divergence_type]
    pairs = Pairs(
        chosen, rejected, score(chosen, f_alpha_divergence_coef), score(rejected, f_alpha_divergence_coef),
        chosen_logps - rejected_logps, reference_lead, chosen_lengths, rejected_lengths, beta, label_smoothing, discopop_tau,
        average_log_prob, simpo_gamma, cpo_alpha, desirable_weight, undesirable_weight, kl,
    )  # fmt: skip
    losses = LOSSES[variant](pairs)
    if weights is not None:
        losses = losses * weights
    loss = losses.mean()
    chosen_rewards, rejected_rewards = rewards_of(variant, chosen, rejected, beta, chosen_lengths, rejected_lengths)
    margins = chosen_rewards - rejected_rewards
    return loss, {
        "loss": loss.detach(),
        "rewards/chosen": chosen_rewards.mean(),
        "rewards/rejected": rejected_rewards.mean(),
        "rewards/margins": margins.mean(),
        "rewards/accuracies": accuracy(margins),
        "logps/chosen": chosen_logps.detach().mean(),
        "logps/rejected": rejected_logps.detach().mean(),
    }


def rewards_of(
    variant: str, chosen: Tensor, rejected: Tensor, beta: float, chosen_lengths: Tensor | None, rejected_lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The implicit rewards of chosen and rejected answers, (N,), detached: β·h, per token where the loss averages log π (simpo, orpo)."""
    rewards = []
    for side, lengths in ((chosen, chosen_lengths), (rejected, rejected_lengths)):
        reward = beta * side.detach()
        if variant in ("simpo", "orpo"):
            assert lengths is not None
            reward = reward / lengths.clamp(min=1)
        rewards.append(reward)
    return rewards[0], rewards[1]
