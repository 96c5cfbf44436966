# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which tokens a masked language model has to predict, and what it sees in their place.

transformers' collator draws from one generator for a whole batch, so that a mask depends on the batches before it and
on how they were divided among processes. Here the caller hands over a generator, one for each page of text, and whole
words are known from the vocabulary, without offsets.
"""

import json
import unicodedata
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase


IGNORED_LABEL = -100


@dataclass
class Masking:
    """BERT's masking (Devlin et al. 2019, section 3.1).

    Of the tokens, `probability` are chosen, never special ones. Of the chosen, `mask_share` become [MASK] and
    `random_share` any token that is not special; the rest stays as it is.

    Args:
        tokenizer: with a [MASK] token.
        probability: share of the tokens to predict.
        mask_share, random_share: of the chosen tokens.
        whole_words: choose words with that probability, and all tokens of a chosen word (the fate of each token is
            still its own). Works for WordPiece, and for BPE and Unigram vocabularies that mark white space.

    Raises:
        ValueError: no [MASK] token; or whole words cannot be told from the vocabulary.
    """

    tokenizer: PreTrainedTokenizerBase
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_words: bool = False
    special: np.ndarray = field(init=False, repr=False)
    ordinary: np.ndarray = field(init=False, repr=False)
    words: "WordBorders | None" = field(init=False, repr=False)

    def __post_init__(self):
        tokenizer = self.tokenizer
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no [MASK] token."
            )
        self.mask_id = tokenizer.mask_token_id
        # Some vocabularies have holes: ids that stand for no token are not to be drawn.
        ids = list(tokenizer.get_vocab().values())
        self.special = np.ones(max(ids) + 1, bool)
        self.special[ids] = False
        self.special[tokenizer.all_special_ids] = True
        self.ordinary = np.flatnonzero(~self.special).astype(np.int32)
        self.words = WordBorders(tokenizer) if self.whole_words else None

    def __call__(self, tokens: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels, both int32 `(tokens,)`, the latter -100 where there is nothing to predict."""
        if self.words is None:
            chosen = generator.random(len(tokens), dtype=np.float32) < self.probability
        else:
            word = self.words(tokens)
            count = int(word[-1]) + 1 if len(word) else 0
            chosen = (generator.random(count, dtype=np.float32) < self.probability)[word]
        positions = np.flatnonzero(chosen & ~self.special[tokens])
        labels = np.full(len(tokens), IGNORED_LABEL, np.int32)
        labels[positions] = tokens[positions]
        fate = generator.random(len(positions))
        inputs = tokens.astype(np.int32)  # a copy
        inputs[positions[fate < self.mask_share]] = self.mask_id
        replaced = positions[(fate >= self.mask_share) & (fate < self.mask_share + self.random_share)]
        inputs[replaced] = self.ordinary[generator.integers(len(self.ordinary), size=len(replaced))]
        return inputs, labels


class WordBorders:
    """Numbers the words of a sequence of tokens by what the vocabulary says of each token.

    In WordPiece a token continues a word where it has the prefix (`##`). In vocabularies that mark white space (`Ġ`,
    `▁`) it does where it brings none, is no punctuation and follows neither: in scripts without spaces a word is what
    stands between punctuation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values(), default=-1) + 1
        self.continues, self.ends_open = np.zeros(size, bool), np.ones(size, bool)
        prefix = _continuation_prefix(tokenizer)
        byte_level = any(token.startswith("Ġ") for token in vocabulary)
        if prefix is None and not byte_level and not any(token.startswith("▁") for token in vocabulary):
            raise ValueError(
                f"--whole_word_masking: the vocabulary of {tokenizer.name_or_path or type(tokenizer).__name__} marks "
                "neither the continuation (##) nor the beginning (Ġ, ▁) of words. Leave the option out."
            )
        special = set(tokenizer.all_special_ids)
        for token, index in vocabulary.items():
            if index in special or not token:
                self.ends_open[index] = False
            elif prefix is not None:
                self.continues[index] = token.startswith(prefix) and len(token) > len(prefix)
            else:
                self.continues[index] = _inside_word(token[0], byte_level)
                self.ends_open[index] = _inside_word(token[-1], byte_level)

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """The number of each token's word, int64 `(tokens,)`, counted from 0."""
        begins = ~self.continues[tokens]
        begins[1:] |= ~self.ends_open[tokens[:-1]]
        begins[:1] = True
        return np.cumsum(begins) - 1


def _continuation_prefix(tokenizer: PreTrainedTokenizerBase) -> str | None:
    if not tokenizer.is_fast:
        return "##" if any(token.startswith("##") for token in tokenizer.get_vocab()) else None
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return model["continuing_subword_prefix"] if model["type"] == "WordPiece" else None


def _inside_word(character: str, byte_level: bool) -> bool:
    if byte_level:
        # Spells space, newline, tab and carriage return with four letters, and bytes above 127, taken for parts of
        # words, with characters beyond ASCII.
        return character not in "ĠĊĉč" and (character.isalnum() or character == "'" or ord(character) > 127)
    # Letters, the marks that belong to them in many scripts, and digits; ▁ is none of them.
    return character in "'’" or unicodedata.category(character)[0] in "LMN"
