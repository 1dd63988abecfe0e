"""Trying a reward model: the score of a text after each of its tokens, the held-out pairs it gets most wrong, and surgery on its votes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import data_editor, state
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import show_error
from pages.components.tokens import TokenRow, token_rows
from rlhf import jobs
from rlhf import runs as run_folders
from rlhf.bradley_terry import preference_probability
from rlhf.errors import PlaygroundError
from rlhf.preferences import Dataset, PreferencePair

WORST = 12
AT_ONCE = 32  # pairs between two words of progress
MEASURED = 400  # held-out pairs that are scored for the table of the worst
_lock = threading.Lock()  # two sessions at once would only slow each other down


@dataclass(frozen=True)
class ScoredPair:
    """A held-out pair with the scores of its two answers."""

    pair: PreferencePair
    chosen: float
    rejected: float

    @property
    def probability(self) -> float:
        return preference_probability(self.chosen, self.rejected)


def draw(run_id: str) -> None:
    """Below the panel of a run that made a reward model."""
    try:
        run = run_folders.open_run(run_id)
        if run.algorithm != "reward_model" or not run.checkpoints():
            return
        with st.container(border=True, key="reward-trial"):
            tried, wrong, surgery = st.tabs([_("Try it"), _("What it gets wrong"), _("Surgery on the votes")])
            with tried:
                _try(run)
            with wrong:
                _wrong(run)
            with surgery:
                _surgery(run)
    except PlaygroundError as error:
        show_error(error)


def _try(run: run_folders.Run) -> None:
    data = run.load_data()
    example = next((item for item in (*data.heldout, *data.train) if isinstance(item, PreferencePair)), None)
    prompt = st.text_input(_("Prompt"), example.prompt if example else "", key=f"trial/prompt/{run.id}", persist_state="session")
    answer = st.text_area(
        _("An answer"), example.chosen if example else "", key=f"trial/answer/{run.id}", persist_state="session", height=110
    )
    if not prompt.strip():
        st.caption(_("Write a prompt: a reward model scores an answer to something."))
        return
    key = f"trial/result/{run.id}"
    if st.button(_("Score it"), icon=":material/scale:", key=f"trial/go/{run.id}", type="primary"):
        with st.spinner(_("Loading the reward model"), show_time=True):
            st.session_state[key] = (prompt, answer, *_score_tokens(run, prompt, answer))
    if key not in st.session_state:
        return
    shown_prompt, shown_answer, strings, scores, mean, deviation = st.session_state[key]
    if (shown_prompt, shown_answer) != (prompt, answer):
        st.caption(f":material/history: {_('This is the score of the text before your last change.')}")
    left, right = st.columns([1, 3])
    with left:
        st.metric(_("Score"), number(scores[-1], sign=True), help=_("After the last token: this is what a policy would be trained on."))
        st.caption(_("Normalised: {value}").format(value=number((scores[-1] - mean) / deviation, sign=True)))
    with right:
        if not shown_answer:
            st.caption(_("The answer is empty: what is scored is that the text ends here. So is an answer of a policy that stops at once."))
        token_rows([TokenRow(strings, scores)], key=f"trial/tokens/{run.id}", legend=_("Score after the token"), clickable=False)


def _score_tokens(run: run_folders.Run, prompt: str, answer: str) -> tuple[list[str], list[float], float, float]:
    from rlhf.reward_network import find_scorer  # torch: only where it is used

    with _lock:
        scorer = find_scorer(run.id)
        return *scorer.score_tokens(prompt, answer), scorer.mean, scorer.deviation


def _wrong(run: run_folders.Run) -> None:
    pairs = [item for item in run.load_data().heldout if isinstance(item, PreferencePair)][:MEASURED]
    if not pairs:
        st.caption(_("This run has no held-out pairs."))
        return
    key = f"trial/worst/{run.id}/{run.checkpoints()[-1].name}"
    if st.button(_("Score {n} held-out pairs").format(n=len(pairs)), icon=":material/rule:", key=f"{key}/go"):
        with st.spinner(_("Scoring"), show_time=True):
            st.session_state[key] = score_pairs(run, pairs)
    found: list[ScoredPair] | None = st.session_state.get(key)
    if found is None:
        st.caption(_("The pairs on which the reward model is surest, and wrong: reading them shows what it has really learned."))
        return
    wrong = sorted((pair for pair in found if pair.chosen <= pair.rejected), key=lambda pair: pair.probability)
    share = _("{wrong} of {all} held-out pairs are ordered the wrong way round.")
    st.markdown(share.format(wrong=len(wrong), all=len(found)))
    frame = pd.DataFrame(
        [
            {_("P(chosen)"): p.probability, _("prompt"): p.pair.prompt, _("chosen"): p.pair.chosen, _("rejected"): p.pair.rejected}
            for p in wrong[:WORST]
        ]
    )
    if len(frame):
        column = st.column_config.NumberColumn(format="percent", width="small")
        st.dataframe(frame, hide_index=True, column_config={_("P(chosen)"): column}, row_height=60)


def score_pairs(run: run_folders.Run, pairs: Sequence[PreferencePair], progress: Callable[[float], Any] | None = None) -> list[ScoredPair]:
    """Both answers of each pair under the run's newest reward model. ``progress`` hears the share that is done."""
    from rlhf.reward_network import find_scorer

    found: list[ScoredPair] = []
    with _lock:
        scorer = find_scorer(run.id)
        for start in range(0, len(pairs), AT_ONCE):
            if progress:
                progress(start / len(pairs))
            some = pairs[start : start + AT_ONCE]
            scores = scorer.scores([pair.prompt for pair in some] * 2, [pair.chosen for pair in some] + [pair.rejected for pair in some])
            found += [ScoredPair(*row) for row in zip(some, scores[: len(some)], scores[len(some) :], strict=True)]
    return found


# ---------------------------------------------------------------- surgery


def with_noise(dataset: Dataset, share: float, kept: float, seed: int) -> Dataset:
    """The training votes, all but a share ``kept`` of them left out, and a ``share`` of the rest flipped. Held-out votes stay."""
    rng = random.Random(seed)
    train = [item for item in dataset.train if isinstance(item, PreferencePair)]
    train = rng.sample(train, max(1, round(kept * len(train))))
    wrong = set(rng.sample(range(len(train)), round(share * len(train))))
    changed = tuple(
        replace(pair, chosen=pair.rejected, rejected=pair.chosen, label=_("flipped")) if i in wrong else pair
        for i, pair in enumerate(train)
    )
    source = _("{source}, {kept} kept, {share} flipped").format(source=dataset.source, kept=f"{len(train):,}", share=number(share, "share"))
    return Dataset(changed, dataset.heldout, "pairs", source)


def _surgery(run: run_folders.Run) -> None:
    st.caption(
        _(
            "Flip a share of the training votes, or leave some out, and train again with everything else the same. "
            "The held-out votes stay as they are, so that both runs are measured on the same ones. "
            "Single votes: Edit or upload, on the left."
        )
    )
    with st.container(horizontal=True, gap="medium"):
        share = st.slider(_("Flip"), 0, 50, 20, 5, format="%d %%", key="trial/flip", persist_state="session", width=220)
        kept = st.slider(_("Keep"), 5, 100, 100, 5, format="%d %%", key="trial/keep", persist_state="session", width=220)
    ceiling = _(
        "With {share} of the votes wrong, no model can agree with more than {rest} of such votes; on clean ones it may still do better."
    )
    st.caption(ceiling.format(share=f"{share} %", rest=f"{100 - share} %"))
    left, right = st.columns(2)
    if left.button(_("Train again with these votes"), icon=":material/healing:", key=f"trial/operate/{run.id}", width="stretch"):
        dataset = with_noise(run.load_data(), share / 100, kept / 100, int(run.config.get("seed", 0)))
        config = run.load_config().model_copy(update={"data": data_editor.CUSTOM})
        name = _("{flip} % flipped, {kept} % kept").format(flip=share, kept=kept)
        state.show_run("reward_model", jobs.submit(config, dataset, name=name).id)
        st.rerun()
    others = [r.id for r in run_folders.list_runs()[:40] if r.algorithm == "reward_model"][:6]
    if len(others) > 1:
        label = _("Compare the reward models' curves")
        right.page_link("runs.py", label=label, icon=":material/stacked_line_chart:", query_params={"runs": ",".join(others)})
