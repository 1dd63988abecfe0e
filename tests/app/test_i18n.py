"""The catalogues: compiled from what is in the .po, placeholders kept, every string of the pages found."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from pages.components import i18n

pofile = pytest.importorskip("babel.messages.pofile")
mofile = pytest.importorskip("babel.messages.mofile")

PO = sorted(i18n.LOCALES.glob("*/LC_MESSAGES/playground.po"))


def test_there_is_a_catalogue_for_every_language_but_the_source():
    assert {path.parts[-3] for path in PO} == set(i18n.LANGUAGES) - {"en"}


@pytest.mark.parametrize("path", PO, ids=lambda path: path.parts[-3])
def test_compiled_catalogue_is_up_to_date(path: Path):
    with path.open("rb") as file:
        catalogue = pofile.read_po(file)
    with path.with_suffix(".mo").open("rb") as file:
        compiled = mofile.read_mo(file)
    assert {m.id: m.string for m in compiled if m.id} == {m.id: m.string for m in catalogue if m.id and m.string}


@pytest.mark.parametrize("path", PO, ids=lambda path: path.parts[-3])
def test_placeholders_and_markup_are_kept(path: Path):
    with path.open("rb") as file:
        for message in pofile.read_po(file):
            if message.id and message.string:
                for pattern in (r"\{\w*\}", r"\*\*"):
                    assert sorted(re.findall(pattern, message.id)) == sorted(re.findall(pattern, message.string)), message.id


def test_strings_inside_f_strings_are_found():
    source = b'x = _("plain"); y = f"{_(\'inside\')} {z}"; w = _("a " "b"); _(variable); other("no")'
    assert {found[2] for found in i18n.extract(io.BytesIO(source), None, None, None)} == {"plain", "a b", "inside"}


def test_words_of_tables_are_found():
    source = b'LABELS: dict = {"a": "Alpha", "b": {"c": "Beta"}}; OTHER = {"a": "no"}'
    assert {found[2] for found in i18n.extract(io.BytesIO(source), None, None, None)} == {"Alpha", "Beta"}


def test_what_the_engine_says_is_found():
    source = b"""a: int = setting(3, "Steps to go.", "few", unit="steps", ge=1); Variant(r"\\pi", "Rarely.", ("Paper", "https://x"))"""
    assert {found[2] for found in i18n.extract_spoken(io.BytesIO(source), None, None, None)} == {"Steps to go.", "steps", "Rarely."}


def test_outside_of_a_session_it_is_english():
    assert i18n.language() == "en" and i18n._("Home") == "Home" and i18n._("") == ""
