# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
r"""Which normalization learns best with which relative positions?

    python benchmarks/attention_forms.py --output_dir outputs/forms --csv forms.csv --seeds 1 2 3
    python benchmarks/attention_forms.py --table forms.csv      # measures nothing, prints the table of this file
    python benchmarks/attention_forms.py --output_dir outputs/forms --steps 1200 --normalizations softmax \
        --forms rope offsets=1.4 --figure curves.png            # measures nothing, draws the training of these runs

Pretrains a model for every normalization x form of relative positions x learning rate x seed with `run_pretrain.py`,
one after the other or several at a time (--jobs), and writes a line for each as soon as it ends. Started again, it
goes on where it was: finished runs are kept, an interrupted one resumes from its last checkpoint.

`roformer` and `modernbert` among the normalizations are models of about the same size for comparison, each with the
learning rates that are given; a table shows the best.

Forms: `rope` (rotary positions alone), `offsets=C` (query_key_offset_init), `rotary=B` and `distance=B` (the
relative position bias, with its initial value). Losses and accuracies are of [MASK] alone, on the same tokens at every
length.
"""

import argparse
import csv
import json
import math
import statistics
import sys
from pathlib import Path

import yaml


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository need not be installed

from modeling_gau.configuration_gau import NORMALIZATION_USES_N
from modeling_gau.runs.jobs import ROOT, Job, Runner, device_environments
from modeling_gau.runs.locks import lock
from modeling_gau.runs.tables import aligned, markdown, write_csv


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
_NO_DROPOUT = {
    "roformer": "initializer_range=0.07,hidden_dropout_prob=0,attention_probs_dropout_prob=0",
    "modernbert": "",
}
LENGTHS = (64, 512, 2048)
RESULT = "all_results.json"


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
    # The first run also makes the tokenizer that the others use.
    jobs = [Job(name, "pretrain", {}, RESULT, needs=tuple(names[:1]) if name != names[0] else ()) for name in names]
    named = {job.name: job for job in jobs}
    with lock(args.output_dir) as descriptor:

        def is_finished(job: Job) -> bool:
            return (args.output_dir / job.name / RESULT).is_file()

        def ended(job: Job, finished: set[str]) -> str:
            row = row_of(args.output_dir / job.name)
            merge(args.csv, [row])
            return f"loss at 512: {row['loss_512']}"

        runner = Runner(
            jobs,
            {job.name for job in jobs if is_finished(job)},
            is_finished,
            lambda job: command(job.name, args, names[0]),
            device_environments(args.jobs, needs_cpu=False),
            args.output_dir,
            ended,
            locks=(descriptor,),
        )
        merge(args.csv, [row_of(args.output_dir / name) for name, job in named.items() if is_finished(job)])
        code = runner.run()
        merge(args.csv, [row_of(args.output_dir / name) for name, job in named.items() if is_finished(job)])
        return code


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
    return {
        "size": size,
        "steps": int(steps),
        "normalization": normalization,
        "form": form,
        "learning_rate": "-".join(rate),
        "seed": int(seed),
    }


def command(name: str, args: argparse.Namespace, first: str) -> list[str]:
    cell, folder = parse(name), args.output_dir / name
    kind, _, value = cell["form"].partition("=")
    name_of_model, other = cell["normalization"], cell["normalization"] in OTHERS
    fields = {
        "rope": "query_key_offset_init=null",
        "offsets": f"query_key_offset_init={value}",
        "rotary": f"query_key_offset_init=null,relative_position_bias=rotary,relative_position_bias_init={value}",
        "distance": f"query_key_offset_init=null,relative_position_bias=distance,relative_position_bias_init={value}",
    }
    if other:
        changes = (
            OTHERS[name_of_model][cell["size"]],
            _NO_DROPOUT[name_of_model],
            f"max_position_embeddings={LENGTHS[-1]}",
        )
    else:
        changes = (SIZES[cell["size"]], fields[kind])
    overrides = ",".join(filter(None, changes))
    recipe = yaml.safe_load((ROOT / "configuration/recipes/pretrain/quickstart.yaml").read_text(encoding="utf-8"))
    del recipe["config_name"], recipe["eval_steps"]
    options = {
        **recipe,
        "output_dir": folder,
        **(
            {"model_type": name_of_model}
            if other
            else {"config_name": "gau-tiny", "attention_normalization": name_of_model}
        ),
        "learning_rate": cell["learning_rate"],
        "seed": cell["seed"],
        "max_steps": cell["steps"],
        "max_eval_tokens": 65536,
        "save_strategy": "steps",
        "save_steps": 200,
        "save_total_limit": 1,
        "eval_strategy": "no",
    }
    words = [sys.executable, str(ROOT / "run_pretrain.py")]
    for option, text in options.items():
        words += [f"--{option}", str(text)]
    words += ["--eval_lengths", *map(str, LENGTHS)]
    if overrides:
        words += ["--config_overrides", overrides]
    if name != first:
        words += ["--tokenizer_name", str(args.output_dir / first)]
    if any(folder.glob("checkpoint-*")):
        words += ["--resume_from_checkpoint", "last"]
    return words


def row_of(folder: Path) -> dict:
    results = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    row = parse(f"{folder.parent.name}/{folder.name}")
    for length in LENGTHS:
        row[f"loss_{length}"] = round(results[f"eval_length_{length}_loss"], 4)
        row[f"accuracy_{length}"] = round(results[f"eval_length_{length}_accuracy"], 4)
    return row | {"most_frequent_token_accuracy": round(results["eval_most_frequent_token_accuracy"], 4)}


def read(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def merge(path: Path, rows: list[dict]) -> None:
    """Writes the file with new rows in place of old ones of the same cell."""
    keys = list(parse("128-1/a-b-1-1"))
    old = read(path) if path.is_file() else []
    merged = {tuple(str(row[key]) for key in keys): row for row in [*old, *rows]}
    write_csv(path, list(merged.values()))


def print_table(path: Path, as_markdown: bool) -> None:
    """A line for each cell, the mean over seeds and its range, best first; of several learning rates the best."""
    groups: dict[tuple, dict[str, list[dict]]] = {}
    for row in read(path):
        cell = (row["size"], row["steps"], row["normalization"], row["form"])
        groups.setdefault(cell, {}).setdefault(row["learning_rate"], []).append(row)
    table = [["width", "steps", "normalization", "positions", "rate", "seeds", *(f"loss at {n}" for n in LENGTHS)]]
    lines = []
    for cell, rates in groups.items():
        # A rate that was tried with fewer seeds, or that diverged, is not the best one.
        rate, rows = min(rates.items(), key=lambda item: (-len(item[1]), infinite(mean(item[1], 512))))
        words = [f"{mean(rows, n):.3f}{spread(rows, n)}" for n in LENGTHS]
        lines.append((cell[:2], mean(rows, 512), [*cell, rate, str(len(rows)), *words]))
    table += [line for *_, line in sorted(lines, key=lambda line: line[:2])]
    print(markdown(table, left=4) if as_markdown else aligned(table, left=4))


def draw(args: argparse.Namespace) -> None:
    """Loss of [MASK] over the steps of training, a line for each run: the mean of five entries of its log."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes, rows = figure.add_subplot(), []
    for name in cells(args):
        state = json.loads((args.output_dir / name / "trainer_state.json").read_text(encoding="utf-8"))
        points = [(entry["step"], entry["masked_loss"]) for entry in state["log_history"] if "masked_loss" in entry]
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


def mean(rows: list[dict], length: int) -> float:
    return statistics.mean(float(row[f"loss_{length}"]) for row in rows)


def infinite(value: float) -> float:
    return math.inf if math.isnan(value) else value


def spread(rows: list[dict], length: int) -> str:
    values = [float(row[f"loss_{length}"]) for row in rows]
    return f" ({min(values):.2f} - {max(values):.2f})" if len(values) > 1 else ""


if __name__ == "__main__":
    sys.exit(main())
