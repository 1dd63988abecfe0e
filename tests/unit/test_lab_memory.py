"""The memory of a step: counts of weights against published ones, hand arithmetic of each term, and the peak of real steps."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlhf import architecture, decode, memory
from rlhf.algorithms import make_config
from rlhf.architecture import PUBLISHED, Architecture
from rlhf.catalogue import CATALOGUE
from rlhf.config import DPOConfig
from rlhf.errors import ConfigError, RunError
from rlhf.estimate import model_facts
from rlhf.labs import memory as lab
from rlhf.labs import memory_trial
from rlhf.labs.methods import properties
from rlhf.measure_memory import measure

LLAMA = PUBLISHED["meta-llama/Meta-Llama-3-8B"]
STORY = model_facts("story").sizes
METHODS = list(lab.METHODS)
LORA = lab.Setting(rank=16, dtype="bfloat16")


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) & set(CATALOGUE)))
def test_weights_are_counted_as_the_catalogue_has_them(name):
    assert PUBLISHED[name].parameters == CATALOGUE[name].parameters


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("meta-llama/Meta-Llama-3-70B", 70_553_706_496),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("mistralai/Mistral-7B-v0.3", 7_248_023_552),
    ],
)
def test_weights_of_large_models_are_the_published_numbers(name, count):
    assert PUBLISHED[name].parameters == count


def test_embedded_models_are_read_from_their_config():
    for name in ("story", "sums"):
        assert model_facts(name).sizes.parameters == CATALOGUE[name].parameters


def test_an_adapter_is_counted_by_hand():
    """story, rank 16: of a layer 4·(160 + 160) for attention and 3·(160 + 448) for the MLP, times 16, times 4 layers."""
    assert STORY.lora_parameters(16) == 4 * 16 * (4 * 320 + 3 * 608)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "not a config"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "without a model_type"),
        ('{"model_type": "t5"}', "t5"),
        ('{"model_type": "llama"}', "hidden_size"),
        ('{"model_type": "llama", "hidden_size": -4}', "above 0"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "above 0"),
        ('{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 3, "num_key_value_heads": 2, "num_hidden_layers": 1, '
         '"vocab_size": 9}', "cannot share"),
        ('{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1000000, "vocab_size": 9}', "layers"),
        ('{"model_type": "llama", "hidden_size": 2, "num_attention_heads": 2, "head_dim": 9999999, "num_hidden_layers": 1, '
         '"vocab_size": 9}', "head"),
    ],
)  # fmt: skip
def test_a_bad_config_is_explained(text, told):
    with pytest.raises(ConfigError) as error:
        architecture.parse(text)
    assert told in str(error.value) and error.value.do


# ---------------------------------------------------------------- terms


def test_moments_of_a_grpo_step_by_hand():
    """8 prompts of 100 tokens, 4 answers of 50 each, 8 in a pass; Llama-3-8B, all weights in float32, a rule for the reward."""
    setting = lab.Setting(prompts=8, group=4, microbatch=8, prompt=100, answer=50, scored=False)
    found = {moment.name: moment.parts for moment in lab.moments(lab.config_of("grpo", setting), LLAMA, setting)}
    parameters = 8_030_261_248
    assert list(found) == ["sampling", "reference", "update", "optimizer"]
    assert found["sampling"]["cache"] == 2 * 32 * 1024 * 4 * (32 * 50 + 8 * 100)
    assert found["sampling"]["logits"] == 3 * 32 * 128_256 * 4
    assert found["update"]["logits"] == 3 * 8 * 50 * 128_256 * 4
    assert found["update"]["weights"] == found["update"]["reference"] == found["update"]["gradients"] == 4 * parameters
    assert found["update"]["optimizer"] == 8 * parameters
    assert "activations" not in found["optimizer"] and "gradients" not in found["sampling"]


def test_activations_of_a_layer_by_hand():
    """2 answers of 4 tokens after one prompt of 3: 3 + 2·3 = 9 are read. Width 8, two heads of 4, MLP of 16, float32."""
    model = Architecture(1, 8, 2, 2, 4, 16, 10)
    shape = memory.Shape(2, 2, 1, 3, 4)
    layer = memory.layer_activations(model, shape, memory.Numbers())
    assert shape.read == 9 and shape.predicted == 8
    assert layer["norms"] == 9 * (2 * 8 * 8 + 8)  # in and out of two norms, and a scale each
    # keys and values of 9 tokens, and for both answers a copy of 3 + 3; queries, what comes out, and that joined; a log-sum a head
    assert layer["attention"] == 4 * (9 * 16 + 2 * 6 * 16 + 9 * 8 * 3) + 9 * 2 * 4
    assert layer["mlp"] == 9 * 4 * 16 * 4 and layer["adapter"] == 0


def test_two_constants_are_the_engine_s_own():
    assert memory.MOST_COPIED == decode.MOST_COPIED


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_go_through_as_many_sequences(method):
    setting = lab.Setting(prompts=4, group=4, microbatch=6)
    shape = memory.shape_of(lab.config_of(method, setting), 10, 20)
    assert shape.sequences == 16 and shape.rows == 6 and shape.microbatches == 3


# ---------------------------------------------------------------- networks


def test_four_models_or_two():
    def own(method: str, setting: lab.Setting, textbook: bool) -> dict[str, float]:
        return {network.role: network.own for network in lab.networks(lab.config_of(method, setting), LLAMA, textbook)}

    assert set(own("ppo", lab.Setting(), True)) == {"policy", "reference", "reward_model", "critic"}
    assert sum(own("dpo", lab.Setting(), False).values()) == 2
    ours = own("ppo", LORA, False)
    assert ours["reference"] == 0 and ours["critic"] == pytest.approx(4097 / 8_030_261_248)
    assert own("ppo", LORA, True)["reference"] == 1
    assert set(own("sft", lab.Setting(), True)) == {"policy"}


@pytest.mark.parametrize("setting", [lab.Setting(scored=False), replace(LORA, scored=False)])
@pytest.mark.parametrize("method", METHODS)
def test_separate_networks_never_take_less(method, setting):
    ours, separate = (lab.fullest(method, LLAMA, setting, textbook, "cuda").total for textbook in (False, True))
    assert separate > ours if method == "ppo" or (setting.rank and method in ("dpo", "grpo", "rloo")) else separate == ours


def test_ppo_of_the_textbook_by_hand():
    """Policy and critic learn, and a scorer has no matrix of words out: 8.03e9 − 128 256·4096 + 4096 weights."""
    parts = lab.fullest("ppo", LLAMA, lab.Setting(), textbook=True).parts
    scorer = 8_030_261_248 - 128_256 * 4096 + 4096
    assert parts["critic"] == parts["reward_model"] == 4 * scorer
    assert parts["gradients"] * 2 == parts["optimizer"] == 8 * (8_030_261_248 + scorer)


# ---------------------------------------------------------------- the table


def test_the_table_follows_the_code():
    ppo, dpo = (lab.config_of(method, lab.Setting()) for method in ("ppo", "dpo"))
    assert properties(ppo).critic and properties(ppo).networks == 4 and properties(ppo).online
    without = properties(lab.config_of("ppo", lab.Setting(critic=False)))
    assert not without.critic and without.networks == 3 and without.forward == properties(ppo).forward - 1
    assert "value_clip_range" not in dict(without.sensitive)
    assert properties(dpo).reference and not properties(dpo).online and not properties(dpo).reward
    assert properties(make_config("ppo", epochs=4)).backward == 4

    class WithoutReference(DPOConfig):
        @property
        def needs_reference(self) -> bool:
            return False

    changed = properties(WithoutReference(model="story"))
    assert not changed.reference and changed.networks == 1 and changed.forward == properties(dpo).forward - 1


def test_passes_by_hand():
    """GRPO: each response is sampled, read by the reference and by the policy, and gone back through; SFT is read and gone back through."""
    grpo, sft = (properties(lab.config_of(method, lab.Setting())) for method in ("grpo", "sft"))
    assert (grpo.sampled, grpo.forward, grpo.backward) == pytest.approx((1, 2, 1))
    assert (sft.sampled, sft.forward, sft.backward) == pytest.approx((0, 1, 1))


# ---------------------------------------------------------------- predicted and measured


@pytest.mark.parametrize(
    ("method", "rank", "model", "prompt", "answer"), [("dpo", 0, "story", 12, 24), ("ppo", 8, "story", 12, 16), ("grpo", 0, "sums", 6, 6)]
)
def test_the_prediction_is_within_15_percent_of_a_real_step(method, rank, model, prompt, answer):
    setting = lab.Setting(prompts=2, group=8, microbatch=8, prompt=prompt, answer=answer, rank=rank, scored=False)
    config = lab.config_of(method, setting, model=model, device="cpu")
    importlib.import_module(f"rlhf.algorithms.{config.algorithm}")
    found = measure(config, prompt, answer)
    assert memory_trial.predicted(config, prompt, answer).total == pytest.approx(found["tensors"], rel=0.15)
    assert found["tokens"] == 16 * answer  # no answer ended early


def test_what_goes_wrong_with_a_measurement_is_explained(monkeypatch):
    config = lab.config_of("sft", replace(LORA, prompt=6, answer=8), model="sums")
    with pytest.raises(RunError, match="was not done after"):
        memory_trial.run("sft", config, 6, 8, most_seconds=0.01)

    def ended(stdout: str, code: int) -> None:
        monkeypatch.setattr(
            memory_trial.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=stdout, stderr="Boom: no", returncode=code)
        )

    ended("", -9)
    with pytest.raises(RunError, match="ended by the system"):
        memory_trial.run("sft", config, 6, 8)
    ended("", 1)
    with pytest.raises(RunError, match="Boom: no"):
        memory_trial.run("sft", config, 6, 8)
    ended('{"what": "Out of memory.", "do": "Less."}', 0)
    with pytest.raises(RunError, match="Out of memory"):
        memory_trial.run("sft", config, 6, 8)
    ended('{"tensors": 4000000, "process": null, "tokens": 512, "device": "cpu"}', 0)
    found = memory_trial.run("sft", config, 6, 8)
    assert found.process is None and found.ratio == found.predicted / 4_000_000


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_go_through_a_link_unchanged(name):
    assert architecture.from_a_line(architecture.in_a_line(PUBLISHED[name])) == PUBLISHED[name]
