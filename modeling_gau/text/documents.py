"""Documents for pretraining, whole: from files, from datasets on disk or on the Hub, or the embedded corpus."""

import errno
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import (
    Dataset,
    DatasetDict,
    DownloadMode,
    Features,
    Value,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.config import HF_DATASETS_CACHE
from datasets.exceptions import DatasetGenerationError
from transformers.utils import logging

from ..configuration_gau import GAUError
from .arguments import DataArguments
from .embedded_corpus import corpus_fingerprint, embedded_documents
from .files import FILE_KINDS, kind_of, read_files, suffix_of
from .fingerprints import READ_WHOLE, digest, file_fingerprint


logger = logging.get_logger(__name__)

PROBLEMS_SHOWN = 5
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_VERSION_OF_ROWS = 3  # raise it with every change to what read_files returns


@dataclass(frozen=True)
class Documents:
    """Documents to pretrain on.

    Attributes:
        splits: "train" and "validation", with the single column "text".
        bad_rows: number of unreadable rows left out of each split that was read ("train" alone if the validation
            documents are held out of it).
    """

    splits: DatasetDict
    bad_rows: dict[str, int]


def read_documents(
    data_args: DataArguments, seed: int, cache_dir: str | None = None, token: str | None = None
) -> Documents:
    """Reads the documents to pretrain on.

    Each row of a json, jsonl, csv, tsv or parquet file (or of a dataset) is a document. A txt file is one document,
    or one per paragraph or line, as `text_unit` says. Files may be compressed (`.txt.gz`; also .bz2, .xz and, with
    the package zstandard, .zst). The embedded corpus is the default. Documents of white space are dropped.

    The first unreadable row (see `parse_file`) is an error; `skip_bad_rows` leaves such rows out, counts and reports
    them. In datasets that `datasets` loads itself (from the Hub or a save_to_disk folder) these are rows without text.

    Without validation text, `split_documents` holds out about `validation_split_percentage` of the documents, the
    same ones as with --streaming.

    Args:
        data_args: the source, the column, the limits.
        seed: of the choice of validation documents.
        cache_dir: cache of `datasets`; its own default if None.
        token: access token for the Hub.

    Raises:
        ValueError: a file is missing, empty, not UTF-8, of an unknown kind or cannot be parsed; a column is missing
            or is not text; no document is left.
    """
    mode = DownloadMode.FORCE_REDOWNLOAD if data_args.overwrite_cache else DownloadMode.REUSE_DATASET_IF_EXISTS
    options = {"cache_dir": cache_dir, "download_mode": mode}
    if data_args.train_file:
        splits = {"train": _load_files(find_files(data_args.train_file), data_args, options)}
    elif data_args.dataset_path:
        splits = _load_path(data_args, options)
    elif data_args.dataset_name:
        splits = _load_hub(data_args, options, token)
    else:
        splits = {"train": _load_embedded(cache_dir, data_args.overwrite_cache)}
    if data_args.validation_file:
        splits["validation"] = _load_files(find_files(data_args.validation_file), data_args, options)
    bad_rows = dict.fromkeys(splits, 0)
    for name, documents in splits.items():
        splits[name], bad_rows[name] = _drop_unusable(name, documents, data_args)
    if "validation" not in splits:
        splits = split_documents(splits["train"], data_args.validation_split_percentage, seed)
    limits = {"train": data_args.max_train_samples, "validation": data_args.max_eval_samples}
    splits = {name: splits[name].select_columns("text") for name in ("train", "validation")}
    splits = DatasetDict({name: _first(documents, limits[name]) for name, documents in splits.items()})
    return Documents(splits, bad_rows)


def split_documents(documents: Dataset, percentage: float, seed: int) -> dict[str, Dataset]:
    """Splits documents into "train" and "validation" by `is_held_out` of the column "id" if there is one, else of the
    text.

    The held-out share of n documents is `percentage` with a standard deviation of
    sqrt(percentage * (100 - percentage) / n). If it would be none or all of them, the end of every document is held
    out instead.

    Raises:
        ValueError: there is too little text to hold out any.
    """
    key = "id" if "id" in documents.column_names else "text"
    values = column_values(documents, key)
    held_out = np.fromiter((is_held_out(value, percentage, seed) for value in values), bool, len(documents))
    if held_out.all() or not held_out.any():
        return _cut_tails(documents, percentage)
    return {
        "train": documents.select(np.flatnonzero(~held_out)),
        "validation": documents.select(np.flatnonzero(held_out)),
    }


def is_held_out(content: str, percentage: float, seed: int) -> bool:
    """Whether a document is validation text, by a hash of its content and `seed`: true for about `percentage` of all.

    Equal texts share a side, and each document is decided without the others, whatever the reading order.
    """
    salt = (seed % 2**64).to_bytes(hashlib.blake2b.SALT_SIZE, "big")
    # Not `digest`: a capped embedded corpus holds the documents with the lowest ones.
    number = hashlib.blake2b(content.encode("utf-8"), digest_size=8, salt=salt, person=b"held out").digest()
    return int.from_bytes(number, "big") < percentage / 100 * 2**64


def _cut_tails(documents: Dataset, percentage: float) -> dict[str, Dataset]:
    heads, tails = [], []
    for text in column_values(documents, "text"):
        text = text.strip()
        place = len(text) - round(len(text) * percentage / 100)
        space = re.compile(r"\s").search(text, place, place + 200)
        place = space.start() if space else place
        heads.append(text[:place])
        tails.append(text[place:])
    tails = [text for text in tails if text.strip()]
    if not tails:
        raise GAUError(
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


def _load_path(data_args: DataArguments, options: dict) -> dict[str, Dataset]:
    path = dataset_folder(data_args)
    if is_saved_dataset(path):
        saved = load_from_disk(str(path))
        splits = dict(saved) if isinstance(saved, DatasetDict) else {"train": saved}
        splits = choose_splits(splits, str(path))
        return {name: _text_of(documents, data_args, str(path)) for name, documents in splits.items()}
    files = split_files(path, options["cache_dir"])
    return {name: _load_files(found, data_args, options) for name, found in files.items()}


def dataset_folder(data_args: DataArguments) -> Path:
    """The directory that `dataset_path` names; raises ValueError if it is not a directory."""
    path = Path(data_args.dataset_path).expanduser()
    if not path.is_dir():
        raise GAUError(f"--dataset_path {path} is not a directory; a file is given as --train_file.")
    return path


def is_saved_dataset(path: Path) -> bool:
    """Whether save_to_disk wrote the directory."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def split_files(path: Path, cache_dir: str | None = None) -> dict[str, list[Path]]:
    """The files of "train" and, if any, of "validation" in a folder, by the names that `datasets` recognizes.

    Raises:
        ValueError: the folder has no data files, or several splits but no train.
    """
    find_files([str(path)])  # raises if there is none
    files = load_dataset_builder(str(path), cache_dir=cache_dir).config.data_files
    return choose_splits({str(name): [Path(file) for file in found] for name, found in files.items()}, str(path))


def _load_hub(data_args: DataArguments, options: dict, token: str | None) -> dict[str, Dataset]:
    name = data_args.dataset_name
    try:
        splits = load_dataset(name, data_args.dataset_config_name, token=token, **options)
    except ValueError as error:  # no such configuration
        raise GAUError(f"--dataset_name {name}: {' '.join(str(error).split())}") from error
    except DatasetGenerationError as error:
        _check_room(error, options["cache_dir"])
        raise GAUError(
            f"{name} cannot be read: {error.__cause__ or error}. With --streaming its rows are read one by one, and "
            "--skip_bad_rows leaves out the bad ones."
        ) from error
    return {split: _text_of(documents, data_args, name) for split, documents in choose_splits(splits, name).items()}


def choose_splits(splits: dict, source: str) -> dict:
    """Keeps "train" (or the only split, under that name) and "validation".

    Raises:
        ValueError: there are several splits and none is "train".
    """
    if "train" not in splits and len(splits) > 1:
        raise GAUError(f"{source} has no split 'train', but {', '.join(splits)}.")
    chosen = {"train": splits["train"] if "train" in splits else next(iter(splits.values()))}
    return chosen | {name: splits[name] for name in ("validation",) if name in splits and "train" in splits}


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Expands files, globs and directories (recursively, without hidden files) into a sorted list of files.

    Raises:
        ValueError: a pattern matches nothing, or a file is of an unknown kind.
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
            raise GAUError(f"{pattern}: there is {looked_for}.")
        found += sorted(matches)
    for path in found:
        kind_of(path)
    return list(dict.fromkeys(found))


def _is_data_file(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and not hidden and suffix_of(path) in FILE_KINDS


def _load_files(files: list[Path], data_args: DataArguments, options: dict) -> Dataset:
    """Reads files row by row into the columns "text" and "problem", one of them null.

    Without `skip_bad_rows`, reading stops at the first bad row.
    """
    # Kind by kind, in the order in which they come first.
    kinds = [(kind_of(path), suffix_of(path) == ".tsv") for path in files]
    files = [path for kind in dict.fromkeys(kinds) for path, own in zip(files, kinds, strict=True) if own == kind]
    paths = [str(path.absolute()) for path in files]
    reading = {
        "paths": paths,
        "column": data_args.text_column,
        "text_unit": data_args.text_unit,
        "skip_bad_rows": data_args.skip_bad_rows,
    }
    identity = [_VERSION_OF_ROWS, *reading.values(), [_identity_of(path) for path in files]]
    if data_args.overwrite_cache:
        identity.append(time.time_ns())
    try:
        return Dataset.from_generator(
            _generate_rows,
            features=Features({"text": Value("large_string"), "problem": Value("string")}),
            cache_dir=options["cache_dir"],
            gen_kwargs=reading,
            num_proc=min(data_args.preprocessing_num_workers or 1, len(paths)),
            fingerprint=digest(json.dumps(identity)),
        )
    except DatasetGenerationError as error:
        _check_room(error, options["cache_dir"])
        raise GAUError(f"{', '.join(map(str, files))} cannot be read: {error.__cause__ or error}") from error


def _check_room(error: DatasetGenerationError, cache_dir: str | None) -> None:
    """Raises ValueError if it is the cache that cannot be written, not the text that cannot be read."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise GAUError(
                f"The cache of the text in {cache_dir or HF_DATASETS_CACHE} cannot be written: "
                f"{os.strerror(cause.errno)}. Free some space, or choose another folder with --cache_dir."
            ) from error
        cause = cause.__cause__ or cause.__context__


def _identity_of(path: Path) -> list[object]:
    """What tells the content of a file, at the speed of reading it."""
    state = path.stat()
    # Of a large file only blocks are read: its time of change adds the changes between them.
    return [file_fingerprint(path), state.st_mtime_ns if state.st_size > READ_WHOLE else None]


def _generate_rows(
    paths: list[str], column: str, text_unit: str, skip_bad_rows: bool
) -> Iterator[dict[str, str | None]]:
    row = None
    for _, row in read_files(paths, column, text_unit):
        problem = row.problem
        if problem and not skip_bad_rows:
            problem = str(bad_row_error(problem, is_row=row.number is not None))
        yield {"text": row.text, "problem": problem}
        if row.problem and not skip_bad_rows:
            return  # an error raised in another process would reach the user as a traceback
    if row is None:  # `datasets` cannot load an empty table; a blank text is dropped later
        yield {"text": "", "problem": None}


def _drop_unusable(name: str, documents: Dataset, data_args: DataArguments) -> tuple[Dataset, int]:
    """Returns the documents without bad rows and blank texts, and the number of bad rows."""
    problems = _problems(documents, f"{_source(data_args)}, {name} data")
    if problems and not data_args.skip_bad_rows:
        # Problems of files say what to do already.
        raise GAUError(problems[0]) if "problem" in documents.column_names else bad_row_error(problems[0])
    if problems:
        logger.warning(f"Left out {len(problems)} bad rows of the {name} data:")
        for problem in problems[:PROBLEMS_SHOWN]:
            logger.warning(f"  {problem}")
        if len(problems) > PROBLEMS_SHOWN:
            logger.warning(f"  and {len(problems) - PROBLEMS_SHOWN} more.")
    documents = _drop_blank(documents)
    if len(documents) == 0:
        message = f"The {name} data has no documents: there is nothing but white space"
        message += f" beside {len(problems)} bad rows" if problems else ""
        message += f" in {_source(data_args)}."
        raise GAUError(message + (f" The first bad row: {problems[0]}" if problems else ""))
    return documents, len(problems)


def bad_row_error(problem: str, is_row: bool = True) -> GAUError:
    """Names the way out for a row; a file that cannot be read at all should not go unnoticed."""
    return GAUError(f"{problem} (--skip_bad_rows skips and counts such rows.)" if is_row else problem)


def _problems(documents: Dataset, source: str) -> list[str]:
    """The problem of each row without text."""
    nulls = [pc.is_null(texts).to_numpy() for texts in arrow_columns(documents, "text")]
    bad = np.flatnonzero(np.concatenate(nulls or [[]]))
    if "problem" in documents.column_names:
        return documents.select(bad)["problem"][:]
    return [f"{source}: row {row + 1} has no text (null)." for row in bad]


def _text_of(documents: Dataset, data_args: DataArguments, source: str) -> Dataset:
    """Keeps the text column, renamed to "text"; raises ValueError if it is missing or not text."""
    column = data_args.text_column
    if column not in documents.column_names:
        names = ", ".join(documents.column_names)
        raise GAUError(f"{source} has no column {column!r}, but {names}: choose one with --text_column.")
    if documents.features[column] not in (Value("string"), Value("large_string")):
        raise GAUError(f"Column {column!r} of {source} holds {documents.features[column]}, not text.")
    documents = documents.select_columns(column)
    return documents if column == "text" else documents.rename_column(column, "text")


def arrow_columns(documents: Dataset, column: str) -> Iterator[pa.ChunkedArray]:
    for table in documents.select_columns(column).with_format("arrow").iter(batch_size=1000):
        yield table[column]


def column_values(documents: Dataset, column: str) -> Iterator[str]:
    for values in arrow_columns(documents, column):
        yield from values.to_pylist()


def _drop_blank(documents: Dataset) -> Dataset:
    full = [
        pc.greater(pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), 0).to_numpy()
        for texts in arrow_columns(documents, "text")
    ]
    full = np.concatenate(full) if full else np.zeros(0, bool)
    return documents if full.all() else documents.select(np.flatnonzero(full))


def _first(documents: Dataset, limit: int | None) -> Dataset:
    return documents if limit is None or limit >= len(documents) else documents.select(range(limit))
