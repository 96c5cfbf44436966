# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The model of a pretraining run: its configuration follows from arguments, tokenizer and row lengths."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from accelerate.utils import broadcast_object_list
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..configuration_gau import GAUError
from ..runs.arguments import ModelArguments
from ..runs.models import (
    check_fit,
    config_overrides,
    known_length,
    read_config,
    resolve_config,
    start_model,
    stated_fields,
)
from ..runs.run_record import compare_values
from ..text.arguments import DataArguments
from ..text.batches import Stage, all_lengths


# Fields that saving adds, or that change how a model is run but not what it computes. A checkpoint and the run that
# resumes from it may differ in them. The ids of special tokens follow the tokenizer.
BOOKKEEPING_FIELDS = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "sparse_prediction",
    "transformers_version",
    "use_cache",
}


def name_model(model_args: ModelArguments, checkpoint: str | None) -> ModelArguments:
    """The model arguments; a resumed run that names no model takes its checkpoint's."""
    if checkpoint is None or model_args.config_name or model_args.model_name_or_path or model_args.model_type:
        return model_args
    return replace(model_args, config_name=checkpoint)


def is_new_model(model_args: ModelArguments, checkpoint: str | None) -> bool:
    """Whether the model begins with random weights, so that the run decides on its vocabulary and positions."""
    return model_args.model_name_or_path is None and (checkpoint is None or model_args.config_name != checkpoint)


def longest_input(
    model_args: ModelArguments, data_args: DataArguments, checkpoint: str | None, stages: Sequence[Stage]
) -> int | None:
    """The most tokens that the model takes; None with rotary positions, which have no limit.

    Raises:
        ValueError: rows are longer, or a stage changes the RoPE base of a model that is not a GAU.
    """
    model_args = name_model(model_args, checkpoint)
    config = resolve_config(model_args)
    known = config.to_dict()
    if config.model_type != "gau" and any(stage.rope_theta is not None for stage in stages):
        raise GAUError(f"--length_schedule changes the RoPE base of GAU models only, not of {config.model_type}.")
    if "rope_parameters" in known:
        return None
    longest = max(*all_lengths(stages), data_args.max_seq_length)
    if is_new_model(model_args, checkpoint) and "max_position_embeddings" not in stated_fields(model_args):
        return longest
    if known.get("max_position_embeddings") is None:
        return None
    most = config.max_position_embeddings - first_position(config, model_args)
    if longest > most:
        raise GAUError(
            f"Rows of {longest} tokens are too long for the model, which has positions for {most} tokens "
            "(max_position_embeddings): lower --max_seq_length, --mixed_lengths or --length_schedule."
        )
    return most


def first_position(config: PreTrainedConfig, model_args: ModelArguments) -> int:
    """The first entry that a model uses in its table of positions: RoBERTa and its kin start after `pad_token_id`."""
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config, trust_remote_code=model_args.trust_remote_code)
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padding = [table.padding_idx for table in tables if isinstance(table, torch.nn.Embedding)]
    return max((place + 1 for place in padding if place is not None), default=0)


def choose_config(
    model_args: ModelArguments,
    data_args: DataArguments,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: str | None,
    stages: Sequence[Stage],
    should_log: bool = True,
) -> tuple[PreTrainedConfig, bool | None]:
    """The configuration to train with, and the `sparse_prediction` to save (None if the model has no such field).

    Raises:
        ValueError: the vocabulary is too small, or the checkpoint to resume from holds another model.
    """
    model_args = name_model(model_args, checkpoint)
    base, overrides = resolve_config(model_args), config_overrides(model_args)
    changes = {}
    if is_new_model(model_args, checkpoint):
        changes = _fields_of_new_model(model_args, data_args, tokenizer, stages)
        changes = {key: value for key, value in changes.items() if key in base.to_dict() and key not in overrides}
    if "max_position_embeddings" in changes and "rope_parameters" not in base.to_dict():
        changes["max_position_embeddings"] += first_position(resolve_config(model_args, **changes), model_args)
    if changes and should_log:
        settings = ", ".join(f"{key}={value}" for key, value in changes.items())
        print(f"Set in the configuration from the tokenizer and the row lengths: {settings}.")
    # Sparse prediction speeds up training and is no property of the model: a saved model that returned logits for
    # labelled positions only would surprise callers. Those who override it get what they ask for.
    has_sparse = "sparse_prediction" in base.to_dict()
    if has_sparse and "sparse_prediction" not in overrides:
        changes["sparse_prediction"] = True
    config = resolve_config(model_args, **changes)
    if model_args.model_name_or_path is None and config.vocab_size < len(tokenizer):
        raise GAUError(
            f"The configuration has a vocab_size of {config.vocab_size}, less than the {len(tokenizer)} tokens of the "
            "tokenizer: take it out of --config_overrides."
        )
    if checkpoint is not None:
        _check_same_model(config, checkpoint, stages, max(config.vocab_size, len(tokenizer)))
    return config, base.sparse_prediction if has_sparse else None


def longest_trained(
    model_args: ModelArguments,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: str | None,
    stages: Sequence[Stage],
) -> int:
    """What `truncation=True` will cut texts to: the longest row of this run or, of a model that it continues, of those
    before."""
    rows = max(all_lengths(stages))
    is_new = is_new_model(name_model(model_args, checkpoint), checkpoint)
    return rows if is_new else max(rows, known_length(tokenizer, config))


def _fields_of_new_model(
    model_args: ModelArguments, data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, stages: Sequence[Stage]
) -> dict[str, int]:
    lengths = {
        "max_position_embeddings": max(*all_lengths(stages), data_args.max_seq_length),
        "reference_length": data_args.max_seq_length,
    }
    # Presets leave the lengths to the run; a configuration that states them does so for a reason.
    lengths = {key: value for key, value in lengths.items() if key not in stated_fields(model_args)}
    return {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id} | lengths


def _check_same_model(config: PreTrainedConfig, checkpoint: str, stages: Sequence[Stage], vocab_size: int) -> None:
    """The Trainer takes the weights from a checkpoint and the configuration from here: they must belong together.

    `vocab_size` is that of the model once [`load_model`] has added what a larger tokenizer needs.
    """
    ignored = set(BOOKKEEPING_FIELDS)
    if any(stage.rope_theta is not None for stage in stages):
        ignored.add("rope_parameters")  # they follow from the step
    saved = read_config(checkpoint).to_dict()
    found = compare_values(saved, config.to_dict() | {"vocab_size": vocab_size})
    differing = [text for key, text in found.items() if key not in ignored and not key.endswith("_token_id")]
    if differing:
        raise GAUError(
            f"The checkpoint {checkpoint} holds another model than the arguments describe: {', '.join(differing)}. "
            "Resume with the arguments the run began with (what a preset has changed since then goes into "
            "--config_overrides), or begin a new run with --model_name_or_path."
        )


def load_model(
    model_args: ModelArguments, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """The model to train, with an embedding for every token; raises ValueError if the checkpoint lacks a tensor."""
    model, misfits = start_model(AutoModelForMaskedLM, model_args, config)
    check_fit(
        str(model_args.model_name_or_path),
        misfits,
        "Give --model_name_or_path a whole masked language model with its own config.json, and no --config_name or "
        "--config_overrides that change shapes; or begin a new model with --config_name alone.",
    )
    if model_args.model_name_or_path is not None and len(tokenizer) > config.vocab_size:
        model.resize_token_embeddings(len(tokenizer))
    return model


def untrained_token_types(model: PreTrainedModel, is_new: bool) -> list[torch.nn.Embedding]:
    """Embeddings of token types whose later rows nothing has trained: those of a new model, and those that equal the
    first row. A row of text is one segment, so pretraining trains the first row alone."""
    tables = {name: module for name, module in model.named_modules() if name.endswith("token_type_embeddings")}
    names = [name for name, table in tables.items() if is_new or bool((table.weight == table.weight[:1]).all())]
    # Processes that leave loading to the first one have other weights.
    return [tables[name] for name in broadcast_object_list([names])[0]]


@torch.no_grad()
def repeat_first_token_type(model: torch.nn.Module, tables: Sequence[torch.nn.Embedding]) -> None:
    """Gives every token type the embedding of the first, so that fine-tuning on pairs begins with segments that look
    alike. With random rows the second segment is noise that a small model does not unlearn."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # after an evaluation the root still holds whole copies, which saving ignores
    for table in tables:
        weight = table.weight
        first = (weight.full_tensor() if isinstance(weight, DTensor) else weight)[:1]
        rows = weight.to_local() if isinstance(weight, DTensor) else weight
        if rows.ndim == 2:  # else flattened by FSDP 1 or with other processes of DeepSpeed
            rows.copy_(first.expand_as(rows))
