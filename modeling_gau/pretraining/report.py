# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The report of a pretraining run: tables, the model card, and an example that the model fills in."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import pipeline
from transformers.utils import is_matplotlib_available

from ..runs.arguments import CardArguments, ModelArguments
from ..runs.figures import plot_lengths, plot_loss_curve
from ..runs.model_card import ModelCardFacts, inherited_facts, write_model_card
from ..runs.run_record import describe_device, describe_precision
from ..runs.tables import aligned, code_span, write_csv
from ..text.arguments import DataArguments
from ..text.batches import StreamedBatches, TrainingLoader, all_lengths
from ..text.packing import PackingReport
from .data import PretrainingData, length_stages
from .trainer import MaskedLMTrainer


def training_facts(trainer: MaskedLMTrainer, totals: Mapping[str, Any]) -> dict[str, float]:
    """Size of the model, tokens seen, share of padding and seconds of the whole run; tokens per second since it was
    begun or last resumed, without evaluations and checkpoints."""
    return {
        "train_tokens": totals["tokens"],
        "train_tokens_per_second": round(trainer.speed.session_tokens_per_second(totals["tokens"]), 1),
        "train_padding": round(1 - totals["tokens"] / max(totals["positions"], 1), 6),
        "train_seconds": round(trainer.speed.seconds(), 1),
        "train_parameters": trainer.model.num_parameters(),
        "train_parameters_without_embeddings": trainer.model.num_parameters(exclude_embeddings=True),
    }


def length_table(trainer: MaskedLMTrainer, data: PretrainingData, data_args: DataArguments) -> list[dict[str, float]]:
    # As many tokens in a batch at every length as --per_device_eval_batch_size rows of the training length have.
    tokens_per_batch = trainer.args.per_device_eval_batch_size * data_args.max_seq_length
    table = trainer.evaluate_lengths(data.evaluations, tokens_per_batch)
    for row in table:
        row["most_frequent_token_accuracy"] = data.baseline
    return table


def evaluation_metrics(table: Sequence[Mapping[str, float]], max_seq_length: int) -> dict[str, float]:
    """Metrics at the training length as `eval_<metric>`, those of every length as `eval_length_<length>_<metric>`."""
    metrics = {}
    for row in table:
        values = {name: value for name, value in row.items() if name != "length"}
        metrics |= {f"eval_length_{row['length']}_{name}": value for name, value in values.items()}
        if row["length"] == max_seq_length:
            metrics |= {f"eval_{name}": value for name, value in values.items()}
    return metrics


def describe_packing(loader: TrainingLoader, totals: Mapping[str, Any]) -> dict[str, Any]:
    """What packing did: to the whole text, or to the part of a stream that was read."""
    source = loader.source
    report = PackingReport(**totals["packing"]) if isinstance(source, StreamedBatches) else source.pages.report
    return asdict(report) | {"used": round(report.used, 6)}


def report(
    trainer: MaskedLMTrainer,
    data: PretrainingData,
    model_args: ModelArguments,
    data_args: DataArguments,
    card_args: CardArguments,
    record: Mapping[str, Any],
) -> None:
    """Writes the table, the pictures and the model card of a finished run, and prints a summary.

    Args:
        record: content of its `run.json`.
    """
    trained = all_lengths(length_stages(data_args))
    output_dir, metrics, table = Path(trainer.args.output_dir), record["results"], record["lengths"]
    write_csv(output_dir / "length_results.csv", table)
    pictures = {
        "loss_curve": plot_loss_curve(trainer.state.log_history, output_dir / "loss_curve.png"),
        "length_curve": plot_lengths(table, (trained[0], trained[-1]), output_dir / "length_curve.png"),
    }
    if not is_matplotlib_available():
        print("To draw the losses, install matplotlib: pip install 'modeling-gau[plot]'.")
    facts = model_card_facts(trainer, data, model_args, data_args, card_args, record)
    write_model_card(output_dir, replace(facts, **{name: path and path.name for name, path in pictures.items()}))
    print_table(table, data_args)
    print(
        f"{metrics['train_parameters']:,} parameters, {metrics['train_parameters_without_embeddings']:,} without "
        f"embeddings; {metrics['train_tokens']:,} tokens seen, {metrics['train_tokens_per_second']:,.0f} a second, "
        f"{metrics['train_padding']:.2%} padding."
    )
    print_losses_of_text(record)
    print_example(output_dir, data, trainer)
    print(f"\nWrote the model and its results to {output_dir}:")
    for path in sorted(output_dir.glob("[!_]*")):  # not the lock of this run
        print(f"  {path.name}{'/' if path.is_dir() else ''}")


def print_losses_of_text(record: Mapping[str, Any]) -> None:
    packing, totals = record["packing"], record["totals"]
    if packing["truncated_tokens"]:
        print(
            f"Left out: {packing['truncated_tokens']:,} tokens at the ends of {packing['truncated_documents']:,} "
            "documents longer than a row (--long_documents truncate)."
        )
    if totals["left_out"]:
        share = totals["left_out"] / (totals["left_out"] + totals["tokens"])
        print(
            f"Left out: {totals['left_out']:,} tokens ({share:.2%}) that did not fit into shorter rows, which need "
            "more [CLS] and [SEP]; each epoch leaves out different ones."
        )
    bad_rows = packing["bad_rows"] or sum((record["data"].get("bad_rows") or {}).values())
    if bad_rows:
        print(f"Left out: {bad_rows:,} unreadable rows (--skip_bad_rows).")


def print_table(table: Sequence[Mapping[str, float]], data_args: DataArguments) -> None:
    print(f"\nMasked-token prediction by length (trained at {describe_lengths(data_args)}):")
    columns = {
        "length": ("length", "d"),
        "sequences": ("sequences", "d"),
        "tokens": ("masked_tokens", "d"),
        "loss": ("loss", ".4f"),
        "perplexity": ("perplexity", ".2f"),
        "accuracy": ("accuracy", ".2%"),
        "baseline": ("most_frequent_token_accuracy", ".2%"),
    }
    cells = [[format(row[name], form) for name, form in columns.values()] for row in table]
    print(aligned([list(columns), *cells], left=0))
    # A stream cannot be counted beforehand.
    counted = "validation" if data_args.streaming else "training"
    print(
        f"baseline: always answering the most frequent token of the {counted} text. Tokens that masking left\n"
        "visible (BERT's 80/10/10) are not counted: a model can copy them."
    )


def print_example(output_dir: Path, data: PretrainingData, trainer: MaskedLMTrainer) -> None:
    """Fills in the example with the model that a user would load from `output_dir`."""
    fill_mask = pipeline("fill-mask", model=str(output_dir), device=trainer.args.device)
    print(f"\n{data.example}" + ("" if data.answer is None else f"\n(the text has {data.answer!r})"))
    # No warning if the rows are shorter than the example.
    for guess in fill_mask(data.example, tokenizer_kwargs={"verbose": False}):
        print(f"  {guess['score']:6.1%}  {guess['token_str']}")


def model_card_facts(
    trainer: MaskedLMTrainer,
    data: PretrainingData,
    model_args: ModelArguments,
    data_args: DataArguments,
    card_args: CardArguments,
    record: Mapping[str, Any],
) -> ModelCardFacts:
    metrics = record["results"]
    return ModelCardFacts(
        model_name=Path(trainer.args.output_dir).resolve().name,
        task="fill-mask",
        config=trainer.model.config,
        repo_id=trainer.hub_model_id,
        example=data.example,
        mask_token=data.tokenizer.mask_token,
        license=card_args.license,
        language=card_args.language,
        base_model=model_args.model_name_or_path,
        **(inherited_facts(model_args.model_name_or_path) if model_args.model_name_or_path else {}),
        datasets=[data_args.dataset_name] if data_args.dataset_name else (),
        data_description=None if data_args.dataset_name else describe_data(data_args),
        n_parameters=metrics["train_parameters"],
        n_tokens=metrics["train_tokens"],
        training=training_rows(trainer, data_args, record),
        length_results=[{name: row[name] for name in row if name != "runtime"} for row in record["lengths"]],
        software={
            name: record["software"][name]
            for name in ("transformers", "torch", "accelerate", "datasets", "tokenizers")
        },
    )


def training_rows(trainer: MaskedLMTrainer, data_args: DataArguments, record: Mapping[str, Any]) -> dict[str, object]:
    args, settings, metrics = trainer.args, record["arguments"], record["results"]
    words = f", whole words ({data_args.word_segmenter})" if data_args.word_segmenter else ", whole words"
    masking = f"{data_args.mlm_probability:.0%}" + (words if data_args.whole_word_masking else "")
    return {
        "Sequence length": describe_lengths(data_args),
        "Documents in a row": f"{data_args.packing}, {record['packing']['used']:.2%} of the positions used",
        "Masked tokens": masking,
        "Steps": trainer.state.global_step,
        "Positions per step": (
            args.train_batch_size * data_args.max_seq_length * args.gradient_accumulation_steps * args.world_size
        ),
        "Optimizer": f"{settings['optim']}, betas ({args.adam_beta1}, {args.adam_beta2})",
        "Peak learning rate": args.learning_rate,
        "Schedule": settings["lr_scheduler_type"],
        "Warm-up steps": args.get_warmup_steps(trainer.state.max_steps),
        "Weight decay": args.weight_decay,
        "Precision": describe_precision(record),
        "Seed": args.seed,
        "Hardware": describe_device(record["hardware"]),
        "Training time (seconds)": metrics["train_seconds"],
        "Tokens per second": metrics["train_tokens_per_second"],
    }


def describe_lengths(data_args: DataArguments) -> str | int:
    if data_args.length_schedule:
        return f"{data_args.length_schedule} (length:share of the steps)"
    if data_args.mixed_lengths:
        return f"{', '.join(map(str, data_args.mixed_lengths))}, mixed"
    return data_args.max_seq_length


def describe_data(data_args: DataArguments) -> str:
    if data_args.dataset_path is not None:
        return f"Pretrained on the local data set {code_span(Path(data_args.dataset_path).name)}."
    if data_args.train_file is not None:
        # With the folder, as many corpora are called train.jsonl.
        names = ["/".join(Path(name).parts[-2:]) for name in data_args.train_file]
        return f"Pretrained on local text ({', '.join(map(code_span, names))})."
    return (
        "Pretrained on the embedded corpus: the topics of the Python manual and the docstrings of the standard "
        "library and of the packages that this one requires."
    )
