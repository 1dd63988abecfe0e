"""Lab 6: the KL-regularised optimum, and how DPO falls out of it."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import frame, kl_parts, kl_questions
from pages.components.labs.kl_example import LAB

frame.draw(
    frame.Lab(
        page="lab_kl",
        name=LAB,
        title=_("The KL optimum, and DPO"),
        lead=_(
            "Every method of RLHF looks for the same thing: more reward without going far from the reference. For a handful of answers "
            "the best policy can be written down. Drag the bars, move β, and see where every algorithm wants to go."
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
    kl_parts.draw,
)
