#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune an encoder to label words: named entities, parts of speech.

    python examples/token_classification.py --model_name_or_path outputs/pretrained \\
        --train_file train.jsonl --validation_file validation.jsonl --output_dir outputs/entities

A file has one sentence a line, its words and a label for each, entities in the usual B-/I- form:

    {"tokens": ["Ada", "Lovelace", "lived", "in", "London"], "labels": ["B-PER", "I-PER", "O", "O", "B-LOC"]}

Every argument of transformers.TrainingArguments is one here. Entity scores are those of seqeval (CoNLL's).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from datasets import DatasetDict, List, Value, load_dataset
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

from modeling_gau.runs.recipes import parse_arguments


try:
    from seqeval.metrics import classification_report
except ImportError as error:
    raise ImportError('Entity scores need seqeval: pip install "modeling-gau[examples]"') from error


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
            raise ValueError(f"Missing: {', '.join(missing)}.\n\n{__doc__}")


def main(argv: list[str] | None = None) -> dict[str, float]:
    example_args, args = parse_arguments((ExampleArguments, TrainingArguments), argv, description=__doc__)
    set_seed(args.seed)

    rows = load_rows(example_args)
    names = label_names(rows)
    tokenizer = AutoTokenizer.from_pretrained(example_args.model_name_or_path)
    encode = partial(encode_batch, tokenizer=tokenizer, names=names, max_length=example_args.max_seq_length)
    inputs = rows.map(encode, batched=True, remove_columns=["tokens", "labels"], desc="Tokenising")

    model = AutoModelForTokenClassification.from_pretrained(
        example_args.model_name_or_path,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        dtype=torch.float32,  # the default is the precision of the file: too coarse to train in if that is bfloat16
    )
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=inputs["train"],
        eval_dataset=inputs["validation"],
        compute_metrics=partial(entity_scores, names=names),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),  # so that no logits are kept
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
    for split, path in (("train", example_args.train_file), ("validation", example_args.validation_file)):
        part = load_dataset("json", data_files=path, split="train")  # one file is one split, and has this name
        for column in ("tokens", "labels"):
            if part.features.get(column) != List(Value("string")):
                raise ValueError(f"{path}: {column} must be lists of words, but the columns are {part.features}.")
        for number, (tokens, labels) in enumerate(zip(part["tokens"], part["labels"], strict=True), start=1):
            if None in (tokens, labels) or None in (*tokens, *labels) or len(tokens) != len(labels):
                raise ValueError(f"{path}, row {number}: needs as many labels as tokens, and no null.")
        rows[split] = part.select_columns(["tokens", "labels"])
    return rows


def label_names(rows: DatasetDict) -> list[str]:
    """The labels of the training rows in alphabetical order, which is that of the model's outputs."""
    found = {split: {label for labels in part["labels"] for label in labels} for split, part in rows.items()}
    unknown = sorted(found["validation"] - found["train"])
    if unknown:
        raise ValueError(f"Labels of the validation file that no training row has: {', '.join(unknown)}.")
    return sorted(found["train"])


def encode_batch(
    batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, names: list[str], max_length: int
) -> dict[str, list]:
    """Model inputs with `labels`: the first token of a word has its label, all others -100, which the loss leaves out.

    Words are joined to a text first, as a pipeline will see it. With `is_split_into_words` a tokenizer on bytes takes
    each word for the beginning of a text, without the white space that is part of the tokens it was trained with.
    """
    texts = [" ".join(tokens) for tokens in batch["tokens"]]
    inputs = tokenizer(texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    ids = {name: index for index, name in enumerate(names)}
    all_labels = []
    for tokens, labels, offsets in zip(batch["tokens"], batch["labels"], inputs.pop("offset_mapping"), strict=True):
        # Where each word ends in the text; a token that begins with the space before its word still ends in the word.
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
    """Precision, recall and F1 over entities, and F1 for each kind; accuracy over words."""
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
    main()
