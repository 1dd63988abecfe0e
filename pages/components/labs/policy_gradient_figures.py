"""The figures of the cloud: the estimates, their variances, the exact variance by the baseline on a bandit, and a critic's mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import policy_gradient_estimators as estimators
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.policy_gradient_estimators import Batch
from pages.components.labs.policy_gradient_world import LAB, World
from pages.components.numbers import number
from rlhf.labs import gradient_estimators, policy_gradient
from rlhf.labs.mdp import Floats


def scatter(world: World, found: gradient_estimators.Cloud, shown: Sequence[str]) -> Plot:
    is_dark = theme.dark()
    axes, titles = _axes(world, found)
    figure = Plot()
    listed = estimators.names()
    for name in dict.fromkeys(shown):
        colour = theme.on_ground(estimators.COLOURS[name], is_dark)
        flat = found.estimates[name].reshape(len(found.estimates[name]), -1) @ axes.T
        figure.scatter(
            x=flat[:, 0], y=flat[:, 1], mode="markers", name=listed[name], marker={"color": colour, "size": 5, "opacity": 0.45},
            hovertemplate="%{x:.3g}, %{y:.3g}<extra></extra>",
        )  # fmt: skip
    ground = "#11151a" if is_dark else "#ffffff"
    for name in dict.fromkeys(shown):
        middle = axes @ found.measured[name].mean.ravel()
        marker = {
            "color": theme.on_ground(estimators.COLOURS[name], is_dark),
            "size": 13,
            "symbol": "diamond",
            "line": {"width": 2, "color": ground},
        }
        figure.scatter(
            x=middle[:1], y=middle[1:], mode="markers", marker=marker, showlegend=False, hovertemplate=listed[name] + "<extra></extra>"
        )
    exact = axes @ found.exact.ravel()
    cross = {"color": theme.ink(is_dark), "size": 17, "symbol": "cross-thin", "line": {"width": 2.5, "color": theme.ink(is_dark)}}
    figure.scatter(x=exact[:1], y=exact[1:], mode="markers", name=_("exact gradient"), marker=cross, hovertemplate="%{x:.3g}, %{y:.3g}")
    return figure.lay_out(
        height=430, xaxis={"title": {"text": titles[0]}}, yaxis={"title": {"text": titles[1]}},
        hovermode="closest", legend={"itemsizing": "constant"}, uirevision="cloud",
    )  # fmt: skip


def _axes(world: World, found: gradient_estimators.Cloud) -> tuple[Floats, tuple[str, str]]:
    """Two directions among the logits (2, S·A) and what they are called."""
    if world.rewards is None:
        return gradient_estimators.plane(found), (_("along the exact gradient"), _("across it, where the noise is largest"))
    largest = sorted(np.argsort(-np.abs(found.exact[0]), kind="stable")[:2])
    axes = np.eye(found.exact.size)[largest]
    first, second = (f"∂J/∂θ<sub>{world.actions[i]}</sub>" for i in largest)
    return axes, (first, second)


def closed_forms(world: World, batch: Batch, critic: Floats) -> dict[str, float]:
    """The exact variance of each estimator on a bandit."""
    assert world.rewards is not None
    policy, rewards, noise = world.policy[0], world.rewards, world.task.noise
    subtracted = {"return": 0.0, "to_go": 0.0, "constant": batch.constant, "advantage": float(policy @ rewards), "critic": float(critic[0])}
    found = {name: policy_gradient.bandit_variance(policy, rewards, noise, batch.n, b) for name, b in subtracted.items()}
    return {**found, "mean": policy_gradient.bandit_mean_variance(policy, rewards, noise, batch.n)}


def bars(world: World, batch: Batch, found: gradient_estimators.Cloud) -> Plot:
    is_dark = theme.dark()
    listed = estimators.names()
    order = list(listed)[::-1]
    measured = [found.measured[name] for name in order]
    figure = Plot()
    figure.scatter(
        x=[m.variance for m in measured], y=[listed[name] for name in order], mode="markers", name=_("measured"),
        error_x={"array": [2 * m.variance_error for m in measured], "color": theme.muted(is_dark), "thickness": 1.5, "width": 4},
        marker={"size": 12, "color": [theme.on_ground(estimators.COLOURS[name], is_dark) for name in order]},
        hovertemplate="%{x:.4g}<extra></extra>",
    )  # fmt: skip
    if world.rewards is not None:
        closed = closed_forms(world, batch, found.critic)
        mark = {"symbol": "line-ns", "size": 20, "line": {"width": 2, "color": theme.ink(is_dark)}}
        figure.scatter(
            x=[closed[name] for name in order], y=[listed[name] for name in order], mode="markers", marker=mark, name=_("exactly"),
            hovertemplate="%{x:.4g}<extra></extra>",
        )  # fmt: skip
    positive = all(m.variance > 1e-12 for m in measured)
    return figure.lay_out(
        height=290, showlegend=world.rewards is not None,
        xaxis={
            "type": "log" if positive else "linear", **_ticks(measured),
            "title": {"text": _("variance of one batch ± 2 standard errors")},
        },
    )  # fmt: skip


def _ticks(measured: Sequence[gradient_estimators.Measured]) -> dict[str, list[Any]]:
    """1, 2 and 5 of every power of ten, written out."""
    low, high = (pick(m.variance for m in measured) for pick in (min, max))
    if low <= 1e-12:
        return {}
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    places = [m * 10.0**p for p in powers for m in ((1, 2, 5) if high < 100 * low else (1,))]
    return {"tickvals": places, "ticktext": [f"{place:g}" for place in places]}


def against_baseline(world: World, batch: Batch) -> None:
    """On a bandit: the exact variance by the constant that is subtracted."""
    assert world.rewards is not None
    is_dark = theme.dark()
    policy, rewards, noise = world.policy[0], world.rewards, world.task.noise
    j, best = float(policy @ rewards), policy_gradient.best_baseline(policy, rewards)
    reach = max(1.0, 1.3 * max(abs(batch.constant), abs(j), abs(best)))
    x = np.linspace(-reach, reach, 101)

    def variance(b: float) -> float:
        return policy_gradient.bandit_variance(policy, rewards, noise, batch.n, b)

    st.markdown(f"**{_('Exact variance, by the baseline b')}**")
    figure = Plot()
    line = theme.on_ground(estimators.COLOURS["constant"], is_dark)
    figure.scatter(
        x=x,
        y=[variance(b) for b in x],
        mode="lines",
        line={"color": line, "width": 2},
        showlegend=False,
        hovertemplate="b = %{x:.2f}: %{y:.3g}<extra></extra>",
    )
    for b, name, symbol, colour in (
        (0.0, _("none"), "circle", theme.ORANGE), (j, "J", "square", theme.BLUE), (best, "b*", "star", theme.GREEN),
        (batch.constant, _("chosen"), "circle-open", theme.PURPLE),
    ):  # fmt: skip
        marker = {
            "size": 15 if symbol == "circle-open" else 10,
            "symbol": symbol,
            "color": theme.on_ground(colour, is_dark),
            "line": {"width": 2},
        }
        figure.scatter(x=[b], y=[variance(b)], mode="markers", name=name, marker=marker, hovertemplate=f"{name}: %{{y:.3g}}<extra></extra>")
    figure.lay_out(
        height=290,
        xaxis={"title": {"text": "b"}},
        yaxis={"title": {"text": _("variance")}, "rangemode": "tozero"},
    )
    live_figure(figure, key=f"{LAB}/parabola")
    st.caption(
        _(
            "b* = Σ π‖∇log π‖² r / Σ π‖∇log π‖² = {best} has the least variance. The usual choice, b = J = {j}, has {times} times as much."
        ).format(best=number(best), j=number(j), times=number(variance(j) / variance(best)) if variance(best) > 0 else "–")
    )


def critic(world: World, found: gradient_estimators.Cloud) -> None:
    """What the critic believes, cell by cell, against the exact values."""
    is_dark = theme.dark()
    live = np.flatnonzero(policy_gradient.visits(world.task, world.policy).sum(0) > 1e-9)
    exact = policy_gradient.values(world.task, world.policy[None])[0, 0]
    low, high = float(min(exact[live].min(), found.critic[live].min())), float(max(exact[live].max(), found.critic[live].max()))
    st.markdown(f"**{_('What the critic has learned')}**")
    figure = Plot()
    figure.scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": theme.muted(is_dark), "dash": "dot", "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.scatter(
        x=exact[live], y=found.critic[live], mode="markers", showlegend=False,
        marker={"color": theme.on_ground(theme.GREEN, is_dark), "size": 9},
        text=[world.state_name(int(s)) for s in live],
        hovertemplate="%{text}: V = %{x:.3f}, V̂ = %{y:.3f}<extra></extra>",
    )  # fmt: skip
    figure.lay_out(
        height=290,
        xaxis={"title": {"text": _("exact V of a cell")}},
        yaxis={"title": {"text": _("learned V̂")}},
    )
    live_figure(figure, key=f"{LAB}/critic-figure")
    st.caption(
        _(
            "A dot for each cell that is ever entered; on the line the critic is right. Let it learn from more batches, and the bias of "
            "its estimate goes down."
        )
    )
