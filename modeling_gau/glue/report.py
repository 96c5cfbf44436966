# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Results: evaluation and predictions of one run, the tables of a study, and submissions to the benchmarks."""

import csv
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, TextIO

import numpy as np
from transformers import AutoConfig
from transformers.trainer_utils import PredictionOutput
from transformers.utils import is_sklearn_available

from ..runs.model_card import is_chinese, mean_and_deviation, write_model_card
from ..runs.run_record import read_record
from ..runs.state_files import for_json, write_json
from ..runs.tables import aligned, markdown, write_csv
from .baselines import (
    BAG_OF_WORDS,
    MODEL,
    NEEDS_SCIKIT_LEARN,
    compare_with_baselines,
    comparison,
    comparison_rows,
    mean_comparison,
    not_beaten,
)
from .card import CONFUSION_PICTURE, card_facts
from .classes import class_rows, confusion_matrix, confusion_table, plot_confusion, printed_classes
from .data import GlueData
from .study import Run, Study, best_run, run_results, run_score
from .tasks import BENCHMARKS, LOCAL_TASK, GlueTask
from .trainer import GlueTrainer


# One run


def evaluate(trainer: GlueTrainer, data: GlueData, record: dict[str, Any]) -> dict[str, float]:
    """Writes `predictions_<split>.tsv` and returns the metrics of the validation rows.

    For files of one's own, `record` also gets `baselines`, `classes` and `confusion`.
    """
    metrics = {}
    for prefix, split in data.task.evaluation_splits.items():
        if split in data.inputs:
            # Not `evaluate`, which returns no predictions.
            output = trainer.predict(data.inputs[split], metric_key_prefix=prefix)
            trainer.log(output.metrics)
            metrics |= output.metrics | {f"{prefix}_samples": len(data.inputs[split])}
            if trainer.is_world_process_zero():
                write_predictions(Path(trainer.args.output_dir), data, split, output)
                record |= describe_evaluation(data, split, output, record) if data.task.is_local else {}
    trainer.save_metrics("eval", metrics)
    return metrics


def describe_evaluation(
    data: GlueData, split: str, output: PredictionOutput, earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """What the record holds beside metrics: `baselines` and, unless labels are scores, `classes` and `confusion`.

    Without training rows there are no `baselines`, and the numbers of rows by class are those of the `earlier` record.
    """
    found: dict[str, Any] = {}
    if "train" in data.inputs:
        rows = [(data.texts(name), data.inputs[name]["labels"][:]) for name in ("train", split)]
        found["baselines"] = compare_with_baselines(data.task, data.label_names, output.predictions[0], *rows)
    if data.task.is_regression:
        return found
    train = data.inputs["train"]["labels"][:] if "train" in data.inputs else None
    predictions, references = output.predictions[0], output.label_ids
    found["classes"] = class_rows(data.label_names, predictions, references, train)
    if train is None:
        counts = {row["class"]: row["train"] for row in earlier.get("classes", ())}
        found["classes"] = [row | {"train": counts.get(row["class"])} for row in found["classes"]]
    if not data.task.is_multi_label:
        found["confusion"] = confusion_matrix(predictions, references, len(data.label_names)).tolist()
    return found


def predict(trainer: GlueTrainer, data: GlueData) -> dict[str, float]:
    """Writes `predictions_<split>.tsv` and returns the metrics of the splits whose labels are known."""
    metrics = {}
    for prefix, split in data.task.test_splits.items():
        if split not in data.inputs:
            continue
        output = trainer.predict(data.inputs[split], metric_key_prefix=prefix)
        if output.label_ids is not None:
            metrics |= output.metrics
        metrics[f"{prefix}_samples"] = len(data.inputs[split])
        if trainer.is_world_process_zero():
            write_predictions(Path(trainer.args.output_dir), data, split, output)
    trainer.save_metrics("test", metrics)
    return metrics


def write_predictions(folder: Path, data: GlueData, split: str, output: PredictionOutput) -> None:
    """Writes `predictions_<split>.tsv`: `index`, counted from 0, the texts, `label` if it is known, and `prediction`.

    Label and prediction are the name of a class, several names, or a score. Beside classes stands their `probability`.
    """
    task, names = data.task, data.label_names
    columns: dict[str, Sequence] = {}
    if output.label_ids is not None:
        columns["label"] = [task.readable_prediction(label, names) for label in output.label_ids]
    columns["prediction"] = [task.readable_prediction(prediction, names) for prediction in output.predictions[0]]
    if not task.is_regression:
        columns["probability"] = [_readable_probability(*pair) for pair in zip(*output.predictions, strict=True)]
    texts = [
        own if name in ("index", *columns) else name
        for own, name in zip(task.text_columns, data.column_names, strict=True)
    ]
    rows = zip(*data.texts(split), *columns.values(), strict=True)
    with (folder / f"predictions_{split}.tsv").open("w", encoding="utf-8", newline="") as file:
        minimal, full = (
            csv.writer(file, delimiter="\t", lineterminator="\n", quoting=quoting)
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        minimal.writerow(("index", *texts, *columns))
        for index, row in enumerate(rows):
            # Minimal quoting overlooks a carriage return, which readers take for the end of the row.
            writer = full if any("\r" in str(cell) for cell in row) else minimal
            writer.writerow((index, *row))


def _readable_probability(prediction: np.ndarray, probability: np.ndarray) -> str:
    """One probability, or for a multi-label problem those of the classes that apply, joined by commas."""
    if np.ndim(prediction) == 0:
        return f"{probability:.4f}"
    return ",".join(f"{value:.4f}" for value, applies in zip(probability, prediction, strict=True) if applies)


def report_run(trainer: GlueTrainer, data: GlueData, record: dict[str, Any]) -> None:
    """Describes the rows in `record`, writes the card of a trained model, and prints the results and the files."""
    output_dir = Path(trainer.args.output_dir)
    if trainer.args.do_train:
        record["evaluations"] = len(_evaluations(trainer))
        if data.task.is_local:
            record["rows"] = describe_rows(data)
        if record.get("confusion"):
            plot_confusion(data.label_names, record["confusion"], output_dir / CONFUSION_PICTURE)
        write_model_card(output_dir, card_facts(record, trainer.model.config, data.task, output_dir))
    _print_evaluations(trainer)
    _print_results(data, record["results"])
    if trainer.args.do_eval and record.get("classes"):
        print(f"{printed_classes(record['classes'])}\n")
    if trainer.args.do_eval and record.get("confusion"):
        print(f"{aligned(confusion_table(data.label_names, record['confusion']))}\n")
    if trainer.args.do_eval and "train" in data.inputs and record.get("baselines"):  # not those of before
        _print_baselines(record["baselines"])
    print(f"Wrote to {output_dir}:")
    for path in sorted(output_dir.glob("[!_]*")):  # not the lock of this run
        if not path.name.startswith("checkpoint-"):  # a study deletes them
            print(f"  {path.name}{'/' if path.is_dir() else ''}")


def describe_rows(data: GlueData) -> dict[str, dict[str, Any]]:
    """Returns for each labelled split how many `rows` it has, and their shortest, median and longest `tokens`.

    Also whether the text `is_chinese`, and of scores the lowest, mean and highest.
    """
    found = {}
    for split, inputs in data.inputs.items():
        if "labels" in inputs.column_names:
            lengths = [len(ids) for ids in inputs["input_ids"]]
            found[split] = {"rows": len(lengths), "tokens": [min(lengths), int(median(lengths)), max(lengths)]}
            text = "".join(text for column in data.texts(split) for text in column[:1000])
            found[split]["is_chinese"] = is_chinese(text)
            if data.task.is_regression:
                labels = inputs["labels"][:]
                found[split]["scores"] = [min(labels), fmean(labels), max(labels)]
    return found


def _evaluations(trainer: GlueTrainer) -> dict[int, Mapping[str, float]]:
    """What was logged at each step at which the training was evaluated."""
    by_step = {}
    for entry in trainer.state.log_history:
        if "eval_loss" in entry:
            by_step.setdefault(entry["step"], entry)  # the last evaluation, after training, is of the kept model
    return by_step


def _print_evaluations(trainer: GlueTrainer) -> None:
    """Prints a line for every evaluation of the training, if there were several."""
    by_step = _evaluations(trainer)
    if not trainer.args.do_train or len(by_step) < 2:
        return
    kept = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    columns = ("loss", *trainer.task.metric_names)
    rows = [("epoch", "step", *columns, "")]
    for step, entry in by_step.items():
        values = (entry.get(f"eval_{name}", math.nan) for name in columns)
        rows.append(
            (f"{entry['epoch']:.4g}", str(step), *map("{:.4f}".format, values), "best" if step == kept else "")
        )
    print(f"\n{aligned(rows, left=0)}")


def _print_results(data: GlueData, results: Mapping[str, float]) -> None:
    """Prints a line for every split; metrics are missing if its labels are hidden."""
    columns = ("loss", *data.task.metric_names)
    splits = {**data.task.evaluation_splits, **data.task.test_splits}
    splits = {prefix: split for prefix, split in splits.items() if f"{prefix}_samples" in results}
    if not splits:
        return
    rows = [("split" if data.task.is_local else data.task.name, "samples", *columns)]
    for prefix, split in splits.items():
        values = (results.get(f"{prefix}_{name}") for name in columns)
        cells = ("-" if value is None else f"{value:.4f}" for value in values)
        rows.append((split, str(results[f"{prefix}_samples"]), *cells))
    print(f"\n{aligned(rows)}\n")


def _print_baselines(compared: Mapping[str, Mapping[str, Any]]) -> None:
    header, *rows = comparison_rows(compared)
    cells = ([f"{value:.4f}" if isinstance(value, float) else value for value in row] for row in rows)
    print(aligned([header, *cells]))
    if BAG_OF_WORDS not in compared and not is_sklearn_available():
        print(NEEDS_SCIKIT_LEARN)
    print(comparison(compared))
    if any(name != BAG_OF_WORDS for name in not_beaten(compared)):  # an answer that reads no text
        print(
            "Nothing shows yet that this model has learned anything useful. Check the labels, give it more rows or "
            "more epochs (--num_train_epochs), or try other rates (--grid learning_rate=...)."
        )
    print()


# A study


def report_study(study: Study) -> dict[str, object]:
    """Writes tables, cards and submission of all finished tasks, prints the table and returns the summary."""
    output_dir, summary, benchmark = Path(study.args.output_dir), summarize(study), study.glue_args.benchmark()
    is_local = study.glue_args.task_name is None
    prefix, title = ("", "Results") if is_local else (f"{benchmark.name}_", f"{benchmark.title} results")
    endings = ("report.md", "results.json", "results.csv")
    tables, numbers, results = (output_dir / f"{prefix}{ending}" for ending in endings)
    write_json(numbers, for_json(summary))
    write_csv(results, result_rows(study))
    rows, left = summary_rows(summary), 1 if is_local else 2
    points = [f"- {name}: {_point_text(runs[0])}" for name, runs in study.chosen.items() if runs[0].point]
    sentences = [*notes(study), *verdicts(summary)]
    parts = [f"# {title}", markdown(rows, left=left), " ".join(sentences), "\n".join(points)]
    tables.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    write_cards(study)
    print(f"\n{aligned(rows, left=left)}\n")
    print("\n".join(sentences))
    submission = [] if is_local else _submit(output_dir / SUBMISSION_FORMATS[benchmark.name].folder, study)
    for best in map(best_run, study.chosen.values()) if is_local else ():
        if math.isfinite(run_score(best)):
            seeds = len(study.seeds)
            luck = f" (the best of {seeds} seeds there: expect the mean on other rows)" if seeds > 1 else ""
            print(f"Best model on the validation rows: {best.output_dir}{luck}")
    print("Wrote", ", ".join(map(str, [tables, numbers, results, *submission])), flush=True)
    return summary


def summarize(study: Study) -> dict[str, object]:
    """Returns every metric of every task, and the averages: values by seed, mean and standard deviation."""
    tasks = {}
    for name, runs in study.chosen.items():
        results = [run_results(run) for run in runs]
        metrics = {
            label: [float(result[key]) for result in results]
            for key, label in split_metrics(runs[0].task).items()
            if all(key in result for result in results)
        }
        tasks[name] = {
            "metrics": {label: _statistics(values) for label, values in metrics.items()},
            "score": _statistics([run_score(run) for run in runs]),
            "point": dict(runs[0].point),
            "best_seed": best_run(runs).seed,
        }
        compared = [read_record(run.output_dir).get("baselines") for run in runs]
        if all(compared):
            tasks[name]["baselines"] = mean_comparison(compared)
    averages = {title: _statistics(values) for title, values in glue_averages(study.chosen).items()}
    return {"seeds": study.seeds, "grid_points": len(study.points), "tasks": tasks, "averages": averages}


def split_metrics(task: GlueTask) -> dict[str, str]:
    """Name of a metric in results -> name in tables: `eval_accuracy` -> `accuracy`; mnli's tell the splits apart."""
    names = {"eval": "", "eval_mm": "mismatched "}
    return {
        f"{prefix}_{metric}": f"{names[prefix]}{metric}"
        for prefix in task.evaluation_splits
        for metric in task.metric_names
    }


def glue_averages(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[float]]:
    """Returns the averages of a benchmark's tasks, as title -> value for each seed.

    As in GLUE (Wang et al. 2018, arXiv:1804.07461, section 5), every task counts once, with the mean of its metrics if
    there are two and of both splits of mnli. The diagnostic set does not count. Each version of CLUE counts six tasks.
    If tasks are missing, the only average is a mean of those that are there, which says so.
    """
    if not runs:
        return {}
    benchmark = BENCHMARKS[next(iter(runs.values()))[0].task.benchmark]
    counted = [name for name in benchmark.counted_tasks if name in runs]
    if len(counted) < 2:
        return {}
    averages = benchmark.complete_averages(counted) or {
        f"mean of {len(counted)} tasks, not the {benchmark.average}": counted
    }
    scores = {name: [run_score(run) for run in runs[name]] for name in counted}
    return {
        title: [fmean(row) for row in zip(*(scores[n] for n in names), strict=True)]
        for title, names in averages.items()
    }


def _statistics(values: Sequence[float]) -> dict[str, object]:
    mean, deviation = mean_and_deviation(values)
    return {"mean": mean, "standard_deviation": deviation, "values": list(values)}


def summary_rows(summary: Mapping) -> list[list[str]]:
    """Returns the table of a summary, in percent: a header, then a row for every metric and average.

    Files of one's own have a column for each baseline and no column for the task.
    """
    local = summary["tasks"].get(LOCAL_TASK.name, {})
    compared = {name: values for name, values in local.get("baselines", {}).items() if name != MODEL}
    seeds = [f"seed {seed}" for seed in summary["seeds"]]
    rows = [[*([] if local else ["task"]), "metric", "mean", "std", *compared, *seeds]]
    for name, task in summary["tasks"].items():
        for metric, statistics in task["metrics"].items():
            others = [_percent(values[metric]) for values in compared.values()]
            mean, deviation, *values = _cells(statistics)
            rows.append([*([] if local else [name]), metric.replace("_", " "), mean, deviation, *others, *values])
    rows += [[title, "score", *_cells(statistics)] for title, statistics in summary["averages"].items()]
    return rows


def verdicts(summary: Mapping) -> list[str]:
    """Says whether the mean of the seeds is better than the baselines, where there are any."""
    compared = (task["baselines"] for task in summary["tasks"].values() if "baselines" in task)
    return [sentence for one in compared if (sentence := comparison(one, len(summary["seeds"])))]


def _cells(statistics: Mapping) -> list[str]:
    values = (statistics["mean"], statistics["standard_deviation"], *statistics["values"])
    return [_percent(value) for value in values]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def notes(study: Study) -> list[str]:
    """Returns the sentences below the table."""
    sentences = ["Percent, on the validation rows. Standard deviations are of the sample (n - 1)."]
    if len(study.points) > 1:
        subject = "These runs are" if study.glue_args.task_name is None else "Each task is"
        sentences.append(
            f"{subject} at the best of {len(study.points)} points of a grid, chosen by the mean on the same rows: "
            "expect slightly lower results on other rows."
        )
    benchmark = study.glue_args.benchmark()
    if study.glue_args.task_name is not None and not benchmark.complete_averages(study.chosen):
        missing = [name for name in benchmark.counted_tasks if name not in study.chosen]
        sentences.append(f"Without {', '.join(missing)}.")
    limit = study.glue_args.max_eval_samples
    if limit is not None:
        sentences.append(f"Evaluated on at most {limit} rows of each task: not comparable with other results.")
    return sentences


def write_cards(study: Study) -> None:
    """Rewrites the model cards of the chosen runs with the results of all seeds."""
    for name, runs in study.chosen.items():
        records = {run.seed: read_record(run.output_dir) for run in runs}
        for run in runs:
            record = records[run.seed]
            if not record.get("trained"):
                continue
            config, repo_id = AutoConfig.from_pretrained(run.output_dir), study.repositories.get(name)
            choices = {"the training settings": len(study.points)}
            choices |= {"the seed": len(runs)} if run == best_run(runs) else {}
            facts = card_facts(record, config, run.task, run.output_dir, records, repo_id, choices)
            write_model_card(run.output_dir, facts)


def _point_text(run: Run) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.point)


def result_rows(study: Study) -> list[dict[str, object]]:
    """Returns every number of every finished run, also at points that were not chosen, one number a row."""
    rows = []
    for run in study.done:
        chosen = int(run in study.chosen.get(run.task.name, ()))
        facts = {"task": run.task.name, "point": _point_text(run), "chosen": chosen, "seed": run.seed}
        rows += [{**facts, "metric": metric, "value": value} for metric, value in run_results(run).items()]
    return rows


# Submissions


def _submit(folder: Path, study: Study) -> list[Path]:
    """Writes the submission of the best runs and says what it lacks."""
    if study.glue_args.max_predict_samples is not None:
        return []
    written, problems = [], []
    for name, runs in study.chosen.items():
        run = _run_to_submit(study, runs)
        if not read_record(run.output_dir).get("predicted"):
            continue
        for split in SUBMISSION_FORMATS[run.task.benchmark].files[name]:
            path = run.output_dir / f"predictions_{split}.tsv"
            if path.is_file():
                file, problem = write_submission(folder, run.task, split, read_predictions(path))
                written, problems = [*written, file], [*problems, *filter(None, [problem])]
    if not written:
        return []
    archive, missing = zip_submission(folder, [path.name for path in written], study.glue_args.benchmark().name)
    for problem in problems:
        print(f"Not a submission yet: {problem}.")
    if missing:
        print(f"{archive.name} lacks {', '.join(missing)}: the benchmark refuses incomplete submissions.")
    return [*written, archive]


def _run_to_submit(study: Study, runs: Sequence[Run]) -> Run:
    """Returns the best run; for the diagnostic set, which has no validation rows, that of the best mnli model."""
    if runs[0].task.name == "ax" and "mnli" in study.chosen:
        seed = best_run(study.chosen["mnli"]).seed
        return next(run for run in runs if run.seed == seed)
    return best_run(runs)


def read_predictions(path: str | Path) -> list[str]:
    """Returns the column `prediction` of a `predictions_<split>.tsv`."""
    with open(path, encoding="utf-8", newline="") as file:
        return [row["prediction"] for row in csv.DictReader(file, delimiter="\t")]


def submitted_value(task: GlueTask, prediction: str) -> str:
    """Returns a prediction as the benchmark wants it: the name of a class, its id, or a score in the task's range."""
    if task.is_regression:
        lowest, highest = task.label_range
        return f"{min(max(float(prediction), lowest), highest):.3f}"
    # GLUE takes the classes of inference tasks by name and all others by id.
    return prediction if task.name in ("mnli", "qnli", "rte", "ax") else str(task.label_names.index(prediction))


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
        folder: where the files go, within the folder of a study.
        files: task -> split -> name of the file, and the number of test rows.
        write: writes the predictions of a split into an open file.
        needs_all: whether the benchmark refuses incomplete submissions.
    """

    folder: str
    files: Mapping[str, Mapping[str, tuple[str, int]]]
    write: Callable[[TextIO, GlueTask, Sequence[str]], None]
    needs_all: bool

    @property
    def names(self) -> list[str]:
        return [name for splits in self.files.values() for name, _ in splits.values()]


SUBMISSION_FORMATS: Mapping[str, SubmissionFormat] = {
    "glue": SubmissionFormat(
        "submission",
        {
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
        },
        _write_table,
        needs_all=True,
    ),
    # The test rows are those of CLUE 1.1, on the Hub and in `test.json` of the official folders.
    "clue": SubmissionFormat(
        "clue_submission",
        {
            "afqmc": {"test": ("afqmc_predict.json", 3861)},
            "tnews": {"test": ("tnews11_predict.json", 10_000)},
            "iflytek": {"test": ("iflytek_predict.json", 2600)},
            "cmnli": {"test": ("cmnli_predict.json", 13_880)},
            "ocnli": {"test": ("ocnli_50k_predict.json", 3000)},
            "csl": {"test": ("csl_predict.json", 3000)},
            "cluewsc2020": {"test": ("cluewsc11_predict.json", 2574)},
        },
        _write_lines,
        needs_all=False,
    ),
}


def write_submission(folder: str | Path, task: GlueTask, split: str, predictions: Sequence[str]) -> tuple[Path, str]:
    """Writes the file of a split into `folder`.

    Args:
        predictions: names of classes, or scores, in the order of the official test rows.

    Returns:
        The file, and what is wrong with it as a submission ("" if nothing is).
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
    """Packs the files `written` into `<folder>.zip` for upload and deletes those of an earlier submission.

    Returns:
        The archive, and the missing files if the benchmark refuses incomplete submissions.
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
