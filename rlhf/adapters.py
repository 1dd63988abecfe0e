"""LoRA adapters and weight files: what policies and reward models share in attaching, reading and keeping them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from rlhf.config import Config
from rlhf.errors import ConfigError, ModelError

WEIGHTS = ("adapter_config.json", "adapter_model.safetensors", "model*.safetensors")


def add_lora(model: Any, config: Config, task_type: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """``model`` with a fresh adapter on the layers that ``config`` names. Raises ``ConfigError`` where there are no such layers."""
    targets = config.lora_targets if config.lora_targets == "all-linear" else [t.strip() for t in config.lora_targets.split(",")]
    settings = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=targets, task_type=task_type)
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"LoRA cannot be attached: {error}", "Set lora_targets to all-linear.") from None


def load_lora(model: Any, folder: Path, device: torch.device) -> None:
    """Read the adapter that ``save_pretrained`` wrote into the one that ``model`` has."""
    set_peft_model_state_dict(model, load_peft_weights(str(folder), device=str(device)))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a full checkpoint, of one file or several; empty where there are none."""
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        state.update(load_file(file))
    return state


def keep_weights(checkpoint: Path, folder: Path) -> None:
    """Adapter or weights of a checkpoint in ``folder`` too, so that it can be deleted. Where the disk allows, they take no more room.

    Raises ``ModelError`` if the checkpoint is gone already.
    """
    found = [file for pattern in WEIGHTS for file in checkpoint.glob(pattern)]
    if not found:
        raise ModelError(f"The checkpoint {checkpoint} that this run started from is gone.", "Put its run back, or start from another one.")
    folder.mkdir(exist_ok=True)
    for file in found:
        target = folder / file.name
        target.unlink(missing_ok=True)
        try:
            os.link(file, target)  # checkpoints are never written to, only replaced
        except OSError:  # another disk, or one that has no links
            shutil.copyfile(file, target)
