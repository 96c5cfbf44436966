# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Local files of a task: which option names that of a split, and where it is in a folder with all tasks."""

from collections.abc import Mapping
from pathlib import Path

from ..text.files import FILE_FORMATS
from .benchmarks import BENCHMARKS
from .tasks import GlueTask


# Prefix of a split's metrics -> the option that names its file.
_OPTIONS: Mapping[str, str] = {
    "eval": "validation_file",
    "eval_mm": "validation_mismatched_file",
    "test": "test_file",
    "test_mm": "test_mismatched_file",
    "test_1_0": "test_1_0_file",
}


def file_options(task: GlueTask) -> dict[str, str]:
    """Split of a task -> the name in [`GlueArguments`] of its file."""
    splits = {**task.evaluation_splits, **task.test_splits}
    return {"train": "train_file"} | {split: _OPTIONS[prefix] for prefix, split in splits.items()}


def describe_names(task: GlueTask, split: str) -> str:
    """What the file of a split may be called in the folder of its task."""
    return f"{' or '.join(_file_stems(task, split))}, with one of the endings {', '.join(FILE_FORMATS)}"


def _file_stems(task: GlueTask, split: str) -> tuple[str, ...]:
    return BENCHMARKS[task.benchmark].file_stems.get(split, (split,))


def task_files(data_dir: str, task: GlueTask) -> dict[str, str]:
    """Names in [`GlueArguments`] -> the files of a task in `data_dir`.

    Raises:
        ValueError: there is no folder of the task, or nothing in it, or a split twice.
    """
    benchmark, options = BENCHMARKS[task.benchmark], file_options(task)
    folders = [Path(data_dir).expanduser() / folder.format(task.name) for folder in benchmark.folders]
    found = {}
    for split, option in options.items():
        names = [f"{stem}{kind}" for stem in _file_stems(task, split) for kind in FILE_FORMATS]
        paths = [path for folder in folders for name in names if (path := folder / name).is_file()]
        if len(paths) > 1:
            raise ValueError(f"--data_dir: {split} of {task.name} is there twice: {', '.join(map(str, paths))}.")
        if paths:
            found[option] = str(paths[0])
    if not found:
        raise ValueError(
            f"--data_dir: {' or '.join(map(str, folders))} has no files of {task.name}. They are named after the "
            f"splits ({', '.join(options)}), with one of the endings {', '.join(FILE_FORMATS)}. Name the tasks that "
            "there are with --task_name, commas in between."
        )
    return found
