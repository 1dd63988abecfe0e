"""The two experiments of the lab on values, each with a guess before it: how the goal's reward travels, and the walk along the cliff."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import grid_board
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.labs.values_boards import scale, value_cells
from pages.components.labs.values_learning import names
from pages.components.labs.values_remarks import distance_to_goal
from pages.components.labs.values_world import CLIFF, LAB, Here, Rules, kept
from pages.components.numbers import number
from rlhf.labs import dynamic_programming as dp
from rlhf.labs import td_control as td
from rlhf.labs.gridworld import grid_world
from rlhf.labs.mdp import Floats

EPISODES, RUNS, LAST = 500, 10, 100
RESOLVED = 1e-12  # a larger difference of two values is no rounding error
FAINT = 1e-10  # what is to be seen beyond doubt


def wave(here: Here) -> None:
    """In which sweep of value iteration the start first hears of the goal."""
    st.markdown(f"##### {_('Experiment: when does the start hear of the goal?')}")
    steps = distance_to_goal(here)
    if steps is None or steps < 2:
        st.caption(_("Paint a goal that a start can reach, two or more steps away from it."))
        return
    options = [
        _("In the first: every sweep covers the whole map"), _("In sweep {steps}: one step of the way a sweep").format(steps=steps),
        _("Later than sweep {steps}, or never").format(steps=steps),
    ]  # fmt: skip
    text = _(
        "The shortest way from a start to a goal of your map has {steps} steps. All values begin at 0. In which sweep of value iteration "
        "does the goal’s reward first change the value of the start?"
    )
    question = Choice("grid/wave", text.format(steps=steps), options, 0, "")
    if _attenuation(here, steps) < FAINT:
        words = _(
            "The goal is {steps} steps away. With γ = {gamma} and a slip of {slip} too little of its reward arrives in sweep {steps} to be "
            "measured. Raise γ, lower the slip, or paint a shorter way."
        )
        st.caption(words.format(steps=steps, gamma=f"{here.rules.gamma:g}", slip=number(here.rules.slip)))
        return
    if not guess(question, here.key):
        return
    if st.button(_("Run value iteration"), icon=":material/play_arrow:", key=f"{LAB}/wave/run"):
        st.session_state[f"{LAB}/wave"] = here.key
    if st.session_state.get(f"{LAB}/wave") != here.key:
        return
    heard, values = kept("wave", here.key, lambda: heard_of_goal(here))
    right = 2 if heard is None or heard > steps else 1 if heard == steps else 0
    if heard is None:
        because = _(
            "In {sweeps} sweeps it did not: V at the start is the same, to 10⁻¹², with a goal of {goal} and one that pays 1 more. The best "
            "way does not go there, or takes so long that next to nothing of the reward arrives."
        ).format(sweeps=len(values) - 1, goal=f"{here.rules.goal:g}".replace("-", "−"))
    else:
        because = _(
            "Measured by running it twice, with a goal that pays 1 more the second time: V at the start first differs in sweep {heard}."
        ).format(heard=heard)
        if heard == steps:
            because += " " + _(
                "A sweep only looks one step ahead, so the news travels one cell a sweep. γ and slip change how much arrives, not when."
            )
        elif heard > steps:
            because += " " + _("One cell a sweep, but the shortest way is not the one worth taking: the news comes by another.")
    reveal(Choice(question.id, question.text, options, right, because), here.key)
    _wave_figure(values, heard)


def heard_of_goal(here: Here) -> tuple[int | None, Floats]:
    """The first sweep in which the value of a start depends on the goal's reward; and the mean value of the starts, sweep by sweep."""
    rules, mdp = here.rules, here.world.mdp
    richer = grid_world(here.rows, slip=rules.slip, step_cost=rules.step_cost, goal_reward=rules.goal + 1, pit_reward=rules.pit).mdp
    first, second = (np.array([f.values for f in dp.value_iteration(one, rules.gamma, settled=0.0)]) for one in (mdp, richer))
    longest = max(len(first), len(second))
    first, second = (np.concatenate([found, np.repeat(found[-1:], longest - len(found), 0)]) for found in (first, second))
    differs = np.abs(first - second)[:, mdp.start > 0].max(1) > RESOLVED
    return int(differs.argmax()) if differs.any() else None, first @ mdp.start


def _attenuation(here: Here, steps: int) -> float:
    """What at least arrives at the start of 1 more at the goal, after so many sweeps, if the best way is the shortest."""
    slip = here.rules.slip
    return here.rules.gamma ** (steps - 1) * max(1 - slip, slip / 2) ** steps


def _wave_figure(values: Floats, heard: int | None) -> None:
    shown = values[: max(12, 3 * (heard or 4))]
    plot = Plot()
    plot.scatter(
        x=np.arange(len(shown)), y=shown, mode="lines+markers", line={"color": theme.on_ground(theme.BLUE, plot.dark)},
        hovertemplate="%{x}: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    if heard is not None:
        plot.upright(heard)
    plot.lay_out(
        height=220, hovermode="closest", xaxis={"title": {"text": _("sweep")}, "tickformat": "d"},
        yaxis={"title": {"text": _("V at the start")}},
    )  # fmt: skip
    live_figure(plot, key=f"{LAB}/wave/figure")


@dataclass(frozen=True)
class Walks:
    """Of the runs on the cliff, for each algorithm: ``edge``: share whose greedy walk passes right beside the pits; ``steps``: of it;
    ``fell``, ``earned``: share of pits and mean return of the last episodes; ``q``, ``walk``: of the first run."""

    edge: dict[str, float]
    steps: dict[str, float]
    fell: dict[str, float]
    earned: dict[str, float]
    q: dict[str, Floats]
    walk: dict[str, list[grid_board.Place]]


def cliff() -> None:
    """Q-learning and SARSA on Sutton and Barto's cliff (example 6.6), its rewards divided by 100."""
    st.markdown(f"##### {_('Experiment: the walk along the cliff')}")
    text = _(
        "Both learn on a cliff of 4 × 12 cells: start and goal are the two ends of the bottom row, and all cells between them are pits. A "
        "step costs 0.01, a fall 1, and both go on exploring with ε = 0.1. Whose best way leads right along the edge?"
    )
    question = Choice("grid/cliff", text, ["Q-learning", "SARSA", _("Both")], 0, "")
    if not guess(question):
        return
    label = _("Run both: {runs} times {episodes} episodes").format(runs=RUNS, episodes=EPISODES)
    if st.button(label, icon=":material/play_arrow:", key=f"{LAB}/cliff/run"):
        bar = st.progress(0.0, _("Walking …"))
        st.session_state[f"{LAB}/cliff"] = walks(lambda share: bar.progress(share, _("Walking …")))
        bar.empty()
    found: Walks | None = st.session_state.get(f"{LAB}/cliff")
    if found is None:
        return
    _draw_walks(found)
    words = _(
        "Q-learning’s way passes right beside the pits in {q_edge} of {runs} runs ({q_steps} steps), SARSA’s in {s_edge} ({s_steps} "
        "steps). Q-learning learns the best policy’s values, as if nobody would ever slip off; while exploring, it falls in {q_fell} of "
        "its last {last} episodes and earns {q_earned}. SARSA’s target holds the action really taken next, exploring included, so the edge "
        "looks as dangerous as it is: it falls in {s_fell} and earns {s_earned}."
    )  # fmt: skip
    values: dict[str, str | int] = {"runs": RUNS, "last": LAST}
    for short, name in (("q", "q_learning"), ("s", "sarsa")):
        values |= {
            f"{short}_edge": round(found.edge[name] * RUNS), f"{short}_steps": f"{found.steps[name]:.3g}",
            f"{short}_fell": number(found.fell[name], "share"), f"{short}_earned": number(found.earned[name]),
        }  # fmt: skip
    reveal(Choice(question.id, question.text, question.options, 0, words.format(**values)))


def walks(progress=lambda share: None) -> Walks:
    """Run the experiment; ``progress`` is told the share that is done."""
    world = grid_world(CLIFF, step_cost=0.01, goal_reward=0.0, pit_reward=-1.0)
    begin, pits = world.state(3, 0), np.array([CLIFF[r][c] == "X" for r, c in world.cells])
    runs: dict[str, list[tuple[td.Learned, list[grid_board.Place]]]] = {name: [] for name in td.ALGORITHMS}
    for run in range(RUNS):
        for name in td.ALGORITHMS:
            learned = td.learn(world.mdp, name, td.beginning(world.mdp), EPISODES, td.Rates(epsilon=0.1, alpha=0.5), 1.0, seed=run)
            runs[name].append((learned, [world.cells[s] for s in td.greedy_walk(world.mdp, learned.q, begin or 0)]))
        progress((run + 1) / RUNS)

    def mean(of) -> dict[str, float]:
        return {name: float(np.mean([of(learned, walk) for learned, walk in found])) for name, found in runs.items()}

    return Walks(
        edge=mean(lambda _learned, walk: any(row == 2 and 1 <= column <= 10 for row, column in walk)),
        steps=mean(lambda _learned, walk: len(walk) - 1),
        fell=mean(lambda learned, _walk: pits[learned.last[-LAST:]].mean()),
        earned=mean(lambda learned, _walk: learned.returns[-LAST:].mean()),
        q={name: found[0][0].q for name, found in runs.items()},
        walk={name: found[0][1] for name, found in runs.items()},
    )


def _draw_walks(found: Walks) -> None:
    rules = Rules(slip=0.0, step_cost=0.01, goal=0.0, pit=-1.0, gamma=1.0)
    here = Here(CLIFF, rules, grid_world(CLIFF, step_cost=0.01, goal_reward=0.0, pit_reward=-1.0), "", (3, 0))
    largest = scale(*found.q.values())
    for (name, title), column in zip(names().items(), st.columns(2, gap="large"), strict=True):
        q = found.q[name]
        with column:
            st.caption(_("**{name}**: its best way in the first run").format(name=title))
            values = value_cells(here, q.max(1), np.zeros_like(q), largest)
            cells = {place: replace(cell, text="") for place, cell in values.items()}
            grid_board.board(f"{LAB}/cliff/{name}", CLIFF, cells, title=title, changed=lambda: None, walk=found.walk[name])
