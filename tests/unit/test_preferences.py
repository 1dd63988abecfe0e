"""Prompt and pair files: everything reasonable is read, everything else is refused with the line and the reason."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from rlhf import tables
from rlhf.errors import DataError
from rlhf.preferences import (
    EMBEDDED,
    Dataset,
    Demonstration,
    PreferencePair,
    Prompt,
    load_dataset,
    parse_demonstrations,
    parse_pairs,
    parse_prompts,
    read_data,
    split,
    write_data,
)

PAIR = {"prompt": "Once", "chosen": " sad", "rejected": " glad"}


def jsonl(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def refused(content: bytes | str, filename: str, parse=parse_prompts) -> DataError:
    with pytest.raises(DataError) as caught:
        parse(content, filename)
    assert filename in caught.value.what and caught.value.do
    return caught.value


def parquet(rows: list[dict]) -> bytes:
    import pandas

    buffer = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(buffer)
    return buffer.getvalue()


def test_importing_it_loads_neither_torch_nor_pandas():
    code = "import sys, rlhf.preferences; print([m for m in ('torch', 'pandas', 'pyarrow', 'streamlit') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# ---------------------------------------------------------------- reading prompts


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("a.txt", b"Once\n\n  \nThere was\n"),
        ("a.TXT", b"Once\r\nThere was"),
        ("a.jsonl", jsonl({"prompt": "Once"}, {"prompt": "There was"})),
        ("a.jsonl", b'"Once"\n\n"There was"\n'),
        ("a.json", json.dumps([{"text": "Once"}, {"text": "There was"}]).encode()),
        ("a.json", json.dumps({"data": ["Once", "There was"], "version": 1}).encode()),
        ("a.csv", b"prompt\nOnce\nThere was\n"),
        ("a.csv", b"id;Question\n1;Once\n\n2;There was\n"),
        ("a.tsv", b"id\tinstruction\n1\tOnce\n2\tThere was\n"),
        ("a.parquet", parquet([{"prompt": "Once"}, {"prompt": "There was"}])),
        ("a.csv", "\ufeffprompt\r\nOnce\r\nThere was\r\n".encode()),
        ("a.txt", "Once\nThere was".encode("utf-16")),
        ("a.txt", "Once\nThere was".encode("utf-32")),
    ],
)
def test_prompts_of_every_format(filename, content):
    assert parse_prompts(content, filename) == [Prompt("Once"), Prompt("There was")]


def test_pasted_text_is_read_like_a_file():
    assert parse_prompts("Once\nThere was", "pasted.txt") == [Prompt("Once"), Prompt("There was")]


def test_texts_come_through_unchanged():
    texts = ['She said, "No"\nand left', " spaces ", "小狗", "<b>*bold*</b>", "a\u2028b", "🙂", "1,2;3\t4"]
    assert [p.text for p in parse_prompts(jsonl(*({"prompt": t} for t in texts)), "a.jsonl")] == texts
    assert [p.text for p in parse_prompts(parquet([{"prompt": t} for t in texts]), "a.parquet")] == texts
    import csv

    buffer = io.StringIO()
    csv.writer(buffer).writerows([["prompt"], *([t] for t in texts)])
    assert [p.text for p in parse_prompts(buffer.getvalue(), "a.csv")] == texts


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"question": "2+2?", "answer": "2 and 2.\n#### 4"}, Prompt("2+2?", "4")),
        ({"problem": "2+2?", "ground_truth": 4}, Prompt("2+2?", "4")),
        ({"prompt": "2+2?", "final answer": 4.0}, Prompt("2+2?", "4")),
        ({"prompt": "a", "answer": None}, Prompt("a")),
        ({"prompt": "a", "answer": ""}, Prompt("a")),
        ({"prompt": "37+48=", "answer": "085"}, Prompt("37+48=", "085")),
        ({"prompt": "first", "text": "second"}, Prompt("first")),
        ({"instruction": "Translate.", "input": "chat", "output": "cat"}, Prompt("Translate.\n\nchat")),
        ({"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}, Prompt("Hello")),
        ({"conversations": [{"from": "human", "value": "Hello"}]}, Prompt("Hello")),
        (
            {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]},
            Prompt("System: Be kind.\n\nUser: Hello"),
        ),
    ],
)
def test_columns_that_data_sets_in_the_wild_use(row, prompt):
    assert parse_prompts(jsonl(row), "a.jsonl") == [prompt]


def test_an_answer_that_is_missing_in_parquet_is_none():
    assert parse_prompts(parquet([{"prompt": "a", "answer": 4.0}, {"prompt": "b", "answer": None}]), "a.parquet") == [
        Prompt("a", "4"),
        Prompt("b"),
    ]


# ---------------------------------------------------------------- reading pairs


def test_pairs_of_every_format():
    expected = [PreferencePair("Once", " sad", " glad", "shorter")]
    row = {**PAIR, "label": "shorter"}
    assert (
        parse_pairs(jsonl(row), "a.jsonl")
        == parse_pairs(json.dumps([row]), "a.json")
        == parse_pairs(parquet([row]), "a.parquet")
        == expected
    )
    assert parse_pairs('prompt,chosen,rejected,label\nOnce," sad"," glad",shorter\n', "a.csv") == expected


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Hi", "winner": "yes", "loser": "no"},
        {
            "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "no"}],
        },
        {"prompt": "Hi", "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]},
        {
            "prompt": [{"role": "user", "content": "Hi"}],
            "chosen": [{"from": "gpt", "value": "yes"}],
            "rejected": [{"from": "gpt", "value": "no"}],
        },
    ],
)
def test_pairs_in_other_forms(row):
    assert parse_pairs(jsonl(row), "a.jsonl") == [PreferencePair("Hi", "yes", "no")]


def test_pairs_as_dialogues_without_a_prompt_column():
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Well?\n\nAssistant:"
    assert parse_pairs(jsonl({"chosen": start + " yes", "rejected": start + " no"}), "a.jsonl") == [PreferencePair(start, " yes", " no")]


# ---------------------------------------------------------------- what is refused


def test_a_broken_line_317_is_named_with_its_reason():
    lines = [json.dumps({"prompt": f"p{i}"}) for i in range(400)]
    lines[316] = '{"prompt": "p316"'
    error = refused("\n".join(lines).encode(), "a.jsonl")
    assert "line 317" in error.what and "Expecting ',' delimiter" in error.what and "column 18" in error.what


def test_missing_columns_are_named_with_those_that_were_found():
    error = refused(b"id,title\n1,Once\n", "a.csv")
    assert "no column “prompt”" in error.what and "“id”, “title”" in error.what and "question" in error.do and "line 2" in error.what
    error = refused(jsonl({"prompt": "a", "chosen": "b"}), "a.jsonl", parse_pairs)
    assert "no column “rejected”" in error.what and "“prompt”, “chosen”" in error.what
    assert "no column “prompt”" in refused(jsonl({"chosen": "a", "rejected": "b"}), "a.jsonl", parse_pairs).what


def test_bytes_that_are_not_utf8_are_named_with_their_place():
    error = refused("prompt\nOnce\nein schöner Tag\n".encode("latin-1"), "a.csv")
    assert "UTF-8" in error.what and "0xf6" in error.what and "line 3" in error.what and "UTF-8" in error.do
    assert "null byte" in refused("Once".encode("utf-16-le"), "a.txt").what
    assert "UTF-16" in refused(b"\xff\xfea", "a.txt").what


@pytest.mark.parametrize(
    ("filename", "content", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\n \n", "is empty"),
        ("a.csv", b"prompt\n", "is empty"),
        ("a.json", b"", "is empty"),
        ("a.json", b"[]", "is empty"),
        ("a.parquet", b"", "not a Parquet file"),
        ("a.parquet", b"PAR1 and then nothing", "not a Parquet file"),
        ("a.parquet", "text", "cannot be pasted"),
        ("a.docx", b"PK", "“.docx” is not known"),
        ("prompts", b"Once", "“without an ending” is not known"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "  "}\n', "line 2: “prompt” is empty"),
        ("a.jsonl", b'{"prompt": null}\n', "line 1: “prompt” is empty"),
        ("a.csv", b"id,prompt\n1,a\n2,\n", "line 3: “prompt” is empty"),
        ("a.jsonl", b'{"prompt": {"a": 1}}\n', "“prompt” is not a text"),
        ("a.jsonl", b'{"prompt": true}\n', "“prompt” is not a text"),
        ("a.jsonl", b"[1, 2]\n", "line 1: an object was expected, found [1, 2]"),
        ("a.jsonl", b'[\n{"prompt": "a"}\n]', "line 1: not valid JSON"),
        ("a.jsonl", b'{"prompt": "a\\u0000b"}\n', "null byte"),
        ("a.jsonl", b'{"prompt": "a\\ud800b"}\n', "surrogate"),
        ("a.jsonl", b"[" * 100_000, "line 1"),
        ("a.jsonl", b"1" * 10_000, "line 1"),
        ("a.json", b'{"prompt": "a"}\n{"prompt": "b"}', "line 2: not valid JSON: Extra data"),
        ("a.json", b'{"prompt": "a"}', "one object"),
        ("a.json", b"3", "not a list"),
        ("a.csv", b"id,prompt\n1,a,b\n", "line 2: 3 cells, but the header has 2 columns (id, prompt)"),
        ("a.csv", b'id,prompt\n1,a\n2,"b\n', "line 3: not valid CSV"),
        ("a.csv", b"prompt,prompt\na,b\n", "“prompt” is there twice"),
        ("a.jsonl", b'{"messages": [{"content": "a"}]}', "“role” and “content”"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(filename, content, reason):
    assert reason in refused(content, filename).what


def test_the_line_is_right_after_texts_of_several_lines():
    assert "line 4:" in refused(b'id,prompt\n1,"a\nb"\n2,""\n', "a.csv").what


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**PAIR, "rejected": " sad"}, "are the same"),
        ({**PAIR, "prompt": ""}, "“prompt” is empty"),
        ({**PAIR, "chosen": 3}, None),
        ({**PAIR, "chosen": ["a"]}, "one answer is a conversation"),
        ("Once", "must be an object"),
    ],
)
def test_pairs_that_are_refused(row, reason):
    if reason is None:
        assert parse_pairs(jsonl(row), "a.jsonl")[0].chosen == "3"
    else:
        assert reason in refused(jsonl(row), "a.jsonl", parse_pairs).what


def test_pairs_cannot_come_from_a_text_file():
    assert "cannot hold" in refused(b"Once", "a.txt", parse_pairs).what


def test_too_much_is_refused(monkeypatch):
    assert "characters" in refused("x" * 60_000, "a.txt").what
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    assert "more than 3 rows" in refused(b"a\nb\nc\nd", "a.txt").what
    assert "4 rows" in refused(parquet([{"prompt": str(i)} for i in range(4)]), "a.parquet").what
    monkeypatch.setattr(tables, "MAX_BYTES", 2**20)
    assert "2 MB" in refused(b"x" * 2**21, "a.txt").what
    squeezed = parquet([{"prompt": "x" * 40_000 + str(i)} for i in range(3)] * 1)
    monkeypatch.setattr(tables, "MAX_BYTES", 100_000)
    assert len(squeezed) < 100_000 and "MB" in refused(squeezed, "a.parquet").what


# ---------------------------------------------------------------- how strongly, and answers to imitate


@pytest.mark.parametrize(("filename", "content"), [
    ("a.jsonl", jsonl({**PAIR, "strength": 2}, {**PAIR, "strength": 0.5}, {**PAIR, "strength": None}, PAIR)),
    ("a.csv", b"prompt,chosen,rejected,strength\nOnce, sad, glad,2\nOnce, sad, glad,0.5\nOnce, sad, glad,\nOnce, sad, glad,1\n"),
    ("a.parquet", parquet([{**PAIR, "strength": s} for s in (2.0, 0.5, None, 1.0)])),
])  # fmt: skip
def test_strength_of_a_preference(filename, content):
    assert [pair.strength for pair in parse_pairs(content, filename)] == [2.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("strength", [0, -1, 101, True, "strong", "nan", "inf", [2]])
def test_strengths_that_say_nothing_are_refused(strength):
    error = refused(jsonl({**PAIR, "strength": strength}), "a.jsonl", parse_pairs)
    assert "line 1: “strength” is" in error.what and "above 0" in error.do


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "Once", "completion": " upon"}, Demonstration("Once", " upon")),
        ({"question": "2+2?", "answer": 4, "label": "by hand"}, Demonstration("2+2?", "4", "by hand")),
        ({"instruction": "Translate.", "input": "chat", "output": "cat"}, Demonstration("Translate.\n\nchat", "cat")),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, Demonstration("Say hi.", "hi")),
        ({**PAIR, "label": "sadder"}, Demonstration("Once", " sad", "sadder")),
        (
            {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]},
            Demonstration("Hello", "Hi"),
        ),
        (
            {"conversations": [{"from": "system", "value": "Nicely"}, {"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]},
            Demonstration("System: Nicely\n\nUser: Hello", "Hi"),
        ),
        (
            {"prompt": [{"role": "user", "content": "Hello"}], "completion": [{"role": "assistant", "content": "Hi"}]},
            Demonstration("Hello", "Hi"),
        ),
        (
            {
                "chosen": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
                "rejected": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "No"}],
            },
            Demonstration("Hello", "Hi"),
        ),
        (
            {"chosen": "Human: Hello Assistant: Hi", "rejected": "Human: Hello Assistant: No"},
            Demonstration("Human: Hello Assistant:", " Hi"),
        ),
    ],
)  # fmt: skip
def test_answers_to_imitate_as_files_in_the_wild_write_them(row, wanted):
    assert parse_demonstrations(jsonl(row), "a.jsonl") == [wanted]


def test_answers_to_imitate_of_tables():
    wanted = [Demonstration("Once", " upon, a time"), Demonstration("There", " was")]
    assert parse_demonstrations('prompt,response\nOnce," upon, a time"\nThere, was\n', "a.csv") == wanted
    rows = [{"prompt": item.prompt, "response": item.response} for item in wanted]
    assert parse_demonstrations(parquet(rows), "a.parquet") == wanted


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Once"}, "no column “response”"),
        ({"response": " upon"}, "no column “prompt”"),
        ({"prompt": "Once", "response": "  "}, "“response” is empty"),
        ({**PAIR, "chosen": ""}, "“chosen” is empty"),
        ({"prompt": "", "response": "a"}, "“prompt” is empty"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "has no answer"),
        ({"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hello"}]}, "has no answer"),
        ({"messages": []}, "has no answer"),
        ("Once", "must be an object"),
    ],
)
def test_answers_to_imitate_that_are_refused(row, reason):
    error = refused(jsonl({"prompt": "p", "response": "r"}, row), "a.jsonl", parse_demonstrations)
    assert reason in error.what and "line 2" in error.what


def test_answers_to_imitate_cannot_come_from_a_text_file():
    assert "cannot hold" in refused(b"Once", "a.txt", parse_demonstrations).what


def test_the_better_answers_of_an_embedded_set_are_answers_to_imitate():
    pairs, shown = load_dataset("pairs", "sums-pairs"), load_dataset("demonstrations", "sums-pairs")
    assert shown.kind == "demonstrations" and len(shown.heldout) == len(pairs.heldout)
    assert [item.response for item in shown.train] == [pair.chosen for pair in pairs.train]
    with pytest.raises(DataError, match="holds prompts, but this algorithm needs demonstrations"):
        load_dataset("demonstrations", "sums-prompts")


@pytest.mark.parametrize(("kind", "items"), [
    ("demonstrations", (Demonstration("a\u2028b", "c\x85\nd", "by hand"), Demonstration("🙂", " "))),
    ("pairs", (PreferencePair("a", "b", "", "rule", 2.5), PreferencePair("a", "b", "c"))),
])  # fmt: skip
def test_a_run_s_data_comes_back_as_it_was(kind, items, tmp_path):
    data = Dataset(items[:1], items[1:], kind, "custom")
    write_data(tmp_path / "data.jsonl", data)
    assert read_data(tmp_path / "data.jsonl") == data


# ---------------------------------------------------------------- data sets


def test_split_is_by_prompt_and_the_same_every_time():
    pairs = [PreferencePair(f"p{i % 50}", f"a{i}", "b") for i in range(200)]
    data = split(pairs, "x")
    train, held = ({item.prompt for item in part} for part in (data.train, data.heldout))
    assert data.kind == "pairs" and len(held) == 5 and len(data.heldout) == 20 and not train & held
    assert set(data.train + data.heldout) == set(pairs)
    again = split(pairs[::-1], "x")
    assert {item.prompt for item in again.heldout} == held


def test_split_of_few_prompts():
    assert split([Prompt("a")], "x") == Dataset((Prompt("a"),), (), "prompts", "x")
    two = split([Prompt("a"), Prompt("b")], "x")
    assert len(two.train) == len(two.heldout) == 1


def test_load_a_file_with_and_without_a_heldout_file(tmp_path):
    train, held = tmp_path / "train.txt", tmp_path / "held.txt"
    train.write_text("\n".join(f"p{i}" for i in range(20)))
    held.write_text("other\n")
    assert len(load_dataset("prompts", str(train)).heldout) == 2
    data = load_dataset("prompts", str(train), str(held))
    assert len(data.train) == 20 and data.heldout == (Prompt("other"),)
    held.write_text("other\np3\n")
    with pytest.raises(DataError, match=r'1 of the held-out prompts are also in the training data, for example "p3"'):
        load_dataset("prompts", str(train), str(held))


@pytest.mark.parametrize("source", ["", "nothing-here", "/nothing/here.jsonl"])
def test_a_source_that_is_nothing_is_refused_with_the_choices(source):
    with pytest.raises(DataError) as caught:
        load_dataset("prompts", source)
    assert "story-prompts" in caught.value.do


def test_a_folder_and_the_wrong_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        load_dataset("prompts", str(tmp_path))
    with pytest.raises(DataError, match="holds pairs, but this algorithm needs prompts"):
        load_dataset("prompts", "story-pairs")


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_load_and_survive_a_run_folder(name, tmp_path):
    data = load_dataset(EMBEDDED[name].kind, name)
    write_data(tmp_path / "data.jsonl", data)
    assert read_data(tmp_path / "data.jsonl") == data


def test_data_of_a_run_keeps_odd_texts_and_refuses_a_broken_file(tmp_path):
    path = tmp_path / "data.jsonl"
    data = Dataset((Prompt("a\u2028b\x85c\nd", "085"), Prompt("🙂")), (), "prompts", "custom")
    write_data(path, data)
    assert read_data(path) == data
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        read_data(path)
    with pytest.raises(DataError):
        read_data(tmp_path / "missing.jsonl")
