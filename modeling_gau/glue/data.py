# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Rows of GLUE and CLUE tasks, or of local files of the same shape: reading, columns, labels, checks, tokenisation.

A data set goes through here in this order: `load_splits` reads it, `BENCHMARKS` or `infer_task` says what it is,
`model_label_names` fixes the order of the classes in the model, `LabelEncoder` checks every label before anything is
trained, and `tokenize_split` gives the model's inputs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerBase, TrainingArguments

from ..text.files import FILE_FORMATS
from .benchmarks import BENCHMARKS, Benchmark, check_task_name, find_benchmark
from .columns import ColumnOptions, Splits, read_table
from .folders import describe_names, file_options
from .label_maps import check_label_map, model_label_names, saved_label_names
from .labels import LabelEncoder, check_columns, check_splits, has_hidden_labels, infer_task, label_values
from .rows import keep_labelled_rows, prepare_rows
from .tasks import LOCAL_TASK, PROBLEM_TYPES, GlueTask


__all__ = [
    "FILE_FORMATS",
    "GlueArguments",
    "LabelEncoder",
    "check_columns",
    "check_label_map",
    "check_splits",
    "has_hidden_labels",
    "infer_task",
    "load_splits",
    "model_label_names",
    "saved_label_names",
    "tokenize_split",
]


@dataclass
class GlueArguments:
    """Which data to fine-tune and evaluate on.

    Either `task_name` alone (from the Hub), or local files. Local files with `task_name` have that task's columns,
    labels and metrics; without it the columns are `sentence` or `sentence1` and `sentence2`, and `label`. The columns
    of local files may have other names, which `text_column`, `text_pair_column` and `label_column` give.
    """

    dataset_name: Literal["glue", "clue"] = field(
        default="glue", metadata={"help": "The benchmark that task_name is of: GLUE in English, CLUE in Chinese."}
    )
    task_name: str | None = field(
        default=None,
        metadata={
            "help": "A task of the benchmark, several of them with commas in between, or `all`: "
            + "; ".join(f"of {benchmark.name} {', '.join(benchmark.tasks)}" for benchmark in BENCHMARKS.values())
            + "."
        },
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training rows: csv, tsv, json, jsonl or parquet; all but the last may be compressed (.gz, .bz2, "
            ".xz, .zst)."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Validation rows (mnli: the matched ones)."})
    validation_mismatched_file: str | None = field(default=None, metadata={"help": "mnli's mismatched rows."})
    test_file: str | None = field(default=None, metadata={"help": "Rows to predict (mnli: the matched ones)."})
    test_mismatched_file: str | None = field(default=None, metadata={"help": "mnli's mismatched rows to predict."})
    test_1_0_file: str | None = field(
        default=None,
        metadata={
            "help": "CLUE's tnews and cluewsc2020: the test rows of CLUE 1.0, beside those of 1.1 in test_file."
        },
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Column of local files that holds the text, of pairs the first one."}
    )
    text_pair_column: str | None = field(
        default=None, metadata={"help": "Column of local files that holds the second text of pairs."}
    )
    label_column: list[str] | None = field(
        default=None,
        metadata={
            "help": "Column of local files that holds the label (`label` by default); or one for every class of a "
            "multi-label problem, which hold 1 where the class applies and 0 elsewhere."
        },
    )
    problem_type: Literal["single_label", "multi_label", "regression"] | None = field(
        default=None,
        metadata={
            "help": "What the labels of local files are: one class a row, any number of them, or a score. By default "
            "lists and several columns make a multi-label problem, numbers with a decimal point a regression, and "
            "everything else classes."
        },
    )
    label_separator: str = field(
        default=",", metadata={"help": "What stands between the labels in one cell of text, for multi_label."}
    )
    accept_label_map: bool = field(
        default=False,
        metadata={
            "help": "Only warn where the results of an evaluation look as if classes of the checkpoint were exchanged."
        },
    )
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
        if self.task_name is not None and self.task_name != "all":
            self.task_name = ",".join(self.task_names())
            if not self.task_name:
                names = ", ".join(self.benchmark().tasks)
                raise ValueError(f"--task_name is empty: give one or more of {names}, or `all`.")
        for name in self.task_names():
            check_task_name(self.benchmark(), name, self.task_name)
        if self.task_name is None and self.dataset_name != "glue":
            names = ", ".join(self.benchmark().tasks)
            raise ValueError(
                f"--dataset_name {self.dataset_name} goes with --task_name: give one of {names}, or `all`."
            )
        if self.task_name is None and not self.files():
            raise ValueError("No data: give --task_name, or --train_file, --validation_file or --test_file, or both.")
        if len(self.task_names()) > 1 and self.files():
            raise ValueError(
                f"--task_name {self.task_name} names several tasks, and files are those of one. Give --data_dir with "
                "a folder for each, or one task."
            )
        if self.task_name != "mnli" and (self.validation_mismatched_file or self.test_mismatched_file):
            raise ValueError("--validation_mismatched_file and --test_mismatched_file go with --task_name mnli only.")
        if self.test_1_0_file is not None and "test_1_0" not in self.task().test_splits:
            raise ValueError(
                "--test_1_0_file goes with --dataset_name clue and --task_name tnews or cluewsc2020 only."
            )
        self._check_columns()
        if self.max_seq_length < 3:
            raise ValueError(f"--max_seq_length must be at least 3, got {self.max_seq_length}.")
        for name in ("max_train_samples", "max_eval_samples", "max_predict_samples", "preprocessing_num_workers"):
            value = vars(self)[name]
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")

    def _check_columns(self) -> None:
        options, task = self.column_options(), self.task()
        is_own = task.name == LOCAL_TASK.name
        if len(self.task_names()) > 1 and options != ColumnOptions():
            raise ValueError(f"--task_name {self.task_name} names several tasks: options for columns are for one.")
        if task.prepare is not None and (options.text or options.text_pair):
            raise ValueError(
                f"--text_column and --text_pair_column: the texts of {task.name} are made from "
                f"{' and '.join(task.read_columns)}, which must have these names."
            )
        if options.text_pair is not None and (options.text is None if is_own else len(task.text_columns) == 1):
            what = "give --text_column as well" if is_own else f"{task.name} has one text a row, leave it out"
            raise ValueError(f"--text_pair_column {options.text_pair} is for the second text of pairs: {what}.")
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"--problem_type {self.problem_type}: give one of {', '.join(PROBLEM_TYPES)}.")
        if not is_own and options.problem_type not in (None, task.problem_type):
            raise ValueError(
                f"--problem_type {self.problem_type}: {task.name} is a {task.problem_type}; leave it out."
            )
        labels = options.labels or ()
        if len(set(labels)) < len(labels):
            raise ValueError(f"--label_column {' '.join(labels)} names a column twice.")
        if len(labels) > 1 and not (is_own and self.problem_type in (None, "multi_label")):
            raise ValueError(
                f"--label_column {' '.join(labels)}: several columns are the classes of a multi-label problem, which "
                f"{f'--task_name {task.name}' if not is_own else f'--problem_type {self.problem_type}'} is not."
            )
        if not self.label_separator:
            raise ValueError("--label_separator must not be empty.")

    def column_options(self) -> ColumnOptions:
        """What is said of the columns of local files."""
        return ColumnOptions(
            text=self.text_column,
            text_pair=self.text_pair_column,
            labels=tuple(self.label_column) if self.label_column else None,
            problem_type=PROBLEM_TYPES.get(self.problem_type),
            separator=self.label_separator,
        )

    def benchmark(self) -> Benchmark:
        """The benchmark of the tasks."""
        return find_benchmark(self.dataset_name)

    def task(self) -> GlueTask:
        """The task, where one is named; `LOCAL_TASK` elsewhere."""
        return self.benchmark().tasks.get(self.task_name, LOCAL_TASK)

    def task_names(self) -> tuple[str, ...]:
        """The tasks that `task_name` stands for: none, one, several with commas between them, or `all`."""
        if self.task_name == "all":
            return tuple(self.benchmark().tasks)
        names = [name.strip() for name in (self.task_name or "").split(",")]
        return tuple(dict.fromkeys(filter(None, names)))

    def files(self) -> dict[str, str]:
        """Split -> local file, with the split names of the task."""
        files = {split: vars(self)[option] for split, option in file_options(self.task()).items()}
        return {split: path for split, path in files.items() if path is not None}


# Reading


def load_splits(
    arguments: GlueArguments, training_arguments: TrainingArguments, cache_dir: str | None, token: str | None
) -> dict[str, Dataset]:
    """Reads the splits that training, evaluation and prediction need, and no other.

    Returns:
        Hub name of the split -> rows as they are on the Hub, or of a file as `read_table` gives them; the texts are
        made where the task's are, and rows that say they have no label are left out, except of test splits.

    Raises:
        ValueError: a split that is needed is missing, or something is wrong with a file or its rows.
        ConnectionError: the Hub cannot be reached.
    """
    needed, wanted = _needed_splits(arguments, training_arguments)
    files, options = arguments.files(), arguments.column_options()
    if not files and options != ColumnOptions():
        raise ValueError("--text_column, --label_column and the like are for local files: give --train_file, or none.")
    available = files if files else _load_from_hub(arguments, cache_dir, token)
    for split, purpose in needed.items():
        if split not in available:
            raise ValueError(_describe_missing_split(arguments, split, purpose, available))
    splits, task = {split: available[split] for split in wanted if split in available}, arguments.task()
    if files:
        rows = {
            split: read_table(path, split, task, options, cache_dir, arguments.overwrite_cache)
            for split, path in splits.items()
        }
        splits = Splits(rows, splits)
    else:
        for split, rows in splits.items():
            if len(rows) == 0:
                source = f"{arguments.benchmark().hub_dataset}, {arguments.task_name}"
                raise ValueError(f"Split {split} ({source}) has no rows.")
        anew = arguments.overwrite_cache
        splits = Splits({split: prepare_rows(task, split, rows, anew) for split, rows in splits.items()}, {})
    splits, messages = keep_labelled_rows(task, splits)
    for message in messages if training_arguments.should_log else ():
        print(message)
    return splits


def _needed_splits(arguments: GlueArguments, training: TrainingArguments) -> tuple[dict[str, str], list[str]]:
    """The splits that must be there, with the option that asks for them, and all that are used if they are there."""
    task = arguments.task()
    needed, wanted = {}, []
    if training.do_train:
        needed["train"] = "--do_train"
        wanted += ["train"]
    if training.do_eval:
        needed[task.evaluation_splits["eval"]] = "--do_eval"
        wanted += task.evaluation_splits.values()
    if training.do_predict:
        tests = list(task.test_splits.values())
        needed[next((split for split in tests if split in arguments.files()), tests[0])] = "--do_predict"
        wanted += tests
    return needed, wanted


def _describe_missing_split(arguments: GlueArguments, split: str, purpose: str, available: Iterable[str]) -> str:
    there = f"there is {', '.join(available)}"
    if arguments.files():
        option = f"--{file_options(arguments.task())[split]}"
        called = f" (in --data_dir a file called {describe_names(arguments.task(), split)})"
        option += called if arguments.task_name else ""
        return f"{purpose} needs the split {split}, but {there}. Give {option}, or leave {purpose} out."
    hint = " Train on mnli and use ax with --do_predict." if arguments.task_name == "ax" else ""
    return f"{purpose} needs the split {split}, but the Hub's {arguments.task_name} has none: {there}.{hint}"


def _load_from_hub(arguments: GlueArguments, cache_dir: str | None, token: str | None) -> dict[str, Dataset]:
    name = arguments.benchmark().hub_dataset
    try:
        return load_dataset(name, arguments.task_name, cache_dir=cache_dir, token=token)
    except (ConnectionError, FileNotFoundError) as error:
        raise ConnectionError(
            f"{name} cannot be loaded from the Hub ({error}). Without a network, give local files with the columns of "
            f"{arguments.task_name}: --train_file, --validation_file, --test_file; or, also for several tasks, "
            "--data_dir with a folder for each (of CLUE the official archives, unzipped)."
        ) from error


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
    feature = rows.features.get("label")
    if max_samples is not None:
        rows = rows.select(range(min(max_samples, len(rows))))

    def tokenize(batch: Mapping[str, list]) -> Mapping[str, list]:
        texts = [batch[column] for column in task.text_columns]
        inputs = tokenizer(*texts, truncation=True, max_length=arguments.max_seq_length)
        return {**inputs, "labels": encoder(label_values(batch, feature))} if labelled else dict(inputs)

    return rows.map(
        tokenize,
        batched=True,
        remove_columns=rows.column_names,
        num_proc=arguments.preprocessing_num_workers,
        load_from_cache_file=not arguments.overwrite_cache,
        desc=description,
    )
