# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The model that a run starts from: its configuration, and whether a checkpoint fits it."""

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..attention_gau import check_attention_backend
from ..configuration_gau import GAUConfig
from .arguments import ModelArguments
from .recipes import _convert, _describe, _nearest, _RecipeLoader


def resolve_config(model_arguments: ModelArguments, **changes: Any) -> PreTrainedConfig:
    """Returns the configuration that the model arguments describe.

    It is read from `config_name` (a preset, a directory, a config.json or a name on the Hub) or, without it, from
    `model_name_or_path`, and changed by `config_overrides`, `attention_normalization`, `fixed_n` and `changes`, the
    later ones winning. The changes go in before the configuration is built, so that it validates them and derives
    from them what it derives.

    Args:
        model_arguments: of the script.
        **changes: fields that the script sets itself, such as `vocab_size=len(tokenizer)`.

    Raises:
        ValueError: neither source is given, the preset is unknown, an override is not a field or not of its type, or
            `attn_implementation` is unknown or cannot do the attention normalization.
    """
    config_class, config_dict = _read_config(model_arguments)
    changes = {
        **_parse_overrides(model_arguments.config_overrides or "", config_class),
        **{
            key: value
            for key, value in (
                ("attention_normalization", model_arguments.attention_normalization),
                ("fixed_n", model_arguments.fixed_n),
            )
            if value is not None
        },
        **changes,
    }
    for option in ("attention_normalization", "fixed_n"):
        if option in changes and not issubclass(config_class, GAUConfig):
            raise ValueError(f"--{option} is an option of GAU models; {config_class.__name__} has no such field.")
    config = config_class.from_dict({**config_dict, **changes})
    if isinstance(config, GAUConfig) and model_arguments.attn_implementation is not None:
        check_attention_backend(model_arguments.attn_implementation, config.attention_normalization)
    return config


def stated_fields(model_arguments: ModelArguments) -> set[str]:
    """The fields that the config.json which the model arguments name states itself, defaults not counted."""
    return set(_read_config(model_arguments)[1])


def _read_config(model_arguments: ModelArguments) -> tuple[type[PreTrainedConfig], dict[str, Any]]:
    name = model_arguments.config_name or model_arguments.model_name_or_path
    if name is None and model_arguments.model_type is not None:
        return _type_of_name(model_arguments.model_type), {}
    if name is None:
        raise ValueError(
            "Give --model_name_or_path for a checkpoint, or for a new model --config_name "
            f"({', '.join(sorted(_presets())) or 'a directory with a config.json'}) or --model_type."
        )
    hub = {
        "cache_dir": model_arguments.cache_dir,
        "revision": model_arguments.revision,
        "token": model_arguments.token,
    }
    preset = _presets().get(name) if model_arguments.config_name else None
    if preset is not None:
        config_class, source = GAUConfig, preset
    else:
        if model_arguments.config_name:
            _check_spelling(name)
        config_class, source = _config_class(name, model_arguments.trust_remote_code, hub), name
    return config_class, config_class.get_config_dict(str(source), **hub)[0]


def _type_of_name(model_type: str) -> type[PreTrainedConfig]:
    try:
        config = AutoConfig.for_model(model_type)
    except ValueError as error:
        known = [kind for kind, config_class in CONFIG_MAPPING.items() if config_class in MODEL_FOR_MASKED_LM_MAPPING]
        raise ValueError(
            f"--model_type {model_type} is not an architecture of transformers.{_nearest(model_type, known)} Those "
            f"with a masked language model: {', '.join(sorted(known))}."
        ) from error
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ValueError(f"--model_type {model_type} has no masked language model in transformers.")
    return type(config)


def _check_spelling(name: str) -> None:
    """Refuses what looks like a misspelt preset: the Hub, or a missing network, would take its time to do so."""
    presets = sorted(_presets())
    # A name on the Hub without an owner (roberta-base) is farther from a preset than that.
    nearest = difflib.get_close_matches(name.lower(), presets, n=1, cutoff=0.75)
    if nearest and "/" not in name and not Path(name).exists():
        raise ValueError(
            f"--config_name {name} is neither a preset ({', '.join(presets)}) nor a path. Did you mean {nearest[0]}?"
        )


def _presets() -> dict[str, Path]:
    """Finds configuration/models beside the running script, or beside the package where it is used from a clone."""
    roots = [Path(sys.argv[0]).resolve().parent, Path(__file__).resolve().parents[2]]
    paths = [path for root in reversed(roots) for path in root.glob("configuration/models/*/config.json")]
    return {path.parent.name: path.parent for path in paths}


def _config_class(name: str, trust_remote_code: bool, hub: dict[str, Any]) -> type[PreTrainedConfig]:
    try:
        return type(AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, **hub))
    except OSError as error:
        presets = _presets()
        raise ValueError(
            f"{name} is neither a preset ({', '.join(sorted(presets)) or 'none found'}), nor a directory with a "
            f"config.json, nor a model that the Hub gives.{_nearest(name, presets)} ({' '.join(str(error).split())})"
        ) from error


def _parse_overrides(text: str, config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """Parses "a=1,b=[1, 2],c=null": values are YAML, held to the types of the configuration's fields."""
    # A type that stands as a string may name what only type checkers import: the configuration checks such a field.
    hints = {entry.name: Any if isinstance(entry.type, str) else entry.type for entry in fields(config_class)}
    overrides = {}
    for part in filter(None, re.split(r",(?=\s*\w+\s*=)", text)):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"--config_overrides is a list of field=value, got {part!r}.")
        if key not in hints:
            raise ValueError(
                f"--config_overrides: {config_class.__name__} has no field {key!r}.{_nearest(key, hints)}"
            )
        try:
            overrides[key] = _convert(yaml.load(value, Loader=_RecipeLoader), hints[key])
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"--config_overrides: {key} must be {_describe(hints[key])}, got {value!r}.") from error
    return overrides


def load_with_misfits(auto_class: type, name: str, **options) -> tuple[PreTrainedModel, dict[str, str]]:
    """Loads `name` with `auto_class.from_pretrained`.

    Returns:
        The model, and the tensors that are random in it because the checkpoint has none of that name and shape: name
        -> "missing" or both shapes. [`check_fit`] refuses them.
    """
    # Without `ignore_mismatched_sizes` transformers raises an error that does not name the tensors.
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    model, loading = auto_class.from_pretrained(name, **options)
    misfits = dict.fromkeys(loading["missing_keys"], "missing")
    misfits |= {key: f"{tuple(there)} there, {tuple(here)} here" for key, there, here in loading["mismatched_keys"]}
    return model, misfits


def check_fit(name: str, misfits: Mapping[str, str], way_out: str) -> None:
    """Raises ValueError where `misfits` of the checkpoint `name` are left, naming the first few and the way out."""
    if not misfits:
        return
    first = [f"{key} ({problem})" for key, problem in sorted(misfits.items())[:4]]
    more = f" and {len(misfits) - len(first)} more" if len(misfits) > len(first) else ""
    raise ValueError(
        f"The weights of the checkpoint {name} do not fit its model; these would be random: {', '.join(first)}{more}. "
        f"{way_out}"
    )
