# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Names of a GAU's tensors in this package, in GAU-alpha's PyTorch port and in its TensorFlow release."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..configuration_gau import GAUConfig, GAUError


PORT_ENCODER, PORT_HEAD = "gau_alpha.", "cls.predictions.decoder.weight"
ENCODER, HEAD = "model.", "decoder.weight"
_LISTED = 8  # names in a message


@dataclass(frozen=True)
class TensorNames:
    """One tensor of the encoder.

    Args:
        ours, port: without the prefix that the encoder has inside a masked language model.
        tensorflow: the name of the variable.
        shape: in PyTorch; TensorFlow keeps matrices of layers transposed.
        is_transposed: whether this is such a matrix.
    """

    ours: str
    port: str
    tensorflow: str
    shape: tuple[int, ...]
    is_transposed: bool = False

    @property
    def tensorflow_shape(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.is_transposed else self.shape


def encoder_tensors(config: GAUConfig) -> Iterator[TensorNames]:
    """All tensors of the encoder that the configuration describes."""
    for table, size in (("word", config.vocab_size), ("token_type", config.type_vocab_size)):
        name = f"embeddings.{table}_embeddings.weight"
        yield TensorNames(name, name, f"bert/embeddings/{table}_embeddings", (size, config.hidden_size))
    widths = (2 * config.intermediate_size + config.attention_key_size, config.hidden_size)
    for index in range(config.num_hidden_layers):
        dense = {"i_dense": widths, "o_dense": (config.hidden_size, config.intermediate_size)}
        for layer, shape in dense.items():
            yield _in_unit(index, f"{layer}.weight", f"{layer}/kernel", shape, True)
            if config.use_bias:
                yield _in_unit(index, f"{layer}.bias", f"{layer}/bias", shape[:1])
        for layer in ("q_scaleoffset", "k_scaleoffset"):
            yield _in_unit(index, f"{layer}.weight", f"{layer}/gamma", (config.attention_key_size,))
            if config.use_bias:
                yield _in_unit(index, f"{layer}.bias", f"{layer}/beta", (config.attention_key_size,))


def _in_unit(index: int, name: str, variable: str, shape: tuple[int, ...], is_transposed: bool = False) -> TensorNames:
    return TensorNames(
        f"layers.{index}.gau.{name}",
        f"encoder.layer.{index}.gau.{name}",
        f"GAU_alpha/encoder/layer_{index}/gau/{variable}",
        shape,
        is_transposed,
    )


def check_tensors(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, Sequence[int]], source: str, hint: str = ""
) -> None:
    """Checks that a checkpoint has exactly the tensors its configuration describes.

    Args:
        wanted, found: name -> shape.
        source: name of the checkpoint in messages.
        hint: the way out.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; names up to eight of each kind.
    """
    shapes = [
        f"{name} is {tuple(found[name])}, not {tuple(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": shapes,
    }
    lines = [f"{kind}: {_some(names)}" for kind, names in faults.items() if names]
    if lines:
        raise GAUError(f"{source} does not match its configuration; {'; '.join(lines)}.{f' {hint}' if hint else ''}")


def check_precision(dtypes: Mapping[str, object], floating: Collection[object], source: str) -> None:
    """Raises ValueError unless all tensors share one floating type: nothing is rounded silently."""
    kinds = {kind: [name for name in dtypes if dtypes[name] == kind] for kind in set(dtypes.values())}
    if len(kinds) > 1 or not kinds.keys() <= set(floating):
        found = "; ".join(f"{kind}: {_some(names)}" for kind, names in sorted(kinds.items(), key=lambda k: len(k[1])))
        raise GAUError(f"{source} must use one floating-point type for all tensors, found {found}.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
