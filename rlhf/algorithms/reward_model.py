"""The reward model: a scalar head on a language model, trained on preferences. Ouyang et al. 2022, §3.5, https://arxiv.org/abs/2203.02155

A preferred answer y_w should score above the rejected y_l; the chance that it is preferred is Bradley–Terry in the two scores. Minimise
(eq. 1)

    L = −E[ log σ( r_θ(x, y_w) − r_θ(x, y_l) − m ) ]  +  c·E[ (r_θ(x, y_w) + r_θ(x, y_l))² ]

with a margin m for pairs that are clearly apart (Touvron et al. 2023, eq. 2, https://arxiv.org/abs/2307.09288) and a term that keeps
the scores around 0, which preferences alone leave free (Eisenstein et al. 2023, §2, https://arxiv.org/abs/2312.09244).

Deviations: none in the loss. r_θ is read at the answer's last token, without an end token after it.

    python -m rlhf train reward_model --model story --data story-pairs
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf.bradley_terry import wilson
from rlhf.config import RewardModelConfig as Config
from rlhf.events import Event, Phase, Step
from rlhf.experience import spread
from rlhf.optimisation import Updater, batch_indices
from rlhf.pairs import accuracy, samples, texts, train_and_heldout
from rlhf.preferences import Dataset, PreferencePair
from rlhf.reward_network import RewardNetwork
from rlhf.rollout import Interrupted
from rlhf.types import Sequences, Stats

MOST_MARGINS = 1000  # of held-out pairs, as many as a reliability diagram needs


def bradley_terry_loss(
    chosen_rewards: Tensor, rejected_rewards: Tensor, margin: Tensor | float | None = None, center_coef: float = 0.0
) -> tuple[Tensor, Stats]:
    """The equation above from the scores of N pairs, each (N,); ``margin`` (N,) or one number.

    Returns the scalar loss and detached stats.
    """
    difference = chosen_rewards - rejected_rewards
    loss = -logsigmoid(difference if margin is None else difference - margin).mean()
    if center_coef:
        loss = loss + center_coef * (chosen_rewards + rejected_rewards).square().mean()
    lead = difference.detach()
    return loss, {
        "loss": loss.detach(),
        "accuracy": accuracy(lead),
        "margin": lead.mean(),
        "scores/chosen": chosen_rewards.detach().mean(),
        "scores/rejected": rejected_rewards.detach().mean(),
    }


class RewardModel:
    """Takes batches of pairs in turn; chosen and rejected answers go through the network together."""

    def __init__(self, policy: RewardNetwork, config: Config, data: Dataset, interrupted: Callable[[], bool]):
        self.network = policy
        self.config = config
        self.interrupted = interrupted
        self.train, self.heldout = train_and_heldout(data, config.eval_prompts)
        self.updater = Updater([{"params": self.network.trainable(), "lr": config.learning_rate}], config, interrupted)

    def _encode(self, pairs: Sequence[PreferencePair]) -> Sequences:
        return self.network.encode(*texts(pairs), self.config.max_response_tokens)

    def step(self, step: int) -> Iterator[Event]:
        config = self.config
        pairs = [self.train[i] for i in batch_indices(len(self.train), config.pairs_per_step, step, config.seed)]
        sequences = self._encode(pairs)
        n = len(pairs)
        margins = torch.tensor([config.margin * pair.strength for pair in pairs], device=self.network.device)
        latest = torch.zeros(sequences.response_mask.shape, device=self.network.device)
        yield Phase(step, "updating")

        def loss(rows: Tensor) -> tuple[Tensor, Stats]:
            both = torch.cat([rows, rows + n])
            part = sequences.rows(both)
            scores = self.network.token_scores(part)
            latest[both] = scores.detach()
            final = last(scores, part.response_mask)
            k = len(rows)
            return bradley_terry_loss(final[:k], final[k:], margins[rows] if config.margin else None, config.center_coef)

        self.updater.update(torch.arange(n, device=self.network.device), step, loss)
        metrics = self.updater.take_stats() | {"tokens": float(sequences.response_mask.sum())}
        final = last(latest, sequences.response_mask)
        yield from self._samples(pairs, sequences, latest, step, "train")
        yield Step(step, metrics, distributions(final[:n], final[n:]))

    def _samples(self, pairs: Sequence[PreferencePair], sequences: Sequences, scores: Tensor, step: int, part: str) -> Iterator[Event]:
        shown, final = pairs[: self.config.sample_prompts], last(scores, sequences.response_mask)
        yield from samples(shown, sequences, self.network.tokenizer, final, step, part, scores=scores)

    @torch.no_grad()
    def evaluate(self, step: int) -> Generator[Event, None, dict[str, float | list[float]]]:
        """The same figures on held-out pairs, the interval of the accuracy, and ``eval/margins``: r_w − r_l of the pairs.

        The network learns where its scores lie, so that they can be normalised.
        """
        if not self.heldout:
            return {}
        yield Phase(step, "evaluating")
        chosen, rejected = [], []
        for start in range(0, len(self.heldout), self.config.microbatch_size):
            if self.interrupted():
                raise Interrupted
            pairs = self.heldout[start : start + self.config.microbatch_size]
            sequences = self._encode(pairs)
            scores = self.network.token_scores(sequences)
            if start == 0:
                yield from self._samples(pairs, sequences, scores, step, "heldout")
            final = last(scores, sequences.response_mask)
            chosen.append(final[: len(pairs)])
            rejected.append(final[len(pairs) :])
        good, bad = torch.cat(chosen), torch.cat(rejected)
        self.network.calibrate(torch.cat([good, bad]))
        margin = torch.tensor([self.config.margin * pair.strength for pair in self.heldout], device=good.device)
        _, stats = bradley_terry_loss(good, bad, margin, self.config.center_coef)
        low, high = wilson(float(stats["accuracy"]) * len(good), len(good))
        interval = {"eval/accuracy/low": low, "eval/accuracy/high": high}
        return {f"eval/{key}": float(value) for key, value in stats.items()} | interval | {"eval/margins": spread(good - bad, MOST_MARGINS)}

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updater.load_state_dict(state["optimizer"])


def last(scores: Tensor, mask: Tensor) -> Tensor:
    """(N, T) scores after each token → (N,) after the last one that ``mask`` has."""
    return scores.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)


def distributions(chosen: Tensor, rejected: Tensor) -> dict[str, list[float]]:
    return {"scores/chosen": spread(chosen), "scores/rejected": spread(rejected), "margin": spread(chosen - rejected)}
