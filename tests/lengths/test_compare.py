# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""`modeling_gau/lengths/compare.py`: which study it makes of its options, and one for real."""

import csv
import re
import shutil

import numpy as np
import pytest

from modeling_gau.lengths import compare
from modeling_gau.lengths.compare import main, parse_command_line, study_of, trainings, write_study
from modeling_gau.lengths.study import Study
from modeling_gau.lengths.study_file import StudyFile
from modeling_gau.text.evaluation_rows import MaskedWindows


def parse(tmp_path, *words):
    return parse_command_line(["--output_dir", str(tmp_path / "out"), *words])


def test_by_default_each_family_has_the_positions_that_suit_it(tmp_path):
    found = trainings(parse(tmp_path))
    assert list(found) == [
        *("softmax-rotary", "softmax-offsets"),
        *(
            f"{name}-{positions}"
            for name in ("squared_relu", "normalized_squared_relu")
            for positions in ("rotary", "distance")
        ),
    ]
    assert found["softmax-offsets"] == {
        "attention_normalization": "softmax",
        "config_overrides": "query_key_offset_init=1.4",
        "learning_rate": 2e-3,
    }
    assert "relative_position_bias_init=1" in found["squared_relu-distance"]["config_overrides"]


def test_a_product_can_be_asked_for(tmp_path):
    args = parse(tmp_path, "--normalizations", "sigmoid", "laplace", "--positions", "offsets", "rotary_bias")
    found = trainings(args)
    assert list(found) == ["sigmoid-offsets", "sigmoid-rotary_bias", "laplace-offsets", "laplace-rotary_bias"]
    starts = [arguments["config_overrides"].rpartition("=")[2] for arguments in found.values()]
    assert starts == ["1.4", "8", "1.4", "1"]


def test_the_study_is_written_for_those_who_go_on(tmp_path):
    args = parse(
        tmp_path, "--max_seq_length", "64", "--steps", "7", "--seeds", "1", "2", "--learning_rates", "1e-3", "2e-3"
    )
    study = study_of(args)
    (tmp_path / "out").mkdir()
    write_study(Study(study, args))
    assert StudyFile.read(tmp_path / "out" / "study.yaml") == study
    assert study.rates("softmax-rotary") == [1e-3, 2e-3] and study.tune_steps == 7 and study.seeds == [1, 2]
    assert study.evaluations["lengths-16-32-64-128-256-512"]["lengths"] == [16, 32, 64, 128, 256, 512]
    recipe = study.pretrain_recipe
    assert recipe["max_seq_length"] * recipe["per_device_train_batch_size"] == 2048


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--normalizations", "sofmax"], "invalid choice: 'sofmax'"),
        (["--positions", "alibi"], "invalid choice: 'alibi'"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
    ],
)
def test_wrong_options(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit):
        parse(tmp_path, *words)
    assert message in capsys.readouterr().err


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The words of a comparison that takes seconds, on rows of a csv that are shorter than the longest row."""
    sizes = "hidden_size=16,intermediate_size=32,attention_key_size=8,num_hidden_layers=1"
    monkeypatch.setitem(compare.SIZES, "smallest", ("gau-tiny", sizes, 2e-3))
    monkeypatch.setattr(compare, "_STEP_TOKENS", 128)
    monkeypatch.setattr(compare, "_EVALUATION_TOKENS", 256)
    rows = [f"review number {row} says that the film is good" for row in range(200)]
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["review", "stars"], *([row, 3] for row in rows)])
    words = ["--output_dir", f"{tmp_path}/out", "--train_file", f"{tmp_path}/reviews.csv", "--text_column", "review"]
    words += [
        "--max_seq_length",
        "16",
        "--lengths",
        "8",
        "16",
        "32",
        "--jobs",
        "1",
        "--normalizations",
        "squared_relu",
    ]
    return [*words, "--positions", "rotary", "--steps"]


@pytest.mark.usefixtures("forked_jobs")
def test_a_comparison_from_end_to_end(small, tmp_path, capsys):
    main([*small, "2"])
    shown = capsys.readouterr().out
    assert (
        "To do: 2 of 2 runs, 1 at a time, trainings of 2 steps of " in shown and "Lowest loss at 32 tokens: " in shown
    )
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "| loss in nats by length | 8 | 16 | 32 |" in table
    assert (
        "- Trained at 16 tokens, 2 steps of 8 x 16 tokens, seeds: 0. Every model has the learning rate 0.002;" in table
    )
    with (tmp_path / "out" / "lengths.csv").open() as file:
        (masked,) = {row["value"] for row in csv.DictReader(file) if row["metric"] == "masked_tokens"}
    assert re.search(rf"- Measured on {masked} masked tokens in \d windows of 30 tokens", table)
    assert f"\nOnly {masked} masked tokens to measure on, 1,000 are wanted: " in shown
    assert "may be chance: --seeds" not in table
    rows = {line.split(" | ")[0]: line for line in table.splitlines() if line.startswith("| squared_relu")}
    assert list(rows) == ["| squared_relu-rotary, n dynamic", "| squared_relu-rotary, n fixed"]
    # At the length of training the two are one computation.
    assert len({row.split(" | ")[2] for row in rows.values()}) == 1
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    main([*small, "2"])  # nothing is left to do
    shown = capsys.readouterr().out
    assert "All 2 runs are finished." in shown and "seed-0: " not in shown and "Lowest loss" in shown
    study = (tmp_path / "out" / "study.yaml").read_text()
    with pytest.raises(ValueError, match=r"max_steps \(2 there, 3 here\)"):
        main([*small, "3"])
    main([*small, "2", "--dry_run", "--normalizations", "laplace"])
    assert capsys.readouterr().out.count("[to do]") == 2
    assert (tmp_path / "out" / "study.yaml").read_text() == study
    main([*small, "2", "--lengths", "16", "64"])  # measured anew, not trained anew
    assert "To do: 1 of 2 runs" in capsys.readouterr().out
    assert "| loss in nats by length | 16 | 64 |" in (tmp_path / "out" / "comparison.md").read_text()


def test_a_dry_run_writes_nothing(small, tmp_path, capsys):
    main([*small, "2", "--dry_run"])
    assert capsys.readouterr().out.count("[to do]") == 2 and not (tmp_path / "out").exists()


def test_other_text_than_that_of_the_tokenizer_or_the_held_out_documents(small, tmp_path):
    args = parse_command_line([*small, "2"])
    Study(study_of(args), args).prepare_text()
    other = parse_command_line(small[:2] + small[6:] + ["2"])  # the embedded corpus
    with pytest.raises(
        ValueError, match=r"tokenizer was made with other arguments: .*train_file \(.* there, None here"
    ):
        Study(study_of(other), other).prepare_text()
    shutil.rmtree(tmp_path / "out" / "tokenizer")
    with pytest.raises(ValueError, match=r"held-out.jsonl was made with other arguments: .*train_file"):
        Study(study_of(other), other).prepare_text()


@pytest.mark.usefixtures("forked_jobs")
def test_text_that_changes_during_the_comparison(small, tmp_path, monkeypatch):
    run_one = compare.estimate

    def change_text(*parts):
        with (tmp_path / "reviews.csv").open("a") as file:
            file.write("and one more that is bad,1\n")
        return run_one(*parts)

    main([*small, "2"])
    table = (tmp_path / "out" / "comparison.md").read_text()
    monkeypatch.setattr(compare, "estimate", change_text)
    with pytest.raises(ValueError, match="runs trained on different text"):
        main([*small, "2", "--seeds", "0", "1"])
    assert (tmp_path / "out" / "comparison.md").read_text() == table


def test_the_table_says_what_it_was_measured_with(small):
    args = parse_command_line([*small, "2", "--max_seq_length", "48", "--learning_rates", "1e-3", "2e-3"])
    windows = MaskedWindows(np.zeros((2, 5000), np.int32), np.zeros((2, 5000), np.int32), (2, 3), (16,), 1)
    trained, measured, rates = compare.conditions(windows, args)  # and no warning
    assert "2 steps of 2 x 48 tokens" in trained and "on 10,000 masked tokens in 2 windows of 5,000" in measured
    assert rates.startswith("Each learning rate is the best of 2 on the text that is measured, at 48 tokens")


def test_too_little_text_is_refused_before_training(small, tmp_path):
    (tmp_path / "held-out.csv").write_text("review\nIt is good.\n")
    with pytest.raises(ValueError, match=r"has \d+ tokens, less than a row of 32: give more text"):
        main([*small, "2", "--validation_file", f"{tmp_path}/held-out.csv"])
    assert not (tmp_path / "out" / "pretrain").exists()
