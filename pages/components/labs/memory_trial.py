"""Lab 8, second part: the prediction against the peak of a real step, for all methods on an embedded model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.components import charts, theme
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.labs.memory_setting import DTYPES, LAB, METHODS
from pages.components.labs.question import Choice, guess, reveal
from pages.components.numbers import megabytes, number
from pages.components.text import show_error
from rlhf.errors import PlaygroundError
from rlhf.estimate import model_facts
from rlhf.labs import memory, memory_trial
from rlhf.labs.memory_trial import Trial

KEPT = "mem/trials"
PROMPT = {"story": 16, "sums": 6}
"""Tokens of the prompts: about as long as the model's own."""


def draw() -> None:
    st.markdown(
        _(
            "Is the arithmetic right? Here each method takes two real steps on a model that ships with the app, in a process of its own, "
            "and the most memory that its tensors held in the second step stands beside the prediction."
        )
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        model, chosen = _setting()
        ready = guess(_question({}), (model, chosen))
        label = _("Measure all six")
        pressed = st.button(
            label, type="primary", icon=":material/speed:", disabled=not ready, key="mem/measure", help=None if ready else _("Guess first.")
        )
    with right:
        if pressed:
            _measure(model, chosen)
        kept = _kept()
        if not kept:
            st.info(_("Nothing was measured yet. It takes a few seconds for each method."), icon=":material/hourglass_empty:")
            return
        if kept["setting"] != (model, chosen):
            st.info(_("These are of the earlier setting: measure again."), icon=":material/update:")
        _results(kept["trials"], kept["failed"])
        if {"sft", "dpo"} <= kept["trials"].keys():
            reveal(_question(kept["trials"], kept["setting"][1].rank > 0), kept["setting"])


def _kept() -> dict[str, Any]:
    return st.session_state.get(KEPT, {})


def _setting() -> tuple[str, memory.Setting]:
    model = setting.choice(LAB, "trial", _("Model"), {"story": "Story", "sums": "Sums"})
    one, two = st.columns(2)
    with one:
        lora = setting.toggle(LAB, "trial_lora", "LoRA")
    with two:
        dtype = setting.choice(LAB, "trial_dtype", _("Number format"), DTYPES)
    prompts = setting.whole(LAB, "trial_prompts", _("Prompts, with eight answers each"), 1, 8, 4)
    answer = setting.whole(LAB, "trial_answer", _("Tokens of an answer"), 8, 96, 48, 8)
    microbatch = setting.whole(LAB, "trial_microbatch", _("Sequences in one pass"), 2, 64, 32, 2)
    room = model_facts(model).context - PROMPT[model]
    if answer > room:
        st.caption(_("{model} reads {context} tokens, so that answers have {room} here.").format(
            model=model, context=room + PROMPT[model], room=room
        ))  # fmt: skip
    return model, memory.Setting(
        prompts, 8, microbatch, PROMPT[model], min(answer, room), 16 if lora else 0, dtype, scored=False
    )  # fmt: skip


def _measure(model: str, chosen: memory.Setting) -> None:
    """One method after the other; what is done is kept if the page is left."""
    kept: dict[str, Any] = {"setting": (model, chosen), "trials": {}, "failed": {}}
    st.session_state[KEPT] = kept
    bar = st.progress(0.0)
    for i, method in enumerate(METHODS):
        bar.progress(i / len(METHODS), _("{method}: two real steps in a process of its own").format(method=METHODS[method]))
        try:
            config = memory.config_of(method, chosen, model=model)
            kept["trials"][method] = memory_trial.run(method, config, chosen.prompt, chosen.answer)
        except PlaygroundError as error:
            kept["failed"][method] = error
    bar.empty()


def _results(trials: Mapping[str, Trial], failed: Mapping[str, PlaygroundError]) -> None:
    for method, error in failed.items():
        st.caption(METHODS[method])
        show_error(error)
    if not trials:
        return
    is_dark, names = theme.dark(), [METHODS[method] for method in trials]
    figure = go.Figure()
    bars = (
        (_("predicted"), theme.SKY, [t.predicted for t in trials.values()]),
        (_("measured"), theme.BLUE, [t.tensors for t in trials.values()]),
    )
    for name, colour, sizes in bars:
        figure.add_bar(
            x=[size / 2**20 for size in sizes], y=names, name=name, orientation="h", marker={"color": theme.on_ground(colour, is_dark)},
            hovertemplate=f"{name}: %{{x:.1f}} MiB<extra>%{{y}}</extra>",
        )  # fmt: skip
    figure.update_layout(
        template=theme.template(is_dark), barmode="group", height=90 + 44 * len(names), margin={"l": 90, "r": 10, "t": 8, "b": 30},
        xaxis={"title": {"text": "MiB"}}, yaxis={"autorange": "reversed"},
    )  # fmt: skip
    charts.still(figure, key="mem/trials/bars")
    rows = [
        {
            _("Method"): METHODS[method], _("Predicted"): megabytes(trial.predicted), _("Measured"): megabytes(trial.tensors),
            _("Predicted / measured"): number(trial.ratio), _("The process grew by"): megabytes(trial.process),
        }
        for method, trial in trials.items()
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    worst = max(trials.values(), key=lambda trial: abs(trial.ratio - 1))
    off = abs(worst.ratio - 1)
    words = _("The prediction is off by at most {off} ({method}).").format(off=number(off, "share"), method=METHODS[worst.method])
    st.markdown(words if off <= memory_trial.WITHIN else words + " " + _("That is more than it should be: 15 %."))
    st.caption(
        _(
            "Measured: the tensors that were alive at once, counted by torch's allocator, as max_memory_allocated counts them on a GPU. "
            "Beside it by how much the process grew above itself with everything imported and nothing loaded, as the operating system saw "
            "it: that has tokenizer, texts and the libraries' own buffers in it too. The rewards are a rule here, so that no reward model "
            "is in memory. Answers are kept from ending before their last token."
        )
    )


def _question(trials: Mapping[str, Trial], lora: bool = False) -> Choice:
    """Right is what was measured, once it was."""
    text = _("DPO asks a reference, SFT has none; both read as many answers. How much more memory will DPO hold on such a small model?")
    options = (_("hardly: less than 1.25 times"), _("1.25 to 1.75 times"), _("twice: two models are two models"))
    if not {"dpo", "sft"} <= trials.keys():
        return Choice("mem/second-network", text, options, 0, "")
    dpo, sft = trials["dpo"], trials["sft"]
    factor = dpo.tensors / sft.tensors
    words = _("DPO held {dpo}, SFT {sft}: {factor} times as much.").format(
        dpo=megabytes(dpo.tensors), sft=megabytes(sft.tensors), factor=number(factor)
    )
    why = (
        _("With LoRA the reference is the same network with its adapter off; what differs is how prompts are shared by their answers.")
        if lora
        else _("The second network is a few megabytes: in a model this small the activations and logits of {tokens} tokens are most of it.")
    )
    large = _("With billions of weights and a small microbatch the networks weigh most, as the first part shows.")
    because = f"{words} {why.format(tokens=number(dpo.tokens))} {large}"
    return Choice("mem/second-network", text, options, 0 if factor < 1.25 else 1 if factor < 1.75 else 2, because)
