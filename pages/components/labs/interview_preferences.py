"""Interview questions on rewards that are learned from votes, on the KL-regularised optimum, and on DPO."""

from __future__ import annotations

import numpy as np

from pages.components.i18n import _
from pages.components.labs.interview_item import Item, choice
from pages.components.labs.question import Number, Place
from pages.components.numbers import number
from rlhf.bradley_terry import preference_loss, preference_probability
from rlhf.labs.advantage_estimation import gae
from rlhf.labs.interview import dpo_step
from rlhf.labs.kl_optimum import best_of_n_bound, optimum
from rlhf.labs.softmax_policy import kl

REFERENCE = np.array([0.02, 0.38, 0.6])
PROXY = np.array([1.0, 0.8, 0.0])
GOLD = np.array([-1.0, 0.8, 0.0])  # the first answer fools the proxy


def reward() -> list[Item]:
    return [_objective(), _equal_scores(), _hacking(), _sparse(), _gamma()]


def dpo() -> list[Item]:
    return [_normaliser(), _implicit(), _falls(), _best_of_n()]


# ---------------------------------------------------------------- rewards


def _objective() -> Item:
    return choice(
        "objective",
        _("What does a reward model minimise on a pair in which $y_w$ was preferred to $y_l$?"),
        r"$-\log\sigma\big(r(x,y_w)-r(x,y_l)\big)$",
        [
            r"$\big(r(x,y_w)-1\big)^2+\big(r(x,y_l)-0\big)^2$",
            r"$-\log\sigma\big(r(x,y_w)\big)-\log\sigma\big(r(x,y_l)\big)$",
            r"$-\log\pi(y_w\mid x)+\log\pi(y_l\mid x)$",
        ],
        _(
            "The negative log-likelihood of the vote under Bradley–Terry. With scores 1.2 and 0.4 the preferred answer wins with "
            "probability {p}, and the loss is {loss}; with 101.2 and 100.4 it is {same}: only the difference counts, so the zero of a "
            "reward model is arbitrary."
        ).format(
            p=number(preference_probability(1.2, 0.4)), loss=number(preference_loss(1.2 - 0.4)),
            same=number(preference_loss(101.2 - 100.4)),
        ),
        Place("reward_model", _("Train a reward model")),
    )  # fmt: skip


def _equal_scores() -> Item:
    return Item(
        Number(
            "quiz/equal-scores",
            _("A reward model gives both answers of a pair the same score. What is its loss on that pair, in nats?"),
            preference_loss(0.0),
            _(
                "$P=\\sigma(0)={p}$ and $-\\log P=\\log 2={loss}$: where every training begins, and the loss of a coin. "
                "A loss above it on held-out pairs is worse than not knowing."
            ).format(p=number(preference_probability(0.0, 0.0)), loss=number(preference_loss(0.0))),
        ),
        Place("bradley_terry", _("Bradley–Terry")),
    )


def _hacking() -> Item:
    rows = []
    for beta in (1.0, 0.3, 0.1, 0.03):
        best = optimum(REFERENCE, PROXY, beta).policy
        rows.append(f"β = {beta:g}: {number(float(best @ PROXY))} / {number(float(best @ GOLD))}")
    return choice(
        "hacking",
        _("The reward leaves something out (Goodhart). What happens to the optimal policy as β, the weight of the KL, goes to 0?"),
        _("The reward goes on rising, while what it stands for first rises, then falls"),
        [
            _("Reward and what it stands for both rise, only slower and slower"),
            _("The policy returns to the reference, and both stay as they are"),
            _("The optimum stays the same; β only decides how fast it is reached"),
        ],
        _(
            "An exact example: one rare answer (2 % in the reference) has the highest reward, and is in truth the worst. Expected reward / "
            "true reward of π*: {rows}. With β → 0 all mass goes to the highest score, right or wrong."
        ).format(rows="; ".join(rows)),
        Place("reward_hacking", _("Hack a reward with a real model")),
    )  # fmt: skip


def _sparse() -> Item:
    rewards, values = np.zeros(4), np.array([0.2, 0.3, 0.7, 0.8])
    rewards[-1] = 1.0
    tokens = gae(rewards, values, 0.0, 1.0, 0.0)
    return choice(
        "sparse",
        _("Why is the reward in RLHF sparse (one number after the last token), and what spreads it over the tokens?"),
        _("People and reward models judge whole answers; returns and advantages carry the number back to the tokens"),
        [
            _("Rewards for each token would break the chain rule of the policy's probability"),
            _("A reward model has no access to the tokens; backpropagation through it spreads the reward"),
            _("To save memory; the KL penalty is what tells good tokens from bad ones"),
        ],
        _(
            "A half-written answer can rarely be judged. With γ = 1 every token of an answer has the same return; what differs is how much "
            "was expected already. With a critic that says {values} along an answer that earns 1 at its end, the advantages (λ = 0) are "
            "{tokens}: the token after which the critic saw the success coming gets the credit."
        ).format(values=", ".join(f"{v:g}" for v in values), tokens=", ".join(number(float(a)) for a in tokens)),
        Place("lab_text", _("An answer as a sequence of decisions")),
    )  # fmt: skip


def _gamma() -> Item:
    length = 64
    return Item(
        Number(
            "quiz/gamma",
            _(
                "RLHF usually takes γ = 1. With γ = 0.95 instead, and a reward of 1 after the last of 64 tokens, what would be the return "
                "at the first token?"
            ),
            0.95 ** (length - 1),
            _(
                "$\\gamma^{{63}}={r}$: the first tokens would hardly learn from the judgement, and short answers would pay. γ = 1 means "
                "that the reward counts fully wherever in the answer it was earned; the sum is finite because every answer ends."
            ).format(r=number(0.95 ** (length - 1))),
        ),
        Place("lab_advantages", _("γ and λ on a trajectory")),
    )


# ---------------------------------------------------------------- the KL optimum and DPO


def _normaliser() -> Item:
    rewards, beta = np.array([1.0, 0.2, -0.5]), 0.5
    reference = np.array([0.3, 0.5, 0.2])
    found = optimum(reference, rewards, beta)
    best, log_z = found.policy, found.log_z
    implicit = beta * np.log(best / reference)
    return choice(
        "normaliser",
        _("Nobody can compute Z(x), a sum over all answers. Why does DPO not need it?"),
        _("It is the same for all answers to a prompt, and a preference depends on the difference of two rewards only"),
        [
            _("It is 1, because π_ref is normalised"),
            _("It is estimated from the two answers of the pair"),
            _("It is part of the reference's log-probability, which is computed beforehand"),
        ],
        _(
            "$r(y)=\\beta\\log\\frac{{\\pi^*(y)}}{{\\pi_\\text{{ref}}(y)}}+\\beta\\log Z$. In an exact example with three answers and β = "
            "0.5: Z = {z}, so β log Z = {shift}. The implicit rewards are {implicit}, the true ones {true}: each lower by {shift}, and "
            "every difference, such as {d} between the first two, is the same."
        ).format(
            z=number(float(np.exp(log_z))), shift=number(beta * log_z), implicit=", ".join(number(float(v)) for v in implicit),
            true=", ".join(number(float(v)) for v in rewards), d=number(float(implicit[0] - implicit[1])),
        ),
        Place("lab_kl", _("DPO's derivation in five steps")),
    )  # fmt: skip


def _implicit() -> Item:
    beta, policy, reference = 0.1, -42.0, -45.0
    found = beta * (policy - reference)
    return Item(
        Number(
            "quiz/implicit",
            _(
                "An answer has a log-probability of −42 under the policy and of −45 under the reference. With β = 0.1, what is DPO's "
                "implicit reward for it?"
            ),
            found,
            _(
                "$\\beta\\,(\\log\\pi-\\log\\pi_\\text{{ref}})=0.1\\cdot(-42+45)={r}$. It is a reward up to β log Z(x); against a rejected "
                "answer with 0 the model would say that this one is preferred with probability σ({r}) = {p}."
            ).format(r=number(found), p=number(preference_probability(found, 0.0))),
        ),
        Place("dpo", _("DPO on a real model")),
    )


def _falls() -> Item:
    before = np.array([0.3, 0.2, 0.5])
    after = np.exp(dpo_step(0, 1, np.log(before), [[1, 0], [0, 1], [2, -1]], 1.0))
    return choice(
        "falls",
        _("While DPO's loss falls, the log-probability of the *chosen* answers may fall too. Why?"),
        _("The loss asks only that the margin to the rejected answer grows: both may fall if the rejected one falls more"),
        [
            _("It may not: that is the sign of a wrong implementation"),
            _("Label smoothing flips some pairs, so that chosen answers are pushed down"),
            _("The reference model learns too, and takes the probability away"),
        ],
        _(
            "Answers share parameters. In an exact example with a third answer that shares the chosen one's traits, one step moves the "
            "probabilities of chosen, rejected and third from {before} to {after}: the margin grew by {margin} nats, and the mass went to "
            "an answer that is in no pair."
        ).format(
            before=", ".join(number(float(p)) for p in before), after=", ".join(number(float(p)) for p in after),
            margin=number(float(np.log(after[0] / after[1]) - np.log(before[0] / before[1]))),
        ),
        Place("lab_kl", _("The three ways in which DPO's loss falls")),
    )  # fmt: skip


def _best_of_n() -> Item:
    n, answers = 4, 2000  # many equally likely answers with different rewards
    order = np.arange(1, answers + 1) / answers
    best = order**n - (order - 1 / answers) ** n
    exact = float(kl(best, np.full(answers, 1 / answers)))
    return Item(
        Number(
            "quiz/best-of-n",
            _(
                "Sample 4 answers, keep the best one. How far is that policy from the one that samples, as a KL in nats (answers never "
                "tie)?"
            ),
            best_of_n_bound(n),
            _(
                "$\\log n-\\frac{{n-1}}{{n}}={kl}$. Summed over {answers} equally likely answers it is {exact}. For n = 64 it is {more}: "
                "best-of-n buys its reward with very little KL, which is why it is the yardstick for RL."
            ).format(kl=number(best_of_n_bound(n)), answers=f"{answers:,}", exact=number(exact), more=number(best_of_n_bound(64))),
        ),
        Place("lab_kl", _("Best-of-n beside π*")),
    )
