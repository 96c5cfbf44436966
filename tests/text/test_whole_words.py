# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The words of Chinese, put together from the tokens of every kind of vocabulary."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import rjieba
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from modeling_gau.text import whole_words
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.masking import IGNORED_LABEL, Masking
from modeling_gau.text.tokenization import SPECIAL_TOKENS, encode_texts, train_tokenizer
from modeling_gau.text.whole_words import SEGMENTERS, SegmentedWords, WordBorders, find_segmenter


TEXTS = [
    "北京大学的学生在图书馆学习自然语言处理。",
    "今天天气非常好，我们一起去公园散步吧！",
    "人工智能正在改变世界；机器学习是其中的一部分。",
    "这家酒店的服务态度很好，房间也很干净。",
    "他从上海坐火车到南京，路上花了两个小时。",
]
MIXED = "我们在GitHub上发布了transformers，版本5.17，北京大学的学生说：“非常好”。"
MIXED_WORDS = ["我们", "在", "GitHub", "上", "发布", "了", "transformers", "，", "版本", "5", ".", "17", "，"]
MIXED_WORDS += ["北京大学", "的", "学生", "说", "：", "“", "非常", "好", "”", "。"]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    """Characters, bytes without merges (a character of Chinese is three tokens) and pieces of several characters."""
    documents = Dataset.from_dict({"text": [*TEXTS, MIXED] * 2})
    pieces = Tokenizer(models.BPE(unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=190, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False)
    pieces.train_from_iterator(TEXTS * 3 + [MIXED], trainer)
    return {
        "characters": train_tokenizer(documents, "wordpiece", 400),
        "bytes": train_tokenizer(documents, "bpe", 256 + len(SPECIAL_TOKENS)),
        "pieces": PreTrainedTokenizerFast(tokenizer_object=pieces, **SPECIAL_TOKENS),
    }


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    return encode_texts([text], tokenizer)[0]


def words_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    words = SegmentedWords(tokenizer, "jieba")
    tokens = encode(tokenizer, text)
    number = words(tokens)
    assert number[0] == 0 and set(np.diff(number)) <= {0, 1}
    spelled = [b"".join(words.spelling[token] for token in tokens[number == n]) for n in range(number[-1] + 1)]
    return [word.decode().strip() for word in spelled if word.strip()]


def test_words_of_mixed_text(tokenizers):
    assert words_of(tokenizers["characters"], MIXED) == MIXED_WORDS
    # In bytes, punctuation beyond ASCII is taken for a part of words, and goes on where no Chinese follows.
    joined = "|".join(MIXED_WORDS).replace("transformers|，", "transformers，").replace("17|，", "17，")
    joined = joined.replace("说|：|“|", "说|：“|").replace("”|。", "”。")
    assert words_of(tokenizers["bytes"], MIXED) == joined.split("|")


@pytest.mark.parametrize("kind", ["characters", "bytes"])
@pytest.mark.parametrize("text", TEXTS)
def test_chinese_words_are_the_segmenters(tokenizers, kind, text):
    words = [word for word in words_of(tokenizers[kind], text) if word.isalpha()]
    known = [word for word in rjieba.cut(text) if word.isalpha()]
    assert words == known
    assert max(map(len, known)) > 1
    if kind == "bytes":
        assert len(encode(tokenizers[kind], text)) > len(text)  # characters of several tokens


def test_a_token_of_two_words_joins_them():
    tokens = [*SPECIAL_TOKENS.values(), "北京大学", "的学", "生", "▁"]
    model = models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **SPECIAL_TOKENS)
    tokens = np.array([5, 6, 7])
    assert rjieba.cut("北京大学的学生") == ["北京大学", "的", "学生"]
    assert SegmentedWords(tokenizer, "jieba")(tokens).tolist() == [0, 1, 1]


def test_words_without_chinese_are_those_of_the_vocabulary(tokenizers):
    for tokenizer in tokenizers.values():
        tokens = encode(tokenizer, "transformers GitHub 5.17 transformers")
        assert len(tokens) > 4
        assert SegmentedWords(tokenizer, "jieba")(tokens).tolist() == WordBorders(tokenizer)(tokens).tolist()


def test_special_tokens_end_words(tokenizers):
    tokenizer = tokenizers["characters"]
    north, capital = encode(tokenizer, "北京")
    words, sep = SegmentedWords(tokenizer, "jieba"), tokenizer.sep_token_id
    assert words(np.array([north, capital])).tolist() == [0, 0]
    assert words(np.array([north, sep, capital])).tolist() == [0, 1, 2]
    assert words(np.array([sep, north, capital, sep, north, capital])).tolist() == [0, 1, 1, 2, 3, 3]
    assert words(np.array([north, tokenizer.unk_token_id, capital])).tolist() == [0, 1, 2]
    assert words(np.array([], np.int32)).tolist() == []


def test_characters_cut_in_two(tokenizers):
    """Rows begin and end anywhere, in bytes also amid a character."""
    tokenizer = tokenizers["bytes"]
    words, tokens = SegmentedWords(tokenizer, "jieba"), encode(tokenizer, "".join(TEXTS))
    whole = words.begins(tokens)
    for start in range(20):
        begins = words.begins(tokens[start:])
        assert begins[0] and begins.shape == tokens[start:].shape
        # Some words further, nothing is left of the cut.
        assert (begins[15:] == whole[start + 15 :]).mean() > 0.95


@pytest.mark.parametrize("kind", ["characters", "bytes", "pieces"])
def test_chinese_words_are_masked_whole(tokenizers, kind):
    tokenizer = tokenizers[kind]
    text = np.concatenate([np.append(encode(tokenizer, text), tokenizer.sep_token_id) for text in TEXTS * 40])
    _, labels = Masking(tokenizer, 0.3, whole_words=True, segmenter="jieba")(text, np.random.default_rng(0))
    word, asked = SegmentedWords(tokenizer, "jieba")(text), labels != IGNORED_LABEL
    sizes, hits = np.bincount(word), np.bincount(word, weights=asked)
    assert set(hits[hits > 0] / sizes[hits > 0]) == {1.0}
    ordinary = np.unique(word[~np.isin(text, tokenizer.all_special_ids)])
    assert (sizes > 1).mean() > 0.2 and abs((hits[ordinary] > 0).mean() - 0.3) < 0.06
    # Without a segmenter they are not: a character of WordPiece is a word of its own.
    single = Masking(tokenizer, 0.3, whole_words=True)(text, np.random.default_rng(0))[1] != IGNORED_LABEL
    parts = np.bincount(word, weights=single) / sizes
    assert ((parts > 0) & (parts < 1)).any() == (kind == "characters")


def test_arguments():
    arguments = DataArguments(whole_word_masking=True, word_segmenter="jieba")
    assert arguments.word_segmenter in SEGMENTERS
    with pytest.raises(ValueError, match="--word_segmenter jieba finds whole words: give --whole_word_masking"):
        DataArguments(word_segmenter="jieba")
    with pytest.raises(ValueError, match="Unknown word segmenter 'lac': give one of jieba"):
        find_segmenter("lac")
    assert DataArguments(whole_word_masking=False, word_segmenter="none").word_segmenter is None  # against a recipe


def test_a_segmenter_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'needs rjieba: pip install "modeling-gau\[chinese\]"'):
        DataArguments(whole_word_masking=True, word_segmenter="jieba")


def test_the_package_does_not_need_it(monkeypatch):
    source = Path(whole_words.__file__)
    naming = [path for path in source.parents[1].rglob("*.py") if "rjieba" in path.read_text(encoding="utf-8")]
    assert naming == [source]
    monkeypatch.setitem(sys.modules, "rjieba", None)
    spec = importlib.util.spec_from_file_location(f"{whole_words.__package__}.again", source)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again.SEGMENTERS.keys() == SEGMENTERS.keys()


def unigram(tokens: list[str], **model) -> PreTrainedTokenizerFast:
    vocabulary = [(token, -1.0) for token in [*SPECIAL_TOKENS.values(), *tokens]]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=1, **model))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def test_a_letter_of_maltese_makes_no_byte_level_vocabulary():
    pieces = ["▁the", "▁cat", "s", "▁sat", "▁on", ","]
    for tokens in (pieces, [*pieces, "Ġ"]):
        tokenizer = unigram(tokens)
        ids = np.array(tokenizer.convert_tokens_to_ids(pieces))
        assert WordBorders(tokenizer)(ids).tolist() == [0, 1, 1, 2, 3, 4]


def test_characters_spelled_in_bytes():
    spelled = [f"<0x{byte:02X}>" for byte in "民".encode()]
    bytes_of_all = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = unigram(["▁北京", "人", "大学", "的", *bytes_of_all], byte_fallback=True)
    pieces = ["▁北京", "人", *spelled, "大学", "的"]
    assert tokenizer.tokenize("北京人民大学的") == pieces
    assert rjieba.cut("北京人民大学的") == ["北京", "人民大学", "的"]
    tokens = np.array(tokenizer.convert_tokens_to_ids(pieces))
    assert SegmentedWords(tokenizer, "jieba")(tokens).tolist() == [0, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("character", ["\U00020000", "\u3007", "\u3005", "\u3400", "\uf900"])
def test_rare_characters_are_chinese(character, monkeypatch):
    monkeypatch.setitem(SEGMENTERS, "jieba", ("rjieba", lambda text: [text]))
    tokenizer = unigram(["▁中", "中", character])
    ids = np.array(tokenizer.convert_tokens_to_ids(["中", character, "中"]))
    assert SegmentedWords(tokenizer, "jieba")(ids).tolist() == [0, 0, 0]
