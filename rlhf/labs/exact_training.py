"""REINFORCE, PPO, GRPO and DPO on K answers, trained from π_ref with their exact expected gradients: nothing is sampled.

All maximise E[r] − β·KL(π‖π_ref) and should end at π*; each does so or not by its own expected gradient (docs/algorithms.md;
tests/learning/test_closed_forms.py holds the same of the losses that train language models). The logits θ are log π_ref at the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlhf.errors import ConfigError
from rlhf.labs.dpo_derivation import expected_loss
from rlhf.labs.kl_optimum import policies
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import log_softmax

ALGORITHMS = ("reinforce", "ppo", "grpo", "dpo")


@dataclass(frozen=True)
class Setup:
    """``rate`` η in (0, 1]: 1 is the largest step that suits each algorithm's curvature. ``natural``: the gradient divided by π
    (Kakade 2001), else plain; DPO's is always plain. PPO: ``clip`` ε, ``epochs`` on a batch. GRPO: ``scaled`` divides by the group's
    deviation, ``corrected`` takes the KL's own gradient instead of k3's."""

    beta: float
    steps: int = 400
    rate: float = 0.3
    natural: bool = True
    clip: float = 0.2
    epochs: int = 3
    scaled: bool = True
    corrected: bool = False


def train(algorithm: str, reference: Floats, rewards: Floats, setup: Setup) -> Floats:
    """log π after each step, (steps + 1, K); −inf where the reference is 0: such an answer is never written and never learned.

    ConfigError: β = 0, where nothing holds the policy and no algorithm arrives.
    """
    if setup.beta <= 0:
        raise ConfigError(
            "With β = 0 there is no optimum to arrive at: the policy runs towards the best answer for ever, and DPO's loss is constant.",
            "Choose β above 0.",
        )
    able = reference > 0
    log_reference, r = np.log(reference[able]), np.asarray(rewards, np.float64)[able]
    step = {"reinforce": _reinforce, "ppo": _ppo, "grpo": _grpo, "dpo": _dpo}[algorithm]
    path = [log_reference]
    for _ in range(setup.steps):
        path.append(log_softmax(path[-1] + step(path[-1], log_reference, r, setup)))
    whole = np.full((setup.steps + 1, len(reference)), -np.inf)
    whole[:, able] = path
    return whole


def _ascend(uphill: Floats, policy: Floats, stiffness: float, setup: Setup, spread: float, steps: int = 1) -> Floats:
    """A step along the gradient π·uphill: natural, or plain with a step that the softmax's curvature (≤ ½) allows. ``steps``: into how
    many it is divided, as all of them follow the advantages of the first."""
    if setup.natural:
        return setup.rate / (stiffness * steps) * uphill
    gradient = policy * uphill
    return setup.rate * 2 / ((setup.beta + spread) * steps) * (gradient - policy * gradient.sum())


def _worth(logprobs: Floats, log_reference: Floats, rewards: Floats, beta: float) -> Floats:
    """The advantage with the KL in the reward, (K,): r − β·log(π/π_ref) minus its mean under π."""
    worth = rewards - beta * (logprobs - log_reference)
    return worth - np.exp(logprobs) @ worth


def _reinforce(logprobs: Floats, log_reference: Floats, rewards: Floats, setup: Setup) -> Floats:
    """∇J by θ_k is π_k·A_k."""
    advantages = _worth(logprobs, log_reference, rewards, setup.beta)
    return _ascend(advantages, np.exp(logprobs), setup.beta, setup, float(np.ptp(rewards)))


def _ppo(logprobs: Floats, log_reference: Floats, rewards: Floats, setup: Setup) -> Floats:
    """``epochs`` steps on the clipped surrogate E_old[min(ρA, clip(ρ)A)], with A of the policy that the batch is from (eq. 7)."""
    advantages = _worth(logprobs, log_reference, rewards, setup.beta)
    now = logprobs
    for _ in range(setup.epochs):
        ratio = np.exp(now - logprobs)
        cut = ((ratio > 1 + setup.clip) & (advantages > 0)) | ((ratio < 1 - setup.clip) & (advantages < 0))
        kept = np.where(cut, 0.0, advantages)  # E_old[ρ·x] = E_π[x]
        policy = np.exp(now)
        kept = kept - policy @ kept
        now = log_softmax(now + _ascend(kept, policy, setup.beta, setup, float(np.ptp(rewards)), setup.epochs))
    return now - logprobs


def _grpo(logprobs: Floats, log_reference: Floats, rewards: Floats, setup: Setup) -> Floats:
    """A group so large that its mean and deviation are those of π. k3's gradient by θ_k is π_k − π_ref,k: that of KL(π_ref‖π)."""
    policy = np.exp(logprobs)
    advantages = rewards - policy @ rewards
    if setup.scaled:
        advantages = advantages / spread(policy, rewards)
    width = float(np.ptp(advantages))
    if setup.corrected:
        d = logprobs - log_reference
        return _ascend(advantages - setup.beta * (d - policy @ d), policy, setup.beta, setup, width)
    pull = setup.beta * (1 - np.exp(np.minimum(log_reference - logprobs, 700)))
    return _ascend(advantages - pull, policy, setup.beta + width, setup, width)


def _dpo(logprobs: Floats, log_reference: Floats, rewards: Floats, setup: Setup) -> Floats:
    """Gradient descent on the expected loss of all pairs, whose curvature is at most β²/(4(K − 1))."""
    if len(rewards) < 2:
        return np.zeros(len(rewards))
    _loss, gradient = expected_loss(logprobs, np.exp(log_reference), rewards, setup.beta)
    return -setup.rate * 4 * (len(rewards) - 1) / setup.beta**2 * gradient


def spread(policy: Floats, rewards: Floats) -> float:
    """What GRPO divides by: the rewards' standard deviation under π, + 1e-4 as in the code that trains models."""
    return math.sqrt(float(policy @ (rewards - policy @ rewards) ** 2)) + 1e-4


def grpo_end(reference: Floats, rewards: Floats, beta: float, corrected: bool) -> Floats:
    """Where GRPO without scaling comes to rest, (K,); with scaling, call it with β times ``spread`` of the end.

    Corrected: π* of β. As in the paper, with k3 in the loss: π = β·π_ref/(λ − r) with the one λ > max r that makes it sum to 1
    (Vojnović & Yun 2025, https://arxiv.org/abs/2502.18548): the optimum of E[r] − β·KL(π_ref‖π).
    """
    if corrected:
        return policies(reference, rewards, np.array([beta]))[0]
    able = reference > 0
    behind = rewards[able].max() - rewards[able]
    low, high = beta * float(reference[able][behind == 0].sum()), beta  # of λ − max r
    for _ in range(200):
        middle = math.sqrt(low * high)
        if (beta * reference[able] / (middle + behind)).sum() > 1:
            low = middle
        else:
            high = middle
    end = np.zeros(len(reference))
    end[able] = beta * reference[able] / (math.sqrt(low * high) + behind)
    return end / end.sum()


def distances(path: Floats, target: Floats) -> Floats:
    """KL(π‖target) after each step, (T,), in nats, from log π (T, K): Σ π·(d + e^−d − 1), whose terms are all ≥ 0.

    So it can be followed below the rounding of a sum of terms of both signs. Answers of target 0 are left out.
    """
    able = target > 0
    d = path[:, able] - np.log(target[able])
    return (np.exp(path[:, able]) * (d + np.expm1(np.minimum(-d, 700)))).sum(1)


def swings(path: Floats, window: int = 60) -> bool:
    """Whether the last steps of log π, (T, K), go to and fro: in sum they lead to less than half as far as they are long."""
    last = np.exp(path[-window - 1 :])
    return bool(np.abs(last[-1] - last[0]).sum() < 0.5 * np.abs(np.diff(last, axis=0)).sum())


def arrived(path: Floats, target: Floats, tolerance: float) -> int | None:
    """The first step from which on every probability is within ``tolerance`` of the target's; None: never."""
    off = np.abs(np.exp(path) - target).max(1) > tolerance
    if not off.any():
        return 0
    last = int(np.flatnonzero(off)[-1])
    return last + 1 if last + 1 < len(path) else None
