"""Short seeded runs on the embedded models must beat their start. Margins are half of what five seeds gave (docs/benchmarks.md)."""

import pytest

from rlhf.algorithms import make_config
from rlhf.config.dpo import DPO_VARIANTS
from rlhf.config.grpo import GRPO_VARIANTS
from rlhf.events import Failed, Step
from rlhf.preferences import load_dataset
from rlhf.train import train

pytestmark = pytest.mark.learning


def held_out(algorithm: str, **fields) -> tuple[dict[str, float], dict[str, float]]:
    """Held-out metrics of the untouched start and of the end."""
    config = make_config(algorithm, device="cpu", **fields)
    kind = "pairs" if algorithm == "dpo" else "prompts"
    found: list[dict[str, float]] = []
    for event in train(config, load_dataset(kind, config.data)):
        assert not isinstance(event, Failed), event
        if isinstance(event, Step) and any(key.startswith("eval/") for key in event.metrics):
            found.append(dict(event.metrics))
    return found[0], found[-1]


def test_grpo_learns_sums():
    before, after = held_out("grpo", model="sums", steps=60, eval_every=0)
    assert 0.3 <= before["eval/reward"] <= 0.55  # RL has work to do
    assert after["eval/reward"] > before["eval/reward"] + 0.08


def test_grpo_makes_stories_sad():
    before, after = held_out("grpo", model="story", reward="negative", steps=20, eval_every=0)
    assert before["eval/reward"] < -0.3
    assert after["eval/reward"] > before["eval/reward"] + 0.25
    assert after["eval/kl"] < 0.5


# over three seeds the least rise of any of them was 0.067 (ReMax), the usual one 0.15; half of the least is asked for
@pytest.mark.parametrize(
    "choice",
    [
        {"returns": "trajectory", "baseline": "none"},
        {"baseline": "running_mean"},
        {"returns": "trajectory", "baseline": "leave_one_out"},
        {"returns": "trajectory", "baseline": "leave_one_out", "epochs": 2, "importance_sampling_level": "sequence"},
        {"baseline": "value"},
        {"returns": "trajectory", "baseline": "greedy"},
        {"baseline": "batch", "epochs": 2},
    ],
    ids=["REINFORCE", "running mean", "RLOO", "RLOO, clipped by sequence", "A2C", "ReMax", "REINFORCE++"],
)
def test_reinforce_learns_sums(choice):
    size = {"prompts_per_step": 32, "samples_per_prompt": 8, "steps": 40, "warmup_steps": 10, "eval_every": 0, "variance_groups": 0}
    before, after = held_out("reinforce", model="sums", **size, **choice)
    assert after["eval/reward"] > before["eval/reward"] + 0.03


def test_rloo_makes_stories_sad():
    size = {"prompts_per_step": 8, "samples_per_prompt": 8, "max_new_tokens": 24, "steps": 12, "eval_every": 0, "eval_prompts": 48}
    rloo = {"returns": "trajectory", "baseline": "leave_one_out", "learning_rate": 3e-4, "variance_groups": 0}
    before, after = held_out("reinforce", model="story", reward="negative", **size, **rloo)
    assert after["eval/reward"] > before["eval/reward"] + 0.24  # three seeds rose by 0.49 to 0.58
    assert after["eval/kl"] < 0.5


def test_ppo_makes_stories_sad():
    before, after = held_out("ppo", model="story", reward="negative", steps=20, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.1
    assert after["eval/kl"] < 0.5


PPO_VARIANTS = {
    "actor only": {"critic": "none"},
    "penalty, fixed": {"objective": "penalty", "penalty_rule": "fixed"},
    "penalty, adaptive": {"objective": "penalty"},
    "td": {"advantage_estimator": "td"},
    "n_step": {"advantage_estimator": "n_step"},
    "monte_carlo": {"advantage_estimator": "monte_carlo"},
    "dual clip": {"dual_clip": 3.0},
    "k2 in the loss": {"kl_in": "loss", "kl_estimator": "k2"},
    "k3 in the loss": {"kl_in": "loss", "kl_estimator": "k3"},
    "target KL": {"target_kl": 0.01, "epochs": 4},
}


@pytest.mark.parametrize("variant", PPO_VARIANTS)
def test_every_variant_of_ppo_makes_stories_sad(variant):
    """Short answers, few steps, a high learning rate."""
    small = {"model": "story", "reward": "negative", "steps": 10, "max_new_tokens": 16, "learning_rate": 4e-4, "beta": 0.02}
    before, after = held_out("ppo", **small, eval_every=0, **PPO_VARIANTS[variant])
    assert after["eval/reward"] > before["eval/reward"] + 0.1


def test_ppo_learns_digits_from_rewards_at_their_tokens():
    before, after = held_out("ppo", model="sums", reward="digits", critic="none", prompts_per_step=64, steps=40, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.03


def test_rrhf_makes_stories_sad():
    before, after = held_out("rrhf", model="story", reward="negative", steps=12, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.2
    assert after["eval/kl"] < 0.5


def test_best_of_n_learns_sums():
    before, after = held_out("rrhf", model="sums", variant="best_of_n", steps=40, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.08


def test_dpo_learns_the_shipped_pairs():
    before, after = held_out("dpo", model="story", steps=14, eval_every=0)
    assert before["eval/rewards/accuracies"] == 0.5
    assert after["eval/rewards/accuracies"] > 0.75
    assert after["eval/rewards/margins"] > 0


def test_lora_learns_too():
    before, after = held_out("grpo", model="story", reward="negative", tuning="lora", learning_rate=2e-3, steps=12, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.1


def test_a_reward_model_learns_the_shipped_pairs():
    config = make_config("reward_model", model="story", steps=12, eval_every=0, eval_prompts=120)
    found = [
        event.metrics
        for event in train(config, load_dataset("pairs", config.data))
        if isinstance(event, Step) and "eval/accuracy" in event.metrics
    ]
    assert found[0]["eval/accuracy"] < 0.65 and found[-1]["eval/accuracy"] > 0.85


def test_sft_imitates_the_right_sums():
    config = make_config("sft", model="sums", steps=40, eval_every=0)
    found = [
        event.metrics
        for event in train(config, load_dataset("demonstrations", config.data))
        if isinstance(event, Step) and "eval/loss" in event.metrics
    ]
    assert found[-1]["eval/loss"] < 0.7 * found[0]["eval/loss"]


# ---------------------------------------------------------------- every variant


# apo_down lowers both answers; the others rank most of these pairs right from the start
GOES_BY_LOSS = ("apo_down", "simpo", "orpo", "cpo")


@pytest.mark.parametrize("variant", DPO_VARIANTS)
def test_every_dpo_variant_learns_sums(variant):
    settings = {"discopop_tau": 0.2} if variant == "discopop" else {}
    before, after = held_out(
        "dpo", model="sums", variant=variant, steps=30, learning_rate=5e-5 if variant == "simpo" else 3e-4, eval_every=0, eval_prompts=100,
        **settings,
    )  # fmt: skip
    assert after["eval/loss"] < before["eval/loss"]
    if variant not in GOES_BY_LOSS:
        assert before["eval/rewards/accuracies"] == 0.5
        assert after["eval/rewards/accuracies"] > 0.6


@pytest.mark.parametrize("variant", [name for name in GRPO_VARIANTS if name != "grpo"])
def test_every_grpo_variant_learns_sums(variant):
    """Two updates a batch, so that ratios leave 1; seen: +0.16 to +0.24 after 30 steps."""
    before, after = held_out("grpo", model="sums", variant=variant, steps=24, minibatches=2, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.06


@pytest.mark.parametrize("settings", [{"overlong_buffer": 2}, {"top_entropy_quantile": 0.5}, {"scale_rewards": "batch"}], ids=str)
def test_grpo_learns_with_its_further_settings(settings):
    before, after = held_out("grpo", model="sums", steps=24, eval_every=0, **settings)
    assert after["eval/reward"] > before["eval/reward"] + 0.06


@pytest.mark.parametrize(
    "settings",
    [{"ld_alpha": 0.5}, {"use_weighting": True}, {"sync_ref_model": True}, {"f_divergence_type": "js_divergence"}],
    ids=str,
)
def test_dpo_learns_with_its_further_settings(settings):
    before, after = held_out("dpo", model="sums", steps=30, learning_rate=3e-4, eval_every=0, eval_prompts=100, **settings)
    lead = {when: m["eval/logps/chosen"] - m["eval/logps/rejected"] for when, m in (("before", before), ("after", after))}
    assert lead["after"] > lead["before"] + 0.3  # a reference that follows takes the margins with it, so not these


def test_online_dpo_learns_sums():
    before, after = held_out("online_dpo", model="sums", steps=24, eval_every=0)
    assert after["eval/reward"] > before["eval/reward"] + 0.05
