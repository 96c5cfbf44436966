# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments of the data, their splits from files and from the Hub, and tokenisation."""

import copy
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from glue_runs import write
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import DataCollatorWithPadding

from modeling_gau import GAUConfig, GAUError, GAUForSequenceClassification
from modeling_gau.glue import data as glue_data
from modeling_gau.glue.arguments import ColumnOptions, GlueArguments, task_files
from modeling_gau.glue.data import (
    check_texts,
    first_rows,
    keep_labelled_rows,
    load_splits,
    prepare_data,
    tokenize_split,
)
from modeling_gau.glue.labels import (
    LabelEncoder,
    check_labels,
    has_hidden_labels,
    infer_task,
    label_values,
    model_label_names,
)
from modeling_gau.glue.tasks import CLUE_TASKS, GLUE_TASKS, GlueTask
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.text.files import FILE_FORMATS


SENTENCES = ['it said "yes', "null", "a, b and c", "NA", "plain words"]
FILE, CLUE = {"train_file": "rows.csv"}, {"dataset_name": "clue"}


pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer(["one", "two", "three", "four", "five"])


def training_arguments(stages: str) -> GlueTrainingArguments:
    return GlueTrainingArguments("out", use_cpu=True, **{f"do_{stage}": True for stage in stages.split()})


def load(stages: str, **arguments) -> dict[str, Dataset]:
    """The splits that a run with these stages reads."""
    return load_splits(GlueArguments(**arguments), training_arguments(stages), None, None)


def check(task: GlueTask, splits: dict[str, Dataset], files: dict[str, str] | None = None) -> None:
    check_labels(task, splits, LabelEncoder(task, task.label_names), files)


def sentence_rows(labels=(0, 1, 1, 0, 1)) -> list[dict]:
    return [{"sentence": sentence, "label": label} for sentence, label in zip(SENTENCES, labels, strict=True)]


# Arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"task_name": "SST-2"}, "GLUE has no task 'SST-2'.*did you mean 'sst2'"),
        ({"task_name": "boolq"}, "Give one or more of cola, sst2"),
        ({}, "No data: give --task_name, or --train_file"),
        ({"task_name": "rte", "validation_mismatched_file": "a.csv"}, "mnli only"),
        ({"task_name": "rte", "max_seq_length": 2}, "--max_seq_length must be at least 3 and below 2\\*\\*31, got 2"),
        ({"task_name": "rte", "max_eval_samples": 0}, "--max_eval_samples must be at least 1, got 0"),
        ({"task_name": "rte,cola", "text_column": "t"}, "names several tasks, but files and columns belong to one"),
        ({**FILE, "text_pair_column": "t"}, "--text_pair_column t is the second text of pairs: add --text_column"),
        ({**FILE, "task_name": "sst2", "text_pair_column": "t"}, "--text_pair_column t: sst2 has one text a row"),
        ({**FILE, "task_name": "stsb", "problem_type": "single_label"}, "single_label: stsb is a regression"),
        ({**FILE, "label_column": ["a", "b", "a"]}, "--label_column a b a names a column twice"),
        ({**FILE, "task_name": "sst2", "label_column": ["a", "b"]}, "several columns make a multi-label problem"),
        ({**FILE, "problem_type": "regression", "label_column": ["a", "b"]}, "several columns make a multi-label"),
        ({**FILE, "label_separator": ""}, "--label_separator must not be empty"),
        (
            {"task_name": "rte,CSL"},
            "GLUE has no task 'CSL': CLUE has it, give --dataset_name clue. Give one or more of ",
        ),
        ({**CLUE, "task_name": "mrpc"}, "CLUE has no task 'mrpc': GLUE has it, give --dataset_name glue.*afqmc"),
        ({**CLUE, "task_name": "tnew"}, r"CLUE has no task 'tnew' \(did you mean 'tnews'\?\). Give one or more of af"),
        ({**CLUE, "train_file": "a.json"}, "--dataset_name clue needs --task_name: give one of afqmc"),
        (
            {**CLUE, **FILE, "task_name": "csl", "text_column": "abst"},
            "csl, whose texts are made from .*and abst",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GlueArguments(**arguments)


def test_files_get_the_split_names_of_the_task():
    files = {"train_file": "a.csv", "validation_file": "b.csv", "test_file": "c.csv"}
    assert GlueArguments(**files).files() == {"train": "a.csv", "validation": "b.csv", "test": "c.csv"}
    mnli = GlueArguments(task_name="mnli", **files, validation_mismatched_file="d.csv")
    assert mnli.files() == {
        "train": "a.csv",
        "validation_matched": "b.csv",
        "validation_mismatched": "d.csv",
        "test_matched": "c.csv",
    }


def test_columns_on_the_command_line():
    argv = "--train_file rows.csv --text_column review --label_column joy fear --label_separator |".split()
    (arguments,) = parse_arguments((GlueArguments,), argv)
    assert arguments.column_options() == ColumnOptions(text="review", labels=("joy", "fear"), separator="|")
    (arguments,) = parse_arguments((GlueArguments,), ["--train_file", "rows.csv", "--problem_type", "regression"])
    assert arguments.column_options() == ColumnOptions(problem_type="regression")
    assert GlueArguments(train_file="rows.csv").column_options() == ColumnOptions()


# Reading


@pytest.mark.parametrize("suffix", [*FILE_FORMATS, ".TSV"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    write(tmp_path / f"rows{suffix.lower()}", sentence_rows())
    if suffix == ".json":
        (tmp_path / "rows.json").write_text(json.dumps(sentence_rows()), encoding="utf-8")
    (tmp_path / f"rows{suffix.lower()}").rename(tmp_path / f"rows{suffix}")
    splits = load("train", train_file=str(tmp_path / f"rows{suffix}"), validation_file="not-read.csv")
    assert {split: rows.to_list() for split, rows in splits.items()} == {"train": sentence_rows()}


def test_a_task_without_training_rows_can_be_evaluated(tmp_path):
    rows = write(tmp_path / "rows.jsonl", [{"question": "one", "sentence": "two", "label": 0}])
    arguments = {"task_name": "qnli", "validation_file": rows}
    assert list(load("eval", **arguments)) == ["validation"]
    message = r"--do_train needs the split train.*there is only validation. Give --train_file"
    with pytest.raises(ValueError, match=message):
        load("train", **arguments)


def test_mnli_may_lack_its_mismatched_rows(tmp_path):
    rows = write(tmp_path / "rows.jsonl", [{"premise": "one", "hypothesis": "two", "label": 0}])
    arguments = {"task_name": "mnli", "validation_file": rows}
    assert list(load("eval", **arguments)) == ["validation_matched"]
    with pytest.raises(ValueError, match=r"--do_predict needs the split test_matched.*Give --test_file"):
        load("predict", **arguments)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("none.csv", None, "none.csv: there is no such file"),
        ("rows.txt", "sentence", "rows.txt: files of rows are .csv, .tsv, .json, .jsonl, .parquet"),
        ("rows.csv", "", "rows.csv: the file is empty"),
        ("rows.csv", "sentence,label\n", "rows.csv has no rows"),
        ("rows.csv.zip", "sentence", "rows.csv.zip: files of rows are .csv.*also with .gz"),
        ("rows.parquet.gz", "sentence", "rows.parquet.gz: files of rows are"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        load("train", train_file=str(tmp_path / name))


def test_columns_of_other_names(tmp_path):
    row = {"question": "one", "passage": "", "answer": "entailment", "label": 7}
    rows = write(tmp_path / "rows.csv", [row])
    columns = {"text_column": "question", "text_pair_column": "passage", "label_column": ["answer"]}
    own = load("train", train_file=rows, **columns)
    assert own["train"].to_list() == [{"sentence1": "one", "sentence2": "", "label": "entailment"}]
    qnli = load("eval", task_name="qnli", validation_file=rows, **columns)
    assert qnli["validation"].to_list() == [{"question": "one", "sentence": "", "label": "entailment"}]
    sst2 = load("train", task_name="sst2", train_file=rows, text_column="question", label_column=["answer"])
    with pytest.raises(ValueError, match=r"rows\.csv, line 2 .*sst2 has no label 'entailment'"):
        check(GLUE_TASKS["sst2"], sst2, {"train": rows})
    with pytest.raises(ValueError, match="--text_column, --label_column and the like are for local files"):
        load("train", task_name="sst2", text_column="review")


def hub(monkeypatch, features: dict | None = None, **splits: list[dict]) -> list[tuple]:
    """Replaces the Hub by `splits` and records what was asked of it."""
    calls = []

    def load(*arguments, **options):
        calls.append(arguments)
        form = features and Features(features)
        return DatasetDict({name: Dataset.from_list(rows, features=form) for name, rows in splits.items()})

    monkeypatch.setattr(glue_data, "load_dataset", load)
    return calls


def test_hub_task(monkeypatch):
    row, hidden = ({"premise": "one", "hypothesis": "two", "label": label} for label in (1, -1))
    validation = {"validation_matched": [row], "validation_mismatched": [row] * 2}
    calls = hub(monkeypatch, train=[row] * 3, **validation, test_matched=[hidden], test_mismatched=[hidden])
    splits = load("train eval predict", task_name="mnli")
    assert calls == [("nyu-mll/glue", "mnli")]
    sizes = {"validation_matched": 1, "validation_mismatched": 2, "test_matched": 1, "test_mismatched": 1}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, **sizes}
    check(GLUE_TASKS["mnli"], splits)
    hub(monkeypatch, test=[hidden])
    with pytest.raises(ValueError, match=r"there is only test in the Hub's ax. Train on mnli"):
        load("train", task_name="ax")


def test_hub_out_of_reach(monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(glue_data, "load_dataset", fail)
    with pytest.raises(GAUError, match=r"\(no route\). Without a network, give local files.*--train_file"):
        load("train", task_name="sst2")


def test_splits_of_other_columns(tmp_path):
    pair, single = (
        dict.fromkeys(names, "one") | {"label": "a"} for names in (("sentence1", "sentence2"), ("sentence",))
    )
    train = write(tmp_path / "train.jsonl", [pair, pair | {"label": "b"}])
    arguments = GlueArguments(train_file=train, validation_file=write(tmp_path / "dev.jsonl", [single]))
    message = "Split validation has no column 'sentence1' and no column 'sentence2'.*there is sentence, label"
    with pytest.raises(ValueError, match=message):
        prepare_data(ModelArguments(), arguments, training_arguments("train eval"), GAUConfig())


def test_texts_that_are_missing():
    rows = Dataset.from_list([{"sentence": "", "label": 0}, {"sentence": None, "label": 0}])
    with pytest.raises(ValueError, match=r"^Split train, row 2 .*the text 'sentence' is missing"):
        check_texts(GLUE_TASKS["sst2"], {"train": rows})


# Tokenisation


def test_pairs_are_tokenised_with_types_and_labels(tokenizer):
    rows = Dataset.from_dict({"sentence1": ["one two"], "sentence2": ["three"], "label": [1], "idx": [7]})
    task = GLUE_TASKS["rte"]
    encoder = LabelEncoder(task, ("not_entailment", "entailment"))
    encoded = tokenize_split(rows, task, tokenizer, encoder, GlueArguments(task_name="rte"))
    assert encoded.to_list() == [
        {
            "input_ids": [2, 5, 6, 3, 7, 3],
            "token_type_ids": [0, 0, 0, 0, 1, 1],
            "attention_mask": [1, 1, 1, 1, 1, 1],
            "labels": 0,
        }
    ]


def test_long_rows_are_cut_and_short_ones_not_padded(tokenizer):
    rows = Dataset.from_dict({"sentence": ["one two three four five", "one", "two"], "label": [-1, -1, -1]})
    task = GLUE_TASKS["sst2"]
    encoder = LabelEncoder(task, task.label_names)
    encoded = tokenize_split(
        first_rows(rows, 2), task, tokenizer, encoder, GlueArguments(task_name="sst2", max_seq_length=4)
    )
    assert encoded["input_ids"][:] == [[2, 5, 6, 3], [2, 5, 3]]
    assert "labels" not in encoded.column_names


def test_the_cache_does_not_decide_how_the_tokenizer_is_saved(tmp_path, tokenizer):
    train = write(tmp_path / "train.jsonl", sentence_rows())
    dev = write(tmp_path / "dev.jsonl", sentence_rows()[:3])
    arguments = GlueArguments(task_name="sst2", train_file=train, validation_file=dev)
    splits = load_splits(arguments, training_arguments("train eval"), None, None)
    task = GLUE_TASKS["sst2"]
    encoder, fingerprints = LabelEncoder(task, task.label_names), []
    for run in ("first", "cached"):
        own = copy.deepcopy(tokenizer)
        fingerprints.append(
            [tokenize_split(rows, task, own, encoder, arguments)._fingerprint for rows in splits.values()]
        )
        own.save_pretrained(tmp_path / run)
    assert fingerprints[0] == fingerprints[1]
    first, cached = (json.loads((tmp_path / run / "tokenizer.json").read_text()) for run in ("first", "cached"))
    assert first == cached and first["truncation"] is None and first["padding"] is None


@pytest.mark.parametrize("texts", [("",), ("", "one"), ("one", ""), ("", "")])
def test_empty_texts_are_tokenised(tokenizer, texts):
    task = GLUE_TASKS["sst2" if len(texts) == 1 else "rte"]
    rows = Dataset.from_dict({name: [text] for name, text in zip(task.text_columns, texts, strict=True)})
    encoder = LabelEncoder(task, task.label_names)
    encoded = tokenize_split(rows, task, tokenizer, encoder, GlueArguments(task_name=task.name))
    pieces = [token for text in texts for token in (*([5] if text else []), 3)]
    assert encoded["input_ids"][:] == [[2, *pieces]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_model_learns_from_several_labels(tmp_path, tokenizer, make_model, suffix):
    """From a file to the loss: each class of the targets is where the model has it."""
    rows = [{"text": "one", "label": "joy,fear"}, {"text": "", "label": ""}, {"text": "two", "label": "fear"}]
    data = write(tmp_path / f"rows{suffix}", rows)
    arguments = GlueArguments(train_file=data, text_column="text", problem_type="multi_label")
    splits = load_splits(arguments, training_arguments("train"), None, None)
    task = infer_task(splits)
    names = model_label_names(task, ("joy", "fear"), do_train=True)
    encoder = LabelEncoder(task, names)
    check_labels(task, splits, encoder)
    inputs = tokenize_split(splits["train"], task, tokenizer, encoder, arguments)
    batch = DataCollatorWithPadding(tokenizer)([inputs[row] for row in range(3)])
    assert batch["labels"].tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    classes = {"num_labels": 2, "problem_type": task.problem_type}
    model = make_model(GAUForSequenceClassification, vocab_size=10, **classes)
    with torch.no_grad():
        outputs = model(**batch)
    assert outputs.loss == binary_cross_entropy_with_logits(outputs.logits, batch["labels"])
    predictions = task.predictions_from_logits(outputs.logits)
    assert torch.equal(predictions, (outputs.logits.sigmoid() > 0.5).long())
    assert task.compute_metrics(batch["labels"].long().numpy(), batch["labels"].numpy(), names)["accuracy"] == 1.0


# CLUE


WSC_TEXT = "床边的手机响了，它响了很久"
WSC_TARGET = {"span1_text": "手机", "span1_index": 3, "span2_text": "它", "span2_index": 8}
WSC = {"text": WSC_TEXT, "target": WSC_TARGET}
CSL = {"abst": "提出一种算法", "keyword": ["算法", "水声"]}
PAIR = {"sentence1": "天在下雨", "sentence2": "天气不好"}
TEXT, INDEX = Value("string"), Value("int32")
CSL_FEATURES = {
    "idx": INDEX, "corpus_id": INDEX, "abst": TEXT, "label": ClassLabel(names=["0", "1"]), "keyword": List(TEXT),
}  # fmt: skip
WSC_FEATURES = {
    "idx": INDEX, "text": TEXT, "label": ClassLabel(names=["true", "false"]),
    "target": {"span1_text": TEXT, "span2_text": TEXT, "span1_index": INDEX, "span2_index": INDEX},
}  # fmt: skip


load_clue = partial(load, dataset_name="clue")


def test_rows_of_the_hub_become_texts(monkeypatch):
    row = CSL | {"idx": 0, "corpus_id": 1, "label": 1}
    calls = hub(monkeypatch, CSL_FEATURES, train=[row], validation=[row], test=[row | {"label": -1}])
    splits = load_clue("train eval predict", task_name="csl")
    assert calls == [("clue/clue", "csl")]
    assert splits["train"][0] == row | {"keyword": "算法；水声"}
    assert has_hidden_labels(splits["test"]) and splits["test"]["keyword"][:] == ["算法；水声"]
    check(CLUE_TASKS["csl"], splits)

    row = WSC | {"idx": 0, "label": 0}
    hub(monkeypatch, WSC_FEATURES, validation=[row], test=[row | {"label": -1}])
    splits = load_clue("eval predict", task_name="cluewsc2020")
    assert list(splits) == ["validation", "test"]
    assert splits["validation"][0] == {"idx": 0, "label": 0, "text": "床边的_手机_响了，[它]响了很久"}
    check(CLUE_TASKS["cluewsc2020"], splits)


def test_labels_of_the_hub_are_read_by_their_codes(monkeypatch):
    """The Hub counts the classes of tnews from 0; what counts is that its class 5 is called 106."""
    features = {"sentence": TEXT, "label": ClassLabel(names=list(CLUE_TASKS["tnews"].label_names)), "idx": INDEX}
    hub(monkeypatch, features, validation=[{"sentence": "新闻", "label": 5, "idx": 0}])
    splits = load_clue("eval", task_name="tnews")
    check(CLUE_TASKS["tnews"], splits)
    names = CLUE_TASKS["tnews"].label_names[::-1]
    encoder = LabelEncoder(CLUE_TASKS["tnews"], names)
    assert names[encoder(label_values(splits["validation"], features["label"]))[0]] == "106"


def test_rows_of_the_hub_of_which_no_text_can_be_made(monkeypatch):
    wrong = WSC | {"target": WSC_TARGET | {"span2_index": 7}}
    hub(monkeypatch, WSC_FEATURES, validation=[row | {"idx": 0, "label": 0} for row in (WSC, wrong)])
    with pytest.raises(ValueError, match=r"^Split validation, row 2 .*'span2_index' 7 points at"):
        load_clue("eval", task_name="cluewsc2020")


def test_rows_of_the_hub_of_another_form(monkeypatch):
    rows = [{"text": "a", "idx": 0, "label": 0}]
    hub(monkeypatch, validation=rows)
    with pytest.raises(ValueError, match=r"Split validation has no column 'target'. cluewsc2020 needs text, target"):
        load_clue("eval", task_name="cluewsc2020")
    hub(monkeypatch, validation=[])
    with pytest.raises(ValueError, match="Split validation has no rows"):
        load_clue("eval", task_name="cluewsc2020")


def test_texts_are_made_again_when_the_code_changes(monkeypatch):
    rows, task = Dataset.from_list([CSL | {"label": 1}]), CLUE_TASKS["csl"]
    first, again = (glue_data._make_texts(task, "train", rows, False)._fingerprint for _ in range(2))
    monkeypatch.setattr(glue_data, "_VERSION", glue_data._VERSION + 1)
    assert first == again != glue_data._make_texts(task, "train", rows, False)._fingerprint


NEWS, APP = {"sentence": "房价", "label": "106"}, {"sentence": "一个应用", "label": "118"}
FOLDERS = {
    "afqmc": (PAIR | {"label": "1"}, PAIR | {"label": "1"}),
    "tnews": (NEWS | {"label_desc": "news_house", "keywords": "房"}, NEWS),
    "iflytek": (APP | {"label_des": "其他"}, APP),
    "cmnli": (PAIR | {"label": "neutral"}, PAIR | {"label": "neutral"}),
    "ocnli": (PAIR | {"level": "easy", "label": "entailment", "id": 7}, PAIR | {"label": "entailment"}),
    "csl": (CSL | {"id": 1, "label": "0"}, {"keyword": "算法；水声", "abst": "提出一种算法", "label": "0"}),
    "cluewsc2020": (WSC | {"label": "true"}, {"text": "床边的_手机_响了，[它]响了很久", "label": "true"}),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_official_folders(tmp_path, name):
    row, expected = FOLDERS[name]
    hidden = {key: value for key, value in row.items() if key[:5] != "label"} | {"id": 0}
    folder = tmp_path / "data" / (name if name == "afqmc" else f"{name}_public")
    train = write(folder / ("train.50k.json" if name == "ocnli" else "train.json"), [row])
    files = {"train_file": train, "validation_file": write(folder / "dev.json", [row, row])}
    files["test_file"] = write(folder / "test.json", [hidden])
    write(folder / "labels.json", [{"label": "100"}])
    assert task_files(str(tmp_path / "data"), CLUE_TASKS[name]) == files
    splits = load_clue("train eval predict", task_name=name, **files)
    check(CLUE_TASKS[name], splits)
    assert splits["train"].to_list() == [expected] and len(splits["validation"]) == 2
    del expected["label"]
    assert splits["test"].to_list() == [expected]


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"tnews_public or .*/tnews has no files of tnews. Name them after"):
        task_files(str(tmp_path), CLUE_TASKS["tnews"])
    for folder in ("tnews", "tnews_public"):
        write(tmp_path / folder / "dev.json", [{}])
    with pytest.raises(ValueError, match="two files for validation of tnews"):
        task_files(str(tmp_path), CLUE_TASKS["tnews"])


@pytest.mark.parametrize(
    "name, row, message",
    [
        ("cluewsc2020", WSC | {"target": WSC_TARGET | {"span1_index": 0}}, "line 2: 'span1_index' 0 points at"),
        ("csl", CSL | {"keyword": "算法"}, "line 2: 'keyword' must be a list of texts, got '算法'"),
        ("csl", CSL | {"abst": None}, "line 2: the text 'abst' is missing or null"),
        ("tnews", {"sentence": "房价", "label": "105"}, r"line 2 .*tnews has no label '105'.*104, 106"),
        ("cluewsc2020", WSC | {"label": "yes"}, r"line 2 .*has no label 'yes'.*0 \(true\), 1 \(false\)"),
    ],
)
def test_files_of_which_no_rows_can_be_made(tmp_path, name, row, message):
    path = write(tmp_path / "train.json", [FOLDERS[name][0], row])
    with pytest.raises(ValueError, match=message):
        check(CLUE_TASKS[name], load_clue("train", task_name=name, train_file=path), {"train": path})


def test_a_file_without_a_column_of_the_task(tmp_path):
    path = write(tmp_path / "train.json", [{"abst": "一种算法", "label": "0"}])
    message = r"no column keyword .*needs keyword, abst; the file has abst, label. Rename"
    with pytest.raises(ValueError, match=message):
        load_clue("train", task_name="csl", train_file=path)


def test_rows_without_agreement_are_left_out(tmp_path):
    labels = ["neutral", "-", "entailment", "-"]
    path = write(tmp_path / "dev.json", [PAIR | {"label": label} for label in labels])
    splits = load_clue("eval", task_name="ocnli", validation_file=path)
    check(CLUE_TASKS["ocnli"], splits)
    kept, messages = keep_labelled_rows(CLUE_TASKS["ocnli"], splits)
    assert kept["validation"]["label"][:] == ["neutral", "entailment"]
    assert messages == ["Split validation: 2 of 4 rows have the label '-' and are left out."]
    with pytest.raises(ValueError, match="Split validation: every label is '-', which stands for no label"):
        keep_labelled_rows(CLUE_TASKS["ocnli"], {"validation": splits["validation"].select([1, 3])})
    # Elsewhere "-" is a label like others, and an error names the line in the file.
    with pytest.raises(ValueError, match=r"dev\.json, line 2 \(Split validation, row 1 .*rte has no label '-'"):
        encoder = LabelEncoder(
            replace(GLUE_TASKS["rte"], label_names=("neutral", "entailment")), ("neutral", "entailment")
        )
        check_labels(GLUE_TASKS["rte"], splits, encoder, {"validation": path})


@pytest.mark.parametrize("labels", [["neutral", "-", "neutral"], ["-", "-"], ["neutral"]])
def test_test_rows_without_agreement_are_predicted(tmp_path, labels):
    path = write(tmp_path / "test.json", [PAIR | {"label": label} for label in labels])
    splits = load_clue("predict", task_name="ocnli", test_file=path)
    check(CLUE_TASKS["ocnli"], splits)
    kept, messages = keep_labelled_rows(CLUE_TASKS["ocnli"], splits)
    dashes = labels.count("-")
    assert len(kept["test"]) == len(labels) and has_hidden_labels(kept["test"]) == bool(dashes)
    text = f"Split test: {dashes} of {len(labels)} rows have the label '-'; all rows are predicted, without metrics."
    assert messages == ([text] if dashes else [])


def test_true_and_false_of_json_are_classes_of_these_names(tmp_path):
    path = write(tmp_path / "dev.json", [WSC | {"label": value} for value in (False, True)])
    splits = load_clue("eval", task_name="cluewsc2020", validation_file=path)
    check(CLUE_TASKS["cluewsc2020"], splits)
    assert LabelEncoder(CLUE_TASKS["cluewsc2020"], ("false", "true"))(splits["validation"]["label"]) == [0, 1]
    path = write(tmp_path / "csl.json", [CSL | {"label": True}])
    with pytest.raises(ValueError, match="csl has no label True"):
        check(CLUE_TASKS["csl"], load_clue("train", task_name="csl", train_file=path))
