# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""What came of a study: every number of every run, means and standard deviations over seeds, and averages."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from transformers import AutoConfig

from ..runs.model_card import mean_and_deviation, write_model_card
from ..runs.run_record import read_record
from ..runs.state_files import for_json, write_json
from ..runs.tables import aligned, markdown
from .benchmarks import BENCHMARKS
from .card import card_facts
from .study import Run, Study, best_run, run_results, run_score
from .submission import SUBMISSION_FORMATS, read_predictions, write_submission, zip_submission
from .tasks import GlueTask


# `{}` stands for the name of the benchmark.
RESULTS_NAME, SUMMARY_NAME, REPORT_NAME = "{}_results.csv", "{}_results.json", "{}_report.md"


def split_metrics(task: GlueTask) -> dict[str, str]:
    """How results name a metric -> how a table does: `eval_accuracy` -> `accuracy`; those of mnli by split."""
    names = {"eval": "", "eval_mm": "mismatched "}
    return {
        f"{prefix}_{metric}": f"{names[prefix]}{metric}"
        for prefix in task.evaluation_splits
        for metric in task.metric_names
    }


def glue_averages(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[float]]:
    """Name of an average -> its value for each seed, of runs on tasks of one benchmark.

    The convention of GLUE (Wang et al. 2018, arXiv:1804.07461, section 5): every task counts once, with the mean of
    its metrics where there are two, and of both splits of mnli. The diagnostic set is left out; so is wnli in much of
    the literature since Devlin et al. 2018. Of CLUE each version counts six tasks, whose metric is accuracy: 1.1 with
    ocnli, 1.0 with cmnli. Where tasks are missing there is no such average, but a mean of what is there.
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


def write_cards(study: Study) -> None:
    """Writes the model cards of the runs at the best points again, with the results of all seeds."""
    for name, runs in study.chosen.items():
        results = {run.seed: run_results(run) for run in runs}
        for run in runs:
            record = read_record(run.output_dir)
            if not record.get("trained"):
                continue
            config, repo_id = AutoConfig.from_pretrained(run.output_dir), study.repositories.get(name)
            facts = card_facts(record, config, run.task, run.output_dir, results, repo_id, len(study.points))
            write_model_card(run.output_dir, facts)


def summarize(study: Study) -> dict[str, object]:
    """Values by seed, means and standard deviations, of every metric of every task and of the averages, for JSON."""
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
    averages = {title: _statistics(values) for title, values in glue_averages(study.chosen).items()}
    return {"seeds": study.seeds, "grid_points": len(study.points), "tasks": tasks, "averages": averages}


def _statistics(values: Sequence[float]) -> dict[str, object]:
    mean, deviation = mean_and_deviation(values)
    return {"mean": mean, "standard_deviation": deviation, "values": list(values)}


# Tables


def summary_rows(summary: Mapping) -> list[list[str]]:
    """The table of a summary: a header, and a row for every metric and every average. Percent."""
    seeds = summary["seeds"]
    rows = [["task", "metric", "mean", "std", *(f"seed {seed}" for seed in seeds)]]
    for name, task in summary["tasks"].items():
        for metric, statistics in task["metrics"].items():
            rows.append([name, metric.replace("_", " "), *_cells(statistics)])
    rows += [[title, "score", *_cells(statistics)] for title, statistics in summary["averages"].items()]
    return rows


def _cells(statistics: Mapping) -> list[str]:
    return [percent(value) for value in (statistics["mean"], statistics["standard_deviation"], *statistics["values"])]


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def notes(study: Study) -> list[str]:
    """What a reader of the table has to know."""
    sentences = ["Percent, on the validation rows. Standard deviations are those of the sample (n - 1)."]
    if len(study.points) > 1:
        sentences.append(
            f"Each task at the best of {len(study.points)} points of a grid, chosen by the mean on the same rows: a "
            "little too good to be true for other rows."
        )
    benchmark = study.glue_args.benchmark()
    if not benchmark.complete_averages(study.chosen):
        missing = [name for name in benchmark.counted_tasks if name not in study.chosen]
        sentences.append(f"Without {', '.join(missing)}.")
    limit = study.glue_args.max_eval_samples
    if limit is not None:
        sentences.append(f"Evaluated on at most {limit} rows of each task: not comparable with other results.")
    return sentences


# Files


def report_study(study: Study) -> dict[str, object]:
    """Writes tables and submission of what is done so far, prints the table, and returns the summary."""
    output_dir, summary, benchmark = Path(study.args.output_dir), summarize(study), study.glue_args.benchmark()
    names = RESULTS_NAME, SUMMARY_NAME, REPORT_NAME
    results, numbers, tables = (output_dir / name.format(benchmark.name) for name in names)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(numbers, for_json(summary))
    _write_results(results, study)
    rows = summary_rows(summary)
    points = [f"- {name}: {_point_text(runs[0])}" for name, runs in study.chosen.items() if runs[0].point]
    parts = [f"# {benchmark.title} results", markdown(rows, left=2), " ".join(notes(study)), "\n".join(points)]
    tables.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    write_cards(study)
    print(f"\n{aligned(rows, left=2)}\n")
    print("\n".join(notes(study)))
    submission = _submit(output_dir / SUBMISSION_FORMATS[benchmark.name].folder, study)
    print("Wrote", ", ".join(map(str, [tables, numbers, results, *submission])), flush=True)
    return summary


def _point_text(run: Run) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.point)


def _write_results(path: Path, study: Study) -> None:
    """Every number of every run that is there, also of points that were not chosen: one number a row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("task", "point", "chosen", "seed", "metric", "value"))
        for run in study.done:
            chosen = run in study.chosen.get(run.task.name, ())
            for metric, value in run_results(run).items():
                writer.writerow((run.task.name, _point_text(run), int(chosen), run.seed, metric, value))


def _submit(folder: Path, study: Study) -> list[Path]:
    """Writes the submission of the best runs; says what it lacks."""
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
        print(f"{archive.name} lacks {', '.join(missing)}, without which the benchmark does not take it.")
    return [*written, archive]


def _run_to_submit(study: Study, runs: Sequence[Run]) -> Run:
    """The best run; for the diagnostic set, which has no validation rows, that of the best model of mnli."""
    if runs[0].task.name == "ax" and "mnli" in study.chosen:
        seed = best_run(study.chosen["mnli"]).seed
        return next(run for run in runs if run.seed == seed)
    return best_run(runs)
