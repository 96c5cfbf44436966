# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Labels of a task: which there are, how each becomes a target of the model, and checks of every row."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets import ClassLabel, Dataset, LargeList, List, Value

from ..text.files import place_of_row
from .columns import Splits
from .label_maps import is_unnamed
from .label_types import HIDDEN_LABEL
from .tasks import LOCAL_TASK, PROBLEM_TYPES, GlueTask, local_text_columns, nearest_of


# What a task of one's own is


def infer_task(
    splits: Mapping[str, Dataset],
    saved_label_names: Sequence[str] | None = None,
    problem_type: str | None = None,
) -> GlueTask:
    """Says what local data without a task name is.

    Scores (a `label` of floating point) make a regression, lists a multi-label problem. Otherwise, one of several
    classes applies. The classes are those of the training split: in the order of its `ClassLabel`, or sorted. Without
    a training split they are those of the checkpoint or, if it has no classifier or one without names, of the data.

    Args:
        splits: what `load_splits` gives.
        saved_label_names: classes of the checkpoint's classifier, if it has one.
        problem_type: what the checkpoint says it was trained for (`config.problem_type`), where nothing is trained.

    Raises:
        ValueError: neither `sentence` nor `sentence1` and `sentence2` are there, nothing tells the classes, or the
            labels are of another kind than the checkpoint's.
    """
    text_columns = local_text_columns(next(iter(splits.values())).column_names)
    labelled = next((rows for rows in splits.values() if not has_hidden_labels(rows)), None)
    found = None if labelled is None else _problem_of(labelled)
    if "train" in splits or saved_label_names is None:
        if labelled is None:
            raise ValueError(_describe_no_labels(splits))
        names, problem_type = _label_names(labelled), found
    else:
        names = _evaluated_names(labelled, tuple(saved_label_names))
        problem_type = _evaluated_problem(found, names, problem_type)
    metric = next(name for name, value in PROBLEM_TYPES.items() if value == problem_type)
    return replace(LOCAL_TASK, text_columns=text_columns, label_names=names, metric=metric, problem_type=problem_type)


def _describe_no_labels(splits: Mapping[str, Dataset]) -> str:
    if any("label" in rows.column_names for rows in splits.values()):
        return "Column label is empty: training and evaluation need labels."
    return (
        f"Nothing tells the labels: there is no `label` column in {', '.join(splits)}, and the checkpoint has no "
        "classifier. Give a fine-tuned checkpoint, or train."
    )


def _problem_of(rows: Dataset) -> str:
    feature = rows.features["label"]
    if isinstance(feature, (List, LargeList)):
        return PROBLEM_TYPES["multi_label"]
    is_score = isinstance(feature, Value) and feature.dtype.startswith("float")
    return PROBLEM_TYPES["regression" if is_score else "single_label"]


def _label_names(rows: Dataset) -> tuple[str, ...]:
    classes = _class_label(rows.features["label"])
    if classes is not None:
        return tuple(classes.names)
    problem_type = _problem_of(rows)
    if problem_type == PROBLEM_TYPES["regression"]:
        return ("score",)
    labels = rows["label"][:]
    if problem_type == PROBLEM_TYPES["multi_label"]:
        labels = [label for members in labels for label in members or ()]
    # A missing or hidden label is not a class: LabelEncoder reports it, with its row.
    values = sorted(set(labels) - {None, "", HIDDEN_LABEL})
    if len(values) < 2:
        is_what = f"holds {values[0]!r} and nothing else" if values else "holds no class"
        is_what += f" (and {HIDDEN_LABEL}, which stands for hidden labels)" if HIDDEN_LABEL in labels else ""
        raise ValueError(f"Column label {is_what}: two classes are the least that can be told apart.")
    return tuple(str(value) for value in values)


def _evaluated_names(labelled: Dataset | None, saved: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the checkpoint; where it has none, those of the data, if they are as many."""
    if labelled is None or len(saved) == 1 or not is_unnamed(saved) or not _has_names(labelled):
        return saved
    names = _label_names(labelled)
    if len(names) != len(saved):
        raise ValueError(
            f"The checkpoint has {len(saved)} classes without names, the data {len(names)}: {', '.join(names)}. Name "
            "those of the checkpoint in its config.json (id2label and label2id)."
        )
    return names


def _has_names(rows: Dataset) -> bool:
    feature = rows.features["label"]
    feature = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return isinstance(feature, ClassLabel) or feature.dtype in ("string", "large_string")


def _evaluated_problem(found: str | None, names: Sequence[str], saved: str | None) -> str:
    """The problem that a checkpoint was trained for; raises ValueError where the labels are of another kind."""
    if saved is None:
        is_multi_label = found == PROBLEM_TYPES["multi_label"]
        saved = found if is_multi_label else PROBLEM_TYPES["regression" if len(names) == 1 else "single_label"]
    if found is not None and (saved == PROBLEM_TYPES["multi_label"]) != (found == PROBLEM_TYPES["multi_label"]):
        option = next(name for name, value in PROBLEM_TYPES.items() if value == saved)
        raise ValueError(
            f"The checkpoint was trained for {saved}, the labels of the data are for {found}. Lists of labels make a "
            f"multi-label problem; --problem_type {option} says how cells of text are meant."
        )
    return saved


# Targets of the model


class LabelEncoder:
    """Turns the `label` values of a data set into what the model is trained on, and refuses those it does not know.

    Classes may be given by name or by id. Ids count in the task's order; the model's may differ (see
    `model_label_names`).
    """

    def __init__(self, task: GlueTask, label_names: Sequence[str]):
        self.task = task
        self.ids = {name: index for index, name in enumerate(label_names)}
        # Where names are numbers themselves, such as the 1 ... 5 of a rating, a number is a name.
        if not any(name.isdigit() for name in task.label_names):
            self.ids |= {str(index): label_names.index(name) for index, name in enumerate(task.label_names)}
        # JSON has values of its own for classes of these names.
        for value, name in ((True, "true"), (False, "false")):
            if name in self.ids:
                self.ids.setdefault(str(value), self.ids[name])

    def __call__(self, values: Iterable[object]) -> list[int] | list[float] | list[list[float]]:
        """Returns for every value a class id of the model, a score or, for multi-label, a 0 or 1 for every class."""
        if self.task.is_regression:
            return [_score(value) for value in values]
        if not self.task.is_multi_label:
            return [self.ids[_label_key(value)] for value in values]
        applying = ({self.ids[_label_key(label)] for label in labels} for labels in values)
        return [[float(index in ids) for index in range(len(self.task.label_names))] for ids in applying]

    def check(
        self, split: str, values: Iterable[object], path: str | None = None, kept: Sequence[int] | None = None
    ) -> None:
        """Raises ValueError for the first label that is missing, hidden, out of range or unknown.

        Args:
            path: the file that the values were read from, as `read_table` does. Its line is then named.
            kept: where rows were left out, the numbers that the others had, from 0.
        """
        for row, value in enumerate(values) if kept is None else zip(kept, values, strict=True):
            if not self._is_valid(value):
                raise ValueError(f"{describe_row(split, row, path)}: {self._describe(value)}")

    def check_names(self, split: str, names: Sequence[str]) -> None:
        """Raises ValueError where a data set names classes that the task has not. Their order does not matter."""
        unknown = [name for name in names if name not in self.ids]
        if unknown and not self.task.is_regression:
            raise ValueError(
                f"Split {split} has the classes {', '.join(names)}, {self.task.name} has "
                f"{', '.join(self.task.label_names)}{nearest_of(unknown[0], self.task.label_names)}. Ids mean nothing "
                "where names differ: rename the classes of the data, or give the checkpoint or task that has them."
            )

    def _is_valid(self, value: object) -> bool:
        if self.task.is_multi_label:
            return isinstance(value, list) and not self._unknown(value)
        if not self.task.is_regression:
            return _label_key(value) in self.ids
        lowest, highest = self.task.label_range or (-math.inf, math.inf)
        score = _score(value)
        return math.isfinite(score) and lowest <= score <= highest

    def _unknown(self, labels: Iterable[object]) -> list[object]:
        return [label for label in labels if _label_key(label) not in self.ids]

    def _describe(self, value: object) -> str:
        if self.task.is_regression:
            within = " from {:g} to {:g}".format(*self.task.label_range) if self.task.label_range else ""
            allowed = f"a finite number{within}"
        else:
            names = enumerate(self.task.label_names)
            allowed = ", ".join(name if name.isdigit() else f"{index} ({name})" for index, name in names)
        if value is None or value == "":
            return f"the label is missing. Allowed: {allowed}. Remove the row, or label it."
        if value == HIDDEN_LABEL and not self.task.label_range:
            allowed += "; -1 stands for the hidden labels of a test split, which is for --do_predict with --test_file"
        if self.task.is_multi_label and not isinstance(value, list):
            return (
                f"the label {value!r} is no list of labels. Allowed in it: {allowed}. Give --problem_type multi_label."
            )
        value = self._unknown(value)[0] if self.task.is_multi_label else value
        hint = nearest_of(value, self.task.label_names) if isinstance(value, str) else ""
        return (
            f"the label {value!r} is not one of {self.task.name}{hint}. Allowed: {allowed}. Correct or remove the row."
        )


def _label_key(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _score(value: object) -> float:
    """NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def label_values(rows: Mapping[str, Sequence], feature: object) -> list[object]:
    """The column `label` of a batch or a data set; ids of a `ClassLabel` become the names that it has for them."""
    classes = _class_label(feature)
    if classes is None:
        return rows["label"][:]
    # -1 stands for a label that is hidden.
    names = {HIDDEN_LABEL: HIDDEN_LABEL, None: None} | dict(enumerate(classes.names))

    def name(label: int | None) -> str | int | None:
        return names.get(label, f"id {label}, beyond the data's own classes")

    if feature is classes:
        return [name(label) for label in rows["label"][:]]
    return [labels if labels is None else [name(label) for label in labels] for labels in rows["label"][:]]


def _class_label(feature: object) -> ClassLabel | None:
    """The `ClassLabel` that a feature is, or is a list of."""
    feature = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return feature if isinstance(feature, ClassLabel) else None


# Checks of all rows


def has_hidden_labels(rows: Dataset) -> bool:
    """Whether nothing is known of the labels: no such column, or only -1 and missing values in it."""
    if "label" not in rows.column_names:
        return True
    return all(label is None or label == HIDDEN_LABEL for label in rows["label"][:])


def check_columns(task: GlueTask, split: str, rows: Dataset, needs_label: bool) -> None:
    """Raises ValueError when a column is missing, is not text, or has rows of None. An empty text is a text."""
    needed = (*task.text_columns, "label") if needs_label else task.text_columns
    missing = [column for column in needed if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"Split {split} has no column {' and no column '.join(missing)}. {task.name} needs {', '.join(needed)}; "
            f"there is {', '.join(rows.column_names)}. Rename columns, or give the --task_name that has these."
        )
    for column in task.text_columns:
        if rows.features[column] not in (Value("string"), Value("large_string")):
            raise ValueError(f"Split {split}: column {column} must be text, but it is {rows.features[column]}.")
        texts = rows[column][:]
        if None in texts:
            raise ValueError(f"{describe_row(split, texts.index(None))}: the text {column!r} is missing.")


def check_splits(task: GlueTask, splits: Mapping[str, Dataset], encoder: LabelEncoder) -> None:
    """Raises ValueError for the first split with a missing column, text or label, or a label that is not allowed."""
    files, kept = (splits.files, splits.kept) if isinstance(splits, Splits) else ({}, {})
    for split, rows in splits.items():
        is_test = split in task.test_splits.values()
        check_columns(task, split, rows, needs_label=not is_test)
        if not (is_test and has_hidden_labels(rows)):
            feature = rows.features["label"]
            if _class_label(feature) is not None:
                encoder.check_names(split, _class_label(feature).names)
            encoder.check(split, label_values(rows, feature), files.get(split), kept.get(split))


def describe_row(split: str, row: int, path: str | None = None) -> str:
    """Where a row stands: its line in a file, if it is from one; `row` counts from 0."""
    if path is None:
        return f"Split {split}, row {row + 1} (the first is row 1)"
    return f"{path}, {place_of_row(Path(path).expanduser(), row)} (Split {split}, row {row} counted from 0)"
