# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What the card of a model of one's own files says. `test_run_glue.py` tests a whole card."""

from dataclasses import replace

import pytest

from modeling_gau.glue.baselines import MODEL
from modeling_gau.glue.card import details, limits, limits_of_data, local_example, purpose, rows_table
from modeling_gau.glue.model import describe_base_model
from modeling_gau.glue.tasks import BENCHMARKS, LOCAL_TASK, PROBLEM_TYPES
from modeling_gau.runs.arguments import ModelArguments


def task(kind: str, columns=("sentence",)):
    return replace(LOCAL_TASK, text_columns=columns, metric=kind, problem_type=PROBLEM_TYPES[kind])


def record(language=None, **more) -> dict:
    return {"arguments": {"language": language}, **more}


@pytest.mark.parametrize(
    ("language", "is_chinese", "expected"),
    [
        (["zh"], False, BENCHMARKS["clue"].example_text),
        (None, True, BENCHMARKS["clue"].example_text),
        (["de", "en"], False, "Der Zug nach Hamburg fährt heute zehn Minuten später."),
        (["en"], True, None),
        (None, False, None),
    ],
)
def test_the_example_is_in_the_language_of_the_card(language, is_chinese, expected):
    facts = record(language, rows={"train": {"is_chinese": is_chinese}})
    assert local_example(facts, task("single_label")) == expected
    pair = local_example(facts, task("single_label", ("sentence1", "sentence2")))
    assert len(pair) == 2 and (expected is None or pair[0][0] == {"新": "昨"}.get(expected[0], expected[0]))


def test_what_a_model_is_for():
    several = purpose(record(), task("multi_label"), ("a", "b*"), [None])
    assert several == "Gives a text any number of these 2 classes: a, b\\*."
    compared = {
        MODEL: {"pearson": 0.8125, "mean_squared_error": 0.5},
        "mean": {
            "pearson": "NaN",
            "mean_squared_error": 2.0,
            "lead": {"metric": "mean_squared_error", "difference": -1.5, "standard_error": 0.2},
        },
        "bag of words": {
            "pearson": 0.7,
            "mean_squared_error": 0.75,
            "lead": {"metric": "pearson", "difference": 0.1, "standard_error": 0.06},
        },
    }
    facts = record(rows={"train": {"scores": [0.0, 2.5, 5.0]}}, baselines=compared)
    assert purpose(facts, task("regression", ("sentence1", "sentence2")), ("score",), [compared]) == (
        "Gives a pair of texts a score. Scores of the training rows range from 0 to 5. Its Pearson correlation on the "
        "validation rows is 0.8125 (bag of words 0.7). Its mean squared error on the validation rows is 0.5 "
        "(mean 2, bag of words 0.75). The model is clearly better than the mean (mean squared error -1.500 ± "
        "0.200). The model does not differ clearly from the bag of words (Pearson correlation +0.100 ± 0.060). "
        "(± is one standard error of the difference, over the same rows; clear means more than two.)"
    )
    seeds = purpose(facts, task("regression"), ("score",), [compared] * 3)
    assert "The mean of 3 seeds is clearly better than the mean (mean squared error -1.500 ± 0.200)." in seeds


def test_the_limits_name_what_the_rows_chose():
    facts = {"arguments": {"max_eval_samples": None, "load_best_model_at_end": True}, "evaluations": 3}
    assert limits(facts, {"the training settings": 1, "the seed": 3}) == [
        "The evaluation rows also chose the seed (of 3) and the training step: expect slightly worse results on "
        "other rows."
    ]
    one = facts | {"evaluations": 1}  # chooses no step
    assert limits(one, {}) == []
    (sentence,) = limits(one, {"the training settings": 4})
    assert "chose the training settings (of 4):" in sentence


def test_the_record_keeps_the_origin_of_the_base_model(tmp_path):
    described = describe_base_model(ModelArguments(model_name_or_path=str(tmp_path)))
    assert described == {"name": tmp_path.name, "is_local": True}
    (tmp_path / "README.md").write_text("# a\n\n<!-- origin -->\nFrom elsewhere.\n<!-- end of origin -->\n")
    described = describe_base_model(ModelArguments(model_name_or_path=str(tmp_path)))
    assert described["origin"].endswith("From elsewhere.") and described["citations"] == []


def test_names_of_classes_are_no_markup_of_tables(tmp_path):
    row = {"train": 3, "validation": 1, "precision": 0.5, "recall": 1.0, "f1": 0.75}
    names = ["[x](http://a.b)", "a|*b*"]
    facts = record(classes=[{"class": name, **row} for name in names], confusion=[[1, 0], [1, 2]])
    text = "\n".join(details(facts, task("single_label"), names, tmp_path))
    assert r"| true \\ predicted | \[x\](http://a.b) | a\|\*b\* |" in text
    assert r"| a\|\*b\* | 3 | 1 | 0.5 | 1 | 0.75 |" in text and "[x]" not in text


def test_rows_and_limits():
    assert rows_table(record()) is None  # a task of a benchmark
    table = rows_table(record(rows={"train": {"rows": 2400, "tokens": [5, 21, 64]}, "test": {}}))
    assert table.splitlines()[2:] == ["| train | 2,400 | 5 | 21 | 64 |"]
    facts = record(classes=[{"class": "rare", "train": 3}, {"class": "frequent", "train": 300}])
    assert limits_of_data(facts, task("single_label"))[-1] == "Fewer than 20 training rows: rare."
    unknown = record(classes=[{"class": "unknown", "train": None}])
    assert "training rows" not in " ".join(limits_of_data(unknown, task("single_label")))
    assert len(limits_of_data(record(), task("regression"))) == 1
