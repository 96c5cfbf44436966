# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Many fine-tuning runs from one call: tasks x points of a grid x seeds. An interrupted study resumes.

Each run has its own directory, `<output_dir>/[<task>/][<point>/]seed-<seed>`, whose `run.json` says what the run was
made with. A finished run with the same arguments is not repeated. Local files are one task without a name; its
classes and metrics follow from the data.
"""

import copy
import gc
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import SAFE_WEIGHTS_NAME

from ..configuration_gau import GAUError
from ..runs.arguments import SEED, ModelArguments, check_ranges
from ..runs.checkpoints import checkpoint_folders, remove_all_checkpoints
from ..runs.publishing import check_push_destination, push_folder
from ..runs.run_record import compare_runs, describe_arguments, read_record
from .arguments import GlueArguments, task_files
from .data import prepare_data
from .model import choose_base_config
from .tasks import GLUE_TASKS, LOCAL_TASK, GlueTask
from .trainer import GlueTrainingArguments


# Arguments that say when a training evaluates and saves, and which model it keeps.
CHOICE_OF_MODEL = (
    "eval_strategy",
    "greater_is_better",
    "load_best_model_at_end",
    "metric_for_best_model",
    "save_strategy",
)
DATA_DIR_ALONE = "--data_dir needs --task_name, and excludes --train_file and the like."
# The small tasks that people start from a model of mnli (Liu et al. 2019, arXiv:1907.11692, section 5.1).
FROM_MNLI = ("rte", "mrpc", "stsb")


@dataclass
class StudyArguments:
    """What turns one call into many runs: several tasks (`task_name`), `seeds`, or a `grid`."""

    seeds: list[int] | None = field(
        default=None,
        metadata={"help": "Run every task, or the files, once with each of these seeds, instead of --seed."},
    )
    grid: list[str] | None = field(
        default=None,
        metadata={
            "help": "Values to try in all combinations: learning_rate=2e-5,3e-5 per_device_train_batch_size=16,32 "
            "num_train_epochs=3,5. The best mean over the seeds on the validation rows wins."
        },
    )
    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with a folder of local files for each task: rte/train.jsonl, rte/validation.jsonl, "
            "mnli/validation_matched.csv, ...; for CLUE the official folders, tnews_public/train.json, ..."
        },
    )
    mnli_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Start rte, mrpc and stsb from this model, fine-tuned on mnli, and predict ax with it. `auto` "
            "takes the mnli model of the same study and seed; ax does so by default."
        },
    )

    def __post_init__(self):
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise GAUError(f"--seeds must be one or more different numbers, got {self.seeds}.")
        for seed in self.seeds or ():
            check_ranges({"seeds": seed}, {"seeds": SEED})
        if self.data_dir is not None and not Path(self.data_dir).expanduser().is_dir():
            raise GAUError(f"--data_dir {self.data_dir} is not a directory.")

    def is_asked_for(self, glue_args: GlueArguments) -> bool:
        return self.seeds is not None or self.grid is not None or len(glue_args.task_names()) > 1


def single_run_arguments(
    model_args: ModelArguments, glue_args: GlueArguments, study_args: StudyArguments
) -> tuple[ModelArguments, GlueArguments]:
    """Returns the arguments of a single run with the files of `--data_dir` and the model of `--mnli_checkpoint`."""
    name, checkpoint = glue_args.task_name, study_args.mnli_checkpoint
    if study_args.data_dir is not None:
        if name is None or glue_args.files():
            raise GAUError(DATA_DIR_ALONE)
        glue_args = replace(glue_args, **task_files(study_args.data_dir, glue_args.task()))
    if checkpoint is not None:
        if name not in FROM_MNLI or checkpoint == "auto":
            raise GAUError(
                f"--mnli_checkpoint {checkpoint}: a single run takes the path of a model, and only for "
                f"{', '.join(FROM_MNLI)}. Use --model_name_or_path, or make a study with several tasks or --seeds."
            )
        model_args = replace(model_args, model_name_or_path=checkpoint, config_name=None, model_type=None)
        glue_args = replace(glue_args, ignore_mismatched_sizes=True)
    return model_args, glue_args


# The plan

Arguments = tuple[ModelArguments, GlueArguments, GlueTrainingArguments]  # of one run
Point = tuple[tuple[str, Any], ...]  # values of the grid


@dataclass(frozen=True)
class Run:
    """One fine-tuning run of a study."""

    task: GlueTask = field(compare=False)
    point: Point
    seed: int
    output_dir: Path

    @property
    def name(self) -> str:
        task = [] if self.task.is_local else [self.task.name]
        return "-".join([*task, *(f"{name}-{value}" for name, value in self.point), f"seed-{self.seed}"])


# What a grid may vary: type, and which values make sense.
_GRID_AXES: Mapping[str, tuple[type, str, Callable[[float], bool]]] = {
    "adam_beta2": (float, "between 0 and 1", lambda value: 0 < value < 1),
    "gradient_accumulation_steps": (int, "at least 1", lambda value: value >= 1),
    "label_smoothing_factor": (float, "from 0 to below 1", lambda value: 0 <= value < 1),
    "layerwise_lr_decay": (float, "above 0 and at most 1", lambda value: 0 < value <= 1),
    "learning_rate": (float, "above 0", lambda value: 0 < value < math.inf),
    "max_grad_norm": (float, "above 0", lambda value: 0 < value < math.inf),
    "num_train_epochs": (float, "above 0", lambda value: 0 < value < math.inf),
    "per_device_train_batch_size": (int, "at least 1", lambda value: value >= 1),
    "warmup_steps": (float, "at least 0", lambda value: 0 <= value < math.inf),
    "weight_decay": (float, "at least 0", lambda value: 0 <= value < math.inf),
}


def grid_points(grid: Sequence[str] | None) -> list[Point]:
    """Returns all combinations of the values in `["learning_rate=2e-5,3e-5", ...]`; without a grid one empty point.

    Raises:
        ValueError: a part has another form or a name that a grid cannot vary, or a value is repeated or out of range.
    """
    axes = {}
    for part in grid or ():
        name, _, values = part.partition("=")
        if not values or name not in _GRID_AXES or name in axes:
            raise GAUError(
                f"--grid {part}: give names, each once, with values, as in learning_rate=2e-5,3e-5 "
                f"num_train_epochs=3,5. Names are {', '.join(_GRID_AXES)}; seeds go to --seeds."
            )
        kind, allowed, is_allowed = _GRID_AXES[name]
        try:
            axes[name] = [kind(value) for value in values.split(",")]
        except ValueError as error:
            raise GAUError(f"--grid {part}: {error}.") from error
        if not all(map(is_allowed, axes[name])) or len(set(axes[name])) < len(axes[name]):
            raise GAUError(f"--grid {part}: give different finite values {allowed}.")
    return [tuple(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def order_tasks(
    names: Sequence[str], mnli_checkpoint: str | None, tasks: Mapping[str, GlueTask] = GLUE_TASKS
) -> list[GlueTask]:
    """Returns the tasks, those that start from this study's models of mnli last.

    Raises:
        ValueError: a task needs a model of mnli that is neither given nor trained here, or the given one has no use.
    """
    served = [name for name in names if name == "ax" or name in FROM_MNLI]
    if mnli_checkpoint is not None and not served:
        raise GAUError(f"--mnli_checkpoint serves {', '.join(FROM_MNLI)} and ax; --task_name has none of them.")
    waiting = {"auto": served, None: [name for name in served if name == "ax"]}.get(mnli_checkpoint, [])
    if waiting and "mnli" not in names:
        raise GAUError(
            f"A model of mnli is missing for {', '.join(waiting)}: add mnli to --task_name, or give --mnli_checkpoint."
        )
    return [tasks[name] for name in sorted(names, key=lambda name: name in waiting)]


# Running


def check_data(model_args: ModelArguments, glue_args: GlueArguments, args: GlueTrainingArguments) -> GlueTask:
    """Returns the task of the data; raises ValueError if a run could not use them."""
    return prepare_data(model_args, glue_args, args, choose_base_config(model_args, glue_args)).task


@dataclass
class Study:
    """Makes the runs of a study, one after the other in this process.

    If several processes share each run, all call the same methods and follow what the first one finds on its disk.

    Args:
        model_args, glue_args, args, study_args: arguments of the whole study.
        fine_tune: makes one run from the arguments that it gets, and writes `run.json` into its output directory.
        check: returns the task of the data; raises ValueError if a run could not use them.
        repositories: task -> repository on the Hub that its best model will be pushed to.

    Attributes:
        chosen: task -> its runs at the best point of the grid, one for each seed.
        done: all finished runs.
    """

    model_args: ModelArguments
    glue_args: GlueArguments
    args: GlueTrainingArguments
    study_args: StudyArguments
    fine_tune: Callable[[ModelArguments, GlueArguments, GlueTrainingArguments], Mapping[str, float]]
    check: Callable[[ModelArguments, GlueArguments, GlueTrainingArguments], GlueTask] = check_data
    repositories: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.seeds = self.study_args.seeds or [self.args.seed]
        self.points = grid_points(self.study_args.grid)
        if len(self.points) > 1 and not (self.args.do_train and self.args.do_eval):
            raise GAUError("--grid compares runs by their evaluation: add --do_train and --do_eval.")
        names = list(self.glue_args.task_names())
        if self.study_args.data_dir is not None and (not names or self.glue_args.files()):
            raise GAUError(DATA_DIR_ALONE)
        self.tasks = order_tasks(names, self.study_args.mnli_checkpoint, self.glue_args.benchmark().tasks)
        self.tasks = self.tasks or [LOCAL_TASK]
        self.chosen: dict[str, list[Run]] = {}
        self.done: list[Run] = []
        points = sum(1 if task.name == "ax" else len(self.points) for task in self.tasks)
        self.total = points * len(self.seeds)

    def run(self, report: Callable[["Study"], None]) -> dict[str, list[Run]]:
        """Makes all missing runs and returns `chosen`.

        Args:
            report: the first process calls it whenever a task is done.
        """
        self._check_first()
        for task in self.tasks:
            runs = {point: [self._make(task, point, seed) for seed in self.seeds] for point in self._points_of(task)}
            self.chosen[task.name] = runs[_of_first(partial(_best_point, runs))]
            if self.args.process_index == 0:
                report(self)
        return self.chosen

    def check_repositories(self) -> None:
        """Makes sure, before anything is computed, that `--push_to_hub` will be able to push."""
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        self.repositories = {
            task.name: check_push_destination(self._of_repository(name if task.is_local else f"{name}-{task.name}"))
            for task in (self.tasks if self.args.push_to_hub else ())
            if task.name != "ax"
        }

    def push(self) -> None:
        """Pushes the best model of each task."""
        for name, repo_id in self.repositories.items() if self.args.process_index == 0 else ():
            best = best_run(self.chosen[name])
            push_folder(repo_id, self._of_repository(repo_id, output_dir=str(best.output_dir)))
            print(f"Pushed {best.output_dir} to {repo_id}.")

    def _of_repository(self, repo_id: str, **changes: str) -> GlueTrainingArguments:
        own = copy.copy(self.args)
        vars(own).update(hub_model_id=repo_id, **changes)
        return own

    def means(self) -> dict[str, float]:
        """Returns `<task>_<metric>`, or `<metric>` for files, -> the mean over the seeds."""
        return _of_first(self._means)

    def _means(self) -> dict[str, float]:
        results = {name: [run_results(run) for run in runs] for name, runs in self.chosen.items()}
        return {
            metric if name == LOCAL_TASK.name else f"{name}_{metric}": fmean(result[metric] for result in seeds)
            for name, seeds in results.items()
            for metric in seeds[0]
            if all(isinstance(result.get(metric), (int, float)) for result in seeds)
        }

    def _points_of(self, task: GlueTask) -> list[Point]:
        if task.name != "ax":
            return self.points
        return [self.chosen["mnli"][0].point if "mnli" in self.chosen else ()]

    def _check_first(self) -> None:
        """Checks all data and all earlier runs before the first run takes hours."""
        if self.tasks == [LOCAL_TASK]:
            self.tasks = [self.check(self.model_args, self.glue_args, copy.copy(self.args))]
        for task in self.tasks:  # before any file is read
            glue_args = self._data_of(task)
            for point in self._points_of(task) if task.name != "ax" else ():
                self._training_of(self._run(task, point, self.seeds[0]), glue_args)
        for task in self.tasks:
            own = [self._run(task, point, seed) for point in self.points for seed in self.seeds]
            # The largest batches need the most rows.
            widest = max(own, key=lambda run: dict(run.point).get("per_device_train_batch_size", 0))
            if not self._waits_for_mnli(task):
                self.check(*self._arguments_of(widest))
                for run in own:
                    self._record_of(run, self._arguments_of(run))
            elif task.name != "ax":
                glue_args = self._data_of(task)
                self.check(self.model_args, glue_args, self._training_of(widest, glue_args))

    def _run(self, task: GlueTask, point: Point, seed: int) -> Run:
        folder = Path(self.args.output_dir) / ("" if task.is_local else task.name)
        if point:
            folder /= "_".join(f"{name}-{value}" for name, value in point)
        return Run(task, point, seed, folder / f"seed-{seed}")

    def _make(self, task: GlueTask, point: Point, seed: int) -> Run:
        run = self._run(task, point, seed)
        arguments = self._arguments_of(run)
        args = arguments[-1]
        PartialState().wait_for_everyone()
        record = self._record_of(run, arguments) or {}
        stages = {"trained": args.do_train, "evaluated": args.do_eval, "predicted": args.do_predict}
        missing = {stage for stage, wanted in stages.items() if wanted and not record.get(stage)}
        if args.should_log:
            number = f"[{len(self.done) + 1} of {self.total}]"
            print(f"\n{number} {run.name}" if missing else f"{number} {run.name}: finished already", flush=True)
        if missing:
            self.fine_tune(*self._arguments_of_stages(run, missing, arguments))
            # The Trainer and its callbacks refer to each other, so only the collector frees the models of finished
            # runs.
            gc.collect()
            PartialState().wait_for_everyone()
        if args.process_index == 0:
            remove_all_checkpoints(run.output_dir)
        self.done.append(run)
        return run

    def _arguments_of_stages(self, run: Run, missing: set[str], arguments: Arguments) -> Arguments:
        model_args, glue_args, args = arguments
        if args.do_train and "trained" not in missing:  # the model exists; only evaluate it or predict
            args.do_train, args.do_eval, args.do_predict = False, "evaluated" in missing, "predicted" in missing
            own = dict.fromkeys(("config_name", "model_type", "tokenizer_name", "config_overrides"))
            model_args = replace(model_args, model_name_or_path=str(run.output_dir), **own)
        elif args.do_train:
            found = _of_first(lambda: bool(checkpoint_folders(run.output_dir)))
            resumes = found and not self.args.overwrite_output_dir
            args.overwrite_output_dir, args.resume_from_checkpoint = not resumes, "auto" if resumes else None
        return model_args, glue_args, args

    def _record_of(self, run: Run, arguments: Arguments) -> dict[str, Any] | None:
        """Returns the record of a finished run, None if it must be made or resumed.

        Raises:
            ValueError: the directory holds a run, finished or not, that was made with other arguments.
        """
        record = _of_first(lambda: read_record(run.output_dir))
        if record is None or (self.args.overwrite_output_dir and run not in self.done):
            return None
        *parts, args = arguments
        differing = compare_runs(record, describe_arguments(parts, args, compared_files(*parts)))
        is_finished = record.get("status") == "finished"
        both_train = args.do_train and record.get("trained")
        if is_finished and not (both_train and args.do_eval and record.get("evaluated")):
            # Without one of the stages there are no evaluations during training by default.
            unused = CHOICE_OF_MODEL if both_train else (*CHOICE_OF_MODEL, "learning_rate")
            differing = {name: text for name, text in differing.items() if name not in unused}
        # New seeds or points may change which model of mnli is best: then the runs that start from it are repeated.
        if self._waits_for_mnli(run.task) and differing.keys() <= {"model_name_or_path", "weights of the checkpoint"}:
            if differing and self.args.process_index == 0:
                remove_all_checkpoints(run.output_dir)
        elif differing:
            raise GAUError(
                f"{run.output_dir} holds a run that was made with other arguments: {'; '.join(differing.values())}. "
                "Give another --output_dir, or repeat all runs with --overwrite_output_dir."
            )
        return record if is_finished and not differing else None

    def _arguments_of(self, run: Run) -> Arguments:
        glue_args = self._data_of(run.task)
        args = self._training_of(run, glue_args)
        model_args, checkpoint = self.model_args, self._start_of(run)
        if checkpoint is not None:
            model_args = replace(model_args, model_name_or_path=checkpoint, config_name=None, model_type=None)
            glue_args = replace(glue_args, ignore_mismatched_sizes=run.task.name != "ax")
        return model_args, glue_args, args

    def _start_of(self, run: Run) -> str | None:
        """Returns the model of mnli that a run starts from, None for the model of the arguments."""
        if self._waits_for_mnli(run.task):
            return str(self._run(GLUE_TASKS["mnli"], self.chosen["mnli"][0].point, run.seed).output_dir)
        return self.study_args.mnli_checkpoint if run.task.name in (*FROM_MNLI, "ax") else None

    def _waits_for_mnli(self, task: GlueTask) -> bool:
        """Whether a task starts from a model that this study trains."""
        wanted = self.study_args.mnli_checkpoint
        return (task.name == "ax" and wanted in (None, "auto")) or (task.name in FROM_MNLI and wanted == "auto")

    def _data_of(self, task: GlueTask) -> GlueArguments:
        files = task_files(self.study_args.data_dir, task) if self.study_args.data_dir else {}
        return replace(self.glue_args, task_name=None if task.is_local else task.name, **files)

    def _training_of(self, run: Run, glue_args: GlueArguments) -> GlueTrainingArguments:
        args = copy.copy(self.args)
        for name, value in run.point:
            setattr(args, name, value)
        name = f"{Path(self.args.output_dir).absolute().name}-{run.name}" if run.task.is_local else run.name
        args.output_dir, args.run_name, args.seed = str(run.output_dir), name, run.seed
        args.push_to_hub, args.hub_model_id = False, self.repositories.get(run.task.name)
        files = glue_args.files()
        has_test = not files or not files.keys().isdisjoint(run.task.test_splits.values())
        args.do_predict |= args.stages_by_default and has_test
        if run.task.name == "ax":
            args.do_train, args.do_eval, args.do_predict = False, False, True
        args.resolve_best_metric(run.task)
        args.check_problem(run.task.problem_type)
        return args


def _best_point(runs: Mapping[Point, Sequence[Run]]) -> Point:
    return max(runs, key=lambda point: _comparable(fmean(map(run_score, runs[point]))))


def _of_first(function: Callable[[], Any]) -> Any:
    """Gives all processes what `function` returns in the first one, since each may see another disk."""
    found = [function() if PartialState().is_main_process else None]
    return broadcast_object_list(found)[0]


def _comparable(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def compared_files(model_args: ModelArguments, glue_args: GlueArguments) -> dict[str, Path]:
    """Returns the local files whose contents decide the results of a run, by their names in messages."""
    paths = {f"contents of {name}": Path(path) for name, path in glue_args.files().items()}
    if model_args.model_name_or_path:
        paths["weights of the checkpoint"] = Path(model_args.model_name_or_path) / SAFE_WEIGHTS_NAME
    return paths


# Scores


def run_results(run: Run) -> dict[str, float]:
    """Returns the metrics of a finished run."""
    return read_record(run.output_dir)["results"]


def run_score(run: Run) -> float:
    """Returns what GLUE counts for a task: its metric, or the mean of two metrics, or for mnli of two splits.

    NaN if there was no evaluation, or if a correlation is undefined.
    """
    results = run_results(run)
    values = [results.get(f"{prefix}_{run.task.key_metric}") for prefix in run.task.evaluation_splits]
    values = [float(value) for value in values if value is not None]
    return fmean(values) if values else math.nan


def best_run(runs: Sequence[Run]) -> Run:
    """Returns the run with the best score on the validation rows; its predictions are submitted."""
    return max(runs, key=lambda run: _comparable(run_score(run)))
