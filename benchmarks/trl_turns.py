"""What the comparisons with TRL share: a block of our steps, a block of TRL's, and settings that make both the same work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback

from rlhf.catalogue import model_path
from rlhf.config import Config
from rlhf.events import Event, Failed, Step
from rlhf.preferences import Dataset
from rlhf.train import train

WARM_UP = 2  # steps of a block that are not counted


def told(config: Config, data: Dataset) -> Iterator[Event]:
    """The events of a run; the benchmark ends where the run fails."""
    for event in train(config, data):
        if isinstance(event, Failed):
            raise SystemExit(f"The run failed at step {event.step}: {event.what} {event.do}")
        yield event


def our_steps(config: Config, data: Dataset) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds and metrics of each step; a step is what lies between two ``Step`` events."""
    times, metrics, last = [], [], 0.0
    for event in told(config, data):
        if isinstance(event, Step):
            now = time.perf_counter()
            if event.step > 0:
                times.append(now - last)
                metrics.append(dict(event.metrics))
            last = now
    return times, metrics


def arguments(config: Config, folder: str) -> dict[str, Any]:
    """TRL's settings for one update a batch as ours does it; nothing is saved, drawn or checkpointed."""
    return {
        "output_dir": folder, "use_cpu": config.device == "cpu" or not torch.cuda.is_available(), "bf16": False, "seed": config.seed,
        "gradient_accumulation_steps": 1, "activation_checkpointing": False, "max_steps": config.steps, "optim": "adamw_torch_fused",
        "learning_rate": config.learning_rate, "lr_scheduler_type": "constant", "max_grad_norm": config.max_grad_norm,
        "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip


def their_steps(trainer: Trainer) -> list[float]:
    """Seconds of each step of TRL's trainer, which is trained."""
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.times


def random_llama(folder: Path, hidden: int, layers: int) -> str:
    """A folder with a Llama of random weights, in the embedded models' shape (heads of 32), and story's tokenizer."""
    path = folder / f"llama-{hidden}-{layers}"
    if not path.is_dir():
        torch.manual_seed(0)
        shape = LlamaConfig(
            vocab_size=2048, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=layers,
            num_attention_heads=hidden // 32, max_position_embeddings=512, tie_word_embeddings=True,
            bos_token_id=None, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(shape).save_pretrained(path)
        AutoTokenizer.from_pretrained(model_path("story")).save_pretrained(path)
    return str(path)


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []
        self.begin = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter() - self.begin)
