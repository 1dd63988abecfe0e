"""The Bradley–Terry model of paired comparisons (Bradley & Terry 1952, https://doi.org/10.2307/2334029).

    P(a preferred to b) = exp(s_a) / (exp(s_a) + exp(s_b)) = σ(s_a − s_b)

Scores s are on a log scale: only their differences count, and a difference of log 3 ≈ 1.1 means preferred three times in four.
Reward models and DPO are trained on this probability. With ties it is Davidson's model (1970, https://doi.org/10.2307/2283595):

    P(a), P(b), P(tie) ∝ exp(s_a), exp(s_b), ν·exp((s_a + s_b)/2)

which is Bradley–Terry again where ν = 0. ``fit`` finds the strengths from counted votes by maximum likelihood (Newton's method: the
log-likelihood is concave in the strengths and in log ν), with standard errors from the observed information.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, overload

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
ELO_PER_NAT = 400 / math.log(10)  # Elo's scale: 400 points are odds of ten to one
MAX_ITERATIONS = 100
TOLERANCE = 1e-10
WEAK_PRIOR = 10.0  # deviation: keeps what has no finite fit finite, and changes little else


@overload
def preference_probability(score_a: float, score_b: float) -> float: ...
@overload
def preference_probability(score_a: Tensor, score_b: Tensor | float) -> Tensor: ...
@overload
def preference_probability(score_a: Tensor | float, score_b: Tensor) -> Tensor: ...
def preference_probability(score_a: Tensor | float, score_b: Tensor | float) -> Tensor | float:
    """Probability that a is preferred to b, computed in float64.

    Numbers give a number (and need no torch); a tensor on either side gives a float64 tensor of the broadcast shape, with gradients.
    It never overflows: scores that are far apart give 0.0 or 1.0.
    """
    if isinstance(score_a, int | float) and isinstance(score_b, int | float):
        difference = float(score_a) - float(score_b)
        if difference >= 0:  # the exponent is never positive, so that exp cannot overflow
            return 1.0 / (1.0 + math.exp(-difference))
        odds = math.exp(difference)
        return odds / (1.0 + odds)
    import torch  # only for tensors: pages that show one number start without it

    # subtracted in float64: in float32 the difference of two large scores would already be rounded
    def double(score: Tensor | float) -> Tensor:
        return score.double() if isinstance(score, torch.Tensor) else torch.tensor(float(score), dtype=torch.float64)

    return torch.sigmoid(double(score_a) - double(score_b))


def preference_loss(difference: float) -> float:
    """−log σ(difference) in nats, which cannot overflow: the loss of a vote for the answer that scores higher by ``difference``."""
    return max(-difference, 0.0) + math.log1p(math.exp(-abs(difference)))


# ---------------------------------------------------------------- relatives: Elo, softmax over K, Plackett–Luce


def elo(strengths: ArrayLike, mean: float = 1000.0) -> Floats:
    """The same strengths on Elo's scale, P = 1/(1 + 10^(−Δ/400)), moved to ``mean``."""
    strengths = np.asarray(strengths, np.float64)
    return mean + ELO_PER_NAT * (strengths - strengths.mean())


def best_of(strengths: ArrayLike) -> Floats:
    """Probability of each of K items to be the preferred one of all K: the softmax of the strengths (Luce 1959), (K,)."""
    strengths = np.asarray(strengths, np.float64)
    odds = np.exp(strengths - strengths.max())
    return odds / odds.sum()


def ranking_logprob(strengths: ArrayLike, ranking: Sequence[int]) -> float:
    """Log-probability of a ranking, the best item first, in nats: Plackett–Luce, the best of all, then the best of the rest, and so on.

    Raises ``ValueError`` where ``ranking`` is not a permutation of some of the items.
    """
    strengths = np.asarray(strengths, np.float64)
    if len(set(ranking)) != len(ranking) or not set(ranking) <= set(range(len(strengths))):
        raise ValueError(f"{list(ranking)} is not a ranking of items 0 to {len(strengths) - 1}")
    ranked = strengths[list(ranking)]
    return float(sum(ranked[i] - np.logaddexp.reduce(ranked[i:]) for i in range(len(ranked))))


# ---------------------------------------------------------------- fitting strengths to votes


@dataclass(frozen=True)
class Fit:
    """Strengths of K items from their votes.

    ``strengths`` (K,) on a log scale with mean 0; ``covariance`` (K, K) of them, from the observed information; ``nu``: how likely ties
    are (0: the votes have none); ``log_likelihood`` in nats, without the prior; ``wins``, ``ties`` (K, K) as they were counted.
    """

    strengths: Floats
    covariance: Floats
    nu: float
    log_likelihood: float
    wins: Floats
    ties: Floats

    @property
    def standard_errors(self) -> Floats:
        """(K,) of each strength against the mean of all."""
        return np.sqrt(np.diag(self.covariance))

    def probabilities(self) -> tuple[Floats, Floats]:
        """(K, K) each: that row is preferred to column, and that they tie."""
        better, _, tie = _outcomes(self.strengths, self.nu)
        return better, tie

    def expected_score(self) -> Floats:
        """(K, K): probability that row is preferred to column, a tie counted as half."""
        better, tie = self.probabilities()
        return better + tie / 2


def _outcomes(strengths: Floats, nu: float) -> tuple[Floats, Floats, Floats]:
    """P(row), P(column), P(tie), (K, K) each."""
    half = (strengths[:, None] - strengths[None, :]) / 2
    top = np.abs(half)  # the largest exponent is 0, so that exp cannot overflow
    row, column, tie = np.exp(half - top), np.exp(-half - top), nu * np.exp(-top)
    total = row + column + tie
    return row / total, column / total, tie / total


def _counts(wins: ArrayLike, ties: ArrayLike | None, names: Sequence[str] | None = None) -> tuple[Floats, Floats]:
    """Checked counts; ties are made symmetric, each counted once in both places."""
    won = np.array(wins, np.float64)
    if won.ndim != 2 or won.shape[0] != won.shape[1] or not won.size:
        raise DataError(
            f"The table of wins has the shape {won.shape}; it must be square.", "One row and one column for each item: row beats column."
        )
    tied = np.zeros_like(won) if ties is None else np.array(ties, np.float64)
    if tied.shape != won.shape:
        raise DataError(f"The table of ties has the shape {tied.shape}, that of wins {won.shape}.", "Give both the same items.")
    for name, counts in (("wins", won), ("ties", tied)):
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise DataError(f"The table of {name} holds a number that is negative or not finite.", "Votes are counted: 0, 1, 2, …")
        if np.diag(counts).any():
            item = _called(int(np.flatnonzero(np.diag(counts))[0]), names)
            raise DataError(f"{item[0].upper()}{item[1:]} is compared with itself.", "Remove these votes: they say nothing.")
    if not np.array_equal(tied, tied.T):
        raise DataError("The table of ties is not symmetric.", "A tie of a and b is a tie of b and a: give the same count in both places.")
    if len(won) < 2:
        raise DataError("There is one item only.", "Strengths need at least two items that were compared.")
    if not won.any() and not tied.any():
        raise DataError("There are no votes.", "Collect or upload at least one.")
    return won, tied


def _called(item: int, names: Sequence[str] | None) -> str:
    return f"item {item}" if names is None else f"“{names[item]}”"


def groups(wins: ArrayLike, ties: ArrayLike | None = None) -> tuple[list[list[int]], list[list[int]]]:
    """How the items hang together: (groups with no vote between them, groups of which one always beats the other).

    The first are the connected components, the second the strongly connected ones of "beat or tied with". Maximum likelihood exists only
    where there is one of the second kind (Ford 1957, https://doi.org/10.2307/2308513): else a strength goes to infinity.
    """
    won, tied = _counts(wins, ties)
    graph = nx.from_numpy_array(won + tied, create_using=nx.DiGraph)
    strong = [sorted(group) for group in nx.strongly_connected_components(graph)]
    weak = [sorted(group) for group in nx.weakly_connected_components(graph)]
    return sorted(weak, key=lambda g: (-len(g), g)), sorted(strong, key=lambda g: (-len(g), g))


def fit(wins: ArrayLike, ties: ArrayLike | None = None, prior_deviation: float | None = None, names: Sequence[str] | None = None) -> Fit:
    """Strengths by maximum likelihood, or the mode under a prior.

    Args:
        wins: (K, K) counts, row beats column.
        ties: (K, K) symmetric counts, each tie counted in both places; None or all 0: no ties.
        prior_deviation: of a normal prior on each strength around 0, which keeps items that never lost, or that were never compared with
            the others, at a finite place. None: no prior.
        names: (K) what errors call the items; None: by their number.

    Raises:
        DataError: bad counts, or no finite answer without a prior; it names an item in the way.
    """
    won, tied = _counts(wins, ties, names)
    if prior_deviation is None:
        weak, strong = groups(won, tied)
        if len(weak) > 1:
            raise DataError(
                f"The items fall into {len(weak)} groups with no vote between them ({_called(weak[1][0], names)} is not in the largest).",
                "Collect votes between the groups, leave the smaller ones out, or set a prior.",
            )
        if len(strong) > 1:
            raise DataError(
                f"Some items have only won or only lost (for example {_called(strong[-1][0], names)}): no finite strength fits best.",
                "Collect more votes, or set a prior.",
            )
    elif not prior_deviation > 0:
        raise DataError(f"The prior's deviation is {prior_deviation}; it must be above 0.", "Choose about 1 to 3.")
    precision = 0.0 if prior_deviation is None else prior_deviation**-2
    return _newton(won, tied, precision)


def _newton(won: Floats, tied: Floats, precision: float, start: Floats | None = None) -> Fit:
    """``start``: (K + 1,) strengths and log ν to begin from."""
    size = len(won)
    with_ties = bool(tied.any())
    totals = won + won.T + tied
    if start is None:
        share = (tied.sum() / 2) / max(won.sum(), 1.0)
        start = np.append(np.zeros(size), math.log(max(2 * share, 1e-3)))
    x, value = start.copy(), -math.inf

    def objective(at: Floats) -> float:
        nu = math.exp(at[size]) if with_ties else 0.0
        return _log_likelihood(won, tied, at[:size], nu) - precision / 2 * float(at[:size] @ at[:size])

    information = np.eye(size)
    for _ in range(MAX_ITERATIONS):
        nu = math.exp(x[size]) if with_ties else 0.0
        better, worse, tie = _outcomes(x[:size], nu)
        score = better + tie / 2
        slope = np.empty(size + 1)
        slope[:size] = (won + tied / 2 - totals * score).sum(1) - precision * x[:size]
        slope[size] = (tied.sum() - (totals * tie).sum()) / 2
        information = _information(totals, score, worse, tie, precision)
        active = slice(0, size + 1 if with_ties else size)
        # without a prior only differences count: 11ᵀ fixes the mean and changes nothing else
        curvature = information[active, active].copy()
        curvature[:size, :size] += 1.0 / size
        step = np.linalg.solve(curvature, slope[active])
        now, scale = objective(x) if value == -math.inf else value, 1.0
        while True:  # halve the step until the likelihood rises: far from the optimum a whole one can overshoot
            tried = x.copy()
            tried[active] += scale * step
            value = objective(tried)
            if value >= now - 1e-12 * (1 + abs(now)) or scale < 1e-6:
                break
            scale /= 2
        x = tried
        if np.abs(scale * step).max() < TOLERANCE:
            break
    nu = math.exp(x[size]) if with_ties else 0.0
    strengths = x[:size] - x[:size].mean()
    active = size + 1 if with_ties else size
    covariance = np.linalg.pinv(information[:active, :active], hermitian=True)[:size, :size]
    centre = np.eye(size) - 1.0 / size
    return Fit(strengths, centre @ covariance @ centre, nu, _log_likelihood(won, tied, strengths, nu), won, tied)


def _log_likelihood(won: Floats, tied: Floats, strengths: Floats, nu: float) -> float:
    half = (strengths[:, None] - strengths[None, :]) / 2
    with np.errstate(divide="ignore"):
        log_total = np.logaddexp(np.abs(half) + np.log1p(np.exp(-2 * np.abs(half))), np.log(nu) if nu else -np.inf)
    value = float((won * (half - log_total)).sum())
    return value + (float((tied * (math.log(nu) - log_total)).sum()) / 2 if nu else 0.0)


def _information(totals: Floats, score: Floats, worse: Floats, tie: Floats, precision: float) -> Floats:
    """The observed information, (K + 1, K + 1): minus the second derivatives by strengths and log ν.

    It sums over pairs the covariance of (½ for a tie, 1 for a win; the same for the other; 1 for a tie).
    """
    size = len(totals)
    better = score - tie / 2
    matrix = np.empty((size + 1, size + 1))
    matrix[:size, :size] = totals * (tie / 4 - score * (worse + tie / 2))
    matrix[np.arange(size), np.arange(size)] = (totals * (better + tie / 4 - score**2)).sum(1) + precision
    matrix[:size, size] = matrix[size, :size] = (totals * tie * (0.5 - score)).sum(1)
    matrix[size, size] = (totals * tie * (1 - tie)).sum() / 2
    return matrix


def bootstrap(fitted: Fit, samples: int = 200, seed: int = 0, prior_deviation: float | None = None) -> Floats:
    """Strengths of ``samples`` sets of as many votes drawn with replacement, (samples, K): their spread is the fit's uncertainty.

    A drawn set in which an item only won or only lost has no finite fit, so that a weak prior (deviation 10) stands in where none is given.
    """
    rng = np.random.default_rng(seed)
    size = len(fitted.wins)
    upper = np.triu(fitted.ties)
    counts = np.concatenate([fitted.wins.ravel(), upper.ravel()])
    precision = (prior_deviation or WEAK_PRIOR) ** -2
    start = np.append(fitted.strengths, math.log(fitted.nu) if fitted.nu else 0.0)
    found = np.empty((samples, size))
    for i, drawn in enumerate(rng.multinomial(round(counts.sum()), counts / counts.sum(), samples)):
        won, tied = drawn[: size**2].reshape(size, size).astype(float), drawn[size**2 :].reshape(size, size).astype(float)
        found[i] = _newton(won, tied + tied.T, precision, start).strengths
    return found


def cross_validated(fitted: Fit, folds: int = 10, seed: int = 0, prior_deviation: float | None = None) -> tuple[Floats, Floats]:
    """Each vote as a fit to the other folds' votes predicts it: (expected score of one item, its score: 1, ½ for a tie, 0), (votes,) each.

    A vote is told from the side of its winner (of the item with the smaller number for a tie), so that predictions are to be folded
    before they are binned (``rlhf.reliability.folded``). Where the other votes have no finite fit, a weak prior stands in (deviation 10).
    """
    sides = [(fitted.wins, 1.0), (np.triu(fitted.ties), 0.5)]
    votes = np.concatenate([np.repeat(np.argwhere(c > 0), c[c > 0].round().astype(int), axis=0) for c, _score in sides])
    outcome = np.concatenate([np.full(round(c.sum()), score) for c, score in sides])
    fold = np.random.default_rng(seed).permutation(len(votes)) % folds
    chance = np.empty(len(votes))
    start = np.append(fitted.strengths, math.log(fitted.nu) if fitted.nu else 0.0)  # near the answer, which is the same from anywhere
    for i in np.unique(fold):
        won, tied = fitted.wins.copy(), fitted.ties.copy()
        for (a, b), score in zip(votes[fold == i], outcome[fold == i], strict=True):
            if score == 1:
                won[a, b] -= 1
            else:
                tied[a, b] -= 1
                tied[b, a] -= 1
        precision = 0.0 if prior_deviation is None else prior_deviation**-2
        if prior_deviation is None and (not (won.any() or tied.any()) or len(groups(won, tied)[1]) > 1):
            precision = WEAK_PRIOR**-2
        score_of = _newton(won, tied, precision, start).expected_score()
        chance[fold == i] = score_of[tuple(votes[fold == i].T)]
    return chance, outcome


# ---------------------------------------------------------------- reading a fit


@dataclass(frozen=True)
class Bin:
    """Votes whose predicted probability lies near ``predicted``: how many there are and which share came true, with its 95 % interval."""

    predicted: float
    observed: float
    low: float
    high: float
    votes: float


def wilson(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) without trials. ``successes`` may count ties as halves."""
    if trials <= 0:
        return 0.0, 1.0
    share, unit = successes / trials, z**2 / trials
    centre = (share + unit / 2) / (1 + unit)
    half = z / (1 + unit) * math.sqrt(share * (1 - share) / trials + unit / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration(predicted: ArrayLike, observed: ArrayLike, weights: ArrayLike | None = None, bins: int = 10) -> list[Bin]:
    """Predicted probabilities against what happened (1 won, ½ tied, 0 lost), in ``bins`` of equal width; empty ones are left out."""
    chance, outcome = np.asarray(predicted, np.float64).ravel(), np.asarray(observed, np.float64).ravel()
    weight = np.ones_like(chance) if weights is None else np.asarray(weights, np.float64).ravel()
    place = np.minimum((chance * bins).astype(int), bins - 1)
    found = []
    for i in range(bins):
        here = (place == i) & (weight > 0)
        votes = float(weight[here].sum())
        if votes:
            share = float((outcome * weight)[here].sum())
            found.append(Bin(float((chance * weight)[here].sum()) / votes, share / votes, *wilson(share, votes), votes))
    return found


def intransitive(wins: ArrayLike, ties: ArrayLike | None = None, most: int = 20) -> list[tuple[int, int, int]]:
    """Triples in which a majority prefers a to b, b to c, and c to a; the clearest first (by their smallest share)."""
    won, tied = _counts(wins, ties)
    votes = won + won.T + tied
    share = np.divide(won + tied / 2, votes, out=np.full_like(won, 0.5), where=votes > 0)
    beats = share > 0.5
    found: list[tuple[float, tuple[int, int, int]]] = []
    for a in range(len(won)):
        for b in np.flatnonzero(beats[a]):
            for c in np.flatnonzero(beats[b] & beats[:, a]):
                if a < b and a < c:  # each circle once, from its smallest number
                    found.append((min(share[a, b], share[b, c], share[c, a]), (a, int(b), int(c))))
    return [triple for _, triple in sorted(found, key=lambda item: (-item[0], item[1]))[:most]]


def most_informative(fitted: Fit, most: int = 5) -> list[tuple[int, int, float]]:
    """The pairs where one more vote tells most: (a, b, expected gain of information in nats), the best first.

    The gain is ½·log(1 + I·Var(s_a − s_b)) with I the information of one vote between the two: most where the strengths are close and their
    difference is poorly known.
    """
    score = fitted.expected_score()
    _, tie = fitted.probabilities()
    one_vote = score * (1 - score) - tie / 4
    variance = np.diag(fitted.covariance)
    spread = variance[:, None] + variance[None, :] - 2 * fitted.covariance
    gain = 0.5 * np.log1p(np.maximum(one_vote * spread, 0.0))
    pairs = sorted(combinations(range(len(variance)), 2), key=lambda pair: -gain[pair])
    return [(a, b, float(gain[a, b])) for a, b in pairs[:most]]
