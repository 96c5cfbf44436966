# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Where a classifier is right and wrong: precision, recall and F1 of every class, and the confusion matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers.utils import is_matplotlib_available

from ..runs.tables import aligned


_WIDEST_MATRIX = 12  # classes that the confusion matrix of a terminal has room for
_MOST_CLASSES = 25  # that a picture has room for
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


# The picture


def plot_confusion(names: Sequence[str], matrix: Sequence[Sequence[int]], path: str | Path) -> Path | None:
    """Draws a confusion matrix to a PNG file: rows by true and predicted class, coloured by the share of the true one.

    Args:
        names: of the classes.
        matrix: number of rows, true class by predicted class.
        path: of the file to write.

    Returns:
        The path; None with more classes than are readable, or without matplotlib (the extra `plot`).
    """
    if len(names) > _MOST_CLASSES or not is_matplotlib_available():
        return None
    from matplotlib.figure import Figure

    is_large, labels = len(names) > 10, _readable(names)
    side = 2 + (0.45 if is_large else 0.7) * len(names)
    figure = Figure(figsize=(side + 1, side), dpi=150)  # pyplot would look for a screen
    axes = figure.add_subplot()
    shares = [[rows / max(sum(line), 1) for rows in line] for line in matrix]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, line in enumerate(matrix):
        for predicted, rows in enumerate(line):
            share = shares[true][predicted]
            text = f"{rows:,}" if is_large or not rows else f"{rows:,}\n{share:.0%}"
            color = "white" if share > 0.6 else "0.6" if not rows else "black"
            axes.text(predicted, true, text, ha="center", va="center", fontsize=8, color=color)
    slanted = (
        {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        if max(map(len, labels)) > (3 if is_large else 8)
        else {}
    )
    axes.set_xticks(range(len(names)), labels, parse_math=False, **slanted)  # dollars in names are no formulas
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    numbered = "" if labels[0][:8] == names[0][:8] else ", by its place in the table"
    axes.set_xlabel(f"predicted class{numbered}")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the rows of the true class")
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.savefig(path, bbox_inches="tight")
    return Path(path)


def _readable(names: Sequence[str]) -> list[str]:
    """The names, shortened; numbers from 1 where matplotlib's own font lacks a character of them."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    if any(font.get_char_index(ord(character)) == 0 for name in names for character in name):
        return [str(number) for number in range(1, len(names) + 1)]
    return [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
