"""Streams of documents: every document once, in an order that can be repeated and resumed anywhere."""

import gzip
import json
import os
import pickle
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from modeling_gau.text import files as reading
from modeling_gau.text import streaming
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.documents import read_documents
from modeling_gau.text.streaming import DocumentStream, open_stream


pytestmark = pytest.mark.usefixtures("folder")


def lines(*values):
    return "".join(json.dumps({"text": value}) + "\n" for value in values)


@pytest.fixture
def files():
    """Six files of every kind, and their documents."""
    names = [f"{letter}{number}" for letter in "abcdef" for number in range(9)]
    a, b, c, d, e, f = (names[start : start + 9] for start in range(0, 54, 9))
    Path("a.jsonl").write_text(lines(*a[:4]) + "\n" + lines(" \n", *a[4:]), encoding="utf-8")
    Path("b.jsonl.gz").write_bytes(gzip.compress(lines(*b).encode()))
    pq.write_table(pa.table({"text": c, "other": range(9)}), "c.parquet", row_group_size=4)
    d = [f'{name}, with "quotes"\nand\n\nlines' for name in d]
    Dataset.from_dict({"number": range(9), "text": d}).to_pandas().to_csv("d.csv", index=False)
    Path("e.txt").write_text("\n\n".join(e), encoding="utf-8")
    Path("f.json").write_text(json.dumps([{"text": name} for name in f], indent=1), encoding="utf-8")
    return [*a, *b, *c, *d, *e, *f]


def stream(*names, seed=0, percentage=0.0, **arguments):
    names = tuple(str(Path(name).absolute()) for name in names or sorted(Path().glob("[a-f].*")))
    return DocumentStream(names, seed=seed, held_out_percentage=percentage, text_unit="paragraph", **arguments)


@pytest.mark.parametrize("consumers", [1, 2, 3, 5, 6, 8])
def test_every_document_has_one_consumer(files, consumers):
    for epoch in range(3):
        shares = [texts_of(stream(), epoch, [0, 0], c, consumers) for c in range(consumers)]
        assert Counter(text for share in shares for text in share) == Counter(files)
        assert min(map(len, shares)) >= 5


@pytest.mark.parametrize(("consumer", "consumers"), [(0, 1), (1, 2), (2, 8)])
@pytest.mark.parametrize("equal_files", [False, True], ids=["rows_in_turn", "whole_files"])
def test_reading_resumes_at_any_position(files, requests, equal_files, consumer, consumers):
    one = write_files(*[5] * 8) if equal_files else stream(percentage=20)
    share = consumer, consumers
    whole = list(one.documents(1, [0, 0], *share))
    assert len(whole) >= 4
    assert {step for _, _, step in requests} == {1 if equal_files else consumers}
    for done, (position, _) in enumerate(whole, 1):
        assert list(one.documents(1, json.loads(json.dumps(position)), *share)) == whole[done:]


def texts_of(one, epoch=0, *share):
    return [text for _, text in one.documents(epoch, *share)]


def test_order_depends_on_seed_and_epoch(files):
    orders = {(seed, epoch): texts_of(stream(seed=seed), epoch) for seed in (0, 1) for epoch in range(3)}
    assert len({tuple(order) for order in orders.values()}) == 6
    assert texts_of(pickle.loads(pickle.dumps(stream(seed=1))), 2) == orders[1, 2]
    # Within a file documents keep their order.
    assert [text for text in orders[0, 1] if text[0] == "c"] == [text for text in files if text[0] == "c"]


def test_a_second_seed_orders_the_files(files):
    def both(**seeds):
        one = stream(percentage=30, **seeds)
        return texts_of(one), one.fingerprint()

    texts, fingerprint = both(seed=1)
    assert both(seed=1, order_seed=1) == (texts, fingerprint)
    others, other_fingerprint = both(seed=1, order_seed=2)
    assert others != texts and sorted(others) == sorted(texts) and other_fingerprint != fingerprint
    others, other_fingerprint = both(seed=2, order_seed=1)
    assert sorted(others) != sorted(texts) and other_fingerprint != fingerprint


# Who reads what


def write_files(*documents, length=1):
    """Files of so many documents each."""
    for file, number in enumerate(documents):
        Path(f"{file:02}.jsonl").write_text(
            lines(*(f"{file:02} {'x' * length}" for _ in range(number))), encoding="utf-8"
        )
    return stream(*(f"{file:02}.jsonl" for file in range(len(documents))))


@pytest.fixture
def requests(monkeypatch):
    """What is asked of which file: (name, start, step)."""
    asked, read_rows = [], reading.read_rows

    def read(path, column, text_unit, start, step, token):
        asked.append((Path(path).name, start, step))
        return read_rows(path, column, text_unit, start, step, token)

    monkeypatch.setattr(reading, "read_rows", read)
    return asked


def test_small_files_are_not_trained_on_more_often():
    one = write_files(2000, *[10] * 7)
    counts = Counter()
    for consumer in range(8):  # each goes on with the next epoch when its own has ended
        epochs = (text for epoch in range(1000) for _, text in one.documents(epoch, [0, 0], consumer, 8))
        counts.update(text.split()[0] for text in islice(epochs, 600))
    # By whole files it would be 37 percent.
    assert abs(1 - counts["00"] / counts.total() - 70 / 2070) < 0.005


@pytest.mark.parametrize(
    ("sizes", "consumers", "whole"),
    [
        ([50] * 8, 8, True),
        ([50] * 8, 4, True),
        ([50] * 9, 4, False),  # 3 files or 2
        ([50] * 44, 4, True),
        ([50] * 47, 4, True),  # 12 files or 11
        ([50, 52, 51, 53], 4, True),
        ([50, 52, 51, 70], 4, False),
        ([500, 1, 1, 1], 2, False),
        ([50] * 3, 4, False),
        ([500, 1, 1, 1], 1, True),
    ],
)
def test_whole_files_are_given_out_where_shares_are_even(requests, sizes, consumers, whole):
    one = write_files(*sizes, length=90)
    for epoch in range(2):
        for consumer in range(consumers):
            list(one.documents(epoch, [0, 0], consumer, consumers))
    assert {step for _, _, step in requests} == {1 if whole else consumers}
    assert len(requests) == 2 * len(sizes) * (1 if whole else consumers)


def test_sizes_compare_within_a_kind():
    write_files(50, 50)
    for name in ("00.jsonl", "01.jsonl"):
        Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes(), mtime=0))
    one = stream("00.jsonl", "01.jsonl", "00.jsonl.gz", "01.jsonl.gz")
    assert one._shares_are_even([0, 1, 2, 3], 2) and one._shares_are_even([0, 2, 3, 1], 2)
    assert not one._shares_are_even([0, 2, 1, 3], 2)
    one = write_files(90, 1, 1)
    assert not one._shares_are_even([0, 1], 2)
    one.sizes = (one.sizes[0], None, None)  # without a known size, files count alike
    assert one._shares_are_even([0, 1], 2) and not one._shares_are_even([0, 1, 2], 2)


def test_sizes_are_asked_for_once(hub, monkeypatch):
    asked, info = [], type(hub.filesystem).info
    monkeypatch.setattr(type(hub.filesystem), "info", lambda self, path: asked.append(path) or info(self, path))
    one = open_stream(DataArguments(streaming=True, dataset_name="someone/some-text"), seed=0)
    assert one.sizes == tuple(map(len, hub.contents)) and len(asked) == 2
    one = pickle.loads(pickle.dumps(one))
    list(one.documents(0, [0, 0], 1, 2))
    assert len(asked) == 2


def test_small_files_are_spread_over_consumers():
    one = write_files(*[1] * 6)
    shares = [texts_of(one, 0, [0, 0], consumer, 8) for consumer in range(8)]
    assert sorted(map(len, shares)) == [0, 0, 1, 1, 1, 1, 1, 1]


class Texts(IterableDataset):
    def __init__(self, stream):
        self.stream = stream

    def __iter__(self):
        info = get_worker_info()
        for position, text in self.stream.documents(0, [0, 0], info.id, info.num_workers):
            yield position, text, self.stream.bad_rows


def test_in_workers_of_a_data_loader(files):
    Path("c.jsonl").write_text(lines("c9") + "bad\n" + lines("c10", "c11", "c12"), encoding="utf-8")
    one = stream("a.jsonl", "b.jsonl.gz", "c.jsonl", skip_bad_rows=True)
    loader = DataLoader(Texts(one), batch_size=None, num_workers=2)
    rows = list(loader)
    assert sorted(text for _, text, _ in rows) == sorted([*files[:18], "c9", "c10", "c11", "c12"])
    assert one.bad_rows == 0 and max(count for _, _, count in rows) == 1


def test_nothing_stays_open(files, open_files):
    documents = stream().documents(0)
    assert open_files == [0]
    next(documents)
    assert open_files == [0, 1]
    documents.close()
    assert open_files == [0, 1, 0]


# What is held out


def test_held_out_documents_are_in_no_epoch_of_training(files):
    one = stream(percentage=25)
    other = stream(percentage=25, side="validation")
    held_out = other.validation_documents()["text"][:]
    assert 5 < len(held_out) < 25
    for epoch in range(3):
        training = [text for consumer in range(2) for text in texts_of(one, epoch, [0, 0], consumer, 2)]
        assert Counter([*training, *held_out]) == Counter(files)
    assert stream(percentage=25, side="validation", seed=1).validation_documents()["text"] != held_out
    assert sorted(one.first_documents()["text"]) == sorted(text for text in files if text not in held_out)


def test_limits_of_validation(files):
    whole = stream("a.jsonl", side="validation")
    assert whole.validation_documents(max_documents=4)["text"] == files[:4]
    assert whole.validation_documents(max_characters=7)["text"] == files[:4]
    assert len(stream(side="validation", max_documents=2).validation_documents()) == 2
    assert whole.validation_documents(max_characters=None)["text"] == files[:9]


@pytest.fixture
def open_files(monkeypatch):
    """The number of open files over time."""
    numbers, open_file = [0], reading.open_file

    @contextmanager
    def opened(path, token):
        numbers.append(numbers[-1] + 1)
        try:
            with open_file(path, token) as file:
                yield file
        finally:
            numbers.append(numbers[-1] - 1)

    monkeypatch.setattr(reading, "open_file", opened)
    return numbers


def test_documents_are_taken_from_the_files_in_turn(files, open_files):
    taken = stream().first_documents(max_documents=20)["text"]
    assert all("".join(sorted(text[0] for text in taken[start : start + 6])) == "abcdef" for start in (0, 6, 12))
    assert [text for text in taken if text[0] == "a"] == files[: sum(text[0] == "a" for text in taken)]
    assert max(open_files) == 6 and open_files[-1] == 0
    # Training that begins in another order is evaluated on the same text.
    validation = stream(side="validation").validation_documents(max_documents=20)["text"]
    assert stream(side="validation", order_seed=5).validation_documents(max_documents=20)["text"] == validation


def test_many_files_are_not_all_open(open_files, monkeypatch):
    documents = [f"{file} {row}" for file in range(70) for row in range(1 + file % 12)]
    for file in range(70):
        own = [text for text in documents if text.startswith(f"{file} ")]
        Path(f"{file}.jsonl").write_text(lines(own[0]) + "bad\n" + lines(*own[1:]) + "bad\n", encoding="utf-8")
    many = stream(*(f"{file}.jsonl" for file in range(70)), skip_bad_rows=True)
    taken = many.first_documents(max_documents=100)["text"]
    assert len({text.split()[0] for text in taken[:70]}) == 70 and len(taken) == 100
    many.bad_rows = 0
    assert sorted(many.first_documents()["text"]) == sorted(documents)
    assert many.bad_rows == 140
    assert max(open_files) == 1 and open_files[-1] == 0
    monkeypatch.setattr(streaming, "_OPEN_FILES", 70)
    assert sorted(many.first_documents()["text"]) == sorted(documents)
    assert max(open_files) == 70 and open_files[-1] == 0


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_documents_are_held_out_without_streaming(tmp_path, seed):
    for number, letter in enumerate("abc"):
        Path(f"{letter}.jsonl").write_text(lines(*(f"{letter} {row}" for row in range(50))), encoding="utf-8")
        Path(f"{letter}.txt").write_text(f"{letter}\r\n\u00e9\n\n{number}\n", encoding="utf-8", newline="")
    pq.write_table(pa.table({"text": ["a 1", *(f"d {row}" for row in range(50))]}), "d.parquet")
    Path("e.csv").write_text('text\n"e ""1"""\n' + "".join(f"e {row}\n" for row in range(50)), encoding="utf-8")
    names = sorted(path.name for path in Path().glob("*.*"))
    arguments = {"train_file": names, "validation_split_percentage": 20.0, "text_unit": "paragraph"}
    splits = read_documents(DataArguments(**arguments), seed, cache_dir=str(tmp_path / "cache")).splits
    one = open_stream(DataArguments(streaming=True, **arguments), seed, order_seed=3)
    assert sorted(one.validation_documents()["text"]) == sorted(splits["validation"]["text"])
    assert sorted(texts_of(one)) == sorted(splits["train"]["text"])
    assert 25 < len(splits["validation"]) < 65


def test_validation_text_of_its_own_or_held_out(files):
    sources = {"streaming": True, "train_file": ["a.jsonl", "c.parquet"]}
    there = [*files[:9], *files[18:27]]
    own = DataArguments(**sources, validation_file=["[b-b]*"], max_eval_samples=3)
    one = open_stream(own, seed=0)
    assert one.validation_documents()["text"] == files[9:12]
    assert texts_of(open_stream(own, seed=0, split="validation")) == files[9:18]
    assert Counter(texts_of(one)) == Counter(there)
    held_out = DataArguments(**sources, validation_split_percentage=40.0)
    one, other = open_stream(held_out, seed=0), open_stream(held_out, seed=0, split="validation")
    validation = one.validation_documents()["text"][:]
    assert validation and sorted(validation) == sorted(texts_of(other))
    assert texts_of(one) and Counter([*validation, *texts_of(one)]) == Counter(there)


def test_nothing_held_out(files):
    arguments = DataArguments(streaming=True, train_file=["a.jsonl"], validation_split_percentage=1e-6)
    with pytest.raises(ValueError, match=r"held out as validation text include no document of .*a\.jsonl: give"):
        open_stream(arguments, seed=0).validation_documents()
    Path("blank.txt").write_text(" \n", encoding="utf-8")
    arguments = DataArguments(streaming=True, train_file=["a.jsonl"], validation_file=["blank.txt"])
    for read in (open_stream(arguments, seed=0).validation_documents, stream("blank.txt").first_documents):
        with pytest.raises(ValueError, match=r"no documents in .*blank\.txt, only white space and 0 bad rows"):
            read()
    with pytest.raises(ValueError, match=r"only white space and text held out for validation \(99\.999 %\) and 0 bad"):
        stream("a.jsonl", percentage=99.999).first_documents()


# Bad rows


def bad_files():
    Path("a.jsonl").write_bytes(lines("a0").encode() + b'{"text": 5}\n' + lines("a1").encode() + b"\xff\n")
    Path("b.jsonl.gz").write_bytes(gzip.compress(lines(*"bcd").encode())[:-12])
    Path("c.parquet").write_bytes(b"plain")
    Path("d.csv").write_text("number,text\n1,d0\n2\n3,d1\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jsonl", r"a\.jsonl, line 2: 'text' must be text, got 5\. \(--skip_bad_rows skips"),
        ("b.jsonl.gz", r"b\.jsonl\.gz cannot be read.*: Compressed file ended[^(]*$"),
        ("d.csv", r"d\.csv, line 3: expected 2 cells, as in the header, got 1"),
    ],
)
def test_the_first_bad_row_is_an_error(name, message):
    bad_files()
    with pytest.raises(ValueError, match=message):
        list(stream(name).documents(0))


@pytest.mark.parametrize("consumers", [1, 2, 4, 7])
def test_bad_rows_are_left_out_and_counted_once(consumers, caplog):
    bad_files()
    streams = [stream(skip_bad_rows=True) for _ in range(consumers)]
    texts = [text for c, one in enumerate(streams) for _, text in one.documents(0, [0, 0], c, consumers)]
    assert sorted(text for text in texts if text not in "bcd") == ["a0", "a1", "d0", "d1"]
    assert sum(one.bad_rows for one in streams) == 5
    assert caplog.text.count("Left out a bad row: ") == 5
    assert "a.jsonl, line 4: this is not UTF-8 (byte 0xff)." in caplog.text
    Path("many.jsonl").write_text("bad\n" * 8 + lines("a"), encoding="utf-8")
    caplog.clear()
    one = stream("many.jsonl", skip_bad_rows=True)
    assert texts_of(one) == ["a"] and one.bad_rows == 8
    assert caplog.text.count("Left out a bad row: ") == 5 and caplog.text.count("Further bad rows") == 1


# Sources


def test_folder_of_data_files():
    Path("data").mkdir()
    for name, text in (("train-0", "a"), ("train-1", "b"), ("validation-0", "c")):
        Path(f"data/{name}.jsonl").write_text(lines(text), encoding="utf-8")
    one = open_stream(DataArguments(streaming=True, dataset_path="data"), seed=0)
    assert sorted(texts_of(one)) == ["a", "b"] and one.validation_documents()["text"] == ["c"]


def test_links_keep_their_names():
    Path("blob").write_text(lines("a"), encoding="utf-8")
    Path("a.jsonl").symlink_to("blob")
    arguments = DataArguments(streaming=True, train_file=["a.jsonl"], validation_file=["a.jsonl"])
    assert texts_of(open_stream(arguments, seed=0)) == ["a"]


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the Hub: what a dataset's files are, and a file system that serves them."""
    filesystem = fsspec.filesystem("memory")
    contents = lines("a").encode(), gzip.compress(lines("b", "c").encode())
    filesystem.pipe("/hub/train-0.jsonl", contents[0])
    filesystem.pipe("/hub/train-1.jsonl.gz", contents[1])
    filesystem.pipe("/hub/validation.jsonl", lines("d").encode())
    config = SimpleNamespace(
        data_files={
            "train": ["memory://hub/train-1.jsonl.gz", "memory://hub/train-0.jsonl"],
            "validation": ["memory://hub/validation.jsonl"],
        }
    )
    asked = []

    def load_dataset_builder(name, config_name, token):
        asked.append((name, config_name, token))
        return SimpleNamespace(config=config)

    monkeypatch.setattr(streaming, "load_dataset_builder", load_dataset_builder)
    return SimpleNamespace(config=config, asked=asked, filesystem=filesystem, contents=contents)


def test_dataset_of_the_hub(hub):
    arguments = DataArguments(streaming=True, dataset_name="someone/some-text", dataset_config_name="en")
    one = open_stream(arguments, seed=0, token="secret")
    assert hub.asked == [("someone/some-text", "en", "secret")] and "secret" not in repr(one)
    assert sorted(texts_of(one)) == ["a", "b", "c"]
    assert one.validation_documents()["text"] == ["d"]
    assert one.fingerprint() == open_stream(arguments, seed=0).fingerprint() != open_stream(arguments, 1).fingerprint()


@pytest.mark.parametrize(
    ("data_files", "message"),
    [
        ({"train": ["memory://hub/a.tar"]}, r"memory://hub/a\.tar has an unknown file type; allowed are \.txt"),
        ({"test": ["a.txt"], "validation": ["b.txt"]}, "someone/some-text has no split 'train', but test, validation"),
        (None, "does not consist of files of text"),
    ],
)
def test_datasets_of_the_hub_that_cannot_be_streamed(hub, data_files, message):
    hub.config.data_files = data_files
    with pytest.raises(ValueError, match=message):
        open_stream(DataArguments(streaming=True, dataset_name="someone/some-text"), seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"streaming": True}, "The embedded corpus is small and cannot be streamed: leave --streaming out"),
        ({}, "The embedded corpus cannot be streamed"),
        (
            {"streaming": True, "train_file": ["a.jsonl"], "max_train_samples": 5},
            "--max_train_samples is not supported with --streaming",
        ),
        ({"train_file": ["nowhere.txt"]}, "nowhere.txt: there is no such file"),
        ({"train_file": ["a.pdf"]}, "a.pdf has an unknown file type"),
        ({"dataset_path": "nowhere"}, "--dataset_path nowhere is not a directory"),
        ({"dataset_path": "saved"}, "--dataset_path saved was written by save_to_disk.*Leave --streaming out"),
    ],
)
def test_sources_that_cannot_be_streamed(arguments, message):
    Dataset.from_dict({"text": ["a"]}).save_to_disk("saved")
    Path("a.pdf").write_text("text", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        open_stream(DataArguments(**arguments), seed=0)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ((0, [0]), r"A position in a stream is \[file, row\], two numbers from 0, got \[0\]"),
        ((0, [0, -1]), "two numbers from 0"),
        ((0, [0, 1.0]), "two numbers from 0"),
        ((0, [0, 0], 2, 2), "Consumers are numbered from 0 to 1, got 2"),
    ],
)
def test_bad_positions_and_consumers_are_refused(files, request_, message):
    with pytest.raises(ValueError, match=message):
        stream().documents(*request_)


def test_unknown_split():
    with pytest.raises(ValueError, match="got 'test'"):
        open_stream(DataArguments(train_file=["a.jsonl"]), seed=0, split="test")
    with pytest.raises(ValueError, match="no validation documents"):
        DocumentStream(("a.jsonl",)).validation_documents()


# Fingerprints


def test_fingerprint_tells_what_changed(files):
    arguments = {"train_file": ["a.jsonl", "c.parquet"], "streaming": True}

    def fingerprint(seed=0, **changes):
        return open_stream(DataArguments(**arguments | changes), seed=seed).fingerprint()

    changes = [
        {"seed": 1},
        {"text_column": "body"},
        {"text_unit": "line"},
        {"validation_split_percentage": 6.0},
        {"train_file": ["a.jsonl"]},
        {"validation_file": ["e.txt"]},
        {"validation_file": ["f.json"]},
    ]
    first = fingerprint()
    assert first == fingerprint(skip_bad_rows=True)
    assert len({first, *(fingerprint(**change) for change in changes)}) == len(changes) + 1
    with Path("a.jsonl").open("a") as file:
        file.write("\n")
    assert fingerprint() != first


def test_fingerprint_stays_when_the_folder_moves(files):
    Path("before").mkdir()
    for name in ("a.jsonl", "c.parquet"):
        Path(name).rename(f"before/{name}")
    first = open_stream(DataArguments(train_file=["before"]), seed=0).fingerprint()
    Path("before").rename("afterwards")
    assert open_stream(DataArguments(train_file=["afterwards"]), seed=0).fingerprint() == first


def test_contents_fingerprint_tells_another_text_of_the_same_size(files):
    def contents(**arguments):
        given = {"train_file": ["a.jsonl", "c.parquet"], "streaming": True} | arguments
        return open_stream(DataArguments(**given), seed=0).contents_fingerprint()

    first, with_validation = contents(), contents(validation_file=["e.txt"])
    assert len({first, with_validation, contents(train_file=["a.jsonl"])}) == 3
    assert contents(text_column="body") == first
    for name in ("a.jsonl", "e.txt"):
        state, content = os.stat(name), bytearray(Path(name).read_bytes())
        content[-4] ^= 1
        Path(name).write_bytes(content)
        os.utime(name, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert first != contents() and with_validation != contents(validation_file=["e.txt"])
