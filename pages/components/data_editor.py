"""What a run trains on: a set that ships with the app, or the user's own prompts or pairs, from a table, a paste or a file.

The user's own data is kept in the session as parsed, frozen items; a run gets a copy in its folder. Texts are shown in table cells
and plain text elements only, so that Markdown or HTML in them stays text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import config_form
from pages.components.i18n import _
from pages.components.numbers import number
from pages.components.text import plain
from rlhf.errors import DataError
from rlhf.preferences import EMBEDDED, PARSERS, Dataset, Item, Kind, PreferencePair, fits, load_dataset, split

CUSTOM = "custom"
HELD = "held out"
EDITABLE_ROWS = 5000  # more than this is shown, not edited: the table would be slow
TYPES = ["jsonl", "json", "csv", "tsv", "parquet", "txt"]
COLUMNS: dict[Kind, dict[str, str]] = {
    "prompts": {
        "prompt": "What the model continues or answers.",
        "answer": "The right answer, where there is one (for the reward “correct”).",
    },
    "pairs": {"prompt": "What both answers answer.", "chosen": "The better answer.", "rejected": "The worse answer."},
    "demonstrations": {"prompt": "What is answered.", "response": "The answer to imitate."},
}
PASTED: dict[Kind, tuple[str, str]] = {  # what to paste, and an example
    "prompts": ("One prompt a line.", "Once upon a time\nThe little dog"),
    "pairs": (
        "One JSON object a line, with “prompt”, “chosen” and “rejected”.",
        '{"prompt": "Once", "chosen": " upon a time", "rejected": " twice"}',
    ),
    "demonstrations": ("One JSON object a line, with “prompt” and “response”.", '{"prompt": "Once", "response": " upon a time"}'),
}


def titles(kind: Kind) -> tuple[str, str]:
    """What the data is called, and the title of the dialog in which one gives one's own."""
    return {
        "prompts": (_("Prompts"), _("Your own prompts")),
        "pairs": (_("Preference pairs"), _("Your own preference pairs")),
        "demonstrations": (_("Answers to imitate"), _("Your own answers to imitate")),
    }[kind]


def use(algorithm: str, dataset: Dataset) -> None:
    """Make a data set the page's own; in a callback, or before the editor is drawn."""
    st.session_state[_own_key(algorithm)] = dataset
    st.session_state[config_form.key(algorithm, "data")] = CUSTOM


def without(dataset: Dataset, left_out: Sequence[int]) -> Dataset:
    """The data set less the items at these places, counted through training and held-out items."""
    gone = set(left_out)
    n = len(dataset.train)
    train = tuple(item for i, item in enumerate(dataset.train) if i not in gone)
    heldout = tuple(item for i, item in enumerate(dataset.heldout, start=n) if i not in gone)
    source = _("{source}, shortened").format(source=dataset.source)
    return Dataset(train, heldout, dataset.kind, source) if heldout or not train else split(train, source)


def has_own(algorithm: str) -> bool:
    return _own_key(algorithm) in st.session_state


def follow(algorithm: str, before: str, now: str) -> None:
    """Another model: a set that still was the old model's default becomes the new one's."""
    key = config_form.key(algorithm, "data")
    if st.session_state.get(key, before) == before:
        st.session_state[key] = now


def _own_key(algorithm: str) -> str:
    return f"{algorithm}/own-data"


@lru_cache(maxsize=8)
def _embedded(kind: Kind, name: str) -> Dataset:
    return load_dataset(kind, name)


def editor(algorithm: str, kind: Kind, default: str) -> Dataset | None:
    """Draw the choice of a data set; None where it cannot be used (the reason is shown)."""
    own: Dataset | None = st.session_state.get(_own_key(algorithm))
    names = [name for name, entry in EMBEDDED.items() if fits(kind, entry)] + ([CUSTOM] if own else [])
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="bottom"):
        chosen = st.selectbox(
            titles(kind)[0], names, index=names.index(default) if default in names else 0,
            key=config_form.key(algorithm, "data"), bind="query-params", persist_state="session",
            help=_("What the run trains on. Held-out items are never trained on; progress is measured on them."),
        )  # fmt: skip
        edit = st.button(_("Edit or upload"), icon=":material/edit_note:", key=f"{algorithm}/edit-data")
    try:
        dataset = own if chosen == CUSTOM and own else _embedded(kind, chosen)
    except DataError as error:
        st.error(plain(str(error)), icon=":material/block:")
        dataset = None
    if dataset:
        described = plain(dataset.source) + "." if chosen == CUSTOM else _(EMBEDDED[chosen].description)
        st.caption(f"{_sizes(dataset)} {described}")
    if edit:
        _open_dialog(algorithm, kind, dataset, _name(chosen, own))
    return dataset


def _name(name: str, own: Dataset | None) -> str:
    return own.source if name == CUSTOM and own else name


# ---------------------------------------------------------------- the dialog


def _open_dialog(algorithm: str, kind: Kind, dataset: Dataset | None, source: str) -> None:
    st.dialog(titles(kind)[1], width="large", on_dismiss="ignore")(_dialog)(algorithm, kind, dataset, source)


def _dialog(algorithm: str, kind: Kind, dataset: Dataset | None, source: str) -> None:
    """Table, paste or file → a data set of one's own. Nothing changes before the last button."""
    ways = {"table": _("Edit in a table"), "paste": _("Paste"), "upload": _("Upload a file")}
    way = st.segmented_control(
        _("How"),
        list(ways),
        default="table",
        format_func=ways.__getitem__,
        required=True,
        label_visibility="collapsed",
        key=f"{algorithm}/way",
    )
    made: Dataset | None = None
    try:
        if way == "upload":
            made = _uploaded(algorithm, kind)
        elif way == "paste":
            made = _pasted(algorithm, kind)
        else:
            made = _edited(algorithm, kind, dataset, source)
    except DataError as error:
        st.error(plain(error.what), icon=":material/block:")
        if error.do:
            st.caption(plain(error.do))
    if made:
        st.caption(_sizes(made))
        pairs = [item for item in (*made.train, *made.heldout) if isinstance(item, PreferencePair)]
        if empty := [pair for pair in pairs if not (pair.chosen.strip() and pair.rejected.strip())]:
            _empty(empty[0], len(empty))
    words = _("Use these {n}").format(n=f"{len(made.train) + len(made.heldout):,}") if made else _("Use these")
    # in a callback: the widget that the choice goes into must not have been drawn yet
    if st.button(
        words, type="primary", disabled=made is None, key=f"{algorithm}/use-data", on_click=use if made else None, args=(algorithm, made)
    ):
        st.rerun()


def _empty(first: PreferencePair, count: int) -> None:
    words = _("Pairs with an empty answer: {n}, the first one after “{prompt}”. They count as answers in which nothing was written.")
    st.caption(f":material/info: {plain(words.format(n=f'{count:,}', prompt=first.prompt[:60]))}")


def _sizes(dataset: Dataset) -> str:
    return _("{train} for training, {heldout} held out.").format(train=f"{len(dataset.train):,}", heldout=f"{len(dataset.heldout):,}")


def _frame(kind: Kind, dataset: Dataset | None) -> pd.DataFrame:
    """Rows of text, with a column that says what is held out."""
    rows = (
        [
            {**{name: getattr(item, name) or "" for name in COLUMNS[kind]}, HELD: held}
            for held, items in ((False, dataset.train), (True, dataset.heldout))
            for item in items
        ]
        if dataset
        else []
    )
    frame = pd.DataFrame(rows, columns=[*COLUMNS[kind], HELD])
    return frame.astype({**dict.fromkeys(COLUMNS[kind], "string"), HELD: "bool"})


def _edited(algorithm: str, kind: Kind, dataset: Dataset | None, source: str) -> Dataset | None:
    frame = _frame(kind, dataset)
    if len(frame) > EDITABLE_ROWS:
        words = _("{n} rows are too many to edit here; these are the first {shown}. Edit the file and upload it.")
        st.caption(words.format(n=f"{len(frame):,}", shown=f"{EDITABLE_ROWS:,}"))
        st.dataframe(frame.head(EDITABLE_ROWS), hide_index=True, height=380)
        return None
    columns: dict[str, Any] = {
        name: st.column_config.TextColumn(_(name), help=_(words), width="small" if name == "answer" else "large")
        for name, words in COLUMNS[kind].items()
    }
    columns[HELD] = st.column_config.CheckboxColumn(
        _("held out"),
        help=_("Never trained on; progress is measured on these. With none marked, a tenth is held out."),
        width="small",
        default=False,
    )
    edited = st.data_editor(frame, num_rows="dynamic", hide_index=True, height=380, column_config=columns, key=f"{algorithm}/table")
    st.caption(_("Add rows at the bottom; mark rows at the left to delete them; paste cells from a spreadsheet."))
    train, heldout = rows_to_items(kind, edited)
    ending = _(", edited")
    source = source if edited.equals(frame) else source.removesuffix(ending) + ending
    if not heldout:
        return split(train, source)
    if both := {item.prompt for item in train} & {item.prompt for item in heldout}:
        words = _("{n} prompts are marked as held out in one row and not in another, for example “{prompt}”.")
        raise DataError(words.format(n=len(both), prompt=min(both)[:60]), _("Mark all rows of a prompt in the same way."))
    if not train:
        raise DataError(_("Every row is held out: nothing is left to train on."), _("Take some marks away."))
    return Dataset(tuple(train), tuple(heldout), kind, source)


def rows_to_items(kind: Kind, frame: pd.DataFrame) -> tuple[list[Item], list[Item]]:
    """Rows of the table → (items to train on, held-out items). Raises ``DataError`` that names the row."""
    parse = PARSERS[kind]
    rows: list[tuple[int, str, bool]] = []  # (number in the table, as a line of JSON, held out)
    for n, row in enumerate(frame.to_dict("records"), start=1):
        cells = {name: row[name] if isinstance(row[name], str) else "" for name in COLUMNS[kind]}
        if any(text.strip() for text in cells.values()):  # else a row that was added and left empty
            rows.append((n, json.dumps({name: text for name, text in cells.items() if name != "answer" or text}), row[HELD] is True))
    if not rows:
        raise DataError(_("The table is empty."), _("Write at least one row."))
    try:
        items = parse("\n".join(line for _n, line, _held in rows), "table.jsonl")
    except DataError:
        for n, line, _held in rows:
            try:
                parse(line, "row.jsonl")
            except DataError as error:
                words = _("Row {n}: {problem}").format(n=n, problem=error.what.removeprefix("row.jsonl, line 1: "))
                raise DataError(words, error.do) from None
        raise
    train: list[Item] = []
    heldout: list[Item] = []
    for item, (_n, _line, held) in zip(items, rows, strict=True):
        (heldout if held else train).append(item)
    return train, heldout


def _pasted(algorithm: str, kind: Kind) -> Dataset | None:
    words, example = PASTED[kind]
    text = st.text_area(_(words), key=f"{algorithm}/pasted", persist_state="session", height=300, placeholder=example)
    if not text.strip():
        return None
    name = _("pasted")
    jsonl = kind != "prompts" or text.lstrip().startswith("{")
    return split(PARSERS[kind](text, f"{name}.jsonl" if jsonl else f"{name}.txt"), name)


def _uploaded(algorithm: str, kind: Kind) -> Dataset | None:
    words = _("Columns or keys: {names}.").format(names=", ".join(f"“{name}”" for name in COLUMNS[kind]))
    if kind == "prompts":
        words += " " + _("In a .txt file, one prompt a line.")
    file = st.file_uploader(words, type=TYPES if kind == "prompts" else TYPES[:-1], key=f"{algorithm}/upload")
    if file is None:
        return None
    items = PARSERS[kind](file.getvalue(), file.name)
    _preview(kind, items)
    return split(items, file.name)


def _preview(kind: Kind, items: Sequence[Item]) -> None:
    """The first rows, as cells."""
    st.dataframe(_frame(kind, Dataset(tuple(items[:5]), (), kind, ""))[list(COLUMNS[kind])], hide_index=True)
    if len(items) > 5:
        st.caption(_("The first 5 of {n}.").format(n=number(len(items))))
