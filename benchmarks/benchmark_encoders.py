"""How fast are encoders of equal size side by side, in training and in inference?

    python benchmarks/benchmark_encoders.py --output benchmarks/results/encoders.csv
    python benchmarks/benchmark_encoders.py --profile --models gau --passes train --lengths 512 --batches fixed
    python benchmarks/benchmark_encoders.py --before ../old-checkout --models before gau --lengths 512
    python benchmarks/benchmark_encoders.py --plot benchmarks/results/encoders.csv    # draws encoders.png from the CSV

GAU beside BERT, RoFormer and ModernBERT of as many parameters without embeddings, all with random weights, one
vocabulary and no dropout, each with its best settings: the GAU's own choice of attention, a fused one in BERT and
ModernBERT (FlashAttention where it is installed, else PyTorch's), predictions for the masked tokens alone where a
model can (GAU, ModernBERT). They take turns in one process, `--rounds` times each, so that a noisy machine disturbs
all alike; compared are medians, and ratios round by round.

A training step is masked language modelling with 15 percent of the tokens: forward, backward and AdamW; bfloat16 means
autocast with weights in float32, as `--bf16` of the Trainer does. Inference is the encoder without a head, its weights
in the precision named. `variable` batches hold paragraphs of the documentation in this Python installation, cut at the
length, shuffled and padded to the longest; only real tokens count. FLOPs are those of `ModelFlops`: matrix products of
fixed rows, recomputation not counted, as a share of the fastest product measured in the same run.
"""

import argparse
import importlib.util
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from measurement import (
    add_plot_option,
    describe_machine,
    make_parser,
    make_training_step,
    read_results,
    save_figure,
    spread,
    time_in_turns,
    timed,
    write_results,
)
from torch.profiler import ProfilerActivity, profile
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM, BertConfig, ModernBertConfig, PreTrainedConfig, RoFormerConfig
from transformers.utils import is_flash_attn_2_available

from modeling_gau import GAUConfig
from modeling_gau.runs.progress import ModelFlops, measure_matmul_peak
from modeling_gau.runs.tables import aligned
from modeling_gau.text.embedded_corpus import embedded_documents


VOCABULARY, MASKED = 30522, 0.15
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# Layers of a Transformer hold 12 d^2 parameters, those of ModernBERT 8.5 d^2; two units of a GAU 12 d^2 and some.
SIZES = {
    "base": {"width": 768, "units": 24, "layers": 12, "heads": 12, "modernbert_layers": 17},
    "small": {"width": 512, "units": 8, "layers": 4, "heads": 8, "modernbert_layers": 6},
    "tiny": {"width": 192, "units": 8, "layers": 4, "heads": 3, "modernbert_layers": 6},
}


def main() -> None:
    args = parse_arguments()
    if args.plot:
        plot(args.plot)
        return
    if args.before:
        load_before(args.before)
    torch.manual_seed(0)
    random.seed(0)
    device = torch.device(args.device)
    facts = describe_machine(args.device) | {"size": args.size}
    print(f"{facts['hardware']}, {os.cpu_count()} CPU cores, {facts['threads']} threads")
    paragraphs = paragraph_lengths() if "variable" in args.batches else []
    cells = [(p, d, n, b) for p in args.passes for d in args.dtypes for n in args.lengths for b in args.batches]
    rows = []
    for which, dtype, length, batch in tqdm(cells, desc="Encoders", unit="cell"):
        inputs = make_inputs(args.tokens, length, paragraphs if batch == "variable" else None, device)
        if args.profile:
            print_profiles(args, which, getattr(torch, dtype), length, inputs)
            continue
        rows += measure(args, which, getattr(torch, dtype), length, batch, inputs)
    if rows:
        print(table(rows))
    write_results(args.output, [facts | row for row in rows])


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--models", nargs="+", default=["gau", "bert", "roformer", "modernbert"],
        help="gau, gau:NORMALIZATION, gau:NORMALIZATION@BACKEND, bert, roformer, modernbert; gau+FIELD=VALUE sets a "
        "field of its configuration, +window=64 sees 64 tokens to either side in two layers of three, as ModernBERT",
    )  # fmt: skip
    parser.add_argument("--before", type=Path, help="a checkout of another commit: its GAU is the model `before`")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--passes", nargs="+", choices=["train", "inference"], default=["train", "inference"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--batches", nargs="+", choices=["fixed", "variable"], default=["fixed", "variable"])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--tokens", type=int, default=4096, help="real tokens of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--profile", action="store_true", help="where the time of one step goes, in place of speeds")
    add_plot_option(parser)
    return parser.parse_args()


# Models


def load_before(checkout: Path) -> None:
    """Imports the package of another checkout under the name `before`, which registers its classes beside ours."""
    folder = checkout / "modeling_gau"
    path = folder / "__init__.py"
    if not path.is_file():
        raise SystemExit(f"error: --before {checkout} has no {path.relative_to(checkout)}. Give a checkout.")
    spec = importlib.util.spec_from_file_location("before", path, submodule_search_locations=[str(folder)])
    sys.modules["before"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["before"])


def make_config(name: str, size: str, length: int, dtype: torch.dtype) -> tuple[PreTrainedConfig, str | None]:
    """A configuration, and the attention backend to ask for."""
    s = SIZES[size]
    name, *fields = name.split("+")
    kind, _, variant = name.partition(":")
    if kind in ("gau", "before"):
        config_class = GAUConfig if kind == "gau" else sys.modules["before"].GAUConfig
        normalization, _, backend = variant.partition("@")
        chosen = {"attention_normalization": normalization} if normalization else {}
        for field in fields:
            key, _, value = field.partition("=")
            chosen[{"window": "sliding_window"}.get(key, key)] = yaml.safe_load(value)
        widths = {"hidden_size": s["width"], "intermediate_size": 2 * s["width"], "num_hidden_layers": s["units"]}
        widths["attention_key_size"] = 128 if s["width"] >= 512 else 64
        config = config_class(vocab_size=VOCABULARY, sparse_prediction=True, **widths, **NO_DROPOUT, **chosen)
        return config, backend or None
    if kind == "modernbert":
        config = ModernBertConfig(
            vocab_size=VOCABULARY, hidden_size=s["width"], num_attention_heads=s["heads"],
            num_hidden_layers=s["modernbert_layers"], intermediate_size=s["width"] * 3 // 2, sparse_prediction=True,
            max_position_embeddings=8192, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2,
            sep_token_id=3,
        )  # fmt: skip
        return config, fused_attention(dtype)
    config_class = {"bert": BertConfig, "roformer": RoFormerConfig}[kind]
    config = config_class(
        vocab_size=VOCABULARY, hidden_size=s["width"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"],
        intermediate_size=4 * s["width"], max_position_embeddings=max(512, length), **NO_DROPOUT,
    )  # fmt: skip
    # transformers' RoFormer has an attention of its own.
    return config, fused_attention(dtype) if kind == "bert" else None


def fused_attention(dtype: torch.dtype) -> str:
    """FlashAttention where it is installed, a GPU is there and the precision is half; else PyTorch's."""
    return "flash_attention_2" if dtype != torch.float32 and is_flash_attn_2_available() else "sdpa"


def parameters_of_layers(model: torch.nn.Module) -> int:
    embeddings = {id(p) for p in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}
    return sum(p.numel() for p in model.parameters() if id(p) not in embeddings)


# Inputs


def paragraph_lengths() -> list[int]:
    """Tokens of paragraphs, a word taken for one and a third, as is usual in English prose with some code."""
    texts = (document["text"] for document in embedded_documents(2_000_000))
    words = [len(paragraph.split()) for text in texts for paragraph in text.split("\n\n")]
    lengths = [4 * count // 3 + 2 for count in words if count >= 5]
    random.shuffle(lengths)
    return lengths


def make_inputs(tokens: int, length: int, paragraphs: list[int] | None, device: torch.device) -> dict:
    """Token ids, mask and labels of about as many real tokens."""
    lengths = [length] * max(1, tokens // length)
    if paragraphs is not None:
        lengths = []
        for paragraph in paragraphs:
            lengths.append(min(paragraph, length))
            if sum(lengths) >= tokens:
                break
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(1000, VOCABULARY, mask.shape)
    labels = ids.masked_fill((torch.rand(mask.shape) >= MASKED) | ~mask, -100)
    inputs = {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long(), "labels": labels}
    return {name: tensor.to(device) for name, tensor in inputs.items()}


# Measurement


def make_call(args: argparse.Namespace, config, backend: str | None, which: str, dtype: torch.dtype, inputs: dict):
    """A function that does one step, and the model."""
    device = torch.device(args.device)
    wanted = {} if backend is None else {"attn_implementation": backend}
    model = AutoModelForMaskedLM.from_config(config, **wanted).to(device)
    if which == "inference":
        encoder = model.base_model.eval().to(dtype)
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}

        def infer() -> None:
            with torch.inference_mode():
                encoder(**given)

        return infer, model
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    return make_training_step(model, optimizer, inputs, dtype == torch.bfloat16), model


def measure(args, which: str, dtype: torch.dtype, length: int, batch: str, inputs: dict) -> list[dict]:
    calls, sizes, flops, peaks = {}, {}, {}, {}
    for name in args.models:
        config, backend = make_config(name, args.size, length, dtype)
        calls[name], model = make_call(args, config, backend, which, dtype, inputs)
        sizes[name] = parameters_of_layers(model)
        flops[name] = step_flops(config, which, inputs) if batch == "fixed" else None
        peaks[name] = peak_memory(calls[name], args.device)  # the first step, which warms up as well
    seconds = time_in_turns(calls, args.rounds, lambda call: timed(call, args.device))
    peak = measure_matmul_peak(torch.device(args.device), dtype)
    tokens = int(inputs["attention_mask"].sum())
    rows = []
    for name, times in seconds.items():
        median, shortest, longest = spread(times)
        # How much longer the others take than the first model, round by round.
        ratios = spread([mine / first for mine, first in zip(times, seconds[args.models[0]], strict=True)])
        rows.append({
            "pass": which, "dtype": str(dtype).removeprefix("torch."), "length": length, "batch": batch,
            "rows": inputs["input_ids"].shape[0], "tokens": tokens,
            "padding": round(1 - tokens / inputs["input_ids"].numel(), 3), "model": name,
            "layer_parameters": sizes[name], "median_s": round(median, 4), "min_s": round(shortest, 4),
            "max_s": round(longest, 4), "tokens_per_s": round(tokens / median, 1),
            "time_ratio": round(ratios[0], 3), "time_ratio_min": round(ratios[1], 3),
            "time_ratio_max": round(ratios[2], 3),
            "mfu": round(flops[name] / median / peak, 3) if flops[name] else "",
            "peak_gflops": round(peak / 1e9, 1), "peak_memory_mib": peaks[name],
        })  # fmt: skip
    return rows


def step_flops(config: PreTrainedConfig, which: str, inputs: dict) -> float | None:
    rows, length = inputs["input_ids"].shape
    if which == "train":
        row = ModelFlops(config, MASKED).row(length)
        return None if row is None else rows * row
    # The encoder alone: a third of a step whose labelled share is nothing.
    config.sparse_prediction = True
    row = ModelFlops(config, 0.0).row(length)
    return None if row is None else rows * row / 3


def peak_memory(call: Callable[[], None], device: str) -> int | str:
    """MiB that the first step takes beyond what is there before it; known on accelerators only."""
    if device == "cpu":
        call()
        return ""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def print_profiles(args, which: str, dtype: torch.dtype, length: int, inputs: dict) -> None:
    for name in args.models:
        config, backend = make_config(name, args.size, length, dtype)
        call, _ = make_call(args, config, backend, which, dtype, inputs)
        call()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            call()
        times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        print(f"\n{name}, {which}, length {length}")
        for key in sorted(times, key=times.get, reverse=True)[:15]:
            print(f"{times[key] / sum(times.values()):8.1%}  {key}")


# Output


def table(rows: list[dict]) -> str:
    columns = ["pass", "dtype", "batch", "model", "length"]
    lines = [[*columns, "padding", "Mparams", "tok/s", "time", "range", "MFU"]]
    for row in rows:
        sizes = [f"{row['padding']:.0%}", f"{row['layer_parameters'] / 1e6:.1f}", f"{row['tokens_per_s']:,.0f}"]
        ratios = [f"{row['time_ratio']:.2f}", f"{row['time_ratio_min']:.2f} - {row['time_ratio_max']:.2f}"]
        mfu = f"{row['mfu']:.0%}" if row["mfu"] != "" else ""
        lines.append([*(str(row[name]) for name in columns), *sizes, *ratios, mfu])
    return f"{aligned(lines, left=4)}\ntime: seconds as a multiple of the first model's in the same round"


def plot(path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = sorted(read_results(path), key=lambda row: int(row["length"]))
    passes = sorted({row["pass"] for row in rows}, reverse=True)
    kinds = list(dict.fromkeys((row["batch"], row["dtype"]) for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    lengths = {
        kind: list(dict.fromkeys(row["length"] for row in rows if (row["batch"], row["dtype"]) == kind))
        for kind in kinds
    }
    figure = Figure(
        figsize=(2.5 + 1.5 * sum(map(len, lengths.values())), 0.8 + 2.7 * len(passes)), dpi=150, layout="constrained"
    )
    grid = figure.subplots(
        len(passes), len(kinds), squeeze=False, width_ratios=[len(lengths[kind]) + 0.6 for kind in kinds]
    )
    for axes, which in zip(grid, passes, strict=True):
        for axis, kind in zip(axes, kinds, strict=True):
            mine = [row for row in rows if (row["pass"], row["batch"], row["dtype"]) == (which, *kind)]
            draw_bars(axis, mine, lengths[kind], models)
            axis.set_title(f"{which}, {kind[0]} lengths\n{kind[1]}", fontsize=10)
            axis.set_xlabel("length (tokens)")
        axes[0].set_ylabel("real tokens per second")
    handles = [Patch(color=f"C{number}", label=name) for number, name in enumerate(models)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(models), frameon=False)
    save_figure(figure, path)


def draw_bars(axis, rows: list[dict[str, str]], lengths: list[str], models: list[str]) -> None:
    for place, length in enumerate(lengths):
        there = [name for name in models if any((row["length"], row["model"]) == (length, name) for row in rows)]
        width = 0.8 / max(len(there), 1)
        for number, name in enumerate(there):
            (speed,) = (float(r["tokens_per_s"]) for r in rows if (r["length"], r["model"]) == (length, name))
            x = place + (number - (len(there) - 1) / 2) * width
            axis.bar(x, speed, width, label=name, color=f"C{models.index(name)}")
    axis.set_xticks(range(len(lengths)), lengths)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
