"""The one table of metrics: key, label, unit, definition, how to read it, and what looks broken but is not.

Axis labels, tooltips and docs come from here and nowhere else. Keys follow TRL, so that numbers can be compared. All averages
are over real response tokens, never over padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Metric:
    key: str
    label: str
    unit: str
    definition: str
    reading: str
    not_broken: str = ""
    better: Literal["up", "down", ""] = ""


_ALL = (
    Metric(
        "reward",
        "Reward",
        "",
        "Mean of the reward mix over the responses of the step, before KL and any normalisation.",
        "The goal. Rising steadily is good; jumping up together with KL can be reward hacking: read the samples.",
        better="up",
    ),
    Metric(
        "gold",
        "Gold reward",
        "",
        "Mean of the reward that is measured on the same responses and never trained on.",
        "Rising with the reward, the reward is worth its name. Falling while the reward rises, the reward is being fooled.",
        better="up",
    ),
    Metric(
        "reward_std",
        "Reward spread",
        "",
        "Standard deviation of the reward over the responses of the step.",
        "Near 0 there is nothing left to learn from, or every answer has become the same.",
    ),
    Metric(
        "kl",
        "KL to the reference",
        "nats / token",
        "Masked mean of k3 = e^(−d) − 1 + d, d = log π − log π_ref, on the fresh samples.",
        "How far the policy has moved. Below 0.5 texts stay readable on these models; above 2 look at the samples.",
        "It is never negative, because k3 is not; the k1 estimate (mean of d) can be negative on a small sample and that is noise.",
    ),
    Metric(
        "entropy",
        "Entropy",
        "nats / token",
        "Mean entropy of the policy's next-token distribution at the sampled positions.",
        "Falls as the policy becomes sure. Near 0 it writes the same text every time.",
        "A slow fall is what learning looks like.",
    ),
    Metric(
        "loss",
        "Loss",
        "",
        "What the optimizer minimises, averaged over the updates of the step.",
        "For RL, look at reward and KL instead.",
        "GRPO's loss stays near 0: a group's advantages sum to 0 and the first ratio is 1. The gradient is not 0.",
    ),
    Metric(
        "loss/policy",
        "Policy loss",
        "",
        "The clipped surrogate, with sign for minimising.",
        "Small and noisy around 0.",
        "Near 0 is normal: advantages have mean 0.",
    ),
    Metric(
        "loss/value",
        "Value loss",
        "",
        "Half the mean squared (clipped) error of the critic against its returns.",
        "Should fall in the first steps, then follow the reward's scale.",
        "It may rise when the reward rises: the critic is chasing a moving target.",
        "down",
    ),
    Metric(
        "loss/rank",
        "Ranking loss",
        "nats / token",
        "Over the pairs of a prompt in which a worse answer is likelier than a better one: the difference of their mean log-probabilities, "
        "summed; mean over the prompts.",
        "0 would mean that the policy ranks all its answers as the reward does.",
        "It may hardly fall: the answers are sampled anew in each step, and have never been ranked before.",
        "down",
    ),
    Metric(
        "loss/sft",
        "Imitation loss",
        "",
        "Minus the log-probability of each prompt's best answer, summed or averaged over its tokens; mean over the prompts.",
        "Falls as the policy becomes sure of what it writes.",
        "It follows the length of the answers where it is summed.",
    ),
    Metric(
        "best_reward",
        "Best answer's reward",
        "",
        "Mean over the prompts of the best reward among the answers to each.",
        "What imitation can reach: the mean reward runs after it. Once the two meet, sampling finds nothing better.",
        better="up",
    ),
    Metric(
        "rank_accuracy",
        "Ranking accuracy",
        "share",
        "Share of the pairs of answers to a prompt whose better one has the higher mean log-probability under the policy that wrote them.",
        "0.5 is chance.",
        "On freely written texts it stays near 0.5 while the reward rises: what is learned shows in what is written.",
        "up",
    ),
    Metric("loss/kl", "KL loss", "", "β times the mean KL estimate in the loss.", "The price paid for moving away from the reference."),
    Metric(
        "loss/penalty",
        "Penalty loss",
        "",
        "PPO-penalty's price: its coefficient times the KL between the policy that sampled and the policy that is updated.",
        "Small beside the policy loss. If it grows large the step is held back by it.",
        "0 with one update a batch: there the policy is the one that sampled.",
    ),
    Metric(
        "policy/approxkl",
        "Distance in a step",
        "nats / token",
        "Mean of ρ − 1 − log ρ over the updates of the step: an estimate of KL(π_old ‖ π) before each of them.",
        "How far the inner epochs move. Above about 0.05 the samples no longer stand for the policy.",
        "0 at the first update of each batch, which counts here too.",
    ),
    Metric(
        "policy/approxkl_after",
        "Distance after the step",
        "nats / token",
        "KL from the policy that sampled to the policy after all updates of the step (mean of ρ − 1 − log ρ), from a pass of its own.",
        "The adaptive coefficient holds it near its target: above 1.5 times the target it doubles, below target / 1.5 it halves.",
    ),
    Metric(
        "policy/penalty_coef",
        "Penalty coefficient",
        "",
        "Coefficient of the KL penalty at this step.",
        "Follows the distance after the step; by the paper, its start hardly matters.",
        "It moves in factors of two, also once it has found its place.",
    ),
    Metric(
        "epochs",
        "Inner epochs done",
        "epochs",
        "Times that the batch was gone through before the distance reached target_kl.",
        "Fewer than were set: the policy reached the distance earlier.",
    ),
    Metric(
        "grad_norm",
        "Gradient norm",
        "",
        "Norm of the gradient before clipping, mean over the updates.",
        "Sudden tall spikes come before a collapse.",
    ),
    Metric(
        "grad_variance",
        "Variance of the gradient",
        "",
        "Expected squared distance of the batch's gradient from its mean, over all parameters, estimated without bias from the gradients "
        "of the batch's groups of prompts, at the step's first update.",
        "Lower at the same batch size is a better estimator: the same step with less luck in it. Four times the responses quarter it.",
        "It jumps from step to step: it is itself estimated, from a few groups. With the batch baseline it is in other units, as the "
        "advantages are scaled.",
        "down",
    ),
    *(
        Metric(
            f"grad_variance/{name}",
            label,
            "",
            f"Variance of the gradient on the step's responses, had the advantages been {how}.",
            "Measured on the very responses of the step, beside the other estimators: they differ in nothing else.",
            not_broken,
            "down",
        )
        for name, label, how, not_broken in (
            ("trajectory", "Whole trajectory", "each response's whole return, with nothing subtracted", ""),
            (
                "to_go",
                "Rewards to go",
                "the rewards from each token on, with nothing subtracted",
                "As high as the whole trajectory where the reward comes at the end alone: only the KL of each token is paid on the way.",
            ),
            (
                "running_mean",
                "Running mean",
                "the rewards to go minus the mean return of past batches",
                "At the first step it equals the rewards to go: there is no past yet. Where right answers are those that the policy is "
                "sure of (sums), subtracting the mean can raise the variance: the best baseline weighs each return by its gradient.",
            ),
            (
                "leave_one_out",
                "Leave one out",
                "the rewards to go minus what the other responses to the prompt earned from there on",
                "Above the running mean where prompts differ little: with K responses a prompt, the mean of the others is a noisy "
                "figure itself, and adds 1 / (K − 1) of the variance within a prompt.",
            ),
            ("greedy", "Greedy answer", "the rewards to go minus the reward of the most probable answer", ""),
            (
                "value",
                "Critic",
                "those of the critic",
                "At the first step it equals the rewards to go: the critic starts at 0.",
            ),
        )
    ),
    Metric("learning_rate", "Learning rate", "", "The optimizer's step size at this step.", "Rises during warm-up."),
    Metric(
        "clip_ratio/region_mean",
        "Clipped tokens",
        "share",
        "Share of tokens whose probability ratio is outside the clip range on the side that cuts the gradient.",
        "Above 0.3 the updates on one batch go too far: lower the learning rate or the epochs.",
        "Exactly 0 with one update a batch: the ratio is 1 there.",
    ),
    Metric(
        "frac_reward_zero_std",
        "Groups with equal rewards",
        "share",
        "Share of prompts whose responses all got the same reward.",
        "Such groups have advantage 0 and teach nothing.",
        "Rises as the task is solved: all answers of a group are right.",
    ),
    Metric(
        "completions/mean_length",
        "Response length",
        "tokens",
        "Mean number of tokens in a response, EOS included.",
        "A drift up or down is often the first sign of reward hacking.",
    ),
    Metric(
        "completions/clipped_ratio",
        "Cut responses",
        "share",
        "Share of responses that reached the length limit without an end.",
        "High is normal for stories cut at 48 tokens.",
    ),
    Metric(
        "advantages/mean",
        "Mean advantage",
        "",
        "Mean advantage over the response tokens.",
        "Near 0 by construction.",
        "It is 0 up to different lengths.",
    ),
    Metric(
        "advantages/std",
        "Advantage spread",
        "",
        "Standard deviation of the advantage over the response tokens.",
        "About 1 where advantages are scaled; 0 means no signal.",
    ),
    Metric(
        "values/explained_variance",
        "Explained variance",
        "share",
        "1 − Var(returns − values) / Var(returns).",
        "1: the critic predicts the returns; 0: no better than their mean.",
        "Negative at the start: an untrained critic is worse than a constant.",
        "up",
    ),
    Metric(
        "values/mean", "Mean value", "", "Mean of the critic's estimate over the response tokens.", "Should come to match the mean return."
    ),
    Metric("ratio/mean", "Mean ratio", "", "Mean of π/π_old over the tokens in the updates.", "Stays near 1."),
    Metric(
        "rewards/chosen",
        "Implicit reward, chosen",
        "",
        "β·(log π − log π_ref) summed over the chosen answer.",
        "Should end above the rejected one.",
        "It may fall: what counts is the margin to the rejected answer.",
    ),
    Metric(
        "rewards/rejected", "Implicit reward, rejected", "", "β·(log π − log π_ref) summed over the rejected answer.", "Falls, usually."
    ),
    Metric(
        "rewards/margins", "Reward margin", "", "Chosen minus rejected implicit reward.", "Rises while the pairs are learned.", better="up"
    ),
    Metric(
        "rewards/accuracies",
        "Reward accuracy",
        "share",
        "Share of pairs whose chosen answer has the higher implicit reward (a tie counts as half).",
        "0.5 is chance.",
        "Exactly 0.5 before training: policy and reference are the same and every pair is a tie.",
        "up",
    ),
    Metric(
        "logps/chosen",
        "Log-probability, chosen",
        "nats",
        "Summed log-probability of the chosen answer under the policy.",
        "Watch it beside the rejected one.",
        "DPO lowers it too, often: the loss only asks that the rejected answer falls more.",
    ),
    Metric(
        "logps/rejected", "Log-probability, rejected", "nats", "Summed log-probability of the rejected answer under the policy.", "Falls."
    ),
    Metric(
        "mean_token_accuracy",
        "Token accuracy",
        "share",
        "Share of the answers' tokens that the policy finds most probable.",
        "Rises as the answers are imitated; held-out falling while training rises means learning by heart.",
        better="up",
    ),
    Metric(
        "perplexity",
        "Perplexity",
        "",
        "e to the power of the loss: among how many equally likely tokens the policy seems to choose.",
        "Falls. 1 would be certainty.",
        better="down",
    ),
    Metric(
        "accuracy",
        "Accuracy",
        "share",
        "Share of pairs whose chosen answer has the higher score (a tie counts as half).",
        "0.5 is chance. With a share of wrong labels the best that can be reached on them is one minus that share.",
        better="up",
    ),
    Metric(
        "accuracy/low",
        "Accuracy, lower end",
        "share",
        "Lower end of the accuracy's 95 % interval (Wilson).",
        "The interval narrows with pairs.",
    ),
    Metric(
        "accuracy/high",
        "Accuracy, upper end",
        "share",
        "Upper end of the accuracy's 95 % interval (Wilson).",
        "The interval narrows with pairs.",
    ),
    Metric(
        "margin",
        "Margin of the scores",
        "",
        "Score of the chosen answer minus that of the rejected one.",
        "Rises while the pairs are learned. Large margins on wrong pairs mean overconfidence.",
        better="up",
    ),
    Metric("scores/chosen", "Score, chosen", "", "Mean score of the chosen answers.", "Should end above the rejected one."),
    Metric("scores/rejected", "Score, rejected", "", "Mean score of the rejected answers.", "Should end below the chosen one."),
    Metric(
        "pairs",
        "Pairs",
        "pairs",
        "Prompts of the step whose responses did not all score the same, so that they gave a pair.",
        "Falls as the task is solved or the policy writes the same answer every time.",
    ),
    Metric(
        "kto/kl",
        "KL of mismatched answers",
        "nats",
        "KTO's point of comparison z: mean log-ratio of policy to reference on answers to other prompts, at least 0.",
        "An answer counts as a gain only above it.",
        "Exactly 0 at the start, where policy and reference are one, and whenever the mean is negative.",
    ),
    Metric(
        "dynamic_sampling/batches",
        "Further batches sampled",
        "batches",
        "Batches of other prompts that were sampled to replace groups whose responses all scored the same.",
        "Rises as the task is solved: more has to be sampled for a batch that teaches.",
    ),
    Metric(
        "overlong_penalty",
        "Overlong penalty",
        "",
        "Mean of what responses near the length limit lost of their reward before the advantages were taken (DAPO, eq. 13).",
        "At −1 every response hits the limit: the penalty then says nothing, since all pay the same.",
    ),
    Metric("step_time", "Step time", "s", "Seconds that the step took, without evaluation and saving.", ""),
    Metric("time/sampling", "Time in sampling", "s", "Seconds of the step spent in sampling.", ""),
    Metric("time/scoring", "Time in scoring", "s", "Seconds of the step spent on rewards and reference log-probabilities.", ""),
    Metric("time/updating", "Time in updating", "s", "Seconds of the step spent in forward, backward and optimizer.", ""),
    Metric(
        "tokens_per_second", "Tokens per second", "tokens / s", "Response tokens trained on, divided by the step time.", "", better="up"
    ),
    Metric("tokens", "Response tokens", "tokens", "Response tokens in the step.", ""),
    Metric("memory", "Memory", "MiB", "Peak memory of the device (GPU), or the memory that the process holds (CPU).", ""),
)

METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}


def describe(key: str) -> Metric:
    """The entry of a key; ``eval/…`` is its metric on held-out data, ``reward/NAME`` one part of the reward mix."""
    if key in METRICS:
        return METRICS[key]
    if key.startswith("eval/"):
        base = describe(key.removeprefix("eval/"))
        return replace(base, key=key, label=f"{base.label} (held-out)", definition=f"On data that is not trained on: {base.definition}")
    if key.startswith("reward/"):
        name = key.removeprefix("reward/")
        return Metric(
            key,
            f"Reward: {name}",
            "",
            f"Mean of the reward function “{name}” before its weight.",
            "One part of the reward mix.",
            better="up",
        )
    return Metric(key, key, "", "", "")
