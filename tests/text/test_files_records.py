# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Rows of csv, tsv, json, jsonl and parquet files: their values and their places, and files that are damaged."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from modeling_gau.text.files import place_of_row, read_columns, read_records, stored_classes


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
    return path


def read(path: Path) -> list[tuple]:
    return [(record.place, *record.values.values()) for record in read_records(path)]


@pytest.mark.parametrize(
    "name, content, rows",
    [
        # The line is the one in which a row begins.
        ("a.csv", 't,u\n"x\ny",1\n\nz,2\n', [("line 2", "x\ny", "1"), ("line 5", "z", "2")]),
        ("a.csv", "\ufefft,u\r\nx,1\r\n", [("line 2", "x", "1")]),
        ("a.csv", 't,u\n"",\nNA,null', [("line 2", "", ""), ("line 3", "NA", "null")]),
        ("a.tsv", 't\tu\n"x\t1\n', [("line 2", '"x', "1")]),
        # Blank lines are empty texts where there is nothing but a text, except at the end.
        ("a.tsv", "t\nx\n\ny\n\n\n", [("line 2", "x"), ("line 3", ""), ("line 4", "y")]),
        ("a.jsonl", '{"t": "x"}\n\n{"t": null}\n', [("line 1", "x"), ("line 3", None)]),
        ("a.json", '[{"t": "x"},\n{"t": 1.5}]', [("row 1", "x"), ("row 2", 1.5)]),
        ("a.json", '{"t": ["x"]}\n{"t": true}', [("line 1", ["x"]), ("line 2", True)]),
    ],
)
def test_rows_and_their_places(tmp_path, name, content, rows):
    path = write(tmp_path / name, content)
    assert read(path) == rows
    assert [place_of_row(path, row) for row in range(len(rows))] == [place for place, *_ in rows]


def test_parquet_is_read_by_column(tmp_path):
    pq.write_table(
        pa.table({"t": ["x", None], "u.v": [1, 2], "w": [[1], []]}), tmp_path / "a.parquet", row_group_size=1
    )
    records = list(read_records(tmp_path / "a.parquet", ["w", "u.v"]))
    assert [(record.place, record.values) for record in records] == [
        ("row 1", {"u.v": 1, "w": [1]}),
        ("row 2", {"u.v": 2, "w": []}),
    ]
    assert place_of_row(tmp_path / "a.parquet", 1) == "row 2"


@pytest.mark.parametrize("suffix, compress", [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_text_may_be_compressed(tmp_path, suffix, compress):
    path = write(tmp_path / f"a.csv{suffix}", compress(b"t,u\nx,1\n"))
    assert read_columns(path) == ("t", "u") and read(path) == [("line 2", "x", "1")]


def test_columns(tmp_path):
    assert read_columns(write(tmp_path / "a.csv", "t,u\n")) == ("t", "u")
    # A key that the first object lacks is a column all the same.
    assert read_columns(write(tmp_path / "a.jsonl", '{"u": 1}\n{"t": "x", "u": 2}\n')) == ("u", "t")
    pq.write_table(pa.table({"t": ["x"]}), tmp_path / "a.parquet")
    assert read_columns(tmp_path / "a.parquet") == ("t",)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "t,u\nx,1\ny\n", "line 3: expected 2 cells, as in the header, got 1"),
        (
            "a.csv",
            "t,u\nx, y,1\n",
            "line 2: expected 2 cells, as in the header, got 3. Texts with commas need quotation marks",
        ),
        ("a.csv", 't,u\nx,1\n"y,2\nz,3\n', "line 3: a quotation mark is opened here and never closed"),
        ("a.csv", "t,u\n\udcff,1\n", r"line 2: this is not UTF-8 \(byte 0xff\)"),
        ("a.csv", "t,u\nx,1\n".encode("utf-16"), r"line 1: this is not UTF-8 \(byte 0xff\)"),
        ("a.csv", "t,t\nx,1\n", "line 1: two columns have the name 't'"),
        ("a.csv", "\nt,u\n", "line 1: this line is empty, but must name the columns"),
        ("a.csv", "t,u\n", "a.csv has no rows"),
        ("a.jsonl", '{"t": 1}\n{"t": 1, "t": 2}\n', "line 2: the key 't' appears twice"),
        ("a.json", '[{"t": 1}, {"t": 1, "t": 2}]', "row 2: the key 't' appears twice"),
        ("a.json", '[{"t": 1}] []', "line 1: this is not JSON .Extra data"),
        ("a.jsonl", '{"t": 1}\n{"t": \n', r"line 2: this is not JSON \(Expecting value"),
        ("a.jsonl", '{"t": 1}\n[1]\n', r"line 2: expected an object with a key for each column, got \[1\]"),
        ("a.jsonl", '{"t": 1}\n{"t": "\udcff"}\n', r"line 2: this is not UTF-8 \(byte 0xff\)"),
        ("a.jsonl", " \n", "has no rows"),
        ("a.json", '[{"t": 1},\n{"t": 2,}]', "line 2: this is not JSON"),
        ("a.json", '[{"t": 1}, 3]', "row 2: expected an object"),
        ("a.json", "[]", "has no rows"),
        ("a.json", "[" * 100_000, "line 1: this JSON cannot be read"),
        ("a.parquet", "t,u", "cannot be read: "),
        ("a.jsonl.gz", gzip.compress(b'{"t": 1}\n' * 20_000)[:-12], r"cannot be read beyond line \d{4,}: "),
        ("a.csv.gz", "t,u\n", "cannot be read: Not a gzipped file"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read(path)


def test_parquet_text_that_is_not_utf8_is_kept_for_its_row(tmp_path):
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"x", b"\xff"]).buffers())
    pq.write_table(pa.table({"t": texts}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [("row 1", "x"), ("row 2", "\udcff")]


def test_classes_that_a_file_names(tmp_path):
    names = ClassLabel(names=["b", "a"])
    features = Features({"t": Value("string"), "one": names, "many": List(names)})
    rows = Dataset.from_dict({"t": ["x"], "one": [1], "many": [[0]]}, features=features)
    path = tmp_path / "a.parquet"
    rows.to_parquet(path)
    assert stored_classes(path, "one") == stored_classes(path, "many") == names
    assert stored_classes(path, "t") is None
    pq.write_table(pa.table({"one": [1]}), path)
    assert stored_classes(path, "one") is None
    assert stored_classes(write(tmp_path / "a.json", json.dumps([{"one": 1}])), "one") is None
