"""What serving a fine-tuned classifier costs: PyTorch in float32 and bfloat16, ONNX in float32 and int8, on the CPU.

    python benchmarks/benchmark_serving.py --model_name_or_path my-sst2 --task_name sst2 \\
        --validation_file sst2/validation.jsonl --threads 1 --output benchmarks/results/serving.csv

Measured are the task's metric on the whole file, how many predictions differ from those of PyTorch in float32, the
size of the weights or the program on the disk, and the time of a batch of 1 and of 32 rows with the lengths of the
data, tokenised before. All variants run in one process, one after the other on the same rows, `--rounds` times in
random order; speed-ups are medians, and ranges, of the quotients within a round. With `--config_name gau-base` and
`--tokenizer_name` in place of a checkpoint, a model with random weights shows the speed alone.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measurement import make_parser, spread, time_in_turns, write_results
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from modeling_gau.export import export_model, load_exported
from modeling_gau.glue.metrics import TASK_METRICS, GlueMetric
from modeling_gau.runs.arguments import ModelArguments
from modeling_gau.runs.models import resolve_config
from modeling_gau.runs.tables import aligned


VARIANTS = {
    "PyTorch float32": ("torch", torch.float32),
    "PyTorch bfloat16": ("torch", torch.bfloat16),
    "ONNX float32": ("onnx", None),
    "ONNX int8": ("onnx", "int8"),
}
BASELINE = "PyTorch float32"

Predict = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model_name_or_path", help="fine-tuned checkpoint")
    source.add_argument("--config_name", help="preset of a model with random weights, for the speed alone")
    parser.add_argument("--tokenizer_name", help="where it is not the checkpoint's")
    parser.add_argument("--validation_file", type=Path, required=True, help="jsonl with the text columns and label")
    parser.add_argument("--text_columns", nargs="+", help="one or two; default: sentence, or sentence1 and sentence2")
    parser.add_argument("--task_name", choices=list(TASK_METRICS), default="sst2", help="whose metric is computed")
    parser.add_argument("--max_seq_length", type=int, default=512)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--timed_rows", type=int, default=96, help="rows that a round takes for each batch size")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu_time", action="store_true", help="processor time, for one thread of a machine that others use as well"
    )
    args = parser.parse_args()
    if args.config_name and not args.tokenizer_name:
        parser.error("--config_name needs --tokenizer_name: a preset has no tokenizer.")
    if args.cpu_time and args.threads != 1:
        parser.error("--cpu_time adds up the time of all threads: use it with --threads 1.")
    if BASELINE not in args.variants:
        parser.error(f"--variants must hold '{BASELINE}', with which the others are compared.")
    return args


def load_model(args: argparse.Namespace) -> PreTrainedModel:
    if args.model_name_or_path:
        return AutoModelForSequenceClassification.from_pretrained(args.model_name_or_path, dtype=torch.float32).eval()
    torch.manual_seed(0)
    config = resolve_config(ModelArguments(config_name=args.config_name))
    return AutoModelForSequenceClassification.from_config(config).eval()


def read_rows(args: argparse.Namespace) -> list[dict]:
    with open(args.validation_file, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if args.text_columns is None:
        args.text_columns = ["sentence"] if "sentence" in rows[0] else ["sentence1", "sentence2"]
    for number, row in enumerate(rows, start=1):
        missing = [name for name in (*args.text_columns, "label") if name not in row]
        if missing:
            raise ValueError(
                f"Row {number} of {args.validation_file} has no {', '.join(missing)}, only {', '.join(row)}. "
                "Name the text columns with --text_columns."
            )
    return rows


def make_batches(args: argparse.Namespace, tokenizer, rows: list[dict], size: int) -> list[dict[str, torch.Tensor]]:
    batches = []
    for start in range(0, len(rows), size):
        texts = [[row[name] for row in rows[start : start + size]] for name in args.text_columns]
        options = {"padding": True, "truncation": True, "max_length": args.max_seq_length, "return_tensors": "pt"}
        batches.append(dict(tokenizer(*texts, **options)))
    return batches


def torch_variant(model: PreTrainedModel, dtype: torch.dtype, folder: Path) -> tuple[Predict, float]:
    model = copy.deepcopy(model).to(dtype)
    model.save_pretrained(folder)

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            return model(**batch).logits

    return predict, sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6


def onnx_variant(model: PreTrainedModel, quantize: str | None, folder: Path, tokenizer, threads: int):
    exported = export_model(model, folder, tokenizer, quantize=quantize)
    run = load_exported(folder, threads)
    return lambda batch: run(batch)["logits"], exported.path.stat().st_size / 1e6


def make_variant(args: argparse.Namespace, name: str, model: PreTrainedModel, tokenizer, folder: Path):
    """(function from a batch to logits, size on the disk in MB)."""
    kind, precision = VARIANTS[name]
    if kind == "torch":
        return torch_variant(model, precision, folder)
    return onnx_variant(model, precision, folder, tokenizer, args.threads)


def answers(args: argparse.Namespace, predict: Predict, batches: list[dict[str, torch.Tensor]]) -> np.ndarray:
    logits = torch.cat([predict(batch).float() for batch in batches]).numpy()
    return logits[:, 0] if args.task_name == "stsb" else logits.argmax(-1)


def seconds_per_batch(predict: Predict, batches: list[dict[str, torch.Tensor]], clock: Callable[[], float]) -> float:
    start = clock()
    for batch in batches:
        predict(batch)
    return (clock() - start) / len(batches)


def measure_speed(args: argparse.Namespace, variants: dict[str, Predict], tokenizer, rows: list[dict]) -> dict:
    """(variant, batch size) -> seconds of a batch, one number for each round."""
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[: args.timed_rows]]
    clock, times = time.process_time if args.cpu_time else time.perf_counter, {}
    for size in tqdm(args.batch_sizes, desc="Batch sizes"):
        batches = make_batches(args, tokenizer, rows, size)
        for predict in variants.values():
            predict(batches[0])  # first calls allocate
        found = time_in_turns(
            variants, args.rounds, lambda predict, batches=batches: seconds_per_batch(predict, batches, clock)
        )
        times |= {(name, size): seconds for name, seconds in found.items()}
    return times


def speed_columns(times: dict, name: str, size: int) -> dict:
    """Milliseconds of a batch and speed-up over the baseline: median, lowest and highest of the rounds."""
    milliseconds = spread([1000 * second for second in times[name, size]])
    gains = spread([base / second for base, second in zip(times[BASELINE, size], times[name, size], strict=True)])
    columns = {f"ms_{size}{end}": number for end, number in zip(("", "_min", "_max"), milliseconds, strict=True)}
    columns[f"rows_per_second_{size}"] = 1000 * size / milliseconds[0]
    return columns | {f"speedup_{size}{end}": gain for end, gain in zip(("", "_min", "_max"), gains, strict=True)}


def measure_quality(args: argparse.Namespace, variants: dict[str, Predict], tokenizer, rows: list[dict], labels):
    """Variant -> metrics and number of predictions that are not the baseline's."""
    batches = make_batches(args, tokenizer, rows, 32)
    found = {name: answers(args, predict, batches) for name, predict in tqdm(variants.items(), desc="Quality")}
    metric, quality = GlueMetric(args.task_name), {}
    for name, predictions in found.items():
        quality[name] = metric.compute(predictions=predictions, references=labels)
        if args.task_name != "stsb":
            quality[name]["changed"] = int((predictions != found[BASELINE]).sum())
    return quality


def print_table(results: list[dict], quality_names: list[str], sizes: list[int]) -> None:
    heads = ["variant", "MB", *quality_names]
    for size in sizes:
        heads += [f"batch {size} (ms)", "rows/s", "speed-up", "(range)"]
    table = [heads]
    for row in results:
        cells = [row["variant"], f"{row['megabytes']:.1f}"]
        cells += [str(row[name]) if isinstance(row[name], int) else f"{row[name]:.4f}" for name in quality_names]
        for size in sizes:
            cells += [f"{row[f'ms_{size}']:.2f}", f"{row[f'rows_per_second_{size}']:.0f}"]
            cells.append(f"{row[f'speedup_{size}']:.2f}")
            cells.append(f"({row[f'speedup_{size}_min']:.2f} to {row[f'speedup_{size}_max']:.2f})")
        table.append(cells)
    print(f"\n{aligned(table)}")


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    rows = read_rows(args)
    model = load_model(args)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or args.model_name_or_path)
    with tempfile.TemporaryDirectory() as work_dir:
        made = {
            name: make_variant(args, name, model, tokenizer, Path(work_dir) / name.replace(" ", "-"))
            for name in tqdm(args.variants, desc="Exports")
        }
        variants = {name: predict for name, (predict, _) in made.items()}
        quality = {name: {} for name in variants}
        if args.model_name_or_path:
            ids = model.config.label2id
            labels = [ids[row["label"]] if isinstance(row["label"], str) else row["label"] for row in rows]
            quality = measure_quality(args, variants, tokenizer, rows, labels)
        times = measure_speed(args, variants, tokenizer, rows)
    known = {"model": Path(args.model_name_or_path or args.config_name).name, "threads": args.threads}
    known["clock"] = "cpu" if args.cpu_time else "wall"
    results = []
    for name, (_, megabytes) in made.items():
        speeds = {key: value for size in args.batch_sizes for key, value in speed_columns(times, name, size).items()}
        results.append(known | {"variant": name, "megabytes": megabytes} | quality[name] | speeds)
    print_table(results, list(quality[BASELINE]), args.batch_sizes)
    write_results(args.output, results)


if __name__ == "__main__":
    main()
