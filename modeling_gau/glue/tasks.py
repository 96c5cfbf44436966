# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What each task of GLUE is: columns, classes, metrics and splits (Wang et al. 2018, arXiv:1804.07461).

`glue/clue_tasks.py` has those of CLUE, `glue/benchmarks.py` both.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch

from .metric import TASK_METRICS, GlueMetric


# What `--problem_type` calls a problem -> what the configuration of a model calls it.
PROBLEM_TYPES: Mapping[str, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}

# Of two metrics of one kind GLUE counts the mean. Other lists have one that leads.
_LEADING_METRICS: Mapping[str, str] = {"single_label": "accuracy", "multi_label": "f1_micro"}


@dataclass(frozen=True)
class GlueTask:
    """What a script must know of a task.

    Args:
        name: configuration of the benchmark's data set on the Hub, or "local".
        text_columns: one column, or two for pairs.
        label_names: the classes by label id; one name for a regression.
        metric: configuration of `GlueMetric` whose metrics are reported.
        problem_type: as in the configuration of a model, which chooses the loss by it: one of
            `PROBLEM_TYPES.values()`.
        label_range: lowest and highest score, if there are such.
        evaluation_splits, test_splits: prefix of the reported metrics -> split.
        benchmark: which of `BENCHMARKS` it is of; of no meaning for local data.
        source_columns: from which `prepare` makes the texts, the names in `text_columns` among them; those alone where
            none are named.
        prepare: makes the texts, by their names in `text_columns`, of a row's values in `source_columns`; raises
            ValueError for values of which none can be made. None where these columns are texts already.
        no_label: a label which says that a row has none. Such rows are not for training and evaluation.
        input_format: for model cards, how texts are written that `prepare` makes.
        example: such a text or pair, for model cards; None where that of the benchmark will do.
    """

    name: str
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metric: str
    problem_type: str = PROBLEM_TYPES["single_label"]
    label_range: tuple[float, float] | None = None
    evaluation_splits: Mapping[str, str] = field(default_factory=lambda: {"eval": "validation"})
    test_splits: Mapping[str, str] = field(default_factory=lambda: {"test": "test"})
    benchmark: str = "glue"
    source_columns: tuple[str, ...] = ()
    prepare: Callable[[Mapping[str, object]], dict[str, object]] | None = None
    no_label: str | None = None
    input_format: str = ""
    example: str | tuple[str, str] | None = field(default=None, repr=False)

    @property
    def is_regression(self) -> bool:
        """Whether `label` is a score."""
        return self.problem_type == PROBLEM_TYPES["regression"]

    @property
    def is_multi_label(self) -> bool:
        """Whether any number of the classes may apply to a row, also none."""
        return self.problem_type == PROBLEM_TYPES["multi_label"]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of an evaluation, the mean of two as `combined_score`."""
        names = tuple(TASK_METRICS[self.metric])
        return (*names, "combined_score") if self._counts_the_mean else names

    @property
    def key_metric(self) -> str:
        """The number that GLUE counts for this task; accuracy and micro F1 for classes of one's own."""
        return _LEADING_METRICS.get(self.metric, self.metric_names[-1])

    @property
    def _counts_the_mean(self) -> bool:
        return len(TASK_METRICS[self.metric]) > 1 and self.metric not in _LEADING_METRICS

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns in which the texts are, or what they are made of."""
        return self.source_columns or self.text_columns

    def texts_of(self, values: Mapping[str, object], place: str) -> Mapping[str, object]:
        """The texts of a row by their names, from its values in `read_columns`; an error begins with the place."""
        if self.prepare is None:
            return values
        try:
            return self.prepare(values)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error

    def predictions_from_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """(batch, labels) logits -> (batch,) scores or class ids, or (batch, labels) of 0 and 1 for multi-label."""
        if self.is_regression:
            return logits.squeeze(-1)
        # A logit of 0 is a probability of one half.
        return (logits > 0).long() if self.is_multi_label else logits.argmax(-1)

    def compute_metrics(
        self, predictions: np.ndarray, references: np.ndarray, label_names: Sequence[str]
    ) -> dict[str, float]:
        """Returns `metric_names` and their values.

        Args:
            predictions: as `predictions_from_logits` returns them, of all rows.
            references: what a `LabelEncoder` made of the labels of these rows.
            label_names: classes in the order of the model's outputs, to which both refer. F1 is that of class 1 in
                the task's order.
        """
        if self.is_multi_label:
            order = [label_names.index(name) for name in self.label_names]
            predictions, references = predictions[:, order], references[:, order].astype(np.int64)
        elif not self.is_regression:
            ids = np.array([self.label_names.index(name) for name in label_names])
            predictions, references = ids[predictions], ids[references]
        results = GlueMetric(self.metric, keep_in_memory=True).compute(predictions=predictions, references=references)
        return {**results, "combined_score": fmean(results.values())} if self._counts_the_mean else results

    def readable_prediction(self, prediction: np.ndarray, label_names: Sequence[str]) -> str | float:
        """One row's prediction as it is shown: a score, the name of a class, or several with commas in between.

        Args:
            prediction: one of `predictions_from_logits`.
            label_names: classes in the order of the model's outputs.
        """
        if self.is_regression:
            return float(prediction)
        if self.is_multi_label:
            return ",".join(name for name, applies in zip(label_names, prediction, strict=True) if applies)
        return label_names[int(prediction)]


SENTENCE, SENTENCES = ("sentence",), ("sentence1", "sentence2")
_NLI, _RTE = ("entailment", "neutral", "contradiction"), ("entailment", "not_entailment")

# Rows of one's own before anything is known of them.
LOCAL_TASK = GlueTask("local", SENTENCE, (), "single_label")

GLUE_TASKS: Mapping[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask("cola", SENTENCE, ("unacceptable", "acceptable"), "cola"),
        GlueTask("sst2", SENTENCE, ("negative", "positive"), "sst2"),
        GlueTask("mrpc", SENTENCES, ("not_equivalent", "equivalent"), "mrpc"),
        GlueTask("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), "qqp"),
        GlueTask("stsb", SENTENCES, ("similarity",), "stsb", PROBLEM_TYPES["regression"], label_range=(0.0, 5.0)),
        GlueTask(
            "mnli",
            ("premise", "hypothesis"),
            _NLI,
            "mnli",
            evaluation_splits={"eval": "validation_matched", "eval_mm": "validation_mismatched"},
            test_splits={"test": "test_matched", "test_mm": "test_mismatched"},
        ),
        GlueTask("qnli", ("question", "sentence"), _RTE, "qnli"),
        GlueTask("rte", SENTENCES, _RTE, "rte"),
        GlueTask("wnli", SENTENCES, ("not_entailment", "entailment"), "wnli"),
        # The diagnostic set: a test split alone, meant for a model that was trained on mnli.
        GlueTask("ax", ("premise", "hypothesis"), _NLI, "ax"),
    )
}


def local_text_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that are text by their names: `sentence1` and `sentence2`, or `sentence`.

    Raises:
        ValueError: there are neither.
    """
    for names in (SENTENCES, SENTENCE):
        if set(names) <= set(columns):
            return names
    raise ValueError(
        "Without --task_name, text is expected in the column `sentence`, or for pairs in `sentence1` and `sentence2`; "
        f"the data has {', '.join(columns)}. Name the column with --text_column (and that of the second text with "
        "--text_pair_column), or give the --task_name whose columns these are."
    )


def nearest_of(name: str, allowed: Iterable[str]) -> str:
    """In words the allowed name that was meant, such as " (did you mean 'label'?)"; empty if none is near."""
    by_key = {other.casefold(): other for other in allowed}
    found = difflib.get_close_matches(name.casefold(), by_key, n=1)
    return f" (did you mean {by_key[found[0]]!r}?)" if found else ""
