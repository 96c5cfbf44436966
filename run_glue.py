#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune and evaluate an encoder on a task of GLUE, or on local files of the same shape.

    python run_glue.py --config configuration/recipes/glue/sst2.yaml --model_name_or_path outputs/pretrained
    python run_glue.py --task_name rte --train_file train.jsonl --validation_file validation.jsonl \\
        --model_name_or_path outputs/pretrained --output_dir outputs/rte
    python run_glue.py --do_eval --validation_file reviews.csv \\
        --model_name_or_path outputs/sst2 --output_dir outputs/reviews

Every argument of transformers.TrainingArguments is one here; with none of --do_train, --do_eval and --do_predict a run
trains and evaluates. --config names a recipe, --config_name the configuration of a model with random weights.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path

import datasets
import numpy as np
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from modeling_gau.arguments import ModelArguments, parse_arguments, resolve_config
from modeling_gau.glue_data import (
    GlueArguments,
    LabelEncoder,
    check_splits,
    infer_task,
    load_splits,
    model_label_names,
    saved_label_names,
    tokenize_split,
)
from modeling_gau.glue_tasks import GLUE_TASKS, HUB_DATASET, GlueTask
from modeling_gau.glue_training import GlueTrainer, GlueTrainingArguments
from modeling_gau.model_card import ModelCardFacts, write_model_card
from modeling_gau.training import check_fit, find_checkpoint, load_with_misfits, remove_checkpoints


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the script with `argv` (the command line by default) and returns what `all_results.json` holds."""
    # 1. Arguments
    model_args, glue_args, args = parse_arguments(
        (ModelArguments, GlueArguments, GlueTrainingArguments), argv, description=__doc__
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    checkpoint = find_checkpoint(args) if args.do_train else None
    base_config = choose_base_config(model_args, glue_args)  # a wrong name or override shows before the data is read
    set_seed(args.seed)

    # 2. Data
    with args.main_process_first(desc="data preparation"):
        data = prepare_data(model_args, glue_args, args, base_config)

    # 3. Model
    model = load_model(model_args, glue_args, data)

    # 4. Train
    if args.do_train and args.overwrite_output_dir:
        remove_checkpoints(args)
    trainer = GlueTrainer(
        task=data.task,
        label_names=data.label_names,
        model=model,
        args=args,
        processing_class=data.tokenizer,
        data_collator=DataCollatorWithPadding(data.tokenizer),
        train_dataset=data.inputs.get("train"),
        eval_dataset=data.inputs.get(data.task.evaluation_splits["eval"]),
    )
    results = train(trainer, checkpoint) if args.do_train else {}

    # 5. Report
    if args.do_eval:
        results |= evaluate(trainer, data)
    if args.do_predict:
        results |= predict(trainer, data)
    if trainer.is_world_process_zero():
        report(trainer, model_args, glue_args, data, results)
    if args.push_to_hub:
        trainer.push_to_hub()
    return results


# Arguments


def choose_base_config(model_args: ModelArguments, glue_args: GlueArguments) -> PreTrainedConfig:
    """The configuration that the arguments name, before anything of the task goes in."""
    if model_args.fixed_n is not None and glue_args.dynamic_n:
        raise ValueError(f"--fixed_n {model_args.fixed_n} and --dynamic_n exclude each other: give one of them.")
    if not (model_args.tokenizer_name or model_args.model_name_or_path):
        raise ValueError("Give --tokenizer_name: a model that starts from --config_name brings no tokenizer.")
    unchanged = dict.fromkeys(("fixed_n", "attention_normalization", "config_overrides", "attn_implementation"))
    plain = resolve_config(replace(model_args, **unchanged))
    asked = {
        "fixed_n": model_args.fixed_n is not None or glue_args.dynamic_n,
        "attention_normalization": model_args.attention_normalization is not None,
    }
    for name in asked.keys() - {entry.name for entry in fields(plain)}:
        if asked[name]:
            option = "--dynamic_n" if name == "fixed_n" and glue_args.dynamic_n else f"--{name}"
            raise ValueError(
                f"{option}: a model of type {plain.model_type} has no {name}, only a gated attention unit has. Leave "
                "the option out, or give a GAU checkpoint."
            )
    return resolve_config(model_args, **n_changes(glue_args))


def n_changes(glue_args: GlueArguments) -> dict[str, None]:
    return {"fixed_n": None} if glue_args.dynamic_n else {}


# Data


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
    splits = load_splits(glue_args, args, model_args.cache_dir, model_args.token)
    saved = saved_label_names(base_config) if model_args.model_name_or_path else None
    task = GLUE_TASKS[glue_args.task_name] if glue_args.task_name else infer_task(splits, saved)
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


# Model


def load_model(model_args: ModelArguments, glue_args: GlueArguments, data: GlueData) -> PreTrainedModel:
    changes = n_changes(glue_args)
    if model_args.model_name_or_path is None:
        changes |= {"vocab_size": len(data.tokenizer), "pad_token_id": data.tokenizer.pad_token_id}
    config = resolve_config(model_args, **changes)
    config.id2label = dict(enumerate(data.label_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "regression" if data.task.is_regression else "single_label_classification"
    options = {
        "attn_implementation": model_args.attn_implementation,
        # The default of transformers is the precision of the file: fine-tuning would go on in bfloat16 weights.
        "dtype": model_args.dtype or "float32",
        "trust_remote_code": model_args.trust_remote_code,
    }
    if model_args.model_name_or_path is None:
        return AutoModelForSequenceClassification.from_config(config, **options)
    hub = {"cache_dir": model_args.cache_dir, "revision": model_args.revision, "token": model_args.token}
    name = model_args.model_name_or_path
    model, misfits = load_with_misfits(AutoModelForSequenceClassification, name, config=config, **options, **hub)
    encoder_misfits = {key: problem for key, problem in misfits.items() if not is_of_head(model, key)}
    check_fit(
        name,
        encoder_misfits,
        "Give a checkpoint with all of its encoder, its own config.json, and no --config_name or --config_overrides "
        "that change shapes.",
    )
    if saved_label_names(config) is not None and not glue_args.ignore_mismatched_sizes:
        check_fit(name, misfits, "Add --ignore_mismatched_sizes to start a new classifier on top of its encoder.")
    return model


def is_of_head(model: PreTrainedModel, key: str) -> bool:
    """Whether a tensor belongs to what is put on top of the encoder; a pooler does, even within it (BERT)."""
    encoder = f"{model.base_model_prefix}."
    return not key.startswith(encoder) or key.startswith(f"{encoder}pooler.")


# Train, evaluate, predict


def train(trainer: GlueTrainer, checkpoint: str | None) -> dict[str, float]:
    trained = trainer.train(resume_from_checkpoint=checkpoint)
    metrics = trained.metrics | {"train_samples": len(trainer.train_dataset)}
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", metrics)
    return metrics


def evaluate(trainer: GlueTrainer, data: GlueData) -> dict[str, float]:
    metrics = {}
    for prefix, split in data.task.evaluation_splits.items():
        if split in data.inputs:
            metrics |= trainer.evaluate(data.inputs[split], metric_key_prefix=prefix)
            metrics[f"{prefix}_samples"] = len(data.inputs[split])
    trainer.save_metrics("eval", metrics)
    return metrics


def predict(trainer: GlueTrainer, data: GlueData) -> dict[str, float]:
    """Writes `predictions_<split>.tsv`; the metrics are those of splits whose labels are known."""
    metrics = {}
    for prefix, split in data.task.test_splits.items():
        if split not in data.inputs:
            continue
        output = trainer.predict(data.inputs[split], metric_key_prefix=prefix)
        if output.label_ids is not None:
            metrics |= output.metrics
        metrics[f"{prefix}_samples"] = len(data.inputs[split])
        if trainer.is_world_process_zero():
            write_predictions(predictions_path(trainer, split), data, output.predictions)
    trainer.save_metrics("test", metrics)
    return metrics


def predictions_path(trainer: GlueTrainer, split: str) -> Path:
    return Path(trainer.args.output_dir) / f"predictions_{split}.tsv"


def write_predictions(path: Path, data: GlueData, predictions: np.ndarray) -> None:
    """Columns `index`, the row of the split from 0, and `prediction`, the name of the class or the score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "prediction"))
        for index, prediction in enumerate(predictions.tolist()):
            writer.writerow((index, prediction if data.task.is_regression else data.label_names[prediction]))


# Report


def report(
    trainer: GlueTrainer,
    model_args: ModelArguments,
    glue_args: GlueArguments,
    data: GlueData,
    results: Mapping[str, float],
) -> None:
    output_dir = Path(trainer.args.output_dir)
    if trainer.args.do_train:
        write_model_card(output_dir, model_card_facts(trainer, model_args, glue_args, data, results))
    print_table(data, results)
    print(f"Wrote to {output_dir}:")
    for path in sorted(output_dir.iterdir()):
        print(f"  {path.name}{'/' if path.is_dir() else ''}")


def print_table(data: GlueData, results: Mapping[str, float]) -> None:
    """A line for every split that was evaluated or predicted; metrics are missing where labels are hidden."""
    columns = ("loss", *data.task.metric_names)
    splits = {**data.task.evaluation_splits, **data.task.test_splits}
    splits = {prefix: split for prefix, split in splits.items() if f"{prefix}_samples" in results}
    if not splits:
        return
    rows = [(data.task.name, "samples", *columns)]
    for prefix, split in splits.items():
        values = (results.get(f"{prefix}_{name}") for name in columns)
        cells = ("-" if value is None else f"{value:.4f}" for value in values)
        rows.append((split, str(results[f"{prefix}_samples"]), *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for name, *cells in rows:
        line = "".join(f"   {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        print(name.ljust(widths[0]) + line)
    print()


def model_card_facts(
    trainer: GlueTrainer,
    model_args: ModelArguments,
    glue_args: GlueArguments,
    data: GlueData,
    results: Mapping[str, float],
) -> ModelCardFacts:
    args, is_local = trainer.args, bool(glue_args.files())
    return ModelCardFacts(
        model_name=Path(args.output_dir).resolve().name,
        task="text-classification",
        config=trainer.model.config,
        repo_id=trainer.hub_model_id,
        example=("A man is playing a guitar.", "A man plays music.") if len(data.task.text_columns) == 2 else None,
        base_model=model_args.model_name_or_path,
        datasets=() if is_local else [HUB_DATASET],
        data_description=describe_data(glue_args, data),
        n_parameters=trainer.model.num_parameters(),
        training={
            "Rows": results["train_samples"],
            "Longest input (tokens)": glue_args.max_seq_length,
            "Epochs": round(results["epoch"], 2),
            "Steps": trainer.state.global_step,
            "Rows per step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "Optimizer": f"{args.optim.value}, betas ({args.adam_beta1}, {args.adam_beta2})",
            "Peak learning rate": args.learning_rate,
            "Schedule": args.lr_scheduler_type.value,
            "Warm-up steps": args.get_warmup_steps(trainer.state.max_steps),
            "Weight decay": args.weight_decay,
            "Precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "Seed": args.seed,
            "Training time (seconds)": results["train_runtime"],
        },
        task_metrics=card_metrics(data, results),
        eval_dataset=None if is_local else HUB_DATASET,
        eval_dataset_name=f"{glue_args.task_name or 'local data'} (local files)" if is_local else "GLUE",
        eval_config=None if is_local else glue_args.task_name,
        eval_split=data.task.evaluation_splits["eval"],
        limits=partial_evaluation(glue_args),
        software={name: version(name) for name in ("transformers", "torch", "accelerate", "datasets", "tokenizers")},
    )


def describe_data(glue_args: GlueArguments, data: GlueData) -> str:
    what = "a score" if data.task.is_regression else f"classes: {', '.join(data.label_names)}"
    if not glue_args.files():
        return f"Trained on {data.task.name} of [GLUE](https://huggingface.co/datasets/{HUB_DATASET}) ({what})."
    of = f" with the columns of the GLUE task {data.task.name}" if glue_args.task_name else ""
    return f"Trained on the local file `{Path(glue_args.train_file).name}`{of} ({what})."


def partial_evaluation(glue_args: GlueArguments) -> list[str]:
    limit = glue_args.max_eval_samples
    return [] if limit is None else [f"Evaluated on at most {limit} rows: the results do not compare with others."]


def card_metrics(data: GlueData, results: Mapping[str, float]) -> dict[str, float]:
    """Metrics by name; those of mnli's second validation split as `mismatched_accuracy`."""
    named = {"eval": "", "eval_mm": "mismatched_"}
    return {
        f"{named[prefix]}{name}": results[f"{prefix}_{name}"]
        for prefix in data.task.evaluation_splits
        for name in data.task.metric_names
        if f"{prefix}_{name}" in results
    }


if __name__ == "__main__":
    main()
