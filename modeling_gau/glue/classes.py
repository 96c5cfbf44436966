# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Where a classifier is right and wrong: precision, recall and F1 of every class, and the confusion matrix."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..runs.tables import aligned


_WIDEST_MATRIX = 12  # classes that the confusion matrix of a terminal has room for
_CONFUSIONS = 10  # pairs of classes to list where there are more


def confusion_matrix(predictions: np.ndarray, references: np.ndarray, classes: int) -> np.ndarray:
    """`(classes, classes)` counts of rows: true class by predicted class."""
    pairs = np.bincount(references * classes + predictions, minlength=classes**2)
    return pairs.reshape(classes, classes)


def class_rows(
    label_names: Sequence[str], predictions: np.ndarray, references: np.ndarray, train: np.ndarray | None = None
) -> list[dict[str, object]]:
    """Returns a row for every class: its training and validation rows, precision, recall and F1.

    Precision is NaN for a class that is never predicted, recall for one without validation rows.

    Args:
        predictions, references: `(rows,)` class ids, or `(rows, classes)` of 0 and 1.
        train: the labels of the training rows, if there are any.
    """
    predicted, true, trained = (
        None if labels is None else _applying(np.asarray(labels), len(label_names))
        for labels in (predictions, references, train)
    )
    hits, said, there = (predicted & true).sum(axis=0), predicted.sum(axis=0), true.sum(axis=0)
    with np.errstate(invalid="ignore"):
        scores = zip(hits / said, hits / there, 2 * hits / (said + there), strict=True)
    counts = [None] * len(label_names) if trained is None else trained.sum(axis=0).tolist()
    return [
        {"class": name, "train": count, "validation": rows, "precision": precision, "recall": recall, "f1": f1}
        for name, count, rows, (precision, recall, f1) in zip(
            label_names, counts, there.tolist(), ((float(score) for score in row) for row in scores), strict=True
        )
    ]


def _applying(labels: np.ndarray, classes: int) -> np.ndarray:
    """`(rows, classes)` booleans of class ids or of 0 and 1."""
    return labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(classes)


# Tables


def class_table(rows: Sequence[Mapping[str, object]]) -> list[list[object]]:
    """A header and the rows of [`class_rows`]; "-" stands for what is unknown or undefined."""
    header = ["class", "training rows", "validation rows", "precision", "recall", "F1"]
    return [header, *([_cell(row[name]) for name in rows[0]] for row in rows)]


def _cell(value: object) -> object:
    """A number that JSON does not have comes back from it as text."""
    return "-" if value is None or str(value).casefold() == "nan" else value


def printed_classes(rows: Sequence[Mapping[str, object]]) -> str:
    header, *body = class_table(rows)
    cells = ([f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in body)
    return aligned([header, *cells])


def frequent_confusions(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    """The most frequent mistakes, as true class, predicted class and rows."""
    mistakes = [
        (true, predicted, rows)
        for true, line in zip(names, matrix, strict=True)
        for predicted, rows in zip(names, line, strict=True)
        if rows and true != predicted
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:_CONFUSIONS]


def confusion_table(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[list[str]]:
    """The matrix with a header; of many classes, the most frequent mistakes instead."""
    if len(names) > _WIDEST_MATRIX:
        mistakes = frequent_confusions(names, matrix)
        return [["true", "predicted", "rows"], *([true, other, str(rows)] for true, other, rows in mistakes)]
    return [
        ["true \\ predicted", *names],
        *([name, *map(str, line)] for name, line in zip(names, matrix, strict=True)),
    ]
