"""Text that a model or a user wrote, for Streamlit elements that read Markdown (messages, headings, badges)."""

from __future__ import annotations

import re

_MEANT_BY_MARKDOWN = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")


def plain(text: str) -> str:
    """The text with everything escaped that Markdown, HTML, LaTeX or Streamlit's own marks could read as theirs; line ends stay."""
    lines = [_MEANT_BY_MARKDOWN.sub(r"\\\1", line.strip()) for line in text.splitlines()]
    return "  \n".join(lines)


def shortened(text: str, length: int = 80) -> str:
    """One line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
