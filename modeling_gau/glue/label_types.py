# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Labels of local tables as they are in the file -> labels of one kind: names, ids, scores or lists."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from datasets import ClassLabel, List, Value

from ..text.files import check_value, kind_of, place_of_row, shorten, stored_classes
from .tasks import PROBLEM_TYPES


# Stands for the labels of test rows that are not given away, in the official GLUE data.
HIDDEN_LABEL = -1

_MULTI, _REGRESSION = PROBLEM_TYPES["multi_label"], PROBLEM_TYPES["regression"]
_ANSWERS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")


class LabelReader:
    """Turns the values of the label columns of a file into labels of one kind.

    Args:
        path: of the file, from which messages count the lines.
        columns: one column; or several, of 0 and 1, which are classes themselves.
        problem_type: one of `PROBLEM_TYPES.values()`. None: lists make a multi-label problem, numbers with a decimal
            point a regression, everything else classes.
        separator: between the labels of a cell of text, in a multi-label problem.
    """

    def __init__(self, path: Path, columns: Sequence[str], problem_type: str | None, separator: str):
        self.path, self.columns, self.problem_type, self.separator = path, columns, problem_type, separator

    def read(self, rows: Sequence[tuple]) -> tuple[object, list]:
        """Returns the feature of a column of `datasets` and its labels, None for those that are missing.

        Args:
            rows: of every row the values of the label columns.

        Raises:
            ValueError: for the first row whose label is of another type than those before, or than the problem needs.
        """
        if len(self.columns) > 1:
            return List(ClassLabel(names=list(self.columns))), [self._applying(*row) for row in enumerate(rows)]
        labels = [label for (label,) in rows]
        if self.problem_type == _MULTI or (self.problem_type is None and any(isinstance(one, list) for one in labels)):
            return self._lists(labels)
        return self._single_labels(labels)

    def _refuse(self, row: int, problem: str) -> NoReturn:
        raise ValueError(f"{self.path}, {place_of_row(self.path, row)}: {problem}")

    # Several labels of a row

    def _applying(self, row: int, cells: tuple) -> list[int] | None:
        """The numbers of the columns that hold a 1."""
        if all(cell in (None, "") for cell in cells) or all(str(cell) == str(HIDDEN_LABEL) for cell in cells):
            return None
        for column, cell in zip(self.columns, cells, strict=True):
            if str(cell).strip().casefold() not in _ANSWERS:
                self._refuse(row, f"{column!r} must be 0 or 1, got {shorten(cell)}.")
        return [number for number, cell in enumerate(cells) if _ANSWERS[str(cell).strip().casefold()]]

    def _lists(self, labels: Sequence[object]) -> tuple[object, list]:
        lists = [self._list(row, label) for row, label in enumerate(labels)]
        members = [(row, label) for row, labels in enumerate(lists) for label in labels or ()]
        self._check_alike(members)
        value = Value("int64" if members and isinstance(members[0][1], int) else "string")
        return List(self._classes(members) or value), lists

    def _list(self, row: int, label: object) -> list[str] | list[int] | None:
        if label is None or str(label) == str(HIDDEN_LABEL):
            return None
        members = self._parts(row, label) if isinstance(label, str) else label
        if not isinstance(members, list):
            self._refuse(row, f"{self.columns[0]!r} must be a list of names or of ids, got {shorten(label)}.")
        for member in members:
            is_label = type(member) in (str, int) and member != ""
            if not is_label or members.count(member) > 1:
                what = "is there twice" if is_label else "is neither a name nor an id"
                self._refuse(
                    row,
                    f"the label {shorten(member)} {what}. {self.columns[0]!r} lists the labels that apply; where 0 "
                    "and 1 say so for every class, give each class a column, and all of them to --label_column.",
                )
        return members

    def _parts(self, row: int, cell: str) -> list[str]:
        if cell.startswith("["):
            self._refuse(
                row,
                f"{self.columns[0]!r} is a list as programs write it ({shorten(cell)}). Write the names with "
                f"{self.separator!r} in between, or give json or parquet.",
            )
        return [part.strip() for part in cell.split(self.separator)] if cell.strip() else []

    # One label of a row

    def _single_labels(self, labels: Sequence[object]) -> tuple[object, list]:
        for row, label in enumerate(labels):
            if label is not None and (type(label) not in _KINDS or isinstance(label, list)):
                lists = " Lists go with --problem_type multi_label, and with no task of GLUE."
                hint = lists if isinstance(label, list) else ""
                self._refuse(row, f"{self.columns[0]!r} must be a name or a number, got {shorten(label)}.{hint}")
        labels = [None if label == "" else label for label in labels]
        if kind_of(self.path) == "csv":
            labels = self._parsed([None if label is None else label.strip() or None for label in labels])
        self._check_alike((row, label) for row, label in enumerate(labels) if label is not None)
        if self.problem_type == _REGRESSION:
            return Value("float64"), [self._score(row, label) for row, label in enumerate(labels)]
        if any(isinstance(label, float) for label in labels):
            return self._from_floats(labels)
        types = {str: "string", int: "int64", bool: "bool"}
        first = next((label for label in labels if label is not None), 0)
        return self._classes(enumerate(labels)) or Value(types[type(first)]), labels

    def _classes(self, ids: Iterable[tuple[int, object]]) -> ClassLabel | None:
        """The classes that the file names for its ids; raises ValueError for the first row with an id beyond them."""
        classes = stored_classes(self.path, self.columns[0])
        if classes is None:
            return None
        for row, number in ids:
            if isinstance(number, int) and number not in range(HIDDEN_LABEL, len(classes.names)):
                self._refuse(
                    row,
                    f"the label {number} is beyond the {len(classes.names)} classes that the file has names for: "
                    f"{', '.join(classes.names)}.",
                )
        return classes

    def _parsed(self, cells: Sequence[str | None]) -> list:
        """The cells of a text file as ids, or as scores, if all of them are such; otherwise as names."""
        if all(cell is None or _is_id(cell) for cell in cells):
            return [None if cell is None else int(cell) for cell in cells]
        fraction = next((row for row, cell in enumerate(cells) if cell and _FRACTION.fullmatch(cell)), None)
        if fraction is None or self.problem_type == _REGRESSION:  # of that every cell is checked later
            return list(cells)
        numbers = [None if cell is None else _number(cell) for cell in cells]
        wrong = next((row for row, cell in enumerate(cells) if cell is not None and numbers[row] is None), None)
        if wrong is None:
            return numbers
        # Decimal fractions are hardly names: beside them, what is no number is a mistake.
        if self.problem_type is None:
            self._refuse(
                wrong,
                f"the label {shorten(cells[wrong])} is no number, where {place_of_row(self.path, fraction)} has "
                f"{cells[fraction]}. If labels are names, give --problem_type single_label.",
            )
        return list(cells)

    def _from_floats(self, labels: Sequence[int | float | None]) -> tuple[object, list]:
        if self.problem_type is None:
            return Value("float64"), [None if label is None else float(label) for label in labels]
        for row, label in enumerate(labels):
            if label is not None and not math.isfinite(label):
                self._refuse(row, f"the label {label} is no class.")
        whole = [int(label) if label is not None and float(label).is_integer() else label for label in labels]
        if all(label is None or isinstance(label, int) for label in whole):
            return Value("int64"), whole
        return Value("string"), [None if label is None else str(label) for label in whole]

    def _score(self, row: int, label: str | bool | int | float | None) -> float | None:
        score = _number(label) if isinstance(label, str) else label
        if isinstance(score, bool) or (score is None and label is not None):
            self._refuse(row, f"the label {shorten(label)} is no number, as a regression needs.")
        return None if score is None else float(score)

    def _check_alike(self, labels: Iterable[tuple[int, object]]) -> None:
        """Raises ValueError for the first row, of rows with their labels, that is of another kind than the first."""
        first = None
        for row, label in labels:
            kind = _KINDS[type(label)]
            first = first or (row, kind)
            if kind != first[1]:
                self._refuse(
                    row,
                    f"the label {shorten(label)} is {kind}, where {place_of_row(self.path, first[0])} has "
                    f"{first[1]}. Write the labels of a file all in one way.",
                )
            problem = _problem_of(label)
            if problem:
                self._refuse(row, problem)


def _problem_of(label: str | bool | int | float) -> str | None:
    if isinstance(label, str):
        return check_value(label, "label")[1]
    if isinstance(label, int) and not -(2**63) <= label < 2**63:
        return f"the label {shorten(label)} is beyond the integers of 64 bits."
    return None


def _is_id(cell: str) -> bool:
    """Whether a cell is an integer as programs write it: "07" and "+1" are names."""
    return re.fullmatch(r"0|-?[1-9]\d{0,17}", cell, re.ASCII) is not None


def _number(cell: str) -> float | None:
    """The number in a cell, also NaN or infinite; None where it is none."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
