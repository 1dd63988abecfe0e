"""Lab 8: the questions at its end, with the numbers of the setting."""

from __future__ import annotations

from dataclasses import replace

from pages.components.i18n import _
from pages.components.labs.memory_setting import GIB, current
from pages.components.labs.question import Choice, Number, Question
from pages.components.numbers import megabytes, number
from rlhf.labs import memory


def questions() -> list[Question]:
    now = current()
    parameters = now.model.parameters
    state = 16 * parameters
    four = replace(now.setting, rank=0, scored=True, critic=True, reference=True)
    two = replace(four, rank=16)
    most = memory.fullest("ppo", now.model, four, textbook=True, device=now.device).total
    least = memory.fullest("dpo", now.model, two, device=now.device).total
    return [
        Number(
            "mem/sixteen",
            _(
                "{title} has {count} weights. All are trained in fp32 with AdamW. How many GiB are weights, gradients and "
                "moments?"
            ).format(
                title=now.title, count=f"{parameters:,}"
            ),
            state / GIB,
            _(
                "4 bytes for the weight, 4 for its gradient, 4 + 4 for the two moments: 16·{count} bytes = {size}. Mixed precision "
                "comes to 16 bytes too: 2 + 2 in bf16, and 12 for moments and a copy of the weights in fp32."
            ).format(count=number(parameters), size=megabytes(state)),
            tolerance=0.02,
        ),
        Choice(
            "mem/adapter-off",
            _("Why does the reference of a LoRA run take no memory in this app?"),
            (
                _("Its log-probabilities are stored on disk"),
                _("The frozen weights with the adapter off are the reference"),
                _("LoRA needs no KL term"),
            ),
            1,
            _(
                "The policy is the frozen base plus an adapter. Switch the adapter off, and the base says what it said before "
                "training."
            ),
        ),
        Number(
            "mem/factor",
            _(
                "With the first part's setting: by what factor does PPO with all weights and four networks (textbook, reward model and "
                "critic) exceed DPO with LoRA of rank 16 in this app?"
            ),
            most / least,
            _(
                "{most} against {least}: {factor} times. Four networks against one and an adapter, and two of the four carry "
                "gradients and moments."
            ).format(
                most=megabytes(most), least=megabytes(least), factor=number(most / least)
            ),
            tolerance=0.05,
        ),
        Choice(
            "mem/no-critic",
            _("GRPO and RLOO have no critic. What do they pay for it?"),
            (
                _("Several answers to each prompt, whose mean is the baseline"),
                _("A larger reference"),
                _("Nothing: a critic is of no use"),
            ),
            0,
            _(
                "The baseline that a critic would learn is the mean of the other answers to the prompt: here {group} are sampled for each. "
                "That is computing time, and room in the KV cache, in the place of a network's weights, gradients and moments."
            ).format(group=now.setting.group),
        ),
    ]  # fmt: skip
