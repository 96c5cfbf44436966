"""How does the peak memory of a training step grow with the length?

    python benchmarks/benchmark_memory.py --output benchmarks/results/memory.csv
    python benchmarks/benchmark_memory.py --plot benchmarks/results/memory.csv    # draws memory.png from the CSV

It runs a forward and a backward pass of a model of base width on one sequence, each cell in a process of its own. It
reports the peak resident memory beyond that of a step with 64 tokens, which leaves out weights, gradients and
libraries.
"""

import argparse
import datetime
import resource
import sys
from pathlib import Path

import torch
from measurement import add_plot_option, make_parser, read_results, run_again, save_figure, write_results
from tqdm.auto import tqdm

from modeling_gau import GAUConfig, GAUForMaskedLM
from modeling_gau.runs.tables import aligned


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--backends", nargs="+", default=["gau_blocked", "eager"])
    parser.add_argument("--normalization", default="softmax_plus")
    parser.add_argument("--num_hidden_layers", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--dropout", type=float, default=0.1)
    add_plot_option(parser)
    parser.add_argument("--cell", nargs=2, metavar=("BACKEND", "LENGTH"), help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def training_step(model, length: int) -> None:
    input_ids = torch.randint(5, model.config.vocab_size, (1, length))
    labels = torch.full_like(input_ids, -100)
    labels[:, ::7] = input_ids[:, ::7]
    model(input_ids, labels=labels).loss.backward()
    model.zero_grad(set_to_none=False)


def run_cell(args: argparse.Namespace) -> None:
    backend, length = args.cell[0], int(args.cell[1])
    config = GAUConfig(
        vocab_size=1000,
        num_hidden_layers=args.num_hidden_layers,
        attention_normalization=args.normalization,
        attention_probs_dropout_prob=args.dropout,
        sparse_prediction=True,
    )
    config._attn_implementation = backend
    model = GAUForMaskedLM(config).to(getattr(torch, args.dtype)).train()
    training_step(model, 64)
    before = peak_resident_bytes()
    training_step(model, length)
    print(peak_resident_bytes() - before)


def plot(path: Path) -> None:
    from matplotlib.figure import Figure

    rows = read_results(path)
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for backend in dict.fromkeys(row["backend"] for row in rows):
        points = [(int(row["length"]), int(row["peak_mib"])) for row in rows if row["backend"] == backend]
        axes.plot(*zip(*points, strict=True), marker="o", label=backend)
    axes.set_xlabel("sequence length (tokens)")
    axes.set_ylabel("peak memory of a training step (MiB)")
    axes.set_title(f"{rows[0]['layers']} layers of base width, {rows[0]['dtype']}, batch 1", fontsize=10)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(title="attention backend")
    save_figure(figure, path)


def main() -> None:
    args = parse_arguments()
    if args.plot:
        plot(args.plot)
        return
    if args.cell:
        run_cell(args)
        return
    rows = []
    cells = [(backend, length) for backend in args.backends for length in args.lengths]
    for backend, length in tqdm(cells, desc="memory", unit="cell"):
        (extra,) = run_again(__file__, *sys.argv[1:], "--cell", backend, length)
        rows.append({
            "date": datetime.date.today().isoformat(), "torch": torch.__version__, "dtype": args.dtype,
            "layers": args.num_hidden_layers, "normalization": args.normalization, "dropout": args.dropout,
            "backend": backend, "length": length, "peak_mib": round(extra / 2**20),
            "kib_per_token": round(extra / 2**10 / length, 1),
        })  # fmt: skip
    shown = [[str(row[name]) for name in ("backend", "length", "peak_mib", "kib_per_token")] for row in rows]
    print(aligned([["backend", "length", "peak MiB", "KiB per token"], *shown]))
    write_results(args.output, rows)


if __name__ == "__main__":
    main()
