"""The world of the policy gradient lab: a bandit with rewards and logits to drag, or a small grid world with a policy of some skill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.drag_bars import drag_bars, set_bars
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.numbers import number
from rlhf.labs import gridworld, mdp, policy_gradient, softmax_policy
from rlhf.labs.mdp import Floats

LAB = "pg"
ARMS = "abcdef"
REWARDS = (2.0, 1.5, 1.0, 0.5, 1.8, 1.2)
LOGITS = (0.0, 0.5, 1.0, 0.0, 0.0, 0.0)
HIGHEST_REWARD, HIGHEST_LOGIT = 3.0, 6.0
MAPS = {
    "detour": ("S..G", ".#.X", "...."),
    "corridor": ("S...G",),
    "cliff": (".....", ".....", "SXXXG"),
    "lake": ("S...", ".X.X", "...X", "X..G"),
    "walled": ("S.#G", "..#.", "..#."),
}


@dataclass(frozen=True)
class World:
    """What the settings say. ``rewards`` (K,) of a bandit, ``grid`` of a grid world; ``actions``: their names; ``discounted``: whether the
    weights have their γ^t."""

    task: policy_gradient.Task
    logits: Floats
    actions: Sequence[str]
    discounted: bool = True
    rewards: Floats | None = None
    grid: gridworld.GridWorld | None = None

    @property
    def policy(self) -> Floats:
        return softmax_policy.softmax(self.logits)

    def state_name(self, state: int) -> str:
        """A cell in words; nothing for the bandit's only state."""
        if self.grid is None:
            return ""
        row, column = self.grid.cells[state]
        return _("row {row}, column {column}").format(row=row + 1, column=column + 1)

    def logit_name(self, state: int, action: int) -> str:
        """In LaTeX."""
        if self.grid is None:
            return rf"\theta_{{{self.actions[action]}}}"
        row, column = self.grid.cells[state]
        return rf"\theta_{{({row + 1},{column + 1}),{_LATEX_ARROWS[self.actions[action]]}}}"


_LATEX_ARROWS = {"←": r"\leftarrow", "↓": r"\downarrow", "→": r"\rightarrow", "↑": r"\uparrow"}


def choose() -> World:
    """The settings, and what is wrong with them in words."""
    kind = setting.choice(LAB, "world", _("World"), {"bandit": _("Bandit: one choice, then it ends"), "grid": _("Grid world: many steps")})
    world = _bandit() if kind == "bandit" else _grid()
    _explain(world)
    return world


def _bandit() -> World:
    presets, bars = st.container(horizontal=True, gap="small"), st.container()
    with st.expander(_("More about the world"), icon=":material/tune:"):
        arms = setting.whole(LAB, "arms", _("Arms"), 2, len(ARMS), 4)
        noise = setting.slider(LAB, "noise", _("Noise of a reward (standard deviation)"), 0, 3, 0.3, 0.1)
    for name, words, rewards, logits in _presets(arms):
        presets.button(words, key=f"{LAB}/preset/{name}", on_click=_set, args=(rewards, logits))
    with bars:
        rewards = np.array(_bars("rewards", _("Mean reward of each arm: drag"), REWARDS[:arms], HIGHEST_REWARD, theme.BLUE))
        logits = np.array(_bars("logits", _("Logits θ of the policy: drag"), LOGITS[:arms], HIGHEST_LOGIT, theme.GREEN))
    task = policy_gradient.Task(softmax_policy.bandit(rewards), 1.0, 1, noise)
    world = World(task, np.stack([logits, np.zeros(arms)]), list(ARMS[:arms]), rewards=rewards)
    shares = " · ".join(f"{label} {number(float(p), 'share')}" for label, p in zip(world.actions, world.policy[0], strict=True))
    mean = number(float(world.policy[0] @ rewards))
    st.caption(_("π = softmax(θ): {shares}. Expected reward J = {mean}.").format(shares=shares, mean=mean))
    return world


def _bars(name: str, title: str, default: Sequence[float], highest: float, colour: str) -> list[float]:
    labels = list(ARMS[: len(default)])
    return drag_bars(LAB, name, title, labels, default, low=-highest, high=highest, step=0.1, height=150, colours=colour)


def _presets(arms: int) -> list[tuple[str, str, Sequence[float], Sequence[float]]]:
    worst = [-5.0] * (arms - 1) + [5.0]
    return [
        ("start", _("Start"), REWARDS[:arms], LOGITS[:arms]),
        ("centred", _("Around 0"), [round(r - 1.2, 1) for r in REWARDS[:arms]], LOGITS[:arms]),
        ("equal", _("All alike"), [1.0] * arms, LOGITS[:arms]),
        ("sure", _("Sure, and wrong"), [*REWARDS[: arms - 1], 0.5], worst),
    ]


def _set(rewards: Sequence[float], logits: Sequence[float]) -> None:
    set_bars(LAB, "rewards", rewards)
    set_bars(LAB, "logits", logits)


def _grid() -> World:
    names = {
        "detour": _("Past a pit"), "corridor": _("Corridor"), "cliff": _("Cliff"), "lake": _("Lake with holes"),
        "walled": _("Goal walled in"),
    }  # fmt: skip
    rows = MAPS[setting.choice(LAB, "map", _("Map"), names)]
    skill = setting.slider(
        LAB, "skill", _("How good the policy is already"), 0, 10, 0, 0.25,
        help=_("The logits are this many times the advantage of the best policy: 0 is a random walk, 10 nearly always the best action."),
    )  # fmt: skip
    gamma = setting.slider(LAB, "gamma", _("Discount γ"), 0.5, 1, 0.95, 0.01)
    with st.expander(_("More about the world"), icon=":material/tune:"):
        slip = setting.slider(LAB, "slip", _("Slip"), 0, 0.6, 0.1, 0.05, help=_("The probability of going off to the side."))
        horizon = setting.whole(LAB, "horizon", _("Cut after T actions"), 2, 100, 40, help=_("J is the return of the first T actions."))
        noise = setting.slider(LAB, "step-noise", _("Noise of a reward (standard deviation)"), 0, 1, 0, 0.05)
        plain = setting.toggle(
            LAB, "plain", _("Leave out γ^t, as most code does"),
            help=_("Late actions then count as much as early ones. It is a biased estimate of ∇J for γ < 1, except with the whole return."),
        )  # fmt: skip
    grid = gridworld.grid_world(rows, slip=slip)
    task = policy_gradient.Task(grid.mdp, gamma, horizon, noise)
    world = World(task, _logits(task, skill), gridworld.ARROWS, not plain, grid=grid)
    live_figure(_map(world), key=f"{LAB}/map-figure")
    j, best = float(policy_gradient.returns(task, world.policy[None])[0]), policy_gradient.optimum(task)[0]
    words = _("Start: blue. Every step costs 0.04, the goal pays 1, a pit −1. Expected return J = {j}, at best {best}.")
    st.caption(words.format(j=number(j), best=number(best)))
    return world


def _logits(task: policy_gradient.Task, skill: float) -> Floats:
    ahead = policy_gradient.optimum(task)[1]
    advantages = ahead - ahead.max(1, keepdims=True)
    size = float(np.abs(advantages[~task.mdp.terminal]).mean())
    return skill * advantages / size if size > 1e-9 else np.zeros_like(advantages)


def _map(world: World) -> Plot:
    """The cells, with the likeliest action in each: the surer, the darker."""
    assert world.grid is not None
    is_dark = theme.dark()
    rows, policy = world.grid.rows, world.policy
    tints = {"G": theme.GREEN, "X": theme.VERMILLION, "#": theme.muted(is_dark), "S": theme.BLUE}
    figure = Plot()
    for r, row in enumerate(rows):
        for c, kind in enumerate(row):
            fill = theme.rgba(tints[kind], 0.75 if kind == "#" else 0.3) if kind in tints else theme.rgba(theme.muted(is_dark), 0.08)
            figure.box(c, r, 0.94, fill, layer="below")
    for s, (r, c) in enumerate(world.grid.cells):
        if world.task.mdp.terminal[s]:
            text, shade = {"G": _("goal"), "X": _("pit")}[rows[r][c]], theme.ink(is_dark)
        else:
            even = policy[s].max() < 0.251
            text, shade = (
                "·" if even else gridworld.ARROWS[int(policy[s].argmax())],
                theme.rgba(theme.ink(is_dark), 0.3 + 0.7 * policy[s].max()),
            )
        hover = "<br>".join(f"{a} {number(float(p), 'share')}" for a, p in zip(gridworld.ARROWS, policy[s], strict=True))
        size = 12 if world.task.mdp.terminal[s] else 20
        figure.scatter(
            x=[c],
            y=[r],
            mode="text",
            text=[text],
            textfont={"color": shade, "size": size},
            hovertext=[hover],
            hoverinfo="text",
            showlegend=False,
        )
    return figure.lay_out(
        height=20 + 56 * len(rows), margin={"l": 0, "r": 0, "t": 4, "b": 4},
        xaxis={"visible": False, "range": [-0.5, len(rows[0]) - 0.5], "constrain": "domain", "fixedrange": True},
        yaxis={"visible": False, "range": [len(rows) - 0.5, -0.5], "scaleanchor": "x", "constrain": "domain", "fixedrange": True},
    )  # fmt: skip


def _explain(world: World) -> None:
    """Why there is no gradient, or an odd one, with these settings."""
    size = float(np.linalg.norm(policy_gradient.gradient(world.task, world.policy)))
    if world.rewards is not None:
        if np.ptp(world.rewards) < 1e-9:
            st.info(
                _(
                    "Every arm pays the same, so no policy is better than another: the gradient is exactly 0. Estimates still scatter "
                    "around 0, unless the right baseline takes all of that away."
                ),
                icon=":material/info:",
            )
        elif world.policy[0].max() > 0.99:
            st.info(
                _(
                    "The policy is all but sure ({share}): the score of what it does is nearly 0, and the rest it hardly ever tries. The "
                    "gradient is {size}, however wrong the policy is: learning from here takes very long."
                ).format(share=number(float(world.policy[0].max()), "share"), size=number(size)),
                icon=":material/info:",
            )
        return
    start, cut = world.task.mdp.start > 0, policy_gradient.share_cut(world.task, world.policy)
    j = number(float(policy_gradient.returns(world.task, world.policy[None])[0]))
    if not mdp.ends(world.task.mdp, world.policy)[start].all():
        words = _(
            "No way leads to an end from the start: every episode is cut after T = {horizon} actions, and all ways are worth the same, "
            "{j}. The gradient is 0; whatever is learned is noise."
        ).format(horizon=world.task.horizon, j=j)
        if world.task.gamma >= 1:
            words += " " + _("Without the cut, γ = 1 would make the return a sum without end, and no J would exist.")
        st.info(words, icon=":material/info:")
        return
    if policy_gradient.share_cut(world.task, mdp.uniform_policy(world.task.mdp)) > 1 - 1e-12:
        words = _(
            "No end lies within T = {horizon} actions of the start: every episode is cut, and all ways are worth the same, {j}. The "
            "gradient is 0; whatever is learned is noise."
        )
        st.info(words.format(horizon=world.task.horizon, j=j), icon=":material/info:")
        return
    if size < 1e-3:
        if _sureness(world) > 0.99:
            words = _("The policy hardly ever does anything but its favourite action. The gradient is as good as 0 ({size}).")
        else:
            words = _("The gradient is as good as 0 ({size}): a small change of this policy changes J hardly at all.")
        st.info(words.format(size=number(size)), icon=":material/info:")
    if cut > 0.3:
        st.info(
            _("{share} of the episodes are cut before they reach an end. They count as they are: J is the return of the first "
              "{horizon} actions.").format(share=number(cut, "share"), horizon=world.task.horizon),
            icon=":material/info:",
        )  # fmt: skip


def _sureness(world: World) -> float:
    """The probability of the favourite action, on average over the steps of an episode."""
    steps = policy_gradient.visits(world.task, world.policy, discounted=False).sum(0)
    return float(steps @ world.policy.max(1) / steps.sum())
