# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Predictions on test rows: as they are, and in the forms that gluebenchmark.com and cluebenchmarks.com take."""

import csv
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from .tasks import GlueTask


# Task of GLUE -> split -> name of the file, and the number of test rows.
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
# Those of CLUE. The split `test` of the Hub is that of CLUE 1.1, as is `test.json` in the official folders; two tasks
# have other rows in `test1.0.json`, for CLUE 1.0.
CLUE_SUBMISSION_FILES: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "afqmc": {"test": ("afqmc_predict.json", 3861)},
    "tnews": {"test": ("tnews11_predict.json", 10_000), "test1.0": ("tnews10_predict.json", 10_000)},
    "iflytek": {"test": ("iflytek_predict.json", 2600)},
    "cmnli": {"test": ("cmnli_predict.json", 13_880)},
    "ocnli": {"test": ("ocnli_50k_predict.json", 3000)},
    "csl": {"test": ("csl_predict.json", 3000)},
    "cluewsc2020": {"test": ("cluewsc11_predict.json", 2574), "test1.0": ("cluewsc10_predict.json", 290)},
}
# Classes of GLUE are handed in by name where they are those of inference, and by id elsewhere.
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


def _write_table(file: TextIO, task: GlueTask, predictions: Sequence[str]) -> None:
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow(("index", "prediction"))
    writer.writerows((index, submitted_value(task, value)) for index, value in enumerate(predictions))


def _write_lines(file: TextIO, task: GlueTask, predictions: Sequence[str]) -> None:
    """CLUE compares labels in the order of its test rows; `id` is the number of the row, as in its own baselines."""
    for index, label in enumerate(predictions):
        file.write(json.dumps({"id": index, "label": label}, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class SubmissionFormat:
    """What a benchmark takes.

    Args:
        folder: where the files go, in that of a study.
        files: task -> split -> name of the file, and the number of test rows.
        write: writes the predictions of a test set, names of classes or scores, into an open file.
        needs_all: whether the benchmark takes complete submissions only.
    """

    folder: str
    files: Mapping[str, Mapping[str, tuple[str, int]]]
    write: Callable[[TextIO, GlueTask, Sequence[str]], None]
    needs_all: bool

    @property
    def names(self) -> list[str]:
        """Of all files."""
        return [name for splits in self.files.values() for name, _ in splits.values()]


SUBMISSION_FORMATS: Mapping[str, SubmissionFormat] = {
    "glue": SubmissionFormat("submission", SUBMISSION_FILES, _write_table, needs_all=True),
    "clue": SubmissionFormat("clue_submission", CLUE_SUBMISSION_FILES, _write_lines, needs_all=False),
}


def write_submission(folder: str | Path, task: GlueTask, split: str, predictions: Sequence[str]) -> tuple[Path, str]:
    """Writes the file of a split in `folder`.

    Args:
        predictions: names of classes, or scores, in the order of the official test rows.

    Returns:
        The file, and what is wrong with it as a submission: empty where nothing is.
    """
    form = SUBMISSION_FORMATS[task.benchmark]
    name, rows = form.files[task.name][split]
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        form.write(file, task, predictions)
    if rows == len(predictions):
        return path, ""
    return path, f"{name} has {len(predictions):,} rows, the official test set {rows:,}"


def zip_submission(folder: str | Path, written: Sequence[str], benchmark: str = "glue") -> tuple[Path, list[str]]:
    """Packs the files `written` of `folder` into `<folder>.zip`, as they are uploaded; others of an earlier submission
    are deleted.

    Returns:
        The archive, and the names of the files that it lacks where the benchmark takes complete submissions only.
    """
    folder, form = Path(folder), SUBMISSION_FORMATS[benchmark]
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in form.names:
            if name in written:
                file.write(folder / name, name)
            else:
                (folder / name).unlink(missing_ok=True)
    return archive, [name for name in form.names if name not in written] if form.needs_all else []
