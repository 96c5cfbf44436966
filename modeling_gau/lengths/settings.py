# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Settings to measure a checkpoint in: n, normalization, positions, context."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from ..attention_gau import ATTENTION_NORMALIZATIONS
from ..configuration_gau import GAUConfig, GAUError


# Scalings of rotary positions for rows longer than in training: (training length, row length) -> changes to
# `rope_parameters`.
POSITION_SCALINGS = {
    "none": lambda trained, length: {},
    "linear": lambda trained, length: {"rope_type": "linear", "factor": length / trained},
    # transformers' dynamic NTK with factor 1: base * (length / trained)^(key_dim / (key_dim - 2)).
    "ntk": lambda trained, length: {"rope_type": "dynamic", "factor": 1.0},
    "yarn": lambda trained, length: {
        "rope_type": "yarn",
        "factor": length / trained,
        "original_max_position_embeddings": trained,
    },
}


@dataclass(frozen=True)
class Settings:
    """The settings to measure, in all combinations. No normalization means the checkpoint's own.

    Raises:
        ValueError: a setting is unknown.
    """

    fixed_n: tuple[str, ...] = ("dynamic", "train")
    attention_normalization: tuple[str, ...] = ()
    position_scaling: tuple[str, ...] = ("none",)
    context: tuple[str, ...] = ("intact",)

    def __post_init__(self):
        known = {
            "attention_normalization": tuple(ATTENTION_NORMALIZATIONS),
            "position_scaling": tuple(POSITION_SCALINGS),
            "context": ("intact", "shuffled"),
        }
        for name, allowed in known.items():
            for value in getattr(self, name):
                if value not in allowed:
                    raise GAUError(f"Unknown {name} '{value}'. Allowed: {', '.join(allowed)}.")
        for value in self.fixed_n:
            if value != "own":
                resolve_fixed_n(value, 512, 512)

    def cells(self, config: GAUConfig, trained: int, lengths: Iterable[int]) -> Iterator["Cell"]:
        """The cells of a checkpoint, without repetitions: positions are scaled only beyond the training length, and n
        varies only if the normalization uses it."""
        own = config.attention_normalization
        names = self.attention_normalization or (own,)
        for name in names:
            if name != own and (has_learned_parameter(name) or has_learned_parameter(own)):
                raise GAUError(
                    f"attention_normalization {name} on a checkpoint of {own}: one of them has a learned parameter "
                    "that the other lacks. Measure a checkpoint that was trained with it."
                )
        axes = (names, self.position_scaling, self.context, lengths)
        for name, scaling, context, length in product(*map(dict.fromkeys, axes)):
            if scaling != "none" and length <= trained:
                continue
            for n in dict.fromkeys(self.fixed_n) if ATTENTION_NORMALIZATIONS[name].uses_n else (NOT_USED,):
                yield Cell(name, n, scaling, context, length)


def has_learned_parameter(normalization: str) -> bool:
    entry = ATTENTION_NORMALIZATIONS[normalization]
    return entry.learned_scale or entry.sink


NOT_USED = "not used"


@dataclass(frozen=True)
class Cell:
    """One setting at one length."""

    attention_normalization: str
    n: str
    position_scaling: str
    context: str
    length: int


def resolve_fixed_n(text: str, trained: int, length: int) -> int | None:
    """Resolves 'dynamic', 'train', a number or 'n^p' to a `fixed_n`, with n = `length` and N = `trained`.

    n^p is N (n / N)^p, rounded and at least 1: p = 0 is 'train' and p = 1 'dynamic' (except in layers of local
    attention, where dynamic n counts the keys in the window).

    Raises:
        ValueError: it is none of these.
    """
    if text in ("dynamic", NOT_USED):
        return None
    if text == "train":
        return trained
    if re.fullmatch(r"[1-9]\d*", text):
        return int(text)
    power = re.fullmatch(r"n\^(-?\d+(?:\.\d+)?)", text)
    if power is None:
        raise GAUError(
            f"Unknown fixed_n '{text}'. Allowed: dynamic, train, own, a positive number, or n^p such as n^0.5."
        )
    return max(1, round(trained * (length / trained) ** float(power[1])))
