"""Interview questions on the three stages of RLHF, and on what imitation alone cannot learn."""

from __future__ import annotations

from functools import cache

import numpy as np

from pages.components.i18n import _
from pages.components.labs.interview_item import Item, choice
from pages.components.labs.question import Number, Place
from pages.components.numbers import number
from rlhf.labs.interview import ascent
from rlhf.labs.softmax_policy import kl, log_softmax, softmax
from rlhf.preferences import EMBEDDED


@cache
def _votes() -> int:
    """How many votes the embedded reward model's training set has."""
    with open(EMBEDDED["story-pairs"].train_path, "rb") as file:
        return sum(1 for _line in file)


def road() -> list[Item]:
    return [_stages(), _negative(), _covering(), _exposure(), _online()]


def _stages() -> Item:
    return choice(
        "stages",
        _("What are the three stages of classic RLHF (InstructGPT), in their order?"),
        _("Imitate demonstrations (SFT) · train a reward model on comparisons · optimise the policy against it with PPO and a KL penalty"),
        [
            _("Train a reward model on the web · imitate the answers that it scores best (SFT) · distil"),
            _("Imitate demonstrations (SFT) · optimise the policy with PPO · train a reward model on its answers"),
            _("Pretrain · train on comparisons with DPO · train a reward model to check the result"),
        ],
        _(
            "SFT makes a policy that can be sampled from; people compare its samples; the reward model learns to score from these votes "
            "(here: {votes} pairs on which the story model's reward model learns); PPO raises that score while the KL holds the policy "
            "near the SFT model, which is its reference."
        ).format(votes=f"{_votes():,}"),
        Place("road", _("Walk the road: votes, reward model, policy")),
    )


def _negative() -> Item:
    start = np.log([0.5, 0.3, 0.2])
    imitated = softmax(start + (np.array([1.0, 0.0, 0.0]) - softmax(start)))  # one step at rate 1 on log π(first)
    learned = ascent(start, [0.0, 0.0, -1.0], 1.0, 1)[-1]
    imitated_two, learned_two = log_softmax(start) - np.log(imitated), log_softmax(start) - np.log(learned)
    return choice(
        "negative",
        _("What can RL learn from that SFT on good answers cannot?"),
        _("That an answer it would give is bad: its own samples with low reward are pushed down"),
        [
            _("Long answers: cross-entropy only works for short ones"),
            _("Facts: SFT changes the style only, because its learning rate is small"),
            _("Nothing: with enough demonstrations both have the same gradient for every token"),
        ],
        _(
            "SFT never sees what the model itself would write. In an exact example with three answers of probability 0.5, 0.3 and 0.2, one "
            "step of imitating the first lowers the log-probability of the others by {second} and {third}, whether they are good or bad. "
            "One step of policy gradient with reward −1 for the third lowers that one by {bad}, and the second *rises* by {other}."
        ).format(
            second=number(float(imitated_two[1])), third=number(float(imitated_two[2])), bad=number(float(learned_two[2])),
            other=number(float(-learned_two[1])),
        ),
        Place("lab_policy_gradient", _("The policy gradient, exactly")),
    )  # fmt: skip


def _covering() -> Item:
    good = np.array([0.49, 0.02, 0.49])
    wide, narrow = np.array([0.34, 0.32, 0.34]), np.array([0.96, 0.02, 0.02])
    return choice(
        "covering",
        _("Demonstrations have two very different styles, and the model is too small for both. What does SFT tend to do, and what RL?"),
        _("SFT covers both and puts mass between them (forward KL); RL settles on one that scores well (reverse KL)"),
        [
            _("SFT settles on one style (reverse KL); RL covers both and what is between them (forward KL)"),
            _("Both settle on the more frequent style: the two divergences have the same minimum in any family of models"),
            _("Neither: a KL term forbids leaving out a style"),
        ],
        _(
            "Maximum likelihood minimises KL(data‖model), which is large wherever the model misses data; RL with a KL penalty minimises "
            "KL(model‖π*), which is large wherever the model writes what π* does not. For a target of 0.49, 0.02, 0.49: the spread-out "
            "(0.34, 0.32, 0.34) has a forward KL of {fw} against {fn} for the one-sided (0.96, 0.02, 0.02), so likelihood takes the first; "
            "the reverse KL is {rw} against {rn}, so RL takes the second."
        ).format(
            fw=number(float(kl(good, wide))), fn=number(float(kl(good, narrow))),
            rw=number(float(kl(wide, good))), rn=number(float(kl(narrow, good))),
        ),
        Place("lab_kl", _("Forward and reverse KL")),
    )  # fmt: skip


def _exposure() -> Item:
    right, length = 0.99, 64
    return Item(
        Number(
            "quiz/exposure",
            _(
                "Exposure bias: SFT trains on prefixes that people wrote, but generates after its own. If each token is fine with "
                "probability 0.99 as long as all before it were, what is the probability that all 64 tokens of an answer are?"
            ),
            right**length,
            _(
                "$0.99^{{64}}={p}$. After the first slip the model stands where it was never trained. RL samples whole answers from the "
                "policy itself, so it is trained on the very prefixes that it will meet."
            ).format(p=number(right**length)),
        ),
        Place("sft", _("SFT on a real model")),
    )


def _online() -> Item:
    """The mean reward of a policy from another one's samples, unweighted, as offline data has them."""
    behaviour, policy, rewards = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7]), np.array([0.0, 0.5, 1.0])
    ratio = policy / behaviour
    return choice(
        "online",
        _("In which sense is DPO on a fixed set of votes off-policy and offline, and PPO and GRPO are not?"),
        _("DPO's answers were written earlier, by another policy; PPO and GRPO sample theirs anew from the policy as it is in each step"),
        [
            _("DPO needs no internet connection; PPO and GRPO ask a server for rewards"),
            _("DPO has no reference model; PPO and GRPO stay on the reference policy"),
            _("DPO uses a learning rate that is fixed beforehand; PPO and GRPO adapt it online"),
        ],
        _(
            "Old answers say little about what the policy writes now. In an example, a policy has an expected reward of {now}, but the "
            "answers of the earlier one average {then}; weighing them by π/π_old repairs the mean, and {ess} of them then count as one "
            "fresh sample (effective sample size). PPO's later epochs on a batch are still online, but a little off-policy: that is what "
            "its ratio is for. Online DPO samples its pairs anew."
        ).format(
            now=number(float(policy @ rewards)), then=number(float(behaviour @ rewards)), ess=number(float(behaviour @ ratio**2)),
        ),
        Place("online_dpo", _("Online DPO on a real model")),
    )  # fmt: skip
