# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""GAU-alpha's tokenizer: BERT's WordPiece with its vocabulary, one token for each Chinese character."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration_gau import GAUError
from ..text.tokenization import SPECIAL_TOKENS


VOCABULARY_NAME = "vocab.txt"


def read_vocabulary(path: Path, vocab_size: int, pad_token_id: int) -> dict[str, int]:
    """Token -> id, from a file of one token a line.

    Raises:
        ValueError: no file, not UTF-8, repeated tokens, more tokens than embeddings, or missing special tokens.
    """
    if not path.is_file():
        raise GAUError(f"{path.parent} has no {path.name}: copy the vocabulary of the checkpoint there.")
    try:
        tokens = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise GAUError(f"{path} is not UTF-8 (byte {error.start}).") from error
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        line = next(index for index, token in enumerate(tokens) if vocabulary[token] != index)
        raise GAUError(f"{path}, line {line + 1}: {tokens[line]!r} occurs twice.")
    if len(tokens) > vocab_size:
        raise GAUError(
            f"{path} has {len(tokens)} tokens, but the model has embeddings for {vocab_size}: it belongs to "
            "another checkpoint."
        )
    missing = [token for token in SPECIAL_TOKENS.values() if token not in vocabulary]
    if missing:
        raise GAUError(f"{path} lacks {', '.join(missing)}.")
    if vocabulary["[PAD]"] != pad_token_id:
        raise GAUError(f"{path}: [PAD] has id {vocabulary['[PAD]']}, but the configuration says {pad_token_id}.")
    return vocabulary


def gau_alpha_tokenizer(
    vocabulary: dict[str, int], model_max_length: int, lowercase: bool = True
) -> PreTrainedTokenizerFast:
    """A fast tokenizer equal to the port's. Unlike BERT's, it gives both texts of a pair the token type 0: GAU-alpha
    was pretrained with this type only, and the other one's embedding is untrained."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    ids = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:0 [SEP]:0", ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, vocab_size: int, pad_token_id: int | None) -> bool:
    """Returns whether a tokenizer lower-cases, after checking that the port has it.

    Raises:
        ValueError: it differs from BERT's WordPiece, or does not fit the model.
    """
    if not tokenizer.is_fast or not isinstance(tokenizer.backend_tokenizer.model, models.WordPiece):
        raise GAUError("The port only supports BERT's WordPiece tokenizer; the checkpoint has a different kind.")
    parts = _parts(tokenizer)
    lowercase = bool((parts["normalizer"] or {}).get("lowercase"))
    expected = _parts(gau_alpha_tokenizer(tokenizer.get_vocab(), 512, lowercase))
    others = [name for name in expected if parts[name] != expected[name]]
    if others:
        raise GAUError(
            f"The port only supports BERT's WordPiece tokenizer; the checkpoint's differs in {', '.join(others)}: "
            + "; ".join(f"{name} {json.dumps(parts[name], ensure_ascii=False)[:200]}" for name in others)
        )
    if len(tokenizer) > vocab_size:
        raise GAUError(f"The tokenizer has {len(tokenizer)} tokens, but the model has embeddings for {vocab_size}.")
    if tokenizer.pad_token_id != pad_token_id:
        raise GAUError(f"[PAD] has id {tokenizer.pad_token_id}, but the configuration says {pad_token_id}.")
    return lowercase


def _parts(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """All that determines the tokens of a text, except the vocabulary."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    model = {name: value for name, value in content["model"].items() if name != "vocab"}
    added = sorted(token["content"] for token in content["added_tokens"])
    return {name: content[name] for name in ("normalizer", "pre_tokenizer")} | {"model": model, "added_tokens": added}


def vocabulary_lines(tokenizer: PreTrainedTokenizerBase) -> str:
    """The content of a `vocab.txt`. Raises ValueError if ids are missing."""
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    if [index for _, index in tokens] != list(range(len(tokens))):
        raise GAUError("The token ids have gaps, which a vocab.txt cannot express.")
    return "".join(f"{token}\n" for token, _ in tokens)
