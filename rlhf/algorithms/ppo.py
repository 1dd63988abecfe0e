"""PPO: proximal policy optimisation, with a critic or without. Schulman et al. 2017, https://arxiv.org/abs/1707.06347

Generation is an episode: the state is the prompt and the tokens so far, the action is the next token, and the reward comes at the
end, or where it was earned. As in InstructGPT (https://arxiv.org/abs/2203.02155, §3.5) each token also pays for leaving the reference:

    r_t = −β·D(π_old, π_ref) + e_t + [t is the last token]·(r(x, y) − [no end token]·missing_eos_penalty)

with D = k1 = log π_old(a_t|s_t) − log π_ref(a_t|s_t), or k2 or k3 (`ops.kl_estimate`), and e_t what a process reward gave this token;
or D stands, differentiated, in the loss (`kl_in`), and r_t speaks of the reward alone.

Advantages by GAE (https://arxiv.org/abs/1506.02438, eq. 16), A_t = Σ_l (γλ)^l δ_{t+l}, with returns R_t = A_t + V(s_t); or by TD(0), n
steps or Monte-Carlo (`ESTIMATORS`; the critic's target R_t changes with them). Maximise (eqs. 7, 9)

    L = E_t[ min( ρ_t·A_t, clip(ρ_t, 1−ε, 1+ε)·A_t ) ] − c₁·½·E_t[ max( (V−R)², (clip(V, V_old ± ε_v)−R)² ) ] + c₂·E_t[ H(π(·|s_t)) ]

With dual clip (Ye et al. 2020, https://arxiv.org/abs/1912.09729, eq. 5) the min is at least c·A_t where A_t < 0. PPO-penalty (eq. 8) puts
ρ_t·A_t − c·KL[π_old ‖ π] in its place; the adaptive rule (§4) doubles or halves c after a step. Without a critic (`critic` = none) c₁ = 0,
A_t = Σ_l γ^l r_{t+l}, and the baseline is the mean of the batch, which whitening takes off.

Deviations: the critic is a linear head on the policy's own last hidden state and sends its gradient into the shared trunk, as in the
paper's eq. 9 (InstructGPT uses a separate network); the value loss is clipped as in OpenAI's code; advantages are whitened over the
batch before the epochs. The penalty's KL, the distance that the adaptive rule follows and the one at which the epochs stop are
estimated from the sampled tokens, by ρ − 1 − log ρ (k3: unbiased, as they are π_old's own), not summed over the vocabulary.

    python -m rlhf train ppo --model story --reward negative --steps 60
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf import advantages as adv
from rlhf import ops
from rlhf.advantages import explained_variance, token_rewards
from rlhf.config import PPOConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import Collector, Experience, advantage_metrics, earned_rewards, online_metrics, spread
from rlhf.optimisation import Updater, minibatches
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats

# (rewards, values, mask, config) → (advantages, the critic's target), all (N, T)
ESTIMATORS: dict[str, Callable[[Tensor, Tensor, Tensor, Config], tuple[Tensor, Tensor]]] = {
    "gae": lambda rewards, values, mask, config: adv.gae(rewards, values, mask, config.gamma, config.lam),
    "td": lambda rewards, values, mask, config: adv.td(rewards, values, mask, config.gamma),
    "n_step": lambda rewards, values, mask, config: adv.n_step(rewards, values, mask, config.gamma, config.n_steps),
    "monte_carlo": lambda rewards, values, mask, config: adv.monte_carlo(rewards, values, mask, config.gamma),
}


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_range: float, dual_clip: float = 0.0
) -> tuple[Tensor, Stats]:
    """Minus the clipped surrogate (eq. 7), mean over response tokens. All (N, T). ``dual_clip``: c of Ye et al.'s eq. 5; 0 is off."""
    logprobs, old_logprobs = ops.keep(logprobs, mask), ops.keep(old_logprobs, mask)  # exp of padding may overflow
    ratio = (logprobs - old_logprobs).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages)
    if dual_clip:
        surrogate = torch.where(advantages < 0, torch.maximum(surrogate, dual_clip * advantages), surrogate)
    loss = ops.masked_mean(-surrogate, mask)
    return loss, {
        "loss/policy": loss.detach(),
        "clip_ratio/region_mean": ops.masked_mean(is_cut(ratio, advantages, clip_range, dual_clip).to(logprobs.dtype), mask).detach(),
        **_distance_stats(ratio, old_logprobs, logprobs, mask),
    }


def penalty_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, penalty_coef: float) -> tuple[Tensor, Stats]:
    """Minus the surrogate with a KL penalty (eq. 8), mean over response tokens: −(ρ·A − c·KL[π_old ‖ π]). All (N, T).

    The KL of a sampled token is ρ − 1 − log ρ. Its gradient, (ρ − 1)·∇log π, has that of the KL as its mean and is 0 at ρ = 1.
    """
    logprobs, old_logprobs = ops.keep(logprobs, mask), ops.keep(old_logprobs, mask)
    ratio = (logprobs - old_logprobs).exp()
    surrogate = ops.masked_mean(-ratio * advantages, mask)
    penalty = penalty_coef * ops.masked_mean(ops.kl_estimate(old_logprobs, logprobs, "k3"), mask)
    loss = surrogate + penalty
    return loss, {
        "loss/policy": surrogate.detach(),
        "loss/penalty": penalty.detach(),
        **_distance_stats(ratio, old_logprobs, logprobs, mask),
    }


def _distance_stats(ratio: Tensor, old_logprobs: Tensor, logprobs: Tensor, mask: Tensor) -> Stats:
    """How far the policy is from the one that sampled, before an update."""
    approximate = ops.kl_estimate(old_logprobs, logprobs, "k3")
    return {"ratio/mean": ops.masked_mean(ratio, mask).detach(), "policy/approxkl": ops.masked_mean(approximate, mask).detach()}


def is_cut(ratio: Tensor, advantages: Tensor, clip_range: float, dual_clip: float = 0.0) -> Tensor:
    """Where the clip or the dual clip leaves a token no gradient (bool)."""
    cut = ops.is_clipped(ratio, advantages, clip_range, clip_range)
    return cut | ((ratio > dual_clip) & (advantages < 0)) if dual_clip else cut


def adapted(penalty_coef: float, distance: float, target: float) -> float:
    """The penalty's coefficient for the next step (§4): doubled above 1.5 · target, halved below target / 1.5."""
    if distance > 1.5 * target:
        return penalty_coef * 2
    return penalty_coef / 2 if distance < target / 1.5 else penalty_coef


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip_range: float) -> tuple[Tensor, Stats]:
    """Half the mean of the larger of the plain and the clipped squared error, over response tokens. All (N, T)."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    loss = ops.masked_mean(torch.maximum((values - returns).square(), (clipped - returns).square()), mask) / 2
    return loss, {"loss/value": loss.detach()}


@dataclass(frozen=True, slots=True)
class Batch:
    """What the inner epochs work on; all (N, T). Without a critic the values are 0."""

    old_logprobs: Tensor
    old_values: Tensor
    rewards: Tensor
    earned: Tensor | None
    advantages: Tensor
    returns: Tensor


class PPO:
    """Collects a batch, estimates advantages, with the critic if there is one, and goes through the batch for several epochs."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        self.penalty_coef = config.penalty_coef
        groups: list[dict[str, Any]] = [{"params": policy.trainable(), "lr": config.learning_rate}]
        if config.critic == "learned":
            policy.add_value_head()
            assert policy.value_head is not None
            groups.append({"params": list(policy.value_head.parameters()), "lr": config.value_learning_rate})
        self.updater = Updater(groups, config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        experience = yield from self.collector.batch(step, with_reference=True)
        yield Phase(step, "updating")
        batch = self._estimate(experience)
        logprobs, epochs = self._update(experience, batch, step)
        mask = experience.mask
        ratio = (logprobs - batch.old_logprobs).exp()
        metrics = online_metrics(experience) | advantage_metrics(batch.advantages, mask) | self.updater.take_stats()
        critic: dict[str, Tensor] = {}
        if config.critic == "learned":
            metrics["values/explained_variance"] = explained_variance(batch.old_values, batch.returns, mask)
            metrics["values/mean"] = float(ops.masked_mean(batch.old_values, mask))
            critic = {"values": batch.old_values}
        if config.target_kl:
            metrics["epochs"] = epochs
        if config.objective == "penalty":
            metrics["policy/penalty_coef"] = self.penalty_coef  # of this step; the adaptive rule changes that of the next
            clipped = torch.zeros_like(mask)
            if config.penalty_rule == "adaptive":
                distance = metrics["policy/approxkl_after"] = self._distance(experience, batch)
                self.penalty_coef = adapted(self.penalty_coef, distance, config.penalty_target)
        else:
            clipped = is_cut(ratio, batch.advantages, config.clip_range, config.dual_clip)
        yield from self.collector.samples(
            experience,
            step,
            "train",
            batch.advantages,
            config.sample_prompts,
            logprobs=logprobs,
            old_logprobs=batch.old_logprobs,
            ratio=ratio,
            clipped=clipped,
            advantages=batch.advantages,
            returns=batch.returns,
            rewards=batch.rewards,
            earned=batch.earned,
            **critic,
        )
        yield Step(step, metrics, {"advantages": spread(batch.advantages[mask]), "reward": spread(experience.rewards)})

    def _rewards(self, experience: Experience, logprobs: Tensor) -> tuple[Tensor, Tensor | None]:
        """r_t of the header, and its part e_t that process rewards gave; (N, T)."""
        config, mask = self.config, experience.mask
        assert experience.ref_logprobs is not None
        at_end, earned = earned_rewards(experience.scored, mask) if config.reward_at == "earned" else (experience.rewards, None)
        if config.missing_eos_penalty:
            at_end = at_end - config.missing_eos_penalty * (~experience.rollout.finished).to(at_end.dtype)
        beta = config.beta if config.kl_in == "reward" else 0.0
        rewards = token_rewards(at_end, logprobs, experience.ref_logprobs, mask, beta, config.kl_estimator)
        return (rewards, None) if earned is None else (rewards + earned, earned)

    @torch.no_grad()
    def _estimate(self, experience: Experience) -> Batch:
        """Old log-probabilities and values in one pass, then the advantages. Without a critic those from sampling do."""
        config, mask = self.config, experience.mask
        if config.critic == "learned":
            logprobs, values = self._passes(experience)
        else:
            logprobs, values = experience.rollout.logprobs, torch.zeros_like(experience.rollout.logprobs)
        rewards, earned = self._rewards(experience, logprobs)
        estimator = config.advantage_estimator if config.critic == "learned" else "monte_carlo"
        advantages, returns = ESTIMATORS[estimator](rewards, values, mask, config)
        if config.whiten_advantages:
            advantages = ops.whiten(advantages, mask)
        return Batch(logprobs, values, rewards, earned, advantages, returns)

    @torch.no_grad()
    def _passes(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values under the policy as it is now; (N, T), the values 0 without a critic."""
        sequences = experience.sequences
        parts = []
        for rows in torch.arange(len(sequences), device=experience.mask.device).split(self.config.microbatch_size):
            logprobs, values, _ = self.policy.logprobs_and_values(sequences.rows(rows), self.config.temperature)
            parts.append((logprobs, torch.zeros_like(logprobs) if values is None else values))
        logprobs, values = (torch.cat(column) for column in zip(*parts, strict=True))
        return logprobs, values

    def _distance(self, experience: Experience, batch: Batch) -> float:
        """KL[π_old ‖ π] of the policy as it is now, in nats a token: one pass over the batch."""
        logprobs, _values = self._passes(experience)
        return float(ops.masked_mean(ops.kl_estimate(batch.old_logprobs, logprobs, "k3"), experience.mask))

    def _update(self, experience: Experience, batch: Batch, step: int) -> tuple[Tensor, int]:
        """All inner updates; → the log-probabilities (N, T) of the last pass, and the epochs that were done."""
        config, mask = self.config, experience.mask
        latest = torch.zeros_like(batch.old_logprobs)

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            return self._loss(experience, batch, rows, latest)

        for epoch in range(config.epochs):
            for part in minibatches(len(mask), config, step, epoch, shuffled=True):
                part = part.to(mask.device)
                tokens = mask[part].sum()
                self.updater.update(part, step, loss, weight=lambda rows, tokens=tokens: float(mask[rows].sum() / tokens))
            if config.target_kl and epoch + 1 < config.epochs and self._distance(experience, batch) > config.target_kl:
                return latest, epoch + 1
        return latest, config.epochs

    def _loss(self, experience: Experience, batch: Batch, rows: Tensor, latest: Tensor) -> tuple[Tensor, Stats]:
        """What is minimised, on some ``rows`` of the batch; their log-probabilities go into ``latest``."""
        config, mask = self.config, experience.mask[rows]
        logprobs, values, entropy = self.policy.logprobs_and_values(
            experience.sequences.rows(rows), config.temperature, entropy=config.entropy_coef > 0
        )
        latest[rows] = logprobs.detach()
        given = (logprobs, batch.old_logprobs[rows], batch.advantages[rows], mask)
        if config.objective == "penalty":
            total, stats = penalty_loss(*given, self.penalty_coef)
        else:
            total, stats = policy_loss(*given, config.clip_range, config.dual_clip)
        stats = dict(stats)
        if values is not None:
            critic, critic_stats = value_loss(values, batch.old_values[rows], batch.returns[rows], mask, config.value_clip_range)
            total = total + config.value_coef * critic
            stats |= critic_stats
        if config.kl_in == "loss" and config.beta:
            assert experience.ref_logprobs is not None
            per_token = ops.kl_estimate(ops.keep(logprobs, mask), ops.keep(experience.ref_logprobs[rows], mask), config.kl_estimator)
            kl = config.beta * ops.masked_mean(per_token, mask)
            total = total + kl
            stats["loss/kl"] = kl.detach()
        if entropy is not None:
            total = total - config.entropy_coef * ops.masked_mean(entropy, mask)
        return total, {"loss": total.detach(), **stats}

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict(), "penalty_coef": self.penalty_coef}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
        self.penalty_coef = state.get("penalty_coef", self.config.penalty_coef)  # runs of before the penalty have none
