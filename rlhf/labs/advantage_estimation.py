"""How much better than expected? The estimates of one trajectory's advantages, taken apart into the pieces they are made of.

A trajectory of T steps has rewards r_0 … r_{T−1} and the critic's values V_0 … V_{T−1}. ``bootstrap`` is V_T, the value of what comes
after it: 0 where the episode ends there, the critic's word where it was only cut off. Notation of Schulman et al. 2016
(https://arxiv.org/abs/1506.02438); ``rlhf.advantages`` computes the same for batches of responses, as the algorithms use it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf.labs.mdp import Floats


def deltas(rewards: ArrayLike, values: ArrayLike, bootstrap: float, gamma: float) -> Floats:
    """The critic's surprises δ_t = r_t + γ·V_{t+1} − V_t, (T,) (eq. 9). They are TD(0)'s advantages."""
    rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    return rewards + gamma * np.append(values[1:], bootstrap) - values


def delta_terms(surprises: Floats, gamma: float, lam: float) -> Floats:
    """(γλ)^l·δ_{t+l} in row t and column t + l, (T, T), 0 left of the diagonal; a row's sum is GAE's A_t (eq. 16)."""
    steps = np.arange(len(surprises))
    ahead = steps[None, :] - steps[:, None]
    return np.where(ahead >= 0, (gamma * lam) ** np.maximum(ahead, 0), 0.0) * surprises


def gae(rewards: ArrayLike, values: ArrayLike, bootstrap: float, gamma: float, lam: float) -> Floats:
    """Generalised advantage estimation, (T,). λ = 0 is TD(0), λ = 1 Monte-Carlo."""
    return delta_terms(deltas(rewards, values, bootstrap, gamma), gamma, lam).sum(1)


def n_step(surprises: Floats, gamma: float) -> Floats:
    """A_t^(n) in row t and column n − 1, (T, T), NaN where fewer than n steps are left (eq. 14).

    A_t^(n) = r_t + γ·r_{t+1} + … + γ^n·V_{t+n} − V_t, which is Σ_{l<n} γ^l·δ_{t+l}. The last number of a row is Monte-Carlo's.
    """
    count = len(surprises)
    table = np.full((count, count), np.nan)
    for t in range(count):
        table[t, : count - t] = np.cumsum(gamma ** np.arange(count - t) * surprises[t:])
    return table


def monte_carlo(surprises: Floats, gamma: float) -> Floats:
    """The whole rest of the trajectory (and ``bootstrap`` after it) less V_t, (T,)."""
    return delta_terms(surprises, gamma, 1.0).sum(1)


def n_step_weights(count: int, lam: float) -> Floats:
    """What GAE gives the n-step advantages, (count,), sum 1: (1 − λ)·λ^(n−1), and to the last all that remains, λ^(count−1).

    The last stands for every longer n: after the trajectory nothing changes any more (Sutton & Barto 2018, eq. 12.3).
    """
    weights = (1 - lam) * lam ** np.arange(count, dtype=np.float64)
    weights[-1] = lam ** (count - 1)
    return weights
