"""The network of a reward model: a language model whose head gives one number instead of the next token.

It is saved as ``AutoModelForSequenceClassification`` with one label reads it (or as a PEFT adapter of that), so that other programs can
use it, and such a model from elsewhere can be used here. A text's score is read at its last token; a decoder also has a score after each
token before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from rlhf import llama, runs
from rlhf.adapters import add_lora, keep_weights, load_lora, read_weights
from rlhf.config import Config
from rlhf.errors import DataError, ModelError, RunError
from rlhf.policy import LoadedModel, fetch, load_pretrained, resolve_device, resolve_dtype, with_adapter
from rlhf.rollout import context_length, encode_answers, encode_prompt, end_ids, pad_right, token_strings
from rlhf.types import Sequences

NOTE = "playground.json"
PARENT = "parent"


def with_scalar_head(loaded: LoadedModel) -> Any:
    """The same weights under a head with one output. Raises ``ModelError`` where transformers has none for this architecture."""
    config = loaded.model.config
    config.num_labels = 1
    config.pad_token_id = loaded.tokenizer.pad_token_id
    try:
        network: Any = AutoModelForSequenceClassification.from_config(config, dtype=loaded.dtype)
    except ValueError:
        raise ModelError(
            f"{loaded.source} ({config.model_type}) has no form with a scalar head in transformers.", "Choose another model."
        ) from None
    prefix = network.base_model_prefix
    setattr(network, prefix, getattr(loaded.model, prefix))
    head = _head(network)
    nn.init.normal_(head.weight, std=1 / (head.in_features + 1) ** 0.5)  # Stiennon et al. 2020, §3.4: scores of about unit size
    return network.to(loaded.device).eval()


def _head(network: Any) -> nn.Linear:
    head = getattr(network, "score", None)
    if not isinstance(head, nn.Linear):
        raise ModelError("This architecture has no linear score head.", "Choose a decoder-only model.")
    return head


class RewardNetwork:
    """A reward model under training. It offers what ``train`` asks of a policy: parameters, device, save and load."""

    def __init__(self, loaded: LoadedModel, config: Config, parents: Sequence[Path] = ()):
        self.base_source = loaded.source
        for folder in parents:
            loaded = with_adapter(loaded, folder)
        self.tokenizer = loaded.tokenizer
        self.device = loaded.device
        self.context = loaded.context
        self.tuning = config.tuning
        self.end = _end(loaded.tokenizer, end_ids(loaded.model, loaded.tokenizer)[0])
        self.mean, self.deviation = 0.0, 1.0
        self.parents = [folder.resolve() for folder in parents]
        network = with_scalar_head(loaded)
        if config.tuning == "lora":
            self.model: Any = add_lora(network, config, "SEQ_CLS")
        else:
            self.model = network.requires_grad_(True)
        self.model.eval()  # no dropout, as for the policies

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def encode(self, prompts: list[str], answers: list[str], longest: int) -> Sequences:
        """Prompts and answers without an end token; an empty answer is read as the end token alone, so that it has a last token."""
        sequences = encode_answers(self.tokenizer, prompts, answers, self.context, longest, self.end, False, self.device)
        empty = ~sequences.response_mask.any(1)
        sequences.response_mask[empty, 0] = True  # the padding there is the end token
        return sequences

    def token_scores(self, sequences: Sequences) -> Tensor:
        """The score after each response token, (N, T) float32, with gradient. Padding holds arbitrary finite numbers."""
        return token_scores(self.model, sequences)

    def calibrate(self, scores: Tensor) -> None:
        """Remember where the scores of held-out answers lie, for whoever wants them at mean 0 and deviation 1."""
        values = scores.double()
        self.mean, self.deviation = float(values.mean()), max(float(values.std()), 1e-6) if len(values) > 1 else 1.0

    def save(self, folder: Path) -> None:
        """As ``AutoModelForSequenceClassification`` or ``PeftModel`` read it, with the tokenizer and a note on base and scale.

        An adapter that stands on a parent's weights brings them along, so that the parent's run can be deleted.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        kept = {f"{PARENT}-{i}": parent for i, parent in enumerate(self.parents)} if self.tuning == "lora" else {}
        for name, parent in kept.items():
            keep_weights(parent, folder / name)
        note = {"base": self.base_source, "tuning": self.tuning, "reward_mean": self.mean, "reward_deviation": self.deviation}
        (folder / NOTE).write_text(json.dumps(note | {"parents": list(kept)}))

    def load(self, folder: Path) -> None:
        """Read back what ``save`` wrote, in place."""
        if self.tuning == "lora":
            load_lora(self.model, folder, self.device)
        else:
            self.model.load_state_dict(read_weights(folder))
        note = json.loads((folder / NOTE).read_text())
        self.mean, self.deviation = note["reward_mean"], note["reward_deviation"]


def token_scores(network: Any, sequences: Sequences) -> Tensor:
    """The head's output at each response token, (N, T) float32; ``network`` is a decoder with a linear ``score`` head."""
    inner: Any = network.get_base_model() if isinstance(network, PeftModel) else network
    decoder = llama.known(network)
    if decoder is not None:
        batch, rows, places = llama.pack(sequences, before=False)
        scores = inner.score(llama.hidden_states(decoder, batch).index_select(0, rows)).squeeze(-1).float()
        table = scores.new_zeros(sequences.response_mask.numel()).index_copy(0, places, scores)
        return table.view(sequences.response_mask.shape)
    if len(sequences) < 16 or sequences.response_ids.device.type != "cpu":
        return _scores(inner, sequences)
    # the shorter half on its own has less padding: a twentieth of the time
    order = (sequences.prompt_mask.sum(1) + sequences.response_mask.sum(1)).argsort()
    return torch.cat([_scores(inner, sequences.rows(rows)) for rows in order.chunk(2)])[order.argsort()]


def _scores(inner: Any, sequences: Sequences) -> Tensor:
    both = torch.cat([sequences.prompt_ids, sequences.response_ids], 1)
    prompt_lengths = sequences.prompt_mask.sum(1, keepdim=True)
    width = int((prompt_lengths + sequences.response_mask.sum(1, keepdim=True)).max())
    # all padding goes to the right: rows get shorter, and need no mask, as nothing looks at what comes later
    places = torch.arange(width, device=both.device) + (sequences.prompt_ids.shape[1] - prompt_lengths)
    ids = both.gather(1, places.clamp(max=both.shape[1] - 1))
    hidden = getattr(inner, inner.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
    answer = prompt_lengths + torch.arange(sequences.response_ids.shape[1], device=both.device)
    return inner.score(hidden).squeeze(-1).gather(1, answer.clamp(max=width - 1)).float()


# ---------------------------------------------------------------- using a trained one


@dataclass(frozen=True)
class Scorer:
    """A frozen reward model. ``mean``, ``deviation``: of its scores on held-out answers (0 and 1 where nobody measured them)."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    source: str
    device: torch.device
    context: int
    mean: float
    deviation: float

    @property
    def reads_tokens(self) -> bool:
        """Whether it has a score after each token: a decoder with a linear head has, an encoder only one for the whole text."""
        return isinstance(getattr(self._inner, "score", None), nn.Linear)

    @property
    def _inner(self) -> Any:
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @torch.inference_mode()
    def scores(self, prompts: list[str], answers: list[str], rows: int = 64) -> list[float]:
        """One score for each answer, in the model's own scale.

        Raises ``DataError`` for a text that does not fit into the model's context.
        """
        found: list[float] = []
        for start in range(0, len(prompts), rows):
            some = prompts[start : start + rows], answers[start : start + rows]
            if self.reads_tokens:
                ids, mask = pad_right(self._encode(*some), self._pad, self.device)
                hidden = getattr(self._inner, self._inner.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
                ends = mask.sum(1) - 1
                found += self._inner.score(hidden[torch.arange(len(ids)), ends]).squeeze(-1).float().tolist()
            else:  # an encoder reads prompt and answer as two segments
                batch = self.tokenizer(*some, padding=True, return_tensors="pt").to(self.device)
                self._check(some[0], batch["attention_mask"].sum(1).tolist())
                found += self.model(**batch).logits[:, 0].float().tolist()
        return found

    @torch.inference_mode()
    def score_tokens(self, prompt: str, answer: str) -> tuple[list[str], list[float]]:
        """The answer's tokens as text, and the score after each. Only where ``reads_tokens``."""
        (ids,) = self._encode([prompt], [answer])
        before = len(encode_prompt(self.tokenizer, prompt))
        hidden = getattr(self._inner, self._inner.base_model_prefix)(input_ids=torch.tensor([ids], device=self.device)).last_hidden_state
        scores = self._inner.score(hidden[0, before:]).squeeze(-1).float().tolist()
        return token_strings(self.tokenizer, ids[before:]), scores

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if isinstance(pad, int) else 0

    def _encode(self, prompts: list[str], answers: list[str]) -> list[list[int]]:
        end = [_end(self.tokenizer, self._pad)]
        known = {prompt: encode_prompt(self.tokenizer, prompt) for prompt in set(prompts)}
        own = [list(self.tokenizer(a, add_special_tokens=False)["input_ids"]) or end for a in answers]
        rows = [known[prompt] + ids for prompt, ids in zip(prompts, own, strict=True)]
        self._check(prompts, [len(row) for row in rows])
        return rows

    def _check(self, prompts: list[str], lengths: list[int]) -> None:
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > self.context:
                raise DataError(
                    f"The reward model {self.source} reads {self.context} tokens; the text after “{prompt[:60]}” has {length}.",
                    "Shorten the prompts, lower the number of new tokens, or choose another reward model.",
                )


def _end(tokenizer: PreTrainedTokenizerBase, otherwise: int) -> int:
    """What stands for an empty answer, in training and in use."""
    end = tokenizer.eos_token_id
    return end if isinstance(end, int) else otherwise


def load_scorer(source: str, device: str = "auto") -> Scorer:
    """A reward model from a checkpoint folder of a run, a local folder, or the Hub (one label, safetensors). Raises ``ModelError``."""
    folder = Path(source).expanduser()
    if (folder / "adapter_config.json").is_file():
        return _adapter_scorer(folder, device)
    folder = fetch(source)
    place = resolve_device(device)
    try:
        config = AutoConfig.from_pretrained(folder)
        if config.num_labels != 1 or not any("SequenceClassification" in name for name in config.architectures or []):
            named = ", ".join(config.architectures or [config.model_type])
            raise ModelError(
                f"{source} is not a reward model ({named}, {config.num_labels} outputs).",
                "Choose a sequence-classification model with one output, or a run of the page Reward model.",
            )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=resolve_dtype("auto", place), use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The reward model {source} cannot be loaded: {error}", "Choose another one, or train it anew.") from None
    return _frozen(model.to(place), tokenizer, source, folder)


def _adapter_scorer(folder: Path, device: str) -> Scorer:
    note, settings = _read(folder / NOTE), _read(folder / "adapter_config.json")
    if settings.get("task_type") != "SEQ_CLS":  # it has no head: scores would be noise
        raise ModelError(
            f"The adapter in {folder} is not a reward model but one of a model that writes ({settings.get('task_type')}).",
            "Choose a run of the page Reward model.",
        )
    base = load_pretrained(str(note.get("base") or settings.get("base_model_name_or_path") or ""), device)
    for name in note.get("parents", ()):
        if not (folder / name).is_dir():
            raise ModelError(
                f"The reward model {folder} was trained on top of another checkpoint, whose weights are not beside it.",
                f"Put its folder “{name}” back, or train the reward model anew.",
            )
        base = with_adapter(base, folder / name)
    try:
        model = PeftModel.from_pretrained(with_scalar_head(base), folder).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"The reward model {folder} cannot be loaded: {error}", "Choose another one, or train it anew.") from None
    return _frozen(model, base.tokenizer, folder.name, folder)


def _frozen(model: Any, tokenizer: PreTrainedTokenizerBase, source: str, folder: Path) -> Scorer:
    note = _read(folder / NOTE)
    model = model.eval().requires_grad_(False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = next(model.parameters()).device
    scale = float(note.get("reward_mean", 0.0)), float(note.get("reward_deviation", 1.0))
    scorer = Scorer(model, tokenizer, source, device, context_length(model), *scale)
    # an encoder can have fewer places than position embeddings (RoBERTa: two fewer), and its tokenizer says so
    return scorer if scorer.reads_tokens else replace(scorer, context=min(scorer.context, tokenizer.model_max_length))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "Choose another reward model, or train it anew.") from None
    return found if isinstance(found, dict) else {}


def find_scorer(source: str) -> Scorer:
    """The reward model of a run (``RUN_ID`` for its newest checkpoint, or ``RUN_ID/step-N``), of a folder, or of the Hub; kept in memory.

    Raises ``ModelError``, or ``RunError`` for a run that made none.
    """
    run_id, _, name = source.partition("/")
    try:
        run = runs.open_run(run_id)
    except RunError:
        folder = Path(source).expanduser()
        return _cached(source, folder.stat().st_mtime if folder.is_dir() else 0.0)
    if run.algorithm != "reward_model":
        what = f"The run {run.name} made no reward model but trained with {run.algorithm}."
        raise RunError(what, "Choose a run of the page Reward model.")
    kept = run.checkpoints()
    if not name and not kept:
        raise RunError(f"The run {run.name} has no checkpoint yet.", "Wait for it, or choose another reward model.")
    path = run.checkpoint(name) if name else kept[-1].path
    return _cached(str(path), path.stat().st_mtime)


@lru_cache(maxsize=2)
def _cached(source: str, changed: float) -> Scorer:
    """``load_scorer``, kept: a run asks at every step. ``changed``: when the folder was written, so that a new one is read anew."""
    del changed
    return load_scorer(source)
