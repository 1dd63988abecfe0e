"""Settings of REINFORCE and its refinements; the algorithm is rlhf/algorithms/reinforce.py."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from rlhf.config.base import Only, Variant, setting
from rlhf.config.online import OnlineConfig

CRITIC: Only = {"baseline": ("value",)}

RETURNS = {
    "trajectory": Variant(
        r"R=\sum_{t} r_t",
        "Every token answers for the whole response, also for what was earned before it. The plain estimator, and what RLOO does.",
        ("Williams 1992, theorem 1", "https://doi.org/10.1007/BF00992696"),
    ),
    "to_go": Variant(
        r"G_t=\sum_{l\ge 0}\gamma^{\,l}\,r_{t+l}",
        "A token answers only for what comes after it: the same mean, less noise. With a reward at the end alone the two are equal; "
        "they differ where beta is not 0, as the KL is paid token by token, and with rewards that are earned on the way (digits).",
        ("Sutton et al. 1999, theorem 1", "https://papers.nips.cc/paper_files/paper/1999/hash/464d828b85b0bed98e80ade0a5c43b0f-Abstract.html"),
    ),
}  # fmt: skip

BASELINES = {
    "none": Variant(
        r"A_t=G_t",
        "To see what a baseline is good for: nothing is subtracted, so where all rewards are positive every token is pushed up, and where "
        "all are negative every token is pushed down.",
        ("Williams 1992, theorem 1", "https://doi.org/10.1007/BF00992696"),
    ),
    "running_mean": Variant(
        r"A_t=G_t-b,\qquad b\leftarrow b+\eta\,(\bar G-b)",
        "One number for all prompts, from past batches alone: costs nothing and needs one response a prompt.",
        ("Williams 1992, theorem 1: any baseline that the action does not change", "https://doi.org/10.1007/BF00992696"),
    ),
    "leave_one_out": Variant(
        r"A_i=R_i-\tfrac{1}{K-1}\textstyle\sum_{j\ne i}R_j",
        "RLOO: the other responses to the same prompt say what was to be expected of it. Pays where prompts differ.",
        ("Ahmadian et al. 2024, eq. 8", "https://arxiv.org/abs/2402.14740"),
    ),
    "value": Variant(
        r"A_t=\sum_{l\ge0}(\gamma\lambda)^l\delta_{t+l},\quad \delta_t=r_t+\gamma V(s_{t+1})-V(s_t)",
        "Actor–critic (A2C): a learned value of each half-written answer. Helps once that is learned; one response a prompt will do.",
        ("Mnih et al. 2016, §4; Schulman et al. 2016, eq. 16", "https://arxiv.org/abs/1602.01783"),
    ),
    "greedy": Variant(
        r"A_i=R_i-r(x,\bar y),\qquad \bar y_t=\arg\max_a\pi_\theta(a\mid x,\bar y_{<t})",
        "ReMax: the reward of the policy's own most probable answer, for one more decoding a prompt and no critic.",
        ("Li et al. 2023, algorithm 1", "https://arxiv.org/abs/2310.10505"),
    ),
    "batch": Variant(
        r"\hat A_t=\frac{G_t-\operatorname{mean}_{\text{batch}}(G)}{\operatorname{std}_{\text{batch}}(G)}",
        "REINFORCE++: centred and scaled over all tokens of the batch, so that the learning rate need not follow the reward's scale.",
        ("Hu 2025, eqs. 8 to 10", "https://arxiv.org/abs/2501.03262"),
    ),
}

LEVELS = {
    "token": Variant(
        r"\textstyle\sum_t\min\big(\rho_tA_t,\ \operatorname{clip}(\rho_t,1-\varepsilon,1+\varepsilon)A_t\big)",
        "With several updates a batch: each token's probability is held near that of the sampling policy, as in PPO and REINFORCE++.",
        ("Schulman et al. 2017, eq. 7", "https://arxiv.org/abs/1707.06347"),
    ),
    "sequence": Variant(
        r"\min\big(\rho A,\ \operatorname{clip}(\rho,1\pm\varepsilon)A\big),\ \rho=\tfrac{\pi_\theta(y\mid x)}{\pi_{\text{old}}(y\mid x)}",
        "With several updates a batch: the whole response is one action, as in TRL's RLOO. Long responses leave the clip range sooner.",
        ("Ahmadian et al. 2024: a response is one action", "https://arxiv.org/abs/2402.14740"),
    ),
}


class ReinforceConfig(OnlineConfig):
    """REINFORCE with the returns and the baseline of one's choice; see rlhf/algorithms/reinforce.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4, "prompts_per_step": 16, "samples_per_prompt": 4},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 3e-4,
            "learning_rate_schedule": "linear",
            "prompts_per_step": 64,
            "samples_per_prompt": 8,
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
            "prompts_per_step": 8,
            "max_new_tokens": 64,
            "microbatch_size": 16,
            "beta": 0.04,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["reinforce"] = "reinforce"
    returns: Literal["trajectory", "to_go"] = setting(
        "to_go", "What a token answers for: the whole response's return, or what comes after it.", "few", choices=RETURNS
    )
    baseline: Literal["none", "running_mean", "leave_one_out", "value", "greedy", "batch"] = setting(
        "running_mean", "What is subtracted from the return: what was to be expected anyway.", "few", choices=BASELINES
    )
    samples_per_prompt: int = setting(
        4, "Responses to each prompt.", "few", unit="responses", effect="less noise, slower steps", ge=1, le=1024
    )
    importance_sampling_level: Literal["token", "sequence"] = setting(
        "token",
        "Where the probability ratio is taken and clipped when a batch is updated on more than once.",
        "regularisation",
        choices=LEVELS,
    )
    epsilon_low: float = setting(
        0.2, "A probability ratio below 1 − ε is not pushed further down.", "regularisation", effect="larger policy changes", gt=0, lt=1
    )
    epsilon_high: float = setting(
        0.2, "A probability ratio above 1 + ε is not pushed further up.", "regularisation", effect="larger policy changes", gt=0, le=10
    )
    gamma: float = setting(
        1.0, "Discount of later rewards.", "regularisation", effect="sees further ahead", only={"returns": ("to_go",)}, ge=0, le=1
    )
    reward_at: Literal["earned", "end"] = setting(
        "earned",
        "Pay a reward at the tokens that earned it, where the reward says which they are (digits does), or all of it at the end.",
        "regularisation",
    )
    baseline_decay: float = setting(
        0.9,
        "Share of the running mean that a new batch leaves as it is; the first batches are averaged evenly.",
        "regularisation",
        effect="steadier baseline, which follows the policy more slowly",
        only={"baseline": ("running_mean",)},
        ge=0,
        lt=1,
    )
    lam: float = setting(
        1.0,
        "GAE's λ: 0 trusts the critic, 1 the sampled return.",
        "regularisation",
        effect="less bias, more variance",
        only=CRITIC,
        ge=0,
        le=1,
    )
    value_coef: float = setting(
        0.5,
        "Weight of the critic's loss.",
        "regularisation",
        effect="faster critic, at the policy's cost where they share weights",
        only=CRITIC,
        ge=0,
        le=100,
    )
    value_learning_rate: float = setting(
        1e-3, "Learning rate of the value head.", "optimisation", effect="faster critic", only=CRITIC, gt=0, le=1
    )
    variance_groups: int = setting(
        8,
        "Groups of prompts from whose gradients the variance of the batch's gradient is measured; 0: not measured.",
        "logging",
        unit="groups",
        effect="steadier figure, slower steps",
        ge=0,
        le=8,
    )

    @property
    def responses_per_prompt(self) -> int:
        return self.samples_per_prompt

    @property
    def several_updates(self) -> bool:
        """Whether a batch is updated on more than once, so that the policy leaves the one that sampled it."""
        return self.epochs * self.minibatches > 1

    @property
    def compared_estimators(self) -> int:
        """How many estimators' variances are measured beside one another."""
        return (3 + (self.samples_per_prompt > 1) + (self.baseline in ("greedy", "value"))) if self.variance_groups else 0

    @property
    def further_passes(self) -> float:
        """The critic's first look; one pass and a backward pass (two) for each estimator where they are compared; and with a critic three
        in every step, as the update's own gradient has the critic's in it and does not tell the variance of the policy's."""
        critic = self.baseline == "value"
        if not self.variance_groups:
            return float(critic)
        return (1 + 2 * self.compared_estimators) / (self.eval_every or self.steps) + 4.0 * critic

    @property
    def further_gradients(self) -> int:
        return 2 * self.compared_estimators  # of each a running sum and the newest group's

    @property
    def further_answers(self) -> float:
        return 1 / self.samples_per_prompt if self.baseline == "greedy" else 0.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.baseline == "leave_one_out" and self.samples_per_prompt < 2:
            raise ValueError(
                "the leave-one-out baseline is the mean of the other responses to a prompt, and there is one response alone: "
                "set samples_per_prompt to 2 or more, or choose another baseline"
            )
        if self.baseline == "value" and self.returns == "trajectory":
            raise ValueError(
                "a critic says what is to be expected from here on, which a whole trajectory's return is not: "
                "set returns to to_go, or choose another baseline"
            )
        if self.importance_sampling_level == "sequence":
            if not self.several_updates:
                raise ValueError(
                    "importance_sampling_level = 'sequence' has no effect with one update a batch, where every ratio is 1: "
                    "raise epochs or minibatches, or leave it at 'token'"
                )
            if self.returns != "trajectory":
                raise ValueError(
                    "a ratio of the whole sequence needs one advantage for the whole sequence: "
                    "set returns to trajectory, or importance_sampling_level to token"
                )
        if self.variance_groups == 1:
            raise ValueError("variance_groups = 1 has nothing to compare: choose 0, or 2 to 8")
        return self
