"""Dynamic programming on the painted grid: one sweep at a time, both boards, the residual, and the equation of the clicked cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import grid_board, playing, setting, values_bellman, values_experiments
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.values_boards import action_cells, scale, value_cells
from pages.components.labs.values_remarks import explain
from pages.components.labs.values_world import LAB, Here, kept, take
from pages.components.numbers import number
from rlhf.errors import ConfigError
from rlhf.labs import dynamic_programming as dp
from rlhf.labs.mdp import Floats, action_values, state_values, uniform_policy

PLAYER = "sweeps"
MOST = 500
FLOOR = 1e-12  # of the log axis


@dataclass(frozen=True)
class Course:
    """A method from its start to its end: its frames, and the values it should reach, with the reason where there are none."""

    frames: list[dp.Frame]
    exact: Floats | None
    reason: str


def draw(here: Here) -> None:
    method, sweeps, stride = _settings()
    course: Course = kept("course", (here.key, method, sweeps), lambda: _course(here, method, sweeps))
    end = len(course.frames) - 1
    now = min(end, stride * playing.player(LAB, -(-end // stride), PLAYER))
    frame = course.frames[now]
    q = action_values(here.world.mdp, frame.values, here.rules.gamma)
    arrows = frame.policy if method in ("policy", "greedy") else dp.greedy(q)
    _boards(here, course, frame.values, q, arrows)
    _status(here, course, now, method)
    explain(here)
    random = method in ("value", "random")
    policy = uniform_policy(here.world.mdp) if random else frame.policy
    values_bellman.draw(here, frame.values, policy, _("the random policy") if random else _("the policy under evaluation"))
    left, right = st.columns(2, gap="large")
    with left:
        _residuals(course, frame, here.rules.gamma, method)
    with right:
        values_experiments.wave(here)


def _settings() -> tuple[str, int | None, int]:
    """Method; evaluation sweeps before an improvement; sweeps a step."""
    methods = {
        "value": _("Value iteration"), "policy": _("Policy iteration"), "random": _("Policy evaluation: the random policy"),
        "greedy": _("Policy evaluation: greedy on the random policy’s values"),
    }  # fmt: skip
    restart = {"chosen": lambda: playing.reset(LAB, PLAYER)}
    left, right = st.columns(2, gap="large")
    with left:
        method = setting.choice(LAB, "method", _("Method"), methods, **restart)
    sweeps, columns = "all", [right]
    if method == "policy":
        columns = right.columns(2)
        lengths = {"all": _("until they settle"), "1": "1", "3": "3", "10": "10"}
        with columns[0]:
            sweeps = setting.choice(LAB, "evaluate", _("Sweeps per improvement"), lengths, **restart)
    with columns[-1]:
        stride = setting.choice(LAB, "stride", _("Sweeps a step"), {"1": "1", "5": "5", "25": "25"}, **restart)
    return method, None if sweeps == "all" else int(sweeps), int(stride)


def _course(here: Here, method: str, sweeps: int | None) -> Course:
    mdp, gamma = here.world.mdp, here.rules.gamma
    policy = uniform_policy(mdp)
    if method == "greedy":
        policy = dp.greedy(action_values(mdp, dp.policy_evaluation(mdp, policy, gamma, MOST)[-1].values, gamma))
    if method == "value":
        frames = dp.value_iteration(mdp, gamma, MOST)
    elif method == "policy":
        frames = dp.policy_iteration(mdp, gamma, sweeps, MOST)
    else:
        frames = dp.policy_evaluation(mdp, policy, gamma, MOST)
    try:
        exact = dp.optimal_values(mdp, gamma) if method in ("value", "policy") else state_values(mdp, policy, gamma)
    except ConfigError as error:
        return Course(frames, None, error.what)
    return Course(frames, exact, "")


def _boards(here: Here, course: Course, values: Floats, q: Floats, arrows: Floats) -> None:
    largest = scale(values, q, *([] if course.exact is None else [course.exact]))
    left, right = st.columns(2, gap="large", vertical_alignment="bottom")
    with left:
        st.caption(
            _("**State values V(s)**. Choose a brush, then click or drag to paint the map. With *Look*, click a cell to see its equation.")
        )
        grid_board.board(
            f"{LAB}/board", here.rows, value_cells(here, values, arrows, largest), title=_("State values"), paint=True,
            changed=lambda: take(f"{LAB}/board"), selected=here.selected, stamp=st.session_state.get(f"{LAB}/stamp", 0),
        )  # fmt: skip
    with right:
        st.caption(
            _("**Action values Q(s, a)**, one look ahead from V: a triangle for each direction. The arrows mark the best, or all that tie.")
        )
        grid_board.board(
            f"{LAB}/actions", here.rows, action_cells(here, q, dp.greedy(q), largest), title=_("Action values"),
            changed=lambda: take(f"{LAB}/actions"), selected=here.selected,
        )  # fmt: skip


def _status(here: Here, course: Course, now: int, method: str) -> None:
    """Where the method stands: its numbers and a sentence."""
    frame = course.frames[now]
    away = None if course.exact is None else float(np.abs(frame.values - course.exact).max())
    with st.container(horizontal=True, gap="medium"):
        st.metric(_("Sweep"), f"{frame.sweep}", width="content")
        if method == "policy":
            done = sum(f.improved for f in course.frames[: now + 1])
            st.metric(_("Improvements"), f"{done}", width="content")
        st.metric(_("V at the start"), number(float(here.world.mdp.start @ frame.values)), width="content")
        st.metric(_("Largest change"), number(frame.residual), width="content", help=_("The residual of this sweep, max |V_new − V_old|."))
        exact = _("max |V − V_exact|; the exact values come from a linear solve (for γ = 1 and the best policy: from sweeps until 1e-12).")
        st.metric(_("Distance to the exact values"), number(away), width="content", help=exact)
    st.caption(_sentence(course, frame, method))
    if course.reason:
        st.caption(f"{course.reason} {_('The sweeps go on all the same.')}")


def _sentence(course: Course, frame: dp.Frame, method: str) -> str:
    last = course.frames[-1]
    if frame is last and frame.residual is not None and frame.residual <= dp.SETTLED:
        return _("Settled after {sweeps} sweeps: the last one changed nothing by more than 10⁻⁹.").format(sweeps=last.sweep)
    if frame is last:
        return _("Not settled after {sweeps} sweeps, and no more are shown.").format(sweeps=last.sweep)
    if frame.improved:
        return _("Improvement: every cell took the best action of the right board as its policy. Next, that policy is evaluated.")
    if frame.sweep == 0:
        return _("All values begin at 0. A step is one sweep over all cells; the right board shows what it will write into the left one.")
    if method != "value":
        return _("Each cell took the mean of its triangles, weighted by the policy.")
    since = next(f.sweep for f in course.frames if np.array_equal(f.policy > 0, frame.policy > 0))
    words = _("Each cell took its best triangle as its value.")
    if since < frame.sweep and all(np.array_equal(f.policy > 0, frame.policy > 0) for f in course.frames[since : frame.sweep]):
        words += " " + _("The arrows have been the same since sweep {sweep}: a policy settles before its values do.").format(sweep=since)
    return words


def _residuals(course: Course, frame: dp.Frame, gamma: float, method: str) -> None:
    """Residual, its bound and the distance to the exact values, up to the frame shown, on a log axis as long as the whole course."""
    st.markdown(f"##### {_('How fast it settles')}")
    is_dark = theme.dark()
    swept = [f for f in course.frames if f.residual is not None]
    shown = swept[: frame.sweep]
    figure = Plot()
    lines = [
        (_("largest change"), [f.residual for f in shown], theme.BLUE, "solid"),
        (_("bound γᵏ · first change"), [f.bound for f in shown], theme.GREY, "dot"),
    ]
    if course.exact is not None:
        lines.append((_("distance to exact"), [float(np.abs(f.values - course.exact).max()) for f in shown], theme.GREEN, "solid"))
    mode = "lines+markers" if len(shown) < 40 else "lines"
    for name, y, colour, dash in lines:
        figure.scatter(
            x=[f.sweep for f in shown], y=[v if v and v > FLOOR else None for v in y], name=name, mode="lines" if dash == "dot" else mode,
            line={"color": theme.on_ground(colour, is_dark), "width": 2, "dash": dash}, marker={"size": 5},
            hovertemplate="%{x}: %{y:.2e}<extra></extra>",
        )  # fmt: skip
    seen = [v for _name, y, _colour, _dash in lines for v in y if v and v > FLOOR]
    low, high = np.log10(min(seen, default=0.1)), np.log10(max(seen, default=1.0))
    longest = min(max(5, course.frames[-1].sweep), max(15, 1.4 * frame.sweep))
    figure.lay_out(
        height=300, hovermode="closest", showlegend=True, legend={"font": {"size": 11}},
        xaxis={"title": {"text": _("sweep")}, "range": [0, longest + 0.5], "tickformat": "d"},
        yaxis={
            "type": "log", "range": [min(low, high - 1) - 0.2, high + 0.2], "exponentformat": "power", "nticks": 6,
            "dtick": 1 if high - low < 6 else 2,
        },
    )  # fmt: skip
    if not shown:
        figure.words(0.5, 0.5, _("Press Step or Play."), xref="paper", yref="paper")
    live_figure(figure, key=f"{LAB}/residuals")
    if gamma < 1:
        if method == "policy":
            words = _("Between two improvements a sweep changes at most γ = {gamma} times what the one before it did; the first after an "
                      "improvement may change more.")  # fmt: skip
        else:
            words = _("A sweep changes at most γ = {gamma} times what the one before it did.")
        stops = _("A line that stops has reached 0, which a log axis cannot show.")
        st.caption(f"{words.format(gamma=f'{gamma:g}')} {stops}")
    else:
        st.caption(_("With γ = 1 the bound promises nothing: that it settles at all is owed to the ends of the episodes."))
