#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Pretrain an encoder by masked language modelling, on your own text or on a corpus that every installation has.

    python run_pretrain.py --config configuration/recipes/pretrain/quickstart.yaml
    python run_pretrain.py --config_name gau-tiny --train_file notes/ --output_dir out --max_steps 2000
    accelerate launch run_pretrain.py --config configuration/recipes/pretrain/gau-base.yaml --dataset_path corpus/

Every argument of transformers.TrainingArguments is one here. A run always trains and evaluates: --do_train and
--do_eval change nothing.
"""

import re
from collections.abc import Sequence

import datasets
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from modeling_gau.pretraining.data import check_streaming, length_stages, longest_length, make_loader, prepare_data
from modeling_gau.pretraining.report import describe_packing, evaluation_metrics, length_table, report, training_facts
from modeling_gau.pretraining.trainer import MaskedLMTrainer, PretrainingArguments, check_packing
from modeling_gau.runs.arguments import CardArguments, ModelArguments
from modeling_gau.runs.faults import TerminationCallback
from modeling_gau.runs.models import check_fit, load_with_misfits, resolve_config, stated_fields
from modeling_gau.runs.progress import ModelFlops
from modeling_gau.runs.publishing import check_push_destination, push, save_without_push
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.resuming import find_checkpoint, read_run_state
from modeling_gau.runs.run_record import RunRecord, check_resumed, describe_run
from modeling_gau.runs.running import end, train
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.batches import LengthPlan, Stage, check_lengths


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
    model_args, data_args, card_args, args = parse_arguments(
        (ModelArguments, DataArguments, CardArguments, PretrainingArguments), argv, description=__doc__
    )
    transformers.utils.logging.set_verbosity(args.get_process_log_level())
    datasets.utils.logging.set_verbosity(args.get_process_log_level())
    check_push_destination(args)
    checkpoint, stages = find_checkpoint(args), length_stages(data_args)
    # What is wrong shows before the data is read.
    check_run(data_args, args, stages)
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
    description = describe_run((model_args, data_args, card_args), args, config, data.description)
    if checkpoint is not None:
        check_resumed(checkpoint, read_run_state(checkpoint).get("description"), description, args)

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


# Arguments


def check_run(data_args: DataArguments, args: PretrainingArguments, stages: Sequence[Stage]) -> None:
    """Raises ValueError for what cannot be trained, before any text is read."""
    check_lengths(stages, args.train_batch_size * data_args.max_seq_length)
    if data_args.streaming:
        check_streaming(args)
    if args.max_steps > 0:
        LengthPlan(stages, args.max_steps, args.seed)
        args.fill_schedule()


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
    stated = stated_fields(model_args) | overridden_fields(model_args)
    if is_new_model(model_args, checkpoint) and "max_position_embeddings" not in stated:
        return longest
    if config.to_dict().get("max_position_embeddings") is None:
        return None
    most = config.max_position_embeddings - first_position(config, model_args)
    if longest > most:
        raise ValueError(
            f"Rows of {longest} tokens are too long for the model, which has positions for {most} tokens "
            "(max_position_embeddings): lower --max_seq_length, --mixed_lengths or --length_schedule."
        )
    return most


def first_position(config: PreTrainedConfig, model_args: ModelArguments) -> int:
    """The entry of its table of positions with which a model begins: RoBERTa and its kin leave out those up to
    `pad_token_id`."""
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config, trust_remote_code=model_args.trust_remote_code)
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padding = [table.padding_idx for table in tables if isinstance(table, torch.nn.Embedding)]
    return max((place + 1 for place in padding if place is not None), default=0)


def is_new_model(model_args: ModelArguments, checkpoint: str | None) -> bool:
    """Whether the model begins with random weights, and its vocabulary and positions are up to the run."""
    return model_args.model_name_or_path is None and (checkpoint is None or model_args.config_name != checkpoint)


def overridden_fields(model_args: ModelArguments) -> set[str]:
    return set(re.findall(r"(?:^|,)\s*(\w+)\s*=", model_args.config_overrides or ""))


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
    if is_new_model(model_args, checkpoint):
        changes |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        # Presets leave these to the run; a configuration that states them was given them for a reason.
        lengths = {
            "max_position_embeddings": max(longest_length(stages), data_args.max_seq_length),
            "reference_length": data_args.max_seq_length,
        }
        changes |= {key: value for key, value in lengths.items() if key not in stated_fields(model_args)}
    overridden = overridden_fields(model_args)
    changes = {key: value for key, value in changes.items() if key in base.to_dict() and key not in overridden}
    if "max_position_embeddings" in changes and "rope_parameters" not in base.to_dict():
        changes["max_position_embeddings"] += first_position(resolve_config(model_args, **changes), model_args)
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


def check_same_model(config: PreTrainedConfig, checkpoint: str, stages: Sequence[Stage], **changes: object) -> None:
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


if __name__ == "__main__":
    main()
