# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which tokens a masked language model predicts, and what it sees in their place.

transformers' collator draws from one generator for all batches, so a mask depends on earlier batches and on their
division among processes. Here the caller passes a generator for each page of text, and whole words follow from the
tokens themselves, without offsets.
"""

from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..configuration_gau import GAUError
from .whole_words import SegmentedWords, WordBorders


IGNORED_LABEL = -100


@dataclass
class Masking:
    """BERT's masking (Devlin et al. 2019, section 3.1).

    Chooses each token with `probability`, never special ones. Of the chosen tokens, `mask_share` become [MASK],
    `random_share` become a random token that is not special, and the rest stay unchanged.

    Args:
        tokenizer: with a [MASK] token.
        probability: share of the tokens to predict.
        mask_share, random_share: of the chosen tokens.
        whole_words: choose whole words with that probability; each token of a chosen word is still replaced on its
            own. Works for WordPiece, and for BPE and Unigram vocabularies that mark white space.
        segmenter: finds the words of Chinese, which has no spaces: a key of `SEGMENTERS`. Without one, every Chinese
            character is a word in WordPiece; elsewhere a word is the text between punctuation.

    Raises:
        ValueError: no [MASK] token; the vocabulary does not mark words; the segmenter is unknown.
        ImportError: the segmenter is not installed.
    """

    tokenizer: PreTrainedTokenizerBase
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_words: bool = False
    segmenter: str | None = None
    special: np.ndarray = field(init=False, repr=False)
    ordinary: np.ndarray = field(init=False, repr=False)
    words: WordBorders | None = field(init=False, repr=False)

    def __post_init__(self):
        tokenizer = self.tokenizer
        if tokenizer.mask_token_id is None:
            raise GAUError(f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no [MASK] token.")
        self.mask_id = tokenizer.mask_token_id
        # Some vocabularies have holes: never draw an id without a token.
        ids = list(tokenizer.get_vocab().values())
        self.special = np.ones(max(ids) + 1, bool)
        self.special[ids] = False
        self.special[tokenizer.all_special_ids] = True
        self.ordinary = np.flatnonzero(~self.special).astype(np.int32)
        self.words = None
        if self.whole_words:
            self.words = SegmentedWords(tokenizer, self.segmenter) if self.segmenter else WordBorders(tokenizer)

    def __call__(self, tokens: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels, both int32 `(tokens,)`; labels are -100 where nothing is predicted."""
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

    def for_evaluation(self, tokens: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs as in training, but labels at [MASK] alone: a token that stands visible in its own place can be
        copied, which says nothing about what a model knows."""
        inputs, labels = self(tokens, generator)
        return inputs, np.where(inputs == self.mask_id, labels, IGNORED_LABEL)
