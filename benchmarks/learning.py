"""How fast the embedded models learn, with the settings that the app starts with: nothing is tuned here.

    python -m benchmarks.learning                          all four tasks, five seeds each (about 25 minutes)
    python -m benchmarks.learning sums story-dpo --seeds 2

``sums``        GRPO: steps a second, and the gain in held-out sampled accuracy within 60 s
``story-grpo``  GRPO, reward ``negative``: steps a second, held-out mean reward and KL within 60 s; prints texts
``story-dpo``   DPO on the shipped pairs: held-out reward accuracy within 60 s
``story-ppo``   PPO, reward ``negative``: rise of the held-out mean reward within 90 s

The clock runs from the first training step on, held-out measurements of the run included; loading the model comes before it. A run that is
not finished when time is up is interrupted as *Stop and keep* does it. The figures are not the run's own metrics: the model is read
back from the checkpoint, and it and the untouched model answer all held-out prompts with the same seed. (DPO: from the run's last held-out
measurement.)
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import Report, parser
from rlhf import ops
from rlhf.algorithms import make_config
from rlhf.config import Config, OnlineConfig
from rlhf.events import Checkpoint, Failed, Step
from rlhf.policy import LoadedModel, load_pretrained, with_adapter
from rlhf.preferences import Prompt, load_dataset
from rlhf.rewards import Context, RewardMix
from rlhf.rollout import SamplingConfig, sample, score
from rlhf.train import train


@dataclass
class Outcome:
    """``curve``: (seconds, held-out metrics) of the run itself; ``before``, ``after``: mean reward of all held-out prompts, anew."""

    steps: int = 0
    seconds: float = 0.0
    step_times: list[float] = field(default_factory=list)
    curve: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    before: float = 0.0
    after: float = 0.0
    kl: float = 0.0
    texts: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def steps_per_second(self) -> float:
        """While it trains: without the held-out measurements and saving, which the settings can space out."""
        return 1 / statistics.mean(self.step_times)


def run(config: Config, limit: float, checkpoint: Path) -> Outcome:
    """Train to the end or for ``limit`` seconds, whichever comes first, and write the model into ``checkpoint``."""
    data = load_dataset("pairs" if config.algorithm == "dpo" else "prompts", config.data, config.heldout)
    outcome = Outcome()
    begin: list[float] = []  # empty until the untouched model has been measured: that is not on the clock

    def seconds() -> float:
        return time.perf_counter() - begin[0] if begin else 0.0

    for event in train(config, data, interrupted=lambda: seconds() > limit):
        if isinstance(event, Step):
            if event.step == 0:
                begin.append(time.perf_counter())
            else:
                outcome.steps, outcome.seconds = event.step, seconds()
                outcome.step_times.append(event.metrics["step_time"])
            heldout = {key: value for key, value in event.metrics.items() if key.startswith("eval/")}
            if heldout:
                outcome.curve.append((seconds(), heldout))
        elif isinstance(event, Checkpoint) and not checkpoint.exists() and (event.step == config.steps or seconds() > limit):
            event.save(checkpoint)
        elif isinstance(event, Failed):
            raise SystemExit(f"The run failed at step {event.step}: {event.what} {event.do}")
    return outcome


def answers(loaded: LoadedModel, prompts: list[Prompt], config: OnlineConfig) -> tuple[list[str], list[float]]:
    """One answer to each prompt, with a seed that training never uses, and its reward."""
    settings = SamplingConfig(config.max_new_tokens, config.temperature, config.top_p, config.top_k, config.stop)
    texts: list[str] = []
    contexts: list[Context] = []
    for start in range(0, len(prompts), 128):
        part = prompts[start : start + 128]
        rollout = sample(loaded.model, loaded.tokenizer, [p.text for p in part], 1, settings, seed=987_654_321 + start)
        lengths, finished = rollout.response_mask.sum(1).tolist(), rollout.finished.tolist()
        texts += rollout.texts
        contexts += [Context(p.text, t, p.answer, n, f) for p, t, n, f in zip(part, rollout.texts, lengths, finished, strict=True)]
    return texts, [scored.total for scored in RewardMix(config.reward)(contexts)]


def kl(tuned: LoadedModel, base: LoadedModel, prompts: list[Prompt], texts: list[str]) -> float:
    """Mean k3 a token of the tuned model's own answers, in nats."""
    import torch

    estimates = []
    for prompt, text in zip(prompts, texts, strict=True):
        ours, theirs = (torch.tensor(score(m.model, m.tokenizer, prompt.text, text).logprobs, dtype=torch.float64) for m in (tuned, base))
        estimates.append(ops.kl_estimate(ours, theirs, "k3"))
    return float(torch.cat(estimates).mean())


def before_and_after(config: OnlineConfig, checkpoint: Path, outcome: Outcome, shown: int = 3) -> None:
    """Fill in what the checkpoint's model answers on all held-out prompts, against the untouched model."""
    heldout = [p for p in load_dataset("prompts", config.data, config.heldout).heldout if isinstance(p, Prompt)]
    base = load_pretrained(config.model)
    tuned = with_adapter(base, checkpoint)
    texts, rewards = answers(base, heldout, config)
    new_texts, new_rewards = answers(tuned, heldout, config)
    outcome.before, outcome.after = statistics.mean(rewards), statistics.mean(new_rewards)
    outcome.kl = kl(tuned, base, heldout[:64], new_texts[:64])
    outcome.texts = [(p.text, a, b) for p, a, b in zip(heldout[:shown], texts, new_texts, strict=False)]


def several(name: str, limit: float, seeds: int, options: dict[str, Any], algorithm: str, online: bool = True) -> list[Outcome]:
    outcomes = []
    for seed in range(seeds):
        config = make_config(algorithm, seed=seed, **options)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint"
            outcome = run(config, limit, checkpoint)
            if online:
                assert isinstance(config, OnlineConfig)
                before_and_after(config, checkpoint, outcome)
        line = f"  {name}, seed {seed}: {outcome.steps} steps in {outcome.seconds:.1f} s ({outcome.steps_per_second:.3g} steps/s)"
        if online:
            line += f", held-out {outcome.before:.3f} → {outcome.after:.3f}, KL {outcome.kl:.3f}"
        print(line, flush=True)
        outcomes.append(outcome)
    return outcomes


def details(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [{**vars(outcome), "steps_per_second": outcome.steps_per_second} for outcome in outcomes]


def sums(report: Report, seeds: int, seconds: float) -> None:
    outcomes = several("sums", seconds, seeds, {"model": "sums"}, "grpo")
    rates, gains = [o.steps_per_second for o in outcomes], [100 * (o.after - o.before) for o in outcomes]
    report.check("sums GRPO, speed", rates, "steps/s", "≥ 3", min(rates) >= 3)
    report.check("sums GRPO, gain in each seed", gains, "points", "≥ 25", min(gains) >= 25)
    report.check("sums GRPO, median gain", [statistics.median(gains)], "points", "≥ 30", statistics.median(gains) >= 30)
    report.details["seeds"] = details(outcomes)


def story_grpo(report: Report, seeds: int, seconds: float) -> None:
    outcomes = several("story GRPO", seconds, seeds, {"model": "story", "reward": "negative"}, "grpo")
    rates, after, distance = [o.steps_per_second for o in outcomes], [o.after for o in outcomes], [o.kl for o in outcomes]
    report.check("story GRPO, speed", rates, "steps/s", "≥ 1", min(rates) >= 1)
    report.check("story GRPO, held-out reward before", [o.before for o in outcomes], "", "about − 0.6", True)
    report.check("story GRPO, held-out reward after", after, "", "≥ 0.5", min(after) >= 0.5)
    report.check("story GRPO, KL", distance, "nats / token", "≤ 0.5", max(distance) <= 0.5)
    for seed, outcome in enumerate(outcomes):
        for prompt, old, new in outcome.texts:
            print(f"    seed {seed}  {prompt}\n      before: {old.strip()}\n      after:  {new.strip()}")
    report.details["seeds"] = details(outcomes)


def story_dpo(report: Report, seeds: int, seconds: float) -> None:
    outcomes = several("story DPO", seconds, seeds, {"model": "story"}, "dpo", online=False)
    accuracy = [[m["eval/rewards/accuracies"] for at, m in o.curve if at <= seconds] for o in outcomes]
    report.check("story DPO, held-out accuracy before", [a[0] for a in accuracy], "", "0.5", True)
    report.check("story DPO, held-out accuracy after", [a[-1] for a in accuracy], "", "≥ 0.9", min(a[-1] for a in accuracy) >= 0.9)
    first = [next((at for at, m in o.curve if m["eval/rewards/accuracies"] >= 0.9), float("nan")) for o in outcomes]
    report.check("story DPO, seconds until 0.9", first, "s", f"≤ {seconds:g}", all(at <= seconds for at in first))
    report.details["seeds"] = details(outcomes)


def story_ppo(report: Report, seeds: int, seconds: float) -> None:
    outcomes = several("story PPO", seconds, seeds, {"model": "story", "reward": "negative"}, "ppo")
    rises = [o.after - o.before for o in outcomes]
    report.check("story PPO, rise of the held-out reward", rises, "", "≥ 0.4", min(rises) >= 0.4)
    report.check("story PPO, KL", [o.kl for o in outcomes], "nats / token", "none", True)
    report.details["seeds"] = details(outcomes)


TASKS: dict[str, tuple[Callable[[Report, int, float], None], float]] = {
    "sums": (sums, 60.0),
    "story-grpo": (story_grpo, 60.0),
    "story-dpo": (story_dpo, 60.0),
    "story-ppo": (story_ppo, 90.0),
}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("task", nargs="*", choices=[*TASKS, []], default=[], help="which ones (all)")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--seconds", type=float, help="instead of 60 and 90: to try the script out")
    given = options.parse_args()
    missed = 0
    for name in given.task or TASKS:
        task, seconds = TASKS[name]
        report = Report(f"learning-{name}")
        task(report, given.seeds, given.seconds or seconds)
        missed |= report.finish()
    return missed


if __name__ == "__main__":
    sys.exit(main())
