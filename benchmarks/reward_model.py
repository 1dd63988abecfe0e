"""The reward model on the embedded story model: how fast and how well it learns 400 votes, clean and noisy, and what comes after it.

    python -m benchmarks.reward_model                       all four tasks (about 15 minutes)
    python -m benchmarks.reward_model clean noisy --seeds 2

``clean``  400 of the shipped pairs, whose rule makes no mistakes: seconds to the best held-out accuracy, and that accuracy
``noisy``  the same with a fifth of the votes flipped, in training and held out: accuracy on the noisy votes, where 0.8 is the most
           that can be expected, and on the same votes before they were flipped
``step``   a training step against one of TRL's ``RewardTrainer``, on the same batches from the same weights, block by block in turn
``loop``   400 simulated votes → reward model → GRPO against it: seconds in all, and the rise of the true reward on held-out prompts

Everything has the settings that the app starts with. The clock of ``clean`` starts before the model is loaded, and includes the run's own
held-out measurements; so does the clock of ``loop``, which also has the answers written that are voted on.
"""

from __future__ import annotations

import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as Table
from trl import RewardConfig, RewardTrainer

from benchmarks.measuring import Report, parser
from benchmarks.trl_turns import WARM_UP, arguments, our_steps, their_steps, told
from rlhf.algorithms import make_config
from rlhf.config import OnlineConfig, RewardModelConfig, RewardTerm, model_reward
from rlhf.events import Checkpoint, Step
from rlhf.optimisation import batch_indices, derive_seed
from rlhf.policy import load_pretrained
from rlhf.preferences import Dataset, PreferencePair, Prompt, load_dataset, split
from rlhf.raters import SimulatedRater
from rlhf.reward_network import load_scorer, with_scalar_head
from rlhf.rewards import Context
from rlhf.rollout import SamplingConfig, encode_prompt, sample

VOTES = 400
NOISE = 0.2
ERRORS = 0.05  # of the simulated rater, as on the guided page
CHOICES = 8  # answers that are written to a prompt, of which the rater judges the two most apart, as there


def reward_config(**fields: Any) -> RewardModelConfig:
    config = make_config("reward_model", **{"model": "story", **fields})
    config = config.model_copy(update={"checkpoint_every": config.eval_every or config.steps})  # each measured one can be read back
    assert isinstance(config, RewardModelConfig)
    return config


def shipped(seed: int, held: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """400 training pairs, others for each seed, and the first ``held`` held-out ones."""
    data = load_dataset("pairs", "story-pairs")
    train_pairs, heldout = ([item for item in part if isinstance(item, PreferencePair)] for part in (data.train, data.heldout))
    return random.Random(derive_seed(seed, "votes")).sample(train_pairs, VOTES), heldout[:held]


def flipped(pairs: Sequence[PreferencePair], share: float, luck: random.Random) -> list[PreferencePair]:
    wrong = set(luck.sample(range(len(pairs)), round(share * len(pairs))))
    return [replace(p, chosen=p.rejected, rejected=p.chosen) if i in wrong else p for i, p in enumerate(pairs)]


def curve(config: RewardModelConfig, data: Dataset, folder: Path) -> list[tuple[float, float]]:
    """(Seconds since the start, held-out accuracy) of each measurement.

    The reward models are written into ``folder``: ``last``, and ``best`` of those that were measured.
    """
    begin = time.perf_counter()
    found = []
    for event in told(config, data):
        if isinstance(event, Step) and "eval/accuracy" in event.metrics:
            found.append((time.perf_counter() - begin, event.metrics["eval/accuracy"]))
        elif isinstance(event, Checkpoint) and not event.resumable:
            if found[-1][1] >= max(accuracy for _, accuracy in found):
                event.save(folder / "best")
            if event.step == config.steps:
                event.save(folder / "last")
    return found


def clean(report: Report, seeds: int, _rounds: int) -> None:
    curves = []
    for seed in range(seeds):
        config = reward_config(seed=seed)
        votes, heldout = shipped(seed, config.eval_prompts)
        with tempfile.TemporaryDirectory() as folder:
            curves.append(curve(config, Dataset(tuple(votes), tuple(heldout), "pairs", "400 votes"), Path(folder)))
        print(f"  clean, seed {seed}: " + ", ".join(f"{accuracy:.3f} after {at:.1f} s" for at, accuracy in curves[-1]), flush=True)
    best = [max(points, key=lambda point: point[1]) for points in curves]
    report.check("held-out accuracy before", [points[0][1] for points in curves], "", "about 0.5", True)
    report.check("held-out accuracy, best", [accuracy for _, accuracy in best], "", "≥ 0.85", min(a for _, a in best) >= 0.85)
    report.check("seconds to the best", [at for at, _ in best], "s", "≤ 30", max(at for at, _ in best) <= 30)
    report.check("held-out accuracy, at the end", [points[-1][1] for points in curves], "", "none", True)
    report.details["clean"] = curves


def noisy(report: Report, seeds: int, _rounds: int) -> None:
    curves, on_clean = [], []
    for seed in range(seeds):
        config = reward_config(seed=seed)
        votes, heldout = shipped(seed, config.eval_prompts)
        luck = random.Random(derive_seed(seed, "noise"))
        data = Dataset(tuple(flipped(votes, NOISE, luck)), tuple(flipped(heldout, NOISE, luck)), "pairs", "400 noisy votes")
        with tempfile.TemporaryDirectory() as folder:
            curves.append(curve(config, data, Path(folder)))
            scorer = load_scorer(f"{folder}/best")
        prompts = [pair.prompt for pair in heldout]
        chosen, rejected = (scorer.scores(prompts, texts) for texts in ([p.chosen for p in heldout], [p.rejected for p in heldout]))
        on_clean.append(statistics.mean(a > b for a, b in zip(chosen, rejected, strict=True)))
        line = ", ".join(f"{accuracy:.3f}" for _, accuracy in curves[-1])
        print(f"  noisy, seed {seed}: {line} of the noisy votes; the best one {on_clean[-1]:.3f} of the clean ones", flush=True)
    best = [max(accuracy for _, accuracy in points) for points in curves]
    report.check("20 % noise: accuracy on noisy held-out votes, best", best, "", "≥ 0.75 (of 0.8)", min(best) >= 0.75)
    report.check("20 % noise: the same at the end", [points[-1][1] for points in curves], "", "none", True)
    report.check("20 % noise: accuracy of the best on the clean votes", on_clean, "", "none", True)
    report.details["noisy"] = curves


# ---------------------------------------------------------------- against TRL


def our_block(config: RewardModelConfig, data: Dataset) -> tuple[list[float], list[float]]:
    """Seconds and loss of each step, the tokens' encoding and the records of samples included."""
    times, metrics = our_steps(config, data)
    return times, [step["loss"] for step in metrics]


def their_block(config: RewardModelConfig, data: Dataset, folder: str) -> tuple[list[float], list[float]]:
    """The same batches in the same order, encoded before; head and weights as ours start."""
    torch.manual_seed(derive_seed(config.seed, "start") % 2**32)
    loaded = load_pretrained(config.model, "cpu", "float32")
    model = with_scalar_head(loaded).requires_grad_(True)
    pairs = [item for item in data.train if isinstance(item, PreferencePair)]
    order = [i for step in range(1, config.steps + 1) for i in batch_indices(len(pairs), config.pairs_per_step, step, config.seed)]

    def ids(pair: PreferencePair, answer: str) -> list[int]:
        own = list(loaded.tokenizer(answer, add_special_tokens=False)["input_ids"])
        return encode_prompt(loaded.tokenizer, pair.prompt) + own[: config.max_response_tokens]

    rows = {
        "chosen_ids": [ids(pairs[i], pairs[i].chosen) for i in order],
        "rejected_ids": [ids(pairs[i], pairs[i].rejected) for i in order],
    }
    settings = RewardConfig(
        **arguments(config, folder),
        per_device_train_batch_size=config.pairs_per_step,
        max_length=None,
        center_rewards_coefficient=config.center_coef,
        weight_decay=config.weight_decay,
        train_sampling_strategy="sequential",
    )
    trainer = RewardTrainer(model, args=settings, train_dataset=Table.from_dict(rows), processing_class=loaded.tokenizer)
    return their_steps(trainer), [entry["loss"] for entry in trainer.state.log_history if "accuracy" in entry]


def against_trl(report: Report, _seeds: int, rounds: int) -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    times: dict[str, list[float]] = {"ours": [], "TRL": []}
    ratios, apart = [], []
    for round_ in range(rounds):
        config = reward_config(seed=round_, device="cpu", steps=20, eval_every=0, learning_rate_schedule="constant")
        votes, _ = shipped(round_, 0)
        data = Dataset(tuple(votes), (), "pairs", "400 votes")
        block: dict[str, tuple[list[float], list[float]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for who in ("ours", "TRL") if round_ % 2 == 0 else ("TRL", "ours"):
                block[who] = our_block(config, data) if who == "ours" else their_block(config, data, folder)
        # the same work: in the first steps the losses are equal; later rounding drives them apart
        apart.append(max(abs(a - b) for a, b in zip(block["ours"][1][:3], block["TRL"][1][:3], strict=True)))
        medians = {who: statistics.median(seconds[WARM_UP:]) for who, (seconds, _) in block.items()}
        for who, (seconds, _) in block.items():
            times[who] += seconds[WARM_UP:]
        ratios.append(medians["TRL"] / medians["ours"])
        print(f"  round {round_}: ours {medians['ours']:.3f} s, TRL {medians['TRL']:.3f} s, {ratios[-1]:.2f} × as fast", flush=True)
    report.check("reward model, step of ours", times["ours"], "s", "none", True)
    report.check("reward model, step of TRL", times["TRL"], "s", "none", True)
    report.check("reward model, speed against TRL", ratios, "×", "≥ 1 (median)", statistics.median(ratios) >= 1)
    report.check("first three losses, ours and TRL's apart", apart, "nats", "≤ 0.001", max(apart) <= 1e-3)
    report.details["times"] = times


# ---------------------------------------------------------------- the closed loop


def simulated_votes(prompts: Sequence[str], config: OnlineConfig, seed: int) -> list[PreferencePair]:
    """What a rater who prefers sad stories votes on answers of the untouched model; ties are left out."""
    loaded = load_pretrained(config.model, config.device)
    settings = SamplingConfig(config.max_new_tokens, config.temperature, config.top_p, config.top_k, config.stop)
    rater = SimulatedRater((RewardTerm(name="negative"),), ERRORS, seed)
    groups: list[list[Context]] = []
    for start in range(0, len(prompts), 16):
        some = list(prompts[start : start + 16])
        rollout = sample(loaded.model, loaded.tokenizer, some, CHOICES, settings, derive_seed(seed, "votes", start))
        lengths, finished = rollout.response_mask.sum(1).tolist(), rollout.finished.tolist()
        contexts = [Context(some[i // CHOICES], text, None, lengths[i], finished[i]) for i, text in enumerate(rollout.texts)]
        groups += [contexts[i : i + CHOICES] for i in range(0, len(contexts), CHOICES)]
    judged = [(group[low], group[high]) for group, (low, high) in zip(groups, rater.most_apart(groups), strict=True) if low != high]
    winners = rater.judge([left for left, _ in judged], [right for _, right in judged])
    return [
        PreferencePair(left.prompt, *((left.response, right.response) if winner == "left" else (right.response, left.response)), rater.name)
        for (left, right), winner in zip(judged, winners, strict=True)
        if winner != "tie"
    ]


def loop(report: Report, seeds: int, _rounds: int) -> None:
    totals, rises, parts = [], [], []
    for seed in range(seeds):
        begin = time.perf_counter()
        config = make_config("grpo", model="story", seed=seed, steps=40, gold="negative")
        assert isinstance(config, OnlineConfig)
        prompts = [item.text for item in load_dataset("prompts", config.data).train if isinstance(item, Prompt)]
        with tempfile.TemporaryDirectory() as folder:
            votes = simulated_votes(random.Random(derive_seed(seed, "prompts")).sample(prompts, VOTES), config, seed)
            voted = time.perf_counter()
            accuracy = curve(reward_config(seed=seed), split(votes, "400 simulated votes"), Path(folder))[-1][1]
            learned = time.perf_counter()
            reward = model_reward(f"{folder}/last")
            against = make_config("grpo", model="story", seed=seed, steps=40, reward=reward, gold="negative")
            steps = [event.metrics for event in told(against, load_dataset("prompts", against.data)) if isinstance(event, Step)]
        end = time.perf_counter()
        gold = [metrics["eval/gold"] for metrics in steps if "eval/gold" in metrics]
        totals.append(end - begin)
        rises.append(gold[-1] - gold[0])
        parts.append({"votes": voted - begin, "reward model": learned - voted, "GRPO": end - learned, "accuracy": accuracy, "gold": gold})
        taken = f"votes {voted - begin:.1f} s, reward model {learned - voted:.1f} s, GRPO {end - learned:.1f} s"
        print(f"  loop, seed {seed}: {len(votes)} votes, accuracy {accuracy:.3f}, gold {gold[0]:.3f} → {gold[-1]:.3f}; {taken}", flush=True)
    report.check("votes → reward model → GRPO, in all", totals, "s", "≤ 180", max(totals) <= 180)
    report.check("rise of the true reward", rises, "", "≥ 0.3", min(rises) >= 0.3)
    report.details["loop"] = parts


TASKS: dict[str, tuple[Callable[[Report, int, int], None], int]] = {
    "clean": (clean, 5),
    "noisy": (noisy, 5),
    "step": (against_trl, 1),
    "loop": (loop, 3),
}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("task", nargs="*", choices=[*TASKS, []], default=[], help="which ones (all)")
    options.add_argument("--seeds", type=int, help="instead of 5, and 3 for the loop")
    options.add_argument("--rounds", type=int, default=5, help="of the comparison with TRL")
    given = options.parse_args()
    missed = 0
    for name in given.task or TASKS:
        task, seeds = TASKS[name]
        report = Report(f"reward_model-{name}")
        task(report, given.seeds or seeds, given.rounds)
        missed |= report.finish()
    return missed


if __name__ == "__main__":
    sys.exit(main())
