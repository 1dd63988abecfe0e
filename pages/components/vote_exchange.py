"""Votes from files and into files."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.components import vote_browser
from pages.components.i18n import _
from pages.components.text import plain, show_error
from rlhf import vote_files, votes
from rlhf.errors import PlaygroundError
from rlhf.vote_files import Form, Format, Imported
from rlhf.votes import Filter

TYPES = ["jsonl", "json", "csv", "tsv", "parquet"]
NAMED = 100  # refused rows that are listed
MIME = {"jsonl": "application/jsonl", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def draw() -> None:
    read, write = st.columns(2, gap="large")
    with read:
        st.markdown(f"##### {_('Import')}")
        _import()
    with write:
        st.markdown(f"##### {_('Export')}")
        _export()


# ---------------------------------------------------------------- in


@st.cache_data(show_spinner=False, max_entries=4)
def _read(content: bytes, name: str, rater: str, per_prompt: int) -> Imported:
    return vote_files.read_votes(content, name, rater, per_prompt)


def _import() -> None:
    words = _("Pairs (prompt, chosen, rejected), votes (prompt, left, right, winner), or scored answers (question, answers).")
    file = st.file_uploader(words, type=TYPES, key="votes/upload")
    left, right = st.columns(2)
    rater = left.text_input(_("Rater, where the file names none"), key="votes/import-rater", max_chars=100)
    per_prompt = right.number_input(
        _("Pairs per question"), 1, 1000, vote_files.PAIRS_PER_PROMPT, key="votes/import-cap",
        help=_("Of scored answers: score = round(log2(1 + upvotes)), 1 more if accepted, −1 if negative; the best pairs first."),
    )  # fmt: skip
    if file is None:
        return
    if (rater or "").strip().startswith(votes.SIMULATED):
        st.error(_("“{start}…” is kept for rules: choose another name.").format(start=votes.SIMULATED), icon=":material/block:")
        return
    try:
        found = _read(file.getvalue(), file.name, (rater or "").strip(), int(per_prompt))
    except PlaygroundError as error:
        show_error(error, icon=":material/block:")
        return
    if found.problems:
        with st.expander(_("Rows that cannot be used: {n}").format(n=f"{len(found.problems):,}"), icon=":material/warning:", expanded=True):
            st.text("\n".join(found.problems[:NAMED]) + ("\n…" if len(found.problems) > NAMED else ""))
    kept = found.votes if not found.empty or _keep_empty(found) else tuple(v for v in found.votes if not vote_files.has_empty_answer(v))
    rows = [{_("prompt"): v.prompt, _("left"): v.left, _("right"): v.right, _("winner"): v.winner} for v in kept[:5]]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    label = _("Keep these votes ({n})").format(n=f"{len(kept):,}")
    if st.button(label, icon=":material/save:", type="primary", key="votes/import", disabled=not kept):
        new = votes.add(kept)
        vote_browser.reload()
        words = _("New votes: {n}; there already: {old}.").format(n=f"{new:,}", old=f"{len(kept) - new:,}")
        st.success(words, icon=":material/check:")


def _keep_empty(found: Imported) -> bool:
    """Says which rows have an empty answer and what that means; whether the user wants these votes."""
    words = _("Votes with an empty answer: {n}").format(n=f"{len(found.empty):,}")
    with st.expander(words, icon=":material/info:", expanded=True):
        st.text("\n".join(found.empty[:NAMED]) + ("\n…" if len(found.empty) > NAMED else ""))
        st.caption(_("A model that stops at once has written such an answer: a reward model reads it as the end of the text."))
        return st.checkbox(_("Keep them"), True, key="votes/import-empty")


# ---------------------------------------------------------------- out


def _export() -> None:
    kinds = {"all": _("all"), "people": _("by people"), "rules": _("simulated")}
    chosen = st.segmented_control(
        _("Votes"), list(kinds), default="all", required=True, format_func=kinds.__getitem__, key="votes/export/by"
    )
    forms: dict[str, str] = {
        "pairs": _("prompt, chosen, rejected"),
        "conversational": _("the same as conversations"),
        "votes": _("votes, with everything that is known of them"),
    }
    form: Form = st.selectbox(_("Form"), list(forms), format_func=forms.__getitem__, key="votes/export/form", persist_state="session")  # type: ignore[assignment]
    kind_names = ["jsonl", "parquet"] if form == "conversational" else ["jsonl", "csv", "parquet"]
    kind: Format = st.segmented_control(
        _("Format"), kind_names, default="jsonl", required=True, key=f"votes/export/format/{form}", format_func=str.upper
    )  # type: ignore[assignment]
    wanted = Filter(simulated={"people": False, "rules": True}.get(chosen))
    many = votes.count(wanted)
    words = _("Votes: {n}. Pairs are in the form that TRL and the library datasets read; simulated ones are labelled as such.")
    st.caption(words.format(n=f"{many:,}"))
    try:
        content = _content(wanted, form, kind) if many else b""
    except PlaygroundError as error:
        st.caption(plain(str(error)))
        content = b""
    st.download_button(
        _("Download"), content, f"{'votes' if form == 'votes' else 'pairs'}.{kind}", MIME[kind], icon=":material/download:",
        disabled=not content, key="votes/download", on_click="ignore",
    )  # fmt: skip


def _content(wanted: Filter, form: Form, kind: Format) -> bytes:
    found = votes.find(wanted)
    rows: list[dict[str, Any]]
    if form == "votes":
        rows = vote_files.vote_records(found)
    else:
        rows = vote_files.pair_records(votes.to_pairs(found).pairs, conversational=form == "conversational")
    return vote_files.write_rows(rows, kind)
