"""Looking into a model: what is shown is what the model read and wrote, and going on by hand is sampling like any other."""

from __future__ import annotations

import pytest

from rlhf import explore
from rlhf.errors import DataError
from rlhf.policy import load_pretrained
from rlhf.rollout import SamplingConfig, encode_prompt, next_token, score

PROMPT = "37+48="


@pytest.fixture(scope="module")
def sums():
    return load_pretrained("sums")


def test_text_holds_prompt_and_answer_as_the_model_read_them(sums):
    (text,) = explore.write(sums, PROMPT, SamplingConfig(max_new_tokens=4), seed=0)
    assert "".join(text.strings[: text.start]) == PROMPT
    assert text.ids[: text.start] == tuple(encode_prompt(sums.tokenizer, PROMPT))
    assert text.finished and len(text.ids) == text.start + 4, "three digits and the end"
    assert text.logprobs[0] is None and text.entropies[0] is None, "nothing stands before the first token"


def test_numbers_are_those_of_a_full_forward_pass(sums):
    (text,) = explore.write(sums, PROMPT, SamplingConfig(max_new_tokens=3), seed=1)
    answer = "".join(text.strings[text.start :])
    scored = score(sums.model, sums.tokenizer, PROMPT, answer)
    assert text.logprobs[text.start :] == pytest.approx(scored.logprobs, abs=1e-4)
    assert text.entropies[text.start :] == pytest.approx(scored.entropies, abs=1e-4)
    first = next_token(sums.model, sums.tokenizer, list(text.ids[: text.start]), 13)
    assert text.entropies[text.start] == pytest.approx(first.entropy, abs=1e-4)
    assert text.logprobs[text.start] == pytest.approx(first.logprobs[first.ids.index(text.ids[text.start])], abs=1e-4)


@pytest.mark.parametrize("sampling", [SamplingConfig(4), SamplingConfig(4, temperature=0.7, top_p=0.9), SamplingConfig(4, top_k=3)])
def test_going_on_from_the_prompt_is_sampling(sums, sampling):
    """One answer, the same seed: the token-by-token loop and the batched sampler draw the same tokens."""
    (text,) = explore.write(sums, PROMPT, sampling, seed=3)
    start = text.start
    assert explore.go_on(sums, list(text.ids[:start]), start, sampling, seed=3) == text


def test_a_branch_keeps_what_stands_before_it(sums):
    (text,) = explore.write(sums, PROMPT, SamplingConfig(4), seed=0)
    nine = sums.tokenizer("9", add_special_tokens=False)["input_ids"][0]
    branch = explore.go_on(sums, [*text.ids[: text.start + 1], nine], text.start, SamplingConfig(4), seed=0)
    assert branch.ids[: text.start + 1] == text.ids[: text.start + 1] and branch.ids[text.start + 1] == nine


def test_a_branch_to_the_end_has_ended(sums):
    ids = [*encode_prompt(sums.tokenizer, PROMPT), sums.tokenizer.eos_token_id]
    text = explore.go_on(sums, ids, len(ids) - 1, SamplingConfig(4), seed=0)
    assert text.finished and list(text.ids) == ids


def test_the_context_is_respected(sums):
    ids = encode_prompt(sums.tokenizer, PROMPT) * 6
    assert len(explore.go_on(sums, ids[:30], 6, SamplingConfig(48), seed=0).ids) <= sums.context
    with pytest.raises(DataError, match="context"):
        explore.go_on(sums, ids[:32], 6, SamplingConfig(48), seed=0)


def test_prompt_that_does_not_fit_or_is_empty_is_refused(sums):
    for prompt in ("", PROMPT * 6):
        with pytest.raises(DataError):
            explore.write(sums, prompt, SamplingConfig(4), seed=0)


def test_stop_strings_end_a_branch(sums):
    ids = encode_prompt(sums.tokenizer, PROMPT)
    text = explore.go_on(sums, ids, len(ids), SamplingConfig(4, stop=("0", "1", "2")), seed=0)
    assert text.finished and len(text.ids) < len(ids) + 4
