# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The metrics of GLUE, CLUE and local data, as an `evaluate.Metric` that needs only numpy.

`evaluate.load("glue", task)` fetches a script from the Hub that needs scikit-learn and scipy. This module returns the
same numbers under the same keys without them:

    metric = GlueMetric("mrpc")                                                # imported from the package
    metric = evaluate.load("modeling_gau/glue/metrics.py", "mrpc")             # or loaded by path, without a network
    metric.compute(predictions=[0, 1], references=[0, 1])                      # {"accuracy": 1.0, "f1": 1.0}

Section 3 of Wang et al. 2018, "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding"
(arXiv 1804.07461), says which task has which metric. `clue` serves every task of CLUE. For other data there are
`single_label` (one of any number of classes), `multi_label` (any number of classes at once) and `regression`.
"""

import warnings
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np


_DESCRIPTION = (
    "Accuracy, F1, Matthews, Pearson and Spearman correlation, as each task of GLUE asks; accuracy and F1 for other "
    "classes, one or several a row."
)

_INPUTS = """
Args:
    predictions: one label id per row; for stsb and regression one score per row; for multi_label one list per row,
        with 1 for every class that applies and 0 for the others.
    references: the true label ids, scores or lists, in the same order.
Returns:
    a dictionary of floats with those of `accuracy`, `f1`, `matthews_correlation`, `pearson`, `spearmanr`, `f1_micro`
    and `f1_macro` that the task has. The accuracy of multi_label counts the rows with every class right.
"""

_CITATION = """@inproceedings{wang2019glue,
  title={{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author={Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer and Bowman, Samuel R.},
  booktitle={International Conference on Learning Representations},
  year={2019}
}"""


def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    return float((predictions == references).mean())


def binary_f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """F1 of label 1: 2 TP / (2 TP + FP + FN); 0 when label 1 is neither predicted nor true."""
    positives = np.count_nonzero(predictions == 1) + np.count_nonzero(references == 1)
    true_positives = np.count_nonzero((predictions == 1) & (references == 1))
    return 2.0 * true_positives / positives if positives else 0.0


def macro_f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """Mean F1, each class with the same weight, of the classes that are predicted or true in some row."""
    classes, ids = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, predicted = ids[: len(references)], ids[len(references) :]
    hits = np.bincount(true[true == predicted], minlength=len(classes))
    totals = np.bincount(true, minlength=len(classes)) + np.bincount(predicted, minlength=len(classes))
    return float((2.0 * hits / totals).mean())


def subset_accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """Share of rows, in (rows, classes) arrays, with every class right."""
    return float((predictions == references).all(axis=1).mean())


def _hits_and_totals(predictions: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2 TP and 2 TP + FP + FN of every class, whose quotient is its F1."""
    return 2.0 * (predictions * references).sum(axis=0), (predictions + references).sum(axis=0)


def multi_label_micro_f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """F1 over all cells of (rows, classes) arrays of 0 and 1; 0 when no class is predicted or true anywhere."""
    hits, totals = _hits_and_totals(predictions, references)
    return float(hits.sum() / max(totals.sum(), 1))


def multi_label_macro_f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """Mean F1 of all classes (columns); a class that is neither predicted nor true anywhere counts 0."""
    hits, totals = _hits_and_totals(predictions, references)
    return float((hits / np.maximum(totals, 1)).mean())


def matthews_correlation(predictions: np.ndarray, references: np.ndarray) -> float:
    """Matthews correlation for two or more classes (Gorodkin 2004); 0 when either side has one class only."""
    classes, ids = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, predicted = ids[: len(references)], ids[len(references) :]
    # float64: the product of two squared row counts overflows int64 at about fifty thousand rows.
    true_counts = np.bincount(true, minlength=len(classes)).astype(np.float64)
    predicted_counts = np.bincount(predicted, minlength=len(classes)).astype(np.float64)
    rows = float(len(true))
    covariance = np.count_nonzero(true == predicted) * rows - true_counts @ predicted_counts
    true_variance = rows**2 - true_counts @ true_counts
    predicted_variance = rows**2 - predicted_counts @ predicted_counts
    if true_variance == 0 or predicted_variance == 0:
        return 0.0
    return float(covariance / np.sqrt(true_variance * predicted_variance))


def pearson_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r in float64. NaN, with a warning, when one side is constant, since r is undefined then."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    if (first == first[0]).all() or (second == second[0]).all():
        warnings.warn("The correlation with a constant is undefined: returning NaN.", RuntimeWarning, stacklevel=2)
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    correlation = (first / np.linalg.norm(first)) @ (second / np.linalg.norm(second))
    return float(np.clip(correlation, -1.0, 1.0))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 in float64; equal values share the mean of their ranks."""
    _, ids, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[ids]


def spearman_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho: Pearson's r of the average ranks. NaN when a value is NaN or when one side is constant."""
    if np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    return pearson_correlation(average_ranks(first), average_ranks(second))


_ACCURACY = {"accuracy": accuracy}
_ACCURACY_AND_F1 = {"accuracy": accuracy, "f1": binary_f1}
_MATTHEWS = {"matthews_correlation": matthews_correlation}
_CORRELATIONS = {"pearson": pearson_correlation, "spearmanr": spearman_correlation}

TASK_METRICS = {
    "cola": _MATTHEWS,
    "sst2": _ACCURACY,
    "mrpc": _ACCURACY_AND_F1,
    "qqp": _ACCURACY_AND_F1,
    "stsb": _CORRELATIONS,
    "mnli": _ACCURACY,
    "mnli_matched": _ACCURACY,
    "mnli_mismatched": _ACCURACY,
    "qnli": _ACCURACY,
    "rte": _ACCURACY,
    "wnli": _ACCURACY,
    "hans": _ACCURACY,
    "ax": _MATTHEWS,
    "clue": _ACCURACY,
    "single_label": {"accuracy": accuracy, "f1_macro": macro_f1},
    "multi_label": {
        "accuracy": subset_accuracy,
        "f1_micro": multi_label_micro_f1,
        "f1_macro": multi_label_macro_f1,
    },
    "regression": _CORRELATIONS,
}


class GlueMetric(evaluate.Metric):
    """`GlueMetric(task)` with a task of `TASK_METRICS`; any other name is a ValueError."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in TASK_METRICS:
            raise ValueError(
                f"GLUE has no task {self.config_name!r}. Give one of {', '.join(TASK_METRICS)} as the second "
                'argument, for instance evaluate.load("modeling_gau/glue/metrics.py", "sst2").'
            )
        value = datasets.Value({"stsb": "float32", "regression": "float64"}.get(self.config_name, "int64"))
        value = datasets.Sequence(value) if self.config_name == "multi_label" else value
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": value, "references": value}),
            reference_urls=["https://gluebenchmark.com"],
            # The numpy format has no lists, and no floats of more than 32 bits.
            format=None if self.config_name in ("multi_label", "regression") else "numpy",
        )

    def _compute(self, predictions: np.ndarray | list, references: np.ndarray | list) -> dict[str, float]:
        if len(references) == 0:
            raise ValueError("There are no predictions: the metric of an empty split is undefined.")
        if self.config_name == "multi_label":
            predictions, references = _cells(predictions), _cells(references)
            if predictions.shape != references.shape:
                raise ValueError(
                    f"Predictions have {predictions.shape[1]} classes and references {references.shape[1]}: give both "
                    "the same number."
                )
        predictions, references = np.asarray(predictions), np.asarray(references)
        return {name: metric(predictions, references) for name, metric in TASK_METRICS[self.config_name].items()}


def _cells(rows: Sequence[Sequence[int]]) -> np.ndarray:
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        raise ValueError(
            "multi_label compares lists with one number for each class, all of one length; got lengths "
            f"{', '.join(map(str, sorted(widths)))}."
        )
    cells = np.array(rows)
    if not np.isin(cells, (0, 1)).all():
        raise ValueError("multi_label takes only 1, for a class that applies, and 0, for one that does not.")
    return cells
