"""Votes between named items: what is read as a vote, what is named as none, and the counts."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas
import pytest

from rlhf import comparisons
from rlhf.comparisons import Comparison, count, parse_comparisons
from rlhf.errors import DataError

HEADER = "left,right,winner\n"


def one(winner: object, left: str = "Ann", right: str = "Bea") -> Comparison:
    (vote,), problems = parse_comparisons(json.dumps({"left": left, "right": right, "winner": winner}), "v.jsonl")
    assert not problems
    return vote


@pytest.mark.parametrize(
    ("winner", "meant"),
    [
        ("left", "left"),
        (" Model_A ", "left"),
        (1, "left"),
        ("b", "right"),
        ("RIGHT", "right"),
        (2, "right"),
        ("tie", "tie"),
        ("tie (bothbad)", "tie"),
        (0.5, "tie"),
    ],
)
def test_spellings_of_a_winner(winner, meant):
    assert one(winner) == Comparison("Ann", "Bea", meant)


def test_a_winner_given_by_name_goes_before_a_spelling():
    assert one("Bea").winner == "right"
    assert one("b", left="b", right="a").winner == "left" and one("a", left="b", right="a").winner == "right"


@pytest.mark.parametrize("columns", [("model_a", "model_b", "winner"), ("Item A", "Item B", "Outcome"), ("player1", "player2", "result")])
def test_columns_of_other_programs(columns):
    votes, problems = parse_comparisons(";".join(columns) + "\nAnn;Bea;Ann\n", "v.csv")
    assert votes == [Comparison("Ann", "Bea", "left")] and not problems


def test_every_format_gives_the_same():
    rows = [{"left": "Ann", "right": "小狗, the dog", "winner": "right"}, {"left": "Ann", "right": "Cem", "winner": "tie"}]
    frame, sink = pandas.DataFrame(rows), io.BytesIO()
    frame.to_parquet(sink)
    files = {
        "v.csv": frame.to_csv(index=False).encode(),
        "v.tsv": frame.to_csv(index=False, sep="\t").encode(),
        "v.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "v.json": json.dumps(rows).encode(),
        "v.parquet": sink.getvalue(),
    }
    wanted = [Comparison("Ann", "小狗, the dog", "right"), Comparison("Ann", "Cem", "tie")]
    assert {name: parse_comparisons(content, name) for name, content in files.items()} == {name: (wanted, []) for name in files}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("Ann,Ann,left", "“Ann” is compared with itself"),
        ("Ann,Bea,perhaps", "the winner is “perhaps”"),
        ("Ann,Bea,Cem", "the winner is “Cem”"),
        ("Ann,Bea,", "“winner” is empty"),
        (" ,Bea,left", "“left” is empty"),
        ("Ann,,left", "“right” is empty"),
        (f"Ann,{'x' * 201},left", "201 characters; at most 200"),
        ("Ann,Bea", "2 cells, but the header has 3 columns"),
    ],
)
def test_a_row_that_is_no_vote_is_named_and_the_rest_kept(row, words):
    votes, problems = parse_comparisons(f"{HEADER}Ann,Bea,left\n{row}\nBea,Cem,tie\n", "v.csv")
    assert votes == [Comparison("Ann", "Bea", "left"), Comparison("Bea", "Cem", "tie")]
    assert len(problems) == 1 and problems[0].startswith("v.csv, line 3: ") and words in problems[0]


def test_missing_cells_of_a_parquet_file_are_empty_and_no_names():
    sink = io.BytesIO()
    rows = [{"left": "Ann", "right": "Bea", "winner": "left"}, {"left": None, "right": "Bea", "winner": "left"}]
    pandas.DataFrame(rows).to_parquet(sink)
    votes, problems = parse_comparisons(sink.getvalue(), "v.parquet")
    assert len(votes) == 1 and problems == ["v.parquet, row 2: “left” is empty."]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("v.jsonl", '{"left": "a", "right": "b", "winner": "a"}\n{"left": "a", "ri', "v.jsonl, line 2: not valid JSON"),
        ("v.json", '[{"left": "a", "right": "b", "winner": "a"}, {"left": "a", "ri', "v.json, line 1: not valid JSON"),
        ("v.csv", 'left,right,winner\na,b,a\na,"b', "v.csv, line 3: not valid CSV"),
        ("v.csv", "left,right,winner\na,b,a\na,b", "v.csv, line 3: 2 cells"),
    ],
)
def test_a_half_written_file_is_read_up_to_there(name, content, place):
    votes, problems = parse_comparisons(content, name)
    assert votes == [Comparison("a", "b", "left")]
    assert len(problems) == 1 and place in problems[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("v.csv", "one,two\na,b\n", "no column “left”. Columns found: “one”, “two”"),
        ("v.csv", "left,right\na,b\n", "no column “winner”"),
        ("v.csv", f"{HEADER}a,a,left\n", "line 2: “a” is compared with itself"),
        ("v.csv", "", "holds no votes"),
        ("v.jsonl", '"a beats b"\n', "needs the columns"),
        ("v.parquet", b"PAR1 and half", "Parquet"),
        ("v.docx", b"PK", "“.docx” is not known"),
        ("v.csv", "left,right,winner\nschön,b,left".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_file_without_votes_is_refused(name, content, words):
    with pytest.raises(DataError) as caught:
        parse_comparisons(content, name)
    assert words in caught.value.what and caught.value.do


def test_more_votes_than_are_read(monkeypatch):
    monkeypatch.setattr(comparisons, "MAX_ROWS", 2)
    votes, problems = parse_comparisons(HEADER + "a,b,left\n" * 4, "v.csv")
    assert len(votes) == 2 and "after 2 votes the rest is left out" in problems[0]


def test_counts_by_hand():
    votes = [Comparison("b", "a", "left"), Comparison("a", "b", "left"), Comparison("a", "b", "right"), Comparison("c", "a", "tie")]
    counted = count(votes)
    assert counted.items == ("a", "b", "c") and counted.votes == 4
    assert np.array_equal(counted.wins, [[0, 1, 0], [2, 0, 0], [0, 0, 0]])
    assert np.array_equal(counted.ties, [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


def test_nothing_and_too_much_cannot_be_counted():
    with pytest.raises(DataError, match="no votes"):
        count([])
    with pytest.raises(DataError, match="301 items"):
        count([Comparison(str(i), str(i + 1), "left") for i in range(300)])
