"""Settings of group-relative policy optimisation; the algorithm is rlhf/algorithms/grpo.py."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from rlhf.config.base import Only, Variant, setting
from rlhf.config.online import OnlineConfig

GRPO_VARIANTS = {
    "grpo": Variant(
        r"\frac1G\sum_i\frac1{|o_i|}\sum_t\min\big(r_{i,t}\hat A_i,\operatorname{clip}(r_{i,t})\hat A_i\big)",
        "The original: every response counts the same, so each token of a long one counts less.",
        ("DeepSeekMath, Shao et al. 2024, eq. 3", "https://arxiv.org/abs/2402.03300"),
    ),
    "bnpo": Variant(
        r"\frac1{\sum_i|o_i|}\sum_i\sum_t\min\big(r_{i,t}\hat A_i,\operatorname{clip}(r_{i,t})\hat A_i\big)",
        "Every token of a microbatch counts the same; the result depends a little on the microbatch's size.",
        ("TRL's name for the mean over a local batch", "https://huggingface.co/docs/trl/grpo_trainer"),
    ),
    "dr_grpo": Variant(
        r"\frac1{G\,L_{\max}}\sum_i\sum_t\min\big(r_{i,t}\hat A_i,\operatorname{clip}(r_{i,t})\hat A_i\big)",
        "Removes two biases: towards long wrong answers (1/|o|) and towards very easy or hard prompts (1/std).",
        ("Dr. GRPO, Liu et al. 2025, § 3", "https://arxiv.org/abs/2503.20783"),
    ),
    "dapo": Variant(
        r"\frac1{\sum_i|o_i|}\sum_i\sum_t\min\big(r_{i,t}\hat A_i,\operatorname{clip}(r_{i,t})\hat A_i\big),\;\varepsilon_h>\varepsilon_l",
        "For long answers: every token of the batch counts the same, rare tokens may rise further (clip-higher), groups that teach "
        "nothing are sampled again, and answers near the length limit pay.",
        ("DAPO, Yu et al. 2025, eqs. 8 to 13", "https://arxiv.org/abs/2503.14476"),
    ),
    "cispo": Variant(
        r"\frac1{\sum_i|o_i|}\sum_i\sum_t\operatorname{sg}\big[\min(r_{i,t},\varepsilon_h)\big]\,\hat A_i\log\pi_\theta(o_{i,t})",
        "Caps the weight instead of cutting the gradient: no token falls silent. For many updates on one batch.",
        ("MiniMax-M1, 2025, eqs. 4 and 5", "https://arxiv.org/abs/2506.13585"),
    ),
    "sapo": Variant(
        r"\frac1G\sum_i\frac1{|o_i|}\sum_t\frac4{\tau}\,\sigma\big(\tau(r_{i,t}-1)\big)\hat A_i",
        "A soft gate in the place of the clip: the further off-policy a token is, the less it weighs.",
        ("SAPO, Gao et al. 2025", "https://arxiv.org/abs/2511.20347"),
    ),
    "gspo": Variant(
        r"\frac1G\sum_i\min\big(s_i\hat A_i,\operatorname{clip}(s_i)\hat A_i\big),\quad "
        r"s_i=\Big(\tfrac{\pi_\theta(o_i)}{\pi_\mathrm{old}(o_i)}\Big)^{1/|o_i|}",
        "The reward is one for the whole answer, so the ratio is too: less noise for long answers. Clip ranges are tiny.",
        ("GSPO, Zheng et al. 2025, eqs. 5 to 7", "https://arxiv.org/abs/2507.18071"),
    ),
}
SCALINGS = {
    "group": Variant(
        r"\hat A_i=\frac{R_i-\operatorname{mean}(R)}{\operatorname{std}(R)}",
        "Each prompt's advantages have the same size.",
        ("Shao et al. 2024, § 4.1.2", "https://arxiv.org/abs/2402.03300"),
    ),
    "batch": Variant(
        r"\hat A_i=\frac{R_i-\operatorname{mean}(R)}{\operatorname{std}(\text{batch})}",
        "Prompts on which answers differ much teach more.",
        ("Lite PPO, Liu et al. 2025", "https://arxiv.org/abs/2508.08221"),
    ),
    "none": Variant(
        r"\hat A_i=R_i-\operatorname{mean}(R)",
        "No bias towards very easy or very hard prompts; the learning rate must fit the reward's scale.",
        ("Dr. GRPO, Liu et al. 2025, § 3", "https://arxiv.org/abs/2503.20783"),
    ),
}
CLIPPED: Only = {"variant": ("grpo", "bnpo", "dr_grpo", "dapo", "gspo")}


class GRPOConfig(OnlineConfig):
    """Group-relative policy optimisation; see rlhf/algorithms/grpo.py."""

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
            "beta": 0.0,
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
            "beta": 0.04,
            "eval_prompts": 16,
            "steps": 40,
        },
    }
    CHOICE_DEFAULTS: ClassVar = {
        "variant": {
            "dr_grpo": {"scale_rewards": "none"},
            "dapo": {"epsilon_high": 0.28, "dynamic_sampling": 2},
            "cispo": {"epsilon_high": 5.0},
            "gspo": {"epsilon_low": 3e-4, "epsilon_high": 4e-4},
        }
    }

    algorithm: Literal["grpo"] = "grpo"
    variant: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "gspo"] = setting(
        "grpo", "Which form of the loss.", "few", choices=GRPO_VARIANTS
    )
    group_size: int = setting(
        8,
        "Responses to each prompt; the group's mean is the baseline.",
        "few",
        unit="responses",
        effect="better baseline, slower steps",
        ge=2,
        le=1024,
    )
    epsilon_low: float = setting(
        0.2,
        "A probability ratio below 1 − ε is not pushed further down.",
        "regularisation",
        effect="larger policy changes",
        only=CLIPPED,
        gt=0,
        lt=1,
    )
    epsilon_high: float = setting(
        0.2,
        "A probability ratio above 1 + ε is not pushed further up (cispo: the largest weight a token can have).",
        "regularisation",
        effect="larger policy changes",
        only={"variant": (*CLIPPED["variant"], "cispo")},
        gt=0,
        le=100,
    )
    scale_rewards: Literal["group", "batch", "none"] = setting(
        "group", "Divide advantages by the standard deviation of the group, of the batch, or not.", "regularisation", choices=SCALINGS
    )
    sapo_temperature_pos: float = setting(
        1.0, "τ of tokens with a positive advantage.", "regularisation", effect="a narrower gate", only={"variant": ("sapo",)}, gt=0, le=100
    )
    sapo_temperature_neg: float = setting(
        1.05,
        "τ of tokens with a negative advantage.",
        "regularisation",
        effect="a narrower gate",
        only={"variant": ("sapo",)},
        gt=0,
        le=100,
    )
    use_bias_correction_kl: bool = setting(
        False, "Multiply the KL term by the ratio, so that its gradient is that of the KL (DeepSeek-V3.2).", "regularisation"
    )
    mask_truncated_completions: bool = setting(
        False, "Responses that hit the length limit are scored but not learned from.", "regularisation"
    )
    top_entropy_quantile: float = setting(
        1.0,
        "Learn from this share of the tokens only: those where the policy was least sure.",
        "regularisation",
        effect="more tokens",
        gt=0,
        le=1,
    )
    overlong_buffer: int = setting(
        0,
        "Responses that end within this many tokens of the limit lose up to 1 of reward, in a line (DAPO, eq. 13); 0: off.",
        "regularisation",
        unit="tokens",
        effect="earlier penalty",
        ge=0,
        le=4096,
    )
    dynamic_sampling: int = setting(
        0,
        "Further batches of prompts sampled at most, to replace groups whose responses all scored the same (DAPO); 0: off.",
        "sampling",
        unit="batches",
        effect="more to learn from, slower steps",
        ge=0,
        le=16,
    )

    @property
    def responses_per_prompt(self) -> int:
        return self.group_size

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.variant == "cispo" and self.epsilon_high <= 1:
            raise ValueError(
                "cispo caps the ratio itself at epsilon_high, and the ratio starts at 1: set epsilon_high above 1 (5 is usual)"
            )
        if self.overlong_buffer > self.max_new_tokens:
            raise ValueError(
                f"overlong_buffer ({self.overlong_buffer}) is longer than a response can be: lower it to {self.max_new_tokens}"
            )
        if self.use_bias_correction_kl and not self.beta:
            raise ValueError("use_bias_correction_kl corrects the KL term, and with beta 0 there is none: raise beta or turn it off")
        return self
