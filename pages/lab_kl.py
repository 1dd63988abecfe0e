"""Lab 6: the KL-regularised optimum, and how DPO falls out of it."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import (
    frame,
    kl_derivation,
    kl_estimators,
    kl_falls,
    kl_hacking,
    kl_optimum,
    kl_questions,
    kl_training,
    setting,
)
from pages.components.labs.kl_example import LAB
from pages.components.text import show_error
from rlhf.errors import PlaygroundError

PARTS = {
    "optimum": (_("The optimum"), kl_optimum.draw),
    "hacking": (_("A wrong reward"), kl_hacking.draw),
    "derivation": (_("DPO's derivation"), kl_derivation.draw),
    "falls": (_("How the loss falls"), kl_falls.draw),
    "training": (_("Training"), kl_training.draw),
    "estimators": (_("Estimating KL"), kl_estimators.draw),
    "directions": (_("Two directions"), kl_estimators.draw_directions),
}


def body() -> None:
    chosen = setting.part(LAB, {name: title for name, (title, _draw) in PARTS.items()})
    try:
        PARTS[chosen][1]()
    except PlaygroundError as error:
        show_error(error)


frame.draw(
    frame.Lab(
        page="lab_kl",
        name=LAB,
        title=_("The KL optimum, and DPO"),
        lead=_(
            "Every method of RLHF looks for the same thing: more reward without going far from the reference. For a "
            "handful of answers the best "
            "policy can be written down. Drag the bars, move β, and see where every algorithm wants to go."
        ),
        formula=r"\pi^*=\arg\max_\pi\;\mathbb E_\pi[r]-\beta\,\mathrm{KL}(\pi\Vert\pi_\mathrm{ref})\;\propto\;\pi_\mathrm{ref}"
        r"\,e^{r/\beta}",
        reading=_("The best policy is the reference, with each answer weighed by e to the power of its reward over β."),
        papers=(
            ("Rafailov et al. 2023", "https://arxiv.org/abs/2305.18290"),
            ("Beirami et al. 2024", "https://arxiv.org/abs/2401.01879"),
            ("Razin et al. 2024", "https://arxiv.org/abs/2410.08847"),
            ("Schulman 2020", "http://joschu.net/blog/kl-approx.html"),
        ),
        code=("kl_optimum.py", "dpo_derivation.py", "exact_training.py", "kl_estimators.py"),
        real=(
            ("dpo", _("DPO on preference pairs")),
            ("grpo", _("GRPO with β, and its KL over the steps")),
            ("reward_hacking", _("A reward model that is optimised too far")),
        ),
        questions=kl_questions.questions,
    ),
    body,
)
