"""For every test of a page that asks for it: runs and votes of its own, and no workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from pages.components.labs.plot import Plot
from rlhf import jobs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *args, **kwargs: None)
    return tmp_path


@pytest.fixture(autouse=True)
def _checked_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab's figure is not looked at by ``go.Figure`` on its way to the browser; here it is."""
    plain = Plot.to_json

    def to_json(plot: Plot) -> bytes:
        text = plain(plot)
        made = json.loads(text)
        known = go.Figure(made).to_plotly_json()
        assert not (lost := unknown({"data": made["data"], "layout": made["layout"]}, known)), lost
        return text

    monkeypatch.setattr(Plot, "to_json", to_json)


def unknown(given: Any, known: Any, path: str = "") -> list[str]:
    """What of a figure plotly reads under another name only, such as ``marker_color``, which its script does not know."""
    if isinstance(given, dict):
        if not isinstance(known, dict):
            return []
        missing = [f"{path}/{key}" for key, value in given.items() if key not in known and value not in (None, [], {})]
        return missing + [lost for key in given.keys() & known.keys() for lost in unknown(given[key], known[key], f"{path}/{key}")]
    if isinstance(given, list) and isinstance(known, list | tuple):
        return [lost for i, (one, other) in enumerate(zip(given, known, strict=False)) for lost in unknown(one, other, f"{path}/{i}")]
    return []
