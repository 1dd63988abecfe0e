"""Loading models, and the policy's promise: the reference never moves."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors as hub_errors
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from rlhf import policy as policy_module
from rlhf.algorithms import make_config
from rlhf.catalogue import CATALOGUE, model_path
from rlhf.errors import ConfigError, ModelError
from rlhf.policy import Policy, load_pretrained, with_adapter
from rlhf.rollout import SamplingConfig, encode_prompt, sample, score
from rlhf.types import Sequences

PROMPTS = ["Once upon a time", "The dog ran to the big"]


def sequences_of(loaded) -> Sequences:
    rollout = sample(loaded.model, loaded.tokenizer, PROMPTS, 3, SamplingConfig(12), seed=0)
    return Sequences(rollout.prompt_ids, rollout.prompt_mask, rollout.response_ids, rollout.response_mask)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_reference_is_the_start_and_stays_there(tuning, tmp_path):
    config = make_config("grpo", tuning=tuning)
    loaded = load_pretrained("story", device="cpu")
    sequences = sequences_of(loaded)
    policy = Policy(loaded, config)
    start = policy.logprobs(sequences).detach()
    assert torch.equal(policy.reference_logprobs(sequences, rows=4), start)
    with torch.no_grad():
        for parameter in policy.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    moved = policy.logprobs(sequences).detach()
    assert (moved - start).abs().max() > 0.01
    assert torch.equal(policy.reference_logprobs(sequences), start)

    policy.save(tmp_path / "c")
    again = Policy(load_pretrained("story", device="cpu"), config)
    again.load(tmp_path / "c")
    assert torch.equal(again.logprobs(sequences), moved)

    child = Policy(load_pretrained("story", device="cpu"), config, parents=[tmp_path / "c"])
    assert torch.allclose(child.logprobs(sequences), moved)
    assert torch.allclose(child.reference_logprobs(sequences), moved)
    child.save(tmp_path / "d")  # a child's checkpoint stands on its own


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_before_is_the_untouched_base(tuning, tmp_path):
    """Applying a checkpoint gives another object; the base's parameters stay equal bit by bit."""
    policy = Policy(load_pretrained("story", device="cpu"), make_config("grpo", tuning=tuning))
    with torch.no_grad():
        for parameter in policy.trainable():
            parameter.add_(0.02)
    policy.save(tmp_path)
    base = load_pretrained("story", device="cpu")
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    tuned = with_adapter(base, tmp_path)
    assert (
        score(tuned.model, tuned.tokenizer, PROMPTS[0], " a girl").logprobs
        != score(base.model, base.tokenizer, PROMPTS[0], " a girl").logprobs
    )
    after = dict(base.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_value_head_starts_at_zero_and_is_saved(tmp_path):
    loaded = load_pretrained("story", device="cpu")
    sequences = sequences_of(loaded)
    policy = Policy(loaded, make_config("ppo"))
    policy.add_value_head()
    assert policy.value_head is not None
    logprobs, values, entropy = policy.logprobs_and_values(sequences, entropy=True)
    assert torch.allclose(logprobs, policy.logprobs(sequences))
    assert values.eq(0).all() and values.shape == sequences.response_ids.shape
    assert entropy is not None and entropy.shape == values.shape
    torch.nn.init.normal_(policy.value_head.weight)
    policy.save(tmp_path)
    again = Policy(load_pretrained("story", device="cpu"), make_config("ppo"))
    again.add_value_head()
    again.load(tmp_path)
    assert torch.equal(again.logprobs_and_values(sequences)[1], policy.logprobs_and_values(sequences)[1])


def test_microbatches_and_padding_change_nothing():
    loaded = load_pretrained("story", device="cpu")
    policy = Policy(loaded, make_config("grpo"))
    sequences = sequences_of(loaded)
    whole = policy.logprobs(sequences)
    alone = policy.logprobs(sequences.rows(slice(0, 2)))
    assert torch.allclose(whole[:2], alone, atol=1e-5)
    wider = Sequences(
        torch.nn.functional.pad(sequences.prompt_ids, (3, 0)),
        torch.nn.functional.pad(sequences.prompt_mask, (3, 0)),
        torch.nn.functional.pad(sequences.response_ids, (0, 2)),
        torch.nn.functional.pad(sequences.response_mask, (0, 2)),
    )
    padded = policy.logprobs(wider)[:, :-2]
    mask = sequences.response_mask
    assert torch.allclose(padded[mask], whole[mask], atol=1e-4)


def test_what_the_model_page_says():
    loaded = load_pretrained("sums", device="cpu")
    assert loaded.parameters == CATALOGUE["sums"].parameters
    assert (loaded.layers, loaded.context, loaded.chat) == (3, 32, False)
    assert load_pretrained("story", device="cpu").parameters == CATALOGUE["story"].parameters


def test_half_precision_loads_and_samples():
    loaded = load_pretrained("story", device="cpu", dtype="bfloat16")
    rollout = sample(loaded.model, loaded.tokenizer, PROMPTS, 2, SamplingConfig(6), seed=0)
    assert loaded.dtype == torch.bfloat16 and rollout.logprobs.dtype == torch.float32


def test_chat_template_is_used_where_there_is_one():
    tokenizer = load_pretrained("story", device="cpu").tokenizer
    plain = encode_prompt(tokenizer, "Hello")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert tokenizer.decode(encode_prompt(tokenizer, "Hello")) == "<user>Hello<assistant>"
    assert tokenizer.decode(plain) == "Hello"


# ---------------------------------------------------------------- models that cannot be used


def copy_of_story(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(model_path("story"), folder)
    return folder


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def truncated_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (folder / "config.json").write_text(json.dumps(config))


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("damage", [no_weights, no_tokenizer, truncated_weights, own_code, broken_config])
def test_damaged_folders_are_refused_with_advice(damage, tmp_path):
    folder = copy_of_story(tmp_path)
    damage(folder)
    with pytest.raises(ModelError) as error:
        load_pretrained(str(folder), device="cpu")
    assert error.value.do


@pytest.mark.parametrize("source", ["nonsense", "a/b/c", "/no/such/folder", "", ".."])
def test_names_that_are_no_model(source):
    with pytest.raises(ModelError) as error:
        load_pretrained(source, device="cpu")
    assert error.value.do


def test_models_that_do_not_write_left_to_right(tmp_path):
    BertForMaskedLM(
        BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    T5ForConditionalGeneration(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path / "t5"
    )
    for name in ("bert", "t5"):
        with pytest.raises(ModelError, match="not a causal language model"):
            load_pretrained(str(tmp_path / name), device="cpu")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (hub_errors.GatedRepoError, "gated"),
        (hub_errors.RepositoryNotFoundError, "no model"),
        (hub_errors.LocalEntryNotFoundError, "cannot be reached"),
        (ConnectionError, "cannot be reached"),
    ],
)
def test_hub_errors_say_what_to_do(monkeypatch, raised, told):
    def snapshot_download(*args, **kwargs):
        raise raised.__new__(raised)

    monkeypatch.setattr(policy_module, "snapshot_download", snapshot_download)
    with pytest.raises(ModelError, match=told) as error:
        load_pretrained("someone/something", device="cpu")
    assert error.value.do


def test_a_hub_snapshot_is_loaded_and_its_progress_told(monkeypatch, tmp_path):
    """The Hub's own download code drives a tqdm class; here it does so over a folder that the test made."""
    folder = copy_of_story(tmp_path)
    told = []

    def snapshot_download(repo, allow_patterns, tqdm_class):
        assert repo == "someone/story" and "*.safetensors" in allow_patterns and not any("bin" in p for p in allow_patterns)
        with tqdm_class(total=10, desc="model.safetensors", name="huggingface_hub.test") as bar:
            bar.update(5)
            bar.refresh()
        return str(folder)

    monkeypatch.setattr(policy_module, "snapshot_download", snapshot_download)
    loaded = load_pretrained("someone/story", device="cpu", progress=lambda what, share: told.append((what, share)))
    assert loaded.source == "someone/story" and ("model.safetensors", 0.5) in told


def test_settings_that_the_machine_or_model_cannot_meet(tmp_path):
    with pytest.raises(ConfigError, match=r"no layer|Target modules|cannot be attached"):
        Policy(load_pretrained("story", device="cpu"), make_config("grpo", tuning="lora", lora_targets="no_such_layer"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            load_pretrained("story", device="cuda")
