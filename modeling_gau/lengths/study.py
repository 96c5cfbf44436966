# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Compares how attention normalizations transfer across lengths: trains and evaluates a grid of models.

    python -m modeling_gau.lengths.study --config configuration/recipes/study/study-small.yaml \
        --train_file "corpus/train-*.jsonl" --validation_file corpus/validation.jsonl --data_dir glue/ \
        --output_dir outputs/length-study
    python -m modeling_gau.lengths.study --config configuration/recipes/study/study-smoke.yaml \
        --output_dir outputs/smoke

The study file says what to compare. After training a tokenizer, the study has four stages: `tune` chooses a learning
rate for every training by short runs, `pretrain` trains with it from several seeds, `evaluate` measures the
checkpoints at many lengths, `fine_tune` trains them on the GLUE tasks in --data_dir. Every run is a process with a log
beside its folder, and as many run at a time as there are devices. To continue an interrupted study, repeat its
command: finished runs with the same arguments are kept. Without --train_file, the embedded corpus is used.
"""

import argparse
import contextlib
import csv
import io
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configuration_gau import GAUError
from ..glue.arguments import GlueArguments, task_files
from ..glue.report import split_metrics
from ..glue.study import StudyArguments, compared_files
from ..glue.tasks import GLUE_TASKS
from ..glue.trainer import GlueTrainingArguments
from ..pretraining.data import some_documents
from ..pretraining.trainer import PretrainingArguments
from ..runs.arguments import CardArguments, ModelArguments
from ..runs.checkpoints import checkpoint_folders
from ..runs.command_line import run_program
from ..runs.jobs import Job, Runner, check_needs, device_environments
from ..runs.locks import lock
from ..runs.options import ArgumentParser, program_name
from ..runs.recipes import parse_arguments, read_recipe
from ..runs.run_record import RECORD_NAME, compare_runs, compare_values, describe_arguments, digest_of
from ..runs.state_files import for_json, write_json
from ..runs.tables import aligned, write_csv
from ..text.arguments import DataArguments
from ..text.documents import find_files, read_documents
from ..text.tokenization import train_tokenizer
from .measuring import LengthArguments
from .study_file import StudyFile


ROOT = Path(__file__).resolve().parents[2]
STAGES = ("tune", "pretrain", "evaluate", "fine_tune")
SCRIPTS = {"tune": ["run_pretrain.py"], "pretrain": ["run_pretrain.py"], "fine_tune": ["run_glue.py"]}
SCRIPTS["evaluate"] = ["-m", "modeling_gau.lengths"]
PRETRAINING = (ModelArguments, DataArguments, CardArguments, PretrainingArguments)
FINE_TUNING = (ModelArguments, GlueArguments, CardArguments, StudyArguments, GlueTrainingArguments)
ARGUMENTS = {"tune": PRETRAINING, "pretrain": PRETRAINING, "fine_tune": FINE_TUNING, "evaluate": (LengthArguments,)}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_command_line(argv)
    check_scripts(ROOT)
    study = Study(StudyFile.read(args.config), args)
    if "fine_tune" in args.stages and study.file.fine_tunings and not args.data_dir:
        print("Skipping fine-tuning: pass --data_dir, a folder with the tasks.")
    run(study)


def run(study: "Study") -> None:
    """Makes the runs of a study that are not finished, and the tables of all; exits if one failed or was stopped."""
    args, finished = study.args, study.finished()
    selected = [job for job in study.jobs if job.stage in args.stages]
    if args.dry_run:
        for job in selected:
            print(f"[{'finished' if job.name in finished else 'to do'}] {shlex.join(study.words(job))}")
        return
    check_needs(selected, finished)
    with lock(args.output_dir) as descriptor:
        study.prepare_text()
        environments = device_environments(args.jobs, study.needs_cpu())
        parts = (selected, finished, study.is_finished, study.words, environments, args.output_dir, study.job_ended)
        runner = Runner(*parts, [descriptor])
        for text in study.tuning_report(finished):
            print(text)
        code = runner.run()
    study.check_text(finished)  # files may have changed meanwhile
    for path in study.write_tables(finished):  # of what there is
        print(f"Wrote {path}")
    if code:
        again = shlex.join([*program_name().split(), *sys.argv[1:]])
        print(f"The study is not finished: {len(runner.waiting)} runs are left. To continue, run\n{again}")
        sys.exit(code)


def parse_command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="study file; paths in it start at the repository")
    add_text_arguments(parser)
    parser.add_argument(
        "--evaluation_file", nargs="+", help="long documents to measure on; by default --validation_file"
    )
    parser.add_argument(
        "--data_dir", help="folder with GLUE tasks, as for run_glue.py; without it, nothing is fine-tuned"
    )
    add_run_arguments(parser)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    args = parser.parse_args(argv)
    args.data_dir = args.data_dir and os.path.abspath(os.path.expanduser(args.data_dir))
    check_arguments(parser, args)
    return args


def add_text_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--train_file", nargs="+", help="as for run_pretrain.py; by default the embedded corpus")
    parser.add_argument("--validation_file", nargs="+", help="as for run_pretrain.py")
    parser.add_argument("--text_column", help="column of these files that holds the text; by default text")


def add_run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--jobs", type=int, help="runs at a time; by default one a GPU, or one a core")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and whether they are finished")


def check_arguments(parser: ArgumentParser, args: argparse.Namespace) -> None:
    """Checks the arguments and makes their paths absolute: the runs start in the repository."""
    if args.jobs is not None and args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}.")
    args.output_dir = Path(os.path.abspath(args.output_dir))
    for name in ("train_file", "validation_file", "evaluation_file"):
        paths = vars(args).get(name)
        setattr(args, name, paths and [os.path.abspath(os.path.expanduser(path)) for path in paths])


def check_scripts(folder: Path) -> None:
    """Raises ValueError outside a clone of the repository: the wheel has no run_pretrain.py and no run_glue.py."""
    missing = [name for name in ("run_pretrain.py", "run_glue.py") if not (folder / name).is_file()]
    if missing:
        raise GAUError(
            f"A study runs {' and '.join(missing)}, not found in {folder}. Start it from a clone of the repository: "
            "cd into the clone first."
        )


# The runs


def words_of(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as words of a command line. Raises ValueError for None and mappings."""
    words = []
    for name, value in arguments.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        if any(item is None or isinstance(item, (dict, list)) for item in items):
            raise GAUError(f"{name}: {value} cannot be passed on a command line.")
        words += [f"--{name}", *(str(item).lower() if isinstance(item, bool) else str(item) for item in items)]
    return words


def content_of(recipe: Path | Mapping[str, Any]) -> Mapping[str, Any]:
    return read_recipe(recipe) if isinstance(recipe, Path) else recipe


def joined(recipe: Path | Mapping[str, Any], *parts: Mapping[str, Any]) -> dict[str, Any]:
    """Merged arguments on top of a recipe; later ones win, and their `config_overrides` are joined."""
    merged = {"config": str(recipe)} if isinstance(recipe, Path) else dict(recipe)
    overrides = [part["config_overrides"] for part in (content_of(recipe), *parts) if "config_overrides" in part]
    for part in parts:
        merged |= part
    return merged | ({"config_overrides": ",".join(overrides)} if "config_overrides" in merged else {})


def without(arguments: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


class Study:
    """The runs of a study file in an output directory: their order, needs and results."""

    def __init__(self, file: StudyFile, args: argparse.Namespace):
        self.file, self.args, self.output_dir = file, args, args.output_dir
        given = file.pretrain_recipe
        self.pretrain_recipe = given if isinstance(given, dict) else ROOT / given
        names = ("train_file", "validation_file", "text_column")
        self.text = {key: vars(args)[key] for key in names if vars(args)[key]}
        self.jobs = [*self._tune(), *(job for seed in file.seeds for job in self._of_seed(seed))]
        self.by_name = {job.name: job for job in self.jobs}

    def _tune(self) -> list[Job]:
        extra = {"max_steps": self.file.tune_steps, "save_strategy": "no"}
        return [
            self._pretraining(
                tune_name(training, rate), "tune", self.file.seeds[0], arguments, {"learning_rate": rate} | extra
            )
            for training, arguments in self.file.tuned().items()
            for rate in self.file.rates(training)
        ]

    def _of_seed(self, seed: int) -> list[Job]:
        """Jobs in the order they start, so that one seed gives a whole comparison early."""
        return [*self._pretrain(seed), *self._evaluate(seed), *self._fine_tune(seed)]

    def _pretrain(self, seed: int) -> Iterable[Job]:
        for training, arguments in self.file.trainings.items():
            name, links = f"pretrain/{training}/seed-{seed}", {}
            if "learning_rate" not in arguments:
                base = arguments.get("tuned_as", training)
                needs = tuple(tune_name(base, rate) for rate in self.file.rates(base))
                links = {"needs": needs, "tuned_as": base}
            yield self._pretraining(name, "pretrain", seed, arguments, {}, **links)

    def _pretraining(
        self, name: str, stage: str, seed: int, arguments: Mapping[str, Any], extra: Mapping[str, Any], **links: Any
    ) -> Job:
        own = {"tokenizer_name": str(self.output_dir / "tokenizer"), "seed": seed}
        place = {"output_dir": str(self.output_dir / name)}
        given = joined(
            self.pretrain_recipe, self.text | own, extra, without(arguments, "tuned_as", "learning_rates"), place
        )
        return Job(name, stage, given, f"{name}/{RECORD_NAME}", **links)

    def _evaluate(self, seed: int) -> Iterable[Job]:
        given = self.args.evaluation_file or self.args.validation_file
        text = {"corpus_file": given or [str(self.held_out_file())]}
        if given and self.args.text_column:
            text["text_column"] = self.args.text_column
        for evaluation, arguments in self.file.evaluations.items():
            for training in arguments["trainings"]:
                name, start = f"evaluate/{evaluation}/{training}-seed-{seed}", f"pretrain/{training}/seed-{seed}"
                places = {"model_name_or_path": str(self.output_dir / start), **text}
                places["output_file"] = str(self.output_dir / f"{name}.csv")
                yield Job(name, "evaluate", places | without(arguments, "trainings"), f"{name}.json", (start,))

    def _fine_tune(self, seed: int) -> Iterable[Job]:
        for fine_tuning, arguments in self.file.fine_tunings.items() if self.args.data_dir else ():
            start = f"pretrain/{arguments['training']}/seed-{seed}"
            for task, own in self.file.glue_tasks.items():
                name = f"fine_tune/{fine_tuning}/from-seed-{seed}/{task}-run"
                given = {"task_name": task, "data_dir": self.args.data_dir, "seeds": [seed]}
                given["model_name_or_path"] = str(self.output_dir / start)
                place = {"output_dir": str(self.output_dir / name)}
                given = joined(ROOT / self.file.glue_recipe, given, own, without(arguments, "training"), place)
                yield Job(name, "fine_tune", given, f"{name}/{task}/seed-{seed}/{RECORD_NAME}", (start,))

    def held_out_file(self) -> Path:
        """The documents that run_pretrain.py holds out if it gets no validation text."""
        return self.output_dir / "held-out.jsonl"

    def needs_cpu(self) -> bool:
        return bool(content_of(self.pretrain_recipe).get("use_cpu"))

    def words(self, job: Job) -> list[str]:
        """The command of a job; `<tuned>` stands for a learning rate that is not chosen yet.

        Raises:
            ValueError: the folder holds a run with other arguments.
        """
        arguments, is_finished = self._arguments(job), self.is_finished(job)
        if job.tuned_as and "learning_rate" not in arguments:
            arguments["learning_rate"] = "<tuned>"
        if ARGUMENTS[job.stage] == PRETRAINING and not is_finished:
            folder = self.output_dir / job.name
            # A run stopped after its last step leaves a model but no checkpoint to resume from.
            ended = (folder / "config.json").is_file() and not checkpoint_folders(folder)
            arguments |= {"overwrite_output_dir": True} if ended else {"resume_from_checkpoint": "auto"}
        return [sys.executable, *SCRIPTS[job.stage], *words_of(arguments)]

    def _arguments(self, job: Job) -> dict[str, Any]:
        rate = job.tuned_as and self.best_rate(job.tuned_as)
        return dict(job.arguments) | ({"learning_rate": rate} if rate else {})

    # Finished runs

    def finished(self) -> set[str]:
        """Names of the finished jobs. Those that need a learning rate not chosen yet are left out.

        Raises:
            ValueError: folders hold runs with other arguments (all are named), or runs were trained on different text.
        """
        done, errors = set(), []
        for job in self.jobs:
            try:
                is_known = job.tuned_as is None or self.best_rate(job.tuned_as) is not None
                if self.is_finished(job) and is_known:
                    done.add(job.name)
            except ValueError as error:
                errors.append(str(error))
        if not errors:
            self.check_text(done)
        if errors:
            raise GAUError("\n".join(errors))
        return done

    def check_text(self, finished: set[str]) -> None:
        """Raises ValueError if finished runs were trained on different text or with different tokenizers."""
        found = {}
        for job in self.jobs:
            if job.stage in ("tune", "pretrain") and job.name in finished:
                data = load(self.output_dir / job.record).get("data")
                found.setdefault(json.dumps(data, sort_keys=True), []).append(job.name)
        if len(found) > 1:
            raise GAUError(
                f"{self.output_dir} holds runs trained on different text or with different tokenizers: "
                f"{'; '.join(', '.join(names) for names in found.values())}. Remove those with the old text, and "
                "the tokenizer and held-out.jsonl if they are of it; or choose another --output_dir."
            )

    def is_finished(self, job: Job) -> bool:
        now, record = self._compared(job), load(self.output_dir / job.record)
        if record is None:
            return False
        if job.stage == "evaluate":  # its file checks itself, and may get more cells
            return record["status"] == "finished" and record["arguments"] == now["arguments"]
        if differing := compare_runs(record, now, ROOT):
            raise GAUError(
                f"{self.output_dir / job.name} holds a run with other arguments: "
                f"{'; '.join(differing.values())}. Choose another --output_dir, or remove that folder."
            )
        return record["status"] == "finished"

    def _compared(self, job: Job) -> dict[str, Any]:
        """Describes the run that the job would make."""
        arguments = self._arguments(job)
        parts = parse_quietly(job, words_of(arguments))
        if job.stage == "evaluate":
            parts[0].settings()
            start = load(self.output_dir / self.by_name[job.needs[0]].record) or {}
            held_out = self.held_out_file()
            is_there = arguments["corpus_file"] != [str(held_out)] or held_out.exists()  # else it is made again
            files = find_files(arguments["corpus_file"]) if start and is_there else ()
            contents = [digest_of(path) for path in files]
            facts = {"checkpoint of": start.get("started"), "contents of the text": contents}
            return {"arguments": for_json(arguments | facts)}
        if job.stage == "fine_tune":
            return self._compared_fine_tuning(*parts)
        parts[-1].fill_schedule()
        description = describe_arguments(parts[:-1], parts[-1])
        if job.tuned_as and "learning_rate" not in arguments:
            del description["arguments"]["learning_rate"]
        return description

    @staticmethod
    def _compared_fine_tuning(model_args, glue_args, card_args, study_args, args) -> dict[str, Any]:
        """Describes the single run of run_glue.py in a job."""
        vars(args)["seed"] = study_args.seeds[0]
        task = glue_args.task()
        for name, path in task_files(study_args.data_dir, task).items():
            setattr(glue_args, name, path)
        args.resolve_best_metric(task)
        return describe_arguments((model_args, glue_args, card_args), args, compared_files(model_args, glue_args))

    def best_rate(self, training: str) -> float | None:
        """The learning rate with the lowest loss; None until the tuning is finished."""
        losses = {rate: self.tuning_result(training, rate).get("eval_loss") for rate in self.file.rates(training)}
        if None in losses.values():
            return None
        if all(map(math.isnan, losses.values())):
            raise GAUError(f"{training} diverged at every learning rate: list lower ones.")
        return min(losses, key=lambda rate: math.inf if math.isnan(losses[rate]) else losses[rate])

    def tuning_result(self, training: str, rate: float) -> dict[str, float]:
        record = load(self.output_dir / tune_name(training, rate) / RECORD_NAME) or {}
        results = record.get("results", {}) if record.get("status") == "finished" else {}
        # JSON has no NaN: the record holds it as a string.
        return {name: float(results[name]) for name in ("eval_loss", "eval_accuracy") if name in results}

    def prepare_text(self) -> None:
        """Trains the tokenizer and stores the held-out documents, once for all runs.

        Raises:
            ValueError: the tokenizer or the held-out documents in the folder were made with other arguments.
        """
        folder, partial = self.output_dir / "tokenizer", self.output_dir / "tokenizer.partial"
        given = joined(self.pretrain_recipe, self.text, self.file.tokenizer, {"output_dir": str(partial)})
        _, data_args, *_ = parse_quietly(Job("tokenizer", "tune", {}, ""), words_of(given))
        now, origin = for_json(self.file.tokenizer | self.text), self.held_out_file().with_suffix(".origin.json")
        check_origin(folder, folder / RECORD_NAME, now)
        given_text = self.args.evaluation_file or self.args.validation_file
        needs_held_out = bool(self.file.evaluations) and not (given_text or self.held_out_file().exists())
        if self.file.evaluations and not given_text and not needs_held_out:
            check_origin(self.held_out_file(), origin, for_json(self.text))
        if folder.is_dir() and not needs_held_out:
            return
        splits = read_documents(data_args, 0).splits
        self.output_dir.mkdir(parents=True, exist_ok=True)
        if needs_held_out:
            unfinished = self.held_out_file().with_suffix(".partial")
            splits["validation"].to_json(unfinished)
            write_json(origin, {"arguments": for_json(self.text)})
            os.replace(unfinished, self.held_out_file())
        if not folder.is_dir():
            documents = some_documents(splits["train"], data_args.tokenizer_characters)
            options = data_args.tokenizer_type, data_args.vocab_size, data_args.tokenizer_lowercase
            shutil.rmtree(partial, ignore_errors=True)
            train_tokenizer(documents, *options).save_pretrained(partial)
            write_json(partial / RECORD_NAME, {"status": "finished", "arguments": now})
            partial.rename(folder)

    # Results

    def job_ended(self, job: Job, finished: set[str]) -> str:
        """Records a job that ended well. Returns its main number and, after the last tuning run, the tuning report."""
        if job.stage == "evaluate":
            write_json(self.output_dir / job.record, {"status": "finished", **self._compared(job)})
        return "\n".join([self.main_number(job), *(self.tuning_report(finished) if job.stage == "tune" else ())])

    def main_number(self, job: Job) -> str:
        if job.stage == "evaluate":
            return f"{len(read_rows(self.output_dir / f'{job.name}.csv'))} values"
        results = (load(self.output_dir / job.record) or {}).get("results", {})
        if job.stage == "fine_tune":
            task = GLUE_TASKS[job.arguments["task_name"]]
            return ", ".join(f"{label} {results[key]:.4f}" for key, label in split_metrics(task).items())
        return f"loss {float(results['eval_loss']):.4f}, accuracy {results['eval_accuracy']:.4f}"

    def tuning_report(self, finished: set[str]) -> list[str]:
        """A table of losses by learning rate, and warnings; empty until the tuning is finished."""
        tuned = [job for job in self.jobs if job.stage == "tune"]
        if not tuned or any(job.name not in finished for job in tuned):
            return []
        columns = sorted({rate for training in self.file.tuned() for rate in self.file.rates(training)})
        table, warnings = [["loss (accuracy)", *(f"{rate:g}" for rate in columns), "chosen"]], []
        for training in self.file.tuned():
            rates = self.file.rates(training)
            try:
                best = self.best_rate(training)
            except ValueError as error:  # nothing depends on an ablation
                best = None
                warnings.append(f"Warning: {error}")
            results = {rate: self.tuning_result(training, rate) for rate in rates}
            cells = {
                rate: f"{found['eval_loss']:.4f} ({found['eval_accuracy']:.4f})" for rate, found in results.items()
            }
            table.append([training, *(cells.get(rate, "") for rate in columns), f"{best:g}" if best else "none"])
            if len(rates) > 1 and best in (min(rates), max(rates)):
                warnings.append(
                    f"Warning: the best learning rate of {training}, {best:g}, is at the edge of the grid."
                )
        return [aligned(table), *warnings]

    def write_tables(self, finished: set[str]) -> list[Path]:
        """Writes the results of all finished runs, one CSV file a stage, and returns the files."""
        makers = {"tuning": self._tuning_rows, "lengths": self._length_rows, "fine_tuning": self._glue_rows}
        written = []
        for name, rows in ((name, list(make(finished))) for name, make in makers.items()):
            if rows:
                written.append(self.output_dir / f"{name}.csv")
                write_csv(written[-1], rows)
        return written

    def _tuning_rows(self, finished: set[str]) -> Iterable[dict[str, Any]]:
        for training in self.file.tuned():
            for rate in self.file.rates(training):
                if tune_name(training, rate) in finished:
                    result = self.tuning_result(training, rate)
                    head = {"training": training, "ablation": "yes" if training in self.file.ablations else "no"}
                    numbers = {"loss": result["eval_loss"], "accuracy": result["eval_accuracy"]}
                    yield head | {"learning_rate": f"{rate:g}"} | numbers

    def _length_rows(self, finished: set[str]) -> Iterable[dict[str, Any]]:
        for job in self.jobs:
            if job.stage == "evaluate" and job.name in finished:
                _, evaluation, name = job.name.split("/")
                training, _, seed = name.rpartition("-seed-")
                for row in read_rows(self.output_dir / f"{job.name}.csv"):
                    head = {"evaluation": evaluation, "training": training, "seed": seed}
                    yield head | row | ({"checkpoint": job.needs[0]} if "checkpoint" in row else {})

    def _glue_rows(self, finished: set[str]) -> Iterable[dict[str, Any]]:
        for job in self.jobs:
            if job.stage == "fine_tune" and job.name in finished:
                fine_tuning, task = job.name.split("/")[1], job.arguments["task_name"]
                results = load(self.output_dir / job.record)["results"]
                head = {"fine_tuning": fine_tuning, "training": self.file.fine_tunings[fine_tuning]["training"]}
                head |= {"seed": job.arguments["seeds"][0], "task": task}
                for key, label in split_metrics(GLUE_TASKS[task]).items():
                    yield head | {"metric": label, "value": results[key]}


def tune_name(training: str, rate: float) -> str:
    return f"tune/{training}/lr-{rate:g}"


def check_origin(path: Path, record: Path, now: Mapping[str, Any]) -> None:
    """Raises ValueError if `path` was made with other arguments, by its record; what was made by hand has none."""
    before = load(record)
    if before is None:
        return
    names = before["arguments"].keys() | now.keys()
    if differing := compare_values(*({name: side.get(name) for name in names} for side in (before["arguments"], now))):
        raise GAUError(
            f"{path} was made with other arguments: {'; '.join(differing.values())}. Choose another --output_dir, or "
            "remove it."
        )


def parse_quietly(job: Job, words: Sequence[str]) -> tuple:
    """Parses the arguments of a job as its script would. Raises ValueError for those it does not accept."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return parse_arguments(ARGUMENTS[job.stage], words)
    except SystemExit as error:
        said = said.getvalue().strip().splitlines()[-1].removeprefix("error: ")
        raise GAUError(f"{job.name}: {said}") from error
    except ValueError as error:
        raise GAUError(f"{job.name}: {error}") from error


def load(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    run_program(main)
