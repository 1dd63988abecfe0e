"""Plots: smoothing by hand, what a card of the live grid holds, figures, and how numbers are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pages.components import charts, theme
from pages.components.numbers import duration, megabytes, number
from pages.components.state import Column, Feed, percentile
from pages.components.text import plain
from rlhf.metrics import METRICS
from tests.canned import canned_run


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    feed = Feed(canned_run(tmp_path, "grpo", steps=10, weights=False))
    feed.read()
    return feed


def card(feed: Feed, chart: charts.Chart, **changes) -> dict:
    given = {"algorithm": "grpo", "steps": 10, "smooth": 0.0, "log": False, "selected": None, "is_dark": False, **changes}
    return charts.card(chart, feed, **given)


def test_smoothing_by_hand():
    """amount ½ on 1, 3: averages ½·0+½·1 = ½ and ½·½+½·3 = 1¾; weights ½ and ¾; 1 and 2⅓."""
    assert charts.smoothed([1.0, 3.0], 0.5) == pytest.approx([1.0, 7 / 3])
    assert charts.smoothed([4.0, -2.0, 5.0], 0.0) == [4.0, -2.0, 5.0]
    assert charts.smoothed([2.0] * 50, 0.95) == pytest.approx([2.0] * 50)


def test_percentile_is_linear_between_neighbours():
    assert percentile([0.0, 10.0], 25) == 2.5
    assert percentile([1.0, 2.0, 4.0], 50) == 2.0
    assert percentile([7.0], 95) == 7.0


def test_reward_card_has_band_curve_and_heldout_points(feed: Feed):
    drawn = card(feed, charts.CHARTS["grpo"][0])
    low, high, line, held = drawn["data"]
    assert line["x"] == list(range(1, 11))
    rewards, spreads = feed.columns["reward"].values, feed.columns["reward_std"].values
    assert low["y"] == pytest.approx([r - s for r, s in zip(rewards, spreads, strict=True)])
    assert high["y"] == pytest.approx([r + s for r, s in zip(rewards, spreads, strict=True)])
    assert held["mode"] == "markers" and held["x"] == [0, 5, 10]
    assert drawn["title"] == METRICS["reward"].label and drawn["definition"] == METRICS["reward"].definition
    json.dumps(drawn, allow_nan=False)


@pytest.mark.parametrize("algorithm", ["reinforce", "grpo", "ppo", "dpo", "rrhf"])
def test_every_chart_of_every_algorithm_has_data(tmp_path: Path, algorithm: str):
    feed = Feed(canned_run(tmp_path, algorithm, steps=6, weights=False))
    feed.read()
    for chart in charts.charts_of(feed, algorithm):
        for is_dark in (False, True):
            drawn = card(feed, chart, algorithm=algorithm, is_dark=is_dark, smooth=0.6, log=True, selected=3)
            assert any(trace["x"] for trace in drawn["data"]), chart.key
            assert chart.bars or drawn["layout"]["shapes"][0]["x0"] == 3
    shown = {key for chart in charts.charts_of(feed, algorithm) for key in (*chart.series, chart.band)}
    every = {key for key in feed.columns if not key.startswith("eval/")}
    assert set(charts.extra_keys(feed, algorithm)) == every - shown  # nothing that is measured cannot be plotted


def test_bars_show_the_last_measurement_up_to_the_selected_step():
    chart = next(chart for chart in charts.CHARTS["reinforce"] if chart.bars)
    feed = Feed(run=None)  # type: ignore[arg-type]
    feed.columns = {
        "grad_variance/trajectory": Column([1, 10], [4.0, 3.0]),
        "grad_variance/to_go": Column([1, 10], [2.0, 1.0]),
    }
    for selected, step, heights in ((None, 10, [3.0, 1.0]), (9, 1, [4.0, 2.0]), (10, 10, [3.0, 1.0])):
        drawn = card(feed, chart, algorithm="reinforce", selected=selected)
        (bars,) = drawn["data"]
        assert bars["type"] == "bar" and bars["x"] == heights and bars["y"] == ["Whole trajectory", "Rewards to go"]
        assert drawn["values"][0]["text"] == f"step {step}" and "Rewards to go:" in drawn["not_broken"]
    assert card(feed, chart, algorithm="reinforce", selected=0)["data"] == []


def test_a_chart_that_a_run_has_nothing_for_is_left_out(tmp_path: Path):
    feed = Feed(canned_run(tmp_path, "reinforce", steps=4, weights=False))
    feed.read()
    assert charts.charts_of(feed, "reinforce") == charts.CHARTS["reinforce"]
    del feed.columns["values/explained_variance"]
    assert "values/explained_variance" not in [chart.key for chart in charts.charts_of(feed, "reinforce")]


def test_the_parts_of_a_mixed_reward_get_a_chart(tmp_path: Path):
    feed = Feed(canned_run(tmp_path, steps=4, weights=False, reward="negative:1,repetition:-0.5"))
    feed.read()
    assert charts.charts_of(feed, "grpo")[1].series == ("reward/negative", "reward/repetition")
    drawn = card(feed, charts.charts_of(feed, "grpo")[1])
    assert [value["name"] for value in drawn["values"]] == ["Reward: negative", "Reward: repetition"]
    assert len({value["colour"] for value in drawn["values"]}) == 2


def test_log_scale_is_left_out_where_values_are_not_positive(feed: Feed):
    assert card(feed, charts.Chart(("kl",)), log=True)["layout"]["yaxis"]["type"] == "log"  # its first held-out value is 0
    reward = card(feed, charts.Chart(("reward",)), log=True)
    assert "type" not in reward["layout"]["yaxis"] and reward["linear"]


def test_a_line_of_zeros_lies_at_the_bottom(feed: Feed):
    assert card(feed, charts.Chart(("clip_ratio/region_mean",)))["layout"]["yaxis"]["range"] == [0, 0.1]


def test_raw_curve_stays_visible_behind_the_smoothed_one(feed: Feed):
    data = card(feed, charts.Chart(("grad_norm",)), smooth=0.8)["data"]
    assert [trace.get("opacity") for trace in data] == [0.3, 1]
    assert data[0]["y"] == feed.columns["grad_norm"].values


def test_grid_payload_survives_a_feed_without_steps():
    drawn = card(Feed(run=None), charts.CHARTS["grpo"][0])  # type: ignore[arg-type]
    assert drawn["data"] == [] and drawn["values"] == []
    assert json.loads(charts.payload([drawn], is_dark=True))["cards"][0]["title"] == "Reward"


def test_metric_figure_overlays_runs(tmp_path: Path):
    rows = {name: canned_run(tmp_path, seed=i, steps=6, weights=False).metrics() for i, name in enumerate(("one", "two"))}
    figure = charts.metric_figure(rows, "reward", 0.5, is_dark=False).to_dict()
    assert [trace["name"] for trace in figure["data"] if trace.get("showlegend")] == ["one", "two"]
    assert figure["layout"]["yaxis"]["title"]["text"] == METRICS["reward"].label
    assert charts.metric_figure({}, "kl", is_dark=True).to_dict()["data"] == []
    damaged = charts.metric_figure({"damaged": [{"step": 1}, {"step": 2, "kl": 0.1}]}, "reward", is_dark=False).to_dict()
    assert damaged["data"][0]["x"] == []


def test_feed_reads_only_what_is_new_and_takes_repeated_steps_back(tmp_path: Path):
    run = canned_run(tmp_path, steps=4, weights=False)
    feed = Feed(run)
    feed.read()
    offset, version = feed.offset, feed.version
    feed.read()
    assert (feed.offset, feed.version) == (offset, version)
    before = list(feed.columns["reward"].values)
    with (run.path / "events.jsonl").open("a") as file:  # resumed from step 2: steps 3 and 4 come again, step 4 half-written
        file.write(json.dumps({"type": "started", "step": 2, "steps": 4, "info": {}}) + "\n")
        file.write(json.dumps({"type": "step", "step": 3, "metrics": {"reward": 9.0}, "distributions": {"advantages": [1, 2]}}) + "\n")
        file.write('{"type": "step", "step": 4, "metr')
    feed.read()
    assert feed.columns["reward"].steps == [1, 2, 3] and feed.columns["reward"].values == [*before[:2], 9.0]
    assert [step for step, _p in feed.spread["advantages"]] == [1, 2, 3]


def test_numbers_have_three_significant_digits():
    assert [number(v) for v in (0.41234, 12345.0, 7.0, -0.0625, 0.0, 99.96, 0.00012)] == [
        "0.412",
        "12,300",
        "7.00",
        "−0.0625",
        "0",
        "100",
        "1.20e-04",
    ]
    assert (
        number(0.256, "share") == "25.6 %"
        and number(1.5, "nats", sign=True) == "+1.50 nats"
        and number(None) == number(float("nan")) == "–"
    )
    assert (duration(8.4), duration(200), duration(7500), duration(None)) == ("8 s", "3 min 20 s", "2 h 5 min", "–")
    assert megabytes(2**30) == "1.00 GiB" and megabytes(5 * 2**20) == "5.00 MiB"


def test_text_of_models_and_users_is_never_markup():
    assert plain("<b>*x*</b>") == r"\<b\>\*x\*\<\/b\>"
    assert plain(":red[x] $y$ `z`") == r"\:red\[x\] \$y\$ \`z\`"
    assert plain("# a\n    b") == "\\# a  \nb"


def test_colours():
    assert len(set(theme.ALGORITHM_COLOURS.values())) == len(theme.ALGORITHM_COLOURS)
    assert len(set(theme.ROLE_COLOURS.values())) == len(theme.ROLE_COLOURS)
    assert theme.rgba("#0072B2", 0.5) == "rgba(0,114,178,0.5)"


def test_column_cut():
    column = Column([1, 2, 3], [0.1, 0.2, 0.3])
    column.cut(2)
    assert column == Column([1], [0.1])


# ---------------------------------------------------------------- the reward model: reliability, and the interval of its accuracy


def reward_feed(tmp_path: Path) -> Feed:
    feed = Feed(canned_run(tmp_path, "reward_model", steps=10, weights=False))
    feed.read()
    return feed


def test_the_heldout_accuracy_has_its_interval_around_it(tmp_path: Path):
    feed = reward_feed(tmp_path)
    drawn = card(feed, charts.CHARTS["reward_model"][0], algorithm="reward_model")
    line, low, high, held = drawn["data"]
    assert len(line["x"]) == 10 and low["x"] == high["x"] == held["x"] == [0, 5, 10] and high["fill"] == "tonexty"
    assert low["y"] == feed.columns["eval/accuracy/low"].values
    assert all(a < b < c for a, b, c in zip(low["y"], held["y"], high["y"], strict=True))
    assert all("fill" not in trace for trace in card(feed, charts.Chart(("loss",)))["data"])  # which has none


def test_a_reliability_diagram_of_each_measurement(tmp_path: Path):
    feed = reward_feed(tmp_path)
    (chart,) = [chart for chart in charts.charts_of(feed, "reward_model") if chart.reliability]
    latest = card(feed, chart, algorithm="reward_model")
    margins = feed.run.distributions_at(10)["eval/margins"]
    _line, points = latest["data"]
    right = sum(margin > 0 for margin in margins)
    assert sum(count for (count,) in points["customdata"]) == len(margins) == 100
    assert sum(y * count for y, (count,) in zip(points["y"], points["customdata"], strict=True)) == pytest.approx(right)
    assert [value["text"] for value in latest["values"]][1] == number(right / 100, "share") and latest["still"]
    assert latest["layout"]["xaxis"]["title"]["text"].endswith("step 10")
    for selected, shown in ((0, 0), (4, 0), (7, 5), (99, 10)):
        assert card(feed, chart, selected=selected)["layout"]["xaxis"]["title"]["text"].endswith(f"step {shown}")
    json.dumps(latest, allow_nan=False)
    other = Feed(canned_run(tmp_path, "dpo", steps=2, weights=False))
    other.read()
    assert not any(chart.reliability for chart in charts.charts_of(other, "dpo"))


def test_a_resumed_run_takes_its_measurements_back(tmp_path: Path):
    feed = reward_feed(tmp_path)
    with (feed.run.path / "events.jsonl").open("a") as file:
        file.write(json.dumps({"type": "step", "step": 5, "metrics": {}, "distributions": {"eval/margins": [1.0, -1.0]}}) + "\n")
    feed.read()
    assert [step for step, _values in feed.heldout["eval/margins"]] == [0, 5]
    assert feed.heldout_at("eval/margins") == (5, (-1.0, 1.0)) and feed.heldout_at("eval/margins", 4) is not None
    assert feed.heldout_at("eval/other") is None
