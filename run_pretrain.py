#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Pretrain an encoder with masked language modelling, on your own text or on a corpus that every installation has.

    python run_pretrain.py --config configuration/recipes/pretrain/quickstart.yaml
    python run_pretrain.py --config_name gau-tiny --train_file notes/ --output_dir out --max_steps 2000
    accelerate launch run_pretrain.py --config configuration/recipes/pretrain/gau-base.yaml --dataset_path corpus/

Every argument of transformers.TrainingArguments is an option here. A run always trains and evaluates: --do_train and
--do_eval change nothing.
"""

import runpy
from pathlib import Path


_OPTIONS = Path(__file__).parent / "modeling_gau" / "runs" / "options.py"
if __name__ == "__main__" and _OPTIONS.is_file():  # before the imports below, which take seconds
    runpy.run_path(str(_OPTIONS))["answer"](__file__)

import datasets
import transformers
from transformers import set_seed

from modeling_gau.pretraining.data import check_run, length_stages, make_loader, prepare_data
from modeling_gau.pretraining.model import (
    choose_config,
    load_model,
    longest_input,
    longest_trained,
    repeat_first_token_type,
    untrained_token_types,
)
from modeling_gau.pretraining.report import describe_packing, evaluation_metrics, length_table, report, training_facts
from modeling_gau.pretraining.trainer import MaskedLMTrainer, PretrainingArguments, check_packing
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.runs.checkpoints import find_checkpoint, read_run_state
from modeling_gau.runs.command_line import run_program
from modeling_gau.runs.lifecycle import end, train
from modeling_gau.runs.locks import sole_owner
from modeling_gau.runs.models import check_trainable
from modeling_gau.runs.progress import ModelFlops
from modeling_gau.runs.publishing import check_push_destination, push, save_without_push
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.run_record import RunRecord, check_resumed, describe_run
from modeling_gau.runs.signals import TerminationCallback
from modeling_gau.text.arguments import DataArguments


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the script with `argv` (the command line by default) and returns what `all_results.json` holds."""
    # 1. Arguments
    model_args, data_args, card_args, args = parse_arguments(
        (ModelArguments, DataArguments, CardArguments, PretrainingArguments), argv, description=__doc__
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    check_push_destination(args)
    with sole_owner(args):
        return pretrain(model_args, data_args, card_args, args)


def pretrain(
    model_args: ModelArguments, data_args: DataArguments, card_args: CardArguments, args: PretrainingArguments
) -> dict[str, float]:
    """The run, in an output directory that is its own."""
    checkpoint, stages = find_checkpoint(args), length_stages(data_args)
    # Errors that need no data come before it is read.
    check_run(data_args, args, stages)
    check_trainable(model_args, args)
    longest = longest_input(model_args, data_args, checkpoint, stages)

    # 2. Data
    data = prepare_data(model_args, data_args, args, checkpoint, longest)
    loader = make_loader(data, data_args, args, stages)
    args.fill_schedule()

    # 3. Model
    set_seed(args.seed)
    config, saved_sparse_prediction = choose_config(
        model_args, data_args, data.tokenizer, checkpoint, stages, args.should_log
    )
    # A fraction of the rate for random weights, so that trained ones keep what they know.
    args.fill_learning_rate(config, share=1.0 if model_args.model_name_or_path is None else 0.2)
    data.tokenizer.model_max_length = longest_trained(model_args, config, data.tokenizer, checkpoint, stages)
    model = load_model(model_args, config, data.tokenizer)
    untrained = untrained_token_types(model, is_new=model_args.model_name_or_path is None)
    if data_args.packing == "documents":
        check_packing(model, data.tokenizer)
    description = describe_run((model_args, data_args, card_args), args, config, data.description)
    if checkpoint is not None:
        check_resumed(checkpoint, read_run_state(checkpoint).get("state", {}).get("description"), description, args)

    # 4. Train
    record, termination = RunRecord(args.output_dir, description, checkpoint), TerminationCallback()
    trainer = MaskedLMTrainer(
        model=model,
        args=args,
        tokenizer=data.tokenizer,
        loader=loader,
        flops=ModelFlops(config, data_args.mlm_probability),
        eval_dataset=data.evaluations[data_args.max_seq_length],
        saved_sparse_prediction=saved_sparse_prediction,
        description=description,
        callbacks=[termination],
    )
    trained = train(trainer, record, termination, checkpoint)
    repeat_first_token_type(trainer.model, untrained)
    save_without_push(trainer)
    trainer.save_state()

    # 5. Report
    table = length_table(trainer, data, data_args)
    totals = trainer.totals()
    train_metrics = trained.metrics | training_facts(trainer, totals)
    eval_metrics = evaluation_metrics(table, data_args.max_seq_length)
    trainer.save_metrics("train", train_metrics)
    trainer.save_metrics("eval", eval_metrics)
    if trainer.is_world_process_zero():
        results = {"packing": describe_packing(loader, totals), "totals": totals, "lengths": table}
        record.write(status="finished", results=train_metrics | eval_metrics, **results)
        report(trainer, data, model_args, data_args, card_args, record.content)
    if args.push_to_hub:
        push(trainer)
    end(trainer)
    return train_metrics | eval_metrics


if __name__ == "__main__":
    run_program(main)
