"""A shared prompt goes through the model once: the same numbers and gradients as with each response by itself."""

from __future__ import annotations

import pytest
import torch

from rlhf import forward
from rlhf.algorithms import make_config
from rlhf.policy import Policy, load_pretrained
from rlhf.rollout import SamplingConfig, sample
from rlhf.types import Sequences


def policy(tuning):
    loaded = load_pretrained("story", device="cpu", dtype="float32")
    return Policy(loaded, make_config("ppo", model="story", tuning=tuning))


def experience(policy, group=4):
    prompts = ["Once upon a time", "Tom had a red ball. He", "The"]  # of different lengths: padding on the left
    rollout = sample(policy.model, policy.tokenizer, prompts, group, SamplingConfig(max_new_tokens=9), seed=3)
    return Sequences(rollout.prompt_ids, rollout.prompt_mask, rollout.response_ids, rollout.response_mask), rollout


def gradients(policy, parts, mask):
    policy.model.zero_grad()
    (forward.logprobs_of(parts, 0.7) * mask).sum().backward()
    return torch.cat([p.grad.flatten() for p in policy.trainable() if p.grad is not None])


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_shared_prompts_change_no_number_and_no_gradient(tuning):
    net = policy(tuning)
    sequences, rollout = experience(net)
    shuffled = sequences.rows(torch.randperm(12, generator=torch.Generator().manual_seed(0)))
    for rows in (sequences, shuffled):
        shared, whole = forward.response_parts(net.model, rows, states=True), [forward._whole(net.model, rows, states=True)]
        assert len(shared) == 2
        mask = rows.response_mask
        torch.testing.assert_close(forward.logprobs_of(shared)[mask], forward.logprobs_of(whole)[mask], rtol=0, atol=2e-5)
        torch.testing.assert_close(forward.states_of(shared)[mask], forward.states_of(whole)[mask], rtol=0, atol=2e-4)
        ours, theirs = gradients(net, shared, mask), gradients(net, whole, mask)
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    torch.testing.assert_close(net.logprobs(sequences)[rollout.response_mask], rollout.logprobs[rollout.response_mask], rtol=0, atol=1e-4)


def test_prompts_of_their_own_go_whole():
    net = policy("full")
    sequences, _ = experience(net, group=1)
    assert len(forward.response_parts(net.model, sequences)) == 1
    assert net.logprobs(sequences).shape == sequences.response_ids.shape


def test_padding_that_looks_like_a_token_is_not_taken_for_it():
    """The pad id is the end token: a prompt that begins with it is another prompt than one that is padded with it."""
    net = policy("full")
    ids = torch.tensor([[0, 5, 6]] * 8)
    mask = torch.tensor([[False, True, True]] * 4 + [[True, True, True]] * 4)
    answers = torch.tensor([[7, 8]] * 8)
    rows = Sequences(ids, mask, answers, torch.ones_like(answers, dtype=torch.bool))
    shared, whole = forward.response_parts(net.model, rows), [forward._whole(net.model, rows, states=False)]
    assert len(shared) == 2
    torch.testing.assert_close(forward.logprobs_of(shared), forward.logprobs_of(whole), rtol=0, atol=2e-5)
    assert (forward.logprobs_of(shared)[0] - forward.logprobs_of(shared)[4]).abs().max() > 1e-4
