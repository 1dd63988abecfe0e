"""A shared prompt goes through the model once: the same numbers and gradients as with each response by itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rlhf import forward, llama
from rlhf.algorithms import make_config
from rlhf.policy import Policy, load_pretrained
from rlhf.rollout import SamplingConfig, sample
from rlhf.types import Sequences
from tests.unit.test_decode import TINY, tiny


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


@pytest.fixture(params=["own forward pass", "the model's"])
def way(request, monkeypatch):
    """Both ways through a model: packed, and through transformers, as models go that are not like Llama. Gives the number of parts."""
    if request.param == "the model's":
        monkeypatch.setattr(llama, "known", lambda model: None)
        return 2
    return 1


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_shared_prompts_change_no_number_and_no_gradient(tuning, way):
    net = policy(tuning)
    sequences, rollout = experience(net)
    shuffled = sequences.rows(torch.randperm(12, generator=torch.Generator().manual_seed(0)))
    for rows in (sequences, shuffled):
        shared, whole = forward.response_parts(net.model, rows, states=True), [forward._whole(net.model, rows, states=True)]
        assert len(shared) == way
        mask = rows.response_mask
        torch.testing.assert_close(forward.logprobs_of(shared)[mask], forward.logprobs_of(whole)[mask], rtol=0, atol=2e-5)
        torch.testing.assert_close(forward.states_of(shared)[mask], forward.states_of(whole)[mask], rtol=0, atol=2e-4)
        ours, theirs = gradients(net, shared, mask), gradients(net, whole, mask)
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
        torch.testing.assert_close(forward.entropies_of(shared, 0.7)[mask], forward.entropies_of(whole, 0.7)[mask], rtol=0, atol=1e-4)
        best, expected = (forward.of_logits(parts, lambda logits: logits.argmax(-1))[mask] for parts in (shared, whole))
        assert torch.equal(best, expected)
    torch.testing.assert_close(net.logprobs(sequences)[rollout.response_mask], rollout.logprobs[rollout.response_mask], rtol=0, atol=1e-4)


@pytest.mark.parametrize("group", [1, 2])
def test_few_responses_to_a_prompt_and_uneven_lengths(way, group):
    """Prompts of their own, pairs; responses of 0 to T tokens, of which padding is not read."""
    net = policy("full")
    sequences, _ = experience(net, group)
    counts = torch.arange(len(sequences)) * 9 // (len(sequences) - 1)
    sequences = replace(sequences, response_mask=torch.arange(9) < counts[:, None])
    mask = sequences.response_mask
    parts, whole = forward.response_parts(net.model, sequences, states=True), [forward._whole(net.model, sequences, states=True)]
    assert len(parts) == 1
    torch.testing.assert_close(forward.logprobs_of(parts)[mask], forward.logprobs_of(whole)[mask], rtol=0, atol=2e-5)
    torch.testing.assert_close(forward.states_of(parts)[mask], forward.states_of(whole)[mask], rtol=0, atol=2e-4)
    ours, theirs = gradients(net, parts, mask), gradients(net, whole, mask)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize("name", TINY)
def test_other_architectures(name):
    model = tiny(TINY[name]).requires_grad_(True)
    net = SimpleNamespace(
        model=model, tokenizer=load_pretrained("story", device="cpu").tokenizer, trainable=lambda: list(model.parameters())
    )
    sequences, _ = experience(net)
    mask = sequences.response_mask
    parts, whole = forward.response_parts(model, sequences), [forward._whole(model, sequences, states=False)]
    torch.testing.assert_close(forward.logprobs_of(parts)[mask], forward.logprobs_of(whole)[mask], rtol=0, atol=1e-4)
    ours, theirs = gradients(net, parts, mask), gradients(net, whole, mask)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def test_a_norm_has_its_gradient():
    x, weight = torch.randn(5, 7, dtype=torch.float64, requires_grad=True), torch.randn(7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: llama.RMSNorm.apply(x, w, 1e-3), (x, weight))


def test_padding_that_looks_like_a_token_is_not_taken_for_it(way):
    """The pad id is the end token: a prompt that begins with it is another prompt than one that is padded with it."""
    net = policy("full")
    ids = torch.tensor([[0, 5, 6]] * 8)
    mask = torch.tensor([[False, True, True]] * 4 + [[True, True, True]] * 4)
    answers = torch.tensor([[7, 8]] * 8)
    rows = Sequences(ids, mask, answers, torch.ones_like(answers, dtype=torch.bool))
    shared, whole = forward.response_parts(net.model, rows), [forward._whole(net.model, rows, states=False)]
    assert len(shared) == way
    torch.testing.assert_close(forward.logprobs_of(shared), forward.logprobs_of(whole), rtol=0, atol=2e-5)
    assert (forward.logprobs_of(shared)[0] - forward.logprobs_of(shared)[4]).abs().max() > 1e-4
