"""Reward functions on hand-made responses, and the errors that a wrong reward must end in."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import Decimal

import pytest

from rlhf.config import RewardTerm
from rlhf.errors import RewardError
from rlhf.rewards import REWARDS, Context, RewardFunction, RewardMix, last_number, register


def context(response: str, answer: str | None = None, tokens: int = 10, finished: bool = True, prompt: str = "Once upon a time") -> Context:
    return Context(prompt, response, answer, tokens, finished)


def term(name: str, weight: float = 1.0, **options) -> RewardTerm:
    return RewardTerm(name=name, weight=weight, options=options)


def score(name: str, response: Context | str, **options) -> float:
    responses = [response if isinstance(response, Context) else context(response)]
    return RewardMix([term(name, **options)])(responses)[0].total


@pytest.fixture
def registered():
    """Register reward functions for one test only."""
    before = dict(REWARDS)
    yield register
    REWARDS.clear()
    REWARDS.update(before)


def test_importing_the_rewards_loads_neither_torch_nor_the_lexicon():
    code = "import sys, rlhf.rewards; print([m for m in ('torch', 'transformers', 'vaderSentiment') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# ---------------------------------------------------------------- sentiment


def test_negative_is_minus_positive_and_has_the_right_sign():
    glad, sad = " She was so happy and loved her friend.", " He was sad and cried. The dog was dead."
    assert score("positive", glad) > 0.5 > -0.5 > score("positive", sad)
    assert score("negative", sad) == -score("positive", sad)
    assert score("positive", "") == score("negative", "the table") == 0


def test_sentiment_is_that_of_the_response_alone():
    assert score("positive", context("the table", prompt="I love this wonderful happy day!")) == 0


# ---------------------------------------------------------------- correct


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("085", "85"),
        ("the answer is 7.", "7"),
        ("first 3, then 4", "4"),
        ("1,2", "2"),  # no thousands separator
        ("$1,234.50", "1234.5"),
        ("12,345,678 people", "12345678"),
        ("it is -5", "-5"),
        ("x=−5", "-5"),  # a typographic minus
        ("10-5", "5"),  # a minus between two numbers is no sign
        ("+3", "3"),
        (".5", "0.5"),
        ("1e3.", "1000"),
        ("50%", "50"),
        ("3 + 4 = 7\n#### 72", "72"),
        ("#### 72 because 3 and 4", "72"),
        ("#### 5 no: #### 6", "6"),
        ("it is 8 ####", "8"),
        ("٣", None),
        ("no number", None),
        ("", None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_last_number(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("085", "085", 1),
        ("85", "085", 1),
        ("084", "085", 0),
        ("0855", "085", 0),
        ("", "085", 0),
        ("So she has 1,200 apples.", "She adds 1000 and 200.\n#### 1200", 1),
        ("7.0", "7", 1),
        ("0.30000000000000001", "0.3", 0),
        ("-7", "7", 0),
        (" Paris ", "Paris", 1),  # an answer without a number is compared as text
        ("London", "Paris", 0),
    ],
)
def test_correct(response, answer, right):
    assert score("correct", context(response, answer)) == right


def test_correct_without_an_answer_names_the_prompt():
    with pytest.raises(RewardError, match=r"correct.*needs an answer.*'37\+48='") as caught:
        score("correct", context("085", prompt="37+48="))
    assert "answer" in caught.value.do


# ---------------------------------------------------------------- format


@pytest.mark.parametrize(
    ("preset", "response", "finished", "right"),
    [
        ("sentence", "She went home.", False, 1),
        ("sentence", 'He said, "Yes!"\n', False, 1),
        ("sentence", "She went", True, 0),
        ("three digits", "085", True, 1),
        ("three digits", "085", False, 0),
        ("three digits", "0855", True, 0),
        ("number", " 1,200 ", True, 1),
        ("number", "it is 7", True, 0),
        ("gsm8k", "3 + 4 = 7\n#### 7", True, 1),
        ("gsm8k", "7", True, 0),
        ("think", "<think>3 and 4</think>\n<answer>7</answer>", True, 1),
        ("think", "<answer>7</answer>", True, 0),
        ("list", "- one\n- two", False, 1),
        ("list", "one\n- two", False, 0),
    ],
)
def test_format_presets(preset, response, finished, right):
    assert score("format", context(response, finished=finished), preset=preset) == right


def test_format_takes_a_pattern_for_the_whole_response():
    assert score("format", "abc", pattern="[a-c]+") == 1
    assert score("format", "abcd", pattern="[a-c]+") == 0
    assert score("format", context("abc", finished=False), pattern="[a-c]+", finished=True) == 0


def test_a_pattern_that_does_not_compile_is_refused_and_one_that_takes_for_ever_stops():
    with pytest.raises(RewardError, match="not a regular expression"):
        score("format", "a", pattern="(")
    with pytest.raises(RewardError, match="TimeoutError") as caught:
        score("format", "a" * 60 + "b", pattern=r"(a|a|a)*(a|a)*(a|aa)*c|(.*a){25}c")
    assert "simpler" in caught.value.do


# ---------------------------------------------------------------- length, words, repetition


def test_length_is_one_at_the_target_and_falls_on_both_sides():
    at = {tokens: score("length", context("", tokens=tokens), target=20, width=5.0) for tokens in (0, 15, 20, 25, 4000)}
    assert at[20] == 1 and at[15] == at[25] == pytest.approx(math.exp(-0.5)) and 0 <= at[4000] < at[0] < at[15]


def test_words_counts_wanted_minus_unwanted_shares():
    assert score("words", "The Dog saw a cat.", wanted=["dog", "cow"]) == 0.5
    assert score("words", "The Dog saw a cat.", wanted="dog, cow", unwanted="cat") == -0.5
    assert score("words", "dogs and hotdog", wanted=["dog"]) == 0  # whole words only
    assert score("words", "an old\nman", wanted=["old man"]) == 1
    assert score("words", "a.b (C++)", wanted=["a.b", "c++"]) == 1  # no regular expressions
    assert score("words", "小狗很伤心", wanted=["伤心"]) == 1


def test_words_refuses_contradictions():
    with pytest.raises(RewardError, match="at least one"):
        score("words", "", wanted=[])
    with pytest.raises(RewardError, match="both wanted and unwanted"):
        score("words", "", wanted=["dog"], unwanted=["Dog"])


def test_repetition_is_minus_the_share_of_repeated_ngrams():
    """With "a b a b a": the bigrams ab ba ab ba, two of four distinct → −0.5."""
    assert score("repetition", "a b a b a", n=2) == -0.5
    assert score("repetition", "one two three four") == 0
    assert score("repetition", "loved " * 50) == pytest.approx(1 / 48 - 1)
    assert score("repetition", "") == score("repetition", "one") == 0
    assert score("repetition", "伤心伤心", n=1) == -0.5


# ---------------------------------------------------------------- the mix


def test_the_mix_is_a_weighted_sum_and_parts_are_unweighted():
    mix = RewardMix([term("negative", weight=2.0), term("repetition", weight=0.5, n=1)])
    (scored,) = mix([context("sad sad")])
    assert set(scored.parts) == set(mix.names) == {"negative", "repetition"}
    assert scored.parts["repetition"] == -0.5
    assert scored.total == pytest.approx(2 * scored.parts["negative"] - 0.25)


def test_a_function_may_occur_twice():
    mix = RewardMix([term("words", wanted=["dog"]), term("words", weight=-1, wanted=["cat"])])
    assert mix([context("a dog and a cat")])[0][:2] == (0.0, {"words": 1.0, "words-2": 1.0})


def test_needs_answer():
    assert RewardMix([term("correct"), term("length")]).needs_answer
    assert not RewardMix([term("length")]).needs_answer


def test_no_contexts_give_no_scores():
    assert RewardMix([term("negative")])([]) == []


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "No reward"),
        ([term("nice")], "no reward called “nice”"),
        ([term("length", goal=3)], "no option “goal”"),
        ([term("length", target=-3)], "“target”: Input should be greater"),
        ([term("negative", n=3)], "no option “n”"),
    ],
)
def test_a_mix_that_cannot_work_is_refused_when_it_is_built(terms, message):
    with pytest.raises(RewardError, match=message) as caught:
        RewardMix(terms)
    assert caught.value.do


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "much", [1.0]])
def test_a_score_that_is_no_finite_number_stops_with_reward_prompt_and_response(registered, value):
    registered(RewardFunction("odd", "Returns what it should not.", lambda c, o: value))
    with pytest.raises(RewardError) as caught:
        score("odd", context(" there was a cat", prompt="Once"))
    for part in ("odd", "'Once'", "' there was a cat'"):
        assert part in caught.value.what
    assert caught.value.do


def test_a_reward_that_raises_stops_with_reward_prompt_and_response(registered):
    registered(RewardFunction("odd", "Divides by zero.", lambda c, o: 1 / len(c.response)))
    with pytest.raises(RewardError, match=r"“odd” raised ZeroDivisionError: division by zero. Prompt: 'Once'. Response: ''"):
        score("odd", context("", prompt="Once"))


def test_a_batch_reward_must_give_one_score_for_each_response(registered):
    class Batch(RewardFunction):
        def score_all(self, contexts, options):
            return [1.0] * (len(contexts) - 1)

    registered(Batch("batch", "Scores a batch at once.", lambda c, o: 0.0))
    with pytest.raises(RewardError, match="gave 1 scores for 2"):
        RewardMix([term("batch")])([context("a"), context("b")])


def test_register_refuses_taken_and_unwritable_names(registered):
    with pytest.raises(RewardError, match="already"):
        registered(RewardFunction("negative", "", lambda c, o: 0.0))
    with pytest.raises(RewardError, match="cannot be called"):
        registered(RewardFunction("My reward", "", lambda c, o: 0.0))
    registered(RewardFunction("negative", "Another.", lambda c, o: 0.25), replace=True)
    assert score("negative", "sad") == 0.25


def test_every_reward_explains_itself_in_one_line_and_works_with_its_defaults():
    for name, function in REWARDS.items():
        assert function.name == name and function.range
        assert 20 < len(function.explanation) < 100 and function.explanation.endswith(".") and "\n" not in function.explanation
        assert all(field.description for field in function.options.model_fields.values())
        if name != "reward_model":
            assert math.isfinite(score(name, context("She said 7.", answer="7")))
    with pytest.raises(RewardError, match="choose a reward model"):
        RewardMix([RewardTerm(name="reward_model")])
