"""When a run is called a hack: on hand-made measurements, and the preset that the page and its benchmark share."""

from __future__ import annotations

import pytest

from rlhf.overoptimisation import Measurement, judge, measurements, watched_config


def run(gold, proxy=None):
    """One measurement a step; the proxy rises by 0.1 a step unless it is given."""
    return [Measurement(i, proxy[i] if proxy else 0.1 * i, value, 0.1 * i) for i, value in enumerate(gold)]


@pytest.mark.parametrize(
    ("gold", "fooled"),
    [
        ([-0.5, 0.2, 0.9, 0.5, 0.1], True),
        ([-0.5, 0.9, 0.79, 0.78], True),  # a little more than 0.1 below the peak, twice
        ([-0.5, 0.9, 0.85, 0.7], False),  # it was still near its peak at the last but one
        ([-0.5, 0.2, 0.24, 0.42, 0.25], False),  # one low value after a high one is chance
        ([-0.5, 0.6, 0.1], True),  # unless it is far below
        ([-0.5, 0.2, 0.6], False),  # still rising
        ([0.5, 0.3, 0.2], True),  # the start was the best
    ],
)
def test_the_gold_reward_must_fall_and_stay_down(gold, fooled):
    verdict = judge(run(gold))
    assert verdict is not None and verdict.fooled is fooled
    assert verdict.peak.gold == max(gold) and verdict.drop == pytest.approx(max(gold) - gold[-1])


def test_it_is_no_hack_where_the_proxy_fell_too():
    """The policy has come apart altogether."""
    verdict = judge(run([-0.5, 0.9, 0.5, 0.1], proxy=[0, 1, 0.6, 0.2]))
    assert verdict is not None and verdict.drop == pytest.approx(0.8) and not verdict.fooled


def test_only_complete_measurements_count():
    rows = [
        {"step": 0, "eval/reward": 0.1, "eval/gold": 0.2, "eval/kl": -1e-9},  # a mean of estimates may be just below 0
        {"step": 1, "loss": 3.0},
        {"step": 2, "eval/reward": 0.3, "eval/gold": None, "eval/kl": 0.1},
        {"step": 4, "eval/reward": 0.5, "eval/gold": 0.1, "eval/kl": 0.25},
    ]
    assert measurements(rows) == [Measurement(0, 0.1, 0.2, 0.0), Measurement(4, 0.5, 0.1, 0.5)]
    assert judge(measurements(rows)[:1]) is None


def test_the_preset_leaves_out_of_the_reward_what_gold_counts():
    config = watched_config(seed=4)
    reward, gold = ([term.name for term in getattr(config, name)] for name in ("reward", "gold"))
    assert reward == ["negative"] and gold == ["negative", "repetition"]
    assert getattr(config, "beta") == 0 and config.seed == 4 and config.eval_every == 2  # noqa: B009
