# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
r"""How long does an encoder take to reach a loss? Pretraining against the clock.

    python benchmarks/speedrun.py --text corpus/ --output_dir outputs/speedrun --csv speedrun.csv \
        --models softmax modernbert roformer --learning_rates 1e-3 2e-3 4e-3 --steps 600
    python benchmarks/speedrun.py ... --models softmax --changes none local muon short short+muon
    python benchmarks/speedrun.py --table speedrun.csv        # measures nothing, prints the table of this file
    python benchmarks/speedrun.py --output_dir outputs/speedrun --csv speedrun.csv --figure speedrun.png

The text comes from debian_corpus.py or english_corpus.py, which anybody can fetch: a folder with `train*.jsonl` and
`validation.jsonl`. A run is a model x changes x learning rate x seed x budget, made with `run_pretrain.py` and the
quick start's recipe. Each run adds a line as soon as it ends; interrupted runs resume. A budget counts steps of 2,048
tokens, so changes of the batch keep the tokens.

Seconds count training only: the tokens at each row length divided by the median speed at that length. Evaluations
and interruptions by other programs do not count. To compare runs, make them on one machine, one at a time. Losses are
of [MASK] alone.

Models: an attention normalization of a GAU, `modernbert` or `roformer`, of as many parameters in the layers. Changes,
joined with +: none, or of
"""

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from small_runs import (
    OTHERS,
    RESULT,
    SIZES,
    best_rates,
    infinite,
    log_of,
    mean,
    model_options,
    read,
    results_of,
    run_all,
    spread,
    words_of,
)

from modeling_gau.runs.tables import aligned, markdown


LENGTHS = (512, 2048)
CHANGES = {
    "rope": ("GAU without offsets of query and key", {"config_overrides": "query_key_offset_init=null"}),
    "local": ("two of three layers see 64 tokens to either side", {"config_overrides": "sliding_window=64"}),
    "muon": ("--optim muon", {"optim": "muon"}),
    "decay": ("a weight decay of 0.1 for 0.01", {"weight_decay": 0.1}),
    "short": ("rows of 128 tokens, of 512 in the last fifth", {"length_schedule": "128:0.8,512:0.2"}),
    "shorter": ("rows of 64, 128, then 512", {"length_schedule": "64:0.4,128:0.4,512:0.2"}),
    "mask30": ("30 percent of the tokens predicted", {"mlm_probability": 0.3, "eval_mlm_probability": 0.15}),
    "rows2": ("steps of 1,024 tokens", {"per_device_train_batch_size": 2}),
    "rows8": ("steps of 4,096 tokens", {"per_device_train_batch_size": 8}),
    "cosine": ("cosine decay", {"lr_scheduler_type": "cosine"}),
    "bf16": ("--bf16", {"bf16": True}),
}  # fmt: skip
__doc__ += "".join(f"\n    {name:8} {text}" for name, (text, _) in CHANGES.items()) + "\n"
KEYS = ("size", "budget", "model", "changes", "learning_rate", "seed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="folder with train*.jsonl and validation.jsonl")
    parser.add_argument("--output_dir", type=Path, help="runs and their logs")
    parser.add_argument("--csv", type=Path, help="file of results, which grows by run")
    parser.add_argument("--models", nargs="+", default=["softmax", *OTHERS])
    parser.add_argument("--changes", nargs="+", default=["none"])
    parser.add_argument("--learning_rates", nargs="+", type=float, default=[2e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--size", choices=SIZES, default="128")
    parser.add_argument("--steps", nargs="+", type=int, default=[600], help="budgets, in steps of 2,048 tokens")
    parser.add_argument("--table", type=Path, metavar="CSV", help="print the table of this file")
    parser.add_argument("--reference", default="modernbert", help="whose best loss is the mark of the table")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the best runs of --csv")
    args = parser.parse_args()
    if args.table:
        print_table(args.table, args.reference, args.markdown)
        return 0
    if args.output_dir is None or args.csv is None:
        parser.error("give --output_dir and --csv, or --table")
    if args.figure:
        draw(args)
        return 0
    if args.text is None:
        parser.error("give --text, the folder that debian_corpus.py or english_corpus.py wrote")
    names = list(cells(args))
    return run_all(names, lambda name: command(name, args, names[0]), row_of, KEYS, args.output_dir, args.csv, 1)


def cells(args: argparse.Namespace):
    for change in args.changes:
        if unknown := set(change.split("+")) - CHANGES.keys() - {"none"}:
            raise SystemExit(f"--changes {change}: there is no {', '.join(unknown)}. Allowed: {', '.join(CHANGES)}.")
    for steps in args.steps:
        for seed in args.seeds:
            for model in args.models:
                for change in args.changes:
                    for rate in args.learning_rates:
                        yield f"{args.size}-{steps}/{model}-{change}-{rate:g}-{seed}"


def parse(name: str) -> dict:
    size_steps, _, cell = name.partition("/")
    size, steps = size_steps.split("-")
    model, changes, *rate, seed = cell.split("-")
    values = (size, int(steps), model, changes, "-".join(rate), int(seed))
    return dict(zip(KEYS, values, strict=True))


def command(name: str, args: argparse.Namespace, first: str) -> list[str]:
    cell = parse(name)
    changes = {}
    for change in filter(lambda change: change != "none", cell["changes"].split("+")):
        for option, value in CHANGES[change][1].items():
            changes[option] = f"{changes[option]},{value}" if option in changes else value
    model = model_options(cell["model"], cell["size"], changes.pop("config_overrides", ""), LENGTHS[-1])
    steps = cell["budget"] * 4 // changes.get("per_device_train_batch_size", 4)
    options = {
        "train_file": args.text / "train*.jsonl",
        "validation_file": args.text / "validation.jsonl",
        "learning_rate": cell["learning_rate"],
        "seed": cell["seed"],
        "max_steps": steps,
        "warmup_steps": max(30, steps // 20),
    }
    tokenizer = None if name == first else args.output_dir / first
    return words_of(args.output_dir / name, tokenizer, model | options | changes, LENGTHS)


def row_of(folder: Path) -> dict:
    row, curve = parse(f"{folder.parent.name}/{folder.name}"), curve_of(folder)
    tokens, seconds, _ = curve[-1]
    threads = json.loads((folder / "run.json").read_text(encoding="utf-8"))["hardware"]["threads"]
    row |= {"tokens": round(tokens), "seconds": round(seconds, 1), "threads": threads}
    return row | results_of(folder, LENGTHS)


def curve_of(folder: Path) -> list[tuple[float, float, float]]:
    """Tokens, seconds of training and the loss of each line of the log."""
    log, speeds = log_of(folder), defaultdict(list)
    for entry in log:
        speeds[round(entry["row_length"])].append(entry["tokens_per_second"])
    total = json.loads((folder / RESULT).read_text(encoding="utf-8"))["train_tokens"]
    points, step, seconds = [], 0, 0.0
    for entry in log:
        seconds += (
            (entry["step"] - step) / log[-1]["step"] * total / statistics.median(speeds[round(entry["row_length"])])
        )
        step = entry["step"]
        points.append((step / log[-1]["step"] * total, seconds, entry["masked_loss"]))
    return points


def print_table(path: Path, reference: str, as_markdown: bool) -> None:
    """A line for each size, budget, model and changes, with the best rate; last the share of the time in which the
    best of the reference of that size got as far, where the model's budgets reach its loss."""
    cells = best_rates(path, KEYS[:4])
    head = ["width", "budget", "model", "changes", "rate", "of", "seeds", "seconds"]
    table = [[*head, *(f"loss at {length}" for length in LENGTHS)]]
    tried = defaultdict(set)
    for row in read(path):
        tried[tuple(row[key] for key in KEYS[:4])].add(float(row["learning_rate"]))
    lines = []
    for cell, (rate, rows) in cells.items():
        rates = sorted(tried[cell])
        edge = "" if rates[0] < float(rate) < rates[-1] else " (edge)"
        words = [f"{mean(rows, f'loss_{length}'):.3f}{spread(rows, f'loss_{length}')}" for length in LENGTHS]
        seconds = f"{statistics.mean(float(row['seconds']) for row in rows):.0f}"
        line = [*cell[:4], rate, f"{len(rates)}{edge}", str(len(rows)), seconds, *words]
        lines.append(((cell[0], int(cell[1])), infinite(mean(rows, "loss_512")), line))
    table += [line for *_, line in sorted(lines, key=lambda line: line[:2])]
    print(markdown(table, left=4) if as_markdown else aligned(table, left=4))
    print()
    table = [["width", "the best of", "its loss", "its seconds", "model", "changes", "seconds to it", "share"]]
    table += list(races(cells, reference))
    print(markdown(table, left=5) if as_markdown else aligned(table, left=5))


def races(cells: dict[tuple, tuple[str, list[dict]]], reference: str):
    """For each budget of the reference: how long other models took to its best loss, between the budgets on a line in
    the logarithm of the seconds."""
    points = defaultdict(list)
    for (size, budget, model, changes), (_, rows) in cells.items():
        points[size, model, changes].append((mean(rows, "seconds"), mean(rows, "loss_512"), int(budget)))
    marks: dict[tuple, tuple[float, float, str]] = {}
    for (size, model, changes), curve in points.items():
        for seconds, loss, budget in curve if model == reference else ():
            mark = (loss, seconds, f"{reference}, {changes}, {budget} steps")
            marks[size, budget] = min(marks.get((size, budget), mark), mark)
    for (size, _), (loss, seconds, name) in sorted(marks.items()):
        for (other, model, changes), curve in sorted(points.items()):
            if other != size or model == reference:
                continue
            taken = seconds_to(loss, sorted(curve))
            # The smallest budget that was tried may have been more than enough.
            sign = "≤ " if min(curve)[0] == taken else ""
            share = "-" if taken is None else f"{sign}{taken / seconds:.0%}"
            words = "not reached" if taken is None else f"{sign}{taken:.0f}"
            yield [size, name, f"{loss:.3f}", f"{seconds:.0f}", model, changes, words, share]


def seconds_to(loss: float, curve: list[tuple[float, float, int]]) -> float | None:
    """Seconds of the smallest budget that reaches a loss, or between it and the one before."""
    before = None
    for seconds, reached, _ in curve:
        if reached <= loss:
            if before is None:
                return seconds
            part = (before[1] - loss) / (before[1] - reached)
            return math.exp(math.log(before[0]) + part * (math.log(seconds) - math.log(before[0])))
        before = (seconds, reached)
    return None


def draw(args: argparse.Namespace) -> None:
    """Training loss of [MASK] over the seconds of training: for each model and changes the best rate, the first seed
    and the largest budget, the mean of five lines of the log."""
    from matplotlib.figure import Figure

    largest = max(int(row["budget"]) for row in read(args.csv) if row["size"] == args.size)
    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for (size, budget, model, changes), (rate, rows) in sorted(best_rates(args.csv, KEYS[:4]).items()):
        if size != args.size or int(budget) != largest:
            continue
        folder = args.output_dir / f"{size}-{budget}/{model}-{changes}-{rate}-{min(int(row['seed']) for row in rows)}"
        _, seconds, losses = zip(*curve_of(folder), strict=True)
        smooth = [statistics.mean(losses[max(0, index - 4) : index + 1]) for index in range(len(losses))]
        label, style = (model, "--") if model in OTHERS else (f"GAU, {model}", "-")
        axes.plot(seconds, smooth, style, linewidth=1.3, label=f"{label}, {changes} ({rate})")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("training loss of [MASK] (nats)")
    axes.set_xlim(left=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)  # beside the lines, not on them
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.figure)
    print(f"Wrote {args.figure}")


if __name__ == "__main__":
    sys.exit(main())
