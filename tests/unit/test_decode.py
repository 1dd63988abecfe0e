"""The decoder of our own says what the transformers model says, and the same luck writes the same text through either."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from rlhf import decode, llama, rollout
from rlhf.policy import load_pretrained
from rlhf.rollout import SamplingConfig, pad_left, sample

SIZES: dict[str, Any] = {"vocab_size": 2048, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
ENDS = {"max_position_embeddings": 256, "eos_token_id": 0, "pad_token_id": 0}
HEADS: dict[str, Any] = {**ENDS, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY = {
    "qwen2": Qwen2Config(**SIZES, **HEADS),
    "llama3 rotation": LlamaConfig(
        **SIZES,
        **HEADS,
        attention_bias=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 1e4,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "mistral": MistralConfig(**SIZES, **HEADS, sliding_window=None),
    "one key for all heads": LlamaConfig(**SIZES, **{**HEADS, "num_key_value_heads": 1}),
}
FOREIGN = {
    "gpt2": GPT2Config(vocab_size=2048, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=0, pad_token_id=0),
    "qwen3": Qwen3Config(**SIZES, **HEADS, head_dim=8),
    "sliding window": MistralConfig(**SIZES, **HEADS, sliding_window=16),
    "rotation that grows": LlamaConfig(
        **SIZES, **HEADS, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 64}
    ),
}
UNEQUAL = ["Once upon a time, there was a little girl named Lily.", "One day, Tom", "The dog"]
EQUAL = ["One day, Tom"] * 2


def tiny(config) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():  # logits that are no uniform distribution, norms that are not 1
        parameter.data = parameter.data * 4 if parameter.ndim > 1 else parameter.data + torch.randn_like(parameter) * 0.1
    return model.requires_grad_(False)


def adapted(model: Any) -> Any:
    net = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return net.eval()


@pytest.fixture(scope="module")
def story():
    return load_pretrained("story", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def sums():
    return load_pretrained("sums", device="cpu", dtype="float32")


def by_the_model(monkeypatch) -> None:
    """Every model through its own forward, as before there was a decoder of our own."""
    monkeypatch.setattr(rollout, "start", decode.ModelDecoder)


def compare_texts(monkeypatch, model, tokenizer, prompts, group, sampling, seed=0):
    """Both write the same; a row may part where its uniform number lies within rounding of the border of two tokens."""
    assert llama.known(model) is not None
    ours = sample(model, tokenizer, prompts, group, sampling, seed)
    by_the_model(monkeypatch)
    theirs = sample(model, tokenizer, prompts, group, sampling, seed)
    width = min(ours.response_ids.shape[1], theirs.response_ids.shape[1])
    same = (ours.response_ids[:, :width] == theirs.response_ids[:, :width]).all(1)
    assert same.float().mean() >= 0.9
    assert torch.equal(ours.response_mask[same, :width], theirs.response_mask[same, :width])
    assert (ours.logprobs - theirs.logprobs)[same, :width].abs().max() < 1e-4
    assert (ours.entropies - theirs.entropies)[same, :width].abs().max() < 1e-3
    return ours


@pytest.mark.parametrize("prompts", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(24),
        SamplingConfig(24, temperature=0.7),
        SamplingConfig(24, temperature=1.3, top_p=0.8, top_k=50),
        SamplingConfig(24, stop=(".", "!")),  # rows end early, whole groups too
    ],
    ids=["plain", "cool", "filtered", "stopped"],
)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_same_luck_writes_the_same_stories(monkeypatch, story, prompts, sampling, lora):
    compare_texts(monkeypatch, adapted(story.model) if lora else story.model, story.tokenizer, prompts, 8, sampling)


def test_rows_that_end_leave_the_batch(monkeypatch, sums):
    rollout_ = compare_texts(monkeypatch, sums.model, sums.tokenizer, ["37+48=", "10+11=", "9+1=", "5+5="], 16, SamplingConfig(6))
    assert rollout_.finished.any()


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("copied", [True, False], ids=["joined", "as they are"])
def test_other_architectures(monkeypatch, story, name, lora, copied):
    """Grouped heads, biases, other rotations; with and without copies of the weights."""
    if not copied:
        monkeypatch.setattr(decode, "MOST_COPIED", 0)
    model = tiny(TINY[name])
    compare_texts(monkeypatch, adapted(model) if lora else model, story.tokenizer, UNEQUAL, 6, SamplingConfig(12, stop=("a",)))


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_known_goes_through_its_own_forward(story, name):
    model = tiny(FOREIGN[name])
    assert llama.known(model) is None
    found = sample(model, story.tokenizer, EQUAL, 4, SamplingConfig(20), seed=0)
    with torch.no_grad():
        logits = model(input_ids=torch.cat([found.prompt_ids, found.response_ids], 1)).logits[:, found.prompt_ids.shape[1] - 1 : -1]
    expected = logits.log_softmax(-1).gather(-1, found.response_ids[..., None]).squeeze(-1)
    assert (found.logprobs - expected)[found.response_mask].abs().max() < 1e-4


def test_a_switched_off_adapter_is_not_in_the_text(story):
    net = adapted(story.model)
    settings = SamplingConfig(12)
    with_it = sample(net, story.tokenizer, UNEQUAL, 4, settings, seed=1)
    with net.disable_adapter():
        without = sample(net, story.tokenizer, UNEQUAL, 4, settings, seed=1)
    plain = sample(story.model, story.tokenizer, UNEQUAL, 4, settings, seed=1)
    assert without.texts == plain.texts != with_it.texts


def test_the_logits_after_any_rows_have_left(story):
    """Step by step against the whole text, while rows and at last whole groups leave in an uneven order."""
    rows = [list(story.tokenizer(text)["input_ids"]) for text in UNEQUAL]
    ids, mask = pad_left(rows, 0, torch.device("cpu"))
    luck = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        decoder = decode.start(story.model, ids, mask, 3, 8)
        texts = [row for row in rows for _ in range(3)]
        for leave in ([], [1], [], [0, 2], [], [0], [2]):
            expected = torch.stack([story.model(input_ids=torch.tensor([text])).logits[0, -1] for text in texts])
            torch.testing.assert_close(decoder.logits, expected, rtol=0, atol=1e-4)
            tokens = torch.randint(1, 2048, (len(texts),), generator=luck)
            kept = [i for i in range(len(texts)) if i not in leave]
            if leave:
                decoder.keep(torch.tensor(kept))
            texts = [[*texts[i], int(tokens[i])] for i in kept]
            decoder.advance(tokens[kept])
