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
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoModelForMaskedLM

from modeling_gau import GAUConfig
from modeling_gau.pretraining.data import PretrainingData, length_stages, make_loader
from modeling_gau.pretraining.trainer import PretrainingArguments
from modeling_gau.runs.tables import aligned, write_csv
from modeling_gau.text.arguments import DataArguments
from modeling_gau.text.documents import read_documents
from modeling_gau.text.streaming import open_stream
from modeling_gau.text.tokenization import tokenize_documents, train_tokenizer


ROOT = Path(__file__).resolve().parent.parent
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_file", nargs="+", required=True)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of each measurement of the pipeline")
    parser.add_argument("--training_steps", type=int, default=4, help="of 4,096 tokens, of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="CSV file to write")
    return parser.parse_args()


def loader_of(kind: str, args: argparse.Namespace, tokenizer, stream, folder: str, steps: int):
    settings = {"train_file": args.train_file, **KINDS[kind]}
    data_args = DataArguments(**settings)
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


def training_speed(model, optimizer, batches) -> float:
    begin, tokens = time.perf_counter(), 0
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens += batch["input_ids"].numel()
    return tokens / (time.perf_counter() - begin)


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        documents = read_documents(DataArguments(train_file=args.train_file), seed=0, cache_dir=folder).splits["train"]
        tokenizer = train_tokenizer(documents, "wordpiece", 8192)
        begin = time.perf_counter()
        stream = tokenize_documents(documents, tokenizer)
        tokenising = len(stream) / (time.perf_counter() - begin)
        config = GAUConfig.from_pretrained(ROOT / "configuration/models/gau-tiny", sparse_prediction=True)
        model = AutoModelForMaskedLM.from_config(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        batches = list(loader_of("concat", args, tokenizer, stream, folder, args.training_steps))
        training_speed(model, optimizer, batches)  # first calls allocate
        speeds = {kind: [] for kind in ("training", *KINDS)}
        for _ in tqdm(range(args.rounds), desc="Rounds"):
            for kind in KINDS:
                loader = loader_of(kind, args, tokenizer, stream, folder, args.tokens // 4096)
                speeds[kind].append(pipeline_speed(loader))
                speeds["training"].append(training_speed(model, optimizer, batches))
    training = statistics.median(speeds["training"])
    rows = [{"kind": "tokenising ahead, once", "median": tokenising, "lowest": tokenising, "highest": tokenising}]
    rows += [
        {"kind": kind, "median": statistics.median(values), "lowest": min(values), "highest": max(values)}
        for kind, values in speeds.items()
    ]
    table = [["tokens a second", "median", "lowest", "highest", "× training"]]
    for row in rows:
        row["times_training"] = round(row["median"] / training, 2)
        numbers = [f"{row[name]:,.0f}" for name in ("median", "lowest", "highest")]
        table.append([row["kind"], *numbers, f"{row['times_training']:.1f}"])
    print(f"\n{aligned(table)}")
    if args.output:
        rounded = [{name: round(v, 2) if isinstance(v, float) else v for name, v in row.items()} for row in rows]
        write_csv(args.output, rounded)
        print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
