# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From tokenised documents to pages, and from pages to rows.

A *page* is text for one row of the longest length of a run: a list of contents, each a document or a part of one,
without special tokens. In a row every content stands as `[CLS] content [SEP]`. Training batches take whole pages, in
an order that does not depend on the lengths asked for; a page gives one row of its own length or several shorter ones.

Three ways to fill pages, `--packing`:

- `none`: one document a page, the rest is padding;
- `concat`: documents joined by [SEP] into one stream, which is cut at every page's end. A row's tokens see each other;
- `documents`: whole documents side by side, each kept apart from the others (Krell et al. 2021, arXiv:2107.02027).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..configuration_gau import GAUError


FRAME = 2  # [CLS] and [SEP]
SMALLEST = FRAME + 1

# Packing by windows of neighbouring documents bounds time and memory; the few short pages at a window's end hardly
# matter among so many.
_WINDOW = 2**17
# Fewer positions than these are left empty rather than filled with a splinter of a document.
_WORTH_FILLING = 8


@dataclass
class PackingReport:
    """What became of the documents. Positions count all pages; used ones hold a token, including [CLS] and [SEP]."""

    documents: int = 0
    tokens: int = 0
    pages: int = 0
    positions: int = 0
    used_positions: int = 0
    split_documents: int = 0
    truncated_documents: int = 0
    truncated_tokens: int = 0
    bad_rows: int = 0

    @property
    def used(self) -> float:
        return self.used_positions / max(self.positions, 1)

    def __add__(self, other: "PackingReport") -> "PackingReport":
        return PackingReport(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def __str__(self) -> str:
        length = self.positions // max(self.pages, 1)
        text = f"{self.pages:,} rows of {length:,}, {self.used:.2%} of the positions used"
        if self.split_documents:
            text += f"; {self.split_documents:,} documents are longer than a row and continue in others"
        if self.truncated_documents:
            share = self.truncated_tokens / max(self.tokens, 1)
            text += (
                f"; {self.truncated_documents:,} documents are longer than a row and were cut: "
                f"{self.truncated_tokens:,} tokens ({share:.1%}) are left out"
            )
        return text


class TokenStream:
    """Tokenised documents one after the other, each closed by [SEP], read from the file behind a dataset.

    Args:
        dataset: one row per document, with the column `input_ids` (lists of int32). Memory-mapped data stays on disk:
            a stream takes 8 bytes per document.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        chunks = dataset.data.column("input_ids").chunks if len(dataset) else []
        self._parts = [chunk.flatten().to_numpy() for chunk in chunks]
        self._starts = np.cumsum([0, *map(len, self._parts)])
        lengths = [chunk.value_lengths().to_numpy() for chunk in chunks]
        self.offsets = np.zeros(len(dataset) + 1, np.int64)
        if lengths:
            np.cumsum(np.concatenate(lengths), out=self.offsets[1:])

    # Pickling for a spawned worker passes the file's name, not its content.
    def __getstate__(self) -> dict:
        return {"dataset": self._dataset}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["dataset"])

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def content_lengths(self) -> np.ndarray:
        """Tokens of every document without its [SEP]; 0 for one without tokens."""
        return np.maximum(np.diff(self.offsets) - 1, 0)

    def __getitem__(self, span: slice) -> np.ndarray:
        """int32 tokens `[span.start, span.stop)`, without a copy if one chunk of the file holds them."""
        start, stop, _ = span.indices(len(self))
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        pieces = []
        while start < stop:
            end = min(stop, int(self._starts[first + 1]))
            pieces.append(self._parts[first][start - self._starts[first] : end - self._starts[first]])
            start, first = end, first + 1
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)

    def counts(self) -> np.ndarray:
        """How often each token occurs, up to the highest one in the text."""
        total = np.zeros(0, np.int64)
        for part in map(np.bincount, self._parts):
            total, part = (total, part) if len(total) >= len(part) else (part, total)
            total = total + np.pad(part, (0, len(total) - len(part)))
        return total


class StreamPages(Sequence[list[np.ndarray]]):
    """Pages cut from the stream (`concat`); the last one may be shorter."""

    def __init__(self, stream: TokenStream, length: int):
        self._stream = stream
        self._width = length - FRAME
        self._end = max(len(stream) - 1, 0)  # no [SEP] after the last document
        documents, pages = int((stream.content_lengths > 0).sum()), -(-self._end // self._width)
        self.report = PackingReport(
            documents=documents,
            tokens=int(stream.content_lengths.sum()),
            pages=pages,
            positions=pages * length,
            used_positions=self._end + pages * FRAME,
        )

    def __len__(self) -> int:
        return self.report.pages

    def __getitem__(self, page: int) -> list[np.ndarray]:
        page = range(len(self))[page]  # IndexError beyond the last one
        return [self._stream[page * self._width : min((page + 1) * self._width, self._end)]]


class DocumentPages(Sequence[list[np.ndarray]]):
    """Pages of whole documents (`documents`, `none`). Memory: 20 bytes a document."""

    def __init__(self, stream: TokenStream, length: int, packing: str, long_documents: str):
        self._stream = stream
        starts, sizes, self.report = cut_documents(
            stream.offsets[:-1], stream.content_lengths, length - FRAME, long_documents
        )
        page_of_piece, pages = assign_pages(sizes + FRAME, length, packing)
        order = np.argsort(page_of_piece, kind="stable")
        self._starts, self._sizes = starts[order], sizes[order].astype(np.int32)
        self._bounds = np.searchsorted(page_of_piece[order], np.arange(pages + 1))
        self.report.pages, self.report.positions = pages, pages * length
        self.report.used_positions = int(sizes.sum()) + FRAME * len(sizes)

    def __len__(self) -> int:
        return self.report.pages

    def __getitem__(self, page: int) -> list[np.ndarray]:
        page = range(len(self))[page]
        pieces = range(self._bounds[page], self._bounds[page + 1])
        return [self._stream[self._starts[piece] : self._starts[piece] + self._sizes[piece]] for piece in pieces]


def make_pages(
    stream: TokenStream, length: int, packing: str = "concat", long_documents: str = "split"
) -> StreamPages | DocumentPages:
    """The pages of a whole stream, with a `report`.

    Args:
        stream: tokenised documents.
        length: positions of a page.
        packing: "none", "concat" or "documents".
        long_documents: "split" cuts documents longer than a page into consecutive parts, each treated as a document;
            "truncate" keeps only the first part. `concat` needs neither.

    Raises:
        ValueError: no text, or with `concat` too little to fill one row.
    """
    tokens = max(len(stream) - 1, 0)
    if packing != "concat" and tokens == 0:
        raise GAUError("The training text has no tokens: add training text.")
    if packing == "concat" and tokens < length - FRAME:
        raise GAUError(
            f"The training text has {tokens} tokens, too few for one row of length {length} ({length - FRAME} tokens, "
            f"[CLS] and [SEP]): lower --max_seq_length to {tokens + FRAME} or less, or add training text."
        )
    return _pages(stream, length, packing, long_documents)


def _pages(stream: TokenStream, length: int, packing: str, long_documents: str) -> StreamPages | DocumentPages:
    if packing == "concat":
        return StreamPages(stream, length)
    return DocumentPages(stream, length, packing, long_documents)


def pack_section(
    contents: Sequence[np.ndarray], length: int, packing: str, long_documents: str, separator: int
) -> StreamPages | DocumentPages:
    """Packs a section of a stream, a few documents in memory, as `make_pages` does; the last pages may be short.

    Args:
        contents: int32 tokens of every document, at least one of each, without special tokens.
        separator: id of [SEP].
    """
    end = np.array([separator], np.int32)
    tokens = np.concatenate([part for content in contents for part in (content, end)])
    offsets = np.cumsum([0, *(len(content) + 1 for content in contents)], dtype=np.int32)
    rows = pa.table({"input_ids": pa.ListArray.from_arrays(offsets, tokens)})
    # `datasets` would hash all tokens for a fingerprint.
    return _pages(TokenStream(Dataset(rows, fingerprint="section")), length, packing, long_documents)


def cut_documents(
    starts: np.ndarray, sizes: np.ndarray, width: int, long_documents: str
) -> tuple[np.ndarray, np.ndarray, PackingReport]:
    """Cuts documents at `starts` into parts of at most `width` tokens; returns the parts' starts and sizes."""
    report = PackingReport(documents=int((sizes > 0).sum()), tokens=int(sizes.sum()))
    long = int((sizes > width).sum())
    if long_documents == "truncate":
        report.truncated_documents, report.truncated_tokens = long, int(np.maximum(sizes - width, 0).sum())
        full = sizes > 0
        return starts[full], np.minimum(sizes[full], width), report
    report.split_documents = long
    parts = -(-sizes // width)
    ordinal = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    cut_starts = np.repeat(starts, parts) + ordinal * width
    cut_sizes = np.minimum(np.repeat(sizes, parts) - ordinal * width, width)
    return cut_starts, cut_sizes, report


def assign_pages(sizes: np.ndarray, length: int, packing: str) -> tuple[np.ndarray, int]:
    """The page of every piece of `sizes` positions, and the number of pages."""
    if packing == "none":
        return np.arange(len(sizes)), len(sizes)
    pages, count = np.empty(len(sizes), np.int64), 0
    for start in range(0, len(sizes), _WINDOW):
        window = best_fit(sizes[start : start + _WINDOW], length)
        pages[start : start + _WINDOW] = window + count
        count += int(window.max()) + 1
    return pages, count


def best_fit(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """Packs pieces of `sizes` (none above `capacity`) into pages: the largest first, each where the least is left.

    Returns:
        int64 of shape (pieces,), the page of each.
    """
    order = np.argsort(-sizes, kind="stable")
    pages = np.empty(len(sizes), np.int64)
    open_pages = [[] for _ in range(capacity + 1)]  # by the positions they have left
    free = 0  # bit s is set where there is an open page with s positions left
    count = 0
    for piece, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        fitting = free >> size
        if fitting:
            space = size + (fitting & -fitting).bit_length() - 1
            page = open_pages[space].pop()
            if not open_pages[space]:
                free ^= 1 << space
        else:
            page, space, count = count, capacity, count + 1
        pages[piece] = page
        rest = space - size
        if rest >= SMALLEST:
            open_pages[rest].append(page)
            free |= 1 << rest
    return pages


def cut_page(
    contents: Sequence[np.ndarray], length: int, rows: int, generator: np.random.Generator
) -> tuple[list[list[np.ndarray]], int]:
    """Cuts a page into at most `rows` rows of `length` positions.

    Shorter rows need more frames, so some text of a full page does not fit. The dropped text is random and differs
    every epoch.

    Returns:
        The contents of every row, and the number of dropped tokens.
    """
    if len(contents) == 1:
        surplus = max(len(contents[0]) - rows * (length - FRAME), 0)
        start = int(generator.integers(surplus + 1))
        kept = contents[0][start : start + len(contents[0]) - surplus]
        return [[kept[start : start + length - FRAME]] for start in range(0, len(kept), length - FRAME)], surplus
    width = length - FRAME
    whole = [content for content in contents if len(content) <= width]
    parts = [content[start : start + width] for content in contents for start in range(0, len(content), width)]
    parts = parts if len(whole) < len(contents) else whole
    return _place_parts([parts[place] for place in generator.permutation(len(parts))], length, rows)


def _place_parts(parts: Sequence[np.ndarray], length: int, limit: int) -> tuple[list[list[np.ndarray]], int]:
    """First fit; parts that fit nowhere are split over the remaining space, where that is worth filling."""
    rows, spaces, homeless = [[] for _ in range(limit)], [length] * limit, []
    for part in parts:
        home = next((row for row in range(limit) if spaces[row] >= len(part) + FRAME), None)
        if home is None:
            homeless.append(part)
            continue
        rows[home].append(part)
        spaces[home] -= len(part) + FRAME
    for row in range(limit):
        while homeless and spaces[row] >= _WORTH_FILLING:
            rows[row].append(homeless[0][: spaces[row] - FRAME])
            spaces[row] -= len(rows[row][-1]) + FRAME
            rest = homeless.pop(0)[len(rows[row][-1]) :]
            if len(rest):
                homeless.insert(0, rest)
    return [row for row in rows if row], sum(map(len, homeless))


def frame_row(contents: Sequence[np.ndarray], cls: int, sep: int) -> Iterator[np.ndarray]:
    """`[CLS] content [SEP]` of every content, int32."""
    for content in contents:
        framed = np.empty(len(content) + FRAME, np.int32)
        framed[0], framed[1:-1], framed[-1] = cls, content, sep
        yield framed
