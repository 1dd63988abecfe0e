"""Trust regions: the world, the batch and the settings of the five methods, as widgets and as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.drag_bars import drag_bars, set_bars
from pages.components.numbers import number
from rlhf.labs import surrogate, trust_region
from rlhf.labs.gridworld import ARROWS, GridWorld, grid_world
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import bandit
from rlhf.labs.surrogate import Batch, Problem

LAB = "tr"
MAP = ("S..G", ".#.X", "....")
REWARDS, LOGITS = (1.0, 0.5, -0.2), (-1.5, 0.5, 1.0)
ARMS = ("a", "b", "c")
COLOURS = {
    "plain": theme.ALGORITHM_COLOURS["reinforce"], "natural": theme.GREEN, "trpo": theme.BLUE,
    "ppo_clip": theme.ALGORITHM_COLOURS["ppo"], "ppo_kl": theme.VERMILLION,
}  # fmt: skip
SYMBOLS = {"plain": "square", "natural": "diamond-open", "trpo": "circle", "ppo_clip": "triangle-up", "ppo_kl": "triangle-down"}


def names() -> dict[str, str]:
    """What the methods are called."""
    return {
        "plain": _("Plain gradient"), "natural": _("Natural gradient"), "trpo": "TRPO", "ppo_clip": "PPO-clip", "ppo_kl": _("PPO-penalty"),
    }  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """``world``: arms, corridor or grid; ``n``: decisions (arms) or episodes of a batch, None for the exact expectation;
    ``rewards``: of the arms, else empty; ``grid``: of the grid world; ``key``: all that the updates depend on."""

    world: str
    problem: Problem
    theta: Floats
    settings: trust_region.Settings
    n: int | None
    seed: int
    key: tuple
    rewards: tuple[float, ...] = ()
    grid: GridWorld | None = None

    def draw(self, theta: Floats, i: int) -> Batch:
        """The batch of update i of the policy θ."""
        if self.n is None:
            return surrogate.exact_batch(self.problem, theta)
        return surrogate.sampled_batch(self.problem, theta, self.n, np.random.default_rng([self.seed, i]))

    def policy(self, theta: Floats | None = None) -> Floats:
        """π, (S, A)."""
        return np.exp(self.problem.logprobs(self.theta if theta is None else theta))

    def cell(self, cell: int) -> str:
        """What a state and action (s·A + a) is called."""
        state, action = divmod(cell, self.problem.mdp.actions)
        if self.world == "arms":
            return ARMS[action]
        if self.grid is None:
            return _("cell {number} {arrow}").format(number=state + 1, arrow="←→"[action])
        row, column = self.grid.cells[state]
        return _("row {row}, column {column} {arrow}").format(row=row + 1, column=column + 1, arrow=ARROWS[action])


def draw(first: tuple[str, ...]) -> Setup:
    """All settings; those of the methods that are named in ``first`` in view, the others folded away."""
    world = setting.choice(
        LAB, "world", _("World"),
        {"arms": _("Three arms"), "grid": _("Grid world"), "corridor": _("Short corridor: one policy for all cells")},
    )  # fmt: skip
    rewards, logits = _arms() if world == "arms" else (REWARDS, LOGITS)
    lean = 0.0 if world == "arms" else _lean(world)
    values = {name: _knob(name, world) for name in first}
    with st.expander(_("More settings"), icon=":material/tune:"):
        values |= {name: _knob(name, world) for name in KNOBS if name not in first}
        stretch = _stretch() if world == "arms" else 1.0
        slip = _slip() if world == "grid" else 0.0
    settings = trust_region.Settings(
        step=float(values["step"]), delta=float(values["delta"]),
        natural_step=None if values["natural_by"] == "limit" else float(values["natural_step"]),
        products=int(values["products"]), epsilon=float(values["epsilon"]), rate=float(values["rate"]), epochs=int(values["epochs"]),
        adam=values["optimizer"] == "adam", beta=float(values["beta"]),
    )  # fmt: skip
    n, seed = None if values["exact"] else int(values["n"]), int(values["seed"])
    key = (world, rewards, logits, lean, stretch, slip, settings, n, seed)
    if world == "arms":
        problem = surrogate.table(bandit(rewards), 1.0, (stretch, 1.0, 1.0))
        theta = np.array([logits[0] / stretch, *logits[1:], 0.0, 0.0, 0.0])
        return Setup(world, problem, theta, settings, n, seed, key, rewards=rewards)
    if world == "corridor":
        return Setup(world, surrogate.shared(surrogate.corridor(), 0.98), np.array([0.0, lean]), settings, n, seed, key)
    grid = grid_world(MAP, slip=slip)
    theta = np.zeros((grid.mdp.states, grid.mdp.actions))
    theta[:, ARROWS.index("→")] = lean
    return Setup(world, surrogate.table(grid.mdp, 0.95), theta.ravel(), settings, n, seed, key, grid=grid)


def _arms() -> tuple[tuple[float, ...], tuple[float, ...]]:
    left, right = st.columns(2)
    with left:
        rewards = drag_bars(LAB, "rewards", _("Rewards (drag)"), ARMS, REWARDS, low=-1, high=1, height=150)
    with right:
        logits = drag_bars(
            LAB, "logits", _("Old policy: logits (drag)"), ARMS, LOGITS, low=-6, high=6, step=0.1, colours=theme.GREY, height=150
        )
    weights = np.exp(np.array(logits) - max(logits))
    shares = ", ".join(f"π({arm}) = {number(share)}" for arm, share in zip(ARMS, weights / weights.sum(), strict=True))
    st.caption(_("The old policy: {shares}").format(shares=shares))
    return tuple(rewards), tuple(logits)


def _lean(world: str) -> float:
    label = _("Old policy: logit of → against the other actions")
    return setting.slider(LAB, f"lean_{world}", label, -6, 6, -1.2 if world == "corridor" else 0.0, 0.1)


def _stretch() -> float:
    help_text = _("The logit of a is this many times its parameter. The same policies, written differently: whose step changes?")
    return setting.slider(LAB, "stretch", _("Stretch the parameter of a"), 0.25, 4, 1, 0.25, help=help_text)


def _slip() -> float:
    return setting.slider(LAB, "slip", _("Slip of the floor"), 0, 0.6, 0.1, 0.05)


KNOBS = (
    "n", "exact", "step", "delta", "epsilon", "rate", "epochs", "seed", "optimizer", "beta", "products", "natural_by", "natural_step",
)  # fmt: skip


def _knob(name: str, world: str) -> float | str:
    """One setting of the batch or of a method."""
    if name == "n":
        label = _("Batch size n") if world == "arms" else _("Batch size n, in episodes")
        return setting.whole(LAB, "n", label, 1, 200, 20, disabled=_exact())
    if name == "exact":
        return setting.toggle(LAB, "exact", _("n = ∞: the exact expectation"))
    if name == "seed":
        return setting.seed(LAB, disabled=_exact())
    if name == "step":
        return setting.slider(LAB, "step", _("Plain: step size α"), 0, 50, 4, 0.5)
    if name == "delta":
        help_text = _("Of the natural gradient and TRPO, in nats; PPO-penalty has it as target distance.")
        return setting.slider(LAB, "delta", _("KL limit δ"), 0, 0.5, 0.05, 0.005, format="%.3f", help=help_text)
    if name == "epsilon":
        return setting.slider(LAB, "epsilon", _("PPO-clip: ε"), 0.02, 0.5, 0.2, 0.01)
    if name == "rate":
        return setting.slider(LAB, "rate", _("PPO: learning rate of an epoch"), 0.05, 5, 1, 0.05)
    if name == "epochs":
        return setting.whole(LAB, "epochs", _("PPO: epochs K"), 1, 20, 8)
    if name == "optimizer":
        return setting.choice(LAB, "optimizer", _("PPO: optimizer"), {"plain": _("Plain gradient"), "adam": "Adam"})
    if name == "beta":
        return setting.slider(LAB, "beta", _("PPO-penalty: first β"), 0, 10, 1, 0.1)
    if name == "products":
        return setting.whole(LAB, "products", _("TRPO: products of conjugate gradient, at most"), 1, 20, 10)
    if name == "natural_by":
        by = {"limit": _("the KL limit δ"), "step": _("a step size")}
        return setting.choice(LAB, "natural_by", _("Natural gradient: length of the step from"), by)
    chosen = st.session_state.get(f"{setting.key(LAB, 'natural_by')}/chosen") == "step"
    return setting.slider(LAB, "natural_step", _("Natural gradient: step size"), 0, 5, 1, 0.05, disabled=not chosen)


def _exact() -> bool:
    """Whether the expectation is exact, before or after its switch is drawn."""
    key = setting.key(LAB, "exact")
    return bool(st.session_state.get(key, st.query_params.get(key) == "true"))


def presets(offered: Mapping[str, tuple[str, Mapping[str, object]]], asked: str = "") -> None:
    """Buttons that move several settings at once: id → (words, {setting: value}). ``asked``: a question to be answered anew then."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(_("Try:"), width="content")
        for name, (words, values) in offered.items():
            st.button(words, key=f"{LAB}/preset/{name}", on_click=_take, args=(values, asked))


def _take(values: Mapping[str, object], asked: str) -> None:
    if asked:
        st.session_state[f"question/{asked}"] = None  # said aloud, or the browser keeps its mark
    for name, value in values.items():
        key = setting.key(LAB, name)
        if name in ("rewards", "logits") and isinstance(value, tuple):
            set_bars(LAB, name, value)
        elif name in ("world", "optimizer", "natural_by"):
            st.session_state[f"{key}/chosen"] = value
        else:
            st.session_state[key] = value
