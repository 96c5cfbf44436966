# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Evaluation at several lengths: every length predicts the same tokens."""

import numpy as np
import pytest

from modeling_gau.text.evaluation_rows import (
    join_documents,
    make_length_evaluations,
    mask_windows,
    most_frequent_token_accuracy,
)
from modeling_gau.text.masking import Masking
from modeling_gau.text.tokenization import tokenize_documents


@pytest.fixture(scope="module")
def tokenizer(trained):
    return trained("wordpiece")


@pytest.fixture(scope="module")
def stream(stories, tokenizer):
    tokens = tokenize_documents(stories, tokenizer)
    return tokens[: len(tokens) - 1]


def all_masked(tokenizer, probability=0.15):
    """A masking that leaves no chosen token visible and replaces none by another."""
    return Masking(tokenizer, probability, mask_share=1.0, random_share=0.0)


def content(dataset, column):
    return [token for row in dataset[column] for token in row[1:-1]]


@pytest.mark.parametrize("whole_words", [False, True])
def test_every_length_predicts_the_same_tokens(tokenizer, stream, whole_words):
    masking = Masking(tokenizer, whole_words=whole_words)
    evaluations = make_length_evaluations(stream, masking, [64, 8, 100], seed=3)
    assert list(evaluations) == [64, 8, 100]
    inputs, labels = content(evaluations[8], "input_ids"), content(evaluations[8], "labels")
    asked = [place for place, label in enumerate(labels) if label != -100]
    assert len(labels) == len(stream) and [labels[place] for place in asked] == stream[asked].tolist()
    assert 0.1 < len(asked) / len(stream) < 0.2
    for length, evaluation in evaluations.items():
        assert content(evaluation, "input_ids") == inputs and content(evaluation, "labels") == labels
        sizes = [len(row) for row in evaluation["input_ids"]]
        assert set(sizes[:-1]) == {length} and sizes[-1] <= length
        for ids, mask, row_labels in zip(*(evaluation[name] for name in evaluation.column_names), strict=True):
            assert (ids[0], ids[-1], row_labels[0], row_labels[-1]) == (2, 3, -100, -100)
            assert mask == [1] * len(ids) and len(row_labels) == len(ids)
    assert evaluations[64].column_names == ["input_ids", "attention_mask", "labels"]


def test_only_masked_tokens_are_asked(tokenizer, stream):
    """The input is corrupted as in training, but a token that stands visible is not asked for."""
    masking = Masking(tokenizer, 0.5)
    evaluation = make_length_evaluations(stream, masking, [64], seed=3)[64]
    inputs, labels = (np.array(content(evaluation, name)) for name in ("input_ids", "labels"))
    trained_inputs, trained_labels = masking(stream, np.random.default_rng(3))
    assert (inputs == trained_inputs).all()
    asked = labels != -100
    assert (asked == (inputs == tokenizer.mask_token_id)).all()
    assert (labels[asked] == trained_labels[asked]).all()
    assert 0.75 < asked.sum() / (trained_labels != -100).sum() < 0.85


@pytest.mark.parametrize("length", [3, 10, 64])
def test_rows_are_those_of_the_stream(tokenizer, length):
    stream = np.arange(200, dtype=np.int32) % 60 + 5

    def evaluate(stream, length, seed=0):
        return make_length_evaluations(stream, all_masked(tokenizer, 0.2), [length], seed=seed)[length]

    rows = evaluate(stream, length)
    assert [len(row) for row in rows["input_ids"][:-1]] == [length] * (len(rows) - 1)
    assert all(row[0] == 2 and row[-1] == 3 for row in rows["input_ids"])
    inputs, labels = content(rows, "input_ids"), content(rows, "labels")
    assert [label if label != -100 else token for token, label in zip(inputs, labels, strict=True)] == stream.tolist()
    # datasets' cache tells rows apart by their fingerprint.
    assert rows._fingerprint == evaluate(stream.copy(), length)._fingerprint
    others = [evaluate(stream[::-1], length), evaluate(stream, length + 1), evaluate(stream, length, seed=1)]
    assert rows._fingerprint not in {other._fingerprint for other in others}


def test_max_tokens(tokenizer):
    stream = np.arange(5, 205, dtype=np.int32) % 50 + 5
    evaluation = make_length_evaluations(stream, all_masked(tokenizer), [12], max_tokens=60)[12]
    assert len(content(evaluation, "labels")) == 60 and len(evaluation) == 6
    assert len(make_length_evaluations(stream[:100], all_masked(tokenizer), [102])[102]) == 1  # one row, just filled


@pytest.mark.parametrize(
    ("arguments", "probability", "message"),
    [
        ({"lengths": [8, 103]}, 0.15, "The validation text has 100 tokens, too few for one row of length 103"),
        (
            {"lengths": [8, 64], "max_tokens": 50},
            0.15,
            "The validation text has 50 tokens, too few for one row of length 64",
        ),
        ({"lengths": []}, 0.15, "--eval_lengths needs at least one length"),
        ({"lengths": [8]}, 1e-9, "chose none of the 100 validation tokens"),
    ],
)
def test_impossible_evaluations_are_refused(tokenizer, arguments, probability, message):
    with pytest.raises(ValueError) as error:
        make_length_evaluations(np.full(100, 7, np.int32), all_masked(tokenizer, probability), **arguments)
    assert message in str(error.value)


def test_most_frequent_token_accuracy(tokenizer):
    counts = np.bincount([3] * 50 + [7] * 20 + [8] * 10, minlength=len(tokenizer))
    before = counts.copy()
    stream = np.array([7] * 30 + [8] * 30, np.int32)
    evaluation = make_length_evaluations(stream, all_masked(tokenizer, 0.999999), [10])[10]
    assert most_frequent_token_accuracy(counts, evaluation, tokenizer) == 0.5
    assert (counts == before).all()
    # Of the tokens asked for, not of all.
    evaluation = make_length_evaluations(stream, all_masked(tokenizer, 0.3), [10])[10]
    asked = np.array([label for label in content(evaluation, "labels") if label != -100])
    assert most_frequent_token_accuracy(counts, evaluation, tokenizer) == (asked == 7).mean()


# ------------------------------------------------------------------------------------------------------------ windows


def long_documents(tokenizer, *sizes):
    generator = np.random.default_rng(0)
    return [generator.integers(5, len(tokenizer), size).astype(np.int32) for size in sizes]


def only(documents):
    """The documents, and a failure if more are read."""
    yield from documents
    pytest.fail("More documents were taken than needed.")


def asked_places(inputs, labels, width, windows):
    """(window, token, label) of every token to predict, from the rows of one length."""
    places = np.argwhere(labels[:, 1:-1] != -100)
    of_window = len(labels) // windows
    return {(int(r // of_window), int(r % of_window * width + c), int(labels[r, c + 1])) for r, c in places}


@pytest.mark.parametrize("lengths", [(34, 8, 16), (3, 34), (34,), (10, 13, 34, 33)])
def test_windows_of_every_length_predict_the_same_tokens(tokenizer, lengths):
    documents = long_documents(tokenizer, 31, 32, 100, 63, 5, 64, 0)
    windows = mask_windows(documents, all_masked(tokenizer, 0.3), lengths, 10**6, seed=4)
    # Of the document of 100 tokens two, of those with 31, 5 and 0 none.
    sources = [(1, 0), (2, 0), (2, 32), (3, 0), (5, 0), (5, 32)]
    originals = np.stack([documents[document][start : start + 32] for document, start in sources])
    assert windows.documents == 4 and windows.inputs.shape == windows.labels.shape == (6, 32)
    assert windows.lengths == lengths and windows.inputs.dtype == windows.labels.dtype == np.int32

    expected = {(int(w), int(t), int(originals[w, t])) for w, t in np.argwhere(windows.labels != -100)}
    assert len(expected) == windows.masked_tokens and 0.2 < len(expected) / 192 < 0.4
    for length in lengths:
        inputs, labels = windows.rows(length)
        width, rows = length - 2, 6 * (32 // (length - 2))
        assert inputs.shape == labels.shape == (rows, length) and inputs.dtype == labels.dtype == np.int32
        assert (inputs[:, 0] == 2).all() and (inputs[:, -1] == 3).all()
        assert (labels[:, [0, -1]] == -100).all()
        assert asked_places(inputs, labels, width, 6) == expected
        # Row by row the tokens of one document in their order, where they are not masked.
        kept = 32 // width * width
        rows_of_originals = originals[:, :kept].reshape(-1, width)
        unasked = labels[:, 1:-1] == -100
        assert (inputs[:, 1:-1][unasked] == rows_of_originals[unasked]).all()
        assert (inputs == 4).sum() > 0.5 * len(expected)  # [MASK]


@pytest.mark.parametrize(
    ("lengths", "lost"),
    [
        ((102, 22, 12), 0), ((402,), 0), ((402, 102), 0), ((1000,), 0), ((386, 50), 0), ((1002, 502, 127), 0),
        ((500, 100), 8), ((384, 96), 6), ((1000, 16), 4),
    ],
)  # fmt: skip
def test_other_lengths_lose_only_what_they_cannot_fill(tokenizer, lengths, lost):
    width = max(lengths) - 2
    assert lost == width - min(width // (length - 2) * (length - 2) for length in lengths) <= 0.017 * width
    windows = mask_windows(long_documents(tokenizer, *[width] * 20), all_masked(tokenizer, 0.9), lengths, 20 * width)
    asked = (windows.labels != -100).any(0)
    assert asked[: width - lost].mean() > 0.99 and not asked[width - lost :].any()
    assert windows.masked_tokens > 0.88 * 20 * (width - lost) / width * width


@pytest.mark.parametrize("longest", [32, 128, 512])
def test_powers_of_two_predict_the_same_tokens_in_any_selection(tokenizer, longest):
    documents, powers = long_documents(tokenizer, 3 * longest, longest), [4, 8, 16, 32, 64, 128, 256]
    some = [(longest,), *((power, longest) for power in powers if power < longest), (4, 16, longest)]
    found = [mask_windows(documents, all_masked(tokenizer), lengths, 10**6) for lengths in some]
    assert len({windows.fingerprint() for windows in found}) == 1
    for windows in found:
        for power in powers:
            if power <= longest:
                assert (windows.rows(power)[0] == found[0].rows(power)[0]).all()
                assert (windows.rows(power)[1] != -100).sum() == windows.masked_tokens


@pytest.mark.parametrize(
    ("max_tokens", "sizes", "counts"),
    [
        (1, (31, 32), [0, 1]),
        (32, (64,), [1]),
        (33, (32, 100), [1, 1]),
        (64, (100,), [2]),
        (65, (31, 64, 5, 40), [0, 2, 0, 1]),
        (160, (200, 200, 200), [2, 2, 1]),
    ],
)
def test_no_more_documents_are_taken_than_needed(tokenizer, max_tokens, sizes, counts):
    documents = long_documents(tokenizer, *sizes)
    windows = mask_windows(only(documents), all_masked(tokenizer, 0.5), [34, 8], max_tokens)
    assert windows.documents == sum(count > 0 for count in counts)
    starts = [(document, window) for document, count in enumerate(counts) for window in range(count)]
    assert len(windows.inputs) == len(starts) == -(-max_tokens // 32)
    for (document, window), inputs, labels in zip(starts, windows.inputs, windows.labels, strict=True):
        original = documents[document][32 * window : 32 * window + 32]
        assert ((inputs == original) | (labels == original) | (inputs == 4) | (np.arange(32) >= 30)).all()
        assert (inputs == original).sum() > 10


def test_windows_follow_from_seed_and_text(tokenizer):
    documents = long_documents(tokenizer, 64, 64)

    def fingerprint(documents=documents, lengths=(34, 8), max_tokens=128, seed=0, probability=0.3):
        return mask_windows(documents, all_masked(tokenizer, probability), lengths, max_tokens, seed).fingerprint()

    assert fingerprint() == fingerprint([tokens.copy() for tokens in documents]) == fingerprint(lengths=(8, 34))
    assert fingerprint() == fingerprint(lengths=(34, 12))  # rows of 6 and of 10 tokens both hold 30 of the 32
    others = [
        fingerprint(documents[::-1]), fingerprint(lengths=(66, 8)), fingerprint(lengths=(34, 21)),
        fingerprint(max_tokens=96), fingerprint(seed=1), fingerprint(probability=0.31), fingerprint(lengths=(34, 16)),
    ]  # fmt: skip
    assert len({fingerprint(), *others}) == 8


@pytest.mark.parametrize(
    ("sizes", "lengths", "probability", "message"),
    [
        ((10, 31, 7), [8, 34], 0.3, "fills a row of 34 tokens ([CLS] and [SEP] included): the longest one has 31 "),
        ((10, 31, 7), [8, 34], 0.3, "largest length to 33 or less"),
        ((), [8], 0.3, "the longest one has 0 tokens"),
        ((40,), [8, 2], 0.3, "at least 3 ([CLS], one token and [SEP]), got [8, 2]"),
        ((40,), [], 0.3, "at least 3"),
        ((40,), [8], 1e-9, "chose none of the 12 tokens"),
    ],
)
def test_impossible_windows_are_refused(tokenizer, sizes, lengths, probability, message):
    documents = long_documents(tokenizer, *sizes)
    with pytest.raises(ValueError) as error:
        mask_windows(documents, all_masked(tokenizer, probability), lengths, 1000)
    assert message in str(error.value)
    if "33 or less" in message:
        assert len(mask_windows(documents, all_masked(tokenizer, probability), [8, 33], 1000).inputs) == 1


def test_short_documents_are_joined():
    documents = [np.full(length, length, np.int32) for length in (2, 3, 7, 1, 2)]
    joined = [list(tokens) for tokens in join_documents(documents, 6, separator=0)]
    assert joined == [[2, 2, 0, 3, 3, 3], [7] * 7]  # the rest is too short


@pytest.mark.parametrize(("max_tokens", "starts"), [(64, [0, 32]), (128, [0, 32, 64, 96]), (10**6, range(0, 320, 32))])
def test_the_rest_of_a_long_document_is_used_where_asked(tokenizer, max_tokens, starts):
    (document,) = long_documents(tokenizer, 330)
    windows = mask_windows([document], all_masked(tokenizer, 0.2), [34], max_tokens, use_rest=True)
    assert windows.documents == 1 and len(windows.inputs) == len(starts)
    for start, inputs, labels in zip(starts, windows.inputs, windows.labels, strict=True):
        assert np.where(labels == -100, inputs, labels).tolist() == document[start : start + 32].tolist()
