# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""From rows as a benchmark gives them to rows of texts and labels: texts that are made, rows that are left out."""

from datasets import Dataset, Features, Value

from .glue_columns import Splits
from .glue_labels import describe_row
from .glue_tasks import GlueTask


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
        desc=f"Preparing {split}",
    )


def keep_labelled_rows(task: GlueTask, splits: Splits) -> tuple[Splits, list[str]]:
    """Leaves out the rows whose label says that they have none, except of test splits: their rows are all predicted.

    Returns:
        The splits, and for each that has lost rows a sentence which says how many.

    Raises:
        ValueError: no row of a split is left.
    """
    rows, kept, messages = dict(splits), dict(splits.kept), []
    for split in [name for name in splits if name not in task.test_splits.values()]:
        labels = splits[split]["label"][:] if task.no_label and "label" in splits[split].column_names else []
        numbers = [number for number, label in enumerate(labels) if label != task.no_label]
        if len(numbers) == len(labels):
            continue
        where = splits.files.get(split, f"Split {split}")
        if not numbers:
            raise ValueError(f"{where}: all labels are {task.no_label!r}, which stands for no label.")
        rows[split], kept[split] = splits[split].select(numbers), numbers
        left_out = len(labels) - len(numbers)
        messages.append(f"{where}: {left_out:,} of {len(labels):,} rows left out, whose label is {task.no_label!r}.")
    return Splits(rows, splits.files, kept), messages
