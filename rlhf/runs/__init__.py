"""The run folder: everything that is known about a run, and the only place where processes meet.

    runs/<run-id>/       under RLHF_RUNS_DIR (default ./runs)
      config.json        the settings as they were started, with versions, the device that was found, parent run and checkpoint
      data.jsonl         the prompts or pairs that were used
      status.json        queued | running | paused | finished | stopped | interrupted | failed, since when, and why in words
      control.json       what the user asked for: run | pause | stop_keep | stop_discard
      events.jsonl       one event a line, only ever appended to
      samples.jsonl      one prompt with all its responses a line, likewise
      checkpoints/       step-N, and last, from which a run resumes exactly
      error.txt          the Python traceback, if a fault of the app ended the run
      name.txt           the user's own name for the run, if it was renamed
      run.lock           held by the process that runs it: this, not a process id, says who is alive
      run.pid            whom to kill if it does not heed a stop; never read for anything else

Who writes: config and data once, by ``create``; status only by who holds ``run.lock``; control by ``rlhf.jobs``; the rest by ``RunWriter``.
"""

from rlhf.runs.archive import export_zip, import_zip, metrics_csv
from rlhf.runs.folder import (
    CheckpointInfo,
    Run,
    Status,
    find_checkpoint,
    list_runs,
    open_run,
    queued,
    runs_dir,
)
from rlhf.runs.lifecycle import create, delete, undo_delete
from rlhf.runs.writer import RunWriter

__all__ = [
    "CheckpointInfo",
    "Run",
    "RunWriter",
    "Status",
    "create",
    "delete",
    "export_zip",
    "find_checkpoint",
    "import_zip",
    "list_runs",
    "metrics_csv",
    "open_run",
    "queued",
    "runs_dir",
    "undo_delete",
]
