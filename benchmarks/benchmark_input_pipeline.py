r"""Does the input pipeline keep up? Tokens a second of batches alone, and of training gau-tiny on them, in one run.

    python benchmarks/benchmark_input_pipeline.py --train_file "corpus/train-*.jsonl" \
        --output benchmarks/results/input_pipeline.csv

Batches are made in this process, without data loader workers, ready to be trained on: cut, packed, masked, padded,
stacked. Map-style text is tokenised beforehand (its own line in the table); a stream is read, tokenised and packed as
it goes. Every kind is measured `--rounds` times in turn, and training in between.
"""

import argparse
import statistics
import tempfile
import time

import torch
from measurement import load_preset, make_parser, make_training_step, spread, write_results
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM

from modeling_gau.pretraining.data import PretrainingData, length_stages, make_loader
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.tables import aligned
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.documents import read_documents
from modeling_gau.text.streaming import open_stream
from modeling_gau.text.tokenization import tokenize_documents, train_tokenizer


KINDS = {
    "concat": {},
    "documents": {"packing": "documents"},
    "documents, whole words": {"packing": "documents", "whole_word_masking": True},
    "documents, mixed lengths": {"packing": "documents", "mixed_lengths": [64, 128, 256, 512]},
    "none": {"packing": "none"},
    "stream, concat": {"streaming": True},
    "stream, documents": {"streaming": True, "packing": "documents"},
}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--train_file", nargs="+", required=True)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of each measurement of the pipeline")
    parser.add_argument("--training_steps", type=int, default=4, help="of 4,096 tokens, of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def loader_of(kind: str, args: argparse.Namespace, tokenizer, stream, folder: str, steps: int):
    data_args = DataArguments(train_file=args.train_file, **KINDS[kind])
    training_args = PretrainingArguments(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=8, use_cpu=True, log_level="error"
    )
    training_args.log_level_replica = "error"
    train = open_stream(data_args, seed=0) if data_args.streaming else stream
    data = PretrainingData(tokenizer, train, {}, 0.0, "", None, {})
    return make_loader(data, data_args, training_args, length_stages(data_args))


def pipeline_speed(loader) -> float:
    begin = time.perf_counter()
    for _ in loader:
        pass
    return loader.totals.tokens / (time.perf_counter() - begin)


def training_speed(step, batches) -> float:
    begin = time.perf_counter()
    for batch in batches:
        step(batch)
    return sum(batch["input_ids"].numel() for batch in batches) / (time.perf_counter() - begin)


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        documents = read_documents(DataArguments(train_file=args.train_file), seed=0, cache_dir=folder).splits["train"]
        tokenizer = train_tokenizer(documents, "wordpiece", 8192)
        begin = time.perf_counter()
        stream = tokenize_documents(documents, tokenizer)
        tokenising = len(stream) / (time.perf_counter() - begin)
        model = AutoModelForMaskedLM.from_config(load_preset("gau-tiny", sparse_prediction=True))
        step = make_training_step(model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True), {}, bf16=True)
        batches = list(loader_of("concat", args, tokenizer, stream, folder, args.training_steps))
        training_speed(step, batches)  # first calls allocate
        speeds = {kind: [] for kind in ("training", *KINDS)}
        for _ in tqdm(range(args.rounds), desc="Rounds"):
            for kind in KINDS:
                loader = loader_of(kind, args, tokenizer, stream, folder, args.tokens // 4096)
                speeds[kind].append(pipeline_speed(loader))
                speeds["training"].append(training_speed(step, batches))
    table, rows = [["tokens a second", "median", "lowest", "highest", "× training"]], []
    for kind, values in ({"tokenising ahead, once": [tokenising]} | speeds).items():
        numbers, times = spread(values), statistics.median(values) / statistics.median(speeds["training"])
        table.append([kind, *(f"{number:,.0f}" for number in numbers), f"{times:.1f}"])
        rounded = (round(number, 2) for number in (*numbers, times))
        rows.append(
            dict(zip(("kind", "median", "lowest", "highest", "times_training"), (kind, *rounded), strict=True))
        )
    print(f"\n{aligned(table)}")
    write_results(args.output, rows)


if __name__ == "__main__":
    main()
