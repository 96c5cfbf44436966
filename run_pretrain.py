#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Pretrain an encoder by masked language modelling, on your own text or on a corpus that every installation has.

    python run_pretrain.py --config configuration/recipes/pretrain/quickstart.yaml
    python run_pretrain.py --config_name gau-tiny --train_file notes/ --output_dir out --max_steps 2000
    accelerate launch run_pretrain.py --config configuration/recipes/pretrain/gau-base.yaml --dataset_path corpus/

Every argument of transformers.TrainingArguments is one here. A run always trains and evaluates: --do_train and
--do_eval change nothing.
"""

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerState,
    pipeline,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from modeling_gau.arguments import DataArguments, ModelArguments, parse_arguments, resolve_config, stated_fields
from modeling_gau.batches import Stage
from modeling_gau.corpus import (
    PretrainingData,
    describe_packing,
    length_stages,
    longest_length,
    make_loader,
    prepare_data,
)
from modeling_gau.faults import TerminationCallback
from modeling_gau.model_card import ModelCardFacts, write_model_card
from modeling_gau.progress import ModelFlops
from modeling_gau.run_record import RunRecord, changes, describe_run
from modeling_gau.training import (
    MaskedLMTrainer,
    PretrainingArguments,
    check_fit,
    check_packing,
    find_checkpoint,
    load_with_misfits,
    read_run_state,
    remove_checkpoints,
)


# Fields that may differ between a checkpoint and the arguments of the run that continues it: what saving adds, and
# what changes how a model is run but not what it computes. The ids of special tokens follow the tokenizer.
BOOKKEEPING_FIELDS = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "sparse_prediction",
    "transformers_version",
    "use_cache",
}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the script with `argv` (the command line by default) and returns what `all_results.json` holds."""
    # 1. Arguments
    model_args, data_args, args = parse_arguments(
        (ModelArguments, PretrainingDataArguments, PretrainingArguments), argv, description=__doc__
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    checkpoint = find_checkpoint(args)
    stages = length_stages(data_args)
    # A wrong name, override or length shows before the data is read.
    longest = longest_input(model_args, data_args, checkpoint, stages)

    # 2. Data
    data = prepare_data(model_args, data_args, args, checkpoint, longest)
    loader = make_loader(data, data_args, args, stages)
    args.fill_schedule()

    # 3. Model
    set_seed(args.seed)
    config, saved_sparse_prediction = choose_config(model_args, data_args, args, data.tokenizer, checkpoint, stages)
    model = load_model(model_args, config, data.tokenizer)
    if data_args.packing == "documents":
        check_packing(model, data.tokenizer)
    description = describe_run(model_args, data_args, args, config, data.description)
    if checkpoint is not None:
        report_changes(checkpoint, description, args)

    # 4. Train
    if args.overwrite_output_dir:
        remove_checkpoints(args)
    record = RunRecord(args.output_dir, description, checkpoint)
    trainer = MaskedLMTrainer(
        model=model,
        args=args,
        tokenizer=data.tokenizer,
        loader=loader,
        flops=ModelFlops(config, data_args.mlm_probability),
        eval_dataset=data.evaluations[data_args.max_seq_length],
        saved_sparse_prediction=saved_sparse_prediction,
        description=description,
    )
    trained = train(trainer, record, checkpoint)
    trainer.save_model()
    trainer.save_state()

    # 5. Report
    table = length_table(trainer, data, data_args)
    totals = trainer.totals()
    train_metrics = trained.metrics | training_facts(trainer, trained.metrics, totals, checkpoint)
    eval_metrics = evaluation_metrics(table, data_args.max_seq_length)
    trainer.save_metrics("train", train_metrics)
    trainer.save_metrics("eval", eval_metrics)
    if trainer.is_world_process_zero():
        record.write(status="finished", totals=totals, results=train_metrics | eval_metrics, lengths=table)
        report(trainer, data, model_args, data_args, train_metrics, table)
    if args.push_to_hub:
        trainer.push_to_hub()
    # The first process writes its report while the others wait: the group they share ends for all at once.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return train_metrics | eval_metrics


def train(trainer: MaskedLMTrainer, record: RunRecord, checkpoint: str | None) -> TrainOutput:
    """Trains to the end. Told to stop, the process ends here, after a checkpoint, with the exit code of the signal."""
    termination, status = TerminationCallback(), "interrupted"
    trainer.add_callback(termination)
    if trainer.args.should_save:
        record.write()
    try:
        trained = trainer.train(resume_from_checkpoint=checkpoint)
        status = "trained" if termination.received is None else f"stopped by {termination.received.name}"
    finally:
        termination.restore_handlers()
        if trainer.args.should_save:
            record.write(status=status, step=trainer.state.global_step)
    if termination.received is not None:
        if trainer.args.should_log:
            print(f"Stopped by {termination.received.name}. Go on with --resume_from_checkpoint last.")
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.end_training()
        sys.exit(termination.exit_code())
    return trained


# Arguments


@dataclass
class PretrainingDataArguments(DataArguments):
    """[`DataArguments`] that remember whether the lengths to evaluate at were asked for or are the default."""

    def __post_init__(self):
        self.eval_lengths_given = self.eval_lengths is not None
        super().__post_init__()


def name_model(model_args: ModelArguments, checkpoint: str | None) -> ModelArguments:
    """The model arguments; a resumed run that names no model takes its checkpoint's."""
    if checkpoint is None or model_args.config_name or model_args.model_name_or_path or model_args.model_type:
        return model_args
    return ModelArguments(**(vars(model_args) | {"config_name": checkpoint}))


def longest_input(
    model_args: ModelArguments, data_args: DataArguments, checkpoint: str | None, stages: Sequence[Stage]
) -> int | None:
    """The most tokens that the model takes; None with rotary positions, which have no end.

    Raises:
        ValueError: rows are to be longer, or a stage changes the RoPE base of a model that is not a GAU.
    """
    model_args = name_model(model_args, checkpoint)
    config = resolve_config(model_args)
    if config.model_type != "gau" and any(stage.rope_theta is not None for stage in stages):
        raise ValueError(f"--length_schedule changes the RoPE base of GAU models only, not of {config.model_type}.")
    if "rope_parameters" in config.to_dict():
        return None
    longest = max(longest_length(stages), data_args.max_seq_length)
    is_new = model_args.model_name_or_path is None and model_args.config_name != checkpoint
    if is_new and "max_position_embeddings" not in stated_fields(model_args) | overridden_fields(model_args):
        return longest
    if longest > config.max_position_embeddings:
        raise ValueError(
            f"Rows of {longest} tokens are too long for the model, which has {config.max_position_embeddings} positions "
            "(max_position_embeddings): lower --max_seq_length, --mixed_lengths or --length_schedule."
        )
    return config.max_position_embeddings


def overridden_fields(model_args: ModelArguments) -> set[str]:
    return set(re.findall(r"(?:^|,)\s*(\w+)\s*=", model_args.config_overrides or ""))


def report_changes(checkpoint: str, description: Mapping[str, Any], args: PretrainingArguments) -> None:
    """Says before a resumed run starts what is not as it was; other data is an error, unless it is meant."""
    before = read_run_state(checkpoint).get("description")
    if before is None:
        print(f"{checkpoint} does not say what its run was made with: nothing could be compared.")
        return
    found = changes(before, description)
    if found["data"] and not args.accept_changed_data:
        raise ValueError(
            f"The {' and the '.join(found['data'])} are not those that {checkpoint} was trained with. Resume with the "
            "same data, begin a new run with --model_name_or_path, or go on with the new data: --accept_changed_data."
        )
    if args.should_log:
        for name in found["data"]:
            print(f"Changed since {checkpoint}: the {name}.")
        for difference in found["recipe"]:
            print(f"Changed since {checkpoint}: {difference}.")
        if found["recipe"]:
            print("The run goes on with the new values, but is not the run that it would have been without a break.")


# Model


def choose_config(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: str | None,
    stages: Sequence[Stage],
) -> tuple[PreTrainedConfig, bool | None]:
    """The configuration to train with, and the `sparse_prediction` to save (None where a model has no such field)."""
    model_args = name_model(model_args, checkpoint)
    base = resolve_config(model_args)
    changes = {}
    if model_args.model_name_or_path is None and model_args.config_name != checkpoint:
        changes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        # Presets leave these to the run; a configuration that states them was given them for a reason.
        lengths = {
            "max_position_embeddings": max(longest_length(stages), data_args.max_seq_length),
            "reference_length": data_args.max_seq_length,
        }
        changes |= {key: value for key, value in lengths.items() if key not in stated_fields(model_args)}
    overridden = overridden_fields(model_args)
    changes = {key: value for key, value in changes.items() if key in base.to_dict() and key not in overridden}
    if changes and args.should_log:
        settings = ", ".join(f"{key}={value}" for key, value in changes.items())
        print(f"Set in the configuration from the tokenizer and the row lengths: {settings}.")
    if "sparse_prediction" in base.to_dict() and "sparse_prediction" not in overridden:
        changes["sparse_prediction"] = True
    config = resolve_config(model_args, **changes)
    if model_args.model_name_or_path is None and config.vocab_size < len(tokenizer):
        raise ValueError(
            f"The configuration has a vocab_size of {config.vocab_size}, less than the {len(tokenizer)} tokens of the "
            "tokenizer: take it out of --config_overrides."
        )
    if checkpoint is not None:
        # load_model adds the entries that a larger tokenizer needs.
        check_same_model(config, checkpoint, stages, vocab_size=max(config.vocab_size, len(tokenizer)))
    # Sparse prediction is a means to train faster, not a property of the model: a saved model that returned logits for
    # labelled positions only would surprise whoever calls it with labels. Who puts it in the configuration gets it.
    return config, base.sparse_prediction if "sparse_prediction" in base.to_dict() else None


def check_same_model(
    config: PreTrainedConfig, checkpoint: str, stages: Sequence[Stage], **changes: object
) -> None:
    """The Trainer takes the weights from a checkpoint and the configuration from here: they must belong together."""
    saved, given = AutoConfig.from_pretrained(checkpoint).to_dict(), config.to_dict() | changes
    ignored = set(BOOKKEEPING_FIELDS)
    if any(stage.rope_theta is not None for stage in stages):
        ignored.add("rope_parameters")  # which follow from the step
    differing = [
        f"{key} ({saved.get(key)} there, {given.get(key)} here)"
        for key in sorted(saved.keys() | given.keys())
        if saved.get(key) != given.get(key) and key not in ignored and not key.endswith("_token_id")
    ]
    if differing:
        raise ValueError(
            f"The checkpoint {checkpoint} holds another model than the arguments describe: {', '.join(differing)}. "
            "Resume with the arguments the run began with, or begin a new run with --model_name_or_path."
        )


def load_model(
    model_args: ModelArguments, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    # Weights, gradients and optimizer states stay in float32 unless asked otherwise; --bf16 computes in bfloat16.
    dtype = model_args.dtype or "float32"
    options = {
        "attn_implementation": model_args.attn_implementation,
        "trust_remote_code": model_args.trust_remote_code,
    }
    if model_args.model_name_or_path is None:
        return AutoModelForMaskedLM.from_config(config, dtype=dtype.replace("auto", "float32"), **options)
    hub = {"cache_dir": model_args.cache_dir, "revision": model_args.revision, "token": model_args.token}
    model, misfits = load_with_misfits(
        AutoModelForMaskedLM, model_args.model_name_or_path, config=config, dtype=dtype, **options, **hub
    )
    check_fit(
        model_args.model_name_or_path,
        misfits,
        "Give a whole masked language model with its own config.json, and no --config_name or --config_overrides that "
        "change shapes; or begin a new model with --config_name alone.",
    )
    if len(tokenizer) > config.vocab_size:
        model.resize_token_embeddings(len(tokenizer))
    return model


# Report


def training_facts(
    trainer: MaskedLMTrainer, metrics: Mapping[str, float], totals: Mapping[str, Any], checkpoint: str | None
) -> dict[str, float]:
    """Size of the model, tokens seen, share of padding, and tokens per second of this call without the evaluations in
    between."""
    start = TrainerState(global_step=-1)
    if checkpoint is not None:
        start = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
    evaluations = [
        entry["eval_runtime"]
        for entry in trainer.state.log_history
        if "eval_runtime" in entry and entry["step"] > start.global_step
    ]
    tokens = trainer.state.num_input_tokens_seen
    seconds = metrics["train_runtime"] - sum(evaluations)
    return {
        "train_tokens": tokens,
        "train_tokens_per_second": round((tokens - start.num_input_tokens_seen) / seconds, 1),
        "train_padding": round(1 - totals["tokens"] / max(totals["positions"], 1), 6),
        "train_parameters": trainer.model.num_parameters(),
        "train_parameters_without_embeddings": trainer.model.num_parameters(exclude_embeddings=True),
    }


def length_table(trainer: MaskedLMTrainer, data: PretrainingData, data_args: DataArguments) -> list[dict[str, float]]:
    # As many tokens in a batch at every length as --per_device_eval_batch_size rows of the training length have.
    tokens_per_batch = trainer.args.per_device_eval_batch_size * data_args.max_seq_length
    table = trainer.evaluate_lengths(data.evaluations, tokens_per_batch)
    for row in table:
        row["most_frequent_token_accuracy"] = data.baseline
    return table


def evaluation_metrics(table: Sequence[Mapping[str, float]], max_seq_length: int) -> dict[str, float]:
    """Metrics at the training length as `eval_<metric>`, those of every length as `eval_length_<length>_<metric>`."""
    metrics = {}
    for row in table:
        values = {name: value for name, value in row.items() if name != "length"}
        metrics |= {f"eval_length_{row['length']}_{name}": value for name, value in values.items()}
        if row["length"] == max_seq_length:
            metrics |= {f"eval_{name}": value for name, value in values.items()}
    return metrics


def report(
    trainer: MaskedLMTrainer,
    data: PretrainingData,
    model_args: ModelArguments,
    data_args: DataArguments,
    metrics: Mapping[str, float],
    table: Sequence[Mapping[str, float]],
) -> None:
    output_dir = Path(trainer.args.output_dir)
    with open(output_dir / "length_results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    write_model_card(output_dir, model_card_facts(trainer, data, model_args, data_args, metrics, table))
    print_table(table, data_args.max_seq_length)
    print(
        f"{metrics['train_parameters']:,} parameters, {metrics['train_parameters_without_embeddings']:,} without "
        f"embeddings; {metrics['train_tokens']:,} tokens seen, {metrics['train_tokens_per_second']:,.0f} a second."
    )
    print_example(output_dir, data, trainer)
    print(f"\nWrote the model and its results to {output_dir}, which now holds:")
    for path in sorted(output_dir.iterdir()):
        print(f"  {path.name}{'/' if path.is_dir() else ''}")


def print_table(table: Sequence[Mapping[str, float]], max_seq_length: int) -> None:
    print(f"\nMasked-token prediction by length (trained at {max_seq_length}):")
    print(f"{'length':>8}{'sequences':>11}{'tokens':>9}{'loss':>9}{'perplexity':>12}{'accuracy':>10}{'baseline':>10}")
    for row in table:
        print(
            f"{row['length']:>8}{row['sequences']:>11}{row['masked_tokens']:>9}{row['loss']:>9.4f}"
            f"{row['perplexity']:>12.2f}{row['accuracy']:>10.2%}{row['most_frequent_token_accuracy']:>10.2%}"
        )
    print(
        "baseline: accuracy of always answering the most frequent token of the training text. A tenth of the\n"
        "predicted tokens are left as they are in the input (BERT's 80/10/10), which a model can copy."
    )


def print_example(output_dir: Path, data: PretrainingData, trainer: MaskedLMTrainer) -> None:
    """Fills the example with the model as a user would load it from `output_dir`."""
    fill_mask = pipeline("fill-mask", model=str(output_dir), device=trainer.args.device)
    print(f"\n{data.example}" + ("" if data.answer is None else f"\n(the text has {data.answer!r})"))
    for guess in fill_mask(data.example):
        print(f"  {guess['score']:6.1%}  {guess['token_str']}")


def model_card_facts(
    trainer: MaskedLMTrainer,
    data: PretrainingData,
    model_args: ModelArguments,
    data_args: DataArguments,
    metrics: Mapping[str, float],
    table: Sequence[Mapping[str, float]],
) -> ModelCardFacts:
    args, settings = trainer.args, trainer.args.to_dict()  # in which enumerations are words
    return ModelCardFacts(
        model_name=Path(args.output_dir).resolve().name,
        task="fill-mask",
        config=trainer.model.config,
        repo_id=trainer.hub_model_id,
        example=data.example,
        mask_token=data.tokenizer.mask_token,
        base_model=model_args.model_name_or_path,
        datasets=[data_args.dataset_name] if data_args.dataset_name else (),
        data_description=None if data_args.dataset_name else describe_data(data_args),
        n_parameters=metrics["train_parameters"],
        n_tokens=metrics["train_tokens"],
        training={
            "Sequence length": data_args.max_seq_length,
            "Masked tokens": f"{data_args.mlm_probability:.0%}",
            "Steps": trainer.state.global_step,
            "Sequences per step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "Optimizer": f"{settings['optim']}, betas ({args.adam_beta1}, {args.adam_beta2})",
            "Peak learning rate": args.learning_rate,
            "Schedule": settings["lr_scheduler_type"],
            "Warm-up steps": args.get_warmup_steps(trainer.state.max_steps),
            "Weight decay": args.weight_decay,
            "Precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "Seed": args.seed,
            "Training time (seconds)": metrics["train_runtime"],
            "Tokens per second": metrics["train_tokens_per_second"],
        },
        length_results=[{name: row[name] for name in row if name != "runtime"} for row in table],
        software={name: version(name) for name in ("transformers", "torch", "accelerate", "datasets", "tokenizers")},
    )


def describe_data(data_args: DataArguments) -> str:
    if data_args.dataset_path is not None:
        return f"Pretrained on the local data set `{Path(data_args.dataset_path).name}`."
    if data_args.train_file is not None:
        # With the folder: corpora are often all called train.jsonl.
        names = ["/".join(Path(name).parts[-2:]) for name in data_args.train_file]
        return f"Pretrained on local text ({', '.join(f'`{name}`' for name in names)})."
    return (
        "Pretrained on the embedded corpus: the topics of the Python manual and the docstrings of the standard "
        "library and of the installed packages."
    )


if __name__ == "__main__":
    main()
