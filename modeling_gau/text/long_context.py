# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Masked tokens that only a distant part of the text gives away.

Most masked tokens follow from their neighbours: a model that sees eight tokens to either side loses little, and looks
robust at any length. Two measures ask for more: tokens all of whose other occurrences are far away (`nearest_copies`),
and a passage that stood in the text before (`repeat_passages`).
"""

from dataclasses import dataclass

import numpy as np

from .masking import IGNORED_LABEL, Masking


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
    """Rows `passage, other text, passage again`, whose second passage is masked.

    Attributes:
        inputs, labels: int32 `(rows, tokens)`; labels are -100 where nothing is asked.
        alone: the inputs with other text in place of the first passage: what a model knows without it.
        distance: from a masked token to its copy.
    """

    inputs: np.ndarray
    labels: np.ndarray
    alone: np.ndarray
    distance: int


def repeat_passages(
    content: np.ndarray, masking: Masking, distance: int, passage: int = 32, rows: int = 64, seed: int = 0
) -> RepeatedPassages:
    """Repeats passages at a distance.

    Args:
        content: int32 `(windows, tokens)`, each of one document, `distance + 2 * passage` tokens or more.
        masking: which tokens of the second passage are asked.
        distance: from the beginning of the first passage to that of the second, at least `passage`.
        passage: tokens of a passage.
        rows: how many rows to make; each takes a passage, and text to stand between, from random places.
        seed: of the places and the masking.

    Raises:
        ValueError: the distance is shorter than the passage, or the windows are too short.
    """
    length = distance + passage
    if distance < passage:
        raise ValueError(f"A passage of {passage} tokens cannot be repeated at a distance of {distance}: give more.")
    if content.shape[1] < length + passage:
        raise ValueError(
            f"Passages at a distance of {distance} need windows of {length + passage} tokens, but these have "
            f"{content.shape[1]}: give a smaller distance, or longer documents."
        )
    generator = np.random.default_rng(seed)
    inputs, labels, alone = (np.empty((rows, length), np.int32) for _ in range(3))
    for row in range(rows):
        window = content[generator.integers(len(content))]
        start = generator.integers(len(window) - length - passage + 1)
        text = window[start : start + length]
        # What stands in the place of the first passage follows the row in the document.
        other = window[start + length : start + length + passage]
        first = text[:passage]
        masked, asked = masking.for_evaluation(first, generator)
        labels[row] = IGNORED_LABEL
        labels[row, distance:] = asked
        inputs[row] = np.concatenate((first, text[passage:distance], masked))
        alone[row] = np.concatenate((other, text[passage:distance], masked))
    return RepeatedPassages(inputs, labels, alone, distance)
