"""A training step of this engine against one of TRL's trainers, and sampling against ``generate``: the same work, in turns, in one run.

    python -m benchmarks.vs_trl                               all (about 15 minutes)
    python -m benchmarks.vs_trl grpo dpo --rounds 3 --steps 8

``grpo``      the story model in full, 8 prompts × 8 responses of at most 48 tokens, beta 0.1, one update a batch
``grpo-5m``   the same with a Llama of 5 million random weights
``dpo``       the story model in full, 32 of the shipped pairs
``sft``       the story model in full, 32 texts of 64 tokens, of which the last 48 are learned
``sampling``  64 responses of at most 48 tokens, tokens a second, against transformers' ``generate``
``memory``    the peak of each of the trainings above in a process of its own, beyond what the process held before the run

fp32, fused AdamW, the same learning rate and clipping, no gradient checkpointing. Both take turns: a block of steps of ours, a block of
TRL's, each from the same untouched weights, round after round; the first two steps of a block are not counted. A step is everything
from the texts (DPO and SFT of TRL: from token ids, encoded before) to the optimizer, on the wall clock: for TRL from ``on_step_begin``
to ``on_step_end``, for ours the time between two ``Step`` events with held-out measurements and checkpoints switched off. The speed-up
of a round is the ratio of its two medians. DPO and SFT get the same batches in the same order; that the first figures agree is checked.
The reward model is measured by ``benchmarks.reward_model step``.
"""

from __future__ import annotations

import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset as Table
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from benchmarks.measuring import Report, parser
from benchmarks.trl_turns import WARM_UP, arguments, our_steps, random_llama, their_steps
from rlhf.algorithms import make_config
from rlhf.catalogue import model_path
from rlhf.config import Config, OnlineConfig
from rlhf.config.offline import OfflineConfig, PairsConfig
from rlhf.optimisation import batch_indices
from rlhf.policy import load_pretrained
from rlhf.preferences import Dataset, Demonstration, PreferencePair, load_dataset
from rlhf.rewards import Context, RewardMix
from rlhf.rollout import SamplingConfig, encode_prompt, sample

PROMPT, ANSWER = 16, 48  # tokens of an SFT text


@dataclass(frozen=True)
class Work:
    """What both are given; ``same``: the metric of the first step that must agree, ours and TRL's key, and how closely."""

    config: Config
    data: Dataset
    trainer: Callable[[str], Trainer]
    same: tuple[str, str, float] | None = None


def _model(source: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(model_path(source), dtype=torch.float32)


def _tokenizer(source: str) -> Any:
    return AutoTokenizer.from_pretrained(model_path(source), padding_side="left")


# ---------------------------------------------------------------- the trainings


def grpo(seed: int, steps: int, _folder: str, model: str = "story") -> Work:
    config = make_config("grpo", model="story", reward="negative", seed=seed, steps=steps, eval_every=0, eval_prompts=1)
    config = config.model_copy(update={"model": model})
    assert isinstance(config, OnlineConfig)
    data, mix = load_dataset("prompts", config.data), RewardMix(config.reward)

    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        contexts = [Context(p, c, None, 0, True) for p, c in zip(prompts, completions, strict=True)]
        return [scored.total for scored in mix(contexts)]

    def trainer(folder: str) -> Trainer:
        settings = GRPOConfig(
            **arguments(config, folder),
            per_device_train_batch_size=config.prompts_per_step * config.responses_per_prompt,
            num_generations=config.responses_per_prompt,
            max_completion_length=config.max_new_tokens,
            temperature=config.temperature,
            num_iterations=1,
            beta=config.beta,
            loss_type="grpo",
            scale_rewards="group",
        )
        table = Table.from_dict({"prompt": [item.prompt for item in data.train]})
        return GRPOTrainer(_model(model), reward, settings, train_dataset=table, processing_class=_tokenizer(model))  # pyright: ignore[reportArgumentType]

    return Work(config, data, trainer)


def grpo_5m(seed: int, steps: int, folder: str) -> Work:
    return grpo(seed, steps, folder, random_llama(Path(folder), hidden=256, layers=6))


def dpo(seed: int, steps: int, _folder: str) -> Work:
    config = make_config("dpo", model="story", seed=seed, steps=steps, eval_every=0, eval_prompts=1)
    assert isinstance(config, PairsConfig)
    config = config.model_copy(update={"append_eos": True})  # as TRL does
    data = load_dataset("pairs", config.data)
    pairs = [item for item in data.train if isinstance(item, PreferencePair)]

    def trainer(folder: str) -> Trainer:
        order = [pairs[i] for step in range(1, steps + 1) for i in batch_indices(len(pairs), config.pairs_per_step, step, seed)]
        table = Table.from_dict({key: [getattr(pair, key) for pair in order] for key in ("prompt", "chosen", "rejected")})
        settings = DPOConfig(
            **arguments(config, folder),
            per_device_train_batch_size=config.pairs_per_step,
            train_sampling_strategy="sequential",
            beta=config.model_dump()["beta"],
            weight_decay=config.weight_decay,
        )
        return DPOTrainer(_model(config.model), args=settings, train_dataset=table, processing_class=_tokenizer(config.model))

    return Work(config, data, trainer, ("logps/chosen", "logps/chosen", 0.05))


def sft(seed: int, steps: int, _folder: str) -> Work:
    config = make_config("sft", model="story", seed=seed, steps=steps, eval_every=0, eval_prompts=1, max_response_tokens=ANSWER)
    assert isinstance(config, OfflineConfig)
    tokenizer = _tokenizer(config.model)
    items = []
    for pair in load_dataset("pairs", "story-pairs").train:
        if isinstance(pair, PreferencePair):
            whole = list(tokenizer(pair.prompt + pair.chosen + pair.rejected)["input_ids"])
            item = Demonstration(tokenizer.decode(whole[:PROMPT]), tokenizer.decode(whole[PROMPT:]))
            ids = encode_prompt(tokenizer, item.prompt), list(tokenizer(item.response, add_special_tokens=False)["input_ids"])[:ANSWER]
            if (len(ids[0]), len(ids[1])) == (PROMPT, ANSWER):
                items.append((item, ids))
    data = Dataset(tuple(item for item, _ in items), (), "demonstrations", "texts of 64 tokens")

    def trainer(folder: str) -> Trainer:
        order = [items[i][1] for step in range(1, steps + 1) for i in batch_indices(len(items), config.items_per_step, step, seed)]
        mask = [0] * PROMPT + [1] * ANSWER
        table = Table.from_dict({"input_ids": [prompt + answer for prompt, answer in order], "completion_mask": [mask] * len(order)})
        settings = SFTConfig(
            **arguments(config, folder),
            per_device_train_batch_size=config.items_per_step,
            train_sampling_strategy="sequential",
            weight_decay=config.weight_decay,
            completion_only_loss=True,
        )
        return SFTTrainer(_model(config.model), args=settings, train_dataset=table, processing_class=tokenizer)

    return Work(config, data, trainer, ("loss", "loss", 1e-3))


TRAININGS: dict[str, tuple[Callable[[int, int, str], Work], float]] = {
    "grpo": (grpo, 2.0),
    "grpo-5m": (grpo_5m, 1.3),
    "dpo": (dpo, 1.5),
    "sft": (sft, 1.0),
}


def steps_of(who: str, work: Work, folder: str) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds and metrics of each step."""
    if who == "ours":
        return our_steps(work.config, work.data)
    trainer = work.trainer(folder)
    return their_steps(trainer), [entry for entry in trainer.state.log_history if "grad_norm" in entry]


def against(name: str, rounds: int, steps: int) -> int:
    make, goal = TRAININGS[name]
    report = Report(f"vs_trl-{name}")
    times: dict[str, list[float]] = {"ours": [], "TRL": []}
    ratios, apart = [], []
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(rounds):
            work = make(round_, steps, folder)
            block = {who: steps_of(who, work, folder) for who in (("ours", "TRL") if round_ % 2 == 0 else ("TRL", "ours"))}
            if work.same is not None:
                ours, theirs, _ = work.same
                apart.append(abs(block["ours"][1][0][ours] - float(block["TRL"][1][0][theirs])))
            medians = {who: statistics.median(seconds[WARM_UP:]) for who, (seconds, _) in block.items()}
            for who, (seconds, _) in block.items():
                times[who] += seconds[WARM_UP:]
            ratios.append(medians["TRL"] / medians["ours"])
            print(f"  round {round_}: ours {medians['ours']:.3f} s, TRL {medians['TRL']:.3f} s, {ratios[-1]:.2f} × as fast", flush=True)
    report.check(f"{name}, step of ours", times["ours"], "s", "none", True)
    report.check(f"{name}, step of TRL", times["TRL"], "s", "none", True)
    report.check(f"{name}, speed against TRL", ratios, "×", f"≥ {goal} (median)", statistics.median(ratios) >= goal)
    if work.same is not None:
        key, _, most = work.same
        report.check(f"{name}, first {key}, ours and TRL's apart", apart, "nats", f"≤ {most}", max(apart) <= most)
    report.details["times"] = times
    return report.finish()


# ---------------------------------------------------------------- sampling


def sampling(rounds: int, _steps: int) -> int:
    """Tokens up to each response's end, by the second; ``generate`` keeps the rows of a group apart, as it does by itself."""
    report = Report("vs_trl-sampling")
    loaded = load_pretrained("story", "cpu", "float32")
    prompts = list(dict.fromkeys(item.prompt for item in load_dataset("prompts", "story-prompts").train))
    speeds: dict[str, list[float]] = {"ours": [], "generate": []}
    settings = SamplingConfig(48)
    loaded.tokenizer.padding_side = "left"

    def generate(texts: list[str]) -> int:
        torch.manual_seed(0)
        inputs = loaded.tokenizer([text for text in texts for _ in range(8)], return_tensors="pt", padding=True)
        with torch.inference_mode():
            ids = loaded.model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=48)
        fresh = ids[:, inputs["input_ids"].shape[1] :]
        ended = (fresh == loaded.tokenizer.eos_token_id).int()
        return int((ended.cumsum(1) - ended == 0).sum())

    def ours(texts: list[str]) -> int:
        return int(sample(loaded.model, loaded.tokenizer, texts, 8, settings, 0).response_mask.sum())

    ways = {"ours": ours, "generate": generate}
    for round_ in range(-1, rounds * 4):  # the first warms up
        texts = prompts[8 * (round_ + 1) : 8 * (round_ + 2)]
        for who in ways if round_ % 2 == 0 else reversed(ways):
            begin = time.perf_counter()
            tokens = ways[who](texts)
            if round_ >= 0:
                speeds[who].append(tokens / (time.perf_counter() - begin))
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["generate"], strict=True)]
    for who, values in speeds.items():
        report.check(f"sampling, {who}", values, "tokens/s", "none", True)
    report.check("sampling, speed against generate", ratios, "×", "≥ 2.0 (median)", statistics.median(ratios) >= 2)
    return report.finish()


# ---------------------------------------------------------------- memory


def memory(_rounds: int, _steps: int) -> int:
    report = Report("vs_trl-memory")
    for name in TRAININGS:
        peaks = {}
        for who in ("ours", "TRL"):
            command = [sys.executable, "-m", "benchmarks.vs_trl", "--peak-of", name, who]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[who] = float(json.loads(said.splitlines()[-1]))
            report.check(f"{name}, peak memory of {who}", [peaks[who]], "MiB", "none", True)
        report.check(f"{name}, peak memory against TRL", [peaks["ours"] / peaks["TRL"]], "×", "≤ 1", peaks["ours"] <= peaks["TRL"])
    return report.finish()


def peak(name: str, who: str) -> None:
    """Print the MiB by which four steps raise the process's peak over what it holds now, both libraries imported."""
    with tempfile.TemporaryDirectory() as folder:
        work = TRAININGS[name][0](0, 4, folder)
        before = psutil.Process().memory_info().rss
        steps_of(who, work, folder)
        unit = 1 if sys.platform == "darwin" else 1024
        print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before) / 2**20))


OTHERS: dict[str, Callable[[int, int], int]] = {"sampling": sampling, "memory": memory}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("task", nargs="*", choices=[*TRAININGS, *OTHERS, []], default=[], help="which ones (all)")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=12, help=f"of each block, the first {WARM_UP} not counted")
    options.add_argument("--peak-of", nargs=2, metavar=("TASK", "WHO"), help="used by the task memory for its processes")
    given = options.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if given.peak_of:
        peak(*given.peak_of)
        return 0
    missed = 0
    for name in given.task or [*TRAININGS, *OTHERS]:
        missed |= OTHERS[name](given.rounds, given.steps) if name in OTHERS else against(name, given.rounds, given.steps)
    return missed


if __name__ == "__main__":
    sys.exit(main())
