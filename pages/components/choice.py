"""A setting whose values have names of their own: called so in the select box, and by its value in the link.

Streamlit's own ``bind="query-params"`` would write the name into the link, in the language of the moment.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components.i18n import _

# What a value is called where its own letters (rlhf.config, TRL's where it has them) do not say it.
NAMES: dict[str, dict[str, str]] = {
    "variant": {
        "grpo": "GRPO", "bnpo": "BNPO", "dr_grpo": "Dr. GRPO", "dapo": "DAPO", "cispo": "CISPO", "sapo": "SAPO", "gspo": "GSPO",
        "sigmoid": "DPO (sigmoid)", "hinge": "Hinge (SLiC)", "ipo": "IPO", "robust": "Robust DPO", "exo_pair": "EXO", "nca_pair": "NCA",
        "bco_pair": "BCO", "sppo_hard": "SPPO", "aot": "AOT", "aot_unpaired": "AOT, unpaired", "apo_zero": "APO-zero",
        "apo_down": "APO-down", "discopop": "DiscoPOP", "sigmoid_norm": "DPO per token", "kto": "KTO", "simpo": "SimPO", "orpo": "ORPO",
        "cpo": "CPO", "rrhf": "RRHF", "best_of_n": "Best of n",
    },
    "returns": {"trajectory": "Whole trajectory", "to_go": "Rewards to go"},
    "baseline": {
        "none": "None", "running_mean": "Running mean", "leave_one_out": "Leave one out (RLOO)", "value": "Critic (A2C)",
        "greedy": "Greedy (ReMax)", "batch": "Batch (REINFORCE++)",
    },
    "scale_rewards": {"group": "Within the group", "batch": "Within the batch", "none": "Not at all"},
    "critic": {"learned": "Learned", "none": "None"},
    "objective": {"clip": "Clip", "penalty": "KL penalty"},
    "penalty_rule": {"fixed": "Fixed", "adaptive": "Adaptive"},
    "advantage_estimator": {"gae": "GAE", "td": "TD(0)", "n_step": "n-step", "monte_carlo": "Monte Carlo"},
    "f_divergence_type": {
        "reverse_kl": "Reverse KL", "forward_kl": "Forward KL", "js_divergence": "Jensen–Shannon", "alpha_divergence": "Alpha divergence",
    },
    "sft_reduction": {"sum": "Sum", "mean": "Mean"},
}  # fmt: skip


def named(field: str, value: Any) -> str:
    """What a field's value is called; "" if it has no name beside itself."""
    return _(NAMES.get(field, {}).get(str(value), ""))


def follow_link(name: str, options: tuple[Any, ...]) -> None:
    """What the link that opened the session chooses; one that names no value is ignored. ``name``: the widget's key.

    Later the session's own choice stands, as the browser may tell a link once more that has been rewritten meanwhile.
    """
    if name not in st.session_state and (linked := st.query_params.get(name)) in options:
        st.session_state[name] = linked


def select(title: str, options: tuple[Any, ...], default: Any, field: str, name: str, explained: str) -> Any:
    """The select box. As with all settings, the link holds the value only where it is not the default."""
    follow_link(name, options)
    if st.session_state.get(name) not in options:
        st.session_state[name] = default
    value = st.selectbox(
        title, options, format_func=lambda option: named(field, option) or str(option), key=name, help=explained, persist_state="session"
    )
    linked = "" if value == default else str(value)
    if linked and st.query_params.get(name) != linked:
        st.query_params[name] = linked
    elif not linked:
        st.query_params.pop(name, None)
    return value
