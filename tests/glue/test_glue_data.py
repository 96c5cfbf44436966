# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Arguments of the data of fine-tuning, their splits, and tokenisation."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import BertTokenizer, DataCollatorWithPadding

from modeling_gau import GAUConfig, GAUForSequenceClassification
from modeling_gau.glue import data as glue_data
from modeling_gau.glue.columns import ColumnOptions
from modeling_gau.glue.data import (
    GlueArguments,
    LabelEncoder,
    check_splits,
    infer_task,
    load_splits,
    model_label_names,
    tokenize_split,
)
from modeling_gau.glue.tasks import GLUE_TASKS
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.runs.recipes import parse_arguments


SENTENCES = ['it said "yes', "null", "a, b and c", "NA", "plain words"]
FILE = {"train_file": "rows.csv"}
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


# Arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"task_name": "SST-2"}, "--task_name SST-2: GLUE has no task.*did you mean sst2"),
        ({"task_name": "boolq"}, "Give one of cola, sst2"),
        ({}, "No data: give --task_name, or --train_file"),
        ({"task_name": "rte", "validation_mismatched_file": "a.csv"}, "mnli only"),
        ({"task_name": "rte", "max_seq_length": 2}, "--max_seq_length must be at least 3, got 2"),
        ({"task_name": "rte", "max_eval_samples": 0}, "--max_eval_samples must be at least 1, got 0"),
        ({"task_name": "rte,cola", "text_column": "t"}, "names several tasks: options for columns are for one"),
        ({**FILE, "text_pair_column": "t"}, "--text_pair_column t .*give --text_column as well"),
        ({**FILE, "task_name": "sst2", "text_pair_column": "t"}, "--text_pair_column t .*sst2 has one text a row"),
        ({**FILE, "problem_type": "multi"}, "--problem_type multi: give one of single_label, multi_label, regression"),
        ({**FILE, "task_name": "stsb", "problem_type": "single_label"}, "single_label: stsb is a regression"),
        ({**FILE, "label_column": ["a", "b", "a"]}, "--label_column a b a names a column twice"),
        (
            {**FILE, "task_name": "sst2", "label_column": ["a", "b"]},
            "multi-label problem, which --task_name sst2 is not",
        ),
        ({**FILE, "problem_type": "regression", "label_column": ["a", "b"]}, "which --problem_type regression is not"),
        ({**FILE, "label_separator": ""}, "--label_separator must not be empty"),
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
        ("rows.csv", "sentence,label\n", "rows.csv has no rows"),
        ("rows.csv.zip", "sentence", "rows.csv.zip: files of rows are .csv.*also with .gz"),
        ("rows.parquet.gz", "sentence", "rows.parquet.gz: files of rows are"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        load_splits(GlueArguments(train_file=str(tmp_path / name)), training_arguments(tmp_path, **TRAIN), None, None)


def test_columns_of_other_names(tmp_path):
    row = {"question": "one", "passage": "", "answer": "entailment", "label": 7}
    rows = write_rows(tmp_path / "rows.csv", [row])
    columns = {"text_column": "question", "text_pair_column": "passage", "label_column": ["answer"]}
    own = load_splits(GlueArguments(train_file=rows, **columns), training_arguments(tmp_path, **TRAIN), None, None)
    assert own["train"].to_list() == [{"sentence1": "one", "sentence2": "", "label": "entailment"}]
    arguments = GlueArguments(task_name="qnli", validation_file=rows, **columns)
    qnli = load_splits(arguments, training_arguments(tmp_path, **EVAL), None, None)
    assert qnli["validation"].to_list() == [{"question": "one", "sentence": "", "label": "entailment"}]
    with pytest.raises(ValueError, match=r"rows\.csv, line 2 .*the label 'entailment' is not one of sst2"):
        arguments = GlueArguments(task_name="sst2", train_file=rows, text_column="question", label_column=["answer"])
        splits = load_splits(arguments, training_arguments(tmp_path, **TRAIN), None, None)
        check_splits(GLUE_TASKS["sst2"], splits, LabelEncoder(GLUE_TASKS["sst2"], ("negative", "positive")))


def test_the_hub_has_the_columns_of_the_task(tmp_path):
    with pytest.raises(ValueError, match="--text_column, --label_column and the like are for local files"):
        arguments = GlueArguments(task_name="sst2", text_column="review")
        load_splits(arguments, training_arguments(tmp_path, **TRAIN), None, None)


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


@pytest.mark.parametrize("texts", [("",), ("", "one"), ("one", ""), ("", "")])
def test_empty_texts_are_tokenised(tokenizer, texts):
    task = GLUE_TASKS["sst2" if len(texts) == 1 else "rte"]
    rows = Dataset.from_dict({name: [text] for name, text in zip(task.text_columns, texts, strict=True)})
    encoder = LabelEncoder(task, task.label_names)
    encoded = tokenize_split(rows, task, tokenizer, encoder, GlueArguments(task_name=task.name))
    pieces = [token for text in texts for token in (*([5] if text else []), 3)]
    assert encoded["input_ids"][:] == [[2, *pieces]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_model_learns_from_several_labels(tmp_path, tokenizer, suffix):
    """From a file to the loss: each class of the targets is where the model has it."""
    rows = [{"text": "one", "label": "joy,fear"}, {"text": "", "label": ""}, {"text": "two", "label": "fear"}]
    arguments = {"text_column": "text", "problem_type": "multi_label"}
    arguments = GlueArguments(train_file=write_rows(tmp_path / f"rows{suffix}", rows), **arguments)
    splits = load_splits(arguments, training_arguments(tmp_path, **TRAIN), None, None)
    task = infer_task(splits)
    names = model_label_names(task, ("joy", "fear"), do_train=True)
    encoder = LabelEncoder(task, names)
    check_splits(task, splits, encoder)
    inputs = tokenize_split(splits["train"], task, tokenizer, encoder, arguments)
    batch = DataCollatorWithPadding(tokenizer)([inputs[row] for row in range(3)])
    assert batch["labels"].tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    widths = {"vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "attention_key_size": 4}
    model = GAUForSequenceClassification(
        GAUConfig(**widths, num_hidden_layers=1, num_labels=2, problem_type=task.problem_type)
    ).eval()
    with torch.no_grad():
        outputs = model(**batch)
    assert outputs.loss == binary_cross_entropy_with_logits(outputs.logits, batch["labels"])
    predictions = task.predictions_from_logits(outputs.logits)
    assert torch.equal(predictions, (outputs.logits.sigmoid() > 0.5).long())
    assert task.compute_metrics(batch["labels"].long().numpy(), batch["labels"].numpy(), names)["accuracy"] == 1.0
