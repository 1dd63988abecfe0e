"""Where only rounding is left of a sum, it is 0: else a gradient of 10⁻¹⁸ would be followed, and shown, as if it meant something."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf.labs.mdp import Floats

ROUNDING = 1e-13  # as a share of the terms of a sum


def without_rounding(values: ArrayLike, terms: ArrayLike) -> Floats:
    """``values``, with 0 where they are next to nothing beside the ``terms`` that they are sums of (both broadcast, any shape)."""
    return np.where(np.abs(values) <= ROUNDING * np.asarray(terms), 0.0, values)


def total(terms: Floats) -> float:
    """The sum of all terms, 0 where only rounding is left."""
    return float(without_rounding(terms.sum(), np.abs(terms).sum()))
