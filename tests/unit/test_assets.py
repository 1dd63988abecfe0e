"""What ships with the app: two ordinary checkpoints and four data sets, small, complete, and with nothing held out that is trained on."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from typing import Any

import pytest

from rlhf.catalogue import ASSETS, CATALOGUE
from rlhf.make_data import story_prompts, sums_prompts
from rlhf.preferences import EMBEDDED, PreferencePair, Prompt, load_dataset
from rlhf.rewards import last_number, sentiment

MODELS = [name for name, entry in CATALOGUE.items() if entry.embedded]


def pairs(name: str) -> list[tuple[str, PreferencePair]]:
    data = load_dataset("pairs", name)
    return [(part, p) for part in ("train", "heldout") for p in getattr(data, part) if isinstance(p, PreferencePair)]


# ---------------------------------------------------------------- models


def test_the_models_weigh_at_most_16_mb_together():
    assert sum(file.stat().st_size for file in (ASSETS / "models").rglob("*") if file.is_file()) <= 16_000_000


@pytest.mark.parametrize("name", MODELS)
def test_a_model_folder_holds_what_it_should_and_nothing_else(name):
    files = {file.name for file in (ASSETS / "models" / name).iterdir()}
    assert files == {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "training-curve.svg", "training-log.jsonl",
    }  # fmt: skip
    card = (ASSETS / "models" / name / "README.md").read_text(encoding="utf-8")
    assert "license:" in card and "training-curve.svg" in card and f"python -m rlhf pretrain {name}" in card


@pytest.mark.parametrize("name", MODELS)
def test_plain_transformers_loads_and_samples_without_a_word(name, capfd):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ASSETS / "models" / name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        torch.manual_seed(0)
        prompt = {"story": "Once upon a time", "sums": "37+48="}[name]
        generated = model.generate(**tokenizer(prompt, return_tensors="pt"))
    assert model.num_parameters() == CATALOGUE[name].parameters <= {"story": 2_500_000, "sums": 500_000}[name]
    assert generated.shape[1] <= model.config.max_position_embeddings
    assert tokenizer(prompt)["input_ids"][0] != tokenizer.eos_token_id, "nothing may stand before the prompt"
    err = capfd.readouterr().err.lower()
    assert "warning" not in err and "not initialized" not in err and "unexpected" not in err


def test_the_sums_tokenizer_has_one_token_a_character():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "models" / "sums")
    assert tokenizer.convert_ids_to_tokens(tokenizer("37+48=")["input_ids"]) == list("37+48=")


def test_the_story_model_reaches_its_bits_per_character():
    records = [json.loads(line) for line in (ASSETS / "models" / "story" / "training-log.jsonl").read_text().splitlines()]
    assert records[-1]["heldout_bits_per_character"] <= 0.75


# ---------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("name", "train", "heldout"),
    [("story-prompts", 500, 100), ("sums-prompts", 2000, 200), ("story-pairs", 2000, 200), ("sums-pairs", 2000, 200)],
)
def test_sizes_and_no_prompt_in_both_parts(name, train, heldout):
    data = load_dataset(EMBEDDED[name].kind, name)
    assert len(data.train) >= train and len(data.heldout) >= heldout
    assert not {item.prompt for item in data.train} & {item.prompt for item in data.heldout}
    assert len(set(data.train)) == len(data.train), "no row occurs twice"


def test_pairs_are_held_out_like_the_prompts_they_come_from():
    for model in MODELS:
        prompts, answers = load_dataset("prompts", f"{model}-prompts"), load_dataset("pairs", f"{model}-pairs")
        assert {p.prompt for p in answers.train} <= {p.prompt for p in prompts.train}
        assert {p.prompt for p in answers.heldout} <= {p.prompt for p in prompts.heldout}


@pytest.mark.parametrize(("name", "make"), [("story-prompts", story_prompts), ("sums-prompts", sums_prompts)])
def test_the_command_makes_the_prompts_that_ship(name, make):
    data = load_dataset("prompts", name)
    assert (list(data.train), list(data.heldout)) == make(seed=0)


def test_story_prompts_are_short_and_unfinished_enough():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "models" / "story")
    data = load_dataset("prompts", "story-prompts")
    for prompt in (*data.train, *data.heldout):
        assert 8 <= len(tokenizer(prompt.prompt)["input_ids"]) <= 32
        assert prompt.prompt == prompt.prompt.strip() and abs(sentiment(prompt.prompt)) < 0.9


def test_sums_prompts_carry_the_right_answer_and_heldout_ones_were_never_trained_on():
    from rlhf.pretrain import is_heldout_sum

    data = load_dataset("prompts", "sums-prompts")
    for part, held in ((data.train, False), (data.heldout, True)):
        for item in part:
            assert isinstance(item, Prompt) and item.answer is not None
            assert len(item.text) == 6 and int(item.text[:2]) + int(item.text[3:5]) == int(item.answer) and len(item.answer) == 3
            assert is_heldout_sum(item.text) is held


def test_story_pairs_follow_their_label():
    for _, pair in pairs("story-pairs"):
        assert pair.label == "sadder by VADER (margin 1.0)"
        assert sentiment(pair.rejected) - sentiment(pair.chosen) >= 0.5
        assert pair.chosen.rstrip('"”')[-1] in ".!?" and pair.rejected.rstrip('"”')[-1] in ".!?"


def test_story_pairs_do_not_give_themselves_away_by_length():
    chosen, rejected = (sum(len(getattr(pair, side)) for _, pair in pairs("story-pairs")) for side in ("chosen", "rejected"))
    assert 0.97 < chosen / rejected < 1.03


def test_sums_pairs_prefer_the_right_answer():
    found = pairs("sums-pairs")
    for _, pair in found:
        right = int(pair.prompt[:2]) + int(pair.prompt[3:5])
        assert pair.chosen == f"{right:03d}" and last_number(pair.rejected) != right and pair.label
    assert max(Counter(pair.prompt for _, pair in found).values()) <= 2


def test_no_prompt_was_cut_from_the_corpus():
    """The corpus does not ship; a look at it is possible only where the development data lie beside the repository."""
    corpus = ASSETS.parent.parent / "shared" / "data" / "tinystories" / "all.txt"
    if not corpus.is_file():
        pytest.skip("the training corpus is not on this machine")
    text = corpus.read_text(encoding="utf-8")
    data = load_dataset("prompts", "story-prompts")
    assert sum(prompt.prompt in text for prompt in (*data.train, *data.heldout)) <= 3
