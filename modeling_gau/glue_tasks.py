# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What each task of GLUE is: columns, classes, metrics and splits (Wang et al. 2018, arXiv:1804.07461)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .glue_metric import TASK_METRICS


HUB_DATASET = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueTask:
    """What a script must know of a task.

    Args:
        name: configuration of the Hub's `nyu-mll/glue`, or "local".
        text_columns: one column, or two for pairs.
        label_names: the classes by label id; one name for a regression.
        metric: task of `GlueMetric` whose metrics are reported.
        key_metric: the number that GLUE counts for this task; the mean, `combined_score`, where there are two.
        is_regression: whether `label` is a score.
        label_range: lowest and highest score, if there are such.
        evaluation_splits, test_splits: prefix of the reported metrics -> split.
    """

    name: str
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metric: str
    is_regression: bool = False
    label_range: tuple[float, float] | None = None
    evaluation_splits: Mapping[str, str] = field(default_factory=lambda: {"eval": "validation"})
    test_splits: Mapping[str, str] = field(default_factory=lambda: {"test": "test"})

    @property
    def metric_names(self) -> tuple[str, ...]:
        names = tuple(TASK_METRICS[self.metric])
        return names if len(names) == 1 else (*names, "combined_score")

    @property
    def key_metric(self) -> str:
        return self.metric_names[-1]


_SENTENCE, _SENTENCES = ("sentence",), ("sentence1", "sentence2")
_NLI, _RTE = ("entailment", "neutral", "contradiction"), ("entailment", "not_entailment")

# Rows of one's own before anything is known of them.
LOCAL_TASK = GlueTask("local", _SENTENCE, (), "sst2")

GLUE_TASKS: Mapping[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask("cola", _SENTENCE, ("unacceptable", "acceptable"), "cola"),
        GlueTask("sst2", _SENTENCE, ("negative", "positive"), "sst2"),
        GlueTask("mrpc", _SENTENCES, ("not_equivalent", "equivalent"), "mrpc"),
        GlueTask("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), "qqp"),
        GlueTask("stsb", _SENTENCES, ("similarity",), "stsb", is_regression=True, label_range=(0.0, 5.0)),
        GlueTask(
            "mnli",
            ("premise", "hypothesis"),
            _NLI,
            "mnli",
            evaluation_splits={"eval": "validation_matched", "eval_mm": "validation_mismatched"},
            test_splits={"test": "test_matched", "test_mm": "test_mismatched"},
        ),
        GlueTask("qnli", ("question", "sentence"), _RTE, "qnli"),
        GlueTask("rte", _SENTENCES, _RTE, "rte"),
        GlueTask("wnli", _SENTENCES, ("not_entailment", "entailment"), "wnli"),
        # The diagnostic set: a test split alone, meant for a model that was trained on mnli.
        GlueTask("ax", ("premise", "hypothesis"), _NLI, "ax"),
    )
}
