# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The benchmarks whose tasks are known by name: what they are called, where their data is, what an average counts."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from .clue_tasks import CLUE_TASKS
from .glue_tasks import GLUE_TASKS, GlueTask, nearest_of


@dataclass(frozen=True)
class Benchmark:
    """What a script must know of a benchmark.

    Args:
        name: as `--dataset_name` has it.
        title: as it is written.
        hub_dataset: on the Hub, with a configuration for each task.
        tasks: by name.
        average: what the mean over all counted tasks is called.
        averages: title of an average -> names of its tasks; the first is that of all counted tasks.
        folders: what the folder of a task may be called in `--data_dir`, `{}` for the name of the task.
        file_stems: split -> what its file may be called there, where that is not the split's name alone.
        example_pair: of texts, for model cards.
    """

    name: str
    title: str
    hub_dataset: str
    tasks: Mapping[str, GlueTask]
    average: str
    averages: Mapping[str, tuple[str, ...]]
    folders: tuple[str, ...]
    file_stems: Mapping[str, tuple[str, ...]]
    example_pair: tuple[str, str] = field(repr=False)

    @property
    def counted_tasks(self) -> tuple[str, ...]:
        """The tasks without which there is no average."""
        return next(iter(self.averages.values()))


_COUNTED_IN_GLUE = tuple(name for name in GLUE_TASKS if name != "ax")  # the diagnostic set is not counted

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "glue",
            "GLUE",
            "nyu-mll/glue",
            GLUE_TASKS,
            average="GLUE average",
            # Much of the literature since Devlin et al. 2018 leaves wnli out.
            averages={
                "GLUE average (9 tasks)": _COUNTED_IN_GLUE,
                "GLUE average without wnli (8 tasks)": tuple(name for name in _COUNTED_IN_GLUE if name != "wnli"),
            },
            folders=("{}",),
            file_stems={"validation": ("validation", "dev")},
            example_pair=("A man is playing a guitar.", "A man plays music."),
        ),
        Benchmark(
            "clue",
            "CLUE",
            "clue/clue",
            CLUE_TASKS,
            average="CLUE classification average",
            averages={"CLUE classification average (7 tasks)": tuple(CLUE_TASKS)},
            # The archives of CLUE as they are unzipped. That of ocnli has training files of several sizes.
            folders=("{}_public", "{}"),
            file_stems={"train": ("train", "train.50k"), "validation": ("validation", "dev")},
            example_pair=("昨天的雨下了一整夜，今天早上路还是湿的", "昨天下过雨"),
        ),
    )
}


def find_benchmark(name: str) -> Benchmark:
    """Returns the benchmark that `--dataset_name` gives; raises ValueError where there is none of that name."""
    if name not in BENCHMARKS:
        raise ValueError(f"--dataset_name {name}: give one of {', '.join(BENCHMARKS)}{nearest_of(name, BENCHMARKS)}.")
    return BENCHMARKS[name]


def check_task_name(benchmark: Benchmark, name: str, given: str) -> None:
    """Raises ValueError for a name that is no task of the benchmark, and says of which other one it is.

    Args:
        given: all of `--task_name`, which may name several.
    """
    if name in benchmark.tasks:
        return
    others = [other for other in BENCHMARKS.values() if name.lower() in other.tasks and other is not benchmark]
    if others:
        raise ValueError(
            f"--task_name {given}: {benchmark.title} has no task {name!r}, which is one of {others[0].title}: give "
            f"--dataset_name {others[0].name}, or one of {', '.join(benchmark.tasks)}."
        )
    nearest = difflib.get_close_matches(name.lower().replace("-", ""), benchmark.tasks, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    raise ValueError(
        f"--task_name {given}: {benchmark.title} has no task {name!r}. Give one of "
        f"{', '.join(benchmark.tasks)}{hint}, several with commas, or all of them by `all`; or leave it out and give "
        "local files."
    )
