"""The Bradley–Terry model of paired comparisons (Bradley & Terry 1952, https://doi.org/10.2307/2334029).

    P(a preferred to b) = exp(s_a) / (exp(s_a) + exp(s_b)) = σ(s_a − s_b)

Scores s are on a log scale: only their differences count, and a difference of log 3 ≈ 1.1 means preferred three times in four.
Reward models and DPO are trained on this probability.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from torch import Tensor


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
