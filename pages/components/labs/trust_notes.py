"""Trust regions: settings that lead nowhere, or to something surprising, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from pages.components.i18n import _
from pages.components.labs.trust_settings import ARMS, Setup
from pages.components.numbers import number
from rlhf.labs.trust_region import Round


def draw(setup: Setup, done: Sequence[Round]) -> None:
    for words in notes(setup, done):
        st.info(words, icon=":material/info:")


def notes(setup: Setup, done: Sequence[Round]) -> list[str]:
    """What is to be said about these settings and the latest update."""
    batch, policy = setup.draw(setup.theta, 0), setup.policy()
    found = []
    if setup.settings.delta == 0:
        found.append(_("δ = 0: a step that takes its length from δ has none. PPO-penalty's target is 0 too: β doubles after any move."))
    if not batch.advantages.any():
        equal = setup.world == "arms" and np.ptp(setup.rewards) == 0
        found.append(
            _("All rewards are equal, so every advantage is 0: there is nothing to learn, and no method moves.")
            if equal
            else _("Every advantage in this batch is 0: it teaches nothing, and no method moves.")
        )
    if policy[~setup.problem.mdp.terminal].max() > 0.999:
        found.append(
            _(
                "The old policy is nearly certain: an entry of the Fisher matrix is π(1−π) ≈ {entry}, so it is nearly singular. The plain "
                "gradient shrinks with it (a plateau); F⁺ undoes that. What is never sampled stays unknown to all of them."
            ).format(entry=number(float(np.max(policy[0]) * (1 - np.max(policy[0])))))
        )
    if setup.world == "arms" and setup.n is not None:
        counts = np.bincount(batch.cells, minlength=3)[:3]
        missing = ", ".join(arm for arm, count in zip(ARMS, counts, strict=True) if count == 0)
        if missing:
            found.append(
                _(
                    "Not sampled in this batch: {missing}. The batch says nothing about it, yet its probability can move, because "
                    "probabilities sum to 1. Another seed, a larger n, or n = ∞ changes that."
                ).format(missing=missing)
            )
    if done:
        found += _about_update(setup, done[-1])
    return found


def _about_update(setup: Setup, last: Round) -> list[str]:
    found, trpo, delta = [], last["trpo"], setup.settings.delta
    if trpo.trials and not trpo.trials[-1].accepted:
        found.append(_("TRPO refused all {count} trials of its line search and stays where it was.").format(count=len(trpo.trials)))
    if trpo.kl > delta >= trpo.batch_kl:
        found.append(
            _(
                "TRPO kept to δ = {delta} as its batch measures it ({batch} nats); over all states the old policy visits it is {exact}. "
                "Few episodes visit the states in other proportions."
            ).format(delta=number(delta), batch=number(trpo.batch_kl), exact=number(trpo.kl))
        )
    left = trpo.solved.residuals[-1] / max(trpo.solved.residuals[0], 1e-300) if trpo.solved else 0.0
    if trpo.solved and left > 0.05 and trpo.scale > 0:
        words = _("Conjugate gradient stopped after {count} products with {share} of the residual left: not yet the natural direction.")
        found.append(words.format(count=trpo.solved.products, share=number(left, "share")))
    if trpo.won < 0 < trpo.promised:
        found.append(
            _(
                "TRPO lost {lost} although the surrogate promised a gain: the promise counts the states that the old policy visits, from "
                "this batch. Within a trust region it is only nearly right."
            ).format(lost=number(-trpo.won))
        )
    return found
