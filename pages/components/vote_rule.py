"""The simulated rater: hundreds of votes by a stated rule, with errors at a stated rate, and always labelled as what they are."""

from __future__ import annotations

import random
from dataclasses import replace

import streamlit as st

from pages.components import models, reward_editor, vote_writer
from pages.components.i18n import _
from pages.components.text import plain, show_error
from pages.components.vote_writer import Ballot, Settings
from rlhf import votes
from rlhf.compare import PREFERENCE_REWARDS
from rlhf.config import RewardTerm
from rlhf.errors import DataError, PlaygroundError
from rlhf.raters import SimulatedRater
from rlhf.rewards import Context
from rlhf.votes import Vote

BATCH = 32  # prompts that are answered in one batch
FRUITLESS = 160  # prompts in a row without two answers that the rule tells apart


def draw() -> None:
    st.caption(_("For trying things out: a rule votes in the place of people. Its votes say so wherever they go."))
    settings = vote_writer.choose(several=False)
    if settings is None:
        return
    usual = PREFERENCE_REWARDS.get(f"{settings.side.model}-pairs", "negative")
    terms, problem = reward_editor.editor("votes", settings.side.model, (RewardTerm(name=usual),))
    cells = st.grid(3, min_column_width=150, gap=("xsmall", "small"))
    many = cells.cell().number_input(_("Votes"), 1, 5000, 200, 50, key="votes/rule/count", persist_state="session")
    wrong = cells.cell().number_input(
        _("Error rate"), 0.0, 1.0, 0.1, 0.05, key="votes/rule/errors", persist_state="session",
        help=_("The share of votes that say the opposite of the rule. At 0.5 they say nothing."),
    )  # fmt: skip
    choices = cells.cell().number_input(
        _("Chosen from"), 2, 16, 8, key="votes/rule/choices", persist_state="session",
        help=_("Answers written to each prompt. The two that the rule finds most different make the pair: clear pairs teach more."),
    )  # fmt: skip
    luck = cells.cell().number_input(
        _("Seed"), 0, 2**31 - 1, 0, key="votes/rule/seed", persist_state="session",
        help=_("The same seed and settings give the same votes."),
    )  # fmt: skip
    rater = SimulatedRater(terms, float(wrong), int(luck))
    st.caption(_("Their rater reads: {name}").format(name=plain(rater.name)))
    if st.button(_("Let it vote"), icon=":material/smart_toy:", type="primary", key="votes/rule/start", disabled=bool(problem)):
        try:
            made = simulate(settings, rater, int(many), int(choices))
            new = votes.add(made)
        except PlaygroundError as error:
            show_error(error)
            return
        _done(made, new)


def simulate(settings: Settings, rater: SimulatedRater, many: int, choices: int = 2) -> list[Vote]:
    """Write ``many`` pairs of answers, with a progress bar, and judge them. Raises ``PlaygroundError``.

    ``choices``: answers to a prompt of which the two make a pair that the rule finds most different.
    """
    settings = replace(settings, answers=choices)
    frozen = models.wait(settings.side)
    luck = random.Random(rater.seed)
    ballots: list[Ballot] = []
    bar = st.progress(0.0, text=_("Writing"))
    fruitless = 0
    while len(ballots) < many:
        prompts = [luck.choice(settings.prompts) for _i in range(min(BATCH, many - len(ballots)))]
        written = vote_writer.write(frozen, prompts, settings, luck.randrange(2**31))
        found = apart(written, rater) if choices > 2 else written
        ballots += found
        fruitless = 0 if found else fruitless + len(prompts)
        if fruitless >= FRUITLESS:
            model = settings.side.model
            if not written:
                raise DataError(f"{model} always writes the same answer.", "Raise the temperature, or choose other prompts.")
            raise DataError(f"The rule finds all answers of {model} equal.", "Choose another rule, or give it a weight.")
        bar.progress(len(ballots) / many, text=_("{done} of {all} pairs are written").format(done=len(ballots), all=many))
    bar.progress(1.0, text=_("Voting"))
    made = judged(ballots, rater)
    bar.empty()
    return made


def judged(ballots: list[Ballot], rater: SimulatedRater) -> list[Vote]:
    """The rater's votes. Their ids follow from seed, answers and rule: the same votes made twice are kept once."""
    lefts, rights = ([_context(ballot, side) for ballot in ballots] for side in (0, 1))
    found = []
    for i, (ballot, winner) in enumerate(zip(ballots, rater.judge(lefts, rights), strict=True)):
        left, right = ballot.answers
        own_id = f"{rater.name}/{rater.seed}/{i}/{left.model}/{left.checkpoint}/{left.seed}/{right.seed}"
        found.append(ballot.vote(winner, rater.name, simulated=True, id=own_id))
    return found


def apart(ballots: list[Ballot], rater: SimulatedRater) -> list[Ballot]:
    """Of the answers of each ballot the two that the rule finds most different, in their order; none where it finds all equal."""
    groups = [[_context(ballot, side) for side in range(len(ballot.answers))] for ballot in ballots]
    kept = []
    for ballot, (low, high) in zip(ballots, rater.most_apart(groups), strict=True):
        if low != high:
            first, second = sorted((low, high))
            kept.append(replace(ballot, answers=(ballot.answers[first], ballot.answers[second])))
    return kept


def _context(ballot: Ballot, side: int) -> Context:
    answer = ballot.answers[side]
    return Context(ballot.prompt.text, answer.text, ballot.prompt.answer, answer.tokens, answer.finished)


def _done(made: list[Vote], new: int) -> None:
    ties = sum(vote.winner == "tie" for vote in made)
    words = _("Votes kept: {n}. Ties among them: {ties}.").format(n=f"{new:,}", ties=f"{ties:,}")
    if new < len(made):
        words += " " + _("There already: {n}; take another seed for others.").format(n=f"{len(made) - new:,}")
    st.success(words, icon=":material/smart_toy:")
    rows = [{_("prompt"): v.prompt, _("left"): v.left, _("right"): v.right, _("winner"): v.winner} for v in made[:5]]
    st.dataframe(rows, hide_index=True)
