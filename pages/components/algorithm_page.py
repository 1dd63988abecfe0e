"""The page of one algorithm: its formula, the settings and the card on the left, the live run on the right.

A page gives its words (`About`); everything else is the same for all algorithms and comes from their configs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from pages.components import config_form, data_editor, preflight, reward_editor, state
from pages.components.i18n import _
from pages.components.live import live_panel
from pages.components.text import plain
from rlhf import jobs
from rlhf import runs as run_folders
from rlhf.algorithms import KIND
from rlhf.catalogue import CATALOGUE
from rlhf.config import Config, OnlineConfig
from rlhf.errors import PlaygroundError
from rlhf.preferences import EMBEDDED, Dataset

RECENT = 5  # runs offered where none is shown
LISTED = 40  # runs whose checkpoints are offered
DOUBLE_CLICK_SECONDS = 1.5

# Beside each other only where there is room; one below the other, a run that is shown comes before the settings of the next one.
STYLE = """
<style>
@media (max-width: 1100px) {
  .st-key-setup [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]),
  .st-key-run-and-setup [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) { flex-direction: column; }
  .st-key-run-and-setup > * > [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]),
  .st-key-run-and-setup > [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) { flex-direction: column-reverse; }
  .st-key-setup [data-testid="stColumn"], .st-key-run-and-setup [data-testid="stColumn"] { width: 100%; flex: 1 1 auto; min-width: 0; }
}
.st-key-formula .katex { font-size: 1.08em; }
.st-key-formula .katex-display { overflow-x: auto; overflow-y: hidden; padding-block: 0.25rem; }
.st-key-formula table { overflow-wrap: break-word; }
</style>
"""


@dataclass(frozen=True)
class Preset:
    """Settings under a name; ``note`` says what they show. ``model``: offered for this model only."""

    name: str
    settings: Mapping[str, Any]
    note: str = ""
    model: str = ""


@dataclass(frozen=True)
class About:
    """An algorithm in words. ``formula``: LaTeX; ``reading``: two lines on it; ``paper``: (title, link); ``plan``: a config in words."""

    algorithm: str
    title: str
    lead: str
    formula: str
    reading: str
    paper: tuple[str, str]
    plan: Callable[[Any, Dataset], str]
    presets: Sequence[Preset] = ()
    more: Callable[[], None] | None = None  # further explanation, below the formula


@dataclass
class Clicks:
    """What the Start button did in this session. A plain object, so that a rerun cannot come between the parts of one click."""

    number: int = 0
    at: float = -60.0  # time.monotonic() of the latest
    problem: str = ""
    run: str = ""
    shown: set[str] = field(default_factory=set)


def draw(about: About) -> None:
    """The whole page."""
    st.html(STYLE)
    st.title(about.title, anchor=False)
    st.markdown(about.lead)
    run_id = state.shown_run(about.algorithm)
    if run_id:
        _adopt(about.algorithm, run_id)
        with st.expander(_("The formula"), icon=":material/function:"):
            _formula(about)
    with st.container(key="run-and-setup" if run_id else "setup"):
        left, right = st.columns([2, 3], gap="medium")
    with left:
        _settings(about)
    with right:
        if run_id:
            live_panel(run_id)
            _settings_of(about.algorithm, run_id)
        else:
            _no_run(about.algorithm)
            with st.container(border=True):
                _formula(about)


def _formula(about: About) -> None:
    title, link = about.paper
    files = f"`docs/algorithms.md`, `rlhf/algorithms/{about.algorithm}.py`"
    with st.container(key="formula"):
        st.latex(about.formula)
        st.markdown(about.reading)
        if about.more:
            about.more()
        st.caption(_("Paper: [{title}]({link}). Equation by equation, and the code: {files}.").format(title=title, link=link, files=files))


def _clicks(algorithm: str) -> Clicks:
    return st.session_state.setdefault(f"{algorithm}/clicks", Clicks())


def _adopt(algorithm: str, run_id: str) -> None:
    """A link to a run on data of one's own: in a new session the form gets that data back from the run's folder."""
    seen = _clicks(algorithm).shown
    if run_id in seen:
        return
    seen.add(run_id)
    if st.query_params.get(config_form.key(algorithm, "data")) == data_editor.CUSTOM and not data_editor.has_own(algorithm):
        try:
            data_editor.use(algorithm, run_folders.open_run(run_id).load_data())
        except PlaygroundError as error:
            st.warning(plain(str(error)), icon=":material/info:")


# ---------------------------------------------------------------- right: nothing yet


def _no_run(algorithm: str) -> None:
    recent = [run for run in run_folders.list_runs() if run.algorithm == algorithm][:RECENT]
    with st.container(border=True):
        st.markdown(_("**No run is shown.** Start one, and its curves, samples and numbers appear here while it trains."))
        if recent:
            st.caption(_("Or look at an earlier one:"))
        for run in recent:
            status = run.status
            words = _("{name}, {model}, step {step} of {steps}").format(
                name=run.name, model=run.model, step=status.step, steps=status.steps
            )
            st.button(
                plain(words),
                icon=":material/history:",
                type="tertiary",
                key=f"show:{run.id}",
                on_click=state.show_run,
                args=(algorithm, run.id),
            )


def _settings_of(algorithm: str, run_id: str) -> None:
    """The settings that the shown run has, which need not be the form's; and a way to take them over."""
    try:
        run = run_folders.open_run(run_id)
        config = run.load_config()
    except PlaygroundError:
        return  # the panel says what is wrong with it
    with st.expander(_("Settings of this run"), icon=":material/tune:"):
        show = config_form.show
        changed = config.differences()
        lines = [f"{plain(config_form.label(name))}: **{plain(show(value)) or '–'}**" for name, (_old, value) in changed.items()]
        st.markdown(_("Model: **{model}**").format(model=plain(config.model)) + "".join(f"  \n{line}" for line in lines))
        st.caption(_("Everything else is this model's default."))
        if config.algorithm == algorithm:
            words = _("Put them into the form")
            st.button(words, icon=":material/arrow_back:", key="take-over", on_click=_take_over, args=(algorithm, run_id))


def _take_over(algorithm: str, run_id: str) -> None:
    """The form gets a run's settings and, where it was the user's own, its data."""
    run = run_folders.open_run(run_id)
    config = run.load_config()
    st.session_state[config_form.key(algorithm, "model")] = config.model
    st.session_state[f"{algorithm}/model-before"] = config.model
    st.session_state[config_form.key(algorithm, "adapter_from")] = config.adapter_from
    config_form.fill(algorithm, {name: getattr(config, name) for name in type(config).model_fields})
    if isinstance(config, OnlineConfig):
        reward_editor.fill(algorithm, config.reward)
    if config.data in EMBEDDED:
        st.session_state[config_form.key(algorithm, "data")] = config.data
    else:
        data_editor.use(algorithm, run.load_data())


# ---------------------------------------------------------------- left: settings, card, Start


@st.fragment
def _settings(about: About) -> None:
    with st.container(gap="small"):
        _form(about)


def _form(about: About) -> None:
    algorithm = about.algorithm
    online = KIND[algorithm] == "online"
    with st.container(gap="xxsmall"):
        model = _model(algorithm)
    standard = config_form.defaults(algorithm, model)
    parent = _start_from(algorithm, model)
    with st.container(gap="xxsmall"):
        dataset = (data_editor.prompt_editor if online else data_editor.pair_editor)(algorithm, standard.data)
    given: dict[str, Any] = {"model": model, "adapter_from": parent}
    given["data"] = st.session_state.get(config_form.key(algorithm, "data"), standard.data)
    refused: list[str] = []
    if isinstance(standard, OnlineConfig):
        with st.container(gap="xxsmall"):
            given["reward"], problem = reward_editor.editor(algorithm, model, standard.reward)
        refused += [problem] if problem else []
    with st.container(gap="xsmall"):
        _presets(about, model)
        cells = config_form.fields(algorithm, model, config_form.fields_of(algorithm, "few"))
    card = st.container(border=True, key="preflight", gap="small")
    with st.expander(_("More settings"), icon=":material/tune:"):
        cells |= config_form.more(algorithm, model)
    config, wrong = config_form.build(algorithm, {**config_form.values(algorithm, model), **given})
    config_form.mark(cells, wrong)
    with card:
        ready = preflight.card(config, dataset, about.plan, [*config_form.sentences(wrong), *refused])
        _start(algorithm, config, dataset, ready)


def _model(algorithm: str) -> str:
    """The model picker. Another model brings its own defaults for whatever the user has not set."""
    known = list(CATALOGUE)
    key = config_form.key(algorithm, "model")
    chosen = st.session_state.get(key) or st.query_params.get(key)
    names = [*known, chosen] if chosen and chosen not in known else known  # a Hub id or folder from the link
    model = st.selectbox(
        _("Model"), names, key=key, bind="query-params", persist_state="session", accept_new_options=True,
        placeholder=_("Choose, or type a Hub id or a folder"),
        help=_("An embedded model works at once. Or type any causal language model's Hub id (owner/name), or a folder on the server."),
    )  # fmt: skip
    model = str(model or known[0]).strip()
    entry = CATALOGUE.get(model)
    st.caption(
        _(entry.note) + f" {_millions(entry.parameters)}. {entry.licence}."
        if entry
        else _("A model of the Hub, or a folder on the server.")
    )
    before = st.session_state.setdefault(f"{algorithm}/model-before", model)
    if before != model:
        st.session_state[f"{algorithm}/model-before"] = model
        old, new = config_form.defaults(algorithm, before), config_form.defaults(algorithm, model)
        config_form.follow(algorithm, before, model)
        data_editor.follow(algorithm, old.data, new.data)
        if isinstance(old, OnlineConfig) and isinstance(new, OnlineConfig):
            reward_editor.follow(algorithm, old.reward, new.reward)
    return model


def _millions(parameters: int) -> str:
    return _("{n} million parameters").format(n=f"{parameters / 1e6:.2g}" if parameters < 1e8 else f"{parameters / 1e6:.0f}")


def _start_from(algorithm: str, model: str) -> str | None:
    """The model as it was released, or a checkpoint of a run of the same model."""
    names: list[str | None] = [None]
    for run in run_folders.list_runs()[:LISTED]:
        if run.model == model:
            names += [f"{run.id}/{checkpoint.name}" for checkpoint in reversed(run.checkpoints())]
    if len(names) == 1:
        return None
    return st.selectbox(
        _("Start from"), names, format_func=lambda name: name or _("the model as it is"), key=config_form.key(algorithm, "adapter_from"),
        bind="query-params", persist_state="session", help=_("A run can go on from another run's checkpoint; that run stays as it is."),
    )  # fmt: skip


def _presets(about: About, model: str) -> None:
    """Sets of settings by name. Which one is lit follows from the settings themselves."""
    offered = [preset for preset in about.presets if preset.model in ("", model)]
    if not offered:
        return
    key = f"{about.algorithm}/preset"
    standard = config_form.defaults(about.algorithm, model)
    now = config_form.values(about.algorithm, model)
    names = [preset.name for preset in offered]

    def in_force(preset: Preset) -> bool:
        wanted = {name: preset.settings.get(name, getattr(standard, name)) for name in now}
        return all(config_form.widget_value(now[name]) == config_form.widget_value(value) for name, value in wanted.items())

    lit = next((preset for preset in offered if in_force(preset)), None)
    st.session_state[key] = lit.name if lit else None
    st.pills(
        _("Preset"), names, format_func=_, key=key, on_change=_apply, args=(about, model, key),
        help=_("Sets the numbers below; model, data and reward stay as they are."),
    )  # fmt: skip
    if lit and lit.note:
        st.info(_(lit.note), icon=":material/science:")


def _apply(about: About, model: str, key: str) -> None:
    """The chosen preset; choosing the one in force again goes back to the defaults."""
    chosen = st.session_state.get(key)
    settings = next((preset.settings for preset in about.presets if preset.name == chosen), {})
    standard = config_form.defaults(about.algorithm, model)
    config_form.fill(about.algorithm, {**{name: getattr(standard, name) for name in type(standard).model_fields}, **settings})


def _start(algorithm: str, config: Config | None, dataset: Dataset | None, ready: bool) -> None:
    """The Start button. It has a new identity after each start, so that the second click of a double click meets no button."""
    clicks = _clicks(algorithm)
    pressed = st.button(
        _("Start"), icon=":material/play_arrow:", type="primary", width="stretch", disabled=not ready,
        key=f"{algorithm}/start-{clicks.number}", help=None if ready else _("What keeps it from starting is said above."),
    )  # fmt: skip
    if pressed and ready and config is not None and dataset is not None and time.monotonic() - clicks.at > DOUBLE_CLICK_SECONDS:
        clicks.number, clicks.at, clicks.problem = clicks.number + 1, time.monotonic(), ""
        try:
            clicks.run = jobs.submit(config, dataset).id
        except PlaygroundError as error:
            clicks.problem = str(error)
        else:
            clicks.shown.add(clicks.run)
            state.show_run(algorithm, clicks.run)
            st.rerun()
    if clicks.problem:
        st.error(plain(clicks.problem), icon=":material/error:")
