# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which data to fine-tune on: tasks of a benchmark by name, local files, and the folders that hold them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..configuration_gau import GAUError
from ..text.files import FILE_FORMATS
from .tasks import BENCHMARKS, LOCAL_TASK, PROBLEM_TYPES, Benchmark, GlueTask


# Prefix of a split's metrics -> the option that names its file.
_FILE_OPTIONS: Mapping[str, str] = {
    "eval": "validation_file",
    "eval_mm": "validation_mismatched_file",
    "test": "test_file",
    "test_mm": "test_mismatched_file",
}


@dataclass(frozen=True)
class ColumnOptions:
    """How the columns of local files are named; None stands for the task's own names.

    Args:
        text, text_pair: columns of the text and, for pairs, of the second text.
        labels: one column, or several that hold 1 where their class applies and 0 elsewhere.
        problem_type: one of `PROBLEM_TYPES.values()`; None infers it from the labels.
        separator: stands between the labels in one cell of text.
    """

    text: str | None = None
    text_pair: str | None = None
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None
    separator: str = ","


@dataclass
class GlueArguments:
    """Which data to fine-tune and evaluate on.

    Give `task_name` alone to read the Hub, or local files. Local files with `task_name` have that task's columns,
    labels and metrics. Without it, their columns are `sentence` or `sentence1` and `sentence2`, and `label`;
    `text_column`, `text_pair_column` and `label_column` give other names.
    """

    dataset_name: Literal["glue", "clue"] = field(
        default="glue", metadata={"help": "Benchmark that task_name belongs to: GLUE in English, CLUE in Chinese."}
    )
    task_name: str | None = field(
        default=None,
        metadata={
            "help": "A task of the benchmark, several separated by commas, or `all`: for glue cola, sst2, mrpc, qqp, "
            "stsb, mnli, qnli, rte, wnli, ax; for clue afqmc, tnews, iflytek, cmnli, ocnli, csl, cluewsc2020."
        },
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Training rows: csv, tsv, json, jsonl or parquet. All but parquet may be compressed (.gz, .bz2, "
            ".xz, .zst)."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Validation rows (mnli: the matched ones)."})
    validation_mismatched_file: str | None = field(default=None, metadata={"help": "mnli's mismatched rows."})
    test_file: str | None = field(default=None, metadata={"help": "Rows to predict (mnli: the matched ones)."})
    test_mismatched_file: str | None = field(default=None, metadata={"help": "mnli's mismatched rows to predict."})
    text_column: str | None = field(
        default=None, metadata={"help": "Column of local files with the text, or the first text of pairs."}
    )
    text_pair_column: str | None = field(
        default=None, metadata={"help": "Column of local files with the second text of pairs."}
    )
    label_column: list[str] | None = field(
        default=None,
        metadata={
            "help": "Column of local files with the label (default: `label`). For a multi-label problem, you may give "
            "one column for each class, with 1 where the class applies and 0 elsewhere."
        },
    )
    problem_type: Literal["single_label", "multi_label", "regression"] | None = field(
        default=None,
        metadata={
            "help": "Kind of the labels in local files: one class a row, any number of classes, or a score. By "
            "default, lists and several columns are multi_label, numbers with a decimal point are regression, and "
            "everything else is single_label. The label -1 means that a row has none, unless 1 is the only other "
            "label or you give single_label: then it is a class."
        },
    )
    label_separator: str = field(
        default=",", metadata={"help": "Separates the labels in one cell of text, for multi_label."}
    )
    max_seq_length: int = field(
        default=128, metadata={"help": "Truncate inputs to this many tokens. Batches are padded to their longest row."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training rows."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N validation rows."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use only the first N test rows."})
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Number of processes that tokenise."}
    )
    overwrite_cache: bool = field(default=False, metadata={"help": "Tokenise again instead of using the cache."})
    dynamic_n: bool = field(
        default=False,
        metadata={"help": "Use each sequence's own length n in the attention normalization, even if the checkpoint "
        "fixes n."},
    )  # fmt: skip
    ignore_mismatched_sizes: bool = field(
        default=False, metadata={"help": "Start a new classifier if the checkpoint's is for other labels."}
    )

    def __post_init__(self):
        self._check_tasks()
        self._check_columns()
        if not 3 <= self.max_seq_length < 2**31:
            raise GAUError(f"--max_seq_length must be at least 3 and below 2**31, got {self.max_seq_length}.")
        for name in ("max_train_samples", "max_eval_samples", "max_predict_samples", "preprocessing_num_workers"):
            value = vars(self)[name]
            if value is not None and value < 1:
                raise GAUError(f"--{name} must be at least 1, got {value}.")

    def _check_tasks(self) -> None:
        if self.task_name is None and self.dataset_name != "glue":
            names = ", ".join(self.benchmark().tasks)
            raise GAUError(f"--dataset_name {self.dataset_name} needs --task_name: give one of {names}, or `all`.")
        if self.task_name is None and not self.files():
            raise GAUError("No data: give --task_name, or --train_file, --validation_file or --test_file, or both.")
        if self.task_name is not None and self.task_name != "all":
            self.task_name = ",".join(self.task_names())
        for name in self.task_names():
            self.benchmark().check_task_name(name)
        if self.task_name == "":
            self.benchmark().check_task_name("")
        if len(self.task_names()) > 1 and (self.files() or self.column_options() != ColumnOptions()):
            raise GAUError(
                f"--task_name {self.task_name} names several tasks, but files and columns belong to one. Give "
                "--data_dir with a folder for each task, or give one task."
            )
        if self.task_name != "mnli" and (self.validation_mismatched_file or self.test_mismatched_file):
            raise GAUError("--validation_mismatched_file and --test_mismatched_file go with --task_name mnli only.")

    def _check_columns(self) -> None:
        options, task = self.column_options(), self.task()
        is_local = task.is_local
        if task.prepare is not None and (options.text or options.text_pair):
            raise GAUError(
                f"--text_column and --text_pair_column do not work with {task.name}, whose texts are made from the "
                f"columns {' and '.join(task.read_columns)}: rename these columns in the file."
            )
        if is_local and options.text_pair is not None and options.text is None:
            raise GAUError(f"--text_pair_column {options.text_pair} is the second text of pairs: add --text_column.")
        if not is_local and options.text_pair is not None and len(task.text_columns) == 1:
            raise GAUError(f"--text_pair_column {options.text_pair}: {task.name} has one text a row, leave it out.")
        if not is_local and options.problem_type not in (None, task.problem_type):
            raise GAUError(f"--problem_type {self.problem_type}: {task.name} is a {task.problem_type}; leave it out.")
        labels = options.labels or ()
        if len(set(labels)) < len(labels):
            raise GAUError(f"--label_column {' '.join(labels)} names a column twice.")
        if len(labels) > 1 and not (is_local and self.problem_type in (None, "multi_label")):
            raise GAUError(
                f"--label_column {' '.join(labels)}: several columns make a multi-label problem, not "
                f"{self.problem_type or self.task_name}. Give one column, or leave out --task_name and --problem_type."
            )
        texts = [options.text, options.text_pair] if options.text else task.read_columns if not is_local else []
        twice = [name for name in texts if name in (options.labels or ("label",))]
        if twice:
            raise GAUError(f"{twice[0]!r} is given as text and as label: --text_column and --label_column differ.")
        if options.text is not None and options.text == options.text_pair:
            raise GAUError(
                f"--text_column and --text_pair_column are both {options.text!r}: a pair has two texts. Leave out "
                "--text_pair_column for single texts."
            )
        if not self.label_separator:
            raise GAUError("--label_separator must not be empty.")

    def column_options(self) -> ColumnOptions:
        return ColumnOptions(
            text=self.text_column,
            text_pair=self.text_pair_column,
            labels=tuple(self.label_column) if self.label_column else None,
            problem_type=self.problem_type and PROBLEM_TYPES[self.problem_type],
            separator=self.label_separator,
        )

    def stated_problem_type(self) -> str:
        """The problem type as far as it is known before data is read; a single label if nothing is stated."""
        if self.label_column and len(self.label_column) > 1:
            return PROBLEM_TYPES["multi_label"]
        return self.column_options().problem_type or self.task().problem_type

    def benchmark(self) -> Benchmark:
        return BENCHMARKS[self.dataset_name]

    def task(self) -> GlueTask:
        """The task that `task_name` names, otherwise `LOCAL_TASK`."""
        return self.benchmark().tasks.get(self.task_name, LOCAL_TASK)

    def task_names(self) -> tuple[str, ...]:
        """All tasks that `task_name` names."""
        if self.task_name == "all":
            return tuple(self.benchmark().tasks)
        names = [name.strip() for name in (self.task_name or "").split(",")]
        return tuple(dict.fromkeys(filter(None, names)))

    def files(self) -> dict[str, str]:
        """Split of the task -> local file."""
        files = {split: vars(self)[option] for split, option in file_options(self.task()).items()}
        return {split: path for split, path in files.items() if path is not None}


def file_options(task: GlueTask) -> dict[str, str]:
    """Split of a task -> the option in [`GlueArguments`] that names its file."""
    splits = {**task.evaluation_splits, **task.test_splits}
    return {"train": "train_file"} | {split: _FILE_OPTIONS[prefix] for prefix, split in splits.items()}


def task_files(data_dir: str, task: GlueTask) -> dict[str, str]:
    """Option in [`GlueArguments`] -> the file of a task in `data_dir`.

    Raises:
        ValueError: `data_dir` has no files of the task, or two files for one split.
    """
    benchmark, options = BENCHMARKS[task.benchmark], file_options(task)
    folders = [Path(data_dir).expanduser() / folder.format(task.name) for folder in benchmark.folders]
    found = {}
    for split, option in options.items():
        names = [f"{stem}{ending}" for stem in benchmark.file_stems.get(split, (split,)) for ending in FILE_FORMATS]
        paths = [path for folder in folders for name in names if (path := folder / name).is_file()]
        if len(paths) > 1:
            raise GAUError(
                f"--data_dir has two files for {split} of {task.name}: {', '.join(map(str, paths))}. Keep one."
            )
        if paths:
            found[option] = str(paths[0])
    if not found:
        raise GAUError(
            f"--data_dir: {' or '.join(map(str, folders))} has no files of {task.name}. Name them after the splits "
            f"({', '.join(options)}) and end them with one of {', '.join(FILE_FORMATS)}, or list the tasks that you "
            "have in --task_name."
        )
    return found
