"""Settings of proximal policy optimisation; the algorithm is rlhf/algorithms/ppo.py."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from rlhf.config.base import Variant, setting
from rlhf.config.online import OnlineConfig

_PPO = "https://arxiv.org/abs/1707.06347"
_GAE = ("Schulman et al. 2016, eq. 16", "https://arxiv.org/abs/1506.02438")
_BOOK = "http://incompleteideas.net/book/the-book-2nd.html"
_INSTRUCT = ("Ouyang et al. 2022, § 3.5", "https://arxiv.org/abs/2203.02155")
_KL = ("Schulman 2020", "http://joschu.net/blog/kl-approx.html")

CRITICS = {
    "learned": Variant(
        r"A_t=\hat R_t-V_\theta(s_t)",
        "A critic tells apart good tokens from good luck within a response. The usual choice where rewards are sparse and answers long.",
        ("Schulman et al. 2017, eq. 9", _PPO),
    ),
    "none": Variant(
        r"A_t=G_t-\bar G,\qquad G_t=\textstyle\sum_{l\ge0}\gamma^l r_{t+l}",
        "Actor only: nothing beside the policy is trained, the return itself is the advantage. For short answers, or where the critic "
        "lags behind. The baseline Ḡ is the batch's mean, through whitening; without whitening there is none.",
        ("Schulman et al. 2017, eq. 7", _PPO),
    ),
}
OBJECTIVES = {
    "clip": Variant(
        r"L=\mathbb{E}_t\big[\min(\rho_tA_t,\ \operatorname{clip}(\rho_t,1-\varepsilon,1+\varepsilon)A_t)\big]",
        "Ends the push on a token whose probability has moved by ε within a batch. The usual choice: one number that hardly needs tuning.",
        ("Schulman et al. 2017, eq. 7", _PPO),
    ),
    "penalty": Variant(
        r"L=\mathbb{E}_t\big[\rho_tA_t-c\,\mathrm{KL}[\pi_\text{old}\,\|\,\pi_\theta]\big]",
        "A price on leaving the old policy instead of a fence: every token keeps its gradient. To hold the size of a step in nats, "
        "with the adaptive coefficient.",
        ("Schulman et al. 2017, eq. 8", _PPO),
    ),
}
PENALTY_RULES = {
    "fixed": Variant(r"c=\text{const}", "When one coefficient is known to suit the task.", ("Schulman et al. 2017, § 4", _PPO)),
    "adaptive": Variant(
        r"c\leftarrow 2c\ \text{ if } d>1.5\,d_\text{targ},\qquad c\leftarrow c/2\ \text{ if } d<d_\text{targ}/1.5",
        "When the distance of a step is known and the coefficient is not: after each step it follows the distance d that was measured.",
        ("Schulman et al. 2017, § 4", _PPO),
    ),
}
ESTIMATORS = {
    "gae": Variant(
        r"A_t=\textstyle\sum_{l\ge0}(\gamma\lambda)^l\delta_{t+l},\quad\delta_t=r_t+\gamma V_{t+1}-V_t",
        "All horizons at once, weighed by λ. The usual choice.",
        _GAE,
    ),
    "td": Variant(
        r"R_t=r_t+\gamma V_{t+1}",
        "Looks one token ahead: the least variance, and as biased as the critic is wrong. Where tokens earn rewards of their own.",
        ("Sutton & Barto 2018, eq. 6.2", _BOOK),
    ),
    "n_step": Variant(
        r"R_t=\textstyle\sum_{k<n}\gamma^kr_{t+k}+\gamma^nV_{t+n}",
        "Trusts n sampled rewards, then the critic: between TD and Monte-Carlo with a horizon that can be named.",
        ("Schulman et al. 2017, eq. 10", _PPO),
    ),
    "monte_carlo": Variant(
        r"R_t=\textstyle\sum_{l\ge0}\gamma^lr_{t+l}",
        "What really came: no bias from the critic, the variance of whole responses. For short answers and untrained critics.",
        ("Sutton & Barto 2018, eq. 3.9", _BOOK),
    ),
}
KL_PLACES = {
    "reward": Variant(
        r"r_t=-\beta\,D_t+[t=\text{last}]\,r(x,y)",
        "Each token pays for leaving the reference, and the advantage of earlier tokens knows of it. As InstructGPT does it.",
        _INSTRUCT,
    ),
    "loss": Variant(
        r"\mathcal{L}=-L+\beta\,\mathbb{E}_t[D_t]",
        "A term that is differentiated itself, as GRPO does it: the advantages then speak of the reward alone, and the pull is not "
        "whitened away with them.",
        ("Shao et al. 2024, eq. 3", "https://arxiv.org/abs/2402.03300"),
    ),
}
KL_ESTIMATORS = {
    "k1": Variant(
        r"D_t=d,\quad d=\log\pi-\log\pi_\text{ref}", "In the reward: unbiased in value and gradient. The usual choice there.", _KL
    ),
    "k2": Variant(r"D_t=\tfrac12d^2", "In the loss: its gradient is that of the KL, without bias on fresh samples.", _KL),
    "k3": Variant(
        r"D_t=e^{-d}-1+d",
        "Never negative, little variance. In the loss its gradient is that of the reversed KL(ref‖π), which pulls the harder the less "
        "probable a token has become.",
        _KL,
    ),
}

LEARNED = {"critic": ("learned",)}


class PPOConfig(OnlineConfig):
    """Proximal policy optimisation; see rlhf/algorithms/ppo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-prompts", "tuning": "full", "learning_rate": 1e-4, "value_learning_rate": 1e-3},
        "sums": {
            "data": "sums-prompts",
            "tuning": "full",
            "reward": "correct",
            "learning_rate": 3e-4,
            "value_learning_rate": 1e-3,
            "prompts_per_step": 256,
            "samples_per_prompt": 2,
            "max_new_tokens": 4,
            "steps": 120,
            "beta": 0.01,
            "microbatch_size": 512,
            "eval_every": 20,
            "eval_prompts": 256,
            "checkpoint_every": 60,
        },
        "other": {
            "data": "story-prompts",
            "reward": "positive",
            "learning_rate": 3e-5,
            "prompts_per_step": 16,
            "samples_per_prompt": 1,
            "max_new_tokens": 64,
            "microbatch_size": 16,
            "beta": 0.05,
            "eval_prompts": 16,
            "steps": 40,
        },
    }

    algorithm: Literal["ppo"] = "ppo"
    prompts_per_step: int = setting(
        32, "Different prompts in a step.", "few", unit="prompts", effect="less noise, slower steps", ge=1, le=4096
    )
    samples_per_prompt: int = setting(2, "Responses to each prompt.", "sampling", unit="responses", effect="slower steps", ge=1, le=1024)
    epochs: int = setting(
        2,
        "Times that a batch is gone through (inner epochs).",
        "optimisation",
        effect="more from each sample, further off-policy",
        ge=1,
        le=64,
    )
    target_kl: float = setting(
        0.0,
        "Stop the inner epochs of a step once the policy is further than this from the one that sampled; 0: never.",
        "optimisation",
        unit="nats / token",
        effect="more epochs are done",
        ge=0,
        le=10,
    )

    critic: Literal["learned", "none"] = setting(
        "learned", "Train a critic beside the policy, or go without.", "regularisation", choices=CRITICS
    )
    objective: Literal["clip", "penalty"] = setting(
        "clip", "What keeps an update near the policy that sampled: a clipped ratio, or a price on the distance.", "regularisation",
        choices=OBJECTIVES,
    )  # fmt: skip
    clip_range: float = setting(
        0.2, "The probability ratio is clipped to 1 ± this.", "regularisation", effect="larger policy changes",
        only={"objective": ("clip",)}, gt=0, lt=1,
    )  # fmt: skip
    dual_clip: float = setting(
        0.0,
        "Dual clip: a token with a negative advantage pushes at most this many times its advantage; 0: off, 3 in the paper.",
        "regularisation",
        effect="closer to the plain clip",
        only={"objective": ("clip",)},
        ge=0,
        le=100,
    )
    penalty_rule: Literal["fixed", "adaptive"] = setting(
        "adaptive", "Whether the penalty's coefficient follows the measured distance.", "regularisation", choices=PENALTY_RULES,
        only={"objective": ("penalty",)},
    )  # fmt: skip
    penalty_coef: float = setting(
        1.0, "Coefficient c of the penalty, at the start.", "regularisation", effect="smaller policy changes",
        only={"objective": ("penalty",)}, gt=0, le=1000,
    )  # fmt: skip
    penalty_target: float = setting(
        0.01, "Distance that a step should go: KL between the policies before and after it.", "regularisation", unit="nats / token",
        effect="larger policy changes", only={"objective": ("penalty",), "penalty_rule": ("adaptive",)}, gt=0, le=10,
    )  # fmt: skip
    value_clip_range: float = setting(
        0.2, "The critic's new estimate is clipped to the old one ± this.", "regularisation", effect="faster critic", only=LEARNED,
        gt=0, le=100,
    )  # fmt: skip
    value_coef: float = setting(
        0.5,
        "Weight of the critic's loss.",
        "regularisation",
        effect="faster critic, at the policy's cost where they share weights",
        only=LEARNED,
        ge=0,
        le=100,
    )
    value_learning_rate: float = setting(
        1e-3, "Learning rate of the value head.", "optimisation", effect="faster critic", only=LEARNED, gt=0, le=1
    )
    entropy_coef: float = setting(0.0, "Bonus for the entropy of the policy.", "regularisation", effect="more exploration", ge=0, le=10)
    gamma: float = setting(1.0, "Discount of later rewards.", "regularisation", effect="sees further ahead", ge=0, le=1)
    advantage_estimator: Literal["gae", "td", "n_step", "monte_carlo"] = setting(
        "gae", "How far ahead of a token its advantage, and the critic's target, look.", "regularisation", choices=ESTIMATORS, only=LEARNED
    )
    lam: float = setting(
        0.95, "GAE's λ: 0 trusts the critic, 1 the sampled return.", "regularisation", effect="less bias, more variance",
        only={**LEARNED, "advantage_estimator": ("gae",)}, ge=0, le=1,
    )  # fmt: skip
    n_steps: int = setting(
        4, "Sampled rewards before the critic's estimate takes over.", "regularisation", unit="tokens", effect="less bias, more variance",
        only={**LEARNED, "advantage_estimator": ("n_step",)}, ge=1, le=4096,
    )  # fmt: skip
    whiten_advantages: bool = setting(True, "Scale the advantages of a batch to mean 0 and deviation 1.", "regularisation")
    kl_in: Literal["reward", "loss"] = setting(
        "reward", "Where the pull towards the reference is: in each token's reward, or in the loss.", "regularisation", choices=KL_PLACES
    )
    kl_estimator: Literal["k1", "k2", "k3"] = setting(
        "k1", "Estimate of the KL to the reference from a sampled token.", "regularisation", choices=KL_ESTIMATORS
    )
    reward_at: Literal["earned", "end"] = setting(
        "earned",
        "Pay a reward at the tokens that earned it, where the reward says which they are (digits does), or all of it at the end.",
        "regularisation",
    )
    missing_eos_penalty: float = setting(
        0.0, "Taken off the reward of a response that reached the length limit without an end; 0: nothing.", "regularisation",
        effect="fewer cut responses", ge=0, le=100,
    )  # fmt: skip

    @property
    def responses_per_prompt(self) -> int:
        return self.samples_per_prompt

    @property
    def further_passes(self) -> int:
        """The critic's first estimate, and those that measure how far the policy has moved."""
        adaptive = self.objective == "penalty" and self.penalty_rule == "adaptive"
        return (self.critic == "learned") + adaptive + (self.epochs - 1 if self.target_kl else 0)

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if self.kl_in == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "k1 cannot be the KL in the loss: its gradient is that of log π, whose expectation is 0, so it would add noise and pull "
                "nowhere; choose k2 or k3, or put the KL into the reward"
            )
        if 0 < self.dual_clip <= 1:
            raise ValueError(
                f"dual_clip = {self.dual_clip:g} would cut tokens that have not moved: choose more than 1 (3 in the paper), or 0 for none"
            )
        if self.target_kl and self.epochs == 1:
            raise ValueError("target_kl stops the inner epochs early, and there is one only: raise epochs, or set target_kl to 0")
        return self
