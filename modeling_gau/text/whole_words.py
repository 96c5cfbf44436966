# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Where words begin in a sequence of tokens, by the vocabulary or, in Chinese, by a segmenter."""

import importlib.util
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..configuration_gau import GAUError


# Han characters of all blocks, the iteration mark and the zero.
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3005\u3007]+")
# Special tokens are spelled like this: no word continues across it.
_NO_TEXT = b"\n"
# SentencePiece's token for a byte of a character outside the vocabulary.
_FALLBACK_BYTE = re.compile("<0x([0-9A-F]{2})>")


class WordBorders:
    """Numbers the words of a sequence of tokens by the vocabulary.

    In WordPiece, a token with the prefix `##` continues a word. In vocabularies that mark white space (`Ġ`, `▁`), a
    token continues one if neither white space nor punctuation starts it or ends the token before; in scripts without
    spaces a word then is the text between punctuation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values(), default=-1) + 1
        self.continues, self.ends_open = np.zeros(size, bool), np.ones(size, bool)
        self.marks = marks = _marks(tokenizer, vocabulary)
        if marks.prefix is None and not marks.byte_level and not marks.spaces:
            raise GAUError(
                f"--whole_word_masking: the vocabulary of {tokenizer.name_or_path or type(tokenizer).__name__} marks "
                "neither the continuation (##) nor the beginning (Ġ, ▁) of words. Leave the option out."
            )
        special = set(tokenizer.all_special_ids)
        for token, index in vocabulary.items():
            if index in special or not token:
                self.ends_open[index] = False
            elif marks.prefix is not None:
                self.continues[index] = token.startswith(marks.prefix) and len(token) > len(marks.prefix)
            else:
                begin, end = _outer_characters(token, marks.byte_level)
                self.continues[index] = _inside_word(begin, marks.byte_level)
                self.ends_open[index] = _inside_word(end, marks.byte_level)

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """The number of each token's word, int64 `(tokens,)`, counted from 0."""
        return np.cumsum(self.begins(tokens)) - 1

    def begins(self, tokens: np.ndarray) -> np.ndarray:
        """Whether a word begins with the token, bool `(tokens,)`."""
        begins = ~self.continues[tokens]
        begins[1:] |= ~self.ends_open[tokens[:-1]]
        begins[:1] = True
        return begins


class SegmentedWords(WordBorders):
    """Numbers the words of a sequence of tokens, using a segmenter for Chinese.

    Runs of Chinese characters are reassembled from the tokens and segmented, whether tokens are characters, several
    characters or bytes. A token that spans two words joins them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, segmenter: str):
        super().__init__(tokenizer)
        self.segment = find_segmenter(segmenter)
        vocabulary = tokenizer.get_vocab()
        self.spelling = [_NO_TEXT] * len(self.continues)
        spell = _spelling(self.marks)
        special = set(tokenizer.all_special_ids)
        for token, index in vocabulary.items():
            if index not in special and token:
                self.spelling[index] = spell(token)

    def begins(self, tokens: np.ndarray) -> np.ndarray:
        """Whether a word begins with the token, bool `(tokens,)`."""
        begins = super().begins(tokens)
        spelled = [self.spelling[token] for token in tokens.tolist()]
        starts = np.cumsum([0, *map(len, spelled)])
        chinese, borders = self._borders(b"".join(spelled))
        starts, before = starts[:-1], np.maximum(starts[:-1] - 1, 0)
        inside = chinese[starts]
        begins[inside] = borders[starts[inside]]
        # Some vocabularies would continue a Chinese word with the letters that follow it.
        begins |= ~inside & chinese[before] & (starts > 0)
        begins[:1] = True
        return begins

    def _borders(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Which bytes belong to Chinese characters, and which of those begin a word; both bool `(bytes + 1,)`."""
        chinese, borders = np.zeros((2, len(text) + 1), bool)
        position = end = 0
        # A character cut in two stays bytes, which do not count as Chinese.
        characters = text.decode("utf-8", "surrogateescape")
        for run in _CHINESE.finditer(characters):
            position += len(characters[end : run.start()].encode("utf-8", "surrogateescape"))
            end = run.end()
            for word in self.segment(run.group()):
                length = len(word.encode())
                borders[position] = True
                chinese[position : position + length] = True
                position += length
        return chinese, borders


def _rjieba(text: str) -> list[str]:
    import rjieba

    return rjieba.cut(text)


# Values of `--word_segmenter` -> the package each needs, and its function. jieba is the port to Rust: the original
# has had no release since 2020 and no wheels.
SEGMENTERS: Mapping[str, tuple[str, Callable[[str], list[str]]]] = {"jieba": ("rjieba", _rjieba)}


def find_segmenter(name: str) -> Callable[[str], list[str]]:
    """The function that cuts a run of Chinese characters into words.

    Raises:
        ValueError: the name is unknown.
        ImportError: its package is not installed.
    """
    if name not in SEGMENTERS:
        raise GAUError(f"Unknown word segmenter {name!r}: give one of {', '.join(SEGMENTERS)}.")
    package, segment = SEGMENTERS[name]
    if importlib.util.find_spec(package) is None:
        raise ImportError(f'--word_segmenter {name} needs {package}: pip install "modeling-gau[chinese]".')
    return segment


@dataclass(frozen=True)
class _Marks:
    """How a vocabulary marks words: by a `prefix` of continuing tokens (`##`), or by white space inside tokens,
    spelled in bytes (`Ġ`, `byte_level`) or as `▁` (`spaces`)."""

    prefix: str | None
    byte_level: bool
    spaces: bool


def _marks(tokenizer: PreTrainedTokenizerBase, vocabulary: Mapping[str, int]) -> _Marks:
    spaces = any(token.startswith("▁") for token in vocabulary)
    if not tokenizer.is_fast:
        prefix = "##" if any(token.startswith("##") for token in vocabulary) else None
        return _Marks(prefix, not spaces and any(token.startswith("Ġ") for token in vocabulary), spaces)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    prefix = content["model"]["continuing_subword_prefix"] if content["model"]["type"] == "WordPiece" else None
    # A Ġ alone proves nothing: it is a Maltese letter.
    parts = json.dumps([content["pre_tokenizer"], content["decoder"]], separators=(",", ":"))
    return _Marks(prefix, '"type":"ByteLevel"' in parts, spaces)


def _outer_characters(token: str, byte_level: bool) -> tuple[str, str]:
    byte = None if byte_level else _FALLBACK_BYTE.fullmatch(token)
    if byte is None:
        return token[0], token[-1]
    # A byte above 127 is part of some character, most likely a letter.
    character = chr(int(byte[1], 16))
    return (character, character) if character.isascii() else ("a", "a")


def _inside_word(character: str, byte_level: bool) -> bool:
    if byte_level:
        # Four letters spell space, newline, tab and carriage return; characters beyond ASCII spell bytes above 127,
        # which count as parts of words.
        return character not in "ĠĊĉč" and (character.isalnum() or character == "'" or ord(character) > 127)
    # Letters, the marks that many scripts add to them, and digits; not ▁.
    return character in "'’" or unicodedata.category(character)[0] in "LMN"


def _spelling(marks: _Marks) -> Callable[[str], bytes]:
    """A function from a token to the bytes of text it stands for."""
    if marks.prefix is not None:
        return lambda token: token.removeprefix(marks.prefix).encode()
    if marks.byte_level:
        byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        # Added tokens are spelled as they are.
        return lambda token: bytes(byte_of[c] for c in token) if byte_of.keys() >= set(token) else token.encode()

    def spell(token: str) -> bytes:
        byte = _FALLBACK_BYTE.fullmatch(token)
        return token.replace("▁", " ").encode() if byte is None else bytes([int(byte[1], 16)])

    return spell
