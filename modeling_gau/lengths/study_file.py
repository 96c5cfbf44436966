# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The file that says what a study of lengths compares."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..configuration_gau import GAUError
from ..runs.recipes import read_recipe


@dataclass
class StudyFile:
    """What to compare. Arguments of a script are mappings of names to values, as in a recipe.

    Attributes:
        pretrain_recipe: what the trainings have in common, a recipe of run_pretrain.py: its path, or what it holds.
        trainings: name -> arguments of run_pretrain.py. `tuned_as` names the training whose learning rate it uses; one
            with a `learning_rate` is not tuned.
        learning_rates: to choose from, unless a training or an ablation has its own `learning_rates`.
        tune_steps: of the runs that choose.
        ablations: the same, for trainings that are only tuned.
        evaluations: name -> arguments of `python -m modeling_gau.lengths`, and the `trainings` it measures.
        fine_tunings: name -> arguments of run_glue.py, and the `training` it starts from.
        glue_tasks: name of a task -> arguments of run_glue.py for it.
    """

    pretrain_recipe: str | dict[str, Any]
    seeds: list[int]
    trainings: dict[str, dict]
    learning_rates: list[float] = field(default_factory=list)
    tune_steps: int | None = None
    tokenizer: dict[str, Any] = field(default_factory=dict)
    ablations: dict[str, dict] = field(default_factory=dict)
    evaluations: dict[str, dict] = field(default_factory=dict)
    fine_tunings: dict[str, dict] = field(default_factory=dict)
    glue_recipe: str | None = None
    glue_tasks: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self):
        names = [*self.trainings, *self.ablations, *self.evaluations, *self.fine_tunings]
        for name in names:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise GAUError(f"{name!r} is not a folder name: use letters, digits, '_', '-' and '.'.")
        for name in self.trainings.keys() & self.ablations.keys():
            raise GAUError(f"{name} is both a training and an ablation.")
        if self.tuned() and not self.tune_steps:
            raise GAUError(f"tune_steps is missing: {', '.join(self.tuned())} have no learning_rate.")
        numbers = {"seeds": self.seeds} | {f"{name}: learning_rates": self.rates(name) for name in self.tuned()}
        for kind, items in numbers.items():
            if not isinstance(items, list) or not items or len(set(items)) < len(items):
                raise GAUError(f"{kind} must be one or more different numbers, got {items}.")
        for name, arguments in self.trainings.items():
            if "tuned_as" not in arguments:
                continue
            self._check_training(name, "tuned_as", [arguments["tuned_as"]])
            if arguments["tuned_as"] not in self.tuned():
                raise GAUError(f"{name}: tuned_as names {arguments['tuned_as']}, which has no tuning of its own.")
        for name, arguments in self.evaluations.items():
            self._check_training(name, "trainings", arguments.get("trainings"))
        for name, arguments in self.fine_tunings.items():
            self._check_training(name, "training", [arguments.get("training")])
        if self.fine_tunings and not (self.glue_recipe and self.glue_tasks):
            raise GAUError("fine_tunings need a glue_recipe and glue_tasks.")

    def _check_training(self, owner: str, key: str, names: Any) -> None:
        if not isinstance(names, list) or not set(names) <= self.trainings.keys():
            raise GAUError(f"{owner}: {key} {names} is not among the trainings {', '.join(self.trainings)}.")

    @classmethod
    def read(cls, path: Path) -> "StudyFile":
        """Raises ValueError if the file cannot be read or describes no valid study."""
        content = read_recipe(path)
        known = {entry.name for entry in fields(cls)}
        try:
            if unknown := sorted(content.keys() - known):
                raise GAUError(f"unknown {', '.join(unknown)}. Allowed: {', '.join(sorted(known))}.")
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise GAUError(f"Study {path}: {error}") from error

    def rates(self, training: str) -> list[float]:
        """The learning rates to tune a training or an ablation with."""
        arguments = self.ablations.get(training) or self.trainings.get(training) or {}
        return arguments.get("learning_rates", self.learning_rates)

    def tuned(self) -> dict[str, dict]:
        given = {"tuned_as", "learning_rate"}
        own = {name: arguments for name, arguments in self.trainings.items() if not given & arguments.keys()}
        return own | self.ablations
