"""What does serving a classifier cost on the CPU? PyTorch in float32 and bfloat16, ONNX in float32 and int8.

    python benchmarks/benchmark_serving.py --model_name_or_path gau-sst2 --beside bert-sst2 modernbert-sst2 \\
        --task_name sst2 --validation_file sst2/validation.jsonl --threads 1 2 --output serving.csv
    python benchmarks/benchmark_serving.py --config_name gau-base --beside bert modernbert roformer \\
        --tokenizer_name gau-sst2 --validation_file sst2/validation.jsonl --rounds 3    # random weights, speed alone

GAUs are exported by `modeling_gau.export`, other models as usual: torch.onnx.export, ONNX Runtime's fusions, its
dynamic int8. The table has the size of the weights or the program on disk, the task's metric on the whole file,
its difference from the same model in PyTorch float32, the number of predictions that differ, and the time of a
batch of 1 and of 32 rows with the lengths of the data, tokenised before. All variants of all models run in one process
on the same rows, `--rounds` times in random order. Ratios are medians, and ranges, of the ratios within a round.
"""

import argparse
import copy
import inspect
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measurement import make_parser, spread, time_in_turns, write_results
from tqdm.auto import tqdm
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_gau import GAUConfig
from modeling_gau.export import export_model, load_exported
from modeling_gau.glue.labels import LabelEncoder, model_label_names, saved_label_names
from modeling_gau.glue.tasks import CLUE_TASKS, GLUE_TASKS, GlueTask
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
TASKS = {**GLUE_TASKS, **CLUE_TASKS}

Predict = Callable[[dict[str, torch.Tensor]], torch.Tensor]


@dataclass
class Classifier:
    """A model with its tokenizer, and its variants: name -> (threads -> function from a batch to logits, MB)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    variants: dict[str, tuple[Callable[[int], Predict], float]]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model_name_or_path", help="fine-tuned checkpoint")
    source.add_argument("--config_name", help="preset of a model with random weights, for the speed alone")
    parser.add_argument(
        "--beside",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="other checkpoints, each with its own tokenizer; with --config_name presets, or types of transformers "
        "such as bert or bert:hidden_size=192,num_attention_heads=3",
    )
    parser.add_argument("--tokenizer_name", help="where it is not the checkpoints'")
    parser.add_argument("--validation_file", type=Path, required=True, help="jsonl with the text columns and label")
    parser.add_argument("--text_columns", nargs="+", help="one or two; default: sentence, or sentence1 and sentence2")
    parser.add_argument("--task_name", choices=list(TASKS), default="sst2", help="whose classes and metric")
    parser.add_argument("--max_seq_length", type=int, default=512)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--timed_rows", type=int, default=96, help="rows that a round takes for each batch size")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument(
        "--cpu_time", action="store_true", help="processor time, for one thread of a machine that others use as well"
    )
    args = parser.parse_args(argv)
    if args.config_name and not args.tokenizer_name:
        parser.error("--config_name needs --tokenizer_name: a preset has no tokenizer.")
    if args.cpu_time and args.threads != [1]:
        parser.error("--cpu_time adds up the time of all threads: use it with --threads 1.")
    if BASELINE not in args.variants:
        parser.error(f"--variants must hold '{BASELINE}', with which the others are compared.")
    sources = [args.model_name_or_path or args.config_name, *args.beside]
    names = [Path(source.partition(":")[0]).name for source in sources]
    args.sources = dict(zip(names if len(set(names)) == len(names) else sources, sources, strict=True))
    if len(args.sources) < len(sources):
        parser.error("--beside names a model twice.")
    return args


def load(args: argparse.Namespace, source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or source)
    if args.model_name_or_path:
        model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
        return model.eval(), tokenizer
    torch.manual_seed(0)
    name, _, overrides = source.partition(":")
    known = {"model_type" if name in CONFIG_MAPPING else "config_name": name, "config_overrides": overrides or None}
    vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = resolve_config(ModelArguments(**known), **vocabulary)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for vector in (parameter for parameter in model.parameters() if parameter.ndim == 1):
            vector += 0.01 * torch.randn_like(vector)  # an export merges what is equal before training
    return model, tokenizer


def read_rows(args: argparse.Namespace) -> list[dict]:
    with open(args.validation_file, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    no_label = TASKS[args.task_name].no_label
    rows = [row for row in rows if no_label is None or row.get("label") != no_label]
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


def make_batches(args: argparse.Namespace, of: Classifier, rows: list[dict], size: int) -> list[dict]:
    batches, taken = [], inspect.signature(of.model.forward).parameters
    for start in range(0, len(rows), size):
        texts = [[row[name] for row in rows[start : start + size]] for name in args.text_columns]
        options = {"padding": True, "truncation": True, "max_length": args.max_seq_length, "return_tensors": "pt"}
        encoded = of.tokenizer(*texts, **options)
        batches.append({name: tensor for name, tensor in encoded.items() if name in taken})
    return batches


def torch_variant(model: PreTrainedModel, dtype: torch.dtype, folder: Path) -> tuple[Callable[[int], Predict], float]:
    model = copy.deepcopy(model).to(dtype)
    model.save_pretrained(folder)

    def predict(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            return model(**batch).logits

    return lambda threads: predict, sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6


def onnx_variant(model: PreTrainedModel, quantize: str | None, folder: Path, tokenizer: PreTrainedTokenizerBase):
    if isinstance(model.config, GAUConfig):
        export_model(model, folder, tokenizer, quantize=quantize)
    else:
        export_other(model, quantize, folder, tokenizer)

    def start(threads: int) -> Predict:
        run = load_exported(folder, threads)
        return lambda batch: run(batch)["logits"]

    return start, sum(file.stat().st_size for file in folder.glob("model.onnx*")) / 1e6


def export_other(model: PreTrainedModel, quantize: str | None, folder: Path, tokenizer: PreTrainedTokenizerBase):
    """Exports a model as users of transformers do, without what `modeling_gau.export` does for the int8 of a GAU.

    ONNX Runtime's optimizer finds no attention in graphs of today's transformers. It fuses bias and GELU, and sums
    before a LayerNorm, which a session does by itself as well: ModernBERT and RoFormer lose nothing without it. It
    fails on ModernBERT's LayerNorms without bias, and what it makes of RoFormer's embeddings fails in int8.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from onnxruntime.transformers import optimizer

    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")  # three quarters of the nodes of SDPA's graph
    path = str(export_model(model, folder, tokenizer).path)
    if model.config.model_type == "bert":
        sizes = {"num_heads": model.config.num_attention_heads, "hidden_size": model.config.hidden_size}
        optimizer.optimize_model(path, model_type="bert", **sizes).save_model_to_file(path)
    if quantize:
        folded = f"{path}.folded"
        quant_pre_process(path, folded, skip_symbolic_shape=True)
        # Full range saturates without VNNI.
        quantize_dynamic(folded, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
        Path(folded).unlink()


def make_classifier(args: argparse.Namespace, source: str, folder: Path) -> Classifier:
    model, tokenizer = load(args, source)
    classifier = Classifier(model, tokenizer, {})
    for name in tqdm(args.variants, desc=f"Exports of {source}"):
        (kind, precision), place = VARIANTS[name], folder / name.replace(" ", "-")
        place.parent.mkdir(exist_ok=True)
        made = torch_variant(model, precision, place) if kind == "torch" else None
        classifier.variants[name] = made or onnx_variant(model, precision, place, tokenizer)
    return classifier


def answers(task: GlueTask, predict: Predict, batches: list[dict[str, torch.Tensor]]) -> np.ndarray:
    return task.predictions_from_logits(torch.cat([predict(batch).float() for batch in batches])).numpy()


def measure_quality(args: argparse.Namespace, of: Classifier, rows: list[dict]) -> dict[str, dict]:
    """Variant -> metrics, how far they are from the baseline's, and number of predictions that are not its."""
    task, values, quality = TASKS[args.task_name], [row["label"] for row in rows], {}
    names = model_label_names(task, saved_label_names(of.model.config), do_train=False)
    encoder = LabelEncoder(task, names)
    encoder.check("validation", values, str(args.validation_file))
    labels, batches = np.array(encoder(values)), make_batches(args, of, rows, 32)
    found = {name: answers(task, start(args.threads[0]), batches) for name, (start, _) in of.variants.items()}
    scores = {name: task.compute_metrics(those, labels, names) for name, those in found.items()}
    for name, predictions in found.items():
        quality[name] = scores[name] | {f"{key}_change": x - scores[BASELINE][key] for key, x in scores[name].items()}
        if not task.is_regression:
            quality[name]["changed"] = int((predictions != found[BASELINE]).sum())
    return quality


def seconds_per_batch(run: tuple[Predict, list[dict]], clock: Callable[[], float]) -> float:
    predict, batches = run
    start = clock()
    for batch in batches:
        predict(batch)
    return (clock() - start) / len(batches)


def measure_speed(args: argparse.Namespace, classifiers: dict[str, Classifier], rows: list[dict]) -> dict:
    """(threads, model, variant, batch size) -> seconds of a batch, one number for each round."""
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[: args.timed_rows]]
    clock, times = time.process_time if args.cpu_time else time.perf_counter, {}
    for threads in args.threads:
        torch.set_num_threads(threads)
        started = {
            (model, variant): start(threads)
            for model, classifier in classifiers.items()
            for variant, (start, _) in classifier.variants.items()
        }
        for size in tqdm(args.batch_sizes, desc=f"Batch sizes with {threads} thread(s)"):
            batches = {model: make_batches(args, classifier, rows, size) for model, classifier in classifiers.items()}
            runs = {key: (predict, batches[key[0]]) for key, predict in started.items()}
            for predict, own in runs.values():
                predict(own[0])  # first calls allocate
            found = time_in_turns(runs, args.rounds, lambda run: seconds_per_batch(run, clock))
            times |= {(threads, *key, size): seconds for key, seconds in found.items()}
    return times


def quotients(name: str, slow: list[float], fast: list[float]) -> dict[str, float]:
    """Median, lowest and highest quotient within a round."""
    values = spread([a / b for a, b in zip(slow, fast, strict=True)])
    return {f"{name}{end}": value for end, value in zip(("", "_min", "_max"), values, strict=True)}


def speed_columns(args: argparse.Namespace, times: dict, threads: int, model: str, variant: str) -> dict:
    """For each batch size milliseconds, speed-up over PyTorch in float32, and how much faster the first model is."""
    columns, first = {}, next(iter(args.sources))
    for size in args.batch_sizes:
        own = times[threads, model, variant, size]
        columns |= quotients(f"ms_{size}", [1000 * seconds for seconds in own], [1.0] * len(own))
        columns[f"rows_per_second_{size}"] = 1000 * size / columns[f"ms_{size}"]
        columns |= quotients(f"speedup_{size}", times[threads, model, BASELINE, size], own)
        columns |= quotients(f"first_model_speedup_{size}", own, times[threads, first, variant, size])
    return columns


def print_tables(args: argparse.Namespace, results: list[dict], quality_names: list[str]) -> None:
    heads = ["model", "variant", "threads", "MB", *quality_names]
    for size in args.batch_sizes:
        heads += [f"batch {size} (ms)", "rows/s", "speed-up", "(range)"]
    table, beside = [heads], [["", "threads", *(f"batch {size}" for size in args.batch_sizes)]]
    first = next(iter(args.sources))
    for row in results:
        cells = [row["model"], row["variant"], str(row["threads"]), f"{row['megabytes']:.1f}"]
        cells += [str(row[name]) if isinstance(row[name], int) else f"{row[name]:.4f}" for name in quality_names]
        for size in args.batch_sizes:
            cells += [f"{row[f'ms_{size}']:.2f}", f"{row[f'rows_per_second_{size}']:.0f}"]
            cells += quotient_cells(row, f"speedup_{size}")
        table.append(cells)
        if row["model"] != first:
            words = [" ".join(quotient_cells(row, f"first_model_speedup_{size}")) for size in args.batch_sizes]
            beside.append([f"{row['variant']} of {row['model']}", str(row["threads"]), *words])
    print(f"\n{aligned(table, left=2)}")
    if len(beside) > 1:
        print(f"\nHow many times as fast the same variant of {first} is:\n{aligned(beside)}")


def quotient_cells(row: dict, name: str) -> list[str]:
    return [f"{row[name]:.2f}", f"({row[f'{name}_min']:.2f} to {row[f'{name}_max']:.2f})"]


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads[0])
    rows, results, quality_names = read_rows(args), [], []
    with tempfile.TemporaryDirectory() as work_dir:
        classifiers = {
            name: make_classifier(args, source, Path(work_dir) / str(index))
            for index, (name, source) in enumerate(args.sources.items())
        }
        quality = {name: {variant: {} for variant in args.variants} for name in classifiers}
        if args.model_name_or_path:
            quality = {name: measure_quality(args, of, rows) for name, of in tqdm(classifiers.items(), desc="Quality")}
        times = measure_speed(args, classifiers, rows)
    for threads in args.threads:
        known = {"threads": threads, "clock": "cpu" if args.cpu_time else "wall"}
        for model, classifier in classifiers.items():
            for variant, (_, megabytes) in classifier.variants.items():
                row = {"model": model} | known | {"variant": variant, "megabytes": megabytes}
                results.append(row | quality[model][variant] | speed_columns(args, times, threads, model, variant))
                quality_names = list(quality[model][variant])
    print_tables(args, results, quality_names)
    write_results(args.output, results)


if __name__ == "__main__":
    main()
