"""Blind comparison of a policy before and after training: ballots in which nothing tells which answer is whose, and the win rate.

Ballots are ordinary votes (``rlhf.votes``) whose two sides come from different checkpoints. A tie, and "both bad", count as half a win.
The module is free of torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlhf.bradley_terry import wilson
from rlhf.preferences import Prompt
from rlhf.votes import Vote


@dataclass(frozen=True)
class WinRate:
    """Of the tuned side over ``votes`` ballots; ``low`` and ``high``: Wilson's 95 % interval."""

    wins: int
    ties: int
    losses: int

    @property
    def votes(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        return (self.wins + self.ties / 2) / self.votes if self.votes else 0.5

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.wins + self.ties / 2, self.votes)


def of_run(votes: Iterable[Vote], checkpoint: str) -> list[Vote]:
    """The votes between this checkpoint (``RUN_ID/step-N``) and the model as it was released."""
    return [vote for vote in votes if {vote.left_checkpoint, vote.right_checkpoint} == {checkpoint, ""}]


def win_rate(votes: Iterable[Vote], checkpoint: str) -> WinRate:
    """How often the checkpoint's answer was preferred to the released model's."""
    wins = ties = losses = 0
    for vote in of_run(votes, checkpoint):
        if vote.winner in ("tie", "both_bad"):
            ties += 1
        elif (vote.winner == "left") == (vote.left_checkpoint == checkpoint):
            wins += 1
        else:
            losses += 1
    return WinRate(wins, ties, losses)


def unseen(heldout: Sequence[Prompt], trained_on: Iterable[str]) -> list[Prompt]:
    """Prompts that nothing in the road was trained on: neither the policy nor the votes behind its reward."""
    known = set(trained_on)
    return [prompt for prompt in heldout if prompt.text not in known]
