# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Many small pretraining runs by the recipe of the quick start, and one CSV file of their results."""

import csv
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository need not be installed

from modeling_gau.runs.jobs import ROOT, Job, Runner, device_environments
from modeling_gau.runs.locks import lock
from modeling_gau.runs.tables import write_csv


SIZES = {
    "128": "hidden_size=128,intermediate_size=256,num_hidden_layers=6",
    "128k": "hidden_size=128,intermediate_size=256,num_hidden_layers=6,attention_key_size=128",  # wide keys
    "192": "",  # gau-tiny
    "256": "hidden_size=256,intermediate_size=512,num_hidden_layers=8",
}
# Two units do the work of one Transformer layer; parameters of the layers within 5 % of the GAU's.
OTHERS = {
    "roformer": {
        "128": "hidden_size=128,embedding_size=128,num_hidden_layers=3,num_attention_heads=2,intermediate_size=560",
        "192": "hidden_size=192,embedding_size=192,num_hidden_layers=4,num_attention_heads=3,intermediate_size=816",
        "256": "hidden_size=256,embedding_size=256,num_hidden_layers=4,num_attention_heads=4,intermediate_size=1152",
    },
    "modernbert": {
        "128": "hidden_size=128,num_hidden_layers=3,num_attention_heads=2,intermediate_size=376",
        "192": "hidden_size=192,num_hidden_layers=4,num_attention_heads=3,intermediate_size=544",
        "256": "hidden_size=256,num_hidden_layers=4,num_attention_heads=4,intermediate_size=768",
    },
}
# RoFormer's own 0.02 keeps a small model on its first plateau.
_SETTINGS = {
    "roformer": "initializer_range=0.07,hidden_dropout_prob=0,attention_probs_dropout_prob=0",
    "modernbert": "",
}
RESULT = "all_results.json"


def run_all(
    names: Sequence[str],
    command: Callable[[str], list[str]],
    row_of: Callable[[Path], dict],
    keys: Sequence[str],
    output_dir: Path,
    table: Path,
    jobs: int,
) -> int:
    """Runs what is not finished yet, and writes a row for each run as soon as it ends. Returns an exit code.

    Args:
        names: of the runs, and of their folders in `output_dir`. The first one makes the tokenizer that the others
            use.
        command: the words that start or resume a run.
        row_of: the row of a finished run, from its folder.
        keys: columns that name a run; a new row takes the place of an old one.
        table: the CSV file.
        jobs: runs at a time.
    """
    runs = [Job(name, "pretrain", {}, RESULT, needs=() if name == names[0] else (names[0],)) for name in names]
    with lock(output_dir) as descriptor:

        def is_finished(job: Job) -> bool:
            return (output_dir / job.name / RESULT).is_file()

        def ended(job: Job, finished: set[str]) -> str:
            row = row_of(output_dir / job.name)
            merge(table, [row], keys)
            return f"loss at 512: {row['loss_512']}"

        merge(table, [row_of(output_dir / job.name) for job in runs if is_finished(job)], keys)
        runner = Runner(
            runs,
            {job.name for job in runs if is_finished(job)},
            is_finished,
            lambda job: command(job.name),
            device_environments(jobs, needs_cpu=False),
            output_dir,
            ended,
            locks=(descriptor,),
        )
        return runner.run()


def words_of(folder: Path, tokenizer: Path | None, options: Mapping[str, object], lengths: Sequence[int]) -> list[str]:
    """The command of a run: the quick start's recipe with other options. None leaves one of the recipe out."""
    recipe = yaml.safe_load((ROOT / "configuration/recipes/pretrain/quickstart.yaml").read_text(encoding="utf-8"))
    fixed = {
        "config_name": None, "output_dir": folder, "max_eval_tokens": 65536, "save_strategy": "steps",
        "save_steps": 200, "save_total_limit": 1, "eval_strategy": "no", "eval_steps": None,
        "mlm_probability": 0.15, "eval_mlm_probability": None, "weight_decay": 0.01,
    }  # fmt: skip
    words = [sys.executable, str(ROOT / "run_pretrain.py")]
    for option, value in (recipe | fixed | options).items():
        if value is not None:
            words += [f"--{option}", str(value)]
    words += ["--eval_lengths", *map(str, lengths)]
    if tokenizer is not None:
        words += ["--tokenizer_name", str(tokenizer)]
    if any(folder.glob("checkpoint-*")):
        words += ["--resume_from_checkpoint", "last"]
    return words


def model_options(model: str, size: str, overrides: str = "", positions: int = 2048) -> dict[str, str]:
    """The options that name a model of a size: an attention normalization for a GAU, or a key of `OTHERS`."""
    if model in OTHERS:
        changes = (OTHERS[model][size], _SETTINGS[model], f"max_position_embeddings={positions}", overrides)
        options = {"model_type": model}
    else:
        changes = (SIZES[size], overrides)
        options = {"config_name": "gau-tiny", "attention_normalization": model}
    changes = ",".join(filter(None, changes))
    return options | ({"config_overrides": changes} if changes else {})


def results_of(folder: Path, lengths: Sequence[int]) -> dict[str, float]:
    """Loss and accuracy of [MASK] at every length."""
    results = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    row = {}
    for length in lengths:
        row[f"loss_{length}"] = round(results[f"eval_length_{length}_loss"], 4)
        row[f"accuracy_{length}"] = round(results[f"eval_length_{length}_accuracy"], 4)
    return row | {"most_frequent_token_accuracy": round(results["eval_most_frequent_token_accuracy"], 4)}


def log_of(folder: Path) -> list[dict]:
    """The lines of the training log that speak of the loss of [MASK]."""
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry for entry in state["log_history"] if "masked_loss" in entry]


def read(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def merge(path: Path, rows: list[dict], keys: Sequence[str]) -> None:
    """Writes the file with new rows in place of old ones of the same run."""
    old = read(path) if path.is_file() else []
    merged = {tuple(str(row[key]) for key in keys): row for row in [*old, *rows]}
    write_csv(path, list(merged.values()))


def best_rates(path: Path, cell: Sequence[str]) -> dict[tuple, tuple[str, list[dict]]]:
    """Rows by cell -> its best learning rate and the rows of that, a row a seed."""
    groups: dict[tuple, dict[str, list[dict]]] = {}
    for row in read(path):
        key = tuple(row[name] for name in cell)
        groups.setdefault(key, {}).setdefault(row["learning_rate"], []).append(row)
    # A rate that was tried with fewer seeds, or that diverged, is not the best one.
    return {
        key: min(rates.items(), key=lambda item: (-len(item[1]), infinite(mean(item[1], "loss_512"))))
        for key, rates in groups.items()
    }


def mean(rows: list[dict], column: str) -> float:
    return statistics.mean(float(row[column]) for row in rows)


def infinite(value: float) -> float:
    return math.inf if math.isnan(value) else value


def spread(rows: list[dict], column: str, form: str = ".2f") -> str:
    values = [float(row[column]) for row in rows]
    return f" ({min(values):{form}} - {max(values):{form}})" if len(values) > 1 else ""
