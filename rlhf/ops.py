"""The few tensor operations that every algorithm meets in. All keep the dtype they are given."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]


def token_logprobs(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token under its logits: (…, T, V), (…, T) → (…, T), in nats.

    Equal to ``log_softmax(logits / temperature).gather(token)``, but the (…, T, V) log-softmax is never gathered from:
    cross-entropy fuses it, forward and backward. Half-precision logits are lifted to float32.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    flat = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), token_ids.reshape(-1), reduction="none")
    return -flat.view(token_ids.shape)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of the next-token distribution: (…, V) → (…), in nats. H = log Z − Σ p·z for logits z / temperature."""
    logits = (logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits) / temperature
    return logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator) -> Tensor:
    """Per-token estimate of KL(policy ‖ reference) from tokens that the policy sampled, same shape as given, in nats.

    With d = log π − log π_ref: k1 = d (unbiased, may be negative); k2 = d²/2 (biased, low variance);
    k3 = e^(−d) − 1 + d (unbiased, never negative). Schulman 2020, http://joschu.net/blog/kl-approx.html
    """
    d = logprobs - ref_logprobs
    match estimator:
        case "k1":
            return d
        case "k2":
            return d.square() / 2
        case "k3":
            return torch.expm1(-d) + d
    raise ValueError(f"unknown KL estimator {estimator!r}: choose k1, k2 or k3")


def keep(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` where ``mask`` is True and 0 elsewhere, in value and gradient, whatever padding holds (a product would keep NaN)."""
    return torch.where(mask.bool(), values, torch.zeros((), dtype=values.dtype, device=values.device))


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of ``values`` where ``mask`` is True, over everything or over ``dim``; 0 where the mask is empty."""
    kept = keep(values, mask)
    if dim is None:
        return kept.sum() / mask.sum().clamp(min=1)
    return kept.sum(dim) / mask.sum(dim).clamp(min=1)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale to unit (unbiased) variance over the masked entries and shift to mean 0; padding becomes 0.

    ``shift_mean=False`` keeps the mean. Fewer than two entries, or no spread at all, are only shifted.
    """
    mask = mask.bool()
    mean = masked_mean(values, mask)
    count = mask.sum()
    variance = masked_mean((values - mean).square(), mask) * count / (count - 1).clamp(min=1)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask, whitened, torch.zeros_like(whitened))


def is_clipped(ratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float) -> Tensor:
    """Where PPO's clip cuts the gradient: the ratio has left 1 − ε … 1 + ε on the side to which the advantage pushes (bool)."""
    return ((ratio < 1 - epsilon_low) & (advantages < 0)) | ((ratio > 1 + epsilon_high) & (advantages > 0))
