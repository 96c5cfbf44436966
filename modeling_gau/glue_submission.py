# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Predictions on test rows: as they are, and in the form that gluebenchmark.com takes, a file for every test set."""

import csv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .glue_tasks import GlueTask


# Task -> split -> name of the file, and the number of test rows.
SUBMISSION_FILES: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "cola": {"test": ("CoLA.tsv", 1063)},
    "sst2": {"test": ("SST-2.tsv", 1821)},
    "mrpc": {"test": ("MRPC.tsv", 1725)},
    "qqp": {"test": ("QQP.tsv", 390_965)},
    "stsb": {"test": ("STS-B.tsv", 1379)},
    "mnli": {"test_matched": ("MNLI-m.tsv", 9796), "test_mismatched": ("MNLI-mm.tsv", 9847)},
    "qnli": {"test": ("QNLI.tsv", 5463)},
    "rte": {"test": ("RTE.tsv", 3000)},
    "wnli": {"test": ("WNLI.tsv", 146)},
    "ax": {"test": ("AX.tsv", 1104)},
}
# Classes are handed in by name where they are those of inference, and by id elsewhere.
_BY_NAME = ("mnli", "qnli", "rte", "ax")


def write_predictions(path: Path, task: GlueTask, label_names: Sequence[str], predictions: np.ndarray) -> None:
    """Columns `index`, the row of the split from 0, and `prediction`: the name of the class, those of several, or the
    score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "prediction"))
        for index, prediction in enumerate(predictions):
            writer.writerow((index, task.readable_prediction(prediction, label_names)))


def read_predictions(path: str | Path) -> list[str]:
    """The column `prediction` of a `predictions_<split>.tsv`."""
    with open(path, encoding="utf-8", newline="") as file:
        return [row["prediction"] for row in csv.DictReader(file, delimiter="\t")]


def submitted_value(task: GlueTask, prediction: str) -> str:
    """A prediction as the benchmark takes it: the name of the class, its id, or a score within the task's range."""
    if task.is_regression:
        lowest, highest = task.label_range
        return f"{min(max(float(prediction), lowest), highest):.3f}"
    return prediction if task.name in _BY_NAME else str(task.label_names.index(prediction))


def write_submission(folder: str | Path, task: GlueTask, split: str, predictions: Sequence[str]) -> tuple[Path, str]:
    """Writes the file of a split in `folder`.

    Args:
        predictions: names of classes, or scores, in the order of the official test rows.

    Returns:
        The file, and what is wrong with it as a submission: empty where nothing is.
    """
    name, rows = SUBMISSION_FILES[task.name][split]
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "prediction"))
        writer.writerows((index, submitted_value(task, value)) for index, value in enumerate(predictions))
    problem = (
        "" if len(predictions) == rows else f"{name} has {len(predictions):,} rows, the official test set {rows:,}"
    )
    return path, problem


def zip_submission(folder: str | Path, written: Sequence[str]) -> tuple[Path, list[str]]:
    """Packs the files `written` of `folder` into `<folder>.zip`, as they are uploaded; others of an earlier submission
    are deleted.

    Returns:
        The archive, and the names of the files that it lacks: the benchmark takes complete submissions only.
    """
    folder = Path(folder)
    names = [name for splits in SUBMISSION_FILES.values() for name, _ in splits.values()]
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            if name in written:
                file.write(folder / name, name)
            else:
                (folder / name).unlink(missing_ok=True)
    return archive, [name for name in names if name not in written]
