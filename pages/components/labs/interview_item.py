"""What an interview question is made of."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pages.components.labs.question import Choice, Place, Question


@dataclass(frozen=True)
class Item:
    """A question and where the same can be tried."""

    question: Question
    place: Place | None


def choice(name: str, text: str, right: str, wrong: Sequence[str], because: str, place: Place | None = None) -> Item:
    """A question with its options in an order that its name decides, the same for everybody."""
    order = list(range(1 + len(wrong)))
    random.Random(zlib.crc32(name.encode())).shuffle(order)
    options = [(right, *wrong)[i] for i in order]
    return Item(Choice(f"quiz/{name}", text, options, order.index(0), because), place)
