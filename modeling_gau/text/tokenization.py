"""Tokenizers trained on the documents, and documents as one stream of tokens, joined by [SEP]."""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset, Features, List, Value
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration_gau import GAUError
from .documents import column_values
from .fingerprints import digest, documents_fingerprint, tokenizer_fingerprint
from .packing import TokenStream


SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

# Limits of one call: a fast tokenizer keeps offsets and strings, some hundred bytes a token, until it returns.
_PIECE_CHARACTERS = 100_000
_BATCH_CHARACTERS = 4_000_000


def train_tokenizer(
    documents: Dataset, tokenizer_type: str = "wordpiece", vocab_size: int = 8192, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer on the column "text"; the same documents give the same tokenizer.

    Both kinds have [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, make `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`
    (with token types 0 and 1), and return input_ids, token_type_ids and attention_mask. "wordpiece" is BERT's. "bpe"
    works on bytes and encodes every text without loss (lower-casing aside). Its [MASK] absorbs the white space before
    it, as RoBERTa's does: that space belongs to the masked word.

    Args:
        documents: of the training split.
        tokenizer_type: "wordpiece" or "bpe".
        vocab_size: entries at most, special tokens included; a small corpus gives fewer.
        lowercase: lower-case the text (and, as BERT does, strip accents in "wordpiece").

    Raises:
        ValueError: an unknown type, or a vocabulary too small for the special tokens and the alphabet.
    """
    trainers_of_types = {"wordpiece": (_train_wordpiece, 64), "bpe": (_train_byte_bpe, 256 + len(SPECIAL_TOKENS))}
    if tokenizer_type not in trainers_of_types:
        raise GAUError(f"Unknown tokenizer type {tokenizer_type!r}: choose {' or '.join(trainers_of_types)}.")
    train, smallest = trainers_of_types[tokenizer_type]
    if vocab_size < smallest:
        raise GAUError(f"A {tokenizer_type} tokenizer needs a --vocab_size of at least {smallest}, got {vocab_size}.")
    tokenizer = train(documents, vocab_size, lowercase)
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS | {"mask_token": tokenizer.get_added_tokens_decoder()[tokenizer.token_to_id("[MASK]")]},
    )


def _train_byte_bpe(documents: Dataset, vocab_size: int, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Words include the white space before them, so the token that replaces one must, too.
    mask = AddedToken(SPECIAL_TOKENS["mask_token"], lstrip=True, normalized=False, special=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list((SPECIAL_TOKENS | {"mask_token": mask}).values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=sys.stderr.isatty(),  # elsewhere it prints empty lines
    )
    tokenizer.train_from_iterator(_all_pieces(documents), trainer)
    return tokenizer


def _train_wordpiece(documents: Dataset, vocab_size: int, lowercase: bool) -> Tokenizer:
    tokenizer = _wordpiece(None, lowercase)
    characters, entries = _wordpiece_alphabet(documents, tokenizer, vocab_size // 2)
    # The trainer numbers characters inside words in hash order, which differs from run to run and decides between
    # equally frequent pairs. As special tokens they get fixed numbers.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS.values(), *entries],
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(_all_pieces(documents), trainer)
    # In the final tokenizer they are not special.
    tokenizer = _wordpiece(tokenizer.get_vocab(), lowercase)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    return tokenizer


def _wordpiece(vocabulary: dict[str, int] | None, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _wordpiece_alphabet(documents: Dataset, tokenizer: Tokenizer, limit: int) -> tuple[list[str], list[str]]:
    """Returns the most frequent characters and their vocabulary entries: `a` and, if it occurs inside words, `##a`.

    At most `limit` entries: the characters of a Chinese text must not fill the vocabulary.
    """
    words = Counter(word for text in column_values(documents, "text") for word in text.split())
    counts, inside = Counter(), set()
    for word, count in words.items():
        for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(word)):
            counts.update(dict.fromkeys(piece, count))
            inside.update(piece[1:])
    characters, entries = [], []
    for character in sorted(counts, key=lambda character: (-counts[character], character)):
        added = [character, f"##{character}"] if character in inside else [character]
        if len(entries) + len(added) > limit:
            break
        characters.append(character)
        entries += added
    return characters, sorted(entries)


def _all_pieces(documents: Dataset) -> Iterator[str]:
    return (piece for text in column_values(documents, "text") for piece in _pieces(text))


def tokenize_documents(
    documents: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    num_proc: int | None = None,
    overwrite_cache: bool = False,
    description: str = "Tokenising",
) -> TokenStream:
    """Tokenises the column "text" and joins the documents by [SEP].

    No special tokens are added within a document, and words such as "[MASK]" in its text stay words. `datasets` caches
    the tokens beside the documents, where those are on disk, and memory-maps them. Documents longer than 100,000
    characters are tokenised in pieces that are cut before white space, which changes nothing for WordPiece and
    byte-level BPE.

    Args:
        documents: one split of `read_documents`.
        tokenizer: with a [CLS] and a [SEP] token.
        num_proc: processes; a fast tokenizer uses all cores by itself.
        overwrite_cache: tokenise again what is in the cache.
        description: of the progress bar.

    Raises:
        ValueError: the tokenizer has no [CLS] or [SEP] token.
    """
    _, separator = frame_ids(tokenizer)
    tokenized = documents.map(
        _tokenize,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "separator": separator},
        remove_columns=documents.column_names,
        features=Features({"input_ids": List(Value("int32"))}),
        num_proc=num_proc,
        load_from_cache_file=not overwrite_cache,
        # `datasets` would compute different digests for a trained tokenizer and the same one loaded again, and the
        # same digest for a folder of save_to_disk that holds other text under the old description.
        new_fingerprint=digest(f"2 {documents_fingerprint(documents)} {tokenizer_fingerprint(tokenizer)} {separator}"),
        desc=description,
    )
    return TokenStream(tokenized)


def _tokenize(batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, separator: int) -> dict[str, list]:
    end = np.array([separator], np.int32)
    contents = encode_texts(batch["text"], tokenizer)
    return {"input_ids": [np.concatenate([tokens, end]) if len(tokens) else tokens for tokens in contents]}


def encode_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[np.ndarray]:
    """int32 tokens of every text, without special tokens."""
    pieces = [(row, piece) for row, text in enumerate(texts) for piece in _pieces(text)]
    ids = [[] for _ in texts]
    for group in _groups(pieces):
        encoded = tokenizer(
            [piece for _, piece in group],
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about texts longer than the model's input: they are cut later
        )
        for (row, _), tokens in zip(group, encoded["input_ids"], strict=True):
            ids[row].append(np.array(tokens, np.int32))
    return [np.concatenate(parts) if parts else np.zeros(0, np.int32) for parts in ids]


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        place = start + _PIECE_CHARACTERS
        # No token of WordPiece or byte-level BPE spans the border between a character and white space.
        border = re.compile(r"(?<=\S)(?=\s)").search(text, place, place + _PIECE_CHARACTERS)
        place = border.start() if border else place
        yield text[start:place]
        start = place
    yield text[start:]


def _groups(pieces: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    group, size = [], 0
    for piece in pieces:
        group.append(piece)
        size += len(piece[1])
        if size >= _BATCH_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def frame_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The ids of [CLS] and [SEP]; raises ValueError if the tokenizer lacks one."""
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise GAUError(
            f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no [CLS] or no [SEP] token, "
            "which every row needs. Give the tokenizer of a masked language model, or have one trained."
        )
    return tokenizer.cls_token_id, tokenizer.sep_token_id
