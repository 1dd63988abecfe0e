"""What a hack depends on: a few runs that differ in one thing only, queued with one click and drawn over one another.

The runs over β need nothing before them. Those over the votes have two stages, as on the page From votes to a policy: the reward models
first, and when they are there, a policy against each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from pages.components import preflight, state
from pages.components.i18n import _
from pages.components.live import state_name
from pages.components.numbers import number
from pages.components.reward_trial import with_noise
from pages.components.text import plain
from rlhf import jobs, runs
from rlhf.algorithms import make_config
from rlhf.config import Config, model_reward
from rlhf.errors import PlaygroundError
from rlhf.estimate import estimate
from rlhf.overoptimisation import RULE, watched_config
from rlhf.preferences import Dataset, load_dataset
from rlhf.runs import Run

BETAS = (0.0, 0.05, 0.2)
VOTES = 400
FEWER = (25, 100, VOTES)
WRONG = (0.0, 0.2, 0.4)
SHOWN = "hacking/shown"
REFRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Settings:
    """Of one run. ``proxy``: what is trained on, ``RULE`` or the run of a reward model."""

    proxy: str
    beta: float
    learning_rate: float
    steps: int
    seed: int

    def config(self) -> Config:
        reward = RULE if self.proxy == RULE else model_reward(self.proxy)
        return watched_config(reward, self.beta, self.learning_rate, self.steps, self.seed)


def start(arms: Sequence[tuple[str, Settings]]) -> None:
    """In a callback: queue these runs, by name, and show them alone if they are several, else beside what is shown."""
    begun: list[str] = []
    try:
        for name, settings in arms:
            begun.append(jobs.submit(settings.config(), load_dataset("prompts", "story-prompts"), name=name).id)
    except PlaygroundError as error:
        st.session_state["hacking/problem"] = str(error)
    earlier = [] if len(arms) > 1 else st.session_state.get(SHOWN, [])
    if begun:
        st.session_state[SHOWN] = [*begun, *earlier][:4]


def draw(settings: Settings, proxy_name: str) -> None:
    """``settings``: what the runs share, as chosen for a single one."""
    studies = {"beta": _("β"), "votes": _("Number of votes"), "noise": _("Wrong votes")}
    study = st.segmented_control(
        _("What differs"), list(studies), default="beta", required=True, format_func=lambda name: studies[name], key="hacking/study",
    )  # fmt: skip
    if study == "beta":
        _over_beta(settings, proxy_name)
    else:
        _over_votes(str(study), settings)


def _over_beta(settings: Settings, proxy_name: str) -> None:
    arms = [(_("β {beta:g}, seed {seed}").format(beta=beta, seed=settings.seed), replace(settings, beta=beta)) for beta in BETAS]
    words = _("{n} runs with β {values}, all against {proxy}. Learning rate, steps and seed are those of a single run.")
    st.markdown(words.format(n=len(arms), values=_listed([f"{beta:g}" for beta in BETAS]), proxy=plain(proxy_name)))
    _button(arms)


def _over_votes(study: str, settings: Settings) -> None:
    if study == "votes":
        words = _("Reward models that learned {values} votes, and a policy against each.")
        st.markdown(words.format(values=_listed([str(n) for n in FEWER])))
    else:
        words = _("Reward models that learned {n} votes of which {values} say the opposite, and a policy against each.")
        st.markdown(words.format(n=VOTES, values=_listed([number(share, "share") for share in WRONG])))
    st.caption(
        _("The votes are simulated: of two answers of the story model the sadder one wins; the gold reward would choose the same.") + " "
        + _("β, learning rate, steps and seed of the policies are those of a single run.")
    )  # fmt: skip
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(f"**{_('1 · Reward models')}**")
        tasks = _reward_models(study, settings.seed)
        _time([(config, data) for _name, config, data in tasks])
        label = _("Train {n} reward models").format(n=len(tasks))
        models = _remembered(study)
        st.button(
            label, icon=":material/scale:", key=f"hacking/models/{study}/start", type="secondary" if models else "primary",
            on_click=_train, args=(study, tasks),
        )  # fmt: skip
        if models:
            alive = any(run.status.state in state.LIVE_STATES for run in models)
            watch = st.fragment(_states, run_every=REFRESH_SECONDS if alive else None, key=f"hacking-models-{study}")
            watch([run.id for run in models], alive)
    with right:
        st.markdown(f"**{_('2 · Policies against them')}**")
        ready = [run for run in models if run.checkpoints()]
        if not ready or any(run.status.state in state.LIVE_STATES for run in models):
            st.caption(_("This stage opens when the reward models are trained."))
        else:
            _button([(_("against {name}").format(name=run.name), replace(settings, proxy=run.id)) for run in ready])


def _reward_models(study: str, seed: int) -> list[tuple[str, Config, Dataset]]:
    """Name, settings and votes of each reward model; the held-out votes are without errors and the same for all."""
    pairs = load_dataset("pairs", "story-pairs")
    arms = [(votes, 0.0) for votes in FEWER] if study == "votes" else [(VOTES, share) for share in WRONG]
    config = make_config("reward_model", model="story", data="custom", seed=seed)
    found = []
    for votes, share in arms:
        words = _("{n} votes, seed {seed}") if study == "votes" else _("{wrong} wrong, seed {seed}")
        name = words.format(n=votes, wrong=number(share, "share"), seed=seed)
        found.append((name, config, with_noise(pairs, share, votes / len(pairs.train), seed)))
    return found


def _train(study: str, tasks: Sequence[tuple[str, Config, Dataset]]) -> None:
    begun: list[str] = []
    try:
        for name, config, data in tasks:
            begun.append(jobs.submit(config, data, name=name).id)
    except PlaygroundError as error:
        st.session_state["hacking/problem"] = str(error)
    if begun:
        st.session_state[f"hacking/models/{study}"] = begun
        st.query_params[study] = ",".join(begun)


def _remembered(study: str) -> list[Run]:
    """The reward models of a study, as the link says or this session remembers; those that are gone are left out."""
    linked = st.query_params.get(study)
    return _opened(linked.split(",") if linked else st.session_state.get(f"hacking/models/{study}", []))


def _opened(ids: Sequence[str]) -> list[Run]:
    found = []
    for run_id in ids[: len(FEWER)]:
        try:
            found.append(runs.open_run(run_id))
        except PlaygroundError:
            continue
    return found


def _states(ids: Sequence[str], alive: bool) -> None:
    """One line for each reward model; asks for the whole page anew when the last one has ended."""
    found = _opened(ids)
    if alive and not any(run.status.state in state.LIVE_STATES for run in found):
        st.rerun()
    for run in found:
        status = run.status
        line = f"{plain(run.name)}: {state_name(status)}"
        measured = [row["eval/accuracy"] for row in run.metrics() if "eval/accuracy" in row]
        if status.state == "running":
            line += f", {_('step {step} of {steps}').format(step=status.step, steps=status.steps)}"
        elif status.state == "failed":
            line += f". {plain(status.message)}"
        elif measured:
            line += f", {_('held-out accuracy {share}').format(share=number(measured[-1], 'share'))}"
        st.markdown(f"- {line}")


def _button(arms: Sequence[tuple[str, Settings]]) -> None:
    prompts = load_dataset("prompts", "story-prompts")
    _time([(settings.config(), prompts) for _name, settings in arms])
    label = _("Queue {n} runs").format(n=len(arms))
    st.button(label, icon=":material/playlist_play:", type="primary", key="hacking/queue", on_click=start, args=(arms,))


def _time(tasks: Sequence[tuple[Config, Dataset]]) -> None:
    """How long all of them take one after the other, and what is ahead of them."""
    past = runs.list_runs()[:60]
    figures = [estimate(config, past, data) for config, data in tasks]
    seconds = [one.seconds for one in figures if one.seconds is not None]
    if len(seconds) < len(figures):
        return
    how = _("measured on earlier runs here") if all(one.timed_by == "runs" for one in figures) else _("a rough figure")
    st.caption(f":material/timer: {_('Together about {time} ({how}).').format(time=preflight.rounded(sum(seconds)), how=how)}")
    preflight.queue()


def _listed(values: Sequence[str]) -> str:
    return _("{some} and {last}").format(some=", ".join(values[:-1]), last=values[-1])
