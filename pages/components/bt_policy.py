"""The model's own preferences: which pairs, under which policy and which reward model, and the measuring. Drawn by ``bt_policy_view``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components import bt_policy_view, models
from pages.components.bt_policy_view import Measured, Part
from pages.components.conditions import checkpoint_names, run_label
from pages.components.i18n import _
from pages.components.link import pick, wanted
from pages.components.reward_trial import ScoredPair, score_pairs
from pages.components.text import plain, show_error
from rlhf import compare, implicit, runs, votes
from rlhf.algorithms import writes
from rlhf.compare import Side
from rlhf.errors import DataError, PlaygroundError
from rlhf.preferences import EMBEDDED, PreferencePair, load_dataset
from rlhf.runs import Run

LISTED = 200
RUN, VOTES, NONE = "run", "votes", "none"
RUN_KEY = "bt/policy/run"
MOST = (50, 100, 200, 500)


@dataclass(frozen=True)
class Conditions:
    """What was measured: ``scorer`` is the id of a run that made a reward model, with its checkpoint, or empty."""

    after: Side
    reference: Side
    encoding: implicit.Encoding
    source: str
    most: int
    scorer: str


def draw() -> None:
    try:
        _draw()
    except PlaygroundError as error:
        show_error(error)


def _draw() -> None:
    st.caption(
        _(
            "A policy prefers what it has made likelier. Against its reference, each pair of answers has a probability, as under a reward "
            "model: P(chosen ≻ rejected) = σ(β·Δ). The reference is the model as the run found it, and the formula is DPO's, whatever loss "
            "the run has minimised."
        )
    )
    listed = [run for run in runs.list_runs()[:LISTED] if run.checkpoints()]
    policies = sorted((run for run in listed if writes(run.algorithm)), key=lambda run: run.algorithm != "dpo")
    if not policies:
        words = _("No policy has been trained yet. Start a DPO run; then see here what it came to prefer.")
        st.info(words, icon=":material/info:")
        st.page_link("dpo.py", label=_("Start a DPO run"), icon=":material/compare_arrows:")
        return
    scorers = [run for run in listed if run.algorithm == "reward_model"]
    left, middle, right = st.columns([3, 1, 2])
    if (asked := wanted("policy", RUN_KEY)) and asked not in {run.id for run in policies}:
        st.warning(plain(_("There is no policy {run} here; another is shown.").format(run=asked)), icon=":material/search_off:")
    with left:
        run = runs.open_run(pick(_("Policy"), {run.id: run_label(run) for run in policies}, "policy", RUN_KEY))
    with middle:
        names = checkpoint_names(run)
        checkpoint = st.selectbox(_("After"), list(names), format_func=names.__getitem__, key=f"bt/policy/checkpoint/{run.id}")
    with right:
        scorer = _scorer(run, scorers)
    conditions = Conditions(
        compare.tuned(run, str(checkpoint or "")), implicit.reference_of(run), implicit.encoding_of(run), *_pairs_from(run),
        f"{scorer.id}/{scorer.checkpoints()[-1].name}" if scorer else "",
    )  # fmt: skip
    if st.button(_("Measure"), icon=":material/balance:", type="primary", key="bt/policy/go"):
        st.session_state["bt/policy/measured"] = (conditions, measure(run, scorer, conditions))
    kept: tuple[Conditions, Measured] | None = st.session_state.get("bt/policy/measured")
    if kept is None:
        return
    if kept[0] != conditions:
        st.caption(f":material/history: {_('This was measured under other conditions than those chosen now.')}")
    bt_policy_view.show(kept[1])


def _scorer(run: Run, scorers: Sequence[Run]) -> Run | None:
    """The newest reward model on the same model, unless another is chosen."""
    own_first = sorted(scorers, key=lambda scorer: scorer.model != run.model)
    names = {scorer.id: run_label(scorer) for scorer in own_first} | {NONE: _("none")}
    help = _("The same pairs under a reward model: σ(r_w − r_l).")
    chosen = pick(_("Beside a reward model"), names, "scorer", "bt/policy/scorer", help=help, disabled=not scorers)
    return None if chosen == NONE else runs.open_run(chosen)


def _pairs_from(run: Run) -> tuple[str, int]:
    """Which pairs, and how many of each part."""
    names = {RUN: _("the run's own pairs")} if run.load_data().kind == "pairs" else {}
    shipped = sorted((item for item in EMBEDDED.values() if item.kind == "pairs"), key=lambda item: item.model != run.model)
    names |= {item.name: item.name for item in shipped}
    if cast := votes.count():
        names[VOTES] = _("the votes of this app ({n})").format(n=f"{cast:,}")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        source = st.selectbox(_("Pairs"), list(names), format_func=names.__getitem__, key=f"bt/policy/source/{run.id}", width=300)
        most = st.segmented_control(
            _("Of each part, at most"), MOST, default=100, required=True, key="bt/policy/most", persist_state="session",
            help=_("Held-out pairs and those that were trained on are measured apart."),
        )  # fmt: skip
    return str(source), int(most or 100)


def pairs_of(run: Run, source: str) -> list[PreferencePair]:
    """Raises ``DataError`` where there are none."""
    if source == VOTES:
        found = list(votes.to_pairs(votes.find()).pairs)
    else:
        data = run.load_data() if source == RUN else load_dataset("pairs", source)
        found = [item for item in (*data.heldout, *data.train) if isinstance(item, PreferencePair)]
    if not found:
        raise DataError("There is no pair in which one answer is preferred.", "Choose other pairs, or vote on the page Votes.")
    return found


def measure(run: Run, scorer: Run | None, conditions: Conditions) -> Measured:
    """Pairs under the policy and its reference, then under the reward model, with a progress bar. Raises ``PlaygroundError``."""
    trained = implicit.trained_prompts(run) | (implicit.trained_prompts(scorer) if scorer else set())
    heldout, seen = implicit.parted(pairs_of(run, conditions.source), trained, conditions.most)
    frozen = [models.wait(conditions.after), models.wait(conditions.reference)]
    bar = st.progress(0.0)

    def tell(words: str) -> Callable[[float], Any]:
        return lambda share: bar.progress(share, text=words)

    with ExitStack() as locks:
        policy, reference = (locks.enter_context(models.computing(one)) for one in frozen)
        progress = tell(_("Reading {n} pairs with the policy and its reference").format(n=len(heldout) + len(seen)))
        found = implicit.preferences(policy, reference, [*heldout, *seen], conditions.encoding, progress)
    known = [preference for preference in found if preference is not None]
    scored: list[ScoredPair] = []
    if scorer:
        scored = score_pairs(scorer, [p.pair for p in known], tell(_("Scoring the pairs with the reward model")))
    bar.empty()
    split = sum(preference is not None for preference in found[: len(heldout)])
    parts = Part(known[:split], scored[:split]), Part(known[split:], scored[split:])
    left_out = len(found) - len(known)
    return Measured(*parts, run.id, run.algorithm, conditions.after.step, conditions.encoding.beta, scorer.name if scorer else "", left_out)
