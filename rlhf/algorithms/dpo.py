"""DPO and its family. Rafailov et al. 2023, https://arxiv.org/abs/2305.18290

The optimum of reward − β·KL is π*(y|x) ∝ π_ref(y|x)·exp(r(x,y)/β) (eq. 4), so that r = β·log(π*/π_ref) + β·log Z(x) (eq. 5). In the
Bradley–Terry probability of a pair Z(x) cancels, and the policy can be fitted to preferences directly. Minimise (eq. 7)

    L = −E[ log σ( β·log π_θ(y_w|x)/π_ref(y_w|x) − β·log π_θ(y_l|x)/π_ref(y_l|x) ) ]

with log π(y|x) summed over the answer's tokens. The implicit reward of an answer is r̂ = β·log π_θ(y|x)/π_ref(y|x).

The other losses of the family stand in ``rlhf/pair_losses.py``, by ``variant``. Beside the loss, three changes that go with any of them:
LD-DPO weighs the tokens by which one answer is longer (https://arxiv.org/abs/2409.06411), WPO weighs pairs by how likely the policy
is to write them (https://arxiv.org/abs/2406.11827, eq. 2), TR-DPO renews the reference (https://arxiv.org/abs/2404.09656).

Deviations: none in the losses. The reference's log-probabilities are computed once for each pair and kept, until the reference changes.

    python -m rlhf train dpo --model story --steps 60
    python -m rlhf train dpo --model story --variant ipo
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf import ops
from rlhf.config import DPOConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.optimisation import Updater, batch_indices
from rlhf.pair_losses import dpo_loss, rewards_of
from rlhf.pairs import samples, texts, train_and_heldout
from rlhf.policy import Policy
from rlhf.preferences import Dataset, PreferencePair
from rlhf.rollout import Interrupted, encode_answers, end_ids
from rlhf.types import Sequences, Stats

__all__ = ["DPO", "dpo_loss"]
ARGUMENTS = (
    "f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "average_log_prob", "simpo_gamma", "cpo_alpha", "desirable_weight",
    "undesirable_weight",
)  # fmt: skip
"""Settings that go to the loss under their own names."""


def length_weights(mask: Tensor, ld_alpha: float) -> Tensor:
    """LD-DPO: 1 on the tokens that both answers of a pair have places for, ``ld_alpha`` on those beyond. (2n, T) bool → (2n, T)."""
    shared = torch.stack(mask.sum(1).chunk(2)).amin(0).repeat(2)
    place = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(place[None] < shared[:, None], 1.0, ld_alpha) * mask


def on_policy_weights(logprobs: Tensor, collisions: Tensor, mask: Tensor) -> Tensor:
    """WPO, eq. 2 with its alignment to sampled answers: exp of the mean of log π(y_t) − log Σ_v π(v)², chosen times rejected, (n,)."""
    means = ops.masked_mean(logprobs.detach() - collisions, mask, dim=1).exp()
    chosen, rejected = means.chunk(2)
    return chosen * rejected


class DPO:
    """Takes batches of pairs in turn; chosen and rejected answers go through the model together."""

    def __init__(self, policy: Policy, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.policy = policy
        self.config = config
        self.interrupted = interrupted
        self.train, self.heldout = train_and_heldout(data, config.eval_prompts)
        self.end = end_ids(policy.model, policy.tokenizer)[0]
        self.updater = Updater([{"params": policy.trainable(), "lr": config.learning_rate}], config, interrupted)
        self._reference: dict[PreferencePair, tuple[Tensor, Tensor]] = {}

    def _encode(self, prompts: list[str], answers: list[str]) -> Sequences:
        config, policy = self.config, self.policy
        longest = config.max_response_tokens
        return encode_answers(policy.tokenizer, prompts, answers, policy.context, longest, self.end, config.append_eos, policy.device)

    def _reference_logprobs(self, pairs: Sequence[PreferencePair], sequences: Sequences) -> Tensor | None:
        """(2n, T) nats, or None where the loss asks no reference; each pair goes through it once, until it is renewed."""
        if not self.config.needs_reference:
            return None
        n, width = len(pairs), sequences.response_ids.shape[1]
        missing = [i for i, pair in enumerate(pairs) if pair not in self._reference]
        lengths = sequences.response_mask.sum(1)
        # in the policy's microbatches: both round in one way, so that untouched weights give margins of exactly 0
        for some in (missing[k : k + self.config.microbatch_size] for k in range(0, len(missing), self.config.microbatch_size)):
            rows = torch.tensor(some + [i + n for i in some], device=self.policy.device)
            fresh = self.policy.reference_logprobs(sequences.rows(rows), rows=len(rows))
            for k, i in enumerate(some):
                chosen, rejected = fresh[k, : lengths[i]], fresh[k + len(some), : lengths[i + n]]
                self._reference[pairs[i]] = (chosen.clone(), rejected.clone())
        table = torch.zeros(2 * n, width, device=self.policy.device)
        for i, pair in enumerate(pairs):
            for row, known in zip((i, i + n), self._reference[pair], strict=True):
                table[row, : len(known)] = known
        return table

    @torch.no_grad()
    def _mismatched_kl(self, pairs: Sequence[PreferencePair]) -> float:
        """KTO's z_ref: how far the policy has moved on answers to other prompts, in nats an answer, and at least 0."""
        if self.config.variant != "kto" or len(pairs) < 2:
            return 0.0
        prompts, answers = texts(pairs)
        sequences = self._encode(prompts, [*answers[1:], answers[0]])
        moved = 0.0
        for rows in torch.arange(len(sequences)).split(self.config.microbatch_size):
            part = sequences.rows(rows)
            shift = self.policy.logprobs(part) - self.policy.reference_logprobs(part, rows=len(rows))
            moved += float(ops.keep(shift, part.response_mask).sum())
        return max(0.0, moved / len(sequences))

    def _loss(
        self, logprobs: Tensor, reference: Tensor | None, mask: Tensor, kl: float, collisions: Tensor | None = None
    ) -> tuple[Tensor, Stats]:
        """The variant's loss from token log-probabilities (2n, T)."""
        config, weights = self.config, length_weights(mask, self.config.ld_alpha)
        chosen, rejected = (ops.keep(logprobs, mask) * weights).sum(1).chunk(2)
        ref_chosen, ref_rejected = (ops.keep(reference, mask) * weights).sum(1).chunk(2) if reference is not None else (None, None)
        chosen_lengths, rejected_lengths = mask.sum(1).chunk(2)
        return dpo_loss(
            chosen, rejected, ref_chosen, ref_rejected, config.beta, config.variant, config.label_smoothing, kl=kl,
            chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths,
            weights=None if collisions is None else on_policy_weights(logprobs, collisions, mask),
            **{name: getattr(config, name) for name in ARGUMENTS},
        )  # fmt: skip

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        pairs = [self.train[i] for i in batch_indices(len(self.train), config.pairs_per_step, step, config.seed)]
        yield Phase(step, "scoring")
        sequences = self._encode(*texts(pairs))
        reference = self._reference_logprobs(pairs, sequences)
        kl = self._mismatched_kl(pairs)
        yield Phase(step, "updating")
        n, mask = len(pairs), sequences.response_mask
        latest = torch.zeros(mask.shape, device=mask.device)

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            both = torch.cat([rows, rows + n])
            part = sequences.rows(both)
            logprobs, collisions = self.policy.logprobs_and_collisions(part) if config.use_weighting else (self.policy.logprobs(part), None)
            latest[both] = logprobs.detach()
            return self._loss(logprobs, None if reference is None else reference[both], part.response_mask, kl, collisions)

        self.updater.update(torch.arange(n, device=mask.device), step, loss)
        metrics = self.updater.take_stats() | {"tokens": float(mask.sum())}
        if config.variant == "kto":
            metrics["kto/kl"] = kl
        rewards = self._implicit_rewards(latest, reference, mask)
        yield from self._samples(pairs, sequences, latest, reference, step, "train", kl)
        yield Step(step, metrics, {"rewards/margins": [round(v, 5) for v in (rewards[:n] - rewards[n:]).tolist()[:256]]})
        if config.sync_ref_model and step % config.ref_model_sync_steps == 0:
            self.policy.renew_reference(config.ref_model_mixup_alpha)
            self._reference.clear()

    def _implicit_rewards(self, logprobs: Tensor, reference: Tensor | None, mask: Tensor) -> Tensor:
        """r̂ of each sequence, (2n,)."""
        moved = ops.keep(logprobs if reference is None else logprobs - reference, mask).sum(1)
        (chosen, rejected), (chosen_lengths, rejected_lengths) = moved.chunk(2), mask.sum(1).chunk(2)
        return torch.cat(rewards_of(self.config.variant, chosen, rejected, self.config.beta, chosen_lengths, rejected_lengths))

    def _samples(
        self,
        pairs: Sequence[PreferencePair],
        sequences: Sequences,
        logprobs: Tensor,
        reference: Tensor | None,
        step: int,
        part: str,
        kl: float,
    ) -> Iterator[Event]:
        rewards = self._implicit_rewards(logprobs, reference, sequences.response_mask)
        shown = pairs[: self.config.sample_prompts]
        columns = {"logprobs": logprobs} if reference is None else {"logprobs": logprobs, "ref_logprobs": reference}
        more = {"kl": round(kl, 6)} if self.config.variant == "kto" else {}
        yield from samples(shown, sequences, self.policy.tokenizer, rewards, step, part, more, **columns)

    @torch.no_grad()
    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float]]:
        """The same figures on held-out pairs."""
        if not self.heldout:
            return {}
        yield Phase(step, "evaluating")
        totals: dict[str, float] = {}
        for start in range(0, len(self.heldout), self.config.microbatch_size):
            if self.interrupted():
                raise Interrupted
            pairs = self.heldout[start : start + self.config.microbatch_size]
            sequences = self._encode(*texts(pairs))
            reference = self._reference_logprobs(pairs, sequences)
            logprobs = self.policy.logprobs(sequences)
            kl = self._mismatched_kl(pairs)
            if start == 0:
                yield from self._samples(pairs, sequences, logprobs, reference, step, "heldout", kl)
            _, stats = self._loss(logprobs, reference, sequences.response_mask, kl)
            for key, value in stats.items():
                totals[key] = totals.get(key, 0.0) + float(value) * len(pairs)
        return {f"eval/{key}": total / len(self.heldout) for key, total in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        renewed = {"reference": self.policy.reference_state()} if self.config.sync_ref_model else {}
        return {"optimizer": self.updater.state_dict(), **renewed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
        if "reference" in state:
            self.policy.load_reference_state(state["reference"])
