"""For every test of a page that asks for it: runs and votes of its own, and no workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf import jobs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLHF_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *args, **kwargs: None)
    return tmp_path
