"""How much better an action was than expected. Pure functions of rewards (and a critic's values)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlhf import ops


def token_rewards(
    rewards: Tensor, logprobs: Tensor, ref_logprobs: Tensor | None, mask: Tensor, beta: float, estimator: ops.KLEstimator = "k1"
) -> Tensor:
    """What each token earns: r_t = −β·KL_t + [t is the last response token]·r(x, y), KL_t = log π_old − log π_ref with k1; → (N, T).

    Ouyang et al. 2022, §3.5, https://arxiv.org/abs/2203.02155. ``ref_logprobs`` may be None when ``beta`` is 0.
    """
    if ref_logprobs is None:
        if beta:
            raise ValueError("beta is not 0, so the rewards need ref_logprobs")
        ref_logprobs = logprobs
    per_token = torch.where(mask, -beta * ops.kl_estimate(logprobs, ref_logprobs, estimator), 0.0)
    last = mask.sum(1) - 1
    return per_token.scatter_add(1, last[:, None], rewards[:, None].to(per_token.dtype))


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(R − V) / Var(R) over response tokens; 0 where the returns do not vary."""
    spread_of_returns = returns[mask].var()
    return float(1 - (returns - values)[mask].var() / spread_of_returns) if spread_of_returns > 1e-8 else 0.0


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over (N, T): → (advantages, returns), both (N, T), 0 on padding.

    δ_t = r_t + γ·V_{t+1} − V_t and A_t = δ_t + γλ·A_{t+1}, with V = A = 0 after the last response token; returns are A + V,
    the critic's target. Schulman et al. 2016, eq. 16, https://arxiv.org/abs/1506.02438

    λ = 0 is TD(0), λ = 1 Monte-Carlo. Worked example, γ = 1, λ = 0.5, rewards (0, 0, 1), values (.5, .6, .7):
    δ = (.1, .1, .3); A₃ = .3, A₂ = .1 + .5·.3 = .25, A₁ = .1 + .5·.25 = .225.
    """
    mask = mask.to(values.dtype)
    zero = torch.zeros((), dtype=values.dtype, device=values.device)
    rewards, values = torch.where(mask > 0, rewards, zero), torch.where(mask > 0, values, zero)
    advantages = torch.zeros_like(values)
    next_value = torch.zeros_like(values[:, 0])
    carry = torch.zeros_like(next_value)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        carry = (delta + gamma * lam * carry) * mask[:, t]
        advantages[:, t] = carry
        next_value = values[:, t]
    return advantages, advantages + values


def td(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """One step ahead, TD(0), over (N, T): → (advantages, returns), both (N, T), 0 on padding.

    The target is R_t = r_t + γ·V_{t+1}, with V = 0 after the last response token, and A_t = R_t − V_t. Sutton & Barto 2018, eq. 6.2,
    http://incompleteideas.net/book/the-book-2nd.html. Little variance; biased for as long as the critic is wrong.

    Worked example, γ = 1, rewards (0, 0, 1), values (.5, .6, .7): R = (.6, .7, 1), A = (.1, .1, .3).
    """
    rewards, values, following = _episode(rewards, values, mask)
    returns = torch.where(mask.bool(), rewards + gamma * following, 0.0)
    return returns - values, returns


def n_step(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, n: int) -> tuple[Tensor, Tensor]:
    """``n`` rewards, then the critic, over (N, T): → (advantages, returns), both (N, T), 0 on padding.

    R_t = r_t + γ·r_{t+1} + … + γ^(n−1)·r_{t+n−1} + γ^n·V_{t+n}, with r = V = 0 after the last response token, and A_t = R_t − V_t.
    Sutton & Barto 2018, eq. 7.1; the estimator of PPO's paper (eq. 10) with one n for all tokens. n = 1 is TD(0), n ≥ T Monte-Carlo.
    Raises ``ValueError`` for n < 1.

    Worked example, γ = 1, n = 2, rewards (0, 0, 1), values (.5, .6, .7): R = (0 + 0 + .7, 0 + 1, 1), A = (.2, .4, .3).
    """
    if n < 1:
        raise ValueError(f"n-step returns need n of at least 1, not {n}")
    rewards, values, _following = _episode(rewards, values, mask)
    length = values.shape[1]
    returns = torch.zeros_like(values)
    for k in range(min(n, length)):
        returns[:, : length - k] += gamma**k * rewards[:, k:]
    if n < length:
        returns[:, : length - n] += gamma**n * values[:, n:]
    returns = torch.where(mask.bool(), returns, 0.0)
    return returns - values, returns


def monte_carlo(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """What really came after each token, over (N, T): → (advantages, returns), both (N, T), 0 on padding.

    R_t = r_t + γ·R_{t+1} and A_t = R_t − V_t. Sutton & Barto 2018, eq. 3.9. Unbiased whatever ``values`` are (they are a baseline, and
    may all be 0); the variance of a whole response.

    Worked example, γ = 0.5, rewards (0, 0, 1), values (.5, .6, .7): R = (.25, .5, 1), A = (−.25, −.1, .3).
    """
    rewards, values, _following = _episode(rewards, values, mask)
    returns = torch.zeros_like(values)
    carry = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        carry = rewards[:, t] + gamma * carry
        returns[:, t] = carry
    returns = torch.where(mask.bool(), returns, 0.0)
    return returns - values, returns


def _episode(rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards and values with 0 on padding, whatever it holds, and the value that follows each token; all in the values' dtype."""
    kept = mask.bool()
    rewards, values = torch.where(kept, rewards, 0.0).to(values.dtype), torch.where(kept, values, 0.0)
    return rewards, values, torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)


def group_relative(rewards: Tensor, group_size: int, scale: Literal["group", "batch", "none"]) -> Tensor:
    """Reward minus the mean of its group, (N,) → (N,); the G rewards of a prompt stand next to one another.

    A reward of NaN (a response that could not be scored) counts nowhere and has the advantage 0, as in TRL.
    ``scale``: divide by the group's unbiased standard deviation + 1e-4 ("group": Shao et al. 2024, §4.1.2,
    https://arxiv.org/abs/2402.03300), by the batch's ("batch"), or not ("none": Dr. GRPO, https://arxiv.org/abs/2503.20783).
    """
    if rewards.ndim != 1 or rewards.numel() % group_size:
        raise ValueError(f"{tuple(rewards.shape)} rewards do not split into groups of {group_size}")
    grouped = rewards.view(-1, group_size)
    centred = grouped - grouped.nanmean(1, keepdim=True)
    match scale:
        case "none":
            advantages = centred
        case "batch":
            advantages = centred / (_nanstd(rewards) + 1e-4)
        case "group":
            advantages = centred / (_nanstd(grouped) + 1e-4)[:, None]
        case _:
            raise ValueError(f"unknown scale {scale!r}: choose group, batch or none")
    return advantages.nan_to_num(nan=0.0).flatten()


def _nanstd(values: Tensor) -> Tensor:
    """Unbiased standard deviation over the last dimension, NaN left out; NaN where fewer than two numbers are left."""
    count = (~values.isnan()).sum(-1)
    variance = (values - values.nanmean(-1, keepdim=True)).square().nansum(-1) / (count - 1)
    return torch.where(count > 1, variance, torch.nan).sqrt()


def leave_one_out(rewards: Tensor, group_size: int) -> Tensor:
    """RLOO: reward minus the mean of the *other* rewards of its group, (N,) → (N,), or column by column, (N, T) → (N, T).

    Ahmadian et al. 2024, eq. 8, https://arxiv.org/abs/2402.14740. Equal to G / (G − 1) · (r − group mean).
    """
    if group_size < 2:
        raise ValueError("leave-one-out needs at least two responses in a group")
    grouped = rewards.reshape(-1, group_size, *rewards.shape[1:])
    return ((grouped - grouped.mean(1, keepdim=True)) * group_size / (group_size - 1)).reshape(rewards.shape)
