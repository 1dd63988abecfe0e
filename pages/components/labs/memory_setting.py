"""Lab 8: what is set, and what it means: the model's sizes, the batch, and the memory that there is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from pages.components import link
from pages.components.i18n import _
from pages.components.labs import setting
from pages.components.model_choice import MODEL, SHOWN
from pages.components.numbers import megabytes, number
from rlhf import architecture
from rlhf.architecture import PUBLISHED, Architecture
from rlhf.catalogue import CATALOGUE
from rlhf.errors import ConfigError
from rlhf.estimate import likely_device, model_facts
from rlhf.labs.memory import Setting

LAB = "mem"
NOW = "mem/now"
SIZES = "mem.sizes"  # of a pasted config, in the link
GIB = 2**30
LARGE = "meta-llama/Meta-Llama-3-8B"
METHODS = {"sft": "SFT", "reward_model": _("Reward model"), "ppo": "PPO", "dpo": "DPO", "grpo": "GRPO", "rloo": "RLOO"}
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}
BOXES = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "intermediate": 14_336, "vocabulary": 128_256}


@dataclass(frozen=True)
class Now:
    """Everything that the lab's figures depend on. ``limit``: bytes of the device."""

    model: Architecture
    title: str
    setting: Setting
    textbook: bool
    device: str
    limit: int


def current() -> Now:
    """As it was last drawn; before that, the defaults."""
    found = st.session_state.get(NOW)
    return found if isinstance(found, Now) else Now(PUBLISHED[LARGE], _short(LARGE), Setting(), True, "cuda", 80 * GIB)


def ask() -> Now:
    """The widgets. Raises ``ConfigError`` for a model that cannot be."""
    model, title = _model()
    textbook = setting.toggle(
        LAB, "textbook", _("Textbook: a network of its own for each role"), True,
        help=_("Off: as this app does it. The reference of a LoRA run is the policy with its adapter off, the critic one more output."),
    )  # fmt: skip
    left, right = st.columns(2)
    with left:
        tuning = setting.choice(LAB, "tuning", _("Weights that learn"), {"full": _("all"), "lora": "LoRA"})
    with right:
        dtype = setting.choice(LAB, "dtype", _("Number format"), DTYPES)
    rank = setting.whole(LAB, "rank", _("Rank of LoRA"), 1, 256, 16) if tuning == "lora" else 0
    limit, device = _limit()
    with st.expander(_("Batch, lengths and networks"), icon=":material/tune:"):
        prompts = setting.whole(LAB, "prompts", _("Prompts in a step"), 1, 64, 8)
        group = setting.whole(LAB, "group", _("Answers to each prompt"), 2, 32, 8)
        microbatch = setting.whole(
            LAB, "microbatch", _("Sequences in one pass"), 2, 128, 8, 2, help=_("The microbatch: gradients are added up over the passes.")
        )
        prompt = setting.whole(LAB, "prompt", _("Tokens of a prompt"), 8, 4096, 128, 8)
        answer = setting.whole(LAB, "answer", _("Tokens of an answer"), 8, 4096, 256, 8)
        scored = setting.toggle(LAB, "scored", _("A reward model scores (off: a rule, which is no network)"), True)
        critic = setting.toggle(LAB, "critic", _("PPO learns a critic"), True)
        reference = setting.toggle(LAB, "reference", _("DPO asks a reference (off: SimPO)"), True)
    chosen = Setting(prompts, group, microbatch, prompt, answer, rank, dtype, scored, critic, reference)
    now = Now(model, title, chosen, textbook, device, limit)
    st.session_state[NOW] = now
    return now


def preset(**values: Any) -> None:
    """Set several widgets at once, as a button's callback does; choices are kept under a name of their own."""
    for name, value in values.items():
        key = setting.key(LAB, name)
        st.session_state[f"{key}/chosen" if isinstance(value, str) else key] = value


# ---------------------------------------------------------------- the model


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _model() -> tuple[Architecture, str]:
    names = {name: f"{_short(name)} · {size_of(sizes.parameters)}" for name, sizes in PUBLISHED.items()}
    names = {LARGE: names[LARGE], **names, **{entry.id: entry.title for entry in CATALOGUE.values() if entry.embedded}}
    names |= {"loaded": _("The model of the page Model"), "config": _("Its config.json, pasted"), "numbers": _("By numbers")}
    help_words = _("Only sizes are needed: nothing is downloaded, whatever the model.")
    chosen = setting.choice(LAB, "model", _("Model"), names, help=help_words)
    if chosen == "config":
        return _pasted(), _("the pasted model")
    link.put(SIZES, "")
    if chosen == "numbers":
        return _numbers(), _("this model")
    if chosen == "loaded":
        side = st.session_state.get(SHOWN)
        chosen = str(getattr(side, "model", None) or st.session_state.get(MODEL) or "story")
    sizes = PUBLISHED.get(chosen) or model_facts(chosen).architecture
    if sizes is None:
        raise ConfigError(f"The sizes of {chosen} are not known here.", "Paste its config.json, or give its numbers.")
    if sizes.family not in architecture.OWN_PASS:
        st.caption(
            _("{family} is run by its own code and not by this app's: its activations are roughly these.").format(family=sizes.family)
        )
    return sizes, _short(chosen)


def size_of(parameters: int) -> str:
    """A count of weights, in short."""
    return f"{number(parameters / 1e9)} B" if parameters >= 1e9 else f"{number(parameters / 1e6)} M"


def _pasted() -> Architecture:
    """Of the text; its sizes alone are kept in the link, where the text is too long to be."""
    text = st.text_area(
        "config.json", key="mem/config", height=160, persist_state="session", placeholder='{"model_type": "llama", "hidden_size": 4096, …}'
    )
    if (text or "").strip():
        found = _parsed(text)
    elif line := st.query_params.get(SIZES) or st.session_state.get(SIZES):
        found = architecture.from_a_line(line)
        st.caption(_("These sizes came with the link. Paste a config.json for others."))
    else:
        raise ConfigError("There is no config yet.", "Paste the config.json of a model, as it stands on its page on the Hub.")
    st.session_state[SIZES] = architecture.in_a_line(found)
    link.put(SIZES, st.session_state[SIZES])
    return found


def _parsed(text: str) -> Architecture:
    """A text that cannot be read leaves no older sizes in the link."""
    try:
        return architecture.parse(text)
    except ConfigError:
        link.put(SIZES, "")
        st.session_state.pop(SIZES, None)
        raise


def _numbers() -> Architecture:
    labels = {
        "layers": _("Layers"), "hidden": _("Hidden width"), "heads": _("Heads"), "kv_heads": _("Heads of keys and values"),
        "intermediate": _("Width of the MLP"), "vocabulary": _("Vocabulary"),
    }  # fmt: skip
    values: dict[str, int] = {}
    columns = st.columns(2)
    for i, (name, default) in enumerate(BOXES.items()):
        given = columns[i % 2].number_input(
            labels[name], value=default, step=1, key=setting.key(LAB, name), persist_state="session", bind="query-params"
        )
        values[name] = int(given if given is not None else default)
    tied = setting.toggle(LAB, "tied", _("One matrix for words in and out"), False)
    values["head_dim"] = values["hidden"] // values["heads"] if values["heads"] > 0 else 0
    return architecture.checked(replace(PUBLISHED[LARGE], tied=tied, context=0, **values))


# ---------------------------------------------------------------- the device


def _limit() -> tuple[int, str]:
    """Bytes of memory, and the kind of device that has them."""
    import psutil

    total, here = int(psutil.virtual_memory().total), likely_device()
    machine = _("this machine, {size}").format(size=megabytes(total))
    names = {str(size): f"{size} GiB" for size in (80, 24, 16, 8)} | {"machine": machine}
    words = _("1 GiB is 2^30 bytes. A card keeps some of its memory for itself: of an H100 sold with 80 GB, nvidia-smi lists 79.6 GiB.")
    chosen = setting.choice(LAB, "device", _("Memory of the device"), names, help=words)
    return (total, "cpu" if here == "cuda" else here) if chosen == "machine" else (int(chosen) * GIB, "cuda")
