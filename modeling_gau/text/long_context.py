# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Masked tokens that only a distant part of the text gives away.

Most masked tokens follow from their neighbours: a model that sees eight tokens to either side loses little, and looks
robust at any length. Two measures ask for more: tokens all of whose other occurrences are far away (`nearest_copies`),
and a passage that stood in the text before (`repeat_passages`).
"""

from dataclasses import dataclass

import numpy as np

from ..configuration_gau import GAUError
from .evaluation_rows import MaskedWindows
from .masking import IGNORED_LABEL


def nearest_copies(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each labelled position the distance to the nearest visible token that equals its label.

    Args:
        inputs, labels: int32 `(rows, tokens)`; labels are -100 where nothing is asked.

    Returns:
        int32 `(rows, tokens)`; 0 where nothing is asked or the token does not occur in its row.
    """
    distances = np.zeros_like(inputs)
    for row, (seen, asked) in enumerate(zip(inputs, labels, strict=True)):
        for place in np.flatnonzero(asked != IGNORED_LABEL):
            copies = np.flatnonzero(seen == asked[place])
            if len(copies):
                distances[row, place] = np.abs(copies - place).min()
    return distances


@dataclass(frozen=True)
class RepeatedPassages:
    """Rows `[CLS] passage, other text, passage again [SEP]`, whose second passage is masked.

    Attributes:
        inputs, labels: int32 `(rows, length)`; labels are -100 where nothing is asked.
        alone: the inputs with other text in place of the first passage: what a model knows without it.
    """

    inputs: np.ndarray
    labels: np.ndarray
    alone: np.ndarray


def repeat_passages(windows: MaskedWindows, length: int, passage: int, rows: int, seed: int = 0) -> RepeatedPassages:
    """Makes rows of masked windows that repeat a passage at both ends, and ask for what is masked in the second one.

    Args:
        windows: where passages, and the text between them, are taken from.
        length: of the rows, [CLS] and [SEP] included.
        passage: tokens of a passage, at most half of the row.
        rows: how many to make, of random places.
        seed: of the places.

    Raises:
        ValueError: the windows are shorter than a row, or the passages do not fit into one.
    """
    width = length - 2
    if not 0 < 2 * passage <= width <= windows.inputs.shape[1]:
        raise GAUError(
            f"Two passages of {passage} tokens do not fit into rows of {width} tokens of windows of "
            f"{windows.inputs.shape[1]}: give shorter passages."
        )
    generator = np.random.default_rng(seed)
    inputs, alone = (np.empty((rows, length), np.int32) for _ in range(2))
    labels = np.full((rows, length), IGNORED_LABEL, np.int32)
    content = np.where(windows.labels == IGNORED_LABEL, windows.inputs, windows.labels)
    # Places of rows whose last passage has a label.
    asks = np.lib.stride_tricks.sliding_window_view(windows.labels[:, width - passage :] != IGNORED_LABEL, passage, 1)
    places = np.argwhere(asks.any(-1))
    if not len(places):
        raise GAUError(f"No passage of {passage} tokens holds a token to predict: raise the share of masked tokens.")
    for row in range(rows):
        number, start = places[generator.integers(len(places))]
        end = start + width - passage, start + width
        asked = windows.labels[number, slice(*end)]
        alone[row, 1:-1] = windows.inputs[number, start : start + width]
        alone[row, 0], alone[row, -1] = windows.frame
        inputs[row] = alone[row]
        inputs[row, 1 : passage + 1] = content[number, slice(*end)]
        labels[row, -passage - 1 : -1] = asked
    return RepeatedPassages(inputs, labels, alone)
