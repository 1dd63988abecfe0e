"""The command that made the data sets in ``assets/data``.

    python -m rlhf make-data                  # all four, into ./data
    python -m rlhf make-data story-pairs --out assets/data --seed 0

Prompts come from a grammar (stories) or from chance (sums). Pairs are sampled from the embedded models, at temperature 1, and ordered
by a rule that each pair's ``label`` states: so the preferred answer is one that the model could have given itself.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rlhf.errors import DataError
from rlhf.preferences import EMBEDDED, PreferencePair, Prompt, parse_prompts, write_items
from rlhf.rewards import last_number, sentiment

# ---------------------------------------------------------------- a grammar of story openings

# fmt: off
GIRLS = ["Lily", "Mia", "Anna", "Sue", "Lucy", "Emma", "Sara", "Amy", "Jane", "Kate", "Ella", "Molly", "Rosie", "Nora", "Zoe", "Daisy"]
BOYS = ["Tom", "Tim", "Ben", "Max", "Sam", "Jack", "Leo", "Bob", "Joe", "Dan", "Finn", "Billy", "Mark", "Peter", "Toby", "Jim"]
PETS = ["Spot", "Fluffy", "Coco", "Buddy", "Rex", "Momo", "Pip", "Nemo", "Whiskers", "Bobo"]
ANIMALS = ["a dog", "a cat", "a brown bear", "a small bird", "a gray mouse", "a rabbit", "a little duck", "a white horse", "a puppy"]
THINGS = [
    "red ball", "blue hat", "small box", "toy car", "wooden boat", "pink dress", "big bag", "yellow kite", "white stone", "little doll",
    "big book", "shiny coin", "green cup", "toy train", "brown basket", "paper plane", "little bell", "pink flower", "teddy bear",
    "blue bike",
]
PLACES = [
    "the park", "the forest", "the beach", "the hill", "the farm", "the garden", "the lake", "the playground", "the market",
    "the zoo",
]
HOMES = ["a small house", "a big house", "a little town", "a small village", "a house near the sea"]
WILD_HOMES = ["the woods", "a tall tree", "a big garden", "a small farm", "a green field"]
FAMILY = ["mom", "dad", "brother", "sister", "grandma", "grandpa", "friend"]
DOINGS = [
    "play outside", "read books", "paint", "climb trees", "look at the birds", "build towers", "play with friends", "run and jump",
    "dig in the sand", "look for bugs", "sing", "draw animals", "count the stars", "help at home",
]
# fmt: on
INTRODUCTIONS = [
    "Once upon a time, there was {who} named {name}.",
    "Once upon a time, there was {who} named {name}.",  # the usual one, twice as often
    "Once there was {who} named {name}.",
    "In {home}, there lived {who} named {name}.",
    "{name} was {who} who lived in {home}.",
]
STORIES = [
    "{she} had a {thing}",
    "{she} had a {thing}.",
    "{she} had a new {thing}",
    "{her} favorite thing was a {thing}",
    "{her} favorite thing was a {thing}.",
    "{her} favorite thing to do was to {do}.",
    "{she} wanted to share {her} {thing}",
    "One day, {her} {family} gave {him} a {thing}",
    "One day, {her} {family} had a surprise",
]
SCENES = [  # these begin in the middle of things and need no introduction
    "One day, {name} and {her} {family} went to {place}. They had a {thing}",
    "One day, {who} named {name} went to {place}. {she} had a {thing}",
    "{name} and {her} {family} were at {place}. They had a new {thing}",
]


def story_prompt(rng: random.Random) -> str:
    """An opening of two sentences, the second often unfinished: "Once there was a boy named Tom. He had a red ball"."""
    person = rng.random() < 0.8
    girl = rng.random() < 0.5
    young = rng.choice(["a", "a little", "a young", "a small"])
    slots = {"she": "she", "her": "her", "him": "her"} if person and girl else {"she": "he", "her": "his", "him": "him"}
    slots["name"] = rng.choice((GIRLS if girl else BOYS) if person else PETS)
    slots["who"] = f"{young} {'girl' if girl else 'boy'}" if person else rng.choice(ANIMALS)
    slots["home"] = rng.choice(HOMES if person else WILD_HOMES)
    slots |= {"thing": rng.choice(THINGS), "place": rng.choice(PLACES), "family": rng.choice(FAMILY), "do": rng.choice(DOINGS)}
    text = f"{rng.choice(INTRODUCTIONS)} {rng.choice(STORIES)}" if rng.random() < 0.75 else rng.choice(SCENES)
    return re.sub(r"(?<=\. )[a-z]", lambda match: match.group().upper(), text.format(**slots))


def story_prompts(seed: int, train: int = 500, heldout: int = 120) -> tuple[list[Prompt], list[Prompt]]:
    """Different prompts for both parts, in random order."""
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < train + heldout:
        texts[story_prompt(rng)] = None
    prompts = [Prompt(text) for text in texts]
    return prompts[:train], prompts[train:]


def sums_prompts(seed: int, train: int = 2000, heldout: int = 400) -> tuple[list[Prompt], list[Prompt]]:
    """Two-digit additions; the held-out ones are among those that pretraining left out, so the model has never seen them."""
    from rlhf.pretrain import is_heldout_sum

    pairs = [(a, b) for a in range(100) for b in range(100)]
    random.Random(seed).shuffle(pairs)
    prompts = [Prompt(f"{a:02d}+{b:02d}=", f"{a + b:03d}") for a, b in pairs]
    seen = [prompt for prompt in prompts if not is_heldout_sum(prompt.text)]
    unseen = [prompt for prompt in prompts if is_heldout_sum(prompt.text)]
    return seen[:train], unseen[:heldout]


# ---------------------------------------------------------------- pairs, sampled from the models


def responses(model: str, prompts: list[Prompt], each: int, tokens: int, seed: int) -> Iterator[tuple[Prompt, list[tuple[str, bool]]]]:
    """Every prompt with ``each`` sampled answers: (text, whether it ended by itself)."""
    from rlhf.policy import load_pretrained
    from rlhf.rollout import SamplingConfig, sample

    loaded = load_pretrained(model, device="cpu", dtype="float32")
    batch = max(1, 512 // each)
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        rollout = sample(loaded.model, loaded.tokenizer, [p.text for p in part], each, SamplingConfig(max_new_tokens=tokens), seed + start)
        answers = list(zip(rollout.texts, rollout.finished.tolist(), strict=True))
        for i, prompt in enumerate(part):
            yield prompt, answers[i * each : (i + 1) * each]


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; empty if there is none, or if it holds bytes that are no character."""
    match = re.match(r".*[.!?][\"”]?(?=\s|$)", text, re.DOTALL)
    readable = "\ufffd" not in text and text.replace("\n", "").isprintable()
    return match.group() if match and readable else ""


def story_pairs(model: str, prompts: list[Prompt], seed: int, each: int = 40, most: int = 6, margin: float = 1.0) -> list[PreferencePair]:
    """Up to ``most`` pairs a prompt from ``each`` continuations of 60 tokens: of two, the one that VADER finds sadder is chosen.

    A text of the sadder half meets one of the gladder half, nearly as long, and the longer one is chosen as often as not, so that length
    does not give the preference away; their compound scores differ by at least ``margin``, and no text is used twice.
    """
    label = f"sadder by VADER (margin {margin})"
    pairs = []
    for prompt, answers in responses(model, prompts, each, tokens=60, seed=seed):
        texts = sorted({whole for text, _ in answers if len(whole := whole_sentences(text)) >= 60}, key=lambda t: (sentiment(t), t))
        sad, glad = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        found: list[tuple[str, str]] = []
        longer = [0, 0]  # pairs of this prompt whose rejected, and whose chosen answer is the longer one
        for chosen, rejected in sorted(itertools.product(sad, glad), key=lambda pair: abs(len(pair[0]) - len(pair[1]))):
            used = any(chosen == pair[0] or rejected == pair[1] for pair in found)
            side = len(chosen) > len(rejected)
            if not used and longer[side] < most // 2 and sentiment(rejected) - sentiment(chosen) >= margin:
                found.append((chosen, rejected))
                longer[side] += 1
        pairs += [PreferencePair(prompt.text, chosen, rejected, label) for chosen, rejected in found]
    random.Random(seed).shuffle(pairs)
    return pairs


def sums_pairs(model: str, prompts: list[Prompt], seed: int, each: int = 16, most: int = 2) -> list[PreferencePair]:
    """Up to ``most`` pairs a prompt: a right answer is chosen over a wrong one that also ended by itself."""
    pairs = []
    for prompt, answers in responses(model, prompts, each, tokens=4, seed=seed):
        ended = [text for text, finished in answers if finished]
        right = [text for text in ended if text == prompt.answer]
        wrong = sorted({text for text in ended if last_number(text) != last_number(prompt.answer or "")})
        if right:
            random.Random(f"{seed} {prompt.text}").shuffle(wrong)
            pairs += [PreferencePair(prompt.text, right[0], text, "the right sum") for text in wrong[:most]]
    random.Random(seed).shuffle(pairs)
    return pairs


# ---------------------------------------------------------------- the command


def make(name: str, out: Path, seed: int) -> tuple[int, int]:
    """Write both files of an embedded set into ``out``; returns how many rows each has. Pairs use the prompts that lie there."""
    item = EMBEDDED[name]
    files = [out / item.train_path.name, out / item.heldout_path.name]
    if item.kind == "prompts":
        parts = (story_prompts if item.model == "story" else sums_prompts)(seed)
    else:
        build: Callable[[str, list[Prompt], int], list[PreferencePair]] = story_pairs if item.model == "story" else sums_pairs
        sources = [out / f"{item.model}-prompts-{part}.jsonl" for part in ("train", "heldout")]
        for source in sources:
            if not source.is_file():
                raise DataError(f"{name} needs {source}, which is not there.", f"Make {item.model}-prompts first.")
        parts = [build(item.model, parse_prompts(source.read_bytes(), source.name), seed + i) for i, source in enumerate(sources)]
    for file, items in zip(files, parts, strict=True):
        write_items(file, items)
    return len(parts[0]), len(parts[1])


def main(argv: list[str] | None = None) -> int:
    """``python -m rlhf make-data [SET …] [--out DIR] [--seed N]``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rlhf make-data", description="Make the data sets that ship with the app.")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"which: {', '.join(EMBEDDED)} (default: all, in this order)")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write to (default: ./data)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.sets if name not in EMBEDDED]:
        parser.error(f"there is no set {unknown[0]!r}; choose from {', '.join(EMBEDDED)}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in args.sets or EMBEDDED:
            train, heldout = make(name, args.out, args.seed)
            print(f"{name}: {train} to train on, {heldout} held out, in {args.out}", flush=True)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
