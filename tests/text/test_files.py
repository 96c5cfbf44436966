"""Rows of files, one after the other: the same as `datasets` reads, and every bad one named by file and line."""

import bz2
import gzip
import io
import json
import lzma
import re
import zlib
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset

from modeling_gau.text import files as rows
from modeling_gau.text.files import (
    file_size,
    kind_of,
    place_of_row,
    read_columns,
    read_records,
    read_rows,
    stored_classes,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    return name


def texts(name, **arguments):
    found = list(read_rows(name, **arguments))
    assert [row.problem for row in found] == [None] * len(found)
    return [row.text for row in found]


def problems(name, **arguments):
    found = list(read_rows(name, **arguments))
    assert all((row.text is None) == (row.problem is not None) for row in found)
    return [row.text or row.problem for row in found]


@pytest.mark.parametrize("unit", ["line", "paragraph", "document"])
@pytest.mark.parametrize(
    "content",
    [
        "a\nb\n\nc",
        "\n\n\na\n\n\nb\n\n\n\n\nc\n",
        "a\r\n\r\nb\rc\n",
        "\ufeffcaf\u00e9\n\n \n\n",
        "\n",
        "a\x0b\x0cb\u2028c\x85d\n",
    ],
)
def test_text_units_are_those_of_datasets(content, unit, tmp_path):
    name = write("a.txt", content)
    options = {"sample_by": unit, "encoding": "utf-8-sig", "cache_dir": str(tmp_path / "cache")}
    expected = load_dataset("text", data_files=[name], split="train", **options)["text"][:]
    assert texts(name, text_unit=unit) == expected


def test_csv_is_read_as_by_datasets(tmp_path):
    content = 'id,text\r\n1,"with ""quotes"",\r\nand lines"\r\n2,NA\r\n\r\n3,"a"b\r\n4,\r\n5,\u00e9'
    expected = load_dataset(
        "csv", data_files=[write("a.csv", content)], split="train", keep_default_na=False, cache_dir=str(tmp_path)
    )["text"][:]
    assert texts("a.csv") == expected == ['with "quotes",\r\nand lines', "NA", "ab", "", "\u00e9"]
    assert texts(write("b.tsv", "text\tother\na,b\tc\n \n\nd\te\n  ")) == ["a,b", "d"]
    assert texts(write("b.csv", "text,other\n \t \na,b\n")) == ["a"]
    long = "x" * 200_000
    assert texts(write("c.csv", f"text\n{long}\n")) == [long]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": "a"}\n\n{"text": "b"}', ["a", "b"]),
        ('\ufeff\n {"text": "\u00e9\\u00e9"}\r\n', ["\u00e9\u00e9"]),
        ('\n [{"text": "a"},\n\n{"text": "b"}\n]\n', ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ('[\n {\n  "text": "a"\n }\n]', ["a"]),
        ('{\n  "text": "a",\n  "id": {\n    "b": 1\n  }\n}\n', ["a"]),
        ('{"text": "a",\n "id": 1}', ["a"]),
        ("[]", []),
        ("\n \n", []),
    ],
)
def test_json(content, expected):
    assert texts(write("a.json", content)) == expected


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_parquet(kind, monkeypatch):
    monkeypatch.setattr(rows, "_PARQUET_ROWS", 3)
    values = [f"\u00e9{number}" for number in range(20)]
    table = pa.table({"other": range(20), "text": pa.array(values).cast(kind)})
    pq.write_table(table, "a.parquet", row_group_size=7)
    assert texts("a.parquet") == values
    assert texts("a.parquet", start=9, step=4) == values[9::4]


def test_parquet_groups_before_the_start_are_not_read(monkeypatch):
    pq.write_table(pa.table({"text": [str(number) for number in range(20)]}), "a.parquet", row_group_size=5)
    read, iterate = [], pq.ParquetFile.iter_batches

    def iter_batches(self, *args, row_groups, **kwargs):
        read.extend(row_groups)
        return iterate(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    assert texts("a.parquet", start=12, step=7) == ["12", "19"]
    assert read == [2, 3]


def test_lines_of_others_are_not_parsed(monkeypatch):
    name = write("a.jsonl", "".join(f'{{"text": "{number}"}}\n' for number in range(20)))
    parsed, parse_line = [], rows._parse_line
    monkeypatch.setattr(rows, "_parse_line", lambda line: parsed.append(line) or parse_line(line))
    assert texts(name, start=11, step=5) == ["11", "16"]
    assert len(parsed) == 2


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("gz", gzip.compress), ("bz2", partial(bz2.compress, compresslevel=1)), ("xz", lzma.compress)],
)
def test_compressed_files_and_damage(suffix, compress):
    lines = "".join(json.dumps({"text": f"{number} {zlib.crc32(b'%d' % number)}"}) + "\n" for number in range(10_000))
    content = compress(lines.encode())
    expected = [json.loads(line)["text"] for line in lines.splitlines()]
    assert texts(write(f"a.jsonl.{suffix}", content)) == expected
    cut = list(read_rows(write(f"b.jsonl.{suffix}", content[: len(content) // 2])))
    assert len(cut) > 1000
    assert [row.text for row in cut[:-1]] == expected[: len(cut) - 1]
    assert cut[-1].number is None
    assert cut[-1].problem.startswith(f"b.jsonl.{suffix} cannot be read beyond line {len(cut) - 1}: ")
    assert read_columns(write(f"c.csv.{suffix}", compress(b"t,u\n"))) == ("t", "u")
    assert problems(write(f"c.jsonl.{suffix}", "plain"))[0].startswith(f"c.jsonl.{suffix} cannot be read: ")


def test_zstandard_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(rows, "available_compressions", lambda: ["gzip"])
    with pytest.raises(ValueError, match=r"a\.txt\.zst is compressed with Zstandard: pip install zstandard"):
        kind_of("a.txt.zst")


def test_zstandard_is_opened_by_fsspec(monkeypatch):
    monkeypatch.setattr(rows, "available_compressions", lambda: ["zstd"])
    monkeypatch.setitem(rows.compr, "zstd", lambda stream, mode: io.BytesIO(stream.read()[::-1]))
    assert texts(write("a.txt.zst", b"olleh")) == ["hello"]


def test_urls():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/rows/a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    pq.write_table(pa.table({"text": ["c", "d"]}), "local.parquet")
    filesystem.pipe("/rows/a.parquet", Path("local.parquet").read_bytes())
    assert texts("memory://rows/a.jsonl.gz") == ["a", "b"]
    assert texts("memory://rows/a.parquet", start=1) == ["d"]


def test_sizes_of_files(monkeypatch):
    assert file_size(write("a.txt", b"12345")) == 5
    with pytest.raises(FileNotFoundError):
        file_size("nowhere.txt")
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/rows/a.txt", b"123")
    assert file_size("memory://rows/a.txt") == 3
    monkeypatch.setattr(type(filesystem), "info", lambda self, path: {"name": path})
    assert file_size("memory://rows/a.txt") is None


GOOD = '{"text": "good"}\n'
ONE_BAD_LINE_EACH = [
    "",
    '{"text": ',
    "[1, 2]",
    "5",
    '{"body": "a", "id": 1}',
    '{"text": null}',
    '{"text": ["a"]}',
    '{"text": "\\ud800"}',
    "[" * 100_000,
    "9" * 5000,
    '{"text": "a\udcff"}',
    '{"text": "a", "text": "b"}',
    '{"text": "last"}',
]
# File, content, and its texts and problems.
BAD_FILES = [
    (
        "a.jsonl",
        GOOD + "\n".join(ONE_BAD_LINE_EACH),
        [
            "good",
            "a.jsonl, line 3: this is not JSON (Expecting value, column 9).",
            "a.jsonl, line 4: expected an object with a key for each column, got [1, 2].",
            "a.jsonl, line 5: expected an object with a key for each column, got 5.",
            "a.jsonl, line 6: no column 'text', but body, id; choose one with --text_column.",
            "a.jsonl, line 7: 'text' must be text, got None.",
            "a.jsonl, line 8: 'text' must be text, got ['a'].",
            "a.jsonl, line 9: this holds half of a surrogate pair (\\ud800), which is no character.",
            "a.jsonl, line 10: this JSON cannot be read",
            "a.jsonl, line 11: this JSON cannot be read (Exceeds the limit",
            "a.jsonl, line 12: this is not UTF-8 (byte 0xff).",
            "a.jsonl, line 13: the key 'text' appears twice.",
            "last",
        ],
    ),
    (
        "a.json",
        '[{"text": "first"}, {"text": "a", "text": "b"}, 3, {"id": 5}, {"text": 5},\n{"text": "x"} {"text": "never"}]',
        [
            "first",
            "a.json, row 2: the key 'text' appears twice.",
            "a.json, row 3: expected an object with a key for each column, got 3.",
            "a.json, row 4: no column 'text', but id; choose one with --text_column.",
            "a.json, row 5: 'text' must be text, got 5.",
            "a.json, line 2: this is not JSON (Expecting ',' or ']' before another object).",
        ],
    ),
    (  # two bad lines at the beginning do not make a file of lines one object
        "c.json",
        '{"text": "a\n{"text": "b\n' + GOOD,
        ["c.json, line 1: this is not JSON", "c.json, line 2: this is not JSON", "good"],
    ),
    ("c.jsonl", "{\n\n" + GOOD, ["c.jsonl, line 1: this is not JSON", "good"]),
    ("c.tsv", "text\ta\tb\nx\t1\t2\n\t\ny\t3\t4", ["x", "c.tsv, line 3: expected 3 cells", "y"]),
    ("b.json", '[{"text": "a"},\n{"text": 2,}]', ["a", "b.json, line 2: this is not JSON"]),
    ("b.json", '[{"text": "a"}] []', ["b.json, line 1: this is not JSON (Extra data)."]),
    ("b.json", "[" * 100_000, ["b.json, line 1: this JSON cannot be read"]),
    ("b.json", '{\n"text": \n5,\n}', ["b.json, line 4: this is not JSON"]),
    (
        "a.csv",
        'id,text\n1,a\n2\n3,b,c\n4,\udce9\n5,"two\nlines"\n6,e\n7,"opened\n8,f\n',
        [
            "a",
            "a.csv, line 3: expected 2 cells, as in the header, got 1.",
            "a.csv, line 4: expected 2 cells, as in the header, got 3. Texts with commas need quotation marks.",
            "a.csv, line 5: this is not UTF-8 (byte 0xe9).",
            "two\nlines",
            "e",
            "a.csv, line 9: a quotation mark is opened here and never closed.",
        ],
    ),
    ("a.tsv", "id\ttext\n1\ta\n2\n", ["a", "a.tsv, line 3: expected 2 cells, as in the header, got 1."]),
    ("b.csv", "id,body\n1,a\n", ["b.csv has no column 'text', but id, body; choose one with --text_column."]),
    ("b.csv", "text,text\na,b\n", ["b.csv, line 1: two columns have the name 'text'."]),
    ("b.csv", "\ntext,id\n", ["b.csv, line 1: this line is empty, but must name the columns."]),
    ("b.csv", "text,id\na,1\n".encode("utf-16"), ["b.csv, line 1: this is not UTF-8 (byte 0xff)."]),
    ("a.txt", "a\nb\udce9\nc\n", ["a", "a.txt, line 2: this is not UTF-8 (byte 0xe9).", "c"]),
    ("b.txt", "", ["b.txt is empty."]),
    ("c.csv", "", ["c.csv is empty."]),
    ("b.jsonl", "", ["b.jsonl is empty."]),
    ("a.parquet", "plain", ["a.parquet cannot be read: Parquet file size is 5 bytes"]),
]


@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES)
def test_bad_rows_are_named(name, content, expected):
    found = problems(write(name, content), text_unit="line")
    assert len(found) == len(expected)
    assert all(map(str.startswith, found, expected))
    first = next(problem for problem in found if problem.startswith(name))
    if "choose one" not in first and not name.endswith(".txt"):  # whole records are as hard to please
        with pytest.raises(ValueError, match=f"^{re.escape(first)}$"):
            list(read_records(Path(name)))


@pytest.mark.parametrize(("name", "content"), [("a.csv", "t,u\n"), ("a.jsonl", " \n"), ("a.json", "[]")])
def test_files_without_rows(name, content):
    assert texts(write(name, content), column="t") == []
    with pytest.raises(ValueError, match=f"{name} has no rows"):
        list(read_records(Path(name)))


def test_a_bad_line_that_looks_like_an_array():
    assert problems(write("a.jsonl", "[broken\n" + GOOD * 2))[1:] == ["good", "good"]
    assert problems(write("b.json", '["a"]\n' + GOOD * 2))[1:] == ["good", "good"]
    assert problems(write("b.json", '{"text": \n' + GOOD * 2))[1:] == ["good", "good"]
    assert problems(write("a.jsonl", '{"text": \n{"id": \n' + GOOD * 2))[2:] == ["good", "good"]
    assert problems(write("a.jsonl", '{\n"text": "whole"\n}\n')) == ["whole"]


def test_bad_texts_are_whole_units():
    name = write("a.txt", b"a\nb\n\nc\nd\xe9\n\ne\n")
    assert problems(name, text_unit="document") == ["a.txt, line 5: this is not UTF-8 (byte 0xe9)."]
    bad = "a.txt, line 5: this is not UTF-8 (byte 0xe9)."
    assert problems(name, text_unit="paragraph") == ["a\nb", bad, "e\n"]


def test_bad_rows_of_parquet():
    pq.write_table(pa.table({"text": ["a", None, "c"], "number": [1, 2, 3]}), "a.parquet")
    assert problems("a.parquet") == ["a", "a.parquet, row 2: 'text' must be text, got None.", "c"]
    assert problems("a.parquet", column="number") == [
        f"a.parquet, row {row}: 'number' must be text, got {row}." for row in (1, 2, 3)
    ]
    assert problems("a.parquet", column="body") == [
        "a.parquet has no column 'body', but text, number; choose one with --text_column."
    ]
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb"))
    pq.write_table(pa.table({"text": bad}), "b.parquet")
    assert problems("b.parquet") == ["a", "b.parquet, row 2: this is not UTF-8 (byte 0xff)."]
    assert [record.values["text"] for record in read_records(Path("b.parquet"))] == ["a", "\udcffb"]


def test_damaged_row_group_keeps_those_before():
    values = [f"{zlib.crc32(b'%d' % number)}" for number in range(4000)]
    pq.write_table(pa.table({"text": values}), "a.parquet", row_group_size=1000, use_dictionary=False)
    column = pq.ParquetFile("a.parquet").metadata.row_group(2).column(0)
    content = bytearray(Path("a.parquet").read_bytes())
    content[column.data_page_offset : column.data_page_offset + 200] = b"\xff" * 200
    found = list(read_rows(write("a.parquet", bytes(content))))
    assert [row.text for row in found[:-1]] == values[:2000]
    assert found[-1].number is None and found[-1].problem.startswith("a.parquet cannot be read beyond row 2000: ")


def test_files_out_of_reach_are_no_bad_rows():
    with pytest.raises(FileNotFoundError):
        list(read_rows("nowhere.jsonl"))
    with pytest.raises(IsADirectoryError):
        Path("folder.txt").mkdir()
        list(read_rows("folder.txt"))


# Whole records


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        # The line is the one in which a row begins.
        ("a.csv", 't,u\n"x\ny",1\n\nz,2\n', [("line 2", "x\ny", "1"), ("line 5", "z", "2")]),
        ("a.csv", "\ufefft,u\r\nx,1\r\n", [("line 2", "x", "1")]),
        ("a.csv", "t,u\nx,1\n \n\t\ny,2\n", [("line 2", "x", "1"), ("line 5", "y", "2")]),
        ("a.csv", 't,u\n"",\nNA,null', [("line 2", "", ""), ("line 3", "NA", "null")]),
        ("a.tsv", 't\tu\n"x\t1\n', [("line 2", '"x', "1")]),
        # Blank lines are empty texts where there is nothing but a text, except at the end.
        ("a.tsv", "t\nx\n\ny\n\n\n", [("line 2", "x"), ("line 3", ""), ("line 4", "y")]),
        ("a.jsonl", '{"t": "x"}\n\n{"t": null}\n', [("line 1", "x"), ("line 3", None)]),
        ("a.json", '[{"t": "x"},\n{"t": 1.5}]', [("row 1", "x"), ("row 2", 1.5)]),
        ("a.json", '{"t": ["x"]}\n{"t": true}', [("line 1", ["x"]), ("line 2", True)]),
    ],
)
def test_rows_and_their_places(name, content, rows):
    path = Path(write(name, content))
    assert [(record.place, *record.values.values()) for record in read_records(path)] == rows
    assert [place_of_row(path, row) for row in range(len(rows))] == [place for place, *_ in rows]


def test_parquet_is_read_by_column():
    pq.write_table(pa.table({"t": ["x", None], "u.v": [1, 2], "w": [[1], []]}), "a.parquet", row_group_size=1)
    records = list(read_records(Path("a.parquet"), ["w", "u.v"]))
    assert [(record.place, record.values) for record in records] == [
        ("row 1", {"u.v": 1, "w": [1]}),
        ("row 2", {"u.v": 2, "w": []}),
    ]
    assert place_of_row(Path("a.parquet"), 1) == "row 2"


def test_columns():
    assert read_columns(write("a.csv", "t,u\n")) == ("t", "u")
    # A key that the first object lacks is a column all the same.
    assert read_columns(write("a.jsonl", '{"u": 1}\n{"t": "x", "u": 2}\n')) == ("u", "t")
    pq.write_table(pa.table({"t": ["x"]}), "a.parquet")
    assert read_columns("a.parquet") == ("t",)


def test_classes_that_a_file_names():
    names = ClassLabel(names=["b", "a"])
    features = Features({"t": Value("string"), "one": names, "many": List(names)})
    rows = Dataset.from_dict({"t": ["x"], "one": [1], "many": [[0]]}, features=features)
    path = "a.parquet"
    rows.to_parquet(path)
    assert stored_classes(path, "one") == stored_classes(path, "many") == names
    assert stored_classes(path, "t") is None
    pq.write_table(pa.table({"one": [1]}), path)
    assert stored_classes(path, "one") is None
    assert stored_classes(write("a.json", json.dumps([{"one": 1}])), "one") is None
