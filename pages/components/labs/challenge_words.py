"""The challenges in words: what is to be reached, its exact condition as a formula, and where to begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pages.components.i18n import _
from pages.components.labs.question import Place
from rlhf.labs import challenges as engine
from rlhf.labs.challenges import Part
from rlhf.overoptimisation import GOLD


@dataclass(frozen=True)
class Words:
    """``formula``: the condition, LaTeX; ``start``: pages with settings to begin from, which do not fulfil it by themselves; ``keys``: the
    figures that are listed for each measurement of a run."""

    title: str
    statement: str
    formula: str
    start: Sequence[Place]
    keys: Sequence[str]


def parts() -> dict[str, str]:
    """What each part of a condition is called in the table."""
    return {
        "reward": _("reward"), "kl": _("KL"), "finished": _("finished"), "steps": _("steps"), "unchanged": _("change of the reward"),
        "near": _("KL at the end"), "pairs": _("pairs measured"), "truly": _("right at most"), "up": _("reward rose by"),
        "down": _("gold fell by"), "margin": _("margin rose by"), "wider": _("gap widened by"),
        "chosen": _("chosen log-prob moved by"), "learned": _("reward rose by"),
        "gap": _("lead on the critic"), "as good": _("lead on the default run"), "share": _("share of its steps"), "gain": _("gain"),
        "pull": "β",
    }  # fmt: skip


SYMBOLS = {
    "reward": "r_s", "kl": r"\mathrm{KL}_s", "steps": "S", "unchanged": r"|r_S-r_0|", "near": r"\mathrm{KL}_S",
    "pairs": "n", "truly": r"\max_a\,1-|s-a|", "up": r"r_S-r_0", "down": r"g_\text{peak}-g_S", "margin": r"m_S-m_0",
    "wider": r"\Delta_S-\Delta_0",
    "chosen": r"\log\pi_S(y_w)-\log\pi_0(y_w)", "learned": r"r_S-r_0", "gap": r"r_S-r'_{S'}", "as good": r"r_s-r'_{S'}", "share": r"s/S'",
    "gain": r"r_s-r_0", "pull": r"\beta",
}  # fmt: skip


def shown_as_share(part: Part) -> bool:
    return part.key in ("truly", "share", "gain")


def words() -> dict[str, Words]:
    """By the challenge's id, in the order of the list."""
    return {
        "frugal": Words(
            _("Reward 0.7 with a KL below 0.3 on story"),
            _(
                "Train the story model with any online algorithm on the reward `negative` alone (weight 1). At one and the same "
                "measurement on held-out prompts (at least {n}) the mean reward must be at least {reward}, and the KL to the reference "
                "below {kl} nats a token."
            ).format(n=engine.MEASURED, reward=engine.REWARD, kl=engine.KL),
            rf"\exists\,s>0:\quad r_s\ge {engine.REWARD}\ \wedge\ \mathrm{{KL}}_s<{engine.KL}",
            (Place("grpo", _("Begin with GRPO"), (("grpo.model", "story"), ("grpo.eval_every", "5"), ("grpo.steps", "30"))),
             Place("ppo", _("or PPO"), (("ppo.model", "story"), ("ppo.eval_every", "5"), ("ppo.steps", "30")))),
            ("eval/reward", "eval/kl", "eval/entropy"),
        ),
        "sums": Words(
            _("GRPO on sums: 20 points more within 40 steps"),
            _(
                "Train the sums model with GRPO on the reward `correct` alone. The share of right answers to held-out sums must rise by at "
                "least {points} percentage points over the untouched start, at a measurement of step {steps} at the latest."
            ).format(points=round(100 * engine.POINTS), steps=engine.WITHIN),
            rf"\exists\,0<s\le {engine.WITHIN}:\quad r_s-r_0\ge {engine.POINTS}",
            (Place("grpo", _("Begin with GRPO on sums"), (("grpo.model", "sums"), ("grpo.steps", str(engine.WITHIN)))),),
            ("eval/reward", "eval/kl", "eval/entropy"),
        ),
        "nothing": Words(
            _("Make GRPO learn nothing"),
            _(
                "A finished GRPO run of at least {steps} steps after which the policy is where it began: the held-out reward within "
                "±{change} of its start, and a held-out KL of at most {kl} nats a token, both measured at the last step. Held-out answers "
                "are sampled with the same luck every time, so an untouched policy measures exactly the same. What the events say about "
                "*why* is told below."
            ).format(steps=engine.SHORT, change=engine.UNCHANGED, kl=engine.NEAR),
            rf"S\ge {engine.SHORT}\ \wedge\ |r_S-r_0|\le {engine.UNCHANGED}\ \wedge\ \mathrm{{KL}}_S\le {engine.NEAR}",
            (Place("grpo", _("Begin with GRPO on sums"), (("grpo.model", "sums"), ("grpo.steps", "30"))),),
            ("eval/reward", "eval/kl", "frac_reward_zero_std", "learning_rate", "grad_norm"),
        ),
        "wrong": Words(
            _("Make the reward model wrong on purpose"),
            _(
                "A reward model of the story model that is truly right on less than half of at least {pairs} held-out pairs. True is what "
                "the rule of the embedded votes says: the sadder answer (VADER) is better. Of the pairs a share *s* is labelled truly, and "
                "the model agrees with a share *a* of the labels, so it is truly right on at most 1 − |s − a| of them. Whole range of a's "
                "95 % interval. Wrong labels can be in the training votes alone or in all."
            ).format(pairs=engine.FEW_PAIRS),
            rf"n\ge {engine.FEW_PAIRS}\ \wedge\ \max_{{a\in[a_\text{{low}},a_\text{{high}}]}}\big(1-|s-a|\big)<{engine.CHANCE}",
            (Place("reward_model", _("Begin with a reward model"), (("reward_model.model", "story"),)),
             Place("votes", _("or with votes of a rater who errs"))),
            ("eval/accuracy", "eval/accuracy/low", "eval/accuracy/high", "eval/margin"),
        ),
        "hacked": Words(
            _("Hack the reward in spite of the KL term"),
            _(
                "Train the story model with `{gold}` as its gold reward, on the rule `negative` alone or on a reward model, with a β of at "
                "least {pull}: the page's own 0 is too easy. The held-out reward must end at least {by} above its start, and the gold "
                "reward at least {by} below its own peak, in the last two measurements."
            ).format(gold=GOLD, by=engine.HACKED, pull=engine.PULL),
            rf"\beta\ge {engine.PULL}\ \wedge\ r_S-r_0\ge {engine.HACKED}\ \wedge\ g_\text{{peak}}-\max(g_{{S-1}},g_S)\ge {engine.HACKED}",
            (Place("reward_hacking", _("Begin on the page Reward hacking")),),
            ("eval/reward", "eval/gold", "eval/kl"),
        ),
        "down": Words(
            _("DPO: margins up, chosen log-probability down"),
            _(
                "A DPO run (loss `sigmoid`) whose held-out margin of implicit rewards rises by at least {margin}, while the summed "
                "log-probability of the *chosen* held-out answers falls by at least {nats:g} nat."
            ).format(margin=engine.MARGIN, nats=engine.NATS),
            rf"m_S-m_0\ge {engine.MARGIN}\ \wedge\ \log\pi_S(y_w)-\log\pi_0(y_w)\le -{engine.NATS:g}",
            (Place("dpo", _("Begin with DPO"), (("dpo.steps", "20"), ("dpo.learning_rate", "1e-05"))),),
            ("eval/rewards/margins", "eval/logps/chosen", "eval/logps/rejected", "eval/rewards/accuracies"),
        ),
        "up": Words(
            _("DPO: the gap widens, the chosen answers do not fall"),
            _(
                "A DPO run with any loss of the family after which the gap between the log-probabilities of chosen and rejected held-out "
                "answers is at least {nats:g} nats wider than at the start, while the chosen ones are at least as likely as then."
            ).format(nats=engine.WIDER),
            rf"\Delta_S-\Delta_0\ge {engine.WIDER:g}\ \wedge\ \log\pi_S(y_w)-\log\pi_0(y_w)\ge 0,"
            r"\quad\Delta=\log\pi(y_w)-\log\pi(y_l)",
            (Place("dpo", _("Begin with DPO on sums"), (("dpo.model", "sums"), ("dpo.eval_every", "10"))),),
            ("eval/logps/chosen", "eval/logps/rejected", "eval/rewards/margins", "eval/rewards/accuracies"),
        ),
        "actor": Words(
            _("PPO with the actor alone, as good as with a critic"),
            _(
                "Two finished PPO runs on the same model, data and reward, with as many steps and samples: one with a critic that raised "
                "the held-out reward by at least {learned}, and yours without (`critic` = none). Yours must have learned as much, and end "
                "at most {gap} below."
            ).format(learned=engine.LEARNED, gap=engine.AS_GOOD),
            rf"r_S-r_0\ge {engine.LEARNED}\ \wedge\ r_S-r'_{{S'}}\ge -{engine.AS_GOOD}",
            (Place("ppo", _("Begin with a critic"), (("ppo.model", "sums"), ("ppo.steps", "60"))),
             Place("ppo", _("then without"), (("ppo.model", "sums"), ("ppo.steps", "60"), ("ppo.critic", "none")))),
            ("eval/reward", "eval/kl", "values/explained_variance"),
        ),
        "sooner": Words(
            _("The same result in half the steps"),
            _(
                "Take a finished run of an online algorithm with its default settings (seed and measuring aside) that raised the held-out "
                "reward by at least {learned}. Yours, of the same algorithm on the same model, data and reward, must measure at least as "
                "much as that one at its end, after at most half as many steps."
            ).format(learned=engine.LEARNED),
            rf"\exists\,s:\quad r_s\ge r'_{{S'}}\ \wedge\ s\le {engine.SOONER}\,S'",
            (Place("grpo", _("Begin with the defaults"), (("grpo.model", "sums"),)),
             Place("grpo", _("then change something"), (("grpo.model", "sums"), ("grpo.eval_every", "5")))),
            ("eval/reward", "eval/kl"),
        ),
    }  # fmt: skip
