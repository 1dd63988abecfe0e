"""Text that a model or a user wrote, for Streamlit elements that read Markdown (messages, headings, badges), and errors in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import streamlit as st

from rlhf.errors import PlaygroundError

_MEANT_BY_MARKDOWN = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")


def plain(text: str) -> str:
    """The text with everything escaped that Markdown, HTML, LaTeX or Streamlit's own marks could read as theirs; line ends stay."""
    lines = [_MEANT_BY_MARKDOWN.sub(r"\\\1", line.strip()) for line in text.splitlines()]
    return "  \n".join(lines)


def show_error(error: PlaygroundError, icon: str = ":material/error:") -> None:
    """What happened and, below it, what to do."""
    st.error(f"{plain(error.what)}  \n{plain(error.do)}", icon=icon)


def told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """What runs are called (by id, or ID/CHECKPOINT), each by a name of its own: Streamlit finds a choice by its words, and takes the first
    that has them. Names that several have get the end of the id."""
    times = Counter(names.values())
    return {key: name if times[name] == 1 else f"{name} ({key.partition('/')[0][-4:]})" for key, name in names.items()}


def shortened(text: str, length: int = 80) -> str:
    """One line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
