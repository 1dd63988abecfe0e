"""Before and after: the untouched model beside what a run made of it, on the same prompts, with the same seed and the same settings.

What a side is made of is worked out from the run folders (``untouched``, ``tuned``) without importing torch; a page shows it before it
loads anything. The models are loaded by ``load``; each side is an object of its own, so nothing that is done with the tuned one can reach
the untouched one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.algorithms import make_config, writes
from rlhf.config import Config, OnlineConfig, RewardTerm
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.preferences import EMBEDDED, Prompt, load_dataset
from rlhf.rewards import Context, RewardMix, Scored
from rlhf.runs import CheckpointInfo, Run, open_run
from rlhf.runs.lineage import lineage

if TYPE_CHECKING:  # torch: only where something is computed
    from rlhf.policy import LoadedModel
    from rlhf.rollout import SamplingConfig

Progress = Callable[[str, float], None]

# What the shipped pairs prefer, as a reward: a DPO run has none of its own to be compared by.
PREFERENCE_REWARDS: dict[str, str] = {"story-pairs": "negative", "sums-pairs": "correct"}


# ---------------------------------------------------------------- what a side is


@dataclass(frozen=True)
class Side:
    """A model and the checkpoints that are laid over it, in order; none: the model as it was released."""

    model: str
    layers: tuple[Path, ...] = ()
    run_id: str = ""
    run_name: str = ""
    checkpoint: str = ""
    step: int = 0
    algorithm: str = ""

    @property
    def is_untouched(self) -> bool:
        return not self.layers

    @property
    def checkpoint_id(self) -> str:
        """``RUN_ID/step-N``, or "" for the model as it was released."""
        return "" if self.is_untouched else f"{self.run_id}/{self.checkpoint}"


def untouched(run: Run) -> Side:
    """The model as it was released, whatever the run started from."""
    return Side(run.model)


def checkpoint_of(run: Run, name: str = "") -> CheckpointInfo:
    """The checkpoint of a name ("step-40"), or the newest one. Raises ``RunError`` where there is none."""
    found = run.checkpoints()
    if not found:
        do = "Wait for the first one, or choose another run." if run.status.state in ("queued", "running") else "Choose another run."
        raise RunError(f"The run {run.name} has no checkpoint to compare with.", do)
    if not name:
        return found[-1]
    for info in found:
        if info.name == name:
            return info
    run.checkpoint(name)  # says which there are; "last" exists and is the newest state of an unfinished run
    return CheckpointInfo(name, run.last_step or 0, run.checkpoint(name))


def tuned(run: Run, name: str = "") -> Side:
    """What the run had made of its model at a checkpoint (default: the newest). Raises ``RunError``."""
    if not writes(run.algorithm):
        raise RunError(f"The run {run.name} made a reward model, which writes no answers.", "Choose a run that trained a policy.")
    info = checkpoint_of(run, name)
    return Side(run.model, lineage(run, info.path), run.id, run.name, info.name, info.step, run.algorithm)


# ---------------------------------------------------------------- under which conditions


def sampling_of(run: Run) -> dict[str, Any]:
    """The fields of ``SamplingConfig`` that the run was trained with; for a run on pairs, what the model's online runs use."""
    config = _config(run)
    if not isinstance(config, OnlineConfig):
        config = make_config("grpo", model=run.model)
        assert isinstance(config, OnlineConfig)
    return {name: getattr(config, name) for name in ("max_new_tokens", "temperature", "top_p", "top_k", "stop")}


def reward_of(run: Run) -> tuple[RewardTerm, ...]:
    """The run's own reward mix; for a run on shipped pairs what they prefer; empty where there is nothing to go by."""
    config = _config(run)
    if isinstance(config, OnlineConfig):
        return config.reward
    name = PREFERENCE_REWARDS.get(config.data)
    return (RewardTerm(name=name),) if name else ()


def parse_terms(reward: Any) -> tuple[RewardTerm, ...]:
    """A reward mix as a setting spells it: ``"negative"``, ``"negative:1,repetition:0.5"`` or JSON. Raises ``ConfigError``."""
    config = make_config("grpo", reward=reward)
    assert isinstance(config, OnlineConfig)
    return config.reward


def _config(run: Run) -> Config:
    if run.problem:
        raise RunError(run.problem, "Choose another run.")
    try:
        return run.load_config()
    except ConfigError as error:
        raise RunError(f"The settings of {run.name} cannot be read: {error.what}", "Another version of the app wrote them.") from None


def heldout_prompts(run: Run, needs_answer: bool = False) -> list[Prompt]:
    """The run's own held-out prompts, each once, none of which it was trained on.

    Where a reward needs right answers and the run's data has none (pairs), the model's embedded prompts take their place.
    """
    data = run.load_data()
    trained = {item.prompt for item in data.train}
    prompts = [item if isinstance(item, Prompt) else Prompt(item.prompt) for item in data.heldout]
    if needs_answer and not any(prompt.answer for prompt in prompts):
        name = f"{run.model}-prompts"
        prompts = [item for item in load_dataset("prompts", name).heldout if isinstance(item, Prompt)] if name in EMBEDDED else []
    return [prompt for prompt in dict.fromkeys(prompts) if prompt.text not in trained]


# ---------------------------------------------------------------- models


def load(side: Side, base: LoadedModel | None = None, progress: Progress | None = None) -> LoadedModel:
    """The model of a side. ``base``: its released model, if that is loaded already; it stays as it is. Raises ``ModelError``."""
    from rlhf.policy import load_pretrained, with_adapter

    loaded = base or load_pretrained(side.model, dtype=comparison_dtype(side.model), progress=progress)
    for layer in side.layers:
        loaded = with_adapter(loaded, layer)
    return loaded


def comparison_dtype(model: str) -> str:
    """float32 for models below a billion parameters: bfloat16's rounding would show in the shift of log-probabilities."""
    from rlhf.estimate import model_facts

    parameters = model_facts(model).parameters
    return "float32" if parameters and parameters < 1_000_000_000 else "auto"


# ---------------------------------------------------------------- answers


@dataclass(frozen=True)
class Answer:
    """A sampled response: its text, its tokens (the end token among them), whether it ended by itself, and its reward."""

    prompt: str
    text: str
    ids: tuple[int, ...]
    finished: bool
    scored: Scored | None = None


def answers(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    sampling: SamplingConfig,
    seed: int,
    *,
    mix: RewardMix | None = None,
    group_size: int = 1,
    batch: int = 64,
    progress: Progress | None = None,
) -> list[Answer]:
    """``group_size`` answers to each prompt, the answers to one prompt in a row.

    The same prompts, settings and seed give two models the same luck (the same uniform numbers), so that what differs is the models.

    Raises:
        DataError: an empty prompt, or one that does not fit into the context.
        RewardError: a reward that fails; none is asked about prompts that have no right answer where it needs one.
    """
    from rlhf.rollout import sample

    rows = max(1, batch // group_size)
    found: list[Answer] = []
    for start in range(0, len(prompts), rows):
        part = prompts[start : start + rows]
        if progress:
            progress("answers", start / len(prompts))
        rollout = sample(loaded.model, loaded.tokenizer, [p.text for p in part], group_size, sampling, seed + start)
        lengths, finished = rollout.response_mask.sum(1).tolist(), rollout.finished.tolist()
        ids = [tuple(row[:n]) for row, n in zip(rollout.response_ids.tolist(), lengths, strict=True)]
        for i, text in enumerate(rollout.texts):
            prompt = part[i // group_size]
            scored = None
            if mix and not (mix.needs_answer and prompt.answer is None):
                scored = mix([Context(prompt.text, text, prompt.answer, lengths[i], finished[i])])[0]
            found.append(Answer(prompt.text, text, ids[i], finished[i], scored))
    if progress:
        progress("answers", 1.0)
    return found


@dataclass(frozen=True)
class TokenShift:
    """A response token by token under two models: log-probabilities in nats at temperature 1."""

    strings: list[str]
    base: list[float]
    tuned: list[float]

    @property
    def shift(self) -> list[float]:
        """log π_tuned − log π_base of each token, nats: above 0, the run has made it likelier here."""
        return [after - before for before, after in zip(self.base, self.tuned, strict=True)]


def token_shift(base: LoadedModel, tuned: LoadedModel, prompt: str, response: str | Sequence[int]) -> TokenShift:
    """How far the tuned model has moved each token of a response (text, or exactly the token ids that were sampled)."""
    from rlhf.rollout import token_strings

    tokenizer = base.tokenizer
    ids = list(tokenizer(response, add_special_tokens=False)["input_ids"]) if isinstance(response, str) else list(response)
    return TokenShift(token_strings(tokenizer, ids), logprobs(base, prompt, ids), logprobs(tuned, prompt, ids))


def logprobs(loaded: LoadedModel, prompt: str, ids: Sequence[int]) -> list[float]:
    """Log-probability of each response token given the prompt and the tokens before it, nats, at temperature 1. Raises ``DataError``."""
    import torch

    from rlhf import ops
    from rlhf.rollout import encode_prompts

    if not ids:
        return []
    before = encode_prompts(loaded.tokenizer, [prompt], loaded.context, len(ids))[0]
    sequence = torch.tensor([[*before, *ids]], device=loaded.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=sequence, logits_to_keep=len(ids) + 1).logits[:, :-1]
        return ops.token_logprobs(logits, sequence[:, len(before) :])[0].tolist()


# ---------------------------------------------------------------- held-out rewards


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval; None where fewer than two values leave it open. ``n``: values (prompts)."""

    mean: float
    low: float | None
    high: float | None
    n: int


def interval(values: Sequence[float]) -> Interval:
    """Student's t interval of a mean; Wilson's score interval where all values are 0 or 1, which stays honest at 0 % and 100 %."""
    n = len(values)
    if n == 0:
        raise DataError("There are no held-out prompts to measure on.", "Choose a run with held-out prompts, or another reward.")
    mean = statistics.fmean(values)
    if n == 1:
        return Interval(mean, None, None, 1)
    z = statistics.NormalDist().inv_cdf(0.975)
    if set(values) <= {0.0, 1.0}:
        middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        return Interval(mean, max(0.0, middle - half), min(1.0, middle + half), n)
    half = student_t(z, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def student_t(z: float, freedom: int) -> float:
    """Student's t quantile from the normal one (Abramowitz & Stegun 26.7.5); within 1 % from two degrees of freedom on."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))


def paired_difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Mean of after − before over the same prompts: what the prompts have in common cancels out."""
    differences = [b - a for a, b in zip(before, after, strict=True)]
    n = len(differences)
    if n < 2:
        return Interval(statistics.fmean(differences), None, None, n)
    mean = statistics.fmean(differences)
    half = student_t(statistics.NormalDist().inv_cdf(0.975), n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def heldout_rewards(
    loaded: LoadedModel, prompts: Sequence[Prompt], sampling: SamplingConfig, mix: RewardMix, seed: int, progress: Progress | None = None
) -> list[float]:
    """The reward of one answer to each prompt; ``interval`` makes a mean with its uncertainty of it. Raises ``DataError``."""
    if mix.needs_answer and any(prompt.answer is None for prompt in prompts):
        raise DataError("The reward needs a right answer, and the held-out prompts have none.", "Choose another reward.")
    found = answers(loaded, prompts, sampling, seed, mix=mix, progress=progress)
    return [answer.scored.total for answer in found if answer.scored is not None]


# ---------------------------------------------------------------- all of it, for the command line


def compare(
    runs: Sequence[str],
    root: str | Path | None = None,
    *,
    prompts: Sequence[str] = (),
    shown: int = 3,
    heldout: int = 64,
    reward: Any = None,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare one or two runs (``RUN_ID`` or ``RUN_ID/step-40``) with their untouched models; the result can be written as JSON.

    ``prompts``: shown instead of the first ``shown`` held-out ones; ``heldout``: how many prompts to measure rewards on (0: none);
    ``reward``, ``sampling``: in the place of the first run's own. Raises ``PlaygroundError``.
    """
    from rlhf.rollout import SamplingConfig

    if not 1 <= len(runs) <= 2:
        raise RunError("Compare takes one run or two.", "Name them as in the list of runs.")
    opened = [(open_run(reference.partition("/")[0], root), reference.partition("/")[2]) for reference in runs]
    first = opened[0][0]
    after = [tuned(run, checkpoint) for run, checkpoint in opened]
    models = list(dict.fromkeys(side.model for side in after))
    sides = [side for model in models for side in (Side(model), *(s for s in after if s.model == model))]
    terms = parse_terms(reward) if reward else reward_of(first)
    mix = RewardMix(terms) if terms else None
    settings = SamplingConfig(**{**sampling_of(first), **(sampling or {})})
    available = heldout_prompts(first, needs_answer=bool(mix and mix.needs_answer))
    own = [Prompt(text) for text in prompts] or available[:shown]

    bases = {model: load(Side(model), progress=progress) for model in models}
    written: list[list[Answer]] = []
    measured: list[list[float]] = []
    for side in sides:
        model = load(side, bases[side.model])
        written.append(answers(model, own, settings, seed, mix=mix, progress=progress) if own else [])
        if mix and heldout and available:
            measured.append(heldout_rewards(model, available[:heldout], settings, mix, seed, progress))
    return {
        "sides": [_describe(side) for side in sides],
        "seed": seed,
        "sampling": asdict(settings),
        "reward": [term.model_dump() for term in terms],
        "answers": [{"prompt": prompt.text, "sides": [_told(column[i]) for column in written]} for i, prompt in enumerate(own)],
        "heldout": _heldout(sides, measured),
    }


def _describe(side: Side) -> dict[str, Any]:
    names = {"model": side.model, "run": side.run_id or None, "checkpoint": side.checkpoint or None}
    return {**names, "step": side.step, "untouched": side.is_untouched}


def _told(answer: Answer) -> dict[str, Any]:
    reward = answer.scored.total if answer.scored else None
    return {"text": answer.text, "reward": reward, "tokens": len(answer.ids), "finished": answer.finished}


def _heldout(sides: Sequence[Side], measured: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    if not measured:
        return None
    before = {side.model: i for i, side in enumerate(sides) if side.is_untouched}
    differences = [
        {"side": i, "against": before[side.model], **asdict(paired_difference(measured[before[side.model]], measured[i]))}
        for i, side in enumerate(sides)
        if not side.is_untouched
    ]
    return {"prompts": len(measured[0]), "sides": [asdict(interval(values)) for values in measured], "differences": differences}


def table(result: Mapping[str, Any]) -> str:
    """The result of ``compare`` for a terminal."""
    names = [side_name(side) for side in result["sides"]]
    lines: list[str] = []
    for row in result["answers"]:
        lines.append(f"Prompt: {row['prompt']}")
        for name, answer in zip(names, row["sides"], strict=True):
            reward = f" (reward {answer['reward']:+.3f})" if answer["reward"] is not None else ""
            lines += [f"  {name}{reward}", *(f"    {line}" for line in answer["text"].strip().splitlines() or [""])]
        lines.append("")
    if found := result["heldout"]:
        width = max(map(len, names))
        lines.append(f"Mean reward on {found['prompts']} held-out prompts, 95 % confidence interval:")
        lines += [f"  {name:<{width}}  {_written(figures)}" for name, figures in zip(names, found["sides"], strict=True)]
        lines += [f"  {names[d['side']]} − {names[d['against']]}: {_written(d)}" for d in found["differences"]]
    return "\n".join(lines).rstrip()


def side_name(side: Mapping[str, Any]) -> str:
    return f"{side['model']}, untouched" if side["untouched"] else f"{side['run']}/{side['checkpoint']}"


def _written(figures: Mapping[str, Any]) -> str:
    span = f"  [{figures['low']:+.3f}, {figures['high']:+.3f}]" if figures["low"] is not None else ""
    return f"{figures['mean']:+.3f}{span}"
