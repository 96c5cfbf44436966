#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune and evaluate an encoder on tasks of GLUE or CLUE, or on local files of the same shape.

    python run_glue.py --config configuration/recipes/glue/sst2.yaml --model_name_or_path outputs/pretrained
    python run_glue.py --task_name all --seeds 0 1 2 --do_train --do_eval --do_predict \\
        --model_name_or_path outputs/pretrained --output_dir outputs/glue
    python run_glue.py --task_name rte --train_file train.jsonl --validation_file validation.jsonl \\
        --model_name_or_path outputs/pretrained --output_dir outputs/rte
    python run_glue.py --dataset_name clue --task_name tnews --data_dir CLUE --model_name_or_path outputs/chinese \\
        --output_dir outputs/tnews
    python run_glue.py --do_eval --validation_file reviews.csv \\
        --model_name_or_path outputs/sst2 --output_dir outputs/reviews

Every argument of transformers.TrainingArguments is one here; with none of --do_train, --do_eval and --do_predict a run
trains and evaluates. --config names a recipe, --config_name the configuration of a model with random weights.
"""

import copy
import gc
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)

from modeling_gau.glue.card import card_facts
from modeling_gau.glue.data import GlueArguments, check_label_map, saved_label_names
from modeling_gau.glue.preparation import GlueData, prepare_data
from modeling_gau.glue.report import report_study
from modeling_gau.glue.study import (
    FROM_MNLI,
    Study,
    StudyArguments,
    best_run,
    compared_files,
    task_files,
)
from modeling_gau.glue.submission import write_predictions
from modeling_gau.glue.trainer import GlueTrainer, GlueTrainingArguments
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.runs.checkpoints import find_checkpoint
from modeling_gau.runs.model_card import write_model_card
from modeling_gau.runs.models import check_fit, resolve_config, start_model
from modeling_gau.runs.publishing import check_push_destination, push, push_folder, save_without_push
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.run_record import RunRecord, describe_run, read_record
from modeling_gau.runs.running import end_processes, train
from modeling_gau.runs.signals import TerminationCallback
from modeling_gau.runs.tables import aligned


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the script with `argv` (the command line by default).

    Returns:
        What `all_results.json` holds; of several runs the mean over the seeds of every metric of every task.
    """
    model_args, glue_args, card_args, study_args, args = parse_arguments(
        (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments),
        argv,
        description=__doc__,
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    if study_args.is_asked_for(glue_args):
        results = run_study(model_args, glue_args, card_args, args, study_args)
    else:
        check_push_destination(args)
        results = fine_tune(*name_start_and_files(model_args, glue_args, study_args), args, card_args)
    end_processes()
    return results


def fine_tune(
    model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments, card_args: CardArguments
) -> dict[str, float]:
    """One run, on one task, from one seed."""
    # 1. Arguments
    checkpoint = find_checkpoint(args) if args.do_train else None
    check_output_dir(model_args, args)
    base_config = choose_base_config(model_args, glue_args)  # a wrong name or override shows before the data is read

    # 2. Data
    data = prepare_data(model_args, glue_args, args, base_config)

    # 3. Model
    set_seed(args.seed)  # here: reading data that is not in the cache yet draws random numbers
    model = load_model(model_args, glue_args, data)

    # 4. Train
    record = begin_record(model_args, glue_args, args, card_args, model, checkpoint)
    termination = TerminationCallback()
    trainer = GlueTrainer(
        task=data.task,
        label_names=data.label_names,
        check_labels=choose_label_check(model_args, glue_args, args, base_config, data),
        model=model,
        args=args,
        processing_class=data.tokenizer,
        data_collator=DataCollatorWithPadding(data.tokenizer),
        train_dataset=data.inputs.get("train"),
        eval_dataset=data.inputs.get(data.task.evaluation_splits["eval"]),
        callbacks=[*args.callbacks(), termination],
    )
    record.content["hub_model_id"] = trainer.hub_model_id or args.hub_model_id
    results = {}
    if args.do_train and args.overwrite_output_dir:
        remove_results(args)
    if args.do_train:
        results = train(trainer, record, termination, checkpoint).metrics
        results |= {"train_samples": len(trainer.train_dataset), "train_parameters": model.num_parameters()}
        save_trained(trainer, results)

    # 5. Report
    if args.do_eval:
        results |= evaluate(trainer, data)
    if args.do_predict:
        results |= predict(trainer, data)
    if trainer.is_world_process_zero():
        content = record.content
        content["results"] = content.get("results", {}) | results
        stages = {"trained": args.do_train, "evaluated": args.do_eval, "predicted": args.do_predict}
        report(trainer, data, content)
        # Last: from then on all is there.
        record.write(status="finished", **{stage: made or content.get(stage, False) for stage, made in stages.items()})
    if args.push_to_hub:
        push(trainer)
    return results


def choose_label_check(
    model_args: ModelArguments,
    glue_args: GlueArguments,
    args: GlueTrainingArguments,
    base_config: PreTrainedConfig,
    data: GlueData,
) -> Callable[[np.ndarray, np.ndarray], None] | None:
    """What refuses results that only exchanged classes explain; nothing where the classifier is new or learns."""
    if args.do_train or model_args.model_name_or_path is None or saved_label_names(base_config) is None:
        return None
    return partial(check_label_map, data.task, data.label_names, accept=glue_args.accept_label_map)


# Several runs


def run_study(
    model_args: ModelArguments,
    glue_args: GlueArguments,
    card_args: CardArguments,
    args: GlueTrainingArguments,
    study_args: StudyArguments,
) -> dict[str, float]:
    def check(model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments) -> None:
        prepare_data(model_args, glue_args, args, choose_base_config(model_args, glue_args))

    def run(model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments) -> dict[str, float]:
        results = fine_tune(model_args, glue_args, args, card_args)
        # The Trainer and its callbacks refer to each other: without this, models of finished runs stay in memory.
        gc.collect()
        return results

    study = Study(model_args, glue_args, args, study_args, fine_tune=run, check=check)
    study.repositories = {
        task.name: check_push_destination(of_repository(args, f"{hub_name(args)}-{task.name}"))
        for task in (study.tasks if args.push_to_hub else ())
        if task.name != "ax"
    }
    study.run(report_study)
    for name, repo_id in study.repositories.items() if args.process_index == 0 else ():
        best = best_run(study.chosen[name])
        push_folder(repo_id, of_repository(args, repo_id, output_dir=str(best.output_dir)))
        print(f"Pushed {best.output_dir} to {repo_id}.")
    return study.means()


def hub_name(args: GlueTrainingArguments) -> str:
    return args.hub_model_id or Path(args.output_dir).absolute().name


def of_repository(args: GlueTrainingArguments, repo_id: str, **changes: str) -> GlueTrainingArguments:
    own = copy.copy(args)
    vars(own).update(hub_model_id=repo_id, **changes)
    return own


def name_start_and_files(
    model_args: ModelArguments, glue_args: GlueArguments, study_args: StudyArguments
) -> tuple[ModelArguments, GlueArguments]:
    """What `--data_dir` and `--mnli_checkpoint` say, in the arguments of a single run."""
    name, checkpoint = glue_args.task_name, study_args.mnli_checkpoint
    if study_args.data_dir is not None:
        if name is None or glue_args.files():
            raise ValueError("--data_dir goes with --task_name, and without files that are named one by one.")
        glue_args = replace(glue_args, **task_files(study_args.data_dir, glue_args.task()))
    if checkpoint is not None:
        if name not in FROM_MNLI or checkpoint == "auto":
            raise ValueError(
                f"--mnli_checkpoint {checkpoint}: without --seeds and several tasks, it is the model that one of "
                f"{', '.join(FROM_MNLI)} begins with."
            )
        model_args = replace(model_args, model_name_or_path=checkpoint, config_name=None, model_type=None)
        glue_args = replace(glue_args, ignore_mismatched_sizes=True)
    return model_args, glue_args


def begin_record(
    model_args: ModelArguments,
    glue_args: GlueArguments,
    args: GlueTrainingArguments,
    card_args: CardArguments,
    model: PreTrainedModel,
    checkpoint: str | None,
) -> RunRecord:
    """The content of `run.json`. Evaluating a model where it lies adds to what is known of it."""
    files = compared_files(model_args, glue_args)
    description = describe_run((model_args, glue_args, card_args), args, model.config, {}, files)
    description |= {
        "rows_per_step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "base_model": describe_base_model(model_args),
    }
    record = RunRecord(args.output_dir, description, checkpoint)
    if not args.do_train and is_evaluated_in_place(model_args, args):
        record.content = read_record(args.output_dir) or record.content
    return record


def is_evaluated_in_place(model_args: ModelArguments, args: GlueTrainingArguments) -> bool:
    name = model_args.model_name_or_path
    return name is not None and Path(args.output_dir).resolve() == Path(name).resolve()


def describe_base_model(model_args: ModelArguments) -> dict[str, Any] | None:
    """What the card says of it later, when a local directory may be gone."""
    name = model_args.model_name_or_path
    if name is None:
        return None
    path = Path(name)
    parent = read_record(path) if path.is_dir() else None
    own = ((parent or {}).get("arguments") or {}).get("run_name")
    return {"name": own or (path.resolve().name if path.is_dir() else name), "is_local": path.is_dir()}


# Arguments


def check_output_dir(model_args: ModelArguments, args: GlueTrainingArguments) -> None:
    """Raises ValueError where results of one model would be mixed with those of another."""
    if args.do_train or is_evaluated_in_place(model_args, args):
        return
    record = read_record(args.output_dir)
    if record is not None and record.get("trained"):
        raise ValueError(
            f"--output_dir {args.output_dir} holds a trained model with its results, and "
            f"{model_args.model_name_or_path} is another: give what is evaluated or predicted a directory of its own."
        )


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


# Model


def load_model(model_args: ModelArguments, glue_args: GlueArguments, data: GlueData) -> PreTrainedModel:
    changes = n_changes(glue_args)
    if model_args.model_name_or_path is None:
        changes |= {"vocab_size": len(data.tokenizer), "pad_token_id": data.tokenizer.pad_token_id}
    config = resolve_config(model_args, **changes)
    config.id2label = dict(enumerate(data.label_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = data.task.problem_type
    model, misfits = start_model(AutoModelForSequenceClassification, model_args, config)
    name = model_args.model_name_or_path
    if name is None:
        return model
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


def remove_results(args: GlueTrainingArguments) -> None:
    """Those of an earlier run; the Trainer adds to what is there."""
    if args.process_index == 0:
        for path in Path(args.output_dir).glob("*_results.json"):
            path.unlink()


def save_trained(trainer: GlueTrainer, metrics: Mapping[str, float]) -> None:
    save_without_push(trainer)
    trainer.save_state()
    trainer.save_metrics("train", metrics)


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
            path = Path(trainer.args.output_dir) / f"predictions_{split}.tsv"
            write_predictions(path, data.task, data.label_names, output.predictions)
    trainer.save_metrics("test", metrics)
    return metrics


# Report


def report(trainer: GlueTrainer, data: GlueData, record: Mapping[str, Any]) -> None:
    output_dir = Path(trainer.args.output_dir)
    if trainer.args.do_train:
        write_model_card(output_dir, card_facts(record, trainer.model.config, data.task, output_dir))
    print_table(data, record["results"])
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
    print(f"\n{aligned(rows)}\n")


if __name__ == "__main__":
    main()
