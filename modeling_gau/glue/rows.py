# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From rows as a benchmark gives them to rows of texts and labels: texts that are made, rows that are left out."""

from datasets import Dataset, Features, Value

from ..text.fingerprints import digest
from .columns import Splits
from .labels import describe_row
from .tasks import GlueTask


_VERSION = 1  # raise it, and that of glue_columns.py, with every change to the texts that a task makes


def prepare_rows(task: GlueTask, split: str, rows: Dataset, overwrite_cache: bool = False) -> Dataset:
    """Rows of the Hub with the texts of the task, from the cache if they are there; `read_table` makes those of files.

    Raises:
        ValueError: a column is missing, or of the values in a row no text can be made.
    """
    if task.prepare is None:
        return rows
    missing = [column for column in task.read_columns if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"Split {split} has no column {' and no column '.join(missing)}. {task.name} needs "
            f"{', '.join(task.read_columns)}; there is {', '.join(rows.column_names)}."
        )
    kept = {name: feature for name, feature in rows.features.items() if name not in task.read_columns}
    return rows.map(
        lambda row, index: task.texts_of(row, describe_row(split, index)),
        with_indices=True,
        remove_columns=[column for column in task.read_columns if column not in task.text_columns],
        features=Features({**kept, **dict.fromkeys(task.text_columns, Value("string"))}),
        load_from_cache_file=not overwrite_cache,
        # By default that of `task`, which names its functions and does not hold what they do.
        new_fingerprint=digest(f"{_VERSION} {task.name} {rows._fingerprint}"),
        desc=f"Preparing {split}",
    )


def keep_labelled_rows(task: GlueTask, splits: Splits) -> tuple[Splits, list[str]]:
    """Leaves out the rows whose label says that they have none. Test splits with such rows lose their labels instead:
    predictions are handed in for every row.

    Returns:
        The splits, and a sentence for each in which there were such rows.

    Raises:
        ValueError: no row of a split is left.
    """
    rows, kept, messages = dict(splits), dict(splits.kept), []
    for split in splits:
        labels = splits[split]["label"][:] if task.no_label and "label" in splits[split].column_names else []
        numbers = [number for number, label in enumerate(labels) if label != task.no_label]
        if len(numbers) == len(labels):
            continue
        where = splits.files.get(split, f"Split {split}")
        count = f"{len(labels) - len(numbers):,} of {len(labels):,} rows"
        if split in task.test_splits.values():
            rows[split] = splits[split].remove_columns("label")
            messages.append(f"{where}: {count} have the label {task.no_label!r}; all are predicted, without metrics.")
            continue
        if not numbers:
            raise ValueError(f"{where}: all labels are {task.no_label!r}, which stands for no label.")
        rows[split], kept[split] = splits[split].select(numbers), numbers
        messages.append(f"{where}: {count} left out, whose label is {task.no_label!r}.")
    return Splits(rows, splits.files, kept), messages
