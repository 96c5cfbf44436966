# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from modeling_gau.text.evaluation_rows import mask_windows
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


@pytest.fixture(scope="module")
def windows(tokenizer):
    documents = np.random.default_rng(0).integers(5, 60, (3, 200)).astype(np.int32)
    return mask_windows(documents, Masking(tokenizer, 0.3), [202], 600)


def test_passages_come_again_at_the_other_end(windows):
    made = repeat_passages(windows, length=102, passage=20, rows=16, seed=1)
    assert made.inputs.shape == made.labels.shape == made.alone.shape == (16, 102)
    rows, places = np.nonzero(made.labels != IGNORED_LABEL)
    assert set(rows) == set(range(16)) and (places >= 81).all() and (places < 101).all()
    assert (made.inputs[rows, places] == MASK).all()
    assert (made.labels[rows, places] == made.inputs[rows, places - 80]).all()
    # Without the copy, the row is a part of the text; the rest of the row stays.
    assert (made.inputs[:, 21:] == made.alone[:, 21:]).all() and (made.inputs[:, 1:21] != made.alone[:, 1:21]).any()
    assert (made.inputs[:, 0] == 2).all() and (made.inputs[:, -1] == 3).all()


@pytest.mark.parametrize(("length", "passage"), [(40, 20), (300, 20), (102, 0)])
def test_passages_that_do_not_fit(windows, length, passage):
    with pytest.raises(ValueError, match="do not fit into rows"):
        repeat_passages(windows, length, passage, rows=1)
