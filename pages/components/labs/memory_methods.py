"""Lab 8, third part: the methods side by side, as their configs describe themselves."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.memory_setting import LAB, METHODS
from rlhf.config import Config
from rlhf.labs.memory import Setting, config_of
from rlhf.labs.methods import Properties, properties

DATA = {"prompts": _("prompts"), "pairs": _("preference pairs"), "demonstrations": _("answers to imitate")}


def draw() -> None:
    st.markdown(_("What each method is and needs. Change a setting and the table follows: it is read off the code."))
    with st.container(horizontal=True):
        critic = setting.toggle(LAB, "table_critic", _("PPO learns a critic"), True)
        reference = setting.toggle(LAB, "table_reference", _("DPO asks a reference (off: SimPO)"), True)
        epochs = setting.toggle(LAB, "table_epochs", _("Each batch is gone through four times"))
    chosen = Setting(critic=critic, reference=reference)
    configs = {}
    for method in METHODS:
        plain = config_of(method, chosen)
        configs[method] = config_of(method, chosen, epochs=4) if epochs and "epochs" in type(plain).model_fields else plain
    found = {METHODS[method]: properties(config) for method, config in configs.items()}
    st.table(pd.DataFrame([_character(name, one) for name, one in found.items()]).set_index(_("Method")))
    st.dataframe(
        pd.DataFrame([_needs(name, one) for name, one in found.items()]), hide_index=True,
        column_config={_("Method"): st.column_config.TextColumn(pinned=True)},
    )  # fmt: skip
    st.caption(
        _(
            "Drawn from the code. Online: its config is an OnlineConfig, which samples from the policy that it trains; it explores because "
            "of that. Reward: the config has the field. Critic, reference, passes: what the config says of itself, as the engine asks it "
            "too. Networks: policy, and one for each of these. Passes: per response, of which a backward pass costs as much as two forward "
            "passes; with a reference, one of the forward passes is the reference's (DPO's is made once for a pair and kept). Sensitive "
            "to: the settings that only this method has, whose effect its config describes, in the order of its form, β first; the table "
            "says that they matter, not how much."
        )
    )
    _effects(configs)


def _character(name: str, found: Properties) -> dict[str, str]:
    """The columns that the methods are told apart by, in a table whose texts wrap."""
    return {
        _("Method"): name,
        _("Asks a reward"): _told(found.reward),
        _("Critic"): _told(found.critic),
        _("Online"): _told(found.online),
        _("Explores"): _told(found.explores),
        _("Sensitive to"): ", ".join(f"`{setting_name}`" for setting_name, _effect in found.sensitive) or "–",
    }


def _needs(name: str, found: Properties) -> dict[str, str]:
    return {
        _("Method"): name,
        _("Makes"): _("a policy") if found.makes == "policy" else _("a reward model"),
        _("Learns from"): DATA[found.data],
        _("Reference"): _told(found.reference),
        _("Networks"): str(found.networks),
        _("Sampled"): f"{found.sampled:g}",
        _("Forward"): f"{found.forward:g}",
        _("Backward"): f"{found.backward:g}",
    }


def _told(value: bool) -> str:
    return _("yes") if value else "–"


def _effects(configs: Mapping[str, Config]) -> None:
    with st.expander(_("What raising these settings does"), icon=":material/trending_up:"):
        for method, config in configs.items():
            effects = "; ".join(f"`{name}` → {effect}" for name, effect in properties(config).sensitive)
            if effects:
                st.markdown(f"**{METHODS[method]}**: {effects}")
