"""Evaluation at several lengths: tokens are masked once and cut into rows `[CLS] content [SEP]` of each length.

The tokens are a stream of joined documents (`make_length_evaluations`), or windows of long documents
(`mask_windows`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..configuration_gau import GAUError
from .documents import arrow_columns
from .fingerprints import array_digest, digest
from .masking import IGNORED_LABEL, Masking
from .tokenization import frame_ids


_WINDOWS_OF_A_DOCUMENT = 2  # one very long document must not fill the whole evaluation


def _check_length(stream: np.ndarray, length: int, text: str, options: str) -> None:
    if length < 3 or len(stream) < length - 2:
        raise GAUError(
            f"The {text} has {len(stream)} tokens, too few for one row of length {length} ({length - 2} tokens, [CLS] "
            f"and [SEP]): lower {options} to {len(stream) + 2} or less, or add {text}."
        )


def _cut_into_rows(content: np.ndarray, width: int, first: int, last: int) -> pa.ListArray:
    """Rows of `width` values between `first` and `last`; the last row may be shorter."""
    bounds = np.append(np.arange(0, len(content), width), len(content))
    rows = len(bounds) - 1
    if len(content) + 2 * rows >= 2**31:
        raise GAUError(
            f"The validation text has {len(content):,} tokens, more than rows can be made of: give --max_eval_tokens."
        )
    framed = np.insert(content, np.repeat(bounds, 2)[1:-1], np.tile([first, last], rows))
    return pa.ListArray.from_arrays((bounds + 2 * np.arange(rows + 1)).astype(np.int32), framed)


def _dataset(columns: dict[str, pa.ListArray], description: str) -> Dataset:
    # `datasets` would pickle all tokens for a fingerprint.
    return Dataset(pa.table(columns), fingerprint=digest(description))


def make_length_evaluations(
    stream: np.ndarray,
    masking: Masking,
    lengths: Iterable[int],
    seed: int = 0,
    max_tokens: int | None = None,
) -> dict[int, Dataset]:
    """Masks a stream of tokens once and cuts it into rows of each length.

    Every length predicts the same tokens, so results differ by context alone.

    Args:
        stream: int32 tokens of the validation text.
        masking: chooses the tokens to predict; its tokenizer gives [CLS] and [SEP].
        lengths: of the rows, [CLS] and [SEP] included.
        seed: of the masking.
        max_tokens: use only the first `max_tokens` tokens of the stream.

    Returns:
        For each length, in the order given, a dataset with the columns "input_ids" and "labels" (int32; -100 where
        nothing is predicted) and "attention_mask" (int8). The last row may be shorter. Memory: 9 bytes a token for
        each length.

    Raises:
        ValueError: no lengths, a length longer than the stream, or no token was chosen to predict.
    """
    lengths = list(dict.fromkeys(lengths))
    stream = stream[:max_tokens]
    if not lengths:
        raise GAUError("--eval_lengths needs at least one length.")
    for length in lengths:
        _check_length(stream, length, "validation text", "--eval_lengths and --max_seq_length")
    masked, labels = masking.for_evaluation(stream, np.random.default_rng(seed))
    if not (labels != IGNORED_LABEL).any():
        raise GAUError(
            f"Masking at a probability of {masking.probability} chose none of the {len(stream)} validation tokens: "
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
    """Accuracy of the simplest baseline on one length's `evaluation`: always predict the most frequent token by
    `counts`, `(vocabulary,)`, special tokens excluded."""
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
    """Parts of long documents, masked once, to be cut into full rows of any length up to their own.

    With [CLS] and [SEP], lengths do not divide each other: some tokens at a window's end fit into the rows of one
    length and not into those of another. They serve as context where they fit, and are never predicted.

    Made by `mask_windows`.

    Attributes:
        inputs, labels: int32 `(windows, tokens)`; labels are -100 where nothing is predicted.
        frame: ids of [CLS] and [SEP].
        lengths: of the rows, [CLS] and [SEP] included.
        documents: number of documents that the windows come from.
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
        return self.cut(self.inputs, length, self.frame), self.cut(self.labels, length, (IGNORED_LABEL,) * 2)

    def cut(self, values: np.ndarray, length: int, ends: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Rows of `values` `(windows, tokens)` with `ends` at [CLS] and [SEP], `(rows, length)`."""
        width = length - 2
        rows = np.pad(values[:, : values.shape[1] // width * width].reshape(-1, width), ((0, 0), (1, 1)))
        rows[:, 0], rows[:, -1] = ends
        return rows

    def fingerprint(self) -> str:
        return array_digest(np.concatenate([self.inputs.ravel(), self.labels.ravel(), self.inputs.shape]))


def join_documents(documents: Iterable[np.ndarray], tokens: int, separator: int) -> Iterator[np.ndarray]:
    """Documents of at least `tokens` tokens: a shorter one goes on with the next, after a separator, as the rows of
    `--packing concat` do. What is left at the end is dropped if it is too short."""
    parts = []
    for document in documents:
        parts += [document] if not parts else [np.array([separator], document.dtype), document]
        if sum(map(len, parts)) >= tokens:
            yield np.concatenate(parts)
            parts = []


def mask_windows(
    documents: Iterable[np.ndarray],
    masking: Masking,
    lengths: Sequence[int],
    max_tokens: int,
    seed: int = 0,
    use_rest: bool = False,
) -> MaskedWindows:
    """Cuts each document into at most two windows that fill a row of the longest length, and masks them.

    Args:
        documents: int32 tokens of each; reading stops as soon as there are enough windows.
        masking: chooses the tokens to predict.
        lengths: of the rows that the windows will be cut into.
        max_tokens: stop once the windows hold this many tokens.
        seed: of the masking.
        use_rest: if two windows of each document are too few, take more of the longer ones.

    Raises:
        ValueError: a length below 3, no document as long as the longest row, or no token was chosen to predict.
    """
    if not lengths or min(lengths) < 3:
        raise GAUError(f"Lengths must be at least 3 ([CLS], one token and [SEP]), got {list(lengths)}.")
    width = max(lengths) - 2
    windows, rest, longest, used = [], [], 0, 0
    wanted = -(-max_tokens // width)
    for tokens in documents:
        longest = max(longest, len(tokens))
        count = len(tokens) // width
        parts, taken = list(tokens[: count * width].reshape(count, width)), min(_WINDOWS_OF_A_DOCUMENT, count)
        windows += parts[:taken]
        rest += parts[taken:] if use_rest else []
        used += count > 0
        if len(windows) >= wanted:
            break
    windows = [*windows, *rest][:wanted]
    if not windows:
        raise GAUError(
            f"No document fills a row of {width + 2} tokens ([CLS] and [SEP] included): the longest one has {longest} "
            f"tokens. Lower the largest length to {longest + 2} or less, or give longer documents."
        )
    content = np.stack(windows)
    inputs, labels = masking.for_evaluation(content.ravel(), np.random.default_rng(seed))
    inputs, labels = inputs.reshape(content.shape), labels.reshape(content.shape)
    counted = set(lengths)
    if width + 2 == 2 ** (width + 2).bit_length() // 2:
        # Count all powers of two, given or not: results at one of them must not depend on which others are given.
        counted |= {2**power for power in range(2, (width + 2).bit_length())}
    in_all_rows = min(width // (length - 2) * (length - 2) for length in counted)
    inputs[:, in_all_rows:], labels[:, in_all_rows:] = content[:, in_all_rows:], IGNORED_LABEL
    if not (labels != IGNORED_LABEL).any():
        raise GAUError(
            f"Masking at a probability of {masking.probability} chose none of the {content.size} tokens: give more "
            "text, or raise the probability."
        )
    return MaskedWindows(inputs, labels, frame_ids(masking.tokenizer), tuple(lengths), used)
