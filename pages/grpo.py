"""GRPO: groups of answers to one prompt, scored against one another."""

from __future__ import annotations

import streamlit as st

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\begin{gathered}
\mathcal{J}(\theta)=\frac{1}{G}\sum_{i=1}^{G}\frac{1}{|o_i|}\sum_{t=1}^{|o_i|}
\Big\{\min\!\big[r_{i,t}\,\hat A_i,\;\operatorname{clip}(r_{i,t},1-\varepsilon,1+\varepsilon)\,\hat A_i\big]\\[2pt]
-\,\beta\,\mathbb{D}_{\mathrm{KL}}\big[\pi_\theta\|\pi_{\mathrm{ref}}\big]\Big\}\\[6pt]
r_{i,t}=\frac{\pi_\theta(o_{i,t}\mid q,o_{i,<t})}{\pi_{\mathrm{old}}(o_{i,t}\mid q,o_{i,<t})},
\quad
\hat A_i=\frac{R_i-\operatorname{mean}(R)}{\operatorname{std}(R)}
\end{gathered}
"""


def formula_diff() -> None:
    """GRPO explained against PPO: what is taken away, and what stands in its place."""
    rows = [
        ("", "PPO", "GRPO"),
        (_("Baseline"), _(":red[a learned critic V(s)]"), _(":green[the mean reward of the group]")),
        (_("Advantage"), _(":red[one for each token, by GAE]"), _(":green[one for the whole response, in deviations of the group]")),
        (_("Networks trained"), _(":red[policy and critic]"), _(":green[policy alone]")),
        (_("KL to the reference"), _(":red[subtracted from each token's reward]"), _(":green[a term of the loss, estimator k3]")),
        (_("Clipped ratio"), _("the same"), _("the same")),
    ]
    header, *body = ["| " + " | ".join(row) + " |" for row in rows]
    st.markdown(_("**Explained against PPO**"))
    st.markdown("\n".join([header, "|---|---|---|", *body]))


algorithm_page.draw(
    algorithm_page.About(
        algorithm="grpo",
        lead=_("Answers to the same prompt compete. What beats its group is reinforced; no critic is needed."),
        formula=FORMULA,
        reading=_(
            "The advantage compares each response's reward *R* with the other *G* − 1 responses to the same prompt.  \n"
            "The ratio *r* says how far the policy has moved since sampling, the clip bounds it, "
            "and β times the KL holds the policy near its start."
        ),
        paper=("DeepSeekMath (Shao et al. 2024), eq. 3", "https://arxiv.org/abs/2402.03300"),
        plan=_(
            "In each of **{steps} steps**, {model} writes **{group} responses** to each of **{prompts} prompts**, at most {tokens} tokens "
            "long. Those that score above their group's mean become likelier, those below less likely."
        ),
        presets=(
            algorithm_page.Preset(
                _("Collapse (what reward hacking looks like)"),
                {"learning_rate": 3e-4, "beta": 0.02},
                _(
                    "Three times the learning rate and a fifth of the KL weight: the reward rises faster, then the stories fall apart "
                    "into the few words that score best, while the KL shoots up. The reward alone would call this a success."
                ),
                model="story",
            ),
            algorithm_page.Preset("Dr. GRPO", {"variant": "dr_grpo"}),
            algorithm_page.Preset("DAPO", {"variant": "dapo"}),
            algorithm_page.Preset(
                "GSPO",
                {"variant": "gspo", "minibatches": 2},
                _("Two updates a batch: with one alone every ratio is 1, and GSPO is GRPO."),
            ),
        ),
        more=formula_diff,
    )
)
