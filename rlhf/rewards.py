"""Reward functions: a response goes in, a number comes out. A run trains on a weighted mix of them.

A reward function sees one response at a time (`Context`) and its own validated options. It gives one number for the whole response, or
one for each of its tokens: then it is known where the response earned it (a process reward). `REWARDS` is the table that the pages, the
command line and the configs read; `register` adds to it. A function that raises, or returns something that is not a finite number, stops
the run with a `RewardError` that names the reward, the prompt and the response: a silent 0 would be trained on as if it were an opinion.

The module is free of torch. A reward that needs a model overrides `RewardFunction.score_all`, which gets the whole batch at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import regex
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from rlhf.errors import PlaygroundError, RewardError

if TYPE_CHECKING:
    from rlhf.config import RewardTerm


class Context(NamedTuple):
    """What a reward function may look at. ``tokens`` counts the response's tokens, its end included; ``finished``: it ended by itself.

    ``strings``: the text of each token, for rewards that are earned ``by_token`` in a response that a policy wrote.
    """

    prompt: str
    response: str
    answer: str | None
    tokens: int
    finished: bool
    strings: tuple[str, ...] = ()

    @property
    def pieces(self) -> tuple[str, ...]:
        """What a reward for each token is given for: the tokens' texts; the characters of a text that has no tokens yet."""
        return self.strings or tuple(self.response)


class Scored(NamedTuple):
    """``total`` = Σ weight · part over the mix; ``parts``: each function's own score by name, before its weight.

    ``earned``: the weighted rewards of the functions that say where, by token; empty where none does. The rest of the total,
    ``at_end``, belongs to the response as a whole.
    """

    total: float
    parts: dict[str, float]
    earned: tuple[float, ...] = ()

    @property
    def at_end(self) -> float:
        return self.total - sum(self.earned)


Score = float | Sequence[float]
"""One number for the response, or one for each of its tokens (`Context.pieces`), whose sum is the score."""


class Options(BaseModel):
    """Base of every reward function's options; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class RewardFunction:
    """A named reward with its ``explanation`` (one line), ``options`` model and the ``range`` of its scores in words.

    ``by_token``: it says where a response earned its score, with one number for each token.
    """

    name: str
    explanation: str
    score: Callable[[Context, Any], Score]
    options: type[BaseModel] = Options
    range: str = "any number"
    needs_answer: bool = False
    by_token: bool = False

    def score_all(self, contexts: Sequence[Context], options: BaseModel) -> Sequence[Score]:
        """One score for each context. Reward models override this to score a batch in one pass.

        Raises:
            RewardError: the function raised on one of the contexts.
        """
        scores: list[Score] = []
        for context in contexts:
            if self.needs_answer and context.answer is None:
                raise failure(
                    self.name, context, "needs an answer, which this prompt has not", "Use prompts with an answer, or another reward."
                )
            try:
                scores.append(self.score(context, options))
            except Exception as error:  # whatever a reward does wrong, the user must learn on which text
                raise failure(self.name, context, f"raised {type(error).__name__}: {error}", _advice(error)) from error
        return scores


# ---------------------------------------------------------------- sentiment


@lru_cache(maxsize=1)
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # reads its lexicon: 30 ms, only when it is needed

    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=4096)
def sentiment(text: str) -> float:
    """VADER's compound score of a text, −1 (sad, hostile) to +1 (glad); a rule over a word list (Hutto & Gilbert 2014)."""
    return float(_analyzer().polarity_scores(text)["compound"])


# ---------------------------------------------------------------- correct

# A sign counts only where it cannot be a minus between two numbers; commas only as thousands separators (1,234 but not 1,2).
_NUMBER = regex.compile(
    r"(?:(?<![\w.)\]])[-+\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?!\w|\.[0-9]))?"
    r"|(?<![\w.])\.[0-9]+"
)


def last_number(text: str) -> Decimal | None:
    """The number that a text ends on: the first after the last ``####`` (GSM8K's mark) if there is one, else the last of all.

    Signs, decimals, thousands separators and leading zeros are understood: ``-1,234.50`` and ``085``. None: there is no number.
    """
    before, mark, after = text.rpartition("####")
    found = _NUMBER.findall(after)
    if mark and not found:
        found = _NUMBER.findall(before)
    elif mark:
        found = found[:1]
    if not found:
        return None
    try:
        return Decimal(found[-1].replace(",", "").replace("\u2212", "-"))
    except InvalidOperation:  # a number longer than Decimal's limits is no answer to anything
        return None


def _correct(context: Context, options: Options) -> float:
    answer = context.answer or ""
    wanted = last_number(answer)
    if wanted is None:
        return float(context.response.strip() == answer.strip())
    return float(last_number(context.response) == wanted)


def _digits(context: Context, options: Options) -> list[float]:
    """Each character of the answer that stands at its place earns 1 / (the answer's length), at the token that wrote it."""
    wanted = (context.answer or "").strip()
    earned, place = [], 0
    for piece in context.pieces:
        text = piece if place else piece.lstrip()
        right = sum(a == b for a, b in zip(text, wanted[place:], strict=False))  # beyond the answer's end nothing is earned
        earned.append(right / max(1, len(wanted)))
        place += len(text)
    return earned


# ---------------------------------------------------------------- format

# Whole-response patterns; each also asks for an end of its own where "finished" below is True.
FORMATS: dict[str, tuple[str, bool]] = {
    "sentence": (r".*[.!?][\"'\u201d\u2019)]?\s*", False),
    "three digits": (r"[0-9]{3}", True),
    "number": (r"\s*[-+]?[0-9][0-9,]*(\.[0-9]+)?\s*", True),
    "gsm8k": (r".*\n?#### ?-?[0-9][0-9,]*(\.[0-9]+)?\s*", True),
    "think": (r"\s*<think>.+</think>\s*<answer>.+</answer>\s*", True),
    "list": (r"(\s*([-*\u2022]|[0-9]+[.)]) +\S[^\n]*(\n|$))+", False),
}
FormatName = Literal["sentence", "three digits", "number", "gsm8k", "think", "list"]


class FormatOptions(Options):
    preset: FormatName = Field(
        "sentence",
        description="sentence: ends with a full stop, ! or ?. three digits: '085' and then the end. number: a number alone. "
        "gsm8k: ends with '#### 42'. think: <think>…</think><answer>…</answer>. list: every line is a list item.",
    )
    pattern: str = Field("", description="A regular expression for the whole response, in the place of the preset.", max_length=500)
    finished: bool | None = Field(None, description="Whether the response must also end by itself; empty: as the preset says.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


def _format(context: Context, options: FormatOptions) -> float:
    pattern, finished = FORMATS[options.preset] if not options.pattern else (options.pattern, False)
    if options.finished is not None:
        finished = options.finished
    if finished and not context.finished:
        return 0.0
    # The time limit guards against patterns that take for ever, such as (a+)+b; `regex` has one, `re` has not.
    return float(regex.fullmatch(pattern, context.response, flags=regex.DOTALL, timeout=1.0) is not None)


# ---------------------------------------------------------------- length, words, repetition


class LengthOptions(Options):
    target: int = Field(24, description="The wanted length, in tokens.", ge=0, le=4096)
    width: float = Field(8.0, description="How far from the target still counts: at this distance the score is 0.61.", gt=0, le=4096)


def _length(context: Context, options: LengthOptions) -> float:
    return math.exp(-0.5 * ((context.tokens - options.target) / options.width) ** 2)


def _as_words(value: Any) -> Any:
    """``"dog, old man"`` → ``("dog", "old man")``, so that options can be typed in a text field."""
    if isinstance(value, str):
        value = value.split(",")
    return tuple(part.strip() if isinstance(part, str) else part for part in value if part != "" and str(part).strip())


Words = Annotated[tuple[str, ...], BeforeValidator(_as_words)]


class WordsOptions(Options):
    wanted: Words = Field(("dog",), description="Words or phrases that should occur, separated by commas.", max_length=100)
    unwanted: Words = Field((), description="Words or phrases that should not occur.", max_length=100)

    @model_validator(mode="after")
    def _something_to_look_for(self) -> WordsOptions:
        if not self.wanted and not self.unwanted:
            raise ValueError("give at least one wanted or unwanted word")
        if both := {w.casefold() for w in self.wanted} & {w.casefold() for w in self.unwanted}:
            raise ValueError(f"“{min(both)}” is both wanted and unwanted")
        return self


@lru_cache(maxsize=1024)
def _word_pattern(word: str) -> regex.Pattern[str]:
    """Whole words, whatever their case; scripts that write no spaces (Chinese, Japanese, Thai) match anywhere."""
    spaceless = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
    left = "" if regex.match(f"[{spaceless}]|\\W", word) else r"(?<!\w)"
    right = "" if regex.match(f"[{spaceless}]|\\W", word[-1]) else r"(?!\w)"
    return regex.compile(left + r"\s+".join(map(regex.escape, word.split())) + right, regex.IGNORECASE)


def _words(context: Context, options: WordsOptions) -> float:
    def share(words: Sequence[str]) -> float:
        return sum(_word_pattern(word).search(context.response) is not None for word in words) / len(words) if words else 0.0

    return share(options.wanted) - share(options.unwanted)


class RepetitionOptions(Options):
    n: int = Field(3, description="Length of the word sequences that should not come back.", ge=1, le=10)


def _repetition(context: Context, options: RepetitionOptions) -> float:
    """−(1 − distinct / all) over the n-grams of words; a Chinese or Japanese character counts as a word."""
    words = regex.findall(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\w'\u2019]+", context.response.casefold())
    grams = [tuple(words[i : i + options.n]) for i in range(len(words) - options.n + 1)]
    return len(set(grams)) / len(grams) - 1.0 if grams else 0.0


# ---------------------------------------------------------------- the table


REWARDS: dict[str, RewardFunction] = {}


def register(function: RewardFunction, replace: bool = False) -> RewardFunction:
    """Add a reward function to `REWARDS`.

    Raises:
        RewardError: the name is taken (unless ``replace``) or cannot be written on a command line.
    """
    if not regex.fullmatch(r"[a-z][a-z0-9_-]*", function.name):
        raise RewardError(f"A reward cannot be called “{function.name}”.", "Use small letters, digits, - and _, with a letter first.")
    if function.name in REWARDS and not replace:
        raise RewardError(f"There is already a reward called “{function.name}”.", "Choose another name.")
    REWARDS[function.name] = function
    return function


def _positive(context: Context, options: Options) -> float:
    return sentiment(context.response)


def _negative(context: Context, options: Options) -> float:
    return -sentiment(context.response)


# ---------------------------------------------------------------- a reward model


class RewardModelOptions(Options):
    source: str = Field(
        "",
        description="A run of the page Reward model (its id, or RUN_ID/step-N), a folder, or a Hub id (a classifier with one output).",
        validate_default=True,
        max_length=300,
    )
    normalise: bool = Field(
        True, description="Shift and scale the scores to mean 0 and deviation 1 on the answers that the reward model was measured on."
    )

    @field_validator("source")
    @classmethod
    def _given(cls, source: str) -> str:
        if not source.strip():
            raise ValueError("choose a reward model: train one on the page Reward model first")
        return source.strip()


class RewardModelFunction(RewardFunction):
    """Scores a whole batch in one pass of a reward model."""

    def score_all(self, contexts: Sequence[Context], options: BaseModel) -> list[float]:
        assert isinstance(options, RewardModelOptions)
        from rlhf.reward_network import find_scorer  # torch: only where it is used

        try:
            scorer = find_scorer(options.source)
            scores = scorer.scores([context.prompt for context in contexts], [context.response for context in contexts])
        except PlaygroundError as error:
            raise RewardError(f"The reward “{self.name}” cannot score: {error.what}", error.do) from error
        return [(score - scorer.mean) / scorer.deviation for score in scores] if options.normalise else scores


def _one_score(context: Context, options: RewardModelOptions) -> Score:
    return REWARDS["reward_model"].score_all([context], options)[0]


for _function in (
    RewardFunction("positive", "Glad words score high, sad ones low (VADER's sentiment of the response).", _positive, range="−1 to 1"),
    RewardFunction("negative", "Sad words score high, glad ones low (minus VADER's sentiment).", _negative, range="−1 to 1"),
    RewardFunction(
        "correct", "1 if the last number of the response is the prompt's answer, else 0.", _correct, range="0 or 1", needs_answer=True
    ),
    RewardFunction(
        "digits",
        "Share of the answer's digits at their place, each earned at its own token (a process reward).",
        _digits,
        range="0 to 1",
        needs_answer=True,
        by_token=True,
    ),
    RewardFunction("format", "1 if the whole response has the wanted form, else 0.", _format, FormatOptions, "0 or 1"),
    RewardFunction("length", "1 at the wanted number of tokens, falling smoothly to 0 on both sides.", _length, LengthOptions, "0 to 1"),
    RewardFunction("words", "Share of the wanted words that occur, minus that of the unwanted ones.", _words, WordsOptions, "−1 to 1"),
    RewardModelFunction(
        "reward_model", "The score of a reward model that was trained on preferences.", _one_score, RewardModelOptions, "any number"
    ),
    RewardFunction("repetition", "Minus the share of word sequences said before.", _repetition, RepetitionOptions, "−1 to 0"),
):
    register(_function)


# ---------------------------------------------------------------- the mix


class RewardMix:
    """A weighted sum of reward functions, checked when it is built: names and options, before any model is loaded.

    A function that occurs twice (with other options) gets a number in ``parts``: ``words`` and ``words-2``.

    Raises:
        RewardError: no term, an unknown name, or options that the function does not have.
    """

    def __init__(self, terms: Iterable[RewardTerm]):
        self.terms: list[tuple[str, RewardFunction, BaseModel, float]] = []
        for term in terms:
            if term.name not in REWARDS:
                raise RewardError(f"There is no reward called “{term.name}”.", f"Choose from {', '.join(REWARDS)}.")
            function = REWARDS[term.name]
            times = sum(f is function for _, f, _, _ in self.terms)
            self.terms.append((f"{term.name}-{times + 1}" if times else term.name, function, _options(function, term.options), term.weight))
        if not self.terms:
            raise RewardError("No reward is chosen.", f"Choose at least one of {', '.join(REWARDS)}.")

    @property
    def needs_answer(self) -> bool:
        return any(function.needs_answer for _, function, _, _ in self.terms)

    @property
    def by_token(self) -> bool:
        """Whether some function says where in a response its score was earned."""
        return any(function.by_token for _, function, _, _ in self.terms)

    @property
    def names(self) -> list[str]:
        """The keys of `Scored.parts`."""
        return [name for name, _, _, _ in self.terms]

    def __call__(self, contexts: Sequence[Context]) -> list[Scored]:
        """Score a batch.

        Raises:
            RewardError: a function raised, or gave something that is not a finite number.
        """
        columns: dict[str, list[float]] = {}
        earned: list[list[float]] = [[] for _ in contexts]
        for name, function, options, weight in self.terms:
            scores = function.score_all(contexts, options)
            if len(scores) != len(contexts):
                what = f"The reward “{name}” gave {len(scores)} scores for {len(contexts)} responses."
                raise RewardError(what, "It must give one for each.")
            columns[name] = []
            for context, score, sofar in zip(contexts, scores, earned, strict=True):
                if isinstance(score, Sequence) and not isinstance(score, str):
                    _add(name, context, score, weight, sofar)
                    score = sum(score)
                columns[name].append(_finite(name, context, score))
        scored = []
        for i in range(len(contexts)):
            parts = {name: column[i] for name, column in columns.items()}
            scored.append(Scored(sum(weight * parts[name] for name, _, _, weight in self.terms), parts, tuple(earned[i])))
        return scored


def _options(function: RewardFunction, given: dict[str, Any]) -> BaseModel:
    try:
        return function.options(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(function.options.model_fields) or "none"
            raise RewardError(f"The reward “{function.name}” has no option “{where}”.", f"Its options: {known}.") from None
        message = problem["msg"].removeprefix("Value error, ")
        name = f" “{where}”" if where else "s"
        raise RewardError(f"The reward “{function.name}” cannot use its option{name}: {message}.", "Change the option.") from None


def _add(name: str, context: Context, scores: Sequence[float], weight: float, earned: list[float]) -> None:
    """Add a function's rewards by token, weighted, to what the others ``earned``, in place."""
    if len(scores) != len(context.pieces):
        what = f"gave {len(scores)} numbers for a response of {len(context.pieces)} tokens"
        raise failure(name, context, what, "It must give one for each of context.pieces, or one for the whole response.")
    earned.extend([0.0] * (len(scores) - len(earned)))
    for place, score in enumerate(scores):
        earned[place] += weight * _finite(name, context, score)


def _finite(name: str, context: Context, score: Any) -> float:
    try:
        value = float(score)
    except (TypeError, ValueError):
        raise failure(name, context, f"gave {score!r}, which is not a number", "A reward must return a number.") from None
    if not math.isfinite(value):
        raise failure(name, context, f"gave {value}", "A reward must be finite: look for a division by zero or a logarithm of zero in it.")
    return value


def failure(name: str, context: Context, what: str, do: str) -> RewardError:
    """The error for reward ``name`` going wrong on one response, with the texts cut to a readable length."""
    texts = [repr(text if len(text) <= 120 else text[:117] + "…") for text in (context.prompt, context.response)]
    return RewardError(f"The reward “{name}” {what}. Prompt: {texts[0]}. Response: {texts[1]}.", do)


def _advice(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "The pattern takes too long on this text: make it simpler (no repeat within a repeat)."
    return "Mend the reward function, or leave it out of the mix."
