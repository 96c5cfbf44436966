# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Losses of pretraining runs side by side, over the tokens and over the time.

    python benchmarks/compare_pretraining.py --run GAU=runs/gau --run BERT=runs/bert --output losses.csv
    python benchmarks/compare_pretraining.py --plot losses.csv    # draws losses.png from the CSV

Each folder is an --output_dir of run_pretrain.py. Runs are seldom made on machines that do nothing else, so their own
times do not compare: the models take turns at training steps of that batch here, and a run's time is its number of
steps times the median. An evaluation amid a run is at a learning rate that is not yet low; ends compare with ends.
"""

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForMaskedLM

import modeling_gau  # noqa: F401 - registers the GAU
from modeling_gau.runs.tables import aligned, markdown, write_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=7, help="training steps of each model that are timed")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    parser.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    parser.add_argument("--plot", type=Path, metavar="CSV", help="measure nothing, draw this file (needs matplotlib)")
    args = parser.parse_args()
    if args.plot:
        plot(args.plot)
        return
    if not args.run:
        parser.error("give --run NAME=FOLDER, or --plot")
    folders = {name: Path(folder) for name, _, folder in (run.partition("=") for run in args.run)}
    for folder in folders.values():
        check_run(folder)
    seconds = step_seconds(folders, args.rounds)
    rows = [row for name, folder in folders.items() for row in curve(name, folder, seconds[name])]
    table = summary(rows)
    print(markdown(table, left=1) if args.markdown else aligned(table, left=1))
    if args.output:
        write_csv(args.output, rows)
        print(f"Wrote {args.output}")


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def check_run(folder: Path) -> None:
    """Steps of other kinds than one batch of full rows are not timed here."""
    record = load(folder / "run.json")
    arguments = record["arguments"]
    kinds = {"gradient_accumulation_steps": 1, "length_schedule": None, "mixed_lengths": None, "packing": "concat"}
    other = [name for name, plain in kinds.items() if (arguments.get(name) or plain) != plain]
    if other or record["world_size"] != 1:
        raise SystemExit(f"{folder}: runs of several processes, or with {', '.join(other or kinds)}, are not timed.")
    if not any("eval_loss" in entry for entry in load(folder / "trainer_state.json")["log_history"]):
        raise SystemExit(f"{folder} has no evaluations: give run_pretrain.py --eval_strategy steps.")


def step_seconds(folders: dict[str, Path], rounds: int) -> dict[str, float]:
    """Median seconds of a training step with each run's batch, in bfloat16, in turns."""
    steps = {name: make_step(folder) for name, folder in folders.items()}
    times = {name: [] for name in steps}
    for number in tqdm(range(rounds + 2), desc="Training steps", unit="round"):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if number >= 2:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def make_step(folder: Path):
    torch.manual_seed(0)
    arguments = load(folder / "run.json")["arguments"]
    shape = (arguments["per_device_train_batch_size"], arguments["max_seq_length"])
    model = AutoModelForMaskedLM.from_pretrained(folder).train()
    if "sparse_prediction" in model.config.to_dict():
        model.config.sparse_prediction = True
    ids = torch.randint(5, model.config.vocab_size, shape)
    labels = ids.masked_fill(torch.rand(shape) >= arguments["mlm_probability"], -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments["bf16"]):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), arguments["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()

    return step


def curve(name: str, folder: Path, seconds: float) -> list[dict]:
    """The evaluations of a run at its training length."""
    results, state, record = (load(folder / f) for f in ("all_results.json", "trainer_state.json", "run.json"))
    tokens_a_step = results["train_tokens"] / state["global_step"]
    return [
        {
            "run": name,
            "learning_rate": record["arguments"]["learning_rate"],
            "parameters_without_embeddings": results["train_parameters_without_embeddings"],
            "step": entry["step"],
            "tokens": round(entry["step"] * tokens_a_step),
            "milliseconds_of_a_step": round(1000 * seconds, 1),
            "seconds": round(entry["step"] * seconds, 1),
            "loss": round(entry["eval_loss"], 4),
            "accuracy": round(entry["eval_accuracy"], 4),
        }
        for entry in state["log_history"]
        if "eval_loss" in entry
    ]


def summary(rows: list[dict]) -> list[list[str]]:
    """The last evaluation of each run."""
    table = [
        ["run", "parameters without embeddings", "learning rate", "tokens", "step, ms", "time, s", "loss", "accuracy"]
    ]
    for row in {row["run"]: row for row in rows}.values():
        table.append(
            [
                row["run"],
                f"{row['parameters_without_embeddings']:,}",
                f"{row['learning_rate']:g}",
                f"{row['tokens']:,}",
                f"{row['milliseconds_of_a_step']:.0f}",
                f"{row['seconds']:.0f}",
                f"{row['loss']:.3f}",
                f"{row['accuracy']:.1%}",
            ]
        )
    return table


def plot(path: Path) -> None:
    from matplotlib.figure import Figure

    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, column, scale, label in zip(
        axes,
        ("tokens", "seconds"),
        (1e6, 60),
        ("tokens of training (millions)", "time of training (minutes)"),
        strict=True,
    ):
        for name in dict.fromkeys(row["run"] for row in rows):
            mine = [row for row in rows if row["run"] == name]
            axis.plot(
                [float(row[column]) / scale for row in mine],
                [float(row["loss"]) for row in mine],
                marker="o",
                markersize=4,
                label=name,
            )
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("masked-token loss (nats)")
    axes[1].legend(frameon=False)
    figure.savefig(path.with_suffix(".png"))
    print(f"Wrote {path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
