# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From arguments to what a fine-tuning run is made on: the task, its classes, the tokenizer, the model's inputs."""

from dataclasses import dataclass

import datasets
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from ..runs.arguments import ModelArguments
from .data import (
    GlueArguments,
    LabelEncoder,
    check_splits,
    infer_task,
    load_splits,
    model_label_names,
    saved_label_names,
    tokenize_split,
)
from .tasks import GlueTask
from .trainer import GlueTrainingArguments


@dataclass
class GlueData:
    """The task, its classes in the order of the model's outputs, and the rows of every split as model inputs."""

    task: GlueTask
    label_names: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    inputs: dict[str, datasets.Dataset]


def prepare_data(
    model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments, base_config: PreTrainedConfig
) -> GlueData:
    with args.main_process_first(desc="data preparation"):
        return read_data(model_args, glue_args, args, base_config)


def read_data(
    model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments, base_config: PreTrainedConfig
) -> GlueData:
    splits = load_splits(glue_args, args, model_args.cache_dir, model_args.token)
    saved = saved_label_names(base_config) if model_args.model_name_or_path else None
    problem_type = base_config.problem_type if saved else None
    task = glue_args.task() if glue_args.task_name else infer_task(splits, saved, problem_type)
    if saved is None and not args.do_train and args.should_log:
        print("The classifier has random weights and is not going to be trained: its results are those of chance.")
    label_names = model_label_names(task, saved, args.do_train, glue_args.ignore_mismatched_sizes)
    args.resolve_best_metric(task)
    encoder = LabelEncoder(task, label_names)
    check_splits(task, splits, encoder)
    tokenizer = load_tokenizer(model_args, base_config)
    limits = {
        "train": glue_args.max_train_samples,
        **dict.fromkeys(task.evaluation_splits.values(), glue_args.max_eval_samples),
        **dict.fromkeys(task.test_splits.values(), glue_args.max_predict_samples),
    }
    inputs = {
        split: tokenize_split(rows, task, tokenizer, encoder, glue_args, limits[split], f"Tokenising {split}")
        for split, rows in splits.items()
    }
    return GlueData(task, label_names, tokenizer, inputs)


def load_tokenizer(model_args: ModelArguments, base_config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    name = model_args.tokenizer_name or model_args.model_name_or_path
    tokenizer = AutoTokenizer.from_pretrained(
        name,
        cache_dir=model_args.cache_dir,
        revision=model_args.revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    if tokenizer.pad_token_id is None:
        raise ValueError(f"The tokenizer {name} has no padding token, which batches need. Take one that has.")
    if model_args.model_name_or_path and len(tokenizer) > base_config.vocab_size:
        raise ValueError(
            f"The tokenizer {name} has {len(tokenizer)} tokens, the checkpoint {model_args.model_name_or_path} embeds "
            f"{base_config.vocab_size}. Give the tokenizer that the checkpoint was trained with."
        )
    return tokenizer
