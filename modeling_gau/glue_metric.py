# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The metrics of the GLUE benchmark as an `evaluate.Metric`, in numpy alone.

`evaluate.load("glue", task)` fetches a script from the Hub, and that script needs scikit-learn and scipy. This module
returns the same numbers under the same keys without either:

    metric = GlueMetric("mrpc")                                                # imported from the package
    metric = evaluate.load("modeling_gau/glue_metric.py", "mrpc")              # or loaded by path, without a network
    metric.compute(predictions=[0, 1], references=[0, 1])                      # {"accuracy": 1.0, "f1": 1.0}

Which task has which metric is stated in section 3 of Wang et al. 2018, "GLUE: A Multi-Task Benchmark and Analysis
Platform for Natural Language Understanding" (arXiv 1804.07461).
"""

import warnings

import datasets
import evaluate
import numpy as np


_DESCRIPTION = "Accuracy, F1, Matthews correlation, Pearson and Spearman correlation, as each task of GLUE asks."

_INPUTS = """
Args:
    predictions: one label id per row; for stsb one score per row.
    references: the true label ids, or scores, in the same order.
Returns:
    a dictionary of floats: `accuracy`, `f1`, `matthews_correlation`, `pearson`, `spearmanr`, as the task has them.
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


def matthews_correlation(predictions: np.ndarray, references: np.ndarray) -> float:
    """Matthews correlation for two or more classes (Gorodkin 2004); 0 when either side has one class only."""
    classes, ids = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, predicted = ids[: len(references)], ids[len(references) :]
    # float64: the product of two squared row counts leaves int64 behind at some fifty thousand rows.
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
    """Pearson's r in float64. NaN, with a warning, when one side is constant: the correlation is not defined then."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    if (first == first[0]).all() or (second == second[0]).all():
        warnings.warn("A correlation with a constant is not defined: NaN is returned.", RuntimeWarning, stacklevel=2)
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
}


class GlueMetric(evaluate.Metric):
    """`GlueMetric(task)` with a task of `TASK_METRICS`; any other name is a ValueError."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in TASK_METRICS:
            raise ValueError(
                f"GLUE has no task {self.config_name!r}. Give one of {', '.join(TASK_METRICS)} as the second "
                'argument, for instance evaluate.load("modeling_gau/glue_metric.py", "sst2").'
            )
        value = datasets.Value("float32" if self.config_name == "stsb" else "int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": value, "references": value}),
            reference_urls=["https://gluebenchmark.com"],
            format="numpy",
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        if len(references) == 0:
            raise ValueError("There are no predictions to compare: the metric of an empty split is not defined.")
        return {name: metric(predictions, references) for name, metric in TASK_METRICS[self.config_name].items()}
