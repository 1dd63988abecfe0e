"""Lab: the policy gradient, exactly and from samples; what each refinement of REINFORCE does to its bias and variance."""

from __future__ import annotations

from pages.components.i18n import _
from pages.components.labs import frame, policy_gradient

LAB = frame.Lab(
    page="lab_policy_gradient",
    name="pg",
    title=_("Policy gradient and its variance"),
    lead=_(
        "Try an action; if what followed was good, make it more likely. That is a gradient ascent on the expected return, with an "
        "estimate in the place of the gradient. Here the gradient is known exactly, so you see how far off each estimate is, and how "
        "noisy."
    ),
    formula=r"\begin{aligned}\nabla_\theta J&=\mathbb{E}\Big[\textstyle\sum_t\nabla_\theta\log\pi_\theta(a_t\mid s_t)\;w_t\Big]\\[0.3em]"
    r"w_t&=\textstyle\sum_k\gamma^k r_k&&\text{" + _("whole return") + r"}\\"
    r"&\to\gamma^t\,G_t,\quad G_t=\textstyle\sum_{k\ge t}\gamma^{k-t}r_k&&\text{" + _("to go") + r"}\\"
    r"&\to\gamma^t\,(G_t-b)&&\text{" + _("baseline") + r"}\\"
    r"&\to\gamma^t\,\big(G_t-V(s_t)\big)&&\text{" + _("advantage") + r"}\\"
    r"&\to\gamma^t\,\big(r_t+\gamma\hat V(s_{t+1})-\hat V(s_t)\big)&&\text{" + _("critic") + r"}\end{aligned}",
    reading=_(
        "The score ∇log π says which way the logits must move to make the action likelier; the weight w says how much that is worth. "
        "Each arrow is another weight: on the whole the estimate scatters less where it brings w nearer to 0, and more where it takes w "
        "away from 0. All but the last leave the mean of the estimate where it is: the exact gradient."
    ),
    papers=[
        ("Williams 1992", "https://doi.org/10.1007/BF00992696"),
        ("Sutton et al. 2000", "https://papers.nips.cc/paper/1713-policy-gradient-methods-for-reinforcement-learning-with-function-approximation"),
        ("Greensmith, Bartlett, Baxter 2004", "https://jmlr.org/papers/v5/greensmith04a.html"),
    ],
    code=["policy_gradient.py", "gradient_estimators.py", "softmax_policy.py", "gridworld.py"],
    real=[
        ("reinforce", _("REINFORCE: this ladder, its variance measured live")),
        ("ppo", _("PPO: the learned critic at every token")),
        ("grpo", _("GRPO: the mean of a group's answers as the baseline")),
    ],
    questions=policy_gradient.questions,
)  # fmt: skip

frame.draw(LAB, policy_gradient.body)
