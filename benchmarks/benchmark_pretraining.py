"""Does pretraining help? Fine-tunes a pretrained checkpoint and the same architecture from random initialisation.

    python benchmarks/benchmark_pretraining.py --data DATA --work_dir runs/trial --output benchmarks/results/trial.csv

DATA holds `corpus/*/{train,validation}.jsonl` (documents in a column `text`) and
`glue/<task>/{train,validation}.jsonl` (the columns of the GLUE tasks). Both arms use the same tokenizer, settings,
learning rates, seeds and number of steps; every learning rate asked for is tried in both, and the score is that after
the last step: no checkpoint is picked by its validation score. Runs that are finished are not repeated; --jobs of them
run at once, with one thread each where there are several, and their output is kept in <run>.log.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm


ROOT = Path(__file__).resolve().parent.parent
KEY_METRIC = {"cola": "eval_matthews_correlation", "sst2": "eval_accuracy"}
EPOCHS = {"cola": 5, "sst2": 1}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work_dir", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--pretrain_config", default="configuration/recipes/pretrain/gau-tiny-cpu.yaml")
    parser.add_argument("--tasks", nargs="+", default=["cola", "sst2"], choices=list(KEY_METRIC))
    parser.add_argument("--learning_rates", nargs="+", default=["5e-4"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="fine-tuning runs at once")
    parser.add_argument("--bf16", default="false", choices=["true", "false"], help="precision of fine-tuning")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    return parser.parse_args()


def pretrain(args: argparse.Namespace) -> Path:
    output_dir = args.work_dir / "pretrained"
    if not (output_dir / "all_results.json").is_file():
        corpus = args.data / "corpus"
        command = [
            sys.executable, "run_pretrain.py", "--config", args.pretrain_config, "--output_dir", output_dir,
            "--train_file", *sorted(corpus.glob("*/train.jsonl")),
            "--validation_file", *sorted(corpus.glob("*/validation.jsonl")),
        ]  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT)
    return output_dir


def fine_tune(args: argparse.Namespace, pretrained: Path, cell: dict) -> dict:
    """Runs one cell and returns it with its score."""
    task = cell["task"]
    output_dir = args.work_dir / "-".join(map(str, cell.values()))
    if not (output_dir / "all_results.json").is_file():
        if cell["initialisation"] == "pretrained":
            model = ["--model_name_or_path", pretrained]
        else:
            model = ["--config_name", pretrained, "--tokenizer_name", pretrained]
        command = [
            sys.executable, "run_glue.py", "--task_name", task, *model, "--output_dir", output_dir,
            "--train_file", args.data / "glue" / task / "train.jsonl",
            "--validation_file", args.data / "glue" / task / "validation.jsonl",
            "--learning_rate", cell["learning_rate"], "--seed", cell["seed"], "--num_train_epochs", EPOCHS[task],
            "--per_device_train_batch_size", 32, "--per_device_eval_batch_size", 128, "--max_seq_length", 128,
            "--warmup_steps", 0.06, "--weight_decay", 0.01, "--train_sampling_strategy", "group_by_length",
            "--eval_strategy", "no", "--save_strategy", "no", "--logging_steps", 200, "--bf16", args.bf16,
            "--overwrite_output_dir",
        ]  # fmt: skip
        environment = dict(os.environ, OMP_NUM_THREADS="1") if args.jobs > 1 else None
        with open(f"{output_dir}.log", "w") as log:
            subprocess.run(
                list(map(str, command)), check=True, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
    results = json.loads((output_dir / "all_results.json").read_text())
    return cell | {"metric": KEY_METRIC[task].removeprefix("eval_"), "score": round(results[KEY_METRIC[task]], 4)}


def main() -> None:
    args = parse_arguments()
    args.data, args.work_dir = args.data.resolve(), args.work_dir.resolve()
    pretrained = pretrain(args)
    cells = [
        {"task": task, "initialisation": initialisation, "learning_rate": rate, "seed": seed}
        for task in args.tasks
        for rate in args.learning_rates
        for initialisation in ("pretrained", "random")
        for seed in args.seeds
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(tqdm(pool.map(lambda cell: fine_tune(args, pretrained, cell), cells), "runs", len(cells)))

    print(
        f"\n{'task':6} {'metric':22} {'initialisation':15} {'rate':>6} {'mean':>8} {'lowest':>8} {'highest':>8} seeds"
    )
    groups = {}
    for row in rows:
        key = (row["task"], row["metric"], row["initialisation"], row["learning_rate"])
        groups.setdefault(key, []).append(row["score"])
    for (task, metric, initialisation, rate), scores in groups.items():
        print(
            f"{task:6} {metric:22} {initialisation:15} {rate:>6} {statistics.mean(scores):8.4f} {min(scores):8.4f} "
            f"{max(scores):8.4f} {len(scores):5}"
        )
    if args.output:
        with open(args.output, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
