"""Frozen models in the server's memory, shared by all sessions: each is loaded once, kept for as long as there is room, and has a lock.

torch is imported by the first load, in a thread of its own that knows no session: a page that is left, refreshed or opened twice while a
model comes in neither stops the load nor starts a second one. The page only watches (``wait``).
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import streamlit as st

from pages.components.i18n import _
from pages.components.text import plain
from rlhf.compare import Side
from rlhf.errors import OutOfMemoryError
from rlhf.estimate import model_folder

if TYPE_CHECKING:
    from rlhf.policy import LoadedModel

MOST = 6
SMALL = 20_000_000  # parameters
SHARE_OF_MEMORY = 0.25
POLL_SECONDS = 0.1

Key = tuple[Any, ...]


@dataclass
class Frozen:
    """A model that nobody changes, and the lock under which it computes: two sessions at once would only slow each other down."""

    side: Side
    loaded: LoadedModel
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Loading:
    """A load under way, as the page may show it: ``what`` it is busy with, and which ``share`` is done (None: not known)."""

    what: str = "torch"
    share: float | None = None
    future: Future[Frozen] = field(default_factory=Future)


class Shelf:
    """At most ``MOST`` models and a quarter of the memory (of the GPU's, where they are there); what was used longest ago goes first."""

    def __init__(self, load: Callable[..., LoadedModel], most_bytes: float):
        self._load = load
        self._most_bytes = most_bytes
        self._models: OrderedDict[Key, Frozen] = OrderedDict()
        self._under_way: dict[Key, Loading] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load model")

    def ready(self, side: Side) -> Frozen | None:
        """The model, if it is here."""
        key = _key(side)
        with self._lock:
            found = self._models.get(key)
            if found:
                self._models.move_to_end(key)
            return found

    def fetch(self, side: Side) -> Loading:
        """The load of a side: under way already, begun now, or done in an instant because the model is here."""
        key = _key(side)
        with self._lock:
            if key in self._under_way:
                return self._under_way[key]
            loading = Loading()
            if key in self._models:
                self._models.move_to_end(key)
                loading.future.set_result(self._models[key])
                return loading
            self._under_way[key] = loading
        self._pool.submit(self._run, key, side, loading)
        return loading

    def _run(self, key: Key, side: Side, loading: Loading) -> None:
        def progress(what: str, share: float) -> None:
            loading.what, loading.share = what, share

        try:
            import rlhf.policy  # noqa: F401 - torch and transformers: seconds, the first time

            loading.what = "weights"
            base = None if side.is_untouched else self._base(side.model, progress)
            frozen = Frozen(side, self._load(side, base.loaded if base else None, progress))
            self._keep(key, frozen)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the page waits
            with self._lock:
                del self._under_way[key]
            loading.future.set_exception(error)
        else:
            with self._lock:
                del self._under_way[key]
            loading.future.set_result(frozen)

    def _base(self, model: str, progress: Callable[[str, float], None]) -> Frozen:
        side = Side(model)
        found = self.ready(side)
        if found is None:
            found = Frozen(side, self._load(side, None, progress))
            self._keep(_key(side), found)
        return found

    def _keep(self, key: Key, frozen: Frozen) -> None:
        on_gpu = frozen.loaded.device.type == "cuda"
        room = min(self._most_bytes, SHARE_OF_MEMORY * gpu_bytes()) if on_gpu else self._most_bytes
        with self._lock:
            self._models[key] = frozen
            while len(self._models) > 1 and (len(self._models) > MOST or self._bytes() > room):
                self._models.popitem(last=False)
        if on_gpu:
            give_back_gpu_memory()

    def _bytes(self) -> int:
        return sum(frozen.loaded.memory_bytes for frozen in self._models.values())


def gpu_bytes() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def give_back_gpu_memory() -> None:
    """What evicted models held goes back to the device: the worker that trains there is another process."""
    import torch

    torch.cuda.empty_cache()


def _key(side: Side) -> Key:
    """What the model is made of; the files' times are part of it, for a folder can be written anew."""
    folders = [model_folder(side.model), *side.layers]
    return (side.model, *((str(folder), _changed(folder)) for folder in folders if folder))


def _changed(folder: Path) -> int:
    return max((file.stat().st_mtime_ns for file in folder.glob("*.safetensors")), default=0)


def _load_side(side: Side, base: LoadedModel | None, progress: Callable[[str, float], None]) -> LoadedModel:
    """Imported here: this is where torch comes in."""
    from rlhf import compare

    return compare.load(side, base, progress)


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    return Shelf(_load_side, SHARE_OF_MEMORY * psutil.virtual_memory().total)


def warm(side: Side) -> None:
    """Begin to load, without waiting: for pages that know what will be wanted next."""
    shelf().fetch(side)


def wait(side: Side) -> Frozen:
    """The model of a side, with a progress bar while it comes in. Raises the engine's ``PlaygroundError``."""
    loading = shelf().fetch(side)
    if not loading.future.done():
        bar = st.empty()
        while not loading.future.done():
            words = _words(loading, side)
            if loading.share is None:
                bar.caption(f":material/hourglass_top: {words}")
            else:
                bar.progress(loading.share, text=words)
            time.sleep(POLL_SECONDS)
        bar.empty()
    return loading.future.result()


def loaded(source: str, checkpoint: Side | None = None) -> Frozen:
    """The released model of a name, or the model of a checkpoint (``rlhf.compare.tuned``)."""
    return wait(checkpoint or Side(source))


@contextmanager
def computing(frozen: Frozen) -> Iterator[LoadedModel]:
    """The model, for as long as its lock is held. A lack of memory becomes an ``OutOfMemoryError`` that says what to do.

    Small models compute on one core: more would gain nothing, and wait for a run that trains on the others at every operation.
    """
    import torch

    with frozen.lock:
        torch.set_num_threads(1 if frozen.loaded.parameters < SMALL else os.cpu_count() or 1)
        try:
            yield frozen.loaded
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error).lower():  # torch has no class of its own for the CPU
                raise
            do = "Ask for fewer or shorter answers, or choose a smaller model."
            raise OutOfMemoryError("There is not enough memory for this.", do) from None


def _words(loading: Loading, side: Side) -> str:
    if loading.what == "torch":
        return _("Waking PyTorch; this takes some seconds after the server's start.")
    if loading.what == "weights":
        return _("Loading {model}").format(model=plain(side.model))
    return _("Downloading {model}: {file}").format(model=plain(side.model), file=plain(loading.what))
