"""Evaluation at several lengths: tokens are masked once and cut into rows `[CLS] content [SEP]` of each length.

They are a stream of joined documents (`make_length_evaluations`), or windows, each a part of one long document
(`MaskedWindows`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from .documents import arrow_columns
from .fingerprints import array_digest, digest
from .masking import IGNORED_LABEL, Masking
from .tokenization import frame_ids


_CHUNK_TOKENS = 2**24
_WINDOWS_OF_A_DOCUMENT = 2  # so that no manual of a thousand pages is all of the text


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


def _dataset(columns: dict[str, pa.ChunkedArray], description: str) -> Dataset:
    # datasets would pickle all of the tokens to make a fingerprint.
    return Dataset(pa.table(columns), fingerprint=digest(description))


def make_length_evaluations(
    stream: np.ndarray,
    masking: Masking,
    lengths: Iterable[int],
    seed: int = 0,
    max_tokens: int | None = None,
) -> dict[int, Dataset]:
    """Masks a stream of tokens once and cuts it into rows of each length.

    Since the masked stream is cut, not masked anew, every length is asked for the same tokens: results differ by the
    context alone.

    Args:
        stream: int32 tokens of the validation text.
        masking: what is asked, and the tokenizer that gives [CLS] and [SEP].
        lengths: of the rows, [CLS] and [SEP] included.
        seed: of the masking.
        max_tokens: use the first so many tokens of the stream.

    Returns:
        For each length, in the order given, a dataset with the columns "input_ids" and "labels" (int32; -100 where
        nothing is asked) and "attention_mask" (int8), whose last row may be shorter. Memory: 9 bytes a token, for each
        length.

    Raises:
        ValueError: no lengths, a length that the stream does not fill, or a stream so short that no token was chosen.
    """
    lengths = list(dict.fromkeys(lengths))
    stream = stream[:max_tokens]
    if not lengths:
        raise ValueError("Give at least one length to evaluate at (--eval_lengths).")
    for length in lengths:
        _check_length(stream, length, "validation text", "--eval_lengths and --max_seq_length")
    masked, labels = masking(stream, np.random.default_rng(seed))
    if not (labels != IGNORED_LABEL).any():
        raise ValueError(
            f"None of the {len(stream)} validation tokens was chosen at a probability of {masking.probability}: "
            "add validation text or raise --eval_mlm_probability."
        )
    ones, frame = np.ones(len(stream), np.int8), frame_ids(masking.tokenizer)
    identity = f"{array_digest(masked)} {array_digest(labels)} {frame}"
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


def most_frequent_token_accuracy(counts: np.ndarray, evaluation: Dataset, tokenizer: PreTrainedTokenizerBase) -> float:
    """Measures the simplest baseline: the share of the labelled tokens of one length's `evaluation` that are the most
    frequent token by `counts` `(vocabulary,)`, special tokens left out."""
    counts = counts.copy()
    counts[[special for special in tokenizer.all_special_ids if special < len(counts)]] = 0
    right, asked = 0, 0
    for column in arrow_columns(evaluation, "labels"):
        labels = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
        right += int((labels == counts.argmax()).sum())
        asked += int((labels != IGNORED_LABEL).sum())
    return right / asked


@dataclass(frozen=True)
class MaskedWindows:
    """Parts of long documents, masked once, that are cut into rows of any length up to their own.

    Every row holds tokens of one document and is full. Lengths do not divide each other once [CLS] and [SEP] are
    added, so some tokens at a window's end would fall into the rows of one length and not into those of another:
    they are context where they can be, and never asked for.

    Made by `mask_windows`.

    Attributes:
        inputs, labels: int32 `(windows, tokens)`; labels are -100 where nothing is asked.
        frame: ids of [CLS] and [SEP].
        lengths: of the rows, [CLS] and [SEP] included.
        documents: how many documents the windows come from.
    """

    inputs: np.ndarray
    labels: np.ndarray
    frame: tuple[int, int]
    lengths: tuple[int, ...]
    documents: int

    @property
    def masked_tokens(self) -> int:
        return int((self.labels != IGNORED_LABEL).sum())

    def rows(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels, each int32 `(rows, length)`."""
        width = length - 2
        kept = self.inputs.shape[1] // width * width
        rows = []
        for content, ends in ((self.inputs, self.frame), (self.labels, (IGNORED_LABEL, IGNORED_LABEL))):
            content = content[:, :kept].reshape(-1, width)
            rows.append(np.pad(content, ((0, 0), (1, 1))))
            rows[-1][:, 0], rows[-1][:, -1] = ends
        return rows[0], rows[1]

    def fingerprint(self) -> str:
        return array_digest(np.concatenate([self.inputs.ravel(), self.labels.ravel(), self.inputs.shape]))


def mask_windows(
    documents: Iterable[np.ndarray], masking: Masking, lengths: Sequence[int], max_tokens: int, seed: int = 0
) -> MaskedWindows:
    """Cuts documents into windows that fill a row of the longest length, two of each at most, and masks them.

    Args:
        documents: int32 tokens of each; no more are taken than needed.
        masking: what is asked.
        lengths: of the rows that the windows will be cut into.
        max_tokens: take windows until they hold so many tokens.
        seed: of the masking.

    Raises:
        ValueError: a length below 3, none of the documents is as long as the longest row, or no token was chosen.
    """
    if not lengths or min(lengths) < 3:
        raise ValueError(f"Lengths must be at least 3 ([CLS], one token and [SEP]), got {list(lengths)}.")
    width = max(lengths) - 2
    windows, longest, used = [], 0, 0
    for tokens in documents:
        longest = max(longest, len(tokens))
        count = min(len(tokens) // width, _WINDOWS_OF_A_DOCUMENT, -(-max_tokens // width) - len(windows))
        windows += list(tokens[: count * width].reshape(count, width))
        used += count > 0
        if len(windows) * width >= max_tokens:
            break
    if not windows:
        raise ValueError(
            f"None of the documents fills a row of {width + 2} tokens ([CLS] and [SEP] included): the longest one has "
            f"{longest} tokens. Lower the largest length to {longest + 2} or less, or give longer documents."
        )
    content = np.stack(windows)
    inputs, labels = masking(content.ravel(), np.random.default_rng(seed))
    inputs, labels = inputs.reshape(content.shape), labels.reshape(content.shape)
    counted = set(lengths)
    if width + 2 == 2 ** (width + 2).bit_length() // 2:
        # All powers of two, whether or not they are asked for: then results at some of them stay those of others.
        counted |= {2**power for power in range(2, (width + 2).bit_length())}
    in_all_rows = min(width // (length - 2) * (length - 2) for length in counted)
    inputs[:, in_all_rows:], labels[:, in_all_rows:] = content[:, in_all_rows:], IGNORED_LABEL
    if not (labels != IGNORED_LABEL).any():
        raise ValueError(
            f"None of the {content.size} tokens was chosen at a probability of {masking.probability}: give more text, "
            "or raise it."
        )
    return MaskedWindows(inputs, labels, frame_ids(masking.tokenizer), tuple(lengths), used)
