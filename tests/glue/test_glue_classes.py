# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Precision, recall and F1 of every class, and the confusion matrix, against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics

from modeling_gau.glue.classes import class_rows, class_table, confusion_matrix, confusion_table, plot_confusion


NAMES = ("a", "b", "c")


@pytest.mark.parametrize("shape", [(200,), (200, 3)], ids=["one label", "several labels"])
def test_against_scikit_learn(shape):
    random = np.random.default_rng(0)
    predictions, references = (random.integers(0, 3 if len(shape) == 1 else 2, shape) for _ in range(2))
    rows = class_rows(NAMES, predictions, references, references[:50])
    found = [[row["precision"], row["recall"], row["f1"], row["validation"]] for row in rows]
    expected = metrics.precision_recall_fscore_support(references, predictions)
    assert np.array(found) == pytest.approx(np.array(expected).T)
    assert sum(row["train"] for row in rows) == (50 if len(shape) == 1 else references[:50].sum())
    if len(shape) == 1:
        assert (
            confusion_matrix(predictions, references, 3) == metrics.confusion_matrix(references, predictions)
        ).all()


def test_what_is_undefined_is_a_dash():
    never_predicted, not_there = class_rows(("a", "b"), np.array([1, 1]), np.array([0, 0]))
    assert math.isnan(never_predicted["precision"]) and never_predicted["recall"] == 0.0
    assert math.isnan(not_there["recall"]) and not_there["precision"] == 0.0
    assert class_table([never_predicted])[1] == ["a", "-", 2, "-", 0.0, 0.0]


def test_of_many_classes_the_frequent_confusions_are_listed():
    names = [f"class {number}" for number in range(30)]
    matrix = np.eye(30, dtype=int) * 9
    matrix[3, 7], matrix[8, 2] = 4, 5
    table = confusion_table(names, matrix.tolist())
    assert table == [["true", "predicted", "rows"], ["class 8", "class 2", "5"], ["class 3", "class 7", "4"]]
    assert confusion_table(names[:2], [[1, 0], [2, 3]])[1:] == [["class 0", "1", "0"], ["class 1", "2", "3"]]


def test_the_picture_of_a_confusion_matrix(tmp_path):
    path = tmp_path / "confusion.png"
    assert plot_confusion(["好", "坏"], [[3, 0], [0, 0]], path) == path and path.stat().st_size > 5000
    assert plot_confusion(["$10_or_$20", "$x^{$"], [[3, 0], [1, 2]], path) == path  # no formulas
    assert plot_confusion([str(number) for number in range(40)], np.eye(40, dtype=int).tolist(), path) is None
