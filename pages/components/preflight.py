"""The card before the start: what will happen, how long, how much memory, what differs from the defaults, what is refused and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

from pages.components import data_editor, setting_widget
from pages.components.i18n import _
from pages.components.numbers import duration, megabytes
from pages.components.text import plain
from rlhf import jobs
from rlhf import runs as run_folders
from rlhf.config import Config, OnlineConfig
from rlhf.errors import PlaygroundError
from rlhf.estimate import Estimate, estimate, fit
from rlhf.preferences import Dataset
from rlhf.rewards import REWARDS

_NEWEST = 60  # runs that are looked through for times
SLOW_ON_CPU = 60_000_000  # parameters


@dataclass
class Verdict:
    """``refused``: why the run cannot start; ``warned``: what the user should know and may ignore; ``too_long``: items that do not fit."""

    refused: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    too_long: tuple[int, ...] = ()


def card(config: Config | None, dataset: Dataset | None, plan: str, refused: Sequence[str]) -> bool:
    """Draw the card; returns whether the run may start. ``plan``: for ``in_words``; ``refused``: what the form has found wrong."""
    verdict = Verdict(list(refused))
    if config is None or dataset is None:
        if not verdict.refused:
            verdict.refused.append(_("There is no data to train on."))
        _list(verdict)
        return False
    figures = estimate(config, run_folders.list_runs()[:_NEWEST], dataset)
    check_data(config, dataset, verdict)
    check_machine(config, figures, verdict)
    st.markdown(in_words(plan, config, dataset))
    _figures(config, figures)
    _differences(config)
    queue()
    _list(verdict)
    if verdict.too_long and verdict.refused:
        words = _("Leave out the {n} that do not fit").format(n=len(verdict.too_long))
        kept = data_editor.without(dataset, verdict.too_long)
        st.button(words, icon=":material/content_cut:", key="leave-out", on_click=data_editor.use, args=(config.algorithm, kept))
    return not verdict.refused


def in_words(plan: str, config: Config, data: Dataset) -> str:
    """The plan of a run, with its numbers put in.

    It may name ``{model}``, ``{steps}``, what a step takes (``{prompts}``, ``{pairs}`` or ``{examples}``: the fields ``…_per_step``), the
    ``{total}`` of those in the training data and how many ``{passes}`` a run makes through them; of an online run also the responses to a
    prompt, ``{group}``, and of a step, ``{samples}``, the ``{tokens}`` of a response at most, and the ``{epochs}``.
    """
    ending = "_per_step"
    taken = {name.removesuffix(ending): getattr(config, name) for name in type(config).model_fields if name.endswith(ending)}
    passes = config.steps * sum(taken.values()) / max(1, len(data.train))
    parts = {
        "model": plain(config.model), "steps": f"{config.steps:,}", "total": f"{len(data.train):,}",
        "passes": f"{passes:,.0f}" if passes >= 10 else f"{passes:.2g}", **taken,
    }  # fmt: skip
    if isinstance(config, OnlineConfig):
        group = config.responses_per_prompt
        parts |= {"group": group, "samples": config.prompts_per_step * group, "tokens": config.max_new_tokens, "epochs": config.epochs}
    return plan.format(**parts)


def check_data(config: Config, dataset: Dataset, verdict: Verdict) -> None:
    """What config, data and the model's tokenizer can tell together."""
    total = len(dataset.train) + len(dataset.heldout)
    room = fit(config, dataset)
    if room.too_long:
        words = _(
            "{n} of {total} prompts do not fit into the model's context of {context} tokens beside an answer of {room}; "
            "the longest has {longest}."
        )
        words = words.format(n=len(room.too_long), total=total, context=room.context, room=room.room, longest=room.longest)
        if room.exact:
            verdict.too_long = room.too_long
            verdict.refused.append(words + " " + _("Shorten or leave out these prompts, or lower the longest answer."))
        else:
            verdict.warned.append(words + " " + _("(Estimated: the model's tokenizer is not on this machine yet.)"))
    if isinstance(config, OnlineConfig):
        needing = [term.name for term in config.reward if term.name in REWARDS and REWARDS[term.name].needs_answer]
        without = sum(getattr(item, "answer", None) is None for item in (*dataset.train, *dataset.heldout))
        if needing and without:
            words = _(
                "The reward “{reward}” compares with a right answer, which {n} of {total} prompts do not have. "
                "Choose prompts with an answer, or another reward."
            )
            verdict.refused.append(words.format(reward=needing[0], n=without, total=total))
    if not dataset.train:
        verdict.refused.append(_("There is no data to train on."))
    elif not dataset.heldout:
        verdict.warned.append(_("There is too little data to hold some out: progress is not measured on unseen prompts."))


def check_machine(config: Config, figures: Estimate, verdict: Verdict) -> None:
    """What the checkpoint to start from and the machine say."""
    if config.adapter_from:
        try:
            start = run_folders.open_run(config.adapter_from.partition("/")[0])
        except PlaygroundError as error:
            verdict.refused.append(str(error))
        else:
            if start.config.get("tuning") == "lora" and config.tuning != "lora":
                words = _("The checkpoint to start from is a LoRA adapter: set Tuning to lora, under More settings.")
                verdict.refused.append(words)
    if figures.memory_bytes and figures.free_bytes and figures.memory_bytes > 0.9 * figures.free_bytes:
        words = _("This may not fit: {free} are free. Lower the microbatch, train with LoRA, or choose a smaller model.")
        verdict.warned.append(words.format(free=megabytes(figures.free_bytes)))
    if figures.device == "cpu" and (figures.facts.parameters or 0) > SLOW_ON_CPU:
        verdict.warned.append(_("No GPU was found: a model of this size is slow without one."))


def _figures(config: Config, figures: Estimate) -> None:
    how = {
        "runs": _("measured on earlier runs ({n})").format(n=figures.timed_runs),
        "rough": _("rough: no earlier run of this model here"),
        "unknown": _("the model's size is not known yet"),
    }[figures.timed_by]
    grid = st.grid(2, min_column_width=120, gap=("xsmall", "small"))
    with grid.cell(), st.container(gap="xxsmall"):
        st.metric(_("Time"), _("about {time}").format(time=rounded(figures.seconds)) if figures.seconds else _("unknown"))
        st.caption(how)
    with grid.cell(), st.container(gap="xxsmall"):
        st.metric(
            _("Memory"),
            _("about {size}").format(size=megabytes(_two_digits(figures.memory_bytes))) if figures.memory_bytes else _("unknown"),
        )
        free = _("{free} free").format(free=megabytes(figures.free_bytes)) if figures.free_bytes else ""
        st.caption(", ".join(filter(None, [_("measured") if figures.measured_memory else _("estimated"), free, _device(figures.device)])))
    if not figures.facts.local:
        size = figures.facts.download_mb
        st.caption(
            _(":material/download: {model} is downloaded at the start ({size} MB).").format(model=plain(config.model), size=size)
            if size
            else _(":material/download: {model} is not on this machine: the start looks for it on the Hub.").format(
                model=plain(config.model)
            )
        )


def queue() -> None:
    """What is ahead of a run that would start now."""
    ahead = [run.status for run in jobs.active(run_folders.runs_dir())]
    waiting = sum(status.state in ("running", "queued") for status in ahead)
    if waiting:
        words = _("1 run is ahead of it.") if waiting == 1 else _("{n} runs are ahead of it.").format(n=waiting)
        left = ahead[0].eta_seconds if waiting == 1 else None
        if left is not None:
            words += " " + _("About {time} are left of that one.").format(time=duration(left))
        st.caption(f":material/schedule: {words}")


def _device(device: str) -> str:
    return {"cuda": _("on the GPU"), "mps": _("on Apple's GPU"), "cpu": _("on the processor")}.get(device, device)


def rounded(seconds: float | None) -> str:
    """A guess is not told to the second: to 5 s below two minutes, to whole minutes above."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return duration(max(1, seconds))
    if seconds < 120:
        return duration(5 * round(seconds / 5))
    return (
        _("{minutes} min").format(minutes=round(seconds / 60)) if seconds < 5400 else _("{hours} h").format(hours=f"{seconds / 3600:.1f}")
    )


def _two_digits(size: int | None) -> float | None:
    return float(f"{size / 2**20:.2g}") * 2**20 if size else None


def _differences(config: Config) -> None:
    changed = {name: pair for name, pair in config.differences().items() if name != "model"}
    if not changed:
        st.caption(_("All settings are this model's defaults."))
        return
    count = len(changed)
    head = (
        _("1 setting differs from this model's defaults:")
        if count == 1
        else _("{n} settings differ from this model's defaults:").format(n=count)
    )
    show = setting_widget.show
    lines = [
        f"{plain(setting_widget.label(name))} {plain(show(old, name)) or '–'} → **{plain(show(new, name)) or '–'}**"
        for name, (old, new) in changed.items()
    ]
    st.caption(head + " " + " · ".join(lines))


def _list(verdict: Verdict) -> None:
    for lines, show in ((verdict.refused, st.error), (verdict.warned, st.warning)):
        if lines:
            show("\n\n".join(plain(line) for line in lines), icon=":material/block:" if show is st.error else ":material/info:")
