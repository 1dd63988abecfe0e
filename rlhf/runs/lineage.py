"""Which weights a checkpoint stands on: its run may have started from another run's checkpoint, and that one from a further one."""

from __future__ import annotations

from pathlib import Path

from rlhf.errors import RunError
from rlhf.runs.folder import Run, find_checkpoint

MOST_ANCESTORS = 32


def lineage(run: Run, checkpoint: Path, depth: int = 0) -> tuple[Path, ...]:
    """The folders to lay over the released model, in order, to get the model of ``checkpoint``.

    All weights replace everything before them. An adapter that grew out of its parent's adapter contains it; an adapter that was
    trained on top of a parent's full weights needs those below it.
    """
    started_from = run.config.get("adapter_from")
    if not is_adapter(checkpoint) or not started_from:
        return (checkpoint,)
    if depth > MOST_ANCESTORS:
        raise RunError(f"The run {run.id} has no beginning: its parents go round in a circle.", "Choose another run.")
    return (*(path for path in origin(run, depth + 1) if not is_adapter(path)), checkpoint)


def origin(run: Run, depth: int = 0) -> tuple[Path, ...]:
    """The same for the model as the run found it; empty where that is the released one."""
    started_from = run.config.get("adapter_from")
    return lineage(*find_checkpoint(str(started_from), run.root), depth) if started_from else ()


def is_adapter(checkpoint: Path) -> bool:
    return (checkpoint / "adapter_config.json").is_file()
