# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Masking: the requested shares, never special tokens, and whole words whole."""

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from modeling_gau.text.masking import IGNORED_LABEL, Masking, WordBorders
from modeling_gau.text.tokenization import SPECIAL_TOKENS, encode_texts, train_tokenizer


WORDS = "the old sea captain saw a white whale near his small boat and called every sailor to look at it".split()
STORIES = [" ".join(np.random.default_rng(number).choice(WORDS, 60)) + f", ({number})." for number in range(40)]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    """One of every kind, with vocabularies so small that most words are several tokens."""
    documents = Dataset.from_dict({"text": STORIES})
    metaspace = Tokenizer(models.BPE(unk_token="[UNK]"))
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace()
    characters = sorted(set("▁«»—’'.,-\nनमस्ते0123456789" + "".join(STORIES)) - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=75, special_tokens=list(SPECIAL_TOKENS.values()), initial_alphabet=characters, show_progress=False
    )
    metaspace.train_from_iterator(STORIES, trainer)
    return {
        "wordpiece": train_tokenizer(documents, "wordpiece", 80),
        "bytes": train_tokenizer(documents, "bpe", 290),
        "metaspace": PreTrainedTokenizerFast(tokenizer_object=metaspace, **SPECIAL_TOKENS),
    }


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    return encode_texts([text], tokenizer)[0]


def assert_share(hits: int, count: int, share: float) -> None:
    """`hits` of `count` are as many as a coin of probability `share` gives, by five standard deviations at most."""
    assert abs(hits - count * share) <= 5 * (count * share * (1 - share)) ** 0.5, (hits, count, share)


# Single tokens


@pytest.mark.parametrize("probability", [0.15, 0.4])
@pytest.mark.parametrize(("mask_share", "random_share"), [(0.8, 0.1), (1.0, 0.0), (0.0, 0.5), (0.2, 0.8)])
def test_shares(tokenizers, probability, mask_share, random_share):
    tokenizer = tokenizers["wordpiece"]
    tokens = np.random.default_rng(1).integers(0, len(tokenizer), 200_000, dtype=np.int32)
    masking = Masking(tokenizer, probability, mask_share, random_share)
    inputs, labels = masking(tokens, np.random.default_rng(2))
    assert inputs.dtype == labels.dtype == np.int32 and inputs.shape == labels.shape == tokens.shape
    special, asked = np.isin(tokens, tokenizer.all_special_ids), labels != IGNORED_LABEL
    assert special.sum() > 1000
    # Inputs differ from the text only where there is a label, and the label is the text.
    assert not asked[special].any()
    np.testing.assert_array_equal(inputs[~asked], tokens[~asked])
    np.testing.assert_array_equal(labels[asked], tokens[asked])
    assert_share(asked.sum(), (~special).sum(), probability)
    seen, truth = inputs[asked], tokens[asked]
    assert_share((seen == tokenizer.mask_token_id).sum(), len(seen), mask_share)
    ordinary = len(tokenizer) - len(set(tokenizer.all_special_ids))
    # A random token may be the right one.
    assert_share((seen == truth).sum(), len(seen), 1 - mask_share - random_share + random_share / ordinary)
    replaced = seen[(seen != truth) & (seen != tokenizer.mask_token_id)]
    assert not np.isin(replaced, tokenizer.all_special_ids).any()
    if random_share:
        counts = np.bincount(replaced, minlength=len(tokenizer))
        assert (counts > 0).sum() == ordinary
        assert counts.max() < 2 * len(replaced) / ordinary  # all are about as likely


def test_the_text_is_left_alone_and_the_generator_decides(tokenizers):
    masking = Masking(tokenizers["wordpiece"], 0.3)
    tokens = encode(tokenizers["wordpiece"], STORIES[0])
    before = tokens.copy()
    tokens.flags.writeable = False  # as those of a memory-mapped file are
    first = masking(tokens, np.random.default_rng(5))
    np.random.default_rng(6).random(3)
    again = Masking(tokenizers["wordpiece"], 0.3)(tokens, np.random.default_rng(5))
    other = masking(tokens, np.random.default_rng(6))
    np.testing.assert_array_equal(tokens, before)
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, two)
        assert (one != three).any()


@pytest.mark.parametrize("whole_words", [False, True])
def test_no_tokens(tokenizers, whole_words):
    inputs, labels = Masking(tokenizers["wordpiece"], 0.3, whole_words=whole_words)(
        np.zeros(0, np.int32), np.random.default_rng(0)
    )
    assert len(inputs) == len(labels) == 0


# Whole words


def words_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The words of a text as `WordBorders` sees them, without white space around them."""
    tokens = encode(tokenizer, text)
    number = WordBorders(tokenizer)(tokens)
    assert number[0] == 0 and set(np.diff(number)) <= {0, 1}
    if tokenizer.backend_tokenizer.decoder is None:
        spelled = ["".join(tokenizer.convert_ids_to_tokens(tokens[number == word])) for word in range(number[-1] + 1)]
        words = [word.replace("▁", " ") for word in spelled]
    else:
        words = [tokenizer.decode(tokens[number == word]) for word in range(number[-1] + 1)]
    return [word.replace(" ##", "").replace("##", "").strip() for word in words if word.strip()]


def test_words_of_wordpiece(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    assert words_of(tokenizer, "every white,whale called (the) sailors to.look") == [
        "every", "white", ",", "whale", "called", "(", "the", ")", "sailors", "to", ".", "look",
    ]  # fmt: skip
    # The pre-tokenizer's own opinion of what a word is, on all stories.
    for story in STORIES:
        known = tokenizer(story, add_special_tokens=False).word_ids()
        assert len(set(known)) < len(known)
        assert WordBorders(tokenizer)(encode(tokenizer, story)).tolist() == known


def test_words_of_byte_level_vocabularies(tokenizers):
    tokenizer = tokenizers["bytes"]
    text = "don't  stop\n\n\tthe white-whale, caf\u00e9 \u6f22\u5b57 1.5\r\nsailor's (boat)\nnear"
    assert words_of(tokenizer, text) == [
        "don't", "stop", "the", "white", "-", "whale", ",", "caf\u00e9", "\u6f22\u5b57", "1", ".", "5", "sailor's",
        "(", "boat", ")", "near",
    ]  # fmt: skip
    # A newline is a token of its own here, after which a word begins that no Ġ marks.
    tokens = tokenizer.convert_ids_to_tokens(encode(tokenizer, "boat\nnear"))
    assert "Ċ" in tokens and not any(token.startswith("Ġ") for token in tokens)


def test_words_of_metaspace_vocabularies(tokenizers):
    tokenizer = tokenizers["metaspace"]
    text = "don't stop— the \u00abwhite\u00bb whale\u2019s boat, \u0928\u092e\u0938\u094d\u0924\u0947 1.5 near"
    assert words_of(tokenizer, text) == [
        "don't", "stop", "—", "the", "\u00ab", "white", "\u00bb", "whale\u2019s", "boat", ",",
        "\u0928\u092e\u0938\u094d\u0924\u0947", "1", ".", "5", "near",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "metaspace"])
def test_whole_words_are_masked_whole(tokenizers, kind):
    tokenizer = tokenizers[kind]
    text = np.concatenate([np.append(encode(tokenizer, story), tokenizer.sep_token_id) for story in STORIES * 3])
    masking = Masking(tokenizer, 0.2, whole_words=True)
    inputs, labels = masking(text, np.random.default_rng(0))
    word, asked = WordBorders(tokenizer)(text), labels != IGNORED_LABEL
    special = np.isin(text, tokenizer.all_special_ids)
    sizes, hits = np.bincount(word), np.bincount(word, weights=asked)
    assert (sizes > 2).mean() > 0.2  # words of several tokens there are
    assert set(hits[hits > 0] / sizes[hits > 0]) == {1.0}
    assert not asked[special].any()
    ordinary_words = np.unique(word[~special])
    assert_share((hits[ordinary_words] > 0).sum(), len(ordinary_words), 0.2)
    # The fate of each token is its own.
    assert_share((inputs[asked] == tokenizer.mask_token_id).sum(), asked.sum(), 0.8)
    np.testing.assert_array_equal(inputs[~asked], text[~asked])


def test_words_end_at_special_tokens(tokenizers):
    for kind in ("wordpiece", "bytes", "metaspace"):
        tokenizer = tokenizers[kind]
        borders, sep = WordBorders(tokenizer), tokenizer.sep_token_id
        inside = np.flatnonzero(borders.continues)[:2]
        assert borders(np.array([sep, *inside, sep, sep, *inside])).tolist() == [0, 1, 1, 2, 3, 4, 4]


# Errors


def test_a_vocabulary_without_marks_has_no_whole_words(tokenizer):
    Masking(tokenizer, 0.15)
    message = r"--whole_word_masking: the vocabulary of .* marks neither .*Leave the option out"
    with pytest.raises(ValueError, match=message):
        Masking(tokenizer, 0.15, whole_words=True)


def test_a_tokenizer_without_mask_token(make_tokenizer):
    tokenizer = make_tokenizer(WORDS)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match=r"The tokenizer \w+ has no \[MASK\] token"):
        Masking(tokenizer, 0.15)
