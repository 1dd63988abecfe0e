"""Trust regions, one step: five updates from the same batch, and several after one another from the same start."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.components.i18n import _
from pages.components.labs import playing, trust_formulas, trust_notes, trust_pictures, trust_settings, trust_spent
from pages.components.labs.live_figure import live_figure
from pages.components.labs.question import Choice, guess, reveal
from pages.components.labs.trust_settings import LAB, Setup, names
from pages.components.numbers import number
from rlhf.labs import trust_region
from rlhf.labs.trust_region import METHODS, Round

UPDATES = 20
ROUNDS = f"{LAB}/rounds"
TIE = 1e-6  # of the largest KL or gain: methods that come so close are equal, as TRPO and the natural gradient often are


def draw() -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        _presets()
        setup = trust_settings.draw(("n", "exact", "step", "delta"))
    _settle(setup)
    with right:
        if guess(_question(), setup.key):
            frame = playing.player(LAB, UPDATES)
        else:
            frame = 0
            st.caption(_("Guess, and the buttons appear that take the step."))
        done = rounds(setup, frame)
        method = trust_formulas.choose() if done and setup.world == "grid" else "trpo"
        live_figure(trust_pictures.where(setup, done, method), key="tr/where")
        _caption(setup, frame)
    trust_notes.draw(setup, done)
    if not done:
        return
    _answer(setup, rounds(setup, 1)[0])
    live_figure(trust_spent.spent_and_won(setup, done[0]) if frame == 1 else trust_spent.over_updates(setup, done), key="tr/spent")
    if frame == 1:
        st.caption(_("Dotted: the limit δ. Bars: the exact gain in J; the tick on each is what the surrogate promised from the batch."))
    _table(done)
    trust_formulas.draw(setup, done, method if setup.world == "grid" else trust_formulas.choose())


def rounds(setup: Setup, count: int) -> list[Round]:
    """The first updates by every method; those that are known are not computed again."""
    key, known = st.session_state.get(ROUNDS, (None, []))
    if key != setup.key:
        known = []
    if len(known) < count:
        known = trust_region.rounds(setup.problem, setup.theta, setup.settings, setup.draw, count, known)
        st.session_state[ROUNDS] = (setup.key, known)
    return known[:count]


def _settle(setup: Setup) -> None:
    """Where an update takes milliseconds, a change of the settings goes back to the first one."""
    at = f"{LAB}/play"
    if setup.world != "arms" and st.session_state.get(ROUNDS, (setup.key,))[0] != setup.key and st.session_state.get(at, 0) > 1:
        playing.reset(LAB)
        st.session_state[at] = 1


def _presets() -> None:
    arms = {
        "world": "arms", "exact": False, "n": 20, "step": 4.0, "delta": 0.05, "rate": 1.0, "epochs": 8, "optimizer": "plain",
        "rewards": trust_settings.REWARDS,
    }  # fmt: skip
    trust_settings.presets(
        {
            "rare": (_("A rare best arm"), {**arms, "logits": trust_settings.LOGITS}),
            "certain": (_("Nearly certain"), {**arms, "logits": (-4.0, -4.0, 5.0)}),
            "few": (_("Four samples"), {**arms, "logits": (-0.5, 0.0, 0.5), "n": 4}),
            "equal": (_("Equal rewards"), {**arms, "logits": trust_settings.LOGITS, "rewards": (0.5, 0.5, 0.5)}),
        }
    )


def _question(right: int = 0, because: str = "") -> Choice:
    """Who goes furthest; the answer is known after the first updates."""
    return Choice(
        "tr/furthest", _("From this batch, which method will spend most KL in its first step?"), list(names().values()), right, because
    )


def _answer(setup: Setup, first: Round) -> None:
    """What was measured. Where several methods spent most, or none moved, no guess is right or wrong."""
    spent, gains = ([getattr(first[method], what) for method in METHODS] for what in ("kl", "won"))
    furthest, best = _largest(spent), _largest(gains)
    if max(spent) == 0:
        st.info(_("None moves here: all five spend 0 nats."), icon=":material/lightbulb:")
        return
    because = _(
        "In the first update most KL is spent by {far}: {spent} nats where δ is {delta}. J changes best with {best}, by {gain}. "
        "The plain step is held by its step size alone, PPO by ε or β, its learning rate and its epochs; only TRPO checks the KL itself."
    ).format(
        far=_named(furthest), spent=number(max(spent)), delta=number(setup.settings.delta), best=_named(best),
        gain=number(max(gains), sign=True),
    )  # fmt: skip
    if len(furthest) > 1:
        st.info(because, icon=":material/lightbulb:")
    else:
        reveal(_question(furthest[0], because), setup.key)


def _largest(values: Sequence[float]) -> list[int]:
    """Where the largest value stands; several places of a tie."""
    return [i for i, value in enumerate(values) if value >= max(values) - TIE * abs(max(values))]


def _named(places: Sequence[int]) -> str:
    return ", ".join(names()[METHODS[i]] for i in places)


def _caption(setup: Setup, frame: int) -> None:
    if setup.world == "arms":
        words = _(
            "Each corner is an arm with its reward: the stronger the shade, the larger J. "
            "Small marks: PPO's epochs; thin crosses: trials that TRPO's line search refused."
        )
        if frame <= 1 and setup.settings.delta > 0:
            words += " " + _("Dotted: all policies at KL = δ.")
    elif setup.world == "grid":
        words = _(
            "Rays: the probability of each direction, before (grey) and after. The stronger the shade of a cell, the more KL it spent. "
            "G ends with +1, X with −1."
        )
    else:
        words = _("Three cells, −1 a step, and in the middle one ← and → are switched: a policy that cannot tell the cells apart must mix.")
    if frame == 0:
        words += " " + _("Press Step: each method makes one update from the same batch.")
    st.caption(words)


def _table(done: Sequence[Round]) -> None:
    """All updates, the newest first."""
    rows = [
        {
            _("Update"): i + 1, _("Method"): names()[method], "KL": number(made.kl), _("KL in the batch"): number(made.batch_kl),
            _("Promised"): number(made.promised, sign=True), _("Won"): number(made.won, sign=True), _("J before"): number(made.before),
            _("J after"): number(made.after),
        }
        for i, round_ in reversed(list(enumerate(done)))
        for method, made in round_.items()
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    shown = {name: st.column_config.TextColumn(alignment="right") for name in frame.columns[2:]}
    st.dataframe(frame, hide_index=True, key="tr/table", height=38 + 35 * min(len(rows), 8), column_config=shown)
