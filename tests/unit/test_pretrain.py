"""Pretraining on a corpus of a few sentences with tiny shapes: the plumbing, not the quality."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf import model_card, pretrain
from rlhf.errors import DataError

TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32}
STORIES = [
    f"Once there was a cat named {name}. The cat saw a {thing}." for name in ("Tom", "Mia", "Ben") for thing in ("ball", "hat", "dog")
] * 8


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower on more than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(pretrain, "STORY_SHAPE", {**TINY, "vocab_size": 300})
    monkeypatch.setattr(pretrain, "SUMS_SHAPE", {**TINY, "max_position_embeddings": 16})
    path = tmp_path / "corpus.txt"
    path.write_text(pretrain.END.join(STORIES), encoding="utf-8")
    return path


# ---------------------------------------------------------------- corpora


def test_a_corpus_is_a_file_a_folder_or_paragraphs(tmp_path):
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\n two \n<|endoftext|>\n\n", encoding="utf-8")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("three", encoding="utf-8")
    (tmp_path / "p.md").write_text("one\nline\n\n\n\ntwo\n", encoding="utf-8")
    assert pretrain.read_corpus(str(tmp_path / "a.txt")) == ["one", "two"]
    assert pretrain.read_corpus(str(tmp_path)) == ["one", "two", "three"]
    assert pretrain.read_corpus(str(tmp_path), limit=1) == ["one"]
    assert pretrain.read_corpus(str(tmp_path / "p.md")) == ["one\nline", "two"]


def test_a_corpus_that_is_not_there_empty_or_not_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="no corpus"):
        pretrain.read_corpus(str(tmp_path / "missing.txt"))
    with pytest.raises(DataError, match="holds no text"):
        pretrain.read_corpus(str(tmp_path))
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="not UTF-8"):
        pretrain.read_corpus(str(tmp_path))


def test_a_hub_corpus_is_streamed_and_its_columns_are_checked(monkeypatch):
    import types

    rows = [{"text": " one "}, {"text": ""}, {"text": "two"}, {"text": "three"}]
    fake = types.ModuleType("datasets")
    fake.load_dataset = lambda name, split, streaming: iter(rows)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert pretrain.read_corpus("owner/name", limit=2) == ["one", "two"]
    rows[0] = {"story": "one"}
    with pytest.raises(DataError, match="no column “text”, but story"):
        pretrain.read_corpus("owner/name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets"):
        pretrain.read_corpus("owner/name")


# ---------------------------------------------------------------- tokenizers and batches


def test_the_story_tokenizer_gives_every_text_back(corpus):
    tokenizer = pretrain.story_tokenizer(STORIES, 300)
    for text in (STORIES[0], "  é 小狗 🙂\n\t“x”", "<b>&"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 0 and tokenizer.bos_token is None


def test_the_sums_tokenizer_has_one_token_a_character():
    tokenizer = pretrain.sums_tokenizer()
    ids = tokenizer("37+48=085<eos>")["input_ids"]
    assert len(ids) == 10 and ids[-1] == 0
    assert tokenizer.decode(ids, skip_special_tokens=True) == "37+48=085"


def test_half_of_a_batch_begins_where_stories_begin(corpus):
    tokenizer = pretrain.story_tokenizer(STORIES, 300)
    batch = next(pretrain.story_batches(STORIES, tokenizer, rows=16, length=20, seed=0))
    assert batch.shape == (16, 21)
    assert all(str(tokenizer.decode(row)).startswith("Once there was") for row in batch[:8])
    assert not all(str(tokenizer.decode(row)).startswith("Once there was") for row in batch[8:])
    again = next(pretrain.story_batches(STORIES, tokenizer, rows=16, length=20, seed=0))
    assert torch.equal(batch, again)


def test_bits_per_character_of_an_untrained_model_are_those_of_a_uniform_guess(corpus):
    """zero logits over 300 tokens: log2(300) = 8.23 bits a token"""
    tokenizer = pretrain.story_tokenizer(STORIES, 300)
    model = pretrain.new_model(pretrain.STORY_SHAPE, 300, seed=0)
    torch.nn.init.zeros_(model.model.embed_tokens.weight)
    ids = tokenizer(STORIES[0])["input_ids"][:20]
    expected = (len(ids) - 1) * 8.2288 / len(tokenizer.decode(ids[1:]))
    assert pretrain.bits_per_character(model, tokenizer, STORIES[:1], tokens=20) == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------- sums


def test_sums_problems_are_right_and_one_in_eight_is_held_out():
    rng = random.Random(0)
    problems = [pretrain.sums_problem(rng) for _ in range(4000)]
    assert all(len(p) == 6 and len(a) == 3 and int(p[:2]) + int(p[3:5]) == int(a) for p, a in problems)
    assert sum(pretrain.is_heldout_sum(p) for p, _ in problems) / 4000 == pytest.approx(1 / 8, abs=0.02)


def test_the_sums_loss_is_on_the_answer_and_its_end(corpus, tmp_path, monkeypatch):
    seen = []
    real = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        pretrain.nn.functional, "cross_entropy", lambda logits, targets, **rest: (seen.append(targets), real(logits, targets, **rest))[1]
    )
    pretrain.pretrain_sums(tmp_path / "sums", lambda record: None, rows=4, max_steps=1)
    assert seen[0].shape == (16,) and seen[0].view(4, 4)[:, 3].tolist() == [0, 0, 0, 0]


# ---------------------------------------------------------------- the command


def test_the_story_command_writes_a_checkpoint_that_plain_transformers_loads(corpus, tmp_path, capsys):
    out = tmp_path / "story"
    assert pretrain.main(["story", "--corpus", str(corpus), "--heldout", str(corpus), "--steps", "3", "--out", str(out)]) == 0
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("Once there", return_tensors="pt")
    generated = model.generate(**ids)
    assert generated.shape[1] <= 32 and model.generation_config.do_sample
    records = [json.loads(line) for line in (out / "training-log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 3 and "loss" in records[-1]
    assert (out / "training-curve.svg").read_text().startswith("<svg")
    capsys.readouterr()
    assert pretrain.main(["story", "--corpus", str(corpus), "--out", str(out)]) == 1
    assert "holds a model already" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_model(corpus, tmp_path):
    a, b, c = (
        pretrain.pretrain_story(str(corpus), tmp_path / name, lambda record: None, steps=2, rows=4, seed=seed).model.embed_tokens.weight
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, c)


def test_a_corpus_that_is_missing_ends_the_command_with_one_line(tmp_path, capsys):
    assert pretrain.main(["story", "--corpus", str(tmp_path / "no.txt"), "--out", str(tmp_path / "o")]) == 1
    assert capsys.readouterr().err.startswith("There is no corpus")


# ---------------------------------------------------------------- the curve


def test_ticks_are_round_numbers():
    assert model_card.ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert model_card.ticks(1.93, 2.61) == [2.0, 2.2, 2.4, 2.6]
    assert model_card.ticks(3, 3)


def test_a_curve_of_one_point_and_of_none(tmp_path):
    log, out = tmp_path / "log.jsonl", tmp_path / "curve.svg"
    log.write_text('{"step": 5, "loss": 0.0}\n{"step": 6}\n')
    model_card.draw_curve(log, out, "accuracy", "accuracy")
    assert not out.exists()
    model_card.draw_curve(log, out, "loss", "loss")
    assert "nan" not in out.read_text()
