"""Let a model write, and look into it: every token's probability, the alternatives at any position, and what would have come of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.components import candidates, models
from pages.components.i18n import _
from pages.components.models import Frozen
from pages.components.numbers import number
from pages.components.text import plain, shortened, show_error
from pages.components.tokens import TokenRow, token_rows
from rlhf.compare import Side
from rlhf.errors import PlaygroundError

if TYPE_CHECKING:
    from rlhf.explore import Text

FIRST_PROMPTS = {"story": "Once upon a time, there was a", "sums": "37+48="}
FIRST_LENGTHS = {"story": 48, "sums": 4}
MOST_BRANCHES = 12


@dataclass
class Written:
    """What stands on the page: texts of one model, under one set of settings. ``origins`` says for each what it is (empty: an answer)."""

    side: Side
    sampling: dict[str, Any]
    seed: int
    texts: list[Text] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    focus: tuple[int, int] | None = None  # (row, token) that the last branch has moved to


@st.fragment
def explore(frozen: Frozen) -> None:
    settings, output = st.columns([1, 2], gap="large")
    with settings:
        prompt, sampling, seed, count = _settings(frozen)
        asked = st.button(_("Write"), icon=":material/edit:", type="primary", key="write")
    written: Written | None = st.session_state.get("written")
    if written is not None and written.side != frozen.side:
        written = None  # of another model
    with output:
        if asked:
            written = _write(frozen, prompt, sampling, seed, count) or written
        if written is None:
            st.caption(_("Press Write. Then click any token to see what else could have stood there."))
            return
        _show(frozen, written)


def _settings(frozen: Frozen) -> tuple[str, dict[str, Any], int, int]:
    """Prompt and sampling settings. What depends on the model is kept for each kind of model."""
    model = frozen.side.model
    kind = model if model in FIRST_PROMPTS else "chat" if frozen.loaded.chat else "text"
    first = FIRST_PROMPTS.get(kind) or (_("Tell me about the sea in one sentence.") if kind == "chat" else FIRST_PROMPTS["story"])
    prompt = st.text_area(_("Prompt"), first, key=f"prompt.{kind}", height=90, bind="query-params", persist_state="session")
    cells = st.grid(2, min_column_width=120, gap=("xsmall", "small"))
    common: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
    words = _("Below 1 the likely tokens become likelier still; above 1 all become more alike.")
    temperature = cells.cell().number_input(_("Temperature"), 0.05, 5.0, 1.0, 0.1, key="temperature", help=words, **common)
    longest = frozen.loaded.context - 1
    length = cells.cell().number_input(
        _("New tokens at most"), 1, min(longest, 1024), min(FIRST_LENGTHS.get(kind, 64), longest), key=f"length.{kind}", **common
    )
    words = _("Sample from the fewest tokens that have this probability together; 1: from all.")
    top_p = cells.cell().number_input(_("Top-p"), 0.01, 1.0, 1.0, 0.05, key="top_p", help=words, **common)
    words = _("Sample from the k most probable tokens; 0: from all.")
    top_k = cells.cell().number_input(_("Top-k"), 0, 100_000, 0, key="top_k", help=words, **common)
    words = _("The same seed, settings and prompt give the same answers.")
    seed = cells.cell().number_input(_("Seed"), 0, 2**31 - 1, 0, key="seed", help=words, **common)
    count = cells.cell().number_input(_("Answers"), 1, 16, 3, key="answers", **common)
    if frozen.loaded.chat:
        st.caption(_("The prompt goes through the model's chat template; its marks are shown with the prompt."))
    sampling = {"max_new_tokens": int(length), "temperature": float(temperature), "top_p": float(top_p), "top_k": int(top_k)}
    return prompt, sampling, int(seed), int(count)


def _write(frozen: Frozen, prompt: str, sampling: dict[str, Any], seed: int, count: int) -> Written | None:
    from rlhf import explore as engine
    from rlhf.rollout import SamplingConfig

    try:
        with st.spinner(_("Writing")), models.computing(frozen) as loaded:
            texts = engine.write(loaded, prompt, SamplingConfig(**sampling), seed, count)
    except PlaygroundError as error:
        show_error(error)
        return None
    written = Written(frozen.side, sampling, seed, texts, [""] * len(texts))
    st.session_state["written"] = written
    return written


def _show(frozen: Frozen, written: Written) -> None:
    """Prompt and answers as tokens, and the alternatives at the chosen one."""
    names = {"surprise": _("surprise"), "entropy": _("entropy"), "": _("nothing")}
    surprise = _("Surprise: minus the log-probability of the token that was written, in nats.")
    entropy = _("Entropy: how unsure the model was before it, in nats.")
    colour = st.segmented_control(
        _("Colour tokens by"), list(names), default="surprise", required=True, format_func=names.__getitem__, key="colour-written",
        help=f"{surprise} {entropy}",
    )  # fmt: skip
    first = written.texts[0]
    rows = [_row(first, 0, first.start, _("Prompt"), colour or "")]
    for i, text in enumerate(written.texts):
        label = written.origins[i] or _("Answer {n}").format(n=i + 1)
        length = _("{count} tokens").format(count=len(text.ids) - text.start)
        ending = _("ended by itself") if text.finished else _("cut at the length limit")
        rows.append(_row(text, text.start, len(text.ids), f"{label} · {length} · {ending}", colour or ""))
    legend = f"{names[colour]}, nats" if colour else ""
    clicked = token_rows(rows, key="written-tokens", scale="sequential", selected=written.focus, legend=legend)
    row, token = clicked or written.focus or (1, 0)
    text = written.texts[max(0, row - 1)]
    _alternatives(frozen, written, max(0, row - 1), token if row == 0 else text.start + token)


def _row(text: Text, start: int, end: int, label: str, colour: str) -> TokenRow:
    values = {"surprise": [None if p is None else -p for p in text.logprobs], "entropy": list(text.entropies)}.get(colour, [])
    tips = [_tip(p, h) for p, h in zip(text.logprobs[start:end], text.entropies[start:end], strict=True)]
    return TokenRow(text.strings[start:end], values[start:end], tips, label)


def _tip(logprob: float | None, entropy: float | None) -> str:
    if logprob is None:
        return _("the first token: nothing before it")
    return "\n".join([
        f"{_('probability')} {number(math.exp(logprob), 'share')}",
        f"{_('surprise')} {number(-logprob, 'nats')}",
        f"{_('entropy before it')} {number(entropy, 'nats')}",
    ])  # fmt: skip


def _alternatives(frozen: Frozen, written: Written, index: int, position: int) -> None:
    """The distribution over the token at ``position`` of a text, as bars; a click on one writes on from there."""
    from rlhf.rollout import next_token

    text = written.texts[index]
    with st.container(border=True):
        if position == 0:
            st.caption(_("This is the first token: the model is not asked what could stand there. Choose a later one."))
            return
        heading, amount = st.columns([3, 1], vertical_alignment="bottom")
        k = amount.number_input(_("Shown"), 1, 50, 12, key="shown-candidates", persist_state="session")
        with models.computing(frozen) as loaded:
            found = next_token(loaded.model, loaded.tokenizer, list(text.ids[:position]), int(k), written.sampling["temperature"])
        before = shortened("".join(text.strings[max(0, position - 12) : position]), 60)
        heading.markdown(f"**{_('What could come next')}**  \n:small[:gray[… {plain(before)} ▁]]")
        actual = text.ids[position] if position < len(text.ids) else None
        place = f"{index}:{position}:{len(written.texts)}"
        at = found.ids.index(actual) if actual in found.ids else None
        picked = candidates.bars(found.strings, found.probabilities, found.rest, written=at, place=place, key="candidates")
        words = _("Entropy {entropy}: as unsure as between {n} equally likely tokens.")
        sure = words.format(entropy=number(found.entropy, "nats"), n=number(math.exp(found.entropy)))
        words = _("At temperature {temperature}, before top-k and top-p.")
        st.caption(sure + " " + words.format(temperature=number(written.sampling["temperature"])))
        if actual is not None and at is None:
            st.caption(_("The token that was written is not among these: {token}").format(token=plain(repr(text.strings[position]))))
        st.caption(f":material/touch_app: {_('Click a token to write on from it.')}")
    if picked is not None:
        _branch(frozen, written, index, position, found.ids[picked], found.strings[picked])


def _branch(frozen: Frozen, written: Written, index: int, position: int, token: int, string: str) -> None:
    """Another text that shares everything before ``position``, has ``token`` there, and goes on by itself."""
    from rlhf import explore as engine
    from rlhf.rollout import SamplingConfig

    parent = written.texts[index]
    start = min(parent.start, position)
    try:
        with models.computing(frozen) as loaded:
            text = engine.go_on(loaded, [*parent.ids[:position], token], start, SamplingConfig(**written.sampling), written.seed)
    except PlaygroundError as error:
        show_error(error)
        return
    origin = written.origins[index] or _("Answer {n}").format(n=index + 1)
    written.texts.append(text)
    written.origins.append(_("{text}, but with {token}").format(text=origin, token=repr(string)))
    branches = [i for i, origin in enumerate(written.origins) if origin]
    if len(branches) > MOST_BRANCHES:
        del written.texts[branches[0]], written.origins[branches[0]]
    last = len(text.ids) - start - 1
    written.focus = (len(written.texts), min(position + 1 - start, last))
    st.rerun(scope="fragment")
