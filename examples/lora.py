#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune a sequence classifier with low-rank adapters (LoRA, arXiv 2106.09685) and merge them into its weights.

    python examples/lora.py --model_name_or_path outputs/pretrained \\
        --train_file train.csv --validation_file validation.csv --output_dir outputs/lora --learning_rate 1e-3

Files (csv, json or jsonl) have the columns sentence and label; the labels become the names of the classes:

    {"sentence": "a film to remember", "label": "positive"}

Writes the adapters, a few per cent of the model's size, and to merged/ a plain checkpoint that gives the same answers
without PEFT. All arguments of transformers.TrainingArguments work too.
"""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import ModelCardData
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

from modeling_gau.configuration_gau import GAUError
from modeling_gau.runs.command_line import fail, run_program
from modeling_gau.runs.locks import sole_owner
from modeling_gau.runs.model_card import ModelCardFacts, hub_link, literal, write_model_card
from modeling_gau.runs.models import load_with_new_head
from modeling_gau.runs.recipes import parse_arguments
from modeling_gau.runs.tables import code_span, literal_text


try:
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model
except ModuleNotFoundError:
    fail('LoRA needs PEFT: pip install "modeling-gau[peft]"')


@dataclass
class ExampleArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "Checkpoint: a directory or a Hub name."})
    train_file: str | None = field(default=None, metadata={"help": "csv, json or jsonl: columns sentence and label."})
    validation_file: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    max_seq_length: int = field(default=128, metadata={"help": "Tokens after which a sentence is cut."})
    lora_r: int = field(default=8, metadata={"help": "Rank of the adapters."})
    lora_alpha: int = field(default=16, metadata={"help": "The adapters' output is scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout on the input of the adapters."})
    # The two linear layers of a gated attention unit: the joint input projection and the output projection.
    target_modules: list[str] = field(
        default_factory=lambda: ["i_dense", "o_dense"], metadata={"help": "Names of the layers that get adapters."}
    )

    def __post_init__(self):
        needed = ("model_name_or_path", "train_file", "validation_file")
        missing = [f"--{name}" for name in needed if not vars(self)[name]]
        if missing:
            raise GAUError(f"Missing: {', '.join(missing)}. --help shows an example.")


def main(argv: list[str] | None = None) -> dict[str, float]:
    example_args, args = parse_arguments((ExampleArguments, TrainingArguments), argv, description=__doc__)
    with sole_owner(args):
        return train_and_evaluate(example_args, args)


def train_and_evaluate(example_args: ExampleArguments, args: TrainingArguments) -> dict[str, float]:
    set_seed(args.seed)

    rows = load_rows(example_args)
    names = [str(label) for label in sorted(set(rows["train"]["label"]))]
    tokenizer = AutoTokenizer.from_pretrained(example_args.model_name_or_path)

    def encode(batch: dict[str, list]) -> dict[str, list]:
        inputs = tokenizer(batch["sentence"], truncation=True, max_length=example_args.max_seq_length)
        return {**inputs, "labels": [names.index(str(label)) for label in batch["label"]]}

    inputs = rows.map(encode, batched=True, remove_columns=rows["train"].column_names, desc="Tokenising")

    model = add_adapters(example_args, names)
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=inputs["train"],
        eval_dataset=inputs["validation"],
        compute_metrics=accuracy,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()  # adapters, classifier and the name of the base checkpoint
    if trainer.is_world_process_zero():  # safetensors may leave weights to their owner alone
        folder = Path(args.output_dir)
        shutil.copymode(folder / "adapter_config.json", folder / "adapter_model.safetensors")

    metrics = trainer.evaluate()
    merged_dir = Path(args.output_dir) / "merged"
    metrics["eval_merged_difference"] = merge(trainer, merged_dir)
    metrics["eval_majority_class"] = majority_share(rows)
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        write_cards(example_args, Path(args.output_dir), rows, metrics)
    print(f"Merging changed the logits by at most {metrics['eval_merged_difference']:.1e}.")
    print(f"Wrote the adapters to {args.output_dir} and the merged model to {merged_dir}")
    return metrics


def load_rows(example_args: ExampleArguments) -> DatasetDict:
    rows = DatasetDict()
    # The cache of `datasets` takes a file for unchanged by its path and time of change, whatever it holds.
    read_again = {"split": "train", "download_mode": "force_redownload"}  # "train" is the name of the only split
    for split, path in (("train", example_args.train_file), ("validation", example_args.validation_file)):
        try:
            part = load_dataset("csv" if path.endswith(".csv") else "json", data_files=path, **read_again)
        except DatasetGenerationError as error:
            raise GAUError(f"{path} cannot be read: {error.__cause__ or error}") from error
        if not {"sentence", "label"} <= set(part.column_names):
            raise GAUError(f"{path}: expected the columns sentence and label, got {', '.join(part.column_names)}.")
        for number, (sentence, label) in enumerate(zip(part["sentence"], part["label"], strict=True), start=1):
            if not isinstance(sentence, str) or not isinstance(label, str | int):
                raise GAUError(f"{path}, row {number}: expected a text and a class, got {sentence!r} and {label!r}.")
        rows[split] = part.select_columns(["sentence", "label"])
    unknown = sorted(set(map(str, rows["validation"]["label"])) - set(map(str, rows["train"]["label"])))
    if unknown:
        raise GAUError(f"{example_args.validation_file}: these labels occur in no training row: {', '.join(unknown)}.")
    return rows


def add_adapters(example_args: ExampleArguments, names: list[str]) -> PeftModel:
    model = load_with_new_head(
        AutoModelForSequenceClassification,
        example_args.model_name_or_path,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        dtype=torch.float32,  # the default is the precision of the file, to which merging would round
    )
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,  # the new classifier is trained in full and saved with the adapters
        r=example_args.lora_r,
        lora_alpha=example_args.lora_alpha,
        lora_dropout=example_args.lora_dropout,
        target_modules=example_args.target_modules,
    )
    return get_peft_model(model, lora)


def accuracy(evaluation: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(evaluation.predictions.argmax(-1) == evaluation.label_ids))}


def merge(trainer: Trainer, merged_dir: Path) -> float:
    """Writes the merged model and returns the largest difference between its logits and those with adapters."""
    batch = BatchEncoding(next(iter(trainer.get_eval_dataloader())))
    expected = compute_logits(trainer.model, batch)
    merged = trainer.model.merge_and_unload()  # changes the model in place
    if trainer.is_world_process_zero():
        merged.save_pretrained(merged_dir)
        trainer.processing_class.save_pretrained(merged_dir)
    return float((compute_logits(merged, batch) - expected).abs().max())


def majority_share(rows: DatasetDict) -> float:
    """Accuracy on the validation rows of always answering the most frequent class of the training rows."""
    majority = Counter(map(str, rows["train"]["label"])).most_common(1)[0][0]
    return fmean(str(label) == majority for label in rows["validation"]["label"])


def write_cards(example_args: ExampleArguments, output_dir: Path, rows: DatasetDict, metrics: dict) -> None:
    """Replaces PEFT's draft of a card for the adapters, and writes one for the merged model."""
    name = output_dir.resolve().name
    classes = Counter(map(str, rows["train"]["label"]))
    data = (
        f"Fine-tuned with LoRA of rank {example_args.lora_r} on {len(rows['train']):,} rows of local text: "
        + ", ".join(f"{number:,} {code_span(label)}" for label, number in sorted(classes.items()))
        + "."
    )
    config = AutoConfig.from_pretrained(output_dir / "merged")
    facts = ModelCardFacts(
        model_name=f"{name}, merged",
        task="text-classification",
        config=config,
        example=rows["validation"]["sentence"][0],
        base_model=example_args.model_name_or_path,
        data_description=data,
        task_metrics={"accuracy": metrics["eval_accuracy"], "majority_class": metrics["eval_majority_class"]},
        eval_dataset_name=f"{len(rows['validation']):,} local rows",
    )
    write_model_card(output_dir / "merged", facts)
    id2label = dict(enumerate(sorted(classes)))
    own_code = "import modeling_gau\n" if config.model_type == "gau" else ""
    names = {"id2label": id2label, "label2id": {label: number for number, label in id2label.items()}}
    local = Path(example_args.model_name_or_path).exists()
    base = code_span(example_args.model_name_or_path) if local else hub_link(example_args.model_name_or_path)
    card = ModelCardData(
        library_name="peft",
        pipeline_tag="text-classification",
        base_model=None if local else example_args.model_name_or_path,
        tags=["lora"],
    )
    (output_dir / "README.md").write_text(
        f"""---
{card}
---

# {literal_text(name)}

LoRA adapters for {base}, which classify a text as {", ".join(map(code_span, sorted(classes)))}.
`merged/` is the same model without PEFT.

{data} Accuracy on {len(rows["validation"]):,} held-out rows: {metrics["eval_accuracy"]:.1%}; always answering the most
frequent class: {metrics["eval_majority_class"]:.1%}.

## How to use

```python
{own_code}from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

names = {names}
model = AutoPeftModelForSequenceClassification.from_pretrained({literal(output_dir.as_posix())}, **names)
tokenizer = AutoTokenizer.from_pretrained({literal(output_dir.as_posix())})
logits = model(**tokenizer({literal(facts.example)}, return_tensors="pt")).logits
print(names["id2label"][int(logits.argmax())])
```
""",
        encoding="utf-8",
    )


def compute_logits(model: torch.nn.Module, batch: BatchEncoding) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch.to(model.device)).logits


if __name__ == "__main__":
    run_program(main)
