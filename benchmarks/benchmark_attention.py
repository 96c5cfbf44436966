"""How near to the matrix-product peak does the attention operation run, backend by backend?

    python benchmarks/benchmark_attention.py --output benchmarks/results/attention.csv

One layer's attention with keys of 128 and values of 1536 columns. In every round each backend and two plain matrix
products run once, in random order, so that a noisy machine disturbs all alike; medians over rounds are compared.
Useful operations are 2 n^2 (128 + 1536) per sequence forward and three times that forward and backward: recomputation
does not count.
"""

import argparse
import csv
import datetime
import os
import platform
import random
import statistics
import time
from types import SimpleNamespace

import torch
import transformers
from tqdm.auto import tqdm

from modeling_gau.attention_gau import (
    ATTENTION_BACKENDS,
    ATTENTION_NORMALIZATIONS,
    DEFAULT_ATTENTION_BACKEND,
    choose_attention_backend,
)


KEY_DIM, VALUE_DIM = 128, 1536


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 2048, 4096])
    parser.add_argument("--tokens", type=int, default=8192, help="tokens per batch: the batch is tokens / length")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--normalizations", nargs="+", default=list(ATTENTION_NORMALIZATIONS))
    parser.add_argument("--backends", nargs="+", help="default: eager, sdpa, gau_blocked, and gau_triton on a GPU")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="CSV file to write")
    return parser.parse_args()


def processor_name(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def timed(function, device: str) -> float:
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def attention_calls(args, dtype: torch.dtype, length: int, normalization: str) -> dict[tuple[str, str], object]:
    """(backend, pass) -> a function that runs it once, all on the same inputs."""
    batch = max(1, args.tokens // length)
    family = ATTENTION_NORMALIZATIONS[normalization].family
    config = SimpleNamespace(attention_normalization=normalization, output_attentions=False)
    module = SimpleNamespace(config=config, training=args.dropout > 0)

    def random_states(width: int, scale: float = 1.0) -> torch.Tensor:
        states = torch.randn(batch, 1, length, width, device=args.device) * scale
        return states.to(dtype).requires_grad_()

    query, key, value = random_states(KEY_DIM, KEY_DIM**-0.5), random_states(KEY_DIM), random_states(VALUE_DIM)
    gradient = torch.randn(batch, length, 1, VALUE_DIM, device=args.device).to(dtype)

    def forward(backend: str) -> torch.Tensor:
        return ATTENTION_BACKENDS[backend].forward(module, query, key, value, None, dropout=args.dropout)[0]

    def forward_only(backend: str) -> None:
        with torch.no_grad():
            forward(backend)

    def forward_and_backward(backend: str) -> None:
        torch.autograd.grad(forward(backend), (query, key, value), gradient)

    calls = {}
    for backend in args.backends:
        if family in ATTENTION_BACKENDS[backend].families:
            calls[backend, "forward"] = lambda backend=backend: forward_only(backend)
            calls[backend, "forward+backward"] = lambda backend=backend: forward_and_backward(backend)
    return calls


def peak_calls(args, dtype: torch.dtype) -> dict[tuple[str, str], object]:
    shapes = {"2048x2048x2048": (2048, 2048, 2048), "4096x1536x1536": (4096, 1536, 1536)}
    calls = {}
    for name, (rows, inner, columns) in shapes.items():
        left = torch.randn(rows, inner, device=args.device).to(dtype)
        right = torch.randn(inner, columns, device=args.device).to(dtype)
        calls["matrix product", name] = lambda left=left, right=right: left @ right
    return calls


def measure(calls: dict, args) -> dict[tuple[str, str], list[float]]:
    seconds = {name: [] for name in calls}
    for function in calls.values():
        timed(function, args.device)  # warm-up
    order = list(calls)
    for _ in range(args.rounds):
        random.shuffle(order)
        for name in order:
            seconds[name].append(timed(calls[name], args.device))
    return seconds


def rows_of(args, dtype_name: str, length: int, normalization: str, seconds: dict) -> list[dict]:
    batch = max(1, args.tokens // length)
    operations = 2 * batch * length**2 * (KEY_DIM + VALUE_DIM)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    peak = max(2 * 2048**3 / median["matrix product", "2048x2048x2048"],
               2 * 4096 * 1536**2 / median["matrix product", "4096x1536x1536"])  # fmt: skip
    chosen = choose_attention_backend(length)
    rows = []
    for (backend, which), values in seconds.items():
        if backend == "matrix product":
            continue
        rate = operations * (1 if which == "forward" else 3) / median[backend, which]
        rows.append({
            "dtype": dtype_name, "length": length, "batch": batch, "normalization": normalization,
            "dropout": args.dropout, "backend": backend, "default": int(backend == chosen), "pass": which,
            "median_ms": round(median[backend, which] * 1e3, 2),
            "min_ms": round(min(values) * 1e3, 2), "max_ms": round(max(values) * 1e3, 2),
            "useful_gflops": round(rate / 1e9, 1), "peak_gflops": round(peak / 1e9, 1),
            "share_of_peak": round(rate / peak, 3),
        })  # fmt: skip
    return rows


def main() -> None:
    args = parse_arguments()
    args.backends = args.backends or [
        "eager",
        "sdpa",
        "gau_blocked",
        *(["gau_triton"] if args.device != "cpu" else []),
    ]
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    facts = {
        "date": datetime.date.today().isoformat(), "hardware": processor_name(args.device),
        "threads": torch.get_num_threads() if args.device == "cpu" else "", "torch": torch.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip
    print(f"{facts['hardware']}, {os.cpu_count()} CPU cores; default backend: {DEFAULT_ATTENTION_BACKEND}")
    cells = [(d, n, x) for d in args.dtypes for n in args.lengths for x in args.normalizations]
    rows = []
    for dtype_name, length, normalization in tqdm(cells, desc="attention", unit="cell"):
        dtype = getattr(torch, dtype_name)
        calls = {**attention_calls(args, dtype, length, normalization), **peak_calls(args, dtype)}
        rows += rows_of(args, dtype_name, length, normalization, measure(calls, args))

    print(
        f"{'dtype':9} {'length':>6} {'normalization':24} {'pass':17} {'backend':12} "
        f"{'ms':>9} {'GFLOP/s':>9} {'of peak':>8}"
    )
    for row in rows:
        mark = "*" if row["default"] else " "
        print(
            f"{row['dtype']:9} {row['length']:6} {row['normalization']:24} {row['pass']:17} "
            f"{row['backend'] + mark:12} "
            f"{row['median_ms']:9.2f} {row['useful_gflops']:9.1f} {row['share_of_peak']:8.0%}"
        )
    print("* what a model uses when no backend is asked for")
    if args.output:
        with open(args.output, "w", newline="") as file:
            writer = csv.DictWriter(file, [*facts, *rows[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**facts, **row} for row in rows)
        print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
