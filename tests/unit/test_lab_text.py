"""Writing a text as a decision process: returns by hand and as PPO has them, the critic as PPO asked it, and gymnasium's own checks."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlhf import advantages
from rlhf.algorithms import make_config
from rlhf.compare import parse_terms
from rlhf.errors import DataError, ModelError, RewardError
from rlhf.labs import TextGenerationEnv
from rlhf.labs.text_generation import EXAMPLE, ID
from rlhf.labs.text_world import VALUE_HEAD, returns, right_answer, state_values, text_world
from rlhf.policy import Policy, load_pretrained
from rlhf.preferences import Prompt
from rlhf.rewards import RewardMix
from rlhf.rollout import SamplingConfig, next_token, sample
from rlhf.types import Sequences

RIGHT = (1, 9, 6, 0)  # 0 8 5 and the end


@pytest.fixture(scope="module")
def sums():
    return load_pretrained("sums")


@pytest.fixture
def world(sums):
    return text_world(sums, Prompt("37+48=", right_answer("37+48=")), 4)


def mix(reward: str) -> RewardMix:
    return RewardMix(parse_terms(reward))


# ---------------------------------------------------------------- returns


def test_a_reward_at_the_end_is_carried_back_by_hand():
    assert returns([0, 0, 0, 1], 0.9) == pytest.approx([0.729, 0.81, 0.9, 1])
    assert returns([1 / 3, 0, 1 / 3, 0], 0.5) == pytest.approx([1 / 3 + 1 / 12, 1 / 6, 1 / 3, 0])
    assert returns([1, 2, 3], 0).tolist() == [1, 2, 3] and returns([1, 2, 3], 1).tolist() == [6, 5, 3] and len(returns([], 0.9)) == 0


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.99, 1.0])
def test_returns_are_the_engines_monte_carlo_returns(gamma):
    rewards = np.random.default_rng(0).normal(size=9)
    given = torch.tensor(rewards)[None]
    _advantages, theirs = advantages.monte_carlo(given, torch.zeros_like(given), torch.ones_like(given, dtype=torch.bool), gamma)
    assert returns(rewards, gamma) == pytest.approx(theirs[0].numpy(), abs=1e-12)
    assert returns(rewards, gamma)[0] == pytest.approx(sum(gamma**t * r for t, r in enumerate(rewards)))


# ---------------------------------------------------------------- the world


@pytest.mark.parametrize(("prompt", "answer"), [("37+48=", "085"), (" 99+99=", "198"), ("1+1=2", None), ("hello", None), ("37-1=", None)])
def test_the_answer_to_a_sum(prompt, answer):
    assert right_answer(prompt) == answer


def test_a_text_ends_with_the_end_token_or_at_the_limit(world):
    assert [world.end(RIGHT[:n]) for n in range(5)] == ["", "", "", "", "end"]
    assert world.end((1, 9, 6, 3)) == "length" and world.response(RIGHT) == "085" and world.response((1, 9, 6, 3)) == "0852"


def test_impossible_tokens_are_cut_off(world):
    assert world.possible([1, 0, 6]) == (1, 0) and world.possible([1, 13, 6]) == (1,) and world.possible([-1]) == ()
    assert world.possible([1] * 9) == (1, 1, 1, 1) and world.possible(RIGHT) == RIGHT


def test_the_same_answer_paid_at_the_end_and_by_token(world):
    assert world.rewards(RIGHT, mix("correct")) == [0, 0, 0, 1]
    assert world.rewards(RIGHT, mix("digits"), by_token=True) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert world.rewards(RIGHT, mix("digits")) == pytest.approx([0, 0, 0, 1])
    wrong = (1, 8, 6, 0)  # 0 7 5: the second digit is wrong
    assert world.rewards(wrong, mix("correct")) == [0, 0, 0, 0]
    assert world.rewards(wrong, mix("digits"), by_token=True) == pytest.approx([1 / 3, 0, 1 / 3, 0])
    both = world.rewards(RIGHT, mix("correct:2,digits:3"), by_token=True)
    assert both == pytest.approx([1, 1, 1, 2]), "what no token has earned comes at the last"


def test_a_reward_that_needs_an_answer_says_so(sums):
    with pytest.raises(DataError, match="right answer"):
        text_world(sums, Prompt("hello"), 4).rewards(RIGHT, mix("correct"))
    with pytest.raises(DataError, match="context"):
        text_world(sums, Prompt("1+1=" * 8), 4)


@pytest.mark.parametrize("tokens", [RIGHT, RIGHT[:2], ()])
def test_the_critic_is_the_one_that_ppo_asks(sums, world, tmp_path, tokens):
    """A value head with weights by chance, saved and asked as PPO does it; what has ended is worth 0."""
    policy = Policy(load_pretrained("sums"), make_config("ppo", model="sums"))
    policy.add_value_head()
    torch.nn.init.normal_(policy.value_head.weight, generator=torch.Generator().manual_seed(0))
    policy.value_head.bias.data.fill_(0.5)
    policy.save(tmp_path)
    found = state_values(world, tokens, sums, tmp_path)
    prompt, whole = torch.tensor([world.prompt_ids]), torch.tensor([[*tokens, *(9,) * (5 - len(tokens))]])
    with torch.no_grad():  # V(s_t) must not depend on what comes after s_t
        _logprobs, values, _ = policy.logprobs_and_values(Sequences(prompt, prompt >= 0, whole, whole >= 0))
    expected = values[0, : len(tokens) + 1].numpy()
    if tokens == RIGHT:
        expected[-1] = 0
    assert found == pytest.approx(expected, abs=1e-5) and np.any(found)
    (tmp_path / VALUE_HEAD).unlink()
    with pytest.raises(ModelError, match="no critic"):
        state_values(world, tokens, sums, tmp_path)


def test_a_critic_of_another_model_is_refused(sums, world, tmp_path):
    policy = Policy(load_pretrained("story"), make_config("ppo", model="story"))
    policy.add_value_head()
    policy.save(tmp_path / "story")
    shutil.copy(tmp_path / "story" / VALUE_HEAD, tmp_path / VALUE_HEAD)
    with pytest.raises(ModelError, match="another model"):
        state_values(world, (), sums, tmp_path)


# ---------------------------------------------------------------- the environment


@pytest.mark.parametrize(
    "settings",
    [{"model": "sums"}, {"model": "story", "reward": "negative", "max_new_tokens": 5}, {"reward": "digits", "by_token": True}],
    ids=["sums", "story", "by token"],
)
def test_gymnasium_finds_nothing_to_object_to(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, render_mode="ansi", **settings).unwrapped
        check_env(env)


def test_the_example_runs_as_it_stands():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(EXAMPLE, "example", "exec"), {})
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 10
    prompt, _bar, written = printed.getvalue().partition("|")
    response, _space, reward = written.strip().partition(" reward ")
    assert prompt == "37+48=" and float(reward) == float(response.rstrip("∎") == "085")


def test_episodes_are_those_of_the_sampler(sums):
    """A response that the engine sampled, put in token by token, is the same text with the reward that the engine gives it."""
    env = TextGenerationEnv(sums, "correct")
    rollout = sample(sums.model, sums.tokenizer, ["37+48="], 12, SamplingConfig(max_new_tokens=4), seed=0)
    rewards = set()
    for i, text in enumerate(rollout.texts):
        observation, _info = env.reset(options={"prompt": "37+48="})
        ids = rollout.response_ids[i][rollout.response_mask[i]].tolist()
        for t, token in enumerate(ids):
            offered = next_token(sums.model, sums.tokenizer, [int(n) for n in observation["tokens"][: observation["length"]]], 13)
            assert env.policy()[offered.ids] == pytest.approx(offered.probabilities, abs=1e-6)
            observation, reward, terminated, truncated, info = env.step(token)
            assert (terminated or truncated) == (t == len(ids) - 1) and (reward == 0 or terminated or truncated)
        assert info["response"] == text and terminated == bool(rollout.finished[i]) and reward == float(text == "085")
        rewards.add(reward)
    assert rewards == {0.0, 1.0}, "both kinds must be among them"


def test_by_token_pays_the_same_sum(sums):
    for tokens in (RIGHT, (1, 8, 6, 3)):
        paid = {}
        for by_token in (False, True):
            env = TextGenerationEnv(sums, "digits:3,correct", by_token=by_token)
            env.reset(options={"prompt": "37+48="})
            paid[by_token] = [env.step(token)[1] for token in tokens]
        assert sum(paid[True]) == pytest.approx(sum(paid[False])) and paid[False][:3] == [0, 0, 0]
        assert paid[True][:3] == pytest.approx([1, float(tokens[1] == 9), 1])


def test_prompts_come_by_the_seed_and_from_those_given(sums):
    env = TextGenerationEnv(sums, prompts=["11+22=", "33+44="])
    assert {env.reset(seed=seed)[1]["prompt"] for seed in range(8)} == {"11+22=", "33+44="}
    shipped = TextGenerationEnv(sums)
    assert shipped.reset(seed=3)[1]["prompt"] == shipped.reset(seed=3)[1]["prompt"]
    assert len({shipped.reset(seed=seed)[1]["prompt"] for seed in range(5)}) > 1
    assert shipped.max_new_tokens == 4 and shipped.reset()[1]["answer"]


def test_what_is_wrong_is_said(sums):
    env = TextGenerationEnv(sums)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(1)
    with pytest.raises(DataError, match="right answer"):
        env.reset(options={"prompt": "hello"})
    with pytest.raises(DataError, match="context"):
        env.reset(options={"prompt": "11+11=" * 9})
    env.reset(options={"prompt": "37+48="})
    with pytest.raises(gymnasium.error.InvalidAction):
        env.step(13)
    env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(1)
    with pytest.raises(RewardError):
        TextGenerationEnv(sums, "no-such-reward").reset()
    with pytest.raises(DataError):
        TextGenerationEnv(sums, prompts=[])
