"""The language of the pages. Every string that is shown goes through ``_()``; English is the source.

Catalogues are ordinary gettext: ``assets/locale/LANGUAGE/LC_MESSAGES/playground.po``, compiled to ``.mo`` beside it.
After a change of strings (pybabel is in requirements-dev.txt):

    pybabel extract -F assets/locale/babel.cfg -o assets/locale/playground.pot .
    pybabel update -i assets/locale/playground.pot -d assets/locale -D playground --no-fuzzy-matching
    pybabel compile -d assets/locale -D playground

A sentence with numbers in it is translated whole: ``_("Step {step} of {steps}").format(step=3, steps=50)``.
"""

from __future__ import annotations

import ast
import gettext
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

LOCALES = Path(__file__).resolve().parents[2] / "assets" / "locale"
TABLES = ("LABELS", "NAMES", "GROUPS", "SCALED")  # dicts whose values are shown, extracted like the strings inside ``_()``
SHOWN: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {"_": ((0,), ()), "Chart": ((), ("bars",))}  # calls, and which arguments
# Calls by which the engine says in words what something is: the places and names of the arguments that pages show.
SPOKEN: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "setting": ((1,), ("unit", "effect")),
    "Variant": ((1,), ("when",)),
    "Metric": ((1, 2, 3, 4, 5), ("label", "unit", "definition", "reading", "not_broken")),
    "RewardFunction": ((1, 4), ("explanation", "range")),
    "RewardModelFunction": ((1, 4), ("explanation", "range")),
    "Entry": ((5,), ("note",)),
    "_embedded": ((2,), ()),
}
LANGUAGES: dict[str, str] = {"en": "English", "zh_CN": "简体中文"}
KEY = "lang"


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("playground", LOCALES, languages=[language], fallback=True)


def language() -> str:
    """The language of this session; English outside of one."""
    if get_script_run_ctx(suppress_warning=True) is None:
        return "en"
    chosen = st.session_state.get(KEY, "en")
    return chosen if chosen in LANGUAGES else "en"


def _(text: str) -> str:
    """The text in the session's language, or as it is where the catalogue has none."""
    if not text:
        return ""  # gettext answers the empty string with the catalogue's header
    return _catalogue(language()).gettext(text)


def switch() -> None:
    """The language switch. Drawn before everything else, so that the rest of the same run already has the language.

    ``?lang=zh_CN`` in a link chooses it (``bind`` would put the language's own name there).
    """
    asked = st.query_params.get(KEY)
    if KEY not in st.session_state and asked in LANGUAGES:
        st.session_state[KEY] = asked
    chosen = st.selectbox(
        _("Language"), list(LANGUAGES), format_func=LANGUAGES.__getitem__, key=KEY, persist_state="session", label_visibility="collapsed"
    )
    wanted = None if chosen == "en" else chosen
    if wanted is None:
        st.query_params.pop(KEY, None)
    elif asked != wanted:
        st.query_params[KEY] = wanted


def extract(file: IO[bytes], keywords: Any, comment_tags: Any, options: Any) -> Iterator[tuple[int, str, str, list[str]]]:
    """For pybabel (assets/locale/babel.cfg): the strings inside ``_()``, those within f-strings too, which its own reader passes over;
    and words that are looked up and then translated, in tables (``TABLES``) and of charts.
    """
    for node in ast.walk(ast.parse(file.read())):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id in TABLES for target in targets):
                yield from _words(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SHOWN:
            yield from _arguments(node, *SHOWN[node.func.id])


def extract_spoken(file: IO[bytes], keywords: Any, comment_tags: Any, options: Any) -> Iterator[tuple[int, str, str, list[str]]]:
    """For pybabel, of the engine's files: what it says of settings, choices, metrics and rewards (``SPOKEN``)."""
    for node in ast.walk(ast.parse(file.read())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPOKEN:
            yield from _arguments(node, *SPOKEN[node.func.id])


def _arguments(call: ast.Call, places: tuple[int, ...], names: tuple[str, ...]) -> Iterator[tuple[int, str, str, list[str]]]:
    given = [call.args[i] for i in places if i < len(call.args)] + [word.value for word in call.keywords if word.arg in names]
    for text in given:
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and text.value:
            yield text.lineno, "_", text.value, []


def _words(table: ast.Dict) -> Iterator[tuple[int, str, str, list[str]]]:
    for value in table.values:
        if isinstance(value, ast.Dict):
            yield from _words(value)
        elif isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
            yield value.lineno, "_", value.value, []
