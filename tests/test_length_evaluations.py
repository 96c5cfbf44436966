"""Training rows, and evaluation at several lengths: what every length is asked."""

import numpy as np
import pytest
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling
from transformers.trainer_utils import set_seed

from modeling_gau import length_evaluations
from modeling_gau.length_evaluations import (
    make_blocks,
    make_length_evaluations,
    mask_stream,
    most_frequent_token_accuracy,
)
from modeling_gau.tokenization import tokenize_stream, train_tokenizer


WORDS = "the old sea captain saw a white whale near his small boat and called every sailor to look at it".split()


def story(number, length=60):
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(WORDS, length)).capitalize() + f" ({number})."


@pytest.fixture(scope="session")
def documents():
    return Dataset.from_dict({"text": [story(number) for number in range(60)]})


@pytest.fixture(scope="session")
def tokenizer(documents):
    return train_tokenizer(documents, "wordpiece", 300)


# Rows


@pytest.mark.parametrize("length", [3, 10, 64])
@pytest.mark.parametrize("chunk", [2**24, 40])
def test_blocks(tokenizer, length, chunk, monkeypatch):
    monkeypatch.setattr(length_evaluations, "_CHUNK_TOKENS", chunk)
    stream = np.arange(5, 205, dtype=np.int32)
    blocks = make_blocks(stream, tokenizer, length)
    rows = blocks["input_ids"]
    assert [len(row) for row in rows[:-1]] == [length] * (len(rows) - 1)
    assert all(row[0] == 2 and row[-1] == 3 for row in rows)
    assert [token for row in rows for token in row[1:-1]] == stream.tolist()
    assert blocks._fingerprint == make_blocks(stream.copy(), tokenizer, length)._fingerprint
    assert blocks._fingerprint != make_blocks(stream[::-1], tokenizer, length)._fingerprint
    assert blocks._fingerprint != make_blocks(stream, tokenizer, length + 1)._fingerprint


def test_blocks_are_collated_with_padding_and_dynamic_masks(documents, tokenizer):
    blocks = make_blocks(tokenize_stream(documents, tokenizer), tokenizer, 32)
    collator = DataCollatorForLanguageModeling(tokenizer)
    set_seed(0)
    first, second = (collator([blocks[0], blocks[len(blocks) - 1]]) for _ in range(2))
    assert first["input_ids"].shape == (2, 32)
    assert first["attention_mask"].sum().item() == 32 + len(blocks[len(blocks) - 1]["input_ids"])
    assert first["labels"].ne(second["labels"]).any()
    assert not any(first["labels"].eq(special).any() for special in tokenizer.all_special_ids)


def test_too_short_a_text_for_one_row(tokenizer):
    stream = np.full(100, 7, np.int32)
    assert len(make_blocks(stream, tokenizer, 102)) == 1
    with pytest.raises(
        ValueError,
        match=r"The training text has 100 tokens.*lower --max_seq_length to 102 or less, or add training text",
    ):
        make_blocks(stream, tokenizer, 103)


# Evaluation at several lengths


def content(dataset, column):
    return [token for row in dataset[column] for token in row[1:-1]]


def test_every_length_is_asked_the_same(documents, tokenizer):
    stream = tokenize_stream(documents, tokenizer)
    evaluations = make_length_evaluations(stream, tokenizer, [64, 8, 100], seed=3)
    assert list(evaluations) == [64, 8, 100]
    inputs, labels = content(evaluations[8], "input_ids"), content(evaluations[8], "labels")
    asked = [place for place, label in enumerate(labels) if label != -100]
    assert len(labels) == len(stream) and [labels[place] for place in asked] == stream[asked].tolist()
    for length, evaluation in evaluations.items():
        assert content(evaluation, "input_ids") == inputs and content(evaluation, "labels") == labels
        sizes = [len(row) for row in evaluation["input_ids"]]
        assert set(sizes[:-1]) == {length} and sizes[-1] <= length
        for ids, mask, row_labels in zip(*(evaluation[name] for name in evaluation.column_names), strict=True):
            assert (ids[0], ids[-1], row_labels[0], row_labels[-1]) == (2, 3, -100, -100)
            assert mask == [1] * len(ids) and len(row_labels) == len(ids)
    assert evaluations[64].column_names == ["input_ids", "attention_mask", "labels"]


def test_masking_shares(tokenizer):
    generator = np.random.default_rng(99)
    stream = generator.integers(0, len(tokenizer), 200_000, dtype=np.int32)
    masked, labels = mask_stream(stream, tokenizer, 0.15, seed=0)
    ordinary, chosen = stream >= 5, labels != -100
    assert not chosen[~ordinary].any() and (masked[~chosen] == stream[~chosen]).all()
    assert (labels[chosen] == stream[chosen]).all()
    assert abs(chosen[ordinary].mean() - 0.15) < 0.005
    is_mask, kept = masked[chosen] == tokenizer.mask_token_id, masked[chosen] == stream[chosen]
    assert abs(is_mask.mean() - 0.8) < 0.01 and abs(kept.mean() - 0.1) < 0.01
    replaced = masked[chosen][~is_mask & ~kept]
    assert replaced.min() == 5 and replaced.max() == len(tokenizer) - 1
    again = mask_stream(stream, tokenizer, 0.15, seed=0)
    assert (again[0] == masked).all() and (again[1] == labels).all()
    assert (mask_stream(stream, tokenizer, 0.15, seed=1)[1] != labels).any()


def test_max_tokens(tokenizer):
    stream = np.arange(5, 205, dtype=np.int32) % 50 + 5
    evaluation = make_length_evaluations(stream, tokenizer, [12], max_tokens=60)[12]
    assert len(content(evaluation, "labels")) == 60 and len(evaluation) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": [8, 103]}, "The validation text has 100 tokens, too few for one row of length 103"),
        (
            {"lengths": [8, 64], "max_tokens": 50},
            "The validation text has 50 tokens, too few for one row of length 64",
        ),
        ({"lengths": []}, "at least one length"),
        ({"lengths": [8], "mlm_probability": 1e-9}, "None of the 100 validation tokens was chosen"),
    ],
)
def test_evaluations_that_cannot_be(tokenizer, arguments, message):
    with pytest.raises(ValueError) as error:
        make_length_evaluations(np.full(100, 7, np.int32), tokenizer, **arguments)
    assert message in str(error.value)


def test_most_frequent_token_accuracy(tokenizer):
    train = np.array([3] * 50 + [7] * 20 + [8] * 10, np.int32)
    stream = np.array([7] * 30 + [8] * 30, np.int32)
    evaluation = make_length_evaluations(stream, tokenizer, [10], mlm_probability=0.999999)[10]
    assert most_frequent_token_accuracy(train, evaluation, tokenizer) == 0.5
