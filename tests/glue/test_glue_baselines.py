# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a model has to beat, on rows whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from modeling_gau.glue import baselines
from modeling_gau.glue.baselines import BAG_OF_WORDS, MODEL, comparison, measure_baselines, not_beaten
from modeling_gau.glue.tasks import LOCAL_TASK, PROBLEM_TYPES


def task(kind: str, names=("bad", "good")):
    return replace(LOCAL_TASK, label_names=names, metric=kind, problem_type=PROBLEM_TYPES[kind])


FILMS = ["a good film", "a bad film", "the good book", "the bad book", "good", "a bad one", "a bad day"]
LABELS = [1, 0, 1, 0, 1, 0, 0]


def test_one_word_decides():
    found = measure_baselines(task("single_label"), ("bad", "good"), ([FILMS], LABELS), ([FILMS[:5]], LABELS[:5]))
    assert list(found) == ["majority class", BAG_OF_WORDS]
    assert found["majority class"]["accuracy"] == pytest.approx(
        2 / 5
    )  # bad, which only the training rows have more of
    assert found[BAG_OF_WORDS] == {"accuracy": 1.0, "f1_macro": 1.0}


def test_a_text_without_spaces_has_characters_for_words():
    texts, labels = ["这部电影真好看", "这部电影真难看", "今天的饭真好吃", "今天的饭真难吃"] * 3, [1, 0, 1, 0] * 3
    held_out = [["那本书好看", "那本书难看"]], [1, 0]
    found = measure_baselines(task("single_label"), ("bad", "good"), ([texts], labels), (held_out[0], held_out[1]))
    assert found[BAG_OF_WORDS]["accuracy"] == 1.0


def test_scores_have_a_mean_and_pairs_have_overlaps():
    first = ["a red house", "the old man", "one big dog", "some green leaves", "two blue cars"] * 4
    # The same words, or words of other rows: no bag of words alone tells them apart.
    second = [text if number % 2 else first[number - 1] for number, text in enumerate(first)]
    scores = [float(number % 2) for number in range(len(first))]
    split = [first, second], scores
    found = measure_baselines(task("regression", ("score",)), ("score",), split, split)
    assert found["mean"]["mean_squared_error"] == pytest.approx(0.25) and math.isnan(found["mean"]["pearson"])
    assert found[BAG_OF_WORDS]["pearson"] > 0.95


def test_several_labels_a_row():
    labels = [[float("good" in text), float("film" in text), 0.0] for text in FILMS]
    names = ("good", "film", "never")
    split = [FILMS], labels
    found = measure_baselines(task("multi_label", names), names, split, split)
    # "good" for every row is right in 3 of 7, of 5 labels; "film" as well adds 2 hits to 7 answers: 10 / 19.
    assert found["most frequent labels"]["f1_micro"] == pytest.approx(10 / 19)
    assert found[BAG_OF_WORDS]["f1_micro"] > 0.6


@pytest.mark.parametrize(("texts", "labels"), [([""] * 7, LABELS), (FILMS, [0] * 7)])
def test_where_nothing_can_be_learned_only_the_majority_is_left(texts, labels):
    split = [texts], labels
    assert list(measure_baselines(task("single_label"), ("bad", "good"), split, split)) == ["majority class"]


def test_without_scikit_learn_only_the_majority_is_left(monkeypatch):
    monkeypatch.setattr(baselines, "is_sklearn_available", lambda: False)
    split = [FILMS], np.array(LABELS)
    assert list(measure_baselines(task("single_label"), ("bad", "good"), split, split)) == ["majority class"]


def test_a_model_that_is_not_better_hears_so():
    classes, scores = task("single_label"), task("regression", ("score",))
    compared = {MODEL: {"accuracy": 0.7}, "majority class": {"accuracy": 0.6}, BAG_OF_WORDS: {"accuracy": 0.7}}
    assert not_beaten(classes, compared) == [BAG_OF_WORDS]
    assert comparison(classes, compared) == "The model is no better than the bag of words by accuracy."
    compared[MODEL] = {"accuracy": 0.71}
    assert (
        comparison(classes, compared)
        == "The model is better than the majority class and the bag of words by accuracy."
    )
    mean = {"pearson": "NaN", "mean_squared_error": 2.0}  # as run.json has it
    assert not_beaten(scores, {MODEL: {"pearson": math.nan, "mean_squared_error": 2.0}, "mean": mean}) == ["mean"]
    compared = {MODEL: {"pearson": 0.1, "mean_squared_error": 1.9}, "mean": mean}
    assert not_beaten(scores, compared) == []
    compared[BAG_OF_WORDS] = {"pearson": 0.05, "mean_squared_error": 1.0}
    assert comparison(scores, compared) == (
        "The model is better than the mean by mean squared error and the bag of words by Pearson correlation."
    )


def test_the_same_rows_are_fitted_once(capsys):
    texts = [*FILMS, "of this test alone"]
    for labels in ([*LABELS, 1], [*LABELS, 1], [*LABELS, 0]):
        found = measure_baselines(task("single_label"), ("bad", "good"), ([texts], labels), ([FILMS], LABELS))
        assert BAG_OF_WORDS in found
    assert capsys.readouterr().out.count("Fitting a bag of words to the 8 training rows") == 2


def test_there_are_not_more_features_than_are_fitted_quickly(monkeypatch):
    monkeypatch.setattr(baselines, "_MOST_FEATURES", 2)
    features, _ = baselines._features([FILMS], [FILMS])
    assert features.shape == (len(FILMS), 2)
