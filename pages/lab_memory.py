"""Lab 8: which networks a method keeps in memory, what they take, and whether that is true."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import frame, memory_bars, memory_methods, memory_trial, setting
from pages.components.labs.memory_questions import questions
from pages.components.labs.memory_setting import LAB

PARTS = {
    "memory": (_("What is in memory"), memory_bars.draw),
    "measure": (_("Predicted and measured"), memory_trial.draw),
    "methods": (_("The methods compared"), memory_methods.draw),
}


def body() -> None:
    chosen = setting.part(LAB, {name: title for name, (title, _draw) in PARTS.items()})
    PARTS[chosen][1]()


frame.draw(
    frame.Lab(
        page="lab_memory",
        name=LAB,
        title=_("Four models or two?"),
        lead=_(
            "PPO as the textbook draws it keeps four language models in memory, DPO two, and a LoRA run of this app one and a bit. Choose "
            "a model and a card, and see what fits, and why."
        ),
        formula=r"\text{memory}=\max_{\text{moment}}\Big(\underbrace{\textstyle\sum_{\text{networks}}P\,b}_{\text{weights}}"
        r"+\underbrace{P_{\text{learns}}\,b\,(1+2)}_{\text{gradients, AdamW}}+\underbrace{2\,L\,W\,b\,T_{\text{all}}}_{\text{KV cache}}"
        r"+\underbrace{M\,L\,(\dots)}_{\text{activations}}+\underbrace{3\,K\,V\,4}_{\text{logits}}\Big)",
        reading=_(
            "A step samples, asks the reference, updates. What one moment needs is given back before the next, so that a run needs as much "
            "as its fullest moment. Networks stay all the time. P weights, b bytes of a number, L layers, W width of a token's keys, M "
            "tokens that a pass reads and K that it predicts, V vocabulary."
        ),
        papers=(
            ("Ouyang et al. 2022", "https://arxiv.org/abs/2203.02155"),
            ("Rajbhandari et al. 2020", "https://arxiv.org/abs/1910.02054"),
            ("Hu et al. 2021", "https://arxiv.org/abs/2106.09685"),
            ("Ahmadian et al. 2024", "https://arxiv.org/abs/2402.14740"),
        ),
        code=("memory.py", "memory_trial.py", "methods.py"),
        real=(
            ("ppo", _("PPO: the card before a run says what it will take")),
            ("grpo", _("GRPO, without a critic")),
            ("dpo", _("DPO, without a reward model")),
            ("speed", _("Speed: peak memory and where the time goes")),
        ),
        questions=questions,
    ),
    body,
)
