# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Pages and rows: every token has its place, once and in order, and the numbers reported are those of a recount."""

import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, load_from_disk

from modeling_gau.text.packing import (
    FRAME,
    SMALLEST,
    TokenStream,
    best_fit,
    cut_page,
    frame_row,
    make_pages,
    pack_section,
)


SEP = 3


def make_contents(sizes) -> list[np.ndarray]:
    """Documents of these sizes. No token occurs twice: each says which document it is of and where it stood."""
    ends = np.cumsum([10, *sizes])
    return [np.arange(begin, end, dtype=np.int32) for begin, end in itertools.pairwise(ends)]


def make_dataset(contents: list[np.ndarray], chunks: int = 1) -> Dataset:
    """A dataset whose Arrow table has several chunks, as one has that was written in batches."""
    rows = [[*content.tolist(), SEP] if len(content) else [] for content in contents]
    parts = [rows[len(rows) * part // chunks : len(rows) * (part + 1) // chunks] for part in range(chunks)]
    arrays = [pa.array(part, pa.list_(pa.int32())) for part in parts]
    return Dataset(pa.table({"input_ids": pa.chunked_array(arrays)}))


def make_stream(sizes, chunks: int = 1) -> TokenStream:
    return TokenStream(make_dataset(make_contents(sizes), chunks))


def random_sizes(seed: int, count: int = 200, longest: int = 60) -> np.ndarray:
    """Sizes of documents, some of them empty."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, longest, count) * (generator.random(count) > 0.1)


def tokens_of(rows) -> list[int]:
    return [token for row in rows for content in row for token in content.tolist()]


# The stream


@pytest.mark.parametrize("chunks", [1, 2, 7, 40])
@pytest.mark.parametrize("saved", [False, True], ids=["in_memory", "reloaded"])
def test_slices_of_a_stream_are_those_of_the_whole(tmp_path, chunks, saved):
    contents = make_contents(random_sizes(0, 40))
    dataset = make_dataset(contents, chunks)
    if saved:
        dataset.save_to_disk(tmp_path / "tokens", num_shards=min(chunks, 3))
        dataset = load_from_disk(tmp_path / "tokens")
    stream = TokenStream(dataset)
    whole = np.concatenate([np.append(content, SEP) for content in contents if len(content)])
    assert len(stream) == len(whole)
    generator = np.random.default_rng(chunks)
    spans = [(0, len(whole)), (0, 0), (len(whole), len(whole)), (5, 3), (len(whole) - 1, len(whole) + 9)]
    for start, stop in [*spans, *generator.integers(0, len(whole) + 1, (200, 2)).tolist()]:
        piece = stream[start:stop]
        assert piece.dtype == np.int32
        np.testing.assert_array_equal(piece, whole[start:stop])
    assert stream.content_lengths.tolist() == [len(content) for content in contents]
    for number, content in enumerate(contents):
        begin = int(stream.offsets[number])
        np.testing.assert_array_equal(stream[begin : begin + len(content)], content)
    np.testing.assert_array_equal(stream.counts(), np.bincount(whole))
    again = pickle.loads(pickle.dumps(stream))
    np.testing.assert_array_equal(again[0 : len(again)], whole)
    assert again.offsets.tolist() == stream.offsets.tolist()


def test_a_stream_does_not_copy_what_one_chunk_holds():
    stream = make_stream([100] * 4, chunks=2)
    assert np.shares_memory(stream[0:150], stream[0:1]) and np.shares_memory(stream[210:300], stream[250:251])


@pytest.mark.parametrize("sizes", [[], [0, 0]])
@pytest.mark.parametrize("packing", ["none", "concat", "documents"])
def test_a_stream_without_documents(sizes, packing):
    stream = make_stream(sizes)
    assert (len(stream), stream[0:5].tolist(), stream.counts().sum()) == (0, [], 0)
    with pytest.raises(ValueError, match=r"training text has .*tokens.*add training text"):
        make_pages(stream, 8, packing)


# Pages


@pytest.mark.parametrize("length", [3, 4, 7, 16, 33, 64, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_concat_pages_are_the_stream(length, seed):
    stream = make_stream(random_sizes(seed), chunks=3)
    pages = make_pages(stream, length)
    assert [len(page) for page in pages] == [1] * len(pages)  # a row is one content
    sizes = [len(page[0]) for page in pages]
    assert set(sizes[:-1]) <= {length - FRAME} and 0 < sizes[-1] <= length - FRAME
    assert tokens_of(pages) == stream[0 : len(stream) - 1].tolist()
    report = pages.report
    assert report.documents == (stream.content_lengths > 0).sum()
    assert report.tokens == sum(token != SEP for token in tokens_of(pages))
    assert (report.pages, report.positions) == (len(sizes), len(sizes) * length)
    assert report.used_positions == sum(sizes) + FRAME * len(sizes)
    assert (report.split_documents, report.truncated_documents, report.truncated_tokens) == (0, 0, 0)


@pytest.mark.parametrize("packing", ["none", "documents"])
@pytest.mark.parametrize("long_documents", ["split", "truncate"])
@pytest.mark.parametrize("length", [3, 4, 9, 16, 33, 64])
@pytest.mark.parametrize("seed", range(2))
def test_documents_stay_whole_or_are_cut_in_order(packing, long_documents, length, seed):
    contents = make_contents(random_sizes(seed))
    pages = make_pages(TokenStream(make_dataset(contents, chunks=3)), length, packing, long_documents)
    width, truncates = length - FRAME, long_documents == "truncate"
    expected = {
        tuple(content[start : start + width].tolist())
        for content in contents
        for start in range(0, min(len(content), width) if truncates else len(content), width)
    }
    pieces = [tuple(piece.tolist()) for page in pages for piece in page]
    # As sets: no piece has tokens of two documents, and none is missing. As many: none is there twice.
    assert set(pieces) == expected and len(pieces) == len(expected)
    used = [sum(len(piece) + FRAME for piece in page) for page in pages]
    assert max(used) <= length and min(used) >= SMALLEST
    if packing == "none":
        assert [len(page) for page in pages] == [1] * len(pages)
        assert tokens_of(pages) == sorted(tokens_of(pages))  # documents in their order
    report, text = pages.report, str(pages.report)
    assert (report.documents, report.tokens) == (sum(map(bool, map(len, contents))), sum(map(len, contents)))
    long = sum(len(content) > width for content in contents)
    assert (report.split_documents, report.truncated_documents) == ((0, long) if truncates else (long, 0))
    assert report.truncated_tokens == report.tokens - len(tokens_of(pages))
    assert (report.pages, report.positions, report.used_positions) == (len(used), len(used) * length, sum(used))
    assert report.used == sum(used) / (len(used) * length)
    left_out = f"{report.truncated_tokens:,} tokens ({report.truncated_tokens / report.tokens:.1%}) are left out"
    assert (f"{long:,} documents are longer than a row and were cut: {left_out}" in text) == (truncates and long > 0)


def test_a_report_names_its_rows_and_split_documents():
    report = make_pages(make_stream([30, 5, 5, 5]), 16, "documents").report
    # 30 tokens give pieces of 14, 14 and 2, which need 16, 16 and 4 positions; three documents need 7 each.
    assert str(report) == (
        "4 rows of 16, 89.06% of the positions used; 1 documents are longer than a row and continue in others"
    )


@pytest.mark.parametrize("packing", ["none", "concat", "documents"])
def test_pages_are_a_sequence(packing):
    pages = make_pages(make_stream([9, 4, 17, 2, 2, 6]), 8, packing)
    assert len(list(pages)) == len(pages) > 1
    assert [piece.tolist() for piece in pages[-1]] == [piece.tolist() for piece in pages[len(pages) - 1]]
    with pytest.raises(IndexError):
        pages[len(pages)]


def test_a_realistic_mix_of_lengths_fills_99_percent():
    # Lengths of articles: log-normal, most of them short, a few longer than a row.
    sizes = np.random.default_rng(0).lognormal(5.5, 1.0, 8000).astype(int) + 1
    report = make_pages(make_stream(sizes), 512, "documents").report
    assert report.used > 0.99 and report.split_documents > 1000
    assert make_pages(make_stream(sizes), 512, "none").report.used < 0.6


def test_text_too_short_for_a_row():
    assert len(make_pages(make_stream([4, 5]), 12)) == 1  # 4 + [SEP] + 5 tokens
    with pytest.raises(
        ValueError, match=r"has 10 tokens, too few for one row of length 13 .*lower --max_seq_length to 12"
    ):
        make_pages(make_stream([4, 5]), 13)
    assert make_pages(make_stream([4, 5]), 13, "documents").report.pages == 1


# Best fit


@pytest.mark.parametrize("capacity", [3, 10, 31, 128])
@pytest.mark.parametrize("seed", range(3))
def test_best_fit_never_overfills(capacity, seed):
    sizes = np.random.default_rng(seed).integers(SMALLEST, capacity + 1, 500)
    pages = best_fit(sizes, capacity)
    loads = np.bincount(pages, weights=sizes)
    assert pages.shape == sizes.shape and loads.max() <= capacity
    assert loads.min() > 0  # no number is left out
    assert len(loads) <= first_fit(sizes, capacity)
    # Two pages that could be one are a waste: at most one is half empty.
    assert (2 * loads <= capacity - SMALLEST).sum() <= 1


def first_fit(sizes: np.ndarray, capacity: int) -> int:
    """The pages that first fit needs for the pieces as they come."""
    space = []
    for size in sizes.tolist():
        page = next((page for page, left in enumerate(space) if left >= size), None)
        if page is None:
            space.append(capacity)
            page = -1
        space[page] -= size
    return len(space)


def test_best_fit_beats_first_fit():
    # Small pieces first: first fit puts them together and finds no place for the large ones.
    sizes = np.array([30, 30, 30, 70, 70, 70])
    assert (first_fit(sizes, 100), best_fit(sizes, 100).max() + 1) == (4, 3)
    # 30 goes where nothing is left of the page, beside 70, not on the first page that has room for it.
    pages = best_fit(np.array([65, 70, 30, 28]), 100)
    assert (pages[2], pages[3]) == (pages[1], pages[0])


def test_packing_goes_window_by_window(monkeypatch):
    monkeypatch.setattr("modeling_gau.text.packing._WINDOW", 50)
    contents = make_contents(random_sizes(1))
    pages = make_pages(TokenStream(make_dataset(contents)), 64, "documents")
    assert sorted(tokens_of(pages)) == sorted(np.concatenate(contents).tolist())
    numbers = {token: number for number, content in enumerate(contents) for token in content.tolist()}
    full = [number for number, content in enumerate(contents) if len(content)]
    windows = {number: place // 50 for place, number in enumerate(full)}
    for page in pages:
        assert len({windows[numbers[int(piece[0])]] for piece in page}) == 1


# Sections of a stream


@pytest.mark.parametrize("packing", ["none", "concat", "documents"])
@pytest.mark.parametrize("length", [5, 1000])
def test_a_section_is_packed_as_a_whole_stream_is(packing, length):
    contents = [content for content in make_contents(random_sizes(2, 40)) if len(content)]
    pages = pack_section(contents, length, packing, "split", SEP)
    whole = make_pages(TokenStream(make_dataset(contents)), length, packing, "split")
    assert [[piece.tolist() for piece in page] for page in pages] == [
        [piece.tolist() for piece in page] for page in whole
    ]
    assert pages.report == whole.report
    assert all(piece.dtype == np.int32 for page in pages for piece in page)
    assert len(pack_section(contents[:1], length, packing, "split", SEP)) > 0  # a section may be short


# Rows


@pytest.mark.parametrize("packing", ["concat", "documents"])
@pytest.mark.parametrize("length", [4, 8, 16, 32])
@pytest.mark.parametrize("seed", range(3))
def test_a_page_is_cut_into_shorter_rows(packing, length, seed):
    stream, limit = make_stream(random_sizes(seed)), 64 // length
    generator = np.random.default_rng(seed)
    for page in make_pages(stream, 64, packing):
        rows, left_out = cut_page(page, length, limit, generator)
        assert 0 < len(rows) <= limit
        for row in rows:
            assert all(len(content) for content in row)
            assert sum(len(content) + FRAME for content in row) <= length
        there, before = tokens_of(rows), tokens_of([page])
        assert left_out == len(before) - len(there)
        ordinary = [token for token in there if token != SEP]
        assert len(set(ordinary)) == len(ordinary) and set(there) <= set(before)
        pieces = {tuple(content.tolist()) for content in page}
        for row in rows:
            for content in row:  # of one content, in order
                assert any(is_part(tuple(content.tolist()), piece) for piece in pieces)
        spaces = [length - sum(len(content) + FRAME for content in row) for row in rows]
        if left_out:  # only what has no place, and splinters
            assert len(rows) == limit and max(spaces) < (SMALLEST if packing == "concat" else 16)


def is_part(part: tuple, whole: tuple) -> bool:
    begin = whole.index(part[0]) if part[0] in whole else len(whole)
    if part[0] == SEP:  # occurs more than once
        return any(whole[start : start + len(part)] == part for start in range(len(whole)))
    return whole[begin : begin + len(part)] == part


def test_a_full_page_drops_random_text():
    # A page of 64 has 62 tokens; four rows of 16 have room for 56.
    page = make_contents([62])
    starts = set()
    for seed in range(60):
        rows, left_out = cut_page(page, 16, 4, np.random.default_rng(seed))
        there = tokens_of(rows)
        assert left_out == 6 and there == list(range(there[0], there[0] + 56))
        starts.add(there[0] - 10)
    assert starts == set(range(7))
    assert [len(row[0]) for row in cut_page(make_contents([5]), 16, 4, np.random.default_rng(0))[0]] == [5]
    packed, lost = make_contents([20, 20, 18]), set()
    for seed in range(60):
        rows, left_out = cut_page(packed, 16, 4, np.random.default_rng(seed))
        lost |= set(np.concatenate(packed).tolist()) - set(tokens_of(rows))
    assert all(lost & set(content.tolist()) for content in packed)


@pytest.mark.parametrize("seed", range(5))
def test_documents_stay_whole_where_there_is_room(seed):
    # Small documents that fill a page, and 4 rows of 64 for them in place of one of 256.
    sizes = np.random.default_rng(seed).integers(10, 40, 100)
    for page in make_pages(make_stream(sizes), 256, "documents"):
        rows, left_out = cut_page(page, 64, 4, np.random.default_rng(seed))
        pieces = [tuple(content.tolist()) for row in rows for content in row]
        whole = [tuple(content.tolist()) for content in page]
        # Only those that fit nowhere are split or left out: few, since there is not much room beside the others.
        assert sum(document not in pieces for document in whole) <= len(rows)
        assert left_out < 16 * len(rows)  # less than a splinter for every row
    # One that is longer than a row goes on in the next.
    rows, left_out = cut_page(make_contents([100, 20]), 64, 2, np.random.default_rng(seed))
    assert left_out == 0 and sorted(len(content) for row in rows for content in row) == [20, 38, 62]


def test_contents_are_framed():
    framed = list(frame_row([np.array([7, 8], np.int32), np.array([9], np.int32)], 2, SEP))
    assert [part.tolist() for part in framed] == [[2, 7, 8, SEP], [2, 9, SEP]]
    assert {part.dtype for part in framed} == {np.dtype(np.int32)}
