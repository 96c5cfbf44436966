# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Rows of GLUE tasks, or of local files of the same shape: reading, columns, labels, checks and tokenisation.

A data set goes through here in this order: `load_splits` reads it, `GLUE_TASKS` or `infer_task` says what it is,
`model_label_names` fixes the order of the classes in the model, `LabelEncoder` checks every label before anything is
trained, and `tokenize_split` gives the model's inputs.
"""

import csv
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import ClassLabel, Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainingArguments

from .glue_tasks import _SENTENCE, _SENTENCES, GLUE_TASKS, HUB_DATASET, LOCAL_TASK, GlueTask


# What `load_dataset` calls the format of a file, and how it must be read. By default the sentences "null" and "NA"
# would be missing values. A tsv has no quoting, as in the official GLUE files, where a quotation mark is text.
FILE_FORMATS = {
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t", "quoting": csv.QUOTE_NONE}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}

HIDDEN_LABEL = -1


@dataclass
class GlueArguments:
    """Which data to fine-tune and evaluate on.

    Either `task_name` alone (from the Hub), or local files. Local files with `task_name` have that task's columns,
    labels and metrics; without it the columns are `sentence` or `sentence1` and `sentence2`, and `label`.
    """

    task_name: str | None = field(default=None, metadata={"help": f"A task of GLUE: {', '.join(GLUE_TASKS)}."})
    train_file: str | None = field(default=None, metadata={"help": "Training rows: csv, tsv, json, jsonl or parquet."})
    validation_file: str | None = field(default=None, metadata={"help": "Validation rows (mnli: the matched ones)."})
    validation_mismatched_file: str | None = field(default=None, metadata={"help": "mnli's mismatched rows."})
    test_file: str | None = field(default=None, metadata={"help": "Rows to predict (mnli: the matched ones)."})
    test_mismatched_file: str | None = field(default=None, metadata={"help": "mnli's mismatched rows to predict."})
    max_seq_length: int = field(
        default=128,
        metadata={"help": "Longer inputs are cut to so many tokens; rows are padded to the longest of a batch."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use the first so many training rows."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use the first so many validation rows."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use the first so many test rows."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenise."})
    overwrite_cache: bool = field(default=False, metadata={"help": "Tokenise again what is in the cache."})
    dynamic_n: bool = field(
        default=False,
        metadata={
            "help": "Let the attention normalization use each sequence's own length n where the checkpoint fixes it."
        },
    )
    ignore_mismatched_sizes: bool = field(
        default=False, metadata={"help": "Start a new classifier where the checkpoint has one for other labels."}
    )

    def __post_init__(self):
        if self.task_name is not None and self.task_name not in GLUE_TASKS:
            nearest = difflib.get_close_matches(self.task_name.lower().replace("-", ""), GLUE_TASKS, n=1)
            raise ValueError(
                f"--task_name {self.task_name}: GLUE has no such task. Give one of {', '.join(GLUE_TASKS)}"
                f"{f' (did you mean {nearest[0]}?)' if nearest else ''}, or leave it out and give local files."
            )
        if self.task_name is None and not self.files():
            raise ValueError("No data: give --task_name, or --train_file, --validation_file or --test_file, or both.")
        if self.task_name != "mnli" and (self.validation_mismatched_file or self.test_mismatched_file):
            raise ValueError("--validation_mismatched_file and --test_mismatched_file go with --task_name mnli only.")
        if self.max_seq_length < 3:
            raise ValueError(f"--max_seq_length must be at least 3, got {self.max_seq_length}.")
        for name in ("max_train_samples", "max_eval_samples", "max_predict_samples", "preprocessing_num_workers"):
            value = vars(self)[name]
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")

    def files(self) -> dict[str, str]:
        """Split -> local file, with the split names of the task."""
        task = GLUE_TASKS.get(self.task_name, LOCAL_TASK)
        files = {
            "train": self.train_file,
            task.evaluation_splits["eval"]: self.validation_file,
            task.evaluation_splits.get("eval_mm"): self.validation_mismatched_file,
            task.test_splits["test"]: self.test_file,
            task.test_splits.get("test_mm"): self.test_mismatched_file,
        }
        return {split: path for split, path in files.items() if path is not None}


# Reading


def load_splits(
    arguments: GlueArguments, training_arguments: TrainingArguments, cache_dir: str | None, token: str | None
) -> dict[str, Dataset]:
    """Reads the splits that training, evaluation and prediction need, and no other.

    Returns:
        Hub name of the split -> rows as they are in the file or on the Hub.

    Raises:
        ValueError: a split that is needed is missing, or a file is missing, empty, of an unknown kind or damaged.
        ConnectionError: the Hub cannot be reached.
    """
    needed, wanted = _needed_splits(arguments, training_arguments)
    files = arguments.files()
    available = files if files else _load_from_hub(arguments.task_name, cache_dir, token)
    for split, purpose in needed.items():
        if split not in available:
            raise ValueError(_describe_missing_split(arguments, split, purpose, available))
    splits = {split: available[split] for split in wanted if split in available}
    if files:
        splits = {split: _read_file(path, cache_dir) for split, path in splits.items()}
    for split, rows in splits.items():
        if len(rows) == 0:
            raise ValueError(f"Split {split} ({_source(arguments, split)}) has no rows.")
    return splits


def _needed_splits(arguments: GlueArguments, training: TrainingArguments) -> tuple[dict[str, str], list[str]]:
    """The splits that must be there, with the option that asks for them, and all that are used if they are there."""
    task = GLUE_TASKS.get(arguments.task_name, LOCAL_TASK)
    needed, wanted = {}, []
    if training.do_train:
        needed["train"] = "--do_train"
        wanted += ["train"]
    if training.do_eval:
        needed[task.evaluation_splits["eval"]] = "--do_eval"
        wanted += task.evaluation_splits.values()
    if training.do_predict:
        needed[task.test_splits["test"]] = "--do_predict"
        wanted += task.test_splits.values()
    return needed, wanted


def _describe_missing_split(arguments: GlueArguments, split: str, purpose: str, available: Iterable[str]) -> str:
    there = f"there is {', '.join(available)}"
    option = f"--{split.removesuffix('_matched')}_file"
    if arguments.files():
        return f"{purpose} needs the split {split}, but {there}. Give {option}, or leave {purpose} out."
    hint = " Train on mnli and use ax with --do_predict." if arguments.task_name == "ax" else ""
    return f"{purpose} needs the split {split}, but the Hub's {arguments.task_name} has none: {there}.{hint}"


def _source(arguments: GlueArguments, split: str) -> str:
    return arguments.files().get(split, f"{HUB_DATASET}, {arguments.task_name}")


def _load_from_hub(task_name: str, cache_dir: str | None, token: str | None) -> dict[str, Dataset]:
    try:
        return load_dataset(HUB_DATASET, task_name, cache_dir=cache_dir, token=token)
    except (ConnectionError, FileNotFoundError) as error:
        raise ConnectionError(
            f"{HUB_DATASET} cannot be loaded from the Hub ({error}). Without a network, give local files with the "
            f"columns of {task_name}: --train_file, --validation_file, --test_file."
        ) from error


def _read_file(name: str, cache_dir: str | None) -> Dataset:
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    if suffix not in FILE_FORMATS:
        raise ValueError(f"{name}: files of rows are {', '.join(FILE_FORMATS)}; convert it to one of them.")
    if not path.is_file():
        raise ValueError(f"{name}: there is no such file.")
    if path.stat().st_size == 0:
        raise ValueError(f"{name}: the file is empty.")
    builder, options = FILE_FORMATS[suffix]
    try:
        return load_dataset(builder, data_files=str(path.resolve()), split="train", cache_dir=cache_dir, **options)
    except (DatasetGenerationError, ValueError) as error:  # the first is only a wrapper of what went wrong
        cause = error.__cause__ or error
        raise ValueError(f"{name} cannot be read as {suffix[1:]}: {cause}") from error


# Columns and labels


def infer_task(splits: Mapping[str, Dataset], saved_label_names: Sequence[str] | None = None) -> GlueTask:
    """Says what local data without a task name is.

    Scores (a `label` of floating point) make a regression. Otherwise the classes are those of the training split,
    sorted; without a training split those of the checkpoint or, if it has no classifier, of the validation split.

    Args:
        splits: what `load_splits` gives.
        saved_label_names: classes of the checkpoint's classifier, if it has one.

    Raises:
        ValueError: neither `sentence` nor `sentence1` and `sentence2` are there, or nothing tells the classes.
    """
    text_columns = _infer_text_columns(splits)
    labelled = next((rows for rows in splits.values() if "label" in rows.column_names), None)
    if "train" not in splits and saved_label_names is not None:
        names = tuple(saved_label_names)
        is_regression = len(names) == 1
    elif labelled is None:
        raise ValueError(
            "Nothing tells the labels: there is no `label` column in "
            f"{', '.join(splits)}, and the checkpoint has no classifier. Give a fine-tuned checkpoint, or train."
        )
    else:
        is_regression = labelled.features["label"].dtype.startswith("float")
        names = ("score",) if is_regression else _infer_label_names(labelled)
    metric = "stsb" if is_regression else "sst2"
    return replace(
        LOCAL_TASK, text_columns=text_columns, label_names=names, metric=metric, is_regression=is_regression
    )


def _infer_text_columns(splits: Mapping[str, Dataset]) -> tuple[str, ...]:
    columns = next(iter(splits.values())).column_names
    for candidate in (_SENTENCES, _SENTENCE):
        if set(candidate) <= set(columns):
            return candidate
    raise ValueError(
        "Without --task_name, text is expected in the column `sentence`, or for pairs in `sentence1` and `sentence2`; "
        f"the data has {', '.join(columns)}. Rename columns, or give the --task_name whose columns these are."
    )


def _infer_label_names(rows: Dataset) -> tuple[str, ...]:
    feature = rows.features["label"]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    # A missing or hidden label is not a class: LabelEncoder reports it, with its row.
    values = sorted(set(rows.unique("label")) - {None, "", HIDDEN_LABEL})
    if len(values) < 2:
        raise ValueError(
            f"Column label holds {values[0]!r} and nothing else: two classes are the least that can be told apart."
            if values
            else "Column label is empty: training and evaluation need labels."
        )
    return tuple(str(value) for value in values)


def saved_label_names(config: PreTrainedConfig) -> tuple[str, ...] | None:
    """The classes of a checkpoint by id; None when it has no sequence classifier."""
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return None
    return tuple(config.id2label[index] for index in range(config.num_labels))


def model_label_names(
    task: GlueTask, saved: Sequence[str] | None, do_train: bool, ignore_mismatched_sizes: bool = False
) -> tuple[str, ...]:
    """The classes in the order of the model's outputs.

    That is the task's order, unless the checkpoint has a classifier for the same classes in another order.

    Args:
        task: of the data.
        saved: classes of the checkpoint's classifier, None when there is none.
        do_train: whether the classifier will be trained.
        ignore_mismatched_sizes: whether a classifier of another size may be replaced.

    Raises:
        ValueError: the checkpoint's classifier has other classes and is not going to learn these.
    """
    unnamed = [f"LABEL_{index}" for index in range(len(task.label_names))]
    if saved is None or list(saved) == unnamed:
        return task.label_names
    if set(saved) == set(task.label_names):
        return tuple(saved)
    what = f"The checkpoint's classifier knows {', '.join(saved)}; {task.name} has {', '.join(task.label_names)}."
    if not do_train:
        raise ValueError(f"{what} Give a checkpoint that was trained on {task.name}, or add --do_train.")
    if len(saved) != len(task.label_names) and not ignore_mismatched_sizes:
        raise ValueError(f"{what} Add --ignore_mismatched_sizes to start a new classifier on top of its encoder.")
    return task.label_names


def check_columns(task: GlueTask, split: str, rows: Dataset, needs_label: bool) -> None:
    """Raises ValueError when a column is missing, is not text, or has rows of None. An empty text is a text."""
    needed = (*task.text_columns, "label") if needs_label else task.text_columns
    missing = [column for column in needed if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"Split {split} has no column {' and no column '.join(missing)}. {task.name} needs {', '.join(needed)}; "
            f"there is {', '.join(rows.column_names)}. Rename columns, or give the --task_name that has these."
        )
    for column in task.text_columns:
        if "string" not in rows.features[column].dtype:
            raise ValueError(f"Split {split}: column {column} must be text, but it is {rows.features[column].dtype}.")
        if rows.data.column(column).null_count:
            empty = next(index for index, text in enumerate(rows[column]) if text is None)
            raise ValueError(f"Split {split}: column {column} has no text in row {empty} (the first row is 0).")


class LabelEncoder:
    """Turns the `label` values of a data set into what the model is trained on, and refuses those it does not know.

    Classes may be given by name or by id. Ids count in the task's order; the model's may differ (see
    `model_label_names`).
    """

    def __init__(self, task: GlueTask, label_names: Sequence[str]):
        self.task = task
        self.ids = {name: index for index, name in enumerate(label_names)}
        # Where names are numbers themselves, such as the 1 ... 5 of a rating, a number is a name.
        if not any(name.isdigit() for name in task.label_names):
            self.ids |= {str(index): label_names.index(name) for index, name in enumerate(task.label_names)}

    def __call__(self, values: Iterable[object]) -> list[int] | list[float]:
        if self.task.is_regression:
            return [_score(value) for value in values]
        return [self.ids[_label_key(value)] for value in values]

    def check(self, split: str, values: Iterable[object]) -> None:
        """Raises ValueError for the first label that is missing, hidden, out of range or unknown."""
        for row, value in enumerate(values):
            if not self._is_valid(value):
                raise ValueError(f"Split {split}, row {row} (the first row is 0): {self._describe(value)}")

    def _is_valid(self, value: object) -> bool:
        if not self.task.is_regression:
            return _label_key(value) in self.ids
        lowest, highest = self.task.label_range or (-math.inf, math.inf)
        score = _score(value)
        return math.isfinite(score) and lowest <= score <= highest

    def _describe(self, value: object) -> str:
        if self.task.is_regression:
            within = " from {:g} to {:g}".format(*self.task.label_range) if self.task.label_range else ""
            allowed = f"a finite number{within}"
        else:
            allowed = ", ".join(f"{index} ({name})" for index, name in enumerate(self.task.label_names))
        if value is None or value == "":
            return f"the label is missing. Allowed: {allowed}. Remove the row, or label it."
        if value == HIDDEN_LABEL and not self.task.label_range:
            allowed += "; -1 stands for the hidden labels of a test split, which is for --do_predict with --test_file"
        return f"the label {value!r} is not one of {self.task.name}. Allowed: {allowed}. Correct or remove the row."


def _label_key(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _score(value: object) -> float:
    """NaN for what is no number. A csv with one label missing comes as text, and the others must not be blamed."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def has_hidden_labels(rows: Dataset) -> bool:
    """Whether nothing is known of the labels: no such column, or only -1 and missing values in it."""
    return "label" not in rows.column_names or set(rows.unique("label")) <= {None, HIDDEN_LABEL}


def check_splits(task: GlueTask, splits: Mapping[str, Dataset], encoder: LabelEncoder) -> None:
    """Raises ValueError for the first split with a missing column, text or label, or a label that is not allowed."""
    for split, rows in splits.items():
        is_test = split in task.test_splits.values()
        check_columns(task, split, rows, needs_label=not is_test)
        if not (is_test and has_hidden_labels(rows)):
            encoder.check(split, rows["label"])


# What the Trainer gets


def tokenize_split(
    rows: Dataset,
    task: GlueTask,
    tokenizer: PreTrainedTokenizerBase,
    encoder: LabelEncoder,
    arguments: GlueArguments,
    max_samples: int | None = None,
    description: str = "Tokenising",
) -> Dataset:
    """Returns the first `max_samples` rows as model inputs: not padded, cut at `max_seq_length` tokens (the longer
    text of a pair first), with a column `labels` unless the labels are hidden."""
    labelled = not has_hidden_labels(rows)
    if max_samples is not None:
        rows = rows.select(range(min(max_samples, len(rows))))

    def tokenize(batch: Mapping[str, list]) -> Mapping[str, list]:
        texts = [batch[column] for column in task.text_columns]
        inputs = tokenizer(*texts, truncation=True, max_length=arguments.max_seq_length)
        return {**inputs, "labels": encoder(batch["label"])} if labelled else dict(inputs)

    return rows.map(
        tokenize,
        batched=True,
        remove_columns=rows.column_names,
        num_proc=arguments.preprocessing_num_workers,
        load_from_cache_file=not arguments.overwrite_cache,
        desc=description,
    )
