"""The settings of the lab: which model writes, after which prompt, for which reward; and what is wrong with them, in words."""

from __future__ import annotations

import random
from functools import cache

import streamlit as st

from pages.components import link, model_choice, models
from pages.components.explorer import FIRST_PROMPTS
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.text_walk import LAB, Scene
from pages.components.text import plain
from rlhf import compare, runs
from rlhf.catalogue import CATALOGUE
from rlhf.compare import Side
from rlhf.config import RewardTerm
from rlhf.errors import ModelError, PlaygroundError, RunError
from rlhf.labs.text_world import right_answer, text_world
from rlhf.preferences import EMBEDDED, Prompt, load_dataset
from rlhf.rewards import REWARDS, RewardMix

EMBEDDED_MODELS = tuple(name for name, entry in CATALOGUE.items() if entry.embedded)
REWARD_ORDER = {
    "sums": ("correct", "digits", "format", "length"),
    "story": ("negative", "positive", "words", "length", "repetition", "format"),
}
LONGEST = {"sums": (4, 8), "story": (16, 48)}


def scene() -> Scene:
    """Draw the settings. Raises ``PlaygroundError`` where a text cannot be written with them."""
    side = _model()
    frozen = models.wait(side)
    kind = side.model if side.model in EMBEDDED_MODELS else "chat" if frozen.loaded.chat else "text"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        prompt = _prompt(kind)
    with st.expander(_("Reward, lengths, seed"), icon=":material/tune:"):
        cells = st.columns(2, gap="medium")
        with cells[0]:
            mix = _reward(kind, right_answer(prompt) is not None)
        with cells[1]:
            usual, most = LONGEST.get(kind, LONGEST["story"])
            longest = setting.whole(LAB, f"longest.{kind}", _("Tokens at most, then the text is cut"), 1, most, usual)
            k = setting.whole(LAB, "k", _("Tokens shown as bars"), 1, 40, 8)
            seed = setting.seed(LAB)
    world = text_world(frozen.loaded, Prompt(prompt, right_answer(prompt)), longest)
    if world.ends & set(world.prompt_ids) and not frozen.loaded.chat:
        st.info(_("This model cannot read some of the prompt: unknown characters become its end token ∅."), icon=":material/info:")
    return Scene(frozen, world, mix, kind, k, seed)


def _model() -> Side:
    """An embedded model, the one that the Model page has loaded, or a checkpoint that the link or a button names."""
    key = setting.key(LAB, "model")
    sides = {name: Side(name) for name in EMBEDDED_MODELS[::-1]}  # sums first: the shortest texts
    shown = st.session_state.get(model_choice.SHOWN)
    if isinstance(shown, Side):
        sides.setdefault(shown.checkpoint_id or shown.model, shown)
    asked = link.wanted(key, f"{key}/chosen")
    if asked and asked not in sides:
        try:
            sides[asked] = _find(asked)
        except PlaygroundError as error:
            st.warning(f"{plain(error.what)} {plain(error.do)}", icon=":material/search_off:")
    words = _("The embedded models are here at once. Any other: load it on the page Model, then come back.")
    chosen = setting.choice(LAB, "model", _("Model"), {name: _title(side) for name, side in sides.items()}, help=words)
    return sides[chosen]


def _find(name: str) -> Side:
    run_id, _slash, checkpoint = name.partition("/")
    side = Side(name)
    if checkpoint.startswith("step-"):
        try:
            side = compare.tuned(runs.open_run(run_id), checkpoint)
        except RunError as error:
            raise RunError(error.what, "The lab shows an embedded model instead.") from None
    if side.model not in EMBEDDED_MODELS and models.shelf().ready(side) is None:
        raise ModelError(f"The model “{side.model[:80]}” is not loaded.", "Load it on the page Model first, then open the link again.")
    return side


def _title(side: Side) -> str:
    entry = CATALOGUE.get(side.model)
    name = entry.title if entry else side.model
    return name if side.is_untouched else _("{model} after {run}, step {step}").format(model=name, run=side.run_name, step=side.step)


def _prompt(kind: str) -> str:
    key = setting.key(LAB, f"prompt.{kind}")
    first = FIRST_PROMPTS.get(kind) or (_("Tell me about the sea in one sentence.") if kind == "chat" else FIRST_PROMPTS["story"])
    prompt = st.text_input(_("Prompt"), first, max_chars=2000, key=key, bind="query-params", persist_state="session")
    st.button(
        _("Another"), icon=":material/shuffle:", key=f"{LAB}/another", on_click=_another, args=(key, kind), help=_("A held-out prompt.")
    )
    return str(prompt or "").strip()


@cache
def _prompts(kind: str) -> tuple[str, ...]:
    name = f"{kind}-prompts"
    return tuple(item.prompt for item in load_dataset("prompts", name if name in EMBEDDED else "story-prompts").heldout)


def _another(key: str, kind: str) -> None:
    others = [prompt for prompt in _prompts(kind) if prompt != st.session_state.get(key)]
    st.session_state[key] = random.choice(others)


def _reward(kind: str, has_answer: bool) -> RewardMix:
    names = [*REWARD_ORDER.get(kind, REWARD_ORDER["story"]), *(("correct", "digits") if has_answer and kind != "sums" else ())]
    chosen = setting.choice(LAB, f"reward.{kind}", _("Reward function"), {name: name for name in names})
    st.caption(_(REWARDS[chosen].explanation))
    options = {"preset": "three digits"} if (kind, chosen) == ("sums", "format") else {}
    return RewardMix([RewardTerm(name=chosen, options=options)])
