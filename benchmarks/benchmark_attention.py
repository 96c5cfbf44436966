"""How close does each attention backend come to the matrix-product peak and the memory bandwidth?

    python benchmarks/benchmark_attention.py --output benchmarks/results/attention.csv
    python benchmarks/benchmark_attention.py --lengths 64 --tokens 256 --rounds 2      # does it run? seconds on a CPU

It measures one layer's attention with keys of 128 and values of 1536 columns. Every round runs each contender, plain
matrix products and a copy in memory once, in random order, so that a noisy machine disturbs all alike; the table
compares medians over rounds. On a GPU, a measurement repeats its function for some 10 ms between two events and gives
the larger of two times: running the kernels or launching them.

Useful operations are 2 n^2 (128 + 1536) per sequence forward and three times that forward and backward: recomputation
does not count. The least bytes are those of query, key, value and output, read or written once; backward reads query,
key, value and the output's gradient and writes three gradients.

Contenders are the model's backends and, to see what the kernels behind them can do, three of PyTorch's by name, where
they run: `sdpa_efficient` (the value as it is), `flash_split` and `cudnn_split` (the value split into heads of the key
width, which is what `flash_attention_2` does with another implementation). A contender that cannot do a case is
reported and left out. `error` is the output's distance from `eager` in float32, relative to its norm.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from measurement import describe_machine, make_parser, time_in_turns, write_results
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from modeling_gau.attention_gau import (
    ATTENTION_BACKENDS,
    ATTENTION_NORMALIZATIONS,
    DEFAULT_ATTENTION_BACKEND,
    choose_attention_backend,
    split_value_heads,
)
from modeling_gau.runs.tables import aligned, write_csv


KEY_DIM, VALUE_DIM = 128, 1536
KERNELS = {
    "sdpa_efficient": (SDPBackend.EFFICIENT_ATTENTION, False),
    "flash_split": (SDPBackend.FLASH_ATTENTION, True),
    "cudnn_split": (SDPBackend.CUDNN_ATTENTION, True),
}
DEFAULT_CONTENDERS = {
    "cpu": ("eager", "sdpa", "flash_split", "gau_blocked"),
    "cuda": ("eager", "sdpa", *KERNELS, "gau_blocked", "gau_triton", "flex_attention"),
}
DEFAULT_LENGTHS = {"cpu": (128, 512, 2048, 4096), "cuda": (128, 256, 512, 1024, 2048, 4096, 8192)}
DEFAULT_TOKENS = {"cpu": 8192, "cuda": 32768}
PRODUCTS = {"cpu": ((2048, 2048, 2048), (4096, 1536, 1536)), "cuda": ((4096, 4096, 4096), (8192, 8192, 8192))}
COPIED_BYTES = {"cpu": 2**27, "cuda": 2**29}  # more than caches hold
LEAST_SECONDS = {"cpu": 0.0, "cuda": 0.01}  # of one measurement


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", help="default: 128 to 4096 on a CPU, to 8192 on a GPU")
    parser.add_argument("--tokens", type=int, help="of a batch; default: 8192 on a CPU, 32768 on a GPU")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--normalizations", nargs="+", default=list(ATTENTION_NORMALIZATIONS))
    parser.add_argument("--backends", nargs="+", choices=[*ATTENTION_BACKENDS, *KERNELS], help="default: all of use")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.lengths = args.lengths or DEFAULT_LENGTHS[args.device]
    args.tokens = args.tokens or DEFAULT_TOKENS[args.device]
    args.backends = args.backends or DEFAULT_CONTENDERS[args.device]
    return args


def timed(function: Callable, device: str, repeats: int = 1) -> float:
    """Seconds of one call."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        return (time.perf_counter() - start) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def kernel_forward(kernel: SDPBackend, split: bool) -> Callable:
    """One of PyTorch's kernels, in the form of a backend of the model (softmax family, no mask)."""

    def forward(module, query, key, value, attention_mask, dropout=0.0):
        states = split_value_heads(query, key, value) if split else (query, key, value)
        with sdpa_kernel(kernel):
            output = torch.nn.functional.scaled_dot_product_attention(*states, dropout_p=dropout, scale=1.0)
        return output.transpose(1, 2).flatten(2)[..., : value.shape[-1]].unsqueeze(2), None

    return forward


def forward_of(contender: str) -> Callable:
    return kernel_forward(*KERNELS[contender]) if contender in KERNELS else ATTENTION_BACKENDS[contender].forward


def families_of(contender: str) -> tuple[str, ...]:
    return ("softmax",) if contender in KERNELS else ATTENTION_BACKENDS[contender].families


class Case:
    """Inputs of one dtype, length and normalization, and what the contenders do with them."""

    def __init__(self, args, dtype: torch.dtype, length: int, normalization: str):
        self.dtype, self.length, self.normalization, self.dropout = dtype, length, normalization, args.dropout
        self.batch = max(1, args.tokens // length)

        def random_states(width: int, scale: float = 1.0) -> torch.Tensor:
            states = torch.randn(self.batch, 1, length, width, device=args.device) * scale
            return states.to(dtype).requires_grad_()

        scale = KEY_DIM**-0.5
        self.states = random_states(KEY_DIM, scale), random_states(KEY_DIM), random_states(VALUE_DIM)
        self.gradient = torch.randn(self.batch, length, 1, VALUE_DIM, device=args.device).to(dtype)

    def attend(self, contender: str, states, dropout: float) -> torch.Tensor:
        config = SimpleNamespace(
            attention_normalization=self.normalization, output_attentions=False, _attn_implementation=contender
        )
        module = SimpleNamespace(config=config, training=dropout > 0, is_causal=False)
        return forward_of(contender)(module, *states, None, dropout=dropout)[0]

    def forward(self, contender: str) -> None:
        self.attend(contender, [state.detach() for state in self.states], self.dropout)

    def forward_and_backward(self, contender: str) -> None:
        torch.autograd.grad(self.attend(contender, self.states, self.dropout), self.states, self.gradient)

    def error(self, contender: str) -> float:
        """Of the first sequence, without dropout."""
        states = [state[:1].detach() for state in self.states]
        exact = self.attend("eager", [state.float() for state in states], 0.0)
        return ((self.attend(contender, states, 0.0).float() - exact).norm() / exact.norm()).item()

    def calls(self, contenders: list[str]) -> dict[tuple[str, str], Callable]:
        """(contender, pass) -> a function that runs it once, of those that can."""
        family = ATTENTION_NORMALIZATIONS[self.normalization].family
        calls = {}
        for contender in contenders:
            passes = {"forward": self.forward, "forward+backward": self.forward_and_backward}
            for which, function in passes.items() if family in families_of(contender) else ():
                try:
                    function(contender)
                except (RuntimeError, ValueError, ImportError) as error:  # no kernel, no memory, no package
                    reason = str(error).strip().splitlines()[0]
                    tqdm.write(f"{self.dtype} {self.length} {contender}, {which}: left out. {reason}")
                else:
                    calls[contender, which] = lambda function=function, contender=contender: function(contender)
        return calls

    def least_bytes(self, which: str) -> int:
        narrow, wide = (self.batch * self.length * width * self.dtype.itemsize for width in (KEY_DIM, VALUE_DIM))
        forward, backward = 2 * narrow + 2 * wide, 4 * narrow + 3 * wide
        return forward if which == "forward" else forward + backward

    def operations(self, which: str) -> int:
        return (1 if which == "forward" else 3) * 2 * self.batch * self.length**2 * (KEY_DIM + VALUE_DIM)


def machine_calls(args, dtype: torch.dtype) -> dict[tuple[str, str], Callable]:
    """What the machine can do at most: matrix products and a copy in memory."""
    calls = {}
    for rows, inner, columns in PRODUCTS[args.device]:
        left = torch.randn(rows, inner, device=args.device).to(dtype)
        right = torch.randn(inner, columns, device=args.device).to(dtype)
        calls["product", 2 * rows * inner * columns] = lambda left=left, right=right: left @ right
    source = torch.ones(COPIED_BYTES[args.device], dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)
    calls["copy", 2 * source.numel()] = lambda: target.copy_(source)
    return calls


def measure(calls: dict, args) -> dict[tuple, list[float]]:
    repeats = {}
    for name, function in calls.items():
        function()  # what is compiled, tuned or allocated at first
        seconds = timed(function, args.device)
        repeats[name] = max(1, min(1000, round(LEAST_SECONDS[args.device] / max(seconds, 1e-6))))
    timings = {name: lambda name=name: timed(calls[name], args.device, repeats[name]) for name in calls}
    return time_in_turns(timings, args.rounds, lambda timing: timing())


def rows_of(args, case: Case, seconds: dict) -> list[dict]:
    median = {name: statistics.median(values) for name, values in seconds.items()}
    peak = max(work / time for (name, work), time in median.items() if name == "product")
    bandwidth = max(work / time for (name, work), time in median.items() if name == "copy")
    rows = []
    for (contender, which), values in seconds.items():
        if contender in ("product", "copy"):
            continue
        time = median[contender, which]
        rate, moved = case.operations(which) / time, case.least_bytes(which) / time
        rows.append({
            "dtype": str(case.dtype).removeprefix("torch."), "length": case.length, "batch": case.batch,
            "normalization": case.normalization, "dropout": args.dropout,
            "backend": contender, "default": int(contender == choose_attention_backend(case.length)), "pass": which,
            "error": f"{case.error(contender):.1e}", "median_ms": round(time * 1e3, 3),
            "min_ms": round(min(values) * 1e3, 3), "max_ms": round(max(values) * 1e3, 3),
            "useful_gflops": round(rate / 1e9, 1), "peak_gflops": round(peak / 1e9, 1),
            "share_of_peak": round(rate / peak, 3), "least_gbytes_per_s": round(moved / 1e9, 2),
            "bandwidth_gbytes_per_s": round(bandwidth / 1e9, 2), "share_of_bandwidth": round(moved / bandwidth, 3),
        })  # fmt: skip
    return rows


def print_rows(rows: list[dict]) -> None:
    columns = ["dtype", "normalization", "pass", "backend", "length", "error"]
    table = [[*columns, "ms", "GFLOP/s", "of peak", "GB/s", "of bandwidth"]]
    for row in rows:
        cells = [str(row[name]) + "*" * (name == "backend" and row["default"]) for name in columns]
        speed = [f"{row['median_ms']:.3f}", f"{row['useful_gflops']:.1f}", f"{row['share_of_peak']:.0%}"]
        bandwidth = [f"{row['least_gbytes_per_s']:.1f}", f"{row['share_of_bandwidth']:.0%}"]
        table.append(cells + speed + bandwidth)
    print(aligned(table, left=4))
    print("* what a model uses when no backend is asked for")


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    # FlexAttention is compiled for lengths, types and passes; beyond PyTorch's limit it would run unfused.
    torch._dynamo.config.recompile_limit = 64
    facts = describe_machine(args.device)
    facts["threads"] = facts["threads"] if args.device == "cpu" else ""
    print(f"{facts['hardware']}, {os.cpu_count()} CPU cores; default backend: {DEFAULT_ATTENTION_BACKEND}")
    cells = [(d, n, x) for d in args.dtypes for n in args.lengths for x in args.normalizations]
    rows = []
    for dtype_name, length, normalization in tqdm(cells, desc="attention", unit="cell"):
        dtype = getattr(torch, dtype_name)
        case = Case(args, dtype, length, normalization)
        rows += rows_of(args, case, measure({**case.calls(args.backends), **machine_calls(args, dtype)}, args))
        if args.output and rows:  # after each cell: hours of a machine may end before the last one
            write_csv(args.output, [facts | row for row in rows])
    print_rows(rows)
    write_results(args.output, [facts | row for row in rows])


if __name__ == "__main__":
    main()
