"""The four stages of the classic road: votes, reward model, policy, and a blind vote between before and after."""

from __future__ import annotations

import random
from dataclasses import dataclass

import streamlit as st

from pages.components import models, state, vote_rule, vote_writer
from pages.components.i18n import _
from pages.components.live import how_far, live_panel
from pages.components.numbers import number
from pages.components.text import plain, show_error
from pages.components.vote_writer import Ballot, Candidate, Settings
from rlhf import blind, compare, jobs, runs, votes
from rlhf.algorithms import DATA, make_config, title
from rlhf.compare import Side
from rlhf.config import RewardTerm, model_reward
from rlhf.errors import PlaygroundError
from rlhf.preferences import Dataset, PreferencePair, Prompt, load_dataset, split
from rlhf.raters import SimulatedRater
from rlhf.runs import Run
from rlhf.votes import Vote, Winner

MODEL = "story"
SIMULATED = 400
ENOUGH = 20  # votes below which nothing can be learned
CHOICES = 8  # answers of which a simulated rater votes between the two that it finds most different
GOLD = "negative"
REWARD, POLICY = "rm", "policy"  # names in the link


def run_of(name: str) -> Run | None:
    """The run of a stage, as the link says; None where there is none, or where it is gone."""
    try:
        return runs.open_run(st.query_params[name]) if st.query_params.get(name) else None
    except PlaygroundError:
        return None


def gone() -> list[str]:
    """What to say of runs that the link names and that are not there."""
    found = []
    for run_id in filter(None, (st.query_params.get(name) for name in (REWARD, POLICY))):
        try:
            runs.open_run(run_id)
        except PlaygroundError as error:
            found.append(plain(str(error)))
    return found


def trained(run: Run | None) -> bool:
    return run is not None and bool(run.checkpoints()) and not under_way(run)


def under_way(run: Run | None) -> bool:
    return run is not None and run.status.state in state.LIVE_STATES


def _state(run: Run | None) -> str:
    """How far the run of an earlier stage is; "" where there is none."""
    return f"{plain(run.name)}: {how_far(run.status)}" if run else ""


@dataclass(frozen=True)
class Kept:
    """The votes to learn from, and the pairs that they make."""

    votes: tuple[Vote, ...]
    pairs: tuple[PreferencePair, ...]

    @property
    def are_enough(self) -> bool:
        return len(self.pairs) >= ENOUGH


def kept_votes() -> Kept:
    """Votes on the story model's own answers; blind votes on trained ones are left out."""
    found = tuple(vote for vote in votes.find() if vote.left_model == MODEL and vote.left_checkpoint == vote.right_checkpoint == "")
    return Kept(found, votes.to_pairs(found).pairs)


# ---------------------------------------------------------------- 1 votes


def stage_votes(kept: Kept) -> None:
    found = kept.votes
    st.markdown(_("People (or, to try it out, a rule) say which of two answers of the story model is better."))
    with st.container(horizontal=True, gap="large"):
        st.metric(_("Votes kept"), f"{len(found):,}", width="content")
        st.metric(_("Pairs to learn from"), f"{len(kept.pairs):,}", width="content", help=_("Ties prefer nothing."))
    if found:
        st.caption(plain(votes.described(found)))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link("votes.py", label=_("Vote yourself"), icon=":material/how_to_vote:")
        words = _("Let a simulated rater vote {n} times").format(n=SIMULATED)
        rule = _("It prefers the sadder of two answers (VADER), and is wrong one time in twenty. Its votes say that they are simulated.")
        if st.button(words, icon=":material/smart_toy:", key="road/simulate", help=rule, type="secondary" if found else "primary"):
            rater = SimulatedRater((RewardTerm(name=GOLD),), 0.05, seed=len(found))
            sampling = tuple(vote_writer.usual_sampling(MODEL).items())
            settings = Settings(Side(MODEL), vote_writer.embedded(f"{MODEL}-prompts"), sampling)
            votes.add(vote_rule.simulate(settings, rater, SIMULATED, choices=CHOICES))
            st.rerun()
    if not kept.are_enough:
        st.caption(_("The next stage opens with {n} pairs.").format(n=ENOUGH))


# ---------------------------------------------------------------- 2 the reward model


def stage_reward(kept: Kept) -> None:
    st.markdown(_("A reward model learns to score the preferred answers higher. A tenth of the prompts is held out, to measure it on."))
    if not kept.are_enough:
        st.info(_("There are too few votes yet: go back to stage 1."), icon=":material/arrow_back:")
        return
    run = run_of(REWARD)
    kind = "secondary" if trained(run) else "primary"  # then what comes next is to go on
    words = _("Train it on {n} pairs").format(n=f"{len(kept.pairs):,}")
    if st.button(words, icon=":material/scale:", type=kind, key="road/reward", disabled=under_way(run)):
        config = make_config("reward_model", model=MODEL, data="custom")
        _submit(REWARD, config, split(kept.pairs, votes.described(kept.votes)), _("road: reward model"))
    if run:
        live_panel(run.id, compact=True)
        if trained(run):
            last = next((row for row in reversed(run.metrics()) if "eval/accuracy" in row), None)
            if last:
                words = _("On votes that it has not seen it agrees in {share} of cases (95 % interval: {low} to {high}).")
                parts = {"share": last["eval/accuracy"], "low": last["eval/accuracy/low"], "high": last["eval/accuracy/high"]}
                st.markdown(words.format(**{name: number(value, "share") for name, value in parts.items()}))
            st.page_link("reward_model.py", label=_("Open it: try it, see what it gets wrong"), query_params={"run": run.id})


def _submit(name: str, config: object, dataset: Dataset, label: str) -> None:
    try:
        st.query_params[name] = jobs.submit(config, dataset, name=label).id  # pyright: ignore[reportArgumentType]
    except PlaygroundError as error:
        show_error(error)
        return
    st.rerun()


# ---------------------------------------------------------------- 3 the policy


def stage_policy(kept: Kept) -> None:
    st.markdown(_("The policy is trained against the reward model (GRPO or PPO), or on the same votes without one (DPO)."))
    reward, run = run_of(REWARD), run_of(POLICY)
    ways = ["grpo", "ppo", "dpo"]
    way = st.segmented_control(_("How"), ways, default="grpo", required=True, format_func=lambda name: _(title(name)), key="road/way")
    if way != "dpo" and not trained(reward):
        words = _("There is no reward model yet: go back to stage 2, or take DPO, which needs none.")
        st.info(_state(reward) or words, icon=":material/arrow_back:")
    elif st.button(
        _("Train the policy"), icon=":material/play_arrow:", type="secondary" if trained(run) else "primary", key="road/policy",
        disabled=under_way(run),
    ):  # fmt: skip
        _start_policy(str(way), reward, kept)
    if run:
        live_panel(run.id, compact=True)
        if trained(run):
            st.page_link(f"{run.algorithm}.py", label=_("Open it: every plot, step and token"), query_params={"run": run.id})


def _start_policy(way: str, reward: Run | None, kept: Kept) -> None:
    label = _("road: {algorithm}").format(algorithm=_(title(way)))
    if DATA[way] == "pairs":
        _submit(POLICY, make_config(way, model=MODEL, data="custom"), split(kept.pairs, _("votes")), label)
    elif reward is not None:
        config = make_config(way, model=MODEL, reward=model_reward(reward.id), gold=GOLD)
        _submit(POLICY, config, load_dataset("prompts", f"{MODEL}-prompts"), label)


# ---------------------------------------------------------------- 4 the blind vote


def stage_blind(kept: Kept) -> None:
    run = run_of(POLICY)
    if not trained(run):
        st.info(_state(run) or _("There is no trained policy yet: go back to stage 3."), icon=":material/arrow_back:")
        return
    assert run is not None
    after = compare.tuned(run)
    checkpoint = after.checkpoint_id
    st.markdown(_("Two answers to a prompt that nothing was trained on, one from before and one from after. Which is better?"))
    prompts = blind.unseen(compare.heldout_prompts(run), {vote.prompt for vote in kept.votes})
    given = blind.of_run(votes.find(), checkpoint)
    asked = {vote.prompt for vote in given if not vote.simulated}
    left = [prompt for prompt in prompts if prompt.text not in asked]
    with st.spinner(_("Writing")):
        ballot = next((ballot for prompt in left if (ballot := _ballot(run, after, prompt))), None)
    if ballot:
        _ask(ballot)
    else:
        st.success(_("You have voted on every held-out prompt."), icon=":material/done_all:")
    words = _("Let the rule behind the simulated votes judge {n} of them").format(n=len(prompts))
    if prompts and st.button(words, icon=":material/smart_toy:", key="road/judge"):
        ballots = [ballot for prompt in prompts for ballot in [_ballot(run, after, prompt)] if ballot]
        votes.add(vote_rule.judged(ballots, SimulatedRater((RewardTerm(name=GOLD),))))
        st.rerun()
    _win_rates(given, checkpoint)


def _ballot(run: Run, after: Side, prompt: Prompt) -> Ballot | None:
    """The same seed and settings for both; None where both wrote the same. Kept for the session: the vote is on what was read."""
    key = f"road/ballot/{after.checkpoint_id}/{prompt.text}"
    if key not in st.session_state:
        luck = random.Random(key)
        sampling = compare.sampling_of(run)
        answers: list[Candidate] = []
        for side in (Side(run.model), after):
            answers += vote_writer.candidates(models.wait(side), [prompt], sampling, luck.randrange(2**31))
        luck.shuffle(answers)
        same = answers[0].text == answers[1].text
        st.session_state[key] = None if same else Ballot(votes.new_id(), prompt, tuple(answers), tuple(sampling.items()))
    return st.session_state[key]


def _ask(ballot: Ballot) -> None:
    st.markdown(f"**{plain(ballot.prompt.text)}**")
    for name, answer, column in zip((_("Left"), _("Right")), ballot.answers, st.columns(2), strict=True):
        with column.container(border=True, height="stretch"):
            st.caption(name)
            st.text(answer.text.strip() or _("(nothing was written)"))
    labels: dict[Winner, str] = {"left": _("Left is better"), "tie": _("Tie"), "right": _("Right is better")}
    for column, (winner, label) in zip(st.columns(3), labels.items(), strict=True):
        kind = "secondary" if winner == "tie" else "primary"
        column.button(label, key=f"road/{winner}/{ballot.id}", type=kind, width="stretch", on_click=_cast, args=(ballot, winner))


def _cast(ballot: Ballot, winner: Winner) -> None:
    try:
        votes.add(ballot.vote(winner, _("blind vote")))
    except PlaygroundError as error:
        show_error(error)


def _win_rates(given: list[Vote], checkpoint: str) -> None:
    """People's and the rule's apart: a rule that the votes came from is no judge of its own success."""
    parts = {_("People"): [v for v in given if not v.simulated], _("The rule"): [v for v in given if v.simulated]}
    shown = {name: blind.win_rate(part, checkpoint) for name, part in parts.items() if part}
    for column, (name, rate) in zip(st.columns(2), shown.items(), strict=False):
        low, high = rate.interval
        with column:
            st.metric(_("{who}: after wins").format(who=name), number(rate.rate, "share"))
            words = _("Wins: {wins}, ties: {ties}, losses: {losses}. 95 % interval: {low} to {high}; a tie counts as half.")
            figures = {"low": number(low, "share"), "high": number(high, "share")}
            st.caption(words.format(wins=rate.wins, ties=rate.ties, losses=rate.losses, **figures))
            if low <= 0.5 <= high:
                st.caption(_("The interval holds 50 %: these votes do not show a difference."))
