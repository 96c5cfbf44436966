#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Record the numbers that a refactoring must not move, and compare two recordings.

    OMP_NUM_THREADS=1 python benchmarks/same_numbers.py record outputs/numbers/before
    OMP_NUM_THREADS=1 python benchmarks/same_numbers.py record outputs/numbers/after
    python benchmarks/same_numbers.py compare outputs/numbers/before outputs/numbers/after

A recording holds logits, losses and gradients of every head, normalization and backend (padded, packed, windowed, in
three precisions), and of short training runs every batch and every loss: the quick start, pretraining with each way of
reading and packing, and fine-tuning. It uses public names and the two scripts only, so that it runs on other commits.
Run both recordings on one machine with one thread; `--parts` leaves some out (`quickstart` takes five minutes).
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import sys
from pathlib import Path


os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer
from transformers.trainer_utils import set_seed

import modeling_gau as gau


HEADS = {
    "masked_lm": gau.GAUForMaskedLM,
    "sequence": gau.GAUForSequenceClassification,
    "token": gau.GAUForTokenClassification,
    "question": gau.GAUForQuestionAnswering,
    "choice": gau.GAUForMultipleChoice,
}
NORMALIZATIONS = ("softmax", "softmax_plus", "squared_relu", "normalized_squared_relu")
BACKENDS = ("gau_auto", "eager", "gau_blocked", "gau_triton", "sdpa")
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "attention_key_size": 8,
    "num_hidden_layers": 3,
    "initializer_range": 0.4,  # at the usual scale every row of attention is nearly uniform
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "reference_length": 32,
}


# ---- The model ----


def record_model() -> dict[str, torch.Tensor]:
    """Outputs and gradients by the name of the case."""
    cases = {}
    for head, normalization, backend in itertools.product(HEADS, NORMALIZATIONS, BACKENDS):
        if backend == "sdpa" and "relu" in normalization:
            continue
        for padding in ("none", "right", "left"):
            name = f"{head}/{normalization}/{backend}/{padding}"
            cases[name] = run_model(HEADS[head], backend, padded_batch(padding), attention_normalization=normalization)
    for normalization, backend in itertools.product(NORMALIZATIONS, ("gau_auto", "eager", "gau_blocked")):
        name = f"masked_lm/{normalization}/{backend}"
        head, options = gau.GAUForMaskedLM, {"attention_normalization": normalization}
        for dtype in (torch.bfloat16, torch.float64):
            cases[f"{name}/{dtype}"] = run_model(head, backend, padded_batch("right"), dtype=dtype, **options)
        cases[f"{name}/window"] = run_model(head, backend, padded_batch("right"), sliding_window=3, **options)
        cases[f"{name}/packed"] = run_model(head, backend, packed_batch(), **options)
        cases[f"{name}/packed window"] = run_model(head, backend, packed_batch(), sliding_window=3, **options)
        cases[f"{name}/pairs"] = run_model(head, backend, pairs_batch(), **options)
        cases[f"{name}/biases"] = run_model(head, backend, padded_batch("right"), use_bias=True, **options)
        cases[f"{name}/dropout"] = run_model(
            head, backend, padded_batch("right"), attention_probs_dropout_prob=0.2, hidden_dropout_prob=0.1, **options
        )
        cases[f"{name}/padding kept"] = run_model(
            head, backend, padded_batch("right"), unpad_inputs=False, sparse_prediction=True, **options
        )
        if normalization in ("softmax_plus", "squared_relu"):
            cases[f"{name}/fixed n"] = run_model(head, backend, padded_batch("left"), fixed_n=100, **options)
    return cases


def run_model(head: type, backend: str, batch: dict, dtype: torch.dtype = torch.float32, **options) -> torch.Tensor:
    """Outputs, loss and gradients of all parameters, flattened, one after the other, in float64."""
    set_seed(1)
    model = head(gau.GAUConfig(**(SIZES | {"num_labels": 3} | options))).to(dtype)
    model.set_attn_implementation(backend)
    model.train()
    inputs = dict(batch)
    ids = inputs["input_ids"]
    generator = torch.Generator().manual_seed(2)
    if head is gau.GAUForMaskedLM:
        labels = torch.randint(40, ids.shape, generator=generator)
        inputs["labels"] = labels.masked_fill(torch.rand(ids.shape, generator=generator) < 0.6, -100)
    elif head is gau.GAUForTokenClassification:
        inputs["labels"] = torch.randint(3, ids.shape, generator=generator)
    elif head is gau.GAUForQuestionAnswering:
        inputs["start_positions"] = inputs["end_positions"] = torch.arange(len(ids)) + 3
    elif head is gau.GAUForMultipleChoice:
        inputs = {key: value.unflatten(0, (2, -1)) for key, value in inputs.items()}
        inputs["labels"] = torch.tensor([0, 1])
    else:
        inputs["labels"] = torch.arange(len(ids)) % 3
    outputs = model(**inputs)
    outputs.loss.backward()
    values = [value for value in outputs.values() if isinstance(value, torch.Tensor)]
    values += [p.grad for p in model.parameters() if p.grad is not None]
    return torch.cat([value.detach().double().flatten() for value in values])


def padded_batch(padding: str) -> dict[str, torch.Tensor]:
    """Four rows of 37 tokens; with padding 37, 20, 5 and 1 of them are real."""
    ids = torch.randint(5, 40, (4, 37), generator=torch.Generator().manual_seed(0))
    if padding == "none":
        return {"input_ids": ids}
    mask = (torch.arange(37) < torch.tensor([37, 20, 5, 1])[:, None]).long()
    mask = mask.flip(-1) if padding == "left" else mask
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def packed_batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 40, (1, 50), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "cu_seq_lens_q": torch.tensor([0, 20, 23, 50], dtype=torch.int32)}


def pairs_batch() -> dict[str, torch.Tensor]:
    """Two documents in each row, kept apart by a 4-D mask."""
    documents = torch.repeat_interleave(torch.arange(2), torch.tensor([15, 22]))
    mask = (documents[:, None] == documents)[None, None].expand(4, 1, -1, -1)
    return {"input_ids": padded_batch("none")["input_ids"], "attention_mask": mask}


# ---- Training runs ----


class Batches:
    """Digest of every batch, and every loss, of a run of the Trainer."""

    def __enter__(self):
        self.batches, self.losses, self.step = [], [], Trainer.training_step

        def training_step(trainer, model, inputs, *args, **kwargs):
            self.batches.append(digest_of(inputs))
            loss = self.step(trainer, model, inputs, *args, **kwargs)
            self.losses.append(loss.item())
            return loss

        Trainer.training_step = training_step
        return self

    def __exit__(self, *exception):
        Trainer.training_step = self.step


def digest_of(inputs: dict) -> str:
    found = hashlib.sha256()
    if "document_ids" in inputs:  # older batches held both
        inputs = {"attention_mask": inputs["document_ids"] != 0, **inputs}
    for name in ("input_ids", "labels", "attention_mask", "position_ids", "document_ids"):
        if name in inputs:
            value = inputs[name].long()
            found.update(f"{name}{tuple(value.shape)}".encode() + value.numpy().tobytes())
    return found.hexdigest()[:16]


def record_run(script, arguments: str, output_dir: Path) -> dict:
    with Batches() as seen:
        metrics = script.main([*arguments.split(), "--output_dir", str(output_dir), "--report_to", "none"])
    times = ("runtime", "per_second", "tokens_per", "mfu", "seconds", "flos", "timestamp", "throughput", "_time")
    kept = {key: value for key, value in metrics.items() if not any(word in key for word in times)}
    tokenizer = hashlib.sha256((output_dir / "tokenizer.json").read_bytes()).hexdigest()[:16]
    return {"tokenizer": tokenizer, "batches": seen.batches, "losses": seen.losses, "metrics": kept}


def write_texts(folder: Path) -> None:
    """120 documents of 5 to 1,200 words, and 400 labelled sentences; drawn, but the same everywhere."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnoprstuvw", k=generator.randint(2, 8))) for _ in range(800)]
    weights = [1 / (rank + 1) for rank in range(len(words))]

    def sentence(length: int) -> str:
        return " ".join(generator.choices(words, weights, k=length)) + "."

    documents = [
        " ".join(sentence(generator.randint(5, 15)) for _ in range(generator.randint(1, 90))) for _ in range(120)
    ]
    lines = [json.dumps({"text": text}) for text in documents]
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n")
    for name, count in (("train", 400), ("validation", 80)):
        rows = []
        for _ in range(count):
            text, other = sentence(generator.randint(3, 20)), sentence(generator.randint(3, 20))
            rows.append({"sentence1": text, "sentence2": other, "label": ["low", "high"][len(text) > len(other)]})
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def record_quickstart(folder: Path) -> dict:
    import run_pretrain

    arguments = "--config configuration/recipes/pretrain/quickstart.yaml --logging_steps 1"
    return {"quickstart": record_run(run_pretrain, arguments, folder / "quickstart")}


def record_pretraining(folder: Path) -> dict:
    import run_pretrain

    common = (
        f"--config_name gau-tiny --train_file {folder}/documents.jsonl --vocab_size 600 --max_seq_length 128 "
        "--max_steps 30 --per_device_train_batch_size 4 --learning_rate 2e-3 --save_strategy no --use_cpu "
        "--max_eval_tokens 4096 --logging_steps 1 --config_overrides num_hidden_layers=2,hidden_dropout_prob=0.1"
    )
    ways = {
        "rows": "",
        "documents": "--packing documents --gradient_accumulation_steps 2",
        "none": "--packing none",
        "streamed": "--streaming",
        "mixed": "--mixed_lengths 32 64 128",
        "words": "--whole_word_masking",
    }
    return {
        name: record_run(run_pretrain, f"{common} {options}", folder / f"pretraining-{name}")
        for name, options in ways.items()
    }


def record_fine_tuning(folder: Path) -> dict:
    import run_glue

    arguments = (
        f"--model_name_or_path {folder}/pretraining-rows --train_file {folder}/train.jsonl "
        f"--validation_file {folder}/validation.jsonl --max_steps 300 --per_device_train_batch_size 8 "
        "--learning_rate 5e-4 --save_strategy no --logging_steps 1 --use_cpu --do_train --do_eval"
    )
    return {"fine-tuning": record_run(run_glue, arguments, folder / "fine-tuning")}


# ---- Recording and comparing ----


def record(folder: Path, parts: list[str]) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    if "model" in parts:
        cases = record_model()
        save_file(cases, folder / "model.safetensors")
        print(f"{len(cases)} cases of the model.")
    write_texts(folder)
    functions = {"quickstart": record_quickstart, "pretraining": record_pretraining, "fine_tuning": record_fine_tuning}
    for part, function in functions.items():
        if part in parts:
            (folder / f"{part}.json").write_text(json.dumps(function(folder), indent=1))
            print(f"{part}: recorded.")


def compare(before: Path, after: Path) -> bool:
    """Prints what differs; True where all is the same, bit by bit."""
    same = True
    if (after / "model.safetensors").exists():
        same &= compare_cases(load_file(before / "model.safetensors"), load_file(after / "model.safetensors"))
    for part in ("quickstart", "pretraining", "fine_tuning"):
        if (after / f"{part}.json").exists():
            old, new = (json.loads((folder / f"{part}.json").read_text()) for folder in (before, after))
            for name in old:
                same &= compare_runs(name, old[name], new[name])
    return same


def compare_cases(old: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> bool:
    differing = {}
    for name in old:
        if name not in new or old[name].shape != new[name].shape:
            differing[name] = float("inf")
        elif not torch.equal(old[name], new[name]):
            differing[name] = ((old[name] - new[name]).norm() / old[name].norm()).item()
    print(f"model: {len(old) - len(differing)} of {len(old)} cases are equal bit by bit.")
    for name, distance in sorted(differing.items(), key=lambda item: -item[1])[:20]:
        print(f"  {name}: relative distance {distance:.1e}")
    return not differing


def compare_runs(name: str, old: dict, new: dict) -> bool:
    words = []
    if old["tokenizer"] != new["tokenizer"]:
        words.append("other tokenizer")
    batches = sum(a != b for a, b in zip(old["batches"], new["batches"], strict=False))
    batches += abs(len(old["batches"]) - len(new["batches"]))
    if batches:
        words.append(f"{batches} of {len(old['batches'])} batches differ")
    pairs = list(zip(old["losses"], new["losses"], strict=False))
    if any(a != b for a, b in pairs):
        first = next(step for step, (a, b) in enumerate(pairs) if a != b)
        largest = max(abs(a - b) for a, b in pairs)
        words.append(f"losses differ from step {first + 1} on, by at most {largest:.1e}")
    for key in sorted(old["metrics"].keys() & new["metrics"].keys()):
        if old["metrics"][key] != new["metrics"][key]:
            words.append(f"{key} {old['metrics'][key]} -> {new['metrics'][key]}")
    print(f"{name}: {'; '.join(words) or 'the same'} ({len(old['losses'])} losses)")
    return not words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=Path)
    parts = ["model", "quickstart", "pretraining", "fine_tuning"]
    recording.add_argument("--parts", nargs="+", choices=parts, default=parts)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.command == "record":
        record(args.folder, args.parts)
    elif not compare(args.before, args.after):
        sys.exit(1)


if __name__ == "__main__":
    main()
