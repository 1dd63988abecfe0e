"""Q-learning and SARSA on the painted grid, side by side, some episodes a step; what they know, where they were, how far from exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from pages.components import charts, theme
from pages.components.i18n import _
from pages.components.labs import grid_board, playing, setting, values_update
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.values_boards import action_cells, count_cells, scale, value_cells
from pages.components.labs.values_remarks import explain
from pages.components.labs.values_world import LAB, Here, kept, take
from rlhf.errors import ConfigError
from rlhf.labs import dynamic_programming as dp
from rlhf.labs import td_control as td
from rlhf.labs.mdp import Floats, action_values, state_values

PLAYER = "episodes"
MOST = 200  # steps of the player
COLOURS = {"q_learning": theme.BLUE, "sarsa": theme.ORANGE}
BINS = 150  # points of the curve of returns
FLOOR = 1e-12  # of the log axis: what is below is rounding


@dataclass
class Course:
    """All that was learned with one world and one setting. Lists have an entry for each step of the player so far."""

    episodes: int
    latest: dict[str, td.Learned]
    q: dict[str, list[Floats]] = field(default_factory=lambda: {name: [] for name in td.ALGORITHMS})
    tries: dict[str, list[NDArray[np.int32]]] = field(default_factory=lambda: {name: [] for name in td.ALGORITHMS})
    to_best: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in td.ALGORITHMS})
    to_own: list[float] = field(default_factory=list)


def names() -> dict[str, str]:
    return {"q_learning": "Q-learning", "sarsa": "SARSA"}


def draw(here: Here) -> None:
    rates, batch, seed = _settings()
    key = (here.key, rates, batch, seed)
    if st.session_state.get(f"{LAB}/learned") != key:
        st.session_state[f"{LAB}/learned"] = key
        playing.reset(LAB, PLAYER)
    best = kept("best", here.key, lambda: _best(here))
    course: Course = kept("learning", key, lambda: _start(here, best, rates, batch))
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    with left:
        names_of_boards = {"values": _("Best value and action"), "actions": _("Action values"), "visits": _("Visits")}
        shown = setting.choice(LAB, "shown", _("On the boards"), names_of_boards)
    with right:
        at = playing.player(LAB, MOST, PLAYER)
    while len(course.q["sarsa"]) <= at:
        _advance(course, here, best, rates, seed)
    _boards(here, course, at, shown)
    _status(here, course, at, rates, best)
    explain(here)
    values_update.draw(here, {name: (course.q[name][at], course.tries[name][at]) for name in td.ALGORITHMS}, rates, best)
    left, right = st.columns(2, gap="large")
    with left:
        _distances(course, at, best)
    with right:
        _returns(here, course, at, best)


def _settings() -> tuple[td.Rates, int, int]:
    columns = st.columns(4)
    with columns[0]:
        epsilon = setting.slider(
            LAB, "epsilon", _("Exploration ε"), 0.0, 1.0, 0.1, 0.05, help=_("The chance of an action by dice instead of the best one.")
        )
    with columns[1]:
        schedules = {"constant": _("constant"), "visits": _("1 / n visits"), "power": _("1 / n visits^0.7")}
        schedule = setting.choice(LAB, "schedule", _("Learning rate α"), schedules)
    with columns[2]:
        alpha = 0.5
        if schedule == "constant":
            alpha = setting.slider(LAB, "alpha", "α", 0.05, 1.0, 0.5, 0.05)
    with columns[3]:
        batch = int(setting.choice(LAB, "batch", _("Episodes a step"), {"10": "10", "1": "1", "100": "100"}))
    with st.expander(_("Decay of ε, and the seed"), icon=":material/tune:"):
        first, second, _rest = st.columns(3)
        with first:
            half_life = setting.whole(LAB, "half_life", _("ε halves every … episodes (0: never)"), 0, 1000, 0, 50)
        with second:
            seed = setting.seed(LAB)
    return td.Rates(epsilon, half_life, alpha, schedule), batch, seed


def _best(here: Here) -> Floats | str:
    """Q*, or why there is none."""
    try:
        return action_values(here.world.mdp, dp.optimal_values(here.world.mdp, here.rules.gamma), here.rules.gamma)
    except ConfigError as error:
        return error.what


def _start(here: Here, best: Floats | str, rates: td.Rates, batch: int) -> Course:
    course = Course(batch, {name: td.beginning(here.world.mdp) for name in td.ALGORITHMS})
    _note(course, here, best, rates)
    return course


def _advance(course: Course, here: Here, best: Floats | str, rates: td.Rates, seed: int) -> None:
    for name in td.ALGORITHMS:
        course.latest[name] = td.learn(here.world.mdp, name, course.latest[name], course.episodes, rates, here.rules.gamma, seed)
    _note(course, here, best, rates)


def _note(course: Course, here: Here, best: Floats | str, rates: td.Rates) -> None:
    """Write down the moment."""
    mdp = here.world.mdp
    for name, learned in course.latest.items():
        course.q[name].append(learned.q)
        course.tries[name].append(learned.tries.astype(np.int32))
        course.to_best[name].append(np.nan if isinstance(best, str) else td.distance(mdp, learned.q, best))
    sarsa = course.latest["sarsa"]
    epsilon = rates.epsilon_at(sarsa.episodes)
    policy = td.epsilon_greedy(sarsa.q, epsilon if epsilon > 1e-6 else 0.0)  # next to 0 the linear system is next to singular
    try:
        own = action_values(mdp, state_values(mdp, policy, here.rules.gamma), here.rules.gamma)
        course.to_own.append(td.distance(mdp, sarsa.q, own))
    except ConfigError:  # γ = 1 and a policy that never ends
        course.to_own.append(np.nan)


def _boards(here: Here, course: Course, at: int, shown: str) -> None:
    tables = {name: course.q[name][at] for name in td.ALGORITHMS}
    largest = scale(*tables.values())
    for (name, title), column in zip(names().items(), st.columns(2, gap="large", vertical_alignment="bottom"), strict=True):
        q, tries = tables[name], course.tries[name][at]
        arrows = dp.greedy(q) * (tries.sum(1, keepdims=True) > 0)
        if shown == "values":
            cells = value_cells(here, q.max(1), arrows, largest)
        elif shown == "actions":
            cells = action_cells(here, q, arrows, largest)
        else:
            cells = count_cells(here, tries.sum(1))
        key = f"{LAB}/{name}"
        with column:
            note = _("paint here, too; both then begin anew.") if name == "q_learning" else _("the same world, the same dice.")
            st.caption(f"**{title}**: {note}")
            grid_board.board(
                key, here.rows, cells, title=title, paint=name == "q_learning", changed=lambda key=key: take(key), selected=here.selected,
                stamp=st.session_state.get(f"{LAB}/stamp", 0) if name == "q_learning" else 0,
            )  # fmt: skip


def _status(here: Here, course: Course, at: int, rates: td.Rates, best: Floats | str) -> None:
    episodes, live = at * course.episodes, ~here.world.mdp.terminal
    with st.container(horizontal=True, gap="medium"):
        st.metric(_("Episodes of each"), f"{episodes}", width="content")
        st.metric(_("ε now"), f"{rates.epsilon_at(episodes):.3g}", width="content")
        for name, title in names().items():
            missing = int((course.tries[name][at][live] == 0).sum())
            words = _("Pairs of a cell and an action that it never took: their Q is still 0, and the distance to Q* counts them too.")
            st.metric(_("{name}: never tried").format(name=title), f"{missing} / {int(live.sum()) * 4}", width="content", help=words)
    if isinstance(best, str):
        st.info(f"{best} {_('So there is no Q* to measure a distance to.')}", icon=":material/trending_down:")
    recent = slice(max(0, episodes - 100), episodes)
    cut = [int((~here.world.mdp.terminal[course.latest[name].last[recent]]).sum()) for name in td.ALGORITHMS]
    if max(cut):
        words = _(
            "Of the last {count} episodes, {first} (Q-learning) and {second} (SARSA) found no end within {most} steps and were cut off."
        )
        st.caption(words.format(count=episodes - recent.start, first=cut[0], second=cut[1], most=td.LONGEST))
    if rates.epsilon == 0 and episodes:
        st.caption(_("ε = 0: nobody explores. What looks best now is all that is ever tried, apart from ties; the distance may stay."))


def _distances(course: Course, at: int, best: Floats | str) -> None:
    st.markdown(f"##### {_('Distance to the exact values')}")
    is_dark = theme.dark()
    figure = _empty()
    x = np.arange(at + 1) * course.episodes
    lines = [(f"{title} ↔ Q*", course.to_best[name], COLOURS[name], "solid") for name, title in names().items()]
    lines.reverse()  # Q-learning, often the same at first, above SARSA
    lines.append((_("SARSA ↔ Q of its own policy"), course.to_own, COLOURS["sarsa"], "dot"))
    for name, y, colour, dash in lines:
        figure.scatter(
            x=x, y=[v if v > FLOOR else None for v in y[: at + 1]], name=name, mode="lines",
            line={"color": theme.on_ground(colour, is_dark), "width": 3 if name.startswith("SARSA ↔ Q*") else 2, "dash": dash},
            hovertemplate="%{x}: %{y:.3g}<extra></extra>",
        )  # fmt: skip
    seen = [v for _name, y, _colour, _dash in lines for v in y[: at + 1] if np.isfinite(v) and v > FLOOR]
    figure.lay_out(yaxis={"type": "log", **_ticks(min(seen, default=1.0), max(seen, default=1.0))})
    if not at:
        _invite(figure)
    live_figure(figure, key=f"{LAB}/distances")
    st.caption(
        _(
            "‖Q − Q*‖∞, the worst pair of cell and action. With a constant α it never comes to rest where the world is noisy; SARSA heads "
            "for the values of the policy it follows, ε included (dotted), not for Q*."
        )
    )


def _returns(here: Here, course: Course, at: int, best: Floats | str) -> None:
    st.markdown(f"##### {_('Return of each episode')}")
    is_dark, episodes = theme.dark(), at * course.episodes
    figure = _empty()
    size = max(1, -(-episodes // BINS))
    for name, title in names().items():
        starts = np.arange(0, episodes, size)
        parts = np.split(course.latest[name].returns[:episodes], starts[1:])
        means = np.array([part.mean() for part in parts]) if episodes else np.zeros(0)
        colour = theme.on_ground(COLOURS[name], is_dark)
        middle = starts + size / 2
        figure.scatter(
            x=middle, y=means, mode="lines", line={"color": theme.rgba(colour, 0.3), "width": 1}, showlegend=False, hoverinfo="skip"
        )
        smooth = charts.smoothed(means.tolist(), 0.9)
        figure.scatter(
            x=middle,
            y=smooth,
            name=title,
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{x:.0f}: %{y:.3g}<extra></extra>",
        )
    if episodes and not isinstance(best, str):
        exact = float(here.world.mdp.start @ best.max(1))
        line = {"color": theme.muted(is_dark), "width": 1, "dash": "dot"}
        ends = [0, max(episodes, 1)]
        figure.scatter(
            x=ends, y=[exact, exact], name=_("V* at the start"), mode="lines", line=line, hovertemplate="%{y:.3g}<extra></extra>"
        )
    if not episodes:
        _invite(figure)
    live_figure(figure, key=f"{LAB}/returns")
    words = _("Σ γᵗ·r from the start, exploring included; thick: smoothed.")
    if episodes and not isinstance(best, str):
        words += " " + _("Dotted: V*, the most that a policy can expect.")
        ended = here.world.mdp.terminal
        if not all(ended[course.latest[name].last[:episodes]].all() for name in td.ALGORITHMS):
            words += " " + _("An episode that was cut off counts only what it was paid until then, which may be more than V*.")
    st.caption(words)


def _invite(figure: Plot) -> None:
    """In the place of axes that mean nothing yet."""
    figure.words(0.5, 0.5, _("Press Step or Play."), xref="paper", yref="paper")
    figure.lay_out(xaxis={"visible": False}, yaxis={"visible": False}, showlegend=False)


def _ticks(low: float, high: float) -> dict[str, list[Any]]:
    """Of a log axis, written out: 1, 2 and 5 of every power of ten; on a short stretch all digits, over more than two powers only these,
    eight at most."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    digits = range(1, 10) if high <= 4 * low else (1, 2, 5) if high <= 100 * low else (1,)
    places = [m * 10.0**p for p in range(first, last + 1, 1 + (last - first) // 8) for m in digits]
    return {"tickvals": places, "ticktext": [f"{place:g}" for place in places]}


def _empty() -> Plot:
    axis = {"title": {"text": _("episode")}, "rangemode": "tozero"}
    return Plot().lay_out(height=300, hovermode="closest", xaxis=axis)
