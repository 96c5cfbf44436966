# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Digests that tell whether text, files or a tokenizer are still the same. `runs.run_record` compares them."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..configuration_gau import GAUError


READ_WHOLE = 64 * 2**20  # bytes of a file up to which all of it is read
_BLOCKS = 16


def digest(text: str) -> str:
    """Returns 16 hexadecimal digits that depend on the text alone, in every process and on every machine."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def array_digest(array: np.ndarray) -> str:
    """Digest of the values, which ignores the shape."""
    return hashlib.blake2b(np.ascontiguousarray(array), digest_size=8).hexdigest()


def documents_fingerprint(documents: Dataset) -> str:
    """Digest of the column "text": the same for the same texts in the same order, wherever they came from.

    Reads all text in Arrow's buffers, at the speed of BLAKE2b, without a Python string for each document.
    """
    lengths, texts = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
    for table in documents.select_columns("text").with_format("arrow").iter(batch_size=1000):
        # Each selected document is a chunk of its own.
        values = table["text"].cast(pa.large_string()).combine_chunks()
        _, offsets, data = values.buffers()
        offsets = np.frombuffer(offsets, np.int64, len(values) + 1, values.offset * 8)
        lengths.update(np.diff(offsets))
        if offsets[-1] > offsets[0]:
            texts.update(memoryview(data)[offsets[0] : offsets[-1]])
    return digest(f"{len(documents)} {lengths.hexdigest()} {texts.hexdigest()}")


def file_fingerprint(path: str | os.PathLike, limit: int = READ_WHOLE) -> str:
    """Digest of the size and the content of a file, whatever its name and time of change.

    Of a file of more than `limit` bytes it reads 16 blocks, evenly spread from the first byte to the last, together
    of `limit` bytes. A change between them that keeps the size goes unnoticed.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        size, content = os.stat(path).st_size, hashlib.blake2b(digest_size=8)
        content.update(size.to_bytes(8, "big"))
        block = limit if size <= limit else limit // _BLOCKS
        with open(path, "rb") as file:
            for number in range(1 if size <= limit else _BLOCKS):
                file.seek(number * (size - block) // (_BLOCKS - 1) if number else 0)
                content.update(file.read(block))
    except OSError as error:
        raise GAUError(f"{path} cannot be read: {error.strerror}.") from error
    return content.hexdigest()


def contents_fingerprint(files: Sequence[str]) -> str:
    """Digest of the contents of local files, in their order, as `file_fingerprint` reads them: about 1 GB in all.

    URLs of the Hub name the commit, so they stand for their content.
    """
    limit = min(READ_WHOLE, max(2**16, 2**30 // max(len(files), 1)))
    return digest(json.dumps([file if "://" in file else file_fingerprint(file, limit) for file in files]))


def files_fingerprint(files: Sequence[str], settings: Sequence[object]) -> str:
    """Digest of the settings, the URLs, and the sizes and names of local files below the folder that they share.

    URLs of the Hub name the commit. `contents_fingerprint` tells a local file that changes and keeps its size.
    """
    local = [Path(file) for file in files if "://" not in file]
    root = os.path.commonpath([file.parent for file in local]) if local else ""
    names = [
        [file] if "://" in file else [Path(file).relative_to(root).as_posix(), Path(file).stat().st_size]
        for file in files
    ]
    return digest(json.dumps([names, settings]))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the vocabulary and the text processing; equal for a tokenizer that was saved and loaded."""
    content = sorted(tokenizer.get_vocab().items())
    if tokenizer.is_fast:
        # Truncation and padding are left over from the last call.
        content = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    return digest(json.dumps(content))
