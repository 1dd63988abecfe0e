"""What a step of training holds in memory, moment by moment: counted from a model's sizes and the settings, without torch.

A step has moments that follow one another (sampling, the reference's pass, the update, the optimizer), and what one of them needs is given
back before the next: a run needs as much as its fullest moment. Everything is counted as the engine does it. A prompt that several
responses share is read once, and an answer's last token not at all (rlhf/llama.py); only the places of the answer are projected to the
vocabulary (rlhf/forward.py); gradients come with an update's first backward pass and go after it (rlhf/optimisation.py); the reference of a
LoRA run is the same weights with the adapter off, and a critic is one more output of the policy (rlhf/policy.py).

Letters: M tokens that a microbatch reads and K places that it predicts, L layers, D hidden width, I width of the MLP, A width of a token's
queries, W of its keys, H heads, V vocabulary, P weights, r rank of the adapter, b bytes of a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.architecture import Architecture
from rlhf.config import Config, OfflineConfig, OnlineConfig, PairsConfig, ReinforceConfig, RewardModelConfig, RRHFConfig

SHARED = 2
"""Responses that a prompt must have on average to be read once for all of them (``rlhf.llama.pack``)."""
MOST_COPIED = 20_000_000
"""Weights of the layers up to which sampling copies them into larger matrices (``rlhf.decode.MOST_COPIED``)."""
LOGITS = 3
"""Tensors of K·V numbers as a backward pass begins: the log-softmax, its gradient, and the gradient of the logits. Always in float32."""
NUMBERS = {"float32": 4, "bfloat16": 2}
MASK = 5
"""Bytes of an entry of the attention mask: one to say whether, four to be added."""

PARTS = ("weights", "reference", "critic", "reward_model", "gradients", "optimizer", "cache", "copies", "activations", "logits", "variance")
"""What bytes are for. weights: of the network that is trained; copies: of its layers' weights, while it samples."""


@dataclass(frozen=True)
class Moment:
    """A moment of a step: its ``name``, and bytes by part (those in ``PARTS`` that are not 0)."""

    name: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Shape:
    """What goes through the model: ``sequences`` in a step, and in a microbatch ``rows`` of them after ``prompts`` different prompts, of
    ``prompt`` and ``answer`` tokens; ``microbatches`` of an update. ``last``: whether an answer's last token is read too."""

    sequences: int
    rows: int
    prompts: int
    prompt: int
    answer: int
    microbatches: int = 1
    last: bool = False

    @property
    def shared(self) -> bool:
        """Whether a prompt is read once for its responses."""
        return SHARED * self.prompts <= self.rows

    @property
    def after(self) -> int:
        """Tokens of each response that are read."""
        return self.answer - (not self.last)

    @property
    def prompts_read(self) -> int:
        """Prompts that a microbatch reads."""
        return self.prompts if self.shared else self.rows

    @property
    def read(self) -> int:
        """M."""
        return self.prompts_read * self.prompt + self.rows * self.after

    @property
    def predicted(self) -> int:
        """K."""
        return self.rows * self.answer


def shape_of(config: Config, prompt: int, answer: int) -> Shape:
    """What the config's algorithm sends through its model. ``prompt``, ``answer``: tokens."""
    most = config.microbatch_size
    if not isinstance(config, OnlineConfig):
        items = config.items_per_step if isinstance(config, OfflineConfig) else most
        each, at_once = 2 if isinstance(config, PairsConfig) else 1, min(items, most)
        reward = isinstance(config, RewardModelConfig)
        return Shape(items * each, at_once * each, at_once, prompt, answer, -(-items // at_once), reward)
    prompts, group = config.prompts_per_step, config.responses_per_prompt
    if isinstance(config, RRHFConfig):  # whole prompts at a time
        group = config.trained_per_step // prompts
        most //= group
    if isinstance(config, RRHFConfig) or config.algorithm == "online_dpo":
        each = group if isinstance(config, RRHFConfig) else 2
        items = -(-prompts // config.minibatches)
        at_once = max(1, min(items, most))
        return Shape(prompts * config.responses_per_prompt, at_once * each, at_once, prompt, answer, -(-items // at_once))
    items = prompts * group // config.minibatches
    if isinstance(config, ReinforceConfig) and config.variance_groups and not config.several_updates:
        most = min(most, -(-prompts // config.variance_groups) * group)  # an update is observed group by group
    at_once = min(items, most)
    shuffled = config.minibatches > 1 or config.algorithm == "ppo"
    different = _different(prompts, group, at_once) if shuffled else -(-at_once // group)
    return Shape(prompts * group, at_once, different, prompt, answer, -(-items // at_once))


def _different(prompts: int, group: int, drawn: int) -> int:
    """How many prompts to expect among ``drawn`` responses in random order."""
    total = prompts * group
    return round(prompts * (1 - math.comb(total - group, drawn) / math.comb(total, drawn)))


# ---------------------------------------------------------------- the terms


@dataclass(frozen=True)
class Numbers:
    """How a network is trained: ``bytes`` of its numbers, and the ``rank`` of its adapter (0: all weights)."""

    bytes: int = 4
    rank: int = 0

    @property
    def adapter(self) -> int:
        """Bytes of an adapter's numbers, which PEFT keeps in float32."""
        return 4 if self.rank else self.bytes

    @property
    def lifted(self) -> bool:
        """Whether an adapter in float32 stands beside bfloat16 weights: then it is its own copy of the input that each keeps."""
        return self.bytes < 4 and self.rank > 0

    @property
    def normed(self) -> int:
        """Bytes a number that an RMSNorm keeps and hands on. In bfloat16 it keeps its input in float32."""
        return 4 if self.lifted else 8


def layer_activations(model: Architecture, shape: Shape, numbers: Numbers) -> dict[str, int]:
    """Bytes of one layer that its backward pass will ask for, by where they come from."""
    tokens, b, queries = shape.read, numbers.bytes, model.attention
    repeated = model.kv_heads != model.heads  # keys and values are copied to every head that shares them
    keys = shape.prompts_read * shape.prompt * 2 * queries if repeated else tokens * 2 * model.kv_width
    if shape.shared:  # each response looks at a copy of its prompt's keys and values
        keys += shape.rows * (shape.prompt + shape.after) * 2 * queries
    elif repeated:
        keys = tokens * 2 * queries
    mixed = tokens * queries * (3 if shape.shared else 2)  # queries, what attention gives, and that joined for prompts and responses
    mlp = (4 if model.gated else 2) * model.intermediate
    adapter = 7 * numbers.rank * 4
    if numbers.lifted:
        adapter += 4 * (5 * model.hidden + queries + model.intermediate)
        mlp -= model.intermediate
        mixed -= tokens * queries
    return {
        "norms": tokens * (2 * model.hidden * numbers.normed + 8),
        "attention": (keys + mixed) * b + tokens * model.heads * 4,
        "mlp": tokens * mlp * b,
        "adapter": tokens * adapter,
    }


def activations(model: Architecture, shape: Shape, numbers: Numbers) -> int:
    """Bytes that a microbatch's forward pass keeps for its backward pass, without the logits."""
    layers = model.layers * sum(layer_activations(model, shape, numbers).values())
    head = shape.read * model.hidden * numbers.normed + shape.predicted * model.hidden * numbers.bytes
    mask = shape.rows * shape.after * (shape.prompt + shape.after) * MASK if shape.shared else 0
    return layers + head + mask


def logits(model: Architecture, shape: Shape) -> int:
    """3·K·V·4: what the vocabulary takes as the backward pass begins."""
    return LOGITS * shape.predicted * model.vocabulary * 4


def in_a_layer(model: Architecture, shape: Shape, numbers: Numbers) -> int:
    """What the backward pass through the topmost MLP needs beside all activations; the logits are gone by then."""
    return shape.read * 2 * (model.intermediate + model.hidden) * numbers.bytes


def cache(model: Architecture, shape: Shape, answer_rows: int, prompts: int, numbers: Numbers) -> int:
    """2·L·W·b for each token: keys and values of all answers at full length, and of each prompt once."""
    return 2 * model.layers * model.kv_width * numbers.bytes * (answer_rows * shape.answer + prompts * shape.prompt)


def copies(model: Architecture, numbers: Numbers) -> int:
    """A small model's layers are copied into joined matrices while it samples."""
    weights = model.layers * model.layer_parameters
    return weights * numbers.bytes if weights <= MOST_COPIED else 0


def trained(model: Architecture, parameters: int, numbers: Numbers) -> int:
    """Numbers that learn."""
    return min(parameters, model.lora_parameters(numbers.rank)) if numbers.rank else parameters


# ---------------------------------------------------------------- a step, as this app does it


def numbers_of(config: Config, device: str) -> Numbers:
    """As the engine chooses: all weights are trained in float32, LoRA beside bfloat16 weights on a GPU."""
    half = config.dtype == "bfloat16" or (config.dtype == "auto" and device == "cuda" and config.tuning == "lora")
    return Numbers(NUMBERS["bfloat16" if half else "float32"], config.lora_rank if config.tuning == "lora" else 0)


def has_critic(config: Config) -> bool:
    """Whether a value head is trained beside the policy."""
    return getattr(config, "critic", "") == "learned" or getattr(config, "baseline", "") == "value"


def scores_by_network(config: Config) -> bool:
    """Whether a reward model is asked at every step."""
    return any(term.name == "reward_model" for term in (*getattr(config, "reward", ()), *getattr(config, "gold", ())))


def standing(config: Config, model: Architecture, parameters: int, device: str) -> dict[str, int]:
    """What is there all the time: networks, and the optimizer's state from the first update on."""
    numbers = numbers_of(config, device)
    learn, head = trained(model, parameters, numbers), (model.hidden + 1) if has_critic(config) else 0
    return {
        "weights": parameters * numbers.bytes + (learn * numbers.adapter if numbers.rank else 0),
        "reference": parameters * numbers.bytes if config.needs_reference and not numbers.rank else 0,
        "critic": head * 4,
        # any network can be chosen; one of the policy's own size is the usual choice
        "reward_model": model.scorer_parameters * (2 if device == "cuda" else 4) if scores_by_network(config) else 0,
        "optimizer": 2 * (learn * numbers.adapter + head * 4),
    }


def moments(config: Config, model: Architecture, device: str, prompt: int, answer: int, parameters: int = 0) -> list[Moment]:
    """A step of the config's algorithm in this app, in order. ``parameters``: where they are counted better than the architecture says."""
    scores = isinstance(config, RewardModelConfig)  # which has no output for each word
    parameters = model.scorer_parameters if scores else parameters or model.parameters
    numbers, shape = numbers_of(config, device), shape_of(config, prompt, answer)
    always = standing(config, model, parameters, device)
    gradients = trained(model, parameters, numbers) * numbers.adapter
    found: list[Moment] = []

    def moment(name: str, **parts: int) -> None:
        parts = always | parts
        found.append(Moment(name, {part: parts[part] for part in PARTS if parts.get(part)}))

    if isinstance(config, OnlineConfig):
        prompts, rows = config.prompts_per_step, shape.sequences
        kept = cache(model, shape, rows, prompts, numbers)
        moment("sampling", cache=kept, copies=copies(model, numbers), logits=LOGITS * rows * model.vocabulary * 4)
    if config.needs_reference:
        moment("reference", logits=2 * shape.predicted * model.vocabulary * 4)
    words = 0 if scores else logits(model, shape)
    states = shape.predicted * model.hidden * 4 if has_critic(config) else 0  # what the value head reads
    passing = in_a_layer(model, shape, numbers)
    moment(
        "update",
        gradients=gradients if shape.microbatches > 1 else 0,
        activations=activations(model, shape, numbers) + states + (passing if passing > words else 0),
        logits=words if words >= passing else 0,
        variance=gradients * config.further_gradients if isinstance(config, OnlineConfig) else 0,
    )
    moment("optimizer", gradients=gradients)
    return found


def fullest(found: list[Moment]) -> Moment:
    """The moment that a run's memory must be enough for."""
    return max(found, key=lambda moment: moment.total)
