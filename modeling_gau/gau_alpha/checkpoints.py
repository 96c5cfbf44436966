# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Reads GAU-alpha checkpoints of its PyTorch port and of the TensorFlow release for bert4keras, and makes the
configuration for the port."""

import json
import math
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm.auto import tqdm

from ..configuration_gau import GAUConfig, GAUError
from .tensorflow_reader import TensorBundle, checkpoint_prefixes
from .tensors import ENCODER, HEAD, PORT_ENCODER, PORT_HEAD, check_precision, check_tensors, encoder_tensors
from .tokenizer import VOCABULARY_NAME, read_vocabulary


PORT_CONFIG, TENSORFLOW_CONFIG = "config.json", "bert_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Both hard-code log 512, the length at which softmax_plus equals softmax.
REFERENCE_LENGTH = 512

_PORT_ACTIVATIONS: Mapping[str, str] = {"swish": "silu"}
# Fields of the port's configuration -> ours, and the default.
_PORT_FIELDS: Mapping[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 12000),
    "hidden_size": ("hidden_size", 768),
    "intermediate_size": ("intermediate_size", 1536),
    "attention_key_size": ("attention_key_size", 128),
    "num_hidden_layers": ("num_hidden_layers", 24),
    "hidden_act": ("hidden_act", "swish"),
    "normalization": ("attention_normalization", "softmax_plus"),
    "max_position_embeddings": ("max_position_embeddings", 512),
    "type_vocab_size": ("type_vocab_size", 2),
    "use_bias": ("use_bias", False),
    "hidden_dropout_prob": ("hidden_dropout_prob", 0.1),
    "attention_probs_dropout_prob": ("attention_probs_dropout_prob", 0.1),
    "classifier_dropout": ("classifier_dropout", 0.1),
    "initializer_range": ("initializer_range", 0.02),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "pad_token_id": ("pad_token_id", 0),
    "tie_word_embeddings": ("tie_word_embeddings", True),
}
_FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Errors of `torch.load` for files that are not pickles of tensors.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AssertionError, AttributeError,
    struct.error,
)  # fmt: skip

PORT_NORMALIZATIONS = ("softmax", "softmax_plus", "squared_relu")


@dataclass(frozen=True)
class GAUAlphaCheckpoint:
    """A checkpoint in memory.

    Args:
        source: "PyTorch port" or "TensorFlow release".
        config: of the converted model.
        state: tensors by their names in this package.
        has_head: whether they belong to `GAUForMaskedLM`, not to `GAUModel`.
        vocabulary: token -> id.
        lowercase: whether text is lower-cased.
    """

    source: str
    config: GAUConfig
    state: dict[str, torch.Tensor]
    has_head: bool
    vocabulary: dict[str, int]
    lowercase: bool


@dataclass(frozen=True)
class Overrides:
    """Facts about a checkpoint that its files do not state.

    Args:
        attention_normalization: for TensorFlow checkpoints, whose configuration lacks it.
        softmax_plus_min_length: the shortest length for the scale of softmax_plus: 1 in bert4keras 0.11.3 and in the
            port, 16 in bert4keras 0.11.5.
    """

    attention_normalization: str | None = None
    softmax_plus_min_length: int = 1


def read_checkpoint(directory: Path, overrides: Overrides) -> GAUAlphaCheckpoint:
    """Reads the checkpoint in a directory, in either format.

    Raises:
        ValueError: the directory has no checkpoint, has both kinds, or a faulty one.
    """
    port, tensorflow = directory / PORT_CONFIG, directory / TENSORFLOW_CONFIG
    found = [read for path, read in ((port, _read_port), (tensorflow, _read_tensorflow)) if path.is_file()]
    if len(found) == 2:
        raise GAUError(
            f"{directory} has both {PORT_CONFIG} (the PyTorch port's) and {TENSORFLOW_CONFIG} (the "
            "TensorFlow release's). Move the files of one into their own directory."
        )
    if not found:
        raise GAUError(_describe_nothing(directory))
    return found[0](directory, overrides)


def _describe_nothing(directory: Path) -> str:
    inside = [path.parent for name in (PORT_CONFIG, TENSORFLOW_CONFIG) for path in directory.glob(f"*/{name}")]
    hint = f" {inside[0]} has one: pass that directory." if inside else ""
    return (
        f"{directory} has no GAU-alpha checkpoint: neither {PORT_CONFIG} with pytorch_model.bin or "
        f"model.safetensors (the PyTorch port) nor {TENSORFLOW_CONFIG} with bert_model.ckpt.* (TensorFlow).{hint}"
    )


# The PyTorch port


def _read_port(directory: Path, overrides: Overrides) -> GAUAlphaCheckpoint:
    path = directory / PORT_CONFIG
    fields = read_json(path)
    model_type = fields.get("model_type")
    if model_type != "gau_alpha":
        way_out = " It is in this package's format already; --to-port goes the other way." * (model_type == "gau")
        raise GAUError(f"{path}: model_type is {model_type!r}, not 'gau_alpha'.{way_out}")
    _check_types(fields, path)
    if fields.get("embedding_size") not in (None, fields.get("hidden_size", 768)):
        raise GAUError(f"{path}: an embedding_size other than hidden_size is not supported.")
    values = {ours: fields.get(theirs, default) for theirs, (ours, default) in _PORT_FIELDS.items()}
    stated = values["attention_normalization"]
    if stated not in PORT_NORMALIZATIONS:
        raise GAUError(f"{path}: unknown normalization {stated!r}. Allowed: {', '.join(PORT_NORMALIZATIONS)}.")
    if overrides.attention_normalization not in (None, stated):
        raise GAUError(
            f"--attention_normalization {overrides.attention_normalization}: {path} says {stated}. Drop the "
            "option; to use another one, pass attention_normalization=... to from_pretrained."
        )
    config = _config(values, overrides, path)
    vocabulary = read_vocabulary(directory / VOCABULARY_NAME, config.vocab_size, config.pad_token_id)
    tensors = _load_weights(directory)
    state, has_head = _from_port(config, tensors, directory)
    if not fields.get("attention_scale", True):
        _fold_scale(config, state)
    return GAUAlphaCheckpoint("PyTorch port", config, state, has_head, vocabulary, _lowercase(directory))


def _load_weights(directory: Path) -> dict[str, torch.Tensor]:
    """The tensors of the first existing `WEIGHT_FILES`, in one file or in shards with an index."""
    for name in WEIGHT_FILES:
        path, index = directory / name, directory / f"{name}.index.json"
        paths = [path] if path.is_file() else []
        if not paths and index.is_file():
            paths = _shards(index)
        if paths:
            read: Callable = _load_safetensors if name.endswith(".safetensors") else _load_pickle
            tensors = [entry for path in paths for entry in read(path).items()]
            if len(dict(tensors)) < len(tensors):
                raise GAUError(f"{index}: several of its files have a tensor of the same name.")
            return dict(tensors)
    raise GAUError(f"{directory} has no weights: expected {' or '.join(WEIGHT_FILES)}.")


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    names = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise GAUError(f"{index} needs a `weight_map` from tensor names to files in the same directory.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise GAUError(f"{index} names files that are missing: {', '.join(missing)}.")
    return [index.parent / name for name in names]


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise GAUError(f"{path} cannot be read ({error}): copy the file again.") from error


def _load_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise GAUError(
            f"{path} cannot be read: it is damaged, or contains objects other than tensors, which could run "
            f"code ({(str(error).splitlines() or [type(error).__name__])[0]})."
        ) from error
    entries = state.items() if isinstance(state, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in entries):
        raise GAUError(f"{path} must contain a dict of tensors, as written by `torch.save(model.state_dict(), ...)`.")
    return state


def _from_port(
    config: GAUConfig, tensors: Mapping[str, torch.Tensor], directory: Path
) -> tuple[dict[str, torch.Tensor], bool]:
    encoder = list(encoder_tensors(config))
    has_head = any(name.startswith(PORT_ENCODER) for name in tensors)
    theirs, ours = (PORT_ENCODER, ENCODER) if has_head else ("", "")
    names = {theirs + tensor.port: ours + tensor.ours for tensor in encoder}
    wanted = {theirs + tensor.port: tensor.shape for tensor in encoder}
    # safetensors stores tied weights once.
    if has_head and (PORT_HEAD in tensors or not config.tie_word_embeddings):
        names[PORT_HEAD], wanted[PORT_HEAD] = HEAD, (config.vocab_size, config.hidden_size)
    check_tensors(
        wanted,
        {name: tensor.shape for name, tensor in tensors.items()},
        f"The checkpoint in {directory}",
        "Only the masked language model and the bare encoder can be converted." if has_head else "",
    )
    dtypes = {
        name: tensor.dtype if tensor.layout is torch.strided else tensor.layout for name, tensor in tensors.items()
    }
    check_precision(dtypes, _FLOATING, f"The checkpoint in {directory}")
    state = {names[name]: tensor for name, tensor in tensors.items()}
    tied = config.tie_word_embeddings and HEAD in state
    if tied and not _same_bytes(state[HEAD], state[f"{ours}embeddings.word_embeddings.weight"]):
        raise GAUError(
            f"{directory}: {PORT_HEAD} differs from the word embeddings, but the configuration ties them, so that the "
            f'port ignores it. To use it, set "tie_word_embeddings": false in {PORT_CONFIG}.'
        )
    return state, has_head


def _same_bytes(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


def _fold_scale(config: GAUConfig, state: dict[str, torch.Tensor]) -> None:
    """Folds sqrt(key size) into the queries of a checkpoint that was trained without the scale."""
    if next(iter(state.values())).itemsize < 4:
        raise GAUError(
            '"attention_scale": false changes the query weights, which half precision would round: '
            "save the checkpoint in float32."
        )
    for name in list(state):
        if ".q_scaleoffset." in name:
            state[name] = state[name] * math.sqrt(config.attention_key_size)


# The TensorFlow release


def _read_tensorflow(directory: Path, overrides: Overrides) -> GAUAlphaCheckpoint:
    path = directory / TENSORFLOW_CONFIG
    fields = read_json(path)
    prefixes = checkpoint_prefixes(directory)
    if len(prefixes) != 1:
        there = f"{len(prefixes)} ({', '.join(prefix.name for prefix in prefixes)})" if prefixes else "none"
        raise GAUError(
            f"{directory} must have exactly one checkpoint (bert_model.ckpt.index and .data-*), found {there}."
        )
    bundle = TensorBundle(prefixes[0])
    required = ("vocab_size", "hidden_size", "intermediate_size", "attention_key_size", "num_hidden_layers")
    missing = [name for name in required if not isinstance(fields.get(name), int)]
    if missing:
        raise GAUError(f"{path}: {', '.join(missing)} must be whole numbers.")
    _check_types(fields, path)
    values = {name: fields[name] for name in required} | {
        "hidden_act": fields.get("hidden_act", "swish"),
        "attention_normalization": overrides.attention_normalization or "softmax_plus",
        "type_vocab_size": fields.get("type_vocab_size", 2),
        "use_bias": any(name.endswith("gau/i_dense/bias") for name in bundle.entries),
        "hidden_dropout_prob": fields.get("hidden_dropout_prob", 0.1),
        "attention_probs_dropout_prob": fields.get("attention_probs_dropout_prob", 0.1),
        "max_position_embeddings": fields.get("max_position_embeddings", REFERENCE_LENGTH),
        "layer_norm_eps": 1e-12,
    }
    config = _config(values, overrides, path)
    vocabulary = read_vocabulary(directory / VOCABULARY_NAME, config.vocab_size, config.pad_token_id)
    state = _from_tensorflow(config, bundle)
    return GAUAlphaCheckpoint("TensorFlow release", config, state, True, vocabulary, _lowercase(directory))


def _from_tensorflow(config: GAUConfig, bundle: TensorBundle) -> dict[str, torch.Tensor]:
    tensors = list(encoder_tensors(config))
    check_tensors(
        {tensor.tensorflow: tensor.tensorflow_shape for tensor in tensors},
        {name: entry.shape for name, entry in bundle.entries.items()},
        f"The checkpoint {bundle.prefix}",
    )
    dtypes = {name: entry.dtype for name, entry in bundle.entries.items()}
    check_precision(dtypes, ("<f2", "<f4", "<f8"), f"The checkpoint {bundle.prefix}")
    state = {}
    for tensor in tqdm(tensors, desc="Reading and checking", unit=" tensors"):
        value = torch.from_numpy(bundle.read(tensor.tensorflow).copy())
        state[ENCODER + tensor.ours] = value.T.contiguous() if tensor.is_transposed else value
    return state


# Both


def _config(values: Mapping[str, Any], overrides: Overrides, path: Path) -> GAUConfig:
    activation = values["hidden_act"]
    fields = dict(values) | {"hidden_act": _PORT_ACTIVATIONS.get(activation, activation)}
    fields |= {"reference_length": REFERENCE_LENGTH, "softmax_plus_min_length": overrides.softmax_plus_min_length}
    try:
        return GAUConfig(**fields)
    except StrictDataclassError as error:
        raise GAUError(f"{path}: {error.__cause__ or error}") from error


def _lowercase(directory: Path) -> bool:
    """`do_lower_case` of `tokenizer_config.json`; true without the file, as in the release."""
    path = directory / "tokenizer_config.json"
    value = read_json(path).get("do_lower_case", True) if path.is_file() else True
    if not isinstance(value, bool):
        raise GAUError(f"{path}: do_lower_case must be true or false, got {value!r}.")
    return value


def _check_types(fields: Mapping[str, Any], path: Path) -> None:
    """Checks the fields that are used before `GAUConfig` can check them."""
    kinds = {"hidden_act": str, "normalization": str, "attention_scale": bool}
    for name, kind in kinds.items():
        if name in fields and not isinstance(fields[name], kind):
            raise GAUError(f"{path}: {name} must be {'a name' if kind is str else 'true or false'}.")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError, naming the file, if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GAUError(f"{path} is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise GAUError(f"{path} must contain a JSON object.")
    return content


def port_config(config: GAUConfig, has_head: bool) -> dict[str, Any]:
    """The port's configuration of the same model.

    Raises:
        ValueError: the port cannot compute it.
    """
    _check_port_can(config)
    activations = {ours: theirs for theirs, ours in _PORT_ACTIVATIONS.items()}
    fields = {theirs: getattr(config, ours) for theirs, (ours, _) in _PORT_FIELDS.items()}
    fields["hidden_act"] = activations.get(config.hidden_act, config.hidden_act)
    if config.initializer_range is None:
        # The port cannot express the formula; the value only matters for new layers.
        del fields["initializer_range"]
    if config.classifier_dropout is None:
        fields["classifier_dropout"] = config.hidden_dropout_prob
    return {
        "architectures": ["GAUAlphaForMaskedLM" if has_head else "GAUAlphaModel"],
        "model_type": "gau_alpha",
        "attention_scale": True,
        "embedding_size": config.hidden_size,
        "summary_type": "first",
        **fields,
    }


def _check_port_can(config: GAUConfig) -> None:
    softmax_plus = config.attention_normalization == "softmax_plus"
    rope = config.rope_parameters
    reasons = {
        f"attention_normalization='{config.attention_normalization}' is not one of {', '.join(PORT_NORMALIZATIONS)}": (
            config.attention_normalization not in PORT_NORMALIZATIONS
        ),
        f"fixed_n={config.fixed_n}: the port always uses the length of each sequence": config.fixed_n is not None,
        f"reference_length={config.reference_length}: the port always uses {REFERENCE_LENGTH}": (
            softmax_plus and config.reference_length != REFERENCE_LENGTH
        ),
        f"softmax_plus_min_length={config.softmax_plus_min_length}: the port has no such limit, so "
        "shorter sequences give different results. To accept this, pass --softmax_plus_min_length 1": (
            softmax_plus and config.softmax_plus_min_length != 1
        ),
        f"relative_position_bias='{config.relative_position_bias}': the port has none": (
            config.relative_position_bias is not None
        ),
        f"query_key_offset_init={config.query_key_offset_init}: the port has offsets only with use_bias": (
            config.query_key_offset_init is not None and not config.use_bias
        ),
        f"sliding_window={config.sliding_window}: in the port, every layer attends to the whole sequence": (
            "sliding_attention" in (config.layer_types or ())
        ),
        f"rope_parameters={rope}: the port only supports the default type with base 10000": (
            rope["rope_type"] != "default" or rope["rope_theta"] != 10000.0
        ),
    }
    faults = [reason for reason, applies in reasons.items() if applies]
    if faults:
        raise GAUError("The PyTorch port cannot compute this model: " + "; ".join(faults) + ".")
