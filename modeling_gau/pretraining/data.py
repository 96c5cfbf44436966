# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Data arguments -> tokenizer, training batches and masked evaluation rows of a pretraining run."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..configuration_gau import GAUError
from ..runs import models
from ..runs.arguments import ModelArguments
from ..text.arguments import DataArguments
from ..text.batches import (
    BatchMaker,
    BatchShape,
    IndexedBatches,
    LengthPlan,
    Stage,
    StreamedBatches,
    TrainingLoader,
    all_lengths,
    check_lengths,
    parse_length_schedule,
)
from ..text.documents import arrow_columns, read_documents
from ..text.evaluation_rows import make_length_evaluations, most_frequent_token_accuracy
from ..text.fingerprints import documents_fingerprint, tokenizer_fingerprint
from ..text.masking import Masking
from ..text.packing import FRAME, TokenStream, make_pages
from ..text.streaming import DocumentStream, open_stream
from ..text.tokenization import encode_texts, tokenize_documents, train_tokenizer
from .trainer import PretrainingArguments


DEFAULT_EVAL_LENGTHS = (64, 128, 256, 512, 1024, 2048)
# For a stream: enough for two digits of accuracy, and quick to read at every start.
_STREAM_EVAL_TOKENS = 2**18
# Seeds are there to be compared, so the held-out documents and their masks do not depend on --seed.
_VALIDATION_SEED = 0


@dataclass
class PretrainingData:
    """The data of a run.

    Args:
        evaluations: masked rows by length.
        baseline: accuracy of the most frequent token on them.
        example, answer: text with one mask token, and the masked word if it is known.
        description: fingerprints of the data, for JSON.
    """

    tokenizer: PreTrainedTokenizerBase
    train: TokenStream | DocumentStream
    evaluations: dict[int, Dataset]
    baseline: float
    example: str
    answer: str | None
    description: dict[str, Any]


def prepare_data(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    checkpoint: str | None,
    longest: int | None = None,
) -> PretrainingData:
    """Reads and tokenises the text, and masks the evaluation rows.

    Args:
        checkpoint: to resume from; its tokenizer is used.
        longest: the most tokens that the model takes; None without a limit.

    Raises:
        ValueError: as `read_documents`, `open_stream`, `train_tokenizer` and `make_length_evaluations`.
    """
    read = _read_stream if data_args.streaming else _read_documents
    text, validation, description = read(model_args, data_args, args)
    tokenizer = load_tokenizer(model_args, data_args, args, text, checkpoint)
    example, answer = choose_example(args.fill_mask_example, validation["text"], tokenizer)
    options = {"num_proc": data_args.preprocessing_num_workers, "overwrite_cache": data_args.overwrite_cache}
    train = text
    with args.main_process_first(local=False, desc="tokenising"):
        held_out = tokenize_documents(validation, tokenizer, description="Tokenising the validation text", **options)
        if not data_args.streaming:
            train = tokenize_documents(text, tokenizer, description="Tokenising the training text", **options)
    held_out = held_out[: max(len(held_out) - 1, 0)]  # without the [SEP] after the last document
    max_tokens = data_args.max_eval_tokens or (_STREAM_EVAL_TOKENS if data_args.streaming else None)
    evaluations = make_length_evaluations(
        held_out,
        make_masking(data_args, tokenizer, data_args.eval_mlm_probability),
        choose_lengths(data_args, args, min(len(held_out), max_tokens or len(held_out)), longest),
        seed=_VALIDATION_SEED,
        max_tokens=max_tokens,
    )
    counts = np.bincount(held_out) if data_args.streaming else train.counts()
    if args.should_log:
        sizes = (
            [] if data_args.streaming else [f"{len(train.content_lengths):,} train documents of {len(train):,} tokens"]
        )
        sizes.append(f"{len(validation):,} validation documents of {len(held_out):,} tokens")
        print(f"{' and '.join(sizes)}; a vocabulary of {len(tokenizer):,}.")
    return PretrainingData(
        tokenizer=tokenizer,
        train=train,
        evaluations=evaluations,
        baseline=most_frequent_token_accuracy(counts, evaluations[data_args.max_seq_length], tokenizer),
        example=example,
        answer=answer,
        description=description | {"tokenizer": tokenizer_fingerprint(tokenizer)},
    )


def check_run(data_args: DataArguments, args: PretrainingArguments, stages: Sequence[Stage]) -> None:
    """Raises ValueError for what cannot be trained, before any text is read."""
    check_lengths(stages, args.train_batch_size * data_args.max_seq_length)
    if data_args.streaming:
        check_streaming(args)
    if args.max_steps > 0:
        LengthPlan(stages, args.max_steps, args.seed)
        args.fill_schedule()


def check_streaming(args: PretrainingArguments) -> None:
    """Raises ValueError if a run on a stream has no `--max_steps`, or does something once an epoch."""
    if args.max_steps <= 0:
        raise GAUError("--streaming needs --max_steps: the length of a stream is not known.")
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        if getattr(args, name) == "epoch":
            raise GAUError(
                f"--{name} epoch: with --streaming every reader (process or worker) ends its epoch at another step. "
                f"Use --{name} steps."
            )


def _read_documents(model_args: ModelArguments, data_args: DataArguments, args: PretrainingArguments) -> tuple:
    # The main process reads and tokenises; the others find the results in the cache.
    with args.main_process_first(local=False, desc="reading of the text"):
        read = read_documents(data_args, _VALIDATION_SEED, cache_dir=model_args.cache_dir, token=model_args.token)
    documents = read.splits
    description = {
        "train": documents_fingerprint(documents["train"]),
        "validation": documents_fingerprint(documents["validation"]),
        "bad_rows": read.bad_rows,
    }
    return documents["train"], documents["validation"], description


def _read_stream(model_args: ModelArguments, data_args: DataArguments, args: PretrainingArguments) -> tuple:
    stream = open_stream(data_args, _VALIDATION_SEED, token=model_args.token, order_seed=_data_seed(args))
    stream.first_documents(max_documents=1)  # raises if there are none, which training would notice at its first step
    tokens = data_args.max_eval_tokens or _STREAM_EVAL_TOKENS
    # Tokens rarely have more than 6 characters on average.
    validation = stream.validation_documents(data_args.max_eval_samples, max_characters=6 * tokens)
    description = {
        "train": stream.fingerprint(),
        "contents of the files": stream.contents_fingerprint(),
        "validation": documents_fingerprint(validation),
    }
    return stream, validation, description


def load_tokenizer(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    text: Dataset | DocumentStream,
    checkpoint: str | None,
) -> PreTrainedTokenizerBase:
    """The tokenizer that the arguments name, or the checkpoint's, or one trained on the text."""
    # A resumed run needs the tokenizer it began with; a new one would differ unless the text is the very same.
    name = model_args.tokenizer_name or checkpoint or model_args.model_name_or_path
    if name is None:
        trained = [None]
        if args.process_index == 0:
            documents, lowercase = some_documents(text, data_args.tokenizer_characters), data_args.tokenizer_lowercase
            trained = [train_tokenizer(documents, data_args.tokenizer_type, data_args.vocab_size, lowercase)]
        return broadcast_object_list(trained)[0]
    trust = model_args.trust_remote_code
    tokenizer = models.load_tokenizer(name, trust_remote_code=trust, **model_args.hub_options())
    missing = [role for role in ("cls", "sep", "mask", "pad") if getattr(tokenizer, f"{role}_token_id") is None]
    if missing:
        raise GAUError(
            f"The tokenizer {name} has no {', '.join(missing)} token, which masked language modelling needs. Give a "
            "BERT-like tokenizer, or leave --tokenizer_name out to train one."
        )
    return tokenizer


def some_documents(text: Dataset | DocumentStream, max_characters: int) -> Dataset:
    """Documents with at least `max_characters` in total, or all of them; always the same.

    From a stream they are the first ones of its files in turn, else a random sample.
    """
    if isinstance(text, DocumentStream):
        return text.first_documents(max_characters=max_characters)
    sizes = np.concatenate([pc.utf8_length(column).to_numpy() for column in arrow_columns(text, "text")])
    if sizes.sum() <= max_characters:
        return text
    order = np.random.default_rng(0).permutation(len(sizes))
    count = int(np.searchsorted(np.cumsum(sizes[order]), max_characters)) + 1
    return text.select(np.sort(order[:count]))


def make_masking(data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, probability: float) -> Masking:
    return Masking(
        tokenizer,
        probability,
        data_args.mask_replace_prob,
        data_args.random_replace_prob,
        data_args.whole_word_masking,
        data_args.word_segmenter,
    )


def choose_lengths(
    data_args: DataArguments, args: PretrainingArguments, n_tokens: int, longest: int | None
) -> list[int]:
    """The lengths to evaluate at, `max_seq_length` among them.

    Raises:
        ValueError: the validation text of `n_tokens` does not fill one row of a requested length, or the model cannot
            take it.
    """
    asked = {"--max_seq_length": data_args.max_seq_length}
    if data_args.eval_lengths:
        asked["--eval_lengths"] = max(data_args.eval_lengths)
    for option, length in asked.items():
        if length - FRAME > n_tokens:
            raise GAUError(
                f"{option} {length}: the validation text has only {n_tokens} tokens, too few for one row of that "
                f"length. Lower {option} to {n_tokens + FRAME} or less, or give more validation text: a longer "
                "--validation_file, or raise --validation_split_percentage, --max_eval_samples or --max_eval_tokens."
            )
        if longest is not None and length > longest:
            raise GAUError(
                f"{option} {length}: the model has positions for {longest} tokens only (max_position_embeddings)."
            )
    if data_args.eval_lengths:
        return sorted({*data_args.eval_lengths, data_args.max_seq_length})
    possible = [length for length in DEFAULT_EVAL_LENGTHS if longest is None or length <= longest]
    lengths = [length for length in possible if length - FRAME <= n_tokens]
    if len(lengths) < len(possible) and args.should_log:
        left_out = ", ".join(map(str, possible[len(lengths) :]))
        print(f"No evaluation at length {left_out}: the validation text has only {n_tokens:,} tokens.")
    return sorted({*lengths, data_args.max_seq_length})


def choose_example(
    wanted: str | None, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str | None]:
    """The example of the arguments, or a passage of the text and its masked word."""
    if wanted is None:
        return mask_a_word(texts, tokenizer)
    if wanted.count(tokenizer.mask_token) != 1:
        raise GAUError(f"--fill_mask_example needs {tokenizer.mask_token} exactly once, got {wanted!r}.")
    return wanted, None


def mask_a_word(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, width: int = 160) -> tuple[str, str | None]:
    """A sentence or passage of at most `width` characters with one word masked, and that word.

    Takes the first sentence of prose, else the first passage of running text, with a one-token word in its second
    half; else (scripts without spaces) masks the middle character of the first of them. Skips those that contain a
    mask token; if all do, the example is a mask token alone, without an answer.
    """
    texts = list(itertools.islice(map(str.strip, texts), 1000))
    pieces = (text[start : start + width] for text in texts for start in range(0, len(text), width))
    # Without the words cut off at both ends.
    passages = [" ".join(piece.split()[1:-1]) or piece.strip() for piece in itertools.islice(pieces, 1000)]
    running = [
        one for one in passages if sum(letter.isalpha() or letter.isspace() for letter in one) >= 0.95 * len(one)
    ]
    sentences = list(itertools.islice((found for text in texts for found in prose(text[:5000], width)), 1000))
    for words in [*sentences, *running]:
        if tokenizer.mask_token in words:
            continue
        for word in re.finditer(r"\b[^\W\d_]{3,}\b", words):
            if word.start() > len(words) / 2 and len(tokenizer.tokenize(f" {word[0]}")) == 1:
                return words[: word.start()] + tokenizer.mask_token + words[word.end() :], word[0]
    passage = next((one for one in [*sentences, *passages] if one and tokenizer.mask_token not in one), None)
    if passage is None:
        return tokenizer.mask_token, None
    middle = len(passage) // 2
    return passage[:middle] + tokenizer.mask_token + passage[middle + 1 :], passage[middle]


_STOP = "[.!?。！？।۔؟]"


def prose(text: str, width: int) -> Iterator[str]:
    """The sentences of a text that anyone can read: whole, of at most `width` characters, and without code, markup or
    numbers."""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(rf"(?<={_STOP})(?=\s|[^\x00-\x7f])", " ".join(paragraph.split())):
            sentence = sentence.strip()
            if not sentence:
                continue
            names = sum(word[0].isupper() for word in sentence.split()[1:])
            is_plain = re.fullmatch(rf"[^\W\d_][^\W\d_](?:[^\W\d_]|[ ,;’'，、；-])*{_STOP}", sentence)
            is_whole = not sentence[0].islower() and width / 4 <= len(sentence.encode()) and len(sentence) <= width
            if is_plain and is_whole and names <= 1:
                yield sentence


# Batches


def length_stages(data_args: DataArguments) -> tuple[Stage, ...]:
    """The stages of the run; a single one without a schedule.

    Raises:
        ValueError: the schedule is malformed, or `max_seq_length`, at which the model is evaluated, is not a length of
            training.
    """
    if data_args.length_schedule:
        stages = parse_length_schedule(data_args.length_schedule)
    else:
        lengths = tuple(data_args.mixed_lengths or [data_args.max_seq_length])
        stages = (Stage(lengths, tuple(data_args.mixed_length_weights or [1.0] * len(lengths))),)
    lengths = all_lengths(stages)
    if data_args.max_seq_length not in lengths:
        raise GAUError(
            f"--max_seq_length {data_args.max_seq_length} is not among the training lengths "
            f"{', '.join(map(str, lengths))}. Give --max_seq_length {lengths[-1]}, or the most frequent one."
        )
    return stages


def _data_seed(args: PretrainingArguments) -> int:
    return args.seed if args.data_seed is None else args.data_seed


def make_loader(
    data: PretrainingData, data_args: DataArguments, args: PretrainingArguments, stages: Sequence[Stage]
) -> TrainingLoader:
    """The batches of the whole run for this process. Sets `args.max_steps` if only epochs are given.

    Raises:
        ValueError: there is too little text, or the lengths do not fit together.
    """
    seed = _data_seed(args)
    length, packing = all_lengths(stages)[-1], data_args.packing
    maker = BatchMaker(
        make_masking(data_args, data.tokenizer, data_args.mlm_probability),
        length,
        apart=packing == "documents",
        fixed_shape=packing != "none",
        seed=seed,
    )
    pages = None
    if not data_args.streaming:
        pages = make_pages(data.train, length, packing, data_args.long_documents)
        if args.should_log:
            print(f"--packing {packing}: {pages.report}.")
    positions = args.train_batch_size * data_args.max_seq_length
    if args.max_steps <= 0:
        step = max(1, positions // length) * args.gradient_accumulation_steps * args.world_size
        args.max_steps = max(1, math.ceil(round(args.num_train_epochs * len(pages) / step, 6)))
    shape = BatchShape(
        LengthPlan(stages, args.max_steps, seed),
        positions,
        args.gradient_accumulation_steps,
        args.process_index,
        args.world_size,
        args.max_steps,
    )
    if pages is not None:
        source = IndexedBatches(pages, maker, shape)
    else:
        encode = partial(encode_texts, tokenizer=data.tokenizer)
        source = StreamedBatches(data.train, encode, maker, shape, packing, data_args.long_documents)
    workers, context = args.dataloader_num_workers, vars(args).get("dataloader_multiprocessing_context")
    return TrainingLoader(
        source,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        pin_memory=args.dataloader_pin_memory and args.device.type != "cpu",
        prefetch_factor=args.dataloader_prefetch_factor if workers else None,
    )
