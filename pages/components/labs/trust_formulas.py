"""Trust regions: the formulas of each method with the numbers of its latest update put in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.trust_settings import ARMS, LAB, Setup, names
from pages.components.latex import block, result, tex
from pages.components.numbers import number
from rlhf.labs import trust_region
from rlhf.labs.mdp import Floats
from rlhf.labs.surrogate import Batch
from rlhf.labs.trust_region import SHRINK, Round, Update


def choose() -> str:
    """Which method is looked into."""
    known = names()
    return setting.choice(LAB, "method", _("Look into one method"), {"trpo": known["trpo"]} | known)


def draw(setup: Setup, done: Sequence[Round], method: str) -> None:
    st.markdown(f"##### {_('The numbers of {method}').format(method=names()[method])}")
    made = done[-1][method]
    batch = setup.draw(made.path[0], len(done) - 1)
    {"plain": _plain, "natural": _natural, "trpo": _trpo, "ppo_clip": _clip, "ppo_kl": _penalty}[method](setup, batch, made)
    if method == "ppo_kl":
        betas = " → ".join(number(round_[method].beta) for round_ in done) + f" → {number(made.next_beta)}"
        st.caption(_("β from update to update: {betas}.").format(betas=betas))
    block(
        rf"\Delta J={result(made.after)}-{tex(made.before)}={result(made.won)}",
        rf"\text{{{_('promised')}}}={result(made.promised)}",
        rf"\overline{{\mathrm{{KL}}}}(\pi_\text{{old}}\Vert\pi)={result(made.kl)}",
    )


def vector(symbol: str, values: Floats) -> str:
    """Up to four numbers as a row, of more their length."""
    if len(values) > 4:
        return rf"\lVert {symbol}\rVert={result(float(np.linalg.norm(values)))}"
    return symbol + r"=\big(" + r",\;".join(result(float(value)) for value in values) + r"\big)"


def _own(setup: Setup, values: Floats) -> Floats:
    """The parameters that mean something: without those of the bandit's end."""
    return values[: len(ARMS)] if setup.world == "arms" else values


def _plain(setup: Setup, batch: Batch, made: Update) -> None:
    g, step = batch.gradient(setup.problem), setup.settings.step
    block(
        r"g=\textstyle\sum_i w_i\,A_i\,\nabla\log\pi(a_i|s_i)",
        vector("g", _own(setup, g)),
        rf"\theta'=\theta+\alpha\,g,\quad \alpha={result(step)}",
        rf"\lVert\theta'-\theta\rVert={tex(step)}\cdot{tex(float(np.linalg.norm(g)))}={result(step * float(np.linalg.norm(g)))}",
    )
    st.caption(_("In expectation each entry carries a factor π(a): a rare action is hardly moved, however good it is."))


def _natural(setup: Setup, batch: Batch, made: Update) -> None:
    direction = trust_region.natural_direction(setup.problem, batch)
    curvature = float(direction @ batch.fisher_product(setup.problem, direction))
    if setup.world == "arms":
        _fisher(setup, batch)
    length = rf"\alpha={result(made.scale)}"
    if setup.settings.natural_step is None:
        length = _length(setup, r"g^\top F^+g", curvature, made.scale, r"\alpha=")
    block(vector("F^+g", _own(setup, direction)), length, r"\theta'=\theta+\alpha\,F^+g")
    if setup.world == "arms":
        _of_the_logits(setup, batch, direction)


def _stretch(setup: Setup) -> float:
    """How often the parameter of arm a counts in its logit."""
    return float(setup.problem.features[0, 0, 0])


def _fisher(setup: Setup, batch: Batch) -> None:
    """F of three arms; with a stretched parameter the logits are D·θ."""
    rows = r"\\".join("&".join(result(float(x)) for x in row) for row in batch.fisher(setup.problem)[:3, :3])
    matrix = rf"\begin{{pmatrix}}{rows}\end{{pmatrix}}"
    if _stretch(setup) == 1:
        st.latex(rf"F=\operatorname{{diag}}\pi-\pi\pi^\top={matrix}")
    else:
        st.latex(
            rf"F=D\,(\operatorname{{diag}}\pi-\pi\pi^\top)\,D={matrix},\quad D=\operatorname{{diag}}({result(_stretch(setup))},\,1,\,1)"
        )


def _of_the_logits(setup: Setup, batch: Batch, direction: Floats) -> None:
    """What F⁺g is to the logits, wherever it is the advantages; and that it does not see the parameters."""
    moved = trust_region.centred(setup.problem, direction)[0]
    if _stretch(setup) != 1:
        block(vector(r"D\,F^+g-\text{" + _("mean") + "}", moved))
    if setup.n is None and len(batch.advantages) == len(moved):
        advantages = batch.advantages - batch.advantages.mean()
        if np.abs(moved - advantages).max() <= 1e-6 * np.abs(advantages).max():
            st.caption(
                _(
                    "F⁺ takes the factor π(a) out again: with the exact expectation a step along F⁺g moves the logits in proportion to the "
                    "advantages of the arms, up to a constant, which changes no probability."
                )
            )
    if setup.settings.step * setup.draw(setup.theta, 0).gradient(setup.problem)[0] != 0:
        st.caption(_("Stretch a parameter under *More settings*: the plain step lands elsewhere, this one does not."))


def _length(setup: Setup, square: str, value: float, scale: float, left: str = "") -> str:
    """√(2δ / sᵀFs) with its numbers; where s moves nothing there is no such length."""
    if scale == 0 and setup.settings.delta > 0:
        return rf"{square}=0\quad\Rightarrow\quad\theta'=\theta"
    return rf"{left}\sqrt{{2\delta\,/\,{square}}}=\sqrt{{2\cdot{tex(setup.settings.delta)}/{tex(value)}}}={result(scale)}"


def _trpo(setup: Setup, batch: Batch, made: Update) -> None:
    assert made.solved is not None
    curvature = float(made.solved.x @ batch.fisher_product(setup.problem, made.solved.x))
    block(
        r"Fs\approx g,\quad " + vector("s", _own(setup, made.solved.x)),
        _length(setup, r"s^\top Fs", curvature, made.scale),
    )
    residuals = " → ".join(number(value) for value in made.solved.residuals[:11])
    st.caption(
        _("Conjugate gradient: {count} products F·v, never F itself; the residual ‖g − F·s‖: {residuals}.").format(
            count=made.solved.products, residuals=residuals
        )
    )
    if not made.trials:
        st.caption(_("There is no step to search along: the gradient or δ is 0."))
        return
    verdicts, marks = {True: _("taken"), False: _("refused")}, {True: "✓", False: "✗"}
    rows = [
        {
            _("Trial"): j, _("Length"): f"0.8^{j} = {number(SHRINK**j)}", "KL": number(trial.kl),
            "KL ≤ δ": marks[trial.kl <= setup.settings.delta], _("L gains"): number(trial.gain, sign=True), "L > 0": marks[trial.gain > 0],
            "": verdicts[trial.accepted],
        }
        for j, trial in enumerate(made.trials)
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True, key="tr/trials")
    st.caption(_("½·sᵀFs is the KL to second order only: the first trial may be too far. L is the surrogate's gain, for one decision."))


def _clip(setup: Setup, batch: Batch, made: Update) -> None:
    settings = setup.settings
    end = setup.problem.logprobs(made.path[-1])
    ratios, objective = batch.ratios(end), trust_region.clipped_surrogate(batch, end, settings.epsilon)
    block(
        r"L^\text{clip}(\theta')=\textstyle\sum_i w_i\min\!\big(\rho_iA_i,\operatorname{clip}(\rho_i,"
        rf"{result(1 - settings.epsilon)},{result(1 + settings.epsilon)})A_i\big)={result(objective)}",
        rf"\rho\in[{result(float(ratios.min()))},\,{result(float(ratios.max()))}],\quad"
        rf"\max|\rho-1|={result(float(np.abs(ratios - 1).max()))}",
    )
    shares = " → ".join(number(share, "share") for share in made.cut)
    st.caption(
        _(
            "Share of the batch without gradient, before each epoch and at the end: {shares}. In the first epoch ρ = 1 everywhere: "
            "with plain gradient it is the plain step, and the learning rate is its α."
        ).format(shares=shares)
    )


def _penalty(setup: Setup, batch: Batch, made: Update) -> None:
    target, d = setup.settings.delta, made.batch_kl
    if d < target / 1.5:
        rule = rf"d<d_\text{{targ}}/1.5={result(target / 1.5)}\;\Rightarrow\;\beta\leftarrow\beta/2={result(made.next_beta)}"
    elif d > 1.5 * target:
        rule = rf"d>1.5\,d_\text{{targ}}={result(1.5 * target)}\;\Rightarrow\;\beta\leftarrow2\beta={result(made.next_beta)}"
    else:
        rule = rf"{result(target / 1.5)}\le d\le{result(1.5 * target)}\;\Rightarrow\;\beta={result(made.next_beta)}"
    gain = made.promised / batch.steps
    block(
        rf"L-\beta\,\overline{{\mathrm{{KL}}}}={tex(gain)}-{tex(made.beta)}\cdot{tex(d)}={result(gain - made.beta * d)}",
        rf"d={result(d)},\quad d_\text{{targ}}=\delta={result(target)}",
        rule,
    )
    st.caption(_("The penalty does not bound the step either: β follows what the last update did, so an update may go too far first."))
