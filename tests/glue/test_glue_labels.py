# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which classes there are, which output of a model is which class, and checks of labels."""

from dataclasses import replace

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from modeling_gau import GAUConfig
from modeling_gau.glue.labels import (
    LabelEncoder,
    check_labels,
    has_hidden_labels,
    infer_task,
    label_values,
    model_label_names,
    saved_label_names,
)
from modeling_gau.glue.tasks import GLUE_TASKS, LOCAL_TASK, PROBLEM_TYPES


SINGLE, MULTI, _ = PROBLEM_TYPES.values()


@pytest.fixture
def warnings_of_names(monkeypatch):
    messages = []
    monkeypatch.setattr("modeling_gau.glue.labels.logger.warning", messages.append)
    return messages


def test_saved_classes_are_those_of_a_classifier():
    config = GAUConfig(id2label={0: "b", 1: "a", 2: "c"})
    assert saved_label_names(config) is None
    config.architectures = ["GAUForMaskedLM"]
    assert saved_label_names(config) is None
    config.architectures = ["GAUForSequenceClassification"]
    assert saved_label_names(config) == ("b", "a", "c")


MNLI = ("contradiction", "neutral", "entailment")


@pytest.mark.parametrize("do_train", [False, True])
@pytest.mark.parametrize(
    "task_name, saved, names",
    [
        ("mnli", None, GLUE_TASKS["mnli"].label_names),
        ("mnli", ("LABEL_0", "LABEL_1", "LABEL_2"), GLUE_TASKS["mnli"].label_names),
        ("mnli", MNLI, MNLI),
        # Spelled in another way.
        ("mnli", ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), MNLI),
        ("mrpc", ("equivalent", "not equivalent"), ("equivalent", "not_equivalent")),
        ("rte", ("Not-Entailment", "Entailment"), ("not_entailment", "entailment")),
    ],
)
def test_the_order_of_the_checkpoint_is_kept(task_name, saved, names, do_train):
    assert model_label_names(GLUE_TASKS[task_name], saved, do_train) == names


def test_a_classifier_of_other_classes():
    rte, saved = GLUE_TASKS["rte"], GLUE_TASKS["mnli"].label_names
    with pytest.raises(ValueError, match=r"knows entailment, neutral, contradiction; rte has .*add --do_train"):
        model_label_names(rte, saved, do_train=False)
    with pytest.raises(ValueError, match="--ignore_mismatched_sizes to start a new classifier"):
        model_label_names(rte, saved, do_train=True)
    assert model_label_names(rte, saved, do_train=True, ignore_mismatched_sizes=True) == rte.label_names
    cola = GLUE_TASKS["cola"]
    assert model_label_names(cola, GLUE_TASKS["sst2"].label_names, do_train=True) == cola.label_names
    message = r"knows entail, neutral, contradiction; mnli has .*did you mean 'entailment'.*or add --do_train"
    with pytest.raises(ValueError, match=message):
        model_label_names(GLUE_TASKS["mnli"], ("entail", "neutral", "contradiction"), do_train=False)
    # Names that differ in capitals alone are not mixed up.
    letters = replace(LOCAL_TASK, label_names=("a", "A"), metric="single_label", problem_type=SINGLE)
    assert model_label_names(letters, ("A", "a"), do_train=False) == ("A", "a")
    with pytest.raises(ValueError, match="knows a, b; local has a, A"):
        model_label_names(letters, ("a", "b"), do_train=False)


def classifier_config(id2label: dict, label2id: dict | None) -> GAUConfig:
    return GAUConfig(id2label=id2label, label2id=label2id, architectures=["GAUForSequenceClassification"])


@pytest.mark.parametrize(
    "label2id",
    [None, {"LABEL_0": 0, "LABEL_1": 1}, {"neg": 0, "pos": 1}, {"pos": "1", "neg": "0"}, {"neg": 0, "pos": 1, "+": 1}],
)
def test_maps_that_agree(label2id):
    assert saved_label_names(classifier_config({0: "neg", 1: "pos"}, label2id)) == ("neg", "pos")


@pytest.mark.parametrize(
    "id2label, label2id, message",
    [
        ({0: "neg", 1: "pos"}, {"neg": 1, "pos": 0}, r"id2label \{0: 'neg', 1: 'pos'\} and label2id .* contradict"),
        ({0: "neg", 1: "pos"}, {"negative": 0, "positive": 1}, "contradict each other"),
        ({0: "LABEL_0", 1: "LABEL_1"}, {"neg": 0, "pos": 1}, "contradict each other"),
        ({0: "neg", 2: "pos"}, None, r"ids must count 0, 1.*config\.json"),
        ({0: "neg", 1: "neg"}, None, "different names"),
    ],
)
def test_maps_that_contradict_each_other(id2label, label2id, message):
    with pytest.raises(ValueError, match=message):
        saved_label_names(classifier_config(id2label, label2id))


def test_names_that_say_nothing_are_warned_of(warnings_of_names):
    unnamed = ("LABEL_0", "LABEL_1")
    assert model_label_names(GLUE_TASKS["sst2"], unnamed, do_train=True) == ("negative", "positive")
    assert model_label_names(GLUE_TASKS["stsb"], ("LABEL_0",), do_train=False) == ("similarity",)
    assert warnings_of_names == []
    assert model_label_names(GLUE_TASKS["sst2"], unnamed, do_train=False) == ("negative", "positive")
    assert "LABEL_0, LABEL_1, so labels are matched by number: 0 is negative" in warnings_of_names[0]


def encoder_of(task) -> LabelEncoder:
    return LabelEncoder(task, task.label_names)


def single(labels, **columns) -> Dataset:
    return Dataset.from_dict({"sentence": ["one"] * len(labels), "label": labels, **columns})


def named(names: list[str], ids: list[int]) -> Dataset:
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"sentence": ["one"] * len(ids), "label": ids}, features=features)


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
    train = named(["zebra", "ape"], [0, 1])
    task = infer_task({"train": train})
    assert task.label_names == ("zebra", "ape")
    assert encoder_of(task)(train["label"]) == [0, 1]


def test_pairs_and_scores_are_inferred():
    train = Dataset.from_dict({"sentence1": ["one"], "sentence2": ["two"], "label": [0.5]})
    task = infer_task({"train": train})
    assert (task.text_columns, task.is_regression, task.label_names) == (("sentence1", "sentence2"), True, ("score",))
    assert task.key_metric == "pearson"


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
    encoder = encoder_of(task)
    assert encoder(label_values(train.select([0, 1]), features["label"])) == [
        [1.0, 1.0, *[0.0] * (len(task.label_names) - 2)],
        [0.0] * len(task.label_names),
    ]
    with pytest.raises(ValueError, match=r"Split train, row 3 .*the label is missing"):
        check_labels(task, {"train": train}, encoder)


def test_a_checkpoint_without_names_takes_those_of_the_data():
    unnamed = ("LABEL_0", "LABEL_1")
    assert infer_task({"validation": single(["b", "a"])}, unnamed).label_names == ("a", "b")
    assert infer_task({"validation": single([1, 0])}, unnamed).label_names == unnamed
    with pytest.raises(ValueError, match=r"has 2 classes without names, the data 3: a, b, c.*config\.json"):
        infer_task({"validation": single(["b", "a", "c"])}, unnamed)


def test_a_checkpoint_of_another_kind_of_problem():
    lists = Dataset.from_dict({"sentence": ["one"], "label": [["a"]]})
    with pytest.raises(ValueError, match=r"trained for single_label_classification, but the labels .* multi_label"):
        infer_task({"validation": lists}, ("a", "b"), SINGLE)
    with pytest.raises(ValueError, match=r"trained for multi_label_classification.*--problem_type multi_label"):
        infer_task({"validation": single(["a", "b"])}, ("a", "b"), MULTI)
    assert infer_task({"validation": lists}, ("a", "b")).is_multi_label


@pytest.mark.parametrize(
    "splits, message",
    [
        ({"train": Dataset.from_dict({"text": ["a"], "label": [0]})}, "column `sentence`.*the data has text, label"),
        ({"test": Dataset.from_dict({"sentence": ["a"]})}, "There are no labels in test.*fine-tuned checkpoint"),
        ({"train": single([1, 1])}, "Column label has only 1: give two or more"),
        ({"train": single([1, -1])}, "Column label has only 1: give two or more"),
        ({"train": single([None, None])}, "There are no labels in train"),
    ],
)
def test_data_that_tell_nothing(splits, message):
    with pytest.raises(ValueError, match=message):
        infer_task(splits)


def test_labels_by_id_by_name_in_another_order_and_as_scores():
    encoder = LabelEncoder(GLUE_TASKS["mnli"], ("contradiction", "entailment", "neutral"))
    values = [0, 1, 2, "entailment", "neutral", "contradiction", 2.0, "2"]
    assert encoder(values) == [1, 2, 0, 1, 2, 0, 0, 0]
    scores = encoder_of(GLUE_TASKS["stsb"])
    scores.check("train", [0, 2.5, "5.0"])
    assert scores([0, 2.5, "5.0"]) == [0.0, 2.5, 5.0]


def test_names_that_are_numbers_are_names():
    task = infer_task({"train": single([1, 2, 3])})
    assert encoder_of(task)([1, 2, 3, "3"]) == [0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"row 2 .*local has no label 0\. Allowed: 1, 2, 3\."):
        encoder_of(task).check("validation", [1, 0])


@pytest.mark.parametrize(
    "task_name, labels, message",
    [
        ("sst2", [0, 1, 2], r"Split train, row 3 .*sst2 has no label 2. Allowed: 0 \(negative\), 1 \(positive"),
        ("sst2", [0, -1], "row 2 .*-1, which marks the hidden labels of test rows.*--do_predict"),
        ("sst2", [0, None], "row 2 .*label is missing"),
        ("sst2", ["negative", ""], "row 2 .*label is missing"),
        ("sst2", ["negative", "Positive"], r"sst2 has no label 'Positive' \(did you mean 'positive'\?\)"),
        ("sst2", [0.5], "sst2 has no label 0.5"),
        ("stsb", [0.0, 5.5], "row 2 .*label 5.5. Allowed: a finite number from 0 to 5"),
        ("stsb", [float("nan")], "label nan"),
        ("stsb", [None], "label is missing"),
        ("stsb", ["3.5", "high"], "row 2 .*label 'high'"),
        ("stsb", [-1.0], "label -1.0"),
    ],
)
def test_labels_that_are_refused(task_name, labels, message):
    task = GLUE_TASKS[task_name]
    with pytest.raises(ValueError, match=message):
        encoder_of(task).check("train", labels)


def test_a_test_split_needs_no_labels_but_right_ones():
    task = GLUE_TASKS["sst2"]
    encoder = encoder_of(task)
    unlabelled = Dataset.from_dict({"sentence": ["one"]})
    for rows in (unlabelled, single([-1, -1]), named(["negative", "positive"], [-1, -1])):
        assert has_hidden_labels(rows)
        check_labels(task, {"test": rows}, encoder)
    assert not has_hidden_labels(single([-1, 1]))
    with pytest.raises(ValueError, match="Split test, row 1 "):
        check_labels(task, {"test": single([-1, 1])}, encoder)
    with pytest.raises(ValueError, match="Split validation, row 1 "):
        check_labels(task, {"validation": single([-1, -1])}, encoder)


def test_labels_that_are_refused_of_several():
    task = infer_task({"train": Dataset.from_dict({"sentence": ["one"], "label": [["joy", "fear"]]})})
    encoder = encoder_of(task)
    encoder.check("train", [["joy"], [], ["fear", "0"]])
    with pytest.raises(ValueError, match=r"row 2 .*local has no label 'Joy' \(did you mean 'joy'.*0 \(fear\)"):
        encoder.check("train", [["joy"], ["fear", "Joy"]])
    with pytest.raises(ValueError, match=r"row 1 .*label 'joy' is not a list of labels.*--problem_type multi_label"):
        encoder.check("train", ["joy"])


def test_ids_of_another_order_are_taken_by_name():
    task = GLUE_TASKS["mnli"]
    encoder = LabelEncoder(task, ("neutral", "entailment", "contradiction"))
    rows = named(["contradiction", "entailment", "neutral"], [0, 1, 2, 0]).rename_column("sentence", "premise")
    rows = rows.add_column("hypothesis", ["two"] * 4)
    check_labels(task, {"train": rows}, encoder)
    assert encoder(label_values(rows, rows.features["label"])) == [2, 1, 0, 2]


def test_every_split_has_its_own_order():
    splits = {"train": named(["b", "a"], [0, 1]), "validation": named(["a", "b"], [0, 1]), "test": single([0, 1])}
    task = infer_task(splits)
    encoder = encoder_of(task)
    check_labels(task, splits, encoder)
    targets = {split: encoder(label_values(rows, rows.features["label"])) for split, rows in splits.items()}
    assert targets == {"train": [0, 1], "validation": [1, 0], "test": [0, 1]}


def test_classes_of_other_names_are_refused():
    task = GLUE_TASKS["sst2"]
    encoder = encoder_of(task)
    with pytest.raises(ValueError, match=r"train has the classes negativ, positive, but sst2 has .*mean 'negative'"):
        check_labels(task, {"train": named(["negativ", "positive"], [0, 1])}, encoder)
    # Where the checkpoint knows the classes, the data must mean the same.
    task = infer_task({"validation": named(["spam", "ham"], [0])}, ("ham", "eggs"))
    with pytest.raises(ValueError, match=r"has the classes spam, ham, but local has ham, eggs"):
        check_labels(task, {"validation": named(["spam", "ham"], [0])}, encoder_of(task))


def test_the_line_of_a_file_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('sentence,label\n"a\nb",1\n\nc,3\n', encoding="utf-8")
    rows = Dataset.from_dict({"sentence": ["a\nb", "c"], "label": [1, 3]})
    task = GLUE_TASKS["sst2"]
    message = r"rows\.csv, line 5 \(Split train, row 1 counted from 0\): sst2 has no label 3"
    with pytest.raises(ValueError, match=message):
        check_labels(task, {"train": rows}, encoder_of(task), {"train": str(path)})
