# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Classes of a checkpoint: their names against the task's, and results that show that they are exchanged."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from modeling_gau import GAUConfig
from modeling_gau.glue.label_maps import _log_tail, check_label_map, model_label_names, saved_label_names
from modeling_gau.glue.tasks import GLUE_TASKS, LOCAL_TASK, PROBLEM_TYPES


@pytest.fixture
def warnings_of_names(monkeypatch):
    messages = []
    monkeypatch.setattr("modeling_gau.glue.label_maps.logger.warning", messages.append)
    return messages


# By name


def test_saved_classes_are_those_of_a_classifier():
    config = GAUConfig(id2label={0: "b", 1: "a", 2: "c"})
    assert saved_label_names(config) is None
    config.architectures = ["GAUForMaskedLM"]
    assert saved_label_names(config) is None
    config.architectures = ["GAUForSequenceClassification"]
    assert saved_label_names(config) == ("b", "a", "c")


def test_the_order_of_the_checkpoint_is_kept():
    task = GLUE_TASKS["mnli"]
    order = ("contradiction", "neutral", "entailment")
    assert model_label_names(task, None, do_train=False) == task.label_names
    assert model_label_names(task, ("LABEL_0", "LABEL_1", "LABEL_2"), do_train=False) == task.label_names
    assert model_label_names(task, order, do_train=False) == order
    assert model_label_names(task, order, do_train=True) == order


def test_a_classifier_of_other_classes():
    rte, saved = GLUE_TASKS["rte"], GLUE_TASKS["mnli"].label_names
    with pytest.raises(ValueError, match=r"knows entailment, neutral, contradiction; rte has .*add --do_train"):
        model_label_names(rte, saved, do_train=False)
    with pytest.raises(ValueError, match="--ignore_mismatched_sizes to start a new classifier"):
        model_label_names(rte, saved, do_train=True)
    assert model_label_names(rte, saved, do_train=True, ignore_mismatched_sizes=True) == rte.label_names
    assert model_label_names(GLUE_TASKS["cola"], GLUE_TASKS["sst2"].label_names, do_train=True) == (
        "unacceptable",
        "acceptable",
    )


def classifier_config(id2label: dict, label2id: dict | None) -> GAUConfig:
    return GAUConfig(id2label=id2label, label2id=label2id, architectures=["GAUForSequenceClassification"])


@pytest.mark.parametrize(
    "label2id",
    [None, {"LABEL_0": 0, "LABEL_1": 1}, {"neg": 0, "pos": 1}, {"pos": "1", "neg": "0"}, {"neg": 0, "pos": 1, "+": 1}],
)
def test_maps_that_agree(label2id):
    assert saved_label_names(classifier_config({0: "neg", 1: "pos"}, label2id)) == ("neg", "pos")


@pytest.mark.parametrize(
    "id2label, label2id, message",
    [
        ({0: "neg", 1: "pos"}, {"neg": 1, "pos": 0}, r"id2label \{0: 'neg', 1: 'pos'\} and label2id .* contradict"),
        ({0: "neg", 1: "pos"}, {"negative": 0, "positive": 1}, "contradict each other"),
        ({0: "LABEL_0", 1: "LABEL_1"}, {"neg": 0, "pos": 1}, "contradict each other"),
        ({0: "neg", 2: "pos"}, None, "the ids must be 0, 1"),
        ({0: "neg", 1: "neg"}, None, r"each name there once.*config\.json"),
    ],
)
def test_maps_that_contradict_each_other(id2label, label2id, message):
    with pytest.raises(ValueError, match=message):
        saved_label_names(classifier_config(id2label, label2id))


@pytest.mark.parametrize(
    "task_name, saved, names",
    [
        ("mnli", ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), ("contradiction", "neutral", "entailment")),
        ("mrpc", ("equivalent", "not equivalent"), ("equivalent", "not_equivalent")),
        ("rte", ("Not-Entailment", "Entailment"), ("not_entailment", "entailment")),
    ],
)
@pytest.mark.parametrize("do_train", [False, True])
def test_names_may_be_spelled_in_another_way(task_name, saved, names, do_train):
    assert model_label_names(GLUE_TASKS[task_name], saved, do_train) == names


def test_a_name_that_is_nearly_one_of_the_task():
    message = r"knows entail, neutral, contradiction; mnli has .*did you mean 'entailment'.*or add --do_train"
    with pytest.raises(ValueError, match=message):
        model_label_names(GLUE_TASKS["mnli"], ("entail", "neutral", "contradiction"), do_train=False)


def test_names_that_differ_in_capitals_alone_are_not_mixed_up():
    task = local_task(("a", "A"))
    assert model_label_names(task, ("A", "a"), do_train=False) == ("A", "a")
    with pytest.raises(ValueError, match="knows a, b; local has a, A"):
        model_label_names(task, ("a", "b"), do_train=False)


def local_task(names: tuple[str, ...], problem: str = "single_label"):
    return replace(LOCAL_TASK, label_names=names, metric=problem, problem_type=PROBLEM_TYPES[problem])


def test_names_that_say_nothing_are_warned_of(warnings_of_names):
    unnamed = ("LABEL_0", "LABEL_1")
    assert model_label_names(GLUE_TASKS["sst2"], unnamed, do_train=True) == ("negative", "positive")
    assert model_label_names(GLUE_TASKS["stsb"], ("LABEL_0",), do_train=False) == ("similarity",)
    assert warnings_of_names == []
    assert model_label_names(GLUE_TASKS["sst2"], unnamed, do_train=False) == ("negative", "positive")
    assert "LABEL_0, LABEL_1" in warnings_of_names[0] and "negative, positive, in this order" in warnings_of_names[0]


# By results


def rows(confusion: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and references of as many rows as `confusion[reference][prediction]` says."""
    cells = np.array(confusion)
    references, predictions = np.divmod(np.repeat(np.arange(cells.size), cells.ravel()), len(cells))
    return predictions, references


def check(confusion: list[list[int]], accept: bool = False) -> None:
    task = local_task(tuple("abcdef"[: len(confusion)]))
    check_label_map(task, task.label_names, *rows(confusion), accept=accept)


@pytest.mark.parametrize(
    "confusion, found",
    [
        ([[30, 170], [160, 40]], "a is found as b, b is found as a"),
        # Most rows and most predictions are of one class, as in CoLA.
        ([[140, 160], [600, 100]], "a is found as b, b is found as a"),
        ([[10, 20, 170], [20, 160, 20], [150, 30, 20]], "a is found as c, c is found as a"),
        ([[10, 160, 30], [20, 10, 170], [150, 40, 10]], "a is found as b, b is found as c, c is found as a"),
        ([[5, 90, 0, 5], [90, 5, 5, 0], [0, 5, 5, 90], [5, 0, 90, 5]], "a is found as b, b is found as a, c .*as d"),
    ],
)
def test_exchanged_classes_are_an_error(confusion, found, warnings_of_names):
    with pytest.raises(ValueError, match=rf"look exchanged: {found}.*config\.json.*--accept_label_map"):
        check(confusion)
    assert warnings_of_names == []
    check(confusion, accept=True)
    assert "look exchanged" in warnings_of_names[0]


def test_what_an_exchange_would_change_is_said():
    with pytest.raises(ValueError, match=r"Of the 400 rows of these classes 70 are right.* exchanged, 330 would be"):
        check([[30, 170], [160, 40]])


@pytest.mark.parametrize(
    "confusion",
    [
        [[170, 30], [40, 160]],
        [[0, 49], [50, 0]],  # fewer than 100 rows
        [[90, 110], [110, 90]],  # no better the other way round
        [[350, 450], [450, 350]],  # surely below chance, but a model that is bad either way
        [[0, 1000], [0, 10]],  # one class for every row, be it the rare one
        [[0, 0], [1000, 0]],  # rows of one class, such as the half of a set that is made to mislead
        [[170, 20, 10], [100, 30, 70], [10, 20, 170]],
        [[0, 0, 0], [0, 100, 300], [0, 0, 0]],
    ],
)
def test_what_is_no_exchange(confusion):
    check(confusion)


@pytest.mark.parametrize("classes", [2, 3, 5, 20])
def test_no_false_alarm_of_guesses_and_of_small_data(classes):
    """Guesses of any number of rows, and models that are right one time in five or worse on up to 99 rows."""
    generator = np.random.default_rng(classes)
    task = local_task(tuple(f"class {number}" for number in range(classes)))
    for _ in range(300):
        share = generator.dirichlet(np.ones(classes))
        count = int(generator.integers(1, 3000))
        predictions, references = (generator.choice(classes, size=count, p=share) for _ in range(2))
        check_label_map(task, task.label_names, predictions, references)
        references = generator.integers(classes, size=99)
        check_label_map(task, task.label_names, (references + 1) % classes, references)


def test_other_problems_are_not_checked():
    references = np.arange(500) % 2
    check_label_map(GLUE_TASKS["stsb"], ("similarity",), 1.0 - references, references)
    tags = local_task(("a", "b"), "multi_label")
    check_label_map(tags, tags.label_names, np.eye(2)[1 - references], np.eye(2)[references])
    with pytest.raises(ValueError, match="look exchanged"):
        check_label_map(GLUE_TASKS["sst2"], ("negative", "positive"), 1 - references, references)


def test_the_bound_is_never_below_the_probability():
    for rows_, chance in [(100, 0.5), (400, 0.33), (5000, 0.7), (100, 0.02)]:
        for hits in range(0, rows_ + 1, 10):
            below = hits < rows_ * chance
            exact = binom.logcdf(hits, rows_, chance) if below else binom.logsf(hits - 1, rows_, chance)
            assert _log_tail(hits, rows_, chance) >= exact - 1e-9
    assert _log_tail(10, 100, 0.5) == pytest.approx(-100 * (0.1 * math.log(0.2) + 0.9 * math.log(1.8)))
