"""The ballot: a prompt, its answers without their source, and the buttons that vote. A vote is kept at once; the next ballot is ready."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field

import streamlit as st

from pages.components import models, vote_writer
from pages.components.i18n import _
from pages.components.text import plain, show_error
from pages.components.vote_writer import Ballot, Candidate, Settings
from rlhf import votes
from rlhf.errors import PlaygroundError
from rlhf.preferences import Prompt
from rlhf.votes import Filter, Vote, Winner

NEW, AGAIN = "new", "again"
LEAST_SECONDS = 0.5  # nobody reads two answers faster: a second press of a key that was meant for the ballot before
SHORTCUTS: dict[Winner, str] = {"left": "1", "tie": "2", "both_bad": "3", "right": "4"}


@dataclass
class Booth:
    """What the voting of one session has come to. A plain object, so that a rerun cannot come between the parts of one vote."""

    settings: Settings | None = None  # of the ballots below
    ballot: Ballot | None = None
    following: Future[Ballot] | None = None
    starts: int = 0
    shown: float = 0.0  # time.monotonic() when the ballot was drawn first
    last: tuple[str, ...] = ()  # ids of the newest vote
    said: str = ""
    problem: str = ""
    guest: str = field(default_factory=lambda: f"guest {uuid.uuid4().hex[:4]}")
    name: str = ""


def booth() -> Booth:
    return st.session_state.setdefault("votes/booth", Booth())


def words(winner: Winner) -> str:
    return {"left": _("left"), "right": _("right"), "tie": _("tie"), "both_bad": _("both bad")}[winner]


@st.fragment
def draw() -> None:
    mine = booth()
    who, source = st.columns([1, 2], vertical_alignment="bottom")
    rater = who.text_input(
        _("Your name"), mine.guest, key="votes/rater", max_chars=60, persist_state="session", help=_("Stands with each of your votes."),
    )  # fmt: skip
    mine.name = " ".join((rater or "").split()) or mine.guest
    sources = {NEW: _("New answers"), AGAIN: _("What others have judged")}
    chosen = source.segmented_control(
        _("Answers"), list(sources), default=NEW, required=True, format_func=sources.__getitem__, key="votes/source",
        persist_state="session", help=_("Judging the same answers as others shows how far you agree."),
    )  # fmt: skip
    try:
        ready = _judged_by_others(mine) if chosen == AGAIN else _new_answers(mine)
    except PlaygroundError as error:
        mine.settings = mine.following = None
        show_error(error)
        return
    if ready and mine.ballot:
        _ballot(mine, mine.ballot)
    _status(mine)


def _judged_by_others(mine: Booth) -> bool:
    if mine.settings is not None:
        mine.ballot, mine.settings, mine.following = None, None, None
    if mine.ballot is None:
        waiting = votes.waiting_for(mine.name, votes.find(), limit=1)
        if not waiting:
            st.info(_("There is no pair that others have judged and you have not."), icon=":material/done_all:")
            return False
        vote = waiting[0]
        sides = [
            Candidate(vote.left, vote.left_model, vote.left_checkpoint, vote.left_seed),
            Candidate(vote.right, vote.right_model, vote.right_checkpoint, vote.right_seed),
        ]
        if vote_writer.seed() % 2:
            sides.reverse()
        _show(mine, Ballot(votes.new_id(), Prompt(vote.prompt), tuple(sides), tuple(vote.sampling.items())))
    return True


def _new_answers(mine: Booth) -> bool:
    # folded once one has started (a new key is a new, closed one): the answers are what is looked at, on a telephone above all
    title, key = _("Who answers, and to which prompts"), f"votes/who/{mine.starts}"
    with st.expander(title, icon=":material/tune:", expanded=mine.starts == 0, key=key):
        settings = vote_writer.choose(several=True)
    if settings is None:
        return False
    if mine.settings != settings:
        mine.ballot = mine.following = None
        st.button(
            _("Start"), icon=":material/play_arrow:", type="primary", key="votes/start", on_click=_begin, args=(mine, settings)
        )  # fmt: skip
        return False
    frozen = models.wait(settings.side)
    if mine.ballot is None:
        with st.spinner(_("Writing")):
            _show(mine, mine.following.result() if mine.following else vote_writer.one(frozen, settings))
        mine.following = vote_writer.ahead(frozen, settings)
    return True


def _begin(mine: Booth, settings: Settings) -> None:
    mine.settings = settings
    mine.starts += 1


def _show(mine: Booth, ballot: Ballot) -> None:
    mine.ballot, mine.shown = ballot, time.monotonic()


# ---------------------------------------------------------------- the ballot


def _ballot(mine: Booth, ballot: Ballot) -> None:
    pair = len(ballot.answers) == 2
    names = [_("Left"), _("Right")] if pair else [chr(65 + i) for i in range(len(ballot.answers))]
    with st.container(key="vote-ballot", gap="small"):
        st.markdown(f"**{plain(ballot.prompt.text)}**")
        for start in range(0, len(names), 2):
            for i, column in zip(range(start, len(names)), st.columns(2), strict=False):
                with column.container(border=True, height="stretch"):
                    st.caption(names[i])
                    if ballot.answers[i].text.strip():
                        st.text(ballot.answers[i].text.strip())
                    else:
                        st.caption(_("(nothing was written)"))
        if pair:
            _details(ballot)
            _buttons(mine, ballot)
        else:
            _ranking(mine, ballot, names)


def _details(ballot: Ballot) -> None:
    """How strongly, why, and what would have been better; they count with the vote that is cast then."""
    strengths = {1: _("slightly"), 2: _("clearly"), 3: _("much")}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            _("Better by how much"), list(strengths), default=1, required=True, format_func=strengths.__getitem__,
            key=f"votes/strength/{ballot.id}", width="content",
        )  # fmt: skip
        st.text_input(_("Why, in short"), key=f"votes/reason/{ballot.id}", max_chars=votes.MAX_SHORT)
    with st.expander(_("Write a better one"), icon=":material/edit:"):
        st.text_area(
            _("Your answer"), key=f"votes/better/{ballot.id}", max_chars=5000, height=100,
            help=_("It is preferred to both answers. Vote as well: it is kept with your vote."),
        )  # fmt: skip


def _buttons(mine: Booth, ballot: Ballot) -> None:
    labels: dict[Winner, tuple[str, str]] = {
        "left": (_("Left is better"), ":material/arrow_back:"),
        "tie": (_("Tie"), ":material/drag_handle:"),
        "both_bad": (_("Both bad"), ":material/thumb_down:"),
        "right": (_("Right is better"), ":material/arrow_forward:"),
    }
    for column, (winner, (label, icon)) in zip(st.columns(4), labels.items(), strict=True):
        # a key for each ballot: what was meant for the ballot before does not reach this one
        column.button(
            label, icon=icon, type="primary" if winner in ("left", "right") else "secondary", key=f"votes/{winner}/{ballot.id}",
            shortcut=SHORTCUTS[winner], on_click=cast, args=(mine, ballot, winner), width="stretch",
        )  # fmt: skip


def _ranking(mine: Booth, ballot: Ballot, names: list[str]) -> None:
    order = st.multiselect(
        _("The best first"), names, key=f"votes/order/{ballot.id}", placeholder=_("Choose in order"),
        help=_("Those that you leave out share the last place. Of each two answers, the one before the other is preferred."),
    )  # fmt: skip
    st.button(
        _("Keep this ranking"), icon=":material/format_list_numbered:", type="primary", disabled=not order,
        key=f"votes/rank/{ballot.id}", on_click=rank, args=(mine, ballot, [names.index(name) for name in order]),
    )  # fmt: skip


# ---------------------------------------------------------------- casting


def cast(mine: Booth, ballot: Ballot, winner: Winner) -> None:
    """Keep the vote; in a callback, so that the next ballot is drawn in the same run of the script."""
    if mine.ballot is not ballot or time.monotonic() - mine.shown < LEAST_SECONDS:
        return
    said = {name: st.session_state.get(f"votes/{name}/{ballot.id}") for name in ("strength", "reason", "better")}
    better = joined(ballot, said["better"] or "")
    vote = ballot.vote(winner, mine.name, strength=said["strength"] or 1, reason=said["reason"] or "", better=better)
    _keep(mine, [vote], words(winner))


def rank(mine: Booth, ballot: Ballot, order: list[int]) -> None:
    """The same for more than two answers. ``order``: the places of the ranked ones, the best first."""
    if mine.ballot is not ballot:
        return
    ranks = [order.index(i) + 1 if i in order else len(order) + 1 for i in range(len(ballot.answers))]
    made = votes.from_ranking(
        ballot.prompt.text, [answer.text for answer in ballot.answers], ranks, id=ballot.id, rater=mine.name,
        models=[answer.model for answer in ballot.answers], checkpoints=[answer.checkpoint for answer in ballot.answers],
        seeds=[answer.seed for answer in ballot.answers], sampling=dict(ballot.sampling),
    )  # fmt: skip
    _keep(mine, made, _("{n} pairs").format(n=len(made)))


def joined(ballot: Ballot, better: str) -> str:
    """A written answer begins as the model's do: with a space, where it goes on with the words of the prompt."""
    text = better.strip()
    continues = any(answer.text[:1].isspace() for answer in ballot.answers) and text[:1].isalnum()
    return f" {text}" if continues else text


def _keep(mine: Booth, made: list[Vote], said: str) -> None:
    try:
        votes.add(made)
    except PlaygroundError as error:
        mine.problem = str(error)
        return
    mine.last, mine.said, mine.problem, mine.ballot = tuple(vote.id for vote in made), said, "", None


def take_back(mine: Booth) -> None:
    try:
        votes.delete(mine.last)
    except PlaygroundError as error:
        mine.problem = str(error)
        return
    mine.last, mine.said = (), ""


def _status(mine: Booth) -> None:
    if mine.problem:
        st.error(plain(mine.problem), icon=":material/error:")
    own, every = votes.count(Filter(rater=mine.name)), votes.count()
    with st.container(horizontal=True, vertical_alignment="center"):
        counts = _("Votes: {own} of yours, {all} in all.").format(own=f"{own:,}", all=f"{every:,}")
        kept = f":material/check: {_('Kept: {what}.').format(what=mine.said)}  " if mine.last else ""
        st.caption(kept + counts, width="content")
        if mine.last:
            st.button(_("Undo"), icon=":material/undo:", type="tertiary", key="votes/undo", on_click=take_back, args=(mine,))
