# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The CSV file of length measurements, and tables of it."""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..configuration_gau import GAUError
from ..runs.tables import aligned
from .settings import NOT_USED, Cell


# Layer (None for the whole model), metric, value.
Measurement = tuple[int | None, str, float]

COLUMNS = (
    "checkpoint", "weights", "corpus", "trained_length", "attention_normalization", "n", "fixed_n",
    "position_scaling", "context", "length", "layer", "metric", "value",
)  # fmt: skip
# The last row of a cell; a cell without it was interrupted.
_LAST_METRIC = "masked_tokens"
# Columns that must be equal in all rows of a checkpoint -> their names in messages.
_IDENTITY = {"weights": "weights", "corpus": "masked text or precision", "trained_length": "training length"}


def read_results(path: str | Path) -> list[dict[str, str]]:
    """The rows of a file, without a truncated last line.

    Raises:
        ValueError: a column is missing, or a value is no number.
    """
    rows = _read(path)[1]
    for number, row in enumerate(rows, start=2):
        try:
            int(row["length"]), float(row["value"])
        except (TypeError, ValueError):
            length, value = row["length"], row["value"]
            raise GAUError(f"{path}, line {number}: length {length!r} and value {value!r} must be numbers.") from None
    return rows


def _read(path: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows."""
    whole = Path(path).read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    reader = csv.DictReader(io.StringIO(whole.decode("utf-8", errors="replace"), newline=""))
    if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
        raise GAUError(f"{path} is not a file of length results: its first line is not {','.join(COLUMNS)}.")
    return list(reader.fieldnames), list(reader)


def _cell_key(row: Mapping[str, object]) -> tuple[str, ...]:
    """Identifies a cell of a checkpoint."""
    names = ("checkpoint", "attention_normalization", "n", "position_scaling", "context", "length")
    return tuple(str(row[name]) for name in names)


class ResultFile:
    """A CSV file that grows by whole cells.

    Args:
        path: the file. It is not touched until a cell is added, which also removes interrupted cells from it.

    Raises:
        ValueError: the file has other columns.
    """

    def __init__(self, path: Path):
        self.path, self._is_clean = path, False
        columns, rows = _read(path) if path.exists() else (COLUMNS, [])
        if set(columns) != set(COLUMNS):
            others = ", ".join(sorted(set(columns) - set(COLUMNS)))
            raise GAUError(
                f"{path} has other columns ({others}), so nothing can be added: choose another --output_file."
            )
        cells: dict[tuple, list] = {}
        for row in rows:
            cells.setdefault(_cell_key(row), []).append(row)
        self._cells = {key: rows for key, rows in cells.items() if any(row["metric"] == _LAST_METRIC for row in rows)}

    def check(self, facts: Mapping[str, object]) -> None:
        """Raises ValueError if the file has results of this checkpoint with other weights, text or training length."""
        there = next((rows[0] for key, rows in self._cells.items() if key[0] == facts["checkpoint"]), facts)
        for column, what in _IDENTITY.items():
            if str(there[column]) != str(facts[column]):
                raise GAUError(
                    f"{self.path} has results of {facts['checkpoint']} with other {what} ({there[column]} there, "
                    f"{facts[column]} here): choose another --output_file, or remove this one."
                )

    def rows_of(
        self, checkpoint: str, cell: Cell, fixed_n: int | None, statistics: bool, passages: bool = False
    ) -> list[dict[str, str]]:
        """The rows of a cell with this `fixed_n` (n 'own' may have changed) and, if asked for, with attention
        statistics and repeated passages; none if the file does not hold it."""
        rows = self._cells.get(_cell_key({"checkpoint": checkpoint} | asdict(cell)), [])
        fits = rows and rows[-1]["fixed_n"] == number_or_none(fixed_n)
        has_passages = any(row["metric"] == "loss_passage_repeated" for row in rows)
        return rows if fits and (rows[0]["layer"] or not statistics) and (has_passages or not passages) else []

    def add(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Appends the rows of a cell, replacing old ones."""
        key = _cell_key(rows[-1])
        if self._cells.pop(key, None) or not self._is_clean:
            self._write_whole()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(rows)
        self._cells[key] = rows

    def _write_whole(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for rows in self._cells.values():
                writer.writerows(rows)
        os.replace(partial, self.path)
        self._is_clean = True


def number_or_none(value: int | None) -> str:
    return "" if value is None else str(value)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def result_rows(facts: Mapping[str, object], cell: Cell, measurements: Iterable[Measurement]) -> list[dict[str, str]]:
    """The rows of a cell, in the form of the file."""
    common = {name: str(value) for name, value in (facts | asdict(cell)).items()}
    return [
        common | {"layer": "" if layer is None else str(layer), "metric": metric, "value": _number(value)}
        for layer, metric, value in measurements
    ]


# Tables


def power_law_exponent(lengths: Sequence[float], values: Sequence[float], are_logarithms: bool = False) -> float:
    """p of the best fit values ~ lengths^p: the least-squares slope on logarithmic axes.

    Args:
        values: positive ones count; or their logarithms.

    Returns:
        NaN for fewer than two lengths.
    """
    pairs = zip(lengths, values, strict=True)
    if are_logarithms:
        points = [(math.log(x), y) for x, y in pairs if not math.isnan(y)]
    else:
        points = [(math.log(x), math.log(y)) for x, y in pairs if y > 0]
    if len({x for x, _ in points}) < 2:
        return math.nan
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def describe_setting(row: Mapping[str, str]) -> str:
    """A setting in words, such as 'squared_relu, n dynamic'."""
    words = [row["attention_normalization"]]
    words += [f"n {row['n']}"] if row["n"] != NOT_USED else []
    words += [row["position_scaling"]] if row["position_scaling"] != "none" else []
    words += [row["context"]] if row["context"] != "intact" else []
    return ", ".join(words)


def length_tables(rows: Sequence[Mapping[str, str]], metric: str = "accuracy") -> str:
    """An aligned table: a line for each checkpoint and setting, a column for each length."""
    values = {
        (row["checkpoint"], describe_setting(row), int(row["length"])): float(row["value"])
        for row in rows
        if row["metric"] == metric and row["layer"] == ""
    }
    lengths = sorted({length for _, _, length in values})
    table = [["checkpoint", metric, *map(str, lengths)]]
    for checkpoint, setting in dict.fromkeys((checkpoint, setting) for checkpoint, setting, _ in values):
        cells = (values.get((checkpoint, setting, length)) for length in lengths)
        table.append([checkpoint, setting, *("" if value is None else f"{value:.3f}" for value in cells)])
    return aligned(table, left=2)


def mean_of_known(values: Iterable[float]) -> float:
    """The mean without NaN, the value of layers in which no query has any weight."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def statistics_table(rows: Sequence[Mapping[str, str]]) -> str:
    """An aligned table of attention statistics by length, averaged over the layers, for intact contexts.

    For normalizers it adds the exponents p of their growth as n^p, up to the training length and beyond it.
    """
    values = layer_values(rows)
    lengths = sorted({length for *_, length, _ in values})
    trained = {(row["checkpoint"], describe_setting(row)): int(row["trained_length"]) for row in rows}
    table = [["checkpoint", "setting", "mean over the layers", *map(str, lengths), "p to N", "p from N"]]
    for checkpoint, setting, metric in dict.fromkeys(key[:3] for key in values):
        own = {key[3:]: value for key, value in values.items() if key[:3] == (checkpoint, setting, metric)}
        means = [mean_of_known([value for (n, _), value in own.items() if n == length]) for length in lengths]
        cells = ["" if math.isnan(mean) else f"{mean:.3g}" for mean in means]
        powers = growth_exponents(own, metric, trained[checkpoint, setting])
        cells += ["" if math.isnan(power) else f"{power:.2f}" for power in powers]
        table.append([checkpoint, setting, metric, *cells])
    return aligned(table, left=3)


def layer_values(rows: Sequence[Mapping[str, str]]) -> dict[tuple, float]:
    """(checkpoint, setting, metric, length, layer) -> value, for intact contexts."""
    return {
        (row["checkpoint"], describe_setting(row), row["metric"], int(row["length"]), row["layer"]): float(
            row["value"]
        )
        for row in rows
        if row["layer"] and row["context"] == "intact"
    }


# Normalizers to fit -> whether they are logarithms. sum_exp is missing: few queries dominate its mean.
NORMALIZERS = {"log_sum_exp": True, "sum_squared_relu": False}


def growth_exponents(values: Mapping[tuple[int, str], float], metric: str, trained: int) -> tuple[float, float]:
    """Exponents p of a normalizer's growth as n^p, up to the training length and beyond it, averaged over the layers.

    Args:
        values: (length, layer) -> value of `metric`.
        trained: the training length.

    Returns:
        NaN for fewer than two lengths, and for metrics outside `NORMALIZERS`.
    """
    if metric not in NORMALIZERS:
        return math.nan, math.nan
    powers = []
    for belongs in (lambda length: length <= trained, lambda length: length >= trained):
        slopes = []
        for layer in dict.fromkeys(layer for _, layer in values):
            points = [(n, value) for (n, own), value in values.items() if own == layer and belongs(n)]
            slopes.append(power_law_exponent(*zip(*points, strict=True), NORMALIZERS[metric]) if points else math.nan)
        powers.append(mean_of_known(slopes))
    return powers[0], powers[1]
