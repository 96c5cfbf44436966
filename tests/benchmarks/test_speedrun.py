# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The speedrun's commands and its clock."""

import argparse
import json
import math
import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import speedrun
from small_runs import RESULT, merge


def test_changes_add_up(tmp_path):
    args = argparse.Namespace(
        size="128",
        steps=[300],
        seeds=[1],
        models=["softmax"],
        learning_rates=[4e-3],
        output_dir=tmp_path,
        text=tmp_path,
    )
    args.changes = ["rope+local+rows2+muon"]
    (name,) = speedrun.cells(args)
    words = speedrun.command(name, args, name)
    end = words.index("--eval_lengths")
    values = dict(zip(words[2:end:2], words[3:end:2], strict=True))
    assert values["--config_overrides"].endswith("num_hidden_layers=6,query_key_offset_init=null,sliding_window=64")
    assert values["--max_steps"] == "600" and values["--per_device_train_batch_size"] == "2"
    assert values["--optim"] == "muon" and "--tokenizer_name" not in words
    args.changes = ["rope+fast"]
    with pytest.raises(SystemExit, match="there is no fast"):
        list(speedrun.cells(args))


def test_a_slow_minute_does_not_count(tmp_path):
    entries = [(20, 128, 1000), (40, 128, 10), (60, 128, 1000), (80, 512, 500), (100, 512, 500)]
    log = [
        {"step": step, "row_length": length, "tokens_per_second": speed, "masked_loss": 5.0}
        for step, length, speed in entries
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [*log, {"step": 100, "eval_loss": 1}]}))
    (tmp_path / RESULT).write_text(json.dumps({"train_tokens": 100_000}))
    curve = speedrun.curve_of(tmp_path)
    assert [round(seconds) for _, seconds, _ in curve] == [20, 40, 60, 100, 140]
    assert [round(tokens) for tokens, _, _ in curve] == [20_000, 40_000, 60_000, 80_000, 100_000]


def test_time_to_a_loss():
    curve = [(10.0, 5.0, 100), (40.0, 4.0, 400)]
    assert speedrun.seconds_to(4.5, curve) == pytest.approx(math.sqrt(400))
    assert speedrun.seconds_to(5.5, curve) == 10.0
    assert speedrun.seconds_to(4.0, curve) == pytest.approx(40.0)
    assert speedrun.seconds_to(3.9, curve) is None


def row(model, budget, rate, loss, seconds, seed=1):
    values = ("128", budget, model, "none", rate, seed)
    return dict(zip(speedrun.KEYS, values, strict=True)) | {
        "seconds": seconds,
        "loss_512": loss,
        "loss_2048": loss,
    }


def test_the_race_is_against_the_best_rate(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    losses = {1e-3: 5.2, 2e-3: 5.0, 4e-3: 6.0}
    reference = [row("modernbert", 600, rate, loss, 100.0) for rate, loss in losses.items()]
    merge(
        path, [*reference, row("softmax", 300, 2e-3, 5.2, 30.0), row("softmax", 600, 2e-3, 4.8, 60.0)], speedrun.KEYS
    )
    speedrun.print_table(path, "modernbert", as_markdown=False)
    out = capsys.readouterr().out
    assert "3 " in out and "1 (edge)" in out
    race = next(line for line in out.splitlines() if "the best of" not in line and "modernbert, none, 600" in line)
    assert race.split()[-2:] == ["42", "42%"]  # 30 * sqrt(2) of 100
