"""PPO's variants: what their settings refuse, where rewards land, exact resumption, and the formula view against the engine."""

from __future__ import annotations

import pytest
import torch

from pages.components import formula_ppo
from rlhf.algorithms import make_config
from rlhf.config import PPOConfig
from rlhf.errors import ConfigError, RewardError
from rlhf.events import Checkpoint, Failed, Sample, Step
from rlhf.experience import earned_rewards
from rlhf.preferences import Dataset, Prompt
from rlhf.rewards import REWARDS, Context, RewardFunction, RewardMix, Scored, register
from rlhf.train import train

SUMS = [(a, b) for a in (10, 24, 37) for b in (11, 26, 45, 49)]
DATA = Dataset(tuple(Prompt(f"{a}+{b}=", f"{a + b:03d}") for a, b in SUMS), (), "prompts", "test")
VARIANTS = {
    "gae": {},
    "td": {"advantage_estimator": "td", "beta": 0.3},
    "n_step": {"advantage_estimator": "n_step", "n_steps": 2, "gamma": 0.9},
    "monte_carlo": {"advantage_estimator": "monte_carlo", "gamma": 0.9},
    "actor only": {"critic": "none"},
    "penalty": {"objective": "penalty", "epochs": 3},
    "fixed penalty": {"objective": "penalty", "penalty_rule": "fixed"},
    "dual clip": {"dual_clip": 1.01, "epochs": 4},
    "k3 in the reward": {"kl_estimator": "k3", "beta": 0.5},
    "k2 in the loss": {"kl_in": "loss", "kl_estimator": "k2", "beta": 0.5},
    "process reward": {"reward": "digits,correct:0.5"},
    "missing end": {"missing_eos_penalty": 0.5, "max_new_tokens": 3},
}


def configure(**fields) -> PPOConfig:
    small = {"model": "sums", "device": "cpu", "steps": 2, "prompts_per_step": 4, "samples_per_prompt": 2, "sample_prompts": 4}
    return PPOConfig(**{**small, "eval_every": 0, "learning_rate": 3e-3, **fields})


def run(config, folder=None, **more):
    events = []
    for event in train(config, DATA, **more):
        assert not isinstance(event, Failed), event
        if isinstance(event, Checkpoint) and folder is not None:
            event.save(folder / ("last" if event.resumable else f"step-{event.step}"))
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kl_in": "loss"}, "expectation is 0"),
        ({"dual_clip": 0.5}, "more than 1"),
        ({"target_kl": 0.1, "epochs": 1}, "raise epochs"),
        ({"critic": "none", "lam": 0.5}, "critic learned"),
        ({"critic": "none", "value_coef": 0.1}, "critic learned"),
        ({"critic": "none", "advantage_estimator": "td"}, "critic learned"),
        ({"objective": "penalty", "dual_clip": 3.0}, "objective clip"),
        ({"objective": "penalty", "clip_range": 0.1}, "objective clip"),
        ({"penalty_coef": 3.0}, "objective penalty"),
        ({"objective": "penalty", "penalty_rule": "fixed", "penalty_target": 0.1}, "penalty_rule adaptive"),
        ({"advantage_estimator": "td", "lam": 0.5}, "advantage_estimator gae"),
        ({"n_steps": 2}, "advantage_estimator n_step"),
    ],
)
def test_contradictions_are_refused_with_the_reason(fields, message):
    with pytest.raises(ConfigError, match=message):
        make_config("ppo", **fields)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_formula_view_works_out_what_the_engine_recorded(name):
    """Every token's reward and return of every variant, from its parts."""
    config = configure(**VARIANTS[name])
    settings = config.model_dump()
    seen = 0
    for event in run(config):
        if not isinstance(event, Sample) or event.record["split"] != "train":
            continue
        for response in event.record["responses"]:
            for t in range(len(response["tokens"]["ids"])):
                reward = formula_ppo.reward_terms(response, t, settings)
                assert reward.total == pytest.approx(reward.recorded, abs=1e-4)
                target = formula_ppo.return_terms(response, t, settings)
                assert target.target == pytest.approx(target.recorded, abs=2e-4)
                assert (target.value is None) == (config.critic == "none")
                seen += 1
    assert seen > 20


def test_the_adaptive_coefficient_moves_and_survives_a_resumption(tmp_path):
    config = configure(objective="penalty", penalty_target=1e-6, steps=3)
    whole = [e.metrics for e in run(config) if isinstance(e, Step) and e.step]
    assert [m["policy/penalty_coef"] for m in whole] == [1.0, 2.0, 4.0]  # each step goes further than a millionth of a nat
    assert all(m["policy/approxkl_after"] > 1e-6 for m in whole)
    seen: list[int] = []
    for event in train(config, DATA, interrupted=lambda: len(seen) == 2):
        if isinstance(event, Step) and event.step:
            seen.append(event.step)
        if isinstance(event, Checkpoint) and event.resumable:
            event.save(tmp_path / "last")
    (rest,) = [e.metrics for e in run(config, resume=tmp_path / "last") if isinstance(e, Step) and e.step]
    assert seen == [1, 2] and rest["policy/penalty_coef"] == 4.0 and rest["loss"] == whole[-1]["loss"]


def test_the_inner_epochs_stop_at_the_target():
    def epochs(target):
        return [e.metrics["epochs"] for e in run(configure(epochs=3, target_kl=target)) if isinstance(e, Step) and e.step]

    assert epochs(1e-6) == [1, 1] and epochs(10.0) == [3, 3]


def test_each_right_digit_earns_its_share_at_its_token():
    """Answer 085: of 0, 9, 5 and the end the first and third are right. A mix: digits ·2 by token, correct (0) at the end."""
    mix = RewardMix(configure(reward="digits:2,correct").reward)
    (scored,) = mix([Context("39+46=", "095", "085", 4, True, ("0", "9", "5", "<end>"))])
    assert scored.parts == {"digits": pytest.approx(2 / 3), "correct": 0.0}
    assert scored.earned == pytest.approx((2 / 3, 0, 2 / 3, 0)) and scored.at_end == pytest.approx(0)
    right, short = mix([Context("", "085", "085", 3, True), Context("", "08", "085", 2, False, ("08",))])
    assert right.total == pytest.approx(3) and right.at_end == pytest.approx(1)
    assert short.earned == pytest.approx((4 / 3,))  # one token of two characters


def test_earned_rewards_and_the_end():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    at_end, earned = earned_rewards([Scored(1.5, {}, (0.25, 0.0, 0.25)), Scored(0.5, {}, (0.5, 0.0))], mask)
    assert at_end.tolist() == [1.0, 0.0] and earned is not None
    assert earned.tolist() == [[0.25, 0.0, 0.25], [0.5, 0.0, 0.0]]
    assert earned_rewards([Scored(1.0, {}), Scored(2.0, {})], mask)[1] is None


def test_a_reward_by_token_must_have_a_number_for_each(monkeypatch):
    monkeypatch.setattr("rlhf.rewards.REWARDS", dict(REWARDS))
    register(RewardFunction("two-numbers", "Two numbers for whatever response.", lambda context, options: [1.0, 2.0]))
    mix = RewardMix(configure(reward="two-numbers").reward)
    assert mix([Context("", "ab", None, 2, True)])[0].earned == (1.0, 2.0)
    with pytest.raises(RewardError, match="2 numbers for a response of 3 tokens"):
        mix([Context("", "abc", None, 3, True)])


def test_totals_are_all_that_grpo_sees():
    """The same rewards by token or at the end: nothing changes for an algorithm that knows only totals."""
    config = make_config("grpo", model="sums", device="cpu", steps=1, prompts_per_step=4, group_size=4, reward="digits", eval_every=0)
    (step,) = [e for e in train(config, DATA) if isinstance(e, Step) and e.step]
    assert step.metrics["reward"] == pytest.approx(step.metrics["reward/digits"])
