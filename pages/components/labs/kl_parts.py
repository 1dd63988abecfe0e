"""The parts of lab 6 in their order."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import kl_derivation, kl_directions, kl_estimators, kl_falls, kl_hacking, kl_optimum, kl_training, setting
from pages.components.labs.kl_example import LAB
from pages.components.text import show_error
from rlhf.errors import PlaygroundError


def draw() -> None:
    """The part that is open."""
    parts = {
        "optimum": (_("The optimum"), kl_optimum.draw),
        "hacking": (_("A wrong reward"), kl_hacking.draw),
        "derivation": (_("DPO's derivation"), kl_derivation.draw),
        "falls": (_("How the loss falls"), kl_falls.draw),
        "training": (_("Training"), kl_training.draw),
        "estimators": (_("Estimating KL"), kl_estimators.draw),
        "directions": (_("Two directions"), kl_directions.draw),
    }
    chosen = setting.part(LAB, {name: title for name, (title, _draw) in parts.items()})
    try:
        parts[chosen][1]()
    except PlaygroundError as error:
        show_error(error)
