# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From arguments to model inputs: reads the splits from files or the Hub, finds the classes, checks and tokenises."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datasets import Dataset, Features, Value, load_dataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainingArguments

from ..configuration_gau import GAUError
from ..runs import models
from ..runs.arguments import ModelArguments
from ..runs.models import known_length
from ..text.fingerprints import digest
from .arguments import ColumnOptions, GlueArguments, file_options
from .labels import (
    LabelEncoder,
    check_labels,
    describe_row,
    has_hidden_labels,
    infer_task,
    label_values,
    model_label_names,
    saved_label_names,
)
from .local_files import read_table
from .tasks import GlueTask
from .trainer import GlueTrainingArguments


_VERSION = 1  # raise it with every change of the texts that a task makes


@dataclass
class GlueData:
    """What a run needs to know of its data.

    Args:
        task: the task.
        label_names: the classes in the order of the model's outputs.
        tokenizer: of the checkpoint.
        inputs: split -> rows as model inputs.
        rows: split -> the same rows with the task's text columns.
        column_names: how the user calls the text columns.
    """

    task: GlueTask
    label_names: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    inputs: dict[str, Dataset]
    rows: dict[str, Dataset]
    column_names: tuple[str, ...]

    def texts(self, split: str) -> list[list[str]]:
        """The texts of a split, column by column."""
        return [self.rows[split][column][:] for column in self.task.text_columns]


def prepare_data(
    model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments, base_config: PreTrainedConfig
) -> GlueData:
    """Reads and tokenises what the arguments ask for; `base_config` is the checkpoint's configuration."""
    with args.main_process_first(desc="data preparation"):
        return _prepare_data(model_args, glue_args, args, base_config)


def _prepare_data(
    model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments, base_config: PreTrainedConfig
) -> GlueData:
    args.check_problem(glue_args.stated_problem_type())
    splits = load_splits(glue_args, args, model_args.cache_dir, model_args.token)
    saved = saved_label_names(base_config) if model_args.model_name_or_path else None
    problem_type = base_config.problem_type if saved else None
    task = glue_args.task() if glue_args.task_name else infer_task(splits, saved, problem_type)
    args.check_problem(task.problem_type)
    check_texts(task, splits)
    if saved is None and not args.do_train and args.should_log:
        print("The classifier has random weights and will not be trained: expect results of chance.")
    label_names = model_label_names(task, saved, args.do_train, glue_args.ignore_mismatched_sizes)
    args.resolve_best_metric(task)
    encoder = LabelEncoder(task, label_names)
    check_labels(task, splits, encoder, glue_args.files())
    splits, messages = keep_labelled_rows(task, splits)
    for message in messages if args.should_log else ():
        print(message)
    tokenizer = load_tokenizer(model_args, base_config)
    tokenizer.model_max_length = max(known_length(tokenizer, base_config), glue_args.max_seq_length)
    limits = {
        "train": glue_args.max_train_samples,
        **dict.fromkeys(task.evaluation_splits.values(), glue_args.max_eval_samples),
        **dict.fromkeys(task.test_splits.values(), glue_args.max_predict_samples),
    }
    splits = {split: first_rows(rows, limits[split]) for split, rows in splits.items()}
    inputs = {
        split: tokenize_split(rows, task, tokenizer, encoder, glue_args, f"Tokenising {split}")
        for split, rows in splits.items()
    }
    if "train" in inputs:
        args.check_rows(len(inputs["train"]))
    given = (glue_args.text_column, glue_args.text_pair_column)
    column_names = tuple(name or own for own, name in zip(task.text_columns, given, strict=False))
    return GlueData(task, label_names, tokenizer, inputs, splits, column_names)


# Reading


def load_splits(
    arguments: GlueArguments, training_arguments: TrainingArguments, cache_dir: str | None, token: str | None
) -> dict[str, Dataset]:
    """Reads only the splits that training, evaluation and prediction need.

    Returns:
        Split -> rows with the task's text columns and `label`.

    Raises:
        ValueError: a split is missing, or a file or row is wrong.
        GAUError: the Hub cannot be reached.
    """
    needed, wanted = _needed_splits(arguments, training_arguments)
    files, options, task = arguments.files(), arguments.column_options(), arguments.task()
    if not files and options != ColumnOptions():
        raise GAUError("--text_column, --label_column and the like are for local files: add --train_file.")
    available = files if files else _load_from_hub(arguments, cache_dir, token)
    for split, purpose in needed.items():
        if split not in available:
            raise GAUError(_describe_missing_split(arguments, split, purpose, available))
    splits = {split: available[split] for split in wanted if split in available}
    if not files:
        return {split: _make_texts(task, split, rows, arguments.overwrite_cache) for split, rows in splits.items()}
    return {
        split: read_table(path, split, task, options, cache_dir, arguments.overwrite_cache)
        for split, path in splits.items()
    }


def _needed_splits(arguments: GlueArguments, training: TrainingArguments) -> tuple[dict[str, str], list[str]]:
    """Returns the splits that must exist, with the option that needs them, and all that are used if they exist."""
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
    there = f"{purpose} needs the split {split}, but there is only {', '.join(available)}"
    if arguments.files():
        option = file_options(arguments.task())[split]
        return f"{there}. Give --{option} (or such a file in --data_dir), or leave {purpose} out."
    hint = " Train on mnli and use ax with --do_predict." if arguments.task_name == "ax" else ""
    return f"{there} in the Hub's {arguments.task_name}.{hint}"


def _load_from_hub(arguments: GlueArguments, cache_dir: str | None, token: str | None) -> dict[str, Dataset]:
    name = arguments.benchmark().hub_dataset
    try:
        return load_dataset(name, arguments.task_name, cache_dir=cache_dir, token=token)
    except (ConnectionError, FileNotFoundError) as error:
        raise GAUError(
            f"{name} could not be loaded from the Hub ({error}). Without a network, give local files with the columns "
            f"of {arguments.task_name} (--train_file, --validation_file, --test_file), or --data_dir with a folder "
            "for each task (for CLUE the official archives, unzipped)."
        ) from error


def _make_texts(task: GlueTask, split: str, rows: Dataset, overwrite_cache: bool) -> Dataset:
    """Makes the text columns of Hub rows; `read_table` makes those of files."""
    if len(rows) == 0:
        raise GAUError(f"Split {split} has no rows.")
    _check_columns(task, split, rows, task.read_columns)
    if task.prepare is None:
        return rows
    kept = {name: feature for name, feature in rows.features.items() if name not in task.read_columns}
    return rows.map(
        lambda row, index: task.texts_of(row, describe_row(split, index)),
        with_indices=True,
        remove_columns=[column for column in task.read_columns if column not in task.text_columns],
        features=Features({**kept, **dict.fromkeys(task.text_columns, Value("string"))}),
        load_from_cache_file=not overwrite_cache,
        # By default the fingerprint is that of `task`, which names its functions and does not tell when they change.
        new_fingerprint=digest(f"{_VERSION} {task.name} {rows._fingerprint}"),
        desc=f"Preparing {split}",
    )


def check_texts(task: GlueTask, splits: Mapping[str, Dataset]) -> None:
    """Raises ValueError for the first split that lacks a text column or the text of a row. Texts may be empty."""
    for split, rows in splits.items():
        _check_columns(task, split, rows, task.text_columns)
        for column in task.text_columns:
            texts = rows[column][:]
            if None in texts:
                raise GAUError(f"{describe_row(split, texts.index(None))}: the text {column!r} is missing.")


def _check_columns(task: GlueTask, split: str, rows: Dataset, needed: tuple[str, ...]) -> None:
    missing = [column for column in needed if column not in rows.column_names]
    if missing:
        raise GAUError(
            f"Split {split} has no column {' and no column '.join(map(repr, missing))}. {task.name} needs "
            f"{', '.join(needed)}; there is {', '.join(rows.column_names)}. Give all splits the same columns."
        )


def keep_labelled_rows(task: GlueTask, splits: Mapping[str, Dataset]) -> tuple[dict[str, Dataset], list[str]]:
    """Leaves out the rows that the task marks as unlabelled. Test splits keep them, but lose all labels instead:
    a benchmark wants a prediction for every row.

    Returns:
        The splits, and a message for each one that changed.

    Raises:
        ValueError: a split has no other rows.
    """
    kept, messages = dict(splits), []
    for split, rows in splits.items():
        labels = rows["label"][:] if task.no_label and "label" in rows.column_names else []
        labelled = [number for number, label in enumerate(labels) if label != task.no_label]
        if len(labelled) == len(labels):
            continue
        count = (
            f"Split {split}: {len(labels) - len(labelled):,} of {len(labels):,} rows have the label {task.no_label!r}"
        )
        if split in task.test_splits.values():
            kept[split] = rows.remove_columns("label")
            messages.append(f"{count}; all rows are predicted, without metrics.")
        elif labelled:
            kept[split] = rows.select(labelled)
            messages.append(f"{count} and are left out.")
        else:
            raise GAUError(f"Split {split}: every label is {task.no_label!r}, which stands for no label.")
    return kept, messages


def first_rows(rows: Dataset, count: int | None) -> Dataset:
    return rows if count is None else rows.select(range(min(count, len(rows))))


# Tokenising


def tokenize_split(
    rows: Dataset,
    task: GlueTask,
    tokenizer: PreTrainedTokenizerBase,
    encoder: LabelEncoder,
    arguments: GlueArguments,
    description: str = "Tokenising",
) -> Dataset:
    """Returns rows as model inputs: unpadded, truncated to `max_seq_length` tokens (the longer text of a pair first),
    with a column `labels` unless the labels are hidden."""
    labelled = not has_hidden_labels(rows)
    feature = rows.features.get("label")

    def tokenize(batch: Mapping[str, list]) -> Mapping[str, list]:
        texts = [batch[column] for column in task.text_columns]
        inputs = tokenizer(*texts, truncation=True, max_length=arguments.max_seq_length)
        return {**inputs, "labels": encoder(label_values(batch, feature))} if labelled else dict(inputs)

    inputs = rows.map(
        tokenize,
        batched=True,
        remove_columns=rows.column_names,
        num_proc=arguments.preprocessing_num_workers,
        load_from_cache_file=not arguments.overwrite_cache,
        desc=description,
    )
    # A fast tokenizer keeps the truncation of its last call. It would be saved, or not after a hit in the cache, and
    # the next split would miss the cache because of it.
    tokenizer("")
    return inputs


def load_tokenizer(model_args: ModelArguments, base_config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    name = model_args.tokenizer_name or model_args.model_name_or_path
    trust = model_args.trust_remote_code
    tokenizer = models.load_tokenizer(name, trust_remote_code=trust, **model_args.hub_options())
    if tokenizer.pad_token_id is None:
        raise GAUError(f"The tokenizer {name} has no padding token, which batches need: give one that has.")
    if model_args.model_name_or_path and len(tokenizer) > base_config.vocab_size:
        raise GAUError(
            f"The tokenizer {name} has {len(tokenizer)} tokens, but the checkpoint {model_args.model_name_or_path} "
            f"embeds {base_config.vocab_size}: give the tokenizer that the checkpoint was trained with."
        )
    return tokenizer
