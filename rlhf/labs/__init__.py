"""Small worlds that can be computed exactly: the mathematics of the theory pages (pages/lab_*.py), without an interface.

Everything is float64 numpy, pure, and tested against closed forms. Nothing here is pre-computed, and what can be exact is not sampled.
``TextGenerationEnv`` alone needs torch and gymnasium; it is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf.labs.text_generation import TextGenerationEnv

__all__ = ["TextGenerationEnv"]


def __getattr__(name: str) -> Any:
    if name == "TextGenerationEnv":
        from rlhf.labs.text_generation import TextGenerationEnv

        return TextGenerationEnv
    raise AttributeError(name)
