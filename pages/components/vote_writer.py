"""Answers to vote on: which model writes them, to which prompts, with which settings; and the writing, ahead of the voter."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import streamlit as st

from pages.components import model_choice, models
from pages.components.i18n import _
from pages.components.models import Frozen
from rlhf import compare
from rlhf.algorithms import make_config
from rlhf.compare import Side
from rlhf.errors import DataError
from rlhf.preferences import EMBEDDED, Prompt, load_dataset
from rlhf.votes import Vote, Winner, new_id

OWN = "own"
TRIES = 8  # prompts that are tried until a model writes two different answers
MOST_ANSWERS = 6
_luck = random.SystemRandom()
_ahead = ThreadPoolExecutor(max_workers=2, thread_name_prefix="write ahead")


@dataclass(frozen=True)
class Settings:
    """Under which conditions all answers of a ballot are written."""

    side: Side
    prompts: tuple[Prompt, ...]
    sampling: tuple[tuple[str, Any], ...]  # fields of SamplingConfig
    answers: int = 2


@dataclass(frozen=True)
class Candidate:
    """An answer, and where it came from (``rlhf.votes.Vote`` says what the words mean)."""

    text: str
    model: str
    checkpoint: str = ""
    seed: str = ""
    tokens: int = 0
    finished: bool = True


@dataclass(frozen=True)
class Ballot:
    """Answers to one prompt in the order in which they are shown, which tells nothing. Its votes get its ``id``."""

    id: str
    prompt: Prompt
    answers: tuple[Candidate, ...]
    sampling: tuple[tuple[str, Any], ...] = ()

    def vote(self, winner: Winner, rater: str, **fields: Any) -> Vote:
        """The vote on a ballot of two. ``fields``: others of ``Vote``; its id is the ballot's unless one is given."""
        left, right = self.answers
        return Vote(
            self.prompt.text, left.text, right.text, winner, rater, left_model=left.model, left_checkpoint=left.checkpoint,
            right_model=right.model, right_checkpoint=right.checkpoint, left_seed=left.seed, right_seed=right.seed,
            sampling=dict(self.sampling), **{"id": self.id, **fields},
        )  # fmt: skip


# ---------------------------------------------------------------- settings


@lru_cache(maxsize=8)
def embedded(name: str) -> tuple[Prompt, ...]:
    """The training prompts: the held-out ones stay for measuring."""
    return tuple(item for item in load_dataset("prompts", name).train if isinstance(item, Prompt))


def choose(several: bool) -> Settings | None:
    """The pickers; None where something is missing, which is said. ``several``: more than two answers can be asked for."""
    side = model_choice.choose()
    if side is None:
        return None
    sets = [name for name, item in EMBEDDED.items() if item.kind == "prompts"]
    names = {name: _(EMBEDDED[name].description) for name in sets} | {OWN: _("Own prompts")}
    usual = next((i for i, name in enumerate(sets) if EMBEDDED[name].model == side.model), len(sets))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            _("Prompts"), list(names), index=usual, format_func=names.__getitem__, key=f"votes/prompts/{side.model}",
            persist_state="session",
        )  # fmt: skip
        sampling, answers = _conditions(side, several)
    prompts = _own(side) if chosen == OWN else embedded(str(chosen))
    return Settings(side, prompts, tuple(sampling.items()), answers) if prompts else None


def _own(side: Side) -> tuple[Prompt, ...]:
    text = st.text_area(_("One prompt a line."), key=f"votes/own/{side.model}", persist_state="session", height=90, max_chars=20_000)
    lines = [line for line in dict.fromkeys((text or "").splitlines()) if line.strip()]
    if not lines:
        st.caption(_("Write at least one prompt."))
    return tuple(Prompt(line) for line in lines)


def usual_sampling(model: str) -> dict[str, Any]:
    """As the model's online runs have it."""
    config = make_config("grpo", model=model)
    return {name: getattr(config, name) for name in ("temperature", "max_new_tokens", "top_p", "top_k")}


def _conditions(side: Side, several: bool) -> tuple[dict[str, Any], int]:
    """Sampling settings, the same for all answers; the usual ones unless they are changed."""
    usual = usual_sampling(side.model)
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.popover(_("Conditions"), icon=":material/tune:"):
        st.caption(_("The same for all answers to a prompt; only the seed differs."))
        cells = st.grid(2, min_column_width=120, gap=("xsmall", "small"))
        of, longest = side.model, int(usual["max_new_tokens"])
        warmth = cells.cell().number_input(_("Temperature"), 0.05, 5.0, float(usual["temperature"]), 0.1, key=f"votes/warmth/{of}", **keep)
        length = cells.cell().number_input(_("New tokens at most"), 1, max(1024, longest), longest, key=f"votes/tokens/{of}", **keep)
        top_p = cells.cell().number_input(_("Top-p"), 0.01, 1.0, float(usual["top_p"]), 0.05, key=f"votes/top_p/{of}", **keep)
        top_k = cells.cell().number_input(_("Top-k"), 0, 100_000, int(usual["top_k"]), key=f"votes/top_k/{of}", **keep)
        answers = 2
        if several:
            words = _("More than two are ranked; a ranking becomes pairs.")
            answers = st.number_input(_("Answers to a prompt"), 2, MOST_ANSWERS, 2, key="votes/answers", help=words, **keep)
    sampling = {"temperature": float(warmth), "max_new_tokens": int(length), "top_p": float(top_p), "top_k": int(top_k)}
    return sampling, int(answers)


# ---------------------------------------------------------------- writing


def seed() -> int:
    return _luck.randrange(2**31)


def candidates(frozen: Frozen, prompts: Sequence[Prompt], sampling: Mapping[str, Any], with_seed: int, k: int = 1) -> list[Candidate]:
    """``k`` answers to each prompt, those to one prompt in a row, in one batch. Raises ``PlaygroundError``."""
    from rlhf.rollout import SamplingConfig

    with models.computing(frozen) as loaded:
        written = compare.answers(loaded, prompts, SamplingConfig(**sampling), with_seed, group_size=k, batch=k * len(prompts))
    side = frozen.side
    return [
        Candidate(answer.text, side.model, side.checkpoint_id, f"{with_seed}/{row}", len(answer.ids), answer.finished)
        for row, answer in enumerate(written)
    ]


def write(frozen: Frozen, prompts: Sequence[Prompt], settings: Settings, with_seed: int) -> list[Ballot]:
    """A ballot for each prompt, in one batch, without those on which all answers are the same. Raises ``PlaygroundError``."""
    k = settings.answers
    written = candidates(frozen, prompts, dict(settings.sampling), with_seed, k)
    ballots = []
    for i, prompt in enumerate(prompts):
        made = written[k * i : k * (i + 1)]
        if len({candidate.text for candidate in made}) > 1:
            random.Random(f"{with_seed}/{i}").shuffle(made)
            ballots.append(Ballot(new_id(), prompt, tuple(made), settings.sampling))
    return ballots


def one(frozen: Frozen, settings: Settings) -> Ballot:
    """The answers to a prompt that is drawn by chance. Raises ``DataError`` where the model always writes the same."""
    for _attempt in range(TRIES):
        if ballots := write(frozen, [_luck.choice(settings.prompts)], settings, seed()):
            return ballots[0]
    raise DataError(
        f"{settings.side.model} wrote the same answer each time, to {TRIES} prompts.", "Raise the temperature, or choose other prompts."
    )


def ahead(frozen: Frozen, settings: Settings) -> Future[Ballot]:
    """Write the next ballot while this one is being read; in a thread that knows no session."""
    return _ahead.submit(one, frozen, settings)
