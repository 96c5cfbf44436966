# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The tasks of GLUE (Wang et al. 2018, arXiv:1804.07461) and CLUE (Xu et al. 2020, arXiv:2004.05986).

For each task: text columns, classes, metrics and splits. For each benchmark: its name on the Hub, its official folders
and the tasks that its averages count. The columns are those of the Hub data sets and of the official files alike.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch

from ..configuration_gau import GAUError
from ..text.files import shorten
from .metrics import TASK_METRICS, GlueMetric


# Name in `--problem_type` -> name in a model's configuration.
PROBLEM_TYPES: Mapping[str, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
# Where a task has several metrics, its score is this one. All other tasks count the mean of theirs, as GLUE does.
_LEADING_METRICS: Mapping[str, str] = {
    "single_label": "accuracy",
    "multi_label": "f1_micro",
    "regression": "pearson",
}


@dataclass(frozen=True)
class GlueTask:
    """One task.

    Args:
        name: configuration of the benchmark's data set on the Hub, or "local".
        text_columns: one column, or two for pairs.
        label_names: the classes by label id; a single name for a regression.
        metric: configuration of `GlueMetric`.
        problem_type: one of `PROBLEM_TYPES.values()`; the model chooses its loss by it.
        label_range: lowest and highest score.
        evaluation_splits, test_splits: prefix of the reported metrics -> split.
        benchmark: key of `BENCHMARKS`; meaningless for local data.
        source_columns: the columns that `prepare` reads, if they are not the text columns.
        prepare: makes the text columns from the source columns of a row. Raises ValueError for values that it cannot
            use.
        no_label: marks a row as unlabelled. Such rows are left out of training and evaluation.
        input_format: for model cards, how `prepare` writes the texts.
        example: a text or pair in that format, for model cards.
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
    def is_local(self) -> bool:
        """Whether it is made from files of one's own, without the name of a task."""
        return self.name == LOCAL_TASK.name

    @property
    def is_regression(self) -> bool:
        return self.problem_type == PROBLEM_TYPES["regression"]

    @property
    def is_multi_label(self) -> bool:
        """Whether any number of classes, zero included, may apply to a row."""
        return self.problem_type == PROBLEM_TYPES["multi_label"]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of an evaluation, including `combined_score`, the mean of two, where the task counts it."""
        names = tuple(TASK_METRICS[self.metric])
        return (*names, "combined_score") if self._counts_the_mean else names

    @property
    def key_metric(self) -> str:
        """The metric that scores the task and chooses the best model."""
        return _LEADING_METRICS.get(self.metric, self.metric_names[-1])

    @property
    def _counts_the_mean(self) -> bool:
        return len(TASK_METRICS[self.metric]) > 1 and self.metric not in _LEADING_METRICS

    @property
    def read_columns(self) -> tuple[str, ...]:
        """The columns that the texts are read or made from."""
        return self.source_columns or self.text_columns

    def texts_of(self, values: Mapping[str, object], place: str) -> Mapping[str, object]:
        """Makes the text columns of a row from its `read_columns`; an error begins with `place`."""
        if self.prepare is None:
            return values
        try:
            return self.prepare(values)
        except ValueError as error:
            raise GAUError(f"{place}: {error}") from error

    def predictions_from_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """(batch, labels) logits -> (batch,) scores or class ids, or (batch, labels) of 0 and 1 for multi-label."""
        if self.is_regression:
            return logits.squeeze(-1)
        # A logit of 0 is a probability of one half.
        return (logits > 0).long() if self.is_multi_label else logits.argmax(-1)

    def probabilities_from_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """(batch, labels) logits -> (batch,) of the likeliest class, or (batch, labels) for multi-label."""
        logits = logits.float()
        return logits.sigmoid() if self.is_multi_label else logits.softmax(-1).amax(-1)

    def compute_metrics(
        self, predictions: np.ndarray, references: np.ndarray, label_names: Sequence[str]
    ) -> dict[str, float]:
        """Returns the value of each of `metric_names`.

        Args:
            predictions: results of `predictions_from_logits` for all rows.
            references: results of `LabelEncoder` for the same rows.
            label_names: the classes in the order of the model's outputs, which both follow. F1 is that of class 1 in
                the task's own order.
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
        """Writes one row of `predictions_from_logits` as a score, the name of a class, or names joined by commas.

        Args:
            label_names: the classes in the order of the model's outputs.
        """
        if self.is_regression:
            return float(prediction)
        if self.is_multi_label:
            return ",".join(name for name, applies in zip(label_names, prediction, strict=True) if applies)
        return label_names[int(prediction)]


SENTENCE, SENTENCES = ("sentence",), ("sentence1", "sentence2")

# Local data before anything is known about it.
LOCAL_TASK = GlueTask("local", SENTENCE, (), "single_label")


def local_text_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Returns `sentence1` and `sentence2`, or `sentence`, whichever the columns have; else raises ValueError."""
    for names in (SENTENCES, SENTENCE):
        if set(names) <= set(columns):
            return names
    raise GAUError(
        "Without --task_name, the text is read from the column `sentence`, pairs from `sentence1` and `sentence2`; "
        f"the data has {', '.join(columns)}. Name the columns with --text_column and --text_pair_column, or give the "
        "--task_name that has these columns."
    )


# GLUE

_NLI, _RTE = ("entailment", "neutral", "contradiction"), ("entailment", "not_entailment")

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
        # The diagnostic set: only a test split, for a model that was trained on mnli.
        GlueTask("ax", ("premise", "hypothesis"), _NLI, "ax"),
    )
}


# CLUE: two tasks have more than text. csl lists keywords; cluewsc2020 marks a noun and a pronoun by their positions.

KEYWORD_SEPARATOR = "；"
# The marks before and behind each span, as in CLUE's baselines.
_SPAN_MARKS: Mapping[str, tuple[str, str]] = {"span1": ("_", "_"), "span2": ("[", "]")}


def keywords_and_abstract(row: Mapping[str, object]) -> dict[str, object]:
    """Turns a row of csl into a pair: the keywords, joined by `KEYWORD_SEPARATOR`, and the abstract."""
    keywords = row["keyword"]
    if not isinstance(keywords, list) or not all(isinstance(keyword, str) for keyword in keywords):
        raise GAUError(f"'keyword' must be a list of texts, got {shorten(keywords)}.")
    return {"keyword": KEYWORD_SEPARATOR.join(keywords), "abst": row["abst"]}


def text_with_marked_spans(row: Mapping[str, object]) -> dict[str, str]:
    """Turns a row of cluewsc2020 into a text with the noun as `_noun_` and the pronoun as `[pronoun]`."""
    text, target = row["text"], row["target"]
    if not isinstance(text, str):
        raise GAUError(f"'text' must be text, got {shorten(text)}.")
    if not isinstance(target, Mapping):
        raise GAUError(f"'target' must be an object with the spans of a noun and a pronoun, got {shorten(target)}.")
    marks = []
    for number, (name, (before, behind)) in enumerate(_SPAN_MARKS.items()):
        start, end = _find_span(text, target, name)
        length = end - start
        # At one place, inner spans close before outer ones, and outer spans open before inner ones. Of two equal
        # spans the first is the outer one.
        marks += [(end, 0, length, -number, behind), (start, 1, -length, number, before)]
    for place, *_, mark in sorted(marks, reverse=True):
        text = text[:place] + mark + text[place:]
    return {"text": text}


def _find_span(text: str, target: Mapping[str, object], name: str) -> tuple[int, int]:
    """Returns where a span begins and ends; raises ValueError if it is not where its index (in characters) says."""
    span, start = target.get(f"{name}_text"), target.get(f"{name}_index")
    if not isinstance(span, str) or not span:
        raise GAUError(f"'{name}_text' of 'target' must be text, got {shorten(span)}.")
    if type(start) is not int or start < 0:
        raise GAUError(f"'{name}_index' of 'target' must be a number from 0, got {shorten(start)}.")
    if not text.startswith(span, start):
        found = text[start : start + len(span)]
        raise GAUError(
            f"'{name}_index' {start} points at {found!r}, not at '{name}_text' {span!r}. Correct or remove the row."
        )
    return start, start + len(span)


def _clue_task(name: str, text_columns: tuple[str, ...], label_names: Sequence[str], **more: object) -> GlueTask:
    return GlueTask(name, text_columns, tuple(label_names), "clue", benchmark="clue", **more)


_NO_OR_YES, _CLUE_NLI = ("0", "1"), ("neutral", "entailment", "contradiction")
_NEWS = "100 101 102 103 104 106 107 108 109 110 112 113 114 115 116".split()  # there is no 105 and no 111

CLUE_TASKS: Mapping[str, GlueTask] = {
    task.name: task
    for task in (
        _clue_task("afqmc", SENTENCES, _NO_OR_YES),
        _clue_task("tnews", SENTENCE, _NEWS),
        _clue_task("iflytek", SENTENCE, [str(number) for number in range(119)]),
        # In these two, the label "-" means that the annotators did not agree.
        _clue_task("cmnli", SENTENCES, _CLUE_NLI, no_label="-"),
        _clue_task("ocnli", SENTENCES, _CLUE_NLI, no_label="-"),
        _clue_task(
            "csl",
            ("keyword", "abst"),
            _NO_OR_YES,
            prepare=keywords_and_abstract,
            input_format=f"An input is a pair: the keywords, joined by `{KEYWORD_SEPARATOR}`, and the abstract.",
            example=("桥梁；裂缝；图像识别", "本文根据无人机拍摄的照片识别桥梁表面的裂缝"),
        ),
        _clue_task(
            "cluewsc2020",
            ("text",),
            ("true", "false"),
            source_columns=("text", "target"),
            prepare=text_with_marked_spans,
            input_format="An input is a text with the noun marked as `_noun_` and the pronoun as `[pronoun]`.",
            example="小李把_雨伞_忘在车上了，回去的时候[它]还在座位下面",
        ),
    )
}


# Benchmarks


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Args:
        name: as in `--dataset_name`.
        title: as people write it.
        hub_dataset: its data set on the Hub, with a configuration for each task.
        tasks: by name.
        average: what its averages have in common, in words.
        averages: title of an average -> the tasks it counts.
        required: tasks that must be there for any of the averages.
        folders: possible names of a task's folder in `--data_dir`; `{}` stands for the task.
        file_stems: split -> possible names of its file there, if not just the name of the split.
        example_text, example_pair: for model cards; None leaves the choice to the card.
    """

    name: str
    title: str
    hub_dataset: str
    tasks: Mapping[str, GlueTask]
    average: str
    averages: Mapping[str, tuple[str, ...]]
    folders: tuple[str, ...]
    file_stems: Mapping[str, tuple[str, ...]]
    example_pair: tuple[str, str] = field(repr=False)
    example_text: str | None = field(default=None, repr=False)
    required: tuple[str, ...] = ()

    @property
    def counted_tasks(self) -> tuple[str, ...]:
        """The tasks that at least one average counts."""
        return tuple(name for name in self.tasks if any(name in names for names in self.averages.values()))

    def complete_averages(self, there: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The averages whose tasks are all among the names `there`."""
        return {title: names for title, names in self.averages.items() if {*names, *self.required} <= set(there)}

    def example_of(self, task: GlueTask) -> str | tuple[str, str] | None:
        """A text or pair as a model of the task reads them."""
        return task.example or (self.example_pair if len(task.text_columns) == 2 else self.example_text)

    def check_task_name(self, name: str) -> None:
        """Raises ValueError for a name that is not a task of this benchmark."""
        if name in self.tasks:
            return
        other = next((other for other in BENCHMARKS.values() if name.lower() in other.tasks and other != self), None)
        hint = f": {other.title} has it, give --dataset_name {other.name}" if other else ""
        raise GAUError(
            f"--task_name: {self.title} has no task {name!r}{hint or nearest_of(name, self.tasks)}. Give one or more "
            f"of {', '.join(self.tasks)}, separated by commas, or `all`; or leave it out and give local files."
        )


def _without(name: str, tasks: Iterable[str]) -> tuple[str, ...]:
    return tuple(other for other in tasks if other != name)


_COUNTED_IN_GLUE = _without("ax", GLUE_TASKS)  # the diagnostic set is not counted

BENCHMARKS: Mapping[str, Benchmark] = {
    "glue": Benchmark(
        "glue",
        "GLUE",
        "nyu-mll/glue",
        GLUE_TASKS,
        average="GLUE average",
        # Much of the literature since Devlin et al. 2018 leaves wnli out.
        averages={
            "GLUE average (9 tasks)": _COUNTED_IN_GLUE,
            "GLUE average without wnli (8 tasks)": _without("wnli", _COUNTED_IN_GLUE),
        },
        required=_COUNTED_IN_GLUE,
        folders=("{}",),
        file_stems={"validation": ("validation", "dev")},
        example_pair=("A man is playing a guitar.", "A man plays music."),
    ),
    "clue": Benchmark(
        "clue",
        "CLUE",
        "clue/clue",
        CLUE_TASKS,
        average="CLUE classification score",
        # Each version of CLUE has one inference task: ocnli replaced cmnli.
        averages={
            "CLUE 1.1 classification score (6 tasks, ocnli)": _without("cmnli", CLUE_TASKS),
            "CLUE 1.0 classification score (6 tasks, cmnli)": _without("ocnli", CLUE_TASKS),
        },
        # CLUE's archives as they unzip. That of ocnli has training files of several sizes.
        folders=("{}_public", "{}"),
        file_stems={"train": ("train", "train.50k"), "validation": ("validation", "dev")},
        example_pair=("昨天的雨下了一整夜，今天早上路还是湿的", "昨天下过雨"),
        example_text="新地铁线路下周一开通，全程只要四十分钟",
    ),
}


def nearest_of(name: str, allowed: Iterable[str]) -> str:
    """Returns a hint such as " (did you mean 'label'?)", or "" if no allowed name is near."""
    by_key = {other.casefold(): other for other in allowed}
    found = difflib.get_close_matches(name.casefold(), by_key, n=1)
    return f" (did you mean {by_key[found[0]]!r}?)" if found else ""
