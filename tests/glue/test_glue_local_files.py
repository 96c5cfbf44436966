# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Columns of any names as the texts and labels of a task, and the kind of labels that a file holds."""

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from glue_runs import write

from modeling_gau.glue.arguments import ColumnOptions
from modeling_gau.glue.local_files import read_table
from modeling_gau.glue.tasks import GLUE_TASKS, LOCAL_TASK, PROBLEM_TYPES


SINGLE, MULTI, REGRESSION = PROBLEM_TYPES.values()


pytestmark = pytest.mark.usefixtures("private_cache")


def read(path: str, task=LOCAL_TASK, split: str = "train", **options) -> Dataset:
    return read_table(path, split, task, ColumnOptions(**options))


def read_labels(tmp_path, labels: list, suffix: str = ".jsonl", task=LOCAL_TASK, **options) -> tuple:
    """The feature of the labels and the labels."""
    rows = [{"sentence": f"text {row}", "label": label} for row, label in enumerate(labels)]
    table = read(write(tmp_path / f"rows{suffix}", rows), task, **options)
    return table.features["label"], list(table["label"])


# Which columns


ROW = {"question": "q", "passage": "p", "answer": "yes", "label": "-", "id": {"of": "no interest"}}


def test_columns_are_those_of_the_options_or_of_the_task(tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROW])
    pair = {"sentence1": "q", "sentence2": "p", "label": "yes"}
    assert read(path, text="question", text_pair="passage", labels=("answer",)).to_list() == [pair]
    assert read(path, text="passage").to_list() == [{"sentence": "p", "label": "-"}]
    qnli = {"question": "q", "sentence": "p", "label": "yes"}
    assert read(path, GLUE_TASKS["qnli"], text_pair="passage", labels=("answer",)).to_list() == [qnli]


@pytest.mark.parametrize(
    "task, options, message",
    [
        (LOCAL_TASK, {}, "column `sentence`.*the data has question, passage, answer, label, id.*--text_column"),
        (LOCAL_TASK, {"text": "Answers"}, r"Split train has no column Answers \(.*did you mean 'answer'"),
        (LOCAL_TASK, {"text": "question", "text_pair": "text"}, "has no column text .*needs question, text"),
        (LOCAL_TASK, {"text": "question", "labels": ("label", "score")}, "no column score .*evaluation need labels"),
        (GLUE_TASKS["rte"], {}, "no column sentence1 and no column sentence2 .*rte needs sentence1, sentence2"),
        (GLUE_TASKS["qnli"], {}, "no column sentence .*qnli needs question, sentence; the file has question, passage"),
    ],
)
def test_columns_that_are_not_there(tmp_path, task, options, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "rows.jsonl", [ROW]), task, **options)


def test_a_test_split_needs_no_labels(tmp_path):
    path = write(tmp_path / "rows.csv", [{"sentence": "one", "joy": 1}])
    assert read(path, split="test").column_names == ["sentence"]
    assert read(path, split="test", labels=("mood",)).column_names == ["sentence"]
    with pytest.raises(ValueError, match="Split test has no column fear"):
        read(path, split="test", labels=("joy", "fear"))
    with pytest.raises(ValueError, match="Split validation has no column label"):
        read(path, split="validation")


# Texts


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_any_text_is_a_text(tmp_path, suffix):
    texts = ["", "NA", "null", "None", "nan", "1", "true", " ", 'a "b", c', "line\nbreak"]
    for column in (texts, ["1", "2"]):
        path = write(tmp_path / f"rows{suffix}", [{"sentence": text, "label": 0} for text in column])
        assert read(path)["sentence"] == column


@pytest.mark.parametrize(
    "row, message",
    [
        ({"sentence": None, "label": 0}, "line 2: the text 'sentence' is missing or null"),
        ({"label": 0}, "line 2: the text 'sentence' is missing or null"),
        ({"sentence": 5, "label": 0}, "line 2: 'sentence' must be text, got 5"),
        ({"sentence": ["a"], "label": 0}, r"line 2: 'sentence' must be text, got \['a'\]"),
        ({"sentence": "\ud800", "label": 0}, "line 2: this holds half of a surrogate pair"),
    ],
)
def test_what_is_no_text(tmp_path, row, message):
    rows = [{"sentence": "one", "label": 0}, row]
    with pytest.raises(ValueError, match=rf"rows\.jsonl, {message}"):
        read(write(tmp_path / "rows.jsonl", rows))
    with pytest.raises(ValueError, match=message.replace("line 2", "line 1")):
        read(write(tmp_path / "rows.jsonl", rows[::-1]))


@pytest.mark.parametrize("text, message", [(None, "row 2: the text 'sentence' is missing"), (7, "row 1: .*got 5")])
def test_what_is_no_text_in_parquet(tmp_path, text, message):
    rows = [{"sentence": "one" if text is None else 5, "label": 0}, {"sentence": text, "label": 0}]
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "rows.parquet", rows))


# Labels


@pytest.mark.parametrize(
    "labels, options, kind, values",
    [
        ([1, 0], {}, "int64", [1, 0]),
        (["1", "0", None, ""], {}, "string", ["1", "0", None, None]),
        ([True, False], {}, "bool", [True, False]),
        ([1.5, 2], {}, "float64", [1.5, 2.0]),
        ([1, 2], {"problem_type": REGRESSION}, "float64", [1.0, 2.0]),
        (["1", "2.5"], {"problem_type": REGRESSION}, "float64", [1.0, 2.5]),
        ([1.0, 0.0], {"problem_type": SINGLE}, "int64", [1, 0]),
        ([1.5, 2.0], {"problem_type": SINGLE}, "string", ["1.5", "2"]),
        ([1.0, float("nan")], {"problem_type": SINGLE}, "int64", [1, None]),
        ([1234567.5, 1234567.25], {"problem_type": SINGLE}, "string", ["1234567.5", "1234567.25"]),
        ([0.1, 0.1 + 2e-16, 3e15], {"problem_type": SINGLE}, "string", ["0.1", str(0.1 + 2e-16), "3" + "0" * 15]),
        ([1.0, 0.0], {"task": GLUE_TASKS["sst2"]}, "int64", [1, 0]),
        ([2**63 - 1, -(2**63)], {}, "int64", [2**63 - 1, -(2**63)]),
        ([None, None], {}, "int64", [None, None]),
    ],
)
def test_kinds_of_labels(tmp_path, labels, options, kind, values):
    assert read_labels(tmp_path, labels, **options) == (Value(kind), values)


@pytest.mark.parametrize(
    "labels, options, kind, values",
    [
        ([-1, 1, None, 1], {}, "string", ["-1", "1", None, "1"]),
        ([-1, 0, 1], {"problem_type": SINGLE}, "string", ["-1", "0", "1"]),
        ([-1, 0, 1], {}, "int64", [-1, 0, 1]),
        ([-1, -1], {"problem_type": SINGLE}, "int64", [-1, -1]),
        ([-1, 1], {"task": GLUE_TASKS["sst2"]}, "int64", [-1, 1]),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_minus_one_may_be_a_class_of_local_data(tmp_path, suffix, labels, options, kind, values):
    feature, found = read_labels(tmp_path, labels, suffix, **options)
    assert (feature, list(found)) == (Value(kind), values)


@pytest.mark.parametrize(
    "cells, options, kind, values",
    [
        (["1", " 0", "", "-1"], {}, "int64", [1, 0, None, -1]),
        (["yes", "no ", ""], {}, "string", ["yes", "no", None]),
        (["1", "x"], {}, "string", ["1", "x"]),
        # What is written as no program writes an id is a name.
        (["+1", "-1"], {}, "string", ["+1", "-1"]),
        (["01", "02"], {}, "string", ["01", "02"]),
        (["1.5", "2", "nan"], {}, "float64", [1.5, 2.0, None]),
        (["1", "2"], {"problem_type": REGRESSION}, "float64", [1.0, 2.0]),
        (["1.0", "0.0"], {"problem_type": SINGLE}, "int64", [1, 0]),
        (["1.5", "beta"], {"problem_type": SINGLE}, "string", ["1.5", "beta"]),
        (["9" * 20, "1"], {}, "string", ["9" * 20, "1"]),
        (["9" * 5000, "1"], {}, "string", ["9" * 5000, "1"]),
        (["1_5.0", "x"], {}, "string", ["1_5.0", "x"]),
    ],
)
def test_cells_of_text_are_numbers_if_all_of_them_are(tmp_path, cells, options, kind, values):
    feature, labels = read_labels(tmp_path, cells, ".csv", **options)
    assert feature == Value(kind)
    assert labels == pytest.approx(values, nan_ok=True) if kind == "float64" else labels == values


@pytest.mark.parametrize(
    "labels, suffix, options, feature, values",
    [
        ([["b", "a"], []], ".jsonl", {}, List(Value("string")), [["b", "a"], []]),
        ([[2, 0], None], ".jsonl", {}, List(Value("int64")), [[2, 0], None]),
        ([["b"], "a, b"], ".jsonl", {}, List(Value("string")), [["b"], ["a", "b"]]),
        ([["b", "a"], []], ".parquet", {}, List(Value("string")), [["b", "a"], []]),
        (["b, a", "", "c d"], ".csv", {"problem_type": MULTI}, List(Value("string")), [["b", "a"], [], ["c d"]]),
        (["b|a,c"], ".csv", {"problem_type": MULTI, "separator": "|"}, List(Value("string")), [["b", "a,c"]]),
        (["1,0", "-1"], ".csv", {"problem_type": MULTI}, List(Value("string")), [["1", "0"], None]),
    ],
)
def test_lists_of_labels(tmp_path, labels, suffix, options, feature, values):
    assert read_labels(tmp_path, labels, suffix, **options) == (feature, values)


@pytest.mark.parametrize("suffix, no, yes", [(".csv", 0, 1), (".csv", "0.0", "True"), (".jsonl", False, True)])
def test_a_column_for_every_class(tmp_path, suffix, no, yes):
    rows = [{"text": "a", "joy": no, "fear": yes}, {"text": "b", "joy": no, "fear": no}, {"text": "c"}]
    rows[2] |= {"joy": -1, "fear": -1}
    table = read(write(tmp_path / f"rows{suffix}", rows), text="text", labels=("joy", "fear"))
    assert table.features["label"] == List(ClassLabel(names=["joy", "fear"]))
    assert list(table["label"]) == [[1], [], None]


def test_classes_that_parquet_names_are_kept(tmp_path):
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["zebra", "ape"])})
    rows = Dataset.from_dict({"sentence": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    table = read(str(tmp_path / "rows.parquet"))
    assert table.features["label"] == features["label"] and list(table["label"]) == [1, 0, -1]


@pytest.mark.parametrize(
    "labels, suffix, options, message",
    [
        ([1, "x"], ".jsonl", {}, "line 2: the label 'x' is text, but line 1 has a number"),
        ([None, "x", 1], ".jsonl", {}, "line 3: the label 1 is a number, but line 2 has text"),
        ([True, 1], ".jsonl", {}, "line 2: the label 1 is a number, but line 1 has true or false"),
        ([1, {"a": 1}], ".jsonl", {}, r"line 2: 'label' must be a name or a number, got \{'a': 1\}"),
        ([1, [2]], ".jsonl", {}, r"line 1: .*list of names or ids.*got 1"),
        ([[1], ["a"]], ".jsonl", {}, "line 2: the label 'a' is text, but line 1 has a number"),
        ([["a"], ["b", None]], ".jsonl", {}, r"line 2: .*each once, by name or id; got \['b', None\]"),
        ([["a"], [""]], ".jsonl", {}, r"line 2: .*each once, by name or id; got \[''\]"),
        ([[1.0, 0.0]], ".jsonl", {}, r"line 1: .*got \[1.0, 0.0\]. To say 0 or 1 for every class"),
        ([[0, 1, 0]], ".jsonl", {}, r"line 1: .*got \[0, 1, 0\]. To say 0 or 1 for every class"),
        (["a", ["b"]], ".jsonl", {"problem_type": SINGLE}, r"line 2: .*got \['b'\]. Lists need .*multi_label"),
        ([0, [1]], ".jsonl", {"task": GLUE_TASKS["sst2"]}, r"line 2: .*must be a name or a number, got \[1\]"),
        (["1.5", "2", "high"], ".csv", {}, "line 4: the label 'high' is not a number, .* 2 has 1.5.*single_label"),
        (["1.5", "1_5.0"], ".csv", {}, "line 3: the label '1_5.0' is not a number, but line 2 has 1.5"),
        ([1, 10**20], ".jsonl", {}, "line 2: the label 10* is beyond the integers of 64 bits"),
        ([[1], [10**20]], ".jsonl", {}, "line 2: the label 10* is beyond the integers of 64 bits"),
        ([1.0, 1e20], ".jsonl", {"problem_type": SINGLE}, "line 2: the label 10* is beyond the integers of 64 bits"),
        (["a", "\ud800"], ".jsonl", {}, "line 2: this holds half of a surrogate pair"),
        ([["a"], ["\ud800"]], ".jsonl", {}, "line 2: this holds half of a surrogate pair"),
        ([1.0, float("inf")], ".jsonl", {"problem_type": SINGLE}, "line 2: the label inf is not a class"),
        (["1.5", "inf"], ".csv", {"problem_type": SINGLE}, "line 3: the label inf is not a class"),
        (["1", "high"], ".csv", {"problem_type": REGRESSION}, "line 3: the label 'high' is not a number"),
        ([1.5, True], ".jsonl", {"problem_type": REGRESSION}, "line 2: the label True is true or false"),
        (["a,", "b"], ".csv", {"problem_type": MULTI}, r"line 2: .*each once, by name or id; got \['a', ''\]"),
        (["a", "['b']"], ".csv", {"problem_type": MULTI}, "line 3: .* names or ids, or names separated by ',', got"),
    ],
)
def test_labels_of_the_wrong_kind(tmp_path, labels, suffix, options, message):
    with pytest.raises(ValueError, match=rf"rows\{suffix}, {message}"):
        read_labels(tmp_path, labels, suffix, **options)


@pytest.mark.parametrize("fear", ["2", ""])
def test_columns_of_classes_hold_0_and_1(tmp_path, fear):
    rows = [{"text": "a\nb", "joy": 1, "fear": 0}, {"text": "c", "joy": 1, "fear": fear}]
    with pytest.raises(ValueError, match=rf"rows\.csv, line 4: 'fear' must be 0 or 1, got '{fear}'"):
        read(write(tmp_path / "rows.csv", rows), text="text", labels=("joy", "fear"))


def test_ids_beyond_the_classes_that_parquet_names(tmp_path):
    names = Features({"sentence": Value("string"), "label": ClassLabel(names=["a", "b"])})
    table = Dataset.from_dict({"sentence": ["x", "y"], "label": [0, 7]}).data.table
    stored = Dataset.from_dict({"sentence": ["x"], "label": [0]}, features=names).data.table.schema.metadata
    pq.write_table(table.replace_schema_metadata(stored), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"row 2: the label 7 is beyond the 2 classes of the file: a, b"):
        read(str(tmp_path / "rows.parquet"))


# The cache


def test_a_file_that_changed_is_read_again(tmp_path):
    rows = [{"sentence": "one", "label": 1}]
    first = read(write(tmp_path / "rows.csv", rows))
    assert read(str(tmp_path / "rows.csv")).cache_files == first.cache_files
    other = read(write(tmp_path / "rows.csv", [*rows, {"sentence": "two", "label": 0}]))
    assert (len(first), len(other)) == (1, 2)
    scores = read(str(tmp_path / "rows.csv"), problem_type=REGRESSION)
    assert scores["label"] == [1.0, 0.0] and scores.features["label"] == Value("float64")
    anew = read_table(str(tmp_path / "rows.csv"), "train", LOCAL_TASK, ColumnOptions(), overwrite_cache=True)
    assert anew.cache_files != other.cache_files and anew.to_list() == other.to_list()
