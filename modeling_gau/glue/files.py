# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Rows of local tables, one after the other, each with its values by column and its place in the file.

`rows.read_rows` does the same for documents, which are one column of text. The readers of `datasets` are not used:
they guess a type for each column, so that texts which are all numbers are no texts and one label of another type fails
a whole file, and no message of theirs says in which line.
"""

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, LargeList, List

from ..text.files import (
    CELL_CHARACTERS,
    COMPRESSIONS,
    DAMAGE,
    begins_an_array,
    check_unicode,
    is_damage,
    kind_of,
    noting_the_end,
    open_file,
    shorten,
    suffix_of,
)


FILE_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")

_PARQUET_ROWS = 1024
_KEYED_ROWS = 1000  # objects of json that say which columns there are


class Record(NamedTuple):
    """A row: where it stands ("line 3" of text, "row 3" of parquet and of json arrays, from 1), and its values."""

    place: str
    values: Mapping[str, object]


def check_file(name: str) -> Path:
    """Returns the file's path; raises ValueError where it is missing, empty or of a kind that is not read."""
    path = Path(name).expanduser()
    if suffix_of(path) not in FILE_FORMATS or (suffix_of(path) == ".parquet" and path.suffix.lower() in COMPRESSIONS):
        raise ValueError(
            f"{name}: files of rows are {', '.join(FILE_FORMATS)}, all but the last also with "
            f"{', '.join(COMPRESSIONS)}; convert it to one of them."
        )
    kind_of(path)  # raises where a compression is not installed
    if not path.is_file():
        raise ValueError(f"{name}: there is no such file.")
    if path.stat().st_size == 0:
        raise ValueError(f"{name}: the file is empty.")
    return path


def read_columns(path: Path) -> tuple[str, ...]:
    """Names of the columns: those of the header or the schema, and of json the keys of the first objects.

    Raises:
        ValueError: the file has no rows, or cannot be read.
    """
    with _opened(path) as stream:
        if kind_of(path) == "parquet":
            return tuple(pq.ParquetFile(stream).schema_arrow.names)
        if kind_of(path) == "csv":
            return _header(_table(stream, path, []), path)
    first = itertools.islice(read_records(path), _KEYED_ROWS)
    return tuple(dict.fromkeys(key for record in first for key in record.values))


def read_records(path: Path, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Reads all rows; of a parquet file only `columns`.

    csv has commas and quotation marks, tsv tabs and no quoting: as in the official GLUE files a quotation mark is
    text. Cells of both are strings. Blank lines are no rows, but in a table of one column those before the last text
    are empty texts. json is an array of objects, or as jsonl one object a line.

    Raises:
        ValueError: with the file and the line or row, for the first row that cannot be read: not UTF-8, not JSON, no
            object, too many or too few cells; or the file has no rows or is damaged.
    """
    reader = {"json": _json_records, "csv": _table_records, "parquet": _parquet_records}[kind_of(path)]
    record = None
    with _opened(path, lambda: record) as stream:
        for record in reader(stream, path, columns):
            yield record
    if record is None:
        raise ValueError(f"{path} has no rows.")


def place_of_row(path: Path, row: int) -> str:
    """The place of a row, which is counted from 0: "line 3" or "row 3". Reads the file up to there."""
    if kind_of(path) == "parquet":
        return f"row {row + 1}"
    return next(itertools.islice(read_records(path), row, None)).place


def stored_classes(path: Path, column: str) -> ClassLabel | None:
    """The classes that `datasets` wrote into a parquet file for a column of label ids, or of lists of them."""
    if kind_of(path) != "parquet":
        return None
    with _opened(path) as stream:
        schema = pq.ParquetFile(stream).schema_arrow
    if b"huggingface" not in (schema.metadata or {}):
        return None
    feature = Features.from_arrow_schema(schema).get(column)
    feature = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return feature if isinstance(feature, ClassLabel) else None


@contextmanager
def _opened(path: Path, last: Callable[[], Record | None] = lambda: None) -> Iterator[BinaryIO]:
    """Opens a file for a block in which damage becomes a ValueError that says where it is."""
    try:
        with open_file(path) as stream:
            yield stream
    except (OSError, *DAMAGE) as error:
        if not is_damage(error):
            raise
        beyond = f" beyond {last().place}" if last() else ""
        raise ValueError(f"{path} cannot be read as {suffix_of(path)[1:]}{beyond}: {error}") from error


# Tables of text


def _table_records(stream: BinaryIO, path: Path, columns: Sequence[str]) -> Iterator[Record]:
    ended, blank = [], []
    reader = _table(stream, path, ended)
    header = _header(reader, path)
    for line, cells in _cells(reader, path, ended):
        if not cells:
            blank.append(line)
            continue
        if len(cells) != len(header):
            more = " Texts with commas need quotation marks around them." if suffix_of(path) == ".csv" else ""
            hint = more if len(cells) > len(header) else ""
            raise _bad(path, f"line {line}", f"cells: {len(cells)}, where the header has {len(header)}.{hint}")
        if len(header) == 1:
            yield from (Record(f"line {before}", {header[0]: ""}) for before in blank)
        blank = []
        yield Record(f"line {line}", dict(zip(header, cells, strict=True)))


def _table(stream: BinaryIO, path: Path, ended: list) -> Iterator[list[str]]:
    """A `csv.reader` that appends to `ended` when it goes beyond the last line."""
    csv.field_size_limit(CELL_CHARACTERS)  # of the process, at 131,072 by default
    lines = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    kind = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if suffix_of(path) == ".tsv" else {}
    return csv.reader(itertools.chain(lines, noting_the_end(ended)), **kind)


def _header(reader: Iterator[list[str]], path: Path) -> tuple[str, ...]:
    header = tuple(next(reader, ()))
    if not header:
        raise ValueError(f"{path}: the first line is empty, where the names of the columns belong.")
    _check_line(path, "line 1", header)
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise _bad(path, "line 1", f"two columns have the name {twice!r}.")
    return header


def _cells(reader: Iterator[list[str]], path: Path, ended: list) -> Iterator[tuple[int, list[str]]]:
    """Yields of every record the number of its first line, from 1, and its cells, which are none in a blank line."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _bad(path, f"line {line}", f"this is no row of a table ({error}).") from error
        if cells is None:
            return
        if ended:  # the reader goes beyond the last line in search of a closing quotation mark alone
            raise _bad(path, f"line {line}", "a quotation mark is opened here and never closed.")
        _check_line(path, f"line {line}", cells)
        yield line, cells


# Objects


def _json_records(stream: BinaryIO, path: Path, columns: Sequence[str]) -> Iterator[Record]:
    lines = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
    head = []
    while not head or head[-1].isspace():
        head.append(lines.readline())
    if head[-1].lstrip().startswith("["):
        head.append(lines.readline())
        if begins_an_array(*head[-2:], str(path)):
            yield from _array_records("".join(head) + lines.read(), path)
            return
    for number, line in enumerate(itertools.chain(head, lines), 1):
        if line and not line.isspace():
            yield Record(f"line {number}", _object(_parse(line, path, number), path, f"line {number}"))


def _array_records(text: str, path: Path) -> Iterator[Record]:
    for number, row in enumerate(_parse(text, path, 1), 1):
        yield Record(f"row {number}", _object(row, path, f"row {number}"))


def _parse(text: str, path: Path, line: int) -> object:
    """The value of a json text that begins in a line of the file."""
    if not text.isascii():
        problem, offset = check_unicode(text)
        if problem:
            raise _bad(path, f"line {line + text.count(chr(10), 0, offset)}", problem)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}" if error.pos < len(text.rstrip()) else f"line {line}"
        raise _bad(path, place, f"this is not JSON ({error.msg}, column {error.colno}).") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
        raise _bad(path, f"line {line}", f"this is no JSON that can be read ({error}).") from error


def _object(row: object, path: Path, place: str) -> dict[str, object]:
    if not isinstance(row, dict):
        raise _bad(path, place, f"expected an object with a key for each column, got {shorten(row)}.")
    return row


# Parquet


def _parquet_records(stream: BinaryIO, path: Path, columns: Sequence[str]) -> Iterator[Record]:
    file, number = pq.ParquetFile(stream), 0
    for batch in file.iter_batches(_PARQUET_ROWS, columns=list(columns) or None):
        values = [_python_values(column) for column in batch.columns]
        for row in zip(*values, strict=True):
            number += 1
            yield Record(f"row {number}", dict(zip(batch.schema.names, row, strict=True)))


def _python_values(column: pa.Array) -> list:
    """The values of a column; a string that is not UTF-8 keeps its bytes as half surrogates, as in text files."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column.to_pylist()
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [value if value is None else value.decode("utf-8", "surrogateescape") for value in values]


def _check_line(path: Path, place: str, cells: Sequence[str]) -> None:
    for cell in cells:
        if not cell.isascii():
            problem, _ = check_unicode(cell)
            if problem:
                raise _bad(path, place, problem)


def _bad(path: Path, place: str, problem: str) -> ValueError:
    return ValueError(f"{path}, {place}: {problem}")
