#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune an encoder to label words: named entities, parts of speech.

    python examples/token_classification.py --model_name_or_path outputs/pretrained \\
        --train_file train.jsonl --validation_file validation.jsonl --output_dir outputs/entities

Files have one sentence per line, with a label for each word; entities use the usual B-/I- scheme:

    {"tokens": ["Ada", "Lovelace", "lived", "in", "London"], "labels": ["B-PER", "I-PER", "O", "O", "B-LOC"]}

All arguments of transformers.TrainingArguments work too. seqeval computes the entity scores (CoNLL's).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from datasets import DatasetDict, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from modeling_gau.configuration_gau import GAUError
from modeling_gau.runs.command_line import fail, run_program
from modeling_gau.runs.locks import sole_owner
from modeling_gau.runs.models import load_with_new_head
from modeling_gau.runs.recipes import parse_arguments


try:
    from seqeval.metrics import classification_report
except ModuleNotFoundError:
    fail('Entity scores need seqeval: pip install "modeling-gau[examples]"')


@dataclass
class ExampleArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "Checkpoint: a directory or a Hub name."})
    train_file: str | None = field(default=None, metadata={"help": "json or jsonl, columns tokens and labels."})
    validation_file: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    max_seq_length: int = field(default=128, metadata={"help": "Tokens after which a sentence is cut."})

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
    names = label_names(rows)
    tokenizer = AutoTokenizer.from_pretrained(example_args.model_name_or_path)
    encode = partial(encode_batch, tokenizer=tokenizer, names=names, max_length=example_args.max_seq_length)
    inputs = rows.map(encode, batched=True, remove_columns=["tokens", "labels"], desc="Tokenising")

    model = load_with_new_head(
        AutoModelForTokenClassification,
        example_args.model_name_or_path,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        dtype=torch.float32,  # the default is the precision of the file; bfloat16 is too coarse for training
    )
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=inputs["train"],
        eval_dataset=inputs["validation"],
        compute_metrics=partial(entity_scores, names=names),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),  # keeps the logits out of memory
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()

    metrics = trainer.evaluate()
    metrics["eval_words"] = sum(map(len, rows["validation"]["labels"]))
    metrics["eval_words_cut_off"] = metrics["eval_words"] - count_labelled(inputs["validation"]["labels"])
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    print(f"Wrote the model, its tokenizer and eval_results.json to {args.output_dir}")
    return metrics


def load_rows(example_args: ExampleArguments) -> DatasetDict:
    rows = DatasetDict()
    # The cache of `datasets` takes a file for unchanged by its path and time of change, whatever it holds.
    read_again = {"split": "train", "download_mode": "force_redownload"}  # "train" is the name of the only split
    for split, path in (("train", example_args.train_file), ("validation", example_args.validation_file)):
        try:
            part = load_dataset("json", data_files=path, **read_again)
        except DatasetGenerationError as error:
            raise GAUError(f"{path} cannot be read: {error.__cause__ or error}") from error
        for column in ("tokens", "labels"):
            if part.features.get(column) != List(Value("string")):
                raise GAUError(f"{path}: {column} must be lists of words; the columns are {part.features}.")
        for number, (tokens, labels) in enumerate(zip(part["tokens"], part["labels"], strict=True), start=1):
            if None in (tokens, labels) or None in (*tokens, *labels) or len(tokens) != len(labels):
                raise GAUError(f"{path}, row {number}: expected one label per token, and no null.")
        rows[split] = part.select_columns(["tokens", "labels"])
    return rows


def label_names(rows: DatasetDict) -> list[str]:
    """The labels of the training rows in alphabetical order, the order of the model's outputs."""
    found = {split: {label for labels in part["labels"] for label in labels} for split, part in rows.items()}
    unknown = sorted(found["validation"] - found["train"])
    if unknown:
        raise GAUError(f"The validation file has labels that occur in no training row: {', '.join(unknown)}.")
    return sorted(found["train"])


def encode_batch(
    batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, names: list[str], max_length: int
) -> dict[str, list]:
    """Model inputs with `labels`: the word's label for its first token, -100, which the loss ignores, for all others.

    Words are first joined to a text, which is what a pipeline gets. With `is_split_into_words`, a byte-level tokenizer
    would treat each word as the start of a text, without the leading space of its tokens.
    """
    texts = [" ".join(tokens) for tokens in batch["tokens"]]
    inputs = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    ids = {name: index for index, name in enumerate(names)}
    all_labels = []
    for tokens, labels, offsets in zip(batch["tokens"], batch["labels"], inputs.pop("offset_mapping"), strict=True):
        # Ends of the words in the text. A token may start at the space before its word, but ends inside the word.
        ends = np.cumsum([len(token) + 1 for token in tokens]) - 1
        row, last_word = [], -1
        for start, end in offsets:
            word = int(np.searchsorted(ends, end))
            is_first = end > start and word > last_word  # special tokens are empty
            row.append(ids[labels[word]] if is_first else -100)
            last_word = word if is_first else last_word
        all_labels.append(row)
    return {**inputs, "labels": all_labels}


def count_labelled(labels: Iterable[list[int]]) -> int:
    return sum(label != -100 for row in labels for label in row)


def entity_scores(evaluation: EvalPrediction, names: list[str]) -> dict[str, float]:
    """Precision, recall and F1 over entities, F1 of each kind, and accuracy over words."""
    labelled = [row != -100 for row in evaluation.label_ids]
    references = [[names[i] for i in row[mask]] for row, mask in zip(evaluation.label_ids, labelled, strict=True)]
    predictions = [[names[i] for i in row[mask]] for row, mask in zip(evaluation.predictions, labelled, strict=True)]
    pairs = [pair for rows in zip(references, predictions, strict=True) for pair in zip(*rows, strict=True)]
    scores = {"accuracy": float(np.mean([reference == prediction for reference, prediction in pairs]))}
    if not all(name == "O" or name.startswith(("B-", "I-")) for name in names):
        return scores  # parts of speech and the like: no entities
    report = classification_report(references, predictions, output_dict=True, zero_division=0)
    overall, kinds = report["micro avg"], sorted(report.keys() - {"micro avg", "macro avg", "weighted avg"})
    scores |= {"precision": overall["precision"], "recall": overall["recall"], "f1": overall["f1-score"]}
    scores |= {f"f1_{kind}": report[kind]["f1-score"] for kind in kinds}
    return {name: float(score) for name, score in scores.items()}


if __name__ == "__main__":
    run_program(main)
