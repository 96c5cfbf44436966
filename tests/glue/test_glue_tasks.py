# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The tasks of GLUE and CLUE: names, classes and texts, and from a model's outputs to metrics and predictions."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_gau.glue.metrics import TASK_METRICS
from modeling_gau.glue.tasks import (
    BENCHMARKS,
    CLUE_TASKS,
    GLUE_TASKS,
    KEYWORD_SEPARATOR,
    LOCAL_TASK,
    PROBLEM_TYPES,
    keywords_and_abstract,
    text_with_marked_spans,
)


TAGS, SCORES = (
    replace(LOCAL_TASK, label_names=names, metric=kind, problem_type=PROBLEM_TYPES[kind])
    for kind, names in (("multi_label", ("fear", "joy")), ("regression", ("score",)))
)


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


def test_logits_become_predictions():
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0], [-1.0, -2.0]])
    assert GLUE_TASKS["sst2"].predictions_from_logits(logits).tolist() == [1, 0, 0]
    assert TAGS.predictions_from_logits(logits).tolist() == [[1, 1], [1, 0], [0, 0]]
    assert SCORES.predictions_from_logits(logits[:, :1]).tolist() == pytest.approx([0.1, 2.0, -1.0])


METRICS_OF_LOCAL_DATA = {
    "single_label": (("accuracy", "f1_macro"), "accuracy"),
    "multi_label": (("accuracy", "f1_micro", "f1_macro"), "f1_micro"),
    "regression": (("pearson", "spearmanr"), "pearson"),
}


@pytest.mark.parametrize("task", [*GLUE_TASKS.values(), LOCAL_TASK, TAGS, SCORES], ids=lambda task: task.name)
def test_the_metrics_that_are_promised_are_computed(task):
    if task.name == "local":
        assert (task.metric_names, task.key_metric) == METRICS_OF_LOCAL_DATA[task.metric]
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


CSL = {"abst": "提出一种算法", "keyword": ["算法", "水声"]}
WSC_TEXT = "床边的手机响了，它响了很久"
WSC_TARGET = {"span1_text": "手机", "span1_index": 3, "span2_text": "它", "span2_index": 8}


def test_tasks_are_those_of_clue():
    assert tuple(CLUE_TASKS) == ("afqmc", "tnews", "iflytek", "cmnli", "ocnli", "csl", "cluewsc2020")
    news = [code for code in range(100, 117) if code not in (105, 111)]  # codes of the benchmark, with their gaps
    inference = ("neutral", "entailment", "contradiction")
    assert {name: task.label_names for name, task in CLUE_TASKS.items()} == {
        "afqmc": ("0", "1"),
        "tnews": tuple(map(str, news)),
        "iflytek": tuple(map(str, range(119))),
        "cmnli": inference,
        "ocnli": inference,
        "csl": ("0", "1"),
        "cluewsc2020": ("true", "false"),
    }
    assert all(task.metric_names == ("accuracy",) for task in CLUE_TASKS.values())


def test_examples_are_written_as_the_model_reads_them():
    assert not CLUE_TASKS.keys() & GLUE_TASKS.keys()
    for benchmark in BENCHMARKS.values():
        assert all(task.benchmark == benchmark.name for task in benchmark.tasks.values())
        for task in benchmark.tasks.values():
            example = benchmark.example_of(task)
            assert isinstance(example, tuple) == (len(task.text_columns) == 2)
            texts = (example or "an example of the card's own",) if len(task.text_columns) == 1 else example
            assert [text.isascii() for text in texts] == [benchmark.name == "glue"] * len(texts)
            assert bool(task.input_format) == (task.prepare is not None)
    keywords, _ = BENCHMARKS["clue"].example_of(CLUE_TASKS["csl"])
    assert KEYWORD_SEPARATOR in keywords
    assert re.search(r"_\w+_.*\[\w+\]", BENCHMARKS["clue"].example_of(CLUE_TASKS["cluewsc2020"]))


def test_keywords_are_the_first_text_of_a_pair():
    assert keywords_and_abstract(CSL) == CSL | {"keyword": "算法；水声"}
    assert keywords_and_abstract(CSL | {"keyword": ["算法"]})["keyword"] == "算法"
    for keywords in ("算法", None, ["算法", 3]):
        with pytest.raises(ValueError, match=f"'keyword' must be a list of texts, got .*{re.escape(str(keywords))}"):
            keywords_and_abstract(CSL | {"keyword": keywords})


def span(noun: str, at: int, pronoun: str, pronoun_at: int) -> dict:
    return {"span1_text": noun, "span1_index": at, "span2_text": pronoun, "span2_index": pronoun_at}


@pytest.mark.parametrize(
    "text, target, marked",
    [
        (WSC_TEXT, WSC_TARGET, "床边的_手机_响了，[它]响了很久"),
        ("它响了，是手机", span("手机", 5, "它", 0), "[它]响了，是_手机_"),
        ("手机它", span("手机", 0, "它", 2), "_手机_[它]"),
        ("它手机", span("手机", 1, "它", 0), "[它]_手机_"),
        # One within the other: at its beginning, in the middle, at its end.
        ("他的母亲", span("他的母亲", 0, "他", 0), "_[他]的母亲_"),
        ("说他的母亲", span("说他的", 0, "他", 1), "_说[他]的_母亲"),
        ("母亲爱他", span("他", 3, "爱他", 2), "母亲[爱_他_]"),
        ("说他", span("他", 1, "他", 1), "说_[他]_"),
        ("😀手机它", span("手机", 1, "它", 3), "😀_手机_[它]"),
    ],
)
def test_noun_and_pronoun_are_marked_in_either_order(text, target, marked):
    assert text_with_marked_spans({"text": text, "target": target}) == {"text": marked}


WRONG_SPANS = [
    ({"span1_index": 4}, "'span1_index' 4 points at '机响', not at 'span1_text' '手机'"),
    ({"span2_index": 99}, "'span2_index' 99 points at '', not at 'span2_text' '它'"),
    ({"span1_index": -10}, "'span1_index' of 'target' must be a number from 0, got -10"),
    ({"span1_index": "3"}, "'span1_index' of 'target' must be a number from 0, got '3'"),
    ({"span2_text": None}, "'span2_text' of 'target' must be text, got None"),
]


@pytest.mark.parametrize(
    "row, message",
    [
        *(({"target": WSC_TARGET | changes}, message) for changes, message in WRONG_SPANS),
        ({"text": None}, "'text' must be text, got None"),
        ({"target": "手机"}, r"'target' must be an object with the spans .* got '手机'"),
    ],
)
def test_rows_without_these_spans(row, message):
    with pytest.raises(ValueError, match=message):
        text_with_marked_spans({"text": WSC_TEXT, "target": WSC_TARGET} | row)
