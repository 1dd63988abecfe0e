"""Dynamic sampling: groups whose responses all scored the same teach nothing and are replaced by groups of other prompts.

Yu et al. 2025 (DAPO), eq. 11, https://arxiv.org/abs/2503.14476. Here the further batches are counted, so that a step ends even where
everything is solved; places that are left over keep their own groups.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlhf.events import Event
from rlhf.experience import Collector, Experience
from rlhf.optimisation import batch_indices, derive_seed
from rlhf.types import Rollout, Sequences


def refill(first: Experience, collector: Collector, step: int, batches: int) -> Generator[Event, None, tuple[Experience, int]]:
    """``first`` with its useless groups replaced, and the further batches it took, as the generator's return value."""
    config, sources, taken = collector.config, [(first, i) for i in informative(first)], 0
    while taken < batches and len(sources) < len(first.prompts):
        taken += 1
        order = derive_seed(config.seed, "dynamic", taken)
        prompts = [collector.train[i] for i in batch_indices(len(collector.train), config.prompts_per_step, step, order)]
        luck = derive_seed(config.seed, "sampling", step, taken)
        more = yield from collector.collect(prompts, first.rollout.group_size, step, luck, first.ref_logprobs is not None)
        sources += [(more, i) for i in informative(more)]
    wanted = len(first.prompts)
    sources = (sources + [(first, i) for i in range(wanted) if i not in set(informative(first))])[:wanted]
    return join([groups(part, [i for other, i in sources if other is part]) for part in dict.fromkeys(part for part, _ in sources)]), taken


def informative(experience: Experience) -> list[int]:
    """The prompts (places in the batch) whose responses did not all score the same."""
    grouped = experience.rewards.view(-1, experience.rollout.group_size)
    return (grouped.amax(1) - grouped.amin(1) >= 1e-8).nonzero().flatten().tolist()


def groups(experience: Experience, places: Sequence[int]) -> Experience:
    """The part of a batch that belongs to some prompts, given by their places."""
    size = experience.rollout.group_size
    rows = [row for place in places for row in range(place * size, (place + 1) * size)]
    index = torch.tensor(rows, dtype=torch.long, device=experience.rewards.device)
    rollout, reference = experience.rollout, experience.ref_logprobs
    taken = {name: getattr(rollout, name)[index] for name in (*LEFT, *RIGHT, "finished")}
    return replace(
        experience,
        rollout=replace(rollout, prompts=[rollout.prompts[i] for i in places], texts=[rollout.texts[i] for i in rows], **taken),
        sequences=experience.sequences.rows(index),
        prompts=[experience.prompts[i] for i in places],
        scored=[experience.scored[i] for i in rows],
        gold=[experience.gold[i] for i in rows] if experience.gold else [],
        rewards=experience.rewards[index],
        ref_logprobs=None if reference is None else reference[index],
    )


LEFT = ("prompt_ids", "prompt_mask")  # (N, P), padded on the left
RIGHT = ("response_ids", "response_mask", "logprobs", "entropies")  # (N, T), padded on the right


def join(parts: Sequence[Experience]) -> Experience:
    """Batches under one another, padded to one width."""
    if len(parts) == 1:
        return parts[0]
    rollouts = [part.rollout for part in parts]
    columns = {name: _stack([getattr(r, name) for r in rollouts], left=True) for name in LEFT}
    columns |= {name: _stack([getattr(r, name) for r in rollouts]) for name in RIGHT}
    rollout = Rollout(
        prompts=_chain(r.prompts for r in rollouts), finished=torch.cat([r.finished for r in rollouts]),
        texts=_chain(r.texts for r in rollouts), group_size=rollouts[0].group_size, **columns,
    )  # fmt: skip
    references = [part.ref_logprobs for part in parts if part.ref_logprobs is not None]
    times = {name: sum(part.times[name] for part in parts) for name in parts[0].times}
    return Experience(
        rollout, Sequences(rollout.prompt_ids, rollout.prompt_mask, rollout.response_ids, rollout.response_mask),
        _chain(part.prompts for part in parts), _chain(part.scored for part in parts), _chain(part.gold for part in parts),
        torch.cat([part.rewards for part in parts]), _stack(references) if references else None, times,
    )  # fmt: skip


Item = TypeVar("Item")


def _chain(lists: Iterable[list[Item]]) -> list[Item]:
    return [item for part in lists for item in part]


def _stack(tensors: Sequence[Tensor], left: bool = False) -> Tensor:
    width = max(t.shape[1] for t in tensors)
    return torch.cat([pad(t, (width - t.shape[1], 0) if left else (0, width - t.shape[1])) for t in tensors])
