"""Small but complete run folders without any training, written through the real ``RunWriter``: for tests of pages, and to look at pages.

    python -m tests.canned DIR        fills DIR with a run of every algorithm and in every state

The numbers are made up and rise as a good run's do; texts, tokens and checkpoints are real (the embedded models, nudged a little).
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from pages.components.formula_rrhf import ranked
from rlhf.algorithms import CONFIGS, DATA, make_config
from rlhf.bradley_terry import wilson
from rlhf.catalogue import model_path
from rlhf.events import Checkpoint, Event, Failed, Finished, Phase, Sample, Started, Step, Stopped
from rlhf.preferences import Dataset, Demonstration, PreferencePair, Prompt
from rlhf.runs import Run, RunWriter, create
from rlhf.runs.folder import Request, State

PROMPTS = (
    "Once upon a time there was a little dog.",
    "Lily went to the park with her mom.",
    "Tom found a big red ball in the garden.",
    "One day, a bird fell from the tree.",
    "Ben and Mia wanted to bake a cake.",
    "The old cat sat by the <b>window</b>.",  # markup must be shown as text
)
SAD = (
    " He was sad and cried all day. Nobody came to help him.",
    " She lost her toy and was very hurt.",
    " It was dark and he was scared and alone.",
)
HAPPY = (
    " He was happy and played all day. Everyone loved him.",
    " She found a nice toy and smiled.",
    " It was sunny and they had fun **together**.",
)


def canned_data(algorithm: str, model: str = "story") -> Dataset:
    """Six training and two held-out items, of the kind that the algorithm trains on."""
    if model == "sums":
        prompts = tuple(
            Prompt(f"{a}+{b}=", f"{a + b:03d}") for a, b in ((37, 48), (11, 20), (99, 99), (50, 51), (10, 89), (42, 42), (64, 17), (25, 33))
        )
    else:
        prompts = tuple(Prompt(text) for text in (*PROMPTS, "Sam had a kite.", "Anna saw a frog."))
    if DATA[algorithm] == "prompts":
        return Dataset(train=prompts[:6], heldout=prompts[6:], kind="prompts", source="canned")
    if DATA[algorithm] == "demonstrations":
        shown = tuple(Demonstration(p.text, _answer(p, i, good=True), "canned") for i, p in enumerate(prompts))
        return Dataset(train=shown[:6], heldout=shown[6:], kind="demonstrations", source="canned")
    pairs = tuple(PreferencePair(p.text, _answer(p, i, good=True), _answer(p, i, good=False), "canned") for i, p in enumerate(prompts))
    return Dataset(train=pairs[:6], heldout=pairs[6:], kind="pairs", source="canned")


def _answer(prompt: Prompt, i: int, good: bool) -> str:
    if prompt.answer is not None:
        return prompt.answer if good else "000"
    return (SAD if good else HAPPY)[i % 3]


def canned_run(
    root: str | Path,
    algorithm: str = "grpo",
    *,
    model: str = "story",
    steps: int = 20,
    done: int | None = None,
    state: State = "finished",
    name: str = "",
    seed: int = 0,
    weights: bool = True,
    parent: str | None = None,
    **fields: Any,
) -> Run:
    """A run folder of ``steps`` steps, of which ``done`` are done (default: all, or half where the state is not "finished").

    ``state="running"`` looks interrupted, as nobody holds the run: keep ``canned_writer`` open where it must look alive.
    ``weights=False`` writes checkpoints without a model (fast, cannot be loaded).
    """
    writer = canned_writer(
        root, algorithm, model=model, steps=steps, done=done, state=state, name=name, seed=seed, weights=weights, parent=parent, **fields
    )
    writer.close()
    return writer.run


def canned_writer(
    root: str | Path,
    algorithm: str = "grpo",
    *,
    model: str = "story",
    steps: int = 20,
    done: int | None = None,
    state: State = "running",
    name: str = "",
    seed: int = 0,
    weights: bool = True,
    parent: str | None = None,
    **fields: Any,
) -> RunWriter:
    """The same, with the run still held: while the writer is open, ``state="running"`` is a run that is under way.

    Go on with ``for event in canned_events(config, ..., first=n): writer.write(event)``.
    """
    config = make_config(
        algorithm, **{"model": model, "steps": steps, "seed": seed, "checkpoint_every": max(1, steps // 2), "eval_every": 5, **fields}
    )
    run = create(config, canned_data(algorithm, model), root, parent=parent, name=name, queue=state == "queued")
    writer = RunWriter(run)
    if state == "queued":
        return writer
    if done is None:
        done = steps if state in ("finished", "stopped") else steps // 2
    writer.begin()
    for event in canned_events(config, last=done, weights=weights):
        writer.write(event)
    requests: dict[str, Request] = {"paused": "pause", "stopped": "stop_keep"}
    if state in requests:
        run.ask(requests[state])
    ends: dict[str, Event] = {
        "finished": Finished(done),
        "paused": Stopped(done),
        "stopped": Stopped(done),
        "failed": Failed(
            done, f"The gradient became nan at step {done + 1}; the weights are those of the last good update.", "Lower the learning rate."
        ),
    }
    if state != "running" and state != "interrupted":
        writer.write(Checkpoint(done, _saver(config, done / steps, weights, resumable=True), resumable=True))
        writer.write(ends[state])
    return writer


def canned_events(config: Any, *, first: int = 0, last: int | None = None, weights: bool = False, seconds: float = 0.0) -> Iterator[Event]:
    """What ``train`` yields, from step ``first`` to ``last``, one step every ``seconds``; ``Finished`` is left to the caller."""
    end = int(config.steps if last is None else last)
    data = canned_data(config.algorithm, config.model)
    yield Phase(first, "loading")
    yield Started(first, config.steps, {"parameters": 1_566_880, "trainable": 1_566_880, "device": "cpu (2 cores)", "dtype": "float32"})
    tokenizer = Tokenizer.from_file(str(Path(model_path("sums" if config.model == "sums" else "story")) / "tokenizer.json"))
    if first == 0:
        at_start = _metrics(config, 0, random.Random(config.seed))
        yield Step(0, _heldout(at_start), _margins(config, at_start, random.Random(config.seed)))
    for step in range(first + 1, end + 1):
        luck = random.Random(config.seed * 100_003 + step)
        for phase in ("sampling", "scoring", "updating"):
            yield Phase(step, phase)
            time.sleep(seconds / 3)
        metrics = _metrics(config, step, luck)
        measured = step % max(1, config.eval_every) == 0 or step == config.steps
        if measured:
            metrics |= _heldout(metrics)
        for item in luck.sample(data.train, min(config.sample_prompts, len(data.train))):
            yield Sample(step, _record(config, item, step / config.steps, tokenizer, luck))
        spread = [round(luck.gauss(0, 1), 5) for _ in range(64)]
        if config.algorithm == "sft":
            yield Step(step, metrics)
        elif DATA[config.algorithm] == "pairs":
            key = "rewards/margins" if config.algorithm == "dpo" else "margin"
            heldout = _margins(config, metrics, luck) if measured else {}
            yield Step(step, metrics, {key: [round(metrics[key] + 0.3 * v, 5) for v in spread], **heldout})
        elif config.algorithm == "rrhf":
            yield Step(step, metrics, {"reward": [round(metrics["reward"] + 0.3 * v, 5) for v in spread]})
        else:
            yield Step(step, metrics, {"advantages": spread, "reward": [round(metrics["reward"] + 0.3 * v, 5) for v in spread]})
        if step % config.checkpoint_every == 0:
            for resumable in (True, False):
                yield Checkpoint(step, _saver(config, step / config.steps, weights, resumable), resumable)


EVALUATED = (
    "reward",
    "kl",
    "entropy",
    "completions/mean_length",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "loss",
    "accuracy",
    "margin",
    "perplexity",
    "mean_token_accuracy",
)


def _heldout(metrics: dict[str, float]) -> dict[str, float]:
    """The held-out figures of a measurement; an accuracy comes with its interval."""
    found = {f"eval/{key}": metrics[key] for key in EVALUATED if key in metrics}
    if "eval/accuracy" in found:
        found["eval/accuracy/low"], found["eval/accuracy/high"] = wilson(found["eval/accuracy"] * 100, 100)
    return found


def _margins(config: Any, metrics: dict[str, float], luck: random.Random) -> dict[str, list[float]]:
    """A reward model's margins on a hundred held-out pairs."""
    if config.algorithm != "reward_model":
        return {}
    return {"eval/margins": sorted(round(luck.gauss(metrics["margin"], 1.2), 5) for _ in range(100))}


def _metrics(config: Any, step: int, luck: random.Random) -> dict[str, float]:
    """Made-up figures under the keys that the algorithm really reports."""
    progress = 1 - math.exp(-3 * step / config.steps)

    def noisy(value: float, noise: float = 0.03) -> float:
        return value + luck.gauss(0, noise) * (step > 0)

    common = {
        "grad_norm": abs(noisy(1.2, 0.2)),
        "learning_rate": config.learning_rate,
        "step_time": abs(noisy(0.8, 0.05)),
        "tokens": 2800.0 + luck.randint(-60, 60),
        "tokens_per_second": abs(noisy(3500, 60)),
        "memory": 610.0,
    }
    if config.algorithm == "sft":
        loss = noisy(2.4 - 0.6 * progress)
        accuracy = min(1.0, noisy(0.45 + 0.1 * progress, 0.01))
        return {**common, "loss": loss, "perplexity": math.exp(loss), "mean_token_accuracy": accuracy}
    if config.algorithm == "reward_model":
        lead = noisy(2.0 * progress, 0.05)
        return {
            **common,
            "loss": math.log1p(math.exp(-lead)),
            "accuracy": min(1.0, noisy(0.5 + 0.4 * progress, 0.02)),
            "margin": lead,
            "scores/chosen": lead / 2,
            "scores/rejected": -lead / 2,
        }
    if config.algorithm == "dpo":
        margin = noisy(1.5 * progress, 0.05)
        return {
            **common,
            "loss": math.log1p(math.exp(-margin)),
            "rewards/chosen": noisy(0.4 * progress),
            "rewards/rejected": noisy(0.4 * progress) - margin,
            "rewards/margins": margin,
            "rewards/accuracies": min(1.0, noisy(0.5 + 0.45 * progress, 0.02)),
            "logps/chosen": noisy(-60 - 4 * progress, 0.5),
            "logps/rejected": noisy(-62 - 19 * progress, 0.5),
        }
    reward = noisy(-0.6 + 1.3 * progress)
    names = [term.name for term in config.reward]
    metrics = {
        **common,
        "reward": reward,
        "reward_std": abs(noisy(0.5 - 0.2 * progress)),
        **{f"reward/{name}": reward / len(names) for name in names},
        "kl": abs(noisy(0.3 * progress, 0.01)),
        "entropy": abs(noisy(2.4 - 0.8 * progress)),
        "loss": noisy(0.01, 0.005),
        "loss/policy": noisy(0.0, 0.005),
        "clip_ratio/region_mean": 0.0 if config.algorithm == "grpo" else abs(noisy(0.08, 0.02)),
        "ratio/mean": noisy(1.0, 0.002),
        "frac_reward_zero_std": 0.1 * progress,
        "completions/mean_length": noisy(44, 0.6),
        "completions/clipped_ratio": min(1.0, abs(noisy(0.8))),
        "advantages/mean": noisy(0.0, 0.01),
        "advantages/std": noisy(0.95, 0.02),
        "time/sampling": 0.4,
        "time/scoring": 0.1,
        "time/updating": 0.3,
    }
    if config.algorithm == "rrhf":
        without = ("loss/policy", "clip_ratio/region_mean", "ratio/mean", "advantages/mean", "advantages/std")
        metrics = {key: value for key, value in metrics.items() if key not in without}
        ranked = {"rank_accuracy": noisy(0.5 + 0.05 * progress, 0.02), "best_reward": reward + 0.8 - 0.5 * progress}
        return {**metrics, **ranked, "loss/rank": abs(noisy(5.0)), "loss/sft": abs(noisy(90.0 - 20 * progress))}
    if config.algorithm == "grpo":
        return {**metrics, "loss/kl": 0.1 * metrics["kl"]}
    if config.algorithm == "reinforce":
        metrics["grad_variance"] = abs(noisy(0.5, 0.05))
        heights = (("trajectory", 2.0), ("to_go", 1.8), ("running_mean", 0.7), ("leave_one_out", 0.6), ("value", 0.5), ("greedy", 0.8))
        metrics |= {f"grad_variance/{name}": abs(noisy(height, 0.05)) for name, height in heights}
    return {
        **metrics,
        "policy/approxkl": 0.002 * (1 + progress),
        "loss/value": abs(noisy(0.4 - 0.3 * progress)),
        "values/explained_variance": noisy(0.7 * progress, 0.05),
        "values/mean": reward / 2,
    }


def _record(config: Any, item: Any, progress: float, tokenizer: Tokenizer, luck: random.Random) -> dict[str, Any]:
    """A line of samples.jsonl, without its step."""
    if isinstance(item, Demonstration):
        tokens = _tokens(tokenizer, item.response, luck, progress)
        columns = {key: tokens[key] for key in ("ids", "strings", "logprobs")}
        return {"split": "train", "prompt": item.prompt, "label": item.label, "responses": [{"text": item.response, "tokens": columns}]}
    if isinstance(item, PreferencePair):
        record: dict[str, Any] = {"split": "train", "prompt": item.prompt, "label": item.label}
        for side, text, sign in (("chosen", item.chosen, 1), ("rejected", item.rejected, -1)):
            tokens = _tokens(tokenizer, text, luck, sign * progress)
            moved = sum(a - b for a, b in zip(tokens["logprobs"], tokens["ref_logprobs"], strict=True))
            columns = {key: tokens[key] for key in ("ids", "strings", "logprobs", "ref_logprobs")}
            reward = round(config.beta * moved if config.algorithm == "dpo" else sign * progress, 6)
            if config.algorithm == "reward_model":
                n = len(tokens["ids"])
                columns = {key: tokens[key] for key in ("ids", "strings")} | {"scores": [round(reward * (k + 1) / n, 5) for k in range(n)]}
            record[side] = {"text": text, "reward": reward, "tokens": columns}
        return {**record, "margin": round(record["chosen"]["reward"] - record["rejected"]["reward"], 6)}
    good = [luck.random() < 0.2 + 0.7 * progress for _ in range(4)]
    rewards = [luck.uniform(0.4, 0.9) * (1 if well else -1) for well in good]
    mean, deviation = float(np.mean(rewards)), float(np.std(rewards, ddof=1)) + 1e-4
    responses = []
    for well, reward in zip(good, rewards, strict=True):
        text = _answer(item, luck.randrange(3), good=well)
        advantage = (reward - mean) / deviation
        tokens = _tokens(tokenizer, text, luck, progress * (1 if well else -1))
        n = len(tokens["ids"])
        ratio = [math.exp(a - b) for a, b in zip(tokens["logprobs"], tokens["old_logprobs"], strict=True)]
        tokens |= {
            "ratio": [round(r, 5) for r in ratio],
            "clipped": [(r > 1.2 and advantage > 0) or (r < 0.8 and advantage < 0) for r in ratio],
            "advantages": [round(advantage, 5)] * n,
        }
        if config.algorithm == "rrhf":
            tokens = {key: column for key, column in tokens.items() if key not in ("ratio", "clipped", "advantages")}
        if config.algorithm == "reinforce":
            earned = [*(round(-config.beta * (a - b), 5) for a, b in zip(tokens["old_logprobs"], tokens["ref_logprobs"], strict=True))]
            earned[-1] = round(earned[-1] + reward, 5)
            to_go = [round(sum(earned[t:]), 5) for t in range(n)]
            tokens |= {
                "rewards": earned,
                "returns": to_go,
                "baselines": [round(mean, 5)] * n,
                "advantages": [round(g - mean, 5) for g in to_go],
            }
        if config.algorithm == "ppo":
            tokens |= {
                "advantages": [round(advantage + luck.gauss(0, 0.1), 5) for _ in range(n)],
                "values": [round(mean + luck.gauss(0, 0.1), 5) for _ in range(n)],
                "returns": [round(reward, 5)] * n,
                "rewards": [*(round(-config.beta * (a - b), 5) for a, b in zip(tokens["logprobs"], tokens["ref_logprobs"], strict=True))],
            }
            tokens["rewards"][-1] += round(reward, 5)
        parts = {term.name: round(reward / max(term.weight, 1e-6) / len(config.reward), 6) for term in config.reward}
        responses.append(
            {
                "text": text,
                "reward": round(reward, 6),
                "reward_parts": parts,
                "advantage": round(advantage, 6),
                "finished": True,
                "tokens": tokens,
            }
        )
    record = {"split": "train", "prompt": item.text, "answer": item.answer, "responses": responses}
    if config.algorithm == "rrhf":  # ranked, so that what an answer is worth depends on the others
        for i, response in enumerate(responses):
            del response["advantage"]
            push = ranked(config.model_dump(), record, i).push
            response["tokens"]["push"] = [round(push, 5)] * len(response["tokens"]["ids"])
    return record


def _tokens(tokenizer: Tokenizer, text: str, luck: random.Random, moved: float) -> dict[str, Any]:
    ids = tokenizer.encode(text).ids
    reference = [round(-abs(luck.gauss(2, 1)), 5) for _ in ids]
    old = [round(min(-0.001, r + moved * abs(luck.gauss(0.3, 0.3))), 5) for r in reference]
    return {
        "ids": ids,
        "strings": [tokenizer.decode([i], skip_special_tokens=False) for i in ids],
        "logprobs": [round(min(-0.001, o + luck.gauss(0, 0.1)), 5) for o in old],
        "old_logprobs": old,
        "ref_logprobs": reference,
        "entropies": [round(abs(luck.gauss(2, 0.5)), 5) for _ in ids],
    }


def _saver(config: Any, progress: float, weights: bool, resumable: bool) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        (folder / "playground.json").write_text(json.dumps({"base": config.model, "tuning": config.tuning}))
        if resumable:
            (folder / "training_state.pt").write_bytes(b"canned")
        if not weights or config.model not in ("story", "sums"):
            return
        source = Path(model_path(config.model))
        for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(source / name, folder / name)
        tensors = load_file(source / "model.safetensors")
        noise = np.random.default_rng(config.seed)
        for key, tensor in tensors.items():
            if key.endswith("down_proj.weight"):
                tensors[key] = tensor + 0.1 * progress * tensor.std() * noise.standard_normal(tensor.shape, dtype=tensor.dtype)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return save


def canned_runs(root: str | Path) -> list[Run]:
    """A run of every algorithm, and one in every state; "running" is interrupted, as nobody runs it."""
    runs = [canned_run(root, algorithm, seed=i, name=f"Canned {algorithm.upper()}") for i, algorithm in enumerate(CONFIGS)]
    runs.append(canned_run(root, "grpo", model="sums", name="Canned sums"))
    states: tuple[State, ...] = ("paused", "stopped", "interrupted", "failed", "queued")
    return runs + [canned_run(root, state=state, name=f"Canned {state}", seed=9) for state in states]


if __name__ == "__main__":
    for made in canned_runs(sys.argv[1]):
        print(f"{made.status.state:12} {made.path}")
