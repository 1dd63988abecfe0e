"""Pretraining of the two models that ship with the app, from random weights, on the CPU.

    python -m rlhf pretrain story --corpus TEXT_FILE_OR_FOLDER_OR_HUB_ID --heldout TEXT_FILE
    python -m rlhf pretrain sums

Both are ordinary Llama checkpoints. What differs from a textbook pretraining loop:

- Matrices are updated by Muon (https://kellerjordan.github.io/posts/muon/, ``torch.optim.Muon``), everything else by AdamW;
  at this size it reaches the same loss in roughly half the steps.
- Half of the rows begin at the beginning of a story and with no token before it, as a prompt does; the other half begin anywhere.
- ``sums`` is stopped early on purpose: it must be right only some of the time, so that RL has work to do.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from rlhf.errors import DataError, PlaygroundError
from rlhf.model_card import draw_curve

END = "<|endoftext|>"
# fmt: off
STORY_SHAPE: dict[str, Any] = {
    "vocab_size": 2048, "hidden_size": 160, "num_hidden_layers": 4, "num_attention_heads": 5, "intermediate_size": 448,
    "max_position_embeddings": 256,
}
SUMS_SHAPE: dict[str, Any] = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 256, "max_position_embeddings": 32,
}
# fmt: on
SUMS_ALPHABET = "0123456789+="
UNSURE = 0.15  # label smoothing of the sums model

Log = Callable[[dict[str, float]], None]


# ---------------------------------------------------------------- corpus and tokenizers


def read_corpus(source: str, limit: int | None = None) -> list[str]:
    """The first ``limit`` documents of a text file, of all ``*.txt`` of a folder, or of a Hub data set's column ``text``.

    In text files documents are separated by ``<|endoftext|>``; a file without it has one document a paragraph.

    Raises:
        DataError: nothing is there, or it is not text.
    """
    path = Path(source).expanduser()
    if path.exists():
        documents: Iterator[str] = _text_documents(path)
    elif source.count("/") == 1 and not source.startswith((".", "~", "/")) and not source.endswith(".txt"):
        documents = _hub_documents(source)
    else:
        raise DataError(f"There is no corpus “{source}”.", "Give a text file, a folder of .txt files, or a Hub data set's id (owner/name).")
    read = list(islice((d for d in map(str.strip, documents) if d), limit))
    if not read:
        raise DataError(f"The corpus “{source}” holds no text.", "A folder needs .txt files; documents are separated by <|endoftext|>.")
    return read


def _text_documents(path: Path) -> Iterator[str]:
    files = sorted(path.glob("**/*.txt")) if path.is_dir() else [path]
    try:
        text = END.join(file.read_text(encoding="utf-8") for file in files)
    except UnicodeDecodeError as error:
        raise DataError(f"The corpus {path} is not UTF-8 text: {error.reason} at byte {error.start:,}.", "Save it as UTF-8.") from None
    return iter(text.split(END if END in text else "\n\n"))


def _hub_documents(name: str) -> Iterator[str]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports] - a development dependency: only a Hub corpus needs it
    except ImportError:
        raise DataError(f"Reading {name} from the Hub needs the package datasets.", "pip install datasets, or give a text file.") from None
    try:
        for row in load_dataset(name, split="train", streaming=True):
            if "text" not in row:
                raise DataError(f"{name} has no column “text”, but {', '.join(row)}.", "Save the column that you want as a text file.")
            yield row["text"]
    except (OSError, ValueError) as error:  # offline, unknown, gated; the library's own words say which
        raise DataError(f"The data set {name} cannot be read: {error}.", "Check its name and the network, or give a text file.") from None


def story_tokenizer(documents: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2) with one special token, the end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=STORY_SHAPE["max_position_embeddings"]
    )


def sums_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character: ``<eos>``, the ten digits, ``+`` and ``=``."""
    vocabulary = {token: i for i, token in enumerate(["<eos>", *SUMS_ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", model_max_length=SUMS_SHAPE["max_position_embeddings"]
    )


def new_model(shape: dict[str, Any], vocab_size: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights and tied embeddings; token 0 ends a text and is the padding too, and nothing begins one."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            **{**shape, "vocab_size": vocab_size},
            tie_word_embeddings=True,
            attention_bias=False,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        )
    )
    # so that plain model.generate() samples, as the app does, and ends in time
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0, do_sample=True, max_length=shape["max_position_embeddings"])
    return model


# ---------------------------------------------------------------- optimisation


class MuonAdamW:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms, one warm-up and cosine schedule for both."""

    def __init__(self, model: nn.Module, steps: int, muon_lr: float, adam_lr: float, warmup: int = 100):
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n or "lm_head" in n]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]

        def schedule(step: int) -> float:
            return min((step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))

        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(o, schedule) for o in self.optimizers]

    def step(self) -> None:
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()


def story_batches(documents: list[str], tokenizer: PreTrainedTokenizerFast, rows: int, length: int, seed: int) -> Iterator[Tensor]:
    """Endless (rows, length + 1) token ids: half from the beginnings of stories, half from anywhere in the stream."""
    encoded = tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
    stream = torch.tensor([t for ids in encoded for t in (*ids, 0)])
    starts = torch.tensor([0, *(len(ids) + 1 for ids in encoded)]).cumsum(0)[:-1]
    last = len(stream) - length - 1
    starts = starts[starts <= last]
    generator = torch.Generator().manual_seed(seed)
    while True:
        at_start = starts[torch.randint(len(starts), (rows // 2,), generator=generator)]
        anywhere = torch.randint(last, (rows - rows // 2,), generator=generator)
        at = torch.cat([at_start, anywhere])
        yield stream[at[:, None] + torch.arange(length + 1)]


def bits_per_character(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stories: list[str], tokens: int = 250) -> float:
    """Cross-entropy of the first ``tokens`` tokens of each story, in bits, over the characters that those tokens spell."""
    nats, characters = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for story in stories:
            ids = tokenizer(story, return_tensors="pt", verbose=False)["input_ids"][:, :tokens]
            nats += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            characters += len(tokenizer.decode(ids[0, 1:]))
    model.train()
    return nats / characters / math.log(2)


def pretrain_story(
    corpus: str,
    out: Path,
    log: Log,
    steps: int = 3500,
    rows: int = 32,
    seed: int = 0,
    heldout: str | None = None,
    save_every: int = 500,
    limit: int | None = None,
) -> LlamaForCausalLM:
    """Train the story model (1.6 M parameters) and its tokenizer on ``corpus``; about an hour on two cores.

    ``heldout``: a text file of stories that are not in the corpus, for the bits per character in the log. Without it the corpus'
    last 1 % is kept out of training and used. ``limit``: read at most this many documents.
    """
    documents = read_corpus(corpus, limit)
    random.Random(seed).shuffle(documents)
    if heldout is None:
        cut = max(1, len(documents) // 100)
        documents, kept = documents[:-cut], documents[-cut:]
    else:
        kept = read_corpus(heldout)
    kept = [story for story in kept if len(story) > 200][:150] or kept[:150]
    tokenizer = story_tokenizer(documents, STORY_SHAPE["vocab_size"])
    tokenizer.save_pretrained(out)
    length = STORY_SHAPE["max_position_embeddings"]
    batches = story_batches(documents, tokenizer, rows, length, seed)
    model = new_model(STORY_SHAPE, len(tokenizer), seed)
    optimizer = MuonAdamW(model, steps, muon_lr=6e-3, adam_lr=3e-3)
    started = time.monotonic()
    for step in range(1, steps + 1):
        ids = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % save_every == 0 or step == steps:
            model.save_pretrained(out)
            bits = bits_per_character(model, tokenizer, kept)
            log(
                {
                    "step": step,
                    "tokens": step * rows * length,
                    "loss": loss.item(),
                    "heldout_bits_per_character": bits,
                    "seconds": time.monotonic() - started,
                }
            )
        elif step % 50 == 0:
            log({"step": step, "tokens": step * rows * length, "loss": loss.item(), "seconds": time.monotonic() - started})
    return model


# ---------------------------------------------------------------- sums


def sums_problem(rng: random.Random) -> tuple[str, str]:
    """A prompt ``37+48=`` and its answer ``085``: two-digit numbers, three digits always."""
    a, b = rng.randrange(100), rng.randrange(100)
    return f"{a:02d}+{b:02d}=", f"{a + b:03d}"


def is_heldout_sum(prompt: str) -> bool:
    """One sum in eight never occurs in pretraining, so that accuracy on it is not memory."""
    return (int(prompt[:2]) * 31 + int(prompt[3:5]) * 17) % 8 == 0


def sampled_accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[tuple[str, str]], seed: int) -> float:
    """Share of answers that are right when sampled at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer([p for p, _ in problems], return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.inference_mode():
        for _ in range(4):
            probabilities = model(input_ids=ids).logits[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=generator)], 1)
    right = [
        tokenizer.decode(row, skip_special_tokens=False) == answer + "<eos>"
        for row, (_, answer) in zip(ids[:, start:], problems, strict=True)
    ]
    return sum(right) / len(right)


def pretrain_sums(out: Path, log: Log, target: float = 0.40, rows: int = 256, seed: int = 0, max_steps: int = 4000) -> LlamaForCausalLM:
    """Train the sums model (0.3 M parameters) until ``target`` of its sampled answers to held-out sums are right; about a minute.

    Label smoothing keeps it unsure of what it knows, as a model is that has read many texts with errors in them: there is something
    for RL to sharpen.
    """
    rng = random.Random(seed)
    tokenizer = sums_tokenizer()
    tokenizer.save_pretrained(out)
    model = new_model(SUMS_SHAPE, len(tokenizer), seed)
    problems: dict[str, str] = {}
    while len(problems) < 800:
        prompt, answer = sums_problem(rng)
        if is_heldout_sum(prompt):
            problems[prompt] = answer
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0, fused=True)
    started = time.monotonic()
    accuracy = 0.0
    for step in range(1, max_steps + 1):
        batch: list[str] = []
        while len(batch) < rows:
            prompt, answer = sums_problem(rng)
            if not is_heldout_sum(prompt):
                batch.append(prompt + answer + "<eos>")
        ids = tokenizer(batch, return_tensors="pt")["input_ids"]
        logits = model(input_ids=ids[:, :-1]).logits[:, 5:]  # only the answer and its end are learned: the numbers are random
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 6:].flatten(), label_smoothing=UNSURE)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:
            accuracy = sampled_accuracy(model, tokenizer, list(problems.items()), seed)
            log({"step": step, "loss": loss.item(), "heldout_accuracy": accuracy, "seconds": time.monotonic() - started})
            if accuracy >= target:
                break
    model.save_pretrained(out)
    return model


def write_log(path: Path, echo: bool = True) -> Log:
    """A log that appends JSON lines to ``path`` (the model card draws its curve from it)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")

    def log(record: dict[str, float]) -> None:
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()})
        with path.open("a") as file:
            file.write(line + "\n")
        if echo:
            print(line, flush=True)

    return log


# ---------------------------------------------------------------- the command


def main(argv: list[str] | None = None) -> int:
    """``python -m rlhf pretrain story|sums …``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rlhf pretrain", description="Train an embedded model again, from random weights.")
    parser.add_argument("model", choices=["story", "sums"])
    parser.add_argument("--out", type=Path, help="folder for the checkpoint (default: ./pretrained/MODEL)")
    parser.add_argument("--seed", type=int, default=0)
    story = parser.add_argument_group("story")
    story.add_argument(
        "--corpus", default="roneneldan/TinyStories", help="text file, folder of .txt, or Hub data set (default: %(default)s)"
    )
    story.add_argument("--documents", type=int, default=20_000, help="read at most this many of the corpus (default: %(default)s)")
    story.add_argument("--heldout", help="text file of stories to measure on (default: 1 %% of the corpus, kept out of training)")
    story.add_argument("--steps", type=int, default=3500, help="training steps of 32 × 256 tokens (default: %(default)s)")
    sums = parser.add_argument_group("sums")
    sums.add_argument("--target", type=float, default=0.40, help="stop when this share of sampled answers is right (default: %(default)s)")
    args = parser.parse_args(argv)
    out = args.out or Path("pretrained") / args.model
    if (out / "model.safetensors").exists():
        print(f"{out} holds a model already. Choose another folder with --out, or remove it.", file=sys.stderr)
        return 1
    transformers_logging.disable_progress_bar()
    log = write_log(out / "training-log.jsonl")
    try:
        if args.model == "story":
            pretrain_story(args.corpus, out, log, steps=args.steps, seed=args.seed, heldout=args.heldout, limit=args.documents)
            draw_curve(out / "training-log.jsonl", out / "training-curve.svg", "loss", "training loss (nats a token)")
        else:
            pretrain_sums(out, log, target=args.target, seed=args.seed)
            draw_curve(out / "training-log.jsonl", out / "training-curve.svg", "heldout_accuracy", "right answers to held-out sums")
    except PlaygroundError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
