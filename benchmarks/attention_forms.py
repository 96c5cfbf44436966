# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
r"""Which normalization learns best with which relative positions?

    python benchmarks/attention_forms.py --output_dir outputs/forms --csv forms.csv --seeds 1 2 3
    python benchmarks/attention_forms.py --table forms.csv      # measures nothing, prints the table of this file
    python benchmarks/attention_forms.py --output_dir outputs/forms --steps 1200 --normalizations softmax \
        --forms rope offsets=1.4 --figure curves.png            # measures nothing, draws the training of these runs

Pretrains a model for every normalization x form of relative positions x learning rate x seed with `run_pretrain.py`,
one after the other or several at a time (--jobs), and writes a line for each as soon as it ends. To continue, start
it again: it keeps finished runs and resumes an interrupted one from its last checkpoint.

`roformer` and `modernbert` among the normalizations are models of about the same size for comparison, each with the
learning rates that are given; a table shows the best.

Forms: `rope` (rotary positions alone), `offsets=C` (query_key_offset_init), `rotary=B` and `distance=B` (the
relative position bias, with its initial value). Losses and accuracies are of [MASK] alone, on the same tokens at every
length.
"""

import argparse
import statistics
import sys
from pathlib import Path

from small_runs import (
    OTHERS,
    SIZES,
    best_rates,
    log_of,
    mean,
    model_options,
    results_of,
    run_all,
    spread,
    words_of,
)

from modeling_gau.configuration_gau import NORMALIZATION_USES_N
from modeling_gau.runs.tables import aligned, markdown, write_csv


LENGTHS = (64, 512, 2048)
KEYS = ("size", "steps", "normalization", "form", "learning_rate", "seed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, help="runs and their logs")
    parser.add_argument("--csv", type=Path, help="file of results, which grows by run")
    parser.add_argument("--normalizations", nargs="+", default=list(NORMALIZATION_USES_N))
    parser.add_argument("--forms", nargs="+", default=["rope", "offsets=1.4", "rotary=1"])
    parser.add_argument("--learning_rates", nargs="+", type=float, default=[2e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--size", choices=SIZES, default="128")
    parser.add_argument("--steps", type=int, default=600, help="of 2,048 tokens")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--table", type=Path, metavar="CSV", help="print the table of this file")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the runs in --output_dir, and write a CSV")
    args = parser.parse_args()
    if args.table:
        print_table(args.table, args.markdown)
        return 0
    if args.output_dir and args.figure:
        draw(args)
        return 0
    if args.output_dir is None or args.csv is None:
        parser.error("give --output_dir and --csv, or --table")
    return measure(args)


def measure(args: argparse.Namespace) -> int:
    names = list(cells(args))
    return run_all(
        names,
        lambda name: command(name, args.output_dir, None if name == names[0] else args.output_dir / names[0]),
        row_of,
        KEYS,
        args.output_dir,
        args.csv,
        args.jobs,
    )


def cells(args: argparse.Namespace):
    for seed in args.seeds:
        for rate in args.learning_rates:
            for name in args.normalizations:
                for form in ["own"] if name in OTHERS else args.forms:
                    yield f"{args.size}-{args.steps}/{name}-{form}-{rate:g}-{seed}"


def parse(name: str) -> dict:
    size_steps, _, cell = name.partition("/")
    size, steps = size_steps.split("-")
    normalization, form, *rate, seed = cell.split("-")
    return dict(zip(KEYS, (size, int(steps), normalization, form, "-".join(rate), int(seed)), strict=True))


def command(name: str, output_dir: Path, tokenizer: Path | None) -> list[str]:
    cell = parse(name)
    kind, _, value = cell["form"].partition("=")
    fields = {
        "own": "",
        "rope": "query_key_offset_init=null",
        "offsets": f"query_key_offset_init={value}",
        "rotary": f"query_key_offset_init=null,relative_position_bias=rotary,relative_position_bias_init={value}",
        "distance": f"query_key_offset_init=null,relative_position_bias=distance,relative_position_bias_init={value}",
    }
    options = {"learning_rate": cell["learning_rate"], "seed": cell["seed"], "max_steps": cell["steps"]}
    model = model_options(cell["normalization"], cell["size"], fields[kind], LENGTHS[-1])
    return words_of(output_dir / name, tokenizer, model | options, LENGTHS)


def row_of(folder: Path) -> dict:
    return parse(f"{folder.parent.name}/{folder.name}") | results_of(folder, LENGTHS)


def print_table(path: Path, as_markdown: bool) -> None:
    """A line for each cell, the mean over seeds and its range, best first; of several learning rates the best."""
    table = [["width", "steps", "normalization", "positions", "rate", "seeds", *(f"loss at {n}" for n in LENGTHS)]]
    lines = []
    for cell, (rate, rows) in best_rates(path, KEYS[:4]).items():
        words = [f"{mean(rows, f'loss_{n}'):.3f}{spread(rows, f'loss_{n}')}" for n in LENGTHS]
        lines.append((cell[:2], mean(rows, "loss_512"), [*cell, rate, str(len(rows)), *words]))
    table += [line for *_, line in sorted(lines, key=lambda line: line[:2])]
    print(markdown(table, left=4) if as_markdown else aligned(table, left=4))


def draw(args: argparse.Namespace) -> None:
    """Loss of [MASK] over the steps of training, a line for each run: the mean of five entries of its log."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes, rows = figure.add_subplot(), []
    for name in cells(args):
        points = [(entry["step"], entry["masked_loss"]) for entry in log_of(args.output_dir / name)]
        rows += [parse(name) | {"step": step, "loss": round(loss, 4)} for step, loss in points]
        steps, losses = zip(*points, strict=True)
        smooth = [statistics.mean(losses[max(0, index - 4) : index + 1]) for index in range(len(losses))]
        cell = parse(name)
        axes.plot(steps, smooth, linewidth=1.2, label=f"{cell['normalization']}, {cell['form']}, seed {cell['seed']}")
    axes.set_xlabel("optimizer step (of 2,048 tokens)")
    axes.set_ylabel("training loss of [MASK] (nats)")
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.figure)
    write_csv(args.figure.with_suffix(".csv"), rows)
    print(f"Wrote {args.figure} and {args.figure.with_suffix('.csv')}")


if __name__ == "__main__":
    sys.exit(main())
