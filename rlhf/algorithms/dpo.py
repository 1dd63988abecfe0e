"""DPO: direct preference optimisation. Rafailov et al. 2023, https://arxiv.org/abs/2305.18290

The optimum of reward − β·KL is π*(y|x) ∝ π_ref(y|x)·exp(r(x,y)/β) (eq. 4), so that r = β·log(π*/π_ref) + β·log Z(x) (eq. 5). In the
Bradley–Terry probability of a pair Z(x) cancels, and the policy can be fitted to preferences directly. Minimise (eq. 7)

    L = −E[ log σ( β·log π_θ(y_w|x)/π_ref(y_w|x) − β·log π_θ(y_l|x)/π_ref(y_l|x) ) ]

with log π(y|x) summed over the answer's tokens. The implicit reward of an answer is r̂ = β·log π_θ(y|x)/π_ref(y|x).

Label smoothing (conservative DPO, https://ericmitchell.ai/cdpo.pdf): with probability ε a label is taken to be wrong.

Deviations: none in the loss. The reference's log-probabilities are computed once for each pair and kept.

    python -m rlhf train dpo --model story --steps 60
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf.config import DPOConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.optimisation import Updater, batch_indices
from rlhf.pairs import accuracy, samples, texts, train_and_heldout
from rlhf.policy import Policy
from rlhf.preferences import Dataset, PreferencePair
from rlhf.rollout import Interrupted, encode_answers, end_ids
from rlhf.types import Sequences, Stats


def _sigmoid(logits: Tensor, beta: float, label_smoothing: float) -> Tensor:
    return -(1 - label_smoothing) * logsigmoid(beta * logits) - label_smoothing * logsigmoid(-beta * logits)


VARIANTS: dict[str, Callable[[Tensor, float, float], Tensor]] = {"sigmoid": _sigmoid}


def dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float,
    variant: str = "sigmoid",
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Stats]:
    """Eq. 7 from log-probabilities summed over the answer, each (N,), in nats. Returns the scalar loss and detached stats."""
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    chosen = chosen_logps - ref_chosen_logps
    rejected = rejected_logps - ref_rejected_logps
    loss = VARIANTS[variant](chosen - rejected, beta, label_smoothing).mean()
    margins = beta * (chosen - rejected).detach()
    return loss, {
        "loss": loss.detach(),
        "rewards/chosen": beta * chosen.detach().mean(),
        "rewards/rejected": beta * rejected.detach().mean(),
        "rewards/margins": margins.mean(),
        "rewards/accuracies": accuracy(margins),
        "logps/chosen": chosen_logps.detach().mean(),
        "logps/rejected": rejected_logps.detach().mean(),
    }


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

    def _encode(self, pairs: Sequence[PreferencePair]) -> Sequences:
        config, policy = self.config, self.policy
        longest = config.max_response_tokens
        return encode_answers(policy.tokenizer, *texts(pairs), policy.context, longest, self.end, config.append_eos, policy.device)

    def _reference_logprobs(self, pairs: Sequence[PreferencePair], sequences: Sequences) -> Tensor:
        """(2n, T) nats; each pair goes through the reference once in a run."""
        n, width = len(pairs), sequences.response_ids.shape[1]
        missing = [i for i, pair in enumerate(pairs) if pair not in self._reference]
        if missing:
            rows = torch.tensor(missing + [i + n for i in missing], device=self.policy.device)
            fresh = self.policy.reference_logprobs(sequences.rows(rows), rows=self.config.microbatch_size)
            lengths = sequences.response_mask.sum(1)
            for k, i in enumerate(missing):
                chosen, rejected = fresh[k, : lengths[i]], fresh[k + len(missing), : lengths[i + n]]
                self._reference[pairs[i]] = (chosen.clone(), rejected.clone())
        table = torch.zeros(2 * n, width, device=self.policy.device)
        for i, pair in enumerate(pairs):
            for row, known in zip((i, i + n), self._reference[pair], strict=True):
                table[row, : len(known)] = known
        return table

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        pairs = [self.train[i] for i in batch_indices(len(self.train), config.pairs_per_step, step, config.seed)]
        yield Phase(step, "scoring")
        sequences = self._encode(pairs)
        reference = self._reference_logprobs(pairs, sequences)
        yield Phase(step, "updating")
        n, mask = len(pairs), sequences.response_mask
        latest = torch.zeros_like(reference)

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            both = torch.cat([rows, rows + n])
            logprobs = self.policy.logprobs(sequences.rows(both))
            latest[both] = logprobs.detach()
            logps = torch.where(mask[both], logprobs, 0.0).sum(1)
            ref_logps = reference[both].sum(1)
            k = len(rows)
            return dpo_loss(logps[:k], logps[k:], ref_logps[:k], ref_logps[k:], config.beta, config.variant, config.label_smoothing)

        self.updater.update(torch.arange(n, device=mask.device), step, loss)
        metrics = self.updater.take_stats() | {"tokens": float(mask.sum())}
        margins = self._implicit_rewards(latest, reference, mask)
        yield from self._samples(pairs, sequences, latest, reference, step, "train")
        yield Step(step, metrics, {"rewards/margins": [round(v, 5) for v in (margins[:n] - margins[n:]).tolist()[:256]]})

    def _implicit_rewards(self, logprobs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
        """r̂ of each sequence, (2n,)."""
        return self.config.beta * torch.where(mask, logprobs - reference, 0.0).sum(1)

    def _samples(
        self, pairs: Sequence[PreferencePair], sequences: Sequences, logprobs: Tensor, reference: Tensor, step: int, part: str
    ) -> Iterator[Event]:
        rewards = self._implicit_rewards(logprobs, reference, sequences.response_mask)
        shown = pairs[: self.config.sample_prompts]
        yield from samples(shown, sequences, self.policy.tokenizer, rewards, step, part, logprobs=logprobs, ref_logprobs=reference)

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
            sequences = self._encode(pairs)
            reference = self._reference_logprobs(pairs, sequences)
            logprobs = self.policy.logprobs(sequences)
            if start == 0:
                yield from self._samples(pairs, sequences, logprobs, reference, step, "heldout")
            logps = torch.where(sequences.response_mask, logprobs, 0.0).sum(1)
            ref_logps, n = reference.sum(1), len(pairs)
            _, stats = dpo_loss(
                logps[:n], logps[n:], ref_logps[:n], ref_logps[n:], self.config.beta, self.config.variant, self.config.label_smoothing
            )
            for key, value in stats.items():
                totals[key] = totals.get(key, 0.0) + float(value) * n
        return {f"eval/{key}": total / len(self.heldout) for key, total in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])
