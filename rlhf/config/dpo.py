"""Settings of direct preference optimisation; the algorithm is rlhf/algorithms/dpo.py."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from rlhf.config.base import Only, Variant, setting
from rlhf.config.offline import PairsConfig

DPO_VARIANTS = {
    "sigmoid": Variant(
        r"-(1-\epsilon)\log\sigma\big(\beta(h_w-h_l)\big)-\epsilon\log\sigma\big({-\beta}(h_w-h_l)\big)",
        "The DPO of the paper, where to start. With label smoothing it is conservative DPO, for labels of which some are wrong.",
        ("Rafailov et al. 2023, eq. 7", "https://arxiv.org/abs/2305.18290"),
    ),
    "hinge": Variant(
        r"\max\big(0,\;1-\beta(h_w-h_l)\big)",
        "Pairs that are already apart by 1/β stop pulling: for data where the margin, not the probability, matters.",
        ("SLiC-HF, Zhao et al. 2023, eq. 1; RSO, Liu et al. 2023", "https://arxiv.org/abs/2309.06657"),
    ),
    "ipo": Variant(
        r"\Big(h_w-h_l-\frac1{2\beta}\Big)^2",
        "The margin has a goal instead of growing for ever: for labels that never contradict one another, which DPO overfits.",
        ("Azar et al. 2023, eq. 17", "https://arxiv.org/abs/2310.12036"),
    ),
    "robust": Variant(
        r"\frac{-(1-\epsilon)\log\sigma(\beta\Delta)+\epsilon\log\sigma(-\beta\Delta)}{1-2\epsilon},\;\Delta=h_w-h_l",
        "Labels are flipped at a known rate ε: the loss is unbiased under that noise, at the price of more variance.",
        ("Chowdhury et al. 2024", "https://arxiv.org/abs/2403.00409"),
    ),
    "exo_pair": Variant(
        r"\mathrm{KL}\Big(\sigma(\beta\Delta)\,\Big\|\,1-\epsilon\Big)",
        "The reverse KL to the labels' distribution, which seeks one mode as RL does. Needs label smoothing above 0.",
        ("EXO, Ji et al. 2024, eq. 16", "https://arxiv.org/abs/2402.00856"),
    ),
    "nca_pair": Variant(
        r"-\log\sigma(\beta h_w)-\tfrac12\log\sigma(-\beta h_w)-\tfrac12\log\sigma(-\beta h_l)",
        "Keeps the chosen answer's own probability from falling, which plain DPO allows.",
        ("NCA, Chen et al. 2024", "https://arxiv.org/abs/2402.05369"),
    ),
    "bco_pair": Variant(
        r"-\log\sigma(\beta h_w)-\log\sigma(-\beta h_l)",
        "A classifier of good and bad answers whose logit is the implicit reward; each answer counts by itself.",
        ("BCO, Jung et al. 2024", "https://arxiv.org/abs/2404.04656"),
    ),
    "sppo_hard": Variant(
        r"\Big(h_w-\frac1{2\beta}\Big)^2+\Big(h_l+\frac1{2\beta}\Big)^2",
        "A step of self-play: both answers get a goal of their own, so that both cannot fall together.",
        ("SPPO, Wu et al. 2024, eq. 4.7 with hard labels", "https://arxiv.org/abs/2405.00675"),
    ),
    "aot": Variant(
        r"-\log\sigma\Big(\beta\big(\mathrm{sort}(\log\tfrac{\pi_\theta(y_w)}{\pi_\theta(y_l)})-"
        r"\mathrm{sort}(\log\tfrac{\pi_\mathrm{ref}(y_w)}{\pi_\mathrm{ref}(y_l)})\big)\Big)",
        "Aligns whole distributions by optimal transport instead of pair by pair: the batch is sorted on both sides first.",
        ("AOT, Melnyk et al. 2024, § 3", "https://arxiv.org/abs/2406.05882"),
    ),
    "aot_unpaired": Variant(
        r"-\log\sigma\Big(\beta\big(\mathrm{sort}(h_w)-\mathrm{sort}(h_l)\big)\Big)",
        "The same for answers that were never compared with one another.",
        ("AOT, Melnyk et al. 2024, § 3", "https://arxiv.org/abs/2406.05882"),
    ),
    "apo_zero": Variant(
        r"\sigma(-\beta h_w)+\sigma(\beta h_l)",
        "The chosen answers are better than what the model writes: they are made likelier, the rejected ones less likely.",
        ("APO, D'Oosterlinck et al. 2024, eq. 7", "https://arxiv.org/abs/2408.06266"),
    ),
    "apo_down": Variant(
        r"\sigma(\beta h_w)+\sigma\big({-\beta}(h_w-h_l)\big)",
        "Even the chosen answers are worse than what the model writes: both fall, the rejected ones further.",
        ("APO, D'Oosterlinck et al. 2024, eq. 8", "https://arxiv.org/abs/2408.06266"),
    ),
    "discopop": Variant(
        r"\begin{gathered}(1-m)\,\big({-\log}\,\sigma(z)\big)+m\,e^{-z}\\z=\beta(h_w-h_l),\quad m=\sigma(z/\tau)\end{gathered}",
        "Found by a language model's search: logistic for wrong pairs, exponential for right ones. τ below 0.1 leaves a bump at 0.",
        ("DiscoPOP, Lu et al. 2024, eq. 5", "https://arxiv.org/abs/2406.08414"),
    ),
    "sigmoid_norm": Variant(
        r"-\log\sigma\Big(\beta\big(\tfrac{h_w}{|y_w|}-\tfrac{h_l}{|y_l|}\big)\Big)",
        "DPO on means over tokens: longer answers no longer weigh more. β is then some ten times larger.",
        ("Tülu 3, Lambert et al. 2024, eq. 6", "https://arxiv.org/abs/2411.15124"),
    ),
    "kto": Variant(
        r"\begin{gathered}\tfrac12\big[\lambda_D\,\sigma(\beta(z-h_w))+\lambda_U\,\sigma(\beta(h_l-z))\big]\\"
        r"z=\max\big(0,\mathbb E[\log\tfrac{\pi_\theta(y'\mid x)}{\pi_\mathrm{ref}(y'\mid x)}]\big)\end{gathered}",
        "Only good or bad is known, not which of two: gains and losses against the KL z, as people weigh them; y′ answer other prompts.",
        ("KTO, Ethayarajh et al. 2024, eq. 7", "https://arxiv.org/abs/2402.01306"),
    ),
    "simpo": Variant(
        r"-\log\sigma\Big(\tfrac\beta{|y_w|}\log\pi_\theta(y_w)-\tfrac\beta{|y_l|}\log\pi_\theta(y_l)-\gamma\Big)",
        "No reference in memory, and no reward for length. β around 2, and a small learning rate: nothing holds the model back.",
        ("SimPO, Meng et al. 2024, eq. 6", "https://arxiv.org/abs/2405.14734"),
    ),
    "orpo": Variant(
        r"\begin{gathered}-\tfrac1{|y_w|}\log\pi_\theta(y_w)-\beta\log\sigma\Big(\log\tfrac{\mathrm{odds}(y_w)}{\mathrm{odds}(y_l)}\Big)\\"
        r"\mathrm{odds}=\tfrac{p}{1-p},\quad p=\pi_\theta(y)^{1/|y|}\end{gathered}",
        "Fine-tuning and preference in one stage, without a reference: where there is no SFT model to start from.",
        ("ORPO, Hong et al. 2024, eqs. 4, 6, 7", "https://arxiv.org/abs/2403.07691"),
    ),
    "cpo": Variant(
        r"-\log\sigma\Big(\beta\log\tfrac{\pi_\theta(y_w)}{\pi_\theta(y_l)}\Big)-\alpha\,\tfrac1{|y_w|}\log\pi_\theta(y_w)",
        "DPO without the reference, held by the likelihood of the chosen answers instead.",
        ("CPO, Xu et al. 2024, eqs. 3 to 5", "https://arxiv.org/abs/2401.08417"),
    ),
}
DIVERGENCE_CHOICES = {
    "reverse_kl": Variant(
        r"h=\log\tfrac{\pi_\theta}{\pi_\mathrm{ref}}",
        "As in DPO; seeks a mode.",
        ("f-DPO, Wang et al. 2024", "https://arxiv.org/abs/2309.16240"),
    ),
    "forward_kl": Variant(
        r"h=1-\tfrac{\pi_\mathrm{ref}}{\pi_\theta}",
        "Covers all that the reference writes: more variety, smaller reward.",
        ("f-DPO, Wang et al. 2024, table 1", "https://arxiv.org/abs/2309.16240"),
    ),
    "js_divergence": Variant(
        r"h=\log\tfrac{2\pi_\theta}{\pi_\theta+\pi_\mathrm{ref}}",
        "Between the two; the paper's best balance of reward and variety.",
        ("f-DPO, Wang et al. 2024, table 1", "https://arxiv.org/abs/2309.16240"),
    ),
    "alpha_divergence": Variant(
        r"h=\tfrac{(\pi_\theta/\pi_\mathrm{ref})^{\alpha-1}-1}{\alpha-1}",
        "A dial from forward KL (α = 0) to reverse KL (α = 1).",
        ("f-DPO, Wang et al. 2024, table 1", "https://arxiv.org/abs/2309.16240"),
    ),
}

REFERENCE_FREE = ("simpo", "orpo", "cpo")
WITH_REFERENCE: Only = {"variant": tuple(name for name in DPO_VARIANTS if name not in REFERENCE_FREE)}
SMOOTHED: Only = {"variant": ("sigmoid", "robust", "exo_pair", "aot", "aot_unpaired", "simpo", "cpo")}
WITH_DIVERGENCE: Only = {"variant": ("sigmoid", "hinge", "ipo", "robust", "exo_pair", "discopop", "sigmoid_norm")}
SORTED = ("aot", "aot_unpaired")


class DPOConfig(PairsConfig):
    """Direct preference optimisation; see rlhf/algorithms/dpo.py."""

    PRESETS: ClassVar = {
        "story": {"data": "story-pairs", "tuning": "full", "learning_rate": 2e-4, "steps": 40, "append_eos": False},
        "sums": {"data": "sums-pairs", "tuning": "full", "learning_rate": 1e-4},
        "other": {"data": "story-pairs", "learning_rate": 5e-5, "microbatch_size": 8, "pairs_per_step": 8, "eval_prompts": 32},
    }

    CHOICE_DEFAULTS: ClassVar = {
        "variant": {
            "exo_pair": {"label_smoothing": 1e-3},
            "robust": {"label_smoothing": 0.1},
            "sigmoid_norm": {"beta": 2.0},
            "simpo": {"beta": 2.0},
        }
    }

    algorithm: Literal["dpo"] = "dpo"
    variant: Literal[
        "sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down",
        "discopop", "sigmoid_norm", "kto", "simpo", "orpo", "cpo",
    ] = setting("sigmoid", "Which loss.", "few", choices=DPO_VARIANTS)  # fmt: skip
    beta: float = setting(
        0.1, "How strongly the implicit reward is tied to the reference.", "few", effect="closer to the reference", gt=0, le=100
    )
    append_eos: bool = setting(True, "Put the end-of-text token after each answer; off where answers are cut off mid-way.", "data")
    label_smoothing: float = setting(
        0.0,
        "Assumed share of pairs that are labelled the wrong way round.",
        "regularisation",
        effect="less trust in the labels",
        only=SMOOTHED,
        ge=0,
        lt=0.5,
    )
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = setting(
        "reverse_kl",
        "Divergence that holds the policy to the reference.",
        "regularisation",
        only=WITH_DIVERGENCE,
        choices=DIVERGENCE_CHOICES,
    )
    f_alpha_divergence_coef: float = setting(
        0.5, "α of the α-divergence.", "regularisation", only={**WITH_DIVERGENCE, "f_divergence_type": ("alpha_divergence",)}, ge=0, le=1
    )
    average_log_prob: bool = setting(
        False, "Average log-probabilities over an answer's tokens instead of summing them.", "regularisation", only={"variant": ("ipo",)}
    )
    discopop_tau: float = setting(
        0.05, "How sharply the loss changes from logistic to exponential.", "regularisation", only={"variant": ("discopop",)}, gt=0, le=10
    )
    simpo_gamma: float = setting(
        0.5,
        "γ: by how much the chosen answer's reward should lead.",
        "regularisation",
        effect="larger margins",
        only={"variant": ("simpo",)},
        ge=0,
        le=10,
    )
    cpo_alpha: float = setting(
        1.0,
        "Weight of the chosen answers' likelihood.",
        "regularisation",
        effect="more imitation",
        only={"variant": ("cpo",)},
        ge=0,
        le=100,
    )
    desirable_weight: float = setting(1.0, "Weight of chosen answers.", "regularisation", only={"variant": ("kto",)}, ge=0, le=100)
    undesirable_weight: float = setting(1.0, "Weight of rejected answers.", "regularisation", only={"variant": ("kto",)}, ge=0, le=100)
    ld_alpha: float = setting(
        1.0,
        "Weight of the tokens by which one answer is longer than the other (LD-DPO); 1: all tokens count the same.",
        "regularisation",
        effect="more reward for length",
        ge=0,
        le=1,
    )
    use_weighting: bool = setting(
        False, "Weigh each pair by how likely the policy would write it itself (WPO): closer to learning on-policy.", "regularisation"
    )
    sync_ref_model: bool = setting(
        False, "Let the reference follow the policy (TR-DPO), so that it may move further.", "regularisation", only=WITH_REFERENCE
    )
    ref_model_sync_steps: int = setting(
        10,
        "Steps between two renewals of the reference.",
        "regularisation",
        unit="steps",
        only={"sync_ref_model": (True,)},
        ge=1,
        le=100_000,
    )
    ref_model_mixup_alpha: float = setting(
        0.6, "Share of the policy in the renewed reference; 1: it becomes the policy.", "regularisation", effect="a faster reference",
        only={"sync_ref_model": (True,)}, gt=0, le=1,
    )  # fmt: skip

    @property
    def needs_reference(self) -> bool:
        return self.variant not in REFERENCE_FREE

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.variant == "exo_pair" and not self.label_smoothing:
            raise ValueError("exo_pair compares with the labels' distribution, so label_smoothing must be above 0: the paper takes 0.001")
        if self.variant in SORTED and self.pairs_per_step > self.microbatch_size:
            raise ValueError(
                f"{self.variant} sorts the whole batch, so it must fit into one microbatch: raise microbatch_size to {self.pairs_per_step}"
            )
        if self.variant in SORTED and self.use_weighting:
            raise ValueError(f"{self.variant} sorts the batch, so that no loss belongs to one pair: turn use_weighting off")
        if self.sync_ref_model and self.tuning == "lora" and self.ref_model_mixup_alpha < 1:
            raise ValueError(
                "a mixture of two LoRA adapters is no LoRA adapter: set ref_model_mixup_alpha to 1 (the reference becomes the policy), "
                "or train all weights"
            )
        return self
