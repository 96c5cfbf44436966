"""Text for pretraining: whole documents, a joined stream of tokens, training rows, evaluations at several lengths.

Documents are never cut before they are tokenised. Their tokens are joined by [SEP] into one stream, which is kept as
an int32 array (4 bytes a token), and every row is `[CLS] content [SEP]` with the content taken from that stream.
"""

import codecs
import glob
import gzip
import hashlib
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import (
    Dataset,
    DatasetDict,
    DownloadMode,
    Features,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from .arguments import DataArguments
from .embedded_corpus import corpus_fingerprint, digest, embedded_documents


logger = logging.get_logger(__name__)

FILE_KINDS = {
    ".txt": "text",
    ".text": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
IGNORED_LABEL = -100

# A fast tokenizer keeps offsets and strings of everything it is given at once, some hundred bytes a token.
_PIECE_CHARACTERS = 100_000
_BATCH_CHARACTERS = 4_000_000
_CHUNK_TOKENS = 2**24


def load_documents(
    data_args: DataArguments, seed: int, cache_dir: str | None = None, token: str | None = None
) -> DatasetDict:
    """Loads the documents to pretrain on.

    A row of a json, jsonl, csv, tsv or parquet file (or of a dataset) is one document. A txt file is one document, or
    with `text_unit` one a paragraph or a line. Files may be gzipped (`.txt.gz`). Without any source the embedded
    corpus is taken. Documents of white space only are dropped.

    Without validation text, `validation_split_percentage` of the documents are held out, chosen by a hash of their
    text (in the embedded corpus: of their id) and of `seed`, so that equal texts are on one side and the choice does
    not depend on the order. Where that would be less than one document, the last part of every document is held out.

    Args:
        data_args: the source, the column, the limits.
        seed: of the choice of validation documents.
        cache_dir: where `datasets` keeps what it has read; its own default if None.
        token: access token for the Hub.

    Returns:
        The splits "train" and "validation" with the single column "text".

    Raises:
        ValueError: a file is missing, empty, not UTF-8, of an unknown kind or cannot be parsed; a column is missing,
            or holds something else than text; no document is left.
    """
    mode = DownloadMode.FORCE_REDOWNLOAD if data_args.overwrite_cache else DownloadMode.REUSE_DATASET_IF_EXISTS
    options = {"cache_dir": cache_dir, "download_mode": mode}
    if data_args.train_file:
        splits = _load_named_files(data_args, options)
    elif data_args.dataset_path:
        splits = _load_path(data_args, options)
    elif data_args.dataset_name:
        splits = _load_hub(data_args, options, token)
    else:
        splits = {"train": _load_embedded(cache_dir, data_args.overwrite_cache)}
    splits = {name: _drop_blank(documents) for name, documents in splits.items()}
    for name, documents in splits.items():
        if len(documents) == 0:
            raise ValueError(
                f"The {name} data has no documents: there is nothing but white space in {_source(data_args)}."
            )
    if "validation" in splits:
        _warn_of_overlap(splits["train"], splits["validation"])
    else:
        splits = split_documents(splits["train"], data_args.validation_split_percentage, seed)
    limits = {"train": data_args.max_train_samples, "validation": data_args.max_eval_samples}
    splits = {name: splits[name].select_columns("text") for name in ("train", "validation")}
    return DatasetDict({name: _first(documents, limits[name]) for name, documents in splits.items()})


def split_documents(documents: Dataset, percentage: float, seed: int) -> dict[str, Dataset]:
    """Holds out `percentage` of the documents as described in `load_documents`; the column "id", if any, is hashed."""
    key = "id" if "id" in documents.column_names else "text"
    rows_of = {}
    for row, value in enumerate(_values(documents, key)):
        rows_of.setdefault(digest(f"{seed}:{value}"), []).append(row)
    held_out = round(len(rows_of) * percentage / 100)
    if held_out == 0:
        return _cut_tails(documents, percentage)
    held_out = sorted(row for name in sorted(rows_of)[:held_out] for row in rows_of[name])
    return {
        "train": documents.select(np.setdiff1d(np.arange(len(documents)), held_out)),
        "validation": documents.select(held_out),
    }


def _cut_tails(documents: Dataset, percentage: float) -> dict[str, Dataset]:
    heads, tails = [], []
    for text in _values(documents, "text"):
        text = text.strip()
        place = len(text) - round(len(text) * percentage / 100)
        space = re.compile(r"\s").search(text, place, place + 200)
        place = space.start() if space else place
        heads.append(text[:place])
        tails.append(text[place:])
    tails = [text for text in tails if text.strip()]
    if not tails:
        raise ValueError(
            f"The text is too short to hold out {percentage} % of it as validation text ({len(heads)} documents, "
            f"{sum(map(len, heads))} characters): give --validation_file, or raise --validation_split_percentage."
        )
    return {"train": Dataset.from_dict({"text": heads}), "validation": Dataset.from_dict({"text": tails})}


def _source(data_args: DataArguments) -> str:
    given = [*(data_args.train_file or []), *(data_args.validation_file or [])]
    return ", ".join(given) or data_args.dataset_path or data_args.dataset_name or "the embedded corpus"


def _load_embedded(cache_dir: str | None, overwrite_cache: bool) -> Dataset:
    name = corpus_fingerprint()
    logger.warning(
        f"No training text is given: using the documentation of the installed software (embedded corpus {name})."
    )
    features = Features({"id": Value("string"), "text": Value("string")})
    if overwrite_cache:
        return Dataset.from_list(embedded_documents(), features=features)
    return Dataset.from_generator(_generate_embedded, features=features, cache_dir=cache_dir, fingerprint=name)


def _generate_embedded() -> Iterator[dict[str, str]]:
    yield from embedded_documents()


def _load_named_files(data_args: DataArguments, options: dict) -> dict[str, Dataset]:
    splits = {"train": _load_files(find_files(data_args.train_file), data_args, options)}
    if data_args.validation_file:
        splits["validation"] = _load_files(find_files(data_args.validation_file), data_args, options)
    return splits


def _load_path(data_args: DataArguments, options: dict) -> dict[str, Dataset]:
    path = Path(data_args.dataset_path).expanduser()
    if not path.is_dir():
        raise ValueError(f"--dataset_path {path} is not a directory; a file is given as --train_file.")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        saved = load_from_disk(str(path))
        splits = dict(saved) if isinstance(saved, DatasetDict) else {"train": saved}
        splits = _choose_splits(splits, str(path))
        splits = {name: _text_of(documents, data_args.text_column, str(path)) for name, documents in splits.items()}
    else:
        find_files([str(path)])  # raises where there is none
        files = load_dataset_builder(str(path), cache_dir=options["cache_dir"]).config.data_files
        files = _choose_splits({str(name): [Path(file) for file in found] for name, found in files.items()}, str(path))
        splits = {name: _load_files(found, data_args, options) for name, found in files.items()}
    return splits | _named_validation(data_args, options)


def _load_hub(data_args: DataArguments, options: dict, token: str | None) -> dict[str, Dataset]:
    name = data_args.dataset_name
    splits = _choose_splits(load_dataset(name, data_args.dataset_config_name, token=token, **options), name)
    splits = {split: _text_of(documents, data_args.text_column, name) for split, documents in splits.items()}
    return splits | _named_validation(data_args, options)


def _named_validation(data_args: DataArguments, options: dict) -> dict[str, Dataset]:
    if not data_args.validation_file:
        return {}
    return {"validation": _load_files(find_files(data_args.validation_file), data_args, options)}


def _choose_splits(splits: dict, source: str) -> dict:
    if "train" not in splits and len(splits) > 1:
        raise ValueError(f"{source} has no split 'train', but {', '.join(splits)}.")
    chosen = {"train": splits["train"] if "train" in splits else next(iter(splits.values()))}
    return chosen | {name: splits[name] for name in ("validation",) if name in splits and "train" in splits}


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Expands files, globs and directories (searched in depth, hidden files left out) into a sorted list of files.

    Raises:
        ValueError: a pattern matches nothing, or a file is of a kind that is not read.
    """
    found = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = [entry for entry in path.rglob("*") if _is_data_file(entry, path)]
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(entry) for entry in glob.glob(str(path), recursive=True) if Path(entry).is_file()]
        if not matches:
            looked_for = f"no {', '.join(FILE_KINDS)} file in the directory" if path.is_dir() else "no such file"
            raise ValueError(f"{pattern}: there is {looked_for}.")
        found += sorted(matches)
    for path in found:
        _kind(path)
    return list(dict.fromkeys(found))


def _is_data_file(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and not hidden and _suffix(path) in FILE_KINDS


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _kind(path: Path) -> str:
    if _suffix(path) not in FILE_KINDS:
        raise ValueError(f"{path} is of an unknown kind; allowed are {', '.join(FILE_KINDS)}, each also with .gz.")
    return FILE_KINDS[_suffix(path)]


def _load_files(files: list[Path], data_args: DataArguments, options: dict) -> Dataset:
    for path in files:
        _check_readable(path)
    groups = {}
    for path in files:
        groups.setdefault((_kind(path), _suffix(path) == ".tsv"), []).append(path)
    loaded = [_load_group(group, data_args, options) for group in groups.values()]
    if len({documents.features["text"].dtype for documents in loaded}) > 1:  # parquet may hold large_string
        loaded = [documents.cast_column("text", Value("large_string")) for documents in loaded]
    return concatenate_datasets(loaded) if len(loaded) > 1 else loaded[0]


def _load_group(files: list[Path], data_args: DataArguments, options: dict) -> Dataset:
    column = "text" if _kind(files[0]) == "text" else data_args.text_column
    try:
        documents = load_dataset(split="train", **_builder_options(files, data_args), **options)
    except (DatasetGenerationError, ValueError) as error:  # pyarrow, pandas and json raise subclasses of ValueError
        _report_bad_row(files, column, data_args, options["cache_dir"])
        raise ValueError(
            f"{', '.join(map(str, files))} cannot be read together: {error.__cause__ or error}"
        ) from error
    try:
        return _text_of(documents, column, ", ".join(map(str, files)))
    except ValueError:
        _report_bad_row(files, column, data_args, options["cache_dir"])
        raise


def _builder_options(files: list[Path], data_args: DataArguments) -> dict:
    kind = _kind(files[0])
    options = {"path": kind, "data_files": [glob.escape(str(path.resolve())) for path in files]}
    if kind == "text":
        options |= {"sample_by": data_args.text_unit, "encoding": "utf-8-sig"}
    if kind == "csv":
        # A document may well be the word "None" or "NA".
        options |= {"sep": "\t" if _suffix(files[0]) == ".tsv" else ",", "keep_default_na": False}
    return options


def _check_readable(path: Path) -> None:
    """Raises ValueError where the file is missing, empty, a broken gzip file or, unless it is parquet, not UTF-8."""
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    if _kind(path) == "parquet":
        return
    position, pending = 0, b""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                pending += chunk
                _, used = codecs.utf_8_decode(pending, "strict", False)
                position, pending = position + used, pending[used:]
            codecs.utf_8_decode(pending, "strict", True)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at offset {position + error.start}. Convert "
            "it (for instance with iconv)."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error


def _text_of(documents: Dataset, column: str, source: str) -> Dataset:
    """Keeps the column of the text, under the name "text"; raises ValueError where it is missing or not all text."""
    if column not in documents.column_names:
        names = ", ".join(documents.column_names)
        raise ValueError(f"{source} has no column {column!r}, but {names}: choose one with --text_column.")
    if documents.features[column] not in (Value("string"), Value("large_string")):
        raise ValueError(f"Column {column!r} of {source} holds {documents.features[column]}, not text.")
    documents = documents.select_columns(column)
    documents = documents if column == "text" else documents.rename_column(column, "text")
    row = 0
    for texts in _columns(documents, "text"):
        if texts.null_count:
            row += pc.index(pc.is_null(texts), True).as_py()
            raise ValueError(f"Column {column!r} of {source} is null in row {row + 1}.")
        row += len(texts)
    return documents


def _report_bad_row(files: list[Path], column: str, data_args: DataArguments, cache_dir: str | None) -> None:
    """Reads the files slowly, one row after the other, to raise a ValueError that names the first bad one."""
    for path in files:
        for place, row in _rows(path, data_args, cache_dir):
            if not isinstance(row, dict):
                raise ValueError(f"{path}, {place}: expected an object with the key {column!r}, got {row!r:.80}.")
            if column not in row:
                names = ", ".join(map(str, row))
                raise ValueError(f"{path}, {place}: no {column!r}, but {names}; choose one with --text_column.")
            if not isinstance(row[column], str):
                raise ValueError(f"{path}, {place}: {column!r} must be text, got {row[column]!r:.80}.")


def _rows(path: Path, data_args: DataArguments, cache_dir: str | None) -> Iterator[tuple[str, object]]:
    if _kind(path) == "json":
        yield from _json_rows(path)
        return
    try:
        options = _builder_options([path], data_args)
        rows = load_dataset(split="train", streaming=True, cache_dir=cache_dir, **options)
        yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[str, object]]:
    with (
        gzip.open(path, "rt", encoding="utf-8-sig")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8-sig") as lines
    ):
        first = lines.readline()
        try:
            if first.lstrip().startswith("["):
                for number, row in enumerate(json.loads(first + lines.read()), 1):
                    yield f"row {number}", {"text": row} if isinstance(row, str) else row
                return
            for number, line in enumerate(itertools.chain([first], lines), 1):
                if line.strip():
                    yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            line = error.lineno if first.lstrip().startswith("[") else number
            raise ValueError(f"{path}, line {line}: this is not JSON ({error.msg}, column {error.colno}).") from error


def _columns(documents: Dataset, column: str) -> Iterator[pa.ChunkedArray]:
    for table in documents.select_columns(column).with_format("arrow").iter(batch_size=1000):
        yield table[column]


def _values(documents: Dataset, column: str) -> Iterator[str]:
    for values in _columns(documents, column):
        yield from values.to_pylist()


def _drop_blank(documents: Dataset) -> Dataset:
    full = [
        pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0).to_numpy()
        for texts in _columns(documents, "text")
    ]
    full = np.concatenate(full) if full else np.zeros(0, bool)
    return documents if full.all() else documents.select(np.flatnonzero(full))


def _warn_of_overlap(train: Dataset, validation: Dataset) -> None:
    known = {digest(text) for text in _values(train, "text")}
    shared = sum(digest(text) in known for text in _values(validation, "text"))
    if shared:
        logger.warning(f"{shared} of the {len(validation)} validation documents are training documents too.")


def _first(documents: Dataset, limit: int | None) -> Dataset:
    return documents if limit is None or limit >= len(documents) else documents.select(range(limit))


def train_tokenizer(
    documents: Dataset, tokenizer_type: str = "wordpiece", vocab_size: int = 8192, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Trains a tokenizer on the column "text"; the same documents give the same tokenizer.

    Both kinds have [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, make `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`
    (with token types 0 and 1), and return input_ids, token_type_ids and attention_mask. "wordpiece" is BERT's. "bpe"
    works on bytes: it knows every text and decodes to the same text, lower case apart. Its [MASK] takes the white
    space before it along, as RoBERTa's does, since that is part of the word which it stands for.

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
        raise ValueError(f"Unknown tokenizer type {tokenizer_type!r}: choose {' or '.join(trainers_of_types)}.")
    train, smallest = trainers_of_types[tokenizer_type]
    if vocab_size < smallest:
        raise ValueError(
            f"A {tokenizer_type} tokenizer needs a --vocab_size of at least {smallest}, got {vocab_size}."
        )
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
    # Words begin with their white space here: the token that stands for one must take it along.
    mask = AddedToken(SPECIAL_TOKENS["mask_token"], lstrip=True, normalized=False, special=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list((SPECIAL_TOKENS | {"mask_token": mask}).values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_all_pieces(documents), trainer)
    return tokenizer


def _train_wordpiece(documents: Dataset, vocab_size: int, lowercase: bool) -> Tokenizer:
    tokenizer = _wordpiece(None, lowercase)
    characters, entries = _wordpiece_alphabet(documents, tokenizer, vocab_size // 2)
    # The trainer numbers the characters inside words in the order of a hash table, which differs from run to run and
    # decides between equally frequent pairs. Handed over as special tokens they have their numbers beforehand.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS.values(), *entries],
        initial_alphabet=characters,
        limit_alphabet=len(characters),
    )
    tokenizer.train_from_iterator(_all_pieces(documents), trainer)
    # A new tokenizer, where they are not special.
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
    """Returns the most frequent characters, and the entries that they need: `a` and, if it occurs inside words, `##a`.

    Never more entries than `limit`: the characters of a Chinese text must not fill the vocabulary.
    """
    words = Counter(word for text in _values(documents, "text") for word in text.split())
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
    return (piece for text in _values(documents, "text") for piece in _pieces(text))


def tokenize_stream(
    documents: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    num_proc: int | None = None,
    overwrite_cache: bool = False,
    description: str = "Tokenising",
) -> np.ndarray:
    """Tokenises the column "text" and joins the documents by [SEP].

    No special tokens are added within a document, and words such as "[MASK]" in its text stay words. `datasets` caches
    the tokens beside the documents, where those are on disk. Documents longer than 100,000 characters are tokenised in
    pieces that are cut before white space, which changes nothing for WordPiece and byte-level BPE.

    Args:
        documents: one split of `load_documents`.
        tokenizer: with a [CLS] and a [SEP] token.
        num_proc: processes; a fast tokenizer uses all cores by itself.
        overwrite_cache: tokenise again what is in the cache.
        description: of the progress bar.

    Returns:
        int32 of shape (tokens,). Memory: 4 bytes a token, so 0.4 GB for 1e8 tokens, beside the cache on disk.

    Raises:
        ValueError: the tokenizer has no [CLS] or [SEP] token.
    """
    _, separator = _frame_ids(tokenizer)
    tokenized = documents.map(
        _tokenize,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "separator": separator},
        remove_columns=documents.column_names,
        features=Features({"input_ids": List(Value("int32"))}),
        num_proc=num_proc,
        load_from_cache_file=not overwrite_cache,
        desc=description,
    )
    parts = [chunk.flatten().to_numpy() for column in _columns(tokenized, "input_ids") for chunk in column.chunks]
    return np.concatenate(parts)[:-1] if parts else np.zeros(0, np.int32)


def _tokenize(batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, separator: int) -> dict[str, list]:
    pieces = [(row, piece) for row, text in enumerate(batch["text"]) for piece in _pieces(text)]
    ids = [[] for _ in batch["text"]]
    for group in _groups(pieces):
        encoded = tokenizer(
            [piece for _, piece in group],
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # nothing here is longer than the model can take, since it is cut later
        )
        for (row, _), tokens in zip(group, encoded["input_ids"], strict=True):
            ids[row].append(np.array(tokens, np.int32))
    end = [np.array([separator], np.int32)]
    joined = [np.concatenate(parts) if parts else np.zeros(0, np.int32) for parts in ids]
    return {"input_ids": [np.concatenate([tokens, *end]) if len(tokens) else tokens for tokens in joined]}


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        place = start + _PIECE_CHARACTERS
        # Between a character and white space: no token of WordPiece or byte-level BPE spans that place.
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


def _frame_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise ValueError(
            f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no [CLS] or no [SEP] token, of "
            "which rows are made: take one of a masked language model, or let one be trained."
        )
    return tokenizer.cls_token_id, tokenizer.sep_token_id


def make_blocks(stream: np.ndarray, tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> Dataset:
    """Cuts a stream of tokens into training rows.

    Args:
        stream: of `tokenize_stream`.
        tokenizer: gives [CLS] and [SEP].
        max_seq_length: tokens of a row, [CLS] and [SEP] included.

    Returns:
        A dataset in memory (4 bytes a token) with the column "input_ids": rows `[CLS] content [SEP]` of
        `max_seq_length` tokens, and what is left at the end as one shorter row. Every token of the stream occurs once,
        in order.

    Raises:
        ValueError: the stream does not fill one row.
    """
    content = max_seq_length - 2
    _check_length(stream, max_seq_length, "training text", "--max_seq_length")
    ids = _cut_into_rows(stream, content, *_frame_ids(tokenizer))
    return _dataset({"input_ids": ids}, f"{_content_digest(stream)} {max_seq_length} {_frame_ids(tokenizer)}")


def _check_length(stream: np.ndarray, length: int, text: str, options: str) -> None:
    if length < 3 or len(stream) < length - 2:
        raise ValueError(
            f"The {text} has {len(stream)} tokens, too few for one row of length {length} ({length - 2} tokens, [CLS] "
            f"and [SEP]): lower {options} to {len(stream) + 2} or less, or add {text}."
        )


def _cut_into_rows(content: np.ndarray, width: int, first: int, last: int) -> pa.ChunkedArray:
    span = width * max(1, _CHUNK_TOKENS // width)
    return pa.chunked_array(
        [_framed_rows(content[start : start + span], width, first, last) for start in range(0, len(content), span)]
    )


def _framed_rows(content: np.ndarray, width: int, first: int, last: int) -> pa.ListArray:
    rows, full = -(-len(content) // width), len(content) // width
    flat = np.empty(len(content) + 2 * rows, content.dtype)
    block = flat[: full * (width + 2)].reshape(full, width + 2)
    block[:, 0], block[:, 1:-1], block[:, -1] = first, content[: full * width].reshape(full, width), last
    if rows > full:
        rest = flat[full * (width + 2) :]
        rest[0], rest[1:-1], rest[-1] = first, content[full * width :], last
    offsets = np.minimum(np.arange(rows + 1) * (width + 2), len(flat))
    return pa.ListArray.from_arrays(offsets.astype(np.int32), flat)


def _content_digest(content: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(content), digest_size=8).hexdigest()


def _dataset(columns: dict[str, pa.ChunkedArray], description: str) -> Dataset:
    # datasets would pickle all of the tokens to make a fingerprint.
    return Dataset(pa.table(columns), fingerprint=digest(description))


def make_length_evaluations(
    stream: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    lengths: Iterable[int],
    mlm_probability: float = 0.15,
    seed: int = 0,
    max_tokens: int | None = None,
) -> dict[int, Dataset]:
    """Masks a stream of tokens once and cuts it into rows of each length.

    Each token is chosen with `mlm_probability`; of the chosen ones 80 % become [MASK], 10 % any token that is not
    special, and 10 % stay (Devlin et al. 2019, section 3.1). Special tokens are never chosen. Since the masked stream
    is cut, not masked anew, every length is asked for the same tokens: results differ by the context alone.

    Args:
        stream: of `tokenize_stream` on the validation split.
        tokenizer: gives [CLS], [SEP] and [MASK].
        lengths: of the rows, [CLS] and [SEP] included.
        mlm_probability: share of the tokens to predict.
        seed: of the choice.
        max_tokens: use the first so many tokens of the stream.

    Returns:
        For each length, in the order given, a dataset with the columns "input_ids" and "labels" (int32; -100 where
        nothing is asked) and "attention_mask" (int8), whose last row may be shorter. Memory: 9 bytes a token, for each
        length.

    Raises:
        ValueError: no lengths, a length that the stream does not fill, no [MASK] token, or a stream so short that no
            token was chosen.
    """
    lengths = list(dict.fromkeys(lengths))
    stream = stream[:max_tokens]
    if not lengths:
        raise ValueError("Give at least one length to evaluate at (--eval_lengths).")
    for length in lengths:
        _check_length(stream, length, "validation text", "--eval_lengths and --max_seq_length")
    masked, labels = mask_stream(stream, tokenizer, mlm_probability, seed)
    if not (labels != IGNORED_LABEL).any():
        raise ValueError(
            f"None of the {len(stream)} validation tokens was chosen at a probability of {mlm_probability}: "
            "add validation text or raise --eval_mlm_probability."
        )
    ones, frame = np.ones(len(stream), np.int8), _frame_ids(tokenizer)
    identity = f"{_content_digest(masked)} {_content_digest(labels)} {frame}"
    return {
        length: _dataset(
            {
                "input_ids": _cut_into_rows(masked, length - 2, *frame),
                "attention_mask": _cut_into_rows(ones, length - 2, 1, 1),
                "labels": _cut_into_rows(labels, length - 2, IGNORED_LABEL, IGNORED_LABEL),
            },
            f"{identity} {length}",
        )
        for length in lengths
    }


def mask_stream(
    stream: np.ndarray, tokenizer: PreTrainedTokenizerBase, mlm_probability: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks as described in `make_length_evaluations`; returns inputs and labels, both int32 of shape (tokens,).

    Raises:
        ValueError: the tokenizer has no [MASK] token.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError(f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no [MASK] token.")
    generator = np.random.default_rng(seed)
    chosen = generator.random(len(stream), dtype=np.float32) < mlm_probability
    chosen &= ~np.isin(stream, tokenizer.all_special_ids)
    positions = np.flatnonzero(chosen)
    labels = np.full(len(stream), IGNORED_LABEL, np.int32)
    labels[positions] = stream[positions]
    ordinary = np.setdiff1d(np.arange(len(tokenizer), dtype=np.int32), tokenizer.all_special_ids)
    fate = generator.random(len(positions))
    masked = stream.copy()
    masked[positions[fate < 0.8]] = tokenizer.mask_token_id
    replaced = positions[(fate >= 0.8) & (fate < 0.9)]
    masked[replaced] = generator.choice(ordinary, len(replaced))
    return masked, labels


def most_frequent_token_accuracy(
    train_stream: np.ndarray, evaluation: Dataset, tokenizer: PreTrainedTokenizerBase
) -> float:
    """Measures the simplest baseline: the share of the labelled tokens of one length's `evaluation` that are the most
    frequent token of the training stream, special tokens left out."""
    counts = np.bincount(train_stream, minlength=len(tokenizer))
    counts[tokenizer.all_special_ids] = 0
    right, asked = 0, 0
    for column in _columns(evaluation, "labels"):
        labels = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
        right += int((labels == counts.argmax()).sum())
        asked += int((labels != IGNORED_LABEL).sum())
    return right / asked
