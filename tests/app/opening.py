"""What the tests of pages share: to open a page in the app's frame, to press a button, and to read what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

INDEX = str(Path(__file__).parents[2] / "pages" / "index.py")


def open_page(name: str, state: Mapping[str, Any] | None = None, **link: str) -> AppTest:
    """``state``: of the session before; ``link``: the query of the address."""
    at = AppTest.from_file(INDEX, default_timeout=120)
    at.query_params.update(link)
    for key, value in (state or {}).items():
        at.session_state[key] = value
    at.switch_page(f"{name}.py").run()
    assert not at.exception, at.exception
    return at


def press(at: AppTest, key: str) -> AppTest:
    """The button with this key; of a key that ends on a slash, the first that begins so."""
    return next(b for b in at.button if b.key and (b.key == key or (key.endswith("/") and b.key.startswith(key)))).click().run()


def texts(at: AppTest) -> str:
    """What is shown, without Markdown's escapes."""
    kinds = (at.title, at.markdown, at.caption, at.error, at.warning, at.info, at.success, at.text, at.latex)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")
