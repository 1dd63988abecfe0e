"""The sidebar of every page: the runs under way, the device and its memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from functools import cache

import psutil
import streamlit as st

from pages.components import live, theme
from pages.components.i18n import _
from pages.components.numbers import duration, megabytes
from pages.components.text import plain
from rlhf import jobs, runs
from rlhf.algorithms import CONFIGS, title

ACTIVE_SECONDS = 2.0
IDLE_SECONDS = 10.0  # a run may be started from another window or the command line
_GPU_SECONDS = 5.0
_SHOWN = 6


def sidebar() -> None:
    """Draw it, and keep it fresh from a fragment of its own."""
    busy = any(run.algorithm in CONFIGS for run in jobs.active(runs.runs_dir()))
    st.fragment(_sidebar, run_every=ACTIVE_SECONDS if busy else IDLE_SECONDS, key="sidebar")(busy)


def _sidebar(busy: bool) -> None:
    active = [run for run in jobs.active(runs.runs_dir()) if run.algorithm in CONFIGS]  # a damaged or newer one has no page
    if bool(active) != busy:
        st.rerun()  # only to change how often this is refreshed
    with st.container(key="sidebar-runs", gap="xsmall"):
        if active:
            st.caption(_("Under way"))
        for run in active[:_SHOWN]:
            status = run.status
            label = f"{plain(_(title(run.algorithm)))} · {plain(run.model)}"
            st.page_link(f"{run.algorithm}.py", label=label, icon=theme.STATE_BADGES[status.state][1], query_params={"run": run.id})
            if status.state == "running" and status.steps:
                left = f" · {duration(status.eta_seconds)}" if status.eta_seconds is not None else ""
                st.progress(min(1.0, status.step / status.steps), text=f":small[{status.step} / {status.steps}{left}]")
            else:
                place = f" · {status.queue_place}" if status.queue_place else ""
                st.caption(live.state_name(status) + place)
        if len(active) > _SHOWN:
            st.caption(_("and {count} more").format(count=len(active) - _SHOWN))
    with st.container(key="sidebar-device"):
        st.caption(device_line())


def device_line() -> str:
    """Device and memory in use, without torch: the GPU where the driver's tool names one, else the processor."""
    gpus = gpu_memory()
    if gpus:
        return "  \n".join(f":material/memory: {plain(name)} · {megabytes(used)} / {megabytes(total)}" for name, used, total in gpus)
    memory = psutil.virtual_memory()
    cores = _("{count} cores").format(count=os.cpu_count() or 1)
    return f":material/memory: {_('CPU')} · {cores} · {megabytes(memory.total - memory.available)} / {megabytes(memory.total)}"


_last_gpus: tuple[float, list[tuple[str, int, int]]] = (0.0, [])


def gpu_memory() -> list[tuple[str, int, int]]:
    """(name, bytes in use, bytes in all) of each NVIDIA GPU; asked at most every five seconds, whatever the number of pages."""
    global _last_gpus
    tool = _nvidia_smi()
    if tool is None:
        return []
    asked, found = _last_gpus
    if time.monotonic() - asked < _GPU_SECONDS:
        return found
    try:
        out = subprocess.run(
            [tool, "--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=3,
            check=True,
        ).stdout
        found = [
            (name, int(used) * 2**20, int(total) * 2**20)
            for name, used, total in (line.rsplit(", ", 2) for line in out.splitlines() if line)
        ]
    except (OSError, subprocess.SubprocessError, ValueError):
        found = []  # a driver that is being updated, or memory that it does not tell ([N/A])
    _last_gpus = (time.monotonic(), found)
    return found


@cache
def _nvidia_smi() -> str | None:
    return shutil.which("nvidia-smi")
