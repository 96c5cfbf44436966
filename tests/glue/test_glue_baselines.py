# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What a model has to beat, on rows whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from modeling_gau.glue import baselines
from modeling_gau.glue.baselines import (
    BAG_OF_WORDS,
    MODEL,
    compare_with_baselines,
    comparison,
    mean_comparison,
    measure_baselines,
    not_beaten,
)
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
    assert found["mean score"]["mean_squared_error"] == pytest.approx(0.25) and math.isnan(
        found["mean score"]["pearson"]
    )
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


def lead(difference: float, error: float, metric: str = "accuracy") -> dict:
    return {"lead": {"metric": metric, "difference": difference, "standard_error": error}}


def test_a_verdict_is_as_strong_as_the_numbers():
    compared = {MODEL: {}, "majority class": lead(0.236, 0.023), BAG_OF_WORDS: lead(0.003, 0.015)}
    assert not_beaten(compared) == [BAG_OF_WORDS]
    assert comparison(compared) == (
        "The model is clearly better than the majority class (accuracy +0.236 ± 0.023). "
        "The model does not differ clearly from the bag of words (accuracy +0.003 ± 0.015). "
        "(± is one standard error of the difference, over the same rows; clear means more than two.)"
    )
    compared = {MODEL: {}, "mean": lead(-0.4, 0.1, "mean_squared_error"), BAG_OF_WORDS: lead(-0.3, 0.1, "pearson")}
    assert not_beaten(compared) == [BAG_OF_WORDS]
    assert comparison(compared, seeds=3).startswith(
        "The mean of 3 seeds is clearly better than the mean (mean squared error -0.400 ± 0.100). "
        "The mean of 3 seeds is clearly worse than the bag of words (Pearson correlation -0.300 ± 0.100)."
    )
    undefined = {MODEL: {}, BAG_OF_WORDS: lead("NaN", 0.1), "mean": lead(1.0, "NaN")}  # as run.json has it
    assert not_beaten(undefined) == [BAG_OF_WORDS, "mean"]


def lead_over(metric: str, own, other, references) -> tuple[float, float]:
    found = baselines._lead(metric, *(np.asarray(values) for values in (own, other, references)))
    return found["difference"], found["standard_error"]


@pytest.mark.parametrize(("wins", "losses", "clear"), [(88, 85, False), (5, 0, False), (6, 0, True), (12, 3, True)])
def test_accuracies_differ_as_in_an_exact_test_of_pairs(wins, losses, clear):
    """The binomial test of the rows that only one side has right: p = 0.88, 0.063, 0.031 and 0.035."""
    references = np.ones(872, dtype=int)
    own, other = references.copy(), references.copy()
    other[:wins], own[wins : wins + losses] = 0, 0
    difference, error = lead_over("accuracy", own, other, references)
    assert difference == pytest.approx((wins - losses) / 872)
    assert error == pytest.approx(math.sqrt(wins + losses + 2) / 872)
    assert (difference > 2 * error) == clear


@pytest.mark.parametrize("metric", ["mean_squared_error", "pearson", "f1_micro"])
def test_the_error_of_a_lead_is_that_of_resampled_rows(metric):
    random, rows = np.random.default_rng(0), 400
    if metric == "f1_micro":
        references = random.integers(0, 2, (rows, 3))
        own, other = (np.where(random.random((rows, 3)) < 0.3, 1 - references, references) for _ in range(2))
        kind, names = "multi_label", ("a", "b", "c")
    else:
        references = random.normal(size=rows)
        own, other = (references + random.normal(size=rows) for _ in range(2))
        kind, names = "regression", ("score",)

    def difference(own, other, references) -> float:
        measured = [baselines.measure(task(kind, names), names, values, references)[metric] for values in (own, other)]
        return measured[0] - measured[1]

    samples = [random.integers(0, rows, rows) for _ in range(200)]
    resampled = np.std([difference(own[rows], other[rows], references[rows]) for rows in samples])
    found, error = lead_over(metric, own, other, references)
    assert found == pytest.approx(difference(own, other, references))
    assert error == pytest.approx(resampled, rel=0.2)


def test_too_few_rows_decide_nothing():
    for rows in (1, 2, 4):
        references = np.arange(float(rows))
        compared = {
            MODEL: {},
            "mean": {"lead": baselines._lead("mean_squared_error", references, references + 1, references)},
        }
        assert not_beaten(compared) == ["mean"]


def test_a_model_is_compared_on_the_same_rows():
    texts, labels = FILMS * 3, LABELS * 3
    rows = [texts], labels
    found = compare_with_baselines(task("single_label"), ("bad", "good"), np.array(labels), rows, rows)
    assert found[MODEL]["accuracy"] == found[BAG_OF_WORDS]["accuracy"] == 1
    assert not_beaten(found) == [BAG_OF_WORDS]  # the majority class has 9 of 21 rows wrong
    scores = task("regression", ("score",)), ("score",), np.zeros(21), ([texts], np.float64(labels)), ([texts], labels)
    # A constant answer has no correlation.
    assert compare_with_baselines(*scores)[BAG_OF_WORDS]["lead"]["metric"] == "mean_squared_error"


def test_the_mean_over_seeds_has_the_error_of_rows_and_of_seeds():
    runs = [
        {MODEL: {"accuracy": 0.7 + gain}, BAG_OF_WORDS: {"accuracy": 0.7} | lead(gain, 0.01)}
        for gain in (0, 0.02, 0.04)
    ]
    mean = mean_comparison(runs)
    assert mean[MODEL] == {"accuracy": pytest.approx(0.72)} and mean[BAG_OF_WORDS]["accuracy"] == pytest.approx(0.7)
    assert mean[BAG_OF_WORDS]["lead"]["difference"] == pytest.approx(0.02)
    assert mean[BAG_OF_WORDS]["lead"]["standard_error"] == pytest.approx(math.sqrt(0.01**2 + 0.02**2 / 3))
    assert not_beaten(mean) == [BAG_OF_WORDS] and mean_comparison(runs[:1])[BAG_OF_WORDS] == runs[0][BAG_OF_WORDS]
    runs[0][BAG_OF_WORDS]["lead"]["metric"] = "f1_macro"
    assert not_beaten(mean_comparison(runs)) == [] and comparison(mean_comparison(runs)) == ""


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


def test_a_baseline_that_one_run_lacks_is_left_out_of_the_mean():
    lead = {"metric": "accuracy", "difference": 0.25, "standard_error": 0.1}
    first = {MODEL: {"accuracy": 0.75}, "majority class": {"accuracy": 0.5, "lead": lead}}
    second = first | {"bag of words": {"accuracy": 0.5, "lead": lead}}
    for comparisons in ([first, second], [second, first]):
        assert mean_comparison(comparisons).keys() == {MODEL, "majority class"}
