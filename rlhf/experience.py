"""What the online algorithms share: responses to a batch of prompts, their rewards, their KL to the reference, and their records."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rlhf import ops
from rlhf.config import OnlineConfig
from rlhf.errors import DataError
from rlhf.events import Event, Phase, Sample
from rlhf.optimisation import batch_indices, derive_seed
from rlhf.policy import Policy
from rlhf.preferences import Dataset, Prompt
from rlhf.rewards import Context, RewardMix, Scored
from rlhf.rollout import SamplingConfig, end_ids, sample, token_strings
from rlhf.types import Rollout, Sequences

SPREADS = {"reward_std", "frac_reward_zero_std", "tokens"}  # not means over prompts, so not averaged over parts of the held-out set

KL_EVERY = 5  # steps after which the reference is asked where no loss needs it: its distance is still worth knowing
EVALUATED_TOGETHER = 64  # held-out prompts sampled at once; fixed, so that no other setting changes their luck


@dataclass(frozen=True, slots=True, eq=False)  # tensors have no one truth value
class Experience:
    """A batch of responses with all that a loss may ask for."""

    rollout: Rollout
    sequences: Sequences
    prompts: list[Prompt]  # B
    scored: list[Scored]  # N
    gold: list[Scored]  # N, or none where nothing is measured beside the reward
    rewards: Tensor  # (N,) the mix, before KL and normalisation
    ref_logprobs: Tensor | None  # (N, T) nats, or None where nothing asked for it
    times: dict[str, float] = field(default_factory=dict)  # seconds in sampling and scoring

    @property
    def mask(self) -> Tensor:
        return self.rollout.response_mask


def sampling_of(config: OnlineConfig) -> SamplingConfig:
    return SamplingConfig(config.max_new_tokens, config.temperature, config.top_p, config.top_k, config.stop)


class Collector:
    """Samples from the policy, scores with the reward mix, and asks the reference."""

    def __init__(self, policy: Policy, config: OnlineConfig, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.mix = RewardMix(config.reward)
        self.gold = RewardMix(config.gold) if config.gold else None
        self.interrupted = interrupted
        self.train = prompts_of(data.train)
        self.heldout = prompts_of(data.heldout)[: config.eval_prompts]
        self.ends = end_ids(policy.model, policy.tokenizer)
        if not self.train:
            raise DataError("The run has no prompts.", "Choose a prompt set, or write at least one prompt.")

    def batch(self, step: int, with_reference: bool) -> Generator[Event, None, Experience]:
        """The experience of one training step, as the generator's return value (``yield from``)."""
        chosen = batch_indices(len(self.train), self.config.prompts_per_step, step, self.config.seed)
        prompts = [self.train[i] for i in chosen]
        seed = derive_seed(self.config.seed, "sampling", step)
        return (yield from self.collect(prompts, self.config.responses_per_prompt, step, seed, with_reference))

    def collect(
        self, prompts: Sequence[Prompt], group_size: int, step: int, seed: int, with_reference: bool
    ) -> Generator[Event, None, Experience]:
        yield Phase(step, "sampling")
        clock = time.perf_counter()
        policy = self.policy
        rollout = sample(
            policy.model, policy.tokenizer, [p.text for p in prompts], group_size, sampling_of(self.config), seed, self.interrupted
        )
        sampled = time.perf_counter()
        yield Phase(step, "scoring")
        sequences = Sequences(rollout.prompt_ids, rollout.prompt_mask, rollout.response_ids, rollout.response_mask)
        contexts = self._contexts(prompts, rollout)
        scored = self.mix(contexts)
        gold = self.gold(contexts) if self.gold else []
        reference = policy.reference_logprobs(sequences, self.config.temperature, self.config.microbatch_size) if with_reference else None
        times = {"time/sampling": sampled - clock, "time/scoring": time.perf_counter() - sampled}
        rewards = torch.tensor([s.total for s in scored], dtype=torch.float32, device=policy.device)
        return Experience(rollout, sequences, list(prompts), scored, gold, rewards, reference, times)

    def _contexts(self, prompts: Sequence[Prompt], rollout: Rollout) -> list[Context]:
        """What the rewards get to see of each response."""
        lengths, finished = rollout.response_mask.sum(1).tolist(), rollout.finished.tolist()
        strings = self._strings(rollout.response_ids, lengths)
        asked = [prompts[i // rollout.group_size] for i in range(len(rollout.texts))]
        return [
            Context(prompt.text, text, prompt.answer, lengths[i], finished[i], strings[i])
            for i, (prompt, text) in enumerate(zip(asked, rollout.texts, strict=True))
        ]

    def _strings(self, ids: Tensor, lengths: list[int]) -> list[tuple[str, ...]]:
        """Each response's tokens as text, where a reward asks for them: it is much decoding."""
        if not (self.mix.by_token or (self.gold and self.gold.by_token)):
            return [()] * len(lengths)
        rows = zip(ids.tolist(), lengths, strict=True)
        return [tuple(token_strings(self.policy.tokenizer, row[:length])) for row, length in rows]

    def greedy_rewards(self, prompts: Sequence[Prompt]) -> Tensor:
        """The reward (B,) of the answer to each prompt that takes the most probable token at every place."""
        policy, sampling = self.policy, replace(sampling_of(self.config), temperature=1.0, top_p=1.0, top_k=1)
        rollout = sample(policy.model, policy.tokenizer, [p.text for p in prompts], 1, sampling, 0, self.interrupted)
        scored = self.mix(self._contexts(prompts, rollout))
        return torch.tensor([s.total for s in scored], dtype=torch.float32, device=policy.device)

    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        """``eval/…`` metrics on the held-out prompts, as the return value; the same prompts and luck each time. Yields a few samples."""
        if not self.heldout:
            return {}
        yield Phase(step, "evaluating")
        totals: dict[str, float] = {}
        for start in range(0, len(self.heldout), EVALUATED_TOGETHER):
            prompts = self.heldout[start : start + EVALUATED_TOGETHER]
            collected = self.collect(prompts, 1, step, derive_seed(self.config.seed, "evaluation", start), with_reference=True)
            experience = drain(collected)
            for key, value in online_metrics(experience).items():
                if not key.startswith("time/"):
                    totals[key] = totals.get(key, 0.0) + value * len(prompts)
            if start == 0:
                yield from self.samples(experience, step, "heldout", experience.rewards, self.config.sample_prompts * 2)
        return {f"eval/{key}": total / len(self.heldout) for key, total in totals.items() if key not in SPREADS}

    def samples(
        self, experience: Experience, step: int, part: str, worth: Tensor | None, count: int, **tokens: Tensor | None
    ) -> Iterator[Event]:
        """The first ``count`` prompts with all their responses, down to the token.

        ``worth``: the advantages, (N,) or (N, T), whose mean each response is given; None: there are none. ``tokens``: further (N, T)
        columns.
        """
        rollout = experience.rollout
        columns = {"old_logprobs": rollout.logprobs, "ref_logprobs": experience.ref_logprobs, "entropies": rollout.entropies, **tokens}
        columns.setdefault("logprobs", rollout.logprobs)
        size = rollout.group_size
        shown = min(count, len(experience.prompts)) * size
        lists = {name: _rounded(column[:shown]) for name, column in columns.items() if column is not None}
        ids, lengths = rollout.response_ids[:shown].tolist(), rollout.response_mask[:shown].sum(1).tolist()
        means: list[float] | None = None
        if worth is not None:
            means = (ops.masked_mean(worth, rollout.response_mask, dim=1) if worth.ndim == 2 else worth).detach()[:shown].tolist()
        for b, prompt in enumerate(experience.prompts[:count]):
            responses = []
            for i in range(b * size, (b + 1) * size):
                n = lengths[i]
                details = {"ids": ids[i][:n], "strings": token_strings(self.policy.tokenizer, ids[i][:n])}
                details |= {name: rows[i][:n] for name, rows in lists.items()}
                responses.append(
                    {
                        "text": rollout.texts[i],
                        "reward": round(experience.scored[i].total, 6),
                        "reward_parts": {k: round(v, 6) for k, v in experience.scored[i].parts.items()},
                        **({"gold": round(experience.gold[i].total, 6)} if experience.gold else {}),
                        **({"advantage": round(means[i], 5)} if means else {}),
                        "finished": bool(rollout.finished[i]),
                        "tokens": details,
                    }
                )
            record = {"split": part, "prompt": prompt.text, "answer": prompt.answer, "responses": responses}
            if part == "heldout":
                for response in responses:
                    response.pop("advantage", None)  # nothing is learned from these
            yield Sample(step, record)


def prompts_of(items: Sequence[Any]) -> list[Prompt]:
    """The distinct prompts of a data set; preference pairs give theirs."""
    prompts = [item if isinstance(item, Prompt) else Prompt(item.prompt) for item in items]
    return list(dict.fromkeys(prompts))


def online_metrics(experience: Experience) -> dict[str, float]:
    """The metrics that every online algorithm has, from the fresh samples."""
    rollout, mask, rewards = experience.rollout, experience.mask, experience.rewards
    grouped = rewards.view(-1, rollout.group_size)
    metrics = {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()) if len(rewards) > 1 else 0.0,
        "entropy": float(ops.masked_mean(rollout.entropies, mask)),
        "completions/mean_length": float(mask.sum(1).float().mean()),
        "completions/clipped_ratio": float((~rollout.finished).float().mean()),
        "tokens": float(mask.sum()),
        **experience.times,
    }
    if rollout.group_size > 1:
        metrics["frac_reward_zero_std"] = float((grouped.amax(1) - grouped.amin(1) < 1e-8).float().mean())
    if experience.ref_logprobs is not None:
        metrics["kl"] = float(ops.masked_mean(ops.kl_estimate(rollout.logprobs, experience.ref_logprobs, "k3"), mask))
    if experience.gold:
        metrics["gold"] = sum(s.total for s in experience.gold) / len(experience.gold)
    for name in experience.scored[0].parts:
        metrics[f"reward/{name}"] = sum(s.parts[name] for s in experience.scored) / len(experience.scored)
    return metrics


def earned_rewards(scored: Sequence[Scored], mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Where the rewards are due: → ((N,) at the end of the response, (N, T) at the tokens that earned them, or None where none says so)."""
    if not any(s.earned for s in scored):
        return torch.tensor([s.total for s in scored], dtype=torch.float32, device=mask.device), None
    length = mask.shape[1]
    rows = [[*s.earned, *[0.0] * (length - len(s.earned))] for s in scored]
    at_end = torch.tensor([s.at_end for s in scored], dtype=torch.float32, device=mask.device)
    return at_end, torch.tensor(rows, dtype=torch.float32, device=mask.device)


def advantage_metrics(advantages: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean and spread of per-token advantages (N, T) over the response tokens."""
    flat = advantages[mask]
    return {"advantages/mean": float(flat.mean()), "advantages/std": float(flat.std()) if flat.numel() > 1 else 0.0}


def spread(values: Tensor, most: int = 256) -> list[float]:
    """At most ``most`` of the values, evenly over their order: enough for a histogram."""
    ordered = values.detach().flatten().float().sort().values
    if len(ordered) > most:
        ordered = ordered[torch.linspace(0, len(ordered) - 1, most, device=ordered.device).long()]
    return [round(v, 5) for v in ordered.tolist()]


def _rounded(column: Tensor) -> list[list[float]]:
    return [[round(v, 5) for v in row] for row in column.detach().float().tolist()]


def drain(events: Generator[Event, None, Experience]) -> Experience:
    """Run a collecting generator to its end for its return value; its events are not told."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value
