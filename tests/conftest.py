"""What several suites need: a runs folder of the test's own, and the certainty that its workers end with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf import jobs
from tests.fake_training import end_workers


@pytest.fixture
def runs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """RLHF_RUNS_DIR, one slot; whatever worker was started for it is ended."""
    root = tmp_path / "runs"
    monkeypatch.setenv("RLHF_RUNS_DIR", str(root))
    monkeypatch.setenv("RLHF_SLOTS", "1")
    yield root
    jobs.stop_tending(root)  # it would replace what is ended now
    end_workers(root)
