# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The table of the runs that compare forms of attention."""

import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import attention_forms
from small_runs import merge


KEYS = attention_forms.KEYS


def rows(normalization: str, rate: str, losses: dict[int, float]) -> list[dict]:
    cell = {"size": "128", "steps": 300, "normalization": normalization, "form": "rope", "learning_rate": rate}
    values = {f"{name}_{n}": 0.1 for name in ("loss", "accuracy") for n in attention_forms.LENGTHS}
    return [cell | {"seed": seed} | values | {"loss_512": loss} for seed, loss in losses.items()]


@pytest.mark.parametrize("as_markdown", [False, True])
def test_the_table_shows_the_best_rate(tmp_path, capsys, as_markdown):
    path = tmp_path / "forms.csv"
    merge(path, rows("softmax", "0.004", {1: 5.0}), KEYS)
    merge(path, rows("softmax", "0.002", {1: 5.1, 2: 5.3}) + rows("softmax", "0.008", {1: float("nan")}), KEYS)
    merge(path, rows("sigmoid", "0.004", {1: float("nan")}) + rows("sigmoid", "0.002", {1: 6.0}), KEYS)
    merge(path, rows("softmax", "0.002", {2: 5.2}), KEYS)  # takes the place of the old one
    attention_forms.print_table(path, as_markdown)
    first, second = [line for line in capsys.readouterr().out.splitlines() if "0.00" in line]
    assert "softmax" in first and "0.002" in first and "5.150 (5.10 - 5.20)" in first
    assert "sigmoid" in second and "0.002" in second and "6.000" in second


def test_a_cell_and_its_name():
    cell = attention_forms.parse("192-300/softmax_plus-offsets=1.4-5e-05-3")
    assert cell["learning_rate"] == "5e-05" and cell["form"] == "offsets=1.4" and cell["seed"] == 3
