"""Reward models on disk and in use: other programs read the same score, and what is none is refused with advice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from rlhf.algorithms import make_config
from rlhf.algorithms.reward_model import last
from rlhf.catalogue import model_path
from rlhf.config import RewardTerm
from rlhf.errors import DataError, ModelError, PlaygroundError, RewardError, RunError
from rlhf.events import Failed, Finished, Step
from rlhf.policy import Policy, load_pretrained
from rlhf.preferences import load_dataset
from rlhf.reward_network import RewardNetwork, Scorer, find_scorer, load_scorer
from rlhf.rewards import Context, RewardMix
from rlhf.train import train
from tests.canned import canned_run

PROMPTS = ["Once upon a time", "Tom found a big red ball in the garden.", "Once upon a time", "The cat"]
ANSWERS = [" there was a dog.", " He was very happy and played with it all day long.", " it rained.", " sat."]


def network(tuning: str = "full", model: str = "story") -> RewardNetwork:
    """As after some training: every weight that is trained has moved."""
    torch.manual_seed(0)
    made = RewardNetwork(load_pretrained(model, device="cpu"), make_config("reward_model", model=model, tuning=tuning))
    with torch.no_grad():
        for parameter in made.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return made


def in_training(made: RewardNetwork, prompts: list[str], answers: list[str]) -> list[float]:
    """The scores that the loss sees: prompts padded on the left, answers on the right."""
    sequences = made.encode(prompts, answers, longest=128)
    with torch.no_grad():
        return last(made.token_scores(sequences), sequences.response_mask).tolist()


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> tuple[RewardNetwork, Path]:
    made, folder = network(), tmp_path_factory.mktemp("full")
    made.save(folder)
    return made, folder


def mix(source: object, **options: object) -> RewardMix:
    return RewardMix([RewardTerm(name="reward_model", options={"source": str(source), **options})])


def contexts(prompts: list[str], answers: list[str]) -> list[Context]:
    return [Context(prompt, answer, None, 0, True) for prompt, answer in zip(prompts, answers, strict=True)]


# ---------------------------------------------------------------- the same score everywhere


def test_other_programs_read_the_same_score(full):
    """Plain transformers: its own class, its own forward, one text at a time and padded on the right."""
    made, folder = full
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    assert theirs.config.num_labels == 1 and theirs.config.pad_token_id == tokenizer.pad_token_id
    texts = [prompt + answer for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    with torch.no_grad():
        alone = [float(theirs(**tokenizer(text, return_tensors="pt")).logits) for text in texts]
        padded = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0].tolist()
    scorer = load_scorer(str(folder), "cpu")
    ours = scorer.scores(PROMPTS, ANSWERS)
    assert max(ours) - min(ours) > 0.1
    assert ours == pytest.approx(alone, abs=1e-4) and ours == pytest.approx(padded, abs=1e-4)
    assert ours == pytest.approx(in_training(made, PROMPTS, ANSWERS), abs=1e-4)
    assert scorer.scores(PROMPTS, ANSWERS, rows=1) == pytest.approx(ours, abs=1e-4)


def test_the_scores_of_many_rows_come_back_in_their_order(full):
    """Many are read in two parts, the shorter ones first."""
    made, _ = full
    answers = [answer * times for times in (3, 1, 2, 4) for answer in (*ANSWERS, "")]
    prompts = [PROMPTS[i % 4] for i in range(len(answers))]
    alone = [in_training(made, [prompt], [answer])[0] for prompt, answer in zip(prompts, answers, strict=True)]
    assert len(answers) >= 16 and in_training(made, prompts, answers) == pytest.approx(alone, abs=1e-4)


def test_a_lora_checkpoint_scores_as_the_network_in_training(tmp_path):
    made = network("lora")
    made.save(tmp_path)
    assert (tmp_path / "adapter_config.json").is_file() and not (tmp_path / "model.safetensors").exists()
    assert load_scorer(str(tmp_path), "cpu").scores(PROMPTS, ANSWERS) == pytest.approx(in_training(made, PROMPTS, ANSWERS), abs=1e-4)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_model_that_stands_on_a_parent_scores_as_in_training_and_outlives_it(tuning, tmp_path):
    """The reward model of a policy that was trained before: its adapter alone would be one of another model."""
    policy = Policy(load_pretrained("story", device="cpu"), make_config("sft", tuning=tuning))
    with torch.no_grad():
        for parameter in policy.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    policy.save(tmp_path / "policy")
    config = make_config("reward_model", tuning="lora")
    made = RewardNetwork(load_pretrained("story", device="cpu"), config, parents=[tmp_path / "policy"])
    made.save(tmp_path / "reward")
    scores = load_scorer(str(tmp_path / "reward"), "cpu").scores(PROMPTS, ANSWERS)
    assert scores == pytest.approx(in_training(made, PROMPTS, ANSWERS), abs=1e-4)
    made.save(tmp_path / "reward")  # over itself
    shutil.rmtree(tmp_path / "policy")
    shutil.move(tmp_path / "reward", tmp_path / "elsewhere")
    assert load_scorer(str(tmp_path / "elsewhere"), "cpu").scores(PROMPTS, ANSWERS) == pytest.approx(scores, abs=1e-6)
    shutil.rmtree(tmp_path / "elsewhere" / "parent-0")
    with pytest.raises(ModelError, match="trained on top of another checkpoint") as caught:
        load_scorer(str(tmp_path / "elsewhere"), "cpu")
    assert "train the reward model anew" in caught.value.do
    (tmp_path / "elsewhere" / "playground.json").write_text(json.dumps({"base": "story"}))
    assert load_scorer(str(tmp_path / "elsewhere"), "cpu").scores(PROMPTS, ANSWERS) != pytest.approx(scores, abs=1e-3)
    with pytest.raises(ModelError, match="started from is gone"):
        made.save(tmp_path / "late")


def test_the_score_after_the_last_token_is_the_score(full):
    scorer = load_scorer(str(full[1]), "cpu")
    for prompt, answer, score in zip(PROMPTS, ANSWERS, scorer.scores(PROMPTS, ANSWERS), strict=True):
        strings, scores = scorer.score_tokens(prompt, answer)
        assert "".join(strings) == answer and len(scores) == len(strings)
        assert scores[-1] == pytest.approx(score, abs=1e-4)
    shorter, longer = scorer.score_tokens("The cat", " sat")[1], scorer.score_tokens("The cat", " sat.")[1]
    assert longer[: len(shorter)] == pytest.approx(shorter, abs=1e-4)  # nothing looks ahead


def test_an_empty_answer_has_a_score_of_its_own(full):
    made, folder = full
    scorer = load_scorer(str(folder), "cpu")
    scores = scorer.scores(["The cat", "The cat"], ["", " sat."])
    assert scores == pytest.approx(in_training(made, ["The cat", "The cat"], ["", " sat."]), abs=1e-4)
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)
    strings, after = scorer.score_tokens("The cat", "")
    assert len(strings) == 1 and after == pytest.approx(scores[:1], abs=1e-4)


def test_normalised_scores_have_mean_0_and_deviation_1_on_what_was_measured(tmp_path):
    made = network()
    raw = in_training(made, PROMPTS, ANSWERS)
    made.calibrate(torch.tensor(raw))
    made.save(tmp_path)
    plain = [scored.total for scored in mix(tmp_path, normalise=False)(contexts(PROMPTS, ANSWERS))]
    scaled = torch.tensor([scored.total for scored in mix(tmp_path)(contexts(PROMPTS, ANSWERS))])
    assert plain == pytest.approx(raw, abs=1e-4)
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-3) and float(scaled.std()) == pytest.approx(1, abs=1e-3)
    again = network()
    again.load(tmp_path)
    assert (again.mean, again.deviation) == (made.mean, made.deviation)


# ---------------------------------------------------------------- reward models of others


def own_tokenizer(start: str = "[CLS]", end: str = "[SEP]", pad: str = "[PAD]", longest: int = 32) -> PreTrainedTokenizerFast:
    words = [pad, "[UNK]", start, end, "the", "cat", "dog", "sat", "ran", "."]
    split = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    split.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B:1 {end}:1", special_tokens=[(start, 2), (end, 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=split, pad_token=pad, unk_token="[UNK]", cls_token=start, sep_token=end, model_max_length=longest,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


TINY = {"vocab_size": 10, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def bert(tmp_path) -> Path:
    torch.manual_seed(0)
    config = BertConfig(**TINY, max_position_embeddings=32, num_labels=1, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    own_tokenizer().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_an_encoder_with_its_own_tokenizer_is_a_reward_in_a_mix(bert):
    prompts, answers = ["the cat", "the dog", "the"], ["sat .", "ran", ""]
    theirs, tokenizer = AutoModelForSequenceClassification.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():  # prompt and answer as two segments, one row at a time
        alone = [float(theirs(**tokenizer([p], [a], return_tensors="pt")).logits) for p, a in zip(prompts, answers, strict=True)]
    terms = [RewardTerm(name="negative"), RewardTerm(name="reward_model", weight=2.0, options={"source": str(bert)})]
    scored = RewardMix(terms)(contexts(prompts, answers))
    assert [s.parts["reward_model"] for s in scored] == pytest.approx(alone, abs=1e-4)
    totals = [s.parts["negative"] + 2 * one for s, one in zip(scored, alone, strict=True)]
    assert [s.total for s in scored] == pytest.approx(totals, abs=1e-4)
    assert len({round(one, 3) for one in alone}) == 3
    assert not find_scorer(str(bert)).reads_tokens


def test_an_encoder_reads_as_much_as_its_tokenizer_says(tmp_path):
    """RoBERTa keeps two of its position embeddings for itself."""
    config = RobertaConfig(**TINY, max_position_embeddings=14, num_labels=1, pad_token_id=0, type_vocab_size=2)
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    own_tokenizer("<s>", "</s>", "<pad>", longest=12).save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path), "cpu")
    assert len(scorer.scores(["the cat sat ."], ["the dog ran ."])) == 1
    with pytest.raises(DataError, match="reads 12 tokens"):
        scorer.scores(["the cat sat . the"], ["the dog ran . the"])


# ---------------------------------------------------------------- what cannot be used


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def half_the_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def broken_note(folder: Path) -> None:
    (folder / "playground.json").write_text('{"base": ')


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize("damage", [no_weights, half_the_weights, broken_note, no_tokenizer])
def test_a_damaged_reward_model_is_refused_with_advice(damage, full, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(full[1], folder)
    damage(folder)
    with pytest.raises(ModelError) as error:
        load_scorer(str(folder), "cpu")
    assert error.value.what and error.value.do


def refused(source: Path | str, words: str) -> None:
    with pytest.raises(ModelError) as error:
        load_scorer(str(source), "cpu")
    assert words in error.value.what and error.value.do
    with pytest.raises(RewardError) as in_a_mix:
        mix(source)(contexts(["Once"], [" upon"]))
    assert words in in_a_mix.value.what and in_a_mix.value.do


def test_models_that_are_no_reward_models(tmp_path):
    refused(model_path("story"), "is not a reward model (LlamaForCausalLM")
    refused("story", "is not a reward model")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no model")
    refused(tmp_path / "nothing", "There is no model")
    sizes = {**TINY, "vocab_size": 12}
    LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=2)).save_pretrained(tmp_path / "two")
    refused(tmp_path / "two", "LlamaForSequenceClassification, 2 outputs")


def test_the_adapter_of_a_policy_is_no_reward_model(tmp_path):
    """It would load, under a head of random numbers."""
    Policy(load_pretrained("story", device="cpu"), make_config("grpo", tuning="lora")).save(tmp_path)
    refused(tmp_path, "is not a reward model but one of a model that writes (CAUSAL_LM)")


def test_an_adapter_whose_base_is_unknown(tmp_path):
    network("lora").save(tmp_path)
    (tmp_path / "playground.json").write_text(json.dumps({"base": "/nowhere"}))
    refused(tmp_path, "/nowhere")


def test_a_text_beyond_the_context_is_refused_by_name(full):
    prompt = "A dog ran home. " * 60
    scorer = load_scorer(str(full[1]), "cpu")
    for ask in (lambda: scorer.scores(["Once", prompt], [" upon", " The end."]), lambda: scorer.score_tokens(prompt, " The end.")):
        with pytest.raises(DataError) as error:
            ask()
        assert "reads 256 tokens" in error.value.what and "A dog ran home." in error.value.what and error.value.do
    with pytest.raises(RewardError, match="reads 256 tokens"):
        mix(full[1])(contexts([prompt], [" The end."]))


def test_runs_that_made_no_reward_model(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    other = canned_run(tmp_path, "grpo", model="sums", steps=2, weights=False, name="another")
    early = canned_run(tmp_path, "reward_model", model="sums", steps=2, state="queued")
    for source, words in ((other.id, "made no reward model but trained with grpo"), (early.id, "has no checkpoint yet")):
        with pytest.raises(RunError) as error:
            find_scorer(source)
        assert words in error.value.what and error.value.do
    with pytest.raises(PlaygroundError):
        find_scorer(f"{early.id}/step-7")


# ---------------------------------------------------------------- in a run


@pytest.fixture
def trained(tmp_path, monkeypatch, full) -> str:
    """The id of a run with two checkpoints, the second of another model."""
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    run = canned_run(tmp_path, "reward_model", steps=4, weights=False)
    full[0].save(run.checkpoint("step-2"))
    network("lora").save(run.checkpoint("step-4"))
    return run.id


def test_a_run_is_found_by_its_id_and_a_step_of_it_by_name(trained, full):
    newest, first = find_scorer(trained), find_scorer(f"{trained}/step-2")
    assert isinstance(newest, Scorer) and find_scorer(trained) is newest  # not read anew at each step
    wanted = in_training(full[0], PROMPTS, ANSWERS)
    assert first.scores(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=1e-4)
    assert newest.scores(PROMPTS, ANSWERS) == pytest.approx(in_training(network("lora"), PROMPTS, ANSWERS), abs=1e-4)


def test_a_policy_is_trained_against_a_reward_model(full):
    """Its tokens are the story model's, the policy's those of sums: only texts pass between them."""
    term = {"name": "reward_model", "options": {"source": str(full[1])}}
    config = make_config(
        "grpo", model="sums", reward=[term], gold="correct", steps=2, prompts_per_step=4, group_size=4, eval_prompts=4, device="cpu"
    )
    events = list(train(config, load_dataset("prompts", config.data)))
    assert isinstance(events[-1], Finished), events[-1]
    steps = [event.metrics for event in events if isinstance(event, Step)]
    assert all("eval/gold" in metrics for metrics in (steps[0], steps[-1]))
    assert steps[-1]["reward"] == pytest.approx(steps[-1]["reward/reward_model"]) and steps[-1]["reward_std"] > 0


def test_a_run_against_what_is_no_reward_model_fails_with_the_reason(tmp_path):
    term = {"name": "reward_model", "options": {"source": str(tmp_path)}}
    config = make_config("grpo", model="sums", reward=[term], steps=1, prompts_per_step=2, group_size=2, eval_prompts=2, device="cpu")
    failed = list(train(config, load_dataset("prompts", config.data)))[-1]
    assert isinstance(failed, Failed) and "holds no model" in failed.what and failed.do
