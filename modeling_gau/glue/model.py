# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The model to fine-tune: a new classifier for the task's classes on the encoder that the arguments name."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from ..configuration_gau import GAUConfig, GAUError
from ..runs.arguments import ModelArguments
from ..runs.model_card import inherited_facts
from ..runs.models import check_encoder, check_fit, resolve_config, start_model, tell_new_head
from ..runs.run_record import read_record
from .arguments import GlueArguments
from .data import GlueData
from .labels import saved_label_names


def choose_base_config(model_args: ModelArguments, glue_args: GlueArguments) -> PreTrainedConfig:
    """Returns the configuration that the arguments name, before the task changes it."""
    if model_args.fixed_n is not None and glue_args.dynamic_n:
        raise GAUError(f"--fixed_n {model_args.fixed_n} and --dynamic_n exclude each other: give one of them.")
    if not (model_args.tokenizer_name or model_args.model_name_or_path):
        raise GAUError("Give --tokenizer_name: a model that starts from --config_name has no tokenizer.")
    config = resolve_config(model_args, **_n_changes(glue_args))
    if glue_args.dynamic_n and "fixed_n" not in {entry.name for entry in fields(config)}:
        raise GAUError(f"--dynamic_n is an option of GAU models; {type(config).__name__} has no n: leave it out.")
    return config


def _n_changes(glue_args: GlueArguments) -> dict[str, None]:
    return {"fixed_n": None} if glue_args.dynamic_n else {}


def load_model(model_args: ModelArguments, glue_args: GlueArguments, data: GlueData) -> PreTrainedModel:
    """Loads the checkpoint, or makes a model with random weights if there is none.

    Raises:
        ValueError: the checkpoint lacks weights of the encoder, or of a classifier that it claims to have.
    """
    config, name = _task_config(model_args, glue_args, data), model_args.model_name_or_path
    _check_pooling(config, data)
    model, misfits = start_model(AutoModelForSequenceClassification, model_args, config)
    if name is None:
        return model
    check_encoder(name, model, misfits)
    if saved_label_names(config) is not None and not glue_args.ignore_mismatched_sizes:
        check_fit(name, misfits, "Add --ignore_mismatched_sizes to start a new classifier on top of its encoder.")
    tell_new_head(name, misfits)
    return model


def _task_config(model_args: ModelArguments, glue_args: GlueArguments, data: GlueData) -> PreTrainedConfig:
    changes: dict[str, Any] = _n_changes(glue_args)
    if model_args.model_name_or_path is None:
        changes |= {"vocab_size": len(data.tokenizer), "pad_token_id": data.tokenizer.pad_token_id}
    config = resolve_config(model_args, **changes)
    config.id2label = dict(enumerate(data.label_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = data.task.problem_type
    return config


def _check_pooling(config: PreTrainedConfig, data: GlueData) -> None:
    """Refuses to compare two texts whose tokens cannot be told apart."""
    if not isinstance(config, GAUConfig) or config.classifier_pooling != "pair" or len(data.task.text_columns) < 2:
        return
    if not any(data.tokenizer("a", "a").get("token_type_ids", ())):
        raise GAUError(
            'classifier_pooling="pair" needs a tokenizer that gives the second text token type 1, and this one does '
            "not. Use --config_overrides classifier_pooling=mean."
        )


def describe_base_model(model_args: ModelArguments) -> dict[str, Any] | None:
    """What a model card says of the checkpoint, kept in the record because a local directory may be gone later."""
    name = model_args.model_name_or_path
    if name is None:
        return None
    path = Path(name)
    parent = read_record(path) if path.is_dir() else None
    own = ((parent or {}).get("arguments") or {}).get("run_name")
    described = {"name": own or (path.resolve().name if path.is_dir() else name), "is_local": path.is_dir()}
    return described | inherited_facts(path)
