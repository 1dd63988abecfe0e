"""Short seeded runs on the embedded models must beat their start. Margins are half of what five seeds gave (docs/benchmarks.md)."""

import pytest

from rlhf.algorithms import make_config
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
