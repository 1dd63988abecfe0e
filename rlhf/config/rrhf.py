"""Settings of RRHF and of best-of-n fine-tuning; the algorithm is rlhf/algorithms/rrhf.py."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from rlhf.config.base import Variant, setting
from rlhf.config.online import OnlineConfig

PAPER = "https://arxiv.org/abs/2304.05302"


class RRHFConfig(OnlineConfig):
    """Rank responses to align: a ranking loss over scored answers, or the best of n alone; see rlhf/algorithms/rrhf.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 3e-4,
            "learning_rate_schedule": "linear",
            "prompts_per_step": 32,
            "group_size": 16,
            "max_new_tokens": 4,
            "steps": 180,
            "microbatch_size": 512,
            "eval_every": 20,
            "eval_prompts": 256,
            "checkpoint_every": 60,
        },
        "other": {
            "data": "story-prompts",
            "reward": "positive",
            "learning_rate": 5e-5,
            "prompts_per_step": 4,
            "max_new_tokens": 64,
            "microbatch_size": 16,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["rrhf"] = "rrhf"
    group_size: int = setting(
        8,
        "Responses to each prompt that are ranked against one another (K in the paper, n in best-of-n).",
        "few",
        unit="responses",
        effect="a better best answer and more pairs, slower steps",
        ge=2,
        le=1024,
    )
    variant: Literal["rrhf", "best_of_n"] = setting(
        "rrhf",
        "Rank all answers and imitate the best one, or only imitate the best one.",
        "few",
        choices={
            "rrhf": Variant(
                r"\begin{gathered}\mathcal{L}=\textstyle\sum_{r_i<r_j}\max(0,\,p_i-p_j)+w\,\mathcal{L}_{\mathrm{ft}}\\"
                r"p_i=\tfrac{1}{|y_i|}\log\pi_\theta(y_i\mid x)\end{gathered}",
                "Learns from the bad answers too: where a worse one is likelier than a better one, it is pushed down.",
                ("RRHF (Yuan et al. 2023), eq. 2–4", PAPER),
            ),
            "best_of_n": Variant(
                r"\mathcal{L}=-\log\pi_\theta(y_b\mid x),\quad b=\arg\max_i r_i",
                "The simplest of all, and hard to break: sample n answers, fine-tune on the best, and throw the others away. "
                "It can only repeat what the policy already writes now and then.",
                ("RAFT (Dong et al. 2023), algorithm 1", "https://arxiv.org/abs/2304.06767"),
            ),
        },
    )
    sft_weight: float = setting(
        1.0,
        "Weight of the term that imitates the best answer, beside the ranking (1 in the paper).",
        "regularisation",
        effect="more imitation, less ranking",
        only={"variant": ("rrhf",)},
        ge=0,
        le=100,
    )
    sft_reduction: Literal["sum", "mean"] = setting(
        "sum",
        "Sum the imitation's loss over the tokens of the best answer, or average it.",
        "regularisation",
        choices={
            "sum": Variant(
                r"\mathcal{L}_{\mathrm{ft}}=-\sum_t\log\pi_\theta(y_{b,t}\mid x,y_{b,<t})",
                "As the paper writes it. Beside the ranking, which is about means over tokens, it weighs |y| times as much.",
                ("RRHF (Yuan et al. 2023), eq. 3", PAPER),
            ),
            "mean": Variant(
                r"\mathcal{L}_{\mathrm{ft}}=-\tfrac{1}{|y_b|}\sum_t\log\pi_\theta(y_{b,t}\mid x,y_{b,<t})",
                "As the authors' program does it: both terms on one scale, whatever the length, so that the ranking counts.",
                ("RRHF, the authors' train.py", "https://github.com/GanjinZero/RRHF"),
            ),
        },
    )
    beta: float = setting(0.0, "Neither variant has a KL term: this stays at 0.", "regularisation", only={"variant": ()})

    @field_validator("beta")
    @classmethod
    def _no_kl_term(cls, value: float) -> float:
        if value:
            raise ValueError(
                "RRHF has no KL term, so there is nothing to weight: leave it at 0; to stay closer to the start lower learning_rate, "
                "or train with GRPO"
            )
        return value

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.prompts_per_step % self.minibatches:
            raise ValueError(
                f"the answers to a prompt are ranked together, so a minibatch takes whole prompts, and {self.minibatches} minibatches "
                f"do not divide {self.prompts_per_step} prompts: choose a divisor of {self.prompts_per_step}"
            )
        if self.variant == "rrhf" and self.microbatch_size < self.group_size:
            raise ValueError(
                f"the {self.group_size} answers to a prompt are ranked against one another in one pass, which a microbatch of "
                f"{self.microbatch_size} cannot hold: raise microbatch_size to {self.group_size}, or lower group_size"
            )
        return self

    @property
    def responses_per_prompt(self) -> int:
        return self.group_size

    @property
    def trained_per_step(self) -> int:
        """Responses of a step that have a term in the loss."""
        return self.prompts_per_step * (self.group_size if self.variant == "rrhf" else 1)
