# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""GAU-alpha in NumPy and float64, from its formulas, and random checkpoints of it in both public formats.

The names and the transposition of the tensors stand here a second time, on purpose: the converter is held to them.
"""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地玄黄宇宙洪荒日月盈昃辰宿列张", "gau", "##s"]
SIZES = {"vocab_size": len(VOCABULARY), "hidden_size": 20, "intermediate_size": 36, "attention_key_size": 10}
N_LAYERS = 3
HEADER = b"\x08\x01\x1a\x02\x08\x01"  # of a TensorFlow checkpoint: one data file, version 1


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def normalized_squared_relu(scores: np.ndarray) -> np.ndarray:
    squares = np.maximum(scores, 0) ** 2
    return squares / np.maximum(squares.sum(-1, keepdims=True), 1e-300)


# (real keys of one sequence: scores (n, n)) -> weights
NORMALIZATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": softmax,
    "softmax_plus": lambda scores: softmax(scores * np.log(scores.shape[-1]) / np.log(512)),
    "squared_relu": lambda scores: np.maximum(scores, 0) ** 2 / scores.shape[-1],
    "normalized_squared_relu": normalized_squared_relu,
}


def rotate(x: np.ndarray) -> np.ndarray:
    """RoPE on (n, s): neighbouring columns are a complex number, turned by position * 10000^(-2j/s)."""
    n, s = x.shape
    angles = np.arange(n)[:, None] * 10000.0 ** (-2 * np.arange(s // 2) / s)
    turned = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], -1).reshape(n, s)


def norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)


def forward(
    weights: Mapping[str, np.ndarray], tokens: np.ndarray, types: np.ndarray, normalization: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sequence without padding.

    Args:
        weights: by the port's names, without `gau_alpha.`.
        tokens, types: `(n,)`.

    Returns:
        Hidden states `(layers + 1, n, d)`, attention weights `(layers, n, n)` and logits `(n, V)`.
    """
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    table = weights["embeddings.word_embeddings.weight"]
    x = norm(table[tokens] + weights["embeddings.token_type_embeddings.weight"][types])
    hidden, attentions = [x], []
    for layer in range(N_LAYERS):
        unit = {part: weights.get(f"encoder.layer.{layer}.gau.{part}", 0.0) for part in PARTS}
        z = x @ unit["i_dense.weight"].T + unit["i_dense.bias"]
        z = z * sigmoid(z)
        e = unit["o_dense.weight"].shape[1]
        u, v, base = z[:, :e], z[:, e : 2 * e], z[:, 2 * e :]
        q = rotate(base * unit["q_scaleoffset.weight"] + unit["q_scaleoffset.bias"])
        k = rotate(base * unit["k_scaleoffset.weight"] + unit["k_scaleoffset.bias"])
        attention = NORMALIZATIONS[normalization](q @ k.T / np.sqrt(base.shape[1]))
        x = norm(x + (u * (attention @ v)) @ unit["o_dense.weight"].T + unit["o_dense.bias"])
        hidden.append(x)
        attentions.append(attention)
    return np.stack(hidden), np.stack(attentions), x @ table.T


LAYERS = ("i_dense", "o_dense", "q_scaleoffset", "k_scaleoffset")
PARTS = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]


def random_weights(use_bias: bool, seed: int = 0) -> dict[str, np.ndarray]:
    """Of the size that a trained model's have, so that attention is far from uniform."""
    v, d, e, s = SIZES.values()
    shapes = {"i_dense.weight": (2 * e + s, d), "o_dense.weight": (d, e)}
    shapes |= {"q_scaleoffset.weight": (s,), "k_scaleoffset.weight": (s,)}
    if use_bias:
        shapes |= {f"{layer}.bias": shapes[f"{layer}.weight"][:1] for layer in LAYERS}
    generator = np.random.default_rng(seed)
    weights = {
        "embeddings.word_embeddings.weight": generator.normal(0, 0.5, (v, d)),
        "embeddings.token_type_embeddings.weight": generator.normal(0, 0.5, (2, d)),
    }
    for layer in range(N_LAYERS):
        for part, shape in shapes.items():
            center = 1.0 if "scaleoffset.weight" in part else 0.0
            weights[f"encoder.layer.{layer}.gau.{part}"] = generator.normal(center, 0.3, shape)
    return {name: value.astype(np.float32) for name, value in weights.items()}


# The port


def port_config(**changes) -> dict[str, object]:
    config = {"model_type": "gau_alpha", **SIZES, "num_hidden_layers": N_LAYERS, "embedding_size": 20}
    return config | {"hidden_act": "swish", "normalization": "softmax_plus", "attention_scale": True} | changes


def port_state(weights: Mapping[str, np.ndarray], has_head: bool = True) -> dict[str, torch.Tensor]:
    prefix = "gau_alpha." if has_head else ""
    state = {prefix + name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    if has_head:
        state["cls.predictions.decoder.weight"] = state["gau_alpha.embeddings.word_embeddings.weight"]
    return state


def write_port(directory: Path, state: Mapping[str, torch.Tensor], **changes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(port_config(**changes)))
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    torch.save(dict(state), directory / "pytorch_model.bin")
    return directory


# TensorFlow


def tensorflow_variables(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    variables = {}
    for name, value in weights.items():
        if name.startswith("embeddings."):
            variables[f"bert/embeddings/{name.split('.')[1]}"] = value
            continue
        _, _, layer, _, part, kind = name.split(".")
        kind = {"weight": "gamma", "bias": "beta"}[kind] if "scaleoffset" in part else kind.replace("weight", "kernel")
        variables[f"GAU_alpha/encoder/layer_{layer}/gau/{part}/{kind}"] = value.T if kind == "kernel" else value
    return variables


def write_tensorflow(
    directory: Path, variables: Mapping[str, np.ndarray], checksum: Callable | None = None, **changes
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    config = {**SIZES, "num_hidden_layers": N_LAYERS, "hidden_act": "swish", "type_vocab_size": 2} | changes
    (directory / "bert_config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    write_bundle(directory / "bert_model.ckpt", variables, checksum=checksum)
    return directory


def write_bundle(
    prefix: Path, variables: Mapping[str, np.ndarray], block_entries: int = 4, checksum: Callable | None = None
) -> None:
    """Writes a checkpoint as TensorFlow does, in blocks of a few entries: one data file, a table of descriptions.

    `checksum` is a quicker CRC-32C for the data.
    """
    checksum = checksum or crc32c
    size, data, entries = 0, [], [(b"", HEADER)]
    for name in sorted(variables):
        value = np.ascontiguousarray(variables[name])
        dims = b"".join(_message(2, b"\x08" + _varint(length)) for length in value.shape)
        entry = b"\x08" + _varint({"f": 1, "i": 9}[value.dtype.kind]) + _message(2, dims)
        if size:
            entry += b"\x20" + _varint(size)
        entry += b"\x28" + _varint(value.nbytes) + b"\x35" + struct.pack("<I", _masked(checksum(value.tobytes())))
        entries.append((name.encode(), entry))
        data.append(value.tobytes())
        size += value.nbytes
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(b"".join(data))
    table, index = b"", []
    for start in range(0, len(entries), block_entries):
        block = entries[start : start + block_entries]
        handle = (len(table), len(_block(block)) - 5)
        index.append((block[-1][0], b"".join(map(_varint, handle))))
        table += _block(block)
    meta = (len(table), len(_block([])) - 5)
    table += _block([])
    handles = (*meta, len(table), len(_block(index)) - 5)
    footer = b"".join(map(_varint, handles)).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table + _block(index) + footer)


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    block, last = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    block += struct.pack("<II", 0, 1) + b"\0"  # one restart, at the beginning; not compressed
    return block + struct.pack("<I", _masked(crc32c(block)))


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    result = b""
    while number > 127:
        result += bytes([number & 127 | 128])
        number >>= 7
    return result + bytes([number])


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def _masked(register: int) -> int:
    return ((register >> 15 | register << 17) + 0xA282EAD8) & 0xFFFFFFFF


EMPTY_BLOCK = _block([])
