#!/usr/bin/env python
# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Fine-tune an encoder for extractive question answering, as in SQuAD.

    python examples/question_answering.py --model_name_or_path outputs/pretrained \\
        --train_file train.jsonl --validation_file validation.jsonl --output_dir outputs/answers

Files have one question per line; answer_start counts characters, and there may be several right answers:

    {"id": "1", "context": "Ada lived in London.", "question": "Where did Ada live?",
     "answers": {"text": ["London"], "answer_start": [13]}}

With --version_2_with_negative, as in SQuAD 2, empty lists mean that the text does not answer the question. Long texts
are read in overlapping windows. All arguments of transformers.TrainingArguments work too.
"""

import json
import re
import string
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from modeling_gau.configuration_gau import GAUError
from modeling_gau.runs.command_line import run_program
from modeling_gau.runs.locks import sole_owner
from modeling_gau.runs.models import load_with_new_head
from modeling_gau.runs.recipes import parse_arguments


COLUMNS = ["id", "context", "question", "answers"]


@dataclass
class ExampleArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "Checkpoint: a directory or a Hub name."})
    train_file: str | None = field(default=None, metadata={"help": "json or jsonl with the columns of SQuAD."})
    validation_file: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    version_2_with_negative: bool = field(default=False, metadata={"help": "Some questions have no answer."})
    null_score_diff_threshold: float = field(
        default=0.0, metadata={"help": "Margin by which 'no answer' must beat the best answer."}
    )
    max_seq_length: int = field(default=384, metadata={"help": "Tokens of a window, including the question."})
    doc_stride: int = field(default=128, metadata={"help": "Tokens that neighbouring windows share."})
    n_best_size: int = field(default=20, metadata={"help": "Answers to write for each question."})
    max_answer_length: int = field(default=30, metadata={"help": "Most tokens of an answer."})

    def __post_init__(self):
        needed = ("model_name_or_path", "train_file", "validation_file")
        missing = [f"--{name}" for name in needed if not vars(self)[name]]
        if missing:
            raise GAUError(f"Missing: {', '.join(missing)}. --help shows an example.")


def main(argv: list[str] | None = None) -> dict[str, float]:
    example_args, args = parse_arguments((ExampleArguments, TrainingArguments), argv, description=__doc__)
    if args.train_sampling_strategy == "group_by_length":
        raise GAUError(
            "--train_sampling_strategy group_by_length shuffles the windows of an evaluation: drop the option."
        )
    with sole_owner(args):
        return train_and_evaluate(example_args, args)


def train_and_evaluate(example_args: ExampleArguments, args: TrainingArguments) -> dict[str, float]:
    set_seed(args.seed)

    rows = load_rows(example_args)
    # Answer positions count from the left.
    tokenizer = AutoTokenizer.from_pretrained(example_args.model_name_or_path, padding_side="right")
    windows = rows.map(
        partial(make_windows, tokenizer=tokenizer, example_args=example_args),
        batched=True,
        with_indices=True,
        remove_columns=COLUMNS,
        desc="Tokenising",
    )
    model = load_with_new_head(
        AutoModelForQuestionAnswering,
        example_args.model_name_or_path,
        dtype=torch.float32,  # the default is the precision of the file; bfloat16 is too coarse for training
    )

    def compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
        answers = find_answers(rows["validation"], windows["validation"], evaluation.predictions, example_args)
        return squad_scores(rows["validation"], [found[0]["text"] for found in answers])

    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=windows["train"],
        eval_dataset=windows["validation"],
        compute_metrics=compute_metrics,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()

    prediction = trainer.predict(windows["validation"], metric_key_prefix="eval")
    trainer.log_metrics("eval", prediction.metrics)
    trainer.save_metrics("eval", prediction.metrics)
    if trainer.is_world_process_zero():
        answers = find_answers(rows["validation"], windows["validation"], prediction.predictions, example_args)
        text = json.dumps(dict(zip(rows["validation"]["id"], answers, strict=True)), ensure_ascii=False, indent=2)
        (Path(args.output_dir) / "nbest_predictions.json").write_text(text, encoding="utf-8")
    print(f"Wrote the model, its tokenizer, eval_results.json and nbest_predictions.json to {args.output_dir}")
    return prediction.metrics


def load_rows(example_args: ExampleArguments) -> DatasetDict:
    rows = DatasetDict()
    # The cache of `datasets` takes a file for unchanged by its path and time of change, whatever it holds.
    read_again = {"split": "train", "download_mode": "force_redownload"}  # "train" is the name of the only split
    for split, path in (("train", example_args.train_file), ("validation", example_args.validation_file)):
        try:
            part = load_dataset("json", data_files=path, **read_again)
        except DatasetGenerationError as error:
            raise GAUError(f"{path} cannot be read: {error.__cause__ or error}") from error
        if not set(COLUMNS) <= set(part.column_names) or not isinstance(part.features["answers"], dict):
            raise GAUError(f"{path}: expected the columns of SQuAD ({', '.join(COLUMNS)}), got {part.features}.")
        for number, row in enumerate(part, start=1):
            check_row(f"{path}, row {number}", row, example_args.version_2_with_negative)
        rows[split] = part.select_columns(COLUMNS)
    return rows


def check_row(where: str, row: dict, may_lack_answer: bool) -> None:
    missing = [column for column in COLUMNS if row[column] is None]
    if missing:
        raise GAUError(f"{where}: has no {', '.join(missing)}.")
    if not row["answers"]["text"] and not may_lack_answer:
        raise GAUError(f"{where}: has no answer. To allow this, pass --version_2_with_negative.")
    for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
        if row["context"][start : start + len(text)] != text:
            raise GAUError(f"{where}: the context does not have the answer {text!r} at character {start}.")


def make_windows(
    batch: dict[str, list], indices: list[int], tokenizer: PreTrainedTokenizerBase, example_args: ExampleArguments
) -> dict[str, list]:
    """Model inputs of every window, with its `row` and the characters of the context's tokens (`offsets`).

    The positions are those of the first answer, or 0, that is [CLS], if the window does not contain all of it.
    """
    longest = max(map(len, tokenizer(batch["question"], add_special_tokens=False).input_ids))
    room = example_args.max_seq_length - longest - tokenizer.num_special_tokens_to_add(pair=True)
    if room <= example_args.doc_stride:
        raise GAUError(
            f"--max_seq_length {example_args.max_seq_length} leaves {room} tokens for the text after a question of "
            f"{longest}, fewer than windows share (--doc_stride {example_args.doc_stride})."
        )
    inputs = tokenizer(
        batch["question"],
        batch["context"],
        truncation="only_second",
        max_length=example_args.max_seq_length,
        stride=example_args.doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = {name: inputs[name] for name in tokenizer.model_input_names}
    windows |= {name: [] for name in ("row", "offsets", "start_positions", "end_positions")}
    for window, owner in enumerate(inputs["overflow_to_sample_mapping"]):
        pairs = zip(inputs["offset_mapping"][window], inputs.sequence_ids(window), strict=True)
        offsets = [pair if sequence == 1 else None for pair, sequence in pairs]
        start, end = find_span(offsets, batch["answers"][owner])
        windows["row"].append(indices[owner])
        windows["offsets"].append(offsets)
        windows["start_positions"].append(start)
        windows["end_positions"].append(end)
    return windows


def find_span(offsets: list[tuple[int, int] | None], answers: dict[str, list]) -> tuple[int, int]:
    """The first and the last token of the first answer."""
    context = [token for token, pair in enumerate(offsets) if pair is not None]
    if not answers["text"] or not context:
        return 0, 0
    text = answers["text"][0]
    start = answers["answer_start"][0] + len(text) - len(text.lstrip())  # no token ends in white space
    end = start + len(text.strip())
    inside = [token for token in context if offsets[token][0] < end and offsets[token][1] > start]
    is_whole = offsets[context[0]][0] <= start and end <= offsets[context[-1]][1]
    return (inside[0], inside[-1]) if inside and is_whole else (0, 0)


def find_answers(
    rows: Dataset, windows: Dataset, logits: tuple[np.ndarray, np.ndarray], example_args: ExampleArguments
) -> list[list[dict]]:
    """The answers to each row's question, best first: `text`, `start` and `end` in the context, and `score`.

    A score is the sum of the logits of the first and the last token. "No answer" scores the lowest sum of [CLS] over
    the windows, minus `null_score_diff_threshold`.
    """
    answers = [{} for _ in range(len(rows))]
    nothing = np.full(len(rows), np.inf)
    for window, start_logits, end_logits in zip(windows, *logits, strict=True):
        row = window["row"]
        nothing[row] = min(nothing[row], start_logits[0] + end_logits[0])
        for span, score in best_spans(window["offsets"], start_logits, end_logits, example_args).items():
            answers[row][span] = max(score, answers[row].get(span, score))
    for row in range(len(rows)):
        if example_args.version_2_with_negative or not answers[row]:
            answers[row][0, 0] = nothing[row] - example_args.null_score_diff_threshold
    return [
        [
            {"text": context[start:end].strip(), "start": start, "end": end, "score": float(score)}
            for (start, end), score in sorted(found.items(), key=lambda item: -item[1])[: example_args.n_best_size]
        ]
        for context, found in zip(rows["context"], answers, strict=True)
    ]


def best_spans(
    offsets: list[list[int] | None], start_logits: np.ndarray, end_logits: np.ndarray, example_args: ExampleArguments
) -> dict[tuple[int, int], float]:
    """The best spans of a window, as characters of the context, and their scores."""
    context = [token for token, pair in enumerate(offsets) if pair is not None]
    scores = start_logits[context][:, None] + end_logits[context]
    is_span = np.triu(np.ones(scores.shape, dtype=bool))  # no span ends before it starts
    is_span &= ~np.triu(is_span, example_args.max_answer_length)
    starts, ends = np.nonzero(is_span)
    best = np.argsort(-scores[starts, ends])[: example_args.n_best_size]
    return {(offsets[context[starts[i]]][0], offsets[context[ends[i]]][1]): scores[starts[i], ends[i]] for i in best}


def squad_scores(rows: Dataset, predictions: list[str]) -> dict[str, float]:
    """Exact match and word F1 in per cent, as in SQuAD: against the closest answer."""
    scores = []
    for answers, prediction in zip(rows["answers"], predictions, strict=True):
        references = [words_of(text) for text in answers["text"]] or [[]]
        words = words_of(prediction)
        scores.append((max(words == reference for reference in references), max(f1(words, r) for r in references)))
    exact_match, f1_score = 100 * np.mean(scores, axis=0)
    return {"exact_match": float(exact_match), "f1": float(f1_score)}


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(prediction: list[str], reference: list[str]) -> float:
    if not prediction or not reference:
        return float(prediction == reference)
    return 2 * (Counter(prediction) & Counter(reference)).total() / (len(prediction) + len(reference))


if __name__ == "__main__":
    run_program(main)
