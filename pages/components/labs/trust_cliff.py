"""Trust regions, the cliff: J along the plain and the natural direction, and how far the limit lets one go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from pages.components import theme
from pages.components.i18n import _
from pages.components.labs import trust_notes, trust_settings
from pages.components.labs.live_figure import live_figure
from pages.components.labs.plot import Plot
from pages.components.labs.question import Choice, guess, reveal
from pages.components.labs.trust_settings import COLOURS, SYMBOLS, Setup, names
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import trust_region
from rlhf.labs.mdp import Floats
from rlhf.labs.surrogate import Batch

POINTS = 70
SAME = 1e-12  # returns that differ by less are equal


@dataclass(frozen=True)
class Line:
    """A direction of length 1 in θ; ``limit``: the length at which the batch's mean KL is δ; ``taken``: that of the method's own step."""

    method: str
    direction: Floats
    limit: float
    taken: float


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        _presets()
        setup = trust_settings.draw(("step", "delta", "exact", "n"))
    batch = setup.draw(setup.theta, 0)
    lines = along(setup, batch)
    if len(lines) < 2:
        trust_notes.draw(setup, ())
        with right:
            st.info(_("The gradient is 0 here: there is no direction to go along. Change a reward, the old policy, or the seed."))
        return
    measured = _measure(setup, batch)
    with right:
        question = _question(setup, measured)
        guessed = guess(question, setup.key)
        if guessed:
            live_figure(_figure(setup, batch, lines), key="tr/along")
            st.caption(
                _(
                    "J along each direction (solid), and what the batch's surrogate promises (dotted). Diamond: KL = δ. Square: the plain "
                    "step with α = {step}. Lengths on a log scale."
                ).format(step=number(setup.settings.step))
            )
            reveal(question, setup.key)
        else:
            st.caption(_("Guess first: then J is drawn along the gradient."))
    trust_notes.draw(setup, ())
    if not guessed:
        return
    _numbers(setup, batch, lines, measured)
    with st.expander(_("Where do cliffs come from?"), icon=":material/landscape:"):
        st.markdown(
            _(
                "With the exact expectation and one logit for each state and action there are none: along the gradient a state's policy is "
                "∝ π·e^(c·π·A), under which the mean of A is never below 0. Every length wins then, and too long a step ends on a plateau "
                "at worst (try the arms with n = ∞).  \n"
                "A cliff needs one of two things, and a language model has both: **parameters that states share**, so that a step that is "
                "right on average is wrong somewhere (the corridor), or **a batch that tells too little** (one episode on the grid)."
            )
        )


def along(setup: Setup, batch: Batch) -> list[Line]:
    """The plain and the natural direction; none where the gradient is 0."""
    problem, settings = setup.problem, setup.settings
    gradient, natural = batch.gradient(problem), trust_region.natural_direction(problem, batch)
    by_limit = trust_region.scale_to(settings.delta, natural, batch.fisher_product(problem, natural))
    scales = {"plain": settings.step, "natural": by_limit if settings.natural_step is None else settings.natural_step}
    lines = []
    for method, direction in (("plain", gradient), ("natural", natural)):
        length = float(np.linalg.norm(direction))
        if length < 1e-12:
            continue
        unit = direction / length
        limit = trust_region.reach(problem, setup.theta, unit, batch.state_weights, settings.delta)
        lines.append(Line(method, unit, limit, scales[method] * length))
    return lines


def _measure(setup: Setup, batch: Batch) -> dict[str, trust_region.Update]:
    return {m: trust_region.update(m, setup.problem, setup.theta, batch, setup.settings) for m in ("plain", "natural", "trpo")}


def _presets() -> None:
    arms = {"world": "arms", "exact": True, "step": 4.0, "delta": 0.05, "rewards": trust_settings.REWARDS, "logits": (-2.0, -2.0, 4.0)}
    corridor = {"world": "corridor", "exact": True, "step": 8.0, "delta": 0.05, "lean_corridor": -1.2}
    grid = {"world": "grid", "exact": False, "n": 1, "seed": 13, "step": 50.0, "delta": 0.05, "lean_grid": 1.0, "slip": 0.1}
    offered = {"cliff": (_("A cliff"), corridor), "plateau": (_("A plateau"), arms), "one": (_("One episode"), grid)}
    trust_settings.presets(offered, asked="tr/cliff")


def _question(setup: Setup, measured: dict[str, trust_region.Update]) -> Choice:
    plain, trpo = measured["plain"], measured["trpo"]
    if abs(plain.won) <= SAME:
        right = 3
    elif plain.won < 0:
        right = 2
    else:
        right = 0 if plain.won > trpo.won + SAME else 1
    return Choice(
        "tr/cliff",
        _("What will the plain step with α = {step} do, beside TRPO's with δ = {delta}?").format(
            step=number(setup.settings.step), delta=number(setup.settings.delta)
        ),
        [
            _("It wins more than TRPO"), _("It wins something, but not more than TRPO"), _("It loses: J ends below where it began"),
            _("It neither wins nor loses: J stays where it is"),
        ],
        right,
        _because(setup, plain, trpo),
    )  # fmt: skip


def _because(setup: Setup, plain: trust_region.Update, trpo: trust_region.Update) -> str:
    """What the plain step won, what it was promised, and what its distance has to do with it."""
    delta = setup.settings.delta
    words = _(
        "The plain step takes J from {before} to {plain} and spends {plain_kl} nats; TRPO, held to {delta}, goes to {trpo}. "
        "The surrogate promised the plain step {promised}; it won {won}."
    ).format(
        before=number(plain.before), plain=number(plain.after), plain_kl=number(plain.kl), delta=number(delta), trpo=number(trpo.after),
        promised=number(plain.promised, sign=True), won=number(plain.won, sign=True),
    )  # fmt: skip
    if plain.kl > delta and plain.promised > 0 and plain.won < plain.promised / 2:
        words += " " + _("That far from the old policy, its promise was worth little.")
    elif max(plain.kl, plain.batch_kl) < delta and plain.won < trpo.won - SAME:
        words += " " + _("A gradient says nothing of the right length of a step: within δ this one could be longer.")
    return words


def _figure(setup: Setup, batch: Batch, lines: list[Line]) -> Plot:
    is_dark, problem = theme.dark(), setup.problem
    marks = [x for line in lines for x in (line.limit, line.taken) if 0 < x < np.inf]
    low, high = min(marks, default=1.0) / 8, max(marks, default=1.0) * 4
    high = max(high, 20.0)
    lengths = np.geomspace(low, high, POINTS)
    start = problem.expected_return(setup.theta)
    made = Plot()
    returns: list[float] = [start]
    for line in lines:
        colour, name = theme.on_ground(COLOURS[line.method], is_dark), names()[line.method]
        thetas = [setup.theta + length * line.direction for length in lengths]
        exact = [problem.expected_return(theta) for theta in thetas]
        promised = [start + batch.steps * batch.surrogate(problem.logprobs(theta)) for theta in thetas]
        returns += exact
        wide = 2 if line.method == "plain" else 4
        made.scatter(
            x=lengths, y=exact, mode="lines", name=name, line={"color": colour, "width": wide}, opacity=1 if wide == 2 else 0.6,
            hovertemplate="J %{y:.3f}",
        )  # fmt: skip
        made.scatter(
            x=lengths, y=promised, mode="lines", showlegend=False, line={"color": colour, "width": 1.5, "dash": "dot"}, hoverinfo="skip"
        )
        for x, symbol, words in ((line.limit, "diamond", "KL = δ"), (line.taken, SYMBOLS["plain"], _("the step"))):
            if 0 < x < np.inf and (symbol == "diamond" or line.method == "plain"):
                y = problem.expected_return(setup.theta + x * line.direction)
                made.scatter(
                    x=[x], y=[y], mode="markers", showlegend=False, hovertemplate=f"{name}, {words}: J %{{y:.3f}}<extra></extra>",
                    marker={"symbol": symbol, "size": 12, "color": colour, "line": {"width": 1, "color": theme.ink(is_dark)}},
                )  # fmt: skip
    made.level(start, dash="dash")
    made.words(1, start, "J(π_old)", xref="x domain", xanchor="right", yanchor="bottom")
    room = 0.12 * max(float(np.ptp(returns)), 1e-6)
    return made.lay_out(
        height=380, hovermode="closest",
        xaxis={"type": "log", "dtick": 1, "title": {"text": _("length of the step, ‖θ′ − θ‖")}},
        yaxis={"title": {"text": "J"}, "range": [min(returns) - room, max(returns) + room]},
    )  # fmt: skip


def _numbers(setup: Setup, batch: Batch, lines: list[Line], measured: dict[str, trust_region.Update]) -> None:
    """The length of the plain step, and of the one that the limit allows."""
    plain = lines[0]
    size = float(np.linalg.norm(batch.gradient(setup.problem)))
    block(
        rf"\lVert\theta'-\theta\rVert=\alpha\,\lVert g\rVert={tex(setup.settings.step)}\cdot{tex(size)}={result(plain.taken)}",
        rf"\alpha_\delta=\ell_\delta/\lVert g\rVert={tex(plain.limit)}/{tex(size)}={result(plain.limit / size)}",
        rf"J(\pi_\text{{old}})={result(measured['plain'].before)}",
        rf"J(\text{{{_('plain')}}})={result(measured['plain'].after)},\quad J(\text{{TRPO}})={result(measured['trpo'].after)}",
    )
    st.caption(_("ℓ_δ: the length at which the KL is δ; α_δ: the plain step size that would just reach it."))
