# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Columns of local tables: which are the texts and the labels of a task.

`read_table` gives a `Dataset` with the task's own column names, whatever they are in the file, and with labels of one
kind, so that all that comes after it sees local data and those of the Hub alike.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, Value

from ..text.files import check_file, check_value, read_columns, read_records
from ..text.fingerprints import digest
from .label_types import LabelReader
from .tasks import LOCAL_TASK, SENTENCE, SENTENCES, GlueTask, local_text_columns, nearest_of


_VERSION = 1  # raise it with every change to what read_table returns
# Ways out where a column is missing.
_NAME_COLUMNS = "Name columns with --text_column, --text_pair_column and --label_column"
_RENAME = "Rename columns of the file"


@dataclass(frozen=True)
class ColumnOptions:
    """What the command line says of the columns of local files; None where the task's own names hold.

    Args:
        text, text_pair: the text, and the second one of pairs.
        labels: one column, or several that say with 0 and 1 which classes apply.
        problem_type: one of `PROBLEM_TYPES.values()`; None where it follows from the labels.
        separator: between the labels in one cell of text.
    """

    text: str | None = None
    text_pair: str | None = None
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None
    separator: str = ","


class Splits(dict[str, Dataset]):
    """Split -> rows, and the `files` that they were read from, whose lines the checks of labels name.

    `kept` holds, for splits in which rows were left out, the numbers that the others had, from 0.
    """

    def __init__(
        self, rows: Mapping[str, Dataset], files: Mapping[str, str], kept: Mapping[str, Sequence[int]] | None = None
    ):
        super().__init__(rows)
        self.files, self.kept = dict(files), dict(kept or {})


def read_table(
    name: str,
    split: str,
    task: GlueTask,
    options: ColumnOptions,
    cache_dir: str | None = None,
    overwrite_cache: bool = False,
) -> Dataset:
    """Reads a file of rows, see `read_records`, into the columns of a task.

    These are its texts, as strings, and `label` unless a test split has none: names (string), ids (int64), booleans,
    scores (float64), or of multi-label data lists of names or of ids. Labels may be missing here; texts may be empty,
    but not missing.

    Args:
        name: of the file.
        split: of the task; its test splits need no labels.
        task: `LOCAL_TASK` where the data are no task of a benchmark.
        cache_dir: where `datasets` keeps what was read; its own default if None.
        overwrite_cache: whether to read again what is kept there.

    Raises:
        ValueError: the file or a column is missing; or, with its line (in parquet files and json arrays its number), a
            row cannot be read, or has a text or a label of the wrong type.
    """
    path = check_file(name)
    columns = read_columns(path)
    texts = choose_text_columns(task, options, split, name, columns)
    labels = choose_label_columns(task, options, split, name, columns)
    rows, raw = _read_values(path, task, texts, labels)
    features = dict.fromkeys(rows, Value("string"))
    if labels:
        problem_type = options.problem_type if task.name == LOCAL_TASK.name else task.problem_type
        reader = LabelReader(path, labels, problem_type, options.separator)
        features["label"], rows["label"] = reader.read(raw)
    choice = repr((texts, labels, options, task.problem_type, *([task.name] if task.prepare else [])))
    return _cached(path, rows, Features(features), choice, cache_dir, overwrite_cache)


def _read_values(
    path: Path, task: GlueTask, texts: Mapping[str, str], labels: Sequence[str]
) -> tuple[dict[str, list[str]], list[tuple]]:
    """Returns the texts by their names in the task, and of every row the values of the label columns."""
    rows, raw = {name: [] for name in (task.text_columns if task.prepare else texts)}, []
    for record in read_records(path, (*texts.values(), *labels)):
        place = f"{path}, {record.place}"
        found = task.texts_of({name: record.values.get(column) for name, column in texts.items()}, place)
        for name, values in rows.items():
            values.append(_text(found[name], texts[name], place))
        raw.append(tuple(record.values.get(column) for column in labels))
    return rows, raw


def _text(value: object, column: str, place: str) -> str:
    if value is None:
        raise ValueError(
            f"{place}: the text {column!r} is missing or null. Remove the row, or fill it in; an empty text is legal, "
            'and written as "".'
        )
    text, problem = check_value(value, column)
    if problem:
        raise ValueError(f"{place}: {problem}")
    return text


def _cached(
    path: Path, rows: Mapping[str, list], features: Features, choice: str, cache_dir: str | None, anew: bool
) -> Dataset:
    state = path.stat()
    identity = [_VERSION, str(path.resolve()), state.st_size, state.st_mtime_ns, choice, repr(features)]
    if anew:
        identity.append(time.time_ns())
    return Dataset.from_generator(
        _generate_rows,
        features=features,
        cache_dir=cache_dir,
        gen_kwargs={"columns": rows},
        fingerprint=digest(json.dumps(identity)),
    )


def _generate_rows(columns: Mapping[str, list]) -> Iterator[dict]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


# Columns


def choose_text_columns(
    task: GlueTask, options: ColumnOptions, split: str, name: str, columns: Sequence[str]
) -> dict[str, str]:
    """Name that the task gives a text, or what it is made of -> column of the file; raises ValueError where there is
    no such column."""
    if task.name != LOCAL_TASK.name:
        names = task.read_columns
    elif options.text is None:
        names = local_text_columns(columns)
    else:
        names = SENTENCE if options.text_pair is None else SENTENCES
    given = dict(zip(names, (options.text, options.text_pair), strict=False))
    sources = {own: given[own] or own for own in names}
    need = f"{task.name} needs {', '.join(sources.values())}"
    _check_there(tuple(sources.values()), split, name, columns, need, _RENAME if task.prepare else _NAME_COLUMNS)
    return sources


def choose_label_columns(
    task: GlueTask, options: ColumnOptions, split: str, name: str, columns: Sequence[str]
) -> tuple[str, ...]:
    """The columns of the labels, none for a test split without; raises ValueError where one is missing."""
    labels = options.labels or ("label",)
    if split in task.test_splits.values() and not set(labels) & set(columns):
        return ()
    _check_there(labels, split, name, columns, "Training and evaluation need labels")
    return labels


def _check_there(
    wanted: Sequence[str], split: str, name: str, columns: Sequence[str], need: str, way_out: str = _NAME_COLUMNS
) -> None:
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise ValueError(
            f"Split {split} has no column {' and no column '.join(missing)} ({name}). {need}; there is "
            f"{', '.join(columns)}{nearest_of(missing[0], columns)}. {way_out}, or give the --task_name that has "
            "these."
        )
