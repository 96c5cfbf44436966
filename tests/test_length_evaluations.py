# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Evaluation at several lengths: every length is asked the same."""

import numpy as np
import pytest
from datasets import Dataset

from modeling_gau import length_evaluations
from modeling_gau.length_evaluations import make_length_evaluations, most_frequent_token_accuracy
from modeling_gau.masking import Masking
from modeling_gau.tokenization import tokenize_documents, train_tokenizer


WORDS = "the old sea captain saw a white whale near his small boat and called every sailor to look at it".split()


def story(number, length=60):
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(WORDS, length)).capitalize() + f" ({number})."


@pytest.fixture(scope="module")
def documents():
    return Dataset.from_dict({"text": [story(number) for number in range(60)]})


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer(documents, "wordpiece", 300)


@pytest.fixture(scope="module")
def stream(documents, tokenizer):
    tokens = tokenize_documents(documents, tokenizer)
    return tokens[: len(tokens) - 1]


def content(dataset, column):
    return [token for row in dataset[column] for token in row[1:-1]]


@pytest.mark.parametrize("whole_words", [False, True])
def test_every_length_is_asked_the_same(tokenizer, stream, whole_words):
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


@pytest.mark.parametrize("length", [3, 10, 64])
@pytest.mark.parametrize("chunk", [2**24, 40])
def test_rows_are_those_of_the_stream_also_when_cut_in_chunks(tokenizer, length, chunk, monkeypatch):
    monkeypatch.setattr(length_evaluations, "_CHUNK_TOKENS", chunk)
    stream = np.arange(200, dtype=np.int32) % 60 + 5

    def evaluate(stream, length, seed=0):
        return make_length_evaluations(stream, Masking(tokenizer, 0.2), [length], seed=seed)[length]

    rows = evaluate(stream, length)
    assert [len(row) for row in rows["input_ids"][:-1]] == [length] * (len(rows) - 1)
    assert all(row[0] == 2 and row[-1] == 3 for row in rows["input_ids"])
    inputs, labels = content(rows, "input_ids"), content(rows, "labels")
    assert [label if label != -100 else token for token, label in zip(inputs, labels, strict=True)] == stream.tolist()
    # datasets' cache tells rows apart by their fingerprint.
    assert rows._fingerprint == evaluate(stream.copy(), length)._fingerprint
    others = [evaluate(stream[::-1], length), evaluate(stream, length + 1), evaluate(stream, length, seed=1)]
    assert rows._fingerprint not in {other._fingerprint for other in others}


def test_masks_follow_from_the_seed(tokenizer, stream):
    labels = [
        content(make_length_evaluations(stream, Masking(tokenizer), [64], seed=seed)[64], "labels")
        for seed in (0, 0, 1)
    ]
    assert labels[0] == labels[1] != labels[2]


def test_max_tokens(tokenizer):
    stream = np.arange(5, 205, dtype=np.int32) % 50 + 5
    evaluation = make_length_evaluations(stream, Masking(tokenizer), [12], max_tokens=60)[12]
    assert len(content(evaluation, "labels")) == 60 and len(evaluation) == 6


@pytest.mark.parametrize(
    ("arguments", "probability", "message"),
    [
        ({"lengths": [8, 103]}, 0.15, "The validation text has 100 tokens, too few for one row of length 103"),
        (
            {"lengths": [8, 64], "max_tokens": 50},
            0.15,
            "The validation text has 50 tokens, too few for one row of length 64",
        ),
        ({"lengths": []}, 0.15, "at least one length"),
        ({"lengths": [8]}, 1e-9, "None of the 100 validation tokens was chosen"),
    ],
)
def test_evaluations_that_cannot_be(tokenizer, arguments, probability, message):
    with pytest.raises(ValueError) as error:
        make_length_evaluations(np.full(100, 7, np.int32), Masking(tokenizer, probability), **arguments)
    assert message in str(error.value)


def test_a_text_that_fills_one_row_exactly(tokenizer):
    stream = np.full(100, 7, np.int32)
    assert len(make_length_evaluations(stream, Masking(tokenizer), [102])[102]) == 1


def test_most_frequent_token_accuracy(tokenizer):
    counts = np.bincount([3] * 50 + [7] * 20 + [8] * 10, minlength=len(tokenizer))
    before = counts.copy()
    stream = np.array([7] * 30 + [8] * 30, np.int32)
    evaluation = make_length_evaluations(stream, Masking(tokenizer, 0.999999), [10])[10]
    assert most_frequent_token_accuracy(counts, evaluation, tokenizer) == 0.5
    assert (counts == before).all()
    # Of the tokens asked for, not of all.
    evaluation = make_length_evaluations(stream, Masking(tokenizer, 0.3), [10])[10]
    asked = np.array([label for label in content(evaluation, "labels") if label != -100])
    assert most_frequent_token_accuracy(counts, evaluation, tokenizer) == (asked == 7).mean()
