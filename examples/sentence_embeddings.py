#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Train sentence embeddings on pairs with sentence-transformers; an embedding is the mean over the tokens.

    python examples/sentence_embeddings.py --model_name_or_path outputs/pretrained \\
        --train_file pairs.jsonl --validation_file scored.jsonl --output_dir outputs/embeddings \\
        --batch_sampler no_duplicates

The training file (csv, json or jsonl) has two matching texts per line, such as a question and its answer. Positives
of the other pairs in a batch serve as negatives, so large batches help:

    {"anchor": "how do I get there", "positive": "the way to the station"}

The validation file has pairs and their similarity, on any scale:

    {"sentence1": "a man plays", "sentence2": "someone is playing", "score": 4.2}

All arguments of SentenceTransformerTrainingArguments work too, and so those of transformers.TrainingArguments.
"""

from dataclasses import dataclass, field

import torch
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers import set_seed

from modeling_gau.configuration_gau import GAUError
from modeling_gau.runs.command_line import fail, run_program
from modeling_gau.runs.locks import sole_owner
from modeling_gau.runs.recipes import parse_arguments


try:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
except ModuleNotFoundError:
    fail('Sentence embeddings need sentence-transformers 6: pip install "modeling-gau[sentence-transformers]"')


COLUMNS = {"train": ["anchor", "positive"], "validation": ["sentence1", "sentence2", "score"]}


@dataclass
class ExampleArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "Checkpoint: a directory or a Hub name."})
    train_file: str | None = field(default=None, metadata={"help": "csv, json or jsonl: columns anchor and positive."})
    validation_file: str | None = field(default=None, metadata={"help": "Columns sentence1, sentence2 and score."})
    max_seq_length: int = field(
        default=128, metadata={"help": "Tokens after which a text is cut; saved with the model."}
    )
    pooling: str = field(default="mean", metadata={"help": "How tokens become one vector: mean, cls, max, ..."})

    def __post_init__(self):
        needed = ("model_name_or_path", "train_file", "validation_file")
        missing = [f"--{name}" for name in needed if not vars(self)[name]]
        if missing:
            raise GAUError(f"Missing: {', '.join(missing)}. --help shows an example.")


def main(argv: list[str] | None = None) -> dict[str, float]:
    example_args, args = parse_arguments(
        (ExampleArguments, SentenceTransformerTrainingArguments), argv, description=__doc__
    )
    with sole_owner(args):
        return train_and_evaluate(example_args, args)


def train_and_evaluate(example_args: ExampleArguments, args: SentenceTransformerTrainingArguments) -> dict[str, float]:
    set_seed(args.seed)

    rows = load_rows(example_args)
    model = build_model(example_args, str(args.device))
    evaluator = EmbeddingSimilarityEvaluator(
        *(rows["validation"][column] for column in COLUMNS["validation"]),
        batch_size=args.per_device_eval_batch_size,
        write_csv=False,
    )
    results = {f"before_{name}": value for name, value in evaluator(model).items()}
    trainer = SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=rows["train"],
        loss=MultipleNegativesRankingLoss(model),
        evaluator=evaluator,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()

    loaded = SentenceTransformer(args.output_dir, device=str(args.device))
    results |= {f"after_{name}": value for name, value in evaluator(loaded).items()}
    trainer.log_metrics("eval", results)
    trainer.save_metrics("eval", results)
    print(f"Wrote the model, its tokenizer and eval_results.json to {args.output_dir}")
    return results


def load_rows(example_args: ExampleArguments) -> DatasetDict:
    rows = DatasetDict()
    # The cache of `datasets` takes a file for unchanged by its path and time of change, whatever it holds.
    read_again = {"split": "train", "download_mode": "force_redownload"}  # "train" is the name of the only split
    for split, path in (("train", example_args.train_file), ("validation", example_args.validation_file)):
        try:
            part = load_dataset("csv" if path.endswith(".csv") else "json", data_files=path, **read_again)
        except DatasetGenerationError as error:
            raise GAUError(f"{path} cannot be read: {error.__cause__ or error}") from error
        missing = [column for column in COLUMNS[split] if column not in part.column_names]
        if missing:
            raise GAUError(
                f"{path}: expected the columns {', '.join(COLUMNS[split])}, got {', '.join(part.column_names)}."
            )
        rows[split] = check_rows(path, part.select_columns(COLUMNS[split]))
    return rows


def check_rows(path: str, rows: Dataset) -> Dataset:
    for number, row in enumerate(rows, start=1):
        for column, value in row.items():
            kinds, kind = ((int, float), "a number") if column == "score" else (str, "a text")
            if not isinstance(value, kinds):
                raise GAUError(f"{path}, row {number}: {column} must be {kind}, got {value!r}.")
    return rows


def build_model(example_args: ExampleArguments, device: str) -> SentenceTransformer:
    """The encoder of a checkpoint, without its head, and pooling over the tokens without padding."""
    encoder = Transformer(
        example_args.model_name_or_path,
        max_seq_length=example_args.max_seq_length,
        model_kwargs={"dtype": torch.float32},  # the default is the precision of the file, even for training
    )
    return SentenceTransformer(
        modules=[encoder, Pooling(encoder.get_embedding_dimension(), example_args.pooling)], device=device
    )


if __name__ == "__main__":
    run_program(main)
