"""REINFORCE: the policy gradient, and the ladder of refinements that takes the noise out of it."""

from __future__ import annotations

import streamlit as st

from pages.components import algorithm_page
from pages.components.i18n import _

FORMULA = r"""
\begin{gathered}
\nabla_\theta J(\theta)=\mathbb{E}_{y\sim\pi_\theta}\Big[\sum_{t=1}^{|y|}\nabla_\theta\log\pi_\theta(a_t\mid s_t)\;A_t\Big],
\qquad A_t=\underbrace{\textstyle\sum_{l\ge0}\gamma^{\,l}r_{t+l}}_{\text{return}}-\underbrace{\;b\;}_{\text{baseline}}\\[6pt]
r_t=-\beta\log\frac{\pi_{\text{old}}(a_t\mid s_t)}{\pi_{\text{ref}}(a_t\mid s_t)}+\mathbb{1}[t=|y|]\;r(x,y)
\end{gathered}
"""


def ladder() -> None:
    """Each refinement: what it takes away, and why the mean of the gradient stays the same."""
    st.markdown(_("**The ladder: the same gradient on average, with less luck in it**"))
    rows = [
        ("", _("what it leaves out"), _("why that is allowed")),
        (_("Whole trajectory"), _("nothing"), _("the plain estimator: every token answers for everything")),
        (_("Rewards to go"), _("what was earned before the token"), _("a token cannot change the past")),
        (_("Running mean"), _("what any response earns"), _("a number that the token does not change has no gradient on average")),
        (_("Leave one out (RLOO)"), _("what this prompt earns"), _("the other responses were written without this one")),
        (_("Critic (A2C)"), _("what this half-written answer was going to earn"), _("it is said before the token is drawn")),
    ]
    header, *body = ["| " + " | ".join(row) + " |" for row in rows]
    st.markdown("\n".join([header, "|---|---|---|", *body]))
    st.caption(
        _(
            "While a run trains, the plot *Variance of the gradient, by estimator* measures all of them on the same responses, at the "
            "first step and with every held-out measurement. Not every step down is a law: a leave-one-out mean of few responses is "
            "noisy itself, and pays where prompts differ; and where the right answers are those the policy is already sure of, as on sums, "
            "a mean is not the best baseline."
        )
    )


algorithm_page.draw(
    algorithm_page.About(
        algorithm="reinforce",
        lead=_("Try, and make likelier what turned out well. The other algorithms that sample are this one with less noise."),
        formula=FORMULA,
        reading=_(
            "The gradient is a sum over the tokens of a response and a mean over responses. "
            "Any baseline *b* that the token does not change leaves that mean as it is, and a good one takes most of the noise away.  \n"
            "With several updates a batch, the ratio to the policy that sampled is clipped, as in PPO."
        ),
        paper=("Simple statistical gradient-following algorithms (Williams 1992)", "https://doi.org/10.1007/BF00992696"),
        plan=_(
            "In each of **{steps} steps**, {model} writes **{group} responses** to each of **{prompts} prompts**, "
            "at most {tokens} tokens long. Tokens of responses that earned more than expected become likelier."
        ),
        presets=(
            algorithm_page.Preset(
                _("Plain REINFORCE"),
                {"returns": "trajectory", "baseline": "none"},
                _("No refinement at all, for comparison: each token is pushed by the whole response's return."),
            ),
            algorithm_page.Preset("RLOO", {"returns": "trajectory", "baseline": "leave_one_out"}),
            algorithm_page.Preset("A2C", {"baseline": "value"}),
            algorithm_page.Preset("ReMax", {"returns": "trajectory", "baseline": "greedy"}),
            algorithm_page.Preset("REINFORCE++", {"baseline": "batch", "epochs": 2}),
        ),
        more=ladder,
    )
)
