# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The benchmarks whose tasks are known by name: what they are called, where their data is, what an average counts."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .clue_tasks import CLUE_TASKS
from .tasks import GLUE_TASKS, GlueTask, nearest_of


@dataclass(frozen=True)
class Benchmark:
    """What a script must know of a benchmark.

    Args:
        name: as `--dataset_name` has it.
        title: as it is written.
        hub_dataset: on the Hub, with a configuration for each task.
        tasks: by name.
        average: what its averages are called in general.
        averages: title of an average -> names of its tasks.
        required: tasks without which there is none of the averages, also none that leaves them out.
        folders: what the folder of a task may be called in `--data_dir`, `{}` for the name of the task.
        file_stems: split -> what its file may be called there, where that is not the split's name alone.
        example_text, example_pair: a text, and a pair of texts, for model cards; None for the card's own.
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
    example_text: str | None = field(default=None, repr=False)
    required: tuple[str, ...] = ()

    @property
    def counted_tasks(self) -> tuple[str, ...]:
        """The tasks that one of the averages counts."""
        return tuple(name for name in self.tasks if any(name in names for names in self.averages.values()))

    def complete_averages(self, there: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Those of `averages` for which all tasks are among the names `there`."""
        return {title: names for title, names in self.averages.items() if {*names, *self.required} <= set(there)}

    def example_of(self, task: GlueTask) -> str | tuple[str, str] | None:
        """A text or a pair as the model of a task reads them."""
        return task.example or (self.example_pair if len(task.text_columns) == 2 else self.example_text)


_COUNTED_IN_GLUE = tuple(name for name in GLUE_TASKS if name != "ax")  # the diagnostic set is not counted


def _without(name: str) -> tuple[str, ...]:
    return tuple(other for other in CLUE_TASKS if other != name)


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
            required=_COUNTED_IN_GLUE,
            folders=("{}",),
            file_stems={"validation": ("validation", "dev")},
            example_pair=("A man is playing a guitar.", "A man plays music."),
        ),
        Benchmark(
            "clue",
            "CLUE",
            "clue/clue",
            CLUE_TASKS,
            average="CLUE classification score",
            # Each version of the benchmark has one set of inference in Chinese; ocnli took the place of cmnli.
            averages={
                "CLUE 1.1 classification score (6 tasks, ocnli)": _without("cmnli"),
                "CLUE 1.0 classification score (6 tasks, cmnli)": _without("ocnli"),
            },
            # The archives of CLUE as they are unzipped. That of ocnli has training files of several sizes.
            folders=("{}_public", "{}"),
            file_stems={"train": ("train", "train.50k"), "validation": ("validation", "dev")},
            example_pair=("昨天的雨下了一整夜，今天早上路还是湿的", "昨天下过雨"),
            example_text="新地铁线路下周一开通，全程只要四十分钟",
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
