# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Tasks of CLUE: names, classes, rows of the Hub and of the official folders as texts and labels."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from modeling_gau.glue import data as glue_data
from modeling_gau.glue.benchmarks import BENCHMARKS
from modeling_gau.glue.clue_tasks import CLUE_TASKS, KEYWORD_SEPARATOR, keywords_and_abstract, text_with_marked_spans
from modeling_gau.glue.data import GlueArguments, LabelEncoder, check_splits, has_hidden_labels, load_splits
from modeling_gau.glue.folders import task_files
from modeling_gau.glue.labels import label_values
from modeling_gau.glue.tasks import GLUE_TASKS
from modeling_gau.glue.trainer import GlueTrainingArguments
from modeling_gau.runs.recipes import parse_arguments


NAMES = ("afqmc", "tnews", "iflytek", "cmnli", "ocnli", "csl", "cluewsc2020")
WSC_TEXT = "床边的手机响了，它响了很久"
WSC_TARGET = {"span1_text": "手机", "span1_index": 3, "span2_text": "它", "span2_index": 8}
WSC = {"text": WSC_TEXT, "target": WSC_TARGET}
CSL = {"abst": "提出一种算法", "keyword": ["算法", "水声"]}
PAIR = {"sentence1": "天在下雨", "sentence2": "天气不好"}


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def clue(task_name: str | None, **options) -> GlueArguments:
    return GlueArguments(dataset_name="clue", task_name=task_name, **options)


def stages(tmp_path, *names: str) -> GlueTrainingArguments:
    return GlueTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, **dict.fromkeys(names, True))


def write(path: Path, rows: list[dict]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def check(task_name: str, splits) -> None:
    task = CLUE_TASKS[task_name]
    check_splits(task, splits, LabelEncoder(task, task.label_names))


# Names


def test_tasks_are_those_of_clue():
    assert tuple(CLUE_TASKS) == NAMES == clue("all").task_names()
    news = [code for code in range(100, 117) if code not in (105, 111)]  # codes of the benchmark, with their gaps
    inference = ("neutral", "entailment", "contradiction")
    assert {name: task.label_names for name, task in CLUE_TASKS.items()} == {
        "afqmc": ("0", "1"),
        "tnews": tuple(map(str, news)),
        "iflytek": tuple(map(str, range(119))),
        "cmnli": inference,
        "ocnli": inference,
        "csl": ("0", "1"),
        "cluewsc2020": ("true", "false"),
    }
    assert all(task.metric_names == ("accuracy",) for task in CLUE_TASKS.values())


def test_examples_are_written_as_the_model_reads_them():
    for benchmark in BENCHMARKS.values():
        for task in benchmark.tasks.values():
            example = benchmark.example_of(task)
            assert isinstance(example, tuple) == (len(task.text_columns) == 2)
            texts = (example or "an example of the card's own",) if len(task.text_columns) == 1 else example
            assert [text.isascii() for text in texts] == [benchmark.name == "glue"] * len(texts)
            assert bool(task.input_format) == (task.prepare is not None)
    keywords, _ = BENCHMARKS["clue"].example_of(CLUE_TASKS["csl"])
    assert KEYWORD_SEPARATOR in keywords
    assert re.search(r"_\w+_.*\[\w+\]", BENCHMARKS["clue"].example_of(CLUE_TASKS["cluewsc2020"]))


def test_no_name_is_of_both_benchmarks():
    assert not CLUE_TASKS.keys() & GLUE_TASKS.keys()
    for benchmark in BENCHMARKS.values():
        assert all(task.benchmark == benchmark.name for task in benchmark.tasks.values())


def test_the_benchmark_on_the_command_line():
    argv = "--dataset_name clue --task_name csl,tnews".split()
    (arguments,) = parse_arguments((GlueArguments,), argv)
    assert arguments.task_names() == ("csl", "tnews") and arguments.benchmark().hub_dataset == "clue/clue"
    (arguments,) = parse_arguments((GlueArguments,), ["--task_name", "mrpc"])
    assert arguments.task() is GLUE_TASKS["mrpc"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"task_name": "tnews"},
            "GLUE has no task 'tnews', which is one of CLUE: give --dataset_name clue, or one of co",
        ),
        ({"task_name": "rte,CSL"}, "GLUE has no task 'CSL', which is one of CLUE"),
        (
            {"dataset_name": "clue", "task_name": "mrpc"},
            "CLUE has no task 'mrpc', which is one of GLUE: give --data.*afq",
        ),
        ({"dataset_name": "clue", "task_name": "tnew"}, r"CLUE has no task 'tnew'. Give one of afqmc.*mean tnews\?"),
        ({"dataset_name": "cleu", "task_name": "csl"}, r"--dataset_name cleu: give one of glue, clue.*did you mean"),
        (
            {"dataset_name": "clue", "train_file": "a.json"},
            "--dataset_name clue goes with --task_name: give one of afq",
        ),
        (
            {"dataset_name": "clue", "task_name": "csl", "train_file": "a.json", "text_column": "abst"},
            "--text_column and --text_pair_column: the texts of csl are made from keyword and abst",
        ),
        (
            {"dataset_name": "clue", "task_name": "csl", "train_file": "a.json", "text_pair_column": "abstract"},
            "--text_column and --text_pair_column: the texts of csl are made from keyword and abst",
        ),
        (
            {"dataset_name": "clue", "task_name": "csl", "test_1_0_file": "a"},
            "--test_1_0_file goes with .* tnews or clu",
        ),
        ({"task_name": "sst2", "test_1_0_file": "a"}, "--test_1_0_file goes with --dataset_name clue"),
        (
            {"dataset_name": "clue", "task_name": "csl", "validation_mismatched_file": "a"},
            "--task_name mnli only",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GlueArguments(**arguments)


# Texts that are made


def test_keywords_are_the_first_text_of_a_pair():
    assert keywords_and_abstract(CSL) == {"keyword": "算法；水声", "abst": "提出一种算法"}
    assert keywords_and_abstract(CSL | {"keyword": ["算法"]})["keyword"] == "算法"
    for keywords in ("算法", None, ["算法", 3]):
        with pytest.raises(ValueError, match=f"'keyword' must be a list of texts, got .*{re.escape(str(keywords))}"):
            keywords_and_abstract(CSL | {"keyword": keywords})


def span(noun: str, at: int, pronoun: str, pronoun_at: int) -> dict:
    return {"span1_text": noun, "span1_index": at, "span2_text": pronoun, "span2_index": pronoun_at}


@pytest.mark.parametrize(
    "text, target, marked",
    [
        (WSC_TEXT, WSC_TARGET, "床边的_手机_响了，[它]响了很久"),
        ("它响了，是手机", span("手机", 5, "它", 0), "[它]响了，是_手机_"),
        ("手机它", span("手机", 0, "它", 2), "_手机_[它]"),
        ("它手机", span("手机", 1, "它", 0), "[它]_手机_"),
        # One within the other: at its beginning, in the middle, at its end.
        ("他的母亲", span("他的母亲", 0, "他", 0), "_[他]的母亲_"),
        ("说他的母亲", span("说他的", 0, "他", 1), "_说[他]的_母亲"),
        ("母亲爱他", span("他", 3, "爱他", 2), "母亲[爱_他_]"),
        ("😀手机它", span("手机", 1, "它", 3), "😀_手机_[它]"),
    ],
)
def test_noun_and_pronoun_are_marked_in_either_order(text, target, marked):
    assert text_with_marked_spans({"text": text, "target": target}) == {"text": marked}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"span1_index": 4},
            "'span1_index' 4 does not point at 'span1_text' '手机': there is '机响' .it is there at 3",
        ),
        ({"span2_index": 99}, "'span2_index' 99 does not point at 'span2_text' '它': there is '' .it is there at 8"),
        ({"span2_text": "她"}, "'span2_index' 8 .*'她': there is '它' .it is nowhere in the text"),
        ({"span1_index": -10}, "'span1_index' of 'target' must be a number from 0, got -10"),
        ({"span1_index": "3"}, "'span1_index' of 'target' must be a number from 0, got '3'"),
        ({"span2_text": None}, "'span2_text' of 'target' must be text, got None"),
    ],
)
def test_spans_that_are_elsewhere(changes, message):
    with pytest.raises(ValueError, match=message):
        text_with_marked_spans({"text": WSC_TEXT, "target": WSC_TARGET | changes})


def test_what_is_no_text_and_no_target():
    with pytest.raises(ValueError, match="'text' must be text, got None"):
        text_with_marked_spans({"text": None, "target": WSC_TARGET})
    with pytest.raises(ValueError, match=r"'target' must be an object with the spans .* got '手机'"):
        text_with_marked_spans({"text": WSC_TEXT, "target": "手机"})


# The Hub


def hub(monkeypatch, features: dict, **splits: list[dict]) -> list[tuple]:
    """Replaces the Hub by `splits` and records what was asked of it."""
    calls = []

    def load(*arguments, **options):
        calls.append(arguments)
        rows = {name: Dataset.from_list(rows, features=Features(features)) for name, rows in splits.items()}
        return DatasetDict(rows)

    monkeypatch.setattr(glue_data, "load_dataset", load)
    return calls


TEXT, INDEX = Value("string"), Value("int32")
CSL_FEATURES = {
    "idx": INDEX, "corpus_id": INDEX, "abst": TEXT, "label": ClassLabel(names=["0", "1"]), "keyword": List(TEXT),
}  # fmt: skip
WSC_FEATURES = {
    "idx": INDEX,
    "text": TEXT,
    "label": ClassLabel(names=["true", "false"]),
    "target": {"span1_text": TEXT, "span2_text": TEXT, "span1_index": INDEX, "span2_index": INDEX},
}


def test_rows_of_the_hub_become_texts(tmp_path, monkeypatch):
    row = CSL | {"idx": 0, "corpus_id": 1, "label": 1}
    calls = hub(monkeypatch, CSL_FEATURES, train=[row], validation=[row], test=[row | {"label": -1}])
    splits = load_splits(clue("csl"), stages(tmp_path, "do_train", "do_eval", "do_predict"), None, None)
    assert calls == [("clue/clue", "csl")]
    assert splits["train"][0] == {
        "idx": 0,
        "corpus_id": 1,
        "abst": "提出一种算法",
        "label": 1,
        "keyword": "算法；水声",
    }
    assert has_hidden_labels(splits["test"]) and splits["test"]["keyword"][:] == ["算法；水声"]
    check("csl", splits)

    row = WSC | {"idx": 0, "label": 0}
    hub(monkeypatch, WSC_FEATURES, validation=[row], test=[row | {"label": -1}])
    splits = load_splits(clue("cluewsc2020"), stages(tmp_path, "do_eval", "do_predict"), None, None)
    assert list(splits) == ["validation", "test"]  # the Hub has no rows of CLUE 1.0
    assert splits["validation"][0] == {"idx": 0, "label": 0, "text": "床边的_手机_响了，[它]响了很久"}
    check("cluewsc2020", splits)


def test_texts_are_made_again_on_request_and_by_other_code(tmp_path, monkeypatch):
    rows = Dataset.from_generator(lambda: iter([CSL | {"label": 1}]))  # in a file, beside which there is a cache
    monkeypatch.setattr(glue_data, "load_dataset", lambda *_, **options: DatasetDict(validation=rows))

    def keyword(made: str, **options) -> str:
        task = replace(CLUE_TASKS["csl"], prepare=lambda row: {"keyword": made, "abst": row["abst"]})
        monkeypatch.setitem(CLUE_TASKS, "csl", task)
        return load_splits(clue("csl", **options), stages(tmp_path, "do_eval"), None, None)["validation"]["keyword"][0]

    assert [keyword("one"), keyword("two")] == ["one", "one"]
    assert keyword("two", overwrite_cache=True) == "two"
    monkeypatch.setattr("modeling_gau.glue.rows._VERSION", 2)
    assert keyword("three") == "three"


def test_the_hub_out_of_reach(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("offline")

    monkeypatch.setattr(glue_data, "load_dataset", fail)
    with pytest.raises(ConnectionError, match=r"several tasks, --data_dir with a folder .*CLUE the official archives"):
        load_splits(clue("csl"), stages(tmp_path, "do_eval"), None, None)


def test_labels_of_the_hub_are_read_by_their_codes(tmp_path, monkeypatch):
    """The Hub counts the classes of tnews from 0; what counts is that its class 5 is called 106."""
    features = {"sentence": TEXT, "label": ClassLabel(names=list(CLUE_TASKS["tnews"].label_names)), "idx": INDEX}
    hub(monkeypatch, features, validation=[{"sentence": "新闻", "label": 5, "idx": 0}])
    splits = load_splits(clue("tnews"), stages(tmp_path, "do_eval"), None, None)
    check("tnews", splits)
    names = CLUE_TASKS["tnews"].label_names[::-1]
    encoder = LabelEncoder(CLUE_TASKS["tnews"], names)
    assert names[encoder(label_values(splits["validation"], features["label"]))[0]] == "106"


def test_rows_of_the_hub_of_which_no_text_can_be_made(tmp_path, monkeypatch):
    wrong = WSC | {"target": WSC_TARGET | {"span2_index": 7}}
    hub(monkeypatch, WSC_FEATURES, validation=[row | {"idx": 0, "label": 0} for row in (WSC, wrong)])
    with pytest.raises(ValueError, match=r"^Split validation, row 2 .*'span2_index' 7 does not point at .*there at 8"):
        load_splits(clue("cluewsc2020"), stages(tmp_path, "do_eval"), None, None)
    hub(monkeypatch, {"text": TEXT}, validation=[{"text": WSC_TEXT}])
    with pytest.raises(ValueError, match=r"Split validation has no column target\. cluewsc2020 needs text, target;"):
        load_splits(clue("cluewsc2020"), stages(tmp_path, "do_eval"), None, None)


# Local files


FOLDERS = {
    "afqmc": (PAIR | {"label": "1"}, PAIR | {"label": "1"}),
    "tnews": (
        {"label": "106", "label_desc": "news_house", "sentence": "房价", "keywords": "房"},
        {"sentence": "房价", "label": "106"},
    ),
    "iflytek": (
        {"label": "118", "label_des": "其他", "sentence": "一个应用"},
        {"sentence": "一个应用", "label": "118"},
    ),
    "cmnli": (PAIR | {"label": "neutral"}, PAIR | {"label": "neutral"}),
    "ocnli": (PAIR | {"level": "easy", "label": "entailment", "id": 7}, PAIR | {"label": "entailment"}),
    "csl": (CSL | {"id": 1, "label": "0"}, {"keyword": "算法；水声", "abst": "提出一种算法", "label": "0"}),
    "cluewsc2020": (WSC | {"label": "true"}, {"text": "床边的_手机_响了，[它]响了很久", "label": "true"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_official_folders(tmp_path, name):
    row, expected = FOLDERS[name]
    hidden = {key: value for key, value in row.items() if key[:5] != "label"} | {"id": 0}
    folder = tmp_path / "data" / (name if name == "afqmc" else f"{name}_public")
    train = write(folder / ("train.50k.json" if name == "ocnli" else "train.json"), [row])
    files = {"train_file": train, "validation_file": write(folder / "dev.json", [row, row])}
    files["test_file"] = write(folder / "test.json", [hidden])
    write(folder / "labels.json", [{"label": "100"}])
    assert task_files(str(tmp_path / "data"), CLUE_TASKS[name]) == files
    splits = load_splits(clue(name, **files), stages(tmp_path, "do_train", "do_eval", "do_predict"), None, None)
    check(name, splits)
    assert splits["train"].to_list() == [expected] and len(splits["validation"]) == 2
    del expected["label"]
    assert splits["test"].to_list() == [expected]


def test_two_tasks_have_a_test_set_of_clue_1_0(tmp_path):
    row = {"sentence": "房价"}
    files = {"test_file": write(tmp_path / "tnews_public/test.json", [row] * 3)}
    files["test_1_0_file"] = write(tmp_path / "tnews_public/test1.0.json", [row] * 2)
    assert task_files(str(tmp_path), CLUE_TASKS["tnews"]) == files
    splits = load_splits(clue("tnews", **files), stages(tmp_path, "do_predict"), None, None)
    assert {split: len(rows) for split, rows in splits.items()} == {"test": 3, "test1.0": 2}


def test_the_test_set_of_clue_1_0_alone(tmp_path):
    files = {"test_1_0_file": write(tmp_path / "test1.0.json", [{"sentence": "房价"}])}
    assert list(load_splits(clue("tnews", **files), stages(tmp_path, "do_predict"), None, None)) == ["test1.0"]
    with pytest.raises(
        ValueError, match=r"Give --validation_file \(in --data_dir a file called validation or dev, with"
    ):
        load_splits(clue("tnews", **files), stages(tmp_path, "do_eval"), None, None)


def test_names_that_a_file_may_have(tmp_path):
    folder = tmp_path / "ocnli_public"
    write(folder / "train.3k.json", [PAIR | {"label": "neutral"}])
    write(folder / "dev.json", [PAIR | {"label": "neutral"}])
    arguments = clue("ocnli", **task_files(str(tmp_path), CLUE_TASKS["ocnli"]))
    with pytest.raises(ValueError, match=r"split train, .*in --data_dir a file called train or train\.50k, with"):
        load_splits(arguments, stages(tmp_path, "do_train"), None, None)


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"tnews_public or .*/tnews has no files of tnews. They are named .*test1\.0"):
        task_files(str(tmp_path), CLUE_TASKS["tnews"])
    for folder in ("tnews", "tnews_public"):
        write(tmp_path / folder / "dev.json", [{}])
    with pytest.raises(ValueError, match="validation of tnews is there twice"):
        task_files(str(tmp_path), CLUE_TASKS["tnews"])


@pytest.mark.parametrize(
    "name, rows, message",
    [
        (
            "cluewsc2020",
            [WSC, WSC | {"target": WSC_TARGET | {"span1_index": 0}}],
            "line 2: 'span1_index' 0 does not po",
        ),
        ("csl", [CSL | {"keyword": "算法"}], "line 1: 'keyword' must be a list of texts, got '算法'"),
        ("csl", [CSL | {"abst": None}], "line 1: the text 'abst' is missing or null"),
        ("csl", [{"abst": "一种算法"}], r"no column keyword .*needs keyword, abst; there is label, abst. Rename"),
        ("tnews", [{"sentence": "房价", "label": "105"}], r"line 1 .*the label '105' is not one of tnews.*104, 106"),
        (
            "cluewsc2020",
            [WSC | {"label": "yes"}],
            r"line 1 .*'yes' is not one of cluewsc2020.*0 \(true\), 1 \(false\)",
        ),
    ],
)
def test_files_of_which_no_rows_can_be_made(tmp_path, name, rows, message):
    label = CLUE_TASKS[name].label_names[0]
    path = write(tmp_path / "train.json", [{"label": label, **row} for row in rows])
    with pytest.raises(ValueError, match=message):
        check(name, load_splits(clue(name, train_file=path), stages(tmp_path, "do_train"), None, None))


def test_rows_without_agreement_are_left_out(tmp_path, capsys):
    labels = ["neutral", "-", "entailment", "-", "nuetral"]
    path = write(tmp_path / "dev.json", [PAIR | {"label": label} for label in labels])
    splits = load_splits(clue("ocnli", validation_file=path), stages(tmp_path, "do_eval"), None, None)
    assert splits["validation"]["label"][:] == ["neutral", "entailment", "nuetral"]
    assert f"{path}: 2 of 5 rows left out, whose label is '-'." in capsys.readouterr().out
    # The line is that of the file, all the same.
    with pytest.raises(ValueError, match=r"dev\.json, line 5 \(Split validation, row 4 .*'nuetral'.*mean 'neutral'"):
        check("ocnli", splits)
    rows = write(tmp_path / "none.json", [PAIR | {"label": "-"}])
    with pytest.raises(ValueError, match=r"none\.json: all labels are '-', which stands for no label"):
        load_splits(clue("cmnli", train_file=rows), stages(tmp_path, "do_train"), None, None)


def test_a_dash_is_a_label_like_others_elsewhere(tmp_path, capsys):
    path = write(tmp_path / "dev.json", [PAIR | {"label": "-"}, PAIR | {"label": "1"}])
    splits = load_splits(clue("afqmc", validation_file=path), stages(tmp_path, "do_eval"), None, None)
    with pytest.raises(ValueError, match=r"line 1 .*'-' is not one of afqmc"):
        check("afqmc", splits)


@pytest.mark.parametrize("labels", [["neutral", "-", "neutral"], ["-", "-"]])
def test_test_rows_without_agreement_are_predicted(tmp_path, capsys, labels):
    path = write(tmp_path / "test.json", [PAIR | {"label": label} for label in labels])
    splits = load_splits(clue("ocnli", test_file=path), stages(tmp_path, "do_predict"), None, None)
    check("ocnli", splits)
    assert len(splits["test"]) == len(labels) and has_hidden_labels(splits["test"])
    dashes = labels.count("-")
    assert f"{path}: {dashes} of {len(labels)} rows have the label '-'; all are pred" in capsys.readouterr().out


def test_test_rows_with_labels_keep_them(tmp_path):
    path = write(tmp_path / "test.json", [PAIR | {"label": "neutral"}])
    splits = load_splits(clue("ocnli", test_file=path), stages(tmp_path, "do_predict"), None, None)
    assert splits["test"]["label"][:] == ["neutral"]


def test_true_and_false_of_json_are_classes_of_these_names(tmp_path):
    path = write(tmp_path / "dev.json", [WSC | {"label": value} for value in (False, True)])
    splits = load_splits(clue("cluewsc2020", validation_file=path), stages(tmp_path, "do_eval"), None, None)
    check("cluewsc2020", splits)
    assert LabelEncoder(CLUE_TASKS["cluewsc2020"], ("false", "true"))(splits["validation"]["label"]) == [0, 1]
    path = write(tmp_path / "csl.json", [CSL | {"label": True}])
    with pytest.raises(ValueError, match="the label True is not one of csl"):
        check("csl", load_splits(clue("csl", train_file=path), stages(tmp_path, "do_train"), None, None))
