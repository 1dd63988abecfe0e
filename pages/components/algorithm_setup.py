"""The left side of an algorithm's page: model, data, reward, settings, the card before the start, and Start."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.components import config_form, data_editor, preflight, reward_editor, setting_widget
from pages.components.i18n import _
from pages.components.text import plain
from rlhf import jobs
from rlhf import runs as run_folders
from rlhf.algorithms import DATA, writes
from rlhf.catalogue import CATALOGUE
from rlhf.config import Config, OnlineConfig
from rlhf.errors import PlaygroundError
from rlhf.preferences import Dataset

LISTED = 40  # runs whose checkpoints are offered
DOUBLE_CLICK_SECONDS = 1.5


@dataclass(frozen=True)
class Preset:
    """Settings under a name; ``note`` says what they show. ``model``: offered for this model only."""

    name: str
    settings: Mapping[str, Any]
    note: str = ""
    model: str = ""


@dataclass
class Clicks:
    """What the Start button did in this session. A plain object, so that a rerun cannot come between the parts of one click."""

    number: int = 0
    at: float = -60.0  # time.monotonic() of the latest
    problem: str = ""
    started: str = ""  # a run that the page does not show yet


def _clicks(algorithm: str) -> Clicks:
    return st.session_state.setdefault(f"{algorithm}/clicks", Clicks())


def just_started(algorithm: str) -> str:
    """The run that Start has started since the last call, once; "" if there is none."""
    clicks = _clicks(algorithm)
    started, clicks.started = clicks.started, ""
    return started


@st.fragment
def setup(algorithm: str, plan: str, presets: Sequence[Preset], shown: str | None) -> None:
    """Draw it. ``plan``: for ``preflight.in_words``; ``shown``: the run that the page shows."""
    if _clicks(algorithm).started:
        st.rerun()  # the second click of a double click has cut short the run of the script that was to show it
    with st.container(gap="small"):
        _form(algorithm, plan, presets, shown)


def _form(algorithm: str, plan: str, presets: Sequence[Preset], shown: str | None) -> None:
    with st.container(gap="xxsmall"):
        model = _model(algorithm)
    standard = config_form.defaults(algorithm, model)
    parent = _start_from(algorithm, model)
    with st.container(gap="xxsmall"):
        dataset = data_editor.editor(algorithm, DATA[algorithm], standard.data)
    given: dict[str, Any] = {"model": model, "adapter_from": parent}
    given["data"] = st.session_state.get(config_form.key(algorithm, "data"), standard.data)
    refused: list[str] = []
    if isinstance(standard, OnlineConfig):
        with st.container(gap="xxsmall"):
            given["reward"], problem = reward_editor.editor(algorithm, model, standard.reward)
        refused += [problem] if problem else []
    with st.container(gap="xsmall"):
        config_form.follow_choices(algorithm, model)
        before = config_form.values(algorithm, model)
        _presets(algorithm, model, presets)
        few = config_form.fields_of(algorithm, model, "few")
        cells = config_form.fields(algorithm, model, few)
        config_form.choices(algorithm, model, few)
    card = st.container(border=True, key="preflight", gap="small")
    with st.expander(_("More settings"), icon=":material/tune:"):
        cells |= config_form.more(algorithm, model)
    if config_form.read_from_link(algorithm, before, config_form.values(algorithm, model)):
        st.rerun()  # what stands above was drawn without knowing it
    config, wrong = config_form.build(algorithm, {**config_form.values(algorithm, model), **given})
    config_form.mark(cells, wrong)
    with card:
        ready = preflight.card(config, dataset, plan, [*config_form.sentences(wrong), *refused])
        _start(algorithm, config, dataset, ready, shown)


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
    names = [""]  # Streamlit shows None as nothing chosen
    for run in run_folders.list_runs()[:LISTED]:
        if run.model == model and writes(run.algorithm):
            names += [f"{run.id}/{checkpoint.name}" for checkpoint in reversed(run.checkpoints())]
    if len(names) == 1:
        return None
    chosen = st.selectbox(
        _("Start from"), names, format_func=lambda name: name or _("the model as it is"), key=config_form.key(algorithm, "adapter_from"),
        bind="query-params", persist_state="session", help=_("A run can go on from another run's checkpoint; that run stays as it is."),
    )  # fmt: skip
    return chosen or None


def _presets(algorithm: str, model: str, presets: Sequence[Preset]) -> None:
    """Sets of settings by name. Which one is lit follows from the settings themselves."""
    offered = [Preset(_("Sensible"), {}), *(preset for preset in presets if preset.model in ("", model))]
    key = f"{algorithm}/preset"
    now = config_form.values(algorithm, model)
    names = [preset.name for preset in offered]

    def in_force(preset: Preset) -> bool:
        standard = config_form.defaults(algorithm, model, preset.settings)
        wanted = {name: preset.settings.get(name, getattr(standard, name)) for name in now}
        return all(setting_widget.widget_value(now[name]) == setting_widget.widget_value(value) for name, value in wanted.items())

    lit = next((preset for preset in offered if in_force(preset)), None)
    st.session_state[key] = lit.name if lit else None
    st.pills(
        _("Preset"), names, key=key, on_change=_apply, args=(algorithm, model, offered),
        help=_("Sets the numbers below; model, data and reward stay as they are."),
    )  # fmt: skip
    if lit and lit.note:
        st.info(lit.note, icon=":material/science:")


def _apply(algorithm: str, model: str, offered: Sequence[Preset]) -> None:
    """The chosen preset over the model's defaults; a second click on the one in force goes back to the defaults."""
    chosen = st.session_state.get(f"{algorithm}/preset")
    settings = next((preset.settings for preset in offered if preset.name == chosen), {})
    standard = config_form.defaults(algorithm, model, settings)
    config_form.fill(algorithm, {**{name: getattr(standard, name) for name in type(standard).model_fields}, **settings})


def _start(algorithm: str, config: Config | None, dataset: Dataset | None, ready: bool, shown: str | None) -> None:
    """The Start button. It has a new identity after each start, so that the second click of a double click meets no button."""
    clicks = _clicks(algorithm)
    if ready and config is not None and _same_as(shown, config):
        st.caption(_("The run that is shown has these very settings. With another seed it would come out differently."))
    pressed = st.button(
        _("Start"), icon=":material/play_arrow:", type="primary", width="stretch", disabled=not ready,
        key=f"{algorithm}/start-{clicks.number}", help=None if ready else _("What keeps it from starting is said above."),
    )  # fmt: skip
    if pressed and ready and config is not None and dataset is not None and time.monotonic() - clicks.at > DOUBLE_CLICK_SECONDS:
        clicks.number, clicks.at, clicks.problem = clicks.number + 1, time.monotonic(), ""
        try:
            clicks.started = jobs.submit(config, dataset).id
        except PlaygroundError as error:
            clicks.problem = str(error)
        else:
            st.rerun()
    if clicks.problem:
        st.error(plain(clicks.problem), icon=":material/error:")


def _same_as(run_id: str | None, config: Config) -> bool:
    """Whether a run was started with this config, on data that the config names."""
    if not run_id or config.data == data_editor.CUSTOM:
        return False
    try:
        return run_folders.open_run(run_id).load_config() == config
    except PlaygroundError:
        return False
