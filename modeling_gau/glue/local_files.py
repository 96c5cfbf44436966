# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Local files as data sets: which columns are the texts and labels of a task, and what kind of labels they hold.

Whatever its columns are called and however it writes labels, a file becomes a `Dataset` with the task's own column
names and labels of one type, like the data sets of the Hub.
"""

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from datasets import ClassLabel, Dataset, Features, List, Value

from ..configuration_gau import GAUError
from ..text.files import (
    check_file,
    check_value,
    kind_of,
    place_of_row,
    read_columns,
    read_records,
    shorten,
    stored_classes,
)
from ..text.fingerprints import digest
from .arguments import ColumnOptions
from .tasks import PROBLEM_TYPES, SENTENCE, SENTENCES, GlueTask, local_text_columns, nearest_of


HIDDEN_LABEL = -1  # the official GLUE files write it in test rows, whose labels are secret

_MULTI_LABEL, _REGRESSION = PROBLEM_TYPES["multi_label"], PROBLEM_TYPES["regression"]
_ANSWERS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number"}


def read_table(
    name: str,
    split: str,
    task: GlueTask,
    options: ColumnOptions,
    cache_dir: str | None = None,
    overwrite_cache: bool = False,
) -> Dataset:
    """Reads a file into the columns of a task.

    The columns are the task's texts, as strings, and `label`, unless a test split has none: names (string), ids
    (int64), booleans, scores (float64), or for multi-label data lists of names or ids. Labels may be missing here.
    Texts may be empty, but not missing.

    Args:
        name: path of the file.
        split: a split of the task; only test splits may lack labels.
        task: `LOCAL_TASK` for data that belong to no benchmark.
        cache_dir: the cache of `datasets`; None for its default.
        overwrite_cache: ignore what the cache holds.

    Raises:
        ValueError: the file or a column is missing, or a row cannot be read or has a text or label of the wrong type.
            For rows, the message names the line, or in parquet files and json arrays the number of the row.
    """
    path = check_file(name)
    columns = read_columns(path)
    texts = choose_text_columns(task, options, split, name, columns)
    labels = choose_label_columns(task, options, split, name, columns)
    rows, raw_labels = _read_values(path, task, texts, labels)
    features = dict.fromkeys(rows, Value("string"))
    if labels:
        problem_type = options.problem_type if task.is_local else task.problem_type
        reader = LabelReader(path, labels, problem_type, options.separator)
        features["label"], rows["label"] = reader.read(raw_labels)
        if task.is_local and features["label"] == Value("int64"):
            is_stated = problem_type == PROBLEM_TYPES["single_label"]
            features["label"], rows["label"] = _name_minus_one(rows["label"], is_stated)
    return _cached(rows, Features(features), cache_dir, overwrite_cache)


def _name_minus_one(labels: list[int | None], is_stated: bool) -> tuple[Value, list]:
    """Makes -1 the name of a class if it stands beside 1 alone, or if the user says that labels are classes.

    Everywhere else it marks a hidden label.
    """
    values = set(labels) - {None}
    if HIDDEN_LABEL in values and (values == {-1, 1} or (is_stated and len(values) > 1)):
        return Value("string"), [None if label is None else str(label) for label in labels]
    return Value("int64"), labels


def _read_values(
    path: Path, task: GlueTask, texts: Mapping[str, str], labels: Sequence[str]
) -> tuple[dict[str, list[str]], list[tuple]]:
    """Returns the texts by their names in the task, and for every row the values of the label columns."""
    rows, raw_labels = {name: [] for name in (task.text_columns if task.prepare else texts)}, []
    for record in read_records(path, (*texts.values(), *labels)):
        place = f"{path}, {record.place}"
        found = task.texts_of({name: record.values.get(column) for name, column in texts.items()}, place)
        for name, values in rows.items():
            values.append(_check_text(found[name], texts[name], place))
        raw_labels.append(tuple(record.values.get(column) for column in labels))
    return rows, raw_labels


def _check_text(value: object, column: str, place: str) -> str:
    if value is None:
        raise GAUError(
            f'{place}: the text {column!r} is missing or null. Remove the row, or write an empty text as "".'
        )
    text, problem = check_value(value, column)
    if problem:
        raise GAUError(f"{place}: {problem}")
    return text


def _cached(rows: Mapping[str, list], features: Features, cache_dir: str | None, overwrite: bool) -> Dataset:
    """Makes a data set on disk: only such ones keep in the cache what `map` makes of them."""
    identity = json.dumps([rows, repr(features), *([time.time_ns()] if overwrite else [])])
    return Dataset.from_generator(
        _generate_rows,
        features=features,
        cache_dir=cache_dir,
        gen_kwargs={"columns": rows},
        fingerprint=digest(identity),
    )


def _generate_rows(columns: Mapping[str, list]) -> Iterator[dict]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


# Columns


def choose_text_columns(
    task: GlueTask, options: ColumnOptions, split: str, name: str, columns: Sequence[str]
) -> dict[str, str]:
    """Returns, for each of the task's `read_columns`, the column of the file; raises ValueError if one is missing."""
    if not task.is_local:
        names = task.read_columns
    elif options.text is None:
        names = local_text_columns(columns)
    else:
        names = SENTENCE if options.text_pair is None else SENTENCES
    given = dict(zip(names, (options.text, options.text_pair), strict=False))
    sources = {own: given[own] or own for own in names}
    _check_there(tuple(sources.values()), split, name, columns, f"{task.name} needs {', '.join(sources.values())}")
    return sources


def choose_label_columns(
    task: GlueTask, options: ColumnOptions, split: str, name: str, columns: Sequence[str]
) -> tuple[str, ...]:
    """Returns the label columns, none for a test split without labels; raises ValueError if one is missing."""
    labels = options.labels or ("label",)
    if split in task.test_splits.values() and not set(labels) & set(columns):
        return ()
    _check_there(labels, split, name, columns, "Training and evaluation need labels")
    return labels


def _check_there(wanted: Sequence[str], split: str, name: str, columns: Sequence[str], need: str) -> None:
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise GAUError(
            f"Split {split} has no column {' and no column '.join(missing)} ({name}). {need}; the file has "
            f"{', '.join(columns)}{nearest_of(missing[0], columns)}. Rename columns of the file, name them with "
            "--text_column, --text_pair_column and --label_column, or give the --task_name that has these columns."
        )


# Labels


class LabelReader:
    """Turns the raw values of the label columns of a file into labels of one type.

    Args:
        path: the file, to name lines in messages.
        columns: one column, or several that hold 1 where their class applies and 0 elsewhere.
        problem_type: one of `PROBLEM_TYPES.values()`. None infers it: lists make a multi-label problem, numbers with
            a decimal point a regression, everything else classes.
        separator: stands between the labels in one cell of text, for a multi-label problem.
    """

    def __init__(self, path: Path, columns: Sequence[str], problem_type: str | None, separator: str):
        self.path, self.columns, self.problem_type, self.separator = path, columns, problem_type, separator

    def read(self, rows: Sequence[tuple]) -> tuple[object, list]:
        """Returns the feature for a `Dataset` and the labels, None for missing ones.

        Args:
            rows: for every row the values of the label columns.

        Raises:
            ValueError: for the first label that has another type than those before, or than the problem needs.
        """
        if len(self.columns) > 1:
            return List(ClassLabel(names=list(self.columns))), [self._applying(*row) for row in enumerate(rows)]
        values = [None if value == "" else value for (value,) in rows]
        has_lists = any(isinstance(value, list) for value in values)
        if self.problem_type == _MULTI_LABEL or (self.problem_type is None and has_lists):
            return self._read_lists([value for (value,) in rows])
        return self._read_single_labels(values)

    def _refuse(self, row: int, problem: str) -> NoReturn:
        raise GAUError(f"{self.path}, {place_of_row(self.path, row)}: {problem}")

    def _check_alike(self, labels: Iterable[tuple[int, object]]) -> None:
        """Raises ValueError for the first of (row, label) that is of another kind than the first one, or no label."""
        first = None
        for row, label in labels:
            kind = _KINDS[type(label)]
            first = first or (row, kind)
            if kind != first[1]:
                self._refuse(
                    row,
                    f"the label {shorten(label)} is {kind}, but {place_of_row(self.path, first[0])} has {first[1]}. "
                    "Write all labels of a file in one way.",
                )
            problem = _problem_of(label)
            if problem:
                self._refuse(row, problem)

    def _stored_classes(self, ids: Iterable[tuple[int, object]]) -> ClassLabel | None:
        """Returns the class names that a parquet file stores for its ids; raises ValueError for an id beyond them."""
        classes = stored_classes(self.path, self.columns[0])
        for row, number in ids if classes else ():
            if isinstance(number, int) and number not in range(HIDDEN_LABEL, len(classes.names)):
                names = ", ".join(classes.names)
                self._refuse(
                    row, f"the label {number} is beyond the {len(classes.names)} classes of the file: {names}."
                )
        return classes

    # Several labels a row

    def _applying(self, row: int, cells: tuple) -> list[int] | None:
        """Returns the numbers of the columns that hold 1."""
        if all(cell in (None, "") for cell in cells) or all(str(cell) == str(HIDDEN_LABEL) for cell in cells):
            return None
        answers = [_ANSWERS.get(str(cell).strip().casefold()) for cell in cells]
        if None in answers:
            wrong = answers.index(None)
            self._refuse(row, f"{self.columns[wrong]!r} must be 0 or 1, got {shorten(cells[wrong])}.")
        return [number for number, applies in enumerate(answers) if applies]

    def _read_lists(self, values: Sequence[object]) -> tuple[object, list]:
        lists = [self._read_list(row, value) for row, value in enumerate(values)]
        members = [(row, label) for row, labels in enumerate(lists) for label in labels or ()]
        self._check_alike(members)
        value = Value("int64" if members and isinstance(members[0][1], int) else "string")
        return List(self._stored_classes(members) or value), lists

    def _read_list(self, row: int, value: object) -> list[str] | list[int] | None:
        if value is None or str(value) == str(HIDDEN_LABEL):
            return None
        column = self.columns[0]
        if isinstance(value, str) and not value.startswith("["):
            value = [part.strip() for part in value.split(self.separator)] if value.strip() else []
        if not isinstance(value, list):
            self._refuse(
                row,
                f"{column!r} must be a list of names or ids, or names separated by {self.separator!r}, got "
                f"{shorten(value)}.",
            )
        for label in value:
            if type(label) not in (str, int) or label == "" or value.count(label) > 1:
                self._refuse(
                    row,
                    f"{column!r} must list the labels that apply, each once, by name or id; got {shorten(value)}. To "
                    "say 0 or 1 for every class, give each class a column of its own, and all of them to "
                    "--label_column.",
                )
        return value

    # One label a row

    def _read_single_labels(self, labels: Sequence[object]) -> tuple[object, list]:
        for row, label in enumerate(labels):
            if label is not None and type(label) not in _KINDS:
                hint = " Lists need --problem_type multi_label." if isinstance(label, list) else ""
                self._refuse(row, f"{self.columns[0]!r} must be a name or a number, got {shorten(label)}.{hint}")
        if kind_of(self.path) == "csv":
            labels = self._parse([None if label is None else label.strip() or None for label in labels])
        self._check_alike((row, label) for row, label in enumerate(labels) if label is not None)
        if self.problem_type == _REGRESSION:
            return Value("float64"), [self._read_score(row, label) for row, label in enumerate(labels)]
        labels = [None if isinstance(label, float) and math.isnan(label) else label for label in labels]
        if any(isinstance(label, float) for label in labels):
            return self._read_floats(labels)
        types = {str: "string", int: "int64", bool: "bool"}
        first = next((label for label in labels if label is not None), 0)
        return self._stored_classes(enumerate(labels)) or Value(types[type(first)]), labels

    def _parse(self, cells: Sequence[str | None]) -> Sequence[str | int | float | None]:
        """Reads cells of text as ids or as scores if all of them are such; else as names."""
        if all(cell is None or _is_id(cell) for cell in cells):
            return [None if cell is None else int(cell) for cell in cells]
        numbers = [None if cell is None else _number(cell) for cell in cells]
        fraction = next((row for row, number in enumerate(numbers) if number is not None and "." in cells[row]), None)
        if fraction is None or self.problem_type == _REGRESSION:
            return cells
        wrong = next((row for row, cell in enumerate(cells) if cell is not None and numbers[row] is None), None)
        if wrong is None:
            return numbers
        # Decimal fractions are rarely names, so a single cell that is no number is a mistake.
        if self.problem_type is None:
            self._refuse(
                wrong,
                f"the label {shorten(cells[wrong])} is not a number, but {place_of_row(self.path, fraction)} has "
                f"{cells[fraction]}. If labels are names, give --problem_type single_label.",
            )
        return cells

    def _read_floats(self, labels: Sequence[int | float | None]) -> tuple[object, list]:
        if self.problem_type is None:
            return Value("float64"), [None if label is None else float(label) for label in labels]
        for row, label in enumerate(labels):
            if label is not None and not math.isfinite(label):
                self._refuse(row, f"the label {label} is not a class.")
        labels = [int(label) if label is not None and float(label).is_integer() else label for label in labels]
        if all(label is None or isinstance(label, int) for label in labels):
            self._check_alike((row, label) for row, label in enumerate(labels) if label is not None)
            return Value("int64"), labels
        return Value("string"), [None if label is None else str(label) for label in labels]

    def _read_score(self, row: int, label: str | bool | int | float | None) -> float | None:
        score = _number(label) if isinstance(label, str) else label
        if isinstance(score, bool) or (score is None and label is not None):
            self._refuse(row, f"the label {shorten(label)} is not a number, which a regression needs.")
        return None if score is None else float(score)


def _problem_of(label: str | bool | int | float) -> str | None:
    if isinstance(label, str):
        return check_value(label, "label")[1]
    if isinstance(label, int) and not -(2**63) <= label < 2**63:
        return f"the label {shorten(label)} is beyond the integers of 64 bits."
    return None


def _is_id(cell: str) -> bool:
    """Whether a cell is an integer of 64 bits as programs write it; "07" and "+1" are names."""
    return re.fullmatch(r"0|-?[1-9]\d{0,17}", cell, re.ASCII) is not None


def _number(cell: str) -> float | None:
    """Returns the number in a cell, which may be NaN or infinite, or None; "1_5" is a number only for Python."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
