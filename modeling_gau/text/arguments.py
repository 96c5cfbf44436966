# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments that choose the text of a pretraining run, its rows and its masks."""

from dataclasses import dataclass, field
from typing import Literal

from ..configuration_gau import GAUError
from .whole_words import find_segmenter


@dataclass
class DataArguments:
    """Which text to pretrain on, how it is cut into rows, and what is masked.

    At most one of `train_file`, `dataset_name` and `dataset_path` may be given; with none of them the embedded corpus
    is used.
    """

    train_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Training text: files, globs or directories of txt, json, jsonl, csv, tsv or parquet files."
        },
    )
    validation_file: list[str] | None = field(
        default=None,
        metadata={"help": "Validation text, in the same formats; by default a part of the training text is held out."},
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Name of a dataset on the Hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    dataset_path: str | None = field(
        default=None,
        metadata={"help": "Directory of a dataset on disk: one that save_to_disk wrote, or a folder of data files."},
    )
    text_column: str = field(default="text", metadata={"help": "Column that holds the text."})
    text_unit: Literal["document", "paragraph", "line"] = field(
        default="document",
        metadata={
            "help": "What counts as a document in a txt file: the file, a paragraph (set off by blank lines) or a "
            "line."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the files during training, in a seeded order and without a cache, instead of all of them "
            "beforehand."
        },
    )
    skip_bad_rows: bool = field(
        default=False,
        metadata={
            "help": "Skip unreadable rows (not JSON, no text, not UTF-8, wrong number of columns), count and report "
            "them; by default the first one is an error that names file and line."
        },
    )
    validation_split_percentage: float = field(
        default=5.0, metadata={"help": "Percentage of the documents to hold out if no validation text is given."}
    )
    max_seq_length: int = field(default=512, metadata={"help": "Tokens of a training row, [CLS] and [SEP] included."})
    packing: Literal["none", "concat", "documents"] = field(
        default="concat",
        metadata={
            "help": "How rows are filled: one document each (none), one stream of documents joined by [SEP] and cut "
            "at every row's end (concat), or whole documents side by side that do not see each other (documents)."
        },
    )
    long_documents: Literal["split", "truncate"] = field(
        default="split",
        metadata={
            "help": "What to do with a document longer than a row with --packing none or documents: split cuts it "
            "into parts that count as documents, truncate keeps only the first part. The run reports how many."
        },
    )
    mixed_lengths: list[int] | None = field(
        default=None,
        metadata={
            "help": "Row lengths; each step takes one at random, with as many tokens at each length. They must divide "
            "the longest one."
        },
    )
    mixed_length_weights: list[float] | None = field(
        default=None, metadata={"help": "How often to take each of mixed_lengths; by default equally often."}
    )
    length_schedule: str | None = field(
        default=None,
        metadata={
            "help": "Row lengths by stage: '512:0.9,2048:0.1' uses 512 for the first 90 percent of the steps. A "
            "third number is the stage's RoPE base: '2048:0.1:160000'. '128+512:0.9' mixes lengths in a stage."
        },
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the training tokens to predict."})
    eval_mlm_probability: float | None = field(
        default=None, metadata={"help": "Share of the validation tokens to predict; mlm_probability by default."}
    )
    mask_replace_prob: float = field(
        default=0.8, metadata={"help": "Share of the tokens to predict that are replaced by the mask token."}
    )
    random_replace_prob: float = field(
        default=0.1,
        metadata={"help": "Share of the tokens to predict that become a random token; the rest stay as they are."},
    )
    whole_word_masking: bool = field(default=False, metadata={"help": "Predict whole words, not single tokens."})
    word_segmenter: Literal["jieba", "none"] | None = field(
        default=None,
        metadata={"help": "How to find Chinese words for whole_word_masking; jieba needs the extra `chinese`."},
    )
    eval_lengths: list[int] | None = field(
        default=None,
        metadata={
            "help": "Row lengths to evaluate at, besides max_seq_length; by default 64, 128, ... 2048, as far as the "
            "text and the model reach."
        },
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only the first N training documents."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use only the first N validation documents."})
    max_eval_tokens: int | None = field(default=None, metadata={"help": "Use only the first N validation tokens."})
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Number of processes that tokenise."}
    )
    overwrite_cache: bool = field(
        default=False, metadata={"help": "Read and tokenise again instead of using the cache."}
    )
    tokenizer_type: Literal["wordpiece", "bpe"] = field(
        default="wordpiece", metadata={"help": "Kind of tokenizer to train if you give none."}
    )
    vocab_size: int = field(default=8192, metadata={"help": "Vocabulary size of the tokenizer to train."})
    tokenizer_characters: int = field(
        default=50_000_000, metadata={"help": "Train the tokenizer on at most this many characters."}
    )
    tokenizer_lowercase: bool = field(default=False, metadata={"help": "Train a tokenizer that lower-cases text."})

    def __post_init__(self):
        self._check_sources()
        if self.eval_mlm_probability is None:
            self.eval_mlm_probability = self.mlm_probability
        for name in ("mlm_probability", "eval_mlm_probability"):
            if not 0 < getattr(self, name) < 1:
                raise GAUError(f"--{name} must lie between 0 and 1, both excluded, got {getattr(self, name)}.")
        shares = (self.mask_replace_prob, self.random_replace_prob)
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise GAUError(
                "--mask_replace_prob and --random_replace_prob are shares that add up to at most 1, got "
                f"{shares[0]} and {shares[1]}."
            )
        if self.word_segmenter == "none":  # against a recipe
            self.word_segmenter = None
        if self.word_segmenter is not None:
            if not self.whole_word_masking:
                raise GAUError(
                    f"--word_segmenter {self.word_segmenter} finds whole words: give --whole_word_masking as well, or "
                    "--word_segmenter none."
                )
            find_segmenter(self.word_segmenter)
        self._check_lengths()
        lengths_of = {"max_seq_length": [self.max_seq_length]}
        if self.eval_lengths is not None:
            lengths_of["eval_lengths"] = self.eval_lengths
        for name, lengths in lengths_of.items():
            if not lengths or min(lengths) < 3 or max(lengths) >= 2**31:
                raise GAUError(
                    f"--{name} must be at least 3 ([CLS], one token and [SEP]) and below 2**31, got {lengths}."
                )
        counts = ("max_train_samples", "max_eval_samples", "max_eval_tokens", "preprocessing_num_workers")
        for name in (*counts, "vocab_size", "tokenizer_characters"):
            if getattr(self, name) is not None and not 1 <= getattr(self, name) < 2**63:
                raise GAUError(f"--{name} must be at least 1 and below 2**63, got {getattr(self, name)}.")
        if not 0 < self.validation_split_percentage < 100:
            raise GAUError(
                "--validation_split_percentage must lie between 0 and 100, both excluded, got "
                f"{self.validation_split_percentage}."
            )

    def _check_lengths(self):
        if self.mixed_length_weights and not self.mixed_lengths:
            raise GAUError("--mixed_length_weights needs --mixed_lengths beside it.")
        if self.mixed_lengths and self.length_schedule:
            raise GAUError(
                "--mixed_lengths and --length_schedule exclude each other: mix lengths in a stage with "
                "'128+512:0.9,2048:0.1'."
            )
        if self.long_documents == "truncate" and self.packing == "concat":
            raise GAUError(
                "--long_documents truncate needs --packing none or documents: with concat a long document simply "
                "continues in the next row."
            )
        option = "mixed_lengths" if self.mixed_lengths else "length_schedule" if self.length_schedule else None
        if option and self.packing == "none":
            raise GAUError(
                f"--{option} needs --packing concat or documents: with none, rows are as long as their documents."
            )

    def _check_sources(self):
        given = [name for name in ("train_file", "dataset_name", "dataset_path") if getattr(self, name)]
        if len(given) > 1:
            raise GAUError(f"Training text has one source, got --{' and --'.join(given)}: keep one of them.")
        if self.validation_file and not given:
            raise GAUError("--validation_file needs --train_file (or --dataset_name or --dataset_path) beside it.")
        if self.dataset_config_name and not self.dataset_name:
            raise GAUError(f"--dataset_config_name {self.dataset_config_name} needs --dataset_name beside it.")
        if self.streaming and not given:
            raise GAUError(
                "--streaming needs text: give --train_file, --dataset_path or --dataset_name. The embedded corpus is "
                "small and cannot be streamed: leave --streaming out."
            )
        if self.streaming and self.max_train_samples is not None:
            raise GAUError(
                "--max_train_samples is not supported with --streaming: a stream has no fixed first documents. Limit "
                "the run with --max_steps, or leave --streaming out."
            )
