"""What a comparison is made under: which sides, prompts, reward and sampling settings; the choice of sides stands in the link."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components.comparison import reward_name
from pages.components.i18n import _
from pages.components.link import pick
from rlhf import compare, runs
from rlhf.algorithms import title
from rlhf.compare import Side
from rlhf.config import RewardTerm
from rlhf.errors import PlaygroundError
from rlhf.preferences import Prompt
from rlhf.rewards import REWARDS, RewardMix
from rlhf.runs import Run

MOST_PROMPTS = 12
NONE = ""


def ask(what: str = "show") -> None:
    """Something is wanted: ``write`` answers, ``measure``, or ``show`` (somebody chose a run: write at once if the models are small)."""
    st.session_state.setdefault("compare/asked", set()).add(what)


def run_label(run: Run) -> str:
    """The user's name for a run; one without is told by when it began."""
    began = datetime.datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M")
    first = run.name if run.name != run.id else f"{began} ({run.id[-4:]})"
    return f"{first} · {_(title(run.algorithm))} · {run.model}"


def checkpoint_names(run: Run) -> dict[str, str]:
    """The newest first; ``last`` where a run was interrupted beyond its newest kept one."""
    found = {info.name: _("step {step}").format(step=info.step) for info in reversed(run.checkpoints())}
    newest = max((info.step for info in run.checkpoints()), default=0)
    if run.last is not None and (run.last_step or 0) > newest:
        found = {"last": _("step {step}, where it stopped").format(step=run.last_step), **found}
    return found


def choose_side(label: str, names: dict[str, str], suffix: str = "") -> Side | None:
    left, right = st.columns([3, 2])
    with left:
        run_id = pick(label, names, f"run{suffix}", f"compare/run{suffix}", chosen=ask)
    if run_id == NONE:
        return None
    run = runs.open_run(run_id)
    with right:
        key = f"compare/checkpoint{suffix}/{run_id}"
        checkpoint = pick(_("Checkpoint"), checkpoint_names(run), f"checkpoint{suffix}", key, chosen=ask)
    return compare.tuned(run, checkpoint)


@dataclass(frozen=True)
class Chosen:
    """What the popover holds: the reward, ``SamplingConfig``'s fields, and how many prompts are shown and measured on."""

    terms: tuple[RewardTerm, ...]
    sampling: dict[str, Any]
    seed: int
    shown: int
    measured: int


def choose_conditions(run: Run) -> Chosen:
    """The run's own settings, unless they are changed here. The same for every side."""
    own = compare.sampling_of(run)
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.popover(_("Conditions"), icon=":material/tune:"):
        st.caption(_("The run's own settings, unless you change them. The same for every side."))
        terms = _choose_reward(run)
        cells = st.grid(2, min_column_width=120, gap=("xsmall", "small"))
        usual, longest = float(own["temperature"]), int(own["max_new_tokens"])
        temperature = cells.cell().number_input(_("Temperature"), 0.05, 5.0, usual, 0.1, key=f"compare/temperature/{run.id}", **keep)
        tokens = cells.cell().number_input(_("New tokens at most"), 1, max(1024, longest), longest, key=f"compare/tokens/{run.id}", **keep)
        top_p = cells.cell().number_input(_("Top-p"), 0.01, 1.0, float(own["top_p"]), 0.05, key=f"compare/top_p/{run.id}", **keep)
        top_k = cells.cell().number_input(_("Top-k"), 0, 100_000, int(own["top_k"]), key=f"compare/top_k/{run.id}", **keep)
        seed = cells.cell().number_input(_("Seed"), 0, 2**31 - 1, 0, key="compare/seed", **keep)
        shown = cells.cell().number_input(_("Prompts shown"), 1, MOST_PROMPTS, 3, key="compare/count", **keep)
        words = _("More give a narrower confidence interval, and take longer.")
        measured = st.number_input(_("Held-out prompts to measure on"), 2, 1000, 64, key="compare/most", help=words, **keep)
    sampling = {**own, "temperature": float(temperature), "max_new_tokens": int(tokens), "top_p": float(top_p), "top_k": int(top_k)}
    return Chosen(terms, sampling, int(seed), int(shown), int(measured))


def _choose_reward(run: Run) -> tuple[RewardTerm, ...]:
    own = compare.reward_of(run)
    options: dict[str, tuple[RewardTerm, ...]] = {"own": own} if own else {"none": ()}
    for name in REWARDS:
        try:
            RewardMix([RewardTerm(name=name, weight=1.0)])
        except PlaygroundError:
            continue  # cannot do without options of its own
        options[name] = (RewardTerm(name=name, weight=1.0),)
    words = {"own": _("the run's own: {reward}").format(reward=reward_name(own)), "none": _("none")}
    names = {option: words.get(option, option) for option in options}
    key = f"compare/reward/{run.id}"
    return options[st.selectbox(_("Reward"), list(names), format_func=names.__getitem__, key=key, persist_state="session")]


def choose_kind(heldout: list[Prompt]) -> str:
    """``heldout`` or ``own``."""
    kinds = {"heldout": _("Held-out prompts"), "own": _("Own prompts")}
    usual = "heldout" if heldout else "own"
    return st.segmented_control(
        _("Prompts"), list(kinds), default=usual, required=True, format_func=kinds.__getitem__, key="compare/kind", persist_state="session",
        label_visibility="collapsed",
    ) or usual  # fmt: skip


def choose_heldout(heldout: list[Prompt], count: int) -> list[Prompt]:
    """``count`` of the held-out prompts, and a button for the next ones."""
    start = st.session_state.setdefault("compare/start", 0) % max(1, len(heldout))
    help_text = _("The next held-out prompts.")
    few = len(heldout) <= count
    if st.button(_("Others"), icon=":material/shuffle:", help=help_text, key="compare/others", on_click=ask, disabled=few):
        start = (start + count) % len(heldout)
        st.session_state["compare/start"] = start
    return [*heldout, *heldout][start : start + min(count, len(heldout))]


def write_own(run: Run, heldout: list[Prompt]) -> list[Prompt]:
    """Prompts that the user writes; those that are held-out ones come with their right answers."""
    first = heldout[0].text if heldout else ""
    text = st.text_area(
        _("One prompt a line, {n} at most").format(n=MOST_PROMPTS), first,
        key=f"compare/own/{run.model}", height=90, max_chars=20_000, persist_state="session",
    )  # fmt: skip
    known = {prompt.text: prompt for prompt in heldout}
    lines = [line for line in dict.fromkeys((text or "").splitlines()) if line.strip()]
    return [known.get(line, Prompt(line)) for line in lines[:MOST_PROMPTS]]
