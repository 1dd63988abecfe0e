"""Challenges on real runs: conditions on what a run itself recorded (settings, state, events), and how far each part of them is.

Only the run folder is read (run_record.py), so whoever has the folder can check it again. A condition is a tuple of `Part`s, each a
number with the bound it must keep; a run fulfils a challenge if all parts are met. Held-out figures (``eval/…``) are used throughout:
they are measured on prompts that are not trained on, with the same luck every time, so that an unchanged policy measures the same twice.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rlhf.config import Config, DPOConfig, GRPOConfig, OnlineConfig, PPOConfig, RewardModelConfig, RewardTerm
from rlhf.labs.run_record import Record
from rlhf.overoptimisation import GOLD, RULE, judge, measurements

_RELATIONS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le, "<": operator.lt, ">": operator.gt}

REWARD, KL = 0.7, 0.3
UNCHANGED, NEAR, SHORT = 0.02, 0.005, 20
CHANCE, FEW_PAIRS = 0.5, 50
HACKED, PULL = 0.2, 0.05
MARGIN, NATS, WIDER = 0.5, 1.0, 2.0
LEARNED, AS_GOOD = 0.1, 0.03
SOONER = 0.5
POINTS, WITHIN = 0.2, 40
MEASURED = 32  # held-out prompts at least, so that a measurement is not luck alone


@dataclass(frozen=True)
class Part:
    """``value`` (None: not measured yet) must be ``relation`` ``needed``; ``step``: where it was measured; ``key``: what it is, in words
    on the page."""

    key: str
    value: float | None
    relation: str
    needed: float
    step: int | None = None

    @property
    def met(self) -> bool:
        """A difference of two figures is not missed by its rounding error."""
        return self.value is not None and math.isfinite(self.value) and _RELATIONS[self.relation](round(self.value, 9), self.needed)


@dataclass(frozen=True)
class Result:
    """How far a run is. ``figures``: what the parts were computed from; ``reasons``: what the events say about why; ``other``: the run it
    was compared with; ``lacks``: what would have to be there for it to be judged at all."""

    parts: tuple[Part, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[tuple[str, float], ...] = ()
    other: str = ""
    lacks: str = ""

    @property
    def met(self) -> bool:
        return bool(self.parts) and not self.lacks and all(part.met for part in self.parts)


@dataclass(frozen=True)
class Challenge:
    """``fits``: whether a run can be judged by it at all; ``judge(run, all runs)``."""

    id: str
    algorithms: tuple[str, ...]
    fits: Callable[[Record], bool]
    judge: Callable[[Record, Sequence[Record]], Result]


# ---------------------------------------------------------------- the conditions


def _only(config: Config, name: str) -> bool:
    return isinstance(config, OnlineConfig) and config.reward == (RewardTerm(name=name),) and config.eval_prompts >= MEASURED


def _frugal(run: Record, runs: Sequence[Record]) -> Result:
    """Reward and KL at one measurement: of all, the one that comes nearest."""
    found = [row for row in run.measured if row["step"] > 0 and "eval/reward" in row and "eval/kl" in row]
    at = max(found, key=lambda row: min(row["eval/reward"] - REWARD, KL - row["eval/kl"]), default={})
    return Result(
        (
            Part("reward", at.get("eval/reward"), "≥", REWARD, at.get("step")),
            Part("kl", at.get("eval/kl"), "<", KL, at.get("step")),
        )
    )


def _nothing(run: Record, runs: Sequence[Record]) -> Result:
    change = run.change("eval/reward")
    steps = max((row["step"] for row in run.rows), default=0)
    at_end = run.last_step("eval/reward") == steps  # an earlier measurement says nothing of the end
    parts = (
        Part("finished", float(run.state == "finished"), "≥", 1),
        Part("steps", steps, "≥", SHORT),
        Part("unchanged", abs(change) if change is not None and at_end else None, "≤", UNCHANGED, run.last_step("eval/reward")),
        Part("near", _rounded(run.last("eval/kl")) if at_end else None, "≤", NEAR, run.last_step("eval/kl")),
    )
    return Result(parts, reasons=_reasons(run))


def _rounded(value: float | None) -> float | None:
    """Without the rounding errors of what should be 0."""
    return None if value is None else round(value, 6)


def _reasons(run: Record) -> tuple[tuple[str, float], ...]:
    """Why nothing was learned, as far as settings and events tell."""
    assert isinstance(run.config, GRPOConfig)
    found = []
    equal, rates, gradients = run.over("frac_reward_zero_std"), run.over("learning_rate"), run.over("grad_norm")
    if equal and sum(equal) / len(equal) >= 0.9:
        found.append(("equal", sum(equal) / len(equal)))
    if rates and max(rates) <= 1e-6:
        found.append(("rate", max(rates)))
    if gradients and max(gradients) <= 1e-6:
        found.append(("gradient", max(gradients)))
    if run.config.beta >= 1:
        found.append(("beta", run.config.beta))
    return tuple(found)


def _wrong(run: Record, runs: Sequence[Record]) -> Result:
    """How often the reward model is right in truth, at the most.

    a: how often it agrees with the labels of the held-out pairs; s: how many of these labels are right. Whatever pairs it is wrong on,
    it is truly right on at most 1 − |s − a| of them (and on at least |s + a − 1|). Taken at both ends of a's 95 % interval.
    """
    step = run.last_step("eval/accuracy")
    a, low, high = (run.last(f"eval/accuracy{end}") for end in ("", "/low", "/high"))
    s = run.labels
    truly = None if a is None or s is None else most_right(s, a if low is None else low, a if high is None else high)
    parts = (Part("pairs", run.pairs if a is not None else None, "≥", FEW_PAIRS, step), Part("truly", truly, "<", CHANCE, step))
    figures = {key: value for key, value in {"a": a, "low": low, "high": high, "s": s}.items() if value is not None}
    return Result(parts, figures, lacks="labels" if s is None else "")


def most_right(s: float, low: float, high: float) -> float:
    """The largest 1 − |s − a| for an agreement a between ``low`` and ``high``."""
    nearest = min(max(s, low), high)
    return 1 - abs(s - nearest)


def _hacked(run: Record, runs: Sequence[Record]) -> Result:
    assert isinstance(run.config, OnlineConfig)
    pull = Part("pull", run.config.beta, "≥", PULL)
    verdict = judge(measurements(run.rows))
    if verdict is None:
        return Result((pull, Part("up", None, "≥", HACKED), Part("down", None, "≥", HACKED)))
    down = min((verdict.peak.gold - one.gold for one in verdict.late), default=0.0) if len(verdict.late) > 1 else 0.0
    figures = {"peak": verdict.peak.gold, "peak step": float(verdict.peak.step), "end": verdict.end.gold}
    return Result(
        (
            pull,
            Part("up", verdict.end.proxy - verdict.start.proxy, "≥", HACKED, verdict.end.step),
            Part("down", down, "≥", HACKED, verdict.end.step),
        ),
        figures,
    )


def _down(run: Record, runs: Sequence[Record]) -> Result:
    return Result(
        (
            Part("margin", run.change("eval/rewards/margins"), "≥", MARGIN, run.last_step("eval/rewards/margins")),
            Part("chosen", run.change("eval/logps/chosen"), "≤", -NATS, run.last_step("eval/logps/chosen")),
        )
    )


def _up(run: Record, runs: Sequence[Record]) -> Result:
    """The gap in nats, which means the same for every loss of the family, unlike the margin of implicit rewards."""
    chosen, rejected = run.change("eval/logps/chosen"), run.change("eval/logps/rejected")
    step = run.last_step("eval/logps/chosen")
    wider = None if chosen is None or rejected is None else chosen - rejected
    return Result((Part("wider", wider, "≥", WIDER, step), Part("chosen", chosen, "≥", 0.0, step)))


_SAME = ("model", "data", "reward", "steps", "prompts_per_step", "samples_per_prompt", "eval_prompts")


def _actor(run: Record, runs: Sequence[Record]) -> Result:
    """Against the newest finished run with a critic that has learned something, on the same task and as many samples."""
    other = next(
        (
            one
            for one in runs
            if isinstance(one.config, PPOConfig) and one.config.critic == "learned" and one.state == "finished"
            and all(getattr(one.config, name) == getattr(run.config, name) for name in _SAME) and _learned(one)
        ),
        None,
    )  # fmt: skip
    end, step = run.last("eval/reward"), run.last_step("eval/reward")
    gap = None if other is None or end is None else end - _end(other)
    parts = (
        Part("finished", float(run.state == "finished"), "≥", 1),
        Part("learned", run.change("eval/reward"), "≥", LEARNED, step),
        Part("gap", gap, "≥", -AS_GOOD, step),
    )
    figures = {} if other is None else {"other": _end(other)}
    return Result(parts, figures, other=other.id if other else "", lacks="" if other else "critic")


def _sooner(run: Record, runs: Sequence[Record]) -> Result:
    """Against the newest finished run of the algorithm's own defaults on the same task."""
    same = ("algorithm", "model", "data", "reward", "eval_prompts")
    other = next(
        (
            one
            for one in runs
            if one.id != run.id and one.state == "finished" and _learned(one) and set(one.config.differences()) <= _UNIMPORTANT
            and all(getattr(one.config, name) == getattr(run.config, name) for name in same)
        ),
        None,
    )  # fmt: skip
    if other is None:
        return Result((Part("as good", None, "≥", 0.0), Part("share", None, "≤", SOONER)), lacks="default")
    goal, steps = _end(other), other.last_step("eval/reward") or 1
    found = [row for row in run.measured if row["step"] > 0 and "eval/reward" in row]
    early = next((row for row in found if row["eval/reward"] >= goal), None)
    at = early or max(found, key=lambda row: row["eval/reward"], default={})
    parts = (
        Part("as good", at["eval/reward"] - goal if at else None, "≥", 0.0, at.get("step")),
        Part("share", at["step"] / steps if at else None, "≤", SOONER, at.get("step")),
    )
    return Result(parts, {"other": goal, "other steps": float(steps)}, other=other.id)


_UNIMPORTANT = {"model", "data", "reward", "seed", "eval_every", "checkpoint_every", "sample_prompts", "device"}


def _learned(run: Record) -> bool:
    change = run.change("eval/reward")
    return change is not None and change >= LEARNED


def _end(run: Record) -> float:
    end = run.last("eval/reward")
    assert end is not None  # it has learned, so it was measured
    return end


def _sums(run: Record, runs: Sequence[Record]) -> Result:
    start = run.first("eval/reward")
    found = [row for row in run.measured if 0 < row["step"] <= WITHIN and "eval/reward" in row]
    best = max(found, key=lambda row: row["eval/reward"], default=None)
    gain = None if best is None or start is None else best["eval/reward"] - start
    parts = (Part("gain", gain, "≥", POINTS, best["step"] if best else None),)
    return Result(parts, {} if start is None else {"start": start})


# ---------------------------------------------------------------- the list

_ONLINE = ("grpo", "reinforce", "ppo", "online_dpo", "rrhf")
_GOLD = tuple(RewardTerm(name=part.split(":")[0], weight=float(part.split(":")[1])) for part in GOLD.split(","))


def _watches_gold(run: Record) -> bool:
    """On the story model, with the page's own gold reward, trained on its rule or on a reward model: what was chosen to be fooled."""
    config = run.config
    return (
        isinstance(config, OnlineConfig) and config.model == "story" and config.gold == _GOLD
        and (config.reward == (RewardTerm(name=RULE),) or {term.name for term in config.reward} == {"reward_model"})
    )  # fmt: skip


CHALLENGES: tuple[Challenge, ...] = (
    Challenge("frugal", _ONLINE, lambda run: run.config.model == "story" and _only(run.config, RULE), _frugal),
    Challenge("sums", ("grpo",), lambda run: run.config.model == "sums" and _only(run.config, "correct"), _sums),
    Challenge("nothing", ("grpo",), lambda run: isinstance(run.config, GRPOConfig) and run.config.eval_prompts >= MEASURED, _nothing),
    Challenge("wrong", ("reward_model",), lambda run: isinstance(run.config, RewardModelConfig) and run.config.model == "story", _wrong),
    Challenge("hacked", _ONLINE, _watches_gold, _hacked),
    Challenge("down", ("dpo",), lambda run: isinstance(run.config, DPOConfig) and run.config.variant == "sigmoid", _down),
    Challenge("up", ("dpo",), lambda run: isinstance(run.config, DPOConfig), _up),
    Challenge("actor", ("ppo",), lambda run: isinstance(run.config, PPOConfig) and run.config.critic == "none", _actor),
    Challenge("sooner", _ONLINE, lambda run: isinstance(run.config, OnlineConfig), _sooner),
)


def judged(challenge: Challenge, runs: Iterable[Record]) -> list[tuple[Record, Result]]:
    """The runs that a challenge can be about, in the order given (newest first), each with how far it is."""
    known = [run for run in runs if run.config.algorithm in challenge.algorithms]
    return [(run, challenge.judge(run, known)) for run in known if challenge.fits(run)]
