"""What a run really holds at its fullest moment, in a process of its own: an order comes in as JSON, bytes go out as one line of JSON.

The algorithm takes real steps on texts of exactly the wanted lengths. Counted are the tensors: those alive before a step and what torch's
allocator gives out and takes back during it (on a GPU what ``torch.cuda.max_memory_allocated`` says), and beside them how far the process
grew, as the operating system saw it, above the same process with everything imported and nothing loaded.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from rlhf.algorithms import CONFIGS, DATA, make_config
from rlhf.config import Config
from rlhf.errors import DataError, PlaygroundError
from rlhf.measure import take_step
from rlhf.policy import Policy, fetch
from rlhf.preferences import Dataset, Demonstration, PreferencePair, Prompt, load_dataset
from rlhf.rollout import encode_prompt, never
from rlhf.train import Algorithm, Network, out_of_memory, prepare

WARM_UP = 1  # steps before the one that is measured: AdamW's moments come with the first update
ITEMS = 64  # different texts to make the batches from, if there are so many


def main() -> int:
    """Reads the order from standard input; the last line of standard output is the result, or what went wrong."""
    order = json.load(sys.stdin)
    if hasattr(os, "nice"):
        os.nice(10)  # whoever trains or reads a page comes first
    for name in CONFIGS:
        importlib.import_module(f"rlhf.algorithms.{name}")
    try:
        result = measure(make_config(**order["config"]), order["prompt_tokens"], order["answer_tokens"])
    except PlaygroundError as error:
        result = {"what": error.what, "do": error.do}
    except (torch.OutOfMemoryError, MemoryError) as error:
        told = out_of_memory(make_config(**order["config"]), str(error))
        result = {"what": told.what, "do": told.do}
    print(json.dumps(result))
    return 0


def measure(config: Config, prompt_tokens: int, answer_tokens: int) -> dict[str, Any]:
    """Peak bytes of a step: ``tensors``, and ``process``, by which the process grew (None where the system does not tell)."""
    others, before = alive(), _reset_peak()
    data = shaped(config, prompt_tokens, answer_tokens)
    network, algorithm = prepare(config, data, (), never)
    _never_end(network)
    for step in range(1, WARM_UP + 1):
        take_step(algorithm, step)
    process = None if before is None else _status("VmHWM") - before
    if network.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(network.device)
        metrics = take_step(algorithm, WARM_UP + 1)
        tensors = torch.cuda.max_memory_allocated(network.device)
    else:
        standing = alive() - others
        most, metrics = allocated(algorithm, WARM_UP + 1)
        tensors = standing + most
    return {"tensors": tensors, "process": process, "tokens": metrics.get("tokens", 0.0), "device": network.device.type}


def _never_end(network: Network) -> None:
    """Let every answer run to the limit, so that it has the length that was asked for: no token of the vocabulary ends it."""
    network.tokenizer.eos_token = None
    if isinstance(network, Policy):
        network.model.generation_config.eos_token_id = network.model.config.vocab_size


def allocated(algorithm: Algorithm, step: int) -> tuple[int, dict[str, float]]:
    """The most bytes that torch's allocator gave out on the CPU in a step, above those given before it; and the step's metrics."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        metrics = take_step(algorithm, step)
    results: Any = getattr(profiler.profiler, "kineto_results")  # noqa: B009
    now = most = 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most, metrics


def alive() -> int:
    """Bytes of all tensors on the CPU that anything in this process holds on to."""
    gc.collect()
    tensors = (thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor) and thing.device.type == "cpu")
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


# ---------------------------------------------------------------- the process, as the system sees it


def _reset_peak() -> int | None:
    """Bytes that the process holds now, from which its peak is counted anew; None where the system offers no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


# ---------------------------------------------------------------- texts of a given length


def shaped(config: Config, prompt_tokens: int, answer_tokens: int) -> Dataset:
    """The config's own texts, joined and cut so that every prompt and answer has exactly so many tokens.

    Raises ``DataError`` where the tokenizer cuts them otherwise, as with a chat template that is longer than the prompt should be.
    """
    kind = DATA[config.algorithm]
    tokenizer = AutoTokenizer.from_pretrained(fetch(config.model))
    items = load_dataset(kind, config.data, config.heldout).train[:400]
    texts = [text for item in items for text in asdict(item).values() if isinstance(text, str)]
    ids = list(tokenizer(" ".join(texts), add_special_tokens=False)["input_ids"])

    def pieces(size: int) -> Iterator[str]:
        return (tokenizer.decode(ids[start : start + size]) for start in range(0, len(ids) - size, 7))

    def cut(count: int, length: Callable[[str], int]) -> list[str]:
        """Different pieces of the text that are ``count`` tokens long, as ``length`` counts them."""
        for size in range(count, 0, -1):  # less than ``count`` where a chat template adds the rest
            fitting = dict.fromkeys(piece for piece in islice(pieces(size), 2 * ITEMS) if length(piece) == count)
            if len(fitting) > 1:
                return list(fitting)[:ITEMS]
        raise DataError(f"No text of {count} tokens could be made for {config.model}.", "Choose longer prompts and answers.")

    prompts = cut(prompt_tokens, lambda text: len(encode_prompt(tokenizer, text)))
    if kind == "prompts":
        return Dataset(tuple(Prompt(prompt, "1") for prompt in prompts), (), kind, "shaped")
    ending = int(getattr(config, "append_eos", False))
    answers = cut(answer_tokens - ending, lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))
    pairs = zip(prompts, answers, [*answers[1:], answers[0]], strict=False)
    if kind == "pairs":
        return Dataset(tuple(PreferencePair(*pair) for pair in pairs), (), kind, "shaped")
    return Dataset(tuple(Demonstration(prompt, answer) for prompt, answer, _other in pairs), (), kind, "shaped")


if __name__ == "__main__":
    sys.exit(main())
