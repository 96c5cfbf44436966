# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a model has to beat: a constant answer, and a linear model on a bag of words.

The constant is the majority class, the most frequent labels if a row has several, or the mean of scores.

Both learn from the training rows and are measured on the validation rows of the model, with the same metrics. Nothing
is tuned: these are scikit-learn's own settings on TF-IDF features, with word overlaps added for pairs.
"""

import hashlib
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from transformers.utils import is_sklearn_available

from .tasks import PROBLEM_TYPES, GlueTask


MODEL, BAG_OF_WORDS = "this model", "bag of words"
_ERROR = "mean_squared_error"
NEEDS_SCIKIT_LEARN = "To compare with a bag of words as well: pip install scikit-learn."

# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


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
    (texts, labels), (other_texts, references) = train, validation
    labels, references = np.asarray(labels), np.asarray(references)
    predictions = {_constant_name(task): _constant(task, labels, len(references))}
    if is_sklearn_available() and _is_learnable(task, texts, labels):
        digest = _digest([*texts, *other_texts], labels)
        predictions[BAG_OF_WORDS] = _linear_predictions(_Rows(digest, task.problem_type, texts, labels, other_texts))
    return {name: measure(task, label_names, values, references) for name, values in predictions.items()}


def measure(task: GlueTask, label_names: Sequence[str], predictions: np.ndarray, references: np.ndarray) -> dict:
    """The metrics of a task, for a regression with the mean squared error, which alone tells how good the mean is."""
    with warnings.catch_warnings():  # the correlation with a constant
        warnings.simplefilter("ignore", RuntimeWarning)
        metrics = task.compute_metrics(predictions, references, label_names)
    error = {_ERROR: float(np.mean((predictions - references) ** 2))} if task.is_regression else {}
    return metrics | error


def not_beaten(task: GlueTask, compared: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns the names of the baselines that are at least as good as the model.

    Args:
        compared: metrics by the name of a baseline, with those of the model under `MODEL`.
    """
    model = compared[MODEL]
    return [name for name, metrics in compared.items() if name != MODEL and not _is_better(task, model, metrics)]


def in_words(metric: str) -> str:
    return {"pearson": "Pearson correlation", "f1_micro": "micro F1"}.get(metric, metric.replace("_", " "))


def comparison(task: GlueTask, compared: Mapping[str, Mapping[str, float]]) -> str:
    """Says in a sentence whether the model is better than its baselines."""
    missed, names = not_beaten(task, compared), [name for name in compared if name != MODEL]
    by_metric: dict[str, list[str]] = {}
    for name in missed or names:
        by_metric.setdefault(_deciding_metric(task, compared[name]), []).append(name)
    parts = [f"the {' and the '.join(those)} by {in_words(metric)}" for metric, those in by_metric.items()]
    return f"The model is {'no better' if missed else 'better'} than {' and '.join(parts)}."


def comparison_rows(compared: Mapping[str, Mapping[str, float]]) -> list[list[object]]:
    """A header, and the metrics of the model and of each baseline; "-" stands for what is undefined."""
    columns = list(compared[MODEL])
    values = {name: [float(metrics[column]) for column in columns] for name, metrics in compared.items()}
    header = ["", *(column.replace("_", " ") for column in columns)]
    return [header, *([name, *("-" if math.isnan(value) else value for value in row)] for name, row in values.items())]


def _is_better(task: GlueTask, model: Mapping[str, float], baseline: Mapping[str, float]) -> bool:
    metric = _deciding_metric(task, baseline)
    own, other = float(model[metric]), float(baseline[metric])
    return own < other if metric == _ERROR else own > other


def _deciding_metric(task: GlueTask, baseline: Mapping[str, float]) -> str:
    """The key metric; the squared error for a constant score, which has no correlation."""
    return _ERROR if math.isnan(float(baseline[task.key_metric])) else task.key_metric


def _constant_name(task: GlueTask) -> str:
    if task.is_regression:
        return "mean"
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
