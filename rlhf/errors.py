"""Every error that a user can meet. Each says what happened and what to do about it.

The engine raises them; the worker turns them into a run's ``failed`` state, the pages and the command line show ``what`` and ``do``.
Anything else that is raised is a bug of ours.
"""

from __future__ import annotations


class PlaygroundError(Exception):
    """``what`` happened (with the culprit's name) and what to ``do`` about it, in plain words."""

    def __init__(self, what: str, do: str = ""):
        super().__init__(what, do)
        self.what = what
        self.do = do

    def __str__(self) -> str:
        return f"{self.what} {self.do}".strip()


class ConfigError(PlaygroundError):
    """Settings that are out of range, unknown or contradict one another."""


class DataError(PlaygroundError):
    """A prompt or preference file that cannot be read, or a data set that a run cannot use."""


class ModelError(PlaygroundError):
    """A model that cannot be found, fetched or used."""


class RewardError(PlaygroundError):
    """A reward function that is unknown, raised, or returned something that is not a finite number."""


class NonFiniteError(PlaygroundError):
    """A loss or gradient that became NaN or infinite."""


class OutOfMemoryError(PlaygroundError):
    """The device ran out of memory."""


class RunError(PlaygroundError):
    """A run folder that does not exist, cannot be written, or is not in a state for what was asked."""
