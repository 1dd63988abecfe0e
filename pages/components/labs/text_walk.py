"""Where one is in a text, and all branches that were tried: kept in the session for each prompt, the place in the link as token ids."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pages.components import candidates, link, models
from pages.components.i18n import _
from pages.components.labs import playing as pace
from pages.components.models import Frozen
from rlhf.labs.text_world import TextWorld
from rlhf.rewards import RewardMix

if TYPE_CHECKING:
    from rlhf.explore import Text
    from rlhf.rollout import NextToken

LAB = "mdp"
TOKENS = f"{LAB}.tokens"
WALKS, WISH, PLAYING, SHOWN, KNOWN = (f"{LAB}/{name}" for name in ("walks", "wish", "playing", "shown", "known"))
LINKED = f"{LAB}/linked"
BARS = f"{LAB}-bars"
MOST_LEAVES = 24
MOST_WALKS = 8
MOST_KNOWN = 600
MOST_LINKED = 256

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """The world with the model that acts in it and the settings of the page. ``k``: bars that are shown."""

    frozen: Frozen
    world: TextWorld
    mix: RewardMix
    kind: str
    k: int
    seed: int


@dataclass
class Walk:
    """``at``: the tokens chosen so far; ``logprobs``: every state that was visited and the log-probability of its last token, nats, in the
    order of the first visits; ``draws``: how many tokens were sampled, so that each draw has luck of its own."""

    at: Tokens = ()
    logprobs: dict[Tokens, float] = field(default_factory=dict)
    draws: int = 0

    def leaves(self) -> list[Tokens]:
        inner = {state[:-1] for state in self.logprobs}
        return [state for state in self.logprobs if state not in inner]

    def children(self, state: Tokens) -> list[Tokens]:
        return [other for other in self.logprobs if other[:-1] == state]


def walk(scene: Scene) -> Walk:
    """The walk of this model and prompt. A link that was just opened is followed as far as it can be, and what cannot be is told."""
    walks: dict[tuple[str, str], Walk] = st.session_state.setdefault(WALKS, {})
    name = (identity(scene.frozen), scene.world.prompt.text)
    found = walks.pop(name, None) or Walk()
    walks[name] = found
    while len(walks) > MOST_WALKS:
        walks.pop(next(iter(walks)))
    linked = st.query_params.get(TOKENS, "")
    if linked != st.session_state.get(LINKED) and (linked or link.went_back()):
        found.at = _followed(scene.world, linked) if linked else ()
    found.at = scene.world.possible(found.at)
    return found


def identity(frozen: Frozen) -> str:
    return frozen.side.checkpoint_id or frozen.side.model


def _followed(world: TextWorld, linked: str) -> Tokens:
    named: list[int] = []
    parts = linked.split(",")
    for part in parts[:MOST_LINKED]:
        if not (part.strip().isdecimal() and len(part.strip()) < 10):
            break
        named.append(int(part))
    possible = world.possible(named)
    if len(possible) < len(parts):
        words = _("The link names {n} tokens; {kept} of them can be followed. The rest are unknown to this model, or come after the end.")
        st.info(words.format(n=len(parts), kept=len(possible)), icon=":material/link_off:")
    return possible


def remember(scene: Scene, here: Walk) -> None:
    """Put the place into the tree and into the link."""
    text = read(scene, here.at)
    start = len(scene.world.prompt_ids)
    for n in range(1, len(here.at) + 1):
        here.logprobs.setdefault(here.at[:n], float(text.logprobs[start + n - 1] or 0.0))
    leaves = [leaf for leaf in here.leaves() if leaf != here.at[: len(leaf)]]
    for leaf in leaves[: max(0, len(leaves) + 1 - MOST_LEAVES)]:
        _drop(here, leaf)
    written = ",".join(map(str, here.at))
    st.session_state[LINKED] = written
    link.put(TOKENS, written)


def _drop(here: Walk, leaf: Tokens) -> None:
    """A leaf, and what led to it alone."""
    while leaf and not here.children(leaf) and leaf != here.at[: len(leaf)]:
        here.logprobs.pop(leaf, None)
        leaf = leaf[:-1]


# ---------------------------------------------------------------- moving


def move(scene: Scene, here: Walk) -> None:
    """What the buttons asked for, and while it plays one token more."""
    pace.keep_pace(LAB)
    playing = bool(st.session_state.get(PLAYING))
    wish = st.session_state.pop(WISH, None)
    if wish is not None and wish != "sample":
        here.at = scene.world.possible(wish)
    if (playing or wish == "sample") and not scene.world.end(here.at):
        _sample(scene, here)
    if playing and scene.world.end(here.at):
        pause()
        pace.keep_pace(LAB)


def _sample(scene: Scene, here: Walk) -> None:
    from rlhf import explore
    from rlhf.rollout import SamplingConfig

    luck = int(np.random.default_rng([scene.seed, here.draws]).integers(2**31))
    here.draws += 1
    ids = [*scene.world.prompt_ids, *here.at]
    with models.computing(scene.frozen) as loaded:
        text = explore.go_on(loaded, ids, len(ids), SamplingConfig(max_new_tokens=1), luck)
    here.at = (*here.at, text.ids[-1])


def go(tokens: Tokens) -> None:
    """For callbacks: to a state."""
    st.session_state[WISH] = tokens
    pause()


def sample() -> None:
    st.session_state[WISH] = "sample"
    pause()


def play(start: Tokens) -> None:
    """From a state on, one token after another."""
    st.session_state[WISH] = start
    st.session_state[PLAYING] = True


def pause() -> None:
    st.session_state.pop(PLAYING, None)


def forget() -> None:
    """All branches of all prompts, and the way back to the start."""
    st.session_state.pop(WALKS, None)
    pause()


def take() -> None:
    """For the bars: the token that was clicked."""
    place, at, ids = st.session_state.get(SHOWN, ("", (), []))
    index = candidates.picked(BARS, place, len(ids))
    if index is not None:
        go((*at, ids[index]))


# ---------------------------------------------------------------- what the model says, each state once


def read(scene: Scene, tokens: Tokens) -> Text:
    """Prompt and tokens with their log-probabilities, nats."""
    from rlhf import explore

    known = asked(scene.frozen)
    key = ("text", scene.world.prompt_ids, tokens)
    if key not in known:
        ids, start = [*scene.world.prompt_ids, *tokens], len(scene.world.prompt_ids)
        with models.computing(scene.frozen) as loaded:
            known[key] = explore.read(loaded, ids, start, scene.world.end(tokens) == "end")
    return known[key]


def actions(scene: Scene, tokens: Tokens) -> NextToken:
    """The ``scene.k`` most probable next tokens."""
    from rlhf.rollout import next_token

    known = asked(scene.frozen)
    key = ("next", scene.world.prompt_ids, tokens, scene.k)
    if key not in known:
        with models.computing(scene.frozen) as loaded:
            known[key] = next_token(loaded.model, loaded.tokenizer, [*scene.world.prompt_ids, *tokens], scene.k)
    return known[key]


def asked(frozen: Frozen) -> dict[Any, Any]:
    """What this session has asked this model; anew with another model, or when it has become much."""
    kept = st.session_state.get(KNOWN)
    if kept is None or kept[0]() is not frozen or len(kept[1]) > MOST_KNOWN:
        kept = st.session_state[KNOWN] = (weakref.ref(frozen), {})  # a session must not keep a model from being evicted
    return kept[1]
