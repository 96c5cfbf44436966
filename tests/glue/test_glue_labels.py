# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What local data are, labels as targets of the model, and checks of columns and labels."""

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from modeling_gau.glue.columns import Splits
from modeling_gau.glue.labels import (
    LabelEncoder,
    check_columns,
    check_splits,
    has_hidden_labels,
    infer_task,
    label_values,
)
from modeling_gau.glue.tasks import GLUE_TASKS, PROBLEM_TYPES


SINGLE, MULTI, _ = PROBLEM_TYPES.values()


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
    assert (task.text_columns, task.label_names, task.problem_type) == (("sentence",), names, SINGLE)
    assert (task.metric_names, task.key_metric) == (("accuracy", "f1_macro"), "accuracy")


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
    assert infer_task({"validation": single([1, 5])}, ("score",)).is_regression
    assert infer_task({"test": single([-1])}, ("score",)).metric == "regression"
    tags = infer_task({"test": Dataset.from_dict({"sentence": ["one"]})}, saved, MULTI)
    assert (tags.is_multi_label, tags.key_metric) == (True, "f1_micro")


@pytest.mark.parametrize("names", [None, ["joy", "fear", "rage"]])
def test_several_labels_are_inferred(names):
    value = Value("string") if names is None else ClassLabel(names=names)
    features = Features({"sentence": Value("string"), "label": List(value)})
    labels = [["joy", "fear"], [], None] if names is None else [[0, 1], [], None]
    train = Dataset.from_dict({"sentence": ["one"] * 3, "label": labels}, features=features)
    task = infer_task({"train": train})
    # The columns keep their order, and one that holds no 1 is a class as well.
    assert task.label_names == (("fear", "joy") if names is None else tuple(names))
    assert (task.problem_type, task.key_metric) == (MULTI, "f1_micro")
    assert task.metric_names == ("accuracy", "f1_micro", "f1_macro")
    encoder = LabelEncoder(task, task.label_names)
    assert encoder(label_values(train.select([0, 1]), features["label"])) == [
        [1.0, 1.0, *[0.0] * (len(task.label_names) - 2)],
        [0.0] * len(task.label_names),
    ]
    with pytest.raises(ValueError, match=r"Split train, row 3 .*the label is missing"):
        check_splits(task, {"train": train}, encoder)


def test_a_checkpoint_without_names_takes_those_of_the_data():
    unnamed = ("LABEL_0", "LABEL_1")
    assert infer_task({"validation": single(["b", "a"])}, unnamed).label_names == ("a", "b")
    assert infer_task({"validation": single([1, 0])}, unnamed).label_names == unnamed
    with pytest.raises(ValueError, match=r"has 2 classes without names, the data 3: a, b, c.*config\.json"):
        infer_task({"validation": single(["b", "a", "c"])}, unnamed)


def test_a_checkpoint_of_another_kind_of_problem():
    lists = Dataset.from_dict({"sentence": ["one"], "label": [["a"]]})
    with pytest.raises(
        ValueError, match=r"trained for single_label_classification, the labels .* are for multi_label"
    ):
        infer_task({"validation": lists}, ("a", "b"), SINGLE)
    with pytest.raises(ValueError, match=r"trained for multi_label_classification.*--problem_type multi_label"):
        infer_task({"validation": single(["a", "b"])}, ("a", "b"), MULTI)
    assert infer_task({"validation": lists}, ("a", "b")).is_multi_label


@pytest.mark.parametrize(
    "splits, message",
    [
        ({"train": Dataset.from_dict({"text": ["a"], "label": [0]})}, "column `sentence`.*the data has text, label"),
        ({"test": Dataset.from_dict({"sentence": ["a"]})}, "Nothing tells the labels.*test.*fine-tuned checkpoint"),
        ({"train": single([1, 1])}, "holds 1 and nothing else"),
        ({"train": single([1, -1])}, r"holds 1 and nothing else \(and -1, which stands for hidden labels"),
        ({"train": single([None, None])}, "label is empty"),
    ],
)
def test_data_that_tell_nothing(splits, message):
    with pytest.raises(ValueError, match=message):
        infer_task(splits)


# Labels as targets


def test_labels_by_id_and_by_name_in_another_order():
    encoder = LabelEncoder(GLUE_TASKS["mnli"], ("contradiction", "entailment", "neutral"))
    values = [0, 1, 2, "entailment", "neutral", "contradiction", 2.0, "2"]
    assert encoder(values) == [1, 2, 0, 1, 2, 0, 0, 0]


def test_names_that_are_numbers_are_names():
    task = infer_task({"train": single([1, 2, 3])})
    assert LabelEncoder(task, task.label_names)([1, 2, 3, "3"]) == [0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"row 2 .*label 0 is not one of local\. Allowed: 1, 2, 3\."):
        LabelEncoder(task, task.label_names).check("validation", [1, 0])


@pytest.mark.parametrize(
    "task_name, labels, message",
    [
        ("sst2", [0, 1, 2], r"Split train, row 3 .*label 2 is not one of sst2. Allowed: 0 \(negative\), 1 \(positive"),
        ("sst2", [0, -1], "row 2 .*-1.*hidden labels of a test split.*--do_predict"),
        ("sst2", [0, None], "row 2 .*label is missing"),
        ("sst2", ["negative", ""], "row 2 .*label is missing"),
        ("sst2", ["negative", "Positive"], r"label 'Positive' is not one of sst2 \(did you mean 'positive'\?\)"),
        ("sst2", [0.5], "label 0.5 is not one of sst2"),
        ("stsb", [0.0, 5.5], "row 2 .*label 5.5 .*Allowed: a finite number from 0 to 5"),
        ("stsb", [float("nan")], "label nan"),
        ("stsb", [None], "label is missing"),
        ("stsb", ["3.5", "high"], "row 2 .*label 'high'"),
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
        ({"sentence1": [1], "sentence2": ["b"], "label": [0]}, "column sentence1 must be text, but it is .*int64"),
        (
            {"sentence1": ["a", "b"], "sentence2": ["b", None], "label": [0, 1]},
            "Split train, row 2 .*the text 'sentence2' is missing",
        ),
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
    with pytest.raises(ValueError, match="Split test, row 1 "):
        check_splits(task, {"test": single([-1, 1])}, encoder)
    with pytest.raises(ValueError, match="Split validation, row 1 "):
        check_splits(task, {"validation": single([-1, -1])}, encoder)


def test_labels_that_are_refused_of_several():
    task = infer_task({"train": Dataset.from_dict({"sentence": ["one"], "label": [["joy", "fear"]]})})
    encoder = LabelEncoder(task, task.label_names)
    encoder.check("train", [["joy"], [], ["fear", "0"]])
    with pytest.raises(ValueError, match=r"row 2 .*label 'Joy' is not one of local \(did you mean 'joy'.*0 \(fear\)"):
        encoder.check("train", [["joy"], ["fear", "Joy"]])
    with pytest.raises(ValueError, match=r"row 1 .*label 'joy' is no list of labels.*--problem_type multi_label"):
        encoder.check("train", ["joy"])


# Classes that the data name


def named(names: list[str], ids: list[int]) -> Dataset:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"sentence": ["one"] * len(ids), "label": ids}, features=features)


def test_ids_of_another_order_are_taken_by_name():
    task = GLUE_TASKS["mnli"]
    encoder = LabelEncoder(task, ("neutral", "entailment", "contradiction"))
    rows = named(["contradiction", "entailment", "neutral"], [0, 1, 2, 0]).rename_column("sentence", "premise")
    rows = rows.add_column("hypothesis", ["two"] * 4)
    check_splits(task, {"train": rows}, encoder)
    assert encoder(label_values(rows, rows.features["label"])) == [2, 1, 0, 2]


def test_every_split_has_its_own_order():
    splits = {"train": named(["b", "a"], [0, 1]), "validation": named(["a", "b"], [0, 1]), "test": single([0, 1])}
    task = infer_task(splits)
    encoder = LabelEncoder(task, task.label_names)
    check_splits(task, splits, encoder)
    targets = {split: encoder(label_values(rows, rows.features["label"])) for split, rows in splits.items()}
    assert targets == {"train": [0, 1], "validation": [1, 0], "test": [0, 1]}


def test_classes_of_other_names_are_refused():
    task = GLUE_TASKS["sst2"]
    encoder = LabelEncoder(task, task.label_names)
    with pytest.raises(ValueError, match=r"train has the classes negativ, positive, sst2 has .*mean 'negative'"):
        check_splits(task, {"train": named(["negativ", "positive"], [0, 1])}, encoder)
    # Where the checkpoint knows the classes, the data must mean the same.
    task = infer_task({"validation": named(["spam", "ham"], [0])}, ("ham", "eggs"))
    with pytest.raises(ValueError, match=r"has the classes spam, ham, local has ham, eggs"):
        check_splits(task, {"validation": named(["spam", "ham"], [0])}, LabelEncoder(task, task.label_names))


def test_ids_beyond_the_named_classes_are_refused():
    rows = named(["negative", "positive"], [0, 1])
    table = rows.data.table.set_column(1, "label", [[0, 2]])
    rows = Dataset(table, info=rows.info)
    task = GLUE_TASKS["sst2"]
    with pytest.raises(ValueError, match=r"row 2 .*id 2, beyond the data's own classes"):
        check_splits(task, {"train": rows}, LabelEncoder(task, task.label_names))


def test_hidden_labels_may_have_names():
    rows = named(["negative", "positive"], [-1, -1])
    assert has_hidden_labels(rows)
    check_splits(GLUE_TASKS["sst2"], {"test": rows}, LabelEncoder(GLUE_TASKS["sst2"], ("negative", "positive")))


def test_the_line_of_a_file_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('sentence,label\n"a\nb",1\n\nc,3\n', encoding="utf-8")
    rows = Dataset.from_dict({"sentence": ["a\nb", "c"], "label": [1, 3]})
    task = GLUE_TASKS["sst2"]
    with pytest.raises(
        ValueError, match=r"rows\.csv, line 5 \(Split train, row 1 counted from 0\): the label 3 is not"
    ):
        splits = Splits({"train": rows}, {"train": str(path)})
        check_splits(task, splits, LabelEncoder(task, task.label_names))
