"""Loading a causal language model, and the policy that is trained: adapter or all weights, its reference, its value head.

A model comes from ``assets/models``, from the Hub, or from a local folder; only safetensors are read and no code of the model's own is run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub import snapshot_download
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from rlhf.adapters import add_lora, load_lora, read_weights
from rlhf.catalogue import CATALOGUE, model_path
from rlhf.config import Config
from rlhf.errors import ConfigError, ModelError
from rlhf.forward import entropies_of, logprobs_of, of_logits, response_parts, states_of
from rlhf.rollout import context_length, encode_prompt
from rlhf.types import Sequences

__all__ = ["LoadedModel", "Policy", "encode_prompt", "load_pretrained", "resolve_device", "resolve_dtype", "with_adapter"]

Progress = Callable[[str, float], None]
FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
transformers_logging.disable_progress_bar()  # our own progress goes to the page


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer, and what the Model page says about it. ``memory_bytes``: weights and buffers."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    source: str
    device: torch.device
    dtype: torch.dtype
    parameters: int
    layers: int
    vocabulary: int
    context: int
    memory_bytes: int
    chat: bool


def resolve_device(name: str) -> torch.device:
    """``auto`` is cuda, else mps, else cpu. Raises ``ConfigError`` for a device that this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in available.items() if present))
    if not available[name]:
        raise ConfigError(f"This machine has no device “{name}”.", "Choose auto or cpu.")
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


# ---------------------------------------------------------------- finding the files


def fetch(source: str, progress: Progress | None = None) -> Path:
    """The local folder of a model: an embedded one, a folder, or a snapshot of the Hub (downloaded if it is not in the cache)."""
    path = Path(model_path(source)).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"The folder {source} holds no model: it has no config.json.", "Choose the folder that save_pretrained wrote.")
        return path
    if path.exists() or source.startswith(("/", ".", "~")) or source.count("/") != 1:
        names = ", ".join(name for name, entry in CATALOGUE.items() if entry.embedded)
        raise ModelError(
            f"There is no model “{source}”.",
            f"Choose an embedded one ({names}), a folder, or a Hub id such as HuggingFaceTB/SmolLM2-135M-Instruct.",
        )
    return _download(source, progress)


def _download(repo: str, progress: Progress | None) -> Path:
    try:
        return Path(snapshot_download(repo, allow_patterns=FILES, tqdm_class=_progress_class(progress)))
    except hub_errors.GatedRepoError:
        raise ModelError(
            f"The model {repo} is gated: its owner wants you to accept terms.",
            f"Accept them on https://huggingface.co/{repo}, then run “hf auth login” on this machine, or set HF_TOKEN.",
        ) from None
    except hub_errors.RepositoryNotFoundError:
        raise ModelError(f"The Hub has no model “{repo}” (or it is private).", "Check the spelling: an id reads owner/name.") from None
    except hub_errors.HFValidationError:
        raise ModelError(f"“{repo}” is not a valid Hub id.", "An id reads owner/name.") from None
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, ConnectionError, TimeoutError):
        raise ModelError(
            f"The Hub cannot be reached, and {repo} is not on this machine yet.",
            "Check the network, or use an embedded model (story, sums) or a local folder.",
        ) from None
    except (hub_errors.HfHubHTTPError, OSError) as error:
        raise ModelError(f"Downloading {repo} failed: {error}.", "Try again; what has arrived is kept.") from None


def _progress_class(progress: Progress | None) -> type[tqdm]:
    """A tqdm that tells ``progress`` (what, share between 0 and 1) instead of drawing a bar."""

    class Reporter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any):
            kwargs.pop("name", None)  # the Hub's own keyword
            super().__init__(*args, **{**kwargs, "disable": progress is None})

        def display(self, *args: Any, **kwargs: Any) -> None:
            if progress and self.total:
                progress(self.desc or "Downloading", min(1.0, self.n / self.total))

    return Reporter


# ---------------------------------------------------------------- loading


def load_pretrained(source: str, device: str = "auto", dtype: str = "auto", progress: Progress | None = None) -> LoadedModel:
    """Load a causal language model in evaluation mode. Raises ``ModelError`` that says what is wrong and what to do."""
    place = resolve_device(device)
    number = resolve_dtype(dtype, place)
    folder = fetch(source, progress)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The config of {source} cannot be used: {error}", "Choose a model that transformers supports without code of its own."
        ) from None
    architectures = config.architectures or []
    if config.is_encoder_decoder or not any("CausalLM" in a or "LMHead" in a for a in architectures):
        named = ", ".join(architectures) or config.model_type
        raise ModelError(
            f"{source} is not a causal language model ({named}): it does not write text from left to right.", "Choose a decoder-only model."
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{source} has no safetensors weights.",
            "Other formats can hold code and are not read; choose a model with *.safetensors files.",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The tokenizer of {source} cannot be loaded: {error}", "Choose a folder that holds tokenizer.json too.") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=number, use_safetensors=True)
        model.to(place).eval()
    except torch.OutOfMemoryError:
        raise ModelError(f"{source} does not fit into the memory of {place}.", "Choose a smaller model, or the device cpu.") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The weights of {source} cannot be loaded: {error}", "Fetch the model anew, or choose another one.") from None
    model.requires_grad_(False)
    return describe_model(model, tokenizer, source)


def describe_model(model: Any, tokenizer: PreTrainedTokenizerBase, source: str) -> LoadedModel:
    parameters = list(model.parameters())
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        device=parameters[0].device,
        dtype=parameters[0].dtype,
        parameters=sum(p.numel() for p in parameters),
        layers=int(getattr(model.config, "num_hidden_layers", 0)),
        vocabulary=int(model.config.vocab_size),
        context=context_length(model),
        memory_bytes=sum(t.numel() * t.element_size() for t in (*parameters, *model.buffers())),
        chat=bool(tokenizer.chat_template),
    )


def with_adapter(loaded: LoadedModel, checkpoint: Path) -> LoadedModel:
    """The model of a checkpoint (adapter, or all weights) as an object of its own; ``loaded`` stays as it is."""
    if not checkpoint.is_dir():
        raise ModelError(f"There is no checkpoint {checkpoint.name}.", "Choose another step of the run.")
    if (checkpoint / "adapter_config.json").is_file():
        # merged into a copy: the base is shared with other pages and must never be wrapped or changed
        tuned = PeftModel.from_pretrained(copy.deepcopy(loaded.model), checkpoint).merge_and_unload()
    else:
        tuned = copy.deepcopy(loaded.model)
        _load_full(tuned, checkpoint)
    return replace(loaded, model=tuned.eval().requires_grad_(False), source=f"{loaded.source} + {checkpoint.name}")


def _load_full(model: Any, checkpoint: Path) -> None:
    """Copy the weights of a full checkpoint into ``model`` in place (tied weights are stored once)."""
    state = read_weights(checkpoint)
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = set(model.all_tied_weights_keys)
    if not state or unexpected or set(missing) - tied:
        raise ModelError(
            f"The checkpoint {checkpoint.name} does not belong to this model.", "Choose a checkpoint of a run of the same model."
        )


# ---------------------------------------------------------------- the policy


class Policy:
    """A model under training. The reference is the model as the run found it: the adapter switched off, or a frozen copy.

    ``parents``: folders to lay over the loaded weights, in order: at most one with weights, then at most one with an adapter.
    """

    def __init__(self, loaded: LoadedModel, config: Config, parents: Sequence[Path] = ()):
        self.base_source = loaded.source
        self.tokenizer = loaded.tokenizer
        self.device = loaded.device
        self.context = loaded.context
        self.tuning = config.tuning
        self.value_head: nn.Linear | None = None
        adapter = parents[-1] if parents and (parents[-1] / "adapter_config.json").is_file() else None
        if adapter and config.tuning != "lora":
            raise ConfigError("The run starts from a LoRA adapter, so it must train with LoRA too.", "Set tuning to lora.")
        for folder in parents:
            if folder != adapter:
                _load_full(loaded.model, folder)
        if config.tuning == "lora":
            self.model: Any = self._adapted(loaded.model, config, adapter)
            self.frozen: Any = None
        else:
            self.frozen = copy.deepcopy(loaded.model) if config.needs_reference else None
            self.model = loaded.model.requires_grad_(True)
        self.model.eval()  # no dropout: the ratio of the first update must be 1

    def _adapted(self, model: Any, config: Config, parent: Path | None) -> Any:
        if parent is not None:  # the parent's adapter goes on; a second, frozen copy of it is the reference
            adapted = PeftModel.from_pretrained(model, parent, is_trainable=True)
            adapted.load_adapter(str(parent), "reference", is_trainable=False)
            adapted.set_adapter("default")
            return adapted
        return add_lora(model, config, "CAUSAL_LM")

    def add_value_head(self) -> None:
        """A linear critic on the last hidden state; it starts at 0, so that the first advantages are the returns."""
        self.value_head = nn.Linear(self.model.config.hidden_size, 1, device=self.device, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    @torch.no_grad()
    def renew_reference(self, share: float) -> None:
        """TR-DPO: reference ← (1 − ``share``)·reference + ``share``·policy. Gorbatovski et al. 2024, https://arxiv.org/abs/2404.09656

        An adapter is copied (``share`` 1): a mixture of two low-rank updates is not one of the same rank.
        """
        if self.tuning == "lora":
            assert share == 1
            if "reference" not in self.model.peft_config:
                self.model.add_adapter("reference", copy.deepcopy(self.model.peft_config["default"]))
                self.model.set_adapter("default")
            weights = get_peft_model_state_dict(self.model, adapter_name="default")
            set_peft_model_state_dict(self.model, weights, adapter_name="reference")
        else:
            for old, new in zip(self.frozen.parameters(), self.model.parameters(), strict=True):
                old.lerp_(new, share)

    def reference_state(self) -> dict[str, Tensor]:
        """The reference's weights, where it is not the model as the run found it."""
        if self.tuning == "full":
            return self.frozen.state_dict()
        return get_peft_model_state_dict(self.model, adapter_name="reference") if "reference" in self.model.peft_config else {}

    def load_reference_state(self, state: dict[str, Tensor]) -> None:
        if self.tuning == "full":
            self.frozen.load_state_dict(state)
        elif state:
            self.renew_reference(1)
            set_peft_model_state_dict(self.model, state, adapter_name="reference")

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        if self.frozen is not None:
            yield self.frozen
        elif "reference" in self.model.peft_config:
            self.model.set_adapter("reference")
            try:
                yield self.model
            finally:
                self.model.set_adapter("default")
        else:
            with self.model.disable_adapter():
                yield self.model

    def logprobs(self, sequences: Sequences, temperature: float = 1.0) -> Tensor:
        """Log-probabilities of the response tokens under the policy, (N, T) nats, with gradient. Padding holds arbitrary finite numbers."""
        return logprobs_of(response_parts(self.model, sequences), temperature)

    def logprobs_and_collisions(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Also log Σ_v π(v|s)², (N, T), detached: the log-probability that two draws from the policy agree, which WPO scales by."""
        parts = response_parts(self.model, sequences)
        with torch.no_grad():
            collisions = of_logits(parts, lambda logits: (2 * logits.float()).logsumexp(-1) - 2 * logits.float().logsumexp(-1))
        return logprobs_of(parts), collisions

    def logprobs_and_best(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Also the token that the policy finds most probable at each place, (N, T)."""
        parts = response_parts(self.model, sequences)
        return logprobs_of(parts), of_logits(parts, lambda logits: logits.detach().argmax(-1))

    def logprobs_and_values(
        self, sequences: Sequences, temperature: float = 1.0, entropy: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Also the critic's V(s_t), (N, T), of the state before each response token if there is one, and the entropy (N, T) if wanted."""
        parts = response_parts(self.model, sequences, states=self.value_head is not None)
        values = None if self.value_head is None else self.value_head(states_of(parts).float()).squeeze(-1)
        entropies = entropies_of(parts, temperature) if entropy else None
        return logprobs_of(parts, temperature), values, entropies

    @torch.no_grad()
    def reference_logprobs(self, sequences: Sequences, temperature: float = 1.0, rows: int = 64) -> Tensor:
        """Log-probabilities under the reference, (N, T) nats, ``rows`` sequences at a time."""
        with self._as_reference() as model:
            starts = range(0, len(sequences), rows)
            return torch.cat([logprobs_of(response_parts(model, sequences.rows(slice(i, i + rows))), temperature) for i in starts])

    def save(self, folder: Path) -> None:
        """Adapter or all weights, as ``PeftModel`` or ``AutoModelForCausalLM`` read them, and the tokenizer with full weights."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.tuning == "lora":
            self.model.save_pretrained(folder, selected_adapters=["default"])
        else:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        if self.value_head is not None:
            save_file(self.value_head.state_dict(), folder / "value_head.safetensors")
        (folder / "playground.json").write_text(json.dumps({"base": self.base_source, "tuning": self.tuning}))

    def load(self, folder: Path) -> None:
        """Read back what ``save`` wrote, in place."""
        if self.tuning == "lora":
            load_lora(self.model, folder, self.device)
        else:
            _load_full(self.model, folder)
        if self.value_head is not None:
            self.value_head.load_state_dict(load_file(folder / "value_head.safetensors"))
