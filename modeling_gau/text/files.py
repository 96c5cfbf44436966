"""The one parser of data files: records of txt, csv, tsv, json, jsonl and parquet, each with its place or its problem.

Pretraining reads one column of text (`read_rows`), fine-tuning whole records (`read_records`). The readers of
`datasets` are not used: they guess a type for each column, cannot skip a bad row or start at an exact row, and do not
name the line of an error. Files may be compressed, and may be local or a URL of fsspec.
"""

import bz2
import csv
import gzip
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, LargeList, List
from fsspec.compression import available_compressions, compr

from ..configuration_gau import GAUError


FILE_KINDS = {
    ".txt": "text",
    ".text": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
FILE_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")  # of whole records
COMPRESSIONS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": None}

# Errors of a damaged file, besides an OSError without a number: see is_damage.
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, pa.ArrowInvalid)

# Limit for a csv cell: an unclosed quotation mark must not pull the rest of a corpus into memory.
CELL_CHARACTERS = 2**27
_PARQUET_ROWS = 512
_KEYED_ROWS = 1000  # json objects whose keys are taken as the columns
_SPACE = re.compile(r"\s*")


class Record(NamedTuple):
    """A record of a file.

    Attributes:
        number: index in the file from 0, counting blank lines; None stands for the unreadable rest of a file.
        place: "line 3" in text files, "row 3" in parquet files and json arrays, from 1.
        values: column -> value, or None in a bad record.
        problem: "file, line N: what is wrong" in a bad record, else None.
    """

    number: int | None
    place: str
    values: Mapping[str, object] | None
    problem: str | None = None


class Row(NamedTuple):
    """The text of a record, or None and its problem."""

    number: int | None
    text: str | None
    problem: str | None


class _UnusableFileError(GAUError):
    """Why the rest of a file cannot be read; the text continues after the file's name."""


class _Request(NamedTuple):
    path: str
    columns: tuple[str, ...]
    text_unit: str
    start: int
    step: int
    quoted_tsv: bool

    def wants(self, number: int) -> bool:
        return number >= self.start and (number - self.start) % self.step == 0

    def select(self, rows: Iterator) -> Iterator:
        return itertools.islice(rows, self.start, None, self.step)

    def check_columns(self, names: Sequence[str]) -> None:
        for column in self.columns:
            if column not in names:
                raise _UnusableFileError(
                    f" has no column {column!r}, but {_listed(names)}; choose one with --text_column."
                )

    def record(self, number: int, place: str, values: object, problem: str | None = None) -> Record:
        """A record of an object, or a bad one where it is something else."""
        if problem is None and isinstance(values, _RepeatedKey):
            problem = f"the key {values.name!r} appears twice."
        elif problem is None and not isinstance(values, dict):
            problem = f"expected an object with a key for each column, got {shorten(values)}."
        if problem:
            return Record(number, place, None, f"{self.path}, {place}: {problem}")
        return Record(number, place, values)


# ---- Files ----


def kind_of(path: str | Path) -> str:
    """Returns "text", "json", "csv" or "parquet", from the file's name.

    Raises:
        ValueError: the suffix is unknown, or its compression is not installed.
    """
    compression = PurePosixPath(str(path)).suffix.lower()
    if suffix_of(path) not in FILE_KINDS:
        raise GAUError(
            f"{path} has an unknown file type; allowed are {', '.join(FILE_KINDS)}, each also with "
            f"{', '.join(COMPRESSIONS)}."
        )
    if compression == ".zst" and "zstd" not in available_compressions():
        raise GAUError(f"{path} is compressed with Zstandard: pip install zstandard, or decompress it.")
    return FILE_KINDS[suffix_of(path)]


def suffix_of(path: str | Path) -> str:
    """The suffix in lower case, without that of a compression: ".txt" for "a.TXT.gz"."""
    path = PurePosixPath(str(path))
    return PurePosixPath(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSIONS else path.suffix.lower()


def check_file(name: str) -> Path:
    """Returns the path of a file of records; raises ValueError where it is missing, empty or of another kind."""
    path = Path(name).expanduser()
    if suffix_of(path) not in FILE_FORMATS or (suffix_of(path) == ".parquet" and path.suffix.lower() in COMPRESSIONS):
        raise GAUError(
            f"{name}: files of rows are {', '.join(FILE_FORMATS)}, all but the last also with "
            f"{', '.join(COMPRESSIONS)}; convert it to one of them."
        )
    kind_of(path)  # raises where a compression is not installed
    if not path.is_file():
        raise GAUError(f"{name}: there is no such file.")
    if path.stat().st_size == 0:
        raise GAUError(f"{name}: the file is empty.")
    return path


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
    """Stored (compressed) bytes of a local file or a URL; None where a server does not report the size.

    Raises:
        OSError: the file cannot be reached.
    """
    if "://" not in str(path):
        return Path(path).stat().st_size
    filesystem, inner = _file_system(path, token)
    return filesystem.info(inner).get("size")  # on the Hub, one request for a whole folder


def _file_system(path: str | Path, token: str | None) -> tuple[fsspec.AbstractFileSystem, str]:
    return fsspec.core.url_to_fs(str(path), **({"token": token} if str(path).startswith("hf://") else {}))


def is_damage(error: BaseException) -> bool:
    """Tells a damaged file from one that cannot be reached (missing permission, lost connection).

    bz2 and pyarrow raise a plain OSError without a number for damage.
    """
    return isinstance(error, DAMAGE) or (type(error) is OSError and error.errno is None)


# ---- Reading ----


def read_rows(
    path: str | Path,
    column: str = "text",
    text_unit: str = "document",
    start: int = 0,
    step: int = 1,
    token: str | None = None,
) -> Iterator[Row]:
    """Reads the texts of the rows `start`, `start + step`, ... of a file; arguments and errors as in `parse_file`."""
    for record in parse_file(path, (column,), text_unit, start, step, token, quoted_tsv=True):
        if record.problem:
            yield Row(record.number, None, record.problem)
            continue
        text, problem = None, None
        if column in record.values:
            text, problem = check_value(record.values[column], column)
        else:
            problem = f"no column {column!r}, but {_listed(record.values)}; choose one with --text_column."
        yield Row(record.number, text, problem and f"{path}, {record.place}: {problem}")


def read_files(
    files: Sequence[str],
    column: str = "text",
    text_unit: str = "document",
    position: Sequence[int] = (0, 0),
    consumer: int = 0,
    consumers: int = 1,
    whole_files: bool = True,
    token: str | None = None,
) -> Iterator[tuple[int, Row]]:
    """Reads a consumer's share of the texts of files, in order; leaves out those of white space.

    Args:
        position: [file, row] to begin with.
        consumer, consumers: number of this reader, from 0, and how many there are.
        whole_files: give each consumer every file whose turn is its own; otherwise, rows of each file in turn.

    Yields:
        The number of the file, and the row.
    """
    for index in range(position[0], len(files)):
        begin = position[1] if index == position[0] else 0
        turn = (consumer - index) % consumers
        if whole_files and turn:
            continue
        start, step = (begin, 1) if whole_files else (begin + (turn - begin) % consumers, consumers)
        for row in read_rows(files[index], column, text_unit, start, step, token):
            if row.number is None and turn:
                continue  # all consumers meet the damage of a file; one reports it
            if row.problem or (row.text and not row.text.isspace()):
                yield index, row


def read_records(path: Path, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Reads all records; of a parquet file only `columns`, or all if none are given.

    Raises:
        ValueError: with file and line or row, for the first bad record (see `parse_file`); or the file has no rows.
    """
    record = None
    for record in parse_file(path, columns):
        if record.problem:
            raise GAUError(record.problem)
        yield record
    if record is None:
        raise GAUError(f"{path} has no rows.")


def parse_file(
    path: str | Path,
    columns: Sequence[str] = (),
    text_unit: str = "document",
    start: int = 0,
    step: int = 1,
    token: str | None = None,
    quoted_tsv: bool = False,
) -> Iterator[Record]:
    """Parses the records `start`, `start + step`, ... of a file and passes over others as cheaply as its kind allows.

    - json, jsonl: one object a line, an array of objects, or a single object over several lines. Blank lines are
      counted, but are no records. Lines in between are not parsed.
    - csv: commas and quotation marks; tsv: tabs, without quoting as in the official GLUE files, or with `quoted_tsv`
      as pandas writes it. Cells are strings. Blank lines, also of white space, are counted, but are no records; in a
      table of one column, empty lines before the last text are empty texts.
    - parquet: row groups in between are not read.
    - txt: one record for each `text_unit` (document, paragraph, line; cut as by the text reader of `datasets`), with
      the text in the first of `columns`.

    A record is bad where it is not UTF-8, not JSON, not an object, repeats a key, or has too many or too few cells.
    Where a file is empty, not of its kind, has no such column, names a column twice or is damaged part-way, the
    records before come first and then one with `number=None`.

    Raises:
        ValueError: the file's suffix is unknown.
        OSError: the file cannot be reached.
    """
    kinds = {"text": _text_records, "json": _json_records, "csv": _csv_records, "parquet": _parquet_records}
    reader, last = kinds[kind_of(path)], None
    try:
        with open_file(path, token) as stream:
            for last in reader(stream, _Request(str(path), tuple(columns), text_unit, start, step, quoted_tsv)):
                yield last
    except (_UnusableFileError, OSError, *DAMAGE) as error:
        yield Record(None, "", None, _why_unusable(path, error, last.place if last else None))


def _why_unusable(path: str | Path, error: Exception, place: str | None = None) -> str:
    """The message for a file that is not of its kind or damaged; raises any other error again."""
    if isinstance(error, _UnusableFileError):
        return f"{path}{error}"
    if not is_damage(error):
        raise error
    return f"{path} cannot be read{f' beyond {place}' if place else ''}: {error or type(error).__name__}"


def read_columns(path: Path) -> tuple[str, ...]:
    """Names of the columns: from the header or the schema, in json the keys of the first objects.

    Raises:
        ValueError: the file has no rows, or cannot be read.
    """
    if kind_of(path) == "json":
        first = itertools.islice(read_records(path), _KEYED_ROWS)
        return tuple(dict.fromkeys(key for record in first for key in record.values))
    try:
        with open_file(path) as stream:
            if kind_of(path) == "csv":
                return _Table(stream, path).header
            return tuple(pq.ParquetFile(stream).schema_arrow.names)
    except (_UnusableFileError, OSError, *DAMAGE) as error:
        raise GAUError(_why_unusable(path, error)) from error


def place_of_row(path: Path, row: int) -> str:
    """The place of a row, counted from 0: "line 3" or "row 3". Reads the file up to there."""
    if kind_of(path) == "parquet":
        return f"row {row + 1}"
    return next(itertools.islice(read_records(path), row, None)).place


def stored_classes(path: Path, column: str) -> ClassLabel | None:
    """The classes that `datasets` wrote into a parquet file for a column of label ids, or of lists of them."""
    if kind_of(path) != "parquet":
        return None
    schema = pq.read_schema(path)
    if b"huggingface" not in (schema.metadata or {}):
        return None
    feature = Features.from_arrow_schema(schema).get(column)
    feature = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return feature if isinstance(feature, ClassLabel) else None


# ---- Values ----


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


def _listed(names: Iterable) -> str:
    return ", ".join(map(str, itertools.islice(names, 20))) or "nothing"


# ---- Text ----


def _text_records(stream: BinaryIO, request: _Request) -> Iterator[Record]:
    column = request.columns[0] if request.columns else "text"
    with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape") as lines:
        head = lines.readline()
        if not head:
            raise _UnusableFileError(" is empty.")
        if request.text_unit == "document" and request.start > 0:
            return
        units = {"document": _whole, "line": _lines, "paragraph": _paragraphs}[request.text_unit]
        numbers = itertools.count(request.start, request.step)
        for number, (line, text) in zip(numbers, request.select(units(head, lines)), strict=False):
            problem, offset = check_unicode(text)
            place = f"line {line + 1 + text.count(chr(10), 0, offset)}"
            yield request.record(number, place, {column: text}, problem)


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


# ---- JSON ----


@dataclass(frozen=True, repr=False)
class _RepeatedKey:
    """Stands for an object that repeats a key, which `json` would read as if only the last one were there."""

    name: str

    def __repr__(self) -> str:
        return f"an object with the key {self.name!r} twice"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | _RepeatedKey:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    names = [name for name, _ in pairs]
    return _RepeatedKey(next(name for name in names if names.count(name) > 1))


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _json_records(stream: BinaryIO, request: _Request) -> Iterator[Record]:
    with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape") as lines:
        head = []
        while not head or head[-1].isspace():
            head.append(lines.readline())
        if not any(head):
            raise _UnusableFileError(" is empty.")
        head.append(lines.readline())
        if _is_one_value(*head[-2:], is_jsonl=suffix_of(request.path) == ".jsonl"):
            text = "".join(head) + lines.read()
            rest = text.splitlines(keepends=True)
            if text.lstrip().startswith("[") or not any(line.startswith("{") and _is_json(line) for line in rest):
                yield from _array_records(text, request)
                return
            head = rest  # lines of objects, the first two of them bad
        for number, line in request.select(enumerate(itertools.chain(head, lines))):
            if line and not line.isspace():
                yield request.record(number, f"line {number + 1}", *_parse_line(line))


def _is_one_value(line: str, following: str, is_jsonl: bool) -> bool:
    """Tells an array or an object that spans the whole file from a first line that is bad."""
    if line.lstrip().startswith("["):
        return not following.strip() or not (_is_json(line) or (is_jsonl and _is_json(following)))
    begins_object = line.strip() == "{" or (not is_jsonl and line.lstrip().startswith("{"))
    return begins_object and not _is_json(line) and not _is_json(following)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_line(line: str) -> tuple[object, str | None]:
    """Returns the value and None, or None and what is wrong with the line."""
    problem, _ = check_unicode(line)
    if problem:
        return None, problem
    try:
        return _DECODER.decode(line), None
    except json.JSONDecodeError as error:
        column = min(error.pos, len(line.rstrip())) + 1  # not behind the line's end
        return None, f"this is not JSON ({error.msg}, column {column})."
    except (ValueError, RecursionError) as error:  # too many digits in a number, too many brackets
        return None, f"this JSON cannot be read ({error})."


def _array_records(text: str, request: _Request) -> Iterator[Record]:
    text = text if text.lstrip().startswith("[") else f"[{text}]"  # a single object
    place = _SPACE.match(text, text.index("[") + 1).end()
    for number in itertools.count():
        if number == 0 and text.startswith("]", place):
            return
        begin = place
        row, place, is_last = _array_item(text, place)
        if request.wants(number):
            problem, _ = check_unicode(text[begin:place])
            row = {"text": row} if isinstance(row, str) else row
            yield request.record(number, f"row {number + 1}", row, problem)
        if is_last:
            return


def _array_item(text: str, place: int) -> tuple[object, int, bool]:
    """Parses an item of an array; returns it, where the next one begins, and whether it is the last."""
    try:
        row, place = _DECODER.raw_decode(text, place)
        end = _SPACE.match(text, place).end()
        if text[end : end + 1] not in ("]", ",") or not text[end : end + 1]:
            another = " before another object" if text[end : end + 1] == "{" else ""
            raise json.JSONDecodeError(f"Expecting ',' or ']'{another}", text, end)
        following = _SPACE.match(text, end + 1).end()
        if text[end] == "]" and following < len(text):
            raise json.JSONDecodeError("Extra data", text, following)
        return row, following, text[end] == "]"
    except json.JSONDecodeError as error:
        raise _UnusableFileError(f", line {error.lineno}: this is not JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:  # too many digits in a number, too many brackets
        line = text.count("\n", 0, place) + 1
        raise _UnusableFileError(f", line {line}: this JSON cannot be read ({error}).") from error


# ---- Tables ----


class _Table:
    """The header of a csv or tsv file; iterating gives the number, first line, cells and problem of each record."""

    def __init__(self, stream: BinaryIO, path: str | Path, columns: Sequence[str] = (), quoted_tsv: bool = False):
        csv.field_size_limit(CELL_CHARACTERS)  # process-wide; documents often exceed the default of 131,072
        self._ended = False
        style = {}
        if suffix_of(path) == ".tsv":
            style = {"delimiter": "\t", "quoting": csv.QUOTE_MINIMAL if quoted_tsv else csv.QUOTE_NONE}
        self._reader = csv.reader(self._lines(stream), **style)
        self.header = self._read_header(columns)
        self._commas = suffix_of(path) == ".csv"

    def __iter__(self) -> Iterator[tuple[int, int, list[str], str | None]]:
        for number in itertools.count():
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                yield number, line, [], f"this is no row of a table ({error})."
                continue
            if cells is None:
                return
            if len(cells) == 1 < len(self.header) and not self._ended and not cells[0].strip():
                cells = []  # a line of white space
            yield number, line, cells, self._problem(cells) if cells else None

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        with TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            yield from lines
        self._ended = True

    def _read_header(self, columns: Sequence[str]) -> tuple[str, ...]:
        header = next(self._reader, None)
        if header is None:
            raise _UnusableFileError(" is empty.")
        if not header:
            raise _UnusableFileError(", line 1: this line is empty, but must name the columns.")
        problem = _first_problem(header)
        if problem:
            raise _UnusableFileError(f", line 1: {problem}")
        for name in columns or header:
            if header.count(name) > 1:
                raise _UnusableFileError(f", line 1: two columns have the name {name!r}.")
        return tuple(header)

    def _problem(self, cells: list[str]) -> str | None:
        if self._ended:  # the reader looks beyond the last line only for a closing quotation mark
            return "a quotation mark is opened here and never closed."
        if len(cells) != len(self.header):
            hint = " Texts with commas need quotation marks." if self._commas and len(cells) > len(self.header) else ""
            return f"expected {len(self.header)} cells, as in the header, got {len(cells)}.{hint}"
        return _first_problem(cells)


def _first_problem(cells: Sequence[str]) -> str | None:
    return next((problem for problem, _ in map(check_unicode, cells) if problem), None)


def _csv_records(stream: BinaryIO, request: _Request) -> Iterator[Record]:
    table = _Table(stream, request.path, request.columns, request.quoted_tsv)
    request.check_columns(table.header)
    blank = []
    for number, line, cells, problem in table:
        if not cells and not problem:
            blank += [(number, line)] if len(table.header) == 1 else []
            continue
        for before, empty in blank:
            if request.wants(before):
                yield request.record(before, f"line {empty}", {table.header[0]: ""})
        blank = []
        if request.wants(number):
            values = {} if problem else dict(zip(table.header, cells, strict=True))
            yield request.record(number, f"line {line}", values, problem)


# ---- Parquet ----


def _parquet_records(stream: BinaryIO, request: _Request) -> Iterator[Record]:
    file = pq.ParquetFile(stream)
    request.check_columns(file.schema_arrow.names)
    first, wanted = 0, request.start  # row numbers: of the next batch, and of the next row to return
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if wanted >= first + rows:
            first += rows
            continue
        for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=list(request.columns) or None):
            own = slice(wanted - first, None, request.step)
            values = [_python_values(column)[own] for column in batch.columns]
            for row in zip(*values, strict=True):
                yield request.record(wanted, f"row {wanted + 1}", dict(zip(batch.schema.names, row, strict=True)))
                wanted += request.step
            first += len(batch)


def _python_values(column: pa.Array) -> list:
    """The values of a column; a string that is not UTF-8 keeps its bytes as half surrogates, as in text files."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [value if value is None else value.decode("utf-8", "surrogateescape") for value in values]
