"""Conjugate gradient: H·s = g from products H·v alone, so that H is never written down.

Hestenes & Stiefel 1952; as TRPO uses it (Schulman et al. 2015, appendix C, https://arxiv.org/abs/1502.05477): with a Fisher matrix of a
million parameters, a product with a vector costs about one backward pass, an inverse cannot even be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlhf.labs.mdp import Floats
from rlhf.labs.rounding import without_rounding


@dataclass(frozen=True)
class Solved:
    """``x`` (P,); ``residuals``: ‖g − H·x‖ before the first product and after each."""

    x: Floats
    residuals: tuple[float, ...]

    @property
    def products(self) -> int:
        return len(self.residuals) - 1


def conjugate_gradient(product: Callable[[Floats], Floats], g: Floats, *, most: int = 10, tolerance: float = 1e-10) -> Solved:
    """Solve H·x = g for a symmetric H that is not negative, with at most ``most`` products; done when the residual is ``tolerance``·‖g‖.

    From x = 0 it never leaves the span of g, H·g, …: of a singular H whose range holds g it finds the shortest solution, H⁺·g.
    """
    x, residual = np.zeros_like(g), g.copy()
    direction, size = residual.copy(), float(residual @ residual)
    residuals = [float(np.sqrt(size))]
    while len(residuals) <= most and residuals[-1] > tolerance * residuals[0]:
        moved = product(direction)
        curvature = float(direction @ moved)
        if curvature <= 0:  # only rounding is left in this direction
            break
        x = x + size / curvature * direction
        residual = residual - size / curvature * moved
        size, before = float(residual @ residual), size
        direction = residual + size / before * direction
        residuals.append(float(without_rounding(np.sqrt(size), residuals[0])))
    return Solved(without_rounding(x, np.abs(x).max(initial=0.0)), tuple(residuals))
