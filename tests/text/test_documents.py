"""Documents from files: what comes in whole, what is refused, what is held out."""

import gzip
import json
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Value, concatenate_datasets

from modeling_gau.text import documents as reading
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.documents import (
    find_files,
    is_held_out,
    read_documents,
    split_documents,
)
from modeling_gau.text.files import Row
from modeling_gau.text.fingerprints import digest, documents_fingerprint, file_fingerprint


@pytest.fixture
def read(folder, tmp_path_factory):
    """Runs read_documents in a folder of its own, with its own cache."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return lambda **arguments: read_documents(DataArguments(**arguments), seed=0, cache_dir=cache)


@pytest.fixture
def load(read):
    return lambda **arguments: read(**arguments).splits


def jsonl(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes | bytearray) else content.encode("utf-8"))


GOOD = '{"text": "good"}\n'


def texts(dataset):
    return sorted(dataset["text"])


# Loading


def test_text_files_are_whole_documents(story, load):
    contents = {f"{number}.txt": f"{story(number)}\n\nSecond paragraph, caf\u00e9.\n" for number in range(3)}
    for name, text in contents.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("held_out.txt").write_text("\ufeffValidation.\r\nText", encoding="utf-8", newline="")
    splits = load(train_file=["[0-9].txt"], validation_file=["held_out.txt"])
    assert list(splits) == ["train", "validation"] and splits["train"].column_names == ["text"]
    assert splits["train"]["text"] == list(contents.values())
    assert splits["validation"]["text"] == ["Validation.\nText"]


@pytest.mark.parametrize(("unit", "expected"), [("paragraph", ["a\nb", "c"]), ("line", ["a", "b", "c"])])
def test_text_units(load, unit, expected):
    Path("a.txt").write_text("a\nb\n\nc", encoding="utf-8")
    Path("b.txt").write_text("d", encoding="utf-8")
    assert load(train_file=["a.txt"], validation_file=["b.txt"], text_unit=unit)["train"]["text"] == expected


def test_rows_of_tables_are_documents(story, load):
    rows = [{"id": number, "body": story(number), "extra": None} for number in range(3)]
    jsonl("a.jsonl", rows[:1])
    Path("b.json").write_text(json.dumps(rows[1:2]), encoding="utf-8")
    Dataset.from_list(rows[2:]).to_parquet("c.parquet")
    Path("d.csv").write_text('body,other\n"with ""quotes"",\nand a line",1\nNA,2\n', encoding="utf-8")
    Path("e.tsv").write_text('body\tother\n"l ""eft"""\tright\n', encoding="utf-8")
    with gzip.open("f.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(json.dumps({"body": "zipped"}) + "\n")
    Path("g.txt").write_text("plain", encoding="utf-8")
    jsonl("validation.jsonl", [{"body": "held out"}])
    names = ["a.jsonl", "b.json", "c.parquet", "d.csv", "e.tsv", "f.jsonl.gz", "g.txt"]
    splits = load(train_file=names, validation_file=["validation.jsonl"], text_column="body")
    expected = [row["body"] for row in rows] + ['with "quotes",\nand a line', "NA", 'l "eft"', "zipped", "plain"]
    assert texts(splits["train"]) == sorted(expected)
    assert splits["validation"]["text"] == ["held out"]


def test_directories_are_searched_in_depth(load):
    for name in ("b/c/2.txt", "b/1.txt", "b/.hidden/3.txt", "b/notes.md", "b/[4].txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"text of {name}", encoding="utf-8")
    assert find_files(["b"]) == [Path("b/1.txt"), Path("b/[4].txt"), Path("b/c/2.txt")]
    assert find_files(["b/**/*.txt", "b/1.txt"]) == [Path("b/1.txt"), Path("b/[4].txt"), Path("b/c/2.txt")]
    splits = load(train_file=["b"], validation_file=["b/[4].txt"])
    assert splits["train"]["text"] == ["text of b/1.txt", "text of b/[4].txt", "text of b/c/2.txt"]
    assert splits["validation"]["text"] == ["text of b/[4].txt"]


def test_dataset_path(load, stories):
    validation = Dataset.from_dict({"text": ["held out"], "other": [1]})
    DatasetDict({"train": stories, "validation": validation, "test": validation}).save_to_disk("saved")
    stories.save_to_disk("alone")
    Path("files").mkdir()
    jsonl("files/train-00000.jsonl", [{"text": "a"}])
    jsonl("files/train-00001.jsonl", [{"text": "b"}])
    jsonl("files/validation.jsonl", [{"text": "c"}])
    splits = load(dataset_path="saved")
    assert splits["train"]["text"] == stories["text"] and splits["validation"]["text"] == ["held out"]
    alone = load(dataset_path="alone")
    assert texts(alone["train"]) + texts(alone["validation"]) != texts(stories)
    assert sorted(texts(alone["train"]) + texts(alone["validation"])) == texts(stories)
    splits = load(dataset_path="files")
    assert (splits["train"]["text"], splits["validation"]["text"]) == (["a", "b"], ["c"])


def test_limits_and_blank_documents(load):
    jsonl("a.jsonl", [{"text": text} for text in ("a", " \n\t\u3000", "", "b", "c")])
    jsonl("b.jsonl", [{"text": text} for text in ("x", "y", "z")])
    splits = load(train_file=["a.jsonl"], validation_file=["b.jsonl"], max_train_samples=2, max_eval_samples=1)
    assert (splits["train"]["text"], splits["validation"]["text"]) == (["a", "b"], ["x"])
    splits = load(train_file=["a.jsonl"], validation_file=["b.jsonl"], max_train_samples=99)
    assert splits["train"]["text"] == ["a", "b", "c"]


def test_changed_files_are_read_again(load):
    for text in ("before", "afterwards"):
        jsonl("a.jsonl", [{"text": text}])
        assert load(train_file=["a.jsonl"], validation_file=["a.jsonl"])["train"]["text"] == [text]


def test_embedded_corpus_is_read_once(story, load, monkeypatch):
    reads = []

    def embedded_documents():
        reads.append(1)
        return [{"id": f"module/{number}", "text": story(number)} for number in range(60)]

    monkeypatch.setattr(reading, "embedded_documents", embedded_documents)
    first, second = load(), load()
    assert len(reads) == 1 and first["train"]["text"] == second["train"]["text"]
    assert sorted([*first["train"]["text"], *first["validation"]["text"]]) == sorted(map(story, range(60)))
    held_out = [story(number) for number in range(60) if is_held_out(f"module/{number}", 5.0, 0)]
    assert first["validation"]["text"] == held_out and held_out
    assert first["train"].column_names == ["text"]
    load(overwrite_cache=True)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.pdf", "text", "a.pdf has an unknown file type; allowed are .txt"),
        ("a.jsonl", GOOD * 2 + '{"text": null}\n' + GOOD, "a.jsonl, line 3: 'text' must be text, got None"),
        ("a.csv", "text,id\na,1\nb\n", "a.csv, line 3: expected 2 cells, as in the header, got 1"),
        ("a.csv", "body,id\na,1\n", "'text', but body, id"),
        ("a.txt.gz", gzip.compress(b"some text " * 99, mtime=0)[:-20], "a.txt.gz cannot be read: "),
        ("a.parquet", b"plain", "a.parquet cannot be read"),
    ],
)
def test_bad_files(load, name, content, message):
    """What is wrong with rows is tried with the parser; here, that it reaches the user."""
    write(name, content)
    write("good.txt", "validation")
    with pytest.raises(ValueError) as error:
        load(train_file=["good.txt", name], validation_file=["good.txt"])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_file": ["no.txt"]}, "no.txt: there is no such file"),
        ({"train_file": ["*.jsonl"]}, "*.jsonl: there is no such file"),
        ({"train_file": ["empty"]}, "empty: there is no .txt"),
        ({"dataset_path": "empty"}, "empty: there is no .txt"),
        ({"dataset_path": "nowhere"}, "--dataset_path nowhere is not a directory"),
        ({"dataset_path": "tested"}, "has no split 'train', but"),
    ],
)
def test_missing_sources(load, arguments, message):
    Path("empty").mkdir()
    one = Dataset.from_dict({"text": ["a"]})
    DatasetDict({"test": one, "validation": one}).save_to_disk("tested")
    with pytest.raises(ValueError) as error:
        load(**arguments)
    assert message in str(error.value)


def test_saved_dataset_with_nulls(load):
    Dataset.from_dict({"text": ["a", "b", None]}).save_to_disk("saved")
    with pytest.raises(ValueError, match=r"saved.*, train data: row 3 has no text \(null\)\. \(--skip_bad"):
        load(dataset_path="saved")


# Bad rows


def write_mixed_files():
    """Good and bad rows of every kind: documents a to j and 9 bad rows."""
    write("a.jsonl", GOOD.replace("good", "a") + "{\n" + '{"text": 5}\n' + GOOD.replace("good", "b"))
    write("b.jsonl", b'{"text": "c"}\n{"text": "\xff"}\n')
    rows = "".join(json.dumps({"text": letter * 40}) + "\n" for letter in "de")
    write("c.jsonl.gz", gzip.compress(rows.encode(), mtime=0)[:-8])
    write("d.csv", "text,id\nf,1\n1,2,3\ng,4\n")
    write("e.txt", "h")
    write("f.txt", b"\xff")
    write("g.txt", b"")
    Dataset.from_dict({"text": ["i", None, "j"]}).to_parquet("h.parquet")
    write("i.parquet", b"plain")
    return ["a", "b", "c", "d" * 40, "e" * 40, "f", "g", "h", "i", "j"]


def test_bad_rows_are_left_out_and_counted(read, caplog, monkeypatch):
    expected = write_mixed_files()
    Path("validation").mkdir()
    write("validation/a.jsonl", GOOD + "bad\n")
    for _ in range(2):
        documents = read(skip_bad_rows=True, train_file=["*.*"], validation_file=["validation"])
        assert documents.splits["train"].column_names == ["text"]
        assert documents.splits["train"]["text"][:] == expected
        assert documents.splits["validation"]["text"][:] == ["good"]
        assert documents.bad_rows == {"train": 9, "validation": 1}
        assert "Left out 9 bad rows of the train data:" in caplog.text and "  and 4 more." in caplog.text
        assert "a.jsonl, line 2: this is not JSON" in caplog.text
        assert "validation/a.jsonl, line 2: this is not JSON" in caplog.text
        caplog.clear()
        # The second time from the cache.
        monkeypatch.setattr(reading, "read_files", None)


def test_cached_rows_are_read_again(read, monkeypatch):
    write("a.jsonl", GOOD + "bad\n")
    read(skip_bad_rows=True, train_file=["a.jsonl"], validation_file=["a.jsonl"])
    with pytest.raises(ValueError, match=r"line 1: no column 'body', but text"):
        read(skip_bad_rows=True, train_file=["a.jsonl"], text_column="body")
    write("a.jsonl", GOOD + "bad\n" * 2)
    documents = read(skip_bad_rows=True, train_file=["a.jsonl"], validation_file=["a.jsonl"])
    assert documents.bad_rows == {"train": 2, "validation": 2}
    monkeypatch.setattr(reading, "read_files", lambda *arguments: iter([(0, Row(0, "other", None))]))
    documents = read(skip_bad_rows=True, train_file=["a.jsonl"], validation_file=["a.jsonl"], overwrite_cache=True)
    assert documents.splits["train"]["text"][:] == ["other"]


def test_content_decides_what_is_read_again(read):
    """Not the time of change: `cp -p`, an archive or a clock set back give other text the time of the old one."""

    def text_of(content: str, time: int, name: str = "a.jsonl") -> str:
        jsonl(name, [{"text": content}])
        os.utime(name, (time, time))
        return read(train_file=["a.jsonl"], validation_file=["b.jsonl"]).splits

    jsonl("b.jsonl", [{"text": "valid"}])
    assert text_of("first", 10**9)["train"]["text"][:] == ["first"]
    cached = text_of("other", 10**9)["train"]
    assert cached["text"][:] == ["other"]
    assert text_of("other", 10**9 + 1)["train"].cache_files == cached.cache_files
    os.utime("b.jsonl", (10**9, 10**9))
    assert text_of("valid", 10**9, "b.jsonl")["validation"]["text"][:] == ["valid"]
    assert text_of("voila", 10**9, "b.jsonl")["validation"]["text"][:] == ["voila"]


def test_fingerprint_of_a_file_is_of_its_size_and_content(folder):
    rng = np.random.default_rng(0)
    for size, limit in ((0, 64), (1, 64), (63, 64), (64, 64), (65, 64), (1000, 64), (1001, 256), (10**5, 1600)):
        content = bytearray(rng.bytes(size))
        write("file", content)
        first = file_fingerprint("file", limit)
        os.utime("file", (10**9, 10**9))
        assert file_fingerprint("file", limit) == first
        seen = []
        for place in range(0, size, max(1, size // 1000)):
            content[place] ^= 1
            write("file", content)
            seen.append(file_fingerprint("file", limit) != first)
            content[place] ^= 1
        assert all(seen) or (size > limit and seen[0] and 0.9 * limit / size < sum(seen) / len(seen))
        write("file", content + b"x")
        assert file_fingerprint("file", limit) != first
        if size:
            content[-1] ^= 1  # the last block ends with the file
            write("file", content)
            assert file_fingerprint("file", limit) != first


def test_a_large_file_is_read_again_when_it_changes_between_the_blocks(read, monkeypatch):
    monkeypatch.setattr(reading, "READ_WHOLE", 10)
    monkeypatch.setattr(reading, "file_fingerprint", lambda path: "the same")
    jsonl("a.jsonl", [{"text": "first text"}, {"text": "more"}])
    jsonl("b.jsonl", [{"text": "valid text"}])
    options = {"train_file": ["a.jsonl"], "validation_file": ["b.jsonl"]}
    assert read(**options).splits["train"]["text"][:] == ["first text", "more"]
    jsonl("a.jsonl", [{"text": "other text"}, {"text": "more"}])
    assert read(**options).splits["train"]["text"][:] == ["other text", "more"]


@contextmanager
def small_disk(size: int):
    """Files end at `size` bytes; a disk that is full says ENOSPC instead of EFBIG."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_cache_is_not_taken_for_text_that_cannot_be_read(read, story):
    jsonl("a.jsonl", [{"text": story(number, 1000)} for number in range(40)])
    refused = pytest.raises(ValueError, match=r"The cache of the text in .* cannot be written: .*--cache_dir")
    with small_disk(50_000), refused:
        read(train_file=["a.jsonl"])
    assert len(read(train_file=["a.jsonl"]).splits["train"]) > 30


def test_bad_rows_and_held_out_documents(story, read):
    jsonl("a.jsonl", [{"text": story(number)} for number in range(40)])
    with Path("a.jsonl").open("a", encoding="utf-8") as file:
        file.write("bad\n" * 3)
    documents = read(skip_bad_rows=True, train_file=["a.jsonl"], preprocessing_num_workers=2)
    assert documents.bad_rows == {"train": 3}
    held_out = [story(number) for number in range(40) if is_held_out(story(number), 5.0, 0)]
    assert documents.splits["validation"]["text"] == held_out and held_out
    assert len(documents.splits["train"]) == 40 - len(held_out)


def test_rows_without_text_in_saved_datasets(read):
    Dataset.from_dict({"body": ["a", None, "b", None]}).save_to_disk("saved")
    jsonl("b.jsonl", [{"body": "c"}])
    documents = read(skip_bad_rows=True, dataset_path="saved", text_column="body", validation_file=["b.jsonl"])
    assert documents.splits["train"]["text"][:] == ["a", "b"]
    assert documents.bad_rows == {"train": 2, "validation": 0}


def test_nothing_but_bad_rows(read):
    write("a.jsonl", "bad\n" * 3 + '{"text": " "}\n')
    with pytest.raises(
        ValueError, match=r"but white space beside 3 bad rows in .* first bad row: .*a\.jsonl, line 1: this"
    ):
        read(skip_bad_rows=True, train_file=["a.jsonl"])
    for name, content in (("b.csv", "text,id\n"), ("b.txt", " \n\t")):
        write(name, content)
        with pytest.raises(ValueError, match=f"no documents: there is nothing but white space in {name}"):
            read(skip_bad_rows=True, train_file=[name])


def test_processes_read_in_order(load):
    names = [f"{number}.jsonl" for number in range(4)]
    for name in names:
        jsonl(name, [{"text": f"{name} {row}"} for row in range(3)])
    documents = load(train_file=names, validation_file=names[:1], preprocessing_num_workers=2)
    assert documents["train"]["text"][:] == [f"{name} {row}" for name in names for row in range(3)]


# Fingerprints


def test_fingerprint_is_of_the_texts_alone(story):
    texts = [story(number, 5) for number in range(3000)] + ["", "caf\u00e9"]
    dataset = Dataset.from_dict({"text": texts})
    first = documents_fingerprint(dataset)
    assert documents_fingerprint(dataset.select([*range(5, len(texts)), *range(5)])) != first
    halves = [
        dataset.select(range(10, len(texts))),
        dataset.select(range(10)).cast_column("text", Value("large_string")),
    ]
    halves[0] = halves[0].cast_column("text", Value("large_string"))
    assert documents_fingerprint(concatenate_datasets(halves[::-1])) == first
    assert documents_fingerprint(dataset.select([*range(len(texts))])) == first
    changes = [texts[:-1], [*texts, ""], [*texts[:-2], texts[-2] + "c", texts[-1][1:]], []]
    assert len({first, *(documents_fingerprint(Dataset.from_dict({"text": rows})) for rows in changes)}) == 5


# Splitting


def test_split_keeps_equal_texts_together_and_order_does_not_matter(story):
    rows = [story(number // 2) for number in range(80)]
    splits = split_documents(Dataset.from_dict({"text": rows}), 10.0, seed=0)
    assert splits["validation"]["text"] == [row for row in rows if is_held_out(row, 10.0, 0)]
    assert len(splits["validation"]) == 2 * len(set(splits["validation"]["text"])) > 0
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])
    assert texts(splits["train"]) + texts(splits["validation"]) != rows
    assert sorted([*splits["train"]["text"], *splits["validation"]["text"]]) == sorted(rows)
    reordered = split_documents(Dataset.from_dict({"text": rows[::-1]}), 10.0, seed=0)
    assert texts(reordered["validation"]) == texts(splits["validation"])
    other = split_documents(Dataset.from_dict({"text": rows}), 10.0, seed=1)
    assert texts(other["validation"]) != texts(splits["validation"])


@pytest.mark.parametrize("percentage", [0.5, 5.0, 50.0])
def test_the_share_that_is_held_out(percentage):
    number = 20_000
    held_out = sum(is_held_out(str(content), percentage, 3) for content in range(number))
    deviation = (number * percentage / 100 * (1 - percentage / 100)) ** 0.5
    assert abs(held_out - number * percentage / 100) < 3 * deviation
    assert not any(is_held_out(str(content), 0.0, 3) for content in range(99))
    assert all(is_held_out(str(content), 100.0, 3) for content in range(99))
    # More is held out in addition, so that a larger share leaves no validation text to training.
    assert all(is_held_out(str(n), 60.0, 3) for n in range(2000) if is_held_out(str(n), percentage, 3))


def test_all_documents_by_chance_are_cut_too(story):
    rows = [text for text in map(story, range(40)) if is_held_out(text, 50.0, 0)][:2]
    splits = split_documents(Dataset.from_dict({"text": rows}), 50.0, seed=0)
    assert [a + b for a, b in zip(splits["train"]["text"], splits["validation"]["text"], strict=True)] == rows
    assert all(splits["train"]["text"])


def test_few_documents_are_cut_at_white_space(story):
    rows = [story(0, 400), story(1, 200)]
    splits = split_documents(Dataset.from_dict({"text": rows}), 5.0, seed=0)
    for row, head, tail in zip(rows, splits["train"]["text"], splits["validation"]["text"], strict=True):
        assert head + tail == row and tail.startswith(" ")
        assert 0.03 < len(tail) / len(row) < 0.06


def test_too_little_text_to_hold_out():
    with pytest.raises(ValueError, match=r"too short to hold out 5\.0 %"):
        split_documents(Dataset.from_dict({"text": ["word"]}), 5.0, seed=0)


def test_holding_out_is_independent_of_the_cap_of_the_embedded_corpus():
    # That one takes the modules with the lowest digest.
    names = sorted((f"module {number}" for number in range(4000)), key=digest)[:2000]
    assert 60 < sum(is_held_out(name, 5, seed=0) for name in names) < 140
