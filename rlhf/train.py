"""``train(config, data)``: a generator of events. It knows no user interface, no process, and of files only checkpoints to start from."""

from __future__ import annotations

import importlib
import os
import platform
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from rlhf.algorithms import CONFIGS, MAKES
from rlhf.config import Config, OnlineConfig
from rlhf.errors import OutOfMemoryError, PlaygroundError
from rlhf.events import Checkpoint, Event, Failed, Finished, Phase, Sample, Started, Step, Stopped
from rlhf.optimisation import derive_seed
from rlhf.policy import Policy, fetch, load_pretrained
from rlhf.preferences import Dataset
from rlhf.reward_network import RewardNetwork
from rlhf.rollout import Interrupted, never

STATE = "training_state.pt"


Network = Policy | RewardNetwork


class Algorithm(Protocol):
    """What an algorithm's file offers: a class named as its key in ``CONFIGS``: ``GRPO``, ``RewardModel`` for reward_model."""

    def __init__(self, policy: Any, config: Any, data: Dataset, interrupted: Callable[[], bool]) -> None: ...
    def step(self, step: int) -> Iterator[Event]:
        """One batch with all its inner updates; yields phases, samples and one ``Step``."""
        ...

    def evaluate(self, step: int) -> Generator[Event, None, Mapping[str, float | list[float]]]:
        """``eval/…`` metrics on held-out data, as the generator's return value; a list is a distribution."""
        ...

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def algorithm_class(name: str) -> type[Algorithm]:
    assert name in CONFIGS
    members = vars(importlib.import_module(f"rlhf.algorithms.{name}"))
    return next(member for title, member in members.items() if title.lower() == name.replace("_", ""))


def parted(found: Mapping[str, float | list[float]]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Metrics, and distributions."""
    lists = {key: value for key, value in found.items() if isinstance(value, list)}
    return {key: value for key, value in found.items() if not isinstance(value, list)}, lists


def train(
    config: Config, data: Dataset, *, resume: Path | None = None, parents: Sequence[Path] = (), interrupted: Callable[[], bool] = never
) -> Iterator[Event]:
    """Train and tell of it.

    ``resume``: a resumable checkpoint of this very run; ``parents``: what another run's checkpoint to start from is made
    of (rlhf/runs/lineage.py), over the released model; ``interrupted`` is asked
    between phases and inside sampling: once it is true, a resumable checkpoint and ``Stopped`` follow, and the generator ends.

    What a user can cause does not raise: it ends in ``Failed``, after a checkpoint of the last good step.
    """
    run = _Run(config, data, resume, parents, interrupted)
    try:
        yield from run.events()
    except Interrupted:
        yield from run.checkpoints(resumable=True)
        yield Stopped(run.done)
    except PlaygroundError as error:
        yield from run.checkpoints(resumable=True)
        yield Failed(run.done, error.what, error.do)
    except (torch.OutOfMemoryError, MemoryError) as error:
        told = out_of_memory(config, str(error))
        del error
        yield Failed(run.done, told.what, told.do)


def prepare(config: Config, data: Dataset, parents: Sequence[Path], interrupted: Callable[[], bool]) -> tuple[Network, Algorithm]:
    """What a config trains, and the algorithm that trains it, before its first step."""
    torch.manual_seed(derive_seed(config.seed, "start") % 2**32)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32
    # all weights in bfloat16 would lose most of AdamW's small updates to rounding
    dtype = "float32" if config.dtype == "auto" and config.tuning == "full" else config.dtype
    network = Policy if MAKES[config.algorithm] == "policy" else RewardNetwork
    trained = network(load_pretrained(config.model, config.device, dtype), config, parents)
    return trained, algorithm_class(config.algorithm)(trained, config, data, interrupted)


class _Run:
    def __init__(self, config: Config, data: Dataset, resume: Path | None, parents: Sequence[Path], interrupted: Callable[[], bool]):
        self.config, self.data, self.resume, self.parents, self.interrupted = config, data, resume, parents, interrupted
        self.done = 0  # steps that are complete
        self.owed = False  # the held-out figures of the last step were interrupted
        self.policy: Network | None = None
        self.algorithm: Algorithm | None = None

    def events(self) -> Iterator[Event]:
        yield from self._download()
        yield Phase(0, "loading")
        self._load()
        assert self.policy is not None and self.algorithm is not None
        yield Started(self.done, self.config.steps, self._info())
        if self.done == 0:
            yield Step(0, *parted((yield from self.algorithm.evaluate(0))))
        elif self.owed:
            found = yield from self.algorithm.evaluate(self.done)
            self.owed = False
            yield Step(self.done, *parted(found))
        while self.done < self.config.steps:
            self._check()
            yield from self._step(self.done + 1)
            if self.done % self.config.checkpoint_every == 0 and self.done < self.config.steps:
                yield from self.checkpoints(resumable=True)
                yield from self.checkpoints(resumable=False)
        yield from self.checkpoints(resumable=False)
        yield Finished(self.done)

    def _download(self) -> Iterator[Event]:
        """Fetch a model of the Hub beside the generator, and tell how far it is. A model on this machine is there at once."""
        told = ""

        def progress(what: str, share: float) -> None:
            nonlocal told
            told = f"downloading {what} ({share:.0%})"

        with ThreadPoolExecutor(1) as pool:
            fetched = pool.submit(fetch, self.config.model, progress)
            while not fetched.done():
                wait([fetched], timeout=0.5)
                if told:
                    yield Phase(0, told)
            fetched.result()

    def _load(self) -> None:
        self.policy, self.algorithm = prepare(self.config, self.data, self.parents, self.interrupted)
        if self.resume is not None:
            self.policy.load(self.resume)
            state = torch.load(self.resume / STATE, map_location=self.policy.device, weights_only=True)
            self.algorithm.load_state_dict(state["algorithm"])
            self.done = int(state["step"])
            self.owed = bool(state["owed"])

    def _check(self) -> None:
        if self.interrupted():
            raise Interrupted

    def _step(self, step: int) -> Iterator[Event]:
        """The algorithm's step, with times, memory and the held-out figures put into its ``Step``."""
        assert self.algorithm is not None
        clock = time.perf_counter()
        samples: list[Sample] = []
        for event in self.algorithm.step(step):
            if isinstance(event, Sample):
                samples.append(event)
            elif isinstance(event, Step):
                self.done = step
                seconds = time.perf_counter() - clock
                yield from samples
                metrics, distributions = dict(event.metrics) | self._speed(event, seconds), dict(event.distributions)
                every = self.config.eval_every
                if step == self.config.steps or (every and step % every == 0):
                    try:
                        figures, spreads = parted((yield from self.algorithm.evaluate(step)))
                        metrics, distributions = metrics | figures, distributions | spreads
                    except Interrupted:  # the step itself is done and must be told
                        self.owed = True
                yield Step(step, metrics, distributions)
                if self.owed:
                    raise Interrupted
            else:
                yield event
                if isinstance(event, Phase) and event.name != "updating":
                    self._check()

    def _speed(self, event: Step, seconds: float) -> dict[str, float]:
        tokens = event.metrics.get("tokens", 0.0)
        speed = {"step_time": seconds, "memory": memory_mib(self.policy)}
        if tokens:
            speed["tokens_per_second"] = tokens / seconds
        known = sum(event.metrics.get(f"time/{part}", 0.0) for part in ("sampling", "scoring"))
        return {**speed, "time/updating": seconds - known}

    def checkpoints(self, resumable: bool) -> Iterator[Event]:
        if self.policy is not None and self.algorithm is not None:
            yield Checkpoint(self.done, self._save_all if resumable else self.policy.save, resumable)

    def _save_all(self, folder: Path) -> None:
        assert self.policy is not None and self.algorithm is not None
        self.policy.save(folder)
        torch.save({"step": self.done, "owed": self.owed, "algorithm": self.algorithm.state_dict()}, folder / STATE)

    def _info(self) -> dict[str, Any]:
        assert self.policy is not None
        parameters = list(self.policy.model.parameters())
        place = self.policy.device
        return {
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else f"{place.type} ({os.cpu_count()} cores)",
            "dtype": str(parameters[0].dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }


def memory_mib(policy: Network | None) -> float:
    """Memory in MiB: the peak on the GPU where there is one, else what this process holds now."""
    if policy is not None and policy.device.type == "cuda":
        return torch.cuda.max_memory_allocated(policy.device) / 2**20
    return psutil.Process().memory_info().rss / 2**20


def out_of_memory(config: Config, detail: str) -> OutOfMemoryError:
    """The error in words, with what to lower for this config."""
    advice = f"Lower microbatch_size (now {config.microbatch_size})"
    if config.tuning == "full":
        advice += ", train with LoRA instead of all weights"
    if isinstance(config, OnlineConfig):
        advice += f", or lower max_new_tokens (now {config.max_new_tokens})"
    return OutOfMemoryError(f"The device ran out of memory. {detail[:200]}".strip(), advice + ", and start again.")
