# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The GLUE metrics against scikit-learn and scipy, on random, tied and degenerate data."""

import sys
import warnings
from functools import partial
from pathlib import Path

import evaluate
import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from modeling_gau.glue import metrics as glue_metrics
from modeling_gau.glue.metrics import TASK_METRICS, GlueMetric, average_ranks


ACCURACY_TASKS = ["sst2", "mnli", "mnli_matched", "mnli_mismatched", "qnli", "rte", "wnli", "hans"]


def labels(classes: int, rows: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that agree with the references more often than chance, so that no metric is near 0."""
    generator = np.random.default_rng(seed)
    references = generator.integers(classes, size=rows)
    noise = generator.integers(classes, size=rows)
    return np.where(generator.random(rows) < 0.5, references, noise), references


def compute(task: str, predictions, references) -> dict[str, float]:
    return GlueMetric(task, keep_in_memory=True).compute(predictions=predictions, references=references)


REFERENCES = {
    "accuracy": accuracy_score,
    "f1": f1_score,
    "f1_macro": partial(f1_score, average="macro"),
    "matthews_correlation": matthews_corrcoef,
}


@pytest.mark.parametrize(
    "task, classes",
    [(task, 3) for task in ACCURACY_TASKS]
    + [("mrpc", 2), ("qqp", 2), ("cola", 2), ("ax", 3), ("ax", 7), ("single_label", 5)],
)
def test_tasks_against_scikit_learn(task, classes):
    for seed in range(3):
        predictions, references = labels(classes, rows=301, seed=seed)
        expected = {name: REFERENCES[name](references, predictions) for name in TASK_METRICS[task]}
        assert compute(task, predictions, references) == pytest.approx(expected, abs=1e-12)
        assert min(expected.values()) > 0.3


def test_matthews_of_many_rows_does_not_overflow():
    predictions, references = labels(2, rows=200_000)
    expected = matthews_corrcoef(references, predictions)
    assert glue_metrics.matthews_correlation(predictions, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions(constant):
    _, references = labels(2)
    predictions = np.full_like(references, constant)
    assert compute("cola", predictions, references) == {"matthews_correlation": 0.0}
    assert compute("cola", references, predictions) == {"matthews_correlation": 0.0}
    expected = {"accuracy": accuracy_score(references, predictions), "f1": f1_score(references, predictions)}
    assert compute("mrpc", predictions, references) == pytest.approx(expected, abs=1e-12)


def test_extremes():
    assert compute("mrpc", [0, 0, 0], [0, 0, 0]) == {"accuracy": 1.0, "f1": 0.0}  # no positive at all
    assert compute("cola", [0, 1, 1], [0, 1, 1]) == pytest.approx({"matthews_correlation": 1.0})
    assert compute("cola", [1, 0, 0], [0, 1, 1]) == pytest.approx({"matthews_correlation": -1.0})


# Random data of every size and shape


def draws(seed: int, count: int = 60):
    """Generators, numbers of rows and of classes: few rows, rare classes and constants come up often."""
    for number in range(count):
        generator = np.random.default_rng((seed, number))
        yield generator, int(generator.choice([1, 2, 3, 7, 50, 400])), int(generator.integers(2, 6))


def random_labels(generator: np.random.Generator, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    shares = generator.dirichlet(np.full(classes, generator.choice([0.1, 1.0])), size=2)
    predictions, references = (generator.choice(classes, size=rows, p=share) for share in shares)
    return np.where(generator.random(rows) < generator.random(), references, predictions), references


def expected_of_labels(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    is_one = references == 1, predictions == 1
    return {
        "accuracy": accuracy_score(references, predictions),
        "f1": f1_score(*is_one, zero_division=0),
        "f1_macro": f1_score(references, predictions, average="macro", zero_division=0),
        "matthews_correlation": matthews_corrcoef(references, predictions),
    }


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.parametrize("seed", range(2))
def test_random_labels(seed):
    names = {"f1": "binary_f1", "f1_macro": "macro_f1"}
    for generator, rows, classes in draws(seed):
        predictions, references = random_labels(generator, rows, classes)
        for name, value in expected_of_labels(predictions, references).items():
            found = getattr(glue_metrics, names.get(name, name))(predictions, references)
            assert found == pytest.approx(value, abs=1e-12), (name, predictions, references)


@pytest.mark.parametrize("seed", range(2))
def test_random_lists_of_labels(seed):
    for generator, rows, classes in draws(seed):
        shares = generator.choice([0.0, 0.1, 0.5, 1.0], size=(2, 1, classes))
        predictions, references = (generator.random((2, rows, classes)) < shares).astype(int)
        expected = {
            "accuracy": accuracy_score(references, predictions),
            "f1_micro": f1_score(references, predictions, average="micro", zero_division=0),
            "f1_macro": f1_score(references, predictions, average="macro", zero_division=0),
        }
        found = {name: metric(predictions, references) for name, metric in TASK_METRICS["multi_label"].items()}
        assert found == pytest.approx(expected, abs=1e-12), (predictions, references)


@pytest.mark.parametrize("seed", range(2))
def test_random_scores(seed):
    for generator, rows, levels in draws(seed):
        first, second = generator.normal(size=(2, rows)) * generator.choice([1e-6, 1.0, 1e6])
        if generator.random() < 0.5:
            first, second = (np.floor(values * levels / 4) for values in (first, second))
        if rows == 1 or (first == first[0]).all() or (second == second[0]).all():
            with pytest.warns(RuntimeWarning, match="constant"):
                assert np.isnan(glue_metrics.pearson_correlation(first, second))
            continue
        found = glue_metrics.pearson_correlation(first, second), glue_metrics.spearman_correlation(first, second)
        expected = pearsonr(first, second).statistic, spearmanr(first, second).statistic
        assert found == pytest.approx(expected, abs=1e-9), (first, second)


# Metrics of tasks


def test_every_task_has_its_published_metrics():
    """Table 1 and section 3 of the GLUE paper; hans, clue and the classes of one's own are not of GLUE."""
    accuracy, both = {"accuracy"}, {"accuracy", "f1"}
    assert {task: set(metrics) for task, metrics in TASK_METRICS.items()} == {
        "cola": {"matthews_correlation"},
        "sst2": accuracy,
        "mrpc": both,
        "qqp": both,
        "stsb": {"pearson", "spearmanr"},
        "mnli": accuracy,
        "mnli_matched": accuracy,
        "mnli_mismatched": accuracy,
        "qnli": accuracy,
        "rte": accuracy,
        "wnli": accuracy,
        "hans": accuracy,
        "ax": {"matthews_correlation"},
        "clue": accuracy,
        "single_label": {"accuracy", "f1_macro"},
        "multi_label": {"accuracy", "f1_micro", "f1_macro"},
        "regression": {"pearson", "spearmanr"},
    }


def test_several_labels():
    predictions, references = [[1, 0, 1], [0, 0, 0], [1, 1, 0]], [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    expected = {"accuracy": 1 / 3, "f1_micro": 0.75, "f1_macro": (2 / 3 + 1 + 2 / 3) / 3}
    assert compute("multi_label", predictions, references) == pytest.approx(expected)
    assert compute("multi_label", np.array(predictions), np.array(references)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "predictions, references, message",
    [
        ([[1, 0], [1]], [[1, 0], [1, 0]], "all of one length; got lengths 1, 2"),
        ([[1, 0]], [[1, 0, 1]], "Predictions have 2 classes and references 3"),
        ([[2, 0]], [[1, 0]], "only 1, for a class that applies, and 0"),
        ([[]], [[]], "got lengths 0"),
        ([], [], "empty split"),
    ],
)
def test_what_are_no_lists_of_labels(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        compute("multi_label", predictions, references)


def test_scores_keep_their_digits():
    """In single precision these differ by nothing."""
    first, second = 1e8 + np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 4.0])
    expected = {"pearson": pearsonr(first, second).statistic, "spearmanr": spearmanr(first, second).statistic}
    assert compute("regression", first, second) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_stsb(ties, seed):
    generator = np.random.default_rng(seed)
    references = generator.uniform(0, 5, size=300)
    predictions = references + generator.normal(size=300)
    if ties:
        references, predictions = references.round(), predictions.round()
    references, predictions = references.astype(np.float32), predictions.astype(np.float32)
    wide = references.astype(np.float64), predictions.astype(np.float64)
    expected = {"pearson": pearsonr(*wide).statistic, "spearmanr": spearmanr(*wide).statistic}
    assert compute("stsb", predictions, references) == pytest.approx(expected, abs=1e-12)


def test_average_ranks():
    values = np.array([3.0, 1.0, 3.0, 3.0, -2.0, 1.0])
    assert average_ranks(values).tolist() == [5.0, 2.5, 5.0, 5.0, 1.0, 2.5]
    random = np.random.default_rng(0).integers(20, size=1000)
    np.testing.assert_array_equal(average_ranks(random), rankdata(random))


def test_far_from_zero_the_correlation_keeps_its_digits():
    generator = np.random.default_rng(0)
    first, second = 1e6 + generator.normal(size=(2, 200))
    assert glue_metrics.pearson_correlation(first, second) == pytest.approx(
        pearsonr(first, second).statistic, abs=1e-9
    )


def test_constant_scores_have_no_correlation():
    scores, constant = [1.0, 2.0, 4.0], [2.5, 2.5, 2.5]
    for predictions, references in [(constant, scores), (scores, constant)]:
        with pytest.warns(RuntimeWarning, match="constant"):
            results = compute("stsb", predictions, references)
        assert np.isnan(results["pearson"]) and np.isnan(results["spearmanr"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(pearsonr(constant, scores).statistic) and np.isnan(spearmanr(constant, scores).statistic)


def test_nan_scores_give_nan():
    results = compute("stsb", [1.0, float("nan"), 2.0], [1.0, 2.0, 3.0])
    assert np.isnan(results["pearson"]) and np.isnan(results["spearmanr"])


def test_unknown_task():
    for task in ("default", "sst-2", "boolq"):
        with pytest.raises(ValueError, match=f"no task '{task}'"):
            GlueMetric(task)
    with pytest.raises(ValueError, match="no task 'default'"):
        GlueMetric()


def test_no_predictions():
    with pytest.raises(ValueError, match="empty split"):
        compute("sst2", [], [])


def test_loads_by_path_without_scikit_learn_and_scipy(tmp_path, monkeypatch):
    """`evaluate` copies the module away from the package and imports the copy."""
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sklearn", "scipy")]:
        monkeypatch.setitem(sys.modules, name, None)
    for task in TASK_METRICS:
        metric = evaluate.load(glue_metrics.__file__, task, keep_in_memory=True)
        assert Path(sys.modules[type(metric).__module__].__file__).is_relative_to(tmp_path)
        predictions, references = [0, 1, 1, 0], [0, 1, 0, 0]
        if task == "multi_label":
            predictions, references = ([[1 - label, label] for label in one] for one in (predictions, references))
        results = metric.compute(predictions=predictions, references=references)
        assert results == compute(task, predictions, references)
        assert set(results) == set(TASK_METRICS[task])


def test_batches_add_up():
    predictions, references = labels(2)
    metric = GlueMetric("mrpc", keep_in_memory=True)
    for start in range(0, len(references), 128):
        rows = slice(start, start + 128)
        metric.add_batch(predictions=predictions[rows], references=references[rows])
    assert metric.compute() == compute("mrpc", predictions, references)
