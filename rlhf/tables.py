"""Files into rows: text, JSONL, JSON, CSV, TSV and Parquet, with an error that names the line for everything that can be wrong."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.errors import DataError

MAX_BYTES = 64 * 2**20
MAX_ROWS = 50_000
FORMATS = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
_TOO_LARGE = "Keep the part that you want to train on: a few thousand rows are plenty here."


@dataclass(frozen=True)
class Row:
    """A row as it was read: an object (column → value), or a text where the format has no columns. ``where``: "line 317"."""

    where: str
    value: Any


def read_file(path: Path) -> bytes:
    """The bytes of a file of at most `MAX_BYTES`. Raises ``DataError`` if it is larger or cannot be read."""
    try:
        _check_size(path.stat().st_size, path.name)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.", "Check that it exists and that you may read it.") from None


def read_rows(content: bytes | str, filename: str) -> list[Row]:
    """All rows of a file, in order, blank lines left out.

    Args:
        content: the bytes of the file, or its text.
        filename: its name; the ending tells the format.

    Raises:
        DataError: unknown format, not UTF-8, broken syntax, empty, or too large.
    """
    ending = Path(filename).suffix.lower()
    if ending not in FORMATS:
        raise DataError(f"{filename}: the format “{ending or 'without an ending'}” is not known.", f"Use one of {', '.join(FORMATS)}.")
    _check_size(len(content), filename)
    if ending == ".parquet":
        rows = _parquet(content, filename)
    else:
        text = decode(content, filename) if isinstance(content, bytes) else content.removeprefix("\ufeff")
        read = {".txt": _lines, ".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv}[ending]
        rows = read(text, filename)
    result = []
    for row in rows:
        if len(result) == MAX_ROWS:
            raise DataError(f"{filename} has more than {MAX_ROWS:,} rows.", _TOO_LARGE)
        result.append(row)
    if not result:
        raise DataError(f"{filename} is empty.", "Give it at least one row.")
    return result


def usable_rows(content: bytes | str, filename: str, problems: list[str]) -> Iterator[Row]:
    """The rows that can be read, also of a file that breaks off in the middle; those that cannot are told in ``problems``, a line each.

    Raises:
        DataError: unknown format, not UTF-8, too large, or broken from its first row on.
    """
    _check_size(len(content), filename)
    readers: dict[str, Callable[[str, str, list[str]], Iterator[Row]]] = {
        ".jsonl": _usable_jsonl,
        ".json": _usable_json,
        ".csv": _usable_csv,
        ".tsv": _usable_csv,
    }
    read = readers.get(Path(filename).suffix.lower())
    if read:
        yield from read(decode(content, filename) if isinstance(content, bytes) else content.removeprefix("\ufeff"), filename, problems)
    else:  # a Parquet file has its index at its end: a half-written one cannot be read at all
        yield from read_rows(content, filename)


def _usable_jsonl(text: str, filename: str, problems: list[str]) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            try:
                yield Row(f"line {number}", next(_jsonl(line, "row")).value)
            except DataError as error:
                problems.append(f"{filename}, line {number}: {error.what.removeprefix('row, line 1').removeprefix(': ')}")


def _usable_json(text: str, filename: str, problems: list[str]) -> Iterator[Row]:
    """A list that breaks off is read up to there."""
    try:
        yield from read_rows(text, filename)
        return
    except DataError as error:
        if not text.lstrip().startswith("["):
            raise
        reason = error.what
    decoder, at, number = json.JSONDecoder(), text.index("[") + 1, 0
    try:
        while True:
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
            value, at = decoder.raw_decode(text, at)
            number += 1
            yield Row(f"row {number}", value)
    except (ValueError, RecursionError):
        problems.append(reason)


def _usable_csv(text: str, filename: str, problems: list[str]) -> Iterator[Row]:
    delimiter = "\t" if filename.lower().endswith(".tsv") else _delimiter(text)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(f"{filename}, {where}: not valid CSV: {error}.")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
        elif len(cells) != len(header):
            problems.append(f"{filename}, {where}: {len(cells)} cells, but the header has {len(header)} columns.")
        else:
            yield Row(where, dict(zip(header, cells, strict=True)))


def find_column(row: Mapping[str, Any], names: Sequence[str], wanted: str = "") -> tuple[str, Any]:
    """The first column of ``names`` that the row has, with its value; ``("", None)`` if there is none and none is ``wanted``.

    ``names`` are in small letters without spaces and marks: ``modela`` finds ``Model A`` and ``model_a``.

    Raises:
        DataError: the ``wanted`` column is not there; names those that are.
    """
    plain = {str(column).lower().replace("_", "").replace("-", "").replace(" ", ""): column for column in row}
    for name in names:
        if name in plain:
            return str(plain[name]), row[plain[name]]
    if not wanted:
        return "", None
    found = ", ".join(f"“{column}”" for column in row) or "none"
    raise DataError(
        f"there is no column “{wanted}”. Columns found: {found}.",
        f"Rename one of them to “{wanted}” (also understood: {', '.join(names[1:])}).",
    )


def missing(value: Any) -> bool:
    """Whether a cell is empty: None, or NaN, as empty cells of Parquet files read."""
    return value is None or value != value


def decode(content: bytes, filename: str) -> str:
    """Text of a file: UTF-8, or what its byte order mark says (UTF-16, UTF-32).

    Raises:
        DataError: it is something else; names the line, the place and the byte.
    """
    # UTF-32's mark begins with UTF-16's, so it is looked for first
    marks = (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    )
    encoding = next((name for mark, name in marks if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{filename} is not {encoding.upper()} text: byte 0x{content[error.start]:02x} at position {error.start:,} (line {line:,}).",
            "Save the file as UTF-8 (in Excel: “CSV UTF-8”) and try again.",
        ) from None
    if "\0" in text:
        at = text.index("\0")
        line = text.count("\n", 0, at) + 1
        raise DataError(
            f"{filename} holds a null byte at position {at:,} (line {line:,}): it is no plain text, or UTF-16 without its mark.",
            "Save the file as UTF-8 text and try again.",
        )
    return text


def _check_size(size: int, filename: str) -> None:
    if size > MAX_BYTES:
        raise DataError(f"{filename} has {size / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read.", _TOO_LARGE)


def _lines(text: str, filename: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):  # universal newlines, and no others
        if line.strip():
            yield Row(f"line {number}", line.strip())


def _jsonl(text: str, filename: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            hint = "Each line must be one JSON object."
            if number == 1 and line.strip() in ("[", "{"):
                hint = "This looks like one JSON value over several lines: give the file the ending .json."
            raise DataError(f"{filename}, line {number}: not valid JSON: {error.msg} at column {error.colno}.", hint) from None
        except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
            raise DataError(f"{filename}, line {number}: cannot be read: {error}.", "Each line must be one flat JSON object.") from None
        yield Row(f"line {number}", _object(value, f"{filename}, line {number}"))


def _json(text: str, filename: str) -> Iterator[Row]:
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "It must be a list of objects."
        if error.msg == "Extra data":
            hint = "This looks like one JSON object a line: give the file the ending .jsonl."
        raise DataError(f"{filename}, line {error.lineno}: not valid JSON: {error.msg} at column {error.colno}.", hint) from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{filename} cannot be read: {error}.", "It must be a list of objects.") from None
    if isinstance(value, dict):  # {"data": […]}
        lists = [part for part in value.values() if isinstance(part, list)]
        if len(lists) != 1:
            raise DataError(f"{filename} holds one object, not a list of rows.", 'Write [{"prompt": …}, …].')
        value = lists[0]
    if not isinstance(value, list):
        raise DataError(f"{filename} holds {type(value).__name__}, not a list of rows.", 'Write [{"prompt": …}, …].')
    for number, item in enumerate(value, 1):
        yield Row(f"row {number}", _object(item, f"{filename}, row {number}"))


def _object(value: Any, where: str) -> Any:
    if not isinstance(value, dict | str):
        raise DataError(f"{where}: an object was expected, found {json.dumps(value)[:40]}.", 'Write {"prompt": …}.')
    return value


def _csv(text: str, filename: str) -> Iterator[Row]:
    delimiter = "\t" if filename.lower().endswith(".tsv") else _delimiter(text)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            where, start = f"line {start}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                if twice := {name for name in header if name and header.count(name) > 1}:
                    raise DataError(f"{filename}: the column “{min(twice)}” is there twice.", "Rename one of them.")
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{filename}, {where}: {len(cells)} cells, but the header has {len(header)} columns ({', '.join(header)}).",
                    'Put texts with commas or line breaks into double quotes, and write a quote in them as "".',
                )
            yield Row(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{filename}, line {start}: not valid CSV: {error}.", 'Write a quote within a quoted text as "".') from None


def _delimiter(text: str) -> str:
    """The commonest of comma, semicolon and tab in the header line; a header without any is a single column."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _parquet(content: bytes | str, filename: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    if isinstance(content, str):
        raise DataError(f"{filename}: Parquet is a binary format and cannot be pasted.", "Upload the file.")
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        # asked before reading: a small compressed file can hold a very large table
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if file.metadata.num_rows > MAX_ROWS:
            raise DataError(f"{filename} has {file.metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read.", _TOO_LARGE)
        _check_size(size, filename)
        rows = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        first = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
        raise DataError(
            f"{filename} is not a Parquet file that can be read: {first}.", "Write it again, for example with pandas' to_parquet."
        ) from None
    for number, row in enumerate(rows, 1):
        yield Row(f"row {number}", row)
