"""Trust regions, the clip: PPO's objective as a curve over the ratio, with the batch on it after each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import playing, setting, trust_notes, trust_settings
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.labs.trust_settings import LAB, Setup
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import trust_region
from rlhf.labs.mdp import Floats
from rlhf.labs.surrogate import Batch
from rlhf.labs.trust_region import Update


@dataclass(frozen=True)
class Group:
    """The decisions of a batch for the same action in the same state, whose advantages have the same sign: they share their ratio.
    ``advantage``: their mean; ``share``: of the batch's weight; ``count``: how many."""

    cell: int
    advantage: float
    share: float
    count: int

    @property
    def id(self) -> str:
        return f"{self.cell}{'p' if self.advantage > 0 else 'm'}"


def groups(batch: Batch) -> list[Group]:
    """All of a batch but those with advantage 0, the heaviest first."""
    found = []
    for sign in (1, -1):
        rows = batch.advantages * sign > 0
        for cell in np.unique(batch.cells[rows]):
            mine = rows & (batch.cells == cell)
            share = float(batch.weights[mine].sum())
            found.append(Group(int(cell), float(batch.weights[mine] @ batch.advantages[mine]) / share, share, int(mine.sum())))
    return sorted(found, key=lambda group: -group.share * abs(group.advantage))


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        _presets()
        setup = trust_settings.draw(("epsilon", "rate", "epochs", "optimizer", "n"))
    batch = setup.draw(setup.theta, 0)
    made = trust_region.update("ppo_clip", setup.problem, setup.theta, batch, setup.settings)
    path = [setup.problem.logprobs(theta) for theta in made.path]
    with right:
        if guess(_question(batch, path, setup)):  # whether a ratio can leave depends on no setting
            epoch = playing.player(LAB, setup.settings.epochs, "epochs")
        else:
            epoch, path = 0, path[:1]
            st.caption(_("Guess, and the buttons appear that run the epochs."))
        st.caption(_("PPO-clip's epochs on one batch. The further right, the likelier an action has become; grey: no gradient."))
        _curves(setup, batch, path, epoch)
        _state(setup, batch, made, path, epoch)
    trust_notes.draw(setup, ())
    if epoch:
        reveal(_question(batch, path, setup))
    _one(setup, batch, path[epoch])


def _presets() -> None:
    arms = {
        "world": "arms", "exact": False, "n": 20, "epsilon": 0.2, "rate": 1.0, "epochs": 8, "optimizer": "plain",
        "rewards": trust_settings.REWARDS, "logits": trust_settings.LOGITS,
    }  # fmt: skip
    trust_settings.presets(
        {
            "calm": (_("Small steps"), arms),
            "adam": (_("Adam runs on"), {**arms, "optimizer": "adam", "rate": 0.2, "epochs": 12}),
            "far": (_("One large step"), {**arms, "rate": 5.0, "epochs": 2}),
            "grid": (_("Many states"), {**arms, "world": "grid", "rate": 5.0, "epochs": 12}),
        }
    )


def _question(batch: Batch, path: list[Floats], setup: Setup) -> Choice:
    ratios = np.array([batch.ratios(logprobs) for logprobs in path])
    furthest, epsilon = float(ratios.flat[np.argmax(np.abs(ratios - 1))]), setup.settings.epsilon
    because = _(
        "The clip does not hold the ratio, it only takes the gradient away: one step may jump over the edge, Adam's momentum carries on, "
        "and other samples move the same probabilities. Here the furthest ratio of all {epochs} epochs is {furthest}; the edges are {low} "
        "and {high}."
    ).format(
        epochs=len(path) - 1, furthest=number(furthest), low=number(1 - epsilon), high=number(1 + epsilon)
    )  # fmt: skip
    if abs(furthest - 1) <= epsilon:
        because += " " + _("With these settings all stay inside.")
    return Choice(
        "tr/outside",
        _("Can the ratio of a sample leave 1 ± ε during the epochs?"),
        [_("No, the clip holds it inside"), _("Yes, the clip only takes its gradient away there")],
        1,
        because,
    )


def _curves(setup: Setup, batch: Batch, path: list[Floats], epoch: int) -> None:
    far = max(2.0, 1.1 * max(float(batch.ratios(logprobs).max()) for logprobs in path))
    sides = st.columns(2)
    for column, sign, title in zip(sides, (1, -1), (_("A > 0: to be made likelier"), _("A < 0: to be made less likely")), strict=True):
        with column:
            st.markdown(f"**{title}**")
            live_figure(_curve(setup, batch, path[epoch], sign, far), key=f"tr/curve/{sign}")


def _curve(setup: Setup, batch: Batch, logprobs: Floats, sign: int, far: float) -> Plot:
    """min(ρA, clip(ρ)A) / |A| for one sign of A."""
    is_dark, epsilon = theme.dark(), setup.settings.epsilon
    edge, muted = 1 + sign * epsilon, theme.muted(is_dark)
    line = theme.on_ground(theme.GREEN if sign > 0 else theme.VERMILLION, is_dark)
    sloped = [0, edge] if sign > 0 else [edge, far]
    flat = [edge, far] if sign > 0 else [0, edge]
    made = Plot()
    made.band(flat[0], flat[1])
    made.scatter(x=[0, far], y=[0, sign * far], mode="lines", line={"color": muted, "width": 1, "dash": "dot"}, hoverinfo="skip")
    made.scatter(x=sloped, y=[sign * x for x in sloped], mode="lines", line={"color": line, "width": 3}, hoverinfo="skip")
    made.scatter(x=flat, y=[sign * edge] * 2, mode="lines", line={"color": muted, "width": 3}, hoverinfo="skip")
    made.upright(1, dash="dash")
    mine = [group for group in groups(batch) if group.advantage * sign > 0]
    ratios = np.exp((logprobs - batch.old).ravel()[[group.cell for group in mine]]) if mine else np.zeros(0)
    cut = trust_region.is_cut(ratios, np.full(len(mine), float(sign)), epsilon)
    height = [min(r, edge) if sign > 0 else -max(r, edge) for r in ratios]
    named = len(mine) <= 3
    made.scatter(
        x=ratios, y=height, mode="markers+text" if named else "markers", text=[setup.cell(g.cell) for g in mine], textposition="top center",
        customdata=[[setup.cell(g.cell), g.count, g.advantage] for g in mine],
        marker={
            "color": [theme.GREY if c else line for c in cut], "size": [9 + 22 * np.sqrt(g.share) for g in mine], "opacity": 0.85,
            "line": {"width": 1, "color": theme.ink(is_dark)},
        },
        hovertemplate="%{customdata[0]}: %{customdata[1]} ×, A %{customdata[2]:.3f}, ρ %{x:.3f}<extra></extra>",
    )  # fmt: skip
    top = max(1.6, edge + 0.3)
    return made.lay_out(
        height=270, showlegend=False, hovermode="closest",
        xaxis={"title": {"text": "ρ"}, "range": [0, far]},
        yaxis={"title": {"text": _("objective / |A|")}, "range": [-0.1, top] if sign > 0 else [-max(2.0, min(far, 3.0)) - 0.1, 0.1]},
    )  # fmt: skip


def _state(setup: Setup, batch: Batch, made: Update, path: list[Floats], epoch: int) -> None:
    """Where the epochs stand."""
    ratios = batch.ratios(path[epoch])
    with st.container(horizontal=True, gap="medium"):
        words = _("Share of the batch's weight whose ρ has left 1 ± ε on the side to which A pushes.")
        st.metric(_("Without gradient"), number(made.cut[epoch], "share"), width="content", help=words)
        st.metric(
            _("Clipped objective"), number(trust_region.clipped_surrogate(batch, path[epoch], setup.settings.epsilon)), width="content"
        )
        st.metric(_("KL spent"), f"{number(batch.kl(path[epoch]))} nats", width="content")
        st.metric(_("Ratios"), f"{number(float(ratios.min()))} … {number(float(ratios.max()))}", width="content")
    shares = " → ".join(number(share, "share") for share in made.cut[: epoch + 1])
    st.caption(_("Without gradient, before each epoch: {shares}. The first epoch is never cut: ρ = 1.").format(shares=shares))


def _one(setup: Setup, batch: Batch, logprobs: Floats) -> None:
    """One sample's numbers put into the formula."""
    found = groups(batch)
    if not found:
        return
    st.markdown(f"##### {_('One sample in the formula')}")
    labels = {
        group.id: _("{cell}, A = {advantage}, {count} × in the batch").format(
            cell=setup.cell(group.cell), advantage=number(group.advantage, sign=True), count=group.count
        )
        for group in found
    }
    chosen = setting.choice(LAB, "sample", _("Sample"), labels, label_visibility="collapsed")
    group = next(g for g in found if g.id == chosen)
    epsilon, a = setup.settings.epsilon, group.advantage
    new, old = float(np.exp(logprobs.ravel()[group.cell])), float(np.exp(batch.old.ravel()[group.cell]))
    ratio = float(np.exp(logprobs.ravel()[group.cell] - batch.old.ravel()[group.cell]))
    clipped = min(max(ratio, 1 - epsilon), 1 + epsilon)
    cut = bool(trust_region.is_cut(np.array([ratio]), np.array([a]), epsilon)[0])
    value = min(ratio * a, clipped * a)
    slope = rf"0\quad\text{{({_('cut')})}}" if cut else rf"\rho A\,\nabla\log\pi={result(ratio * a)}\,\nabla\log\pi"
    block(
        rf"\rho=\frac{{\pi(a|s)}}{{\pi_\text{{old}}(a|s)}}=\frac{{{tex(new)}}}{{{tex(old)}}}={result(ratio)}",
        rf"\rho A={tex(ratio)}\cdot{tex(a)}={result(ratio * a)}",
        rf"\operatorname{{clip}}(\rho)A={tex(clipped)}\cdot{tex(a)}={result(clipped * a)}",
        rf"\min(\cdot,\cdot)={result(value)}",
        rf"\nabla_\theta\min(\cdot,\cdot)={slope}",
    )
