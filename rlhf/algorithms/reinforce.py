"""REINFORCE and its refinements: the policy gradient, with less and less noise. Williams 1992, https://doi.org/10.1007/BF00992696

Maximise J = E[Σ_t r_t]. A token's reward is what it pays for leaving the reference (k1), the last one's also the response's reward:

    r_t = −β·(log π_old(a_t|s_t) − log π_ref(a_t|s_t)) + [t is the last token]·r(x, y)

(a reward that says at which tokens it was earned, as digits does, is paid there instead). The policy-gradient theorem (Sutton et al.
1999, theorem 1) gives the gradient as a mean over responses of a *sum* over tokens,

    ∇J = E[ Σ_t ∇log π_θ(a_t|s_t)·A_t ],   A_t = (return from t) − (baseline),

in which the mean stays the same, and the noise does not, with each refinement:

    returns   trajectory     R = Σ_t r_t                                    Williams, theorem 1
              to_go          G_t = Σ_{l≥0} γ^l·r_{t+l}                      Sutton et al. 1999
    baseline  none           0
              running_mean   mean return of past batches                    Williams: any b that the action does not change
              leave_one_out  mean of the other answers to the prompt        RLOO, https://arxiv.org/abs/2402.14740, eq. 8
              value          V(s_t), with A_t by GAE(λ)                     A2C, https://arxiv.org/abs/1602.01783
              greedy         r of the policy's most probable answer         ReMax, https://arxiv.org/abs/2310.10505, algorithm 1
              batch          mean over the batch, divided by its deviation  REINFORCE++, https://arxiv.org/abs/2501.03262, eqs. 8–10

With one update a batch the loss is −A·log π. With several the ratio to the sampling policy is clipped, per token (PPO's eq. 7, as in
REINFORCE++) or for the whole response (as in TRL's RLOO). How noisy the gradient is, is measured: see rlhf/gradient_variance.py.

Deviations: the running mean averages its first batches evenly and then forgets; the critic is a head on the policy's own last hidden
state, as in ppo.py; ReMax's baseline has no KL in it; REINFORCE++ is summed over tokens like the others; AdamW, not plain ascent.

    python -m rlhf train reinforce --model story --reward negative --steps 60
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf import advantages as adv
from rlhf import ops
from rlhf.config import ReinforceConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import KL_EVERY, Collector, Experience, advantage_metrics, earned_rewards, online_metrics, spread
from rlhf.gradient_variance import UpdateObserver, compare_estimators, groups_of_prompts
from rlhf.optimisation import Updater, minibatches
from rlhf.policy import Policy
from rlhf.preferences import Dataset
from rlhf.types import Stats

# ---------------------------------------------------------------- the loss


def reinforce_loss(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    importance_sampling_level: str = "token",
) -> tuple[Tensor, Stats]:
    """Minus the objective above: summed over a response's tokens, as the theorem has it, and averaged over responses.

    Log-probabilities (N, T) nats, advantages (N,) or (N, T), mask (N, T) True on response tokens. ``old_logprobs`` None: one update a
    batch, −A·log π; else the clipped ratio, at the "token" or the "sequence" level. The latter needs (N,) advantages.
    Raises ``ValueError`` for an unknown level, or where it does not go with the advantages.
    """
    if importance_sampling_level not in ("token", "sequence"):
        raise ValueError(f"unknown importance_sampling_level {importance_sampling_level!r}: choose token or sequence")
    logprobs = ops.keep(logprobs, mask)
    per_token = advantages[:, None].expand_as(logprobs) if advantages.ndim == 1 else advantages
    if old_logprobs is None:
        loss = -(ops.keep(per_token, mask) * logprobs).sum(1).mean()
        return loss, {"loss": loss.detach(), "loss/policy": loss.detach()}
    log_ratio = logprobs - ops.keep(old_logprobs, mask)
    if importance_sampling_level == "sequence":
        if advantages.ndim != 1:
            raise ValueError("a ratio of the whole sequence needs one advantage a sequence, (N,)")
        ratio, counted, worth = log_ratio.sum(1, keepdim=True).exp(), torch.ones_like(mask[:, :1]), advantages[:, None]
    else:
        ratio, counted, worth = log_ratio.exp(), mask, per_token
    surrogate = torch.minimum(ratio * worth, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * worth)
    loss = -ops.keep(surrogate, counted).sum(1).mean()
    cut = ops.is_clipped(ratio, worth, epsilon_low, epsilon_high)
    return loss, {
        "loss": loss.detach(),
        "loss/policy": loss.detach(),
        "clip_ratio/region_mean": ops.masked_mean(cut.to(logprobs.dtype), counted).detach(),
        "ratio/mean": ops.masked_mean(ratio, counted).detach(),
    }


def critic_loss(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Half the squared error, summed over a response's tokens and averaged over responses like the policy's loss. All (N, T)."""
    return ops.keep((values - returns).square(), mask).sum(1).mean() / 2


# ---------------------------------------------------------------- returns and baselines


@dataclass(frozen=True, slots=True)
class Facts:
    """What returns and baselines are made from. ``values`` where there is a critic, ``greedy`` where that answer was asked for."""

    rewards: Tensor  # (N, T), r_t
    mask: Tensor  # (N, T)
    group_size: int
    past: float = 0.0  # mean return of past batches
    values: Tensor | None = None  # (N, T)
    greedy: Tensor | None = None  # (B,)
    gamma: float = 1.0
    lam: float = 1.0

    @property
    def totals(self) -> Tensor:
        """R of each response, (N,)."""
        return ops.keep(self.rewards, self.mask).sum(1)


def _trajectory(facts: Facts) -> Tensor:
    return facts.totals[:, None].expand_as(facts.rewards)


def _to_go(facts: Facts) -> Tensor:
    return adv.monte_carlo(facts.rewards, torch.zeros_like(facts.rewards), facts.mask, facts.gamma)[1]


def _of_the_others(facts: Facts, returns: Tensor) -> Tensor:
    """The mean of what the others earned from the same place on, of a shorter one from its last token on. For trajectories it is RLOO's."""
    places = torch.arange(returns.shape[1], device=returns.device)
    kept = returns.gather(1, torch.minimum(places[None], facts.mask.sum(1, keepdim=True) - 1))
    return kept - adv.leave_one_out(kept, facts.group_size)


def _of_the_critic(facts: Facts, returns: Tensor) -> Tensor:
    assert facts.values is not None
    return facts.values


def _of_the_greedy_answer(facts: Facts, returns: Tensor) -> Tensor:
    assert facts.greedy is not None
    return facts.greedy.repeat_interleave(facts.group_size)[:, None]


RETURNS: dict[str, Callable[[Facts], Tensor]] = {"trajectory": _trajectory, "to_go": _to_go}
BASELINES: dict[str, Callable[[Facts, Tensor], Tensor]] = {
    "none": lambda facts, returns: returns.new_zeros(()),
    "running_mean": lambda facts, returns: returns.new_tensor(facts.past),
    "leave_one_out": _of_the_others,
    "value": _of_the_critic,
    "greedy": _of_the_greedy_answer,
    "batch": lambda facts, returns: ops.masked_mean(returns, facts.mask),
}


def estimate(facts: Facts, returns: str, baseline: str) -> tuple[Tensor, Tensor, Tensor]:
    """→ returns, baselines and advantages, each (N, T), advantages 0 on padding. A = G − b, and for "batch" divided by the deviation."""
    if baseline == "value":
        assert facts.values is not None
        earned = adv.gae(facts.rewards, facts.values, facts.mask, facts.gamma, facts.lam)[1]
    else:
        earned = RETURNS[returns](facts)
    expected = BASELINES[baseline](facts, earned).expand_as(earned)
    worth = ops.whiten(earned, facts.mask) if baseline == "batch" else ops.keep(earned - expected, facts.mask)
    return earned, expected, worth


def ladder(facts: Facts) -> dict[str, Tensor]:
    """Advantages (N, T) of the same responses by each estimator of the same gradient that they allow, from the plainest on."""
    steps = {"trajectory": ("trajectory", "none"), "to_go": ("to_go", "none"), "running_mean": ("to_go", "running_mean")}
    if facts.group_size > 1:
        steps["leave_one_out"] = ("to_go", "leave_one_out")
    if facts.greedy is not None:
        steps["greedy"] = ("to_go", "greedy")
    if facts.values is not None:
        steps["value"] = ("to_go", "value")
    return {name: estimate(facts, *choice)[2] for name, choice in steps.items()}


# ---------------------------------------------------------------- the algorithm


@dataclass(frozen=True, slots=True)
class Batch:
    """What the inner updates work on; all (N, T). ``earned``: what of the rewards was earned on the way, if the reward says so."""

    facts: Facts
    earned: Tensor | None
    returns: Tensor
    baselines: Tensor
    advantages: Tensor


class REINFORCE:
    """Collects a batch, works out what each token was worth, takes a step, and measures how noisy it was."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.collector = Collector(policy, config, data, interrupted)
        self.past, self.batches = 0.0, 0  # mean return of past batches, and how many they were
        groups: list[dict[str, Any]] = [{"params": policy.trainable(), "lr": config.learning_rate}]
        if config.baseline == "value":
            policy.add_value_head()
            assert policy.value_head is not None
            groups.append({"params": list(policy.value_head.parameters()), "lr": config.value_learning_rate})
        self.updater = Updater(groups, config, interrupted)

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        experience = yield from self.collector.batch(step, with_reference=config.beta > 0 or step % KL_EVERY == 0)
        greedy = self.collector.greedy_rewards(experience.prompts) if config.baseline == "greedy" else None
        yield Phase(step, "updating")
        batch = self._worth(experience, greedy)
        mask, metrics = experience.mask, online_metrics(experience) | advantage_metrics(batch.advantages, experience.mask)
        if config.variance_groups and self._is_measured(step):
            compared = self._compare(experience, ladder(batch.facts))
            metrics |= {f"grad_variance/{name}": variance for name, variance in compared.items()}
        logprobs, variance = self._update(experience, batch, step)
        if variance is not None:
            metrics["grad_variance"] = variance
        metrics |= self.updater.take_stats()
        if batch.facts.values is not None:
            metrics["values/explained_variance"] = adv.explained_variance(batch.facts.values, batch.returns, mask)
            metrics["values/mean"] = float(ops.masked_mean(batch.facts.values, mask))
        self._remember(batch)
        yield from self.collector.samples(
            experience, step, "train", batch.advantages, config.sample_prompts, **self._columns(experience, batch, logprobs)
        )
        yield Step(step, metrics, {"advantages": spread(batch.advantages[mask]), "reward": spread(experience.rewards)})

    def _is_measured(self, step: int) -> bool:
        """At the first step and wherever the held-out data is measured."""
        every = self.config.eval_every
        return step == 1 or step == self.config.steps or bool(every and step % every == 0)

    @torch.no_grad()
    def _worth(self, experience: Experience, greedy: Tensor | None) -> Batch:
        config, mask = self.config, experience.mask
        values = self._values(experience) if config.baseline == "value" else None
        at_end, earned = earned_rewards(experience.scored, mask) if config.reward_at == "earned" else (experience.rewards, None)
        rewards = adv.token_rewards(at_end, experience.rollout.logprobs, experience.ref_logprobs, mask, config.beta)
        rewards = rewards if earned is None else rewards + earned
        facts = Facts(rewards, mask, experience.rollout.group_size, self.past, values, greedy, config.gamma, config.lam)
        return Batch(facts, earned, *estimate(facts, config.returns, config.baseline))

    def _values(self, experience: Experience) -> Tensor:
        """The critic's V(s_t), (N, T), before the update."""
        rows = torch.arange(len(experience.sequences), device=experience.mask.device).split(self.config.microbatch_size)
        found = [self.policy.logprobs_and_values(experience.sequences.rows(part))[1] for part in rows]
        return torch.cat([values for values in found if values is not None])  # all of them: there is a value head

    def _remember(self, batch: Batch) -> None:
        """Take this batch's mean return into the running mean: evenly at first, then with the share that the decay leaves."""
        self.batches += 1
        share = max(1 / self.batches, 1 - self.config.baseline_decay)
        returns = RETURNS[self.config.returns](batch.facts)
        self.past += share * (float(ops.masked_mean(returns, batch.facts.mask)) - self.past)

    def _compare(self, experience: Experience, advantages: dict[str, Tensor]) -> dict[str, float]:
        config, sequences = self.config, experience.sequences
        every = torch.arange(len(sequences), device=experience.mask.device)
        groups = groups_of_prompts(every, config.samples_per_prompt, config.variance_groups)

        def logprobs_of(rows: Tensor) -> Tensor:
            return self.policy.logprobs(sequences.rows(rows), config.temperature)

        return compare_estimators(logprobs_of, advantages, experience.mask, self.policy.trainable(), groups, config.microbatch_size)

    def _update(self, experience: Experience, batch: Batch, step: int) -> tuple[Tensor, float | None]:
        """All inner updates; → the log-probabilities (N, T) of the last pass, and the variance of the first update's gradient."""
        config, sequences, mask = self.config, experience.sequences, experience.mask
        latest = torch.zeros_like(experience.rollout.logprobs)
        one_each = config.importance_sampling_level == "sequence"

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            values = None
            if config.baseline == "value":
                logprobs, values, _entropy = self.policy.logprobs_and_values(sequences.rows(rows), config.temperature)
            else:
                logprobs = self.policy.logprobs(sequences.rows(rows), config.temperature)
            latest[rows] = logprobs.detach()
            old = experience.rollout.logprobs[rows] if config.several_updates else None
            worth = batch.advantages[rows, 0] if one_each else batch.advantages[rows]
            total, stats = reinforce_loss(
                logprobs, old, worth, mask[rows], config.epsilon_low, config.epsilon_high, config.importance_sampling_level
            )
            if values is not None:
                critic = critic_loss(values, batch.returns[rows], mask[rows])
                total = total + config.value_coef * critic
                stats = {**stats, "loss": total.detach(), "loss/value": critic.detach()}
            return total, stats

        variance = None
        for epoch in range(config.epochs):
            for i, part in enumerate(minibatches(len(sequences), config, step, epoch, shuffled=config.minibatches > 1)):
                part = part.to(mask.device)
                if config.variance_groups and epoch == i == 0:
                    variance = self._observed_update(experience, batch, part, step, loss)
                else:
                    self.updater.update(part, step, loss)
        return latest, variance

    def _observed_update(
        self, experience: Experience, batch: Batch, part: Tensor, step: int, loss: Callable[[Tensor], tuple[Tensor, Stats]]
    ) -> float | None:
        """The first update of a step, and the variance of the policy's gradient in it."""
        config = self.config
        if config.baseline == "value":  # the update's own gradient has the critic's in it
            variance = self._compare(experience, {"": batch.advantages}).get("")
            self.updater.update(part, step, loss)
            return variance
        observer = UpdateObserver(self.policy.trainable(), len(part))
        groups = groups_of_prompts(part, config.samples_per_prompt, config.variance_groups)
        self.updater.update(part, step, loss, groups=groups, observe=observer)
        return observer.moments.variance()

    def _columns(self, experience: Experience, batch: Batch, logprobs: Tensor) -> dict[str, Tensor | None]:
        """What each token of a kept response is shown with."""
        config, advantages = self.config, batch.advantages
        ratio = torch.ones_like(logprobs)
        if config.several_updates:
            log_ratio = ops.keep(logprobs - experience.rollout.logprobs, experience.mask)
            if config.importance_sampling_level == "sequence":
                log_ratio = log_ratio.sum(1, keepdim=True).expand_as(log_ratio)
            ratio = log_ratio.exp()
        scale = (batch.returns - batch.baselines)[experience.mask].std() if config.baseline == "batch" else None
        return {
            "logprobs": logprobs,
            "ratio": ratio,
            "clipped": ops.is_clipped(ratio, advantages, config.epsilon_low, config.epsilon_high) if config.several_updates else None,
            "advantages": advantages,
            "rewards": batch.facts.rewards,
            "earned": batch.earned,
            "returns": batch.returns,
            "baselines": batch.baselines,
            "values": batch.facts.values,
            "scales": None if scale is None else scale.expand_as(advantages),
        }

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        metrics = yield from self.collector.evaluate(step)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict(), "past": self.past, "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
        self.past, self.batches = float(state["past"]), int(state["batches"])
