"""All votes: filter, flip, edit, delete and undo; how well raters agree; and the way into training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import streamlit as st

from pages.components import config_form, data_editor, vote_ballot
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain, shortened
from rlhf import raters, votes
from rlhf.catalogue import CATALOGUE
from rlhf.errors import PlaygroundError
from rlhf.preferences import Dataset, split
from rlhf.votes import STRENGTHS, WINNERS, Contradictory, Filter, Pairs, Vote

SHOWN = 1000
NAMED = 20  # contradictions that are listed


@dataclass
class Shown:
    """The list as it was read. It stays until something is done or asked for: rows must not move under a selection while others vote."""

    wanted: Filter | None = None
    found: list[Vote] = field(default_factory=list)
    agreed: list[raters.Agreement] = field(default_factory=list)  # of all raters, then of each two
    version: int = 0
    deleted: tuple[str, ...] = ()
    problem: str = ""


def _shown() -> Shown:
    return st.session_state.setdefault("votes/shown", Shown())


def reload() -> None:
    """Read the list anew when it is drawn next; selections end."""
    shown = _shown()
    shown.wanted, shown.version = None, shown.version + 1


def draw() -> None:
    shown = _shown()
    wanted = _filter()
    if shown.wanted != wanted:
        shown.found, shown.wanted, shown.version = votes.find(wanted), wanted, shown.version + 1
        shown.agreed = [raters.agreement(shown.found), *raters.pairwise(shown.found)]
    if shown.problem:
        st.error(plain(shown.problem), icon=":material/error:")
        shown.problem = ""
    if not shown.found:
        st.info(_("No vote here. Vote, let a rule vote, or import some."), icon=":material/how_to_vote:")
    else:
        _actions(shown, _table(shown), wanted.deleted)
    if shown.deleted and not wanted.deleted:
        words = _("Bring back what was deleted ({n})").format(n=len(shown.deleted))
        st.button(words, icon=":material/undo:", key="votes/undelete", on_click=_do, args=(votes.undo_delete, shown.deleted))
    if shown.found and not wanted.deleted:
        _agreement(shown.agreed[0], shown.agreed[1:])
        _train(shown.found)


def _filter() -> Filter:
    """The first option of each asks for nothing, under a name of its own: Streamlit draws None as a choice that can be cleared."""
    names = {f"by {name}": (name, f"{name or _('nobody')} ({count:,})") for name, count in votes.raters().items()}
    raters_shown = {"all": _("everybody")} | {key: title for key, (_name, title) in names.items()}
    kinds = {"all": _("people and rules"), "people": _("people"), "rules": _("simulated")}
    winners = {"all": _("any")} | {winner: vote_ballot.words(winner) for winner in WINNERS}
    cells = st.grid(4, min_column_width=150, gap=("xsmall", "small"))

    def pick(label: str, options: dict[str, str], name: str) -> str:
        if st.session_state.get(f"votes/filter/{name}") not in options:
            st.session_state[f"votes/filter/{name}"] = "all"  # that rater has no vote any more
        with cells.cell():
            return st.selectbox(label, list(options), format_func=lambda key: str(options.get(key, key)), key=f"votes/filter/{name}")

    rater = pick(_("Rater"), raters_shown, "rater")
    simulated = {"people": False, "rules": True}.get(pick(_("By"), kinds, "by"))
    winner = pick(_("Winner"), winners, "winner")
    with cells.cell():
        text = st.text_input(_("Search"), key="votes/filter/text", placeholder=_("prompt, answers, reason"), max_chars=200)
    with st.container(horizontal=True, vertical_alignment="center"):
        deleted = st.toggle(_("Deleted ones"), key="votes/filter/deleted")
        st.button(_("Read again"), icon=":material/refresh:", type="tertiary", key="votes/refresh", on_click=reload)
    return Filter(
        rater=names[rater][0] if rater in names else None, winner=next((one for one in WINNERS if one == winner), None),
        simulated=simulated, text=(text or "").strip(), deleted=deleted,
    )  # fmt: skip


def _table(shown: Shown) -> list[Vote]:
    """The rows, and which of them are selected."""
    rows = shown.found[:SHOWN]
    frame = pd.DataFrame(
        {
            "prompt": [vote.prompt for vote in rows],
            "left": [vote.left for vote in rows],
            "right": [vote.right for vote in rows],
            "winner": [vote_ballot.words(vote.winner) for vote in rows],
            "rater": [vote.rater for vote in rows],
            "strength": [vote.strength for vote in rows],
            "reason": [vote.reason for vote in rows],
            "better": [vote.better for vote in rows],
            "time": pd.to_datetime([vote.time for vote in rows], unit="s"),
        }
    )
    titles = {
        "prompt": _("prompt"), "left": _("left"), "right": _("right"), "winner": _("winner"), "rater": _("rater"), "reason": _("reason"),
        "better": _("own answer"),
    }  # fmt: skip
    columns = {name: st.column_config.TextColumn(title, width="medium") for name, title in titles.items()}
    columns["winner"] = st.column_config.TextColumn(titles["winner"], width="small")
    columns["strength"] = st.column_config.NumberColumn(_("strength"), width="small", help=_("1 slightly, 2 clearly, 3 much better"))
    columns["time"] = st.column_config.DatetimeColumn(_("time (UTC)"), format="YYYY-MM-DD HH:mm")
    chosen = st.dataframe(
        frame, hide_index=True, column_config=columns, on_select="rerun", selection_mode="multi-row", key=f"votes/table/{shown.version}",
        height=min(380, 38 + 35 * len(frame)),
    )  # fmt: skip
    words = _("Votes: {n}.").format(n=f"{len(shown.found):,}")
    if len(shown.found) > SHOWN:
        words += " " + _("The newest {n} are shown.").format(n=f"{SHOWN:,}")
    st.caption(words + " " + _("Mark rows at the left to change them."))
    return [rows[i] for i in chosen.selection.rows if i < len(rows)]


def _actions(shown: Shown, chosen: list[Vote], deleted: bool) -> None:
    ids = tuple(vote.id for vote in chosen)
    none = not chosen
    with st.container(horizontal=True):
        if deleted:
            label, icon = _("Bring back"), ":material/undo:"
            st.button(label, icon=icon, key="votes/restore", disabled=none, on_click=_do, args=(votes.undo_delete, ids))
            return
        label, icon, words = _("Flip"), ":material/swap_horiz:", _("Left becomes right and right left; ties stay.")
        st.button(label, icon=icon, key="votes/flip", disabled=none, help=words, on_click=_do, args=(votes.flip, ids))
        label, icon = _("Delete"), ":material/delete:"
        st.button(label, icon=icon, key="votes/delete", disabled=none, on_click=_do, args=(votes.delete, ids))
    if len(chosen) == 1:
        _edit(chosen[0])


def _do(action: Callable[[Sequence[str]], int], ids: tuple[str, ...]) -> None:
    """Flip, delete or bring back; in a callback. What was deleted last can be brought back by one button."""
    shown = _shown()
    try:
        action(ids)
    except PlaygroundError as error:
        shown.problem = str(error)
        return
    shown.deleted = ids if action is votes.delete else ()
    reload()


def _edit(vote: Vote) -> None:
    with st.form(f"votes/edit/{vote.id}", border=True):
        st.markdown(f"**{plain(vote.prompt)}**")
        for column, name, text in zip(st.columns(2), (_("Left"), _("Right")), (vote.left, vote.right), strict=True):
            column.caption(name)
            column.text(text.strip())
        left, right = st.columns(2)
        winner = left.selectbox(_("Winner"), WINNERS, index=WINNERS.index(vote.winner), format_func=vote_ballot.words)
        strength = right.selectbox(_("Strength"), STRENGTHS, index=STRENGTHS.index(vote.strength))
        reason = st.text_input(_("Why, in short"), vote.reason, max_chars=votes.MAX_SHORT)
        better = st.text_area(_("Own answer"), vote.better, height=80)
        origin = f"{vote.left_model} {vote.left_checkpoint}".strip() or _("not known")
        seeds = f"{vote.left_seed or '–'}, {vote.right_seed or '–'}"
        st.caption(plain(_("Written by {model}; seeds {seeds}.").format(model=origin, seeds=seeds)))
        if st.form_submit_button(_("Keep the change"), icon=":material/save:"):
            try:
                votes.edit(vote.id, winner=winner, strength=strength, reason=reason, better=better)
            except PlaygroundError as error:
                st.error(plain(str(error)), icon=":material/error:")
                return
            reload()
            st.rerun()


# ---------------------------------------------------------------- agreement


def _agreement(agreed: raters.Agreement, of_each_two: Sequence[raters.Agreement]) -> None:
    with st.expander(_("Agreement between raters"), icon=":material/handshake:"):
        if agreed.same is None:
            reason = _("only one rater has voted") if len(agreed.raters) < 2 else _("no pair of answers was judged by two raters")
            st.caption(_("Nothing can be said: {why}.").format(why=reason))
            return
        with st.container(horizontal=True, gap="large"):
            help_text = _("1: all agree. 0: as by chance. Below 0: against one another. Takes raters who judged different parts.")
            st.metric("Krippendorff α", number(agreed.alpha), help=help_text, width="content")
            st.metric(_("say the same"), number(agreed.same, "share"), width="content")
            st.metric(_("pairs judged by two or more"), f"{agreed.units:,}", width="content")
        if agreed.alpha is None:
            st.caption(_("All judgements are the same: chance cannot be told from agreement."))
        rows = [
            {_("rater"): one.raters[0], _("and"): one.raters[1], _("pairs"): one.units, _("say the same"): one.same, "α": one.alpha}
            for one in of_each_two[:50]
        ]
        formats = {_("say the same"): st.column_config.NumberColumn(format="percent"), "α": st.column_config.NumberColumn(format="%.2f")}
        st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=formats)


# ---------------------------------------------------------------- training


def _train(found: list[Vote]) -> None:
    """What these votes are as pairs, and the buttons that take them to the pages that train."""
    st.markdown(f"##### {_('Train on these votes')}")
    handled: Contradictory = st.session_state.get("votes/contradictory", "keep")
    made = votes.to_pairs(found, handled)
    if made.contradictions:
        _contradictions(made)
    if not made.pairs:
        st.caption(_("None of them prefers an answer: there is nothing to train on."))
        return
    words = _("Pairs: {pairs}. Votes that prefer nothing (ties and both bad): {ties}.")
    st.caption(words.format(pairs=f"{len(made.pairs):,}", ties=f"{made.without_preference:,}"))
    rules = dict.fromkeys(vote.rater for vote in found if vote.simulated)
    if rules:
        st.caption(f":material/smart_toy: {plain('; '.join(rules))}")
    dataset = split(made.pairs, votes.described(found))
    model = Counter(vote.left_model for vote in found).most_common(1)[0][0]
    with st.container(horizontal=True):
        _button("reward_model", _("Train a reward model on these votes"), ":material/scale:", dataset, model)
        _button("dpo", _("DPO on these votes"), ":material/thumbs_up_down:", dataset, model)


def _contradictions(made: Pairs) -> None:
    words = {"keep": _("keep all votes"), "majority": _("keep the majority"), "leave out": _("leave them out")}
    title = _("Pairs of answers that were voted both ways: {n}").format(n=len(made.contradictions))
    with st.expander(title, icon=":material/call_split:"):
        for item in made.contradictions[:NAMED]:
            who = ", ".join(name or _("nobody") for name in item.raters)
            first, second = (shortened(text, 60) for text in item.answers)
            line = _("“{prompt}”: “{first}” {a} to {b} “{second}” (by {who})").format(
                prompt=shortened(item.prompt, 60), first=first, second=second, a=item.votes[0], b=item.votes[1], who=who
            )
            st.text(f"• {line}")
    st.segmented_control(
        _("Those pairs"), list(words), default="keep", required=True, format_func=words.__getitem__, key="votes/contradictory",
        persist_state="session", help=_("With all votes kept, a model learns the share; the majority of an even vote is nobody."),
    )  # fmt: skip


def _button(algorithm: str, label: str, icon: str, dataset: Dataset, model: str) -> None:
    if st.button(label, icon=icon, key=f"votes/train/{algorithm}", on_click=_take, args=(algorithm, dataset, model)):
        st.switch_page(f"{algorithm}.py")


def _take(algorithm: str, dataset: Dataset, model: str) -> None:
    """In a callback: the widgets of the other page must not have been drawn yet."""
    if model in CATALOGUE:
        st.session_state[config_form.key(algorithm, "model")] = model
    data_editor.use(algorithm, dataset)
