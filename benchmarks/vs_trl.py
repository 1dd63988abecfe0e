"""A GRPO step of this engine against one of TRL's ``GRPOTrainer``: same model, prompts, group, lengths, reward, in one run.

    python -m benchmarks.vs_trl [--rounds 5] [--steps 12]

Both train the story model in full (fp32, AdamW 1e-4, beta 0.1, one update a batch, no gradient checkpointing) on 8 prompts × 8 responses
of at most 48 tokens, scored by the same reward function. They take turns: a block of steps of ours, a block of TRL's, each from the same
untouched weights, round after round; the first two steps of a block are not counted. A step is everything from sampling to the optimizer,
on the wall clock: for TRL from ``on_step_begin`` to ``on_step_end``, for ours the time between two ``Step`` events with held-out
measurements and checkpoints switched off. The speed-up of a round is the ratio of its two medians.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from benchmarks.measuring import Report, parser, spread
from benchmarks.trl_turns import WARM_UP, arguments, our_steps, their_steps
from rlhf.algorithms import make_config
from rlhf.catalogue import model_path
from rlhf.config import OnlineConfig
from rlhf.preferences import load_dataset
from rlhf.rewards import Context, RewardMix

GOAL = 1.6


def theirs(config: OnlineConfig, prompts: list[str], folder: str) -> tuple[list[float], list[dict[str, float]]]:
    mix = RewardMix(config.reward)

    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        contexts = [Context(p, c, None, 0, True) for p, c in zip(prompts, completions, strict=True)]
        return [scored.total for scored in mix(contexts)]

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
    path = model_path(config.model)
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
        reward_funcs=reward,  # pyright: ignore[reportArgumentType]
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(path, padding_side="left"),
    )
    return their_steps(trainer), [entry for entry in trainer.state.log_history if "reward" in entry]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=12, help=f"of each block, the first {WARM_UP} not counted")
    given = options.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    report = Report("vs_trl")
    times: dict[str, list[float]] = {"ours": [], "TRL": []}
    ratios, lengths, rewards = [], {"ours": [], "TRL": []}, {"ours": [], "TRL": []}
    for round_ in range(given.rounds):
        config = make_config("grpo", model="story", reward="negative", seed=round_, steps=given.steps, eval_every=0, eval_prompts=1)
        assert isinstance(config, OnlineConfig)
        data = load_dataset("prompts", config.data)
        block: dict[str, tuple[list[float], list[dict[str, float]]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for who in ("ours", "TRL") if round_ % 2 == 0 else ("TRL", "ours"):
                block[who] = our_steps(config, data) if who == "ours" else theirs(config, [item.prompt for item in data.train], folder)
        for who, (seconds, metrics) in block.items():
            times[who] += seconds[WARM_UP:]
            lengths[who].append(statistics.mean(m["completions/mean_length"] for m in metrics))
            rewards[who].append(metrics[-1]["reward"])
        medians = {who: statistics.median(seconds[WARM_UP:]) for who, (seconds, _) in block.items()}
        ratios.append(medians["TRL"] / medians["ours"])
        print(f"  round {round_}: ours {medians['ours']:.3f} s, TRL {medians['TRL']:.3f} s, {ratios[-1]:.2f} × faster", flush=True)
    for who in times:
        print(f"  {who}: mean response {spread(lengths[who])} tokens, reward in the last step {spread(rewards[who])}")
    report.check("step of ours", times["ours"], "s", "none", True)
    report.check("step of TRL", times["TRL"], "s", "none", True)
    report.check("speed-up", ratios, "×", f"≥ {GOAL} (median)", statistics.median(ratios) >= GOAL)
    report.details = {"times": times, "mean_lengths": lengths, "last_rewards": rewards}
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
