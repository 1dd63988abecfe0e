"""A critic for the lab: which PPO runs of a model have one, and its V(s) along a text."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from pages.components import link, models
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs import text_walk as walks
from pages.components.labs.text_walk import LAB, Scene, Tokens
from pages.components.text import plain
from rlhf import compare, runs
from rlhf.config import PPOConfig, spelled_reward
from rlhf.errors import PlaygroundError
from rlhf.labs.mdp import Floats
from rlhf.labs.text_world import VALUE_HEAD, state_values

LISTED = 20
NONE = "none"
MODEL_CHOSEN = f"{setting.key(LAB, 'model')}/chosen"


@dataclass(frozen=True)
class Critic:
    """The newest checkpoint of a run that holds a value head."""

    run: runs.Run
    checkpoint: str
    step: int

    @property
    def id(self) -> str:
        return f"{self.run.id}/{self.checkpoint}"


def critics(model: str) -> list[Critic]:
    """The newest runs first."""
    found = []
    for run in runs.list_runs():
        if run.algorithm != "ppo" or run.model != model:
            continue
        saved = [info for info in run.checkpoints() if (info.path / VALUE_HEAD).is_file()]
        if saved:
            found.append(Critic(run, saved[-1].name, saved[-1].step))
        if len(found) == LISTED:
            break
    return found


def choose(scene: Scene) -> Critic | None:
    """The picker; where there is no critic, what to do about it."""
    model, key = scene.frozen.side.model, setting.key(LAB, "critic")
    found = {critic.run.id: critic for critic in critics(model)}
    asked = link.wanted(key, f"{key}/chosen")
    if asked and asked != NONE and asked not in found:
        st.caption(_("The run {run} is not here, or has no critic of this model.").format(run=plain(asked[:60])))
    if not found:
        st.caption(_("No PPO run of this model has a critic yet, so there is no V(s) to show. Train one; it takes a minute or two."))
        st.page_link("ppo.py", label=_("Train a critic with PPO"), icon=":material/school:")
        return None
    names = {id: _("{run}, step {step}").format(run=critic.run.name, step=critic.step) for id, critic in found.items()}
    nobody = {NONE: _("no critic")}
    # to load a large model's checkpoint takes time: only when it is asked for
    names = {**names, **nobody} if scene.kind in ("sums", "story") else {**nobody, **names}
    words = _("The value head that a PPO run of this model has trained: what it expects of the return from each state on.")
    return found.get(setting.choice(LAB, "critic", _("Critic of"), names, help=words))


def values(scene: Scene, tokens: Tokens, critic: Critic | None, gamma: float) -> Floats | None:
    """V along the text, and whose it is."""
    if critic is None:
        return None
    known, key = walks.asked(scene.frozen), ("values", critic.id, scene.world.prompt_ids, scene.world.longest, tokens)
    try:
        if key not in known:
            side = compare.tuned(critic.run, critic.checkpoint)
            frozen = models.wait(side)
            with models.computing(frozen) as loaded:
                known[key] = state_values(scene.world, tokens, loaded, side.layers[-1])
        _whose(scene, critic, gamma)
    except PlaygroundError as error:
        st.caption(f":material/error: {plain(error.what)}")
        return None
    return known[key]


def _whose(scene: Scene, critic: Critic, gamma: float) -> None:
    """Which run it is of, what it learned to expect, and whether that is what is shown here."""
    config = critic.run.load_config()
    assert isinstance(config, PPOConfig)
    settings = {"reward": f"`{spelled_reward(config.reward)}`", "gamma": f"{config.gamma:g}", "beta": f"{config.beta:g}"}
    words = _("V is of **{run}**, step {step}. It learned to expect its own policy's return: {reward}, γ = {gamma}, β = {beta}.")
    st.caption(words.format(run=plain(critic.run.name), step=critic.step, **settings))
    own = walks.identity(scene.frozen) == critic.id
    if not own:
        st.button(_("Let its policy write"), icon=":material/swap_horiz:", key="mdp/act", on_click=_act, args=(critic.id,), type="tertiary")
    if [term.name for term in config.reward] != scene.mix.names or config.gamma != gamma or not own:
        st.caption(_("Here something else writes or is paid, so G − V is more than the critic's error."))


def _act(reference: str) -> None:
    st.session_state[MODEL_CHOSEN] = reference
