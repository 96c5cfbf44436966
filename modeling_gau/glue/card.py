# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Facts for the model card of a fine-tuned classifier.

They come from `run.json` alone, so that a study can rewrite a card with the results of all seeds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from ..runs.model_card import ModelCardFacts
from ..runs.run_record import describe_device, describe_precision
from ..runs.tables import code_span, literal_text
from .tasks import BENCHMARKS, GlueTask


CONFUSION_PICTURE = "confusion.png"
_SPLITS = {"eval": "", "eval_mm": "mismatched_"}


def card_facts(
    record: Mapping[str, Any],
    config: PreTrainedConfig,
    task: GlueTask,
    output_dir: Path,
    runs: Mapping[int, Mapping[str, float]] | None = None,
    repo_id: str | None = None,
    grid_points: int = 1,
) -> ModelCardFacts:
    """Returns the facts of a run that trained.

    Args:
        record: content of its `run.json`.
        config: configuration of the model.
        output_dir: where the card goes.
        runs: seed -> results, for this run and those that differ only in the seed.
        repo_id: repository on the Hub, if it is not the record's.
        grid_points: number of points that the point of this run was chosen from.
    """
    arguments, results, base = record["arguments"], record["results"], record["base_model"]
    repo_id, is_local = repo_id or record["hub_model_id"], bool(arguments["train_file"])
    metrics, benchmark = card_metrics(task, results), BENCHMARKS[task.benchmark]
    seeds = {seed: card_metrics(task, other) for seed, other in (runs or {}).items()}
    by_seed = {name: {seed: values[name] for seed, values in seeds.items() if name in values} for name in metrics}
    return ModelCardFacts(
        model_name=(repo_id or arguments["run_name"] or output_dir.resolve().name).split("/")[-1],
        task="text-classification",
        config=config,
        repo_id=repo_id,
        example=benchmark.example_of(task),
        license=arguments["license"],
        language=arguments["language"],
        base_model=base and base["name"],
        base_model_is_local=bool(base and base["is_local"]),
        datasets=() if is_local else [benchmark.hub_dataset],
        data_description=describe_data(arguments, config, task),
        n_parameters=results["train_parameters"],
        training=training_rows(record),
        task_metrics=metrics,
        split_of_metric={name: split_of(task, name) for name in metrics},
        seed_metrics=by_seed if len(seeds) > 1 else {},
        eval_dataset=None if is_local else benchmark.hub_dataset,
        eval_dataset_name=f"{arguments['task_name'] or 'local data'} (local files)" if is_local else benchmark.title,
        eval_config=None if is_local else task.name,
        eval_split=task.evaluation_splits["eval"],
        limits=limits(arguments, grid_points),
        software={
            name: record["software"][name]
            for name in ("transformers", "torch", "accelerate", "datasets", "tokenizers")
        },
    )


def split_of(task: GlueTask, name: str) -> str:
    return task.evaluation_splits["eval_mm" if name.startswith(_SPLITS["eval_mm"]) else "eval"]


def card_metrics(task: GlueTask, results: Mapping[str, float]) -> dict[str, float]:
    """Returns metrics by name; mnli's second validation split gives `mismatched_accuracy`."""
    return {
        f"{_SPLITS[prefix]}{name}": float(results[f"{prefix}_{name}"])
        for prefix in task.evaluation_splits
        for name in task.metric_names
        if f"{prefix}_{name}" in results
    }


def training_rows(record: Mapping[str, Any]) -> dict[str, object]:
    arguments, results, hardware = record["arguments"], record["results"], record["hardware"]
    decay = arguments["layerwise_lr_decay"]
    return {
        "Rows": results["train_samples"],
        "Longest input (tokens)": arguments["max_seq_length"],
        "Epochs": round(results["epoch"], 2),
        "Steps": record["step"],
        "Rows per step": record["rows_per_step"],
        "Optimizer": f"{arguments['optim']}, betas ({arguments['adam_beta1']}, {arguments['adam_beta2']})",
        "Peak learning rate": arguments["learning_rate"],
        "Layer-wise decay of the learning rate": None if decay == 1 else decay,
        "Schedule": arguments["lr_scheduler_type"],
        "Warm-up (steps, or share below 1)": arguments["warmup_steps"],
        "Weight decay": arguments["weight_decay"],
        "Early stopping after evaluations without gain": arguments["early_stopping_patience"],
        "Precision": describe_precision(record),
        "Seed": arguments["seed"],
        "Hardware": describe_device(hardware),
        # The Trainer starts counting when a run is resumed.
        "Training time (seconds)": None if "resumed" in record else results["train_runtime"],
    }


def describe_data(arguments: Mapping[str, Any], config: PreTrainedConfig, task: GlueTask) -> str:
    names = [name for _, name in sorted((int(index), name) for index, name in config.id2label.items())]
    kind = "any number of the classes" if task.is_multi_label else "classes"
    what = "a score" if task.is_regression else f"{kind}: {', '.join(map(literal_text, names))}"
    benchmark = BENCHMARKS[task.benchmark]
    if not arguments["train_file"]:
        source = f"[{benchmark.title}](https://huggingface.co/datasets/{benchmark.hub_dataset})"
        return f"Trained on {task.name} of {source} ({what}). {task.input_format}".rstrip()
    of = f" with the columns of the {benchmark.title} task {task.name}" if arguments["task_name"] else ""
    file = Path(arguments["train_file"]).name
    return f"Trained on the local file {code_span(file)}{of} ({what}). {task.input_format}".rstrip()


def limits(arguments: Mapping[str, Any], grid_points: int) -> list[str]:
    sentences = []
    if arguments["max_eval_samples"] is not None:
        limit = arguments["max_eval_samples"]
        sentences.append(f"Evaluated on at most {limit} rows: the results do not compare with others.")
    chosen = [f"the training settings, out of {grid_points}"] if grid_points > 1 else []
    if arguments["load_best_model_at_end"]:
        chosen.append("the training step")
    if chosen:
        sentences.append(
            f"The evaluation rows also chose {' and '.join(chosen)}: expect slightly worse results on other rows."
        )
    return sentences
