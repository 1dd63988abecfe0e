"""What a run will take, before it starts: memory and time, from the model's files and the config, without torch.

Memory is that of a step's fullest moment (`rlhf.memory`). Time is measured where it can be: earlier runs of the same model and algorithm
in the runs folder say how long a step takes here, and the work of the two configs is compared. With no such run the figure is rough.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlhf import architecture, memory
from rlhf.architecture import PUBLISHED, Architecture
from rlhf.catalogue import CATALOGUE, model_path
from rlhf.config import Config, OfflineConfig, OnlineConfig, PairsConfig, RRHFConfig
from rlhf.errors import ConfigError, PlaygroundError
from rlhf.preferences import Dataset, Demonstration, Item, PreferencePair

if TYPE_CHECKING:
    from rlhf.runs import Run

MB = 1_000_000
# A worker with torch, transformers and peft imported and nothing loaded, measured on Linux.
PROCESS_BYTES = 430 * MB
# Effective rates in floating-point operations a second, far below the peak: small matrices, Python between them.
CPU_CORE_RATE = 40e9
GPU_RATE = 15e12
# On a GPU small models wait for kernels, not for arithmetic: seconds a layer for one decoded token.
GPU_LAYER_SECONDS = 4e-4
CHARACTERS_PER_TOKEN = 4.0
# Gaps between two steps longer than this many medians are pauses, not work.
PAUSE = 12.0


@dataclass(frozen=True)
class ModelFacts:
    """What a model's files say. Zero or None: not known before it is downloaded. ``kv_width``: numbers per token and layer in the cache."""

    parameters: int | None
    layers: int = 0
    hidden: int = 0
    vocabulary: int = 0
    context: int = 0
    kv_width: int = 0
    local: bool = False
    download_mb: int = 0
    architecture: Architecture | None = None

    @property
    def sizes(self) -> Architecture:
        """The architecture; where it is not known, one as models of about this size have it."""
        if self.architecture:
            return self.architecture
        layers, hidden = self.layers or 24, self.hidden or 896
        width = max(1, (self.kv_width or 2 * hidden) // 2)
        return Architecture(layers, hidden, 1, 1, width, 3 * hidden, self.vocabulary or 100_000, context=self.context)


@dataclass(frozen=True)
class Estimate:
    """``seconds`` of the whole run, ``seconds_per_step``, ``memory_bytes`` of the worker (GPU memory on a GPU); None: unknown.

    ``timed_by``: "runs" (measured on ``timed_runs`` earlier runs), "rough" or "unknown". ``free_bytes``: what the machine has left now.
    """

    device: str
    seconds: float | None
    seconds_per_step: float | None
    timed_by: Literal["runs", "rough", "unknown"]
    timed_runs: int
    memory_bytes: int | None
    measured_memory: bool
    free_bytes: int | None
    facts: ModelFacts


@dataclass(frozen=True)
class Fit:
    """How prompts fit the model's ``context`` (tokens): with ``room`` for an answer, those at ``too_long`` (indices) do not.

    ``exact``: counted with the model's own tokenizer.
    """

    context: int
    room: int
    longest: int
    too_long: tuple[int, ...]
    exact: bool


# ---------------------------------------------------------------- the model's files


def model_folder(model: str) -> Path | None:
    """The folder with the model's files if it is on this machine: embedded, local, or in the Hub's cache."""
    path = Path(model_path(model)).expanduser()
    if (path / "config.json").is_file():
        return path
    if model.count("/") != 1 or model.startswith(("/", ".", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def model_facts(model: str) -> ModelFacts:
    """Facts from config.json and the weights' headers; from the catalogue for a model that is not here yet."""
    folder = model_folder(model)
    entry = CATALOGUE.get(model)
    known = entry.parameters if entry else None
    if folder is None:
        return ModelFacts(known, download_mb=entry.download_mb if entry else 0, architecture=PUBLISHED.get(model))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ModelFacts(known)
    try:
        sizes = architecture.read(config)
    except ConfigError:  # of another kind: its figures are rough
        sizes = None
    config = config.get("text_config") or config

    def number(*names: str) -> int:
        return next((int(config[name]) for name in names if isinstance(config.get(name), int)), 0)

    hidden, heads = number("hidden_size", "n_embd", "d_model"), number("num_attention_heads", "n_head") or 1
    kv_heads = number("num_key_value_heads") or heads
    return ModelFacts(
        parameters=_count_parameters(folder) or known,
        layers=number("num_hidden_layers", "n_layer"),
        hidden=hidden,
        vocabulary=number("vocab_size"),
        context=number("max_position_embeddings", "n_positions", "n_ctx"),
        kv_width=2 * kv_heads * (number("head_dim") or hidden // heads),
        local=True,
        architecture=sizes,
    )


def _count_parameters(folder: Path) -> int | None:
    """Sum of the tensors' sizes in the headers of *.safetensors: 8 bytes of length, then JSON."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        except (OSError, ValueError):
            return None
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in tensor["shape"]:
                    size *= dimension
                total += size
    return total or None


@lru_cache(maxsize=4)
def _tokenizer(file: str, changed: float) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(file)


def token_counts(model: str, texts: Sequence[str]) -> tuple[list[int], bool]:
    """Tokens of each text, and whether they were counted with the model's own tokenizer (else four characters a token)."""
    folder = model_folder(model)
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return [max(1, round(len(text) / CHARACTERS_PER_TOKEN)) for text in texts], False
    tokenizer = _tokenizer(str(file), file.stat().st_mtime)
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)], True


def fit(config: Config, data: Dataset) -> Fit:
    """How the prompts of ``data`` (training, then held-out) fit into the context of the config's model beside the longest answer."""
    items = (*data.train, *data.heldout)
    room = response_tokens(config)
    answers = tuple(answers_in(items))
    if answers:
        room = min(room, 1 + max(_counts(config.model, answers)[0]))
    counts, exact = _counts(config.model, tuple(item.prompt for item in items))
    context = model_facts(config.model).context
    too_long = tuple(i for i, count in enumerate(counts) if context and count + room > context)
    return Fit(context, room, max(counts, default=0), too_long, exact)


@lru_cache(maxsize=8)
def _counts(model: str, texts: tuple[str, ...]) -> tuple[list[int], bool]:
    return token_counts(model, texts)


# ---------------------------------------------------------------- the machine


def likely_device(wanted: str = "auto") -> str:
    """What ``device="auto"`` will mean here, guessed without torch: a driver that answers is taken for a GPU that works."""
    if wanted != "auto":
        return wanted
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in {"", "-1"} and (
        Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    ):
        return "cuda"
    return "mps" if platform.system() == "Darwin" and platform.machine() == "arm64" else "cpu"


def free_memory(device: str) -> int | None:
    """Bytes of main memory that are free; None for a GPU, whose memory is not known without torch."""
    if device == "cuda":
        return None
    import psutil

    return int(psutil.virtual_memory().available)


# ---------------------------------------------------------------- work and time


def sequences(config: Config) -> int:
    """Sequences that one step samples or reads."""
    if isinstance(config, OnlineConfig):
        return config.prompts_per_step * config.responses_per_prompt
    if not isinstance(config, OfflineConfig):
        return config.microbatch_size
    return config.items_per_step * (2 if isinstance(config, PairsConfig) else 1)


def answers_in(items: Sequence[Item]) -> list[str]:
    """The given answers of pairs and demonstrations."""
    pairs = [text for item in items if isinstance(item, PreferencePair) for text in (item.chosen, item.rejected)]
    return pairs + [item.response for item in items if isinstance(item, Demonstration)]


def response_tokens(config: Config) -> int:
    """Longest response of the config, in tokens."""
    if isinstance(config, OnlineConfig):
        return config.max_new_tokens
    return config.max_response_tokens if isinstance(config, OfflineConfig) else 128


def work(config: Config, prompt_tokens: float = 16, answer_tokens: float | None = None) -> float:
    """Cost of a step in forward passes of one token: a backward pass counts twice, a sampled token thrice (it is a small pass each)."""
    answer = answer_tokens if answer_tokens is not None else response_tokens(config)
    n, length = sequences(config), prompt_tokens + answer
    if not isinstance(config, OnlineConfig):
        return n * length * (4.0 if config.needs_reference else 3.0)  # forward, backward; DPO's reference sees each pair once
    if isinstance(config, RRHFConfig):  # no reference, and of n answers only the best is trained on where nothing is ranked
        return n * 3.0 * answer + config.trained_per_step * 3.0 * config.epochs * length
    passes = 3.0 * config.epochs + (1.0 if config.beta else 0.0) + config.further_passes
    return n * (3.0 * answer * (1 + config.further_answers) + passes * length)


def rough_seconds(config: Config, facts: ModelFacts, device: str, prompt_tokens: float, answer_tokens: float | None = None) -> float | None:
    """Seconds a step from the count of operations alone (2 a parameter and token); right within a factor of about three."""
    if not facts.parameters:
        return None
    operations = 2.0 * facts.parameters * work(config, prompt_tokens, answer_tokens)
    if device == "cpu":
        return 0.03 + operations / (CPU_CORE_RATE * (os.cpu_count() or 1))
    decoding = config.max_new_tokens * (facts.layers or 24) * GPU_LAYER_SECONDS if isinstance(config, OnlineConfig) else 0.0
    return 0.1 + decoding + operations / GPU_RATE


def measured(run: Run, config: Config, prompt_tokens: float, answer_tokens: float | None = None) -> float | None:
    """Seconds a step of ``config``, from the wall clock of an earlier run; None where that run says nothing."""
    times = [row["time"] for row in run.metrics() if "time" in row and row.get("step", 0) > 0]
    gaps = [b - a for a, b in itertools.pairwise(times) if b > a]
    if len(gaps) < 2:
        return None
    middle = statistics.median(gaps)
    mean = statistics.fmean(gap for gap in gaps if gap <= PAUSE * middle)
    earlier = run.load_config()
    return mean * work(config, prompt_tokens, answer_tokens) / work(earlier, prompt_tokens, answer_tokens)


# ---------------------------------------------------------------- memory


def memory_parts(
    config: Config, facts: ModelFacts, device: str, prompt_tokens: float = 16, longest_answer: int | None = None
) -> dict[str, int] | None:
    """Bytes by purpose at the fullest moment of a step (see ``rlhf.memory``), for a model whose size is known.

    ``longest_answer``: tokens; not given: as long as the config allows.
    """
    if not facts.parameters:
        return None
    answer, prompt = longest_answer or response_tokens(config), int(prompt_tokens)
    if facts.context:
        prompt = max(1, min(prompt, facts.context - 1))
        answer = max(1, min(answer, facts.context - prompt))
    full = memory.fullest(memory.moments(config, facts.sizes, device, prompt, answer, facts.parameters))
    return {"process": PROCESS_BYTES if device == "cpu" else 0, **full.parts}


# ---------------------------------------------------------------- the estimate


def estimate(config: Config, runs: Iterable[Run] = (), data: Dataset | None = None) -> Estimate:
    """What ``config`` will take here; ``runs``: earlier runs to learn from, newest first; ``data``: for the length of its texts."""
    device = likely_device(config.device)
    facts = model_facts(config.model)
    lengths = _lengths(config, data)
    past = _similar(config, runs)
    seconds = [s for s in (_quietly_measured(run, config, lengths.prompt, lengths.answer) for run in past) if s is not None]
    per_step = statistics.median(seconds) if seconds else rough_seconds(config, facts, device, lengths.prompt, lengths.answer)
    # Loading, the first measurement on held-out data and writing the last checkpoint take about this long on top.
    overhead = 1.5 + 5e-9 * (facts.parameters or 0)
    parts = memory_parts(config, facts, device, lengths.prompt, lengths.longest)
    peaks = [peak for run in past if _same_size(run, config) and (peak := _peak(run))]
    return Estimate(
        device=device,
        seconds=per_step * config.steps + overhead if per_step is not None else None,
        seconds_per_step=per_step,
        timed_by="runs" if seconds else "rough" if per_step is not None else "unknown",
        timed_runs=len(seconds),
        memory_bytes=max(peaks) if peaks else sum(parts.values()) if parts else None,
        measured_memory=bool(peaks),
        free_bytes=free_memory(device),
        facts=facts,
    )


def _similar(config: Config, runs: Iterable[Run], most: int = 5) -> list[Run]:
    """The newest runs of the same model, algorithm, tuning and device."""
    found: list[Run] = []
    for run in runs:
        same = all(
            run.config.get(name, getattr(config, name)) == getattr(config, name)
            for name in ("model", "algorithm", "tuning", "device", "dtype")
        )
        if run.config and same:
            found.append(run)
            if len(found) == most:
                break
    return found


@dataclass(frozen=True)
class Lengths:
    """Tokens of a data set's texts: ``prompt`` on average; ``answer`` on average and ``longest``, where the data has answers."""

    prompt: float = 16.0
    answer: float | None = None
    longest: int | None = None


def _lengths(config: Config, data: Dataset | None) -> Lengths:
    """Of the first 200 items."""
    items = data.train[:200] if data else ()
    if not items:
        return Lengths()
    prompts, _ = token_counts(config.model, [item.prompt for item in items])
    answers = answers_in(items)
    if not answers:
        return Lengths(statistics.fmean(prompts))
    counts = [min(count + 1, response_tokens(config)) for count in token_counts(config.model, answers)[0]]
    return Lengths(statistics.fmean(prompts), statistics.fmean(counts), max(counts))


def _quietly_measured(run: Run, config: Config, prompt_tokens: float, answer_tokens: float | None) -> float | None:
    """As `measured`; a run folder of another version, or a broken one, says nothing."""
    try:
        return measured(run, config, prompt_tokens, answer_tokens)
    except (PlaygroundError, OSError):
        return None


def _peak(run: Run) -> int:
    """Most bytes that an earlier run's process, or its GPU, held at the end of a step; 0: not measured."""
    return int(max((row.get("memory", 0.0) for row in run.metrics()), default=0.0) * 2**20)


def _same_size(run: Run, config: Config) -> bool:
    """Whether what decides about memory is the same in that run."""
    sizes = (
        "microbatch_size",
        "prompts_per_step",
        "group_size",
        "samples_per_prompt",
        "pairs_per_step",
        "examples_per_step",
        "max_new_tokens",
        "max_response_tokens",
        "lora_rank",
    )
    return all(run.config.get(name) == getattr(config, name) for name in sizes if hasattr(config, name))
