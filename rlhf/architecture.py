"""The sizes of a decoder-only language model, from its config.json, published numbers or by hand; and the count of its weights.

Free of torch, and of downloads: a model of billions of weights is a dozen numbers here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

from rlhf.errors import ConfigError

GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "smollm3", "olmo2", "phi3"}
"""Model types with a gated MLP of three matrices, RMSNorm and rotary positions."""
CLASSIC = {"gpt2", "gpt_neo"}
"""Model types with an MLP of two matrices, LayerNorm, a table of positions, and biases."""
OWN_PASS = {"llama", "mistral", "qwen2"}
"""Model types that ``rlhf.llama`` runs; the others go through their own ``forward``."""
LARGEST = {"layers": 1000, "hidden": 100_000, "heads": 1000, "vocabulary": 2_000_000, "intermediate": 1_000_000}
MORE = {"tied": 1, "qkv_bias": 1, "norms": 16, "head_norms": 16, "context": 10**9}
"""The rest of the sizes, which may be 0."""


@dataclass(frozen=True)
class Architecture:
    """``kv_heads``: heads of keys and values (fewer than ``heads`` with grouped queries); ``intermediate``: width of the MLP;
    ``tied``: one matrix for words in and out; ``family``: the config's model_type; ``qkv_bias``: as Qwen2 has; ``norms``: RMSNorms a
    layer, of the hidden width; ``head_norms``: further ones a layer, of a head's width (Qwen3, Gemma 3); ``context``: longest text."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = True
    family: str = "llama"
    qkv_bias: bool = False
    norms: int = 2
    head_norms: int = 0
    context: int = 0

    @property
    def attention(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the keys of a token, and of its values."""
        return self.kv_heads * self.head_dim

    @property
    def gated(self) -> bool:
        return self.family not in CLASSIC

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer."""
        d, a, kv, i = self.hidden, self.attention, self.kv_width, self.intermediate
        if not self.gated:  # GPT-Neo has no bias on queries, keys and values, GPT-2 has
            biases = d + i + d + (3 * a if self.family == "gpt2" else 0)
            return 4 * d * a + 2 * d * i + biases + 4 * d
        bias = a + 2 * kv if self.qkv_bias else 0
        return 2 * d * a + 2 * d * kv + bias + 3 * d * i + self.norms * d + self.head_norms * self.head_dim

    @property
    def parameters(self) -> int:
        """All weights. Words in and out, layers, the last norm."""
        words = self.vocabulary * self.hidden * (1 if self.tied else 2)
        places = 0 if self.gated else self.context * self.hidden
        return words + places + self.layers * self.layer_parameters + self.hidden * (1 if self.gated else 2)

    @property
    def scorer_parameters(self) -> int:
        """Weights of the same network with one output in the place of the vocabulary: a reward model, or a critic of its own."""
        return self.parameters - (0 if self.tied else self.vocabulary * self.hidden) + self.hidden

    def lora_parameters(self, rank: int) -> int:
        """Weights of an adapter on all projections: r·(in + out) of each."""
        d, a, kv, i = self.hidden, self.attention, self.kv_width, self.intermediate
        attention = (d + a) + 2 * (d + kv) + (a + d)
        mlp = (3 if self.gated else 2) * (d + i)
        return self.layers * rank * (attention + mlp)


def read(config: Mapping[str, Any]) -> Architecture:
    """The sizes in a config.json. Raises ``ConfigError`` in words for what is missing, odd, or not a decoder that is known here."""
    inner = config.get("text_config")
    config = {**config, **inner} if isinstance(inner, Mapping) else config
    family = str(config.get("model_type") or "")
    if family not in GATED | CLASSIC or config.get("num_local_experts") or config.get("num_experts"):
        called = f"“{family}”" if family else "without a model_type"
        known = ", ".join(sorted(GATED | CLASSIC))
        raise ConfigError(
            f"This architecture ({called}) is not one whose sizes are known here.", f"Known are: {known}. Or give its numbers."
        )

    def whole(*names: str, default: int | None = None) -> int:
        for name in names:
            value = config.get(name)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise ConfigError(f"{name} is {value!r}, and must be a whole number above 0.", "Correct it in the config.")
                return value
        if default is None:
            raise ConfigError(f"The config has no {names[0]}.", "Paste the whole config.json of the model.")
        return default

    hidden = whole("hidden_size", "n_embd", "d_model")
    heads = whole("num_attention_heads", "num_heads", "n_head")
    qwen3, gemma3 = family == "qwen3", family.startswith("gemma3")
    return checked(
        Architecture(
            layers=whole("num_hidden_layers", "num_layers", "n_layer"),
            hidden=hidden,
            heads=heads,
            kv_heads=whole("num_key_value_heads", default=heads),
            head_dim=whole("head_dim", default=max(1, hidden // heads)),
            intermediate=whole("intermediate_size", "n_inner", default=4 * hidden),
            vocabulary=whole("vocab_size"),
            # what transformers assumes where the file does not say
            tied=bool(config.get("tie_word_embeddings", family in CLASSIC or family.startswith("gemma"))),
            family=family,
            qkv_bias=bool(config.get("attention_bias", family == "qwen2")),
            norms=4 if gemma3 or family == "gemma2" else 2,
            head_norms=2 if qwen3 or gemma3 else 0,
            context=whole("max_position_embeddings", "n_positions", "n_ctx", default=2048),
        )
    )  # fmt: skip


def checked(found: Architecture) -> Architecture:
    """The same, if a model could look like this. Raises ``ConfigError``."""
    for name, most in LARGEST.items():
        if not 1 <= getattr(found, name) <= most:
            raise ConfigError(f"{name} cannot be {getattr(found, name)}.", f"Choose a whole number from 1 to {most:,}.")
    if found.kv_heads < 1 or found.heads % found.kv_heads:
        what = f"{found.heads} heads cannot share {found.kv_heads} heads of keys and values."
        raise ConfigError(what, f"Choose a divisor of {found.heads}.")
    if not 1 <= found.head_dim <= LARGEST["hidden"]:
        raise ConfigError(f"A head cannot be {found.head_dim} wide.", "Choose a hidden width of at least the number of heads.")
    return found


def parse(text: str) -> Architecture:
    """``read`` of pasted text. Raises ``ConfigError`` with the line of what is not JSON."""
    try:
        config = json.loads(text)
    except ValueError as error:
        where = f" (line {error.lineno}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"This is not JSON{where}.", "Paste the whole file config.json, from { to }.") from None
    except RecursionError:
        raise ConfigError("This JSON is nested too deeply to be a config.", "Paste the whole file config.json.") from None
    if not isinstance(config, dict):
        raise ConfigError("This JSON is not a config: it is no object with names and values.", "Paste the whole file, from { to }.")
    return read(config)


def in_a_line(found: Architecture) -> str:
    """All its sizes, short enough for a link; ``from_a_line`` reads them."""
    return ",".join(value if isinstance(value, str) else str(int(value)) for value in astuple(found))


def from_a_line(line: str) -> Architecture:
    """Raises ``ConfigError`` for what ``in_a_line`` cannot have written."""
    names, values = [field.name for field in fields(Architecture)], line.split(",")
    try:
        given: dict[str, Any] = {name: value if name == "family" else int(value) for name, value in zip(names, values, strict=True)}
    except ValueError:
        given = {}
    small = all(0 <= given.get(name, -1) <= most for name, most in MORE.items())
    if not small or given.get("family") not in GATED | CLASSIC:
        raise ConfigError("The sizes in this link are damaged.", "Paste the config.json of a model.")
    given.update({name: bool(given[name]) for name in ("tied", "qkv_bias")})
    return checked(Architecture(**given))


PUBLISHED: dict[str, Architecture] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Architecture(30, 576, 9, 3, 64, 1536, 49_152, context=8192),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Architecture(32, 960, 15, 5, 64, 2560, 49_152, context=8192),
    "Qwen/Qwen2.5-0.5B-Instruct": Architecture(24, 896, 14, 2, 64, 4864, 151_936, family="qwen2", qkv_bias=True, context=32_768),
    "Qwen/Qwen3-0.6B": Architecture(28, 1024, 16, 8, 128, 3072, 151_936, family="qwen3", head_norms=2, context=40_960),
    "google/gemma-3-270m-it": Architecture(
        18, 640, 4, 1, 256, 2048, 262_144, family="gemma3_text", norms=4, head_norms=2, context=32_768
    ),
    "roneneldan/TinyStories-33M": Architecture(4, 768, 16, 16, 48, 3072, 50_257, family="gpt_neo", context=2048),
    "Qwen/Qwen2.5-7B-Instruct": Architecture(
        28, 3584, 28, 4, 128, 18_944, 152_064, tied=False, family="qwen2", qkv_bias=True, context=32_768
    ),
    "mistralai/Mistral-7B-v0.3": Architecture(32, 4096, 32, 8, 128, 14_336, 32_768, tied=False, family="mistral", context=32_768),
    "meta-llama/Meta-Llama-3-8B": Architecture(32, 4096, 32, 8, 128, 14_336, 128_256, tied=False, context=8192),
    "meta-llama/Meta-Llama-3-70B": Architecture(80, 8192, 64, 8, 128, 28_672, 128_256, tied=False, context=8192),
}  # fmt: skip
"""By the models' published config.json."""
