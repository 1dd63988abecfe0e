"""PPO: actor and critic, or the actor alone."""

from __future__ import annotations

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\begin{gathered}
L(\theta)=\mathbb{E}_t\Big[\min\!\big(\rho_t\,\hat A_t,\;\operatorname{clip}(\rho_t,1-\varepsilon,1+\varepsilon)\,\hat A_t\big)\Big]\\[2pt]
-c_1\,\mathbb{E}_t\big[(V_\theta(s_t)-\hat R_t)^2\big]+c_2\,\mathbb{E}_t\big[S[\pi_\theta](s_t)\big]\\[6pt]
\hat A_t=\sum_{l\ge 0}(\gamma\lambda)^l\,\delta_{t+l},
\quad
\delta_t=r_t+\gamma V(s_{t+1})-V(s_t)
\end{gathered}
"""


algorithm_page.draw(
    algorithm_page.About(
        algorithm="ppo",
        lead=_("A critic learns what to expect from each half-written answer. What goes better than expected is reinforced."),
        formula=FORMULA,
        reading=_(
            "The advantage sums what went better than the critic *V* expected, token by token; λ weighs how far ahead it looks.  \n"
            "ρ is the ratio of the policy to the one that sampled. The token's reward r holds −β times its log-ratio to the reference, "
            "and at the last token the score of the whole response."
        ),
        presets=(
            algorithm_page.Preset(
                _("Actor only"),
                {"critic": "none"},
                _("No critic: the return itself, against the mean of the batch, is the advantage. One network less; compare the curves."),
            ),
            algorithm_page.Preset(
                _("KL penalty, adaptive"),
                {"objective": "penalty", "epochs": 4},
                _("The paper's other objective: no clip, but a price on leaving the old policy that follows the distance of each step."),
            ),
            algorithm_page.Preset(
                _("TD(0)"),
                {"advantage_estimator": "td"},
                _(
                    "Every advantage trusts the critic after one token. While the critic knows nothing, the reward at the end hardly "
                    "reaches the first tokens: learning starts later than with GAE."
                ),
            ),
            algorithm_page.Preset(
                _("KL in the loss"),
                {"kl_in": "loss", "kl_estimator": "k2"},
                _("The pull towards the reference leaves the tokens' rewards and becomes a term of the loss, as in GRPO."),
            ),
        ),
        paper=("Proximal policy optimization (Schulman et al. 2017), eq. 7, 9, 11", "https://arxiv.org/abs/1707.06347"),
        plan=_(
            "In each of **{steps} steps**, {model} writes **{samples} responses**, at most {tokens} tokens long. Tokens after which things "
            "went better than expected become likelier. Each batch is gone through {epochs} times."
        ),
    )
)
