# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from modeling_gau.text.long_context import nearest_copies, repeat_passages
from modeling_gau.text.masking import IGNORED_LABEL, Masking


MASK = 4


def test_nearest_copies():
    inputs = np.array([[7, 8, MASK, 9, 7, MASK, 8], [MASK, 5, 6, 7, 8, 9, 10]], np.int32)
    labels = np.full_like(inputs, IGNORED_LABEL)
    labels[0, 2], labels[0, 5], labels[1, 0] = 8, 7, 11
    expected = np.zeros_like(inputs)
    expected[0, 2], expected[0, 5] = 1, 1
    assert (nearest_copies(inputs, labels) == expected).all()


def test_a_masked_copy_does_not_count():
    inputs, labels = np.array([[MASK, 5, MASK, 7]], np.int32), np.array([[7, -100, 7, -100]], np.int32)
    assert nearest_copies(inputs, labels).tolist() == [[3, 0, 1, 0]]


def test_passages_come_again_at_the_distance(tokenizer):
    content = np.random.default_rng(0).integers(5, 60, (3, 200)).astype(np.int32)
    made = repeat_passages(content, Masking(tokenizer, 0.4), distance=50, passage=20, rows=16, seed=1)
    assert made.inputs.shape == made.labels.shape == made.alone.shape == (16, 70)
    rows, places = np.nonzero(made.labels != IGNORED_LABEL)
    assert len(rows) > 50 and (places >= 50).all()
    assert (made.inputs[rows, places] == MASK).all()
    assert (made.labels[rows, places] == made.inputs[rows, places - 50]).all()
    # Without the first passage the rest is the same.
    assert (made.inputs[:, 20:] == made.alone[:, 20:]).all() and (made.inputs[:, :20] != made.alone[:, :20]).any()


@pytest.mark.parametrize(("distance", "message"), [(10, "cannot be repeated"), (170, "need windows of 210 tokens")])
def test_distances_that_do_not_fit(tokenizer, distance, message):
    content = np.zeros((1, 200), np.int32)
    with pytest.raises(ValueError, match=message):
        repeat_passages(content, Masking(tokenizer, 0.4), distance=distance, passage=20)
