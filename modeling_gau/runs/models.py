# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The model that a run starts from: its configuration, its weights, and whether a checkpoint fits it."""

import difflib
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from logging import LogRecord
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from huggingface_hub import constants, is_offline_mode
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import logging

from ..attention_gau import ATTENTION_NORMALIZATIONS, check_attention_backend
from ..configuration_gau import GAUConfig, GAUError
from .arguments import ModelArguments
from .options import did_you_mean
from .recipes import RecipeLoader


logger = logging.get_logger(__name__)


# Configurations


def resolve_config(model_args: ModelArguments, **changes: Any) -> PreTrainedConfig:
    """Returns the configuration that the model arguments describe.

    It is read from `config_name` (a preset, a directory, a config.json or a name on the Hub) or else from
    `model_name_or_path`, and changed by `config_overrides`, `attention_normalization`, `fixed_n` and `changes`; later
    ones win. The configuration is built with the changes, so that it validates them and derives fields from them.

    Args:
        **changes: fields that the script sets itself, such as `vocab_size=len(tokenizer)`.

    Raises:
        ValueError: neither source is given, the preset is unknown, an override is not a field or has another type, or
            `attn_implementation` is unknown or cannot compute the attention normalization.
    """
    config_class, config_dict = _read_config(model_args)
    options = {"attention_normalization": model_args.attention_normalization, "fixed_n": model_args.fixed_n}
    options = {name: value for name, value in options.items() if value is not None}
    overrides = config_overrides(model_args)
    _check_fields(config_class, overrides, options)
    changes = overrides | options | changes
    if model_args.config_name in _presets():
        changes = _without_useless_offsets(changes) | changes
    try:
        config = config_class.from_dict(config_dict | changes)
    except StrictDataclassError as error:
        raise GAUError(f"{config_class.__name__} refuses its fields: {' '.join(str(error).split())}") from error
    if isinstance(config, GAUConfig) and model_args.attn_implementation is not None:
        check_attention_backend(model_args.attn_implementation, config)
    return config


def _without_useless_offsets(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Takes a preset's offsets of query and key back, and says so, where a run changes what they are for: a softmax
    whose relative positions they are. The squared ReLU and the sigmoid do not learn with them."""
    normalization = ATTENTION_NORMALIZATIONS.get(str(changes.get("attention_normalization")))
    others = normalization is not None and normalization.family != "softmax"
    if not others and not changes.get("relative_position_bias"):
        return {}
    if "query_key_offset_init" not in changes:
        logger.warning_once(
            "The preset's query_key_offset_init is left out: it is for the softmax family without another relative "
            "position bias. --config_overrides query_key_offset_init=... keeps it."
        )
    return {"query_key_offset_init": None}


def check_trainable(model_args: ModelArguments, args: TrainingArguments) -> None:
    """Raises GAUError for an attention backend that cannot train on the device of a run."""
    name = model_args.attn_implementation
    if args.device.type == "cpu" and name in ("flex_attention", "flash_attention_2", "flash_attention_3"):
        raise GAUError(
            f"--attn_implementation {name} does not train on a CPU. Leave it out, or use sdpa, eager or gau_blocked."
        )


def known_length(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> int:
    """The longest input that a checkpoint was made for: its tokenizer's `model_max_length` or, without one, the
    configuration's `max_position_embeddings`; 0 if neither tells."""
    if tokenizer.model_max_length < LARGE_INTEGER:  # transformers writes 1e30 where nobody said a length
        return tokenizer.model_max_length
    known = config.to_dict()
    # With a table of positions, its first entries may be in use for other things.
    return known.get("max_position_embeddings") or 0 if "rope_parameters" in known else 0


def config_overrides(model_args: ModelArguments) -> dict[str, Any]:
    """Parses `--config_overrides "a=1,b=[1, 2],c=null"`, whose values are YAML."""
    overrides = {}
    for part in filter(None, re.split(r",(?=\s*\w+\s*=)", model_args.config_overrides or "")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise GAUError(f"--config_overrides is a list of field=value, got {part!r}.")
        try:
            overrides[name] = yaml.load(value, Loader=RecipeLoader)  # a SafeLoader
        except yaml.YAMLError as error:
            raise GAUError(f"--config_overrides: {name} has no value in {value!r}: {error}") from error
    return overrides


def _check_fields(
    config_class: type[PreTrainedConfig], overrides: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    known = {entry.name for entry in fields(config_class)}
    for name in options.keys() - known:
        raise GAUError(f"--{name} is an option of GAU models; {config_class.__name__} has no such field.")
    for name in overrides.keys() - known:
        raise GAUError(
            f"--config_overrides: {config_class.__name__} has no field {name!r}.{did_you_mean(name, known)}"
        )


def stated_fields(model_args: ModelArguments) -> set[str]:
    """The fields that the arguments or the config.json they name state, not counting defaults."""
    return _read_config(model_args)[1].keys() | config_overrides(model_args).keys()


def _read_config(model_args: ModelArguments) -> tuple[type[PreTrainedConfig], dict[str, Any]]:
    name = model_args.config_name or model_args.model_name_or_path
    if name is None and model_args.model_type is not None:
        return _class_of_type(model_args.model_type), {}
    presets = _presets()
    if name is None:
        raise GAUError(
            "Give --model_name_or_path for a checkpoint, or for a new model --config_name "
            f"({', '.join(presets) or 'a directory with a config.json'}) or --model_type."
        )
    if model_args.config_name in presets:
        config_class, source = GAUConfig, presets[name]
    else:
        config_class, source = _class_of_name(model_args, name, presets), name
    return config_class, config_class.get_config_dict(str(source), **model_args.hub_options())[0]


def _presets() -> dict[str, Path]:
    """The folders of configuration/models, beside the running script or beside the package in a clone."""
    roots = [Path(sys.argv[0]).resolve().parent, Path(__file__).resolve().parents[2]]
    paths = [path for root in reversed(roots) for path in root.glob("configuration/models/*/config.json")]
    return {path.parent.name: path.parent for path in sorted(paths)}


def _class_of_type(model_type: str) -> type[PreTrainedConfig]:
    known = [kind for kind, config_class in CONFIG_MAPPING.items() if config_class in MODEL_FOR_MASKED_LM_MAPPING]
    if model_type not in known:
        raise GAUError(
            f"--model_type {model_type} is not an architecture of transformers with a masked language model."
            f"{did_you_mean(model_type, known)} Known ones: {', '.join(sorted(known))}."
        )
    return CONFIG_MAPPING[model_type]


def _class_of_name(model_args: ModelArguments, name: str, presets: Mapping[str, Path]) -> type[PreTrainedConfig]:
    # Refused here, since a misspelt preset would be looked up on the Hub. The cutoff lets pass names on the Hub
    # without an owner, such as roberta-base.
    nearest = difflib.get_close_matches(name.lower(), presets, n=1, cutoff=0.75)
    if model_args.config_name and nearest and "/" not in name and not Path(name).exists():
        raise GAUError(
            f"--config_name {name} is neither a preset ({', '.join(presets)}) nor a path. Did you mean {nearest[0]}?"
        )
    trust = model_args.trust_remote_code
    try:
        return type(AutoConfig.from_pretrained(name, trust_remote_code=trust, **model_args.hub_options()))
    except (ValueError, StrictDataclassError) as error:
        raise GAUError(f"{name}: its configuration cannot be used: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise GAUError(
            f"{name} is neither a preset ({', '.join(presets) or 'none found'}), nor a directory with a config.json, "
            f"nor a model that the Hub gives.{did_you_mean(name, presets)} ({why_not_loaded(name, error)})"
        ) from error


def read_config(name: str | Path, **options: Any) -> PreTrainedConfig:
    """The configuration of a checkpoint; `options` are those of `from_pretrained`.

    Raises:
        GAUError: there is none, or it cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(name, **options)
    except OSError as error:
        raise GAUError(f"{name} has no config.json that can be read ({why_not_loaded(name, error)})") from error
    except (ValueError, StrictDataclassError) as error:
        raise GAUError(f"{name}: its configuration cannot be used: {' '.join(str(error).split())}") from error


def load_tokenizer(name: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint; `options` are those of `from_pretrained`.

    Raises:
        GAUError: there is none, or it cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except Exception as error:  # tokenizers raises no other type for a damaged file, and transformers nearly all types
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        why = why_not_loaded(name, error) if isinstance(error, OSError) else said
        raise GAUError(f"{name} has no tokenizer that can be loaded ({why})") from error


def why_not_loaded(name: str | Path, error: Exception) -> str:
    """Why a name gives no file: there is no such folder, and the Hub does not help. Otherwise what `error` says."""
    if Path(name).is_dir():
        return " ".join(str(error).split())
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return "there is no such folder"
    if is_offline_mode():
        return (
            "there is no such folder, the cache of the Hub lacks it, and HF_HUB_OFFLINE forbids downloads: give a "
            "local folder, or unset HF_HUB_OFFLINE"
        )
    if isinstance(error, LocalEntryNotFoundError) or isinstance(error.__cause__, LocalEntryNotFoundError):
        return (
            f"there is no such folder, and {constants.ENDPOINT} cannot be reached: give a local folder, or name a "
            "mirror in the environment variable HF_ENDPOINT"
        )
    return " ".join(str(error).split())


# Weights


def start_model(
    auto_class: type, model_args: ModelArguments, config: PreTrainedConfig
) -> tuple[PreTrainedModel, dict[str, str]]:
    """Builds the model that a run starts from and returns it with its misfits, see [`load_with_misfits`].

    Weights are float32 unless `dtype` says otherwise, whatever the checkpoint has; --bf16 computes in bfloat16.
    """
    options = {
        "dtype": model_args.dtype or "float32",
        "attn_implementation": model_args.attn_implementation,
        "trust_remote_code": model_args.trust_remote_code,
    }
    name = model_args.model_name_or_path
    if name is not None:
        return load_with_misfits(auto_class, name, config=config, **options, **model_args.hub_options())
    options["dtype"] = options["dtype"].replace("auto", "float32")
    return auto_class.from_config(config, **options), {}


def load_with_misfits(auto_class: type, name: str, **options) -> tuple[PreTrainedModel, dict[str, str]]:
    """Loads `name` with `auto_class.from_pretrained`.

    Returns:
        The model, and the tensors that are random because the checkpoint has none of that name and shape: name ->
        "missing" or both shapes. [`check_fit`] refuses them.

    Raises:
        ValueError: the file of the weights is damaged.
    """
    # Without `ignore_mismatched_sizes` transformers raises an error that does not name the tensors.
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with _without_report():
            model, loading = auto_class.from_pretrained(name, **options)
    except (SafetensorError, EOFError, UnicodeDecodeError, pickle.UnpicklingError) as error:
        # The first sentence: torch goes on to suggest `weights_only=False`, which may run code that the file holds.
        said = str(error).partition(". ")[0] or "the file ends early"
        files = sorted(file.name for kind in ("*.safetensors", "*.bin") for file in Path(name).glob(kind))
        raise GAUError(
            f"The weights of {name} ({', '.join(files[:3]) or 'on the Hub'}) are damaged or cut short ({said}): copy "
            "them again."
        ) from error
    encoder = f"{model.base_model_prefix}."
    # Those of another head, such as the one of pretraining, are left out as a matter of course.
    if unused := sorted(key for key in loading["unexpected_keys"] if key.startswith(encoder)):
        more = f" and {len(unused) - 4} more" if len(unused) > 4 else ""
        logger.warning(
            f"{name} has weights that {type(model).__name__} does not use: {', '.join(unused[:4])}{more}. Does its "
            "config.json belong to it?"
        )
    misfits = dict.fromkeys(loading["missing_keys"], "missing")
    misfits |= {key: f"{tuple(there)} there, {tuple(here)} here" for key, there, here in loading["mismatched_keys"]}
    return model, misfits


def load_with_new_head(auto_class: type, name: str, **options) -> PreTrainedModel:
    """Loads the encoder of `name` below a head of `auto_class`, and says in a line which of its weights are random.

    Raises:
        ValueError: weights of the encoder are missing, or their file is damaged.
    """
    model, misfits = load_with_misfits(auto_class, name, **options)
    check_encoder(name, model, misfits)
    tell_new_head(name, misfits)
    return model


def check_encoder(name: str, model: PreTrainedModel, misfits: Mapping[str, str]) -> None:
    """Raises ValueError if weights of the encoder are among the `misfits` of the checkpoint `name`."""
    check_fit(
        name,
        {key: problem for key, problem in misfits.items() if not _is_of_head(model, key)},
        "Give a checkpoint with its whole encoder and its own config.json, without a --config_name or "
        "--config_overrides that change shapes.",
    )


def _is_of_head(model: PreTrainedModel, key: str) -> bool:
    """Whether a tensor belongs to the head; BERT's pooler does, even though it lies within the encoder."""
    encoder = f"{model.base_model_prefix}."
    return not key.startswith(encoder) or key.startswith(f"{encoder}pooler.")


def tell_new_head(name: str, misfits: Mapping[str, str]) -> None:
    """Prints which weights are random on top of the encoder of `name`, where there are any."""
    if misfits and PartialState().is_main_process:
        print(f"A new head with random weights on the encoder of {name}: {', '.join(sorted(misfits))}.")


@contextmanager
def _without_report() -> Iterator[None]:
    """Leaves out the report of transformers on missing weights: those of a new head are no fault, and callers say what
    else is missing."""
    loader = logging.get_logger("transformers.modeling_utils")

    def is_other(record: LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    loader.addFilter(is_other)
    try:
        yield
    finally:
        loader.removeFilter(is_other)


def check_fit(name: str, misfits: Mapping[str, str], way_out: str) -> None:
    """Raises ValueError if the checkpoint `name` has `misfits`; names the first few and the way out."""
    if not misfits:
        return
    first = [f"{key} ({problem})" for key, problem in sorted(misfits.items())[:4]]
    more = f" and {len(misfits) - len(first)} more" if len(misfits) > len(first) else ""
    raise GAUError(
        f"The weights of the checkpoint {name} do not fit its model; these would be random: {', '.join(first)}{more}. "
        f"{way_out}"
    )
