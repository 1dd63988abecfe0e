"""What one live page costs the training beside it: the same run with no page, and with its page open.

    python -m benchmarks.live_page_cost [--pairs 5] [--steps 40] [--page grpo]

The browser itself is not counted, so no browser is there: a small client speaks the server's websocket as the browser does. It opens the
page of the run, takes every message, and asks for each live fragment again at the interval that the server told it. The same run (story,
GRPO, same seed, no held-out measurements) goes through the same worker in pairs, with and without the page, in alternating order. Compared
is the time from the third step to the last, as the run's own events tell it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from benchmarks.measuring import Report, parser
from rlhf import jobs
from rlhf.algorithms import make_config
from rlhf.preferences import load_dataset
from rlhf.runs import Run
from tests.serving import Server, serve

GOAL = 5.0
FROM_STEP = 3


class Page:
    """A page as the server sees it: a websocket that answers as Streamlit's browser side does."""

    def __init__(self, server: Server, name: str, query: str):
        self.address = server.url.replace("http", "ws", 1) + "/_stcore/stream"
        self.name, self.query = name, query
        self.messages = self.bytes = self.polls = 0
        self.cpu_seconds = 0.0
        self.problem = ""
        self._due: dict[str, tuple[float, float]] = {}  # fragment → (next time, interval)
        self._page_hash = ""
        self._cached: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Page:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(10)

    def _live(self) -> None:
        with connect(self.address, subprotocols=["streamlit"], max_size=None) as socket:  # pyright: ignore[reportArgumentType]
            self._ask(socket)
            while not self._end.is_set():
                try:
                    self._take(socket.recv(timeout=0.05))
                except TimeoutError:
                    pass  # nothing came: look at what is due
                except ConnectionClosed as error:
                    self.problem = f"the server closed the connection: {error}"
                    return
                now = time.monotonic()
                for fragment, (due, interval) in list(self._due.items()):
                    if now >= due:
                        self._due[fragment] = (now + interval, interval)
                        self._ask(socket, fragment)
            self.cpu_seconds = time.thread_time()

    def _ask(self, socket: ClientConnection, fragment: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = self.query, self._page_hash
        state.cached_message_hashes.extend(self._cached)
        if fragment:
            state.fragment_id, state.is_auto_rerun = fragment, True
            self.polls += 1
        else:
            state.page_name = self.name
        socket.send(message.SerializeToString())

    def _take(self, raw: str | bytes) -> None:
        assert isinstance(raw, bytes)
        message = ForwardMsg.FromString(raw)
        self.messages += 1
        self.bytes += len(raw)
        if message.metadata.cacheable and message.hash:
            self._cached.add(message.hash)
        match message.WhichOneof("type"):
            case "new_session":
                self._page_hash = message.new_session.page_script_hash
            case "auto_rerun":
                wanted = message.auto_rerun
                if self._due.get(wanted.fragment_id, (0.0, 0.0))[1] != wanted.interval:
                    self._due[wanted.fragment_id] = (time.monotonic() + wanted.interval, wanted.interval)
            case "stop_auto_rerun":
                for fragment in message.stop_auto_rerun.fragment_ids:
                    self._due.pop(fragment, None)
            case "delta":
                if message.delta.new_element.WhichOneof("type") == "exception":
                    self.problem = message.delta.new_element.exception.message
            case "page_not_found":
                self.problem = f"page not found: {self.name}"


def finished(run: Run) -> float:
    """Wait for the end of the run; seconds a step from ``FROM_STEP`` to the last."""
    while run.status.state in ("queued", "running"):
        time.sleep(0.25)
    if run.status.state != "finished":
        raise SystemExit(f"The run ended as {run.status.state}: {run.status.message}")
    times = {int(row["step"]): row["time"] for row in run.metrics()}
    return (times[max(times)] - times[FROM_STEP]) / (max(times) - FROM_STEP)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--page", default="grpo", help="grpo (the full live panel), or home: ''")
    given = options.parse_args()
    report = Report("live_page_cost")
    slower, alone, watched, server_share, client_share = [], [], [], [], []
    polls = size = 0
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as server:
        config = make_config("grpo", model="story", reward="negative", seed=0, steps=given.steps, eval_every=0, checkpoint_every=1000)
        data = load_dataset("prompts", "story-prompts")
        process = psutil.Process(server.process.pid)

        def once(with_page: bool) -> float:
            nonlocal polls, size
            run = jobs.submit(config, data, root=server.runs_dir)
            if not with_page:
                return finished(run)
            begin, before = time.monotonic(), process.cpu_times()
            with Page(server, given.page, f"run={run.id}") as page:
                seconds = finished(run)
            after, wall = process.cpu_times(), time.monotonic() - begin
            if page.problem or not page.polls:
                raise SystemExit(f"The page did not live: {page.problem or 'it has no live fragment'}")
            server_share.append(100 * (after.user + after.system - before.user - before.system) / wall)
            client_share.append(100 * page.cpu_seconds / wall)
            polls, size = polls + page.polls, size + page.bytes
            return seconds

        once(False)  # the worker has imported everything and touched its memory
        for pair in range(given.pairs):
            for with_page in (False, True) if pair % 2 == 0 else (True, False):
                (watched if with_page else alone).append(once(with_page))
            slower.append(100 * (watched[-1] / alone[-1] - 1))
            print(f"  pair {pair}: {alone[-1]:.3f} s a step alone, {watched[-1]:.3f} s with the page, {slower[-1]:+.1f} %", flush=True)
    report.check("step with no page", alone, "s", "none", True)
    report.check("step with one live page", watched, "s", "none", True)
    report.check("slower by", slower, "%", f"≤ {GOAL:g} (median)", statistics.median(slower) <= GOAL)
    report.check("the server's time for the page", server_share, "% of a core", "none", True)
    report.details = {"client, % of a core": client_share, "polls": polls, "bytes": size}
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
