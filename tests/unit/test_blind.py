"""Win rates of blind votes, and the verdict on a reward that may have been fooled: by hand."""

from __future__ import annotations

import pytest

from rlhf.blind import of_run, unseen, win_rate
from rlhf.bradley_terry import wilson
from rlhf.overoptimisation import judge, measurements
from rlhf.preferences import Prompt
from rlhf.votes import Vote

RUN = "grpo-1/step-60"


def vote(winner, left=RUN, right="", prompt="Once"):
    return Vote(prompt, "a", "b", winner, left_checkpoint=left, right_checkpoint=right)


def test_a_tie_counts_as_half_whichever_side_the_tuned_answer_stood_on():
    votes = [vote("left"), vote("right", left="", right=RUN), vote("right"), vote("tie"), vote("both_bad")]
    rate = win_rate(votes, RUN)
    assert (rate.wins, rate.ties, rate.losses, rate.votes) == (2, 2, 1, 5) and rate.rate == pytest.approx(3 / 5)
    assert rate.interval == wilson(3, 5)


def test_other_votes_do_not_count():
    others = [vote("left", left="", right=""), vote("left", left="dpo-2/step-40"), vote("left", right="dpo-2/step-40")]
    assert of_run(others, RUN) == [] and win_rate(others, RUN).rate == 0.5 and win_rate(others, RUN).interval == (0.0, 1.0)


def test_what_was_trained_on_is_not_asked():
    assert unseen([Prompt("a"), Prompt("b")], {"a"}) == [Prompt("b")]


def rows(*values):
    return [{"step": i, "eval/reward": p, "eval/gold": g, "eval/kl": k} for i, (p, g, k) in enumerate(values)]


def test_a_reward_is_fooled_where_gold_falls_and_it_does_not():
    verdict = judge(measurements(rows((-0.5, -0.5, 0), (0.8, 0.7, 1.0), (1.0, 0.1, 4.0))))
    assert verdict and verdict.fooled and verdict.peak.step == 1 and verdict.drop == pytest.approx(0.6) and verdict.end.root_kl == 2


@pytest.mark.parametrize(
    "values",
    [
        ((-0.5, -0.5, 0), (0.5, 0.4, 1.0), (0.8, 0.6, 1.5)),  # gold follows
        ((-0.5, -0.5, 0), (0.8, 0.7, 1.0), (0.1, 0.1, 4.0)),  # both fall: a collapse, not a hack
        ((-0.5, -0.5, 0), (0.8, 0.7, 1.0), (0.9, 0.65, 1.2)),  # gold wanders by less than its noise
    ],
)
def test_no_hack_is_claimed_otherwise(values):
    verdict = judge(measurements(rows(*values)))
    assert verdict and not verdict.fooled


def test_too_little_says_nothing():
    assert judge(measurements([{"step": 0, "eval/reward": 0.1}, *rows((0, 0, 0))])) is None
