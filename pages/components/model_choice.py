"""Choosing a model and its weights, what its files say before anything is loaded, and the button that loads it."""

from __future__ import annotations

import streamlit as st

from pages.components import models
from pages.components.i18n import _
from pages.components.link import pick, wanted
from pages.components.models import Frozen
from pages.components.numbers import megabytes, number
from pages.components.text import plain, show_error
from rlhf import compare, runs
from rlhf.algorithms import writes
from rlhf.catalogue import CATALOGUE
from rlhf.compare import Side
from rlhf.errors import PlaygroundError
from rlhf.estimate import ModelFacts, free_memory, likely_device, model_facts

LISTED_RUNS = 50
RELEASED = ""
MODEL = "model-page/model"
SHOWN = "model-page/loaded"


def choose() -> Side | None:
    """The pickers for a model and its weights; None where the link names a checkpoint that does not exist (said on the page)."""
    names = {name: _title(name) for name in CATALOGUE}
    if (asked := wanted("model", MODEL)) not in names and asked:
        names[asked] = asked  # a Hub id or folder, typed or from the link
    left, right = st.columns(2)
    with left:
        words = _("An embedded model works at once. Or type any causal language model's Hub id (owner/name), or a folder on the server.")
        placeholder = _("Choose, or type a Hub id or a folder")
        model = pick(_("Model"), names, "model", MODEL, accept_new_options=True, placeholder=placeholder, help=words)
    with right:
        reference = _weights(model)
    if not reference:
        return Side(model)
    try:
        run_id, _slash, checkpoint = reference.partition("/")
        return compare.tuned(runs.open_run(run_id), checkpoint)
    except PlaygroundError as error:
        st.warning(plain(str(error)), icon=":material/search_off:")
        return None


def _title(model: str) -> str:
    entry = CATALOGUE[model]
    size = _("{n} M parameters").format(n=number(entry.parameters / 1e6))
    return f"{entry.title} · {size}" + (f" · {number(entry.download_mb)} MB" if entry.download_mb else "")


def _weights(model: str) -> str:
    """As released, or a checkpoint of a run of this model, as RUN_ID/step-N."""
    listed = runs.list_runs()
    names = {RELEASED: _("as released")}
    for run in [run for run in listed if run.model == model and writes(run.algorithm)][:LISTED_RUNS]:
        for info in reversed(run.checkpoints()):
            names[f"{run.id}/{info.name}"] = _("{run}, step {step}").format(run=run.name, step=info.step)
    key = f"model-page/weights/{model}"
    asked = st.query_params.get("weights", "")
    if asked and asked not in names and asked.partition("/")[0] not in {run.id for run in listed}:
        names[asked] = asked  # a link to what is gone; of a run of another model it would mean nothing here
    words = _("As the model was released, or as a run of this app has trained it.")
    return pick(_("Weights"), names, "weights", key, disabled=len(names) == 1, help=words)


def load(side: Side) -> Frozen | None:
    """What is known about the model, and the model itself once it was asked for. What goes wrong is told with what to do about it."""
    facts = model_facts(side.model)
    _badges(side, facts)
    here = models.shelf().ready(side)
    wanted = st.session_state.get(SHOWN) == side
    if here is None and not wanted:
        _figures(facts)
        icon = ":material/memory:" if facts.local else ":material/download:"
        if not st.button(_("Load"), icon=icon, type="primary", key="load-model"):
            return None
    try:
        frozen = here or models.wait(side)
    except PlaygroundError as error:
        st.session_state.pop(SHOWN, None)
        show_error(error)
        return None
    st.session_state[SHOWN] = side
    if here is None:
        st.rerun()  # the button has done its work
    _figures(facts, frozen)
    return frozen


def _badges(side: Side, facts: ModelFacts) -> None:
    """Where it comes from, whether it fits, under which licence."""
    entry = CATALOGUE.get(side.model)
    with st.container(horizontal=True, gap="xsmall"):
        if facts.local:
            words = _("ships with the app") if entry and entry.embedded else _("on this machine")
            st.badge(words, icon=":material/hard_drive:", color="green")
        elif facts.download_mb:
            st.badge(_("{size} MB to download").format(size=number(facts.download_mb)), icon=":material/download:", color="gray")
        else:
            st.badge(_("not on this machine"), icon=":material/download:", color="gray")
        _memory_badge(facts)
        if entry:
            st.badge(plain(entry.licence), icon=":material/license:", color="gray")
        if not side.is_untouched:
            words = _("trained by {run}, step {step}").format(run=plain(side.run_name), step=side.step)
            st.badge(words, icon=":material/trending_up:", color="blue")
    if entry:
        st.caption(_(entry.note))


def _memory_badge(facts: ModelFacts) -> None:
    """Weights in the number format that the server would load them in, against what is free."""
    if not facts.parameters:
        return
    device = likely_device()
    need = facts.parameters * (2 if device == "cuda" and facts.parameters >= 1e9 else 4)
    free = free_memory(device)
    if free is None:
        st.badge(_("{size} of GPU memory").format(size=megabytes(need)), icon=":material/memory:", color="gray")
    elif need > 0.9 * free:
        words = _("needs {size}, {free} are free").format(size=megabytes(need), free=megabytes(free))
        st.badge(words, icon=":material/memory:", color="red")
    else:
        words = _("{size} of memory").format(size=megabytes(need))
        st.badge(words, icon=":material/memory:", color="orange" if need > 0.5 * free else "green")


def _figures(facts: ModelFacts, frozen: Frozen | None = None) -> None:
    """Parameters, layers, vocabulary, context; memory, device and number format once it is loaded."""
    loaded = frozen.loaded if frozen else None
    if not loaded and not facts.parameters and not facts.layers:
        return  # nothing is known of it yet
    figures = [
        (_("Parameters"), _count(loaded.parameters if loaded else facts.parameters)),
        (_("Layers"), str(loaded.layers if loaded else facts.layers or "–")),
        (_("Vocabulary"), f"{loaded.vocabulary if loaded else facts.vocabulary:,}" if loaded or facts.vocabulary else "–"),
        (_("Context"), _("{n} tokens").format(n=f"{loaded.context if loaded else facts.context:,}") if loaded or facts.context else "–"),
    ]
    if loaded:
        number_format = str(loaded.dtype).removeprefix("torch.")
        figures += [(_("Memory"), megabytes(loaded.memory_bytes)), (_("Device"), f"{loaded.device} · {number_format}")]
    with st.container(horizontal=True, gap="large"):
        for label, value in figures:
            st.metric(label, value, width="content")


def _count(parameters: int | None) -> str:
    if not parameters:
        return "–"
    return _("{n} million").format(n=number(parameters / 1e6)) if parameters < 1e9 else _("{n} billion").format(n=number(parameters / 1e9))
