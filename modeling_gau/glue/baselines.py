# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a model has to beat: a constant answer, and a linear model on a bag of words.

The constant is the majority class, the most frequent labels if a row has several, or the mean of scores.

Both learn from the training rows and are measured on the validation rows of the model, with the same metrics. Nothing
is tuned: these are scikit-learn's own settings on TF-IDF features, with word overlaps added for pairs.

A model counts as better or worse only where the difference on the same rows is more than twice its standard error.
"""

import hashlib
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean, variance
from typing import Any

import numpy as np
from transformers.utils import is_sklearn_available

from .tasks import PROBLEM_TYPES, GlueTask


MODEL, BAG_OF_WORDS = "this model", "bag of words"
_ERROR = "mean_squared_error"
NEEDS_SCIKIT_LEARN = "To compare with a bag of words as well: pip install scikit-learn."

# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def compare_with_baselines(
    task: GlueTask,
    label_names: Sequence[str],
    predictions: np.ndarray,
    train: tuple[Sequence[Sequence[str]], Sequence],
    validation: tuple[Sequence[Sequence[str]], Sequence],
) -> dict[str, dict[str, Any]]:
    """Returns the metrics of the model, under `MODEL`, and of each baseline with the `lead` of the model over it.

    Args:
        predictions: of the model for the validation rows.
        label_names, train, validation: see [`measure_baselines`].
    """
    references = np.asarray(validation[1])
    compared = {MODEL: measure(task, label_names, predictions, references)}
    for name, others in _predict(task, train, validation[0]).items():
        metrics = measure(task, label_names, others, references)
        metric = _deciding_metric(task, compared[MODEL], metrics)
        compared[name] = metrics | {"lead": _lead(metric, predictions, others, references)}
    return compared


def measure_baselines(
    task: GlueTask,
    label_names: Sequence[str],
    train: tuple[Sequence[Sequence[str]], Sequence],
    validation: tuple[Sequence[Sequence[str]], Sequence],
) -> dict[str, dict[str, float]]:
    """Returns the metrics of each baseline by its name; only the constant one without scikit-learn.

    Args:
        label_names: the classes by the ids in the labels.
        train, validation: the texts of every text column, and the results of `LabelEncoder`.
    """
    references = np.asarray(validation[1])
    found = _predict(task, train, validation[0])
    return {name: measure(task, label_names, predictions, references) for name, predictions in found.items()}


def _predict(
    task: GlueTask, train: tuple[Sequence[Sequence[str]], Sequence], other_texts: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
    texts, labels = train[0], np.asarray(train[1])
    predictions = {_constant_name(task): _constant(task, labels, len(other_texts[0]))}
    if is_sklearn_available() and _is_learnable(task, texts, labels):
        digest = _digest([*texts, *other_texts], labels)
        predictions[BAG_OF_WORDS] = _linear_predictions(_Rows(digest, task.problem_type, texts, labels, other_texts))
    return predictions


def measure(task: GlueTask, label_names: Sequence[str], predictions: np.ndarray, references: np.ndarray) -> dict:
    """The metrics of a task, for a regression with the mean squared error, which alone tells how good the mean is."""
    with warnings.catch_warnings():  # the correlation with a constant
        warnings.simplefilter("ignore", RuntimeWarning)
        metrics = task.compute_metrics(predictions, references, label_names)
    error = {_ERROR: float(np.mean((predictions - references) ** 2))} if task.is_regression else {}
    return metrics | error


def not_beaten(compared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the names of the baselines that the model is not clearly better than.

    Args:
        compared: as [`compare_with_baselines`] returns it, or [`mean_comparison`].
    """
    return [name for name, metrics in compared.items() if "lead" in metrics and _verdict(metrics["lead"]) != _BETTER]


def in_words(metric: str) -> str:
    return {"pearson": "Pearson correlation", "f1_micro": "micro F1"}.get(metric, metric.replace("_", " "))


_BETTER, _WORSE, _UNCLEAR = (
    "{} is clearly better than {}.",
    "{} is clearly worse than {}.",
    "{} does not differ clearly from {}.",
)
_LEADS = "(± is one standard error of the difference, over {}; clear means more than two.)"


def comparison(compared: Mapping[str, Mapping[str, Any]], seeds: int = 1) -> str:
    """Says in a sentence for each verdict which baselines the model, or the mean of seeds, is better than."""
    by_verdict: dict[str, list[str]] = {}
    for name, metrics in compared.items():
        if "lead" in metrics:
            lead = metrics["lead"]
            difference = "{:+.3f} ± {:.3f}".format(*(float(lead[key]) for key in ("difference", "standard_error")))
            by_verdict.setdefault(_verdict(lead), []).append(f"the {name} ({in_words(lead['metric'])} {difference})")
    if not by_verdict:
        return ""
    model, over = (f"The mean of {seeds} seeds", "rows and seeds") if seeds > 1 else ("The model", "the same rows")
    sentences = [verdict.format(model, " and ".join(names)) for verdict, names in by_verdict.items()]
    return " ".join([*sentences, _LEADS.format(over)])


def mean_comparison(comparisons: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Returns the mean over seeds of what [`compare_with_baselines`] returns, without a lead where its metrics differ.

    The standard error counts the rows, which all seeds share, and the seeds: the mean of the squared errors, which is
    at least that of the mean, and the variance of the differences over the number of seeds.
    """
    found: dict[str, dict[str, Any]] = {}
    # A run from before scikit-learn was installed has no bag of words.
    for name in (name for name in comparisons[0] if all(name in compared for compared in comparisons)):
        several = [compared[name] for compared in comparisons]
        found[name] = {key: fmean(float(one[key]) for one in several) for key in several[0] if key != "lead"}
        leads = [one["lead"] for one in several if "lead" in one]
        if len(leads) == len(several) and len({lead["metric"] for lead in leads}) == 1:
            differences, errors = ([float(one[key]) for one in leads] for key in ("difference", "standard_error"))
            between = variance(differences) / len(differences) if len(differences) > 1 else 0.0
            error = math.sqrt(fmean(error**2 for error in errors) + between)
            found[name]["lead"] = leads[0] | {"difference": fmean(differences), "standard_error": error}
    return found


def comparison_rows(compared: Mapping[str, Mapping[str, float]]) -> list[list[object]]:
    """A header, and the metrics of the model and of each baseline; "-" stands for what is undefined."""
    columns = list(compared[MODEL])
    values = {name: [float(metrics[column]) for column in columns] for name, metrics in compared.items()}
    header = ["", *(column.replace("_", " ") for column in columns)]
    return [header, *([name, *("-" if math.isnan(value) else value for value in row)] for name, row in values.items())]


def _verdict(lead: Mapping[str, Any]) -> str:
    difference, error = float(lead["difference"]), float(lead["standard_error"])
    if not abs(difference) > 2 * error:  # or undefined
        return _UNCLEAR
    return _BETTER if (difference > 0) != (lead["metric"] == _ERROR) else _WORSE


def _deciding_metric(task: GlueTask, *compared: Mapping[str, float]) -> str:
    """The key metric; the squared error where a score is constant and has no correlation."""
    return _ERROR if any(math.isnan(metrics[task.key_metric]) for metrics in compared) else task.key_metric


def _lead(metric: str, predictions: np.ndarray, others: np.ndarray, references: np.ndarray) -> dict[str, Any]:
    """The difference of a metric between two predictions for the same rows, and its standard error.

    The error is the jackknife's, which is exact for means over rows such as accuracy, around a difference of zero as
    in McNemar's test: there it is the root of the number of rows that one side alone has right, over all rows. For
    classes one such row more for each side counts, so that it takes six rows against none to be clear.
    """
    (own, own_without), (other, other_without) = (
        _with_and_without(metric, values, references) for values in (predictions, others)
    )
    rows, more = len(references), 0 if metric in (_ERROR, "pearson") else 2
    shares = rows * (own - other) - (rows - 1) * (own_without - other_without)
    error = math.sqrt((shares**2).sum() + more) / rows
    return {"metric": metric, "difference": float(own - other), "standard_error": error}


def _with_and_without(metric: str, predictions: np.ndarray, references: np.ndarray) -> tuple[float, np.ndarray]:
    """A metric of all rows, and `(rows,)` of what it is without each of them."""
    if metric == "f1_micro":
        hits = 2.0 * (predictions * references).sum(axis=1)
        parts, value = (hits, (predictions + references).sum(axis=1)), lambda hit, of: hit / np.maximum(of, 1)
    elif metric == "pearson":
        x, y = (values - values.mean(dtype=np.float64) for values in (predictions, references))
        parts, value = (np.ones(len(x)), x, y, x * x, y * y, x * y), _correlation
    else:
        ones = np.ones(len(references))
        rows = (predictions - references) ** 2 if metric == _ERROR else (predictions == references) * ones
        parts, value = (rows, ones), lambda total, count: total / count
    totals = [part.sum() for part in parts]
    with np.errstate(divide="ignore", invalid="ignore"):  # a single row, or a constant but for one row
        return value(*totals), value(*(total - part for total, part in zip(totals, parts, strict=True)))


def _correlation(rows, x, y, xx, yy, xy):
    """Pearson's r from sums over rows."""
    return (xy - x * y / rows) / np.sqrt((xx - x * x / rows) * (yy - y * y / rows))


def _constant_name(task: GlueTask) -> str:
    if task.is_regression:
        return "mean score"
    return "most frequent labels" if task.is_multi_label else "majority class"


def _constant(task: GlueTask, labels: np.ndarray, rows: int) -> np.ndarray:
    if task.is_regression:
        return np.full(rows, labels.mean())
    if task.is_multi_label:
        return np.tile(_most_frequent_labels(labels), (rows, 1))
    return np.full(rows, np.bincount(labels).argmax())


def _most_frequent_labels(labels: np.ndarray) -> np.ndarray:
    """`(classes,)` of 0 and 1: the constant answer with the best micro F1 on `labels`."""
    counts = labels.sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    said = len(labels) * np.arange(1, len(counts) + 1)
    best = np.argmax(2 * np.cumsum(counts[order]) / (said + counts.sum()))
    answer = np.zeros(len(counts), dtype=np.int64)
    answer[order[: best + 1]] = 1
    return answer


def _is_learnable(task: GlueTask, texts: Sequence[Sequence[str]], labels: np.ndarray) -> bool:
    has_words = any(_WORD.search(text) for column in texts for text in column)
    return has_words and (task.is_regression or task.is_multi_label or len(np.unique(labels)) > 1)


@dataclass(frozen=True)
class _Rows:
    """Training rows and the texts of others; equal where the digest is."""

    digest: str
    problem_type: str
    texts: Sequence[Sequence[str]] = field(compare=False, repr=False)
    labels: np.ndarray = field(compare=False, repr=False)
    other_texts: Sequence[Sequence[str]] = field(compare=False, repr=False)


def _digest(columns: Sequence[Sequence[str]], labels: np.ndarray) -> str:
    digest = hashlib.sha256(labels.tobytes())
    for column in columns:
        digest.update(f"{len(column)}:".encode())
        for text in column:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded) + encoded)
    return digest.hexdigest()


@lru_cache(maxsize=1)  # the runs of a study share their rows
def _linear_predictions(rows: _Rows) -> np.ndarray:
    print(f"Fitting a bag of words to the {len(rows.labels):,} training rows, to compare with.", flush=True)
    features, other_features = _features(rows.texts, rows.other_texts)
    with warnings.catch_warnings():  # of a class that no row or every row has
        warnings.simplefilter("ignore", UserWarning)
        return _linear_model(rows.problem_type).fit(features, rows.labels).predict(other_features)


def _linear_model(problem_type: str):
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if problem_type == PROBLEM_TYPES["regression"]:
        return Ridge()
    model = LogisticRegression(max_iter=1000)
    return OneVsRestClassifier(model) if problem_type == PROBLEM_TYPES["multi_label"] else model


# Features

_WORD = re.compile(r"\w+")
_MOST_FEATURES = 50_000  # more take time and bring little


def _features(texts: Sequence[Sequence[str]], other_texts: Sequence[Sequence[str]]) -> tuple:
    """TF-IDF features of the training rows and of others, one bag of words a text column."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    everything = [text for column in texts for text in column]
    unspaced = sum(len(_UNSPACED.findall(text)) for text in everything)
    if 4 * unspaced > sum(map(len, everything)):
        kind = {"analyzer": "char", "ngram_range": (1, 2)}
    else:
        kind = {"token_pattern": _WORD.pattern}
    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=_MOST_FEATURES, **kind)
    vectorizer.fit(everything)

    def features(columns: Sequence[Sequence[str]]):
        bags = [vectorizer.transform(column) for column in columns]
        overlaps = [_overlaps(*bags)] if len(bags) == 2 else []
        return hstack([*bags, *overlaps]).tocsr()

    return features(texts), features(other_texts)


def _overlaps(first, second) -> np.ndarray:
    """`(rows, 4)`: cosine, the shares of the words of each text that the other has, and the share of all words."""
    cosine = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    own = [np.diff(bag.indptr) for bag in (first, second)]
    shared = np.diff(first.astype(bool).multiply(second.astype(bool)).tocsr().indptr)
    union = own[0] + own[1] - shared
    shares = [shared / np.maximum(count, 1) for count in (*own, union)]
    return np.column_stack([cosine, *shares])
