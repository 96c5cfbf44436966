# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Tokenizers that are trained here, and the stream of tokens that documents become."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, load_from_disk
from transformers import AutoTokenizer

from modeling_gau.text import tokenization
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.documents import read_documents
from modeling_gau.text.fingerprints import tokenizer_fingerprint
from modeling_gau.text.tokenization import encode_texts, tokenize_documents, train_tokenizer


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(trained):
    return trained("wordpiece")


# Tokenizers


def test_trained_tokenizer(trained, kind, tmp_path):
    tokenizer = trained(kind)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [*range(5)]
    assert sorted(tokenizer.all_special_ids) == [*range(5)]
    assert len(tokenizer) <= 300
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("white whale", "sea"))
    pair = tokenizer("white whale", "sea")
    assert dict(pair) == {
        "input_ids": [2, *a, 3, *b, 3],
        "token_type_ids": [0] * (len(a) + 2) + [1] * (len(b) + 1),
        "attention_mask": [1] * (len(a) + len(b) + 3),
    }
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "The old whale [MASK] \u6f22 caf\u00e9"
    assert dict(loaded(text)) == dict(tokenizer(text)) and len(loaded) == len(tokenizer)
    assert loaded.model_input_names == ["input_ids", "token_type_ids", "attention_mask"]
    for one in (tokenizer, loaded):
        whole, masked = one("the whale and it")["input_ids"], one("the whale [MASK] it")["input_ids"]
        assert masked == [*whole[:-3], 4, *whole[-2:]]  # a mask takes the place of one token


def test_bpe_is_lossless(trained):
    tokenizer = trained("bpe")
    for text in ("  two  spaces\n\n\ttab ", "caf\u00e9 \u6f22\u5b57 \U0001f40b \x00\x07", "don't stop, 1.5 % -- [CLS"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert 1 not in ids and tokenizer.decode(ids) == text


def test_lowercase(stories, trained, kind):
    lower, cased = train_tokenizer(stories, kind, 300, lowercase=True), trained(kind)
    assert lower("The SEA")["input_ids"] == lower("the sea")["input_ids"]
    assert cased("The SEA")["input_ids"] != cased("the sea")["input_ids"]


def test_training_a_tokenizer_twice_gives_the_same(kind):
    rows = Path(tokenization.__file__).read_text(encoding="utf-8").splitlines()
    rows = Dataset.from_dict({"text": [row for row in rows if row]})
    files = {train_tokenizer(rows, kind, 500).backend_tokenizer.to_str() for _ in range(3)}
    assert len(files) == 1


def test_chinese_characters_do_not_fill_the_vocabulary():
    characters = [chr(0x4E00 + number) for number in range(400)]
    common = "".join(characters[:20])
    rows = ["".join(characters), *[f"{common} whale whale whales sea seas" for _ in range(50)]]
    tokenizer = train_tokenizer(Dataset.from_dict({"text": rows}), "wordpiece", 100)
    vocabulary = tokenizer.get_vocab()
    assert set(characters[:20]) <= set(vocabulary) and sum(name in vocabulary for name in characters) < 50
    assert not any(f"##{name}" in vocabulary for name in characters)
    assert "whales" in vocabulary


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("unigram", 300, "Unknown tokenizer type 'unigram': choose wordpiece or bpe"),
        ("bpe", 260, "--vocab_size of at least 261, got 260"),
        ("wordpiece", 20, "--vocab_size of at least 64, got 20"),
    ],
)
def test_impossible_tokenizers_are_refused(stories, kind, size, message):
    with pytest.raises(ValueError) as error:
        train_tokenizer(stories, kind, size)
    assert message in str(error.value)


def test_the_fingerprint_of_a_tokenizer(trained, kind, tmp_path):
    tokenizer = trained(kind)
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_fingerprint(loaded) == fingerprint
    # What a call leaves behind in the tokenizer is no property of it.
    loaded(["the whale", "the"], padding=True, truncation=True, max_length=8)
    assert tokenizer_fingerprint(loaded) == fingerprint
    loaded.add_tokens(["kraken"])
    smaller = trained(kind, 180 if kind == "wordpiece" else 280)
    assert len({fingerprint, tokenizer_fingerprint(loaded), tokenizer_fingerprint(smaller)}) == 3


# The stream


def tokens_of(documents: Dataset, tokenizer, **options) -> list[int]:
    stream = tokenize_documents(documents, tokenizer, **options)
    return stream[: len(stream)].tolist()


def test_stream_is_all_documents_each_closed_by_a_separator(stories, tokenizer):
    stream = tokenize_documents(stories, tokenizer)
    contents = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in stories["text"]]
    expected = [token for content in contents for token in [*content, tokenizer.sep_token_id]]
    assert stream[: len(stream)].dtype == np.int32 and stream[: len(stream)].tolist() == expected
    assert stream.content_lengths.tolist() == [len(content) for content in contents]
    assert tokens_of(stories, tokenizer, num_proc=2) == expected


def test_special_words_of_the_text_stay_words(tokenizer):
    stream = tokens_of(Dataset.from_dict({"text": ["a [MASK] whale [SEP] [PAD]", "sea"]}), tokenizer)
    assert stream.count(tokenizer.sep_token_id) == 2
    assert tokenizer.mask_token_id not in stream and tokenizer.pad_token_id not in stream
    # and the tokenizer itself still knows them
    assert tokenizer("[MASK]")["input_ids"][1] == tokenizer.mask_token_id


def test_long_documents_in_pieces_give_the_same_tokens(stories, trained, kind, monkeypatch):
    tokenizer = trained(kind)
    long = "\n\n".join(f"  {text}\n\t{text} " for text in stories["text"])
    rows = Dataset.from_dict({"text": [long, "a whale", long[5:]]})
    whole = tokens_of(rows, tokenizer)
    monkeypatch.setattr(tokenization, "_PIECE_CHARACTERS", 50)
    monkeypatch.setattr(tokenization, "_BATCH_CHARACTERS", 300)
    assert len(list(tokenization._pieces(long))) > 50 and "".join(tokenization._pieces(long)) == long
    assert tokens_of(rows, tokenizer) == whole


def test_texts_are_encoded_one_by_one(stories, trained, kind, monkeypatch):
    tokenizer = trained(kind)
    texts = [*stories["text"][:5], "", "sea [SEP]", "\n".join(stories["text"][:9])]
    expected = [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
    for size in (10**6, 80):
        monkeypatch.setattr(tokenization, "_PIECE_CHARACTERS", size)
        monkeypatch.setattr(tokenization, "_BATCH_CHARACTERS", 2 * size)
        encoded = encode_texts(texts, tokenizer)
        assert [tokens.tolist() for tokens in encoded] == expected
        assert {tokens.dtype for tokens in encoded} == {np.dtype(np.int32)}
    assert encode_texts([], tokenizer) == []


def test_documents_without_tokens_leave_no_separator(tokenizer):
    documents = Dataset.from_dict({"text": ["\x01", "sea", "\x01", "\x01", "boat", "\x01"]})
    assert tokenizer.convert_ids_to_tokens(tokens_of(documents, tokenizer)) == ["sea", "[SEP]", "boat", "[SEP]"]
    assert tokenize_documents(documents, tokenizer).content_lengths.tolist() == [0, 1, 0, 0, 1, 0]


def test_tokens_on_disk_are_cached(story, tokenizer, monkeypatch, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": story(number)}) + "\n" for number in range(200)), encoding="utf-8")

    def load():
        return read_documents(DataArguments(train_file=[str(path)]), seed=0, cache_dir=str(tmp_path / "cache")).splits

    first = tokens_of(load()["train"], tokenizer)
    monkeypatch.setattr(tokenization, "_pieces", None)  # would fail
    again = load()
    assert tokens_of(again["train"], tokenizer) == first
    with pytest.raises(TypeError):
        tokenize_documents(again["train"], tokenizer, overwrite_cache=True)


def test_other_text_in_a_saved_dataset_is_tokenised_again(tmp_path, stories):
    """The description beside the text, from which `datasets` takes the names in its cache, is the old one."""
    tokenizer = train_tokenizer(stories, "wordpiece", 64)
    for name, rows in (("saved", range(20)), ("other", range(20, 40))):
        stories.select(rows).flatten_indices().save_to_disk(tmp_path / name)
    first = tokens_of(load_from_disk(tmp_path / "saved"), tokenizer)
    for path in (tmp_path / "other").glob("*.arrow"):
        path.replace(tmp_path / "saved" / path.name)
    again = tokens_of(load_from_disk(tmp_path / "saved"), tokenizer)
    assert again != first
    assert again == tokens_of(stories.select(range(20, 40)), tokenizer)


def test_tokenizer_without_separator(stories):
    tokenizer = train_tokenizer(stories, "wordpiece", 64)
    tokenizer.sep_token = None
    with pytest.raises(ValueError, match=r"has no \[CLS\] or no \[SEP\] token"):
        tokenize_documents(stories, tokenizer)
