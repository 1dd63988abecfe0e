"""The server: ``streamlit run app.py``.

Starts a worker with the server, so that torch is imported before the first click, and answers ``/health``. It also hands the browser
plotly's script, for the live plots (pages/components/charts.py). Nothing else is here, and torch is never imported in this process
on the way to the first page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import plotly
import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from rlhf import jobs, runs
from rlhf.errors import PlaygroundError

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncGenerator[None, None]:
    """Start a worker. A server without one still shows every page, so a failure is logged and not fatal."""
    try:
        await asyncio.to_thread(jobs.ensure_worker, runs.runs_dir())
    except (PlaygroundError, OSError):
        logging.getLogger(__name__).exception("No worker could be started; it is tried again when a run is queued.")
    yield


async def health(request: Request) -> JSONResponse:
    """200 with the number of runs under way: for a proxy, a container or a test that waits for the server."""
    active = await asyncio.to_thread(jobs.active, runs.runs_dir())
    return JSONResponse({"status": "ok", "active_runs": len(active)})


async def plotly_script(request: Request) -> FileResponse:
    return FileResponse(PLOTLY, media_type="text/javascript", headers={"Cache-Control": "public, max-age=604800"})


app = st.App("pages/index.py", lifespan=lifespan, routes=[Route("/health", health), Route("/plotly.min.js", plotly_script)])
