"""Sampling is exact: the right distribution, the right log-probabilities, whatever else is in the batch."""

import pytest
import torch

from rlhf import ops
from rlhf.errors import DataError
from rlhf.policy import load_pretrained
from rlhf.rollout import Interrupted, SamplingConfig, draw, filter_logits, next_token, sample, score

PROMPTS = ["Once upon a time, there was a little girl named Lily.", "One day, Tom", "The dog"]


@pytest.fixture(scope="module")
def story():
    return load_pretrained("story", device="cpu")


@pytest.fixture(scope="module")
def sums():
    return load_pretrained("sums", device="cpu")


def full_forward(model, rollout, temperature):
    """The naive equivalent: one pass over prompt and response together."""
    ids = torch.cat([rollout.prompt_ids, rollout.response_ids], 1)
    mask = torch.cat([rollout.prompt_mask, torch.ones_like(rollout.response_mask)], 1).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, rollout.prompt_ids.shape[1] - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(-1, rollout.response_ids[..., None]).squeeze(-1), logits / temperature


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(24),
        SamplingConfig(24, temperature=0.7),
        SamplingConfig(24, temperature=1.3, top_p=0.8, top_k=50),
        SamplingConfig(24, stop=(".", "!")),  # rows end early and are dropped
    ],
)
def test_logprobs_equal_a_full_forward_pass(story, sampling):
    rollout = sample(story.model, story.tokenizer, PROMPTS, 6, sampling, seed=1)
    expected, logits = full_forward(story.model, rollout, sampling.temperature)
    mask = rollout.response_mask
    assert (rollout.logprobs - expected)[mask].abs().max() < 1e-4
    assert (rollout.entropies - ops.entropy(logits))[mask].abs().max() < 1e-3
    assert rollout.logprobs[~mask].eq(0).all()
    assert len(rollout) == 18 and rollout.group_size == 6


def test_rows_end_at_eos_and_padding_follows(sums):
    rollout = sample(sums.model, sums.tokenizer, ["37+48=", "10+11="], 16, SamplingConfig(6), seed=0)
    for text, ids, mask, finished in zip(rollout.texts, rollout.response_ids, rollout.response_mask, rollout.finished, strict=True):
        n = int(mask.sum())
        assert mask[:n].all() and not mask[n:].any()
        assert bool(finished) == (int(ids[n - 1]) == sums.tokenizer.eos_token_id)
        assert len(text) == n - int(finished)  # one token a character, and the end is not part of the text


def test_a_row_does_not_depend_on_the_others(story):
    together = sample(story.model, story.tokenizer, PROMPTS[:1], 8, SamplingConfig(16, stop=(".",)), seed=5)
    again = sample(story.model, story.tokenizer, PROMPTS[:1], 8, SamplingConfig(16, stop=(".",)), seed=5)
    assert together.texts == again.texts
    other = sample(story.model, story.tokenizer, PROMPTS[:1], 8, SamplingConfig(16, stop=(".",)), seed=6)
    assert together.texts != other.texts
    # the same luck row by row: a longer limit changes only what comes later
    longer = sample(story.model, story.tokenizer, PROMPTS[:1], 8, SamplingConfig(16), seed=5)
    assert longer.texts[0].startswith(together.texts[0][:-1].split(".")[0])


def test_stop_strings_end_a_response_and_are_cut_off(story):
    rollout = sample(story.model, story.tokenizer, PROMPTS, 8, SamplingConfig(40, stop=(".",)), seed=2)
    assert all("." not in text for text in rollout.texts)
    assert rollout.finished.float().mean() > 0.8


def test_the_draw_has_the_models_distribution():
    """100,000 evenly spread uniforms through the inverse CDF give each token its probability to 1e-4."""
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)) * 2
    n = 100_000
    uniforms = (torch.arange(n) + 0.5) / n
    ids, logprobs, entropies = draw(logits.expand(n, -1), uniforms, SamplingConfig())
    frequencies = torch.bincount(ids, minlength=50) / n
    assert (frequencies - logits[0].softmax(-1)).abs().max() < 1e-4
    assert torch.allclose(logprobs, logits[0].log_softmax(-1)[ids], atol=1e-5)
    assert torch.allclose(entropies[0], torch.distributions.Categorical(logits=logits[0]).entropy(), atol=1e-5)


def test_the_draw_never_takes_an_impossible_token():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    uniforms = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-24])
    ids, _, _ = draw(logits.expand(5, -1), uniforms, SamplingConfig())
    assert ids.tolist() == [1, 1, 3, 3, 3]


def test_top_k_and_top_p_by_hand():
    """Probabilities .5, .3, .15, .05: top-2 keeps .5 .3; top-p 0.6 keeps .5 .3 (the first alone is below 0.6)."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert filter_logits(logits, 2, 1.0).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, 0, 0.6).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, 0, 0.5).isfinite().tolist() == [[True, False, False, False]]


def test_interruption_leaves_at_once(story):
    with pytest.raises(Interrupted):
        sample(story.model, story.tokenizer, PROMPTS, 2, SamplingConfig(40), seed=0, interrupted=lambda: True)


@pytest.mark.parametrize("prompt", ["", "word " * 400])
def test_prompts_that_cannot_be_used_are_named(story, prompt):
    with pytest.raises(DataError) as error:
        sample(story.model, story.tokenizer, [prompt], 2, SamplingConfig(40), seed=0)
    assert error.value.do


def test_score_and_next_token_agree_with_the_model(story):
    scores = score(story.model, story.tokenizer, PROMPTS[0], " She was sad.")
    assert "".join(scores.strings) == " She was sad."
    ids = story.tokenizer(PROMPTS[0])["input_ids"]
    first = next_token(story.model, story.tokenizer, ids, k=2048)
    assert sum(first.probabilities) == pytest.approx(1, abs=1e-4)
    assert first.rest == pytest.approx(0, abs=1e-4)
    assert first.logprobs[first.ids.index(scores.ids[0])] == pytest.approx(scores.logprobs[0], abs=1e-4)
    assert first.entropy == pytest.approx(scores.entropies[0], abs=1e-3)
    assert next_token(story.model, story.tokenizer, ids, k=5).rest > 0
