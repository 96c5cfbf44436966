# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The report of a length study: what its numbers are, on results whose laws are known."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from modeling_gau.lengths import study_report
from modeling_gau.lengths.attention_statistics import ATTENTION_STATISTICS


ROOT = Path(__file__).parents[2]
LENGTHS, TRAINED = (16, 32, 64, 128, 256), 64
COLUMNS = (
    "evaluation", "training", "seed", "checkpoint", "weights", "corpus", "trained_length", "attention_normalization",
    "n", "fixed_n", "position_scaling", "context", "length", "layer", "metric", "value",
)  # fmt: skip
# Accuracy at a length -> of its p; the best p is 0 below the training length and 1 above it.
BEST = {length: 0.0 if length < TRAINED else 1.0 for length in LENGTHS}


def cell(training, normalization, n, seed, length, accuracy, context="intact", scaling="none", corpus="text"):
    head = ("lengths", training, seed, "x", "w", corpus, TRAINED, normalization, n, "", scaling, context, length)
    whole = {"loss": 5 - accuracy, "accuracy": accuracy, "masked_tokens": 900}
    rows = [(*head, "", metric, value) for metric, value in whole.items()]
    for layer in (0, 1):
        power = 0.2 * (layer + 1) if length <= TRAINED else 1.0  # relative to the training length
        grown = (length / TRAINED) ** power
        of_layer = dict.fromkeys(ATTENTION_STATISTICS, 1.0)
        of_layer |= {"sum_squared_relu": 7 * grown, "log_sum_exp": 3 + np.log(grown), "entropy": np.log(length)}
        rows += [(*head, layer, metric, value) for metric, value in of_layer.items()]
    return rows


def accuracy_of(p, length, seed):
    return 0.3 - 0.05 * abs(p - BEST[length]) * (length != TRAINED) + 0.001 * seed


@pytest.fixture(scope="module")
def rows():
    found = []
    for seed in (0, 1, 2):
        for length in LENGTHS:
            for n, p in {"train": 0, "dynamic": 1, "n^0.5": 0.5}.items():
                if n == "n^0.5" and length == 32:
                    continue  # not tried there: 32 tells nothing of which p is the best
                found += cell("squared_relu", "squared_relu", n, seed, length, accuracy_of(p, length, seed))
            found += cell("softmax", "softmax", "not used", seed, length, 0.4 + 0.002 * seed)
            if seed < 2:
                found += cell("softmax", "softmax_plus", "dynamic", seed, length, 0.41 + 0.001 * seed)
        found += cell("softmax", "softmax", "not used", seed, 64, 0.1, context="shuffled")
        found += cell("softmax", "softmax", "not used", seed, 256, 0.35, scaling="yarn")
    return pd.DataFrame(found, columns=COLUMNS)


@pytest.fixture(scope="module")
def study(tmp_path_factory, rows) -> Path:
    """The files of a study. To be copied before they are changed."""
    path = tmp_path_factory.mktemp("study")
    rows.to_csv(path / "lengths.csv", index=False)
    pd.DataFrame(
        [("softmax", "no", 1e-3, 4.5, 0.25), ("softmax", "no", 2e-3, 4.4, 0.26)],
        columns=["training", "ablation", "learning_rate", "loss", "accuracy"],
    ).to_csv(path / "tuning.csv", index=False)
    tuned = [
        (name, "squared_relu", seed, "cola", "matthews_correlation", 0.1 * place + 0.01 * seed)
        for place, name in enumerate(("squared_relu-dynamic", "squared_relu-fixed"))
        for seed in range(3)
    ]
    columns = ["fine_tuning", "training", "seed", "task", "metric", "value"]
    pd.DataFrame(tuned, columns=columns).to_csv(path / "fine_tuning.csv", index=False)
    return path


def printed_by(*words) -> str:
    """What the report prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
        monkeypatch.setattr("sys.argv", ["study_report.py", *map(str, words)])
        study_report.main()
    return printed.getvalue()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def printed(study, results) -> str:
    return printed_by("--study", study, "--results", results)


def row(text, start):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [part.strip() for part in line.strip("|").split("|")][1:]


def section(text, title):
    return text.split(f"### {title}", 1)[1].split("\n### ", 1)[0]


def test_the_interval_is_that_of_a_paired_t_test():
    one, other = np.array([0.31, 0.29, 0.35]), np.array([0.30, 0.25, 0.33])
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    mean, half = study_report.interval(one - other)
    assert (mean - half, mean + half) == pytest.approx((expected.low, expected.high))
    assert study_report.difference_cell(pd.Series(one - other)) == f"+{100 * mean:.1f} ± {100 * half:.1f}"
    assert study_report.difference_cell(pd.Series([-0.02, np.nan])) == "−2.0"  # one pair has no interval


def test_tables(printed):
    text = printed
    powers = section(text, "Which n serves each length")
    assert powers.splitlines()[2] == "| training, p | 16 | 128 | 256 |"
    assert row(powers, "squared_relu: best p") == ["0", "1", "1"]
    assert row(powers, "squared_relu, p = 0.5") == ["27.6 ± 0.1"] * 3
    assert row(powers, "squared_relu: ahead of the second (p)") == ["+2.5 ± 0.0 (0.5)"] * 3
    growth = section(text, "Growth of the normalizers")
    assert growth.splitlines()[2] == "| training and setting | normalizer | 16 to 64 | 64 to 256 |"
    assert row(growth, "softmax") == ["Σ exp(a)", "0.30 (0.20 to 0.40)", "1.00 (1.00 to 1.00)"]
    assert row(growth, "squared_relu, n train") == ["Σ relu(a)²", "0.30 (0.20 to 0.40)", "1.00 (1.00 to 1.00)"]
    used = section(text, "Is attention used?")
    assert row(used, "softmax") == ["64", "40.2 ± 0.2", "10.0 ± 0.0", "−30.2 ± 0.5"]
    differences = section(text, "Differences of masked accuracy")
    assert row(differences, "squared_relu, n fixed − squared_relu, n dynamic")[::4] == ["+5.0 ± 0.0", "−5.0 ± 0.0"]
    # softmax_plus has two of the seeds: 41.0 - 40.0 and 41.1 - 40.2.
    half = stats.t.ppf(0.975, 1) * 0.05
    assert row(differences, "softmax_plus − softmax")[0] == f"+{0.95:.1f} ± {half:.1f}"
    assert "squared_relu_mixed" not in differences and "nan" not in text
    assert row(section(text, "Position scaling beyond"), "softmax at 512, none; yarn") == ["", "4.650 ± 0.000"]
    tuned = section(text, "Fine-tuning at short lengths")
    assert row(tuned, "squared_relu-fixed − squared_relu-dynamic") == ["+10.0 ± 0.0"]


def test_figures_and_tables_need_the_collected_files_alone(printed, results, tmp_path):
    names = {"arms.png", "log-n.png", "exponents.png", "normalizers.png", "entropy.png"}
    assert {path.name for path in results.glob("*.png")} == names
    shutil.copytree(results, tmp_path / "results", ignore=shutil.ignore_patterns("*.png"))
    again = printed_by("--results", tmp_path / "results")
    assert again == printed.replace(str(results), str(tmp_path / "results"))
    assert {path.name for path in (tmp_path / "results").glob("*.png")} == names


def test_evaluations_of_different_text_do_not_compare(study, rows, tmp_path):
    other = cell("softmax", "softmax", "not used", 0, 16, 0.4, corpus="text-bf16")
    mixed = pd.concat([rows, pd.DataFrame(other, columns=COLUMNS).assign(evaluation="other")])
    changed = shutil.copytree(study, tmp_path / "study")
    mixed.to_csv(changed / "lengths.csv", index=False)
    with pytest.raises(
        ValueError, match=r"cannot be compared because their text or precision differs: lengths \| other"
    ):
        study_report.collect(changed, tmp_path / "results")
    assert not (tmp_path / "results").exists()
