"""The reward of a run: rows of reward function, weight and options, and a box to try them on a text.

The mix is kept as a list of rows in the session; in the link it reads
``grpo.reward=negative:1,repetition:0.5``, or JSON where there are options.
"""

from __future__ import annotations

from typing import Any

import streamlit as st
from pydantic import ValidationError

from pages.components import config_form, setting_widget
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain, told_apart
from rlhf import runs as run_folders
from rlhf.config import RewardTerm, parse_reward, spelled_reward
from rlhf.errors import RewardError
from rlhf.estimate import token_counts
from rlhf.rewards import REWARDS, Context, RewardMix

EXAMPLE = "The old dog was alone and sad. He began to cry."


def editor(algorithm: str, model: str, default: tuple[RewardTerm, ...]) -> tuple[tuple[RewardTerm, ...], str]:
    """Draw the mix; returns its terms and what is wrong with them ("" : nothing)."""
    rows = _rows(algorithm, default)
    for place, row in enumerate(list(rows)):
        _row(algorithm, row, first=place == 0, only=len(rows) == 1)
    terms, problem = _terms(rows)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            _("Add a reward"), icon=":material/add:", type="tertiary", key=f"{algorithm}/reward-add", on_click=_add, args=(algorithm,)
        )
        with st.popover(_("Try it"), icon=":material/science:", type="tertiary", key=f"{algorithm}/reward-try"):
            _try_it(algorithm, model, terms, problem)
    if problem:
        st.markdown(f":small[:red[{plain(problem)}]]")
    _write_link(algorithm, terms, default)
    return terms, problem


def terms_now(algorithm: str, default: tuple[RewardTerm, ...]) -> tuple[RewardTerm, ...]:
    """The mix as it stands, without drawing it."""
    return _terms(_rows(algorithm, default))[0]


def fill(algorithm: str, terms: tuple[RewardTerm, ...]) -> None:
    """Put a mix into the editor; in a callback, or before it is drawn."""
    store = st.session_state.setdefault(_key(algorithm), {"rows": [], "next": 0})
    store["rows"] = []
    for term in terms:
        _append(store, term)


def follow(algorithm: str, before: tuple[RewardTerm, ...], now: tuple[RewardTerm, ...]) -> None:
    """Another model: a mix that still was the old model's default becomes the new one's."""
    if terms_now(algorithm, before) == before:
        fill(algorithm, now)


# ---------------------------------------------------------------- rows


def _key(algorithm: str) -> str:
    return f"{algorithm}/reward"


def _rows(algorithm: str, default: tuple[RewardTerm, ...]) -> list[dict[str, Any]]:
    """The rows of this session; at its start those of the link, else the default."""
    if _key(algorithm) not in st.session_state:
        fill(algorithm, _from_link(st.query_params.get(config_form.key(algorithm, "reward"))) or default)
    return st.session_state[_key(algorithm)]["rows"]


def _append(store: dict[str, Any], term: RewardTerm) -> None:
    store["next"] += 1
    store["rows"].append({"id": store["next"], "name": term.name, "weight": term.weight, "options": dict(term.options)})


def _add(algorithm: str) -> None:
    """One that is not there yet, and that looks at something else than the usual first choices."""
    store = st.session_state[_key(algorithm)]
    used = {row["name"] for row in store["rows"]}
    name = next((name for name in ("repetition", "length", *REWARDS) if name not in used), "length")
    _append(store, RewardTerm(name=name, weight=1.0))


def _row(algorithm: str, row: dict[str, Any], first: bool, only: bool) -> None:
    prefix = f"{_key(algorithm)}/{row['id']}"
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="bottom"):
        names = [*REWARDS] if row["name"] in REWARDS else [row["name"], *REWARDS]
        chosen = st.selectbox(
            _("Reward"), names, index=names.index(row["name"]), key=f"{prefix}/name", persist_state="session",
            label_visibility="visible" if first else "collapsed",
            help=_("A number for each response; a mix adds them up, each times its weight."),
        )  # fmt: skip
        if chosen != row["name"]:
            row["name"], row["options"] = chosen, {}
        row["weight"] = st.number_input(
            _("Weight"), value=float(row["weight"]), step=0.1, format="%g", key=f"{prefix}/weight", persist_state="session", width=92,
            label_visibility="visible" if first else "collapsed",
        )  # fmt: skip
        if chosen == "reward_model":
            _reward_model(row, prefix)
        _options(row, prefix)
        if not only:
            st.button(
                ":material/close:", key=f"{prefix}/remove", type="tertiary", help=_("Remove this reward."),
                on_click=_remove, args=(algorithm, row["id"]),
            )  # fmt: skip
    function = REWARDS.get(row["name"])
    if function:
        st.caption(_("{explanation} Range: {range}.").format(explanation=_(function.explanation), range=_(function.range)))


def _remove(algorithm: str, row_id: int) -> None:
    store = st.session_state[_key(algorithm)]
    store["rows"] = [row for row in store["rows"] if row["id"] != row_id]


def _reward_model(row: dict[str, Any], prefix: str) -> None:
    """Which one: a run of this app, or any folder or Hub id."""
    trained = [run for run in run_folders.list_runs() if run.algorithm == "reward_model" and run.checkpoints()]
    runs = told_apart({run.id: run.name for run in trained})
    given = row["options"].get("source", "")
    names = [*runs] if given in ("", *runs) else [given, *runs]
    chosen = st.selectbox(
        _("Reward model"), names, index=names.index(given) if given in names else None, format_func=lambda name: str(runs.get(name, name)),
        key=f"{prefix}/source", persist_state="session", accept_new_options=True, placeholder=_("Choose, or type a Hub id or a folder"),
        help=_("A run of the page Reward model, or a sequence classifier with one output: its Hub id, or a folder on the server."),
    )  # fmt: skip
    row["options"] = {**row["options"], "source": str(chosen or "").strip()}


def _options(row: dict[str, Any], prefix: str) -> None:
    """A popover with the reward function's own options, where it has some."""
    function = REWARDS.get(row["name"])
    fields = {name: field for name, field in function.options.model_fields.items() if name != "source"} if function else {}
    if function is None or not fields:
        return
    with st.popover(_("Options"), icon=":material/tune:", type="tertiary", key=f"{prefix}/{row['name']}/options"):
        for name, field in fields.items():
            standard = field.get_default(call_default_factory=True)
            given = row["options"].get(name, standard)
            value = setting_widget.field_widget(
                field, name=f"{prefix}/{row['name']}/{name}", title=setting_widget.label(name), default=given, bound=False
            )
            row["options"] = {k: v for k, v in row["options"].items() if k != name} | ({} if value == standard else {name: value})


def _terms(rows: list[dict[str, Any]]) -> tuple[tuple[RewardTerm, ...], str]:
    terms = []
    for row in rows:
        options = {name: list(value) if isinstance(value, tuple) else value for name, value in row["options"].items()}
        try:
            terms.append(RewardTerm(name=row["name"], weight=row["weight"], options=options))
        except ValidationError as error:
            return tuple(terms), " ".join(config_form.sentences(config_form.problems(error, RewardTerm)))
    try:
        RewardMix(terms)
    except RewardError as error:
        return tuple(terms), str(error)
    return tuple(terms), ""


# ---------------------------------------------------------------- the link


def _from_link(text: str | None) -> tuple[RewardTerm, ...]:
    """The terms that a link gives; none if it cannot be read: a broken link shows the defaults."""
    if not text or len(text) > 4000:
        return ()
    try:
        return tuple(RewardTerm.model_validate(term) for term in parse_reward(text))
    except (ValidationError, ValueError, TypeError):
        return ()


def _write_link(algorithm: str, terms: tuple[RewardTerm, ...], default: tuple[RewardTerm, ...]) -> None:
    name = config_form.key(algorithm, "reward")
    text = spelled_reward(terms) if terms != default else ""
    if text and st.query_params.get(name) != text:
        st.query_params[name] = text
    elif not text and name in st.query_params:
        del st.query_params[name]


# ---------------------------------------------------------------- try it


def _try_it(algorithm: str, model: str, terms: tuple[RewardTerm, ...], problem: str) -> None:
    needs_answer = any(REWARDS[term.name].needs_answer for term in terms if term.name in REWARDS)
    prompt = answer = ""
    if needs_answer:
        prompt = st.text_input(_("Prompt"), "37+48=", key=f"{algorithm}/try-prompt", persist_state="session")
        answer = st.text_input(_("Right answer"), "85", key=f"{algorithm}/try-answer", persist_state="session")
    text = st.text_area(_("A response"), EXAMPLE, key=f"{algorithm}/try-text", persist_state="session", height=90)
    if problem:
        st.markdown(f":small[:red[{plain(problem)}]]")
        return
    (tokens,), exact = token_counts(model, [text])
    context = Context(prompt, text, answer or None, tokens=tokens + 1, finished=True)  # and the token that ends it
    try:
        mix = RewardMix(terms)
        scored = mix([context])[0]
    except RewardError as error:
        st.markdown(f":small[:red[{plain(str(error))}]]")
        return
    st.metric(_("Reward"), number(scored.total, sign=True))
    weights = [weight for _name, _function, _options, weight in mix.terms]
    parts = [
        f"{name}: {weight:g} × {number(score, sign=True)}" for (name, score), weight in zip(scored.parts.items(), weights, strict=True)
    ]
    st.caption("  \n".join(plain(part) for part in parts))
    if not exact and any(term.name == "length" for term in terms):
        st.caption(_("Its length in tokens is guessed: the model's tokenizer is not on this machine yet."))
