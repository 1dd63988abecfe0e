"""Interview questions on policy gradients, PPO, group advantages, and what has to be in memory."""

from __future__ import annotations

from functools import cache

import numpy as np

from pages.components.i18n import _
from pages.components.labs.interview_item import Item, choice
from pages.components.labs.question import Number, Place
from pages.components.numbers import megabytes, number
from rlhf.estimate import model_facts
from rlhf.labs.advantage_estimation import gae
from rlhf.labs.group_advantages import advantages
from rlhf.labs.interview import ascent, entropy
from rlhf.labs.kl_estimators import estimates
from rlhf.labs.mdp import Floats
from rlhf.labs.softmax_policy import kl


def policy() -> list[Item]:
    return [_collapse(), _ratio(), _lambda(), _negative_k1(), _entropy()]


def groups() -> list[Item]:
    return [_no_critic(), _scaled(), _all_equal(), _length(), _memory()]


# ---------------------------------------------------------------- policy gradient and PPO


@cache
def _climbed(second: float, steps: int, beta: float) -> Floats:
    """Three answers with rewards 1, ``second`` and 0, alike at the start."""
    return ascent([0.0, 0.0, 0.0], [1.0, second, 0.0], 1.0, steps, beta)


def _collapse() -> Item:
    steps, beta = 200, 0.5
    free, held = _climbed(0.5, steps, 0.0), _climbed(0.5, steps, beta)
    return choice(
        "collapse",
        _("What keeps PPO from collapsing: what does the clip do, and what the KL to the reference?"),
        _("The clip bounds how far one batch moves the policy; the KL bounds how far all batches together move it from its start"),
        [
            _("The clip bounds the reward; the KL bounds the advantage"),
            _("The clip holds the policy near the reference; the KL holds it near the policy of the last batch"),
            _("Both do the same; either one alone would do"),
        ],
        _(
            "With ε = 0.2, a token of positive advantage has no gradient beyond a ratio of 1.2, but the next batch starts at 1 again: "
            "twenty batches may multiply its probability by 1.2²⁰ = {drift}. The KL is about the whole way. Exact ascent on three answers "
            "with rewards 1, 0.5, 0 ends after {steps} steps {free} nats from its start without it, and at {held} nats with β = {beta}."
        ).format(
            drift=number(1.2**20), steps=steps, free=number(float(kl(free[-1], free[0]))), held=number(float(kl(held[-1], held[0]))),
            beta=beta,
        ),
        Place("lab_trust_region", _("The clip and the KL, step by step")),
    )  # fmt: skip


def _ratio() -> Item:
    return Item(
        Number(
            "quiz/ratio",
            _("What is the importance ratio π/π_old of every token at the first update on a freshly sampled batch?"),
            1.0,
            _(
                "Exactly 1: π_old *is* the policy. So the clip cuts nothing there, and with one update a batch the clipped objective's "
                "gradient is the plain policy gradient. The ratio moves from the second update on: after one that raised a log-probability "
                "by 0.1 it is {r}."
            ).format(r=number(float(np.exp(0.1)))),
        ),
        Place("ppo", _("PPO on a real model: ratio and clipped tokens")),
    )


def _lambda() -> Item:
    rewards, values = [0.0, 0.0, 1.0], [0.5, 0.6, 0.7]
    monte_carlo, td = (float(gae(rewards, values, 0.0, 1.0, lam)[0]) for lam in (1.0, 0.0))
    return Item(
        Number(
            "quiz/lambda",
            _(
                "Rewards 0, 0, 1 and values 0.5, 0.6, 0.7 along three tokens, γ = 1. What is GAE's advantage of the *first* token with λ = "
                "1?"
            ),
            monte_carlo,
            _(
                "λ = 1 is Monte-Carlo: the return minus the value, 1 − 0.5 = {mc}: no bias from the critic, the variance of whole answers. "
                "λ = 0 is TD(0): 0 + 0.6 − 0.5 = {td}: little variance, and as wrong as the critic. λ = 0.95 gives {usual}."
            ).format(mc=number(monte_carlo), td=number(td), usual=number(float(gae(rewards, values, 0.0, 1.0, 0.95)[0]))),
        ),
        Place("lab_advantages", _("Drag rewards and values"), (("gae.lambda", "1.0"),)),
    )


def _negative_k1() -> Item:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    found = estimates(np.log(p), np.log(q))
    return choice(
        "k1",
        _("A log shows a negative KL (estimator k1). KL is never negative. What is going on?"),
        _("k1 is log π − log π_ref of sampled tokens: single ones are negative, and so may be a mean over few; its expectation is the KL"),
        [
            _("The reference has become better than the policy"),
            _("Rounding: in float32 the KL may fall a little below 0"),
            _("β is negative, so the policy is pushed away from the reference"),
        ],
        _(
            "For π = (0.5, 0.3, 0.2) and π_ref = (0.3, 0.3, 0.4), k1 of the three tokens is {k1}; its expectation under π is {mean}, the "
            "exact KL is {kl}. k3 has the same expectation and is {k3}: never negative. A k1 that stays negative on *many* samples means "
            "that they were not sampled from π."
        ).format(
            k1=", ".join(number(float(v)) for v in found["k1"]), mean=number(float(p @ found["k1"])), kl=number(float(kl(p, q))),
            k3=", ".join(number(float(v)) for v in found["k3"]),
        ),
        Place("lab_kl", _("k1, k2 and k3 as histograms")),
    )  # fmt: skip


def _entropy() -> Item:
    plain, held = _climbed(0.9, 400, 0.0), _climbed(0.9, 400, 0.3)
    return choice(
        "entropy",
        _("What is entropy collapse, and what is lost by it?"),
        _("The policy becomes sure of one answer and samples nothing else: there is nothing left to compare, so it stops learning"),
        [
            _("The entropy of the reward model falls to 0, so that all answers score the same"),
            _("The entropy rises until the policy writes random tokens"),
            _("The loss becomes negative, because the entropy bonus outgrows the reward"),
        ],
        _(
            "Exact ascent with rewards 1, 0.9, 0 takes the entropy from {start} to {end} nats in 400 steps; the second answer, almost as "
            "good, is left with {p}. A pull to the reference (β = 0.3) stops at {held} nats. Remedies: KL, entropy bonus, a wider clip "
            "upwards."
        ).format(
            start=number(entropy(plain[0])), end=number(entropy(plain[-1])), held=number(entropy(held[-1])),
            p=number(float(plain[-1][1]), "share"),
        ),
        Place("grpo", _("Watch the entropy of a real run")),
    )  # fmt: skip


# ---------------------------------------------------------------- groups and memory


def _no_critic() -> Item:
    rewards = np.array([1.0, 1.0, 0.0, 0.0])
    noise = [float(np.sqrt(0.25 / (g - 1))) for g in (4, 16)]
    return choice(
        "no-critic",
        _("Why does GRPO need no critic?"),
        _("Several answers to the same prompt are sampled, and their mean reward is the baseline that the critic would estimate"),
        [
            _("The reward model is the critic: it scores every token"),
            _("The clip makes a baseline unnecessary"),
            _("The advantage is computed from the reference model's log-probabilities"),
        ],
        _(
            "The mean of a group estimates V(prompt) by sampling. For rewards 1, 1, 0, 0 the advantages are {found}, one for the whole "
            "answer. The price: several answers to each prompt, a baseline with noise (standard error {few} with 3 others, {many} with 15, "
            "for answers that are right half the time), and no telling apart of tokens."
        ).format(found=", ".join(number(float(a)) for a in advantages(rewards, "grpo")), few=number(noise[0]), many=number(noise[1])),
        Place("lab_groups", _("Drag a group's rewards")),
    )  # fmt: skip


def _scaled() -> Item:
    rewards = [1.0, 0.0, 0.0, 0.0]
    found = advantages(rewards, "grpo")
    return Item(
        Number(
            "quiz/scaled",
            _("A group of four answers has the rewards 1, 0, 0, 0. What is GRPO's advantage of the first (standard deviation with n − 1)?"),
            float(found[0]),
            _(
                "(1 − 0.25) / 0.5 = {a}; the others get {b}. Dividing by the deviation gives every prompt the same weight, also one that "
                "is almost solved: a single miss among sixteen gets {hard}. Dr. GRPO leaves the division out for that reason."
            ).format(a=number(float(found[0])), b=number(float(found[1])), hard=number(float(advantages([1.0] * 15 + [0.0], "grpo")[-1]))),
        ),
        Place("lab_groups", _("Group advantages")),
    )


def _all_equal() -> Item:
    found, near = advantages([1.0, 1.0, 1.0, 1.0], "grpo"), advantages([1.0, 1.0, 1.0, 1.0001], "grpo")
    return choice(
        "all-equal",
        _("All answers of a group are right: rewards 1, 1, 1, 1. What does GRPO learn from this group?"),
        _("Nothing: every advantage is 0"),
        [
            _("To repeat all four: each has the advantage 1"),
            _("It fails: the standard deviation is 0, so the advantage is not a number"),
            _("To write more alike: the zero deviation is rewarded"),
        ],
        _(
            "Each reward equals the mean: advantages {found}; the small constant below the fraction keeps 0/0 away. Such groups cost "
            "sampling and teach nothing: prompts that are too easy or too hard, which DAPO samples again. And a tiny difference is blown "
            "up: rewards of 1, 1, 1, 1.0001 give the last one {near}."
        ).format(found=", ".join(number(float(a)) for a in found), near=number(float(near[-1]))),
        Place("grpo", _("Groups with equal rewards in a real run")),
    )  # fmt: skip


def _length() -> Item:
    short, long = 10, 100
    return choice(
        "length",
        _("GRPO averages the loss over the tokens of each answer (1/|o|). Which bias does that bring?"),
        _("A long wrong answer is punished less for each token than a short one, so wrong answers grow longer"),
        [
            _("Long right answers are preferred, so right answers grow longer"),
            _("None: every answer has the same weight, so nothing depends on length"),
            _("Short answers are preferred, because the KL is a sum over tokens"),
        ],
        _(
            "With an advantage of −1 each token of an answer of {short} tokens is pushed down with a weight of {ws}, of {long} tokens with "
            "{wl}: ten times less. Right answers feel the opposite pull, to be short. Dr. GRPO divides by a constant, DAPO by all tokens "
            "of the batch."
        ).format(short=short, long=long, ws=number(1 / short), wl=number(1 / long)),
        Place("lab_groups", _("Length bias as a curve")),
    )  # fmt: skip


def _memory() -> Item:
    size = (model_facts("story").parameters or 0) * 4
    return choice(
        "memory",
        _("Classic PPO keeps four models in memory. Which of them are trained, so that gradients and optimizer states come on top?"),
        _("Policy and critic are trained; reference and reward model are frozen"),
        [
            _("All four are trained, with different learning rates"),
            _("Only the policy; critic, reference and reward model are frozen"),
            _("Policy and reward model are trained; critic and reference are frozen"),
        ],
        _(
            "A trained model takes four times its weights in fp32 (weights, gradient, two moments of Adam), a frozen one takes them once: "
            "2·4 + 2·1 = 10. For a model of the size of *story* ({size} of weights) that is {ppo}; GRPO has no critic: {grpo}; with a rule "
            "as the reward {rule}; DPO needs policy and reference: {dpo}. Activations and the KV cache come on top."
        ).format(
            size=megabytes(size), ppo=megabytes(10 * size), grpo=megabytes(6 * size), rule=megabytes(5 * size), dpo=megabytes(5 * size),
        ),
        Place("lab_memory", _("Memory, model by model")),
    )  # fmt: skip
