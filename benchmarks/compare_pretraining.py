# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Losses of pretraining runs side by side, over the tokens and over the time.

    python benchmarks/compare_pretraining.py --run GAU=runs/gau --run BERT=runs/bert --output losses.csv
    python benchmarks/compare_pretraining.py --plot losses.csv    # draws losses.png from the CSV

Each folder is an --output_dir of run_pretrain.py. Other programs disturb most runs, so their own times are not
comparable. Instead, the models take turns at training steps of the same batch here, and a run's time is its number of
steps times the median. Compare final evaluations only: in the middle of a run the learning rate is still high.
"""

import json
import statistics
from pathlib import Path

import torch
from measurement import (
    add_plot_option,
    make_parser,
    make_training_step,
    read_results,
    save_figure,
    time_in_turns,
    write_results,
)
from transformers import AutoModelForMaskedLM

import modeling_gau  # noqa: F401 - registers the GAU
from modeling_gau.runs.tables import aligned, markdown


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=7, help="training steps of each model that are timed")
    parser.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    add_plot_option(parser)
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
    write_results(args.output, rows)


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
    """Median seconds of a training step with each run's batch, in turns."""
    steps = {name: make_step(folder) for name, folder in folders.items()}
    for step in [*steps.values()] * 2:
        step()  # first calls allocate
    return {name: statistics.median(seconds) for name, seconds in time_in_turns(steps, rounds).items()}


def make_step(folder: Path):
    torch.manual_seed(0)
    arguments = load(folder / "run.json")["arguments"]
    shape = (arguments["per_device_train_batch_size"], arguments["max_seq_length"])
    model = AutoModelForMaskedLM.from_pretrained(folder)
    if "sparse_prediction" in model.config.to_dict():
        model.config.sparse_prediction = True
    ids = torch.randint(5, model.config.vocab_size, shape)
    labels = ids.masked_fill(torch.rand(shape) >= arguments["mlm_probability"], -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    inputs = {"input_ids": ids, "labels": labels}
    return make_training_step(model, optimizer, inputs, arguments["bf16"], arguments["max_grad_norm"])


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
    columns = {
        "run": ("run", "{}"),
        "parameters without embeddings": ("parameters_without_embeddings", "{:,}"),
        "learning rate": ("learning_rate", "{:g}"),
        "tokens": ("tokens", "{:,}"),
        "step, ms": ("milliseconds_of_a_step", "{:.0f}"),
        "time, s": ("seconds", "{:.0f}"),
        "loss": ("loss", "{:.3f}"),
        "accuracy": ("accuracy", "{:.1%}"),
    }
    last = {row["run"]: row for row in rows}.values()
    return [[*columns], *([form.format(row[name]) for name, form in columns.values()] for row in last)]


def plot(path: Path) -> None:
    from matplotlib.figure import Figure

    rows = read_results(path)
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    panels = (("tokens", 1e6, "tokens of training (millions)"), ("seconds", 60, "time of training (minutes)"))
    for axis, (column, scale, label) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(row["run"] for row in rows):
            points = [(float(row[column]) / scale, float(row["loss"])) for row in rows if row["run"] == name]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("masked-token loss (nats)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
