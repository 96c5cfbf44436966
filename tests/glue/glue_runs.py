# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Files of rows, and `run_glue.py` on them, for the tests of this folder."""

import csv
import json
from pathlib import Path

from datasets import Dataset

import run_glue


QUICK = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "per_device_train_batch_size": 8}


def write(path: Path, rows: list[dict]) -> str:
    """Writes csv, tsv without quotes, parquet, or else JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        lines = [list(rows[0]), *(map(str, row.values()) for row in rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        # Half of a surrogate pair can only be escaped.
        path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    return str(path)


def run(output_dir: Path, *flags: str, **options: object) -> dict[str, float]:
    """Runs the script with `--flag` for every flag and `--name value ...` for every option."""
    argv = [f"--{flag}" for flag in flags]
    for name, value in {**QUICK, **options, "output_dir": output_dir}.items():
        argv += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return run_glue.main(argv)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row.pop("index") for row in rows] == [str(index) for index in range(len(rows))]
    return rows


def read_predictions(path: Path) -> list[str]:
    return [row["prediction"] for row in read_rows(path)]
