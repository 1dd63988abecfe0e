"""Lab 6, part 3: the five steps from the KL-regularised objective to DPO's loss, each in numbers and checked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.components import latex
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.kl_example import LAB, Example, Preset, controls, preset_buttons
from pages.components.labs.kl_optimum import power
from pages.components.labs.question import Choice, guess, reveal
from pages.components.latex import result, tex
from pages.components.numbers import number
from rlhf.labs.dpo_derivation import Derivation, derive

TOLERANCE = 1e-10


def presets() -> dict[str, Preset]:
    return {
        _("The first example"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.5, pair=("B", "A")),
        _("A pair without difference"): Preset((0.55, 0.42, 0.03), (0.5, 1.0, 1.0), 0.5, pair=("B", "C")),
        _("Small β"): Preset((0.55, 0.42, 0.03), (0.0, 1.0, 1.3), 0.05, pair=("B", "A")),
    }


def draw() -> None:
    preset_buttons(presets())
    left, right = st.columns([2, 3], gap="large")
    with left:
        example, pairs, _more = controls()
        able = [name for name, share in zip(example.names, example.reference, strict=True) if share > 0]
        if len(able) < 2:
            right.info(_("A pair needs two answers that the reference can write: drag a second bar above 0."), icon=":material/block:")
            return
        with pairs, st.container(horizontal=True):
            chosen = setting.choice(LAB, "chosen", _("Chosen y_w"), {name: name for name in [*able[1:], able[0]]})
            rejected = setting.choice(LAB, "rejected", _("Rejected y_l"), {name: name for name in able if name != chosen})
        with pairs:
            trained = setting.slider(
                LAB, "trained", _("Step 5: how far π_θ is trained"), 0, 1, 0.5, 0.05,
                help=_("0: π_θ is the reference. 1: it is π∗. Between them the log-probabilities are mixed."),
            )  # fmt: skip
    if example.beta == 0:
        words = _(
            "With β = 0 the derivation stops at its second step: r/β is infinite, and a reward cannot be read off a policy that is all "
            "on one answer. Move β above 0."
        )
        right.info(words, icon=":material/block:")
        return
    pair = example.names.index(chosen), example.names.index(rejected)
    found = derive(example.reference, example.rewards, example.beta, pair, trained)
    with right:
        _steps(example, found, pair, trained)
    _shift(example, found, pair, trained)


def _steps(example: Example, found: Derivation, pair: tuple[int, int], trained: float) -> None:
    w, l = (example.names[i] for i in pair)
    r_w, r_l = (float(example.rewards[i]) for i in pair)
    beta, best = tex(example.beta), found.best
    with _step(1, _("Write the objective as a distance to π∗"), found.gaps[0]):
        st.latex(r"\mathbb E_\pi[r]-\beta\,\mathrm{KL}(\pi\Vert\pi_\mathrm{ref})=\beta\log Z-\beta\,\mathrm{KL}(\pi\Vert\pi^*)")
        st.caption(_("True of every π, whatever it is. At π = π_ref:"))
        st.latex(
            rf"{result(found.reference_objective)}={tex(found.constant)}-{beta}\cdot{tex(found.reference_kl)}"
            rf"={result(found.constant - example.beta * found.reference_kl)}"
        )
    with _step(2, _("So the best π is π∗, and Z makes it sum to 1"), found.gaps[1]):
        st.latex(r"\pi^*(y)=\tfrac1Z\,\pi_\mathrm{ref}(y)\,e^{r(y)/\beta},\qquad Z=\sum_y\pi_\mathrm{ref}(y)\,e^{r(y)/\beta}")
        numbers = r",\ ".join(rf"\pi^*({name})={result(float(p))}" for name, p in zip(example.names, best.policy, strict=True))
        st.latex(rf"{numbers},\quad Z={power(best.log_z)}")
        st.caption(_("For a language model Z is a sum over all texts there are: nobody can compute it."))
    with _step(3, _("Turn it round: the reward from the policy"), found.gaps[2]):
        st.latex(r"r(y)=\beta\log\frac{\pi^*(y)}{\pi_\mathrm{ref}(y)}+\beta\log Z")
        latex.block(
            *(
                rf"r({name})={tex(float(found.implicit[i]))}+{tex(found.constant)}={result(float(found.implicit[i]) + found.constant)}"
                for name, i in zip((w, l), pair, strict=True)
            )
        )
    with _step(4, _("Put it into Bradley–Terry: Z cancels"), found.gaps[3]):
        st.latex(
            r"P(y_w\succ y_l)=\sigma\big(r(y_w)-r(y_l)\big)=\sigma\Big(\beta\log\frac{\pi^*(y_w)}{\pi_\mathrm{ref}(y_w)}-"
            r"\beta\log\frac{\pi^*(y_l)}{\pi_\mathrm{ref}(y_l)}\Big)"
        )
        latex.block(
            rf"\sigma({tex(r_w)}-{tex(r_l)})={result(found.preference)}",
            rf"\sigma({tex(float(found.implicit[pair[0]]))}-{tex(float(found.implicit[pair[1]]))})={result(found.preference_without_z)}",
        )
    with _step(5, _("The loss: the same with π_θ in the place of π∗"), found.gaps[4]):
        st.latex(
            r"\mathcal L=-\log\sigma\Big(\beta\log\frac{\pi_\theta(y_w)}{\pi_\mathrm{ref}(y_w)}-\beta\log\frac{\pi_"
            r"\theta(y_l)}{\pi_\mathrm{ref}(y_l)}\Big)"
        )
        st.latex(rf"-\log\sigma({tex(_change(0.0, found.margin))})={result(found.loss)}")
        words = _(
            "π_θ is {share} of the way: its margin is {share} of r({w}) − r({l}) = {difference}. At the reference the loss is log 2 = "
            "0.693."
        )
        st.caption(words.format(share=number(trained, "share"), w=w, l=l, difference=number(r_w - r_l)))


def _step(count: int, title: str, gap: float) -> DeltaGenerator:
    """A box for a step, with its check below the title."""
    box = st.container(border=True)
    with box:
        holds = gap < TOLERANCE
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown(f"**{count} · {title}**")
            words = _("difference {gap}").format(gap=number(gap))
            st.badge(words, icon=":material/check:" if holds else ":material/close:", color="green" if holds else "red")
    return box


def _shift(example: Example, found: Derivation, pair: tuple[int, int], trained: float) -> None:
    """The experiment: the same number added to all rewards."""
    st.markdown(f"##### {_('Try to break it')}")
    because = _(
        "log Z grew by c/β and took the whole of c with it. π∗ and every difference of rewards are as before, so the preference and the "
        "loss are too. That is why Z may cancel, and why a reward learned from votes is known only up to a constant."
    )
    question = Choice(
        "kl/shift",
        _("Add the same number c to the reward of *every* answer. What changes?"),
        [_("Z alone, and J with it"), _("Z and π∗"), _("Z, π∗ and DPO's loss"), _("Nothing at all")],
        0,
        because,
    )
    if not guess(question):
        return
    shift = setting.slider(LAB, "shift", _("c, added to all rewards"), -3, 3, 0, 0.5)
    after = derive(example.reference, example.rewards + shift, example.beta, pair, trained)
    rows = [
        ("log Z", found.best.log_z, after.best.log_z),
        ("J = β log Z", found.best.objective, after.best.objective),
        *((f"π∗({name})", float(found.best.policy[i]), float(after.best.policy[i])) for i, name in enumerate(example.names)),
        ("P(y_w ≻ y_l)", found.preference, after.preference),
        (_("DPO's loss"), found.loss, after.loss),
    ]
    shown = [(name, number(old), number(new), number(_change(old, new), sign=True)) for name, old, new in rows]
    st.dataframe(pd.DataFrame(shown, columns=["", _("before"), _("with c"), _("change")]), hide_index=True, width=460)
    if shift:
        reveal(question)
    else:
        st.caption(_("Move c."))


def _change(old: float, new: float) -> float:
    """0 where only rounding is left."""
    return 0.0 if np.isclose(old, new, rtol=1e-12, atol=1e-12) else new - old
