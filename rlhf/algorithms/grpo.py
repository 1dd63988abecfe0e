"""GRPO: group-relative policy optimisation. Shao et al. 2024, https://arxiv.org/abs/2402.03300

For each prompt q, sample a group of G responses o₁…o_G from the old policy, score them, and let each response's advantage be its
reward against its own group, so that no critic is needed (§4.1.2):

    Âᵢ = (rᵢ − mean(r)) / (std(r) + 1e-4)

Maximise (eq. 3)

    J = E[ 1/G Σᵢ 1/|oᵢ| Σₜ { min( ρᵢₜ·Âᵢ, clip(ρᵢₜ, 1−ε, 1+ε)·Âᵢ ) − β·D_KL } ],   ρᵢₜ = π_θ(oᵢₜ|q,oᵢ,<ₜ) / π_old(oᵢₜ|q,oᵢ,<ₜ)

with the unbiased, never negative estimate (eq. 4)   D_KL = π_ref/π_θ − log(π_ref/π_θ) − 1   (k3).

The family differs in the ratio, in what is maximised at a token, and in the mean over tokens: the table ``VARIANTS``, whose names are TRL's
(gspo: its sequence-level ratio with grpo's mean). Formulas and papers of each stand in ``rlhf/config/grpo.py``.

Deviations: the clip range may differ below and above (DAPO, https://arxiv.org/abs/2503.14476, eq. 10), 0.2 both by default; with one
update a batch the old policy is the policy itself, so ρ = 1 in value and only its gradient matters; no outer loop that renews π_ref.
DAPO's dynamic sampling stops after a set number of further batches, and the KL term stays unless beta is 0.

    python -m rlhf train grpo --model story --reward negative --steps 60
    python -m rlhf train grpo --model story --reward negative --variant dr_grpo
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf import advantages as adv
from rlhf import ops
from rlhf.config import GRPOConfig as Config
from rlhf.dynamic_sampling import refill
from rlhf.events import Event, Phase, Step
from rlhf.experience import KL_EVERY, Collector, Experience, advantage_metrics, online_metrics, spread
from rlhf.optimisation import Updater, minibatches
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats


class Settings(NamedTuple):
    """What the variants may ask for beside the tensors."""

    epsilon_low: float
    epsilon_high: float
    max_completion_length: int | None
    sapo_temperature_pos: float
    sapo_temperature_neg: float


# ---------------------------------------------------------------- the ratio


def _token_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """ρᵢₜ, (N, T)."""
    return log_ratio.exp()


def _sequence_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """GSPO, eq. 7: the geometric mean of the tokens' ratios, one for each response, (N, 1)."""
    return ops.masked_mean(log_ratio, mask, dim=1).exp()[:, None]


# ---------------------------------------------------------------- what is maximised at a token


def _clipped(ratio: Tensor, advantages: Tensor, logprobs: Tensor, s: Settings) -> Tensor:
    """min( ρ·Â, clip(ρ)·Â )."""
    return torch.minimum(ratio * advantages, ratio.clamp(1 - s.epsilon_low, 1 + s.epsilon_high) * advantages)


def _capped(ratio: Tensor, advantages: Tensor, logprobs: Tensor, s: Settings) -> Tensor:
    """CISPO: the capped ratio is a weight without gradient."""
    return ratio.clamp(max=s.epsilon_high).detach() * advantages * logprobs


def _gated(ratio: Tensor, advantages: Tensor, logprobs: Tensor, s: Settings) -> Tensor:
    """SAPO: 4/τ·σ(τ(ρ − 1))·Â, whose slope at ρ = 1 is Â."""
    temperature = torch.where(advantages > 0, s.sapo_temperature_pos, s.sapo_temperature_neg)
    return (temperature * (ratio - 1)).sigmoid() * 4 / temperature * advantages


# ---------------------------------------------------------------- the mean over tokens


def _sequence_mean(per_token: Tensor, mask: Tensor, s: Settings) -> Tensor:
    """1/N Σᵢ 1/|oᵢ| Σₜ: every response counts the same, long or short."""
    return ops.masked_mean(per_token, mask, dim=1).mean()


def _token_mean(per_token: Tensor, mask: Tensor, s: Settings) -> Tensor:
    """1/Σ|oᵢ| Σᵢ Σₜ: every token counts the same."""
    return ops.masked_mean(per_token, mask)


def _constant_mean(per_token: Tensor, mask: Tensor, s: Settings) -> Tensor:
    """Dr. GRPO: 1/(N·L_max) Σᵢ Σₜ: a response's length changes nothing about the weight of a token."""
    if s.max_completion_length is None:
        raise ValueError("dr_grpo divides by the longest response allowed: give max_completion_length")
    return ops.keep(per_token, mask).sum() / (len(mask) * s.max_completion_length)


class Form(NamedTuple):
    """A variant: which ratio, what is maximised at a token, which mean."""

    ratio: Callable[[Tensor, Tensor], Tensor]
    objective: Callable[[Tensor, Tensor, Tensor, Settings], Tensor]
    mean: Callable[[Tensor, Tensor, Settings], Tensor]


VARIANTS = {
    "grpo": Form(_token_ratio, _clipped, _sequence_mean),
    "bnpo": Form(_token_ratio, _clipped, _token_mean),
    "dr_grpo": Form(_token_ratio, _clipped, _constant_mean),
    "dapo": Form(_token_ratio, _clipped, _token_mean),
    "cispo": Form(_token_ratio, _capped, _token_mean),
    "sapo": Form(_token_ratio, _gated, _sequence_mean),
    "gspo": Form(_sequence_ratio, _clipped, _sequence_mean),
}
OVER_THE_BATCH = ("dapo", "cispo")
"""Their mean is over the tokens of the whole batch, however it is cut into microbatches."""


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    beta: float,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    variant: str = "grpo",
    *,
    max_completion_length: int | None = None,
    sapo_temperature_pos: float = 1.0,
    sapo_temperature_neg: float = 1.05,
    use_bias_correction_kl: bool = False,
    entropy_mask: Tensor | None = None,
) -> tuple[Tensor, Stats]:
    """Minus the objective above. Log-probabilities (N, T) nats, advantages (N,) or (N, T), mask (N, T) True on response tokens.

    ``ref_logprobs`` may be None when ``beta`` is 0. ``entropy_mask`` (N, T): tokens that the policy term learns from (the KL term takes
    all). ``use_bias_correction_kl``: the KL term times the ratio. Returns the scalar loss and detached stats. Raises ``ValueError`` for an
    unknown variant, a missing reference, or a missing ``max_completion_length`` of dr_grpo.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    form = VARIANTS[variant]
    settings = Settings(epsilon_low, epsilon_high, max_completion_length, sapo_temperature_pos, sapo_temperature_neg)
    if advantages.ndim == 1:
        advantages = advantages[:, None]
    logprobs, old_logprobs = ops.keep(logprobs, mask), ops.keep(old_logprobs, mask)  # exp of padding may overflow
    ratio = form.ratio(logprobs - old_logprobs, mask)
    objective = form.objective(ratio, advantages, logprobs, settings).expand_as(logprobs)
    if entropy_mask is not None:
        objective = objective * entropy_mask
    loss = policy_loss = form.mean(-objective, mask, settings)
    stats = {"loss/policy": policy_loss.detach(), "ratio/mean": ops.masked_mean(ratio.expand_as(logprobs), mask).detach()}
    if variant != "sapo":
        cut = clipped_tokens(ratio, advantages, epsilon_low, epsilon_high, variant).expand_as(logprobs)
        stats["clip_ratio/region_mean"] = ops.masked_mean(cut.to(logprobs.dtype), mask).detach()
    if beta:
        if ref_logprobs is None:
            raise ValueError("beta is not 0, so the loss needs ref_logprobs")
        kl = ops.kl_estimate(logprobs, ops.keep(ref_logprobs, mask), "k3")
        kl_loss = beta * form.mean(kl * ratio if use_bias_correction_kl else kl, mask, settings)
        stats["loss/kl"] = kl_loss.detach()
        loss = policy_loss + kl_loss
    return loss, {"loss": loss.detach(), **stats}


def clipped_tokens(ratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float, variant: str) -> Tensor:
    """Where the clip is active (bool): no gradient left; for cispo, the weight capped."""
    if variant == "cispo":
        return (ratio > epsilon_high) & (advantages > 0)
    return ops.is_clipped(ratio, advantages, epsilon_low, epsilon_high)


def overlong_penalty(lengths: Tensor, longest: int, buffer: int) -> Tensor:
    """DAPO, eq. 13: 0 up to ``longest`` − ``buffer`` tokens, then in a line to −1 at ``longest``. (N,) → (N,) float."""
    if not buffer:
        return torch.zeros(lengths.shape, device=lengths.device)
    return -((lengths - (longest - buffer)) / buffer).clamp(0, 1)


def most_uncertain(entropies: Tensor, mask: Tensor, share: float) -> Tensor | None:
    """The ``share`` of the response tokens with the highest entropy, (N, T) bool; None for all of them.

    Wang et al. 2025, "Beyond the 80/20 rule", https://arxiv.org/abs/2506.01939
    """
    if share >= 1 or not bool(mask.any()):
        return None
    return mask & (entropies >= entropies[mask].float().quantile(1 - share))


class GRPO:
    """Collects a batch of groups and takes a step."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        self.updater = Updater([{"params": policy.trainable(), "lr": config.learning_rate}], config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        fresh = yield from self.collector.batch(step, with_reference=config.beta > 0 or step % KL_EVERY == 0)
        experience, extra = fresh, {}
        if config.dynamic_sampling:
            experience, batches = yield from refill(fresh, self.collector, step, config.dynamic_sampling)
            extra["dynamic_sampling/batches"] = float(batches)
        mask = experience.mask
        penalty = overlong_penalty(mask.sum(1), config.max_new_tokens, config.overlong_buffer)
        if config.overlong_buffer:
            extra["overlong_penalty"] = float(penalty.mean())
        advantages = adv.group_relative(experience.rewards + penalty, config.group_size, config.scale_rewards)
        yield Phase(step, "updating")
        logprobs = self._update(experience, advantages, step)
        ratio = self._shown_ratio(logprobs, experience)
        per_token = advantages[:, None].expand_as(ratio)
        clipped = clipped_tokens(ratio, per_token, config.epsilon_low, config.epsilon_high, config.variant)
        # the samples as they came: what dynamic sampling leaves out belongs to the policy's reward too
        metrics = online_metrics(fresh) | extra | advantage_metrics(per_token, mask) | self.updater.take_stats()
        yield from self.collector.samples(
            experience,
            step,
            "train",
            advantages,
            config.sample_prompts,
            logprobs=logprobs,
            ratio=ratio,
            clipped=clipped,
            advantages=per_token,
        )
        yield Step(step, metrics, {"advantages": spread(advantages), "reward": spread(fresh.rewards)})

    @property
    def _several_updates(self) -> bool:
        return self.config.epochs * self.config.minibatches > 1

    def _shown_ratio(self, logprobs: Tensor, experience: Experience) -> Tensor:
        """The last pass's ratio (N, T); 1 with one update a batch."""
        if not self._several_updates:
            return torch.ones_like(logprobs)
        log_ratio = ops.keep(logprobs - experience.rollout.logprobs, experience.mask)
        return VARIANTS[self.config.variant].ratio(log_ratio, experience.mask).expand_as(logprobs)

    def _update(self, experience: Experience, advantages: Tensor, step: int) -> Tensor:
        """All inner updates; → the log-probabilities (N, T) of the last pass, for the ratio that is shown."""
        config, sequences, rollout = self.config, experience.sequences, experience.rollout
        n = len(sequences)
        latest = torch.zeros_like(rollout.logprobs)
        mask = rollout.response_mask & rollout.finished[:, None] if config.mask_truncated_completions else rollout.response_mask
        uncertain = most_uncertain(rollout.entropies, mask, config.top_entropy_quantile)

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            logprobs = self.policy.logprobs(sequences.rows(rows), config.temperature)
            latest[rows] = logprobs.detach()
            old = rollout.logprobs[rows] if self._several_updates else logprobs.detach()
            reference = experience.ref_logprobs[rows] if experience.ref_logprobs is not None else None
            return grpo_loss(
                logprobs, old, reference, advantages[rows], mask[rows], config.beta, config.epsilon_low, config.epsilon_high,
                config.variant, max_completion_length=config.max_new_tokens, sapo_temperature_pos=config.sapo_temperature_pos,
                sapo_temperature_neg=config.sapo_temperature_neg, use_bias_correction_kl=config.use_bias_correction_kl,
                entropy_mask=None if uncertain is None else uncertain[rows],
            )  # fmt: skip

        for epoch in range(config.epochs):
            for part in minibatches(n, config, step, epoch, shuffled=config.minibatches > 1):
                part = part.to(self.policy.device)
                tokens = float(mask[part].sum())
                over_batch = config.variant in OVER_THE_BATCH and tokens > 0  # 0: every response was truncated and is masked
                weight = (lambda rows, tokens=tokens: float(mask[rows].sum()) / tokens) if over_batch else None
                self.updater.update(part, step, loss, weight)
        return latest

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
