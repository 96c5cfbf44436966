# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Tasks, reading of rows, checks of columns and labels, and tokenisation of fine-tuning."""

import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import BertTokenizer

from modeling_gau import GAUConfig, glue_data
from modeling_gau.glue_data import (
    GlueArguments,
    LabelEncoder,
    check_columns,
    check_splits,
    has_hidden_labels,
    infer_task,
    load_splits,
    model_label_names,
    saved_label_names,
    tokenize_split,
)
from modeling_gau.glue_metric import TASK_METRICS
from modeling_gau.glue_tasks import GLUE_TASKS
from modeling_gau.glue_training import GlueTrainingArguments


SENTENCES = ['it said "yes', "null", "a, b and c", "NA", "plain words"]
TRAIN, EVAL, PREDICT = {"do_train": True}, {"do_eval": True}, {"do_predict": True}


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "four", "five"]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)})


def training_arguments(tmp_path, **arguments) -> GlueTrainingArguments:
    return GlueTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **arguments)


def write_rows(path, rows: list[dict]) -> str:
    """Writes csv and parquet as pandas does, tsv without quoting, json as one list, jsonl as lines."""
    data = Dataset.from_list(rows)
    if path.suffix == ".csv":
        data.to_pandas().to_csv(path, index=False)
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0])] + ["\t".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        data.to_parquet(path)
    return str(path)


def sentence_rows(labels=(0, 1, 1, 0, 1)) -> list[dict]:
    return [{"sentence": sentence, "label": label} for sentence, label in zip(SENTENCES, labels, strict=True)]


# Tasks and arguments


def test_tasks_are_those_of_glue():
    assert set(GLUE_TASKS) == {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli", "ax"}
    classes = {name: len(task.label_names) for name, task in GLUE_TASKS.items()}
    assert classes == dict.fromkeys(GLUE_TASKS, 2) | {"mnli": 3, "ax": 3, "stsb": 1}
    assert [name for name, task in GLUE_TASKS.items() if task.is_regression] == ["stsb"]
    assert [name for name, task in GLUE_TASKS.items() if len(task.text_columns) == 1] == ["cola", "sst2"]


def test_key_metric_is_reported_and_a_mean_where_there_are_two():
    key_metrics = {name: task.key_metric for name, task in GLUE_TASKS.items()}
    assert key_metrics.pop("cola") == key_metrics.pop("ax") == "matthews_correlation"
    assert {name for name, metric in key_metrics.items() if metric == "combined_score"} == {"mrpc", "qqp", "stsb"}
    assert set(key_metrics.values()) == {"accuracy", "combined_score"}
    assert all(set(TASK_METRICS[task.metric]) <= set(task.metric_names) for task in GLUE_TASKS.values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"task_name": "SST-2"}, "--task_name SST-2: GLUE has no such task.*did you mean sst2"),
        ({"task_name": "boolq"}, "Give one of cola, sst2"),
        ({}, "No data: give --task_name, or --train_file"),
        ({"task_name": "rte", "validation_mismatched_file": "a.csv"}, "mnli only"),
        ({"task_name": "rte", "max_seq_length": 2}, "--max_seq_length must be at least 3, got 2"),
        ({"task_name": "rte", "max_eval_samples": 0}, "--max_eval_samples must be at least 1, got 0"),
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


# Reading


@pytest.mark.parametrize("suffix", glue_data.FILE_FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = write_rows(tmp_path / f"rows{suffix}", sentence_rows())
    splits = load_splits(GlueArguments(train_file=path), training_arguments(tmp_path, **TRAIN), None, None)
    assert list(splits) == ["train"]
    assert splits["train"].to_list() == sentence_rows()


def test_the_suffix_may_be_in_capitals(tmp_path):
    path = write_rows(tmp_path / "rows.tsv", sentence_rows())
    (tmp_path / "rows.tsv").rename(tmp_path / "ROWS.TSV")
    arguments = GlueArguments(train_file=path.replace("rows.tsv", "ROWS.TSV"))
    assert load_splits(arguments, training_arguments(tmp_path, **TRAIN), None, None)["train"]["sentence"] == SENTENCES


def test_only_the_splits_that_are_used_are_read(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", sentence_rows())
    arguments = GlueArguments(train_file="missing.csv", validation_file=rows, test_file=rows)
    splits = load_splits(arguments, training_arguments(tmp_path, do_eval=True, do_predict=True), None, None)
    assert list(splits) == ["validation", "test"]


def test_a_task_without_training_rows_can_be_evaluated(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{"question": "one", "sentence": "two", "label": 0}])
    arguments = GlueArguments(task_name="qnli", validation_file=rows)
    assert list(load_splits(arguments, training_arguments(tmp_path, **EVAL), None, None)) == ["validation"]
    with pytest.raises(ValueError, match=r"--do_train needs the split train.*there is validation. Give --train_file"):
        load_splits(arguments, training_arguments(tmp_path, **TRAIN), None, None)


def test_mnli_may_lack_its_mismatched_rows(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{"premise": "one", "hypothesis": "two", "label": 0}])
    arguments = GlueArguments(task_name="mnli", validation_file=rows)
    assert list(load_splits(arguments, training_arguments(tmp_path, **EVAL), None, None)) == ["validation_matched"]
    with pytest.raises(ValueError, match=r"--do_predict needs the split test_matched.*Give --test_file"):
        load_splits(arguments, training_arguments(tmp_path, **PREDICT), None, None)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("none.csv", None, "none.csv: there is no such file"),
        ("rows.txt", "sentence", "rows.txt: files of rows are .csv, .tsv, .json, .jsonl, .parquet"),
        ("rows.csv", "", "rows.csv: the file is empty"),
        ("rows.csv", "sentence,label\n", "rows.csv cannot be read as csv.*no data"),
        ("rows.jsonl", '{"sentence": "one", \n', "rows.jsonl cannot be read as jsonl"),
        ("rows.csv", "sentence,label\n\udcff,1\n", "rows.csv cannot be read as csv.*utf-8"),
        ("rows.csv", "sentence,label\none,1\ntwo,1,3,4\n", "rows.csv cannot be read as csv.*line 3"),
        ("rows.parquet", "sentence", "rows.parquet cannot be read as parquet"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        load_splits(GlueArguments(train_file=str(tmp_path / name)), training_arguments(tmp_path, **TRAIN), None, None)


def hub(monkeypatch, **splits):
    """Replaces the Hub by `splits` and records what was asked of it."""
    calls = []

    def load(*arguments, **options):
        calls.append(arguments)
        return DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()})

    monkeypatch.setattr(glue_data, "load_dataset", load)
    return calls


def test_hub_task(tmp_path, monkeypatch):
    row, hidden = ({"premise": "one", "hypothesis": "two", "label": label} for label in (1, -1))
    validation = {"validation_matched": [row], "validation_mismatched": [row] * 2}
    calls = hub(monkeypatch, train=[row] * 3, **validation, test_matched=[hidden], test_mismatched=[hidden])
    everything = training_arguments(tmp_path, **TRAIN, **EVAL, **PREDICT)
    splits = load_splits(GlueArguments(task_name="mnli"), everything, None, None)
    assert calls == [("nyu-mll/glue", "mnli")]
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 3,
        "validation_matched": 1,
        "validation_mismatched": 2,
        "test_matched": 1,
        "test_mismatched": 1,
    }
    check_splits(GLUE_TASKS["mnli"], splits, LabelEncoder(GLUE_TASKS["mnli"], GLUE_TASKS["mnli"].label_names))


def test_the_diagnostic_set_cannot_be_trained_on(tmp_path, monkeypatch):
    hub(monkeypatch, test=[{"premise": "one", "hypothesis": "two", "label": -1}])
    with pytest.raises(ValueError, match=r"ax has none: there is test. Train on mnli"):
        load_splits(GlueArguments(task_name="ax"), training_arguments(tmp_path, **TRAIN), None, None)


def test_hub_out_of_reach(tmp_path, monkeypatch):
    def load(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(glue_data, "load_dataset", load)
    with pytest.raises(ConnectionError, match=r"\(no route\). Without a network, give local files.*--train_file"):
        load_splits(GlueArguments(task_name="sst2"), training_arguments(tmp_path, **TRAIN), None, None)


# Local data without a task name


def single(labels, **columns) -> Dataset:
    return Dataset.from_dict({"sentence": ["one"] * len(labels), "label": labels, **columns})


@pytest.mark.parametrize(
    "labels, names",
    [
        (["pos", "neg", "pos", "mixed"], ("mixed", "neg", "pos")),
        ([1, 0, 1], ("0", "1")),
        ([5, 1, 3, 10], ("1", "3", "5", "10")),
        ([True, False], ("False", "True")),
        (["b", None, "a", ""], ("a", "b")),
        ([1, -1, 0], ("0", "1")),
    ],
)
def test_classes_are_inferred(labels, names):
    task = infer_task({"train": single(labels)})
    assert (task.text_columns, task.label_names, task.metric, task.is_regression) == (
        ("sentence",),
        names,
        "sst2",
        False,
    )


def test_class_labels_keep_their_names():
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["zebra", "ape"])})
    train = Dataset.from_dict({"sentence": ["one", "two"], "label": [0, 1]}, features=features)
    task = infer_task({"train": train})
    assert task.label_names == ("zebra", "ape")
    assert LabelEncoder(task, task.label_names)(train["label"]) == [0, 1]


def test_pairs_and_scores_are_inferred():
    train = Dataset.from_dict({"sentence1": ["one"], "sentence2": ["two"], "label": [0.5]})
    task = infer_task({"train": train})
    assert (task.text_columns, task.is_regression, task.label_names) == (("sentence1", "sentence2"), True, ("score",))
    assert task.key_metric == "combined_score"


def test_the_checkpoint_knows_the_classes_where_nothing_is_trained():
    saved = ("bad", "good", "ugly")
    assert infer_task({"validation": single(["ugly", "bad"])}, saved).label_names == saved
    assert infer_task({"train": single(["ugly", "bad"])}, saved).label_names == ("bad", "ugly")
    assert infer_task({"test": Dataset.from_dict({"sentence": ["one"]})}, saved).label_names == saved
    assert infer_task({"validation": single([0.5])}, ("score",)).is_regression


@pytest.mark.parametrize(
    "splits, message",
    [
        ({"train": Dataset.from_dict({"text": ["a"], "label": [0]})}, "column `sentence`.*the data has text, label"),
        ({"test": Dataset.from_dict({"sentence": ["a"]})}, "Nothing tells the labels.*test.*fine-tuned checkpoint"),
        ({"train": single([1, 1])}, "holds 1 and nothing else"),
        ({"train": single([None, None])}, "label is empty"),
    ],
)
def test_data_that_tell_nothing(splits, message):
    with pytest.raises(ValueError, match=message):
        infer_task(splits)


# Classes of the model


def test_saved_classes_are_those_of_a_classifier():
    config = GAUConfig(id2label={0: "b", 1: "a", 2: "c"})
    assert saved_label_names(config) is None
    config.architectures = ["GAUForMaskedLM"]
    assert saved_label_names(config) is None
    config.architectures = ["GAUForSequenceClassification"]
    assert saved_label_names(config) == ("b", "a", "c")


def test_the_order_of_the_checkpoint_is_kept():
    task = GLUE_TASKS["mnli"]
    order = ("contradiction", "neutral", "entailment")
    assert model_label_names(task, None, do_train=False) == task.label_names
    assert model_label_names(task, ("LABEL_0", "LABEL_1", "LABEL_2"), do_train=False) == task.label_names
    assert model_label_names(task, order, do_train=False) == order
    assert model_label_names(task, order, do_train=True) == order


def test_a_classifier_of_other_classes():
    rte, saved = GLUE_TASKS["rte"], GLUE_TASKS["mnli"].label_names
    with pytest.raises(ValueError, match=r"knows entailment, neutral, contradiction; rte has .*add --do_train"):
        model_label_names(rte, saved, do_train=False)
    with pytest.raises(ValueError, match="--ignore_mismatched_sizes to start a new classifier"):
        model_label_names(rte, saved, do_train=True)
    assert model_label_names(rte, saved, do_train=True, ignore_mismatched_sizes=True) == rte.label_names
    assert model_label_names(GLUE_TASKS["cola"], GLUE_TASKS["sst2"].label_names, do_train=True) == (
        "unacceptable",
        "acceptable",
    )


def test_labels_by_id_and_by_name_in_another_order():
    encoder = LabelEncoder(GLUE_TASKS["mnli"], ("contradiction", "entailment", "neutral"))
    values = [0, 1, 2, "entailment", "neutral", "contradiction", 2.0, "2"]
    assert encoder(values) == [1, 2, 0, 1, 2, 0, 0, 0]


def test_names_that_are_numbers_are_names():
    task = infer_task({"train": single([1, 2, 3])})
    assert LabelEncoder(task, task.label_names)([1, 2, 3, "3"]) == [0, 1, 2, 2]
    with pytest.raises(ValueError, match="label 0 is not one of local"):
        LabelEncoder(task, task.label_names).check("validation", [1, 0])


@pytest.mark.parametrize(
    "task_name, labels, message",
    [
        ("sst2", [0, 1, 2], r"Split train, row 2 .*label 2 is not one of sst2. Allowed: 0 \(negative\), 1 \(positive"),
        ("sst2", [0, -1], "row 1 .*-1.*hidden labels of a test split.*--do_predict"),
        ("sst2", [0, None], "row 1 .*label is missing"),
        ("sst2", ["negative", ""], "row 1 .*label is missing"),
        ("sst2", ["negative", "Positive"], "label 'Positive' is not one of sst2"),
        ("sst2", [0.5], "label 0.5 is not one of sst2"),
        ("stsb", [0.0, 5.5], "row 1 .*label 5.5 .*Allowed: a finite number from 0 to 5"),
        ("stsb", [float("nan")], "label nan"),
        ("stsb", [None], "label is missing"),
        ("stsb", ["3.5", "high"], "row 1 .*label 'high'"),
        ("stsb", [-1.0], "label -1.0"),
    ],
)
def test_labels_that_are_refused(task_name, labels, message):
    task = GLUE_TASKS[task_name]
    with pytest.raises(ValueError, match=message):
        LabelEncoder(task, task.label_names).check("train", labels)


def test_scores():
    encoder = LabelEncoder(GLUE_TASKS["stsb"], ("similarity",))
    values = [0, 2.5, "5.0"]
    encoder.check("train", values)
    assert encoder(values) == [0.0, 2.5, 5.0]


# Columns and splits


@pytest.mark.parametrize(
    "rows, message",
    [
        (
            {"sentence": ["a"], "label": [0]},
            "no column sentence1 and no column sentence2. rte needs .*is sent",
        ),
        ({"sentence1": ["a"], "sentence2": ["b"]}, "train has no column label"),
        ({"sentence1": [1], "sentence2": ["b"], "label": [0]}, "column sentence1 must be text, but it is int64"),
        ({"sentence1": ["a", "b"], "sentence2": ["b", None], "label": [0, 1]}, "sentence2 has no text in row 1"),
    ],
)
def test_columns_that_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        check_columns(GLUE_TASKS["rte"], "train", Dataset.from_dict(rows), needs_label=True)


def test_a_test_split_needs_no_labels_but_right_ones():
    task = GLUE_TASKS["sst2"]
    encoder = LabelEncoder(task, task.label_names)
    for rows in ({"sentence": ["one"]}, {"sentence": ["one", "two"], "label": [-1, -1]}):
        assert has_hidden_labels(Dataset.from_dict(rows))
        check_splits(task, {"test": Dataset.from_dict(rows)}, encoder)
    assert not has_hidden_labels(single([-1, 1]))
    with pytest.raises(ValueError, match="Split test, row 0"):
        check_splits(task, {"test": single([-1, 1])}, encoder)
    with pytest.raises(ValueError, match="Split validation, row 0"):
        check_splits(task, {"validation": single([-1, -1])}, encoder)


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
    encoded = tokenize_split(rows, task, tokenizer, encoder, GlueArguments(task_name="sst2", max_seq_length=4), 2)
    assert encoded["input_ids"][:] == [[2, 5, 6, 3], [2, 5, 3]]
    assert "labels" not in encoded.column_names
