"""Tables of several studies of run_glue.py side by side: the same tasks and seeds, from different beginnings.

    python benchmarks/compare_glue.py --arm GAU=runs/gau --arm "GAU, random=runs/random" --arm BERT=runs/bert \
        --output benchmarks/results/glue.csv

Each folder is an --output_dir of run_glue.py with several seeds; an arm may be given several times, for folders that
hold different tasks. Runs on files of one's own, which know no seeds, are given by a pattern, one folder a seed:
"GAU=runs/gau/sentiment-*". --data_dir, the folder of data that the runs had, adds the majority class and a linear
model on a bag of words, learned from the same training rows. Prints, per task, mean and standard deviation of the
sample over the seeds, and for every arm but the first in how many seeds the first one is better; the CSV holds every
number.
"""

import json
from pathlib import Path
from statistics import fmean

from measurement import make_parser, write_results

from modeling_gau.glue.baselines import BAG_OF_WORDS, measure_baselines
from modeling_gau.glue.tasks import GLUE_TASKS
from modeling_gau.runs.model_card import mean_and_deviation
from modeling_gau.runs.tables import aligned, markdown


CONSTANT = "constant"
BASELINES = (CONSTANT, BAG_OF_WORDS)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--arm", action="append", required=True, help="name=folder")
    parser.add_argument("--data_dir", type=Path, help="GLUE as JSON lines, for the baselines: <task>/train.jsonl, ...")
    parser.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    args = parser.parse_args()
    arms: dict[str, dict[str, dict]] = {}
    for part in args.arm:
        name, _, folder = part.partition("=")
        summary = runs(Path(folder)) if "*" in folder else load(Path(folder) / "glue_results.json")
        for task, results in summary["tasks"].items():
            if task in arms.setdefault(name, {}):
                raise SystemExit(f"{task} of {name} is there twice: in {folder} and in a folder before.")
            arms[name][task] = results | {"seeds": summary["seeds"]}
    if args.data_dir:
        add_baselines(arms, args.data_dir)
    rows = table(arms)
    print(markdown(rows, left=2) if args.markdown else aligned(rows, left=2))
    write_results(args.output, values_of(arms))


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def runs(pattern: Path) -> dict:
    """What `glue_results.json` holds, of the runs whose folders match."""
    folders = {load(folder / "run.json")["arguments"]["seed"]: folder for folder in pattern.parent.glob(pattern.name)}
    results = [load(folders[seed] / "eval_results.json") for seed in sorted(folders)]
    metrics = {name: {"values": [result[f"eval_{name}"] for result in results]} for name in ("accuracy", "f1_macro")}
    return {"seeds": sorted(folders), "tasks": {pattern.name.rstrip("-*"): {"metrics": metrics}}}


def add_baselines(arms: dict[str, dict[str, dict]], data_dir: Path) -> None:
    """Adds an arm for each baseline, whose result is the same for every seed."""
    first = next(iter(arms.values()))
    for name, results in first.items():
        if name not in GLUE_TASKS or not (data_dir / name / "validation.jsonl").is_file():
            continue
        task = GLUE_TASKS[name]
        splits = []
        for split in ("train", "validation"):
            rows = [json.loads(line) for line in open(data_dir / name / f"{split}.jsonl", encoding="utf-8")]
            texts = [[row[column] for row in rows] for column in task.text_columns]
            splits.append((texts, [row["label"] for row in rows]))
        for baseline, metrics in measure_baselines(task, task.label_names, *splits).items():
            if task.is_regression and baseline != BAG_OF_WORDS:
                continue  # a constant has no correlation
            kind = baseline if baseline == BAG_OF_WORDS else CONSTANT
            values = {metric: {"values": [metrics[metric]] * len(results["seeds"])} for metric in results["metrics"]}
            arms.setdefault(kind, {})[name] = {"seeds": results["seeds"], "metrics": values}


def table(arms: dict[str, dict[str, dict]]) -> list[list[str]]:
    first, *others = arms
    rows = [["task", "metric", *arms, *(f"better than {name}" for name in others)]]
    names = dict.fromkeys([*(name for name in GLUE_TASKS if name in arms[first]), *arms[first]])
    for task in [name for name in names if all(name in arms[arm] for arm in arms if arm not in BASELINES)]:
        metrics = arms[first][task]["metrics"]
        for metric in metrics:
            values = {
                name: results[task]["metrics"][metric]["values"] for name, results in arms.items() if task in results
            }
            cells = [cell_of(values[name]) if name in values else "-" for name in arms]
            wins = [wins_of(values[first], values[name]) if name in values else "-" for name in others]
            rows.append([task, metric.replace("_", " "), *cells, *wins])
    return rows


def cell_of(values: list[float]) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def wins_of(mine: list[float], theirs: list[float]) -> str:
    """Difference of the means in points, and in how many of the seeds the first is ahead."""
    ahead = sum(a > b for a, b in zip(mine, theirs, strict=True))
    return f"{100 * (fmean(mine) - fmean(theirs)):+.1f} ({ahead} of {len(mine)})"


def values_of(arms: dict[str, dict[str, dict]]) -> list[dict]:
    return [
        {"arm": arm, "task": task, "metric": metric, "seed": seed, "value": round(value, 6)}
        for arm, tasks in arms.items()
        for task, results in tasks.items()
        for metric, found in results["metrics"].items()
        for seed, value in zip(results["seeds"], found["values"], strict=True)
    ]


if __name__ == "__main__":
    main()
