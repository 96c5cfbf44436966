#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune and evaluate an encoder on tasks of GLUE or CLUE, or on local files.

    python run_glue.py --train_file examples/reviews.csv --validation_file examples/held-out-reviews.csv \\
        --text_column review --label_column opinion \\
        --model_name_or_path outputs/pretrained --output_dir outputs/reviews
    python run_glue.py --config configuration/recipes/glue/sst2.yaml --model_name_or_path outputs/pretrained
    python run_glue.py --task_name all --seeds 0 1 2 --do_train --do_eval --do_predict \\
        --model_name_or_path outputs/pretrained --output_dir outputs/glue
    python run_glue.py --task_name rte --train_file train.jsonl --validation_file validation.jsonl \\
        --model_name_or_path outputs/pretrained --output_dir outputs/rte
    python run_glue.py --dataset_name clue --task_name tnews --data_dir CLUE --model_name_or_path outputs/chinese \\
        --output_dir outputs/tnews
    python run_glue.py --do_eval --validation_file more-reviews.csv --text_column review --label_column opinion \\
        --model_name_or_path outputs/reviews --output_dir outputs/more-reviews

All arguments of transformers.TrainingArguments work here. Without --do_train, --do_eval and --do_predict, a run trains
and evaluates. --config names a recipe, --config_name the configuration of a model with random weights.
"""

import runpy
from pathlib import Path


_OPTIONS = Path(__file__).parent / "modeling_gau" / "runs" / "options.py"
if __name__ == "__main__" and _OPTIONS.is_file():  # before the imports below, which take seconds
    runpy.run_path(str(_OPTIONS))["answer"](__file__)

from dataclasses import replace
from functools import partial

import datasets
import transformers
from transformers import DataCollatorWithPadding, PreTrainedModel, set_seed

from modeling_gau.configuration_gau import GAUError
from modeling_gau.glue.arguments import GlueArguments
from modeling_gau.glue.data import prepare_data
from modeling_gau.glue.model import choose_base_config, describe_base_model, load_model
from modeling_gau.glue.report import evaluate, predict, report_run, report_study
from modeling_gau.glue.study import Study, StudyArguments, compared_files, single_run_arguments
from modeling_gau.glue.trainer import GlueTrainer, GlueTrainingArguments
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.runs.checkpoints import find_checkpoint
from modeling_gau.runs.command_line import run_program
from modeling_gau.runs.lifecycle import end_processes, train
from modeling_gau.runs.locks import sole_owner
from modeling_gau.runs.models import check_trainable
from modeling_gau.runs.publishing import check_push_destination, push, save_without_push
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.run_record import RunRecord, check_resumed_files, describe_run, read_record
from modeling_gau.runs.signals import TerminationCallback


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the script with `argv` (by default the command line).

    Returns:
        The content of `all_results.json`; for a study, the mean over the seeds of every metric of every task.
    """
    model_args, glue_args, card_args, study_args, args = parse_arguments(
        (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments),
        argv,
        description=__doc__,
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    run = partial(run_once, card_args)
    if study_args.is_asked_for(glue_args):
        study = Study(model_args, glue_args, args, study_args, fine_tune=run)
        if args.do_train and "learning_rate" not in dict(study.points[0]):
            start = model_args
            if not (start.model_name_or_path or start.config_name or start.model_type):
                start = replace(start, model_name_or_path=study_args.mnli_checkpoint)
            args.fill_learning_rate(choose_base_config(start, glue_args))
        study.check_repositories()
        with sole_owner(args):
            study.run(report_study)
            study.push()
            results = study.means()
    else:
        check_push_destination(args)
        results = run(*single_run_arguments(model_args, glue_args, study_args), args)
    end_processes()
    return results


def run_once(card_args: CardArguments, *parts) -> dict[str, float]:
    """[`fine_tune`] with an output directory that is its own."""
    with sole_owner(parts[-1]):
        return fine_tune(card_args, *parts)


def fine_tune(
    card_args: CardArguments, model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments
) -> dict[str, float]:
    """One run: one task, one seed."""
    # 1. Arguments
    if args.do_train:
        check_trainable(model_args, args)
    checkpoint = find_checkpoint(args) if args.do_train else None
    in_place = is_evaluated_in_place(model_args, args)
    base_config = choose_base_config(model_args, glue_args)  # a wrong name or override shows before data is read
    if args.do_train:
        args.fill_learning_rate(base_config)

    # 2. Data
    data = prepare_data(model_args, glue_args, args, base_config)

    # 3. Model
    set_seed(args.seed)  # not earlier: reading data that is not cached draws random numbers
    model = load_model(model_args, glue_args, data)

    # 4. Train
    record = begin_record(card_args, model_args, glue_args, args, model, checkpoint, in_place)
    termination = TerminationCallback()
    trainer = GlueTrainer(
        task=data.task,
        label_names=data.label_names,
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
    if args.do_train:
        results = train(trainer, record, termination, checkpoint).metrics
        results |= {"train_samples": len(trainer.train_dataset), "train_parameters": model.num_parameters()}
        save_without_push(trainer)
        trainer.save_state()
        trainer.save_metrics("train", results)

    # 5. Report
    if args.do_eval:
        results |= evaluate(trainer, data, record.content)
    if args.do_predict:
        results |= predict(trainer, data)
    if trainer.is_world_process_zero():
        record.content["results"] = record.content.get("results", {}) | results
        report_run(trainer, data, record.content)
        # The record comes last: a finished run has all its files.
        stages = {"trained": args.do_train, "evaluated": args.do_eval, "predicted": args.do_predict}
        made = {stage: now or record.content.get(stage, False) for stage, now in stages.items()}
        record.write(status="finished", **made)
    if args.push_to_hub:
        push(trainer)
    return results


def is_evaluated_in_place(model_args: ModelArguments, args: GlueTrainingArguments) -> bool:
    """Whether a model is evaluated in its own directory; raises ValueError if results of two models would mix."""
    if args.do_train:
        return False
    name, record = model_args.model_name_or_path, read_record(args.output_dir)
    if name is not None and Path(args.output_dir).resolve() == Path(name).resolve():
        return True
    if record is not None and record.get("trained"):
        raise GAUError(
            f"--output_dir {args.output_dir} holds a trained model with its results, not {name}: give another "
            "--output_dir."
        )
    return False


def begin_record(
    card_args: CardArguments,
    model_args: ModelArguments,
    glue_args: GlueArguments,
    args: GlueTrainingArguments,
    model: PreTrainedModel,
    checkpoint: str | None,
    in_place: bool,
) -> RunRecord:
    """Describes the run. Evaluating a model in its own directory extends the record of its training."""
    files = compared_files(model_args, glue_args)
    description = describe_run((model_args, glue_args, card_args), args, model.config, {}, files)
    description |= {
        "rows_per_step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "base_model": describe_base_model(model_args),
    }
    if checkpoint is not None:
        check_resumed_files(checkpoint, description)
    record = RunRecord(args.output_dir, description, checkpoint)
    if in_place:
        record.content = read_record(args.output_dir) or record.content
    return record


if __name__ == "__main__":
    run_program(main)
