"""Rows of data files, one after the other from any place on: each a text, or what is wrong with it.

Tables and lines of text are read here where `datasets` cannot serve: to leave out bad rows and count them, to name the
first one, and to read a stream from an exact position. Files may be compressed, and may be local or a URL of fsspec.
"""

import bz2
import csv
import gzip
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.compression import available_compressions, compr


FILE_KINDS = {
    ".txt": "text",
    ".text": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": None}

# What a file damaged part-way raises, beside an OSError without a number: see is_damage.
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, pa.ArrowInvalid)

# Of a cell in a csv file: a quotation mark that is never closed must not take the rest of a corpus into memory.
CELL_CHARACTERS = 2**27
_PARQUET_ROWS = 512
_SPACE = re.compile(r"\s*")


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        number: place among the rows of its file, from 0, blank lines counted; None where the row stands for the rest
            of a file that cannot be read.
        text: the text, or None in a bad row.
        problem: "file, line N: what is wrong" in a bad row, else None.
    """

    number: int | None
    text: str | None
    problem: str | None


class _Place(NamedTuple):
    """A row within its file: as `Row`, with the place in words and a problem that does not name the file."""

    number: int
    place: str
    text: str | None
    problem: str | None


class _UnusableFileError(ValueError):
    """Why nothing more can be read from a file, as it continues after the file's name."""


def kind_of(path: str | Path) -> str:
    """Returns "text", "json", "csv" or "parquet", after the file's name.

    Raises:
        ValueError: the name is of no kind that is read, or compressed in a way that is not installed.
    """
    compression = PurePosixPath(str(path)).suffix.lower()
    if suffix_of(path) not in FILE_KINDS:
        raise ValueError(
            f"{path} is of an unknown kind; allowed are {', '.join(FILE_KINDS)}, each also with "
            f"{', '.join(COMPRESSIONS)}."
        )
    if compression == ".zst" and "zstd" not in available_compressions():
        raise ValueError(f"{path} is compressed with Zstandard: pip install zstandard, or decompress it.")
    return FILE_KINDS[suffix_of(path)]


def suffix_of(path: str | Path) -> str:
    """The suffix in lower case, that of a compression left out: ".txt" of "a.TXT.gz"."""
    path = PurePosixPath(str(path))
    return PurePosixPath(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSIONS else path.suffix.lower()


@contextmanager
def open_file(path: str | Path, token: str | None = None) -> Iterator[BinaryIO]:
    """Opens a local file or a URL, decompressed; `token` is for URLs of the Hub (hf://)."""
    with ExitStack() as stack:
        if "://" in str(path):
            filesystem, inner = _file_system(path, token)
            stream = stack.enter_context(filesystem.open(inner, "rb"))
        else:
            stream = stack.enter_context(open(path, "rb"))
        suffix = PurePosixPath(str(path)).suffix.lower()
        if suffix in COMPRESSIONS:
            opener = COMPRESSIONS[suffix] or compr["zstd"]
            stream = stack.enter_context(opener(stream, mode="rb"))
        yield stream


def file_size(path: str | Path, token: str | None = None) -> int | None:
    """Bytes of a local file or a URL as it is stored, so compressed; None where the server of a URL does not tell.

    Raises:
        OSError: the file cannot be reached.
    """
    if "://" not in str(path):
        return Path(path).stat().st_size
    filesystem, inner = _file_system(path, token)
    return filesystem.info(inner).get("size")  # of the Hub: one request for a whole folder


def _file_system(path: str | Path, token: str | None) -> tuple[fsspec.AbstractFileSystem, str]:
    return fsspec.core.url_to_fs(str(path), **({"token": token} if str(path).startswith("hf://") else {}))


def is_damage(error: BaseException) -> bool:
    """Tells a damaged file from one that cannot be reached (a missing right, a lost connection).

    bz2 and pyarrow raise a plain OSError without a number for damage.
    """
    return isinstance(error, DAMAGE) or (type(error) is OSError and error.errno is None)


def read_rows(
    path: str | Path,
    column: str = "text",
    text_unit: str = "document",
    start: int = 0,
    step: int = 1,
    token: str | None = None,
) -> Iterator[Row]:
    """Reads the rows `start`, `start + step`, ... of a file; others are passed over as cheaply as their kind allows.

    json, jsonl: a line (or an item of an array) is a row, and lines that are passed over are not parsed; blank lines
    are no rows, but are counted. csv, tsv: a record after the header is a row. parquet: row groups that are passed
    over are not read. txt: a row is what `text_unit` says (document, paragraph, line), as in the text reader of
    `datasets`.

    A bad row is: a line that is not UTF-8 or not JSON, something other than an object, an object without the column, a
    value that is null or not text (or holds half a surrogate pair), a record with too many or too few cells. Where a
    file is empty, not of its kind, lacks the column as a whole or is damaged part-way, the rows before are returned
    and then one with `number=None`.

    Raises:
        ValueError: the name of the file is of an unknown kind.
        OSError: the file cannot be reached.
    """
    reader = {"text": _text_rows, "json": _json_rows, "csv": _csv_rows, "parquet": _parquet_rows}[kind_of(path)]
    last = None
    try:
        with open_file(path, token) as stream:
            for last in reader(stream, _Request(str(path), column, text_unit, start, step)):
                problem = f"{path}, {last.place}: {last.problem}" if last.problem else None
                yield Row(last.number, last.text, problem)
    except _UnusableFileError as error:
        yield Row(None, None, f"{path}{error}")
    except (OSError, *DAMAGE) as error:
        if not is_damage(error):
            raise
        where = f" beyond {last.place}" if last else ""
        yield Row(None, None, f"{path} cannot be read{where}: {error or type(error).__name__}")


class _Request(NamedTuple):
    path: str
    column: str
    text_unit: str
    start: int
    step: int

    def select(self, rows: Iterator) -> Iterator:
        return itertools.islice(rows, self.start, None, self.step)


def _text_rows(stream: BinaryIO, request: _Request) -> Iterator[_Place]:
    with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape") as lines:
        head = lines.readline()
        if not head:
            raise _UnusableFileError(" is empty.")
        if request.text_unit == "document" and request.start > 0:
            return
        units = {"document": _whole, "line": _lines, "paragraph": _paragraphs}[request.text_unit]
        number = request.start
        for line, text in request.select(units(head, lines)):
            problem, offset = check_unicode(text)
            place = f"line {line + 1 + text.count(chr(10), 0, offset)}"
            yield _Place(number, place, None if problem else text, problem)
            number += request.step


def _whole(head: str, lines: TextIO) -> Iterator[tuple[int, str]]:
    yield 0, head + lines.read()


def _lines(head: str, lines: TextIO) -> Iterator[tuple[int, str]]:
    return ((number, line.removesuffix("\n")) for number, line in enumerate(itertools.chain([head], lines)))


def _paragraphs(head: str, lines: TextIO) -> Iterator[tuple[int, str]]:
    """Cuts at each "\\n\\n" from the left, as `str.split` does; empty paragraphs are left out."""
    begin, paragraph = 0, []
    for number, line in enumerate(itertools.chain([head], lines)):
        paragraph.append(line)
        if line == "\n" and len(paragraph) > 1:
            text = "".join(paragraph)[:-2]
            if text:
                yield begin, text
            begin, paragraph = number + 1, []
    if paragraph:
        yield begin, "".join(paragraph)


def check_unicode(text: str) -> tuple[str | None, int]:
    """Returns what is wrong with the characters of a text, if anything, and where."""
    if text.isascii():
        return None, 0
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # left by the error handler surrogateescape
            return f"this is not UTF-8 (byte {code - 0xDC00:#04x}).", error.start
        return f"this holds half of a surrogate pair (\\u{code:04x}), which is no character.", error.start
    return None, 0


def check_value(value: object, column: str) -> tuple[str | None, str | None]:
    """Returns the text and None, or None and what is wrong with it."""
    if not isinstance(value, str):
        return None, f"{column!r} must be text, got {shorten(value)}."
    problem, _ = check_unicode(value)
    return (None, problem) if problem else (value, None)


def shorten(value: object) -> str:
    return f"{str(value)[:80]!r}" if isinstance(value, str) else f"{value!r:.80}"


def _check_object(row: object, column: str) -> tuple[str | None, str | None]:
    if not isinstance(row, dict):
        return None, f"expected an object with the key {column!r}, got {shorten(row)}."
    if column not in row:
        return None, f"no {column!r}, but {_listed(row)}; choose one with --text_column."
    return check_value(row[column], column)


def _listed(names) -> str:
    return ", ".join(map(str, itertools.islice(names, 20))) or "nothing"


def _json_rows(stream: BinaryIO, request: _Request) -> Iterator[_Place]:
    with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape") as lines:
        head = []
        while not head or head[-1].isspace():
            head.append(lines.readline())
        if not any(head):
            raise _UnusableFileError(" is empty.")
        if head[-1].lstrip().startswith("["):
            head.append(lines.readline())
            if begins_an_array(*head[-2:], request.path):
                yield from _array_rows("".join(head) + lines.read(), request)
                return
        for number, line in request.select(enumerate(itertools.chain(head, lines))):
            if line and not line.isspace():
                yield _Place(number, f"line {number + 1}", *_check_line(line, request.column))


def begins_an_array(line: str, following: str, path: str) -> bool:
    """Tells `[...]` over a whole file from one bad line "[..." among others."""
    if not following or following.isspace():
        return True
    return not (_is_json(line) or (suffix_of(path) == ".jsonl" and _is_json(following)))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _check_line(line: str, column: str) -> tuple[str | None, str | None]:
    problem, _ = check_unicode(line)
    if problem:
        return None, problem
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        column = min(error.pos, len(line.rstrip())) + 1  # not behind the line's end
        return None, f"this is not JSON ({error.msg}, column {column})."
    except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
        return None, f"this is no JSON that can be read ({error})."
    return _check_object(row, column)


def _array_rows(text: str, request: _Request) -> Iterator[_Place]:
    decoder = json.JSONDecoder()
    place = _SPACE.match(text, text.index("[") + 1).end()
    number = 0
    while not (number == 0 and text.startswith("]", place)):
        try:
            row, place = decoder.raw_decode(text, place)
            place = _SPACE.match(text, place).end()
            if text[place : place + 1] not in ("]", ","):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, place)
        except json.JSONDecodeError as error:
            raise _UnusableFileError(f", line {error.lineno}: this is not JSON ({error.msg}).") from error
        except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
            line = text.count("\n", 0, place) + 1
            raise _UnusableFileError(f", line {line}: this is no JSON that can be read ({error}).") from error
        if number >= request.start and (number - request.start) % request.step == 0:
            row = {"text": row} if isinstance(row, str) else row
            yield _Place(number, f"row {number + 1}", *_check_object(row, request.column))
        if text[place] == "]":
            return
        place, number = _SPACE.match(text, place + 1).end(), number + 1


def _csv_rows(stream: BinaryIO, request: _Request) -> Iterator[_Place]:
    csv.field_size_limit(CELL_CHARACTERS)  # of the process, at 131,072 by default, which many a document exceeds
    delimiter = "\t" if suffix_of(request.path) == ".tsv" else ","
    ended = []
    with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(itertools.chain(lines, noting_the_end(ended)), delimiter=delimiter)
        header = next(reader, None)
        if header is None:
            raise _UnusableFileError(" is empty.")
        if request.column not in header:
            raise _UnusableFileError(
                f" has no {request.column!r}, but {_listed(header)}; choose one with --text_column."
            )
        for number in itertools.count():
            line = reader.line_num + 1
            text, problem = _next_record(reader, header, request.column, ended)
            if text is None and problem is None:
                if ended:
                    return
            elif number >= request.start and (number - request.start) % request.step == 0:
                yield _Place(number, f"line {line}", text, problem)


def noting_the_end(ended: list) -> Iterator[str]:
    ended.append(True)
    yield from ()


def _next_record(reader, header: list[str], column: str, ended: list) -> tuple[str | None, str | None]:
    """Returns text and None, None and a problem, or twice None for a blank line and at the end."""
    try:
        cells = next(reader, [])
    except csv.Error as error:
        return None, f"this is no row of a table ({error})."
    if not cells:
        return None, None
    if ended:  # the reader goes beyond the last line in search of a closing quotation mark alone
        return None, "a quotation mark is opened here and never closed."
    if len(cells) != len(header):
        return None, f"{len(cells)} cells, where the header has {len(header)}."
    problems = [problem for problem, _ in map(check_unicode, cells) if problem]
    return (None, problems[0]) if problems else (cells[header.index(column)], None)


def _parquet_rows(stream: BinaryIO, request: _Request) -> Iterator[_Place]:
    file = pq.ParquetFile(stream)
    schema = file.schema_arrow
    if request.column not in schema.names:
        raise _UnusableFileError(
            f" has no {request.column!r}, but {_listed(schema.names)}; choose one with --text_column."
        )
    kind = schema.field(request.column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise _UnusableFileError(f" holds {kind} in {request.column!r}, not text.")
    first, wanted = 0, request.start  # row numbers: of the next batch, and of the next row to return
    for group in range(file.metadata.num_row_groups):
        if wanted >= first + file.metadata.row_group(group).num_rows:
            first += file.metadata.row_group(group).num_rows
            continue
        for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=[request.column]):
            numbers = range(wanted, first + len(batch), request.step)
            if numbers:
                own = pa.array(range(wanted - first, len(batch), request.step), pa.int64())
                values = _values(batch.column(0), own)
                for number, value in zip(numbers, values, strict=True):
                    yield _Place(number, f"row {number + 1}", *_check_parquet(value, request.column))
                wanted = numbers[-1] + request.step
            first += len(batch)


def _values(column: pa.Array, rows: pa.Array) -> list[str | bytes | None]:
    if pa.types.is_string_view(column.type):  # cannot be taken from
        column = column.cast(pa.large_string())
    column = column.take(rows)
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()


def _check_parquet(value: str | bytes | None, column: str) -> tuple[str | None, str | None]:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return check_value(value, column)
