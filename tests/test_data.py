"""Documents from files to masked rows: what comes in whole, what is refused, what every length is asked."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer, DataCollatorForLanguageModeling
from transformers.trainer_utils import set_seed

from modeling_gau import data
from modeling_gau.arguments import DataArguments
from modeling_gau.data import (
    find_files,
    load_documents,
    make_blocks,
    make_length_evaluations,
    mask_stream,
    most_frequent_token_accuracy,
    split_documents,
    tokenize_stream,
    train_tokenizer,
)


WORDS = "the old sea captain saw a white whale near his small boat and called every sailor to look at it".split()


def story(number, length=60):
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(WORDS, length)).capitalize() + f" ({number})."


@pytest.fixture(scope="session")
def documents():
    return Dataset.from_dict({"text": [story(number) for number in range(60)]})


@pytest.fixture(scope="session")
def tokenizer(documents):
    return train_tokenizer(documents, "wordpiece", 300)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Runs load_documents in a folder of its own, with its own cache."""
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def load(**arguments):
        return load_documents(DataArguments(**arguments), seed=0, cache_dir=str(tmp_path / "cache"))

    return load


def jsonl(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def texts(dataset):
    return sorted(dataset["text"])


# Loading


def test_text_files_are_whole_documents(load):
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


def test_rows_of_tables_are_documents(load):
    rows = [{"id": number, "body": story(number), "extra": None} for number in range(3)]
    jsonl("a.jsonl", rows[:1])
    Path("b.json").write_text(json.dumps(rows[1:2]), encoding="utf-8")
    Dataset.from_list(rows[2:]).to_parquet("c.parquet")
    Path("d.csv").write_text('body,other\n"with ""quotes"",\nand a line",1\nNA,2\n', encoding="utf-8")
    Path("e.tsv").write_text("body\tother\nleft\tright\n", encoding="utf-8")
    with gzip.open("f.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(json.dumps({"body": "zipped"}) + "\n")
    Path("g.txt").write_text("plain", encoding="utf-8")
    jsonl("validation.jsonl", [{"body": "held out"}])
    names = ["a.jsonl", "b.json", "c.parquet", "d.csv", "e.tsv", "f.jsonl.gz", "g.txt"]
    splits = load(train_file=names, validation_file=["validation.jsonl"], text_column="body")
    expected = [row["body"] for row in rows] + ['with "quotes",\nand a line', "NA", "left", "zipped", "plain"]
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


def test_dataset_path(load, documents):
    validation = Dataset.from_dict({"text": ["held out"], "other": [1]})
    DatasetDict({"train": documents, "validation": validation, "test": validation}).save_to_disk("saved")
    documents.save_to_disk("alone")
    Path("files").mkdir()
    jsonl("files/train-00000.jsonl", [{"text": "a"}])
    jsonl("files/train-00001.jsonl", [{"text": "b"}])
    jsonl("files/validation.jsonl", [{"text": "c"}])
    splits = load(dataset_path="saved")
    assert splits["train"]["text"] == documents["text"] and splits["validation"]["text"] == ["held out"]
    alone = load(dataset_path="alone")
    assert texts(alone["train"]) + texts(alone["validation"]) != texts(documents)
    assert sorted(texts(alone["train"]) + texts(alone["validation"])) == texts(documents)
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


def test_overlap_is_reported(load, caplog):
    jsonl("a.jsonl", [{"text": text} for text in "abc"])
    jsonl("b.jsonl", [{"text": text} for text in "cd"])
    data.logger.addHandler(caplog.handler)
    load(train_file=["a.jsonl"], validation_file=["b.jsonl"])
    data.logger.removeHandler(caplog.handler)
    assert "1 of the 2 validation documents are training documents too" in caplog.text


def test_embedded_corpus_is_read_once(load, monkeypatch):
    reads = []

    def embedded_documents():
        reads.append(1)
        return [{"id": f"module/{number}", "text": story(number)} for number in range(60)]

    monkeypatch.setattr(data, "embedded_documents", embedded_documents)
    first, second = load(), load()
    assert len(reads) == 1 and first["train"]["text"] == second["train"]["text"]
    assert (len(first["train"]), len(first["validation"])) == (57, 3)
    assert first["train"].column_names == ["text"]
    load(overwrite_cache=True)
    assert len(reads) == 2


def write(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


GOOD = '{"text": "good"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", "caf\u00e9 cr\u00e8me".encode("latin-1"), "a.txt is not UTF-8: byte 0xe9 at offset 3"),
        ("a.txt", b"ab\xc3", "a.txt is not UTF-8: byte 0xc3 at offset 2"),
        ("a.jsonl", b'{"text": "a\xff"}\n', "a.jsonl is not UTF-8: byte 0xff at offset 11"),
        ("a.txt", " \n\t", "no documents: there is nothing but white space in a.txt"),
        ("a.pdf", "text", "a.pdf is of an unknown kind; allowed are .txt"),
        ("a.jsonl", GOOD * 2 + '{"text": \n' + GOOD, "a.jsonl, line 3: this is not JSON"),
        ("a.json", '[{"text": "a"},\n {"text" "b"}]', "a.json, line 2: this is not JSON"),
        ("a.jsonl", '{"body": "a", "id": 1}\n', "'text', but body, id; choose one with --text_column"),
        ("a.jsonl", GOOD * 2 + '{"text": null}\n', "a.jsonl, line 3: 'text' must be text, got None"),
        ("a.jsonl", GOOD + '{"text": 5}\n', "a.jsonl, line 2: 'text' must be text, got 5"),
        ("a.jsonl", '{"text": 4}\n{"text": 5}\n', "a.jsonl, line 1: 'text' must be text, got 4"),
        ("a.jsonl", GOOD + '{"id": 3}\n', "a.jsonl, line 2: no 'text', but id"),
        ("a.jsonl", GOOD + '["text"]\n', "a.jsonl, line 2: expected an object with the key 'text', got ['text']"),
        ("a.json", '[{"text": "a"}, {"text": ["b"]}]', "a.json, row 2: 'text' must be text, got ['b']"),
        ("a.csv", "text,id\na,1\nb,2,3\n", "a.csv cannot be read"),
        ("a.csv", "body,id\na,1\n", "'text', but body, id"),
        ("a.csv", "text\n5\n", "a.csv, row 1: 'text' must be text, got 5"),
        ("a.txt.gz", gzip.compress(b"some text " * 99, mtime=0)[:-20], "a.txt.gz is not a whole gzip file"),
        ("a.txt.gz", b"plain", "a.txt.gz is not a whole gzip file"),
        ("a.parquet", b"plain", "a.parquet cannot be read"),
    ],
)
def test_bad_files(load, name, content, message):
    write(name, content)
    write("good.txt", "validation")
    with pytest.raises(ValueError) as error:
        load(train_file=[name], validation_file=["good.txt"])
    assert message in str(error.value)


def test_the_bad_file_of_several_is_named(load):
    jsonl("a.jsonl", [{"text": "a"}] * 3)
    jsonl("b.jsonl", [{"text": "b"}, {"text": None}])
    with pytest.raises(ValueError, match=r"b\.jsonl, line 2: 'text' must be text, got None"):
        load(train_file=["a.jsonl", "b.jsonl"])


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
    with pytest.raises(ValueError, match="'text' of saved is null in row 3"):
        load(dataset_path="saved")


# Splitting


def test_split_keeps_equal_texts_together_and_order_does_not_matter():
    rows = [story(number // 2) for number in range(80)]
    splits = split_documents(Dataset.from_dict({"text": rows}), 10.0, seed=0)
    assert len(set(splits["validation"]["text"])) == 4 and len(splits["validation"]) == 8
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])
    assert texts(splits["train"]) + texts(splits["validation"]) != rows
    assert sorted([*splits["train"]["text"], *splits["validation"]["text"]]) == sorted(rows)
    reordered = split_documents(Dataset.from_dict({"text": rows[::-1]}), 10.0, seed=0)
    assert texts(reordered["validation"]) == texts(splits["validation"])
    other = split_documents(Dataset.from_dict({"text": rows}), 10.0, seed=1)
    assert texts(other["validation"]) != texts(splits["validation"])


def test_few_documents_are_cut_at_white_space():
    rows = [story(0, 400), story(1, 200)]
    splits = split_documents(Dataset.from_dict({"text": rows}), 5.0, seed=0)
    for row, head, tail in zip(rows, splits["train"]["text"], splits["validation"]["text"], strict=True):
        assert head + tail == row and tail.startswith(" ")
        assert 0.03 < len(tail) / len(row) < 0.06


def test_too_little_text_to_hold_out():
    with pytest.raises(ValueError, match=r"too short to hold out 5\.0 %"):
        split_documents(Dataset.from_dict({"text": ["word"]}), 5.0, seed=0)


# Tokenizers


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_trained_tokenizer(documents, kind, tmp_path):
    tokenizer = train_tokenizer(documents, kind, 300)
    assert [tokenizer.convert_tokens_to_ids(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [
        *range(5)
    ]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]
    assert len(tokenizer) <= 300
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("white whale", "sea"))
    pair = tokenizer("white whale", "sea")
    assert dict(pair) == {
        "input_ids": [2, *a, 3, *b, 3],
        "token_type_ids": [0] * (len(a) + 2) + [1] * (len(b) + 1),
        "attention_mask": [1] * (len(a) + len(b) + 3),
    }
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = story(3) + " [MASK] \u6f22 caf\u00e9"
    assert dict(loaded(text)) == dict(tokenizer(text)) and len(loaded) == len(tokenizer)
    assert 4 in loaded(text)["input_ids"]
    assert loaded.model_input_names == ["input_ids", "token_type_ids", "attention_mask"]


def test_bpe_is_lossless(documents):
    tokenizer = train_tokenizer(documents, "bpe", 300)
    for text in ("  two  spaces\n\n\ttab ", "caf\u00e9 \u6f22\u5b57 \U0001f40b \x00\x07", "don't stop, 1.5 % -- [CLS"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert 1 not in ids and tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_a_mask_takes_the_place_of_one_token(documents, kind, tmp_path):
    train_tokenizer(documents, kind, 500).save_pretrained(tmp_path)
    for tokenizer in (train_tokenizer(documents, kind, 500), AutoTokenizer.from_pretrained(tmp_path)):
        whole = tokenizer("old small boat near")["input_ids"]
        masked = tokenizer("old small [MASK] near")["input_ids"]
        assert len(whole) == 6 and masked == [*whole[:3], tokenizer.mask_token_id, *whole[4:]]


def test_lowercase(documents):
    for kind in ("wordpiece", "bpe"):
        lower, cased = (train_tokenizer(documents, kind, 300, lowercase) for lowercase in (True, False))
        assert lower("The SEA")["input_ids"] == lower("the sea")["input_ids"]
        assert cased("The SEA")["input_ids"] != cased("the sea")["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_training_a_tokenizer_twice_gives_the_same(kind):
    rows = Path(data.__file__).read_text(encoding="utf-8").splitlines()
    rows = Dataset.from_dict({"text": [row for row in rows if row]})
    files = {train_tokenizer(rows, kind, 500).backend_tokenizer.to_str() for _ in range(3)}
    assert len(files) == 1


def test_chinese_characters_do_not_fill_the_vocabulary():
    characters = [chr(0x4E00 + number) for number in range(400)]
    common = "".join(characters[:20])
    rows = ["".join(characters), *[f"{common} whale whale whales sea seas" for _ in range(50)]]
    tokenizer = train_tokenizer(Dataset.from_dict({"text": rows}), "wordpiece", 100)
    vocabulary = tokenizer.get_vocab()
    assert set(characters[:20]) <= set(vocabulary) and sum(name in vocabulary for name in characters) < 50
    assert not any(f"##{name}" in vocabulary for name in characters)
    assert "whales" in vocabulary


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("unigram", 300, "Unknown tokenizer type 'unigram': choose wordpiece or bpe"),
        ("bpe", 260, "--vocab_size of at least 261, got 260"),
        ("wordpiece", 20, "--vocab_size of at least 64, got 20"),
    ],
)
def test_tokenizers_that_cannot_be(documents, kind, size, message):
    with pytest.raises(ValueError) as error:
        train_tokenizer(documents, kind, size)
    assert message in str(error.value)


# The stream


def test_stream_is_all_documents_joined_by_separators(documents, tokenizer):
    stream = tokenize_stream(documents, tokenizer)
    expected = []
    for text in documents["text"]:
        expected += [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
    assert stream.dtype == np.int32 and stream.tolist() == expected[:-1]


def test_special_words_of_the_text_stay_words(tokenizer):
    stream = tokenize_stream(Dataset.from_dict({"text": ["a [MASK] whale [SEP] [PAD]", "sea"]}), tokenizer)
    assert (stream == tokenizer.sep_token_id).sum() == 1
    assert tokenizer.mask_token_id not in stream and tokenizer.pad_token_id not in stream
    # and the tokenizer itself still knows them
    assert tokenizer("[MASK]")["input_ids"][1] == tokenizer.mask_token_id


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_long_documents_in_pieces_give_the_same_tokens(documents, kind, monkeypatch):
    tokenizer = train_tokenizer(documents, kind, 300)
    long = "\n\n".join(f"  {text}\n\t{text} " for text in documents["text"])
    rows = Dataset.from_dict({"text": [long, "a whale", long[5:]]})
    whole = tokenize_stream(rows, tokenizer)
    monkeypatch.setattr(data, "_PIECE_CHARACTERS", 50)
    monkeypatch.setattr(data, "_BATCH_CHARACTERS", 300)
    assert len(list(data._pieces(long))) > 50 and "".join(data._pieces(long)) == long
    assert tokenize_stream(rows, tokenizer).tolist() == whole.tolist()


def test_documents_without_tokens_leave_no_separator(tokenizer):
    stream = tokenize_stream(Dataset.from_dict({"text": ["\x01", "sea", "\x01", "\x01", "boat", "\x01"]}), tokenizer)
    assert tokenizer.convert_ids_to_tokens(stream.tolist()) == ["sea", "[SEP]", "boat"]


def test_tokens_on_disk_are_cached(load, tokenizer, monkeypatch):
    jsonl("a.jsonl", [{"text": story(number)} for number in range(30)])
    splits = load(train_file=["a.jsonl"])
    first = tokenize_stream(splits["train"], tokenizer)
    monkeypatch.setattr(data, "_pieces", None)  # would fail
    again = load(train_file=["a.jsonl"])
    assert tokenize_stream(again["train"], tokenizer).tolist() == first.tolist()
    with pytest.raises(TypeError):
        tokenize_stream(again["train"], tokenizer, overwrite_cache=True)


def test_tokenizer_without_separator(documents):
    tokenizer = train_tokenizer(documents, "wordpiece", 300)
    tokenizer.sep_token = None
    with pytest.raises(ValueError, match=r"has no \[CLS\] or no \[SEP\] token"):
        tokenize_stream(documents, tokenizer)


# Rows


@pytest.mark.parametrize("length", [3, 10, 64])
@pytest.mark.parametrize("chunk", [2**24, 40])
def test_blocks(tokenizer, length, chunk, monkeypatch):
    monkeypatch.setattr(data, "_CHUNK_TOKENS", chunk)
    stream = np.arange(5, 205, dtype=np.int32)
    blocks = make_blocks(stream, tokenizer, length)
    rows = blocks["input_ids"]
    assert [len(row) for row in rows[:-1]] == [length] * (len(rows) - 1)
    assert all(row[0] == 2 and row[-1] == 3 for row in rows)
    assert [token for row in rows for token in row[1:-1]] == stream.tolist()
    assert blocks._fingerprint == make_blocks(stream.copy(), tokenizer, length)._fingerprint
    assert blocks._fingerprint != make_blocks(stream[::-1], tokenizer, length)._fingerprint
    assert blocks._fingerprint != make_blocks(stream, tokenizer, length + 1)._fingerprint


def test_blocks_are_collated_with_padding_and_dynamic_masks(documents, tokenizer):
    blocks = make_blocks(tokenize_stream(documents, tokenizer), tokenizer, 32)
    collator = DataCollatorForLanguageModeling(tokenizer)
    set_seed(0)
    first, second = (collator([blocks[0], blocks[len(blocks) - 1]]) for _ in range(2))
    assert first["input_ids"].shape == (2, 32)
    assert first["attention_mask"].sum().item() == 32 + len(blocks[len(blocks) - 1]["input_ids"])
    assert first["labels"].ne(second["labels"]).any()
    assert not any(first["labels"].eq(special).any() for special in tokenizer.all_special_ids)


def test_too_short_a_text_for_one_row(tokenizer):
    stream = np.full(100, 7, np.int32)
    assert len(make_blocks(stream, tokenizer, 102)) == 1
    with pytest.raises(
        ValueError,
        match=r"The training text has 100 tokens.*lower --max_seq_length to 102 or less, or add training text",
    ):
        make_blocks(stream, tokenizer, 103)


# Evaluation at several lengths


def content(dataset, column):
    return [token for row in dataset[column] for token in row[1:-1]]


def test_every_length_is_asked_the_same(documents, tokenizer):
    stream = tokenize_stream(documents, tokenizer)
    evaluations = make_length_evaluations(stream, tokenizer, [64, 8, 100], seed=3)
    assert list(evaluations) == [64, 8, 100]
    inputs, labels = content(evaluations[8], "input_ids"), content(evaluations[8], "labels")
    asked = [place for place, label in enumerate(labels) if label != -100]
    assert len(labels) == len(stream) and [labels[place] for place in asked] == stream[asked].tolist()
    for length, evaluation in evaluations.items():
        assert content(evaluation, "input_ids") == inputs and content(evaluation, "labels") == labels
        sizes = [len(row) for row in evaluation["input_ids"]]
        assert set(sizes[:-1]) == {length} and sizes[-1] <= length
        for ids, mask, row_labels in zip(*(evaluation[name] for name in evaluation.column_names), strict=True):
            assert (ids[0], ids[-1], row_labels[0], row_labels[-1]) == (2, 3, -100, -100)
            assert mask == [1] * len(ids) and len(row_labels) == len(ids)
    assert evaluations[64].column_names == ["input_ids", "attention_mask", "labels"]


def test_masking_shares(tokenizer):
    generator = np.random.default_rng(99)
    stream = generator.integers(0, len(tokenizer), 200_000, dtype=np.int32)
    masked, labels = mask_stream(stream, tokenizer, 0.15, seed=0)
    ordinary, chosen = stream >= 5, labels != -100
    assert not chosen[~ordinary].any() and (masked[~chosen] == stream[~chosen]).all()
    assert (labels[chosen] == stream[chosen]).all()
    assert abs(chosen[ordinary].mean() - 0.15) < 0.005
    is_mask, kept = masked[chosen] == tokenizer.mask_token_id, masked[chosen] == stream[chosen]
    assert abs(is_mask.mean() - 0.8) < 0.01 and abs(kept.mean() - 0.1) < 0.01
    replaced = masked[chosen][~is_mask & ~kept]
    assert replaced.min() == 5 and replaced.max() == len(tokenizer) - 1
    again = mask_stream(stream, tokenizer, 0.15, seed=0)
    assert (again[0] == masked).all() and (again[1] == labels).all()
    assert (mask_stream(stream, tokenizer, 0.15, seed=1)[1] != labels).any()


def test_max_tokens(tokenizer):
    stream = np.arange(5, 205, dtype=np.int32) % 50 + 5
    evaluation = make_length_evaluations(stream, tokenizer, [12], max_tokens=60)[12]
    assert len(content(evaluation, "labels")) == 60 and len(evaluation) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": [8, 103]}, "The validation text has 100 tokens, too few for one row of length 103"),
        (
            {"lengths": [8, 64], "max_tokens": 50},
            "The validation text has 50 tokens, too few for one row of length 64",
        ),
        ({"lengths": []}, "at least one length"),
        ({"lengths": [8], "mlm_probability": 1e-9}, "None of the 100 validation tokens was chosen"),
    ],
)
def test_evaluations_that_cannot_be(tokenizer, arguments, message):
    with pytest.raises(ValueError) as error:
        make_length_evaluations(np.full(100, 7, np.int32), tokenizer, **arguments)
    assert message in str(error.value)


def test_most_frequent_token_accuracy(tokenizer):
    train = np.array([3] * 50 + [7] * 20 + [8] * 10, np.int32)
    stream = np.array([7] * 30 + [8] * 30, np.int32)
    evaluation = make_length_evaluations(stream, tokenizer, [10], mlm_probability=0.999999)[10]
    assert most_frequent_token_accuracy(train, evaluation, tokenizer) == 0.5
