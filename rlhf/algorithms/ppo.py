"""PPO: proximal policy optimisation with a learned critic. Schulman et al. 2017, https://arxiv.org/abs/1707.06347

Generation is an episode: the state is the prompt and the tokens so far, the action is the next token, and the reward comes at the
end. As in InstructGPT (https://arxiv.org/abs/2203.02155, §3.5) each token also pays for leaving the reference:

    r_t = −β·(log π_old(a_t|s_t) − log π_ref(a_t|s_t)) + [t is the last token]·r(x, y)

Advantages by GAE (https://arxiv.org/abs/1506.02438, eq. 16), A_t = Σ_l (γλ)^l δ_{t+l}; returns R_t = A_t + V(s_t). Maximise (eqs. 7, 9)

    L = E_t[ min( ρ_t·A_t, clip(ρ_t, 1−ε, 1+ε)·A_t ) ] − c₁·½·E_t[ max( (V−R)², (clip(V, V_old ± ε_v)−R)² ) ] + c₂·E_t[ H(π(·|s_t)) ]

Deviations: the critic is a linear head on the policy's own last hidden state and sends its gradient into the shared trunk, as in the
paper's eq. 9 (InstructGPT uses a separate network); the value loss is clipped as in OpenAI's code; advantages are whitened over the
batch before the epochs.

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
from rlhf.config import PPOConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import Collector, Experience, advantage_metrics, online_metrics, spread
from rlhf.optimisation import Updater, derive_seed
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_range: float) -> tuple[Tensor, Stats]:
    """Minus the clipped surrogate (eq. 7), mean over response tokens. All (N, T)."""
    logprobs, old_logprobs = ops.keep(logprobs, mask), ops.keep(old_logprobs, mask)  # exp of padding may overflow
    ratio = (logprobs - old_logprobs).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages)
    loss = ops.masked_mean(-surrogate, mask)
    return loss, {
        "loss/policy": loss.detach(),
        "clip_ratio/region_mean": ops.masked_mean(
            ops.is_clipped(ratio, advantages, clip_range, clip_range).to(logprobs.dtype), mask
        ).detach(),
        "ratio/mean": ops.masked_mean(ratio, mask).detach(),
    }


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip_range: float) -> tuple[Tensor, Stats]:
    """Half the mean of the larger of the plain and the clipped squared error, over response tokens. All (N, T)."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    loss = ops.masked_mean(torch.maximum((values - returns).square(), (clipped - returns).square()), mask) / 2
    return loss, {"loss/value": loss.detach()}


def token_rewards(rewards: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, beta: float) -> Tensor:
    """r_t of the header: (N,), (N, T) … → (N, T). The reward lands on the last response token."""
    per_token = torch.where(mask, -beta * ops.kl_estimate(logprobs, ref_logprobs, "k1"), 0.0)
    last = mask.sum(1) - 1
    return per_token.scatter_add(1, last[:, None], rewards[:, None].to(per_token.dtype))


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(R − V) / Var(R) over response tokens; 0 where the returns do not vary."""
    spread_of_returns = returns[mask].var()
    return float(1 - (returns - values)[mask].var() / spread_of_returns) if spread_of_returns > 1e-8 else 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What the inner epochs work on; all (N, T)."""

    old_logprobs: Tensor
    old_values: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


class PPO:
    """Collects a batch, estimates advantages with the critic, and goes through the batch for several epochs."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        policy.add_value_head()
        assert policy.value_head is not None
        groups = [
            {"params": policy.trainable(), "lr": config.learning_rate},
            {"params": list(policy.value_head.parameters()), "lr": config.value_learning_rate},
        ]
        self.updater = Updater(groups, config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        experience = yield from self.collector.batch(step, with_reference=True)
        yield Phase(step, "updating")
        batch = self._estimate(experience)
        logprobs = self._update(experience, batch, step)
        mask = experience.mask
        ratio = (logprobs - batch.old_logprobs).exp()
        metrics = online_metrics(experience) | advantage_metrics(batch.advantages, mask) | self.updater.take_stats()
        metrics["values/explained_variance"] = explained_variance(batch.old_values, batch.returns, mask)
        metrics["values/mean"] = float(ops.masked_mean(batch.old_values, mask))
        yield from self.collector.samples(
            experience,
            step,
            "train",
            batch.advantages,
            self.config.sample_prompts,
            logprobs=logprobs,
            old_logprobs=batch.old_logprobs,
            ratio=ratio,
            clipped=ops.is_clipped(ratio, batch.advantages, self.config.clip_range, self.config.clip_range),
            advantages=batch.advantages,
            values=batch.old_values,
            returns=batch.returns,
            rewards=batch.rewards,
        )
        yield Step(step, metrics, {"advantages": spread(batch.advantages[mask]), "reward": spread(experience.rewards)})

    @torch.no_grad()
    def _estimate(self, experience: Experience) -> Batch:
        """Old log-probabilities and values in one pass, then GAE."""
        config, sequences, mask = self.config, experience.sequences, experience.mask
        parts = [
            self.policy.logprobs_and_values(sequences.rows(rows), config.temperature)[:2]
            for rows in torch.arange(len(sequences), device=mask.device).split(config.microbatch_size)
        ]
        logprobs, values = (torch.cat(column) for column in zip(*parts, strict=True))
        assert experience.ref_logprobs is not None
        rewards = token_rewards(experience.rewards, logprobs, experience.ref_logprobs, mask, config.beta)
        advantages, returns = adv.gae(rewards, values, mask, config.gamma, config.lam)
        if config.whiten_advantages:
            advantages = ops.whiten(advantages, mask)
        return Batch(logprobs, values, rewards, advantages, returns)

    def _update(self, experience: Experience, batch: Batch, step: int) -> Tensor:
        """All inner updates; → the log-probabilities (N, T) of the last pass."""
        config, sequences, mask = self.config, experience.sequences, experience.mask
        latest = torch.zeros_like(batch.old_logprobs)

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            logprobs, values, entropy = self.policy.logprobs_and_values(
                sequences.rows(rows), config.temperature, entropy=config.entropy_coef > 0
            )
            latest[rows] = logprobs.detach()
            surrogate, stats = policy_loss(logprobs, batch.old_logprobs[rows], batch.advantages[rows], mask[rows], config.clip_range)
            critic, critic_stats = value_loss(values, batch.old_values[rows], batch.returns[rows], mask[rows], config.value_clip_range)
            total = surrogate + config.value_coef * critic
            if entropy is not None:
                total = total - config.entropy_coef * ops.masked_mean(entropy, mask[rows])
            return total, {"loss": total.detach(), **stats, **critic_stats}

        for epoch in range(config.epochs):
            generator = torch.Generator().manual_seed(derive_seed(config.seed, "minibatches", step, epoch))
            order = torch.randperm(len(sequences), generator=generator).to(mask.device)
            for part in order.chunk(config.minibatches):
                tokens = mask[part].sum()
                self.updater.update(part, step, loss, weight=lambda rows, tokens=tokens: float(mask[rows].sum() / tokens))
        return latest

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
