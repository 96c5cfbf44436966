# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What each task of GLUE is, and from a model's outputs to metrics and readable predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_gau.glue.metric import TASK_METRICS
from modeling_gau.glue.tasks import GLUE_TASKS, LOCAL_TASK, PROBLEM_TYPES


TAGS = replace(
    LOCAL_TASK, label_names=("fear", "joy"), metric="multi_label", problem_type=PROBLEM_TYPES["multi_label"]
)
SCORES = replace(LOCAL_TASK, label_names=("score",), metric="regression", problem_type=PROBLEM_TYPES["regression"])


def test_tasks_are_those_of_glue():
    assert set(GLUE_TASKS) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli", "ax"}
    classes = {name: len(task.label_names) for name, task in GLUE_TASKS.items()}
    assert classes == dict.fromkeys(GLUE_TASKS, 2) | {"mnli": 3, "ax": 3, "stsb": 1}
    assert [name for name, task in GLUE_TASKS.items() if task.is_regression] == ["stsb"]
    assert [name for name, task in GLUE_TASKS.items() if len(task.text_columns) == 1] == ["cola", "sst2"]


def test_key_metric_is_reported_and_a_mean_where_there_are_two():
    key_metrics = {name: task.key_metric for name, task in GLUE_TASKS.items()}
    assert key_metrics.pop("cola") == key_metrics.pop("ax") == "matthews_correlation"
    assert {name for name, metric in key_metrics.items() if metric == "combined_score"} == {"mrpc", "qqp", "stsb"}
    assert set(key_metrics.values()) == {"accuracy", "combined_score"}
    assert all(set(TASK_METRICS[task.metric]) <= set(task.metric_names) for task in GLUE_TASKS.values())


def test_metrics_of_local_data():
    kinds = {task.metric: (task.metric_names, task.key_metric) for task in (LOCAL_TASK, TAGS, SCORES)}
    assert kinds == {
        "single_label": (("accuracy", "f1_macro"), "accuracy"),
        "multi_label": (("accuracy", "f1_micro", "f1_macro"), "f1_micro"),
        "regression": (("pearson", "spearmanr", "combined_score"), "combined_score"),
    }


def test_logits_become_predictions():
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0], [-1.0, -2.0]])
    assert GLUE_TASKS["sst2"].predictions_from_logits(logits).tolist() == [1, 0, 0]
    assert TAGS.predictions_from_logits(logits).tolist() == [[1, 1], [1, 0], [0, 0]]
    assert SCORES.predictions_from_logits(logits[:, :1]).tolist() == pytest.approx([0.1, 2.0, -1.0])


@pytest.mark.parametrize("task", [*GLUE_TASKS.values(), LOCAL_TASK, TAGS, SCORES], ids=lambda task: task.name)
def test_the_metrics_that_are_promised_are_computed(task):
    task = replace(task, label_names=task.label_names or ("a", "b"))
    predictions, references = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    if task.is_multi_label:
        predictions, references = np.eye(2, dtype=int)[predictions], np.eye(2)[references]
    results = task.compute_metrics(predictions, references, task.label_names)
    assert tuple(results) == task.metric_names
    if "combined_score" in results:
        first, second, mean = results.values()
        assert mean == pytest.approx((first + second) / 2)


def test_metrics_do_not_depend_on_the_models_order():
    """F1 of mrpc is that of class 1 of the task, and several labels are counted by name."""
    task = GLUE_TASKS["mrpc"]
    predictions, references = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    results = task.compute_metrics(predictions, references, task.label_names)
    assert results == pytest.approx({"accuracy": 0.75, "f1": 2 / 3, "combined_score": (0.75 + 2 / 3) / 2})
    assert task.compute_metrics(1 - predictions, 1 - references, task.label_names[::-1]) == results
    predictions, references = np.array([[1, 0], [1, 1]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    results = TAGS.compute_metrics(predictions, references, TAGS.label_names)
    assert results == pytest.approx({"accuracy": 0.5, "f1_micro": 0.8, "f1_macro": 0.5})
    assert TAGS.compute_metrics(predictions[:, ::-1], references[:, ::-1], ("joy", "fear")) == results


def test_readable_predictions():
    assert GLUE_TASKS["rte"].readable_prediction(np.int64(1), ("not_entailment", "entailment")) == "entailment"
    assert TAGS.readable_prediction(np.array([1, 1]), ("joy", "fear")) == "joy,fear"
    assert TAGS.readable_prediction(np.array([0, 0]), ("joy", "fear")) == ""
    assert SCORES.readable_prediction(np.float32(2.5), ("score",)) == 2.5
