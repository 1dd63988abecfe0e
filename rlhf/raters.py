"""Raters: one that votes by a stated rule, and how well several agree.

A simulated rater is for trying things out: hundreds of votes in seconds, with a share of errors that one sets. Its votes say what they
are, always: their rater reads "simulated by RULE, error rate X".
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from rlhf.errors import DataError
from rlhf.rewards import Context, RewardMix
from rlhf.votes import MAX_NAME, SIMULATED, Vote, Winner, question

if TYPE_CHECKING:
    from rlhf.config import RewardTerm

# ---------------------------------------------------------------- by a rule


@dataclass(frozen=True)
class SimulatedRater:
    """Prefers what a mix of rewards scores higher; with probability ``error_rate`` it says the opposite. Equal scores are a tie.

    ``seed``: of the errors; the same pairs in the same order get the same votes.
    """

    terms: tuple[RewardTerm, ...]
    error_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.error_rate <= 1:
            raise DataError(f"The error rate is {self.error_rate:g}.", "Give a share from 0 (never wrong) to 1 (always wrong).")

    @property
    def name(self) -> str:
        """What stands as the rater of its votes."""
        rule = " + ".join(_term(term) for term in self.terms)
        ending = f", error rate {self.error_rate:g}"
        return SIMULATED + rule[: MAX_NAME - len(SIMULATED) - len(ending)] + ending

    def judge(self, lefts: Sequence[Context], rights: Sequence[Context]) -> list[Winner]:
        """The winners of N pairs. Raises ``RewardError`` where the rule cannot score."""
        mix = RewardMix(self.terms)
        scores = [scored.total for scored in mix([*lefts, *rights])]
        luck = random.Random(self.seed)
        winners: list[Winner] = []
        for left, right in zip(scores[: len(lefts)], scores[len(lefts) :], strict=True):
            wrong = luck.random() < self.error_rate  # drawn for ties too: the errors of the others stay where they are
            winners.append("tie" if left == right else "left" if (left > right) != wrong else "right")
        return winners

    def most_apart(self, groups: Sequence[Sequence[Context]]) -> list[tuple[int, int]]:
        """Of each group of answers the places of those that the rule scores lowest and highest: a clear choice teaches most.

        Raises ``RewardError`` where the rule cannot score.
        """
        mix = RewardMix(self.terms)
        scores = iter([scored.total for scored in mix([context for group in groups for context in group])])
        found = []
        for group in groups:
            own = [next(scores) for _ in group]
            found.append((own.index(min(own)), own.index(max(own))))
        return found


def _term(term: RewardTerm) -> str:
    options = ", ".join(f"{name} {' '.join(map(str, v)) if isinstance(v, list | tuple) else v}" for name, v in term.options.items())
    weight = "" if term.weight == 1 else f"{term.weight:g} × "
    return weight + term.name + (f" ({options})" if options else "")


# ---------------------------------------------------------------- agreement


@dataclass(frozen=True)
class Agreement:
    """``alpha``: Krippendorff's, 1: all agree, 0: as by chance, below 0: against one another; None where it says nothing, and ``why``.

    ``same``: the share of pairs of judgements on the same answers that say the same. ``units``: pairs of answers that two or more judged.
    """

    raters: tuple[str, ...]
    units: int
    same: float | None
    alpha: float | None
    why: str = ""


def agreement(votes: Sequence[Vote]) -> Agreement:
    """How well raters agree on who won (nominal: left, right, tie, both bad), over the pairs of answers that several judged.

    A rater's last vote on a pair counts. Krippendorff's alpha takes raters who judged different parts (Krippendorff 2011,
    https://repository.upenn.edu/asc_papers/43), from the library ``krippendorff``.
    """
    names = tuple(sorted({vote.rater for vote in votes}))
    judged = _judgements(votes)
    shared = [given for given in judged.values() if len(given) > 1]
    if len(names) < 2 or not shared:
        why = "only one rater has voted" if len(names) < 2 else "no pair of answers was judged by two raters"
        return Agreement(names, 0, None, None, why)
    alike = [one == other for given in shared for one, other in combinations(given.values(), 2)]
    same = sum(alike) / len(alike)
    values = sorted({value for given in shared for value in given.values()})
    if len(values) < 2:
        return Agreement(names, len(shared), same, None, "all judgements are the same, so chance cannot be told from agreement")
    import krippendorff

    # (R raters, U units), NaN where a rater did not judge
    table = np.full((len(names), len(shared)), np.nan)
    for unit, given in enumerate(shared):
        for rater, value in given.items():
            table[names.index(rater), unit] = values.index(value)
    return Agreement(names, len(shared), same, float(krippendorff.alpha(table, level_of_measurement="nominal")))


def pairwise(votes: Sequence[Vote]) -> list[Agreement]:
    """The same for each two raters who have judged something in common, those with the most in common first."""
    by_rater: dict[str, list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    found = [agreement([*by_rater[one], *by_rater[other]]) for one, other in combinations(sorted(by_rater), 2)]
    return sorted((item for item in found if item.units), key=lambda item: -item.units)


def _judgements(votes: Sequence[Vote]) -> dict[tuple[str, str, str], dict[str, str]]:
    """Pair of answers → rater → "first", "second" (in order of the alphabet, whatever side they stood on), "tie" or "both_bad"."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for vote in sorted(votes, key=lambda vote: vote.time):
        _prompt, first, _second = key = question(vote)
        value: str = vote.winner
        if vote.winner in ("left", "right"):
            value = "first" if (vote.left if vote.winner == "left" else vote.right) == first else "second"
        found.setdefault(key, {})[vote.rater] = value
    return found
