# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The labels of a task: which classes there are, which output of the model is which class, and checks of every row."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets import ClassLabel, Dataset, LargeList, List, Value
from transformers import PreTrainedConfig
from transformers.utils import logging

from ..configuration_gau import GAUError
from ..text.files import place_of_row
from .local_files import HIDDEN_LABEL
from .tasks import LOCAL_TASK, PROBLEM_TYPES, GlueTask, local_text_columns, nearest_of


logger = logging.get_logger(__name__)


# The classes of a checkpoint


def saved_label_names(config: PreTrainedConfig) -> tuple[str, ...] | None:
    """Returns the classes of a checkpoint by id, None if it has no sequence classifier.

    Raises:
        ValueError: the ids have gaps, two have one name, or `id2label` and `label2id` contradict each other.
    """
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return None
    names, ids = config.id2label, {name: int(index) for name, index in (config.label2id or {}).items()}
    shown = f"The checkpoint's configuration has id2label {names}"
    if sorted(names) != list(range(len(names))) or len(set(names.values())) < len(names):
        raise GAUError(f"{shown}: ids must count 0, 1, ... and have different names. Correct its config.json.")
    # transformers makes up the map that is not given: LABEL_0, LABEL_1, ... contradict nothing.
    if not is_unnamed(sorted(ids, key=ids.get)) and any(ids.get(name) != index for index, name in names.items()):
        raise GAUError(
            f"{shown} and label2id {ids}, which contradict each other. Correct its config.json by what the classifier "
            "was trained on."
        )
    return tuple(names[index] for index in range(len(names)))


def is_unnamed(names: Sequence[str]) -> bool:
    """Whether these are LABEL_0, LABEL_1, ..., which transformers writes for classes without names."""
    return list(names) == [f"LABEL_{index}" for index in range(len(names))]


def model_label_names(
    task: GlueTask, saved: Sequence[str] | None, do_train: bool, ignore_mismatched_sizes: bool = False
) -> tuple[str, ...]:
    """Returns the classes in the order of the model's outputs, spelled as in the task.

    This is the order of the checkpoint's classifier, if it has the same classes, and otherwise that of the task. Names
    match if they differ only in capitals, spaces, hyphens or underscores ("NOT ENTAILMENT", "not_entailment").

    Args:
        task: the task of the data.
        saved: the classes of the checkpoint's classifier, None if it has none.
        do_train: whether the classifier will be trained.
        ignore_mismatched_sizes: whether a classifier of another size may be replaced.

    Raises:
        ValueError: the checkpoint's classifier has other classes and will not learn these.
    """
    if saved is None:
        return task.label_names
    if is_unnamed(saved) and len(saved) == len(task.label_names):
        if not (do_train or task.is_regression or is_unnamed(task.label_names)):
            logger.warning(
                f"The checkpoint names its classes {', '.join(saved)}, so labels are matched by number: 0 is "
                f"{task.label_names[0]}, and so on for {', '.join(task.label_names[1:])}. If results are worse than "
                "chance, correct id2label and label2id in its config.json."
            )
        return task.label_names
    matched = _match_names(saved, task.label_names)
    if matched is not None:
        return matched
    what = f"The checkpoint's classifier knows {', '.join(saved)}; {task.name} has {', '.join(task.label_names)}"
    if not do_train:
        hints = (nearest_of(name, task.label_names) for name in saved if name not in task.label_names)
        raise GAUError(
            f"{what}{next(filter(None, hints), '')}. Give a checkpoint that was trained on {task.name}, correct the "
            "names in its config.json, or add --do_train."
        )
    if len(saved) != len(task.label_names) and not ignore_mismatched_sizes:
        raise GAUError(f"{what}. Add --ignore_mismatched_sizes to start a new classifier on top of its encoder.")
    return task.label_names


def _match_names(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...] | None:
    """Returns `names` as `others` spell them, None if they are not the same names."""
    if set(names) == set(others):
        return tuple(names)
    by_key = {_spelling_key(name): name for name in others}
    keys = [_spelling_key(name) for name in names]
    match = len(by_key) == len(others) == len(names) and set(keys) == set(by_key)
    return tuple(by_key[key] for key in keys) if match else None


def _spelling_key(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


# The classes of local data


def infer_task(
    splits: Mapping[str, Dataset],
    saved_label_names: Sequence[str] | None = None,
    problem_type: str | None = None,
) -> GlueTask:
    """Returns the task of local data that have no task name.

    Floating-point labels make a regression, lists a multi-label problem, everything else a choice of one class. The
    classes are those of the training split, in the order of its `ClassLabel` or sorted. Without a training split they
    come from the checkpoint or, if its classes have no names, from the data.

    Args:
        splits: result of `load_splits`.
        saved_label_names: classes of the checkpoint's classifier, if it has one.
        problem_type: what the checkpoint was trained for (`config.problem_type`), if it says so.

    Raises:
        ValueError: the text columns are missing, neither data nor checkpoint tell the classes, or the labels are of
            another kind than the checkpoint's.
    """
    text_columns = local_text_columns(next(iter(splits.values())).column_names)
    labelled = next((rows for rows in splits.values() if not has_hidden_labels(rows)), None)
    found = None if labelled is None else _problem_of(labelled)
    if "train" in splits or saved_label_names is None:
        if labelled is None:
            raise GAUError(
                f"There are no labels in {', '.join(splits)}, and the checkpoint has no classifier. Give a fine-tuned "
                "checkpoint, or labelled rows to train on."
            )
        names, problem_type = _label_names(labelled), found
    else:
        names = _evaluated_names(labelled, tuple(saved_label_names))
        problem_type = _evaluated_problem(found, names, problem_type)
    metric = next(name for name, value in PROBLEM_TYPES.items() if value == problem_type)
    return replace(LOCAL_TASK, text_columns=text_columns, label_names=names, metric=metric, problem_type=problem_type)


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
    # A missing or hidden label is not a class: LabelEncoder refuses it and names its row.
    values = sorted(set(labels) - {None, "", HIDDEN_LABEL})
    if len(values) < 2:
        raise GAUError(f"Column label has only {', '.join(map(repr, values)) or 'no classes'}: give two or more.")
    return tuple(str(value) for value in values)


def _evaluated_names(labelled: Dataset | None, saved: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the checkpoint's names; if its classes have none, the names in the data."""
    if labelled is None or len(saved) == 1 or not is_unnamed(saved) or not _has_names(labelled):
        return saved
    names = _label_names(labelled)
    if len(names) != len(saved):
        raise GAUError(
            f"The checkpoint has {len(saved)} classes without names, the data {len(names)}: {', '.join(names)}. Name "
            "the checkpoint's in its config.json (id2label and label2id)."
        )
    return names


def _has_names(rows: Dataset) -> bool:
    feature = rows.features["label"]
    feature = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return isinstance(feature, ClassLabel) or feature.dtype in ("string", "large_string")


def _evaluated_problem(found: str | None, names: Sequence[str], saved: str | None) -> str:
    """Returns what a checkpoint was trained for; raises ValueError if the labels are of another kind."""
    multi_label = PROBLEM_TYPES["multi_label"]
    if saved is None:
        saved = found if found == multi_label else PROBLEM_TYPES["regression" if len(names) == 1 else "single_label"]
    if found is not None and (saved == multi_label) != (found == multi_label):
        option = next(name for name, value in PROBLEM_TYPES.items() if value == saved)
        raise GAUError(
            f"The checkpoint was trained for {saved}, but the labels of the data are for {found}. Lists are "
            f"multi-label data; for cells of text, give --problem_type {option}."
        )
    return saved


# From labels to ids


class LabelEncoder:
    """Turns the `label` values of a data set into the model's targets, and refuses values that it does not know.

    Classes may be given by name or by id. Ids count in the task's order, which may differ from the model's (see
    `model_label_names`).
    """

    def __init__(self, task: GlueTask, label_names: Sequence[str]):
        self.task = task
        self.ids = {name: index for index, name in enumerate(label_names)}
        # If names are numbers themselves, such as the ratings 1 to 5, a number is a name.
        if not any(name.isdigit() for name in task.label_names):
            self.ids |= {str(index): label_names.index(name) for index, name in enumerate(task.label_names)}
        # The classes true and false may be JSON's own values.
        for value, name in ((True, "true"), (False, "false")):
            if name in self.ids:
                self.ids.setdefault(str(value), self.ids[name])

    def __call__(self, values: Iterable[object]) -> list[int] | list[float] | list[list[float]]:
        """Returns for each value a class id of the model, a score, or for multi-label a 0 or 1 for every class."""
        if self.task.is_regression:
            return [_score(value) for value in values]
        if not self.task.is_multi_label:
            return [self.ids[_label_key(value)] for value in values]
        applying = ({self.ids[_label_key(label)] for label in labels} for labels in values)
        return [[float(index in ids) for index in range(len(self.task.label_names))] for ids in applying]

    def check(self, split: str, values: Iterable[object], path: str | None = None) -> None:
        """Raises ValueError for the first label that is missing, hidden, out of range or unknown.

        Args:
            path: the file that the values come from; the message then names the line.
        """
        for row, value in enumerate(values):
            if not self._is_valid(value):
                raise GAUError(f"{describe_row(split, row, path)}: {self._describe(value)}")

    def check_names(self, split: str, names: Sequence[str]) -> None:
        """Raises ValueError if a data set names classes that the task does not have. Their order does not matter."""
        unknown = [name for name in names if name not in self.ids]
        if unknown and not self.task.is_regression:
            raise GAUError(
                f"Split {split} has the classes {', '.join(names)}, but {self.task.name} has "
                f"{', '.join(self.task.label_names)}{nearest_of(unknown[0], self.task.label_names)}. Rename the "
                "classes of the data, or give the checkpoint or task that has them."
            )

    def _is_valid(self, value: object) -> bool:
        if self.task.no_label and value == self.task.no_label:
            return True
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
        allowed = f"Allowed: {self._allowed()}"
        if value is None or value == "":
            return f"the label is missing. {allowed}. Label the row, or remove it."
        if value == HIDDEN_LABEL and not self.task.is_regression:
            return (
                f"the label is {HIDDEN_LABEL}, which marks the hidden labels of test rows. {allowed}. To predict such "
                "rows, give --do_predict and --test_file; if it is a class of local data, --problem_type single_label."
            )
        if self.task.is_multi_label and not isinstance(value, list):
            return f"the label {value!r} is not a list of labels. {allowed}. Give --problem_type multi_label."
        value = self._unknown(value)[0] if self.task.is_multi_label else value
        hint = nearest_of(value, self.task.label_names) if isinstance(value, str) else ""
        return f"{self.task.name} has no label {value!r}{hint}. {allowed}. Correct the row, or remove it."

    def _allowed(self) -> str:
        if self.task.is_regression:
            return "a finite number" + (
                " from {:g} to {:g}".format(*self.task.label_range) if self.task.label_range else ""
            )
        names = enumerate(self.task.label_names)
        return ", ".join(name if name.isdigit() else f"{index} ({name})" for index, name in names)


def _label_key(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _score(value: object) -> float:
    """Returns the value as a number, NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def label_values(rows: Mapping[str, Sequence], feature: object) -> list[object]:
    """Returns the column `label` of a batch or data set, with the ids of a `ClassLabel` replaced by its names."""
    classes = _class_label(feature)
    if classes is None:
        return rows["label"][:]
    names = {HIDDEN_LABEL: HIDDEN_LABEL, None: None} | dict(enumerate(classes.names))
    if feature is classes:
        return [names[label] for label in rows["label"][:]]
    return [labels if labels is None else [names[label] for label in labels] for labels in rows["label"][:]]


def _class_label(feature: object) -> ClassLabel | None:
    """The `ClassLabel` that a feature is, or is a list of."""
    feature = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return feature if isinstance(feature, ClassLabel) else None


# Checks of all rows


def has_hidden_labels(rows: Dataset) -> bool:
    """Whether there is no `label` column, or one with only -1 and missing values."""
    if "label" not in rows.column_names:
        return True
    return all(label is None or label == HIDDEN_LABEL for label in rows["label"][:])


def check_labels(
    task: GlueTask, splits: Mapping[str, Dataset], encoder: LabelEncoder, files: Mapping[str, str] | None = None
) -> None:
    """Raises ValueError for the first label that is not allowed. Test splits may hide all of theirs.

    Args:
        files: split -> the file that it comes from, to name lines in messages.
    """
    for split, rows in splits.items():
        if split in task.test_splits.values() and has_hidden_labels(rows):
            continue
        feature = rows.features["label"]
        if _class_label(feature) is not None:
            encoder.check_names(split, _class_label(feature).names)
        encoder.check(split, label_values(rows, feature), (files or {}).get(split))


def describe_row(split: str, row: int, path: str | None = None) -> str:
    """Says where a row, counted from 0, stands: its line, if it comes from a file."""
    if path is None:
        return f"Split {split}, row {row + 1} (the first is row 1)"
    return f"{path}, {place_of_row(Path(path).expanduser(), row)} (Split {split}, row {row} counted from 0)"
