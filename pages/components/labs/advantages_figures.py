"""The figures of one trajectory: A_t as a stack of its pieces, the simpler estimates beside it, and GAE's weights."""

from __future__ import annotations

import numpy as np

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs.advantages_made import Trajectory
from pages.components.labs.plot import Plot
from pages.components.numbers import number
from rlhf.labs import advantage_estimation as ae

PIECES = (
    theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.SKY, theme.VERMILLION, theme.YELLOW, theme.GREY, "#5D3A9B", "#8C6D31",
)  # fmt: skip


def stack(made: Trajectory, by_delta: bool, t: int) -> Plot:
    """A_t for each t as a stack of its pieces, and the total as a diamond."""
    is_dark, count = theme.dark(), len(made)
    if by_delta:
        pieces = ae.delta_terms(made.deltas, made.gamma, made.lam)
        names = [f"δ{_sub(k)}" for k in range(count)]
    else:
        weights = np.zeros((count, count))
        for row in range(count):
            weights[row, : count - row] = ae.n_step_weights(count - row, made.lam)
        pieces = np.nan_to_num(made.n_step) * weights
        names = [f"n = {n + 1}" for n in range(count)]
    steps, unfaded = list(range(count)), {"marker": {"opacity": 1}}
    plot = Plot()
    for k, name in enumerate(names):
        plot.bar(
            x=steps, y=pieces[:, k], name=name, marker={"color": theme.on_ground(PIECES[k], is_dark)}, unselected=unfaded,
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    edge = {"color": "#11151a" if is_dark else "#fff", "width": 1}
    plot.scatter(
        x=steps, y=made.advantages, name="Aₜ", mode="markers", unselected=unfaded,
        marker={"symbol": "diamond", "size": 10, "color": theme.ink(is_dark), "line": edge}, hovertemplate="A = %{y:.3f}<extra></extra>",
    )  # fmt: skip
    plot.band(t - 0.5, t + 0.5)
    plot.level()
    return plot.lay_out(
        height=330, barmode="relative", bargap=0.35, hovermode="closest", clickmode="event+select",
        xaxis={"title": {"text": "t"}, "dtick": 1, "fixedrange": True}, yaxis={"title": {"text": "Aₜ"}, "fixedrange": True},
        dragmode=False,
    )  # fmt: skip


def _sub(k: int) -> str:
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def estimates(made: Trajectory, n: int, t: int) -> Plot:
    """TD(0), n-step, GAE and Monte-Carlo (or what stands for it in a trajectory that was cut) at each t."""
    is_dark, count = theme.dark(), len(made)
    steps = list(range(count))
    n_step = [float(made.n_step[k, min(n, count - k) - 1]) for k in steps]
    plot = Plot()
    for name, values, colour in (
        ("TD(0)", made.deltas, theme.ORANGE),
        (f"n = {n}", n_step, theme.SKY),
        (f"GAE, λ = {number(made.lam)}", made.advantages, theme.BLUE),
        (_("Monte-Carlo") if made.ended else _("All rewards, then V_T"), ae.monte_carlo(made.deltas, made.gamma), theme.GREEN),
    ):
        plot.bar(
            x=steps,
            y=values,
            name=name,
            marker={"color": theme.on_ground(colour, is_dark)},
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        )
    plot.band(t - 0.5, t + 0.5)
    plot.level()
    return plot.lay_out(
        height=300, barmode="group", bargap=0.25,
        xaxis={"title": {"text": "t"}, "dtick": 1}, yaxis={"title": {"text": "Aₜ"}},
    )  # fmt: skip


def weights(made: Trajectory, t: int) -> Plot:
    """What GAE gives each n from step t on."""
    rest = len(made) - t
    shares = ae.n_step_weights(rest, made.lam)
    plot = Plot()
    colours = [theme.on_ground(theme.SKY, plot.dark)] * (rest - 1) + [theme.on_ground(theme.GREEN, plot.dark)]
    names = [str(n) for n in range(1, rest)] + [f"≥ {rest}"]
    written = {"text": [number(w) for w in shares], "textposition": "outside", "cliponaxis": False} if rest <= 6 else {}
    plot.bar(x=names, y=shares, marker={"color": colours}, hovertemplate="%{y:.3f}<extra></extra>", **written)
    return plot.lay_out(
        height=300, yaxis={"range": [0, 1.12]}, margin={"t": 20},
        xaxis={"title": {"text": _("n, from t = {t}").format(t=t)}, "type": "category"},
    )  # fmt: skip
